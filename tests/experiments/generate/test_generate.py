"""Generators through the door: trained, stopped, spread, loaded, and their images as a data set.

Covers `players.py`, `runs/samples.py`, `generate/samples.py`, `generated.py`, `some_classes.py`,
`runs/generator.py` and `mnist_generators.py` too.
"""

import json
import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_players
import toys
from ml_collections import ConfigDict
from support import assert_close, assert_same

from configs import mnist_generators
from experiments import ConfigError, classify, generate
from experiments.comparison import compare
from experiments.data.dataset import DataError
from experiments.data.some_classes import some_classes
from experiments.evaluation.generated import ClassMeans
from experiments.models import generators
from experiments.report import plots, tiles
from experiments.runs import generator, load, samples
from experiments.runs.plan import plan
from experiments.training import checkpoint_reading, objectives
from experiments.training.interruption import StoppedError
from experiments.training.record import Record


@pytest.fixture(autouse=True)
def brought(monkeypatch):
    """A pair of networks and a data set that compile in little time."""
    tiny_players.bring(monkeypatch)


def config(loss, *, model="tiny(width=8, latents=3)", **changes):
    return tiny_players.config(loss, model, **changes)


def trained(folder):
    """The arrays of the last checkpoint."""
    (found,) = folder.glob("training/*/checkpoints")
    return checkpoint_reading.read_arrays(found, max(int(path.name) for path in found.iterdir()))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("loss", "together"),
    [("wgan(critic_steps=2, many=2)", 1), ("wgan(each_class=True, many=2)", 2), ("cgan()", 2)],
)
def test_a_stopped_training_goes_on_to_the_same_bits(loss, together, tmp_path, monkeypatch):
    given = config(loss, runs_at_once=together, seeds=together, checkpoint_steps=3, average=0.5)
    generate.compare(given, tmp_path / "undisturbed")
    write = Record.record

    def stop(self, kind, step, *rest):
        write(self, kind, step, *rest)
        if kind == "train" and step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Record, "record", stop)
        with pytest.raises(StoppedError):
            generate.compare(given, tmp_path / "stopped")
    generate.compare(given, tmp_path / "stopped")
    expected = trained(tmp_path / "undisturbed")
    assert_same(trained(tmp_path / "stopped"), expected)
    assert expected[".loss_state.taken"].min() >= 1


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["infogan()", "wgan(penalty=10.0, critic_steps=2)"])
def test_devices_come_to_the_same(loss, tmp_path):
    """Eight of them, by every way, and one alone."""
    ways = {
        "alone": {"runs_at_once": 2},  # of which each is on one device
        "shard_map": {"parallelism": "shard_map"},
        "jit": {"parallelism": "jit"},
        "fsdp": {"parallelism": "jit", "fsdp": 2},
    }
    found = {}
    for way, changes in ways.items():
        given = config(loss, optimizer="sgd", batch_size=16, epochs=2, **changes)
        generate.compare(given, tmp_path / way)
        arrays = trained(tmp_path / way)
        found[way] = {n: x for n, x in arrays.items() if n.startswith((".params", ".model_state"))}
    single = {name: x[0] for name, x in found.pop("alone").items()}
    for arrays in found.values():
        assert_close(arrays, single)


@pytest.mark.slow
def test_samples_are_mixed_into_batches(tmp_path):
    generate.compare(config("acgan()"), tmp_path / "run")
    recipe = samples.Recipe(per_class=4, test_per_class=2)
    folder = samples.write(tmp_path / "run", tmp_path / "samples", recipe)
    image, label = (np.load(folder / f"train_{name}.npy") for name in ("image", "label"))
    assert image.dtype == np.uint8
    assert image.shape == (4 * toys.CLASSES, 2 * toys.SIDE, 2 * toys.SIDE, 1)
    np.testing.assert_array_equal(np.bincount(label), [4] * toys.CLASSES)
    about = json.loads((folder / samples.ABOUT).read_text())
    assert about["loss"] == "acgan(rate=1.0)"
    assert about["dataset"] == "toys"
    made = generator.load(tmp_path / "run")
    found = samples.images(made, jax.random.fold_in(jax.random.key(0), 0), label)
    np.testing.assert_array_equal(found, image)
    before = folder.stat().st_mtime_ns
    samples.write(tmp_path / "run", folder, recipe)  # is there
    assert folder.stat().st_mtime_ns == before
    with pytest.raises(ConfigError, match="holds something else"):
        samples.write(tmp_path / "run", folder, samples.Recipe(per_class=5))
    assert not list(tmp_path.glob("*.part"))
    given = config("cross_entropy", model="tiny", epochs=1)
    given.mixture = ConfigDict({f"npz:{folder}": 1 / 6})
    classify.compare(given, tmp_path / "mixed")
    (line,) = (tmp_path / "mixed" / "runs.jsonl").read_text().splitlines()
    assert json.loads(line)["steps"] == 3  # 36 images, 15 of them in each batch of 18


