"""Whatever stops a comparison, the same command goes on and ends as if nothing had happened.

`python tests/kill.py` does the first of these tests many times, at random moments and with a larger
network.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import kill
import numpy as np
import pytest
from flax import nnx
from ml_collections import ConfigDict

import regjax as rj
from configs import digits
from experiments import classify, comparison, models
from experiments.runs import commands
from experiments.runs.problem import Problem
from experiments.training.interruption import SIGNALS, Interruption, StoppedError
from experiments.training.record import Record

ROOT = Path(__file__).parents[3]
EPOCHS, STEPS = 10, 80


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        (17, ["one"] * 8 + ["together", "two", "taught"] * 3),
        (4, ["together", "two", "taught", "together"]),
        (0, []),
    ],
)
def test_as_many_runs_are_killed_as_are_asked_for(runs: int, expected: list[str]) -> None:
    assert kill.mixed(runs, together=3, two=3, taught=3) == expected


@pytest.mark.slow
@pytest.mark.parametrize("form", ["small", "small, taught"])
def test_killed_and_stopped_processes_end_as_one_that_nothing_disturbed(
    form, tmp_path, monkeypatch
):
    # One device; what is left of the suite's own flags compiles fast.
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=0")
    expected, _ = kill.undisturbed(tmp_path / "undisturbed", form, 15)
    mine = kill.Comparison(tmp_path / "killed", form, 15)
    assert mine.start(lambda: mine.last() >= 20 and bool(mine.saves())) == -signal.SIGKILL
    assert mine.start(lambda: mine.last() >= 60, signal.SIGTERM) == os.EX_TEMPFAIL
    sentence = r"\nStopped by SIGTERM, saved at step \d+: the same command goes on\.\n$"
    assert re.search(sentence, mine.said)
    assert mine.start() == 0
    outcome = kill.outcome(mine.folder)
    assert kill.differences(outcome, expected) == []
    assert "Traceback" not in mine.said
    if form == "small, taught":  # every image's visits are counted once, of both seeds
        (seen,) = (
            value
            for name, value in outcome["state"].items()
            if "temporal_ensembling" in name and name.endswith(".seen")
        )
        drawn = 2 * 25 * 15 * kill.STEPS_PER_EPOCH
        assert 0.98 * drawn < np.frombuffer(seen, np.int32).sum() <= drawn


def test_the_second_signal_ends_the_process_at_once():
    code = (
        "import os, signal\n"
        "from experiments.training.interruption import Interruption\n"
        "with Interruption() as interruption:\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    print(interruption.received, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    print('more')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (143, "15\n", "")


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2"])
def test_each_signal_that_wishes_for_a_stop_is_heard_once(name, capsys):
    before = [signal.getsignal(each) for each in SIGNALS]
    with Interruption() as interruption:
        os.kill(os.getpid(), signal.Signals[name])
    assert [signal.getsignal(each) for each in SIGNALS] == before
    with pytest.raises(SystemExit) as end, commands.ends():
        raise StoppedError(interruption.received, 20)
    assert end.value.code == (130 if name == "SIGINT" else 75)
    said = f"Stopped by {name}, saved at step 20: the same command goes on.\n"
    assert capsys.readouterr().err == said


def test_a_signal_that_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as under nohup
    with Interruption() as interruption:
        os.kill(os.getpid(), signal.SIGHUP)
        assert not interruption.received
    assert signal.signal(signal.SIGHUP, before) == signal.SIG_IGN


class Tiny(nnx.Module):
    """One hidden layer with BatchNorm."""

    def __init__(self, image_shape: tuple[int, ...], classes: int, *, rngs: nnx.Rngs):
        self.hidden = nnx.Linear(64, 8, rngs=rngs)
        self.norm = nnx.BatchNorm(8, rngs=rngs)
        self.head = nnx.Linear(8, classes, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.head(jnp.tanh(self.norm(self.hidden(x.reshape(len(x), -1)))))


def config(**changes: Any) -> ConfigDict:
    """One run of 80 steps with a checkpoint every 20."""
    small = digits.get_config("smoke")
    small.model, small.epochs, small.train_sizes, small.seeds = "tiny", EPOCHS, (20,), 1
    small.runs_at_once, small.keep_checkpoints = 1, 2
    small.checkpoint_steps, small.evaluate_epochs = 20, 3.0
    small.losses = ConfigDict({"ISDA": "isda(strength=0.5) | mixup(alpha=1.0)"})
    small.strengths = ConfigDict()
    for name, value in changes.items():
        setattr(small, name, value)
    return small


@pytest.fixture(scope="module", autouse=True)
def tiny(tmp_path_factory):
    """The network and the data of these tests, whose programs are compiled once; no plots."""
    problem: list[Problem] = []

    def write(workdir: Any, *_: Any) -> dict[str, Path]:
        table = Path(workdir, "table.md")
        table.write_text("the table\n")
        Path(workdir, "results.json").write_text(json.dumps({"rows": []}))
        return {"table": table}

    def shared(given: dict[str, Any], experiment: Any, folder: Path) -> Problem:
        if given != config().to_dict():
            return Problem(given, experiment, folder)
        if not problem:
            problem.append(Problem(given, experiment, folder))
        return problem[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TFDS_DATA_DIR", str(tmp_path_factory.mktemp("data")))
        patch.setitem(models.MODELS, "tiny", Tiny)
        patch.setattr(comparison, "Problem", shared)
        patch.setattr(comparison.files, "write", write)
        patch.setattr(comparison.page, "write", lambda _, path: path)
        yield


@pytest.fixture(scope="module")
def expected(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    classify.compare(config(), folder)
    return kill.outcome(folder)


def main(folder: Path, monkeypatch: pytest.MonkeyPatch, given: ConfigDict | None = None) -> int:
    """The command's exit code."""
    given_flags = SimpleNamespace(config=given or config(), workdir=folder, profile=False)
    monkeypatch.setattr(comparison.flags, "FLAGS", given_flags)
    try:
        comparison.main(classify.CLASSIFICATION)
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def stop(monkeypatch: pytest.MonkeyPatch, step: int, number: int = signal.SIGTERM) -> None:
    """Sends this process a signal when that step is recorded."""
    record = Record.record

    def recorded(self: Record, kind: str, at: int, *rest: Any) -> None:
        record(self, kind, at, *rest)
        if at == step and kind == "train":
            os.kill(os.getpid(), number)

    monkeypatch.setattr(Record, "record", recorded)


