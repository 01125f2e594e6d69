"""What all nineteen corruptions keep to; each one's own test is beside its file."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pictures import SEVERITIES, compiled, corrupted, keys, pictures, pixels
from support import assert_same

from regjax import corruptions
from regjax.corruptions import EXTRA, NAMES, corrupt

ALL = (*NAMES, *EXTRA)
FIXED = {
    "defocus_blur",
    "zoom_blur",
    "brightness",
    "contrast",
    "pixelate",
    "jpeg_compression",
    "gaussian_blur",
    "saturate",
}
# By the published parameters, and whatever the picture; in some of the others one parameter rises
# with the severity while another falls, and pixelate depends on how its grid meets the edges.
NOT_MILDER = FIXED - {"saturate", "pixelate"} | {
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "motion_blur",
    "snow",
    "fog",
    "speckle_noise",
}
# Those that compile fast one operation at a time.
FAST = ("impulse_noise", "zoom_blur", "contrast", "pixelate", "gaussian_blur", "saturate")


def test_the_papers_order() -> None:
    assert len(NAMES) == 15
    assert len(set(ALL)) == 19
    assert NAMES[:3] == ("gaussian_noise", "shot_noise", "impulse_noise")
    assert NAMES[-2:] == ("pixelate", "jpeg_compression")
    assert EXTRA == ("speckle_noise", "gaussian_blur", "spatter", "saturate")


@pytest.mark.parametrize("name", ALL)
def test_what_every_corruption_keeps_to(name: str) -> None:
    image, key, run = pixels(), keys(), compiled(name)
    results = [np.asarray(run(image, severity, key)) for severity in SEVERITIES]
    order = jnp.array([2, 0, 3, 1])
    permuted = run(image[order], 4, key[order])
    again = run(image, 4, keys(seed=1))
    assert run._cache_size() == 1  # type: ignore[attr-defined]
    for result in results:
        assert (result.shape, result.dtype) == (image.shape, np.float32)
        assert ((result >= 0) & (result <= 1)).all()
    assert_same(permuted, results[3][np.asarray(order)])
    assert (name in FIXED) == bool((np.asarray(again) == results[3]).all())
    distances = np.array([np.abs(result - np.asarray(image)).mean() for result in results])
    assert (distances > 0).all()
    if name in NOT_MILDER:
        assert (np.diff(distances) > -1e-4).all(), distances
        assert distances[-1] > 1.2 * distances[0]


@pytest.mark.parametrize("name", FAST)
def test_without_jit_it_is_the_same(name: str) -> None:
    result = corrupt(name, pixels(), 3, keys(), quantised=False)
    np.testing.assert_allclose(result, corrupted(name, 3), atol=2e-6)


def test_severities_side_by_side() -> None:
    """With the one that takes another course from severity 4 on."""
    image, key = pixels(), keys()
    together = jax.jit(jax.vmap(lambda s: corrupt("spatter", image, s, key, quantised=False)))
    for severity, result in zip(SEVERITIES, together(jnp.array(SEVERITIES)), strict=True):
        np.testing.assert_allclose(result, corrupted("spatter", severity), atol=2e-6)


def test_levels_go_by_the_shorter_side() -> None:
    """Their brightness 1 adds 0.05, the larger ones' 0.1 of 255."""
    sizes = ((8, 8), (47, 300), (48, 48), (127, 128), (128, 160), (500, 224))
    by_size = [corruptions._by_size(*size) for size in sizes]
    assert by_size == ["cifar"] * 2 + ["tiny_imagenet"] * 2 + ["imagenet"] * 2
    image, key = jnp.full((1, 48, 48, 3), 100 / 255), keys()[:1]
    for levels, value in (("auto", 125), ("tiny_imagenet", 125), ("cifar", 112)):
        brighter = np.asarray(corrupt("brightness", image, 1, key, levels)) * 255  # type: ignore[arg-type]
        assert_same(np.rint(brighter), np.full(image.shape, value, np.float32))


