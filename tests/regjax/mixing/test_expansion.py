"""NFM's expansion against the expected loss by quadrature in NumPy, and against closed forms."""

import functools
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import assert_close

import regjax as rj
from regjax.mixing.expansion import NoisyFeatureMixupTerms, noisy_feature_mixup_expansion

CLASSES, SIZE = 3, 4
LAYERS = ("input", "hidden")
EPSILONS = np.geomspace(0.001, 0.005, 5)


def network(params: Any, x: Any, tap: Any = lambda layer, h: h, xp: Any = jnp) -> Any:
    """Two numbers at the input and in "hidden", and something curved after each."""
    h = tap("hidden", xp.tanh(x @ params["A"]))
    return xp.tanh(h @ params["B"]) @ params["C"]


@functools.cache
def problem() -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Parameters, points and soft labels, float64."""
    rng = np.random.default_rng(24)  # of which no term is small
    params = {"A": (2, 2), "B": (2, 3), "C": (3, CLASSES)}
    label = rng.dirichlet(np.ones(CLASSES), SIZE)
    return {k: rng.normal(size=s) for k, s in params.items()}, rng.normal(size=(SIZE, 2)), label


def bound(params: Any) -> rj.Forward:
    return rj.from_function(network, jax.tree.map(jnp.asarray, params), layers=("hidden",))


@functools.cache
def expanded(layer: str) -> NoisyFeatureMixupTerms:
    """The terms in float64, as NumPy numbers."""
    params, x, label = problem()
    with jax.enable_x64(True):
        forward, batch = bound(params), rj.Batch(jnp.asarray(x), jnp.asarray(label))
        run = jax.jit(noisy_feature_mixup_expansion, static_argnums=2)
        return jax.tree.map(float, run(forward, batch, layer))


def losses(logits: np.ndarray, label: np.ndarray) -> np.ndarray:
    return np.log(np.exp(logits).sum(-1)) - (label * logits).sum(-1)


def expected_loss(layer: str, mixing: float, add: float, multiply: float) -> float:
    """By its definition, over all pairs; the mean over the noise by Gauss's rules."""
    params, x, label = problem()
    h = x if layer == "input" else np.tanh(x @ params["A"])
    normal, uniform = np.polynomial.hermite_e.hermegauss(5), np.polynomial.legendre.leggauss(5)
    nodes = np.array(list(itertools.product(*[normal[0]] * 2, *[uniform[0]] * 2)))
    weights = np.array(list(itertools.product(*[normal[1]] * 2, *[uniform[1]] * 2))).prod(1)
    z, u = nodes[:, :2], nodes[:, 2:]
    total = 0.0
    for i, j in itertools.product(range(SIZE), repeat=2):
        mixed = (1 - mixing) * h[i] + mixing * h[j]
        noisy = (1 + multiply * u) * mixed + add * z
        inner = np.tanh(noisy @ params["A"]) if layer == "input" else noisy
        logits = np.tanh(inner @ params["B"]) @ params["C"]
        each = losses(logits, (1 - mixing) * label[i] + mixing * label[j])
        total += (weights * each).sum() / weights.sum() / SIZE**2
    return total


def rate(remainder: Callable[[float], float]) -> float:
    """The power of epsilon with which it falls, by regression."""
    values = [abs(remainder(epsilon)) for epsilon in EPSILONS]
    return float(np.polyfit(np.log(EPSILONS), np.log(values), 1)[0])


def remainder(layer: str, share: tuple[float, float, float], without: str | None = None) -> Any:
    terms = expanded(layer)
    if without is not None:
        terms = terms._replace(**{without: 0.0})

    def at(epsilon: float) -> float:
        mixing, add, multiply = (epsilon * s for s in share)
        polynomial = sum(terms.at(mixing=mixing, add=add, multiply=multiply))
        return expected_loss(layer, mixing, add, multiply) - polynomial

    return at