@pytest.fixture(scope="module")
def halfway(tiny, tmp_path_factory):
    """The folder of a comparison that was stopped at step 48."""
    folder = tmp_path_factory.mktemp("halfway")
    with pytest.MonkeyPatch.context() as patch:
        stop(patch, 48)
        with pytest.raises(StoppedError):
            classify.compare(config(), folder)
    assert names(checkpoints(folder)) == ["40", "48"]
    return folder


def checkpoints(folder: Path) -> Path:
    (found,) = folder.glob("training/*/checkpoints")
    return found


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def assert_goes_on(folder: Path, expected: dict[str, Any]) -> None:
    classify.compare(config(), folder)
    assert kill.differences(kill.outcome(folder), expected) == []


@pytest.mark.parametrize(
    ("number", "code", "step"), [(signal.SIGTERM, 75, 24), (signal.SIGINT, 130, 60)]
)
def test_a_signal_saves_and_says_so(number, code, step, expected, tmp_path, monkeypatch, capsys):
    stop(monkeypatch, step, number)
    before = [signal.getsignal(each) for each in SIGNALS]
    assert main(tmp_path, monkeypatch) == code
    last = capsys.readouterr().err.splitlines()[-1]
    name = signal.Signals(number).name
    assert last == f"Stopped by {name}, saved at step {step}: the same command goes on."
    assert [signal.getsignal(each) for each in SIGNALS] == before
    assert not (tmp_path / "runs.jsonl").exists()
    monkeypatch.undo()
    assert_goes_on(tmp_path, expected)