@pytest.mark.parametrize("name", ALL)
def test_larger_images_can_be_traced(name: str) -> None:
    for side in (64, 224):
        image = jax.ShapeDtypeStruct((2, side, side, 3), jnp.float32)
        result = jax.eval_shape(functools.partial(corrupt, name), image, 1, keys()[:2])
        assert (result.shape, result.dtype) == (image.shape, jnp.float32)


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("levels", ["tiny_imagenet", "imagenet"])
def test_the_levels_of_larger_images_corrupt_more(name: str, levels: Any) -> None:
    """Each at its strongest severity, on the same small pictures; none is worse than ImageNet's."""
    run = jax.jit(functools.partial(corrupt, name, levels=levels))
    results = [np.asarray(run(pixels(), s, keys())) for s in SEVERITIES]
    distances = [np.abs(result - np.asarray(pixels())).mean() for result in results]
    assert all(((r >= 0) & (r <= 1)).all() for r in results)
    assert min(distances) > 0
    if name in NOT_MILDER:
        theirs = np.abs(corrupted(name, 5) - np.asarray(pixels())).mean()
        assert distances[4] > 0.95 * theirs, (distances, theirs)


@pytest.mark.parametrize("name", ["saturate", "pixelate", "glass_blur"])
def test_where_float64_is_on_it_is_the_same(name: str, x64: None) -> None:
    image, key = jnp.asarray(pictures() / 255, jnp.float32), keys()
    result = corrupt(name, image, 3, key, quantised=False)
    assert result.dtype == jnp.float32
    with jax.enable_x64(False):
        expected = corrupted(name, 3)
    off = np.abs(np.asarray(result) - expected)
    assert off.max() < 1.01 / 255  # where a value is just at a level
    assert (off < 2e-6).mean() > 0.99


def test_results_are_truncated_to_255ths() -> None:
    """By less than a level: what is a whole level stays."""
    whole = np.asarray(corrupt("contrast", pixels(), 2, keys())) * 255
    fine = corrupted("contrast", 2) * 255
    np.testing.assert_allclose(whole, np.rint(whole), atol=1e-4)
    assert (whole <= fine + 2e-3).all()
    assert (whole > fine - 1).all()
    noisy = np.rint(np.asarray(corrupt("impulse_noise", pixels(), 1, keys())) * 255)
    assert 0.97 < (noisy == pictures()).mean() < 1


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"name": "gausian_noise"}, ValueError, "'gausian_noise'.*gaussian_noise, shot.*saturate"),
        ({"image": jnp.ones((8, 8, 3))}, ValueError, r"\[B, H, W, K\].*\[8, 8, 3\]"),
        ({"image": jnp.ones((2, 8, 8, 1))}, ValueError, r"\[B, H, W, 3\].*\[2, 8, 8, 1\]"),
        ({"image": jnp.ones((2, 8, 8, 3), jnp.uint8)}, TypeError, "floating.*uint8"),
        (
            {"image": jnp.full((2, 8, 8, 3), 255.0)},
            ValueError,
            r"fog is of pixels in \[0, 1\].*255",
        ),
        ({"image": jnp.full((2, 8, 8, 3), -1.0)}, ValueError, "from -1 to -1: divide by 255, or"),
        ({"keys": jax.random.split(jax.random.key(0), 3)}, ValueError, r"\[2\].*\[3\]"),
        ({"levels": "imagenet64"}, ValueError, "'auto', 'cifar'.*, not 'imagenet64'"),
        ({"severity": 0}, ValueError, "from 1 to 5, not 0"),
        ({"severity": jnp.array(6)}, ValueError, "from 1 to 5, not 6"),
        ({"severity": 2.5}, TypeError, "integer, not 2.5"),
        ({"severity": jnp.array([1, 2])}, ValueError, r"severity must be one number.*\[2\]"),
    ],
)
def test_wrong_input_is_one_sentence(
    change: dict[str, Any], error: type[Exception], says: str
) -> None:
    key = jax.random.split(jax.random.key(0), 2)
    given = {"name": "fog", "image": jnp.ones((2, 8, 8, 3)), "severity": 1, "keys": key} | change
    with pytest.raises(error, match=says):
        corrupt(**given)
