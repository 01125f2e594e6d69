"""Whatever is wrong, the user reads one sentence before the first step, and the exit code is 2.

Covers `commands.py` and `step_checks.py` too.
"""

import dataclasses
import json
import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import tiny_corrupted
import tiny_imagenet

from experiments.classify import CLASSIFICATION
from experiments.data import digits
from experiments.runs.groups import groups
from experiments.runs.journal import Journal
from experiments.runs.plan import plan
from experiments.runs.problem import Problem
from experiments.training.checkpoints import Checkpoints

ROOT = Path(__file__).parents[2]
SHARD = "digits-train.array_record-00000-of-00001"
CONFIG = """
from ml_collections import ConfigDict
from configs import common

def get_config():
    config = common.base()
    config.train_sizes = (2,)
    config.validation_per_class = 1
    config.epochs = 1
    config.batch_size = 16
    config.runs_at_once = 2
    config.strategy = "map"
    config.losses = ConfigDict({"x": "cross_entropy"})
    return config
"""
ALONE = "--config.runs_at_once=1"
GROWING = '{"isda": {"strength": "linear"}}'
NOISE = '--config.perturbations={"x": "white_noise(sigma=(0.1, 0.2))"}'
STREAM = [
    "--config.data=stream",
    "--config.train_sizes=(0,)",
    "--config.validation_per_class=0",
    "--config.selection=test",
    ALONE,
]


@dataclasses.dataclass
class Place:
    """Where a row is prepared: a folder of its own, and what all rows share.

    Attributes:
      folder: this row's own.
      shared: with `config.py`, and under `data` the digits and `tiny_imagenet`.
    """

    folder: Path
    shared: Path

    @property
    def work(self) -> Path:
        return self.folder / "work"

    def config(self):
        return runpy.run_path(str(self.shared / "config.py"))["get_config"]()


@dataclasses.dataclass
class Row:
    """A wrong input: options, or a function that prepares a folder and returns them."""

    name: str
    options: Sequence[str] | Callable[[Place], Sequence[str]]
    says: Sequence[str]
    module: str = "experiments.classify"
    bare: bool = False  # without --config and --workdir


def entry(name: str, value: str, says: str, *more: str) -> Row:
    options = " ".join([f"{name}={value}", *more]).replace("--config.", "")
    return Row(options, [f"--config.{name}={value}", *more], [says])


def loss(text: str, *says: str, more: Sequence[str] = ()) -> Row:
    return Row(f"loss {text}", [f"--config.losses.x={text}", *more], ["config.losses.x", *says])


def perturbation(text: str, *says: str, more: Sequence[str] = ()) -> Row:
    option = "--config.perturbations=" + repr({"x": text})
    return Row(f"perturbation {text}", [option, *more], ["config.perturbations['x']: ", *says])


def strengths(value: str, *says: str) -> Row:
    template = "--config.losses.x=cross_entropy | l2(weight={strength})"
    return Row(f"strengths {value}", [template, f"--config.strengths={value}"], says)


def file(name: str, text: str | None, *says: str) -> Row:
    """A config file of that content; None for a folder."""

    def prepare(place: Place) -> list[str]:
        path = place.folder / "wrong.py"
        path.mkdir() if text is None else path.write_text(text)
        return [f"--config={path}", f"--workdir={place.work}"]

    return Row(f"config file {name}", prepare, says, bare=True)


def damaged(name: str, damage: Callable[[Path], object], *says: str) -> Row:
    """Digits whose files are damaged."""

    def prepare(place: Place) -> list[str]:
        shutil.copytree(place.shared / "data" / "digits", place.folder / "digits")
        damage(place.folder / "digits" / "1.0.0")
        return [f"--config.data_dir={place.folder}"]

    return Row(f"data {name}", prepare, says)


def edited(file: str, old: str, new: str) -> Callable[[Path], object]:
    def edit(folder: Path) -> None:
        text = (folder / file).read_text()
        assert old in text
        (folder / file).write_text(text.replace(old, new))

    return edit


