"""The metrics against NumPy in float64: explicit Jacobians and SVDs, sums written out by hand.

Covers `regjax/gradient/norms.py` too.
"""

import math
from collections.abc import Callable, Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params
from jax.sharding import PartitionSpec as P
from jax.test_util import check_grads
from support import assert_finite

from regjax import metrics

EXACT = {"rtol": 1e-10, "atol": 1e-10}
B, C, D, H = 8, 5, 7, 6
SUMMARIES = (
    metrics.accuracy,
    metrics.negative_log_likelihood,
    metrics.expected_calibration_error,
)


@pytest.fixture
def x64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def softmax(g: np.ndarray) -> np.ndarray:
    e = np.exp(g - g.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def data(seed: int = 0, n: int = B) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits, soft labels, weights with padding."""
    rng = np.random.default_rng(seed)
    weight = rng.uniform(0.5, 2.0, n)
    weight[1::4] = 0
    return 2 * rng.normal(size=(n, C)), softmax(3 * rng.normal(size=(n, C))), weight


def mlp(seed: int = 1) -> tuple[dict[str, np.ndarray], np.ndarray]:
    rng = np.random.default_rng(seed)
    params = {
        "a": rng.normal(size=(D, H)) / math.sqrt(D),
        "b": 0.1 * rng.normal(size=H),
        "c": 2 * rng.normal(size=(H, C)) / math.sqrt(H),
    }
    return params, rng.normal(size=(B, D))


def probabilities(params: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    bias = jnp.broadcast_to(params["b"], (x.shape[0], H))
    return jax.nn.softmax(jnp.tanh(x @ params["a"] + bias) @ params["c"])


def mlp_jacobians(params: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    """`[B, C, D]`, by the chain rule, one example at a time."""
    rows = []
    for example in x:
        h = np.tanh(example @ params["a"] + params["b"])
        p = softmax(h @ params["c"])
        inner = params["c"].T @ np.diag(1 - h**2) @ params["a"].T
        rows.append((np.diag(p) - np.outer(p, p)) @ inner)
    return np.stack(rows)


def sizes(jaxpr) -> Iterator[int]:
    """Number of entries of every intermediate array, inner programs included."""
    for equation in jaxpr.eqns:
        for value in equation.outvars:
            yield math.prod(value.aval.shape)
        for inner in jaxprs_in_params(equation.params):
            yield from sizes(inner)


# Accuracy, likelihood, calibration.


def test_summaries_against_loops(x64):
    logits, label, weight = data(n=40)
    p, total = softmax(logits), weight.sum()
    right, nll, bins = 0.0, 0.0, np.zeros((4, 3))
    for g, y, f, w in zip(logits, label, p, weight, strict=True):
        hit = float(g.tolist().index(max(g)) == y.tolist().index(max(y)))
        right += w * hit
        nll -= w * sum(a * math.log(b) for a, b in zip(y, f, strict=True))
        for m in range(4):
            if m / 4 < max(f) <= (m + 1) / 4:
                bins[m] += w, w * hit, w * max(f)
    ece = sum(n / total * abs(a / n - c / n) for n, a, c in bins if n)
    for function, expected in (
        (metrics.accuracy, right / total),
        (metrics.negative_log_likelihood, nll / total),
        (partial(metrics.expected_calibration_error, bins=4), ece),
    ):
        np.testing.assert_allclose(function(logits, label, weight=weight), expected, **EXACT)


def test_calibration_by_hand(x64):
    p = np.array([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [1.0, 0.0]])
    label = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
    with np.errstate(divide="ignore"):
        logits = np.log(p)
    # Two bins: all four lie in (0.5, 1]: |3/4 - 3.3/4|.
    np.testing.assert_allclose(
        metrics.expected_calibration_error(logits, label, bins=2), 0.075, **EXACT
    )
    # Ten bins: 0.9, 0.8, 0.6 and 1.0 each alone: (0.1 + 0.8 + 0.4 + 0) / 4.
    np.testing.assert_allclose(
        metrics.expected_calibration_error(logits, label, bins=10), 0.325, **EXACT
    )


def test_many_examples_are_summed_without_drift():
    # All are right and sure by softmax((0.7, 0))_0: one bin, whose sum float32 would lose.
    count = 200_000
    logits = np.tile(np.array([0.7, 0.0], np.float32), (count, 1))
    label = np.tile(np.array([1.0, 0.0], np.float32), (count, 1))
    confidence = 1 / (1 + math.exp(-float(logits[0, 0])))
    error = metrics.expected_calibration_error(logits, label)
    np.testing.assert_allclose(error, 1 - confidence, rtol=1e-6)
    nll = metrics.negative_log_likelihood(logits, label)
    np.testing.assert_allclose(nll, -math.log(confidence), rtol=1e-6)


@pytest.mark.parametrize("function", SUMMARIES)
@pytest.mark.parametrize("number", [-1, 255])
def test_an_example_without_a_label_does_not_count(function: Callable, number: int):
    logits, label, weight = data()
    label[2] = jax.nn.one_hot(number, C)
    left = np.delete(np.arange(len(logits)), 2)
    for given in (np.ones_like(weight), weight):
        kept = function(logits[left], label[left], weight=given[left])
        np.testing.assert_allclose(function(logits, label, weight=given), kept, rtol=1e-6)
    assert np.isnan(metrics.score(logits, label)).tolist() == [i == 2 for i in range(len(logits))]


def test_a_bin_holds_its_upper_edge(x64):
    # Confidence 0.5 (wrong) lies in (0, 0.5], 0.75 (right) in (0.5, 1]: (0.5 + 0.25) / 2.
    logits = np.array([[0.0, 0.0], [math.log(3), 0.0]])
    value = metrics.expected_calibration_error(logits, np.eye(2)[[1, 0]], bins=2)
    np.testing.assert_allclose(value, 0.375, **EXACT)


def test_hard_labels_equal_the_gathered_log_probability(x64):
    logits, _, _ = data()
    classes = np.arange(B) % C
    expected = -np.mean([math.log(f[c]) for f, c in zip(softmax(logits), classes, strict=True)])
    value = metrics.negative_log_likelihood(logits, np.eye(C)[classes])
    np.testing.assert_allclose(value, expected, **EXACT)


def test_first_of_tied_classes_counts_and_nan_is_wrong():
    label = jnp.eye(3)
    assert metrics.accuracy(jnp.zeros((3, 3)), label) == pytest.approx(1 / 3)
    assert metrics.accuracy(jnp.full((3, 3), jnp.nan), label) == 0
    assert metrics.accuracy(label, jnp.full((3, 3), 1 / 3)) == pytest.approx(1 / 3)


@pytest.mark.parametrize("function", SUMMARIES)
def test_padding_is_ignored(function: Callable):
    logits, label, weight = map(jnp.float32, data())
    kept = np.flatnonzero(weight)
    padded = jnp.where((weight == 0)[:, None], jnp.nan, logits)
    expected = function(logits[kept], label[kept], weight=weight[kept])
    np.testing.assert_allclose(function(padded, label, weight=weight), expected, rtol=1e-6)
    np.testing.assert_allclose(
        function(logits, label, weight=weight > 0), function(logits[kept], label[kept]), rtol=1e-6
    )
    np.testing.assert_array_equal(function(logits, label, weight=jnp.zeros(B)), 0.0)
    np.testing.assert_array_equal(function(logits[:0], label[:0]), 0.0)


@pytest.mark.parametrize("function", SUMMARIES)
def test_summaries_do_not_depend_on_order_or_compilation(function: Callable):
    logits, label, weight = map(jnp.float32, data(n=33))
    value = function(logits, label, weight=weight)
    order = np.random.default_rng(3).permutation(33)
    shuffled = function(logits[order], label[order], weight=weight[order])
    np.testing.assert_allclose(shuffled, value, rtol=1e-5)
    np.testing.assert_allclose(jax.jit(function)(logits, label, weight=weight), value, rtol=1e-6)
    stacked = jax.vmap(function)(logits.reshape(3, 11, C), label.reshape(3, 11, C))
    looped = [function(logits[i : i + 11], label[i : i + 11]) for i in (0, 11, 22)]
    np.testing.assert_allclose(stacked, jnp.stack(looped), rtol=1e-5)


@pytest.mark.parametrize("function", [*SUMMARIES, metrics.score])
def test_bfloat16_gives_float32_and_extremes_stay_finite(function: Callable):
    logits = 1e4 * jnp.eye(C) - 1e4 * jnp.eye(C)[::-1]
    for dtype in (jnp.bfloat16, jnp.float16, jnp.float32):
        value = function(logits.astype(dtype), jnp.eye(C, dtype=dtype))
        assert value.dtype == jnp.float32
        assert_finite(value)
    derivative = jax.grad(lambda g: jnp.sum(function(g, jnp.eye(C))))(logits)
    assert_finite(derivative)


def test_likelihood_at_extremes():
    far = jnp.array([[1e4, -1e4]])
    np.testing.assert_allclose(
        metrics.negative_log_likelihood(far, jnp.array([[0.0, 1.0]])), 2e4, rtol=1e-6
    )
    closed = jnp.array([[0.0, 0.0, -jnp.inf]])  # a class ruled out
    nll = partial(metrics.negative_log_likelihood, label=jnp.array([[1.0, 0.0, 0.0]]))
    np.testing.assert_allclose(nll(closed), math.log(2), rtol=1e-6)
    np.testing.assert_allclose(jax.grad(nll)(closed), [[-0.5, 0.5, 0.0]], rtol=1e-6)


# Score and margin.


def test_score_against_a_loop(x64):
    logits, label, _ = data()
    expected = []
    for g, y in zip(logits, label, strict=True):
        f, true = softmax(g), int(np.argmax(y))
        expected.append(min(math.sqrt(2) * (f[true] - f[j]) for j in range(C) if j != true))
    assert min(expected) < 0 < max(expected)
    value = metrics.score(logits, label)
    np.testing.assert_allclose(value, expected, **EXACT)
    np.testing.assert_allclose(jax.jit(metrics.score)(logits, label), value, **EXACT)
    stacked = jax.vmap(metrics.score)(logits[:, None], label[:, None])
    np.testing.assert_allclose(stacked[:, 0], value, **EXACT)


def test_margin_bound_holds_for_a_linear_classifier(x64):
    # Its exact margin is the distance to the nearest plane, and 1/2 the largest norm of
    # diag(p) - pp', so that ||W|| / 2 bounds the Jacobian everywhere.
    rng = np.random.default_rng(5)
    kernel, x = rng.normal(size=(D, C)), rng.normal(size=(200, D))
    logits = x @ kernel
    true = logits.argmax(-1)
    gaps = np.array(
        [
            min(
                (g[y] - g[j]) / np.linalg.norm(kernel[:, y] - kernel[:, j])
                for j in range(C)
                if j != y
            )
            for g, y in zip(logits, true, strict=True)
        ]
    )
    norm = np.full(200, np.linalg.svd(kernel, compute_uv=False)[0] / 2)
    bound = metrics.margin_lower_bound(metrics.score(logits, np.eye(C)[true]), norm)
    assert np.all(bound > 0)
    assert np.all(bound <= gaps)


def test_equation_54_as_printed_is_no_bound(x64):
    # f = (sigmoid(x), sigmoid(-x)): the margin is |x| and the steepest point of the ball is 0.
    x = np.array([0.01, 0.1])
    score = metrics.score(np.stack([x, np.zeros(2)], -1), np.eye(2)[[0, 0]])
    steepest = np.full(2, math.sqrt(2) / 4)
    assert np.all(np.asarray(score) / steepest > 1.9 * x)
    bound = metrics.margin_lower_bound(score, steepest)
    assert np.all(bound <= x)
    np.testing.assert_allclose(bound, x, rtol=1e-3)  # and no smaller factor than 2 would do


def test_margin_bound_at_its_edges():
    score = jnp.array([0.5, 0.5, 0.0, -0.5, -0.5, jnp.nan, 0.5])
    norm = jnp.array([0.25, 0.0, 0.0, 0.0, 0.25, 0.25, jnp.nan])
    np.testing.assert_array_equal(
        metrics.margin_lower_bound(score, norm), [1.0, jnp.inf, 0, 0, 0, jnp.nan, jnp.nan]
    )
    total = lambda s, n: jnp.sum(metrics.margin_lower_bound(s, n))  # noqa: E731
    assert_finite(jax.grad(total, argnums=(0, 1))(score[:5], norm[:5]))
    half = metrics.margin_lower_bound(score.astype(jnp.bfloat16), norm.astype(jnp.bfloat16))
    assert half.dtype == jnp.float32


# Norms of the Jacobian.


def test_norms_against_svd(x64):
    params, x = mlp()
    function = partial(probabilities, params)
    singular = np.linalg.svd(mlp_jacobians(params, x), compute_uv=False)
    spectral = metrics.jacobian_spectral_norm(function, x, iterations=500)
    frobenius = metrics.jacobian_frobenius_norm(function, x)
    np.testing.assert_allclose(spectral, singular[:, 0], **EXACT)
    np.testing.assert_allclose(frobenius, np.sqrt((singular**2).sum(-1)), **EXACT)
    # Eq. 55; the probabilities sum to 1, which costs one rank.
    assert np.all(frobenius**2 / (C - 1) <= spectral**2)
    assert np.all(spectral**2 <= frobenius**2)


def test_norms_of_a_linear_softmax_model(x64):
    rng = np.random.default_rng(2)
    kernel, x = rng.normal(size=(D, C)), rng.normal(size=(B, D))
    jacobians = [(np.diag(p) - np.outer(p, p)) @ kernel.T for p in softmax(x @ kernel)]
    # Images, too: any shape of example will do.
    function = lambda image: jax.nn.softmax(image.reshape(-1, D) @ kernel)  # noqa: E731
    image = x.reshape(B, 1, D, 1)
    np.testing.assert_allclose(
        metrics.jacobian_spectral_norm(function, image, iterations=500),
        [np.linalg.norm(j, 2) for j in jacobians],
        **EXACT,
    )
    np.testing.assert_allclose(
        metrics.jacobian_frobenius_norm(function, image),
        [np.linalg.norm(j) for j in jacobians],
        **EXACT,
    )


def test_default_iterations_reach_a_thousandth(x64):
    for seed in range(5):
        params, x = mlp(seed)
        expected = np.linalg.norm(mlp_jacobians(params, x), 2, axis=(1, 2))
        for key in (None, jax.random.key(seed + 1)):
            value = metrics.jacobian_spectral_norm(partial(probabilities, params), x, key=key)
            assert np.all(value <= expected * (1 + 1e-12))
            np.testing.assert_allclose(value, expected, rtol=1e-3)


def test_gradient_of_norms_for_a_linear_function(x64):
    kernel = jnp.asarray(np.random.default_rng(4).normal(size=(D, C)))
    left, _, right = np.linalg.svd(kernel)
    for norm, expected in (
        (partial(metrics.jacobian_spectral_norm, iterations=500), np.outer(left[:, 0], right[0])),
        (metrics.jacobian_frobenius_norm, kernel / np.linalg.norm(kernel)),
    ):
        value = lambda w: norm(lambda x: x @ w, jnp.ones((1, D)))[0]  # noqa: B023, E731
        np.testing.assert_allclose(jax.grad(value)(kernel), expected, **EXACT)


@pytest.mark.parametrize("order", [2, "fro"])
def test_gradient_of_norms_against_finite_differences(x64, order):
    params, x = mlp()

    def value(p: dict[str, jax.Array], x: jax.Array) -> jax.Array:
        function = partial(probabilities, p)
        if order == 2:
            return jnp.sum(metrics.jacobian_spectral_norm(function, x, iterations=500))
        return jnp.sum(metrics.jacobian_frobenius_norm(function, x))

    def oracle(p: dict[str, np.ndarray], x: np.ndarray) -> float:
        return np.linalg.norm(mlp_jacobians(p, x), order, axis=(1, 2)).sum()

    exact = jax.jit(jax.grad(value, argnums=(0, 1)))(jax.tree.map(jnp.asarray, params), x)
    rng = np.random.default_rng(6)
    for _ in range(3):
        dp, dx = {k: rng.normal(size=v.shape) for k, v in params.items()}, rng.normal(size=x.shape)
        shift = lambda t: oracle({k: params[k] + t * dp[k] for k in params}, x + t * dx)  # noqa: B023, E731
        slope = (shift(1e-5) - shift(-1e-5)) / 2e-5
        inner = sum(np.vdot(exact[0][k], dp[k]) for k in params) + np.vdot(exact[1], dx)
        np.testing.assert_allclose(inner, slope, rtol=1e-7)


def test_frobenius_differentiates_twice(x64):
    params, x = mlp()
    f = lambda x: metrics.jacobian_frobenius_norm(partial(probabilities, params), x)  # noqa: E731
    check_grads(jax.jit(f), (jnp.asarray(x[:1]),), order=2, modes=["rev"])


@pytest.mark.parametrize("norm", [metrics.jacobian_spectral_norm, metrics.jacobian_frobenius_norm])
class TestBothNorms:
    def test_zero_jacobian(self, norm: Callable):
        def value(w: jax.Array) -> jax.Array:
            return jnp.sum(norm(lambda x: jax.nn.softmax(x @ w), jnp.ones((2, D))))

        value, derivative = jax.value_and_grad(value)(jnp.zeros((D, C)))
        assert value == 0
        assert_finite(derivative)

    def test_logits_of_10000(self, norm: Callable):
        x = jnp.eye(C)
        value, derivative = jax.value_and_grad(
            lambda s: jnp.sum(norm(lambda x: jax.nn.softmax(s * x), x))
        )(1e4)
        assert value == 0
        assert derivative == 0

    @pytest.mark.parametrize("scale", [1e-30, 1e30])
    def test_squares_neither_vanish_nor_overflow(self, norm: Callable, scale: float):
        value = norm(lambda x: scale * x, jnp.ones((2, 1)))
        np.testing.assert_allclose(value, [scale, scale], rtol=1e-5)

    def test_order_size_and_compilation(self, norm: Callable):
        params, x = jax.tree.map(jnp.float32, mlp())
        measure = lambda x: norm(partial(probabilities, params), x)  # noqa: E731
        value, order = measure(x), np.random.default_rng(3).permutation(B)
        compiled = jax.jit(measure)
        np.testing.assert_allclose(compiled(x[order]), value[order], rtol=1e-5)
        np.testing.assert_allclose(compiled(x), value, rtol=1e-5)
        looped = jnp.concatenate([compiled(x[i : i + 1]) for i in range(B)])
        np.testing.assert_allclose(looped, value, rtol=1e-5)
        stacked = jax.jit(jax.vmap(measure))(x[:, None])
        np.testing.assert_allclose(stacked[:, 0], value, rtol=1e-5)

    def test_over_devices(self, norm: Callable):
        params, x = jax.tree.map(jnp.float32, mlp())
        measure = lambda x: norm(partial(probabilities, params), x)  # noqa: E731
        mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
        mapped = jax.shard_map(measure, mesh=mesh, in_specs=P("data"), out_specs=P("data"))
        np.testing.assert_allclose(jax.jit(mapped)(x), measure(x), rtol=1e-5)
        sharded = jax.device_put(x, jax.sharding.NamedSharding(mesh, P("data")))
        np.testing.assert_allclose(jax.jit(measure)(sharded), measure(x), rtol=1e-5)

    def test_bfloat16_gives_float32(self, norm: Callable):
        params, x = jax.tree.map(jnp.bfloat16, mlp())
        value = norm(partial(probabilities, params), x)
        assert value.dtype == jnp.float32
        wide = jax.tree.map(jnp.float32, (params, x))
        np.testing.assert_allclose(value, norm(partial(probabilities, wide[0]), wide[1]), rtol=0.1)

    def test_a_reverse_rule_is_enough(self, norm: Callable):
        @jax.custom_vjp
        def cube(x: jax.Array) -> jax.Array:
            return x**3

        cube.defvjp(lambda x: (cube(x), x), lambda x, g: (3 * x**2 * g,))
        x = jnp.array([[2.0], [1.0]])
        np.testing.assert_allclose(norm(cube, x), [12.0, 3.0], rtol=1e-5)

    def test_no_jacobian_is_stored(self, norm: Callable):
        wide = 1000
        w = jnp.ones((wide, C)) / wide

        def value(w: jax.Array) -> jax.Array:
            return jnp.sum(norm(lambda x: jax.nn.softmax(x**2 @ w), jnp.ones((B, wide))))

        for function in (value, jax.grad(value)):
            assert max(sizes(jax.make_jaxpr(function)(w).jaxpr)) <= B * wide

    def test_errors(self, norm: Callable):
        x = jnp.ones((2, 3))
        with pytest.raises(TypeError, match=r"x must be floating .* got int32 \(2, 3\)"):
            norm(lambda x: x, jnp.ones((2, 3), jnp.int32))
        with pytest.raises(TypeError, match="x must be floating with a batch axis"):
            norm(lambda x: x, jnp.float32(1))
        with pytest.raises(TypeError, match="one floating array"):
            norm(lambda x: (x, x), x)
        with pytest.raises(TypeError, match="one floating array"):
            norm(lambda x: x.astype(jnp.int32), x)
        for wrong in (jnp.sum, lambda x: x[:, 0], lambda x: x.T):
            with pytest.raises(ValueError, match=r"must return \[B, C\] with B = 2"):
                norm(wrong, x)


# Errors.


@pytest.mark.parametrize("function", [*SUMMARIES, metrics.score])
def test_errors_of_labels_and_shapes(function: Callable):
    logits = jnp.zeros((4, 3))
    for call in (function, jax.jit(function)):
        with pytest.raises(TypeError, match=r"probabilities \[B, C\], got int32 \(4,\).*one_hot"):
            call(logits, jnp.zeros(4, jnp.int32))
        with pytest.raises(TypeError, match="logits must be real numbers"):
            call(jnp.zeros((4, 3), jnp.int32), logits)
        with pytest.raises(ValueError, match=r"got \(4, 3\) and \(4,\)"):
            call(logits, jnp.zeros(4))
        with pytest.raises(ValueError, match=r"got \(4, 3\) and \(4, 2\)"):
            call(logits, jnp.zeros((4, 2)))
        with pytest.raises(ValueError, match=r"got \(3,\) and \(3,\)"):
            call(logits[0], logits[0])
    if function in SUMMARIES:
        with pytest.raises(ValueError, match=r"weight must be \[B\] with B = 4, got \(4, 1\)"):
            function(logits, logits, weight=jnp.ones((4, 1)))


def test_errors_of_numbers():
    logits = jnp.zeros((4, 3))
    with pytest.raises(TypeError, match=r"bins must be a Python integer, got 1\.5"):
        metrics.expected_calibration_error(logits, logits, bins=1.5)
    with pytest.raises(ValueError, match="bins must be at least 1, got 0"):
        metrics.expected_calibration_error(logits, logits, bins=0)
    with pytest.raises(ValueError, match="iterations must be at least 1, got 0"):
        metrics.jacobian_spectral_norm(lambda x: x, logits, iterations=0)
    with pytest.raises(ValueError, match="at least two classes"):
        metrics.score(logits[:, :1], logits[:, :1])
    with pytest.raises(ValueError, match=r"both be \[B\], got \(4,\) and \(3,\)"):
        metrics.margin_lower_bound(jnp.zeros(4), jnp.zeros(3))