def test_what_is_left_behind_is_said(tmp_path, capsys):
    for name in ("left", "finished", "begun"):
        (tmp_path / "training" / name / "checkpoints" / "40").mkdir(parents=True)
    records = [{"group": "finished"}]
    journal: Any = SimpleNamespace(folder=tmp_path, runs=SimpleNamespace(records=records))
    nothing: Any = None
    work = comparison.Work(nothing, journal, nothing)
    work.leave([])
    assert capsys.readouterr().err == ""
    work.leave(["begun"])
    (sentence,) = capsys.readouterr().err.splitlines()
    assert sentence.startswith(f"{tmp_path}/training/left was begun with other runs than the con")


@pytest.mark.slow
def test_seeds_that_are_added_let_what_was_begun_go_on(tmp_path, monkeypatch):
    stop(monkeypatch, 48)
    assert main(tmp_path, monkeypatch, config(runs_at_once=2)) == 75
    (begun,) = (tmp_path / "training").iterdir()
    monkeypatch.undo()
    classify.compare(config(runs_at_once=2, seeds=3), tmp_path)
    first, *rest = kill._lines(tmp_path / "runs.jsonl")
    assert (first["group"], first["seed"], first["together"]) == (begun.name, 0, 1)
    assert [run["seed"] for run in rest] == [1, 2]
    steps = [line["step"] for line in kill._lines(begun / "metrics.jsonl")]
    assert steps == sorted(steps)
    assert {48, STEPS} <= {*steps}


@pytest.mark.slow
def test_images_that_are_whitened_are_the_same_after_a_stop(tmp_path, monkeypatch):
    given = config(whiten="gcn | zca(epsilon=0.1)")
    classify.compare(given, tmp_path / "whole")
    stop(monkeypatch, 48)
    assert main(tmp_path / "stopped", monkeypatch, given) == 75
    monkeypatch.undo()
    classify.compare(given, tmp_path / "stopped")
    both = [kill.outcome(tmp_path / name) for name in ("stopped", "whole")]
    assert kill.differences(*both) == []


def truncate(checkpoint: Path) -> None:
    file = checkpoint / "state" / "leaves_0.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def flip(checkpoint: Path) -> None:
    file = checkpoint / "state" / "leaves_0.safetensors"
    data = bytearray(file.read_bytes())
    data[-50] ^= 1
    file.write_bytes(data)


def delete(checkpoint: Path) -> None:
    (checkpoint / "state" / "leaves_0.safetensors").unlink()


def half_write(checkpoint: Path) -> None:
    truncate(checkpoint)
    (checkpoint / "_CHECKPOINT_METADATA").unlink()
    checkpoint.rename(checkpoint.with_name(checkpoint.name + ".orbax-checkpoint-tmp"))


def empty(checkpoint: Path) -> None:
    shutil.rmtree(checkpoint)
    checkpoint.mkdir()


@pytest.mark.parametrize("damage", [truncate, flip, delete, half_write, empty])
def test_a_damaged_checkpoint_is_named_and_the_one_before_taken(
    damage, halfway, expected, tmp_path, capsys
):
    shutil.copytree(halfway, tmp_path, dirs_exist_ok=True)
    damage(checkpoints(tmp_path) / "48")
    assert_goes_on(tmp_path, expected)
    said = capsys.readouterr().err
    assert f"The checkpoint of step 48 in {checkpoints(tmp_path)} is damaged (" in said
    assert "): going on from step 40.\n" in said


def test_where_all_checkpoints_are_damaged_training_starts_over(
    halfway, expected, tmp_path, capsys
):
    shutil.copytree(halfway, tmp_path, dirs_exist_ok=True)
    for checkpoint in checkpoints(tmp_path).iterdir():
        truncate(checkpoint)
    assert_goes_on(tmp_path, expected)
    assert capsys.readouterr().err.count("starting over.") == 2