def used(name: str, use: Callable[[Place], object], *says: str) -> Row:
    """A work folder in which something is already."""

    def prepare(place: Place) -> list[str]:
        Journal(place.work, place.config().to_dict())
        (place.work / "training").mkdir()
        use(place)
        return []

    return Row(f"work folder {name}", prepare, says)


def other_config(place: Place) -> None:
    path = place.work / "config.json"
    config = json.loads(path.read_text()) | {"learning_rate": 0.5, "epochs": 7, "seeds": 3}
    path.write_text(json.dumps(config))


def checkpoint(**changes: object) -> Callable[[Place], None]:
    """A checkpoint where the first runs would have theirs, but of another network at least."""

    def save(place: Place) -> None:
        config = place.config()
        config.data_dir = str(place.shared / "data")
        runs = plan(config.to_dict())
        name, group = next(groups(Problem(config.to_dict(), CLASSIFICATION), runs, runs))
        folder = place.work / "training" / name / "checkpoints"
        with Checkpoints(folder, keep=1, belongs_to=group.belongs_to | changes) as checkpoints:
            checkpoints.save(1, {"kernel": jnp.zeros(3)}, {})

    return save


def lost(place: Place) -> list[str]:
    """A run that is recorded as finished, and whose checkpoint is not there."""
    config = place.config()
    config.data_dir = str(place.shared / "data")
    runs = plan(config.to_dict())
    name, group = next(groups(Problem(config.to_dict(), CLASSIFICATION), runs, runs))
    scores = {"train_loss": 0.5, "test_accuracy": 0.5}
    scores |= {"group": name, "place": 0, "together": 1}
    journal = Journal(place.work, config.to_dict())
    journal.runs.append([vars(runs[0]) | scores | {"steps": group.steps, "diverged": None}])
    return [NOISE]


def report(name: str, options: Callable[[Place], Sequence[str]], *says: str) -> Row:
    return Row(f"report {name}", options, says, module="experiments.report", bare=True)


def sign(says: str, *options: str) -> Row:
    return Row(f"sign {' '.join(options)}", options, [says], module="experiments.sign", bare=True)


def report_unwritable(place: Place) -> list[str]:
    Journal(place.work, place.config().to_dict())
    return [str(place.work), f"--output={place.shared}/config.py/page.html"]


def blocked(place: Place) -> list[str]:
    return [f"--workdir={place.shared}/config.py/work"]


