"""Lambda's distribution, and a pairing that is uniform and knows the examples by index only."""

import functools
import math
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from jax.test_util import check_grads
from scipy import stats
from support import assert_finite, assert_same, random_batch

import regjax as rj
from regjax.mixing.exchange import exchanged
from regjax.mixing.pairing import Pairing, draw_lambda, pair

KEY = jax.random.key(3)
MESH = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))


def batch_of(size: int) -> rj.Batch:
    return rj.Batch(jnp.zeros((size, 1)), jnp.ones((size, 1)))


def partners(size: int, count: int) -> np.ndarray:
    """`count` pairings of a batch, `[count, size]`."""
    keys = jax.random.split(jax.random.key(5), count)
    return np.asarray(jax.jit(jax.vmap(lambda k: pair(k, batch_of(size)).partner))(keys))


# Lambda.


@pytest.mark.parametrize("per_example", [False, True])
@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_lambda_has_its_beta_distribution(alpha: float, per_example: bool) -> None:
    keys = jax.random.split(KEY, 4000)
    draw = functools.partial(draw_lambda, batch=batch_of(2), per_example=per_example)
    drawn = np.asarray(jax.jit(jax.vmap(lambda k: draw(k, alpha=alpha)))(keys))
    assert drawn.shape == ((4000, 2) if per_example else (4000,))
    assert drawn.dtype == np.float32
    assert stats.kstest(drawn.ravel(), stats.beta(alpha, alpha).cdf).pvalue > 1e-3
    if per_example:
        assert abs(np.corrcoef(drawn.T)[0, 1]) < 4 / np.sqrt(4000)


@pytest.mark.parametrize("per_example", [False, True])
def test_lambda_is_one_where_alpha_is_zero(per_example: bool) -> None:
    def draw(alpha: jax.Array) -> jax.Array:
        return jnp.sum(draw_lambda(KEY, batch_of(3), alpha, per_example)) / (
            3 if per_example else 1
        )

    assert jax.jit(draw)(0.0) == 1
    slopes = jax.vmap(jax.grad(draw))(jnp.array([0.0, 1e-3, 1.0]))
    assert_finite(slopes)
    assert slopes[0] == 0


def test_lambda_per_example_goes_by_index() -> None:
    index = np.array([4, 0, 2])
    batch = batch_of(3).replace(index=jnp.asarray(index))
    drawn = draw_lambda(KEY, batch, 0.7, True)
    np.testing.assert_allclose(drawn, draw_lambda(KEY, batch_of(5), 0.7, True)[index], rtol=1e-6)


# Pairs.


@pytest.mark.parametrize("size", [1, 2, 5, 16])
def test_partners_are_a_permutation(size: int) -> None:
    assert_same(np.sort(partners(size, 50), 1), np.tile(np.arange(size), (50, 1)))


def test_all_permutations_are_equally_likely() -> None:
    drawn = partners(4, 6000)
    _, counts = np.unique(drawn, axis=0, return_counts=True)
    assert len(counts) == 24
    assert stats.chisquare(counts).pvalue > 1e-3


def test_one_example_meets_itself_on_average() -> None:
    """The fixed points of a uniform permutation have mean 1 and variance 1."""
    fixed = (partners(16, 4000) == np.arange(16)).sum(1)
    assert abs(fixed.mean() - 1) < 4 / np.sqrt(4000)
    np.testing.assert_allclose(fixed.var(), 1, rtol=0.15)


@pytest.mark.parametrize("size", [1, 2, 7, 16])
def test_partners_do_not_depend_on_the_order_of_the_batch(size: int) -> None:
    batch = random_batch(size)
    order = np.random.default_rng(0).permutation(size)
    moved = jax.tree.map(lambda x: x[order], batch)
    expected = pair(KEY, batch).of(batch.image)[order]
    assert_same(pair(KEY, moved).of(moved.image), expected)


def test_padding_is_paired_with_padding() -> None:
    batch = random_batch(16)
    weight = np.random.default_rng(1).integers(0, 2, 16)
    batch = batch.replace(weight=jnp.asarray(weight, jnp.float32))
    pairing = pair(KEY, batch)
    assert_same(weight[pairing.partner], weight)
    real = jax.tree.map(lambda x: x[weight > 0], batch)
    assert_same(pair(KEY, real).of(real.image), pairing.of(batch.image)[weight > 0])


