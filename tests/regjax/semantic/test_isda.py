"""ISDA as a loss: its gradients, its state from step to step, every kind of network and mesh."""

import functools
import re
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec
from support import (
    CLASSES,
    CONV_SHAPE,
    ConvNet,
    assert_close,
    assert_same,
    random_batch,
    tanh_forward,
    tanh_network,
    tanh_params,
)

import regjax as rj
import regjax.flax
from regjax.semantic import statistics

KEY = jax.random.key(0)


X64 = pytest.mark.usefixtures("x64")


def linear(params: Any, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A network whose features are its input, whatever its axes."""
    return x @ params["kernel"] + params["bias"].reshape((1,) * (x.ndim - 1) + (-1,)), x


def linear_head(params: Any) -> tuple[jax.Array, jax.Array]:
    return params["kernel"], params["bias"]


def linear_forward(params: Any) -> rj.Forward:
    return rj.from_function(linear, params, head=linear_head)


@functools.partial(jax.jit, static_argnames="bound")
def step(
    loss: rj.Loss,
    state: rj.LossState,
    params: Any,
    batch: rj.Batch,
    bound: Any = tanh_forward,
) -> Any:
    """The total, its gradients by parameters and image, the result and the next state."""

    def objective(params: Any, image: jax.Array) -> tuple[jax.Array, Any]:
        own = batch.replace(image=image)
        result, after = loss.apply(state, bound(params), own, KEY)
        return rj.total(result, own), (result, after)

    slope = jax.value_and_grad(objective, argnums=(0, 1), has_aux=True)
    (total, (result, after)), gradient = slope(params, batch.image)
    return total, gradient, result, after


def covariances(x: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Of each class; 0 where it does not occur."""
    nothing = np.zeros((x.shape[1], x.shape[1]))
    return np.stack(
        [np.cov(x.T, bias=True, aweights=own) if own.any() else nothing for own in label.T]
    )


def losses(z: np.ndarray, label: np.ndarray, kernel: np.ndarray, moves: np.ndarray) -> np.ndarray:
    """Eq. (7) with `moves = lambda Sigma [C, A, A]`, in expectation over the label."""
    v = kernel[:, None, :] - kernel[:, :, None]  # a, c, j
    spread = np.einsum("acj,cab,bcj->cj", v, moves, v) / 2
    apart = z[:, None, :] - z[:, :, None] + spread[None]
    return np.sum(label * np.log(np.sum(np.exp(apart), -1)), -1)


# Appendix A.


@X64
@pytest.mark.parametrize("masked", [False, True])
def test_gradients_are_those_of_the_appendix(masked: bool) -> None:
    """Eqs. (4) to (6), with the signs and class weights that differentiation yields.

    A masked class, whose logit is -inf, has no part in them.
    """
    rng = np.random.default_rng(0)
    size, features, classes, strength = 20, 4, 3, 0.8
    a, kernel = rng.normal(size=(size, features)), rng.normal(size=(features, classes))
    bias, y = rng.normal(size=classes), np.arange(size) % (classes - masked)
    bias[2] = -np.inf if masked else bias[2]
    losses = np.zeros(size)
    sigma = covariances(a, np.eye(classes)[y])
    dz, dw = np.zeros((size, classes)), np.zeros((features, classes))
    for i, c in enumerate(y):
        d = kernel - kernel[:, [c]]
        moved = np.exp(a[i] @ kernel + bias + strength / 2 * np.sum(d * (sigma[c] @ d), 0))
        p = moved / moved.sum()
        losses[i] = -np.log(p[c])
        dz[i] = p - np.eye(classes)[c]
        for j in range(classes):
            if j != c:
                dw[:, j] += p[j] * (a[i] + strength * sigma[c] @ d[:, j])
        dw[:, c] += (p[c] - 1) * a[i] - strength * sum(
            p[n] * sigma[c] @ d[:, n] for n in range(classes)
        )
    loss, params = rj.isda(strength=strength), {"kernel": kernel, "bias": bias}
    batch = rj.Batch(jnp.asarray(a), jnp.eye(classes)[y])
    state = loss.init(linear_forward(params), batch)
    total, (by_params, by_image), _, _ = step(loss, state, params, batch, linear_forward)
    assert_close(total, losses.mean(), jnp.float64)
    expected = {"kernel": dw / size, "bias": dz.sum(0) / size}
    assert_close(by_params, expected, jnp.float64)
    assert_close(by_image, dz @ kernel.T / size, jnp.float64)


# From step to step.


def shrunk(sigma: np.ndarray, count: np.ndarray, share: float) -> np.ndarray:
    return (1 - share) * sigma + share * np.average(sigma, axis=0, weights=count)


@X64
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"covariance": "diagonal"},
        {"covariance": "shared"},
        {"covariance": "identity"},
        {"covariance": "low_rank", "rank": 5},
        {"decay": 0.6, "shrinkage": 0.3},
        {"covariance": "diagonal", "decay": 0.6, "shrinkage": 0.3},
    ],
    ids=str,
)
def test_each_step_sees_its_own_batch_and_all_before(options: dict[str, Any]) -> None:
    """The strength is a schedule, and at its 0 the loss is cross entropy, bit by bit."""
    schedule = optax.linear_schedule(0.0, 2.0, transition_steps=4)
    loss, seen = rj.isda(strength=schedule, **options), []
    batches = [random_batch(12, seed=seed, dtype=jnp.float64) for seed in range(3)]
    soft = 0.8 * batches[1].label + 0.2 * batches[1].label[::-1]
    batches[1] = batches[1].replace(label=soft, weight=jnp.asarray(np.arange(12) < 9, float))
    state = loss.init(tanh_forward(tanh_params(dtype=jnp.float64)), batches[0])
    for t, batch in enumerate(batches):
        params = tanh_params(t, jnp.float64)
        _, _, result, state = step(loss, state, params, batch)
        z, a = (np.asarray(each) for each in tanh_network(params, batch.image))
        seen.append((a, batch.label * batch.weight[:, None]))
        ages = options.get("decay", 1) ** np.repeat(np.arange(t + 1)[::-1], 12)
        x, label = (np.concatenate(parts) for parts in zip(*seen, strict=True))
        label = label * ages[:, None]
        sigma = covariances(x, label)
        if options.get("covariance") == "shared":
            sigma = np.stack([np.cov(x.T, bias=True, aweights=label.sum(1))] * CLASSES)
        if options.get("covariance") == "identity":
            sigma = np.stack([np.eye(x.shape[1])] * CLASSES)
        if options.get("covariance") == "diagonal":
            sigma = sigma * np.eye(x.shape[1])
        sigma = shrunk(sigma, label.sum(0), options.get("shrinkage", 0))
        kernel = np.asarray(params["head"]["kernel"])
        expected = losses(z, np.asarray(batch.label), kernel, 0.5 * t * sigma)
        assert_close(result.losses, expected, jnp.float64)
        if t == 0:
            plain = rj.cross_entropy()
            start = plain.init(tanh_forward(), batch)
            assert_same(result.losses, step(plain, start, params, batch)[2].losses)
    assert state.step == 3