@pytest.mark.slow
@pytest.mark.parametrize(("loss", "names"), [("cgan()", "abc"), ("wgan(clip=0.1)", "")])
def test_a_generator_shows_its_samples_by_class(loss, names, tmp_path):
    paths = generate.compare(config(loss), tmp_path)
    made, of = generator.load(tmp_path), load.trained(tmp_path, "toy")
    image = samples.of_each_class(made)
    assert image.shape == (toys.CLASSES, 10, *made.image_shape)
    label = np.repeat(np.arange(toys.CLASSES), 10)
    flat = image.reshape(-1, *made.image_shape)
    np.testing.assert_allclose(made.draw(jax.random.key(1), label), flat, atol=1e-6)
    found = generate.picture(of, lambda: 1 / 0)
    (axes,) = found.figure.axes
    assert [text.get_text() for text in axes.get_yticklabels()] == list(names)
    assert ("by class" in found.caption) == bool(names)
    side = 56 + tiles.GAP  # eight pixels, seven times as large
    shown = axes.images[0].get_array()
    assert shown.shape == (toys.CLASSES * side, 10 * side, 3)
    expected = np.round(255 * image[2, 4, ..., 0]).repeat(7, 0).repeat(7, 1)
    np.testing.assert_array_equal(shown[2 * side :, 4 * side :][:56, :56, 0], expected)
    assert plots.render(found.figure, "png") == (tmp_path / "pictures" / "toy.png").read_bytes()
    assert paths["report"].read_text().count(found.caption) == 2  # under the picture, and for it


def test_a_killed_command_leaves_no_data_set(tmp_path, monkeypatch):
    found = type("Found", (), {"run": None})
    monkeypatch.setattr(samples, "trained", lambda *_, **__: found)
    monkeypatch.setattr(samples, "_about", lambda *_: {"a": 1})

    def killed(folder, *_):
        (folder / "train_image.npy").write_bytes(b"")
        raise KeyboardInterrupt

    monkeypatch.setattr(samples, "_write_arrays", killed)
    with pytest.raises(KeyboardInterrupt):
        samples.write("run", tmp_path / "samples", samples.Recipe(), method="a")
    assert not (tmp_path / "samples").exists()
    monkeypatch.setattr(samples, "_write_arrays", lambda folder, *_: None)
    folder = samples.write("run", tmp_path / "samples", samples.Recipe(), method="a")
    assert [path.name for path in folder.iterdir()] == [samples.ABOUT]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model": "small_cnn"}, "config.model: .* is no generator with its critic"),
        ({"dtype": "bfloat16"}, "config.dtype must stay 'float32'"),
        ({"mean": (0.5,)}, r"config.mean must stay \(\)"),
        ({"losses": ConfigDict({"toy": "cross_entropy"})}, "config.losses.toy: unknown objective"),
        ({"classes": ("a", "z")}, "two or more classes of 'toys'"),
    ],
)
def test_what_cannot_be_trained_is_one_sentence(changes, says, tmp_path):
    with pytest.raises((ConfigError, DataError), match=says):
        compare(config("cgan()", **changes), tmp_path, generate.GENERATION)


def test_some_classes_are_kept_in_the_named_order():
    whole = toys.dataset()
    found = some_classes(whole, ("c", "a"))
    assert (found.classes, found.class_names) == (2, ("c", "a"))
    kept = np.isin(whole.train["label"], (0, 2))
    np.testing.assert_array_equal(found.train["image"], whole.train["image"][kept])
    np.testing.assert_array_equal(found.train["label"], 1 - whole.train["label"][kept] // 2)
    assert len(found.test["label"]) == 8


def test_nearness_is_that_of_class_means():
    rows = {
        "real": np.array([0.0, 1.0, 0.5])[:, None, None, None],
        "fake": np.array([1.0, 0.0, 0.3])[:, None, None, None],
        "label": np.array([0, 0, 2]),
    }
    # Means of class 0 are equal, those of class 2 are 0.2 apart, and class 1 does not occur.
    expected = 1 - np.sqrt((0 + 0.2**2) / 2)
    np.testing.assert_allclose(ClassMeans(3).scores(rows)["nearness"], expected)


@pytest.mark.parametrize("arg", ["", "per_class", "smoke"])
def test_the_config_can_be_planned(arg):
    given = mnist_generators.get_config(arg)
    runs = plan(given.to_dict(), objectives.parse)
    assert len(runs) == (1 if arg == "per_class" else 2)
    assert generators.read(given.model)
    assert jnp.isfinite(given.learning_rate)
