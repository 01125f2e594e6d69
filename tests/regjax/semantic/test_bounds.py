"""The bounds of ISDA against loops in NumPy float64 and closed forms.

Covers what the kinds of `covariance.py` do once they are merged, too.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from jax.test_util import check_grads
from support import assert_close, assert_finite

from regjax.semantic import bounds as semantic
from regjax.semantic import statistics

C, A, B = 8, 4, 24
KINDS = ["full", "diagonal", "low_rank", "shared", "identity"]
SHRUNK = {"full": 0.3, "diagonal": 0.4}
CASES = [*((kind, None) for kind in KINDS), *SHRUNK.items()]


@pytest.fixture(autouse=True)
def _x64() -> Iterator[None]:
    jax.config.update("jax_disable_most_optimizations", True)  # halves the time to compile
    with jax.enable_x64(True):
        yield
    jax.config.update("jax_disable_most_optimizations", False)


def known(kind: str, classes: int = C, *, pooled: bool = False) -> Any:
    """Statistics of random features; None for the identity."""
    if kind == "identity":
        return None
    rng = np.random.default_rng(7)
    features = rng.normal(size=(10 * classes, A)) @ rng.normal(size=(A, A))
    label = rng.dirichlet(np.ones(classes), 10 * classes)
    if kind == "shared":
        label = label.sum(1, keepdims=True)
    rank = 2 if kind == "low_rank" else None
    start = statistics.init(
        label.shape[1], A, covariance=kind, rank=rank, pooled=pooled, dtype=jnp.float64
    )
    return jax.jit(statistics.update)(start, features, label)


def matrices(state: Any, classes: int, shrinkage: float | None) -> np.ndarray:
    """`Sigma [C, A, A]` of any kind."""
    if state is None:
        return np.stack([np.eye(A)] * classes)
    kept = np.asarray(state.covariance[0])
    if isinstance(state.covariance, statistics.Diagonal):
        kept = np.stack([np.diag(row) for row in kept])
    if isinstance(state.covariance, statistics.LowRank):
        kept = np.stack([sketch.T @ sketch for sketch in kept])
    kept = np.broadcast_to(kept, (classes, A, A))
    if shrinkage is None:
        return kept
    pooled = np.asarray(state.pooled)
    return (1 - shrinkage) * kept + shrinkage * (np.diag(pooled) if pooled.ndim == 1 else pooled)


def spreads(sigma: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """`(w_j - w_c)' Sigma_c (w_j - w_c)`, one by one."""
    classes = kernel.shape[1]
    found = np.zeros((classes, classes))
    for c in range(classes):
        for j in range(classes):
            v = kernel[:, j] - kernel[:, c]
            found[c, j] = v @ sigma[c] @ v
    return found


def log_sum_exp(x: np.ndarray) -> float:
    return float(np.log(np.sum(np.exp(x - x.max()))) + x.max())


def bound(z: np.ndarray, label: np.ndarray, spread: np.ndarray) -> float:
    """Eq. (7) of one example, in expectation over its label."""
    own = (log_sum_exp(z - z[c] + spread[c]) for c in range(len(z)))
    return sum(weight * value for weight, value in zip(label, own, strict=True))


def draw(classes: int = C, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits and a kernel."""
    rng = np.random.default_rng(seed)
    return 2 * rng.normal(size=(B, classes)), rng.normal(size=(A, classes))


def labels(which: str, classes: int = C) -> np.ndarray:
    rng = np.random.default_rng(3)
    hard = np.eye(classes)[rng.integers(0, classes, B)]
    if which == "two classes":
        return 0.7 * hard + 0.3 * hard[::-1]
    if which == "smooth":
        return 0.9 * hard + 0.1 / classes
    if which == "mixed":  # of each kind some, and some that are ignored
        smooth, two = labels("smooth", classes), labels("two classes", classes)
        return np.concatenate([hard[:8], smooth[8:12], two[12:20], 0 * hard[20:]])
    return hard


# The table of spreads.


