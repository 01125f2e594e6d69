"""Dense predictions with features of fewer pixels, auxiliary heads, and what composes with them.

Covers `core/auxiliary.py` too.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import regjax as rj
from regjax.core.auxiliary import branches
from regjax.core.resizing import nearest, resized
from regjax.semantic import dense

KEY = jax.random.key(0)
X64 = pytest.mark.usefixtures("x64")
B, SIZE, SMALL, A, C = 2, (7, 5), (4, 3), 6, 3


def network(params: Any, x: jax.Array) -> Any:
    """Features of a quarter of the pixels, two linear layers on them, their logits enlarged."""
    features = jnp.tanh(resized(x @ params["in"], SMALL, "align_corners"))
    logits = [features @ params[name] for name in ("main", "aside")]
    main, aside = (resized(z, x.shape[1:3], "align_corners") for z in logits)
    return main, features, ((aside, features),)


def forward(params: Any) -> rj.Forward:
    """With both heads named."""
    main, aside = (lambda p, n=name: (p[n], None) for name in ("main", "aside"))
    return rj.from_function(network, params, head=main, auxiliary=(aside,))


def case(dtype: Any = float) -> tuple[Any, rj.Batch]:
    rng = np.random.default_rng(0)
    shapes = {"in": (2, A), "main": (A, C), "aside": (A, C)}
    params = {name: jnp.asarray(rng.normal(size=shape), dtype) for name, shape in shapes.items()}
    number = rng.integers(0, C + 1, (B, *SIZE))  # the last is to be ignored
    image = jnp.asarray(rng.normal(size=(B, *SIZE, 2)), dtype)
    return params, rj.Batch(image, jax.nn.one_hot(number, C, dtype=dtype))


def run(text: str, params: Any, batch: rj.Batch) -> tuple[Any, rj.Result]:
    """The total with its gradient, and the result."""
    loss, net = rj.parse(text), forward(params)
    state = loss.init(net, batch)

    def objective(params: Any) -> tuple[jax.Array, rj.Result]:
        result = loss.apply(state, net.replace(params=params), batch, KEY)[0]
        return rj.total(result, batch), result

    (total, result), gradient = jax.value_and_grad(objective, has_aux=True)(params)
    return (total, gradient), result


def looped(
    features: np.ndarray, kernel: np.ndarray, label: np.ndarray, strength: float, diagonal: bool
) -> np.ndarray:
    """The losses at all pixels `[B, H, W]`, 0 where ignored, by loops in float64."""
    # Nodes lie on whole pixels, so that the nearest one needs no rule.
    rows, columns = (
        [i * (n - 1) // (m - 1) for i in range(m)] for n, m in zip(SIZE, SMALL, strict=True)
    )
    near = label[:, rows][:, :, columns]
    of = [features[near[..., c] == 1] for c in range(C)]
    sigmas = [np.cov(x.T, bias=True) if len(x) else np.zeros((A, A)) for x in of]
    moved = features @ kernel
    for at in np.ndindex(B, *SMALL):
        if near[at].any():
            y = near[at].argmax()
            sigma = np.diag(np.diag(sigmas[y])) if diagonal else sigmas[y]
            for j in range(C):
                v = kernel[:, j] - kernel[:, y]
                moved[at][j] += strength / 2 * v @ sigma @ v
    losses = np.zeros((B, *SIZE))
    for b, i, j in np.ndindex(B, *SIZE):
        if label[b, i, j].any():
            r, c = (p * (m - 1) / (n - 1) for p, n, m in zip((i, j), SIZE, SMALL, strict=True))
            z = np.zeros(C)
            for p, q in np.ndindex(*SMALL):
                z += max(0, 1 - abs(r - p)) * max(0, 1 - abs(c - q)) * moved[b, p, q]
            losses[b, i, j] = np.log(np.exp(z).sum()) - z[label[b, i, j].argmax()]
    return losses


@pytest.mark.slow
@X64
@pytest.mark.parametrize("covariance", ["diagonal", "full"])
def test_the_bound_is_that_of_a_loop_over_pixels(covariance: str) -> None:
    """Of both heads, averaged over all labelled pixels, or by images."""
    params, batch = case()
    _, result = run(f"isda(strength=0.7, covariance='{covariance}', auxiliary=0.4)", params, batch)
    outputs, label = forward(params)(batch.image), np.asarray(batch.label)
    found = [
        looped(*map(np.asarray, (outputs.features, params[n], label)), 0.7, covariance != "full")
        for n in ("main", "aside")
    ]
    pixels, counted = found[0] + 0.4 * found[1], label.any(-1)
    np.testing.assert_allclose(rj.total(result, batch), pixels.sum() / counted.sum(), rtol=1e-9)
    images = pixels.sum((1, 2)) / counted.sum((1, 2))
    np.testing.assert_allclose(rj.total(result, batch, by_image=True), images.mean(), rtol=1e-9)


@pytest.mark.slow
def test_heads_have_statistics_of_their_own_and_ignored_pixels_are_in_none() -> None:
    params, batch = case(jnp.float32)
    loss, net = rj.isda(strength=0.5, covariance="diagonal", auxiliary=0.4), forward(params)
    _, after = loss.apply(loss.init(net, batch), net, batch, KEY)
    main, aside = after.stages["isda"]
    seen = nearest(batch.label, SMALL, "align_corners").sum((0, 1, 2))
    np.testing.assert_array_equal(main.seen, seen)
    np.testing.assert_array_equal(aside.seen, seen)
    assert branches(net)[0].head.kernel is params["aside"]


@pytest.mark.slow
@pytest.mark.parametrize("base", ["isda(strength=0.5, auxiliary=0.4)", "cross_entropy"])
def test_a_batch_without_labels_costs_nothing(base: str) -> None:
    params, batch = case(jnp.float32)
    batch = batch.replace(label=jnp.zeros_like(batch.label))
    (total, gradient), _ = run(f"{base} | class_weights(weights=(1.0, 2.0, 3.0))", params, batch)
    assert total == 0
    jax.tree.map(lambda g: np.testing.assert_array_equal(g, 0), gradient)


@X64
def test_classes_weigh_by_pixel() -> None:
    """As torch's cross entropy with weights; a class of weight 0 is ignored."""
    params, batch = case()
    weights = np.array([0.5, 0.0, 2.0])
    text = "cross_entropy(auxiliary=0.4) | class_weights(weights=(0.5, 0.0, 2.0))"
    _, result = run(text, params, batch)
    outputs, label = forward(params)(batch.image), np.asarray(batch.label)
    each = [np.asarray(z) for z in (outputs.logits, outputs.auxiliary[0].logits)]
    logs = [z - np.log(np.exp(z).sum(-1, keepdims=True)) for z in each]
    counts = label * weights
    expected = -(counts * (logs[0] + 0.4 * logs[1])).sum() / counts.sum()
    np.testing.assert_allclose(rj.total(result, batch), expected, rtol=1e-9)


