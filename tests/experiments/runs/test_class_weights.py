"""What classes count in a config's objectives: scikit-learn's weights, whatever the labels."""

from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

import regjax as rj
from experiments import ConfigError
from experiments.data.sources import Dataset
from experiments.data.spec import Spec
from experiments.data.streams import Streams
from experiments.runs import class_weights
from experiments.training.memory import Memory
from experiments.training.streaming import Stream

LABEL = np.array([0] * 6 + [1] * 3 + [2], np.int32)
SPEC = Spec({"label": SimpleNamespace(shape=())}, 3, ("cat", "dog", "emu"))


def found(given, label=LABEL, spec=SPEC, held_out=0, size=0):
    split = {"image": np.zeros((len(label), 1, 1, 1)), "label": label}
    source = Memory(Dataset("few", split, split, 3), held_out)
    config = {"class_weights": given, "sampling": "", "batch_size": 4, "dataset": "few"}
    return class_weights.of(config, spec, source, size)


def test_balanced_weights_are_those_of_scikit_learn():
    expected = compute_class_weight("balanced", classes=np.arange(3), y=LABEL)
    np.testing.assert_allclose(found("balanced"), expected, rtol=1e-12)


def test_they_are_of_what_is_trained_on():
    label = np.repeat(LABEL, 2)
    expected = compute_class_weight("balanced", classes=np.arange(3), y=[0] * 11 + [1] * 5 + [2])
    np.testing.assert_allclose(found("balanced", label, held_out=1), expected, rtol=1e-12)
    np.testing.assert_allclose(found("balanced", label, size=2), 1, rtol=1e-12)


def test_of_a_stream_they_are_those_of_memory(tmp_path):
    image = np.zeros((len(LABEL), 2, 2, 1), np.uint8)
    splits = {"train_image": image, "train_label": LABEL, "test_image": image, "test_label": LABEL}
    np.savez(tmp_path / "few.npz", **splits)
    source = Stream(Streams(f"npz:{tmp_path / 'few.npz'}", image_size=2))
    config = {"class_weights": "balanced", "sampling": "", "batch_size": 4, "dataset": "few"}
    np.testing.assert_allclose(class_weights.of(config, SPEC, source, 0), found("balanced"))


def test_numbers_are_taken_as_they_are_and_must_be_one_a_class():
    assert found("") == ()
    assert found([1, 2, 0.5]) == (1.0, 2.0, 0.5)
    with pytest.raises(ConfigError, match="has 2 numbers, but 'few' has 3 classes: cat, dog, emu"):
        found((1.0, 2.0))


def test_labels_of_pixels_are_refused():
    dense = Spec({"label": SimpleNamespace(shape=(2, 2))}, 3, ())
    with pytest.raises(ConfigError, match="one label an image, but 'few' has one a pixel"):
        found("balanced", spec=dense)


def test_weights_stand_next_to_the_base():
    loss = class_weights.weighted(rj.parse("cross_entropy | mixup(alpha=1.0)"), (1.0, 2.0))
    assert repr(loss).startswith("cross_entropy | class_weights(weights=(1.0, 2.0)) | mixup(")
    assert class_weights.weighted("anything", ()) == "anything"
    with pytest.raises(ConfigError, match="both weigh classes"):
        class_weights.weighted(loss, (1.0, 2.0))
    with pytest.raises(ConfigError, match="not for this task"):
        class_weights.weighted("anything", (1.0,))


def test_median_weights_are_of_the_images_that_show_a_class():
    # By hand: class 0 in both images, class 1 in the first alone, class 2 nowhere; 255 is nobody's.
    label = np.array([[[0, 0], [0, 1]], [[0, 0], [255, 255]]], np.uint8)
    dense = Spec({"label": SimpleNamespace(shape=(2, 2))}, 3, ())
    shares = np.array([5 / 6, 1 / 4])
    expected = [*np.median(shares) / shares, 0]
    np.testing.assert_allclose(found("median", label, dense), expected, rtol=1e-12)


def test_median_weights_are_for_labels_of_pixels():
    with pytest.raises(ConfigError, match="'few' has one label an image"):
        found("median")
