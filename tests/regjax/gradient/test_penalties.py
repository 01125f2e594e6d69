"""Input-gradient penalties against closed forms, Jacobians written by hand, and their own means.

Covers `traces.py` and `eager.py` too.
"""

import functools
import itertools
from collections.abc import Callable, Iterator
from statistics import NormalDist
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.datasets import load_digits
from support import assert_finite, assert_same

import regjax as rj
from regjax.core.keys import named_key
from regjax.gradient import penalties as gradient

EXACT = {"rtol": 1e-10, "atol": 1e-10}
B, C, D, H = 6, 4, 5, 3
PROBED = ("jacobian", "frobenius", "hessian_frobenius")
EVERY = ("double_backprop", *PROBED)
Arrays = dict[str, Any]


@pytest.fixture
def x64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


# The networks, in JAX.


def linear(params: Arrays, x: jax.Array) -> jax.Array:
    return x @ params["W"] + params["b"][None]


def tanh_mlp(params: Arrays, x: jax.Array) -> jax.Array:
    return jnp.tanh(x @ params["A"] + params["a"][None]) @ params["W"] + params["b"][None]


def softplus_mlp(params: Arrays, x: jax.Array) -> jax.Array:
    h = jax.nn.softplus(x @ params["A"] + params["a"][None])
    return h @ params["W"] + params["b"][None]


def evaluate(
    loss: rj.Loss, forward: rj.Forward, batch: rj.Batch, key: jax.Array | None = None
) -> rj.Result:
    key = jax.random.key(0) if key is None else key
    return loss.apply(loss.init(forward, batch), forward, batch, key)[0]


def penalty(
    name: str, fn: Any, batch: rj.Batch, **arguments: Any
) -> Callable[[Any, jax.Array | None], jax.Array]:
    """`(params, key) -> [B]`, the unweighted term, given weight 2 and taken back."""
    loss = getattr(rj, name)(rj.cross_entropy(), weight=2.0, **arguments)

    def term(params: Any, key: jax.Array | None = None) -> jax.Array:
        result = evaluate(loss, rj.from_function(fn, params), batch, key)
        return result.penalties[name] / 2

    return term


def values_and_slopes(term: Any) -> Any:
    """`params -> (the term [B], the parameter gradient of its mean)`, compiled."""

    def mean(params: Any) -> tuple[jax.Array, jax.Array]:
        values = term(params)
        return values.mean(), values

    def both(params: Any) -> tuple[jax.Array, Any]:
        (_, values), slope = jax.value_and_grad(mean, has_aux=True)(params)
        return values, slope

    return jax.jit(both)


# The same in NumPy: everything built out in full, example by example. Complex numbers pass through,
# so that gradients with respect to the parameters follow by complex steps.


def assert_measured(penalty: jax.Array, examples: Any) -> None:
    """Compares a penalty with its oracle `[B]`; an exact norm is the mean over the batch."""
    expected = examples if penalty.ndim else examples.mean()
    np.testing.assert_allclose(penalty, expected, **EXACT)


def softmax(g: np.ndarray) -> np.ndarray:
    e = np.exp(g - g.real.max())
    return e / e.sum()


def hessian(p: np.ndarray) -> np.ndarray:
    """The matrix of the thesis, section 6.1, entry by entry."""
    h = np.zeros((len(p), len(p)), p.dtype)
    for i, j in itertools.product(range(len(p)), repeat=2):
        h[i, j] = p[i] - p[i] ** 2 if i == j else -p[i] * p[j]
    return h


