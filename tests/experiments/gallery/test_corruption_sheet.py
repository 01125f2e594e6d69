"""The contact sheet: which images it shows, in which lines, and what it refuses."""

import numpy as np
import pytest
from PIL import Image

from experiments import ConfigError
from experiments.gallery import corruption_sheet, figure_file
from regjax import corruptions


def tiny(count: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(40, 200, (count, 8, 8, 3)).astype(np.uint8)


@pytest.fixture
def few_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of the corruptions, in place of nineteen that take long to compile."""
    monkeypatch.setattr(corruptions, "NAMES", ("brightness",))
    monkeypatch.setattr(corruptions, "EXTRA", ("contrast",))


@pytest.mark.usefixtures("few_lines")
def test_lines_are_the_noises_and_then_the_corruptions() -> None:
    image = tiny()
    lines = dict(corruption_sheet.lines(image))
    assert [label.split()[0] for label in lines] == [
        *("white", "white", "salt", "salt", "switched"),
        *("brightness", "contrast"),
    ]
    for label, levels in lines.items():
        assert [level.shape for level in levels] == [image.shape] * 5, label
        changes = [np.abs(level.astype(int) - image).mean() for level in levels]
        assert np.argmax(changes) == 4, label
        assert changes[0] < changes[4], label
    by_word = {label.split("\n")[-1]: levels for label, levels in lines.items()}
    off = by_word["1, 2.4, 4.9, 9.8, 19.5%"][4]
    assert ((off == 0).all(-1).sum((1, 2)) == round(200 / 1024 * 64)).all()
    # Of the paper's salt and pepper, in the third line, only the red channel is hit.
    paper = list(lines.values())[2][4]
    assert (np.abs(paper.astype(int) - image)[..., 1:] <= 1).all()  # rounded
    assert (by_word["brightness"][4].astype(int) >= image).all()


@pytest.mark.usefixtures("few_lines")
def test_the_sheet_shows_the_images(tmp_path) -> None:
    """Their colours are found in the file, those of the brightest corruption too."""
    image = np.zeros((2, 8, 8, 3), np.uint8)
    image[0, ..., 0], image[1, ..., 2] = 120, 120
    path = figure_file.write(corruption_sheet.sheet(image), str(tmp_path / "sheet.png"))
    pixels = np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3)
    shown = {tuple(pixel) for pixel in pixels.tolist()}
    bright = int(120 + 0.3 * 255)
    assert {(120, 0, 0), (0, 0, 120), (bright, 0, 0), (255, 255, 255)} <= shown


def test_images_are_chosen_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    image = tiny(30)
    monkeypatch.setattr(corruption_sheet.sources, "load_test", lambda name: {"image": image})
    np.testing.assert_array_equal(corruption_sheet.chosen("any"), image[[0, 10, 20]])


def test_grey_images_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    grey = {"image": np.zeros((5, 8, 8, 1), np.uint8)}
    monkeypatch.setattr(corruption_sheet.sources, "load_test", lambda name: grey)
    with pytest.raises(ConfigError, match=r"--dataset=digits has images of 1 channel.*cifar10"):
        corruption_sheet.chosen("digits")
