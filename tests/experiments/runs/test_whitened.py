"""What whitening has learnt is kept in the work folder, and every use of a run sees it."""

import json
import shutil
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import tiny_classify
from ml_collections import ConfigDict

from configs import digits
from experiments import ConfigError, classify, models
from experiments.classify import CLASSIFICATION
from experiments.data import sources, whitening
from experiments.data.dataset import Dataset
from experiments.data.whitening import Zca
from experiments.runs import folder as run_folder
from experiments.runs import load, signing, whitened
from experiments.runs.problem import Problem
from experiments.training.task import Rows, gather

TEXT = "gcn(norm=8.0) | zca(epsilon=0.1)"
ASKED = dict.fromkeys(whitened.ENTRIES, "") | {"whiten": "zca", "mean": (), "std": ()}
ZCA = Zca(np.zeros(4, np.float32), np.eye(4, dtype=np.float32), 2.0)


def data() -> Dataset:
    """Of four images of two numbers each."""
    image = np.random.default_rng(0).uniform(0, 1, (4, 2, 1, 1)).astype(np.float32)
    return Dataset("x", {"image": image}, {}, 2)


@pytest.fixture
def fits(monkeypatch) -> list[str]:
    """The expressions that something was learnt for."""
    known: list[str] = []
    fit = whitening.fit

    def counted(text: str, *rest: Any) -> Zca:
        known.append(text)
        return fit(text, *rest)

    monkeypatch.setattr(whitening, "fit", counted)
    return known


def test_what_is_kept_is_read_back_to_the_last_bit_and_not_learnt_again(tmp_path, fits):
    learnt = whitened.of(ASKED, data(), tmp_path)
    assert learnt is not None
    whitened.write(tmp_path, ASKED, learnt)
    again = whitened.of(ASKED, data(), tmp_path)
    assert fits == ["zca"]
    for kept, expected in zip(again, learnt, strict=True):
        np.testing.assert_array_equal(kept, expected)
    assert [path.name for path in tmp_path.iterdir()] == [whitened.FILE]


def test_it_is_learnt_once_of_data_that_are_read_once(fits):
    once = data()
    assert whitened.of(ASKED, once) is whitened.of(ASKED, once)
    whitened.of({**ASKED, "whiten": "zca(epsilon=1)"}, once)
    assert fits == ["zca", "zca(epsilon=1)"]


def test_a_file_of_another_config_is_learnt_anew_and_replaced(tmp_path, fits):
    whitened.write(tmp_path, ASKED, ZCA)
    other = {**ASKED, "whiten": "zca(epsilon=1)"}
    learnt = whitened.of(other, data(), tmp_path)
    assert fits == ["zca(epsilon=1)"]
    whitened.write(tmp_path, other, learnt)
    assert whitened.read(tmp_path, ASKED) is None
    assert whitened.read(tmp_path, other).length == learnt.length


@pytest.mark.parametrize("name", ["test_share", "split_seed", "image_key", "label_key", "broken"])
def test_a_file_of_other_training_images_is_learnt_anew(name, tmp_path):
    whitened.write(tmp_path, ASKED, ZCA)
    assert whitened.read(tmp_path, ASKED) is not None
    assert whitened.read(tmp_path, {**ASKED, name: "another"}) is None


@pytest.mark.parametrize("text", ["", "gcn", "gcn | standardise"])
def test_where_nothing_is_learnt_there_is_no_file(text, tmp_path):
    config = {**ASKED, "whiten": text}
    assert whitened.of(config, data(), tmp_path) is None
    whitened.write(tmp_path, config, None)
    assert whitened.announced(config, None) == ""
    assert whitened.read(tmp_path) is None
    assert not any(tmp_path.iterdir())


def test_a_damaged_file_is_one_sentence(tmp_path):
    whitened.write(tmp_path, ASKED, ZCA)
    path = tmp_path / whitened.FILE
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ConfigError, match=r"whitening\.npz is damaged \(.*\): delete it"):
        whitened.of(ASKED, data(), tmp_path)


def test_a_damaged_file_ends_all_processes_and_not_the_first_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(whitened.devices, "is_first", lambda: False)
    (tmp_path / whitened.FILE).write_bytes(b"PK")
    with pytest.raises(ConfigError, match="is damaged"):
        whitened.of(ASKED, data(), tmp_path)


def test_length_and_checksum_are_said():
    said = whitened.announced(ASKED, ZCA)
    assert said == "Whitened by zca: images have a mean length of 2 (matrix a014b501)."


