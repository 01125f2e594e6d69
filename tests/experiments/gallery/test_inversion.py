"""Images of moved features: the numbers, the picture, what is refused, the command on digits.

Covers `inversion_sheet.py` too.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

import regjax as rj
from configs import digits, mnist_generators
from experiments import ConfigError, classify, generate
from experiments.data.spec import Spec
from experiments.gallery import inversion, inversion_sheet
from experiments.gallery.inversion_sheet import Row
from experiments.gallery.latent_search import Found
from experiments.report.tiles import GAP
from experiments.runs.load import Predictor
from experiments.training.generator import Generator

ROOT = Path(__file__).parents[3]
SHAPE, CLASSES = (1, 2, 1), 2


def predictor(shape=SHAPE):
    forward = rj.from_function(lambda p, x: (x.reshape(len(x), -1) @ p,) * 2, jnp.eye(2))
    spec = Spec({"image": jax.ShapeDtypeStruct(shape, np.uint8)}, CLASSES, ("a", "b"))
    return Predictor(forward, spec)


def known():
    image = np.array([[0.9, 0.2], [0.1, 0.8]], np.float32).reshape(2, *SHAPE)
    label = np.array([0, 1], np.int32)
    return inversion.Source(predictor(), 2.0, jnp.stack([jnp.eye(2)] * 2), True, image, label)


def found(*images):
    image = np.asarray(images, np.float32).reshape(len(images), 2, *SHAPE)
    return Found(image, image, np.full((len(images), 2), 0.04), np.full((len(images), 2), 0.25))


def test_features_are_in_units_of_their_deviation():
    source = known()
    np.testing.assert_allclose(source.features(jnp.asarray(source.image))[0], [0.45, 0.1], 1e-6)


def test_the_judge_says_what_share_has_kept_its_class():
    first = found([[0.6, 0.5], [0.3, 0.9]])
    moved = {"one": found([[0.1, 0.5], [0.3, 0.9]], [[0.9, 0.5], [0.3, 0.9]])}
    rows = inversion.rows(known(), first, moved, predictor())
    assert [row.name for row in rows] == ["original", "reconstructed", "one"]
    assert [row.kept for row in rows] == [1.0, 1.0, 0.75]
    assert inversion.rows(known(), first, moved, None)[0].kept is None


def test_the_numbers_and_the_picture():
    features = np.array([[0.01, 0.02, 0.03, 0.5]])
    row = Row("reconstructed", np.zeros((1, 4, *SHAPE)), features, np.full((1, 4), 0.5), 0.75)
    assert row.numbers() == {
        "feature_error": pytest.approx(0.025),
        "mean_feature_error": pytest.approx(0.14),
        "reached": 0.75,
        "pixel_error": 0.5,
        "class_kept": 0.75,
    }
    rows = [row._replace(name="original"), row, row._replace(image=np.zeros((3, 4, *SHAPE)))]
    figure = inversion_sheet.draw(rows, np.array([0, 0, 1, 1]), ("a", "b"))
    shapes = [axes.images[0].get_array().shape for axes in figure.axes]
    assert shapes == [(2 * (1 + GAP), n * (2 + GAP), 3) for n in (1, 1, 3)]
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["a", "b"]
    assert figure.axes[1].get_yticklabels()[1].get_text() == "3.0 %\n0.500"
    assert (
        figure.axes[2].get_title() == "reconstructed\nfeatures 2.5 %\npixels 0.500\nclass kept 75 %"
    )
    assert "2.50 %" in inversion_sheet.table(rows)


@pytest.mark.slow
def test_moved_features_are_three_times_so_many():
    settings = inversion.Settings(2, 4, (1.0, 1.0), 0.1, 0.5, draws=3)
    moves = inversion._moves(known(), settings)
    assert [each.shape for each in moves.values()] == [(3, 2, 2)] * 3


@pytest.mark.parametrize(("shape", "classes"), [((4, 4, 1), CLASSES), (SHAPE, 5)])
def test_a_generator_of_other_images_is_refused(shape, classes, monkeypatch):
    made = Generator(rj.from_function(lambda p, z: z, ()), 3, classes, shape)
    monkeypatch.setattr(inversion.generator, "load", lambda run, method: made)
    says = rf"--generator=g makes images {re.escape(str(list(shape)))} of {classes} classes, but"
    with pytest.raises(ConfigError, match=says):
        inversion.opened("g", predictor())


@pytest.mark.parametrize("texts", [["1"], ["1", "b"], ["1", "0"], ["nan", "1"], ["1", "2", "3"]])
def test_rates_are_two_numbers(texts):
    with pytest.raises(ConfigError, match=r"must be two numbers above 0"):
        inversion.rates(texts)
    assert inversion.rates(["10", "0.5"]) == (10.0, 0.5)


def test_no_folder_is_one_sentence(tmp_path):
    with pytest.raises(ConfigError, match=r"holds no config\.json"):
        inversion.source(str(tmp_path), 3)


def command(*arguments):
    line = [sys.executable, "-m", "experiments.gallery.inversion", *arguments]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_command_with_a_generator_and_without_one(tmp_path):
    config = digits.get_config("smoke")
    config.train_sizes, config.strengths, config.seeds = (20,), ConfigDict(), 1
    config.losses = ConfigDict({"isda": "isda(strength=0.1)"})
    config.model, config.data_dir = "mlp(widths=(16,))", str(tmp_path)
    classify.compare(config, tmp_path / "run")
    made = mnist_generators.get_config("smoke")
    made.losses, made.epochs, made.data_dir = {"acgan": "acgan()"}, 1, str(tmp_path)
    generate.compare(made, tmp_path / "made")
    options = "--images=10", "--iterations=30", "--draws=1"
    run, output = str(tmp_path / "run"), tmp_path / "a.png"
    generator, judge = f"--generator={tmp_path / 'made'}", f"--judge={run}"
    done = command(run, generator, judge, f"--output={output}", *options)
    assert done.returncode == 0, done.stderr
    assert "Covariances: ISDA's. Of 10 images" in done.stdout
    assert output.stat().st_size > 0
    numbers = json.loads(output.with_suffix(".json").read_text())["rows"]
    assert numbers["reconstructed"]["pixel_error"] > 0
    done = command(run, f"--output={tmp_path / 'b.png'}", *options)
    assert done.returncode == 0, done.stderr
    numbers = json.loads((tmp_path / "b.json").read_text())["rows"]
    assert numbers["reconstructed"]["feature_error"] == pytest.approx(0, abs=1e-6)
    assert numbers["ISDA's directions"]["class_kept"] is None
    with pytest.raises(ValueError, match="trained no generator"):
        inversion.opened(run, inversion.source(run, 3).predictor)
