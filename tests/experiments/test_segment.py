"""Networks with a class for every pixel: trained, scored, loaded and reported like all others."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from ml_collections import ConfigDict

from configs import camvid, common
from experiments import ConfigError, classify, models, segment
from experiments.data import sources
from experiments.data.sources import DataError, Dataset
from experiments.models import layers
from experiments.runs import load
from regjax.core.resizing import resized

CLASSES, SIDE = 3, 8
FLIP = " | random_flip | scaled_crop(size=8, low=1, high=1.25)"
LOSSES = {
    "baseline": f"cross_entropy{FLIP}",
    "ISDA": f"isda(strength=0.5, covariance='diagonal', resizing='half_pixel'){FLIP}",
}


class Tiny(nnx.Module):
    """Features at half of the image's size, and logits that are enlarged."""

    def __init__(self, image_shape, classes, *, rngs):
        made = {"padding": "SAME", "rngs": rngs}
        self.hidden = layers.Conv(image_shape[-1], 8, (2, 2), strides=(2, 2), **made)
        self.head = layers.Conv(8, classes, (1, 1), **made)

    def __call__(self, x):
        return resized(self.head(nnx.relu(self.hidden(x))), x.shape[1:3])


def split(count, seed, ignored=0):
    """Each 2 x 2 block is of a class, which is its colour; a few pixels are ignored."""
    draw = np.random.default_rng(seed)
    mask = draw.integers(0, CLASSES, (count, SIDE // 4, SIDE // 4)).repeat(4, 1).repeat(4, 2)
    image = (np.eye(CLASSES)[mask] * 200 + draw.integers(0, 56, (*mask.shape, 3))).astype(np.uint8)
    mask = np.where(draw.random(mask.shape) < 0.1, 255, mask).astype(np.uint8)
    mask[:ignored] = 255
    return {"image": image, "label": mask}


def register(monkeypatch, train=None, test=None):
    found = Dataset("blocks", train or split(16, 0), test or split(6, 1), CLASSES, ("r", "g", "b"))
    monkeypatch.setitem(sources.DATASETS, "blocks", lambda folder, size: found)
    monkeypatch.setitem(models.MODELS, "tiny_dense", Tiny)
    return found


def config(**changes):
    found = common.base()
    found.dataset, found.model, found.selection = "blocks", "tiny_dense", "test"
    found.epochs, found.batch_size, found.learning_rate = 20, 8, 0.03
    found.losses = ConfigDict(changes.pop("losses", LOSSES), sort_keys=False)
    found.update(changes)
    return found


@pytest.mark.slow
def test_it_learns_and_all_that_is_scored_is_of_the_network_that_is_loaded(monkeypatch, tmp_path):
    data = register(monkeypatch)
    paths = segment.compare(config(), tmp_path)
    records = [json.loads(line) for line in (tmp_path / "runs.jsonl").read_text().splitlines()]
    assert [record["method"] for record in records] == ["baseline", "ISDA"]
    for record in records:
        assert record["test_miou"] > 0.8, record
        predict = load.load_predictor(tmp_path, record["method"])
        answers = np.argmax(predict(jnp.asarray(data.test["image"])), -1)
        known = data.test["label"] != 255
        truth = data.test["label"][known]
        each = [
            np.sum((truth == c) & (answers[known] == c))
            / np.sum((truth == c) | (answers[known] == c))
            for c in range(CLASSES)
        ]
        np.testing.assert_allclose(record["test_iou"], each, atol=1e-6)
        np.testing.assert_allclose(record["test_miou"], np.mean(each), atol=1e-6)
    assert "Test mean intersection over union (%) on blocks" in paths["table"].read_text()
    page = paths["report"].read_text()
    assert "Intersection over union by class" in page
    assert "Accuracy by class" not in page


@pytest.mark.slow
def test_a_batch_of_ignored_pixels_is_a_step_of_no_loss(monkeypatch, tmp_path):
    register(monkeypatch, split(4, 0, ignored=3))
    segment.compare(config(batch_size=1, epochs=1, losses={"x": "cross_entropy"}), tmp_path)
    (file,) = tmp_path.glob("training/*/metrics.jsonl")
    (line,) = (line for line in map(json.loads, file.read_text().splitlines()) if "total" in line)
    # The mean of four steps: one of about ln(3), and three of nothing.
    np.testing.assert_allclose(4 * line["total"], np.log(3), rtol=0.3)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(load.load(tmp_path, "x").params))


def test_what_is_wrong_is_said_before_anything_is_trained(monkeypatch, tmp_path):
    with pytest.raises(ConfigError, match=r"'digits' has one label an image .*: name its masks"):
        segment.compare(config(dataset="digits", data_dir=str(tmp_path)), tmp_path / "a")
    register(monkeypatch)
    with pytest.raises(ConfigError, match=r"for data sets of one label an image, but 'blocks'"):
        segment.compare(config(class_weights="balanced"), tmp_path / "b")
    with pytest.raises(ConfigError, match="'blocks' has one label a pixel"):
        classify.compare(config(), tmp_path / "c")
    with pytest.raises(ConfigError, match=r"config\.uncertainty means nothing to .*segment"):
        segment.compare(config(uncertainty="aleatoric(samples=3)"), tmp_path / "u")
    noise = ConfigDict({"noise": "white_noise(sigma=(0.1,))"})
    with pytest.raises(ConfigError, match=r"config\.perturbations are of images with one label"):
        segment.compare(config(perturbations=noise), tmp_path / "p")
    beyond = split(4, 0)
    beyond["label"][0, 0, 0] = CLASSES
    register(monkeypatch, beyond)
    with pytest.raises(DataError, match=r"labels in the train split .* go from 0 to 3, but"):
        segment.compare(config(), tmp_path / "d")
    register(monkeypatch, split(4, 0, ignored=4))
    with pytest.raises(DataError, match=r"All pixels of the masks in the train split .* are 255"):
        segment.compare(config(), tmp_path / "e")


@pytest.mark.parametrize("arg", ["", *camvid.FORMS, "smoke"])
def test_the_forms_of_camvid(arg):
    found = camvid.get_config(arg)
    assert found.model.startswith(
        "fcn" if "fcn" in arg else ("deeplab_v3" if "deeplab" in arg else "pspnet")
    )
    assert list(found.losses) == (["baseline"] if "fcn" in arg else ["baseline", "ISDA"])