def test_equal_words_do_not_let_the_order_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all words equal, the examples keep the order of their index wherever they stand."""
    monkeypatch.setattr(jax.random, "bits", lambda key, shape: jnp.zeros(shape, jnp.uint32))
    batch = random_batch(8)
    assert_same(pair(KEY, batch).of(batch.index), batch.index)


# Mixing.


@pytest.mark.parametrize("per_example", [False, True])
@pytest.mark.parametrize("shape", [(16,), (16, 3), (16, 3, 2, 1)])
def test_mixing_by_hand(shape: tuple[int, ...], per_example: bool) -> None:
    rng = np.random.default_rng(0)
    h = rng.normal(size=shape).astype(np.float32)
    lam = rng.uniform(size=16 if per_example else ()).astype(np.float32)
    partner = rng.permutation(16)
    mixed = Pairing(jnp.asarray(partner)).mix(jnp.asarray(h), jnp.asarray(lam))
    for i in range(16):
        share = np.float64(lam[i] if per_example else lam)
        expected = share * h[i] + (1 - share) * h[partner[i]]
        np.testing.assert_allclose(mixed[i], expected, rtol=1e-5, atol=1e-6)


def test_lambda_one_is_the_identity_and_zero_the_partner() -> None:
    h = random_batch().image
    pairing = pair(KEY, batch_of(16))
    assert_same(pairing.mix(h, jnp.float32(1)), h)
    assert_same(pairing.mix(h, jnp.float32(0)), h[pairing.partner])


def test_bfloat16_is_mixed_in_float32() -> None:
    h = random_batch(dtype=jnp.bfloat16).image
    pairing, lam = pair(KEY, batch_of(16)), jnp.float32(0.3)
    mixed = pairing.mix(h, lam)
    assert mixed.dtype == jnp.bfloat16
    assert_same(mixed, pairing.mix(h.astype(jnp.float32), lam).astype(jnp.bfloat16))


def test_derivatives_of_mixing_in_both_modes() -> None:
    """The partners' rows are a linear system's solution, whose derivative rules are JAX's."""
    with jax.enable_x64(True):
        h = jnp.asarray(np.random.default_rng(0).normal(size=(5, 3)))
        pairing, lam = Pairing(jnp.array([3, 0, 2, 4, 1])), jnp.linspace(0, 1, 5)
        check_grads(lambda h: jnp.sin(pairing.mix(jnp.sin(h), lam)), (h,), order=2)
        # Row i is used by itself and by whom it is the partner of: 1 + (lam_i - lam_inverse(i)).
        slope = jax.grad(lambda h: jnp.sum(pairing.mix(h, lam)))(h)
        inverse = np.argsort(pairing.partner)
        expected = 1 + np.asarray(lam) - np.asarray(lam)[inverse]
        np.testing.assert_allclose(slope, np.tile(expected[:, None], (1, 3)), rtol=1e-12)


def test_pairings_are_mapped_like_a_loop() -> None:
    h = random_batch().image
    keys = jax.random.split(KEY, 3)

    def slope(key: jax.Array) -> jax.Array:
        return jax.grad(lambda h: jnp.sum(pair(key, batch_of(16)).of(h) ** 3))(h)

    together = jax.vmap(slope)(keys)
    for i in range(3):
        np.testing.assert_allclose(together[i], slope(keys[i]), rtol=1e-6)


# Devices.


@pytest.mark.parametrize("indexed", [True, False])
def test_pairs_across_devices_equal_those_of_one_device(indexed: bool) -> None:
    batch = random_batch()
    if not indexed:
        batch = batch.replace(index=None, weight=None)

    def mixed(batch: rj.Batch, axis_name: str | None = "data") -> jax.Array:
        return pair(KEY, batch, axis_name).mix(batch.image, jnp.float32(0.25))

    expected = mixed(batch, None)
    spec = PartitionSpec("data")
    shard_map = jax.jit(jax.shard_map(mixed, mesh=MESH, in_specs=spec, out_specs=spec))
    np.testing.assert_allclose(shard_map(batch), expected, rtol=1e-5, atol=1e-6)
    shards = jax.tree.map(lambda x: x.reshape(8, 2, *x.shape[1:]), batch)
    by_pmap = jax.pmap(mixed, axis_name="data")(shards).reshape(expected.shape)
    np.testing.assert_allclose(by_pmap, expected, rtol=1e-5, atol=1e-6)
    with jax.set_mesh(MESH):
        by_mesh = jax.jit(lambda b: mixed(b, "data"))(batch)
    np.testing.assert_allclose(by_mesh, expected, rtol=1e-5, atol=1e-6)


