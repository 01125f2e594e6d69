"""Square's schedule and bumps are the paper's; it stays in ball and box and comes near the best."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import assert_same

import regjax as rj
from regjax import attacks
from regjax.attacks.random_search import bump, square_sides

KEY = jax.random.key(0)
SIZE, SHAPE, EPSILON = 8, (5, 4, 2), 0.1
KERNEL = np.random.default_rng(5).normal(size=(40, 2)).astype(np.float32)
BIAS = (-0.5 * KERNEL.sum(0, keepdims=True) + [[40.0, 0.0]]).astype(np.float32)  # out of reach


def forward() -> rj.Forward:
    return rj.from_function(lambda p, x: x.reshape(len(x), -1) @ p + BIAS, jnp.asarray(KERNEL))


def drawn() -> rj.Batch:
    image = np.random.default_rng(6).uniform(0.3, 0.7, size=(SIZE, *SHAPE))
    image[0] = np.round(image[0])  # at the bounds
    label = np.eye(2)[np.zeros(SIZE, int)]
    index = np.random.default_rng(0).permutation(100)[:SIZE]
    return rj.Batch(*map(jnp.float32, (image, label)), jnp.asarray(index, jnp.int32))


@functools.cache
def program(norm: str) -> Any:
    options = {"steps": 1000, "norm": norm}
    return jax.jit(lambda b, e: attacks.square(forward(), b, KEY, epsilon=e, **options))


@pytest.mark.parametrize(("steps", "height", "width"), [(1000, 32, 32), (77, 8, 5), (5000, 5, 4)])
def test_the_share_of_the_image_is_the_papers(steps: int, height: int, width: int) -> None:
    ends = [(10, 1), (50, 2), (200, 4), (500, 8), (1000, 16), (2000, 32), (4000, 64), (6000, 128)]
    ends += [(8000, 256), (10**9, 512)]
    expected = []
    for step in range(steps):
        at = int(step / steps * 10_000)
        share = 0.8 / next(divisor for end, divisor in ends if at <= end)
        expected.append(min(max(round(np.sqrt(share * height * width)), 1), height, width))
    assert square_sides(steps, height, width).tolist() == expected


def test_bumps() -> None:
    low = np.array([[0.25, 1.25, 0.25]])
    high = np.array([[0.25, 0.25, 0.25], [0.25, 1.25, 0.25]])
    expected = np.concatenate([low / np.linalg.norm(low), -high / np.linalg.norm(high)])
    np.testing.assert_allclose(bump(3), expected / np.sqrt(2))
    assert bump(1).tolist() == [[-1]]


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_ball_and_box_and_near_the_best_of_a_linear_network(norm: str) -> None:
    batch = drawn()
    image = np.asarray(program(norm)(batch, EPSILON), np.float64)
    assert np.all((image >= 0) & (image <= 1))
    move = (image - np.asarray(batch.image, np.float64)).reshape(SIZE, -1)
    sizes = np.linalg.norm(move, 2 if norm == "l2" else np.inf, axis=1)
    assert np.all(sizes <= EPSILON + 1e-6)
    slope = KERNEL[:, 1] - KERNEL[:, 0]
    best = EPSILON * (np.linalg.norm(slope) if norm == "l2" else np.abs(slope).sum())
    share = (move @ slope)[1:] / best
    assert np.all(share < 1 + 1e-5)
    # In L2 a channel of a bump is all that a step can move.
    assert np.all(share > (0.5 if norm == "l2" else 0.9999))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_draws_go_by_the_index_and_company_does_not_matter(norm: str) -> None:
    batch = drawn()
    wrong = batch.replace(label=batch.label.at[3:].set(1 - batch.label[3:]))
    image = program(norm)(batch, 0.05)
    order = jnp.asarray([3, 1, 7, 0, 2, 6, 5, 4])
    moved = program(norm)(jax.tree.map(lambda a: a[order], batch), 0.05)
    np.testing.assert_allclose(moved, image[order], atol=1e-6)
    found = program(norm)(wrong, 0.05)
    np.testing.assert_allclose(found[:3], image[:3], atol=1e-6)
    assert_same(found[3:], batch.image[3:])  # misled already
    others = program(norm)(batch.replace(index=batch.index + 1), 0.05)
    assert norm == "linf" or jnp.any(others != image)  # the one best image, whatever is drawn


def test_mistakes() -> None:
    attack = functools.partial(attacks.square, forward(), key=KEY, epsilon=0.1)
    with pytest.raises(ValueError, match=r"square knows the norms .* not 'l1'"):
        attack(drawn(), norm="l1")
    with pytest.raises(ValueError, match=r"square needs images \[B, H, W, K\], .* \[8, 40\]"):
        attack(drawn().replace(image=drawn().image.reshape(SIZE, -1)))