TABLE = [
    # Entries of the config.
    entry("epocs", "3", "config.epocs is no entry of this config; the nearest are: epochs, "),
    entry("imports", '("absent",)', "config.imports names 'absent', which cannot be found: name a"),
    entry("model", "absent:Net", "config.model, 'absent:Net', names the module absent, which can"),
    entry("losses.y", "cross_entropy", "no such entry, or not of that type: 'y'"),
    entry("losses", "cross_entropy", "Failed to parse"),
    entry("epochs", "abc", "--config.epochs=abc: invalid literal for int"),
    entry("epochs", "0", "config.epochs must be at least 1"),
    entry("epochs", "9" * 30, "config.epochs must be at most 2,147,483,647"),
    entry("seeds", "-1", "config.seeds must be at least 1, but it is -1"),
    entry("seeds", "2000000", "The config has 2000000 runs"),
    entry("seeds", "1e9", "invalid literal for int"),
    entry("seeds", "", "--config.seeds=: invalid literal"),
    entry("batch_size", "0", "config.batch_size must be at least 1"),
    entry("learning_rate", "0", "config.learning_rate must be positive, but it is 0.0"),
    entry("learning_rate", "nan", "config.learning_rate must be at least 0"),
    entry("learning_rate", "inf", "config.learning_rate must be finite, but it is inf"),
    entry("clip_norm", "-1", "config.clip_norm must be at least 0"),
    entry("average", "1", "config.average is the decay"),
    entry("average", "nan", "config.average must be at least 0"),
    entry("evaluate_epochs", "nan", "config.evaluate_epochs must be at least 0"),
    entry("evaluate_epochs", "1e-300", "config.evaluate_epochs=1e-300 is less than one step"),
    entry("checkpoint_steps", "-1", "config.checkpoint_steps must be at least 0"),
    entry("keep_checkpoints", "0", "config.keep_checkpoints must be at least 1"),
    entry("accumulate", "3", "config.accumulate=3 must divide config.batch_size=16"),
    entry("fsdp", "3", "must divide the number of devices, which is 8", ALONE),
    entry("fsdp", "2", "needs config.runs_at_once=1, not 2"),
    entry("fsdp", "2", "needs config.parallelism='jit'", ALONE, "--config.parallelism=pmap"),
    entry("parallelism", "pjit", "config.parallelism is 'pjit', but it can be '' or 'jit' or"),
    entry("strategy", "pmap", "config.strategy is 'pmap', but it can be '' or 'vmap' or"),
    entry("dtype", "float16", "config.dtype is 'float16', but it can be 'float32' or 'bfloat16'"),
    entry("data", "disk", "config.data is 'disk', but it can be 'memory' or 'stream'"),
    entry("selection", "best", "config.selection is 'best', but it can be 'validation' or 'test'"),
    entry(
        "selection",
        "validation",
        "needs config.validation_per_class of at least 1, or a data set with a validation split",
        "--config.validation_per_class=0",
        '--config.strengths={"x": (0.1, 0.2)}',
        "--config.losses.x=cross_entropy | l2(weight={strength})",
    ),
    entry("class_weights", "(1.0, 2.0)", "has 2 numbers, but 'digits' has 10 classes: 0, 1, 2"),
    entry(
        "class_weights",
        "-1",
        "config.class_weights must be 'balanced', 'median' or a tuple of numbers",
    ),
    entry("sampling", "weighted", "config.sampling is 'weighted', but it can be '' or 'balanced'"),
    entry("sampling", "balanced", "needs config.sampling='', not 'balanced'", *STREAM),
    entry("model", "resnet", "Unknown model 'resnet'; known models: small_cnn"),
    entry("growing", GROWING, "config.growing names 'isda.strength', but can only"),
    entry(
        "growing",
        '{"jacobian": {"probes": "linear"}}',
        "config.growing names 'jacobian.probes'",
        "--config.losses.x=cross_entropy | jacobian(weight=1, probes=1)",
    ),
    entry(
        "growing",
        '{"label_smoothing": {"amount": "linear(start=3)"}}',
        "where it begins: label_smoothing's amount must",
        "--config.losses.x=cross_entropy | label_smoothing(amount=0.5)",
    ),
    entry("growing", '{"isda": {"strength": 3}}', "but for 'isda.strength' it has 3."),
    entry("growing", '("isda.strength",)', "Failed to parse"),
    entry("image_size", "-1", "config.image_size must be at least 0"),
    entry("mixture", '{"x": 1.0}', "positive numbers whose sum is below 1, such as"),
    entry("mixture", '{"x": 0.5}', "config.mixture needs config.data='memory'", *STREAM),
    entry("joined", '("x",)', "config.joined needs config.data='memory'", *STREAM),
    entry("joined", '("x", "x")', "config.joined must name data sets, each of them once"),
    entry("joined", '("npz:no.npz",)', "There is no file 'no.npz'"),
    entry("equal_updates", "True", "counts the steps of an epoch without the images of"),
    entry("unlabeled_batch_size", "-1", "config.unlabeled_batch_size must be at least 0"),
    entry(
        "unlabeled_includes_labeled",
        "maybe",
        "--config.unlabeled_includes_labeled=maybe: ('Non-boolean",
    ),
    entry("metrics", "(3,)", "config.metrics must be names of metrics, each of them once"),
    entry("columns", '("nll", "nll")', "config.columns must be names of metrics"),
    entry("train_sizes", "(True,)", "config.train_sizes must be whole numbers"),
    entry("train_sizes", "()", "must each name at least one"),
    entry("train_sizes", "(5, 5)", "config.train_sizes names a number twice: (5, 5)"),
    entry("train_sizes", "(-1,)", "config.train_sizes must be whole numbers"),
    entry("train_sizes", "(1.5,)", "config.train_sizes must be whole numbers"),
    entry("train_sizes", '("a",)', "config.train_sizes must be whole numbers"),
    entry("train_sizes", "(1000,)", "Class '0' has 127 examples, but 1001 of each class"),
    entry("validation_per_class", "200", "but 202 of each class were asked for"),
    entry("mean", "(0.5, 0.5)", "mean has 2 numbers, but the image 1 channels"),
    entry("mean", '("a",)', "config.mean must be finite numbers"),
    entry("std", "(0.0,)", "config.std must be positive numbers"),
    entry("std", "(1, 2, 3)", "std has 3 numbers, but the image 1 channels"),
    entry("published", '{"x": {"2": 3}}', "config.published.x must be (mean, standard deviation"),
    Row(
        "stream of a subset", ["--config.data=stream"], ["needs config.train_sizes=(0,), not (2,)"]
    ),
    Row(
        "stream held out",
        [*STREAM, "--config.validation_per_class=1"],
        ["needs config.validation_per_class=0, not 1."],
    ),
    # Optimizer and schedule.
    entry("optimizer", "adm", "unknown optimizer 'adm'"),
    entry("optimizer", "sgd(0.1)", "the optimizer 'sgd(0.1)' cannot be read"),
    entry("optimizer", "sgd(momentum=0.9, x=3)", "sgd has no 'x'; it takes: learning_rate"),
    entry("optimizer", "sgd(momentum=1e999)", "finite numbers"),
    entry("optimizer", "sgd | sgd", "sgd is an optimizer: it must be the last"),
    entry("optimizer", "adamw(weight_decay=(1, 2))", "cannot take a step with the optimizer"),
    entry(
        "optimizer",
        "sgd | by_part(parts={'haed': 10.0})",
        "config.optimizer: by_part names 'haed', which is no part of the network; there are: ",
    ),
    entry("schedule", "linear", "unknown schedule 'linear'; known are: constant, step, cosine"),
    entry("schedule", "cosine(warmup=2)", "must be from 0 to 1 epochs"),
    entry("schedule", "step(epochs=3, factor=0.1)", "must have the arguments: epochs, factor"),
    entry("schedule", "step(epochs=(-1,), factor=0.1)", "none of them negative"),
    # Losses.
    loss("", "'' is no loss expression"),
    loss("cross_entropi", "unknown stage 'cross_entropi'"),
    loss("cross_entropy | ärger 😀", "is no loss expression"),
    loss("cross_entropy |" * 3000, "is no loss expression"),
    loss("l2(weight=1)", "must begin with one base loss"),
    loss("cross_entropy | l2", "l2 needs the argument 'weight'"),
    loss("cross_entropy | l2(weight=1e999)", "l2's weight must be finite"),
    loss("cross_entropy | l2(weight=-1)", "l2's weight must be at least 0, but it is -1."),
    loss("cross_entropy | l2(weight=1e99)", "l2's weight must not be beyond float32"),
    loss("cross_entropy | mixup(alpha=1, beta=2)", "mixup has no argument 'beta'"),
    loss("cross_entropy | mixup(alpha=__import__('os'))", "must be a Python literal"),
    loss("cross_entropy | l2(weight={strength})", "but config.strengths.x names none"),
    loss(
        "cross_entropy | l2(weight={strength}, exclude={strength})",
        "exclude must be None or a tuple of names, but it is 1.0",
        more=['--config.strengths={"x": (1.0,)}'],
    ),
    loss("cross_entropy | l1(weight=1, exclude=('b',))", "exclude names ['b']"),
    loss(
        "cross_entropy | jacobian(weight=1, probes=0)",
        "jacobian's probes must be at least 1, but it is 0",
    ),
    loss("cross_entropy | manifold_mixup(alpha=1, layers=('x',))", "unknown layers ['x']"),
    loss("cross_entropy | puzzlemix(alpha=1, blocks=3)", "3 x 3 equal parts, but they are 8 x 8"),
    loss("cross_entropy | cutout(size=-3)", "cutout's size must be at least 0, but it is -3"),
    loss("cross_entropy | mixup(alpha=1, axis_name='data')", "axis_name='data' is neither an axis"),
    loss("isda(strength=1, covariance='round')", "unknown covariance 'round'"),
    loss("cross_entropy | entropy(weight=1)", "entropy is of unlabelled images: set config.unl"),
    loss(
        "cross_entropy | temporal_ensembling(weight=1, images=3)",
        "temporal_ensembling's images=3 must be",
        more=["--config.unlabeled_batch_size=8"],
    ),
    strengths('{"y": (1.0,)}', "config.strengths has ['y'], which config.losses has not"),
    strengths('{"x": (0.0,)}', "Strengths must be positive"),
    strengths('{"x": (1, 1.0)}', "config.strengths.x names a number twice"),
    strengths(
        '{"x": "12"}', "must be a tuple of finite numbers, such as (0.1, 1.0), but it is '12'"
    ),
    strengths('{"x": 0.1}', "must be a tuple of finite numbers"),
    Row("strengths unused", ['--config.strengths={"x": (1.0,)}'], ["config.losses.x has no {stre"]),
    # What trained networks are tested against.
    entry("perturbations", "white_noise(sigma=1)", "Failed to parse"),
    perturbation("white_noise(0.1)", "the perturbation 'white_noise(0.1)' cannot be read: write a"),
    perturbation("red_noise(sigma=1)", "unknown perturbation 'red_noise'; known are: white_noise"),
    perturbation("white_noise", "white_noise needs sigma=, numbers from 0 to 1000, such as"),
    perturbation("salt_and_pepper(amount=(0.1, 2))", "numbers from 0 to 1, such as amount=(0.1, 0"),
    perturbation("white_noise(sigma=(0.1, 0.1))", "white_noise names a sigma twice: (0.1, 0.1)."),
    perturbation("white_noise(sigma=1, seed=3)", "has no 'seed'; it takes: sigma, protocol, exam"),
    perturbation("white_noise(sigma=1, protocol='both')", "protocol must be 'paper' or 'pixel'"),
    perturbation("corruption(name='frog')", "corruption needs name=, one of: gaussian_noise, "),
    perturbation("corruption(name='fog', severity=0)", "whole numbers from 1 to 5, such as sever"),
    perturbation("corruption(name='fog', std=(1, 1))", "std has 2 numbers, but the image 1 chan"),
    perturbation("pgd(epsilon=0.1, steps=0)", "pgd's steps must be a whole number of at least 1"),
    perturbation("white_noise(sigma=1, examples=5)", "all test images are tested", more=STREAM),
    Row(
        "perturbation stored and missing",
        ['--config.perturbations={"x": "stored_corruption(name=\'fog\', severity=3)"}'],
        ["No data set 'cifar10_corrupted/fog_3' in", "prepare it with `"],
    ),
    Row(
        "perturbation stored and of other images",
        ['--config.perturbations={"x": "stored_corruption(name=\'fog\', severity=2)"}'],
        ["fog_2 has images [4, 4, 3] of 10 classes, but the networks are for [8, 8, 1] of 10."],
    ),
    entry(
        "published_robustness", '{"x": {"y": (1.0, 2.0)}}', "but for 'y' it is (1.0, 2.0)", NOISE
    ),
    entry("published_robustness", '{"x": {"x": (1.0,)}}', "as many numbers (or None) as it", NOISE),
    Row(
        "perturbation of a network that is lost",
        lost,
        ["no whole checkpoint of the end of the training", "and it is trained again."],
    ),
    # Processes.
    entry("distributed", "here", "but must be 'auto' or 'HOST:PORT,INDEX,COUNT'"),
    entry("distributed", "localhost:99999,0,1", "but must be 'auto' or"),
    entry("distributed", "localhost:9876,2,2", "names process 2 of 2"),
    entry("distributed_timeout", "0", "config.distributed_timeout must be at least 1"),
    # Flags.
    Row("unknown flag", ["--confg=x"], ["Unknown command line flag 'confg'"]),
    Row("flag without a value", ["--workdir"], ["Missing value for flag --workdir"]),
    Row(
        "profile of a short run",
        ["--profile"],
        ["the first 20, which are compiled in that time", "set config.epochs to 11 or more."],
    ),
    Row("stray argument", ["more"], ["unexpected arguments ['more']"]),
    Row("no config", [], ["--config is missing: name a file"], bare=True),
    Row("config twisted", ["--config.seeds=1", "--config=x"], ["in argv before"], bare=True),
    Row("config's argument", ["--config=configs/digits.py:x"], ["argument is 'x'"], bare=True),
    Row("config not there", ["--config=/none.py"], ["--config cannot be read"], bare=True),
    file(
        "with a misspelt entry",
        CONFIG.replace("config.epochs", "config.epoch"),
        "config.epoch is no entry of a config; the nearest are: epochs",
    ),
    file(
        "with an entry of another name",
        CONFIG.replace("config.epochs", "config.lr"),
        "config.lr is no entry of a config; the nearest are: ",
        "learning_rate",
    ),
    file("is a folder", None, "--config cannot be read", "Is a directory"),
    file("with a syntax error", "def get_config(: pass", "fails with SyntaxError"),
    file("without get_config", "x = 3", "has no attribute 'get_config'"),
    file("that returns nothing", "def get_config(): pass", "get_config() returns it"),
    file("with a name error", "def get_config(): return x", "NameError: name 'x' is not defined"),
    file(
        "with a wrong type", CONFIG.replace("16", "'16'"), "Could not override field 'batch_size'"
    ),
    file("from scratch", CONFIG.replace("common.base()", "ConfigDict()"), "is missing: begin with"),
    # Work folders.
    Row("work folder empty name", ["--workdir="], ["--workdir is empty"]),
    Row("work folder not UTF-8", lambda p: [f"--workdir={p.work}\udcff"], ["that is not UTF-8"]),
    Row("work folder under a file", blocked, ["cannot be used", "choose a folder"]),
    Row("work folder is a file", lambda p: [f"--workdir={p.shared}/config.py"], ["cannot be used"]),
    used("of another config", other_config, "epochs: 7, now 1, learning_rate: 0.5, now 0.001)"),
    used(
        "with a damaged config",
        lambda place: (place.work / "config.json").write_text("[" * 100_000),
        "config.json is missing or damaged",
    ),
    used(
        "with a damaged record",
        lambda place: (place.work / "runs.jsonl").write_bytes(b'{"method": "\xff"}\n'),
        "line 1 of",
        "runs.jsonl is damaged: delete that line",
    ),
    used(
        "with checkpoints of another config",
        checkpoint(learning_rate=9.0),
        "holds checkpoints of another config (learning_rate: 9.0, now 0.001)",
    ),
    used(
        "with checkpoints of another network",
        checkpoint(),
        "holds checkpoints of another network, loss or optimizer",
    ),
    # Data.
    entry("dataset", "mnits", "is it 'mnist'?"),
    entry("dataset", "mnist", "No data set 'mnist' in"),
    entry("dataset", "../digits", "No data set '../digits' in"),
    entry("dataset", "digits:9.9.9", "wrong version"),
    entry("dataset", "tiny_imagenet", "name one in config.image_size"),
    Row(
        "data folder unwritable",
        lambda place: [f"--config.data_dir={place.shared}/config.py"],
        ["Cannot prepare the digits in", "name a folder that can be written"],
    ),
    damaged("truncated", lambda folder: os.truncate(folder / SHARD, 3000), "cannot be read (", ")"),
    damaged(
        "without a file",
        lambda folder: (folder / SHARD).unlink(),
        "array_record-00000-of-00001 is missing",
    ),
    damaged("without features", lambda folder: (folder / "features.json").unlink(), "incomplete"),
    damaged(
        "without a test split",
        edited("dataset_info.json", '"test"', '"t"'),
        "has no test and no validation split",
    ),
    damaged(
        "without labels",
        edited("features.json", '"label": {', '"l": {'),
        "does not have a class 'label'",
    ),
    damaged("of 16 bits", edited("features.json", "uint8", "uint16"), "not have a uint8 'image'"),
    damaged("with wrong labels", edited("features.json", '"10"', '"9"'), "must be from 0 to 8"),
    Row("stream not there", [*STREAM, "--config.dataset=none"], ["No data set 'none' in"]),
    Row(
        "stream of images too small",
        [*STREAM, "--config.dataset=tiny_imagenet", "--config.image_size=2"],
        ["needs larger images than 2 x 2"],
    ),
    # The report.
    report("of nothing", lambda place: [], "There is no folder to report on"),
    report("of no folder", lambda place: [str(place.work)], "is no folder: name the --workdir"),
    report("of another folder", lambda p: [str(p.shared)], "holds no config.json"),
    report("to a file's inside", report_unwritable, "config.py/page.html cannot be written"),
    report("with an unknown flag", lambda place: ["--out=x"], "Unknown command line flag 'out'"),
    # Copies by a trained network.
    sign("Name one work folder: python -m experiments.sign runs/digits"),
    sign("--iterations are whole numbers, such as 50,100", "runs/none", "--iterations=1.5"),
    sign("--clip is LOW,HIGH, such as 0,255, or relu", "runs/none", "--clip=3"),
    sign("clip must be None, 'relu' or (low, high)", "runs/none", "--clip=3,2"),
    sign("--delta keeps one move", "runs/none", "--delta", "--iterations=1,2"),
    sign("runs/none is no folder: name the --workdir of a comparison", "runs/none"),
    sign("flag --at=start: value should be one of", "runs/none", "--at=start"),
]