@pytest.mark.parametrize("layer", LAYERS)
def test_the_remainder_falls_with_the_third_power_without_mixing_with_the_fourth(
    layer: str,
) -> None:
    assert rate(remainder(layer, (1.0, 0.7, 0.8))) == pytest.approx(3, abs=0.1)
    assert rate(remainder(layer, (1.0, 0.0, 0.0))) == pytest.approx(3, abs=0.1)
    assert rate(remainder(layer, (0.0, 0.7, 0.8))) == pytest.approx(4, abs=0.1)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("name", NoisyFeatureMixupTerms._fields)
def test_without_any_one_term_it_falls_more_slowly(layer: str, name: str) -> None:
    order = {"loss": 0, "mixing_first": 1}.get(name, 2)
    found = rate(remainder(layer, (1.0, 0.7, 0.8), without=name))
    assert found == pytest.approx(order, abs=0.1)


@functools.cache
def linear_batch() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A kernel, points, labels and weights, one of them 0."""
    rng = np.random.default_rng(1)
    label = rng.dirichlet(np.ones(CLASSES), 5)
    weight = np.array([1.0, 1.0, 0.5, 0.0, 1.0])
    return rng.normal(size=(2, CLASSES)), rng.normal(size=(5, 2)), label, weight


@pytest.mark.parametrize("partner", [None, (2, 0, 4, 3, 1)])
def test_a_linear_model_has_the_terms_of_its_covariance(
    partner: tuple[int, ...] | None, x64: None
) -> None:
    """For `logits = x W`, pair by pair: no term has a Hessian. Examples of weight 0 count for 0."""
    kernel, x, label, weight = linear_batch()
    p = np.exp(x @ kernel)
    p /= p.sum(1, keepdims=True)
    curvature = [kernel @ (np.diag(q) - np.outer(q, q)) @ kernel.T for q in p]
    pairs = list(itertools.product(range(5), repeat=2) if partner is None else enumerate(partner))
    both = np.array([weight[i] * weight[j] for i, j in pairs])

    def over_pairs(term: Callable[[np.ndarray, np.ndarray, int], float]) -> float:
        values = [term(x[j] - x[i], label[j] - label[i], i) for i, j in pairs]
        return float(both @ values / both.sum())

    share = weight / weight.sum()
    expected = NoisyFeatureMixupTerms(
        loss=share @ losses(x @ kernel, label),
        mixing_first=over_pairs(lambda d, e, i: (p - label)[i] @ kernel.T @ d - e @ np.log(p[i])),
        mixing_jacobian=over_pairs(lambda d, e, i: d @ curvature[i] @ d / 2),
        mixing_hessian=0.0,
        mixing_label=over_pairs(lambda d, e, i: -e @ kernel.T @ d),
        add_jacobian=share @ [np.trace(c) / 2 for c in curvature],
        add_hessian=0.0,
        multiply_jacobian=share @ [x[i] ** 2 @ np.diag(c) / 6 for i, c in enumerate(curvature)],
        multiply_hessian=0.0,
    )
    forward = rj.from_function(lambda params, x: x @ params, jnp.asarray(kernel))
    batch = rj.Batch(jnp.asarray(x), jnp.asarray(label), weight=jnp.asarray(weight))
    given = None if partner is None else jnp.array(partner)
    terms = noisy_feature_mixup_expansion(forward, batch, "input", partner=given)
    assert_close(terms, expected, jnp.float64)


def float32_problem() -> tuple[rj.Forward, rj.Batch]:
    params, x, label = problem()
    params = {name: np.float32(value) for name, value in params.items()}
    return bound(params), rj.Batch(jnp.asarray(x, "float32"), jnp.asarray(label, "float32"))


def test_probes_estimate_the_traces_without_bias() -> None:
    forward, batch = float32_problem()

    def run(key: jax.Array) -> NoisyFeatureMixupTerms:
        return noisy_feature_mixup_expansion(forward, batch, "hidden", probes=2, key=key)

    drawn = jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(0), 400))
    for name in ("add_jacobian", "add_hessian", "multiply_jacobian", "multiply_hessian"):
        values, exact = np.asarray(getattr(drawn, name)), getattr(expanded("hidden"), name)
        error = values.std() / np.sqrt(len(values))
        assert 0 < error < 0.1 * abs(exact)
        assert abs(values.mean() - exact) < 4 * error


@pytest.mark.parametrize(("add", "multiply"), [(0.1, 0.0), (0.0, 0.2)])
def test_it_is_what_the_stage_does(add: float, multiply: float) -> None:
    """The stage's own noise, without mixing."""
    forward, batch = float32_problem()
    loss = rj.noisy_feature_mixup(
        rj.cross_entropy(),
        alpha=0.0,
        add=add,
        multiply=multiply,
        layers=("input",),
        random_levels=False,
    )

    def run(key: jax.Array) -> jax.Array:
        return rj.total(loss.apply(loss.init(forward, batch), forward, batch, key)[0], batch)

    values = np.asarray(jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(1), 20_000)))
    error = values.std() / np.sqrt(len(values))
    terms = expanded("input").at(mixing=0.0, add=add, multiply=multiply)
    assert abs(sum(terms) - terms.loss) > 8 * error
    assert abs(values.mean() - sum(terms)) < 4 * error


