"""Mixing stages: their draws, and what they compute against NumPy, layer by layer.

Where every example has a class of its own, the mixed labels are the matrix that mixed them: what
was drawn can be read off a result.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec
from scipy import stats
from support import LAYERED, assert_close, assert_same, each_its_class, random_batch

import regjax as rj

SIZE, LAYERS, FORWARD = 8, LAYERED.layers, LAYERED
STAGES = {
    "mixup": {"alpha": 1.0},
    "cutmix": {"alpha": 1.0},
    "manifold_mixup": {"alpha": 1.0, "layers": LAYERS},
    "noisy_mixup": {"alpha": 1.0, "add": 0.4, "multiply": 0.2},
    "noisy_feature_mixup": {"alpha": 1.0, "add": 0.4, "multiply": 0.2, "layers": LAYERS},
}
EVERY = pytest.mark.parametrize("name", STAGES)
SIZES = pytest.mark.parametrize(
    ("size", "per_example"),
    [
        *((1, False), (7, True), (8, False)),
        *(
            pytest.param(*each, marks=pytest.mark.slow)
            for each in ((1, True), (2, False), (2, True), (7, False), (8, True))
        ),
    ],
)


def stage(name: str, batch: rj.Batch, seed: int = 0, **arguments: Any) -> rj.Batch:
    """What a stage makes of a batch, by one program for all seeds."""
    arguments = STAGES[name] | arguments
    return program(name, tuple(arguments.items()))(batch, jax.random.key(seed))


@functools.cache
def program(name: str, arguments: tuple[tuple[str, Any], ...]) -> Any:
    function = getattr(rj, name).definition.function
    return jax.jit(lambda batch, key: function(FORWARD, batch, key, **dict(arguments))[1])


# The draws.


@pytest.mark.parametrize("name", sorted(set(STAGES) - {"cutmix"}))
def test_lambda_is_beta(name: str) -> None:
    """Not of CutMix, whose clipped boxes have a distribution of their own, tested below."""
    keys = jax.random.split(jax.random.key(1), 1500)
    function = getattr(rj, name).definition.function

    def own(key: jax.Array, alpha: float) -> jax.Array:
        """The least share that an example keeps; it is 1 where one met itself."""
        batch = each_its_class()
        _, mixed = function(FORWARD, batch, key, **STAGES[name] | {"alpha": alpha})
        return jnp.diag(mixed.label).min()

    drawn = jax.jit(jax.vmap(own, (0, None)))
    for alpha in (0.3, 1.0):
        assert stats.kstest(drawn(keys, alpha), stats.beta(alpha, alpha).cdf).pvalue > 1e-3


@pytest.mark.parametrize("name", ["noisy_mixup", "noisy_feature_mixup"])
def test_levels_are_beta_2_5_and_independent(name: str) -> None:
    """Read off the deviations of noise on images of ones under a network that returns them."""
    keys = jax.random.split(jax.random.key(3), 600)
    batch = rj.Batch(jnp.ones((2, 1000)), jnp.full((2, 1000), 1e-3))
    forward = rj.from_function(lambda params, x: x, None)

    def deviation(key: jax.Array, add: float, multiply: float, **options: Any) -> jax.Array:
        arguments = {"alpha": 0.0, "add": add, "multiply": multiply} | options
        if name == "noisy_feature_mixup":
            arguments["layers"] = ("input",)
        bound, noisy = getattr(rj, name).definition.function(forward, batch, key, **arguments)
        return jnp.std(bound(noisy.image).logits)

    added = np.asarray(jax.jit(jax.vmap(lambda k: deviation(k, 0.5, 0.0)))(keys)) / 0.5
    factor = np.asarray(jax.jit(jax.vmap(lambda k: deviation(k, 0.0, 0.5)))(keys)) / 0.5
    for drawn in (added, np.sqrt(3) * factor):
        assert stats.kstest(drawn, stats.beta(2, 5).cdf).pvalue > 1e-3
    assert abs(np.corrcoef(added, factor)[0, 1]) < 4 / np.sqrt(600)
    fixed = jax.jit(functools.partial(deviation, random_levels=False))
    np.testing.assert_allclose(fixed(keys[0], 0.5, 0.0), 0.5, rtol=0.06)
    np.testing.assert_allclose(fixed(keys[0], 0.0, 0.5), 0.5 / np.sqrt(3), rtol=0.06)


# Against NumPy.


@SIZES
def test_images_are_mixed_as_the_labels_are(size: int, per_example: bool) -> None:
    batch = each_its_class(size)
    mixed = stage("mixup", batch, per_example=per_example)
    weights = np.asarray(mixed.label, np.float64)
    np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-6)
    expected = np.einsum("ij,jabc->iabc", weights, np.asarray(batch.image, np.float64))
    np.testing.assert_allclose(mixed.image, expected, rtol=1e-4, atol=1e-5)
    shares = np.diag(weights)[np.diag(weights) < 1]
    assert len(np.unique(shares.round(6))) == (len(shares) if per_example else min(1, len(shares)))


@SIZES
def test_the_labels_of_cutmix_weigh_the_pixels_exactly(size: int, per_example: bool) -> None:
    image = jnp.broadcast_to(jnp.arange(float(size))[:, None, None, None], (size, 5, 4, 2))
    batch = each_its_class(size).replace(image=image)
    for seed in range(20):
        mixed = stage("cutmix", batch, seed, per_example=per_example)
        pixels = np.asarray(mixed.image)
        assert_same(pixels[..., 0], pixels[..., 1])
        for i in range(size):
            counts = np.bincount(pixels[i, ..., 0].astype(int).ravel(), minlength=size)
            if counts[i] < 20:  # else the example met itself, or an empty box
                (partner,) = set(np.flatnonzero(counts)) - {i}
                kept = counts[i] / 20
                label = np.asarray(mixed.label[i])
                np.testing.assert_allclose(label[[i, partner]], [kept, 1 - kept], atol=1e-7)
                rows, columns = np.nonzero(pixels[i, ..., 0] != i)
                area = (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
                assert area == 20 - counts[i], "what is pasted is a box"


def test_the_share_that_cutmix_keeps_has_its_distribution() -> None:
    """Against a simulation in NumPy of the sentence in the docstring."""
    image = jnp.broadcast_to(jnp.arange(2.0)[:, None, None], (2, 9, 12))
    batch = rj.Batch(image, jnp.eye(2))
    keys = jax.random.split(jax.random.key(4), 4000)
    cutmix = program("cutmix", (("alpha", 0.7),))
    drawn = jax.jit(jax.vmap(lambda key: cutmix(batch, key).label[0, 0]))(keys)
    rng = np.random.default_rng(0)
    simulated = []
    for lam in rng.beta(0.7, 0.7, 20000):
        sides = []
        for length in (9, 12):
            side = int(length * np.sqrt(1 - lam))
            start = rng.integers(length) - side // 2
            sides.append(min(start + side, length) - max(start, 0))
        simulated.append(sides[0] * sides[1])
    lost = np.rint(108 * (1 - np.asarray(drawn, float)))
    simulated = np.array(simulated)
    np.testing.assert_allclose((lost > 0).mean(), 0.5 * (simulated > 0).mean(), atol=0.035)
    assert stats.ks_2samp(lost[lost > 0], simulated[simulated > 0]).pvalue > 1e-3


def test_noise_acts_on_what_is_mixed() -> None:
    """Mixed rows of zeros stay zeros under factors, whatever the rows were before."""
    batch = each_its_class(2).replace(image=jnp.stack([jnp.ones((3, 2, 1)), -jnp.ones((3, 2, 1))]))
    for seed in range(10):
        arguments = {"add": 0.0, "multiply": 0.9, "random_levels": False}
        noisy = stage("noisy_mixup", batch, seed, **arguments)
        mean = noisy.label[:, 0] - noisy.label[:, 1]
        factor = np.asarray(noisy.image) / np.asarray(mean)[:, None, None, None]
        assert np.abs(factor - 1).max() <= 0.9
        assert np.abs(factor - 1).max() > 0.3


# Where it stands: types, devices, networks, errors.


@EVERY
def test_everything_keeps_its_type_and_unmixed_fields(name: str) -> None:
    for dtype in (jnp.bfloat16, jnp.float32):
        mixed = jax.eval_shape(lambda b: stage(name, b), random_batch(SIZE, dtype=dtype))
        assert mixed.image.dtype == mixed.label.dtype == dtype
    batch = each_its_class()
    mixed = stage(name, batch)
    assert_same((mixed.index, mixed.weight), (batch.index, batch.weight))


@pytest.mark.parametrize(
    ("name", "per_example"),
    [
        pytest.param("noisy_feature_mixup", True, marks=pytest.mark.slow),
        # The contracts of all stages tell as much.
        *(pytest.param(name, False, marks=pytest.mark.slow) for name in STAGES),
        *(pytest.param(name, True, marks=pytest.mark.slow) for name in list(STAGES)[:4]),
    ],
)
def test_an_axis_of_devices_pairs_as_one_device_does(name: str, per_example: bool) -> None:
    batch = random_batch(16, shape=(3, 2, 1))

    def logits(batch: rj.Batch, axis_name: str | None = "data") -> Any:
        def total(image: jax.Array) -> Any:
            options = {"per_example": per_example, "axis_name": axis_name}
            options |= {"layers": LAYERS} if "layers" in STAGES[name] else {}
            function = getattr(rj, name).definition.function
            key = jax.random.key(4)
            forward, mixed = function(
                FORWARD, batch.replace(image=image), key, **STAGES[name] | options
            )
            out = forward(mixed.image).logits
            return jnp.sum(out**2), (out, mixed.label)

        return jax.grad(total, has_aux=True)(batch.image)

    expected = jax.jit(functools.partial(logits, axis_name=None))(batch)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = PartitionSpec("data")
    assert_close(
        jax.jit(jax.shard_map(logits, mesh=mesh, in_specs=spec, out_specs=spec))(batch), expected
    )
    shards = jax.tree.map(lambda x: x.reshape(8, 2, *x.shape[1:]), batch)
    result = jax.pmap(logits, axis_name="data")(shards)
    assert_close(jax.tree.map(lambda x: x.reshape(16, *x.shape[2:]), result), expected)


def test_cutmix_refuses_images_without_rows() -> None:
    with pytest.raises(ValueError, match=r"cutmix needs images \[B, H, W, ...\]"):
        stage("cutmix", rj.Batch(jnp.ones((2, 3)), jnp.ones((2, 2))))


def test_cutmix_refuses_dense_labels_of_another_size() -> None:
    with pytest.raises(ValueError, match=r"cutmix moves dense labels as it moves pixels.*\[2, 2,"):
        stage("cutmix", rj.Batch(jnp.ones((2, 4, 4, 1)), jnp.ones((2, 2, 4, 3))))


# Dense labels.


@pytest.mark.parametrize("name", ["mixup", "noisy_mixup", "manifold_mixup", "noisy_feature_mixup"])
def test_dense_labels_mix_position_by_position(name: str) -> None:
    """In the shares that labels of images mix in; a position without a label gives nothing."""
    number = np.random.default_rng(0).integers(3, size=(8, 3, 2))
    number[0] = 255
    label = jax.nn.one_hot(number, 3)
    batch = each_its_class()
    shares = np.asarray(stage(name, batch).label)
    dense = stage(name, batch.replace(label=label)).label
    assert_close(dense, jnp.einsum("ij,jhwc->ihwc", shares, label))


@pytest.mark.parametrize("name", ["puzzlemix"])
def test_blocks_refuse_dense_labels(name: str) -> None:
    batch = each_its_class().replace(label=jnp.ones((8, 3, 2, 3)))
    function = getattr(rj, name).definition.function
    arguments = {n: p.default for n, p in getattr(rj, name).definition.arguments.items()}
    with pytest.raises(ValueError, match=rf"{name} is for one label an image.*\[8, 3, 2, 3\]"):
        function(FORWARD, batch, jax.random.key(0), **arguments | {"alpha": 1.0})
