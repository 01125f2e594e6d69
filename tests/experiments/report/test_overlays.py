"""Masks over images: pixels by hand, colours that are told apart, and a trained network's own."""

import dataclasses
import itertools
import json

import jax.numpy as jnp
import numpy as np
import pytest
import toys
from matplotlib.colors import to_hex
from ml_collections import ConfigDict
from prepared_data import prepared

from configs import common
from experiments import comparison, models
from experiments.data import sources
from experiments.data.dataset import IGNORED
from experiments.report import overlays, plots
from experiments.report.tiles import GAP
from experiments.runs import load

# What shines through is of half the contrast: 0.35 of the mean of grey and 128.
THROUGH = 0.35


def lab(colour):
    """CIELAB of sRGB in 255ths, under D65."""
    share = np.asarray(colour, np.float64) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = linear @ np.array(to_xyz).T / [0.9505, 1.0, 1.089]
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116).T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


def test_nineteen_colours_are_told_apart_and_none_is_grey():
    found = lab(overlays.palette(19))
    apart = min(np.linalg.norm(a - b) for a, b in itertools.combinations(found, 2))
    assert apart > 50
    assert np.hypot(found[:, 1], found[:, 2]).min() > 35
    assert len({tuple(colour) for colour in overlays.palette(57)}) == 57


def test_known_pixels_have_their_colour_over_grey_and_ignored_ones_are_grey():
    image = np.array([[[[30, 60, 90], [0, 0, 0], [255, 255, 255]]]], np.uint8)
    classes = np.array([[[1, IGNORED, 0]]], np.uint8)
    found = overlays.overlaid(image, classes)
    first, second = overlays.palette(2).astype(np.float64)
    expected = [
        0.65 * second + THROUGH * (60 + 128) / 2,
        [0, 0, 0],
        0.65 * first + THROUGH * (255 + 128) / 2,
    ]
    np.testing.assert_allclose(found[0, 0], expected, atol=0.5001)
    nothing = overlays.overlaid(image, np.full_like(classes, IGNORED))
    np.testing.assert_array_equal(nothing[0, 0], [[60] * 3, [0] * 3, [255] * 3])


def test_a_pixel_without_an_answer_is_ignored():
    logits = jnp.array([[[[0.0, 2.0, 1.0], [jnp.nan, 2.0, 1.0], [3.0, -jnp.inf, 1.0]]]])
    assert overlays.answers(logits).tolist() == [[[1, IGNORED, 0]]]


@pytest.mark.parametrize("channels", [1, 3])
def test_the_picture_has_rows_of_three_and_a_legend_of_all_classes(channels):
    image = np.full((2, 10, 20, channels), 100, np.uint8)
    mask, predicted = np.zeros((2, 10, 20), np.uint8), np.ones((2, 10, 20), np.int32)
    mask[1] = IGNORED
    figure = overlays.draw(image, mask, predicted, ("road", "$sky$", "tree"))
    (axes,) = figure.axes
    shown = axes.images[0].get_array()
    high, wide = 100 + GAP, 200 + GAP
    assert shown.shape == (2 * high, 3 * wide, 3)
    grey = THROUGH * (100 + 128) / 2
    colours = 0.65 * overlays.palette(2) + grey
    centres = shown[high // 2 :: high, wide // 2 :: wide].astype(np.float64)
    expected = [[[100] * 3, colours[0], colours[1]], [[100] * 3, [100] * 3, colours[1]]]
    np.testing.assert_allclose(centres, expected, atol=0.5001)
    assert [text.get_text() for text in axes.get_xticklabels()] == ["image", "truth", "prediction"]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["road", r"\$sky\$", "tree"]
    patches = [to_hex(patch.get_facecolor()) for patch in legend.get_patches()]
    middle = 0.65 * overlays.palette(3) + THROUGH * 128
    assert patches == [to_hex(colour / 255) for colour in middle]
    plots.render(figure, "png")


def test_masks_of_camvid():
    of = ("camvid_small", prepared("camvid_small"), None, "segmentation_label")
    test, known = sources.load_test(*of), sources.describe_test(*of)
    image, mask = (test[name][:2] for name in ("image", "label"))
    figure = overlays.draw(image, mask, mask, known.class_names)
    shown = figure.axes[0].images[0].get_array()
    high, wide = (size // n for size, n in zip(shown.shape, (2, 3), strict=False))
    np.testing.assert_array_equal(shown[: high - GAP, : wide - GAP], image[0])
    truth, said = (shown[:, i * wide : (i + 1) * wide] for i in (1, 2))
    np.testing.assert_array_equal(truth, said)
    ignored = truth[: high - GAP, : wide - GAP][mask[0] == IGNORED]
    assert len(ignored) > 0
    assert (np.ptp(ignored, -1) == 0).all()
    assert len(figure.legends[0].get_texts()) == 11


def config():
    small = common.base()
    small.dataset, small.selection, small.batch_size, small.epochs = "toys", "test", 12, 2
    small.model, small.runs_at_once = "pixelwise", 2
    losses = {"plain": "cross_entropy", "l2": "cross_entropy | l2(weight={strength})"}
    small.losses = ConfigDict(losses, sort_keys=False)
    small.strengths = ConfigDict({"l2": (0.1, 0.001)})
    return small


@pytest.mark.slow
def test_a_comparison_shows_its_networks_masks_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(models.MODELS, "pixelwise", toys.Pixelwise)
    experiment = dataclasses.replace(toys.PIXELS, pictures=overlays.picture)
    comparison.compare(config(), tmp_path, experiment)
    first = (tmp_path / "pictures" / "l2.png").read_bytes()
    record = json.loads((tmp_path / "pictures" / "l2.json").read_text())
    found = load.trained(tmp_path, "l2", strength=record["strength"])
    again = overlays.picture(found, lambda: toys.dataset(toys.masks))
    assert plots.render(again.figure, "png") == first
    shown = again.figure.axes[0].images[0].get_array()
    side = shown.shape[0] // 4
    test = toys.masks(12, 1)
    for row, index in enumerate((0, 3, 6, 9)):  # spread over the split
        pixels = shown[row * side :, :side][: side - GAP, : side - GAP, 0]
        whole = np.kron(test["image"][index, ..., 0], np.ones((50, 50)))
        np.testing.assert_array_equal(pixels, whole)
        truth = np.ptp(shown[row * side :, side : 2 * side][: side - GAP, : side - GAP], -1)
        assert (truth[:50] == 0).all()
        assert (truth[50:] > 0).all()
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/png") == 2
    assert "Test images, what is true of their pixels" in page
    assert len(list(tmp_path.glob("training/*/tensorboard/*/*.6"))) == 2
    unread = dataclasses.replace(experiment, read=lambda _: 1 / 0)
    capsys.readouterr()
    comparison.compare(config(), tmp_path, unread)
    assert capsys.readouterr().err == ""
    broken = dataclasses.replace(experiment, pictures=lambda *_: 1 / 0)
    (tmp_path / "pictures" / "plain.json").unlink()
    paths = comparison.compare(config(), tmp_path, broken)
    assert (
        "picture of plain, which could not be drawn (ZeroDivisionError" in capsys.readouterr().err
    )
    assert paths["report"].read_text().count("data:image/png") == 1