@pytest.mark.slow
@X64
def test_double_backprop_is_that_of_the_isda_loss() -> None:
    params, batch = tanh_params(dtype=jnp.float64), random_batch(10, dtype=jnp.float64)
    loss = rj.double_backprop(rj.isda(strength=0.7), weight=0.5)
    _, _, result, _ = step(loss, loss.init(tanh_forward(params), batch), params, batch)
    a = np.asarray(tanh_network(params, batch.image)[1])
    sigma, y = jnp.asarray(covariances(a, np.asarray(batch.label))), jnp.argmax(batch.label, 1)

    def one(image: jax.Array, y: jax.Array) -> jax.Array:
        z, w = tanh_network(params, image[None])[0][0], params["head"]["kernel"]
        v = w - w[:, y][:, None]
        spread = 0.35 * jnp.einsum("aj,ab,bj->j", v, sigma[y], v)
        return jax.nn.logsumexp(z - z[y] + spread)

    value, slope = jax.jit(jax.vmap(jax.value_and_grad(one)))(batch.image, y)
    assert_close(result.losses, value, jnp.float64)
    expected = 0.5 * jnp.sum(slope**2, (1, 2, 3))
    assert_close(result.penalties["double_backprop"], expected, jnp.float64)


def test_the_base_loss_is_evaluated_once() -> None:
    calls: list[int] = []

    @rj.base
    def counted(outputs: rj.Outputs, batch: rj.Batch) -> jax.Array:
        jax.debug.callback(lambda: calls.append(1))
        return jnp.sum(outputs.logits**2, -1)

    loss = rj.double_backprop(rj.frobenius(counted(), weight=0.1, probes=1), weight=0.1)
    params, batch = tanh_params(), random_batch()
    step(loss, loss.init(tanh_forward(), batch), params, batch)
    jax.effects_barrier()
    assert calls == [1]


# Networks.