@pytest.mark.slow
def test_masks_are_pasted_with_their_pixels() -> None:
    _, batch = case(jnp.float32)
    batch = jax.tree.map(lambda x: jnp.concatenate([x, x[::-1]] * 4), batch)
    batch = batch.replace(image=batch.label)  # so that both must stay alike
    _, mixed = rj.cutmix.definition.function(
        None, batch, jax.random.key(0), alpha=1.0, per_example=True, axis_name=None
    )
    np.testing.assert_array_equal(mixed.image, mixed.label)
    assert jnp.any(mixed.label != batch.label)


@pytest.mark.slow
@X64
def test_probes_estimate_the_mean_over_labelled_pixels() -> None:
    params, batch = case()
    penalty = "frobenius(weight=1.0, probes=4000)"
    _, result = run(f"cross_entropy | {penalty}", params, batch)
    slope = jax.jacobian(lambda x: forward(params)(x[None]).logits[0])
    for b in range(B):
        squares = np.sum(np.asarray(slope(batch.image[b])) ** 2, (2, 3, 4, 5))
        expected = squares[np.asarray(batch.label[b]).any(-1)].mean()
        np.testing.assert_allclose(result.penalties["frobenius"][b], expected, rtol=0.05)


@pytest.mark.slow
@pytest.mark.parametrize(
    "others",
    [
        "double_backprop(weight=0.1)",
        "jacobian(weight=0.1, probes=1)",
        "mixup(alpha=1.0) | noise_injection(sigma=0.1)",
        "cutmix(alpha=1.0)",
        "noisy_feature_mixup(alpha=1.0, add=0.1, multiply=0.1, layers=('input',))",
    ],
)
def test_what_else_there_is_composes(others: str) -> None:
    params, batch = case(jnp.float32)
    (total, gradient), _ = run(f"isda(strength=0.5, auxiliary=0.4) | {others}", params, batch)
    assert all(map(jnp.all, map(jnp.isfinite, jax.tree.leaves((total, gradient)))))
    assert jnp.any(gradient["in"] != 0)