def _record(folder: Path) -> dict[str, bytes]:
    """What only training writes."""
    files = [*folder.rglob("metrics.jsonl"), *folder.rglob("runs.jsonl")]
    return {str(path): path.read_bytes() for path in files}


@dataclasses.dataclass
class Outcome:
    code: int
    error: str
    before: dict[str, bytes]
    after: dict[str, bytes]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory) -> dict[str, Outcome]:
    shared, folders = tmp_path_factory.mktemp("shared"), tmp_path_factory.mktemp("rows")
    (shared / "config.py").write_text(CONFIG)
    digits.prepare(shared / "data")
    tiny_imagenet.prepare(shared / "data")
    image, label = np.zeros((3, 4, 4, 3), np.uint8), np.arange(3)
    tiny_corrupted.prepare(shared / "data", "fog_2", image, label, 10)
    places = [Place(folders / str(number), shared) for number in range(len(TABLE))]
    commands = [_command(row, place) for row, place in zip(TABLE, places, strict=True)]
    before = [_record(place.folder) for place in places]
    done = subprocess.run(
        [sys.executable, "tests/forked_commands.py"],
        input="".join(json.dumps(command) + "\n" for command in commands),
        env={**os.environ, "PYTHONPATH": str(ROOT), "TFDS_DATA_DIR": str(shared / "data")},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    codes = dict(json.loads(line) for line in done.stdout.splitlines())
    assert len({row.name for row in TABLE}) == len(TABLE) == len(codes)
    return {
        row.name: Outcome(
            codes[number],
            (places[number].folder / "stderr").read_text(),
            before[number],
            _record(places[number].folder),
        )
        for number, row in enumerate(TABLE)
    }


def _command(row: Row, place: Place) -> dict[str, object]:
    place.folder.mkdir()
    own = [f"--config={place.shared}/config.py", f"--workdir={place.work}"]
    options = row.options(place) if callable(row.options) else row.options
    arguments = [*([] if row.bare else own), *options]
    return {"module": row.module, "arguments": arguments, "folder": str(place.folder)}


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name[:60])
def test_a_wrong_input_is_one_sentence_before_the_first_step(row, outcomes):
    outcome = outcomes[row.name]
    assert outcome.code == 2, outcome.error[-2000:]
    assert outcome.error.endswith("\n")
    assert outcome.error.count("\n") == 1, outcome.error[-2000:]
    assert "Traceback" not in outcome.error
    for fragment in row.says:
        assert fragment in outcome.error
    assert outcome.after == outcome.before