class Linen(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = jnp.tanh(nn.Dense(4)(x.reshape(len(x), -1)))
        return nn.Dense(CLASSES, name="out")(x)


@pytest.mark.nnx
@pytest.mark.parametrize("library", ["nnx", "linen"])
def test_flax_models_with_a_named_head(library: str) -> None:
    batch = random_batch(12, shape=CONV_SHAPE)
    if library == "nnx":
        forward = regjax.flax.bind(ConvNet(nnx.Rngs(0)), head="head")
    else:
        model = Linen()
        forward = regjax.flax.bind(model, model.init(KEY, batch.image), head="out")
    loss = rj.isda(strength=0.5)
    result, state = jax.jit(loss.apply)(loss.init(forward, batch), forward, batch, KEY)
    z, a, label = (np.float64(x) for x in (*result.outputs[:2], batch.label))
    kept = state.stages["isda"]
    assert_close(kept.covariance.matrix, covariances(a, label))
    kernel = np.float64(forward.head.kernel)
    assert_close(result.losses, losses(z, label, kernel, 0.5 * covariances(a, label)))


@X64
def test_dense_predictions() -> None:
    """A fully convolutional network, some of whose positions have no label."""
    rng = np.random.default_rng(0)
    image, y = rng.normal(size=(6, 3, 2, 4)), rng.integers(0, 4, (6, 3, 2))
    y[5] = 3  # of no class, as 255 is
    label = np.asarray(jax.nn.one_hot(y, 3))
    params = {"kernel": rng.normal(size=(4, 3)), "bias": rng.normal(size=3)}
    batch, loss = rj.Batch(jnp.asarray(image), jnp.asarray(label)), rj.isda(strength=0.6)
    state = loss.init(linear_forward(params), batch)
    _, _, result, after = step(loss, state, params, batch, linear_forward)
    x, flat = image.reshape(-1, 4), label.reshape(-1, 3)
    sigma = covariances(x, flat)
    assert_close(after.stages["isda"].covariance.matrix, sigma, jnp.float64)
    each = losses(x @ params["kernel"] + params["bias"], flat, params["kernel"], 0.6 * sigma)
    counted = label.any(-1).reshape(6, -1)
    expected = each.reshape(6, -1).sum(1) / np.maximum(counted.sum(1), 1)
    assert expected[5] == 0
    assert_close(result.losses, expected, jnp.float64)


# Devices.


def on_mesh(loss: rj.Loss, params: Any, batch: rj.Batch, state: Any, split: bool) -> Any:
    """A step under shard_map, on as many devices as there are classes."""
    devices = jax.devices()[:CLASSES]
    mesh = jax.make_mesh((CLASSES,), ("data",), (jax.sharding.AxisType.Auto,), devices=devices)

    def on_device(params: Any, batch: rj.Batch, state: Any) -> Any:
        def objective(params: Any) -> tuple[jax.Array, Any]:
            result, after = loss.apply(state, tanh_forward(params), batch, KEY)
            return jax.lax.pmean(rj.total(result, batch), "data"), after

        return jax.value_and_grad(objective, has_aux=True)(params)

    everywhere, data = PartitionSpec(), PartitionSpec("data")
    kept = statistics.places(state.stages["isda"], "data") if split else everywhere
    where = rj.LossState(everywhere, {"isda": kept})
    specs = {"in_specs": (everywhere, data, where), "out_specs": ((everywhere, where), everywhere)}
    return jax.jit(jax.shard_map(on_device, mesh=mesh, **specs))(params, batch, state)


@X64
@pytest.mark.parametrize(
    ("split", "options"),
    [
        (False, {}),
        (True, {"shrinkage": 0.2}),
        (True, {"covariance": "shared"}),
    ],
    ids=str,
)
def test_devices_with_one_class_each_equal_one_device(split: bool, options: dict[str, Any]) -> None:
    params, batch = tanh_params(dtype=jnp.float64), random_batch(12, dtype=jnp.float64)
    batch = batch.replace(unlabeled=random_batch(6, seed=5, dtype=jnp.float64))
    loss = rj.semantic_consistency(rj.isda(strength=0.5, **options), weight=0.3)
    start = loss.init(tanh_forward(params), batch)
    first = random_batch(12, seed=9, dtype=jnp.float64).replace(unlabeled=batch.unlabeled)
    _, _, _, start = step(loss, start, params, first)
    total, (gradient, _), _, after = step(loss, start, params, batch)
    across = rj.isda(strength=0.5, axis_name="data", **options)
    across = rj.semantic_consistency(across, weight=0.3)
    found = on_mesh(across, params, batch, start, split)
    assert_close(found, ((total, after), gradient), jnp.float64)


# Memory.

B, C, A = 48, 64, 96


def training_step(loss: rj.Loss, state: rj.LossState, params: Any, batch: rj.Batch) -> Any:
    _, (gradient, _), _, state = step.__wrapped__(loss, state, params, batch, linear_forward)
    return state, jax.tree.map(lambda p, g: p - 0.1 * g, params, gradient)


def shapes(loss: rj.Loss) -> tuple[rj.LossState, Any, rj.Batch]:
    params = {
        "kernel": jax.ShapeDtypeStruct((A, C), "float32"),
        "bias": jax.ShapeDtypeStruct((C,), "float32"),
    }
    batch = rj.Batch(
        jax.ShapeDtypeStruct((B, A), "float32"), jax.ShapeDtypeStruct((B, C), "float32")
    )

    def init(params: Any, batch: rj.Batch) -> rj.LossState:
        return loss.init(linear_forward(params), batch)

    return jax.eval_shape(init, params, batch), params, batch


@pytest.mark.parametrize("covariance", ["full", "diagonal"])
def test_no_buffer_has_a_matrix_for_each_example(covariance: str) -> None:
    loss = rj.isda(strength=0.5, covariance=covariance)
    run = jax.jit(training_step, donate_argnums=(1, 2))
    text = run.lower(loss, *shapes(loss)).compile().as_text()
    found = re.findall(r"\b(?:f32|s32|pred|u32|bf16|f16)\[([\d,]+)\]", text)
    sizes = {tuple(map(int, shape.split(","))) for shape in found} - {(C, A, A)}
    assert max(map(np.prod, sizes)) <= 8 * A * A < B * C * A / 3


def test_statistics_split_by_class_are_whole_on_no_device() -> None:
    mesh = jax.make_mesh((8,), ("data",), (jax.sharding.AxisType.Auto,))
    loss = rj.isda(strength=0.5, axis_name="data")
    state, params, batch = shapes(loss)
    everywhere, data = PartitionSpec(), PartitionSpec("data")
    kept = statistics.places(state.stages["isda"], "data")
    where = (rj.LossState(everywhere, {"isda": kept}), everywhere, data)

    def placed(tree: Any, specs: Any) -> Any:
        def struct(spec: Any, leaf: Any) -> Any:
            return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=NamedSharding(mesh, spec))

        return jax.tree.map(struct, specs, tree)

    everything = (
        placed(state, where[0]),
        *(
            jax.tree.map(functools.partial(placed, specs=spec), tree)
            for tree, spec in ((params, everywhere), (batch, data))
        ),
    )
    with jax.set_mesh(mesh):
        run = jax.jit(training_step, donate_argnums=(1, 2))
        memory = run.lower(loss, *everything).compile().memory_analysis()
    used = memory.argument_size_in_bytes + memory.temp_size_in_bytes + memory.output_size_in_bytes
    used -= memory.alias_size_in_bytes  # the donated state is argument and output
    assert used < 4 * C * A * A / 3


