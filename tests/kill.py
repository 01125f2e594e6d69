"""Kills training at random moments, and looks for any trace of it in how it ends.

    python tests/kill.py --runs=40

Each run is `python -m experiments.classify` on digits: a network with BatchNorm, whose loss is
Noisy Feature Mixup under ISDA, with a checkpoint every 20 steps. It is killed (SIGKILL) once or
more often, started again with the same command until it ends, and compared with one that nothing
disturbed: the whole last state and every number of the record must be the same, bit by bit. Some
are of several seeds that are trained together, some of two processes; of some the loss has a second
stream, an ensemble's targets and a teacher, which is what is scored. Prints a line for each run,
and exits with 1 on any difference. To take seconds, all share JAX's cache of compiled programs.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from experiments.training import checkpoint_file  # noqa: E402

LOSS = "isda(strength=0.5) | noisy_feature_mixup(alpha=1.0, add=0.4, multiply=0.2, layers={layers})"
TAUGHT = (
    "isda(strength=0.5) | semantic_consistency(weight=0.3) | noise_injection(sigma=0.1)"
    " | temporal_ensembling(weight=3.0, images=1797) | mean_teacher(weight=3.0, decay=0.9)"
)
SECOND_STREAM = ("--config.unlabeled_batch_size=25", "--config.evaluate_teacher=True")
EPOCHS, EVALUATE = 100, 13  # epochs: in all, and between evaluations
EVERY, STEPS_PER_EPOCH = 20, 8
ARGUMENTS = (
    "--config=configs/digits.py:smoke",
    "--config.strengths={}",
    "--config.train_sizes=(20,)",
    f"--config.checkpoint_steps={EVERY}",
    f"--config.evaluate_epochs={EVALUATE}",
)


class Form(NamedTuple):
    """A network, a loss, seeds, how many of them are trained together, processes, other flags."""

    model: str
    loss: str
    seeds: int = 1
    at_once: int = 1
    processes: int = 1
    flags: tuple[str, ...] = ()


RESNET = ("thesis_resnet", LOSS.format(layers=("input", "blocks.0", "blocks.1")))
STATEFUL = ("isda", "temporal_ensembling", "mean_teacher")
FORMS = {
    "one": Form(*RESNET),
    "together": Form(*RESNET, seeds=2, at_once=4),
    "two": Form(*RESNET, processes=2),
    "taught": Form("thesis_resnet", TAUGHT, 2, 2, 1, SECOND_STREAM),
    "small": Form("small_cnn", LOSS.format(layers=("input", "conv1"))),  # for the tests, as below
    "small, taught": Form("small_cnn", TAUGHT, 2, 2, 1, SECOND_STREAM),
}


class Comparison:
    """One command in one folder, which it may take several processes to end.

    Attributes:
      folder: the results.
      kills: where each kill landed.
      said: by all processes on stderr.
    """

    def __init__(self, folder: Path, form: str, epochs: int) -> None:
        """Nothing is started yet."""
        model, loss, seeds, at_once, self._processes, flags = FORMS[form]
        self.folder, self.kills, self.said = folder, list[str](), ""
        self._left: set[Path] = set()  # what the kill before left of a save
        self._steps = epochs * STEPS_PER_EPOCH
        self._command = [
            *(sys.executable, "-m", "experiments.classify", *ARGUMENTS, f"--workdir={folder}"),
            f"--config.model={model}",
            f"--config.losses={ {'it': loss} }",
            *(f"--config.seeds={seeds}", f"--config.runs_at_once={at_once}"),
            f"--config.epochs={epochs}",
            *flags,
        ]

    def start(self, until: Callable[[], bool] = lambda: False, number: int = signal.SIGKILL) -> int:
        """Runs the command, which gets a signal once `until` holds; returns the exit code.

        Several processes get it one after the other, and have one exit code.
        """
        environment = {
            "TFDS_DATA_DIR": str(self.folder.parent / "data"),
            "JAX_COMPILATION_CACHE_DIR": str(self.folder.parent / "programs"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
        with tempfile.TemporaryFile("w+") as said:
            processes = [
                subprocess.Popen(
                    [*self._command, *each],
                    cwd=ROOT,
                    env=os.environ | environment,
                    stdout=subprocess.DEVNULL,
                    stderr=said,
                )
                for each in _distributed(self._processes)
            ]
            while any(process.poll() is None for process in processes):
                if until():
                    for process in processes:
                        process.send_signal(number)
                    for process in processes:
                        process.wait()
                time.sleep(0.001)
            said.seek(0)
            self.said += said.read()
        codes = {process.returncode for process in processes}
        if len(codes) > 1:
            raise RuntimeError(f"exit codes {codes}: {self.said}")
        return codes.pop()

    def kill(self, rng: random.Random, life: float) -> bool:
        """Starts the command and kills it at a random moment; returns whether that was in time."""
        self._left = self.saves()
        code = self.start(self._moment(rng, life))
        if code == -9:
            self.kills.append(self._where())
        elif code:
            raise RuntimeError(f"exit code {code}: {self.said}")
        return code == -9

    def _moment(self, rng: random.Random, life: float) -> Callable[[], bool]:
        """Something to wait for: a time after the imports, a step, a save, the report."""
        before = self.begun()
        kind = rng.choice(("time", "step", "step", "save", "save", "report"))
        within = {"time": life, "report": life / 8}.get(kind, 0.01)
        after = rng.random() * within
        step = rng.randrange(self.last(), self._steps + 1)
        reached: list[float] = []

        def due() -> bool:
            if not reached and (self.begun() == before or not self._reached(kind, step)):
                return False
            reached.append(time.monotonic())
            return reached[-1] - reached[0] >= after

        return due

    def begun(self) -> float:
        """When the command last opened the folder, by which time all is imported."""
        config = self.folder / "config.json"
        return config.stat().st_mtime_ns if config.exists() else 0

    def _reached(self, kind: str, step: int) -> bool:
        if kind == "report":
            return self.ended()
        if kind == "save" and not self.saves() - self._left:
            return False
        return kind == "time" or self.last() >= step

    def saves(self) -> set[Path]:
        """What is there of checkpoints that are not whole."""
        return set(self.folder.glob("training/*/checkpoints/*tmp*"))

    def last(self) -> int:
        """The last step that is in the record."""
        files = list(self.folder.glob("training/*/metrics.jsonl"))
        if not files:
            return 0
        lines = files[0].read_bytes().rpartition(b"\n")[0].splitlines()
        return int(json.loads(lines[-1])["step"]) if lines else 0

    def _where(self) -> str:
        if self.ended():
            return "after the training"
        if self.saves() - self._left:
            return "in a save"
        names = [path.name for path in self.folder.glob("training/*/checkpoints/*")]
        saved = any(name.isdecimal() for name in names)
        return "between saves" if saved else "before the first checkpoint"

    def ended(self) -> bool:
        """Whether all of its runs are recorded."""
        return (self.folder / "runs.jsonl").exists()


def _distributed(processes: int) -> list[list[str]]:
    """The flags of each process; none where there is one."""
    if processes == 1:
        return [[]]
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    return [[f"--config.distributed=localhost:{port},{i},{processes}"] for i in range(processes)]


def outcome(folder: Path) -> dict[str, Any]:
    """All that two equal comparisons must agree on, by name."""
    (group,) = (folder / "training").iterdir()
    last = max(int(p.name) for p in (group / "checkpoints").iterdir() if p.name.isdecimal())
    file = group / "checkpoints" / f"{last}" / "state" / "leaves_0.safetensors"
    pieces = {piece.name: piece.value.tobytes() for piece in checkpoint_file.read(file)}
    record = _lines(group / "metrics.jsonl")
    for line in record:
        line.pop("images_per_second", None)
    return {
        "last checkpoint": last,
        "state": pieces,
        "what goes with the state": checkpoint_file.read_about(file),
        "metrics.jsonl": record,
        "runs.jsonl": _lines(folder / "runs.jsonl"),
        "results.json": json.loads((folder / "results.json").read_text())["rows"],
    }


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def differences(mine: dict[str, Any], undisturbed: dict[str, Any]) -> list[str]:
    """What is not the same in two outcomes."""
    different = [name for name in undisturbed if mine[name] != undisturbed[name]]
    if "state" in different:
        a, b = mine["state"], undisturbed["state"]
        different += sorted(name for name in a.keys() | b.keys() if a.get(name) != b.get(name))
    return different


def undisturbed(folder: Path, form: str, epochs: int) -> tuple[dict[str, Any], float]:
    """The outcome of a run that nothing disturbs, and how long it lives after the imports."""
    comparison = Comparison(folder, form, epochs)
    if comparison.start():
        raise RuntimeError(comparison.said)
    life = time.time() - comparison.begun() / 1e9
    result = outcome(folder)
    _check_whole(result, FORMS[form], epochs * STEPS_PER_EPOCH)
    return result, life


def _check_whole(result: dict[str, Any], form: Form, steps: int) -> None:
    """The yardstick itself: all parts of a state, each step of the record once, a line a run."""
    parts = {name[1:].partition("[")[0].partition(".")[0] for name in result["state"]}
    expected = {"step", "params", "opt_state", "loss_state"}
    assert parts == expected | ({"model_state"} if form.model == "thesis_resnet" else set())
    for stage in STATEFUL:
        assert (stage in form.loss) == any(f"'{stage}'" in name for name in result["state"])
    lines = collections.Counter((line["kind"], line["step"]) for line in result["metrics.jsonl"])
    trained = {step for kind, step in lines if kind == "train"}
    evaluated = [step for kind, step in lines if kind == "evaluation"]
    between = EVALUATE * STEPS_PER_EPOCH
    assert evaluated == [*range(between, steps, between), steps]
    assert trained == {*range(EVERY, steps, EVERY), *evaluated}
    assert set(lines.values()) == {form.seeds}
    assert [run["seed"] for run in result["runs.jsonl"]] == list(range(form.seeds))


def kill(comparison: Comparison, rng: random.Random, life: float) -> None:
    """Kills the command once, and with a chance of a half each time once more."""
    while not comparison.kills or (rng.random() < 0.5 and not comparison.ended()):
        if not comparison.kill(rng, life) and not comparison.kills:
            shutil.rmtree(comparison.folder)  # it ended first: once more


def check(folder: Path, forms: Sequence[str], seed: int) -> tuple[collections.Counter[str], int]:
    """Kills one run for each of the forms; returns where, and how many ended differently."""
    landed, failed = collections.Counter[str](), 0
    for form in set(forms):
        undisturbed(folder / f"compiles {form}", form, 1)
    standard = {form: undisturbed(folder / form, form, EPOCHS) for form in set(forms)}
    for number, form in enumerate(forms):
        expected, life = standard[form]
        comparison = Comparison(folder / f"{number}", form, EPOCHS)
        kill(comparison, random.Random(f"{seed}, {number}"), life)
        if comparison.start():
            raise RuntimeError(comparison.said)
        different = differences(outcome(comparison.folder), expected)
        different += ["a traceback"] if "Traceback" in comparison.said else []
        landed.update(comparison.kills)
        failed += bool(different)
        verdict = f"DIFFERENT: {', '.join(different)}" if different else "the same"
        where = "; ".join(comparison.kills)
        print(f"{number + 1:3} {form:8} {verdict}; killed {where}", flush=True)
        if not different:
            shutil.rmtree(comparison.folder)
    return landed, failed


def mixed(runs: int, **others: int) -> list[str]:
    """The forms of so many runs, with so many others among them at most, which take turns."""
    turns = [(turn, form) for form, count in others.items() for turn in range(count)]
    forms = [form for _, form in sorted(turns, key=lambda each: each[0])][:runs]
    return ["one"] * (runs - len(forms)) + forms


def main() -> None:
    """Reads the flags and prints the summary."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=40, help="how many are killed")
    parser.add_argument("--together", type=int, default=5, help="of them of two seeds, at most")
    parser.add_argument("--two", type=int, default=5, help="of two processes, at most")
    parser.add_argument("--taught", type=int, default=5, help="with a teacher, at most")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    given = parser.parse_args()
    forms = mixed(given.runs, together=given.together, two=given.two, taught=given.taught)
    with tempfile.TemporaryDirectory() as folder:
        landed, failed = check(Path(folder), forms, given.seed)
    print(f"{given.runs} runs, {landed.total()} kills: {dict(landed)}; {failed} ended differently.")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