def config(folder: Path) -> ConfigDict:
    """Two steps on the digits, tested in pixels too."""
    small = digits.get_config("smoke")
    small.data_dir, small.model, small.whiten = str(folder), "tiny", TEXT
    small.train_sizes, small.losses = (4,), {"x": "cross_entropy"}
    small.seeds, small.epochs, small.strengths = 1, 2, ConfigDict()
    small.perturbations = ConfigDict({"fgsm": "fgsm(epsilon=(0.0, 0.1))"})
    return small


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The work folder and the data's."""
    folders = tmp_path_factory.mktemp("trained"), tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(models.MODELS, "tiny", tiny_classify.Tiny)
        classify.compare(config(folders[1]), folders[0])
        yield folders


def white(image: np.ndarray, train: np.ndarray) -> np.ndarray:
    """What the network saw, in NumPy's float64."""

    def contrasts(x: np.ndarray) -> np.ndarray:
        x = x.reshape(len(x), -1) / 255
        x = x - x.mean(1, keepdims=True)
        return 8 * x / np.linalg.norm(x, axis=1, keepdims=True)

    known = contrasts(train)
    variance, directions = np.linalg.eigh(np.cov(known.T, bias=True))
    root = directions @ np.diag((variance + 0.1) ** -0.5) @ directions.T
    return ((contrasts(image) - known.mean(0)) @ root).reshape(image.shape)


@pytest.mark.slow
def test_a_loaded_network_sees_images_as_it_was_trained_and_scored(trained):
    folder, at = trained
    found = sources.load("digits", at)
    image, label = found.test["image"], found.test["label"]
    network = load.load(folder, "x")
    expected = network(jnp.asarray(white(image, found.train["image"]), jnp.float32)).logits
    logits = load.load_predictor(folder, "x")(image)
    np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-3)
    (record,) = run_folder.read(folder).records
    accuracy = np.mean(np.argmax(logits, -1) == label)
    assert record["test_accuracy"] == pytest.approx(accuracy)
    # Unchanged pixels score what the test images do: attacks go through the same whitening.
    (tested,) = run_folder.read(folder).robustness
    assert tested["accuracy"][0] == pytest.approx(accuracy)
    assert tested["accuracy"][1] < accuracy


@pytest.mark.slow
def test_images_lie_whitened_beside_their_pixels(trained):
    given = config(trained[1]).to_dict()
    one = Problem(given, CLASSIFICATION, trained[0])
    task, _ = one.task(4)
    stored = one.source.stored
    expected = task.prepare(stored["image"])
    np.testing.assert_allclose(stored[whitening.PREPARED], expected, rtol=1e-4, atol=1e-4)
    rows = Rows(np.arange(5, dtype=np.int32), np.ones(5, np.float32))
    found = task.batch(gather(stored, rows)).image
    np.testing.assert_array_equal(found, stored[whitening.PREPARED][:5])


@pytest.mark.slow
def test_the_training_goes_on_with_what_it_learnt_at_first(trained, tmp_path, fits):
    folder = shutil.copytree(trained[0], tmp_path / "again")
    (folder / "robustness.jsonl").unlink()
    classify.compare(config(trained[1]), folder)
    assert fits == []
    assert run_folder.read(folder).robustness == run_folder.read(trained[0]).robustness


@pytest.mark.slow
def test_images_to_make_copies_of_are_not_whitened(trained, fits):
    source = signing.open_source(trained[0], "x")
    assert fits == []
    assert sorted(source.stored) == ["image", "label"]


@pytest.mark.slow
def test_a_network_without_its_whitening_is_one_sentence(trained, tmp_path):
    folder = shutil.copytree(trained[0], tmp_path / "without")
    (folder / whitened.FILE).unlink()
    with pytest.raises(ValueError, match=r"whitening\.npz in the work folder keeps"):
        load.load(folder, "x")
    stored = json.loads((folder / "config.json").read_text())
    assert stored["whiten"] == TEXT


def test_a_file_that_another_config_left_is_not_looked_at(tmp_path):
    """Of a command that ended before its first step, say."""
    whitened.write(tmp_path, ASKED, ZCA)
    path = tmp_path / whitened.FILE
    path.write_bytes(path.read_bytes()[:-40])
    other = {**ASKED, "whiten": "gcn"}
    assert whitened.kept(other, tmp_path) is None
    with pytest.raises(ConfigError, match="is damaged"):
        whitened.kept(ASKED, tmp_path)


@pytest.mark.slow
def test_stages_that_look_for_pixels_are_refused(trained, tmp_path):
    wrong = config(trained[1])
    wrong.perturbations = ConfigDict()
    wrong.losses = {"x": "cross_entropy | auto_augment(mean=(0.5,), std=(0.5,))"}
    with pytest.raises(ConfigError, match=r"auto_augment finds the pixels .*\.whiten mixes them"):
        classify.compare(wrong, tmp_path)
