"""Attacks reach what is best against linear networks, and keep their promises against others.

Covers `threat.py` too, as test_threat.py does.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy import optimize
from support import (
    CONV_SHAPE,
    ConvNet,
    assert_close,
    assert_finite,
    assert_same,
    tanh_forward,
    tanh_params,
)

import regjax as rj
import regjax.flax as rf
from regjax import attacks

KEY = jax.random.key(0)
SIZE, SHAPE = 24, (4, 2, 1)
EPSILON = 0.02


def linear(params: Any, x: jax.Array) -> jax.Array:
    return x.reshape(len(x), -1) @ params["kernel"] + params["bias"]


def linear_forward(classes: int, scale: float = 1.0) -> rj.Forward:
    kernel = scale * np.random.default_rng(5).normal(size=(8, classes))
    bias = -0.5 * kernel.sum(0, keepdims=True)  # the classes meet in the middle of the box
    params = {"kernel": jnp.asarray(kernel, jnp.float32), "bias": jnp.asarray(bias, jnp.float32)}
    return rj.from_function(linear, params)


def predicted(forward: rj.Forward, size: int = SIZE, shape: tuple[int, ...] = SHAPE) -> rj.Batch:
    """Pixels, some of them at a bound, with the classes that the network sees in them."""
    rng = np.random.default_rng(6)
    image = jnp.asarray(np.clip(rng.uniform(-0.2, 1.2, size=(size, *shape)), 0, 1), jnp.float32)
    logits = forward.frozen()(image).logits
    label = jnp.eye(logits.shape[1])[jnp.argmax(logits, -1)]
    return rj.Batch(image, label, jnp.asarray(rng.permutation(1000)[:size], jnp.int32))


def margins(forward: rj.Forward, batch: rj.Batch, image: jax.Array) -> np.ndarray:
    """How far the best wrong logit is above the true one, in float64."""
    logits = np.asarray(forward.frozen()(image).logits, np.float64)
    true = np.argmax(batch.label, -1)
    return np.array([np.max(np.delete(z, t)) - z[t] for z, t in zip(logits, true, strict=True)])


def best_margins(forward: rj.Forward, batch: rj.Batch, norm: str, epsilon: float) -> np.ndarray:
    """The largest margin that any image of ball and box has, over all wrong classes."""
    kernel, bias = (np.asarray(forward.params[n], np.float64) for n in ("kernel", "bias"))
    best = np.full(len(batch.image), -np.inf)
    for b, true in enumerate(np.argmax(batch.label, -1)):
        image = np.asarray(batch.image[b], np.float64).ravel()
        for wrong in set(range(kernel.shape[1])) - {int(true)}:
            slope = kernel[:, wrong] - kernel[:, true]
            x = furthest(image, np.sign(slope) if norm == "linf" else slope, norm, epsilon)
            best[b] = max(best[b], x @ slope + bias[0, wrong] - bias[0, true])
    return best


def furthest(image: np.ndarray, slope: np.ndarray, norm: str, epsilon: float) -> np.ndarray:
    """Along the slope until the ball ends, while pixels stay at the bounds that they reach."""
    if norm == "linf":
        return np.clip(image + epsilon * slope, 0, 1)

    slope = slope / np.linalg.norm(slope)

    def excess(t: float) -> float:
        return np.linalg.norm(np.clip(image + t * slope, 0, 1) - image) - epsilon

    return np.clip(image + optimize.brentq(excess, 0, 100, xtol=1e-12) * slope, 0, 1)


def fgsm(forward: rj.Forward, batch: rj.Batch, epsilon: Any, high: float = 1.0) -> jax.Array:
    return attacks.fgsm(forward, batch, epsilon=epsilon, high=high)


def mim(forward: rj.Forward, batch: rj.Batch, epsilon: Any, high: float = 1.0) -> jax.Array:
    return attacks.mim(forward, batch, epsilon=epsilon, steps=4, high=high)


def linf(forward: rj.Forward, batch: rj.Batch, epsilon: Any, high: float = 1.0) -> jax.Array:
    return attacks.pgd(forward, batch, KEY, epsilon=epsilon, steps=5, restarts=2, high=high)


def l2(forward: rj.Forward, batch: rj.Batch, epsilon: Any, high: float = 1.0) -> jax.Array:
    options = {"norm": "l2", "steps": 25, "restarts": 2}
    return attacks.pgd(forward, batch, KEY, epsilon=epsilon, high=high, **options)


def apgd(forward: rj.Forward, batch: rj.Batch, epsilon: Any, high: float = 1.0) -> jax.Array:
    return attacks.apgd(forward, batch, KEY, epsilon=epsilon, steps=10, high=high)


ATTACKS = {each.__name__: each for each in (fgsm, mim, linf, l2, apgd)}


@functools.cache
def jitted(name: str) -> Any:
    return jax.jit(ATTACKS[name])


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize(("classes", "scale"), [(2, 1.0), (2, 1e-6), (2, 1e5), (4, 1e5)])
def test_the_optimum_on_linear_networks(name: str, classes: int, scale: float) -> None:
    forward = linear_forward(classes, scale)
    batch, epsilon = predicted(forward), EPSILON
    best = best_margins(forward, batch, "l2" if name == "l2" else "linf", epsilon)
    got = margins(forward, batch, jitted(name)(forward, batch, epsilon))
    # An attack climbs towards the nearest class, which is the best one where others are far.
    near = np.sort(np.asarray(forward(batch.image).logits), -1)
    clear = near[:, -2] - near[:, -3] > 0.5 * scale if classes > 2 else np.full(SIZE, True)
    assert clear.sum() >= 8
    np.testing.assert_allclose(got[clear], best[clear], atol=1e-5 * scale)
    assert np.all(got > margins(forward, batch, batch.image) + 0.02 * scale)


@pytest.mark.parametrize("name", ["linf", "l2"])
def test_a_second_restart_reaches_the_optimum_of_the_margin_where_classes_compete(
    name: str,
) -> None:
    forward = linear_forward(4)
    batch = predicted(forward)
    best = best_margins(forward, batch, name, EPSILON)
    got = margins(forward, batch, jitted(name)(forward, batch, EPSILON))
    assert (
        np.sum(np.abs(got - best) < 1e-5) >= SIZE - 2
    )  # elsewhere it climbs another class's slope
    assert np.all(got < best + 1e-5)


@pytest.mark.parametrize("name", ATTACKS)
def test_ball_and_bounds_and_nothing_at_epsilon_0(name: str) -> None:
    forward = tanh_forward()
    batch = predicted(forward)
    assert_same(jitted(name)(forward, batch, 0.0), batch.image)
    image = jitted(name)(forward, batch, 0.3)
    assert jnp.all((image >= 0) & (image <= 1))
    move = np.asarray(image - batch.image, np.float64).reshape(SIZE, -1)
    size = np.linalg.norm(move, 2 if name == "l2" else np.inf, axis=1)
    assert np.all(size <= 0.3 + 1e-6)
    assert np.all(size > 0.2)


@pytest.mark.parametrize("name", ATTACKS)
def test_order_and_company_do_not_matter(name: str) -> None:
    forward = tanh_forward()
    batch = predicted(forward)
    image = jitted(name)(forward, batch, 0.2)
    order = jnp.asarray(np.random.default_rng(0).permutation(SIZE))
    permuted = jax.tree.map(lambda a: a[order], batch)
    assert_close(jitted(name)(forward, permuted, 0.2), image[order])
    others = batch.replace(image=batch.image.at[5:].set(1 - batch.image[5:]))
    assert_same(jitted(name)(forward, others, 0.2)[:5], image[:5])


@pytest.mark.nnx
def test_batchnorm_does_not_couple_the_examples() -> None:
    forward = rf.bind(ConvNet(nnx.Rngs(0)))
    assert not forward.is_frozen
    batch = predicted(forward, 6, CONV_SHAPE)
    image = jitted("linf")(forward, batch, 0.1)
    others = batch.replace(image=batch.image.at[2:].set(1 - batch.image[2:]))
    assert_close(jitted("linf")(forward, others, 0.1)[:2], image[:2])
    assert np.all(margins(forward, batch, image) > margins(forward, batch, batch.image))


def test_more_steps_of_the_default_size_never_leave_more() -> None:
    forward = tanh_forward()
    batch = predicted(forward, 64)

    @functools.partial(jax.jit, static_argnums=0)
    def attacked(steps: int) -> jax.Array:
        return attacks.pgd(forward, batch, KEY, steps=steps, epsilon=0.1)

    found = np.stack([margins(forward, batch, attacked(steps)) for steps in (10, 20, 80)])
    assert np.all(np.diff(found, axis=0) >= -1e-6)  # fails for steps of 2.5 epsilon / steps


@pytest.mark.parametrize(
    ("norm", "runs"), [("linf", [(2, 1), (2, 2), (2, 5)]), ("l2", [(1, 1), (2, 1), (5, 1)])]
)
def test_margins_never_fall_with_restarts_or_steps(norm: str, runs: list[tuple[int, int]]) -> None:
    forward = tanh_forward()
    batch = predicted(forward, 64)

    @functools.partial(jax.jit, static_argnums=(0, 1))
    def attacked(steps: int, restarts: int) -> jax.Array:
        options = {"norm": norm, "epsilon": 0.3, "step_size": 0.2}
        return attacks.pgd(forward, batch, KEY, steps=steps, restarts=restarts, **options)

    images = [batch.image, *(attacked(*run) for run in runs)]
    found = np.stack([margins(forward, batch, image) for image in images])
    assert np.all(np.diff(found, axis=0) >= -1e-6)
    assert np.all(np.diff(found.mean(1)) > 0)


def test_momentum_is_of_each_examples_own_gradients() -> None:
    forward = tanh_forward()
    batch = predicted(forward)

    @jax.jit
    def slope(image: jax.Array) -> jax.Array:
        def loss(image: jax.Array) -> jax.Array:
            return -jnp.sum(batch.label * jax.nn.log_softmax(forward(image).logits))

        return jax.grad(loss)(image)

    x = clean = np.asarray(batch.image)
    momentum, seen = np.zeros_like(x), [clean]
    for _ in range(8):
        gradient = np.asarray(slope(x), np.float64)
        norms = np.stack([np.full(SHAPE, np.linalg.norm(g.ravel(), 1)) for g in gradient])
        momentum = 0.8 * momentum + gradient / norms
        x = np.clip(np.clip(x + 0.1 * np.sign(momentum), clean - 0.4, clean + 0.4), 0, 1)
        seen.append(x.astype(np.float32))
    worst = np.argmax([margins(forward, batch, jnp.asarray(image)) for image in seen], axis=0)
    options = {"epsilon": 0.4, "steps": 8, "step_size": 0.1, "decay": 0.8}
    image = jax.jit(lambda batch: attacks.mim(forward, batch, **options))(batch)
    assert_close(image, np.stack(seen)[worst, np.arange(SIZE)])


def test_accuracy_falls_with_epsilon_to_nothing_in_one_program() -> None:
    forward = tanh_forward()
    batch = predicted(forward, 128)

    @jax.jit
    def accuracies(epsilons: jax.Array) -> jax.Array:
        def accuracy(epsilon: jax.Array) -> jax.Array:
            image = attacks.pgd(forward, batch, KEY, epsilon=epsilon, steps=10, restarts=2)
            return rj.metrics.accuracy(forward(image).logits, batch.label)

        return jax.lax.map(accuracy, epsilons)

    falling = accuracies(jnp.asarray([0, 0.02, 0.05, 0.1, 0.2, 0.4, 1.0]))
    assert falling[0] == 1
    assert jnp.all(jnp.diff(falling) <= 0)
    assert 0.2 < falling[3] < 0.9
    assert falling[-1] == 0


@pytest.mark.parametrize("name", ["fgsm", "linf", "apgd"])
def test_one_program_for_all_epsilons(name: str) -> None:
    forward = tanh_forward()
    batch = predicted(forward)
    program = jax.jit(lambda *arguments: ATTACKS[name](*arguments))
    images = [program(forward, batch, e) for e in (0.1, 0.2)]
    assert program._cache_size() == 1
    mapped = jax.jit(jax.vmap(ATTACKS[name], (None, None, 0)))(
        forward, batch, jnp.array([0.1, 0.2])
    )
    assert_close(mapped, jnp.stack(images))


@pytest.mark.slow
def test_the_same_without_a_compiler() -> None:
    forward = tanh_forward()
    batch = predicted(forward)
    image = jitted("linf")(forward, batch, 0.1)
    with jax.disable_jit():
        assert_close(linf(forward, batch, 0.1), image)


@pytest.mark.parametrize("name", ["linf", "l2"])
def test_pixels_behind_a_normalisation(name: str) -> None:
    of_bytes = tanh_forward().after(lambda x: (x / 255 - 0.4) / 0.2)
    of_units = of_bytes.after(lambda x: 255 * x)
    batch = predicted(of_units)
    in_bytes = batch.replace(image=255 * batch.image)
    image = jax.jit(functools.partial(ATTACKS[name], high=255.0))(of_bytes, in_bytes, 25.5)
    assert_close(image / 255, jitted(name)(of_units, batch, 0.1), jnp.bfloat16)
    with pytest.raises(ValueError, match=r"within \[0.0, 1.0\].* to 255: .*forward.after"):
        ATTACKS[name](of_bytes, in_bytes, 25.5)


def test_networks_that_do_not_move_or_compute_in_bfloat16() -> None:
    constant = rj.from_function(
        lambda params, x: 0 * x.reshape(len(x), -1)[:, :3] + params, jnp.eye(1)
    )
    batch = predicted(tanh_forward())
    for attack in (mim, l2):
        assert_same(jax.jit(attack)(constant, batch, 0.1), batch.image)
    forward = tanh_forward(tanh_params(dtype=jnp.bfloat16)).after(lambda x: x.astype(jnp.bfloat16))
    assert forward(batch.image).logits.dtype == jnp.bfloat16
    image = jitted("linf")(forward, batch.replace(image=batch.image.astype(jnp.bfloat16)), 0.1)
    assert image.dtype == jnp.float32
    gained = margins(forward, batch, image) - margins(forward, batch, batch.image)
    assert gained.mean() > 0.5


def test_padding_may_be_anything_finite() -> None:
    forward = tanh_forward()
    batch = predicted(forward)
    padded = jax.tree.map(lambda a: jnp.concatenate([a, a[:2]]), batch)
    image = padded.image.at[-2].set(0).at[-1].set(-7e4)
    padded = padded.replace(image=image, label=padded.label.at[-2:].set(0))
    padded = padded.replace(weight=jnp.ones(SIZE + 2).at[-2:].set(0))
    for name in ("fgsm", "l2"):
        attacked = jax.jit(functools.partial(ATTACKS[name], forward, padded))(0.1)
        assert_close(attacked[:SIZE], jitted(name)(forward, batch, 0.1))
        assert_finite(attacked)


def test_a_step_costs_two_forward_passes() -> None:
    def flops(function: Any, *arguments: Any) -> float:
        return jax.jit(function).lower(*arguments).compile().cost_analysis()["flops"]

    params = {"kernel": jnp.ones((64, 64)), "bias": jnp.zeros((1, 64))}
    forward = rj.from_function(lambda p, x: linear(p, jnp.tanh(linear(p, x))), params)
    batch = rj.Batch(jnp.zeros((32, 64)), jnp.eye(64)[:32])
    passes = flops(fgsm, forward, batch, 0.1) / flops(lambda f, x: f(x), forward, batch.image)
    assert 1.9 < passes < 2.3


def test_mistakes() -> None:
    forward = tanh_forward()
    batch = predicted(forward)
    pgd = functools.partial(attacks.pgd, forward, batch, KEY, epsilon=0.1)
    with pytest.raises(ValueError, match=r"norms \['l2', 'linf'\], not 'l1'"):
        pgd(steps=2, norm="l1")
    for name in ("steps", "restarts"):
        with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
            pgd(**{"steps": 2, name: 0})
    with pytest.raises(TypeError, match=r"steps must be a Python integer, got 2.5"):
        pgd(steps=2.5)
    with pytest.raises(ValueError, match=r"epsilon must not be negative, but it is -0\.1"):
        pgd(steps=2, epsilon=-0.1)
    with pytest.raises(ValueError, match=r"3 restarts without a random start"):
        pgd(steps=2, restarts=3, random_start=False)
    with pytest.raises(ValueError, match=r"low < high, got low=1.0 and high=0.0"):
        pgd(steps=2, low=1.0, high=0.0)
    with pytest.raises(ValueError, match=r"steps must be at least 1, got 0"):
        attacks.mim(forward, batch, epsilon=0.1, steps=0)
    with pytest.raises(ValueError, match=r"epsilon must be one number, got shape \[2\]"):
        attacks.fgsm(forward, batch, epsilon=jnp.ones(2))
    with pytest.raises(ValueError, match=r"same B, but they are .*\[24, 4, 2, 1\] and .*\[3, 3\]"):
        attacks.fgsm(forward, batch.replace(label=jnp.eye(3)), epsilon=0.1)
    with pytest.raises(ValueError, match=r"logits are .*\[24, 3\], but Batch.label is .*\[24, 5\]"):
        attacks.fgsm(forward, batch.replace(label=jnp.eye(24, 5)), epsilon=0.1)
    with pytest.raises(ValueError, match=r"at least two classes, but labels are \(24, 1\)"):
        attacks.fgsm(forward, batch.replace(label=jnp.ones((24, 1))), epsilon=0.1)
    with pytest.raises(ValueError, match=r"within \[0.0, 1.0\], but these reach from -1 to"):
        attacks.fgsm(forward, batch.replace(image=batch.image.at[0, 0].set(-1)), epsilon=0.1)
