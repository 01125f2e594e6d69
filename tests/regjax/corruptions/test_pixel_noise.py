"""White noise, salt and pepper, switched-off pixels: where they fall, and how much there is."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from support import assert_same

from regjax.corruptions import salt_and_pepper, switched_off_pixels, white_noise

COUNT, SIZE = 400, 63

NOISES: dict[str, Callable[..., jax.Array]] = {
    f"{noise.__name__} {protocol}": partial(noise, protocol=protocol)
    for noise in (white_noise, salt_and_pepper)
    for protocol in ("paper", "pixel")
} | {"switched_off_pixels": switched_off_pixels}

compiled = {name: jax.jit(noise) for name, noise in NOISES.items()}


def keys(seed: int = 0) -> jax.Array:
    return jax.random.split(jax.random.key(seed), COUNT)


def images(*, normalised: bool = False) -> jax.Array:
    pixels = np.random.default_rng(0).uniform(0.01, 0.99, (COUNT, 9, 7, 3))
    return jnp.asarray((pixels - 0.4) / 0.2 if normalised else pixels, jnp.float32)


def test_white_noise_of_the_paper_is_normal_and_not_clipped() -> None:
    image = images(normalised=True)
    noise = np.asarray(compiled["white_noise paper"](image, 0.3, keys()) - image) / 0.3
    assert stats.kstest(noise.ravel(), "norm").pvalue > 1e-3
    # Neither channels nor images share their draws.
    assert abs(np.corrcoef(noise[..., 0].ravel(), noise[..., 1].ravel())[0, 1]) < 0.03
    assert abs(np.corrcoef(noise[::2].ravel(), noise[1::2].ravel())[0, 1]) < 0.03


def test_white_noise_on_pixels_is_the_same_clipped() -> None:
    image = images()
    unclipped = np.asarray(compiled["white_noise paper"](image, 0.3, keys()))
    clipped = np.asarray(compiled["white_noise pixel"](image, 0.3, keys()))
    assert unclipped.min() < 0
    assert unclipped.max() > 1
    assert_same(clipped, unclipped.clip(0, 1))


@pytest.mark.parametrize("amount", [0.02, 0.1, 0.5])
def test_salt_and_pepper_of_the_paper_hits_red_alone(amount: float) -> None:
    image = images(normalised=True)
    noisy = np.asarray(compiled["salt_and_pepper paper"](image, amount, keys()))
    assert_same(noisy[..., 1:], image[..., 1:])
    red, original = (np.asarray(x)[..., 0].reshape(COUNT, SIZE) for x in (noisy, image))
    lowest, highest = original.min(1, keepdims=True), original.max(1, keepdims=True)
    count = math.ceil(amount * SIZE / 2)
    salt = np.where((red == highest).any(1, keepdims=True), highest, red.max(1, keepdims=True))
    # Or one more: the pixel that is the maximum, where it is not drawn itself.
    assert set((red == salt).sum(1)) <= {count, count + 1}
    assert ((red == original) | (red == lowest) | (red == salt)).all()
    assert ((red == lowest).sum(1) <= count + 1).all()
    # Those of the minimum that the maximum has not overwritten: hypergeometric.
    left = ((red == lowest) & (original != lowest)).sum(1)
    expected = count * (1 - count / SIZE) * (1 - 1 / SIZE)
    assert abs(left.mean() - expected) < 4 * left.std() / np.sqrt(COUNT) + 1e-9


def test_salt_of_the_paper_is_the_largest_value_that_the_pepper_has_left() -> None:
    """As in the authors' program: where pepper hides the one largest value, salt is the next."""
    image = images()
    noisy = np.asarray(compiled["salt_and_pepper paper"](image, 1.0, keys()))
    red, original = (np.sort(np.asarray(x)[..., 0].reshape(COUNT, SIZE)) for x in (noisy, image))
    count = math.ceil(SIZE / 2)
    rank = np.array([np.searchsorted(*pair) for pair in zip(original, red[:, -1], strict=True)])
    hidden = count / SIZE
    for down, chance in enumerate([1 - hidden, hidden * (SIZE - count) / (SIZE - 1)]):
        share = (rank == SIZE - 1 - down).mean()
        assert abs(share - chance) < 4 * np.sqrt(chance * (1 - chance) / COUNT)
    assert (red == red[:, -1:]).sum(1).min() == count


def test_salt_and_pepper_of_the_paper_is_uniform_over_the_pixels() -> None:
    image = images()[:1].repeat(COUNT, 0)
    noisy = np.asarray(compiled["salt_and_pepper paper"](image, 0.4, keys()))
    hit = (noisy != np.asarray(image))[..., 0].sum(0).ravel()
    free = np.argsort(np.asarray(image[0, ..., 0]).ravel())[1:-1]  # not itself an extreme
    assert stats.chisquare(hit[free]).pvalue > 1e-3


