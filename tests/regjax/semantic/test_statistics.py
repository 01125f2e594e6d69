"""Class statistics against `numpy.cov` of everything seen, however it was split.

Covers `covariance.py` too.
"""

import functools
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from support import assert_close, assert_same

from regjax.semantic import statistics
from regjax.semantic.statistics import ClassStatistics

C, A, N = 6, 4, 60
step = jax.jit(statistics.update, static_argnames="axis_name")


X64 = pytest.mark.usefixtures("x64")


def oracle(x: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, ...]:
    """Counts, means, covariances and the covariances' mean by count, in float64."""
    x, label = x.astype(np.float64), label.astype(np.float64)
    seen = label.sum(0)
    mean, covariance = np.zeros((2, label.shape[1], x.shape[1], x.shape[1]))
    mean = mean[:, 0]
    for c in np.flatnonzero(seen):
        mean[c] = np.average(x, axis=0, weights=label[:, c])
        covariance[c] = np.cov(x.T, bias=True, aweights=label[:, c])
    return seen, mean, covariance, np.average(covariance, axis=0, weights=seen)


def assert_statistics(
    actual: ClassStatistics, x: np.ndarray, label: np.ndarray, tolerance: float = 1e-10
) -> None:
    seen, mean, covariance, pooled = oracle(x, label)
    kept = np.asarray(actual.covariance[0], np.float64)
    if isinstance(actual.covariance, statistics.Diagonal):
        covariance, pooled = np.einsum("caa->ca", covariance), np.diag(pooled)
    if isinstance(actual.covariance, statistics.LowRank):
        kept = np.einsum("cra,crb->cab", kept, kept)
    close = functools.partial(np.testing.assert_allclose, rtol=0, atol=tolerance)
    close(actual.seen, seen)
    close(actual.mean, mean)
    close(kept, covariance)
    if actual.pooled is not None:
        close(actual.pooled, pooled)