def across(function: Any) -> Any:
    """A function of rows and their places among those of all devices, on eight devices."""
    spec = PartitionSpec("data")
    mapped = jax.shard_map(function, mesh=MESH, in_specs=(spec,) * 3, out_specs=spec)
    return jax.jit(mapped)


@pytest.mark.parametrize("size", [8, 24, 72])
def test_rows_go_where_they_are_wanted_however_uneven_that_is(size: int) -> None:
    x = np.random.default_rng(0).normal(size=(size, 2, 3)).astype(np.float32)
    run = across(functools.partial(exchanged, axis_name="data"))
    drawn = np.random.default_rng(1).permutation(size)
    # All of a device's rows stay, go to one other device, or to all others in equal parts.
    turned = np.arange(size).reshape(8, -1).T.ravel()
    for wanted in (drawn, np.arange(size), np.roll(np.arange(size), size // 8), turned):
        np.testing.assert_array_equal(run(x, wanted, np.argsort(wanted)), x[wanted])


def test_derivatives_across_devices_are_those_of_one() -> None:
    """The rows go back the way they came, for the first derivative and for that of its square."""
    batch = random_batch()

    def slopes(batch: rj.Batch, axis_name: str | None) -> jax.Array:
        def slope(h: jax.Array) -> jax.Array:
            pairing = pair(KEY, batch, axis_name)
            return jax.grad(lambda h: jnp.sum(jnp.sin(pairing.of(h)) * h))(h)

        h = batch.image
        return jnp.stack([slope(h), jax.grad(lambda h: jnp.sum(slope(h) ** 2))(h)], 1)

    spec = PartitionSpec("data")
    mapped = functools.partial(slopes, axis_name="data")
    found = jax.jit(jax.shard_map(mapped, mesh=MESH, in_specs=spec, out_specs=spec))(batch)
    np.testing.assert_allclose(found, slopes(batch, None), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["shard_map", "jit"])
def test_no_device_has_the_rows_of_all(kind: str) -> None:
    """The program of one of eight devices, with 16 rows each, has no array of more than these."""
    own = 16
    spec, batch = PartitionSpec("data"), batch_of(8 * own)
    h = jax.ShapeDtypeStruct((8 * own, 512), jnp.float32, sharding=NamedSharding(MESH, spec))

    def partners(h: jax.Array, batch: rj.Batch) -> jax.Array:
        return pair(KEY, batch, "data").of(h)

    mapped = jax.shard_map(partners, mesh=MESH, in_specs=spec, out_specs=spec)
    with jax.set_mesh(MESH):
        lowered = jax.jit(mapped if kind == "shard_map" else partners).lower(h, batch)
    compiled = lowered.compile()
    memory: Any = compiled.memory_analysis()
    assert memory.temp_size_in_bytes < 3 * own * 4 * 512
    sizes = re.findall(r"f32\[([\d,]+)\]", compiled.as_text())
    assert max(math.prod(map(int, each.split(","))) for each in sizes) == own * 512


def test_axes_that_cannot_split_the_batch_are_refused() -> None:
    with pytest.raises(ValueError, match=r"axis_name='data' is neither an axis of a pmap"):
        pair(KEY, batch_of(8), "data")
    with jax.set_mesh(MESH), pytest.raises(ValueError, match="9 examples cannot be split evenly"):
        pair(KEY, batch_of(9), "data")


@pytest.mark.parametrize("indexed", [True, False])
def test_without_an_axis_devices_pair_within_themselves(indexed: bool) -> None:
    batch = random_batch()
    if not indexed:
        batch = batch.replace(index=None, weight=None)

    def slope(batch: rj.Batch) -> jax.Array:
        return jax.grad(lambda h: jnp.sum(pair(KEY, batch).of(h) * h))(batch.image)

    spec = PartitionSpec("data")
    result = jax.jit(jax.shard_map(slope, mesh=MESH, in_specs=spec, out_specs=spec))(batch)
    for i in range(8):
        alone = jax.tree.map(lambda x, i=i: x[2 * i : 2 * i + 2], batch)
        np.testing.assert_allclose(result[2 * i : 2 * i + 2], slope(alone), rtol=1e-5)