# Errors.


def test_errors_say_what_is_missing() -> None:
    batch, bare = random_batch(), rj.from_function(tanh_network, tanh_params())
    with pytest.raises(ValueError, match="needs the network's last linear layer"):
        rj.isda(strength=0.5).init(bare, batch)
    only_logits = rj.from_function(
        lambda params, x: tanh_network(params, x)[0], tanh_params(), head=tanh_forward().get_head
    )
    loss = rj.isda(strength=0.5)
    with pytest.raises(ValueError, match="needs the network's features"):
        loss.apply(loss.init(only_logits, batch), only_logits, batch, KEY)
    for given in ({"decay": 0.5}, {"shrinkage": 0.5}, {"rank": 3}):
        with pytest.raises(ValueError, match=f"no statistics, hence no {next(iter(given))}"):
            rj.isda(strength=0.5, covariance="identity", **given).init(tanh_forward(), batch)
    for given, message in (
        ({"covariance": "fool"}, "unknown covariance 'fool'"),
        ({"covariance": "low_rank"}, "needs a rank"),
        ({"rank": 3}, "'full' was given rank=3"),
        ({"covariance": "shared", "shrinkage": 0.5}, "not for 'shared'"),
    ):
        with pytest.raises(ValueError, match=message):
            rj.isda(strength=0.5, **given).init(tanh_forward(), batch)


