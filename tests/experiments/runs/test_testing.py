"""Trained networks are tested once, whenever a comparison is started with more perturbations."""

import contextlib
import json
import shutil
import signal
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image
from tiny_classify import Tiny

import regjax as rj
from configs import digits
from experiments import ConfigError, classify, comparison, models
from experiments.data import sources
from experiments.evaluation.perturbation_entries import read
from experiments.report import files
from experiments.report import page as report
from experiments.runs import load as trained
from experiments.runs import step_checks
from experiments.runs import testing as scoring
from experiments.runs.journal import Journal, Lines
from experiments.runs.plan import plan
from experiments.training.interruption import StoppedError
from experiments.training.loop import Training
from experiments.training.memory import Memory

WHITE = {"white": "white_noise(sigma=(0.0, 0.5, 1.5))"}
MORE = {"off": "switched_off_pixels(amount=(0.0, 0.5))", "fgsm": "fgsm(epsilon=0.1, examples=51)"}


@pytest.fixture(scope="module", autouse=True)
def place(tmp_path_factory):
    """The data, a small network, and no figures."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TFDS_DATA_DIR", str(tmp_path_factory.mktemp("data")))
        patch.setitem(models.MODELS, "tiny", Tiny)
        patch.setattr(files, "_figures", lambda *_: {})
        patch.setattr(report, "write", lambda _, path: path)
        yield


def config(perturbations=None, **changes):
    """Two methods with two seeds each; the seeds are trained together."""
    small = digits.get_config("smoke")
    small.model, small.train_sizes, small.epochs, small.batch_size = "tiny", (6,), 2, 32
    small.strategy, small.runs_at_once, small.learning_rate = "map", 2, 0.05
    small.checkpoint_steps = 2
    small.losses = ConfigDict({"a": "cross_entropy", "b": "cross_entropy | l2(weight=0.1)"})
    small.strengths = ConfigDict()
    small.perturbations = ConfigDict(perturbations or {}, sort_keys=False)
    for name, value in changes.items():
        setattr(small, name, value)
    return small


def scored(folder):
    path = folder / "robustness.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def ended(folder):
    return [json.loads(line) for line in (folder / "runs.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, place):
    folder = tmp_path_factory.mktemp("finished")
    classify.compare(config(WHITE), folder)
    return folder


@pytest.fixture
def work(finished, tmp_path):
    """A copy of it, in which nothing may be trained."""
    folder = tmp_path / "work"
    shutil.copytree(finished, folder)
    return folder


@pytest.fixture
def untrained(monkeypatch):
    def run(self):
        raise AssertionError("trained")

    monkeypatch.setattr(Training, "run", run)


def test_every_run_is_tested_as_soon_as_its_group_is_trained(finished):
    lines = scored(finished)
    assert [(line["method"], line["seed"]) for line in lines] == [
        (method, seed) for method in "ab" for seed in range(2)
    ]
    for line, run in zip(lines, ended(finished), strict=True):
        assert line.keys() == {
            *("method", "loss", "train_size", "strength", "seed"),
            *("text", "levels", "accuracy", "nll", "ece"),
        }
        assert (line["text"], line["levels"]) == (WHITE["white"], [0.0, 0.5, 1.5])
        np.testing.assert_allclose(line["accuracy"][0], run["test_accuracy"], atol=1e-6)
        np.testing.assert_allclose(line["nll"][0], run["test_nll"], rtol=1e-5)
        np.testing.assert_allclose(line["ece"][0], run["test_ece"], rtol=1e-3)
        right = np.array(line["accuracy"]) * 510
        np.testing.assert_allclose(right, right.round(), atol=1e-3)
        assert line["accuracy"][0] > line["accuracy"][2] + 0.05


def test_the_accuracy_is_the_share_of_single_images_that_the_loaded_network_knows(finished):
    test = sources.load("digits").test
    # By the image's place among the test images, wherever it is read from.
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(20), i))(jnp.arange(510))
    image = jnp.asarray(test["image"], jnp.float32) / 255
    line = scored(finished)[1]
    network = trained.load(finished, "a", seed=line["seed"])
    answer = jax.jit(lambda x: jnp.argmax(network(x).logits, -1))
    for level, accuracy in zip(line["levels"], line["accuracy"], strict=True):
        noisy = rj.corruptions.white_noise(image, level, keys, protocol="paper")
        each = np.concatenate([answer(x[None]) for x in noisy])
        np.testing.assert_allclose(np.mean(each == test["label"]), accuracy, atol=1e-6)


def test_what_was_trained_before_is_tested_and_not_trained_again(finished, work, untrained):
    before = ended(work)
    paths = classify.compare(config(WHITE | MORE), work)
    lines = scored(work)
    assert lines[:4] == scored(finished)
    assert [line["text"] for line in lines[4:]] == [
        *(text for _ in "ab" for text in MORE.values() for _ in range(2))
    ]
    assert ended(work) == before
    table = paths["table"].read_text()
    for name, text in (WHITE | MORE).items():
        assert f"under {name} (`{text}`)" in table
    assert json.loads((work / "config.json").read_text())["perturbations"] == WHITE | MORE
    right = np.array([line["accuracy"][0] for line in lines if "fgsm" in line["text"]]) * 51
    np.testing.assert_allclose(right, right.round(), atol=1e-4)


def test_an_unchanged_start_and_one_with_fewer_tests_do_nothing(work, monkeypatch):
    monkeypatch.setattr(comparison, "Problem", None)
    before = (work / "robustness.jsonl").read_bytes()
    table = classify.compare(config(WHITE), work)["table"].read_text()
    classify.compare(config({"other name": WHITE["white"]}), work)
    assert "under other name" in (work / "table.md").read_text()
    assert "under white" in table
    classify.compare(config(), work)
    assert "under" not in (work / "table.md").read_text()
    assert (work / "robustness.jsonl").read_bytes() == before


def test_only_what_belongs_to_the_config_is_in_its_table(work, untrained):
    one = classify.compare(config(WHITE, seeds=1), work)
    assert "(n=2)" not in one["table"].read_text()
    results = json.loads(one["results"].read_text())
    assert {tested["n"] for tested in results["robustness"]} == {1}


def test_a_network_that_is_trained_alone_has_the_same_scores(finished, tmp_path):
    losses = ConfigDict({"a": "cross_entropy"})
    one = config(WHITE, losses=losses, seeds=1, runs_at_once=1, parallelism="jit")
    classify.compare(one, tmp_path)
    (mine,) = scored(tmp_path)
    theirs = scored(finished)[0]
    assert mine["seed"] == theirs["seed"]
    np.testing.assert_allclose(mine["nll"], theirs["nll"], rtol=1e-3)
    np.testing.assert_allclose(mine["accuracy"], theirs["accuracy"], atol=0.005)


def test_an_interruption_between_two_tests_keeps_the_first(work, untrained, monkeypatch):
    append, appended = Lines.append, []

    def interrupted(self, records):
        append(self, records)
        appended.append(len(records))
        if len(appended) == 1:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(Lines, "append", interrupted)
    two = config(WHITE | MORE, losses=ConfigDict({"a": "cross_entropy"}))
    with pytest.raises(StoppedError):
        classify.compare(two, work)
    assert appended == [2]
    assert [line["text"] for line in scored(work)[4:]] == [MORE["off"]] * 2
    classify.compare(two, work)
    assert appended == [2, 2]
    assert [line["text"] for line in scored(work)[6:]] == [MORE["fgsm"]] * 2


def test_a_line_that_was_cut_off_is_repeated(work, untrained):
    path = work / "robustness.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    classify.compare(config(WHITE), work)
    lines = scored(work)
    assert lines[:3] == [json.loads(line) for line in whole.splitlines()[:3]]
    # Those that were trained together are tested together.
    assert lines[3:] == [json.loads(line) for line in whole.splitlines()[2:]]
    results = json.loads((work / "results.json").read_text())
    assert [tested["n"] for tested in results["robustness"]] == [2, 2]


def test_a_group_of_which_a_line_is_lost_is_recorded_again_and_tested(work, monkeypatch):
    def call(*_):
        raise AssertionError("its checkpoint is of the end")

    path, before = work / "runs.jsonl", ended(work)
    lines = path.read_bytes().splitlines(keepends=True)
    del lines[-2]
    path.write_bytes(b"".join(lines))
    monkeypatch.setattr(Training, "_call", call)
    classify.compare(config(WHITE | {"off": MORE["off"]}), work)
    assert ended(work)[3:] == before[2:]
    assert len([line for line in scored(work) if line["text"] == MORE["off"]]) == 4
    results = json.loads((work / "results.json").read_text())
    assert [row["n"] for row in results["rows"] + results["robustness"]] == [2] * 6


def test_a_damaged_line_is_named(work):
    path = work / "robustness.jsonl"
    path.write_text("{}\n" + path.read_text())
    with pytest.raises(ConfigError, match=r"line 1 of .*robustness\.jsonl is damaged: delete that"):
        classify.compare(config(WHITE), work)


def test_without_the_checkpoint_of_the_end_it_is_said_what_to_do(finished, work):
    (folder,) = work.glob("training/a-*")
    assert {path.name for path in folder.glob("checkpoints/*")} == {"2", "4"}
    shutil.rmtree(folder / "checkpoints" / "4")
    more = config(WHITE | {"off": MORE["off"]})
    with pytest.raises(ConfigError, match=rf"no whole checkpoint of the end .* '{folder.name}' in"):
        classify.compare(more, work)
    path = work / "runs.jsonl"
    lines = [line for line in path.read_text().splitlines(True) if folder.name not in line]
    path.write_text("".join(lines))
    classify.compare(more, work)
    assert sorted(path.read_text().splitlines()) == sorted(map(json.dumps, ended(finished)))
    assert len(scored(work)) == 8


def test_a_test_that_cannot_be_made_is_refused_before_the_training(tmp_path, untrained):
    wrong = config({"x": "corruption(name='fog', std=(0.1, 0.2))"})
    with pytest.raises(ConfigError, match=r"^config\.perturbations\['x'\]: std has 2 numbers"):
        classify.compare(wrong, tmp_path)
    stored = {"x": "stored_corruption(name='fog', severity=2)"}
    with pytest.raises(OSError, match="No data set 'cifar10_corrupted/fog_2' in"):
        classify.compare(config(stored), tmp_path)


def test_networks_that_diverged_are_not_tested(tmp_path, monkeypatch, capsys):
    def zero(forward, batch, **_):
        return jnp.zeros((), jnp.int32)

    @rj.penalty(init=zero)
    def collapse(point, state, *, at):
        squares = (point.outputs.logits**2).mean(-1)
        return jnp.where(state >= at, jnp.nan, 1e-3) * squares, state + 1

    losses = ConfigDict({"x": "cross_entropy | collapse(weight=1.0, at={strength})"})
    # One group of a sound run and one that is not, and one of two that are not.
    both = config(WHITE, losses=losses, strengths=ConfigDict({"x": (1.0, 2.0, 99.0)}), seeds=1)
    both.selection, both.runs_at_once = "test", 3
    classify.compare(both, tmp_path)
    assert [run["diverged"] is None for run in ended(tmp_path)] == [False, False, True]
    assert [line["strength"] for line in scored(tmp_path)] == [99.0]
    assert "not finite" in capsys.readouterr().err
    monkeypatch.setattr(comparison, "Problem", None)
    classify.compare(both, tmp_path)


# What is missing, of records made up by hand.


def journal(folder, runs, **others):
    made = Journal(folder, config().to_dict())
    scores = dict.fromkeys(("train_loss", "test_nll", "test_ece"), 0.5)
    scores |= {"test_accuracy": 0.5, "validation_accuracy": 0.5, "diverged": None}
    made.runs.append([vars(run) | scores | {"group": run.method} | others for run in runs])
    return made


def test_what_is_missing_is_named_by_group_and_once(tmp_path):
    runs = plan(config().to_dict())
    made = journal(tmp_path, runs)
    first, second = read(WHITE["white"]), read(MORE["off"])
    same = {"one": first, "the same": read(WHITE["white"]), "two": second}
    assert scoring.missing(made, runs, same) == {"a": [first, second], "b": [first, second]}
    scores = {"levels": [0], "accuracy": [0.5], "nll": [1.0], "ece": [0.1]}
    made.robustness.append([vars(runs[i]) | {"text": first.text} | scores for i in (0, 2, 3)])
    found = scoring.missing(made, runs, same)
    assert (set(found["a"]), len(found["a"]), found["b"]) == ({first, second}, 2, [second])
    assert scoring.missing(made, runs[2:], {"one": first}) == {}
    assert scoring.missing(made, runs, {}) == {}


def test_runs_of_an_older_version_are_refused_only_where_they_are_to_be_tested(tmp_path):
    runs = plan(config().to_dict())
    made = journal(tmp_path, runs)
    for record in made.runs.records:
        del record["group"]
    assert scoring.missing(made, runs, {}) == {}
    with pytest.raises(ConfigError, match="trained by an older version, whose networks cannot be"):
        scoring.missing(made, runs, {"x": read(WHITE["white"])})


def test_diverged_runs_are_not_missing(tmp_path):
    runs = plan(config().to_dict())
    made = journal(tmp_path, runs, diverged="step 3: total")
    assert scoring.missing(made, runs, {"x": read(WHITE["white"])}) == {}


def test_of_another_data_set_grey_images_can_be_left_out_and_the_whole_of_each_seen(tmp_path):
    """All but one have a red of 100 at the right border, most of which the centre leaves out."""
    for name, colours in {"a": ((9, 9, 9), (9, 9, 8)), "b": ((0, 0, 0), (255, 255, 255))}.items():
        (tmp_path / name).mkdir()
        for i, colour in enumerate(colours):
            pixels = np.full((64, 64, 3), colour, np.uint8)
            pixels[:, 60:, 0] = pixels[:, 60:, 0] if colour == (9, 9, 9) else 100
            Image.fromarray(pixels).save(tmp_path / name / f"{i}.png")
    name = f"folder:{tmp_path}"
    spec = SimpleNamespace(shape=(8, 8, 3), classes=2, class_names=("a", "b"))
    problem = SimpleNamespace(spec=spec, config={"data_dir": "", "broken": "refuse"})
    whole = scoring._read(problem, read(f"dataset(name='{name}', resize='whole')"), name)
    assert whole["label"].tolist() == [0, 0, 1, 1]
    assert whole["image"][2:, 0, -1, 0].tolist() == pytest.approx([45, 190], abs=15)
    centre = scoring._read(problem, read(f"dataset(name='{name}')"), name)
    assert centre["image"][2:, 0, -1, 0].tolist() == pytest.approx([12, 236], abs=8)
    colored = read(f"dataset(name='{name}', resize='whole', colored=True)")
    assert scoring._read(problem, colored, name)["label"].tolist() == [0, 1, 1]


@pytest.mark.parametrize("broken", ["skip", "refuse"])
def test_of_a_folder_that_is_tested_on_broken_files_are_treated_as_of_the_data_set(
    tmp_path, broken
):
    for name in ("a/1.png", "b/1.png", "b/2.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / name)
    (tmp_path / "b" / "2.png").write_bytes(b"no image")
    perturbation = read(f"dataset(name='folder:{tmp_path}')")
    spec = SimpleNamespace(shape=(8, 8, 1), classes=2, class_names=("a", "b"))
    problem = SimpleNamespace(spec=spec, config={"data_dir": "", "broken": broken})
    if broken == "skip":
        step_checks._check_read(problem, "other", perturbation, f"folder:{tmp_path}")
        found = scoring._read(problem, perturbation, f"folder:{tmp_path}")
        assert found["label"].tolist() == [0, 1]
    else:
        with pytest.raises(sources.DataError, match=r"2\.png cannot be read"):
            scoring._read(problem, perturbation, f"folder:{tmp_path}")


@pytest.mark.parametrize(
    ("text", "clips"),
    [
        ("white_noise(sigma=0.1, protocol='pixel')", True),
        ("corruption(name='fog')", True),
        ("fgsm(epsilon=0.1)", True),
        ("white_noise(sigma=0.1)", False),
        ("switched_off_pixels(amount=0.1)", False),
        ("dataset(name='digits')", False),
    ],
)
def test_what_clips_pixels_is_refused_for_images_beyond_them(text, clips):
    """Such as moves alone; but not where only the images that are trained on are."""
    perturbation = read(text)
    image = np.linspace(0, 1, 8, dtype=np.float32).reshape(4, 1, 2, 1)
    split = {"image": image, "label": np.arange(4, dtype=np.int32)}
    moves = {**split, "image": image * 3 - 1}
    refused = pytest.raises(ConfigError, match=r"clips pixels to \[0, 1\], .* from -1 to 2: leave")
    for train, test, fails in ((split, moves, clips), (moves, split, False)):
        source = Memory(sources.Dataset("d", train, test, 4))
        with refused if fails else contextlib.nullcontext():
            step_checks._check_range(source, "it", perturbation)