def test_what_cannot_be_is_told() -> None:
    params, batch = case(jnp.float32)
    with pytest.raises(ValueError, match="enlarged must be so by resizing='half_pixel'"):
        rj.isda(strength=0.5, resizing="half_pixel").init(forward(params), batch)
    bare = rj.from_function(lambda p, x: network(p, x)[0], params)
    loss = rj.cross_entropy(auxiliary=0.4)
    with pytest.raises(ValueError, match="auxiliary= is the weight of auxiliary heads"):
        loss.apply(loss.init(bare, batch), bare, batch, KEY)
    loss = rj.jacobian(rj.cross_entropy(), weight=1.0)
    with pytest.raises(ValueError, match="without probes=, is for one label an image"):
        loss.apply(loss.init(bare, batch), bare, batch, KEY)


@pytest.mark.slow
def test_memory_at_the_size_of_the_paper() -> None:
    """ISDA's part of a step at 97 x 97 x 512: statistics, table and spread, with its gradient."""
    shape = (8, 97, 97)
    features = jax.ShapeDtypeStruct((*shape, 512), jnp.float32)
    label = jax.ShapeDtypeStruct((*shape, 19), jnp.float32)
    kernel = jax.ShapeDtypeStruct((512, 19), jnp.float32)
    past = jax.eval_shape(lambda: rj.statistics.init(19, 512, covariance="diagonal"))

    def part(features: jax.Array, label: jax.Array, kernel: jax.Array, past: Any) -> Any:
        def objective(features: jax.Array, kernel: jax.Array) -> Any:
            net = rj.from_function(lambda p, x: (x @ p, x), kernel, head=lambda p: (p, None))
            outputs, batch = rj.Outputs(features @ kernel, features), rj.Batch(features, label)
            losses, state = rj.isda.definition.function(
                outputs, batch, net, past, jnp.zeros((), int), strength=0.5, covariance="diagonal"
            )
            return jnp.sum(losses), state

        return jax.value_and_grad(objective, (0, 1), has_aux=True)(features, kernel)

    memory = jax.jit(part).lower(features, label, kernel, past).compile().memory_analysis()
    assert 10e6 < memory.temp_size_in_bytes < 450e6, memory.temp_size_in_bytes


@pytest.mark.slow
def test_a_spread_at_the_labels_own_pixels_is_the_bound() -> None:
    """Enlarged by nothing, the sum of logits and spread is what `upper_bound` takes."""
    z = jax.random.normal(KEY, (1, 4, 4, C))
    y = jax.nn.one_hot(jnp.arange(16).reshape(1, 4, 4) % 4, C)
    spread = jnp.arange(9.0).reshape(3, 3) * (1 - jnp.eye(3))
    pooled = jnp.broadcast_to(y[:, :1, :1], (1, 2, 2, C))
    one = jnp.where(jnp.any(y != 0, -1, keepdims=True), pooled[:, :1, :1], 0)
    got = dense.losses(z, one, pooled, spread, "align_corners")
    np.testing.assert_allclose(got, dense.losses(z, one, one, spread, "half_pixel"), rtol=1e-5)