def test_errors_of_axes() -> None:
    batch, loss = random_batch(), rj.isda(strength=0.5, axis_name="data")
    state = loss.init(tanh_forward(), batch)
    with pytest.raises(ValueError, match="neither an axis of a pmap or shard_map"):
        loss.apply(state, tanh_forward(), batch, KEY)
    mesh = jax.make_mesh((8,), ("data",), (jax.sharding.AxisType.Auto,))
    with jax.set_mesh(mesh), pytest.raises(ValueError, match="3 classes cannot be split evenly"):
        loss.apply(state, tanh_forward(), batch, KEY)


@pytest.mark.parametrize(
    ("own", "other"),
    [
        ({"covariance": "diagonal"}, {}),
        ({"covariance": "identity"}, {}),
        ({}, {"covariance": "identity"}),
        ({"shrinkage": 0.1}, {}),
        ({"covariance": "low_rank", "rank": 2}, {"covariance": "low_rank", "rank": 3}),
    ],
)
def test_the_state_of_another_covariance_is_refused(own: Any, other: Any) -> None:
    forward, batch = tanh_forward(), random_batch()
    state = rj.isda(strength=0.5, **other).init(forward, batch)
    with pytest.raises(ValueError, match=r"the state is not one of covariance="):
        rj.isda(strength=0.5, **own).apply(state, forward, batch, jax.random.key(0))


@pytest.mark.parametrize("options", [{}, {"covariance": "diagonal", "shrinkage": 0.2}])
def test_classes_are_split_over_one_axis_of_several(options: Any) -> None:
    """From the first state on."""
    auto = jax.sharding.AxisType.Auto
    mesh = jax.make_mesh((2, 3), ("model", "data"), (auto, auto), devices=jax.devices()[:6])
    forward, batch = tanh_forward(), random_batch()
    plain, split = (
        rj.isda(strength=0.5, **options),
        rj.isda(strength=0.5, axis_name="data", **options),
    )
    expected, _ = plain.apply(plain.init(forward, batch), forward, batch, jax.random.key(0))
    with jax.set_mesh(mesh):
        state = jax.jit(split.init)(forward, batch)
        assert state.stages["isda"].mean.sharding.shard_shape((3, 5)) == (1, 5)
        result, state = jax.jit(split.apply)(state, forward, batch, jax.random.key(0))
    assert state.stages["isda"].mean.sharding.shard_shape((3, 5)) == (1, 5)
    assert_close(jax.device_get(result.losses), jax.device_get(expected.losses))


@X64
@pytest.mark.parametrize("decay", [None, 0.3])
@pytest.mark.parametrize("base", ["isda", "explicit_augmentation"])
def test_statistics_after_the_parts_are_those_of_the_whole_batch(
    base: str, decay: float | None
) -> None:
    """Two steps, the second in parts of 5, 4 and 3 examples, against NumPy's weights."""
    rng = np.random.default_rng(0)
    x, label = rng.normal(size=(2, 12, 4)), np.eye(2)[rng.integers(2, size=(2, 12))]
    more = {"samples": 1} if base == "explicit_augmentation" else {}
    loss = getattr(rj, base)(strength=0.5, decay=decay, **more)
    forward = linear_forward({"kernel": rng.normal(size=(4, 2)), "bias": rng.normal(size=2)})
    assert loss.in_parts() == {base}

    def batch(step: int, rows: slice) -> rj.Batch:
        return rj.Batch(jnp.asarray(x[step, rows]), jnp.asarray(label[step, rows]))

    @jax.jit
    def apply(state: rj.LossState, batch: rj.Batch, part: jax.Array | None) -> rj.LossState:
        return loss.apply(state, forward, batch, KEY, part=part)[1]

    everything = slice(None)
    first = apply(loss.init(forward, batch(0, everything)), batch(0, everything), None)
    whole, parts = apply(first, batch(1, everything), None), first
    for number, rows in enumerate((slice(0, 5), slice(5, 9), slice(9, 12))):
        parts = apply(parts, batch(1, rows), jnp.asarray(number))
    kept = 1.0 if decay is None else decay
    weight, every = np.concatenate([kept * label[0], label[1]]), x.reshape(24, 4)
    for state in (whole.stages[base], parts.stages[base]):
        np.testing.assert_allclose(state.seen, weight.sum(0), rtol=1e-12)
        np.testing.assert_allclose(
            state.mean, [np.average(every, 0, w) for w in weight.T], rtol=1e-9
        )
        np.testing.assert_allclose(state.covariance.matrix, covariances(every, weight), rtol=1e-9)
