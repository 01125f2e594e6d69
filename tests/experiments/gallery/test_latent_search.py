"""Searches for images of given features: linear networks, whose solutions NumPy knows."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tqdm import tqdm

import regjax as rj
from experiments.gallery import latent_search
from experiments.gallery.latent_search import Near, Search
from experiments.training import steps
from experiments.training.task import Rows

N, L, A, SHAPE, ETA = 3, 5, 3, (2, 2, 1), 0.3
RNG = np.random.default_rng(0)
MADE, SEEN = RNG.normal(size=(L, 4)), RNG.normal(size=(4, A))
IMAGE, TARGET = RNG.normal(size=(N, *SHAPE)), RNG.normal(size=(N, A))
START = RNG.normal(size=(N, L))
LABEL = np.arange(N, dtype=np.int32)


def make(latent, batch):
    return (latent @ jnp.asarray(MADE)).reshape(-1, *SHAPE)


def features(image):
    return image.reshape(len(image), -1) @ jnp.asarray(SEEN)


def task(iterations, start=START):
    return Search(make, features, jnp.asarray(start), N, iterations)


def normal(z):
    return (z - z.mean(-1, keepdims=True)) / z.std(-1, keepdims=True, ddof=1)


def stacked(eta):
    """`M` and `b` of `|M zhat - b|^2`, which is minimised for each image."""
    matrix = np.concatenate([MADE @ SEEN, np.sqrt(eta) * MADE], 1).T
    wanted = np.concatenate([TARGET, np.sqrt(eta) * IMAGE.reshape(N, -1)], 1)
    return matrix, wanted


def on_the_sphere(matrix, wanted):
    """The least squares among latents of mean 0 and deviation 1, by its Lagrange multiplier."""
    basis = np.linalg.svd(np.ones((1, L)))[2][1:].T
    values, vectors = np.linalg.eigh(basis.T @ matrix.T @ matrix @ basis)
    along = vectors.T @ basis.T @ matrix.T @ wanted
    low, high = -values[0] + 1e-12, 1e4
    for _ in range(200):
        middle = (low + high) / 2
        longer = ((along / (values + middle)) ** 2).sum() > L - 1
        low, high = (middle, high) if longer else (low, middle)
    return basis @ vectors @ (along / (values + middle))


def advanced(search, near, count):
    rows = Rows(np.broadcast_to(LABEL, (count, N)), np.ones((count, N)))
    stored = {"image": jnp.asarray(IMAGE), "label": jnp.asarray(LABEL)}
    seed = jnp.uint32(0)
    run = functools.partial(steps.advance, search, stored, jnp.int32(count))
    state, means, _ = jax.jit(run)(search.init(seed, near), near, seed, rows)
    return np.asarray(state.params), means


def test_latents_are_normalised_as_by_torch():
    np.testing.assert_allclose(latent_search.normalised(jnp.asarray(START)), normal(START), 2e-5)


@pytest.mark.slow
def test_step_one_comes_to_the_least_squares(x64):
    """The start must be near, since the problem on a sphere has two local minima."""
    matrix, wanted = stacked(ETA)
    expected = np.stack([on_the_sphere(matrix, b) for b in wanted])
    start = 2 * expected + 0.3 * START + 1
    near = Near(jnp.asarray(TARGET), jnp.float64(ETA), jnp.float64(0.02))
    latent, _ = advanced(task(2000, start), near, 2000)
    np.testing.assert_allclose(normal(latent), expected, atol=1e-5)


@pytest.mark.slow
def test_steps_are_those_of_momentum_whose_rate_falls_after_every_quarter(x64):
    """By NumPy, with the derivative through the normalisation written out."""
    count, rate, z, momentum, first = 8, 0.05, START.copy(), np.zeros_like(START), None
    matrix, wanted = stacked(ETA)
    for i in range(count):
        deviation, zhat = z.std(-1, keepdims=True, ddof=1), normal(z)
        apart = zhat @ matrix.T - wanted
        first = (apart**2).sum() if first is None else first
        slope = 2 * apart @ matrix
        centred = slope - slope.mean(-1, keepdims=True)
        through = centred - zhat * (zhat * slope).sum(-1, keepdims=True) / (L - 1)
        momentum = 0.9 * momentum + through / deviation + 1e-4 * z
        z = z - rate * 0.1 ** (4 * i // count) * momentum
    near = Near(jnp.asarray(TARGET), jnp.float64(ETA), jnp.float64(rate))
    latent, _ = advanced(task(count), near, count)
    np.testing.assert_allclose(latent, z, rtol=1e-6)
    _, means = advanced(task(1), near, 1)
    np.testing.assert_allclose(means["total"], first, rtol=1e-6)


@pytest.mark.slow
def test_searches_of_several_targets_are_each_its_own():
    image = IMAGE.astype(np.float32)
    stored = {"image": jnp.asarray(image), "label": jnp.asarray(LABEL)}
    targets = [TARGET, TARGET + 1]
    wanted = [Near(t.astype(np.float32), np.float32(0.1), np.float32(0.01)) for t in targets]
    search = task(30, START.astype(np.float32))
    with tqdm(total=30, disable=True) as bar:
        both = latent_search.search(search, stored, wanted, bar)
        alone = latent_search.search(search, stored, wanted[1:], bar)
    np.testing.assert_allclose(both.latent[1], alone.latent[0], rtol=1e-4, atol=1e-5)
    for target, z, features_error in zip(targets, both.latent, both.features, strict=True):
        apart = normal(z.astype(float)) @ MADE @ SEEN - target
        np.testing.assert_allclose(features_error, (apart**2).sum(-1), rtol=1e-3)
    apart = normal(both.latent[0].astype(float)) @ MADE - IMAGE.reshape(N, -1)
    np.testing.assert_allclose(both.pixels[0], (apart**2).mean(-1), rtol=1e-3)
    part = both.part(1, 1)
    np.testing.assert_array_equal(part.image, both.image[1:])


def test_without_a_generator_pixels_begin_as_the_images_and_stay_within_bounds():
    image = jnp.asarray(RNG.uniform(size=(N, *SHAPE)), jnp.float32)
    batch = rj.Batch(image, jnp.eye(N))
    own = latent_search.normalised(image.reshape(N, -1))
    np.testing.assert_allclose(latent_search.by_pixels(own, batch), image, atol=1e-6)
    far = latent_search.by_pixels(5 * own, batch)
    assert (float(far.min()), float(far.max())) == (0, 1)
    # What is cut off keeps its derivative, the images' deviation.
    slope = jax.grad(lambda z: latent_search.by_pixels(z, batch).sum())(5 * own)
    deviation = np.asarray(image).reshape(N, -1).std(-1, ddof=1, keepdims=True)
    np.testing.assert_allclose(slope, np.broadcast_to(deviation, slope.shape), rtol=1e-5)


def test_latents_are_found_by_the_numbers_of_their_images():
    search = task(1)
    state = search.init(jnp.uint32(0), Near(TARGET, 0.1, 1.0))
    found = search.network(state)(jnp.array([2, 0])).logits
    np.testing.assert_allclose(found, normal(START)[[2, 0]], rtol=2e-5)
    assert repr(Near(TARGET, 0.1, 1.0)) == "near(eta=0.1, rate=1.0)"
