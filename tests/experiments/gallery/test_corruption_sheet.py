"""The contact sheet: which images it shows, in which lines, and what it refuses."""

import numpy as np
import pytest
from PIL import Image

from experiments import ConfigError
from experiments.gallery import corruption_sheet, figure_file
from experiments.report import tiles
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


@pytest.mark.usefixtures("few_lines")
def test_grey_images_stay_grey() -> None:
    lines = dict(corruption_sheet.lines(tiny()[..., :1]))
    assert {level.shape for levels in lines.values() for level in levels} == {(3, 8, 8, 1)}
    assert (lines["brightness"][4] >= tiny()[..., :1]).all()


def test_images_of_other_channels_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    other = {"image": np.zeros((5, 8, 8, 4), np.uint8)}
    monkeypatch.setattr(corruption_sheet.sources, "load_test", lambda name: other)
    with pytest.raises(ConfigError, match=r"--dataset=any has images of 4 channels.*digits"):
        corruption_sheet.chosen("any")


def test_what_is_recommended_is_accepted(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    assert corruption_sheet.chosen("digits").shape == (3, 8, 8, 1)


@pytest.mark.parametrize(
    ("size", "cell", "shown"),
    [
        ((32, 32), 64, (64, 64)),
        ((24, 20), 64, (48, 40)),
        ((64, 64), 64, (64, 64)),
        ((256, 256), 64, (64, 64)),
        ((180, 240), 120, (90, 120)),
    ],
)
def test_images_fit_their_cells(size: tuple[int, int], cell: int, shown: tuple[int, int]) -> None:
    image = np.full((*size, 3), 77, np.uint8)
    fitted = tiles._fitted(image, cell)
    assert fitted.shape == (*shown, 3)
    assert (fitted == 77).all()


def test_a_sheet_of_large_images_is_no_larger(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its labels fit into their lines, whatever the size of the images."""
    monkeypatch.setattr(
        corruption_sheet, "lines", lambda image, seed: [("two\nlines", [image] * 5)] * 24
    )
    for side, cell in ((32, 64), (256, 64), (256, 24)):
        figure = corruption_sheet.sheet(np.zeros((3, side, side, 3), np.uint8), cell=cell)
        width, height = figure.get_size_inches() * figure.dpi
        assert (width, height) == pytest.approx((510 + 6 * (3 * cell + 4), 150 + 24 * (cell + 4)))
        points = figure.axes[0].get_yticklabels()[0].get_fontsize()
        assert 5 < 2.4 * points < 72 * (cell + 4) / 150