def test_wrong_arguments_are_refused() -> None:
    forward, batch = float32_problem()

    def run(layer: str, *, batch: rj.Batch = batch, **options: Any) -> NoisyFeatureMixupTerms:
        return noisy_feature_mixup_expansion(forward, batch, layer, **options)

    with pytest.raises(ValueError, match=r"unknown layers \['last'\].*\['input', 'hidden'\]"):
        run("last")
    with pytest.raises(ValueError, match=r"partner must be \[B\] with B = 4, got \[3\]"):
        run("input", partner=jnp.arange(3))
    with pytest.raises(ValueError, match=r"logits are .*\[4, 3\], but Batch.label is .*\[4, 1\]"):
        run("input", batch=batch.replace(label=jnp.ones((SIZE, 1))))
    with pytest.raises(ValueError, match=r"same B, but they are .*\[4, 2\] and .*\[1, 3\]"):
        run("input", batch=batch.replace(label=jnp.ones((1, CLASSES))))
    with pytest.raises(TypeError, match="give noisy_feature_mixup_expansion a key"):
        run("input", probes=1)
    with pytest.raises(ValueError, match="probes must be at least 1, got 0"):
        run("input", probes=0, key=jax.random.key(0))


def test_a_masked_class_is_as_if_it_were_not_there() -> None:
    rng = np.random.default_rng(0)
    kernel, x = (jnp.asarray(rng.normal(size=s), jnp.float32) for s in ((2, 2), (4, 2)))
    label = jnp.eye(3)[jnp.array([0, 1, 0, 1])]

    def masked(p: jax.Array, x: jax.Array) -> jax.Array:
        return jnp.pad(x @ p, ((0, 0), (0, 1)), constant_values=-jnp.inf)

    found, expected = (
        noisy_feature_mixup_expansion(rj.from_function(function, kernel), rj.Batch(x, own), "input")
        for function, own in ((masked, label), (lambda p, x: x @ p, label[:, :2]))
    )
    assert_close(found, expected)


def test_an_example_without_a_label_is_padding() -> None:
    rng = np.random.default_rng(0)
    x, there = jnp.asarray(rng.normal(size=(4, 2)), jnp.float32), jnp.array([1.0, 1.0, 0.0, 1.0])
    label = jnp.eye(2)[jnp.array([0, 1, 0, 1])]
    forward = rj.from_function(lambda p, x: x @ p, jnp.eye(2))
    batches = rj.Batch(x, label * there[:, None]), rj.Batch(x, label, weight=there)
    assert_close(*(noisy_feature_mixup_expansion(forward, each, "input") for each in batches))
