"""`config.views` from the command to the score, and what refuses it: `segment.py`.

The views themselves are in evaluation/test_views.py.
"""

import dataclasses
import json

import by_loops
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics
import toys
from flax import nnx
from ml_collections import ConfigDict

from configs import common
from experiments import ConfigError, classify, models, segment
from experiments.comparison import compare
from experiments.data import sources
from experiments.runs import entries, load
from experiments.runs.plan import plan
from experiments.training.loop import Training

VIEWS = "windows(size=3, stride=2) | scales(factors=(1.0, 1.5)) | flips"


class Placed(toys.Pixelwise):
    """A network that adds something of its own to each place, hence of images of one size."""

    def __init__(self, image_shape, classes, *, rngs):
        super().__init__(image_shape, classes, rngs=rngs)
        self.place = nnx.Param(jnp.zeros((1, *image_shape[:2], classes)))

    def __call__(self, x):
        return super().__call__(x) + self.place[...]


@pytest.fixture(autouse=True)
def brought(monkeypatch):
    monkeypatch.setitem(models.MODELS, "pixelwise", toys.Pixelwise)
    monkeypatch.setitem(models.MODELS, "placed", Placed)
    monkeypatch.setitem(sources.DATASETS, "toys", lambda *_: toys.dataset(toys.masks))


def config(views, **changes):
    small = common.base()
    small.dataset, small.model, small.selection = "toys", "pixelwise", "test"
    small.batch_size, small.epochs, small.runs_at_once = 18, 3, 1
    small.losses = ConfigDict({"toy": "cross_entropy"})
    small.views = views
    for name, value in changes.items():
        setattr(small, name, value)
    return small


def jaccard(label, prediction):
    truth, given = label[label != 255], prediction[label != 255]
    occurring = sorted({*truth, *given})
    return sklearn.metrics.jaccard_score(truth, given, labels=occurring, average="macro")


@pytest.mark.slow
def test_a_trained_network_is_scored_over_its_views(tmp_path):
    segment.compare(config(VIEWS), tmp_path)
    (record,) = [json.loads(line) for line in (tmp_path / "runs.jsonl").read_text().splitlines()]
    forward, test = load.load(tmp_path, "toy"), toys.dataset(toys.masks).test
    network = lambda image: np.asarray(forward(jnp.asarray(image, jnp.float32)).logits)  # noqa: E731
    image = test["image"] / 255
    views = {"size": 3, "stride": 2, "scales": (1.0, 1.5), "flips": True}
    prediction = by_loops.viewed(network, image, **views).argmax(-1)
    assert record["test_miou"] == pytest.approx(jaccard(test["label"], prediction), abs=1e-6)
    plain = jaccard(test["label"], network(image).argmax(-1))
    assert abs(record["test_miou"] - plain) > 1e-3


def test_a_finished_run_depends_on_them():
    before, after = (config(views).to_dict() for views in ("", VIEWS))
    assert entries.changed(before, after) == ["views"]
    older = {name: value for name, value in before.items() if name != "views"}
    assert entries.changed(older, before) == []


def unread(_):
    raise AssertionError("read")


def test_others_have_no_use_for_them(tmp_path):
    """Before any data are read."""
    says = r"^config\.views means nothing to experiments\.classify: it must stay '', but it is 'fl"
    experiment = dataclasses.replace(classify.CLASSIFICATION, read=unread)
    with pytest.raises(ConfigError, match=says):
        compare(config("flips"), tmp_path, experiment)
    with pytest.raises(ConfigError, match=r"^config\.views means nothing to toys: it must"):
        compare(config("flips"), tmp_path, dataclasses.replace(toys.PIXELS, read=unread))
    assert not list(tmp_path.iterdir())


def test_a_wrong_expression_is_refused_before_any_data_are_read(tmp_path):
    experiment = dataclasses.replace(segment.SEGMENTATION, read=unread)
    for text, says in (("windows(size=3, stride=4)", "leave gaps"), ("mirror", "unknown part")):
        with pytest.raises(ConfigError, match=rf"^config\.views: .*{says}"):
            compare(config(text), tmp_path, experiment)
    with pytest.raises(ConfigError, match=r"^config\.views must be a text"):
        plan(config(VIEWS).to_dict() | {"views": 3})


def test_a_network_of_images_of_one_size_is_refused_before_it_is_trained(tmp_path, monkeypatch):
    def run(self):
        raise AssertionError("trained")

    monkeypatch.setattr(Training, "run", run)
    with pytest.raises(ConfigError, match=r"^config\.views: .*incompatible shapes"):
        segment.compare(config(VIEWS, model="placed"), tmp_path)
