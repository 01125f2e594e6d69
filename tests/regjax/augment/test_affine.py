"""The affine stage beside scipy's warp and Keras's matrices; what it draws, read off a ramp."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage, stats
from support import assert_close, assert_same

import regjax as rj
from regjax.augment.affine import placed, warped

OUTSIDE = 1e6


def keras_matrix(angle, shift, slant, zoom):
    """Keras's product of homogeneous matrices, in float64."""
    rotate = [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    move = [[1, 0, shift[0]], [0, 1, shift[1]], [0, 0, 1]]
    shear = [[1, -np.sin(slant), 0], [0, np.cos(slant), 0], [0, 0, 1]]
    return np.array(rotate) @ move @ shear @ np.diag([*zoom, 1])


def draws(count):
    rng = np.random.default_rng(0)
    for _ in range(count):
        yield rng.uniform(-3, 3), rng.uniform(-4, 4, 2), rng.uniform(-1, 1), rng.uniform(0.5, 2, 2)


@pytest.mark.parametrize("shape", [(7, 10, 2), (6, 6, 1)])
@pytest.mark.parametrize("mode", ["nearest", "constant"])
def test_a_warp_is_scipys(mode: str, shape: tuple[int, int, int]) -> None:
    image = np.random.default_rng(1).normal(size=shape)
    centre = (np.array(shape[:2]) - 1) / 2
    fill = "nearest" if mode == "nearest" else tuple(np.arange(1.0, 1 + shape[-1]))
    ours = jax.jit(lambda x, *given: warped(x, placed(*given), fill))
    for drawn in draws(20):
        whole = keras_matrix(*drawn)
        matrix, offset = whole[:2, :2], whole[:2, 2] + centre - whole[:2, :2] @ centre
        expected = np.stack(
            [
                ndimage.affine_transform(
                    image[..., k], matrix, offset, order=1, mode=mode, cval=float(k + 1)
                )
                for k in range(shape[-1])
            ],
            -1,
        )
        got = ours(jnp.asarray(image, jnp.float32), *map(jnp.float32, drawn))
        np.testing.assert_allclose(got, expected, atol=2e-5)


@functools.partial(jax.jit, static_argnames="fill")
def moved(batch: rj.Batch, key: jax.Array, **arguments: Any) -> rj.Batch:
    """The batch after the stage, in one program for all of its numbers."""
    return rj.affine.definition.function(None, batch, key, **arguments)[1]


def changed(stage: str, batch: rj.Batch, seed: int = 0) -> rj.Batch:
    """The batch after a stage."""
    stage = rj.parse(f"cross_entropy | {stage}").stages[1]
    return moved(batch, jax.random.key(seed), **stage.arguments)


def ramps(count: int, height: int = 20, width: int = 30) -> rj.Batch:
    """Images whose two channels are a pixel's row and column, counted from the centre."""
    place = np.moveaxis(np.indices((height, width)), 0, -1) - (height - 1) / 2
    place[..., 1] -= (width - height) / 2
    image = jnp.broadcast_to(jnp.asarray(place, jnp.float32), (count, height, width, 2))
    return rj.Batch(image, jnp.full((count, 2), 0.5))


def maps(stage: str, count: int = 400) -> np.ndarray:
    """The maps [count, 2, 3] that a stage has drawn: a ramp shows where its pixels come from."""
    before = ramps(count)
    after = np.float64(changed(stage, before).image)
    places = np.concatenate([np.float64(before.image[0]), np.ones((20, 30, 1))], -1)
    found = []
    for image in after:
        inside = (np.abs(image) < OUTSIDE / 2).all(-1)
        found.append(np.linalg.lstsq(places[inside], image[inside], rcond=None)[0].T)
    return np.array(found)


QUIET = "rotation=0, shift=0, horizontal=0, vertical=0, fill=(1e6,)"


def drawn_by(arguments: str) -> np.ndarray:
    return maps(f"affine({', '.join([arguments, *_without(arguments)])})")


def _without(arguments: str) -> list[str]:
    names = {each.split("=")[0] for each in arguments.split(", ")}
    return [each for each in QUIET.split(", ") if each.split("=")[0] not in names]


def assert_uniform(values: np.ndarray, low: float, high: float) -> None:
    assert stats.kstest(values, stats.uniform(low, high - low).cdf).pvalue > 1e-3


@pytest.mark.slow
def test_rotations_shifts_shears_and_zooms_are_uniform() -> None:
    found = drawn_by("rotation=30")
    angle = np.arctan2(found[:, 1, 0], found[:, 0, 0])
    assert_uniform(np.degrees(angle), -30, 30)
    expected = np.array([keras_matrix(a, (0, 0), 0, (1, 1))[:2] for a in angle])
    np.testing.assert_allclose(found, expected, atol=1e-4)

    found = drawn_by("shift=0.2")
    np.testing.assert_allclose(found[:, :, :2], np.broadcast_to(np.eye(2), (400, 2, 2)), atol=1e-5)
    assert_uniform(found[:, 0, 2], -4, 4)
    assert_uniform(found[:, 1, 2], -6, 6)
    assert abs(np.corrcoef(found[:, 0, 2], found[:, 1, 2])[0, 1]) < 0.2

    found = drawn_by("shear=40")
    slant = np.degrees(np.arcsin(-found[:, 0, 1]))
    assert_uniform(slant, -40, 40)
    np.testing.assert_allclose(found[:, 1, 1], np.cos(np.radians(slant)), atol=1e-4)
    np.testing.assert_allclose(found[:, :, 0], np.broadcast_to([1, 0], (400, 2)), atol=1e-5)

    found = drawn_by("zoom=0.3")
    for axis in (0, 1):
        assert_uniform(found[:, axis, axis], 0.7, 1.3)


def test_flips_come_last_by_their_own_chances() -> None:
    found = drawn_by("horizontal=0.3, vertical=0.8, shift=0.1")
    turned = found[:, [0, 1], [0, 1]] < 0
    for axis, chance in ((0, 0.8), (1, 0.3)):
        assert abs(turned[:, axis].mean() - chance) < 4 * np.sqrt(chance * (1 - chance) / 400)
    both = (turned[:, 0] & turned[:, 1]).mean()
    assert abs(both - 0.24) < 4 * np.sqrt(0.24 * 0.76 / 400)
    image = np.asarray(ramps(2).image)
    for name, axis in (("horizontal", 2), ("vertical", 1)):
        after = changed(f"affine({', '.join([f'{name}=1', *_without(f'{name}=1')])})", ramps(2))
        assert_same(after.image, np.flip(image, axis))


def test_the_defaults_and_the_index_by_which_is_drawn() -> None:
    names = {"rotation": 15, "shift": 0.1, "horizontal": 0.5, "vertical": 0.5}
    written = ", ".join(f"{name}={value}" for name, value in names.items())
    batch, index = ramps(6), jnp.array([7, 3, 0, 5, 4, 2])
    assert repr(rj.parse(f"cross_entropy | affine({written})")) == "cross_entropy | affine"
    whole = changed("affine", ramps(8)).image
    # Its sums are rounded as the compiler orders them, by the batch's size.
    assert_close(changed("affine", batch.replace(index=index)).image, whole[index])
    assert np.any(changed("affine", batch, seed=1).image != whole[:6])


def test_dense_labels_move_along_and_have_none_outside() -> None:
    image = jnp.asarray(np.random.default_rng(0).uniform(0.1, 1, (8, 6, 7, 2)), jnp.float32)
    batch = rj.Batch(image, image)
    stage = "affine(shear=20, zoom=0.2, fill=(0,))"
    assert_same(changed(stage, batch).label, changed(stage, batch).image)
    nearest = changed("affine(shear=20, zoom=0.2)", batch)
    lost = np.asarray(nearest.label == 0).all(-1)
    assert 0 < lost.mean() < 1
    assert np.all(nearest.image > 0)
    with pytest.raises(ValueError, match="affine moves dense labels as it moves pixels"):
        changed("affine", batch.replace(label=jnp.ones((8, 5, 5, 2))))


def test_the_type_stays_and_what_does_not_fit_is_refused() -> None:
    batch = ramps(2)
    assert changed("affine", batch.replace(image=batch.image.astype(jnp.bfloat16))).image.dtype == (
        jnp.bfloat16
    )
    for fill in ("(0, 1, 2)", "'reflect'", "0.5", "('a',)"):
        with pytest.raises(ValueError, match=r"affine needs .*'nearest' or one or K numbers"):
            changed(f"affine(fill={fill})", batch)
    with pytest.raises(ValueError, match=r"affine needs images \[B, H, W, K\].*\[2, 30, 2\]"):
        changed("affine", batch.replace(image=batch.image[:, 0]))
