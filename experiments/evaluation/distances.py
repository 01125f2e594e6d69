"""How far generated images are from real ones, as numbers of their features, in float64.

Features are `[N, A]` of any network; those of a classifier that was trained on real images stand in
for a pretrained Inception, so that values compare only under the same classifier. Every distance is
computed in blocks; none holds more than a subset's kernel matrix or scikit-learn's chunks.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


class Estimate(NamedTuple):
    """A number and how sure it is.

    Attributes:
      value: the number.
      deviation: over subsets its standard deviation, of an accuracy its standard error.
    """

    value: float
    deviation: float


def kernel_distance(
    real: np.ndarray, fake: np.ndarray, subsets: int = 100, size: int = 1000, seed: int = 0
) -> Estimate:
    """The kernel inception distance's form in these features: an unbiased squared MMD.

    `mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean k(x_i, y_j)` with
    `k(a, b) = (a'b / A + 1)^3`. Its expectation is 0 for equal distributions; a single value may be
    negative. See "Demystifying MMD GANs" (Binkowski et al., 2018), section 3.

    Args:
      real: features `[N, A]`.
      fake: features `[M, A]`.
      subsets: how many are drawn, each without replacement.
      size: examples of either in a subset; all where there are fewer.
      seed: of the draws.

    Returns:
      The mean and the standard deviation over the subsets.

    Raises:
      ValueError: the features differ in their number, or there are fewer than two of a kind.

    Example:
      >>> x = np.random.default_rng(0).normal(size=(500, 2))
      >>> kernel_distance(x, x + 1).value > 0.5
      True
    """
    real, fake = _checked(real, fake)
    rng, size = np.random.default_rng(seed), min(size, len(real), len(fake))
    values = [
        _squared_mmd(*(x[rng.choice(len(x), size, replace=False)] for x in (real, fake)))
        for _ in range(subsets)
    ]
    return Estimate(float(np.mean(values)), float(np.std(values)))


def _squared_mmd(x: np.ndarray, y: np.ndarray) -> float:
    within = [_kernel(each, each) for each in (x, y)]
    count = len(x) * (len(x) - 1)
    same = sum((kernel.sum() - np.trace(kernel)) / count for kernel in within)
    return float(same - 2 * _kernel(x, y).mean())


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    root = x @ y.T / x.shape[1] + 1
    return root * root * root


def frechet_distance(real: np.ndarray, fake: np.ndarray) -> float:
    """The squared Frechet distance of the two Gaussians of these features' moments.

    `|m - n|^2 + tr(S + T - 2 (S^1/2 T S^1/2)^1/2)`; the FID where the features are Inception's,
    which these are not. It is biased upwards, by about 1/N. See "GANs Trained by a Two Time-Scale
    Update Rule Converge to a Local Nash Equilibrium" (Heusel et al., 2017), eq. 6.

    Args:
      real: features `[N, A]`.
      fake: features `[M, A]`.

    Raises:
      ValueError: the features differ in their number, or there are fewer than two of a kind.

    Example:
      >>> x = np.random.default_rng(0).normal(size=(500, 2))
      >>> round(frechet_distance(x, x + 1), 6)
      2.0
    """
    real, fake = _checked(real, fake)
    one, other = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (real, fake))
    root = _root(one)
    both = np.trace(_root(root @ other @ root))
    apart = np.sum((real.mean(0) - fake.mean(0)) ** 2)
    return float(apart + np.trace(one) + np.trace(other) - 2 * both)


def _root(matrix: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T


class Parts(NamedTuple):
    """The leave-one-out accuracy of the nearest neighbour, 0.5 for equal distributions.

    Attributes:
      real: the share of the real examples whose nearest other is real; high where some kinds of
        them are never generated.
      fake: the share of the generated whose nearest other is generated; below 0.5 where they are
        copies of the real ones.
    """

    real: float
    fake: float


def nearest_neighbour_accuracy(real: np.ndarray, fake: np.ndarray) -> Parts:
    """The leave-one-out 1-NN test, each part by itself.

    See "An Empirical Study on Evaluation Metrics of Generative Adversarial Networks" (Xu et al.,
    2018), section 2. Parts of unequal sizes would favour the larger one.

    Args:
      real: features `[N, A]`.
      fake: features `[N, A]`.

    Raises:
      ValueError: the features differ in their number, or there are not as many of both kinds.

    Example:
      >>> x = np.random.default_rng(0).normal(size=(500, 2))
      >>> nearest_neighbour_accuracy(x, x + 100)
      Parts(real=1.0, fake=1.0)
    """
    real, fake = _checked(real, fake)
    if len(real) != len(fake):
        raise ValueError(f"there are {len(real)} real and {len(fake)} fake: take as many of both.")
    searched = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(np.concatenate([real, fake]))
    # Without points of their own, each is no neighbour of itself.
    near = searched.kneighbors(return_distance=False)[:, 0]
    found_real = near < len(real)
    return Parts(float(found_real[: len(real)].mean()), float(1 - found_real[len(real) :].mean()))


def two_sample_test(real: np.ndarray, fake: np.ndarray, seed: int = 0) -> Estimate:
    """The accuracy, on held-out examples, of a logistic regression that tells fake from real.

    Half of each kind is trained on. Under equal distributions, of as many of both, the accuracy is
    about `N(1/2, 1 / (4 n))` of n held-out examples. See "Revisiting Classifier Two-Sample Tests"
    (Lopez-Paz and Oquab, 2017), section 3.

    Args:
      real: features `[N, A]`.
      fake: features `[M, A]`.
      seed: of the division.

    Returns:
      The accuracy and its standard error under equal distributions, `1 / (2 sqrt(n))`.

    Raises:
      ValueError: the features differ in their number, or there are fewer than two of a kind.

    Example:
      >>> x = np.random.default_rng(0).normal(size=(500, 2))
      >>> two_sample_test(x, x + 100).value
      1.0
    """
    real, fake = _checked(real, fake)
    rng = np.random.default_rng(seed)
    halves = [np.array_split(rng.permutation(x), 2) for x in (real, fake)]
    seen, held_out = zip(*halves, strict=True)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    model.fit(np.concatenate(seen), np.repeat([0, 1], [len(each) for each in seen]))
    truth = np.repeat([0, 1], [len(each) for each in held_out])
    accuracy = model.score(np.concatenate(held_out), truth)
    return Estimate(float(accuracy), float(0.5 / np.sqrt(len(truth))))


def nearest(queries: np.ndarray, stored: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The nearest stored rows of each query, by Euclidean distance.

    Args:
      queries: `[N, ...]`, pixels or features.
      stored: `[M, ...]`.
      count: how many of them, k, at most M.

    Returns:
      Their places, ints `[N, k]`, the nearest first, and their distances `[N, k]`.

    Raises:
      ValueError: as few are stored, or queries are of another size.

    Example:
      >>> nearest(np.array([[0.9]]), np.array([[0.0], [1.0]]), 1)[0].tolist()
      [[1]]
    """
    flat = [np.reshape(x, (len(x), -1)) for x in (stored, queries)]
    searched = NearestNeighbors(n_neighbors=count, algorithm="brute").fit(flat[0])
    distance, place = searched.kneighbors(flat[1])
    return place, distance


def _checked(real: np.ndarray, fake: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both in float64."""
    shapes = real.shape, fake.shape
    if real.ndim != 2 or fake.ndim != 2 or real.shape[1] != fake.shape[1]:
        raise ValueError(f"features must be [N, A] and [M, A], but are {shapes}.")
    if min(len(real), len(fake)) < 2:
        raise ValueError(f"there must be at least two of both kinds, but features are {shapes}.")
    return np.asarray(real, np.float64), np.asarray(fake, np.float64)
