"""What a network sees under each kind of perturbation, against a linear network's closed forms."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import regjax as rj
from experiments.data.preprocessing import normalise
from experiments.evaluation.perturbations import CORRUPTIONS, KINDS, View

MEAN, STD = (0.5, 0.4, 0.3), (0.25, 0.2, 0.5)
SHAPE, CLASSES, COUNT = (6, 4, 3), 3, 5
PREPARE = functools.partial(normalise, mean=MEAN, std=STD)
KEY = jax.random.key(3)


def draw(count=COUNT, shape=SHAPE, low=0, high=256):
    pixels = np.random.default_rng(0).integers(low, high, (count, *shape)) / 255
    label = jax.nn.one_hot(np.arange(count) % CLASSES, CLASSES)
    index = jnp.arange(count, dtype=jnp.int32) * 3 + 11
    return rj.Batch(jnp.asarray(pixels, jnp.float32), label, index)


WEIGHTS = np.random.default_rng(1).normal(size=(int(np.prod(SHAPE)), CLASSES)).astype(np.float32)


@functools.cache
def view(dtype=jnp.float32):
    """A linear network behind the normalisation."""
    network = rj.from_function(lambda w, x: x.reshape(len(x), -1) @ w, WEIGHTS)
    return View(network.frozen(), PREPARE, dtype, KEY)


@functools.cache
def program(kind, options):
    return jax.jit(lambda batch, level: KINDS[kind].function(view(), batch, **dict(options))(level))


def seen(kind, level, batch=None, /, **options):
    """What the network sees, float64."""
    batch = draw() if batch is None else batch
    image = program(kind, tuple(options.items()))(batch, jnp.float32(level))
    return np.asarray(image, np.float64)


def pixels(seen):
    return seen * np.array(STD) + np.array(MEAN)


def prepared(image):
    return (np.asarray(image, np.float64) - np.array(MEAN)) / np.array(STD)


def margins(image):
    """How much the strongest wrong class is ahead of the true one, of pixels."""
    logits = prepared(image).reshape(len(image), -1) @ WEIGHTS.astype(np.float64)
    label = np.arange(len(image)) % CLASSES
    own = logits[np.arange(len(image)), label].copy()
    logits[np.arange(len(image)), label] = -np.inf
    return logits.max(-1) - own


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("white_noise", {}),
        ("white_noise", {"protocol": "pixel"}),
        ("salt_and_pepper", {}),
        ("salt_and_pepper", {"protocol": "pixel"}),
        ("switched_off_pixels", {}),
        ("pgd", {"steps": 2}),
        ("cw_l2", {"steps": 2, "search_steps": 1}),
    ],
)
def test_level_0_is_the_clean_image_as_the_network_was_trained_on_it(name, options):
    clean = prepared(draw().image)
    np.testing.assert_allclose(seen(name, 0, **options), clean, atol=1e-5)
    assert np.abs(seen(name, 1, **options) - clean).max() > 0.1 or name == "cw_l2"


def test_white_noise_of_the_paper_is_in_normalised_units_and_not_clipped():
    white = draw(40).replace(image=jnp.ones((40, *SHAPE)))
    noise = seen("white_noise", 0.5, white) - prepared(white.image)
    # Of every channel the same deviation, though their `std` are not; 960 numbers each.
    np.testing.assert_allclose(noise.std((0, 1, 2)), 0.5, atol=5 * 0.5 / np.sqrt(2 * 960))
    np.testing.assert_allclose(noise.mean((0, 1, 2)), 0, atol=5 * 0.5 / np.sqrt(960))
    assert pixels(seen("white_noise", 0.5, white)).max() > 1.2
    twice = seen("white_noise", 1.0, white) - prepared(white.image)
    np.testing.assert_allclose(twice, 2 * noise, atol=1e-5)


def test_white_noise_on_pixels_is_added_before_the_normalisation_and_clipped():
    grey = draw(40).replace(image=jnp.full((40, *SHAPE), 0.5))
    noise = pixels(seen("white_noise", 0.1, grey, protocol="pixel")) - 0.5
    np.testing.assert_allclose(noise.std((0, 1, 2)), 0.1, atol=5 * 0.1 / np.sqrt(2 * 960))
    strong = pixels(seen("white_noise", 3.0, grey, protocol="pixel"))
    np.testing.assert_allclose([strong.min(), strong.max()], [0, 1], atol=1e-6)
    assert 0.3 < np.mean(strong > 1 - 1e-6) < 0.55


def test_salt_and_pepper_of_the_paper_is_in_the_red_channel_only():
    clean, found = prepared(draw().image), seen("salt_and_pepper", 0.3)
    np.testing.assert_allclose(found[..., 1:], clean[..., 1:], atol=1e-6)
    low = clean[..., 0].min((1, 2))
    for i, image in enumerate(found[..., 0]):
        changed = image != clean[i, ..., 0].astype(np.float32)
        high = image.max()  # the largest that the pepper left
        assert high.round(4) in clean[i, ..., 0].round(4)
        assert np.all(np.isin(image[changed].round(4), [low[i].round(4), high.round(4)]))
        assert 4 <= np.isclose(image, high).sum() <= 5  # ceil(0.3 * 24 / 2), and its own
        assert 1 <= np.isclose(image, low[i]).sum() <= 5


def test_salt_and_pepper_on_pixels_is_black_and_white():
    batch = draw(40, low=20, high=200)
    found = pixels(seen("salt_and_pepper", 0.3, batch, protocol="pixel"))
    changed = np.abs(found - np.asarray(batch.image)).max(-1) > 1e-4
    assert np.all(np.isin(found[changed].round(4), [0, 1]))
    np.testing.assert_allclose(changed.mean(), 0.3, atol=5 * np.sqrt(0.3 * 0.7 / 960))
    white = found[changed].mean()
    np.testing.assert_allclose(white, 0.5, atol=5 * 0.5 / np.sqrt(changed.sum()))


def test_switched_off_pixels_are_black_before_the_normalisation():
    batch = draw(low=20)
    found = pixels(seen("switched_off_pixels", 0.25, batch))
    off = np.abs(found).max(-1) < 1e-6
    assert off.sum((1, 2)).tolist() == [6] * COUNT
    np.testing.assert_allclose(found[~off], np.asarray(batch.image)[~off], atol=1e-6)


@pytest.mark.parametrize("std", [(), (0.1, 0.2, 0.4)])
def test_a_corruption_is_of_pixels_and_normalised_as_asked(std):
    batch = draw()
    keys = rj.example_keys(KEY, batch)
    expected = rj.corruptions.corrupt("contrast", batch.image, 3, keys)
    expected = (np.asarray(expected, np.float64) - np.array(MEAN)) / np.array(std or STD)
    found = seen("corruption", 3, name="contrast", std=std)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    stored = seen("stored_corruption", 3, name="contrast", std=std)  # is corrupted already
    clean = (np.asarray(batch.image, np.float64) - np.array(MEAN)) / np.array(std or STD)
    np.testing.assert_allclose(stored, clean, atol=1e-5)


def test_images_of_another_data_set_are_prepared_and_nothing_else():
    given = {"name": "cats", "map": (("cat", ("tabby",)),)}
    np.testing.assert_allclose(seen("dataset", 1, **given), prepared(draw().image), atol=1e-5)


def test_a_grey_image_is_corrupted_as_three_channels_that_are_alike():
    batch = draw(shape=(6, 4, 1))
    coloured = batch.replace(image=jnp.repeat(batch.image, 3, -1))
    grey = view()._replace(prepare=normalise)
    for name in ("impulse_noise", "contrast"):
        each = rj.corruptions.corrupt(name, coloured.image, 5, rj.example_keys(KEY, batch))
        found = jax.jit(KINDS["corruption"].function(grey, batch, name=name))(jnp.float32(5))
        assert found.shape == batch.image.shape
        expected = np.asarray(each, np.float64).mean(-1, keepdims=True)
        np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_every_corruption_can_be_traced_for_small_grey_images(name):
    batch = draw(shape=(8, 8, 1))
    grey = view()._replace(prepare=normalise)

    def at(level):
        return KINDS["corruption"].function(grey, batch, name=name)(level)

    assert jax.eval_shape(at, jnp.float32(2)).shape == batch.image.shape


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("fgsm", {}),
        ("pgd", {"steps": 3}),
        ("mim", {"steps": 3}),
        ("apgd", {"steps": 3}),
        ("square", {"steps": 3}),
        ("autoattack", {"steps": 2, "queries": 2}),
    ],
)
def test_an_attack_changes_every_pixel_by_epsilon_and_stays_in_the_range(name, options):
    batch, epsilon = draw(), 0.1
    found = pixels(seen(name, epsilon, batch, **options))
    change = found - np.asarray(batch.image)
    assert np.abs(change).max() <= epsilon + 1e-5
    assert found.min() >= -1e-6
    assert found.max() <= 1 + 1e-6
    assert (found < 1e-5).any()  # the bounds were reached
    assert (found > 1 - 1e-5).any()
    assert np.all(margins(found) >= margins(batch.image) - 1e-4)


def two_classes():
    """A batch of two classes in the middle of the range, and its closed form in pixels."""
    batch = draw(4, low=120, high=136)
    label = jax.nn.one_hot(np.arange(4) % 2, 2)
    network = rj.from_function(lambda w, x: x.reshape(len(x), -1) @ w, jnp.asarray(WEIGHTS[:, :2]))
    direction = (WEIGHTS[:, 1] - WEIGHTS[:, 0]).reshape(SHAPE) / np.array(STD)
    ahead = np.sum(prepared(batch.image) * direction * np.array(STD), (1, 2, 3))
    sign = np.where(np.arange(4) % 2 == 0, 1.0, -1.0)
    batch, network = batch.replace(label=label), view()._replace(forward=network)
    return batch, network, direction, ahead * sign, sign


@pytest.mark.parametrize(
    ("name", "options"),
    [("fgsm", {}), ("pgd", {"steps": 4}), ("mim", {"steps": 4}), ("pgd", {"norm": "l2"})],
)
def test_an_attack_on_a_linear_network_is_the_strongest_in_pixels(name, options):
    batch, view, direction, _, sign = two_classes()
    found = jax.jit(lambda level: KINDS[name].function(view, batch, **options)(level))(0.05)
    change = pixels(np.asarray(found, np.float64)) - np.asarray(batch.image)
    gain = np.sum(change * direction, (1, 2, 3)) * sign
    if "norm" in options:  # the last part of the way along the ball is slow
        most = 0.05 * np.linalg.norm(direction)
        assert np.all((0.97 * most < gain) & (gain < 1.0001 * most))
    else:
        np.testing.assert_allclose(gain, 0.05 * np.abs(direction).sum(), rtol=1e-3)


@pytest.mark.parametrize(
    ("name", "options"), [("cw_l2", {"steps": 200, "search_steps": 6}), ("ddn", {})]
)
def test_the_smallest_changes_count_where_they_are_small_enough(name, options):
    batch, view, direction, margin, _ = two_classes()
    distance = np.maximum(-margin, 0) / np.linalg.norm(direction)
    at = jax.jit(lambda level: KINDS[name].function(view, batch, **options)(level))
    wrong = [i for i in range(4) if distance[i] > 0]
    assert wrong
    clean = prepared(batch.image)
    for i in wrong:
        below = np.asarray(at(jnp.float32(0.97 * distance[i])), np.float64)[i]
        np.testing.assert_allclose(below, clean[i], atol=1e-5)
        above = pixels(np.asarray(at(jnp.float32(1.1 * distance[i])), np.float64))[i]
        change = above - np.asarray(batch.image)[i]
        assert 0.99 * distance[i] < np.linalg.norm(change) < 1.1 * distance[i]


@pytest.mark.parametrize(
    ("name", "level", "options"),
    [
        ("white_noise", 0.5, {}),
        ("white_noise", 0.5, {"protocol": "pixel"}),
        ("salt_and_pepper", 0.3, {}),
        ("switched_off_pixels", 0.3, {}),
        ("corruption", 3, {"name": "shot_noise"}),
        ("pgd", 0.1, {"steps": 1, "norm": "l2"}),
    ],
)
def test_draws_go_by_the_image_and_not_by_its_place_or_the_network(name, level, options):
    batch, order = draw(), np.array([3, 1, 4, 0, 2])
    moved = jax.tree.map(lambda x: x[order], batch)
    found = seen(name, level, batch, **options)
    np.testing.assert_allclose(seen(name, level, moved, **options), found[order], atol=1e-5)
    other = batch.replace(index=batch.index + 1)
    assert np.abs(seen(name, level, other, **options) - found).max() > 0.01


def test_the_network_computes_in_its_own_precision():
    seen: list[str] = []

    def network(params, x):
        seen.append(x.dtype.name)
        return x.reshape(len(x), -1) @ params.astype(x.dtype)

    half = View(rj.from_function(network, jnp.asarray(WEIGHTS)), PREPARE, jnp.bfloat16, KEY)
    image = jnp.asarray(prepared(draw().image), jnp.float32)
    assert half.outputs(image).logits.dtype == jnp.float32
    half.of_pixels()(draw().image)
    assert seen == ["bfloat16", "bfloat16"]