@pytest.mark.parametrize(("kind", "shrinkage"), CASES)
def test_spreads_and_their_gradient(kind: str, shrinkage: float | None) -> None:
    """With G the cotangent, `w_j` gets `2 G_cj Sigma_c (w_j - w_c)` and `w_c` its opposite."""
    state, (_, kernel) = known(kind, pooled=shrinkage is not None), draw()
    sigma = matrices(state, C, shrinkage)
    weight = np.random.default_rng(1).normal(size=(C, C))

    def total(kernel: jax.Array) -> tuple[jax.Array, jax.Array]:
        table = semantic.differences(state, kernel, jnp.eye(C), shrinkage=shrinkage)
        return jnp.sum(table * weight), table

    slope, table = jax.jit(jax.grad(total, has_aux=True))(kernel)
    assert_close(table, spreads(sigma, kernel), jnp.float64)
    assert not np.any(np.diagonal(table))
    expected = np.zeros((A, C))
    for c in range(C):
        for j in range(C):
            push = 2 * weight[c, j] * sigma[c] @ (kernel[:, j] - kernel[:, c])
            expected[:, j] += push
            expected[:, c] -= push
    assert_close(slope, expected, jnp.float64)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("classes", [1, 2, 9, 37])
def test_any_number_of_classes_of_which_some_are_absent(kind: str, classes: int) -> None:
    state, (_, kernel) = known(kind, classes), draw(classes)
    present = np.arange(classes) % 3 == 1 if classes > 1 else np.array([True])
    label = np.eye(classes) * present[:, None] * 0.2
    expected = spreads(matrices(state, classes, None), kernel)
    find = jax.jit(semantic.differences)
    assert_close(find(state, kernel, np.eye(classes)), expected, jnp.float64)
    some = find(state, kernel, label)
    assert_close(np.asarray(some)[present], expected[present], jnp.float64)
    if kind not in ("shared", "identity"):
        assert not np.any(np.asarray(some)[~present])


@pytest.mark.slow
def test_second_derivatives() -> None:
    cases = [("full", 0.3), ("diagonal", None), ("low_rank", None)]
    states = {case: known(case[0], 3, pooled=case[1] is not None) for case in cases}
    (z, kernel), label = draw(3), labels("mixed", 3)

    @jax.jit
    def everything(z: jax.Array, kernel: jax.Array) -> list[jax.Array]:
        out = []
        for (_, shrinkage), state in states.items():
            table = semantic.differences(state, kernel, label, shrinkage=shrinkage)
            out.append(semantic.upper_bound(z, label, 0.25 * table))
        return out

    check_grads(everything, (z, kernel), order=2, modes=("fwd", "rev"), eps=1e-5)


def test_the_statistics_are_constants() -> None:
    state, (z, kernel) = known("full", pooled=True), draw()

    def total(state: Any) -> jax.Array:
        table = semantic.differences(state, kernel, jnp.eye(C), shrinkage=0.3)
        held = semantic.consistency_bound(z, state, kernel, strength=0.5, shrinkage=0.3)
        return jnp.sum(table) + jnp.sum(held)

    assert not any(np.any(leaf) for leaf in jax.tree.leaves(jax.grad(total)(state)))


# The bound of the expected loss.


upper_bound = jax.jit(semantic.upper_bound)


@pytest.mark.parametrize("classes", [1, 2, 8])
def test_the_bound_is_the_formulas(classes: int) -> None:
    z, kernel = draw(classes)
    spread = 0.25 * spreads(matrices(known("full", classes), classes, None), kernel)
    for which in ("hard", "two classes", "smooth", "mixed"):
        label = labels(which, classes)
        expected = [bound(*example, spread) for example in zip(z, label, strict=True)]
        assert_close(upper_bound(z, label, spread), np.array(expected), jnp.float64)
        own = [label[i] @ (log_sum_exp(z[i]) - z[i]) for i in range(B)]
        assert_close(upper_bound(z, label, 0 * spread), np.array(own), jnp.float64)


def test_dense_predictions_have_a_bound_at_each_position() -> None:
    (z, kernel), label = draw(), labels("mixed")
    spread = 0.25 * spreads(matrices(None, C, None), kernel)
    dense = upper_bound(*(a.reshape(2, 4, 3, C) for a in (z, label)), spread)
    assert dense.shape == (2, 4, 3)
    np.testing.assert_array_equal(dense.ravel(), upper_bound(z, label, spread))
    assert not np.any(dense.ravel()[20:])


@jax.jit
@functools.partial(jax.value_and_grad, argnums=(0, 2))
def sloped(*arguments: jax.Array) -> jax.Array:
    return semantic.upper_bound(*arguments).sum()


@pytest.mark.parametrize("which", ["hard", "two classes", "smooth"])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_extremes_are_finite(which: str, dtype: Any) -> None:
    rng = np.random.default_rng(0)
    label = jnp.asarray(labels(which), dtype)
    spread = jnp.asarray(1e4 * rng.random((C, C)) * (1 - np.eye(C)), jnp.float32)
    for scale, table in ((1e4, spread), (0, spread), (1e4, 0 * spread)):
        z = jnp.asarray(scale * rng.normal(size=(B, C)), dtype)
        value, gradient = sloped(z, label, table)
        assert value.dtype == jnp.float32
        assert_finite((value, gradient))


