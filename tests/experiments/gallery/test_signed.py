"""Images before and after they were moved: which, by how much, and how they are shown.

Covers `examples.py` too.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import regjax as rj
from configs import digits
from experiments import ConfigError, classify
from experiments.data.spec import Spec
from experiments.gallery import examples, signed
from experiments.report import tiles
from experiments.runs.load import Predictor
from experiments.runs.signing import MEASURES, Recipe, Source

ROOT = Path(__file__).parents[3]
SHAPE = (2, 3, 1)
KERNEL = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
IMAGE = np.random.default_rng(1).integers(0, 256, (12, *SHAPE)).astype(np.uint8)
LABEL = np.arange(12) // 6
SPLITS = {"train": np.arange(0, 12, 2), "test": np.array([1, 3])}


class Bar:
    moved = 0

    def update(self, count):
        self.moved += count


def linear(kernel, x):
    features = x.astype(jnp.float32).reshape(len(x), -1) @ kernel
    return features[:, :2], features


def source(shape=SHAPE, kernel=KERNEL):
    forward = rj.from_function(linear, jnp.asarray(kernel), head=lambda kernel: (kernel, None))
    spec = Spec({"image": jax.ShapeDtypeStruct(shape, np.uint8)}, 2, ("cat", "dog"))
    return Source(Predictor(forward, spec), {}, {"image": IMAGE, "label": LABEL}, SPLITS)


def shown(copies):
    image = np.full((3, 2, 2, 1), 0.25, np.float32)
    names = ["a", "a", "b"]
    measures = {name: [0.0, 0.5, 0.75] for name in MEASURES}
    return signed.Shown(image, np.asarray(copies, np.float32), names, measures, 9)


def test_classes_take_turns_and_stand_side_by_side():
    label = np.array([1, 1, 0, 2, 1, 0])
    for count, expected in ((1, [2]), (4, [2, 5, 0, 3]), (9, [2, 5, 0, 1, 4, 3])):
        assert examples.by_class(label, count).tolist() == expected


def test_images_are_chosen_of_a_split_those_to_show_first():
    places, images = signed.chosen(source(), "train", examples=0, images=2)
    assert (places.tolist(), images) == ([0, 6, 2, 4, 8, 10], 2)
    places, images = signed.chosen(source(), "test", examples=1, images=2)
    assert (places.tolist(), images) == ([1], 1)


@pytest.mark.parametrize(
    ("shape", "split", "says"),
    [
        (SHAPE, "validation", "--split=validation is none of the run's: train, test"),
        ((2, 3, 2), "train", "Images of 2 channels cannot be drawn, but of 1 or 3"),
    ],
)
def test_what_cannot_be_drawn_is_one_sentence(shape, split, says):
    with pytest.raises(ConfigError, match=says):
        signed.chosen(source(shape), split, 0, 2)


def test_images_are_moved_in_parts_and_the_numbers_are_of_all(monkeypatch):
    """By the closed form of a linear network, in grey levels."""
    monkeypatch.setattr(jax, "local_devices", lambda: jax.devices()[:1])
    monkeypatch.setattr(signed, "BATCH", 4)
    places, bar = np.array([0, 6, 2, 4, 8, 10]), Bar()
    found = signed.move(source(), Recipe((2, 5), step=3000.0), places, 2, bar)
    assert bar.moved == found.measured == 6
    step = 3000 * KERNEL.sum(1).reshape(SHAPE) / 255
    expected = IMAGE[places[:2], None] + np.array([2, 5]).reshape(-1, 1, 1, 1) * step
    np.testing.assert_allclose(found.image, IMAGE[places[:2]] / 255, rtol=1e-6)
    np.testing.assert_allclose(found.copies, expected / 255, rtol=1e-4)
    assert found.classes == ["cat", "dog"]
    distance = np.array([0, 2, 5]) * np.abs(step).mean()
    np.testing.assert_allclose(found.measures["distance"], distance, rtol=1e-5)
    for i, count in enumerate((0, 2, 5)):
        moved = (IMAGE[places] + count * step).reshape(6, -1) @ KERNEL[:, :2]
        assert found.measures["correct"][i] == pytest.approx(
            (moved.argmax(1) == LABEL[places]).mean()
        )


@pytest.mark.slow
def test_images_that_are_not_finite_are_one_sentence(monkeypatch):
    monkeypatch.setattr(jax, "local_devices", lambda: jax.devices()[:1])
    with pytest.raises(ConfigError, match="A copy is not finite: take a smaller --step"):
        signed.move(source(), Recipe((500,), step=3e38), np.arange(4), 2, Bar())


def test_a_difference_of_none_is_grey_and_others_are_enlarged():
    same, lighter = np.full((3, 2, 2, 1), 0.25), np.full((3, 2, 2, 1), 0.27)
    found = list(signed.lines(shown(np.stack([same, lighter], 1)), (50, 100)))
    labels = [label for label, _ in found]
    assert labels[0] == "before\naccuracy 0.0 %"
    assert labels[1] == "50 iterations\nmoved 0.5 grey levels\naccuracy 50.0 %"
    assert [label for label in labels if "difference" in label] == [
        "difference\ntimes 1",
        "difference\ntimes 25",
    ]
    levels = [np.unique(image).tolist() for _, image in found]
    assert levels == [[64], [64], [128], [69], [255]]


def test_what_is_beyond_black_and_white_is_shown_as_these():
    copies = np.stack([np.full((3, 2, 2, 1), -1.0), np.full((3, 2, 2, 1), 2.0)], 1)
    levels = [np.unique(image).tolist() for _, image in signed.lines(shown(copies), (1, 2))]
    assert levels == [[64], [0], [0], [255], [255]]


def test_a_line_of_tiles_has_white_between_them():
    found = tiles.row(np.zeros((2, 2, 2, 1), np.uint8), cell=5)
    assert found.shape == (4 + tiles.GAP, 2 * 4 + tiles.GAP, 3)
    assert np.unique(found[:4, :8]).tolist() == [0]
    assert np.unique(found[4:]).tolist() == np.unique(found[:, 8:]).tolist() == [255]


def test_the_picture_names_lines_and_classes():
    copies = np.full((3, 1, 2, 2, 1), 0.5)
    (axes,) = signed.draw(shown(copies), (50,), cell=20).axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "a", "b"]
    assert [label.get_text()[:6] for label in axes.get_yticklabels()] == [
        "before",
        "50 ite",
        "differ",
    ]
    assert axes.images[0].get_array().shape == (3 * 24, 3 * 24, 3)


@pytest.mark.slow
def test_the_command(tmp_path):
    config = digits.get_config("smoke")
    config.losses, config.strengths = {"baseline": "cross_entropy"}, {}
    config.train_sizes, config.seeds, config.validation_per_class = (4,), 1, 2
    classify.compare(config, tmp_path / "run")

    def called(*given):
        line = [sys.executable, "-m", "experiments.gallery.signed", *map(str, given)]
        return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)

    options = ("--normalize=rms", "--step=0.5", "--iterations=2,4", "--images=4")
    done = called(tmp_path / "run", *options, f"--output={tmp_path}/signed.png")
    assert done.returncode == 0, done.stderr
    assert re.search(r"\| 4 iterations \| [\d.]+ \|", done.stdout)
    numbers = json.loads((tmp_path / "signed.json").read_text())
    assert numbers["recipe"]["iterations"] == [2, 4]
    assert numbers["method"] == "baseline"
    assert numbers["measured"] == 40
    distance = numbers["measures"]["distance"]
    assert 0 == distance[0] < distance[1] <= 1  # two steps of half a level
    with Image.open(tmp_path / "signed.png") as image:
        assert image.size[1] > 5 * signed.CELL
    for given, says in (
        ((), f"Name one work folder: {signed.USAGE}"),
        ((tmp_path / "none",), "is no folder: name the --workdir"),
        ((tmp_path / "run", "--output=signed.jpg"), "must end with .png"),
        ((tmp_path / "run", "--momentum=2"), "--momentum=2 must be a share of the last move"),
    ):
        done = called(*given)
        assert done.returncode == 2
        assert says in done.stderr
        assert done.stderr.count("\n") == 1