PAGE = os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def disk(tmp_path):
    """A small disk of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={256 * PAGE}", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a small disk")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path, pages: int) -> None:
    """Leaves so many pages of a disk."""
    room = os.statvfs(disk)
    (disk / "filler").write_bytes(bytes(room.f_bavail * room.f_frsize - pages * PAGE))


def test_a_full_disk_is_one_sentence_and_loses_nothing(disk, halfway, expected, monkeypatch, capfd):
    folder = disk / "work"
    shutil.copytree(halfway, folder)
    reasons = set()
    for pages in (0, 1, 2, 4, 6):  # each time another file is the first that does not fit
        fill(disk, pages)
        assert main(folder, monkeypatch) == 2
        said = capfd.readouterr().err
        (disk / "filler").unlink()
        sentence = said.replace("\r", "\n").splitlines()[-1]
        reasons.add(sentence.partition(str(disk))[0])
        assert "No space left on device" in sentence
        assert "Traceback" not in said
        assert "Exception" not in said
        assert "48" in names(checkpoints(folder))
    assert reasons == {"--workdir=", "The checkpoint of step 60 cannot be written to "}
    assert_goes_on(folder, expected)


def collapsing(*at: float, runs_at_once: int = 2) -> ConfigDict:
    """Runs whose loss is no number from a step on."""

    def zero(forward: Any, batch: Any, **_: Any) -> jax.Array:
        return jnp.zeros((), jnp.int32)

    @rj.penalty(init=zero)
    def collapse(point, state, *, at):
        squares = (point.outputs.logits**2).mean(-1)
        return jnp.where(state >= at, jnp.nan, 1e-3) * squares, state + 1

    losses = ConfigDict({"x": "cross_entropy | collapse(weight=1.0, at={strength})"})
    return config(losses=losses, strengths=ConfigDict({"x": at}), runs_at_once=runs_at_once)


def recorded(folder: Path, strength: float) -> list[dict[str, Any]]:
    (file,) = folder.glob("training/*/metrics.jsonl")
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    return [
        {name: value for name, value in line.items() if name != "images_per_second"}
        for line in lines
        if line["strength"] == strength
    ]


def finished(folder: Path) -> list[dict[str, Any]]:
    """The finished runs, without their place in a group of runs."""
    lines = (folder / "runs.jsonl").read_text().splitlines()
    return [{**json.loads(line), "group": "", "place": 0, "together": 0} for line in lines]


def test_a_loss_that_is_no_number_ends_the_run_at_its_last_good_checkpoint(
    tmp_path, monkeypatch, capsys
):
    assert main(tmp_path, monkeypatch, collapsing(50.0, runs_at_once=1)) == 0
    sentence = (
        "x, 20 per class at 50, seed 0: collapse is not finite from step 51 on; the run counts as "
        "diverged."
    )
    assert capsys.readouterr().err.replace("\r", "\n").splitlines().count(sentence) == 1
    assert names(checkpoints(tmp_path)) == ["40", "48"]  # at 48 it was scored
    assert recorded(tmp_path, 50.0)[-1]["step"] == 60
    (run,) = finished(tmp_path)
    assert run["diverged"] == "step 51: collapse"
    assert run["train_loss"] is run["test_nll"] is None


@pytest.mark.slow
def test_runs_that_are_trained_with_one_that_diverges_do_not_notice(tmp_path, monkeypatch):
    both, alone = tmp_path / "both", tmp_path / "alone"
    assert main(both, monkeypatch, collapsing(30.0, 1000.0)) == 0
    assert main(alone, monkeypatch, collapsing(1000.0)) == 0
    assert [run["diverged"] for run in finished(both)] == ["step 31: collapse", None]
    assert finished(both)[1:] == finished(alone)
    assert recorded(both, 1000.0) == recorded(alone, 1000.0)
    assert "80" in names(checkpoints(both))


def test_a_trace_of_a_few_steps(tmp_path, capsys):
    classify.compare(config(), tmp_path, profile=True)
    (folder,) = tmp_path.glob("training/*/profile")
    assert f"A trace of some steps is in {folder}" in capsys.readouterr().err
    assert any(path.stat().st_size > 1000 for path in folder.rglob("*.xplane.pb"))
    assert len(list(folder.rglob("*.xplane.pb"))) == 1