def draw(seed: int, labels: str, size: int = N) -> tuple[np.ndarray, np.ndarray]:
    """Correlated features; the last class but one occurs once, the last not at all."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(size, A)) @ rng.normal(size=(A, A)) + rng.normal(size=A)
    label = np.zeros((size, C))
    label[np.arange(size), rng.integers(0, C - 2, size)] = 1
    label[7] = np.eye(C)[C - 2]
    if labels == "soft":
        label[:, : C - 2] = rng.dirichlet(np.ones(C - 2), size) * (rng.random((size, C - 2)) < 0.7)
    return x, label.sum(1, keepdims=True) if labels == "one column" else label


def padded(x: np.ndarray, label: np.ndarray, size: int) -> dict[str, jax.Array]:
    """With garbage, of weight 0, to a fixed size."""
    rest = ((0, size - len(x)), (0, 0))
    features = np.pad(x, rest, constant_values=np.nan)
    weight = np.arange(size) < len(x)
    label = np.pad(label, rest, constant_values=1)
    arrays = {"features": features, "label": label, "weight": weight.astype(x.dtype)}
    return jax.tree.map(jnp.asarray, arrays)


KINDS = [
    ("full", "hard", None),
    ("full", "soft", None),
    ("diagonal", "hard", None),
    ("diagonal", "soft", None),
    ("shared", "one column", None),
    ("low_rank", "soft", A),
]


@X64
@pytest.mark.parametrize(("kind", "labels", "rank"), KINDS)
def test_any_split_gives_the_covariance_of_everything_seen(
    kind: str, labels: str, rank: int | None
) -> None:
    pooled, size = kind in ("full", "diagonal"), 20
    for seed in range(3):
        x, label = draw(seed, labels)
        cuts = np.random.default_rng(seed).integers(0, N, 6)
        cuts = np.unique([0, *cuts, *np.arange(0, N + 1, size), N - 1, N])
        now = statistics.init(
            label.shape[1], A, covariance=kind, rank=rank, pooled=pooled, dtype=jnp.float64
        )
        for i, j in itertools.pairwise(cuts):
            now = step(now, **padded(x[i:j], label[i:j], size))
            assert_statistics(now, x[:j], label[:j])
        # Two examples, one a batch of its own; a class that comes once varies by nothing.
        assert 1 in np.diff(cuts)
        if labels == "hard":
            assert not np.any(now.covariance[0][C - 2 :])


@X64
@pytest.mark.parametrize("kind", ["full", "diagonal"])
def test_decay_counts_the_past_less(kind: str) -> None:
    x, label = draw(0, "soft")
    label[40:, 0] = 0  # a class that is absent later
    past = statistics.init(C, A, covariance=kind, pooled=True, dtype=jnp.float64)
    for t in range(6):
        batch = padded(x[10 * t : 10 * t + 10], label[10 * t : 10 * t + 10], 20)
        past = step(past, decay=0.7, **batch)
    share = 0.7 ** np.repeat(np.arange(6)[::-1], 10)
    assert_statistics(past, x, label * share[:, None])


@pytest.mark.parametrize(("kind", "labels", "rank"), [*KINDS[::2], KINDS[-1]])
def test_coarse_features_are_summed_in_float32(kind: str, labels: str, rank: int | None) -> None:
    x, label = draw(0, labels)
    coarse, label = jnp.asarray(x, jnp.bfloat16), jnp.asarray(label, jnp.bfloat16)
    start = statistics.init(label.shape[1], A, covariance=kind, rank=rank)
    now = step(start, coarse, label)
    assert {leaf.dtype for leaf in jax.tree.leaves(now)} == {jnp.dtype("float32")}
    assert_statistics(now, np.asarray(coarse), np.asarray(label), 1e-5)
    assert_same(now, step(start, coarse.astype(jnp.float32), label.astype(jnp.float32)))


@pytest.mark.parametrize("kind", ["full", "diagonal"])
def test_features_far_from_zero_keep_their_digits_in_float32(kind: str) -> None:
    """Relative to the largest covariance: float32 itself resolves 6e-5 at 1e3, thus the means."""
    rng = np.random.default_rng(0)
    label = np.eye(C)[rng.integers(0, C, 800)]
    x = (1e3 + rng.normal(size=(800, A)) + label @ rng.normal(size=(C, A)) * 3).astype(np.float32)
    now = statistics.init(C, A, covariance=kind, pooled=True)
    for t in range(0, 800, 40):
        now = step(now, jnp.asarray(x[t : t + 40]), jnp.asarray(label[t : t + 40]))
    assert_statistics(now._replace(mean=oracle(x, label)[1]), x, label, 6e-5)
    np.testing.assert_allclose(now.mean, oracle(x, label)[1], atol=3e-4)


@X64
@pytest.mark.parametrize(("kind", "rank"), [("full", None), ("diagonal", None), ("low_rank", A)])
def test_many_examples_of_one_class(kind: str, rank: int | None) -> None:
    """More than one piece of work takes."""
    for labels in (np.zeros(100, int), np.arange(100) // 70, np.arange(100) % 2):
        x, _ = draw(1, "hard", 100)
        label = np.eye(C)[labels]
        now = statistics.init(C, A, covariance=kind, rank=rank, dtype=jnp.float64)
        for part in (slice(0, 50), slice(50, 100)):
            now = step(now, jnp.asarray(x[part]), jnp.asarray(label[part]))
        assert_statistics(now, x, label)


@X64
def test_dense_features_equal_flat_ones() -> None:
    x, label = draw(2, "hard")
    label[::4] = 0  # positions to ignore, whose features are garbage
    start = statistics.init(C, A, pooled=True, dtype=jnp.float64)
    garbage = np.where(label.any(1, keepdims=True), x, np.inf)
    dense = step(start, garbage.reshape(5, 4, 3, A), label.reshape(5, 4, 3, C))
    assert_statistics(dense, x, label)
    weight = np.array([1.0, 0.0, 0.5, 1.0, 2.0])
    weighted = step(start, garbage.reshape(5, 4, 3, A), label.reshape(5, 4, 3, C), weight=weight)
    assert_statistics(weighted, x, label * np.repeat(weight, 12)[:, None])


@pytest.mark.parametrize(("kind", "labels", "rank"), [KINDS[0], KINDS[2], ("low_rank", "hard", 2)])
def test_what_does_not_occur_stays_as_it_is(kind: str, labels: str, rank: int | None) -> None:
    x, label = (jnp.asarray(each, jnp.float32) for each in draw(0, labels))
    pooled = kind != "low_rank"
    start = statistics.init(C, A, covariance=kind, rank=rank, pooled=pooled)
    now = step(start, x, label)
    only = jnp.where(jnp.arange(C)[None] == 1, label, 0)
    later = step(now, 3 * x + 1, only)
    rows = np.delete(np.arange(C), 1)
    kept, before = (jax.tree.map(lambda a: a[rows], s._replace(pooled=None)) for s in (later, now))
    assert_same(kept, before)
    assert not np.array_equal(later.covariance[0][1], now.covariance[0][1])
    assert_same(
        later._replace(pooled=None), step(later, x, jnp.zeros_like(label))._replace(pooled=None)
    )
    nothing = step(later, x * jnp.nan, label, weight=jnp.zeros(N))
    assert_close(nothing, later)


@X64
def test_nothing_is_differentiated_and_batches_may_be_mapped() -> None:
    x, label = draw(0, "soft")
    start = statistics.init(C, A, pooled=True, dtype=jnp.float64)
    slope = jax.jit(jax.jacrev(lambda x: statistics.update(start, x, label)))(x)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(slope))
    xs, labels = x.reshape(3, 20, A), label.reshape(3, 20, C)
    together = jax.jit(jax.vmap(statistics.update, (None, 0, 0)))(start, xs, labels)
    for i in range(3):
        assert_statistics(jax.tree.map(lambda a, i=i: a[i], together), xs[i], labels[i])


# Sketches.


@X64
@pytest.mark.parametrize("rank", [3, 6])
def test_a_sketch_stays_within_the_bound_of_frequent_directions(rank: int) -> None:
    rng = np.random.default_rng(0)
    features, size = 12, 40
    x = rng.normal(size=(25 * size, features)) * 0.7 ** np.arange(features) + 1
    x = x @ np.linalg.qr(rng.normal(size=(features, features)))[0]
    label = np.eye(2)[rng.integers(0, 2, len(x))]
    now = statistics.init(2, features, covariance="low_rank", rank=rank, dtype=jnp.float64)
    for t in range(0, len(x), size):
        now = step(now, x[t : t + size], label[t : t + size])
    for sketch, whole in zip(now.covariance.sketch, oracle(x, label)[2], strict=True):
        lacking = np.linalg.eigvalsh(whole - np.asarray(sketch).T @ np.asarray(sketch))
        tail = np.cumsum(np.linalg.eigvalsh(whole))  # of all but the k largest, from the end
        bound = min(tail[features - k - 1] / (rank - k) for k in range(rank))
        assert lacking[0] > -1e-10
        assert 0 < lacking[-1] <= bound
        assert np.trace(whole) > 1.5 * bound  # the bound says something


@X64
def test_a_sketch_of_enough_rows_is_exact() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 3)) @ rng.normal(size=(3, 9)) + 2
    label = np.eye(2)[rng.integers(0, 2, 600)]
    now = statistics.init(2, 9, covariance="low_rank", rank=3, dtype=jnp.float64)
    for t in range(0, 600, 20):
        now = step(now, x[t : t + 20], label[t : t + 20])
    assert_statistics(now, x, label)


# Devices.

CLASSES, SIZE = 8, 48
Way = Callable[[Any, ClassStatistics, jax.Array, jax.Array], ClassStatistics]


def by_pmap(mesh: Any, state: ClassStatistics, x: jax.Array, label: jax.Array) -> ClassStatistics:
    devices = mesh.devices.ravel()
    update = functools.partial(statistics.update, axis_name="data")
    mapped = jax.pmap(update, "data", in_axes=(None, 0, 0), devices=list(devices))
    shards = (a.reshape(len(devices), -1, a.shape[1]) for a in (x, label))
    every = mapped(state, *shards)
    for leaf in jax.tree.leaves(every):
        np.testing.assert_array_equal(leaf, np.broadcast_to(leaf[:1], leaf.shape))
    return jax.tree.map(lambda a: a[0], every)


def by_shard_map(
    mesh: Any, state: ClassStatistics, x: jax.Array, label: jax.Array, split: bool = False
) -> ClassStatistics:
    update = functools.partial(statistics.update, axis_name="data")
    where = statistics.places(state, "data") if split else PartitionSpec()
    data = PartitionSpec("data")
    specs = {"in_specs": (where, data, data), "out_specs": where}
    return jax.jit(jax.shard_map(update, mesh=mesh, **specs))(state, x, label)


def by_jit(mesh: Any, state: ClassStatistics, x: jax.Array, label: jax.Array) -> ClassStatistics:
    data, everywhere = (NamedSharding(mesh, PartitionSpec(*axis)) for axis in (["data"], []))
    x, label = jax.device_put((x, label), data)
    return jax.jit(statistics.update)(jax.device_put(state, everywhere), x, label)


def by_set_mesh(
    mesh: Any, state: ClassStatistics, x: jax.Array, label: jax.Array
) -> ClassStatistics:
    places = statistics.places(state, "data")
    split = jax.tree.map(lambda spec: NamedSharding(mesh, spec), places)
    x, label = jax.device_put((x, label), NamedSharding(mesh, PartitionSpec("data")))
    update = functools.partial(statistics.update, axis_name="data")
    with jax.set_mesh(mesh):
        now = jax.jit(update)(jax.device_put(state, split), x, label)
    for leaf, wanted in zip(jax.tree.leaves(now), jax.tree.leaves(split), strict=True):
        assert leaf.sharding.is_equivalent_to(wanted, leaf.ndim)
    return now


WAYS: dict[str, Way] = {
    "pmap": by_pmap,
    "shard_map": by_shard_map,
    "shard_map, split": functools.partial(by_shard_map, split=True),
    "jit": by_jit,
    "jit, split": by_set_mesh,
}


@X64
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("devices", "kind"),
    [
        (4, "diagonal"),
        (8, "full"),
        (8, "low_rank"),
        *(
            pytest.param(*each, marks=pytest.mark.slow)
            for each in ((1, "full"), (2, "full"), (8, "shared"))
        ),
    ],
)
def test_devices_equal_one(way: str, devices: int, kind: str) -> None:
    auto = (jax.sharding.AxisType.Auto,)
    mesh = jax.make_mesh((devices,), ("data",), auto, devices=jax.devices()[:devices])
    rng = np.random.default_rng(devices)
    x = jnp.asarray(rng.normal(size=(2 * SIZE, A)) + 3)
    label = rng.dirichlet(np.ones(CLASSES), 2 * SIZE) * (np.arange(CLASSES) != 5)
    label[::3] = 0
    label = jnp.asarray(label.sum(1, keepdims=True) if kind == "shared" else label)
    pooled, rank = kind in ("full", "diagonal"), A if kind == "low_rank" else None
    start = statistics.init(
        label.shape[1], A, covariance=kind, rank=rank, pooled=pooled, dtype=jnp.float64
    )
    start = step(start, x[:SIZE], label[:SIZE])
    now = WAYS[way](mesh, start, x[SIZE:], label[SIZE:])
    assert_statistics(now, np.asarray(x), np.asarray(label))


# Errors.


def test_errors_say_what_was_given() -> None:
    with pytest.raises(ValueError, match="unknown covariance 'fill'; known are: full, diagonal"):
        statistics.init(2, 3, covariance="fill")
    for kind, rank in (("low_rank", None), ("full", 3)):
        with pytest.raises(ValueError, match=f"'{kind}' was given rank={rank}"):
            statistics.init(2, 3, covariance=kind, rank=rank)
    for rank in (0, 1.5):
        with pytest.raises(ValueError, match=f"whole number of at least 1, but it is {rank}"):
            statistics.init(2, 3, covariance="low_rank", rank=rank)
    for kind, rank in (("low_rank", 2), ("shared", None)):
        with pytest.raises(ValueError, match=f"not for '{kind}'"):
            statistics.init(2, 3, covariance=kind, rank=rank, pooled=True)
    state = statistics.init(2, 3)
    for features, label in (((4, 2), (4, 2)), ((4, 3), (5, 2)), ((4, 2, 3), (4, 2))):
        with pytest.raises(ValueError, match="A = 3, but they are"):
            statistics.update(state, jnp.ones(features), jnp.ones(label))
    with pytest.raises(ValueError, match="2 classes, but the labels have 4"):
        statistics.update(state, jnp.ones((4, 3)), jnp.ones((4, 4)))


@pytest.mark.parametrize("covariance", ["full", "diagonal"])
def test_classes_far_apart_keep_their_digits(covariance: str) -> None:
    """A thousand standard deviations, in float32; pooled too."""
    rng = np.random.default_rng(0)
    number = rng.integers(3, size=90)
    x = rng.normal(size=(90, 4)) + 1000 * rng.normal(size=(3, 4))[number]
    x, label = np.float32(x), jax.nn.one_hot(number, 3)
    seen = statistics.init(3, 4, covariance=covariance, pooled=True)
    for part in np.split(np.arange(90), 3):
        seen = statistics.update(seen, jnp.asarray(x[part]), label[part])
    exact = [np.cov(np.float64(x[number == c]).T, bias=True) for c in range(3)]
    mean = np.average(exact, axis=0, weights=np.bincount(number))
    if covariance == "diagonal":
        exact, mean = np.array([np.diagonal(e) for e in exact]), np.diagonal(mean)
    np.testing.assert_allclose(seen.covariance[0], exact, atol=1e-3)
    np.testing.assert_allclose(seen.pooled, mean, atol=1e-3)
