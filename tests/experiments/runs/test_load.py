"""A trained network is loaded as it was scored, and exported for programs without regjax.

Covers `spec.py` and `export.py` too.
"""

import json
import shutil

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import digits
from experiments import ConfigError, classify
from experiments.data import sources
from experiments.runs import export
from experiments.runs import folder as run_folder
from experiments.runs import load as trained


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module", params=[1, 2], ids=["one at a time", "two at a time"])
def workdir(request, data, tmp_path_factory):
    config = digits.get_config("smoke")
    config.data_dir, config.strategy, config.runs_at_once = str(data), "map", request.param
    config.train_sizes, config.losses, config.average = (4,), {"x": "cross_entropy"}, 0.9
    config.strengths, config.mean, config.std = ConfigDict(), (0.25,), (0.5,)
    folder = tmp_path_factory.mktemp("trained")
    classify.compare(config, folder)
    return folder


@pytest.mark.parametrize("seed", [0, 1])
def test_a_loaded_network_scores_what_was_recorded(seed, workdir, data):
    network = trained.load(workdir, "x", seed=seed)
    test = sources.load("digits", data).test
    logits = network((jnp.asarray(test["image"], jnp.float32) / 255 - 0.25) / 0.5).logits
    (record,) = (r for r in run_folder.read(workdir).records if r["seed"] == seed)
    accuracy = np.mean(np.argmax(logits, -1) == test["label"])
    np.testing.assert_allclose(accuracy, record["test_accuracy"], atol=1e-6)


def test_of_an_older_version_it_is_the_same(workdir, tmp_path):
    folder = shutil.copytree(workdir, tmp_path / "older")
    stored = json.loads((folder / "config.json").read_text())
    older = {name: value for name, value in stored.items() if name not in ("metrics", "mixture")}
    (folder / "config.json").write_text(json.dumps(older | {"image_size": 224, "growing": []}))
    mine, before = trained.load(workdir, "x", seed=1), trained.load(folder, "x", seed=1)
    jax.tree.map(np.testing.assert_array_equal, mine.params, before.params)


def test_numbers_that_grow_for_some_epochs_grow_as_long_as_in_training(workdir, tmp_path):
    folder = shutil.copytree(workdir, tmp_path / "growing")
    stored = json.loads((folder / "config.json").read_text())
    changed = stored | {"growing": {"isda.strength": "linear(epochs=3)"}}
    (folder / "config.json").write_text(json.dumps(changed))
    run = trained.trained(folder, "x", seed=1)
    (curve,) = run.task.growing
    assert curve.steps == 3 * run.steps / stored["epochs"]


def test_a_run_that_is_not_there_is_one_sentence_that_names_those_that_are(workdir):
    with pytest.raises(ValueError, match=r"0 finished .*'method': 'y'.*method x, train_size 4"):
        trained.load(workdir, "y")


def test_a_folder_that_does_not_say_what_it_is_of_is_told_by_the_same_command(workdir, tmp_path):
    folder = shutil.copytree(workdir, tmp_path / "older")
    (folder / "about.json").unlink()
    with pytest.raises(ValueError, match="the same command that trained it writes that"):
        trained.load(folder, "x", seed=1)
    stored = json.loads((folder / "config.json").read_text())
    before = (folder / "runs.jsonl").read_bytes()
    classify.compare(ConfigDict(stored, sort_keys=False), folder)
    assert (folder / "runs.jsonl").read_bytes() == before
    assert trained.load(folder, "x", seed=1).layers == trained.load(workdir, "x", seed=1).layers


def test_the_tables_of_an_older_folder_need_no_data(workdir, tmp_path):
    folder = shutil.copytree(workdir, tmp_path / "older")
    (folder / "about.json").unlink()
    (folder / "table.md").unlink()
    stored = json.loads((folder / "config.json").read_text())
    # Another place of the data is no other config; that of scikit-learn's digits would be made.
    plain = ConfigDict(stored | {"data_dir": str(tmp_path / "file" / "none")}, sort_keys=False)
    (tmp_path / "file").write_text("")
    table = classify.compare(plain, folder)["table"].read_text()
    assert "| x |" in table
    assert not (folder / "about.json").exists()


def test_no_data_set_is_needed(workdir, monkeypatch):
    monkeypatch.setattr(sources, "load", None)
    monkeypatch.setenv("TFDS_DATA_DIR", "nowhere")
    assert trained.load(workdir, "x")(jnp.zeros((2, 8, 8, 1))).logits.shape == (2, 10)


def test_it_is_loaded_with_its_normalisation_and_exported_with_it(workdir, data, tmp_path):
    image = sources.load("digits", data).test["image"][:5]
    predict = trained.load_predictor(workdir, "x", seed=1)
    normalised = (jnp.asarray(image, jnp.float32) / 255 - 0.25) / 0.5
    expected = trained.load(workdir, "x", seed=1)(normalised).logits
    np.testing.assert_allclose(predict(image), expected, rtol=1e-5, atol=1e-5)
    assert predict.spec.class_names[3] == "3"
    with pytest.raises(ValueError, match=r"of images \[B, 8, 8, 1\], but these are \[8, 8, 1\]"):
        predict(image[0])


def test_it_is_exported_for_any_number_of_images(workdir, data, tmp_path):
    pytest.importorskip("flatbuffers")
    image = sources.load("digits", data).test["image"][:5]
    predict = trained.load_predictor(workdir, "x", seed=1)
    path = export.write(predict, tmp_path / "model.jax")
    program = jax.export.deserialize(path.read_bytes())
    for count in (5, 2):
        found = program.call(image[:count])
        np.testing.assert_allclose(found, predict(image[:count]), rtol=1e-5, atol=1e-5)
    assert program.platforms == ("cpu", "cuda", "rocm", "tpu")
    assert "stablehlo.case" in program.mlir_module()  # by platform
    with pytest.raises(ConfigError, match=r"--output=.* cannot be written"):
        export.write(predict, tmp_path / "none" / "model.jax")


def test_a_module_of_its_own_that_is_gone_is_one_sentence(workdir, tmp_path):
    folder = shutil.copytree(workdir, tmp_path / "own")
    stored = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(stored | {"imports": ["gone"]}))
    with pytest.raises(ConfigError, match=r"config\.imports names 'gone', which cannot be found"):
        trained.load(folder, "x", seed=1)
