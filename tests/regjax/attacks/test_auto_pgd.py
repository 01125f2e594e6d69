"""Auto-PGD takes the published steps, against a loop in NumPy, and is worth more than PGD."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import tanh_forward

import regjax as rj
from regjax import attacks
from regjax.attacks.auto_pgd import checkpoints
from regjax.attacks.balls import L2, LInf

KEY = jax.random.key(0)
SIZE, SHAPE, STEPS, EPSILON = 12, (4, 2, 1), 24, 0.3


@functools.cache
def batch() -> rj.Batch:
    rng = np.random.default_rng(6)
    image = jnp.asarray(rng.uniform(size=(SIZE, *SHAPE)), jnp.float32)
    label = jnp.eye(3)[jnp.argmax(tanh_forward()(image).logits, -1)]
    return rj.Batch(image, label, jnp.asarray(rng.permutation(100)[:SIZE], jnp.int32))


@functools.cache
def program(**options: Any) -> Any:
    return jax.jit(lambda batch, e: attacks.apgd(tanh_forward(), batch, KEY, epsilon=e, **options))


def margins(image: jax.Array, label: jax.Array) -> np.ndarray:
    logits = np.asarray(tanh_forward()(image).logits, np.float64)
    true = np.argmax(label, -1)
    return np.array([np.max(np.delete(z, t)) - z[t] for z, t in zip(logits, true, strict=True)])


@pytest.mark.parametrize("steps", [1, 2, 10, 24, 50, 100])
def test_checkpoints_are_the_papers(steps: int) -> None:
    shares = [0.0, 0.22]
    while shares[-1] < 1:
        shares.append(shares[-1] + max(shares[-1] - shares[-2] - 0.03, 0.06))
    expected = {math.ceil(round(p * steps, 6)) for p in shares[1:]}
    assert checkpoints(steps) == sorted(p for p in expected if p < steps)
    assert checkpoints(100) == [22, 41, 57, 70, 80, 87, 93, 99]


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_steps_are_the_papers(norm: str) -> None:
    one = jax.tree.map(lambda a: a[:8], batch())
    ball = {"linf": LInf, "l2": L2}[norm](one.image, jnp.float32(EPSILON), 0.0, 1.0)
    start = ball.start(rj.example_keys(jax.random.fold_in(KEY, 0), one))
    ends = [0, 6, 10, 14, 17, 20, 21, 23]  # ceil of 0.22, 0.41, 0.57, ... of 24
    best, halvings = _one_climb(jax.jit(ball.project), one, np.asarray(start), ends, norm)
    found = np.asarray(program(steps=STEPS, norm=norm)(one, EPSILON))
    clean = margins(one.image, one.label)
    assert halvings.sum() >= 8
    got = margins(jnp.asarray(found), one.label)
    np.testing.assert_allclose(got, np.maximum(best, clean), atol=2e-4)


def _one_climb(
    project: Any, one: rj.Batch, start: np.ndarray, ends: list[int], norm: str
) -> tuple[np.ndarray, np.ndarray]:
    """Of algorithm 1, the largest margins on the way and how often each example halved."""

    @jax.jit
    def slope(image: jax.Array) -> Any:
        def loss(image: jax.Array) -> Any:
            logits = jax.nn.log_softmax(tanh_forward()(image).logits)
            each = -jnp.sum(one.label * logits, -1)
            return jnp.sum(each), each

        gradient, each = jax.grad(loss, has_aux=True)(image)
        return each, gradient

    def direction(g: np.ndarray) -> np.ndarray:
        if norm == "linf":
            return np.sign(g)
        return g / np.linalg.norm(g.reshape(len(g), -1), axis=1).reshape(-1, 1, 1, 1)

    size = len(start)
    eta, halved, halvings = np.full(size, 2 * EPSILON), np.ones(size, bool), np.zeros(size, int)
    x, before = start.copy(), start.copy()
    value, gradient = (np.asarray(a).copy() for a in slope(x))
    top, top_x, top_g, checked = value.copy(), x.copy(), gradient.copy(), np.full(size, -np.inf)
    rises, best = np.zeros(size, int), margins(jnp.asarray(x), one.label)
    for k in range(STEPS):
        share = 0.75 if k else 1.0
        z = np.asarray(project(x + eta.reshape(-1, 1, 1, 1) * direction(gradient)))
        new = np.asarray(project(x + share * (z - x) + (1 - share) * (x - before)))
        before, x, old = x, new.copy(), value
        value, gradient = (np.asarray(a).copy() for a in slope(x))
        rises += value > old
        higher = value > top
        top[higher], top_x[higher], top_g[higher] = value[higher], x[higher], gradient[higher]
        best = np.maximum(best, margins(jnp.asarray(x), one.label))
        if k + 1 in ends:
            window = k + 1 - ends[ends.index(k + 1) - 1]
            halve = (rises < 0.75 * window) | (~halved & (top == checked))
            eta[halve] /= 2
            x[halve], gradient[halve] = top_x[halve], top_g[halve]
            halved, checked, rises = halve, top.copy(), np.zeros(size, int)
            halvings += halve
    return best, halvings


def test_never_weaker_than_pgd_of_as_many_steps() -> None:
    options = {"steps": STEPS, "norm": "l2"}
    plain = jax.jit(lambda b: attacks.pgd(tanh_forward(), b, KEY, epsilon=EPSILON, **options))
    theirs = margins(plain(batch()), batch().label)
    ours = margins(program(**options)(batch(), EPSILON), batch().label)
    assert np.sum(ours > 0) >= np.sum(theirs > 0)
    assert ours.mean() > theirs.mean() - 1e-3


def test_restarts_of_the_targeted_ratio_are_aimed_at_one_class_after_the_other() -> None:
    # Two wrong classes: the likelier one is out of reach, its slope being nearly none.
    kernel = jnp.asarray([[0.0, 0.01, 1.0, 0.0], [0.0, 0.0, 1.0, 0.0]])
    bias = jnp.asarray([[1.5, 1.0, 0.0, -1.0]])
    forward = rj.from_function(lambda params, x: x @ params + bias, kernel)
    one = rj.Batch(jnp.full((1, 2), 0.1), jnp.eye(4)[:1])

    def attack(restarts: int) -> jax.Array:
        options = {"epsilon": 0.8, "steps": 4, "loss": "targeted_dlr", "restarts": restarts}
        return forward(attacks.apgd(forward, one, KEY, **options)).logits[0]

    reached = [jax.jit(attack, static_argnums=0)(n) for n in (1, 2)]
    assert jnp.argmax(reached[0]) == 0
    assert jnp.argmax(reached[1]) == 2


def test_mistakes() -> None:
    attack = functools.partial(attacks.apgd, tanh_forward(), batch(), KEY, epsilon=0.1)
    with pytest.raises(ValueError, match=r"apgd knows the norms .* not 'l1'"):
        attack(norm="l1")
    with pytest.raises(ValueError, match=r"apgd knows the losses .*'dlr'.* not 'hinge'"):
        attack(loss="hinge")
    with pytest.raises(ValueError, match=r"targeted_dlr needs 4 classes at least, not 3"):
        attack(loss="targeted_dlr")
    with pytest.raises(ValueError, match=r"steps must be at least 1, got 0"):
        attack(steps=0)