def test_a_masked_class_adds_nothing_and_as_the_label_is_infinitely_far() -> None:
    z = jnp.broadcast_to(jnp.array([2.0, 2.0, -jnp.inf]), (3, 3))
    label = jnp.array([[1.0, 0, 0], [0.25, 0.75, 0], [0.5, 0.25, 0.25]])
    spread = jnp.array([[0.0, 1.0, 3.0], [2.0, 0.0, 5.0], [1.0, 1.0, 0.0]])
    expected = [np.log1p(np.e), 0.25 * np.log1p(np.e) + 0.75 * np.log1p(np.exp(2)), np.inf]
    np.testing.assert_allclose(semantic.upper_bound(z, label, spread), expected, rtol=1e-5)
    soft = semantic.consistency_bound(z, None, jnp.eye(3), strength=1.0)
    np.testing.assert_allclose(soft, np.log1p(np.e), rtol=1e-5)  # |w_0 - w_1|^2 / 2 is 1


def test_labels_may_be_of_a_wider_type_than_logits() -> None:
    (z, kernel), label = draw(), labels("mixed")
    spread = 0.25 * spreads(matrices(None, C, None), kernel)
    coarse = semantic.upper_bound(jnp.float32(z), label, jnp.float32(spread))
    assert_close(coarse, jnp.asarray([bound(*e, spread) for e in zip(z, label, strict=True)]))


# The bound of the expected divergence.


def held(z: np.ndarray, sigma: np.ndarray, kernel: np.ndarray, strength: float) -> float:
    """Eq. (15) of one example, term by term."""
    p = np.exp(z - log_sum_exp(z))
    own, total = sigma[np.argmax(p)], 0.0
    for k in range(len(z)):
        v = kernel - kernel[:, [k]]
        spread = 0.5 * strength * np.einsum("aj,ab,bj->j", v, own, v)
        total += p[k] * log_sum_exp(z - z[k] + spread)
    return total


@jax.jit
@functools.partial(jax.grad, argnums=(0, 1))
def with_fixed_predictions(
    z: jax.Array, kernel: jax.Array, p: jax.Array, own: jax.Array
) -> jax.Array:
    """The same sum in a few big arrays, for its gradient; lambda is 0.6."""
    v = kernel[:, :, None] - kernel[:, None]  # a, j, k
    moved = (z[:, :, None] - z[:, None]) + 0.3 * jnp.einsum("ajk,iab,bjk->ijk", v, own, v)
    return jnp.sum(p * jax.nn.logsumexp(moved, axis=1))


@pytest.mark.parametrize(("kind", "shrinkage"), CASES)
def test_the_consistency_bound_and_its_gradient(kind: str, shrinkage: float | None) -> None:
    """Predictions and pseudo-labels are constants; the gradient's oracle is given both."""
    state, (z, kernel) = known(kind, pooled=shrinkage is not None), draw()
    sigma = matrices(state, C, shrinkage)
    options: dict[str, Any] = {"strength": 0.6, "shrinkage": shrinkage}

    @functools.partial(jax.value_and_grad, argnums=(0, 1), has_aux=True)
    def ours(z: jax.Array, kernel: jax.Array) -> tuple[jax.Array, jax.Array]:
        found = semantic.consistency_bound(z, state, kernel, **options)
        return jnp.sum(found), found

    (_, found), slope = jax.jit(ours)(z, kernel)
    expected = np.array([held(row, sigma, kernel, 0.6) for row in z])
    assert_close(found, expected, jnp.float64)
    p, own = np.exp(z) / np.exp(z).sum(1, keepdims=True), sigma[np.argmax(z, 1)]
    assert_close(slope, with_fixed_predictions(z, kernel, p, own), jnp.float64)


def test_the_consistency_bound_is_one() -> None:
    """Eq. (14) by 4000 draws is below, and without spread both are the predictions' entropy."""
    state, (z, kernel) = known("full"), draw()
    sigma, rng = matrices(state, C, None), np.random.default_rng(0)
    find = jax.jit(semantic.consistency_bound)
    found, still = (find(z, state, kernel, strength=strength) for strength in (0.5, 0.0))
    for i in range(B):
        p = np.exp(z[i] - log_sum_exp(z[i]))
        moves = rng.multivariate_normal(np.zeros(A), 0.5 * sigma[np.argmax(p)], 4000)
        moved = z[i] + moves @ kernel
        losses = np.log(np.exp(moved).sum(1)) - moved @ p
        assert found[i] >= losses.mean() - 4 * losses.std() / np.sqrt(4000)
        np.testing.assert_allclose(still[i], -np.sum(p * np.log(p)), rtol=1e-10)