def linear_by_hand(params: Arrays, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logits [C] and their Jacobian [C, D] at one example."""
    return params["b"] + params["W"].T @ x, params["W"].T


def tanh_by_hand(params: Arrays, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    h = np.tanh(params["A"].T @ x + params["a"])
    return params["W"].T @ h + params["b"], params["W"].T @ np.diag(1 - h * h) @ params["A"].T


def by_hand(name: str, network: Any, params: Arrays, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The term at one example, eqs. (49), (50), (56), (63)."""
    logits, jacobian = network(params, x)
    p = softmax(logits)
    if name == "double_backprop":
        return np.sum((jacobian.T @ (y.sum() * p - y)) ** 2)
    if name == "jacobian":
        return np.sum((hessian(p) @ jacobian) ** 2)
    if name == "frobenius":
        return np.sum(jacobian**2)
    return np.trace(jacobian.T @ hessian(p) @ jacobian)


def complex_step(function: Any, params: Arrays) -> Arrays:
    """The gradient of a real analytic function, exact to rounding."""
    gradients = {}
    for name, array in params.items():
        gradients[name] = np.zeros_like(array)
        for place in np.ndindex(array.shape):
            moved = array.astype(complex)
            moved[place] += 1e-30j
            gradients[name][place] = function({**params, name: moved}).imag / 1e-30
    return gradients


def draw(seed: int = 0, hidden: bool = False) -> tuple[Arrays, rj.Batch]:
    """Parameters and a batch with soft and hard labels, NumPy float64."""
    rng = np.random.default_rng(seed)
    params = {"b": rng.normal(size=C), "W": rng.normal(size=(H if hidden else D, C))}
    if hidden:
        params |= {"a": rng.normal(size=H), "A": rng.normal(size=(D, H))}
    label = rng.dirichlet(np.ones(C), size=B)
    label[::2] = np.eye(C)[rng.integers(C, size=(B + 1) // 2)]
    return params, rj.Batch(rng.normal(size=(B, D)), label)


NETWORKS = {"linear": (linear, linear_by_hand), "tanh": (tanh_mlp, tanh_by_hand)}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize(
    ("name", "power"), [*((name, 1) for name in EVERY), ("hessian_frobenius", 2)]
)
def test_values_and_parameter_gradients_are_those_written_by_hand(
    name: str, power: int, network: str
) -> None:
    in_jax, in_numpy = NETWORKS[network]
    params, batch = draw(hidden=network == "tanh")
    term = penalty(name, in_jax, batch, **({"power": 2} if power == 2 else {}))

    def oracle(params: Arrays) -> np.ndarray:
        examples = zip(batch.image, batch.label, strict=True)
        return np.array([by_hand(name, in_numpy, params, x, y) ** power for x, y in examples])

    values, gradients = values_and_slopes(term)(params)
    assert_measured(values, oracle(params))
    expected = complex_step(lambda params: oracle(params).mean(), params)
    chex.assert_trees_all_close(gradients, expected, **EXACT)


def closed_form(name: str, params: Arrays, x: np.ndarray, y: np.ndarray) -> tuple[Any, Any, Any]:
    """Of a linear-softmax model at one example: the term and its gradients to W and to the logits.

    With r = p - y, M = W'W and t = Tr(M H): the term as a function of W, and of p, and p's own
    derivative H.
    """
    W = params["W"]
    p = softmax(params["b"] + W.T @ x)
    r, m, h = p - y, W.T @ W, hessian(p)
    if name == "double_backprop":
        return r @ m @ r, 2 * np.outer(W @ r, r), h @ (2 * m @ r)
    if name == "frobenius":
        return np.trace(m), 2 * W, np.zeros(C)
    if name == "jacobian":
        g = m @ h + h @ m
        return np.trace(m @ h @ h), 2 * W @ h @ h, h @ (np.diag(g) - 2 * g @ p)
    return np.trace(m @ h), 2 * W @ h, h @ (np.diag(m) - 2 * m @ p)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", EVERY)
def test_a_linear_model_has_the_closed_forms(name: str) -> None:
    params, batch = draw(seed=1)
    term = penalty(name, linear, batch)
    examples = list(zip(batch.image, batch.label, strict=True))
    expected = [closed_form(name, params, x, y) for x, y in examples]
    values, gradients = values_and_slopes(term)(params)
    assert_measured(values, np.array([value for value, _, _ in expected]))
    kernel = [w + np.outer(x, g) for (_, w, g), (x, _) in zip(expected, examples, strict=True)]
    np.testing.assert_allclose(gradients["W"], np.mean(kernel, 0), **EXACT)
    np.testing.assert_allclose(gradients["b"], np.mean([g for _, _, g in expected], 0), **EXACT)


@pytest.mark.usefixtures("x64")
def test_two_classes_are_logistic_regression() -> None:
    w, b, x, y = np.array([[1.0], [-2.0]]), 0.3, np.array([[0.5, 0.7]]), np.array([[0.2, 0.8]])
    params = {"W": np.hstack([0 * w, w]), "b": np.array([0.0, b])}
    q, norm = 1 / (1 + np.exp(-(x @ w + b).item())), np.sum(w**2)
    expected = {
        "double_backprop": (q - 0.8) ** 2 * norm,
        "jacobian": 2 * (q * (1 - q)) ** 2 * norm,
        "frobenius": norm,
        "hessian_frobenius": q * (1 - q) * norm,
    }
    for name, value in expected.items():
        assert_measured(penalty(name, linear, rj.Batch(x, y))(params), np.array([value]))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("power", [1, 2])
def test_hsfob_db_is_its_two_terms_side_by_side(power: int) -> None:
    params, batch = draw(hidden=True)
    loss = rj.hessian_frobenius(rj.cross_entropy(), weight=0.3, power=power)
    loss = rj.double_backprop(loss, weight=0.3)
    result = evaluate(loss, rj.from_function(tanh_mlp, params), batch)
    expected = [
        by_hand("hessian_frobenius", tanh_by_hand, params, x, y) ** power
        + by_hand("double_backprop", tanh_by_hand, params, x, y)
        for x, y in zip(batch.image, batch.label, strict=True)
    ]
    added = rj.total(result, batch) - result.losses.mean()
    np.testing.assert_allclose(added, 0.3 * np.mean(expected), **EXACT)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("shape", [(6,), (3, 2, 1), (1, 3, 2, 1)])
@pytest.mark.parametrize("probes", [None, 2])
@pytest.mark.parametrize("name", EVERY)
def test_the_rank_of_the_image_does_not_matter(name: str, probes: int | None, shape: Any) -> None:
    rng = np.random.default_rng(0)
    params = {"W": rng.normal(size=(6, C)), "b": rng.normal(size=C)}
    image, label = rng.normal(size=(B, 6)), rng.dirichlet(np.ones(C), size=B)
    arguments = {} if name == "double_backprop" else {"probes": probes}

    def flattened(params: Arrays, x: jax.Array) -> jax.Array:
        return linear(params, x.reshape(len(x), -1))

    flat = penalty(name, linear, rj.Batch(image, label), **arguments)(params)
    shaped = rj.Batch(image.reshape(B, *shape), label)
    np.testing.assert_allclose(penalty(name, flattened, shaped, **arguments)(params), flat, **EXACT)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", EVERY)
def test_one_example_has_the_value_it_has_in_a_batch(name: str) -> None:
    params, batch = draw(hidden=True)
    one = rj.Batch(batch.image[2:3], batch.label[2:3], index=np.array([2]))
    arguments = {} if name == "double_backprop" else {"probes": 1}
    together = penalty(name, tanh_mlp, batch, **arguments)(params)
    alone = penalty(name, tanh_mlp, one, **arguments)(params)
    np.testing.assert_allclose(alone, together[2:3], **EXACT)


# The linear maps.


@pytest.mark.usefixtures("x64")
def test_the_factors_are_the_hessian_and_its_root() -> None:
    logits = np.random.default_rng(0).normal(size=(1, C))
    h = hessian(softmax(logits[0]))
    columns = np.broadcast_to(np.eye(C)[:, None], (C, 1, C))
    by_unit = [np.stack(list(map(f(logits), columns))) for f in FACTORS.values()]
    softmax_jacobian, root = (matrix[:, 0].T for matrix in by_unit)
    np.testing.assert_allclose(softmax_jacobian, h, **EXACT)
    np.testing.assert_allclose(root @ root.T, h, **EXACT)


FACTORS = {"jacobian": gradient.softmax_jacobian, "hessian_frobenius": gradient.hessian_root}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", FACTORS)
def test_over_all_signs_the_mean_is_exact_in_value_and_gradient(name: str) -> None:
    params, batch = draw(hidden=True)
    signs = jnp.array(list(itertools.product([-1.0, 1.0], repeat=C)))

    def mean(params: Arrays) -> jax.Array:
        logits, vjp = jax.vjp(lambda x: tanh_mlp(params, x), batch.image)
        factor = FACTORS[name](logits)
        cotangents = (factor(jnp.broadcast_to(z, (B, C))) for z in signs)
        return sum(gradient.squared_norm(vjp(c)[0]).mean() for c in cotangents) / len(signs)

    def exact(params: Arrays) -> jax.Array:
        return penalty(name, tanh_mlp, batch)(params).mean()

    estimated, expected = (jax.value_and_grad(f)(params) for f in (mean, exact))
    chex.assert_trees_all_close(estimated, expected, **EXACT)


# Statistics of the probe estimates, on a small network for digits as drawn and after training.

KEYS = 3000


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Handwritten digits at 4 x 4 pixels, [1797, 16], and one-hot labels."""
    image, label = load_digits(return_X_y=True)
    image = image.reshape(-1, 4, 2, 4, 2).mean((2, 4)).reshape(-1, 16) / 16
    return image, np.eye(10)[label]


@functools.cache
def networks() -> tuple[Arrays, rj.Batch]:
    """The parameters of both networks, stacked, [2, ...], and a batch of 4 digits."""
    image, label = digits()
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        untrained = {
            "A": rng.normal(size=(16, 10)) / 4,
            "a": np.zeros(10),
            "W": rng.normal(size=(10, 10)) / np.sqrt(10),
            "b": np.zeros(10),
        }
        trained = fit(softplus_mlp, jax.tree.map(jnp.asarray, untrained), image, label)
        correct = np.argmax(softplus_mlp(trained, image), 1) == label.argmax(1)
        assert correct.mean() > 0.9
        params = jax.tree.map(lambda *arrays: jnp.stack(arrays), untrained, trained)
        return params, rj.Batch(jnp.array(image[:4]), jnp.array(label[:4]))


def fit(fn: Any, params: Any, image: np.ndarray, label: np.ndarray) -> Any:
    """300 steps of Adam on all images."""
    optimizer = optax.adam(0.05)

    def mean_loss(params: Any) -> jax.Array:
        return optax.softmax_cross_entropy(fn(params, image), label).mean()

    def step(carry: Any, _: Any) -> tuple[Any, None]:
        params, state = carry
        updates, state = optimizer.update(jax.grad(mean_loss)(params), state)
        return (optax.apply_updates(params, updates), state), None

    run = jax.jit(lambda p: jax.lax.scan(step, (p, optimizer.init(p)), length=300)[0][0])
    return run(params)


def value_and_slope(term: Any, params: Arrays, key: jax.Array | None = None) -> jax.Array:
    """The batch mean of a term and its whole parameter gradient: [1 + P]."""
    value, slope = jax.value_and_grad(lambda params: term(params, key).mean())(params)
    return jnp.append(value, jax.flatten_util.ravel_pytree(slope)[0])


def samples(term: Any, params: Arrays) -> np.ndarray:
    """`value_and_slope` of both networks for many keys: [2, KEYS, 1 + P]."""
    keys = jax.random.split(jax.random.key(0), KEYS)
    one = jax.vmap(lambda params, key: value_and_slope(term, params, key), (None, 0))
    return np.asarray(jax.jit(jax.vmap(one, (0, None)))(params, keys))


@functools.cache
def exactly(name: str, **arguments: Any) -> np.ndarray:
    """`value_and_slope` of both networks: [2, 1 + P]."""
    params, batch = networks()
    term = penalty(name, softplus_mlp, batch, **arguments)
    return np.asarray(jax.jit(jax.vmap(lambda params: value_and_slope(term, params)))(params))


def deviations(drawn: np.ndarray, expected: np.ndarray) -> tuple[float, float]:
    """How far the mean is off: the largest entry, and the norm, both in standard errors.

    The first is divided by what the largest of so many normal deviates passes once in 1,000 times.
    The second stays below 3 as long as the mean is right.
    """
    off = drawn.mean(0) - expected
    error = drawn.std(0, ddof=1) / np.sqrt(len(drawn))
    fixed = error < 1e-13
    np.testing.assert_allclose(off[fixed], 0, atol=1e-10)
    z = np.abs(off[~fixed]) / error[~fixed]
    bound = NormalDist().inv_cdf(1 - 1e-3 / 2 / len(z))
    return z.max() / bound, np.linalg.norm(off) / np.linalg.norm(error)


VALUE, SLOPE = slice(0, 1), slice(1, None)
# The fewest probes, which deviate most, are drawn by the slow tests.
ESTIMATES = [
    *((name, {"probes": 3}) for name in PROBED),
    ("hessian_frobenius", {"power": 2, "probes": 3}),
    *(pytest.param(name, {"probes": 1}, marks=pytest.mark.slow) for name in PROBED),
    pytest.param("hessian_frobenius", {"power": 2, "probes": 2}, marks=pytest.mark.slow),
]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("name", "arguments"), ESTIMATES)
def test_probes_have_the_exact_mean_in_value_and_gradient(name: str, arguments: Arrays) -> None:
    params, batch = networks()
    power = {k: v for k, v in arguments.items() if k == "power"}
    drawn = samples(penalty(name, softplus_mlp, batch, **arguments), params)
    for own, expected in zip(drawn, exactly(name, **power), strict=True):
        for part in (VALUE, SLOPE):
            largest, norm = deviations(own[:, part], expected[part])
            assert largest < 1
            assert norm < 3
            # The check can tell: the standard error is a small part of what is measured.
            error = np.linalg.norm(own[:, part].std(0)) / np.sqrt(KEYS)
            assert error < 0.05 * np.linalg.norm(expected[part])


@pytest.mark.usefixtures("x64")
def test_the_check_finds_the_wrong_gradient_of_sampled_labels() -> None:
    """Sampling y ~ p and pulling e_y - p back: the right value, but the draw depends on p."""
    params, batch = networks()

    def naive(params: Arrays, key: jax.Array) -> jax.Array:
        logits, vjp = jax.vjp(lambda x: softplus_mlp(params, x), batch.image)
        label = jax.nn.one_hot(jax.random.categorical(key, logits), 10)
        return gradient.squared_norm(vjp(label - jax.nn.softmax(logits))[0])

    exact = exactly("hessian_frobenius")
    for own, expected in zip(samples(naive, params), exact, strict=True):
        assert deviations(own[:, VALUE], expected[VALUE])[1] < 3
        assert min(deviations(own[:, SLOPE], expected[SLOPE])) > 2


@pytest.mark.usefixtures("x64")
def test_the_check_finds_the_bias_of_a_squared_mean() -> None:
    params, batch = networks()
    mean = penalty("hessian_frobenius", softplus_mlp, batch, probes=2)
    drawn = samples(lambda params, key: mean(params, key) ** 2, params)
    exact = exactly("hessian_frobenius", power=2)
    for own, expected in zip(drawn, exact, strict=True):
        for part in (VALUE, SLOPE):
            assert min(deviations(own[:, part], expected[part])) > 1.5


@pytest.mark.usefixtures("x64")
def test_probes_are_independent_of_each_other_and_between_examples() -> None:
    params, batch = networks()
    trained = jax.tree.map(lambda a: a[1], params)
    keys = jax.random.split(jax.random.key(0), KEYS)
    terms = (penalty("frobenius", softplus_mlp, batch, probes=n) for n in (1, 4))
    one, four = (jax.jit(jax.vmap(lambda k, t=t: t(trained, k)))(keys) for t in terms)
    np.testing.assert_allclose(one.var(0) / four.var(0), 4, rtol=0.15)
    correlation = np.corrcoef(one.T)[np.triu_indices(4, 1)]
    assert np.abs(correlation).max() < 4 / np.sqrt(KEYS)


@pytest.mark.usefixtures("x64")
def test_probes_are_drawn_by_index() -> None:
    params, batch = draw(hidden=True)
    order = np.array([3, 1, 5, 0, 2, 4])
    moved = rj.Batch(batch.image[order], batch.label[order], index=order)
    there = penalty("frobenius", tanh_mlp, batch, probes=1)(params)
    np.testing.assert_allclose(
        penalty("frobenius", tanh_mlp, moved, probes=1)(params), there[order], **EXACT
    )


# Extremes.

EXTREMES = [(name, {}) for name in EVERY] + [
    *((name, {"probes": 2}) for name in PROBED),
    ("hessian_frobenius", {"power": 2}),
    ("hessian_frobenius", {"power": 2, "probes": 2}),
]


@pytest.mark.parametrize(("name", "arguments"), EXTREMES)
def test_logits_of_any_size_give_finite_values_and_gradients(name: str, arguments: Arrays) -> None:
    """At 1e4 the probabilities are exactly 0 and 1, and the scaled terms exactly 0."""
    rng = np.random.default_rng(0)
    image, kernel = (jnp.array(rng.normal(size=s), jnp.float32) for s in ((3, D), (D, C)))
    batch = rj.Batch(image, jax.nn.one_hot(np.array([0, 3, 1]), C))
    both = values_and_slopes(penalty(name, linear, batch, **arguments))
    for scale in (0.0, 1e4, -1e4):
        values, slope = both({"W": kernel, "b": scale * jnp.arange(C, dtype=jnp.float32)})
        assert_finite((values, slope))
        if scale and name in ("jacobian", "hessian_frobenius"):
            np.testing.assert_array_equal(values, 0)
    # Without weights everything is zero, the gradient too.
    nothing = both({"W": jnp.zeros((D, C)), "b": jnp.zeros(C)})
    assert_same(nothing, jax.tree.map(np.zeros_like, nothing))


@pytest.mark.parametrize(("name", "arguments"), EXTREMES)
def test_a_bfloat16_network_gives_float32_terms(name: str, arguments: Arrays) -> None:
    params, batch = draw(hidden=True)
    params = jax.tree.map(lambda a: jnp.array(a, jnp.bfloat16), params)
    batch = rj.Batch(jnp.array(batch.image, jnp.bfloat16), jnp.array(batch.label, jnp.float32))
    wide = batch.replace(image=batch.image.astype(jnp.float32))
    expected = penalty(name, tanh_mlp, wide, **arguments)(
        jax.tree.map(lambda a: a.astype(jnp.float32), params)
    )

    term = penalty(name, tanh_mlp, batch, **arguments)
    assert term(params).dtype == jnp.float32
    np.testing.assert_allclose(term(params), expected, rtol=0.1, atol=0.02)


def test_a_bfloat16_network_takes_float32_images() -> None:
    def narrow(params: Arrays, x: jax.Array) -> jax.Array:
        return linear(params, x.astype(jnp.bfloat16))

    params = {"W": jnp.eye(4, dtype=jnp.bfloat16), "b": jnp.zeros(4, jnp.bfloat16)}
    batch = rj.Batch(jnp.zeros((1, 4)), jax.nn.one_hot(np.array([0]), 4))
    values = penalty("double_backprop", narrow, batch)(params)
    np.testing.assert_array_equal(values, np.float32([0.75]))  # (3/4)^2 + 3 (1/4)^2


# Dropout and BatchNorm.


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", EVERY)
def test_dropout_masks_are_the_same_for_the_value_and_the_gradient(name: str) -> None:
    params, batch = draw(hidden=True)
    key = jax.random.key(3)
    mask = jax.random.bernoulli(named_key(key, "forward()"), 0.5, (B, H)).astype(float)

    def dropout(params: Arrays, x: jax.Array, key: jax.Array) -> jax.Array:
        h = jnp.tanh(x @ params["A"] + params["a"][None])
        h = h * jax.random.bernoulli(key, 0.5, h.shape)
        return h @ params["W"] + params["b"][None]

    values = penalty(name, dropout, batch)(params, key)
    expected = []
    for i, (x, y) in enumerate(zip(batch.image, batch.label, strict=True)):
        kept = {**params, "W": params["W"] * np.asarray(mask[i])[:, None]}
        expected.append(by_hand(name, tanh_by_hand, kept, x, y))
    assert_measured(values, np.array(expected))


def normalised(params: Arrays, state: Arrays, x: jax.Array, frozen: bool) -> jax.Array:
    h = x @ params["A"] + params["a"][None]
    mean = state["mean"] if frozen else h.mean(0)
    variance = state["variance"] if frozen else h.var(0)
    h = (h - mean[None]) / jnp.sqrt(variance + 1e-3)[None]
    return jnp.tanh(h) @ params["W"] + params["b"][None]


def batchnorm(params: Arrays) -> rj.Forward:
    """A network with a normalised hidden layer, and running averages unlike the batch's."""
    state = {"mean": jnp.linspace(-1.0, 1.0, H), "variance": jnp.linspace(0.5, 2.0, H)}

    def apply(params: Any, state: Any, x: Any, key: Any, tap: Any, frozen: bool) -> rj.Outputs:
        updated = state if frozen else jax.tree.map(lambda s: s + 1, state)
        return rj.Outputs(normalised(params, state, x, frozen), None, updated)

    return rj.Forward(params, state, apply)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", EVERY)
def test_frozen_statistics_give_each_examples_own_gradient(name: str) -> None:
    params, batch = draw(hidden=True)
    forward = batchnorm(params)
    arguments = {"weight": 1.0, "batch_norm": "frozen"}
    loss = getattr(rj, name)(rj.cross_entropy(), **arguments)
    result = evaluate(loss, forward, batch)

    def own(x: jax.Array, y: jax.Array) -> jax.Array:
        def logits(x: jax.Array) -> jax.Array:
            return normalised(params, forward.state, x[None], frozen=True)[0]

        if name == "double_backprop":
            return jnp.sum(jax.grad(lambda x: -y @ jax.nn.log_softmax(logits(x)))(x) ** 2)
        if name == "jacobian":
            return jnp.sum(jax.jacobian(lambda x: jax.nn.softmax(logits(x)))(x) ** 2)
        j = jax.jacobian(logits)(x)
        if name == "frobenius":
            return jnp.sum(j**2)
        h = jax.hessian(lambda g: jax.nn.logsumexp(g))(logits(x))
        return jnp.trace(j.T @ h @ j)

    expected = jax.jit(jax.vmap(own))(batch.image, batch.label)
    assert_measured(result.penalties[name], expected)
    # The loss itself and the new statistics still come from training mode.
    training = evaluate(rj.cross_entropy(), forward, batch)
    np.testing.assert_array_equal(result.losses, training.losses)
    assert_same(result.outputs.state, training.outputs.state)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", EVERY)
def test_batch_statistics_differentiate_the_sum_in_training_mode(name: str) -> None:
    params, batch = draw(hidden=True)
    forward = batchnorm(params)
    loss = getattr(rj, name)(rj.cross_entropy(), weight=1.0)

    def logits(x: jax.Array) -> jax.Array:
        return normalised(params, forward.state, x, frozen=False)

    def slope(function: Any) -> jax.Array:
        """The gradient of a function of the logits, summed over the batch."""
        return jax.grad(lambda x: jnp.sum(function(logits(x))))(batch.image)

    p = jax.nn.softmax(logits(batch.image))
    if name == "double_backprop":
        parts = [slope(lambda g: -batch.label * jax.nn.log_softmax(g))]
    elif name == "jacobian":
        parts = [slope(lambda g, k=k: jax.nn.softmax(g)[:, k]) for k in range(C)]
    elif name == "frobenius":
        parts = [slope(lambda g, k=k: g[:, k]) for k in range(C)]
    else:
        roots = [np.eye(C)[k] * np.sqrt(p) - p * np.sqrt(p[:, k : k + 1]) for k in range(C)]
        parts = [slope(lambda g, root=root: root * g) for root in roots]
    expected = sum(jnp.sum(part**2, axis=1) for part in parts)
    penalties = evaluate(loss, forward, batch).penalties
    assert_measured(penalties[name], expected)
    frozen = getattr(rj, name)(rj.cross_entropy(), weight=1.0, batch_norm="frozen")
    other = jnp.mean(evaluate(frozen, forward, batch).penalties[name])
    assert not np.allclose(other, jnp.mean(expected), rtol=0.05)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("batch_norm", ["batch", "frozen"])
def test_probes_under_batchnorm_leave_out_the_products_between_examples(batch_norm: str) -> None:
    """In training mode sum_j ||d logits_j / d x_i||^2, where the exact norm squares the sum."""
    params, batch = draw(hidden=True)
    forward = batchnorm(params)
    loss = rj.frobenius(rj.cross_entropy(), weight=1.0, probes=1, batch_norm=batch_norm)
    keys = jax.random.split(jax.random.key(0), KEYS)
    run = jax.vmap(lambda key: evaluate(loss, forward, batch, key).penalties["frobenius"])
    drawn = np.asarray(jax.jit(run)(keys))
    is_frozen = batch_norm == "frozen"
    every = jax.jacobian(lambda x: normalised(params, forward.state, x, is_frozen))(batch.image)
    expected = jnp.sum(every**2, axis=(0, 1, 3))  # of [B, C, B, D], all but the second B
    assert deviations(drawn, np.asarray(expected))[0] < 1


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", EVERY)
def test_without_batchnorm_both_statistics_agree(name: str) -> None:
    params, batch = draw(hidden=True)
    both = [penalty(name, tanh_mlp, batch, batch_norm=s)(params) for s in ("batch", "frozen")]
    np.testing.assert_array_equal(*both)


# Errors.


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("double_backprop", {"batch_norm": "eval"}, "'batch' or 'frozen', but it is 'eval'"),
        ("frobenius", {"batch_norm": None}, "'batch' or 'frozen', but it is None"),
        ("frobenius", {"probes": 0}, "at least 1, but it is 0"),
        ("jacobian", {"probes": 1.5}, "a whole number, such as 2, but it is 1.5"),
        ("hessian_frobenius", {"probes": 1, "power": 2}, "at least 2, but it is 1"),
        ("hessian_frobenius", {"power": 3}, "must be between 1 and 2, but it is 3"),
    ],
)
def test_wrong_arguments_are_named(name: str, arguments: Arrays, message: str) -> None:
    params, batch = draw()
    batch = jax.tree.map(lambda a: jnp.array(a, jnp.float32), batch)
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(penalty(name, linear, batch, **arguments), params)