def test_salt_and_pepper_on_pixels_in_all_channels_half_and_half() -> None:
    image, amount = images(), 0.1
    noisy = np.asarray(compiled["salt_and_pepper pixel"](image, amount, keys()))
    black, white = (noisy == 0).all(-1), (noisy == 1).all(-1)
    assert_same(np.where((black | white)[..., None], np.asarray(image), noisy), np.asarray(image))
    for hit in (black, white):
        share, error = amount / 2, np.sqrt(amount / 2 * (1 - amount / 2) / hit.size)
        assert abs(hit.mean() - share) < 4 * error


@pytest.mark.parametrize(("amount", "count"), [(5 / 63, 5), (0.1, 6), (1.0, 63)])
def test_exactly_so_many_pixels_are_switched_off(amount: float, count: int) -> None:
    image = images()
    off = np.asarray(compiled["switched_off_pixels"](image, amount, keys()))
    black = (off == 0).all(-1)
    assert (black.sum((1, 2)) == count).all()
    assert_same(off, np.where(black[..., None], 0, image))


@pytest.mark.parametrize("name", NOISES)
def test_what_every_noise_keeps_to(name: str) -> None:
    noise, image, key = compiled[name], images(), keys()
    results = [noise(image, level, key) for level in (0.0, 0.1, 0.4)]
    assert noise._cache_size() == 1  # type: ignore[attr-defined]
    assert_same(results[0], image)
    distances = [float(jnp.abs(result - image).mean()) for result in results]
    assert 0 < distances[1] < distances[2]
    np.testing.assert_allclose(results[1], NOISES[name](image, 0.1, key), atol=1e-6)
    order = np.random.default_rng(1).permutation(COUNT)
    assert_same(noise(image[order], 0.1, key[order]), results[1][order])
    assert (np.asarray(noise(image, 0.1, keys(seed=1))) != np.asarray(results[1])).any()


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"image": jnp.ones((8, 8, 3))}, ValueError, r"\[B, H, W, K\].*\[8, 8, 3\]"),
        ({"image": jnp.ones((2, 8, 8, 3), jnp.uint8)}, TypeError, "floating.*uint8"),
        ({"keys": jax.random.key(0)}, ValueError, r"keys must be \[2\].*key<fry>\[\]"),
        ({"protocol": "papre"}, ValueError, "'paper', 'pixel'.*'papre'"),
    ],
)
def test_wrong_input_is_one_sentence(
    change: dict[str, Any], error: type[Exception], says: str
) -> None:
    given = {"image": jnp.ones((2, 8, 8, 3)), "keys": keys()[:2], "protocol": "paper"} | change
    for noise, level in ((white_noise, "sigma"), (salt_and_pepper, "amount")):
        with pytest.raises(error, match=says):
            noise(**given, **{level: 0.1})


@pytest.mark.parametrize("value", [255.0, -0.5])
def test_noise_on_pixels_is_of_images_from_0_to_1(value: float) -> None:
    image = jnp.full((2, 8, 8, 3), value)
    for noise, level in ((white_noise, "sigma"), (salt_and_pepper, "amount")):
        with pytest.raises(ValueError, match=r"protocol='pixel' is of pixels in \[0, 1\]"):
            noise(image, **{level: 0.1}, keys=keys()[:2], protocol="pixel")
        noise(image, **{level: 0.1}, keys=keys()[:2], protocol="paper")


@pytest.mark.parametrize("amount", [0.035, 0.07, 0.1])
def test_as_many_pixels_are_salted_as_float64_says(amount: float) -> None:
    """Of 0.035 and 0.07, times 200, float64 makes a little more than a whole number."""
    image = jnp.zeros((64, 20, 20, 1)).at[:, 3, 4].set(1.0)
    found = salt_and_pepper(
        image, amount, jax.random.split(jax.random.key(0), 64), protocol="paper"
    )
    # The pixel that was 1 before is one more, where it is not drawn itself.
    assert np.asarray(found).sum((1, 2, 3)).max() == math.ceil(amount * 400 / 2) + 1


@pytest.mark.parametrize("name", NOISES)
def test_several_levels_are_refused(name: str) -> None:
    """Three would pass for one a channel."""
    level = "sigma" if name.startswith("white_noise") else "amount"
    with pytest.raises(ValueError, match=rf"{level} must be one number, got shape \[3\]: jax.vmap"):
        NOISES[name](images(), jnp.array([0.1, 0.2, 0.3]), keys())