# Devices.

MESH = jax.make_mesh((4,), ("data",), (jax.sharding.AxisType.Auto,), devices=jax.devices()[:4])
DATA, EVERYWHERE = PartitionSpec("data"), PartitionSpec()
Objective = Callable[..., tuple[jax.Array, Any]]


def objective(axis_name: str | None, mapped: bool, shrinkage: float | None) -> Objective:
    options: dict[str, Any] = {"shrinkage": shrinkage, "axis_name": axis_name}

    def total(kernel: jax.Array, z: jax.Array, label: jax.Array, state: Any) -> jax.Array:
        table = semantic.differences(state, kernel, label, **options)
        bounds = semantic.upper_bound(z, label, 0.25 * table)
        apart = semantic.consistency_bound(z, state, kernel, strength=0.5, **options)
        mean = jnp.mean(bounds + 2 * apart)
        return jax.lax.pmean(mean, axis_name) if mapped and axis_name else mean

    return jax.value_and_grad(total, argnums=(0, 1))


def by_shard_map(arguments: Any, shrinkage: float | None, split: bool) -> Any:
    where = statistics.places(arguments[3], "data") if split else EVERYWHERE
    run = jax.shard_map(
        objective("data", True, shrinkage),
        mesh=MESH,
        in_specs=(EVERYWHERE, DATA, DATA, where),
        out_specs=(EVERYWHERE, (EVERYWHERE, DATA)),
    )
    return jax.jit(run)(*arguments)


def by_set_mesh(arguments: Any, shrinkage: float | None) -> Any:
    kernel, z, label, state = arguments
    split = jax.tree.map(lambda p: NamedSharding(MESH, p), statistics.places(state, "data"))
    z, label = jax.device_put((z, label), NamedSharding(MESH, DATA))
    with jax.set_mesh(MESH):
        run = jax.jit(objective("data", False, shrinkage))
        return run(kernel, z, label, jax.device_put(state, split))


@pytest.mark.parametrize(
    ("way", "kind", "shrinkage"),
    [
        ("shard_map", "full", 0.3),
        pytest.param("shard_map", "shared", None, marks=pytest.mark.slow),
        ("shard_map", "identity", None),
        pytest.param("shard_map, split", "full", 0.3, marks=pytest.mark.slow),
        ("shard_map, split", "low_rank", None),
        ("jit, split", "full", 0.3),
        pytest.param("jit, split", "diagonal", None, marks=pytest.mark.slow),
        pytest.param("jit, split", "shared", None, marks=pytest.mark.slow),
    ],
)
def test_devices_equal_one(way: str, kind: str, shrinkage: float | None) -> None:
    """Some have classes that do not occur, or no soft labels, and none waits for another."""
    state, (z, kernel) = known(kind, pooled=shrinkage is not None), draw()
    label = np.eye(C)[np.arange(B) % 3]  # those of the first two devices
    label[0] = np.full(C, 1 / C) * (np.arange(C) < 3)
    arguments = jax.tree.map(jnp.asarray, (kernel, z, label, state))
    expected = jax.jit(objective(None, False, shrinkage))(*arguments)
    if way == "jit, split":
        found = by_set_mesh(arguments, shrinkage)
    else:
        found = by_shard_map(arguments, shrinkage, "split" in way)
    assert_close(found, expected, jnp.float64)


@pytest.mark.parametrize("devices", [1, 8])
def test_a_device_may_keep_one_class_or_all(devices: int) -> None:
    mesh = jax.make_mesh((devices,), ("data",), MESH.axis_types, devices=jax.devices()[:devices])
    state, (z, kernel) = known("full", pooled=True), draw()
    arguments = jax.tree.map(jnp.asarray, (kernel, z, labels("mixed"), state))
    run = jax.shard_map(
        objective("data", True, 0.3),
        mesh=mesh,
        in_specs=(EVERYWHERE, DATA, DATA, statistics.places(state, "data")),
        out_specs=(EVERYWHERE, (EVERYWHERE, DATA)),
    )
    expected = jax.jit(objective(None, False, 0.3))(*arguments)
    assert_close(jax.jit(run)(*arguments), expected, jnp.float64)
