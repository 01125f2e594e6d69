"""The mask of Puzzle Mix against exhaustive search, and on large grids against a linear program."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.optimize import linprog
from scipy.sparse import lil_array
from support import assert_close, assert_finite

from regjax.mixing.mask_labels import label_mask, mask_energy, mask_terms

label_masks = jax.jit(jax.vmap(label_mask))
Energies = tuple[np.ndarray, np.ndarray, np.ndarray]


def random_energies(seed: int, count: int, shape: tuple[int, int], labels: int) -> Energies:
    """Convex unary terms and weights from far weaker to far stronger than them."""
    rng = np.random.default_rng(seed)
    (rows, columns), strength = shape, 10 ** rng.uniform(-1, 1, size=(count, 1, 1))
    slopes = np.sort(rng.normal(size=(count, rows, columns, labels - 1)), axis=-1)
    unary = np.concatenate([np.zeros((count, rows, columns, 1)), slopes.cumsum(-1)], -1)
    down = strength * rng.uniform(size=(count, rows - 1, columns))
    return unary, down, strength * rng.uniform(size=(count, rows, columns - 1))


def energies(labelled: np.ndarray, unary: np.ndarray, down: Any, across: Any) -> np.ndarray:
    """Of every labelled grid `[N, R, C]` under every one of the problems: `[N, problems]`."""
    count, steps = len(labelled), unary.shape[-1] - 1
    features = [np.eye(steps + 1)[labelled]]
    features += [(np.diff(labelled, axis=axis) / steps) ** 2 for axis in (1, 2)]
    terms = zip(features, (unary, down, across), strict=True)
    return sum(f.reshape(count, -1) @ t.reshape(len(t), -1).T for f, t in terms)


def excess(problems: Energies, best: np.ndarray) -> np.ndarray:
    """Above the least energy, relative to what the unary terms range over."""
    found = np.asarray(label_masks(*(jnp.asarray(p, jnp.float32) for p in problems)))
    reached = np.diagonal(energies(found, *problems))
    assert_close(jax.vmap(mask_energy)(found, *map(jnp.asarray, problems)), reached)
    return (reached - best) / np.ptp(problems[0], axis=-1).sum((1, 2))


@pytest.mark.parametrize(
    ("shape", "labels"),
    [((2, 2), 3), ((3, 3), 3), ((4, 4), 2), ((2, 3), 4), ((1, 5), 3), ((1, 1), 3)],
)
def test_the_mask_is_as_good_as_exhaustive_search(shape: tuple[int, int], labels: int) -> None:
    problems = random_energies(0, 100, shape, labels)
    every = itertools.product(range(labels), repeat=shape[0] * shape[1])
    gap = excess(problems, energies(np.array(list(every)).reshape(-1, *shape), *problems).min(0))
    assert gap.max() < 1e-4
    assert gap.mean() < 1e-6


def least_energy(unary: np.ndarray, down: np.ndarray, across: np.ndarray) -> float:
    """By the linear program over the pieces of the energy between neighbouring labels."""
    size, steps = down.shape[1] * across.shape[0], unary.shape[-1] - 1
    place = np.arange(size).reshape(unary.shape[:2])
    ends = [(place[:-1], place[1:], down), (place[:, :-1], place[:, 1:], across)]
    first, second, weight = (np.concatenate([e[i].ravel() for e in ends]) for i in range(3))
    bends = np.outer(weight, 2 * np.arange(steps) + 1).ravel() / steps**2
    balance = lil_array((len(weight), (size + 2 * len(weight)) * steps))
    for e, (i, j) in enumerate(zip(first, second, strict=True)):
        for start, sign in ((i, 1), (j, -1), (size + e, -1), (size + len(weight) + e, 1)):
            balance[e, start * steps : (start + 1) * steps] = sign
    cost = np.concatenate([np.diff(unary, axis=-1).ravel(), bends, bends])
    solution = linprog(cost, A_eq=balance.tocsr(), b_eq=np.zeros(len(weight)), bounds=(0, 1))
    return solution.fun + unary[..., 0].sum()


def test_the_mask_of_a_large_grid_is_as_good_as_a_linear_program() -> None:
    problems = random_energies(1, 30, (8, 8), 3)
    gap = excess(problems, np.array([least_energy(*p) for p in zip(*problems, strict=True)]))
    assert np.abs(gap).max() < 1e-4
    assert np.abs(gap).mean() < 1e-5


def steps_by_hand(last: np.ndarray, first: np.ndarray) -> float:
    """Between two blocks `[8, 8, 2]`, one left of the other: their 4 x 4 cells at the border."""
    cells = [(last[4 * i : 4 * i + 4, 4:], first[4 * i : 4 * i + 4, :4]) for i in (0, 1)]
    return float(np.mean([np.abs(a.mean((0, 1)) - b.mean((0, 1))).mean() for a, b in cells]))


@pytest.mark.parametrize("labels", [2, 3, 4])
def test_the_terms_at_extreme_labels_are_the_papers(labels: int) -> None:
    """Differences of energy between masks of 0 and 1, on 2 x 3 blocks, term by term."""
    rng = np.random.default_rng(labels)
    images, saliencies = rng.uniform(size=(2, 16, 24, 2)), rng.dirichlet(np.ones(6), 2)
    saliencies, (beta, gamma, eta), lam = saliencies.reshape(2, 2, 3), (1.5, 0.8, 0.3), 0.3
    arrays = (jnp.asarray(a, jnp.float32) for a in (images, saliencies, lam))
    terms = [
        np.asarray(t, np.float64)[None] for t in mask_terms(*arrays, (beta, gamma, eta), labels)
    ]
    blocks = images.reshape(2, 2, 8, 3, 8, 2).swapaxes(2, 3)

    def by_hand(z: np.ndarray) -> float:
        value = 0.0
        for at in np.ndindex(2, 3):
            value -= saliencies[z[at]][at]
            value -= eta / 6 * stats.binom.logpmf((labels - 1) * z[at], labels - 1, lam)
            for after, turn in (((at[0] + 1, at[1]), True), ((at[0], at[1] + 1), False)):
                if after[0] < 2 and after[1] < 3:
                    pair = blocks[z[at]][at], blocks[z[after]][after]
                    pair = [block.swapaxes(0, 1) for block in pair] if turn else pair
                    smooth = (z[at] - z[after]) ** 2 + gamma * steps_by_hand(*pair)
                    value += beta / (16 * np.sqrt(6)) * smooth
        return value

    masks = rng.integers(2, size=(12, 2, 3))
    expected = np.array([by_hand(z) for z in masks])
    found = energies((labels - 1) * masks, *terms)[:, 0]
    assert_close(found - found.mean(), expected - expected.mean())
    unary, line = terms[0][0], np.linspace(0, 1, labels)
    prior = -eta / 6 * stats.binom.logpmf(np.arange(labels), labels - 1, lam)
    bent = unary - prior - (unary - prior)[..., :1]
    assert_close(bent, bent[..., -1:] * line)  # linear between its ends


def test_weights_stay_positive_and_priors_finite() -> None:
    images = jnp.asarray([[[0.0], [1.0]], [[1.0], [0.0]]])[:, None]  # every mixture is smoother
    saliencies = jnp.full((2, 1, 2), 0.5)
    for gamma, expected in ((0.5, 0.5), (1.0, 0.0), (4.0, 0.0)):
        strengths = (16 * np.sqrt(2), gamma, 0.2)
        for lam in (0.0, 0.5, 1.0):
            unary, _, across = mask_terms(images, saliencies, jnp.float32(lam), strengths, 3)
            assert_close(across, np.full((1, 1), expected))
            assert_finite(unary)
