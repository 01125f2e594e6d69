"""The aleatoric loss against NumPy float64, closed forms, and integrals by Gauss and Hermite."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

import regjax as rj
from regjax.core.batch import example_keys
from regjax.core.draws import normal
from regjax.core.keys import named_key
from regjax.losses.aleatoric import deviations, sampled_log_probabilities

pytestmark = pytest.mark.usefixtures("x64")

KEY = jax.random.key(0)
# Of f = (2, 0, -1) and sigma = (1, 0.5, 2) by Gauss-Hermite quadrature with 60 points an axis: the
# loss of each class with no end of samples, and in expectation with one.
LOGITS, SIGMA = np.array([2.0, 0.0, -1.0]), np.array([1.0, 0.5, 2.0])
ENDLESS, ONE = np.array([0.304213, 1.994077, 2.070229]), np.array([0.380105, 2.380105, 3.380105])


def network(params: Any, x: jax.Array) -> Any:
    """Three numbers of the input are the logits, the others what the second head makes."""
    return x[..., :3] + 0 * params, None, (x[..., 3:],)


@jax.jit
def jitted(loss: rj.Loss, batch: rj.Batch) -> tuple[jax.Array, jax.Array]:
    def total(image: jax.Array) -> tuple[jax.Array, jax.Array]:
        forward = rj.from_function(network, jnp.zeros(()))
        own = batch.replace(image=image)
        losses = loss.apply(loss.init(forward, own), forward, own, KEY)[0].losses
        return losses.sum(), losses

    gradient, losses = jax.grad(total, has_aux=True)(batch.image)
    return losses, gradient


sampled = jax.jit(sampled_log_probabilities)


def batch_of(logits: Any, raw: Any, label: Any, index: Any = None) -> rj.Batch:
    image = jnp.concatenate([jnp.asarray(logits, float), jnp.asarray(raw, float)], axis=-1)
    return rj.Batch(image, jnp.asarray(label, float), index)


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def random_batch() -> tuple[rj.Batch, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    logits, raw, label = (
        rng.normal(size=(5, 3)),
        rng.normal(size=(5, 3)),
        np.eye(3)[[0, 1, 2, 1, 0]],
    )
    label[3:] = rng.dirichlet(np.ones(3), size=2)
    index = jnp.array([7, 3, 0, 1, 9], jnp.int32)
    return batch_of(logits, raw, label, index), logits, raw, label


@pytest.mark.parametrize("variance", ["log", "softplus"])
def test_losses_and_their_gradient_are_the_formula(variance: str) -> None:
    """Of four samples; the gradient by the second head's output, too."""
    batch, logits, raw, label = random_batch()
    keys = example_keys(named_key(KEY, "aleatoric"), batch)
    noise = np.asarray(normal(keys, (4, 3)), float)
    sigma = np.exp(raw / 2) if variance == "log" else np.sqrt(np.log1p(np.exp(raw)))
    p = softmax(logits[:, None] + sigma[:, None] * noise)
    mean = p.mean(1)
    losses, gradient = jitted(rj.aleatoric(samples=4, variance=variance), batch)
    np.testing.assert_allclose(losses, -(label * np.log(mean)).sum(-1), rtol=1e-9)
    # By a logit of a sample: -sum_c label_c / mean_c * p_c (1[c = k] - p_k) / T.
    share = label[:, None] / mean[:, None] * p
    by_logit = -(share - share.sum(-1, keepdims=True) * p) / 4
    by_sigma = (by_logit * noise).sum(1)
    by_raw = sigma / 2 if variance == "log" else 1 / (1 + np.exp(-raw)) / (2 * sigma)
    expected = np.concatenate([by_logit.sum(1), by_sigma * by_raw], -1)
    np.testing.assert_allclose(gradient, expected, rtol=1e-8, atol=1e-12)


def test_without_noise_it_is_cross_entropy_whatever_the_samples() -> None:
    """A softplus of -1e4 is a deviation of 0; as a logarithm, -10 is the least: exp(-5)."""
    batch, logits, raw, label = random_batch()
    batch = batch_of(logits, np.full_like(raw, -1e4), label)
    plain = -(label * np.log(softmax(logits))).sum(-1)
    for samples in (1, 5):
        losses, gradient = jitted(rj.aleatoric(samples=samples, variance="softplus"), batch)
        np.testing.assert_allclose(losses, plain, rtol=1e-10)
        np.testing.assert_allclose(gradient[:, 3:], 0, atol=1e-12)


def test_extreme_outputs_have_finite_losses_and_gradients() -> None:
    raw = np.array([[1e4, -1e4, 0], [-1e4] * 3, [1e4] * 3])
    for logits in (np.zeros((3, 3)), [[1e4, -1e4, 0]] * 3, [[0, 1, -np.inf]] * 3):
        batch = batch_of(logits, raw, np.eye(3)[[1, 1, 1]])
        for variance in ("log", "softplus"):
            losses, gradient = jitted(rj.aleatoric(samples=3, variance=variance), batch)
            assert np.all(np.isfinite(losses))
            assert np.all(np.isfinite(gradient))
    outputs = rj.Outputs(jnp.zeros((3, 3)), auxiliary=(rj.Branch(jnp.asarray(raw)),))
    np.testing.assert_allclose(deviations(outputs)[0], np.exp([5, -5, 0]))


def test_two_classes_and_opposite_pairs_of_draws_are_a_coin() -> None:
    """Whatever the deviations: exactly log 2."""
    half = np.random.default_rng(2).normal(size=(4, 3, 2))
    noise, sigma = (
        np.concatenate([half, -half], axis=1),
        np.array([[0.1, 2], [5, 5], [9, 0], [1, 1]]),
    )
    found = sampled(np.full((4, 2), 0.7), sigma, noise)
    np.testing.assert_allclose(found, -np.log(2), rtol=1e-12)


def test_equal_noise_on_all_classes_changes_nothing_and_own_noise_does() -> None:
    _, logits, _, label = random_batch()
    plain = -(label * np.log(softmax(logits))).sum(-1)
    shared = np.repeat(np.random.default_rng(3).normal(size=(5, 4, 1)), 3, axis=-1)
    found = sampled(logits, np.ones((5, 1)), shared)
    np.testing.assert_allclose(-(label * found).sum(-1), plain, rtol=1e-10)
    losses, _ = jitted(rj.aleatoric(samples=4), batch_of(logits, np.zeros((5, 1)), label))
    assert np.all(np.abs(losses - plain) > 1e-3)


def test_many_samples_meet_the_integrals() -> None:
    """Each within four standard errors, with no end of samples and in expectation with one."""
    noise = np.random.default_rng(5).normal(size=(50_000, 3))
    each = [np.tile(x, (50_000, 1)) for x in (LOGITS, SIGMA)]
    log_p = np.asarray(sampled(*each, noise[:, None]))
    error = log_p.std(0) / np.sqrt(50_000)
    assert np.all(np.abs(-log_p.mean(0) - ONE) < 4 * error)
    endless = sampled(LOGITS[None], SIGMA[None], noise[None])[0]
    p = np.exp(log_p)
    error = p.std(0) / p.mean(0) / np.sqrt(50_000)
    assert np.all(np.abs(-endless - ENDLESS) < 4 * error)
    assert np.all(4 * error < 0.1 * (ONE - ENDLESS))


def test_more_samples_lower_the_expected_loss() -> None:
    """Of one, two and eight of the same draws, by far more than their standard errors."""
    noise = np.random.default_rng(4).normal(size=(4000, 8, 3))
    given = [np.tile(x, (4000, 1)) for x in (LOGITS, SIGMA)]
    each = [-np.asarray(sampled(*given, noise[:, :t])).mean(0) for t in (1, 2, 8)]
    assert np.all(np.diff(each, axis=0) < -0.01)
    assert np.all(each[-1] > ENDLESS)


def test_draws_go_by_index() -> None:
    batch, *_ = random_batch()
    order = np.array([3, 0, 4, 1, 2])
    losses, _ = jitted(rj.aleatoric(samples=4), batch)
    moved, _ = jitted(rj.aleatoric(samples=4), jax.tree.map(lambda x: x[order], batch))
    np.testing.assert_allclose(moved, np.asarray(losses)[order], rtol=1e-12)


def test_what_does_not_fit_is_refused_and_no_array_is_larger_than_the_samples() -> None:
    batch = batch_of(np.zeros((2, 3)), np.zeros((2, 2)), np.eye(3)[:2])
    with pytest.raises(ValueError, match=r"each class, \[2, 3\], or one.*\[\[2, 2\]\].*outputs=3"):
        jax.eval_shape(jitted.__wrapped__, rj.aleatoric(), batch)
    batch = random_batch()[0]
    with pytest.raises(ValueError, match=r"one of .*, not 'std'"):
        jax.eval_shape(jitted.__wrapped__, rj.aleatoric(variance="std"), batch)
    with pytest.raises(ValueError, match="samples"):
        rj.aleatoric(samples=0)
    jaxpr = jax.make_jaxpr(jitted.__wrapped__)(rj.aleatoric(samples=8), batch)
    assert max(sizes(jaxpr.jaxpr)) == 8 * 5 * 3


def sizes(jaxpr: Any) -> Iterator[int]:
    """The number of entries of every array, inner programs' included."""
    for equation in jaxpr.eqns:
        yield from (value.aval.size for value in equation.outvars)
        for inner in jaxprs_in_params(equation.params):
            yield from sizes(inner)
