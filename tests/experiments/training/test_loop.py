"""The host's loop with examples and steps that are made up: what happens when, and after a stop.

Covers `group.py` too.
"""

import contextlib
import dataclasses
import io
import json
import math
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from tqdm import tqdm

from experiments import ConfigError
from experiments.training.group import Group, Progress, Settings
from experiments.training.interruption import Interruption, StoppedError
from experiments.training.loop import Training
from experiments.training.steps import NEVER


class Counting:
    """A feed whose state depends on every step and on their order.

    `breaks` says at which step which of the runs breaks; `at` is called after each call.
    """

    def __init__(self, runs: int = 1, breaks: dict[int, int] | None = None, at: Any = None):
        self.calls: list[tuple[int, int]] = []
        self.evaluated: list[float] = []
        self._runs, self._breaks, self._at = runs, breaks or {}, at
        self.taken = 0

    def start(self) -> Any:
        return {"sum": jnp.zeros(self._runs)}

    def advance(self, states: Any, step: int, count: int) -> tuple[Any, Any, Any]:
        assert step == self.taken
        self.calls.append((step, count))
        value = np.asarray(states["sum"]) * 1
        broken = np.full(self._runs, NEVER)
        for i in range(step, step + count):
            value = value * np.float32(0.9) + np.float32(i)
            for run, at in self._breaks.items():
                if i >= at:
                    value[run], broken[run] = np.nan, min(i, broken[run])
        self.taken = step + count
        if self._at:
            self._at(self)
        return {"sum": jnp.asarray(value)}, {"total": value}, {"total": broken}

    def state(self) -> dict[str, Any]:
        return {"taken": self.taken}

    def restore(self, state: dict[str, Any]) -> None:
        self.taken = state["taken"]

    def close(self) -> None:
        pass

    def measure(self, states: Any, evaluation: Any) -> dict[str, np.ndarray]:
        value = np.asarray(states["sum"])
        self.evaluated.append(float(value[0]))
        nearness = -np.abs(self.taken - 20.0)  # best at step 20
        return {"accuracy": np.full((self._runs, 1), nearness), "nll": value[:, None]}

    def measure_held_out(self, states: Any, evaluation: Any) -> dict[str, np.ndarray]:
        nearness = -np.abs(self.taken - 30.0)
        return {"accuracy": np.full((self._runs, 1), nearness)}


class First:
    """Scores that are the first row of what is measured, and one that is a list."""

    def scores(self, rows: dict[str, np.ndarray]) -> dict[str, Any]:
        return {name: float(x[0]) for name, x in rows.items()} | {"class_accuracy": [1.0] * 3}


LABELS = [{"method": "m", "train_size": 5, "strength": None, "seed": seed} for seed in range(3)]
SETTINGS: dict[str, Any] = {
    "profile": False,
    "evaluate_epochs": 1.25,
    "checkpoint_steps": 15,
    "keep_checkpoints": 1,
    "selection": "validation",
    "score_epochs": 1,
}


def group(feed: Any, steps: int = 50, steps_per_epoch: float = 8, **changes: Any) -> Group:
    return Group(
        name="m, 5 per class",
        labels=LABELS[: feed._runs],
        feed=feed,
        evaluation=First(),
        score="accuracy",
        steps=steps,
        steps_per_epoch=steps_per_epoch,
        examples=25,
        rate=lambda step: 0.1 * step,
        belongs_to={"learning_rate": 0.1, **changes},
    )


def training(
    feed: Any, folder: Path, interruption: Any = None, bar: Any = None, **changes: Any
) -> Training:
    names = {name: changes.pop(name) for name in tuple(changes) if name in SETTINGS}
    return Training(
        group(feed, **changes),
        folder,
        Settings(**{**SETTINGS, **names}),
        interruption or Interruption(),
        bar or tqdm(file=io.StringIO(), total=changes.get("steps", 50) * feed._runs),
    )


def record(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [
        {name: value for name, value in line.items() if name != "images_per_second"}
        for line in lines
    ]


def steps(folder: Path, kind: str) -> list[int]:
    return [line["step"] for line in record(folder) if line["kind"] == kind]


def saved(folder: Path) -> list[int]:
    return sorted(int(path.name) for path in (folder / "checkpoints").iterdir())


def test_a_call_ends_where_something_else_is_due_and_after_20_steps(tmp_path):
    feed = Counting()
    training(feed, tmp_path, evaluate_epochs=1.5).run()
    ends = sorted({20, 40} | {15, 30, 45} | {12, 24, 36, 48} | {50})
    assert [start + count for start, count in feed.calls] == ends
    assert [start for start, _ in feed.calls] == [0, *ends[:-1]]
    assert steps(tmp_path, "train") == ends


@pytest.mark.parametrize(
    ("epochs", "steps_per_epoch", "total", "expected"),
    [
        (0, 8, 50, [50]),
        (1, 8, 50, [8, 16, 24, 32, 40, 48, 50]),
        (1, 8, 48, [8, 16, 24, 32, 40, 48]),
        (0.75, 10, 30, [8, 15, 22, 30]),  # 7.5 and 22.5 to even
        (1, 2.6, 13, [3, 5, 8, 10, 13]),  # a stream's epochs are not whole
        (0.01, 8, 5, [1, 2, 3, 4, 5]),
        (100, 8, 50, [50]),
    ],
)
def test_evaluations_come_after_so_many_epochs_and_at_the_end(
    epochs, steps_per_epoch, total, expected, tmp_path
):
    feed = Counting()
    changes = {"steps": total, "steps_per_epoch": steps_per_epoch, "checkpoint_steps": 0}
    training(feed, tmp_path, evaluate_epochs=epochs, **changes).run()
    assert steps(tmp_path, "evaluation") == expected
    assert len(feed.evaluated) == len(expected)
    # What was scored is saved, wherever that falls, and the best of it is kept.
    assert saved(tmp_path)[-1] == total
    assert set(saved(tmp_path)) <= set(expected)


@pytest.mark.parametrize(
    ("total", "measured", "expected"),
    [
        (400, 100, [40, 80, 120, 160, 200, 240, 280, 320, 360, 400]),  # at most ten
        (395, 100, [40, 80, 120, 160, 200, 240, 280, 320, 360, 395]),
        (50, 1, [20, 40, 50]),  # only where a call ends anyway
        (20, 1, [20]),
        (120, 900, [40, 80, 120]),  # twice 900 is a fifth of 3 * 120 * 25
        (120, 901, [60, 120]),
        (120, 1801, [120]),
        (400, 0, [400]),
    ],
)
def test_where_nobody_says_when_the_curve_is_what_costs_little(total, measured, expected, tmp_path):
    feed = Counting(2)
    changes = {"evaluate_epochs": 0, "checkpoint_steps": 0, "steps": total}
    made = training(feed, tmp_path, **changes)
    without = Counting(2)
    plain = training(without, tmp_path / "plain", **changes)
    looked = dataclasses.replace(made._group, measured=measured, examples=50)
    made = Training(looked, tmp_path, made._settings, Interruption(), made._bar)
    assert made.run() == plain.run()
    assert feed.calls == without.calls
    assert steps(tmp_path, "evaluation")[::2] == expected
    assert saved(tmp_path) == saved(tmp_path / "plain") == [total]


def test_what_is_recorded(tmp_path):
    scores, progress = training(Counting(2), tmp_path, steps=40, checkpoint_steps=0).run()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["seed"] for line in lines] == [0, 1] * (len(lines) // 2)
    trained = [line for line in lines if line["kind"] == "train" and line["seed"] == 0]
    assert [line["step"] for line in trained] == [10, 20, 30, 40]
    assert [line["epoch"] for line in trained] == [1.25, 2.5, 3.75, 5.0]
    # Of the last of the steps that were taken.
    assert [line["learning_rate"] for line in trained] == pytest.approx([0.9, 1.9, 2.9, 3.9])
    assert trained[0]["images_per_second"] is None  # it compiles
    assert all(line["images_per_second"] > 0 for line in trained[1:])
    assert progress.total == [trained[-1]["total"]] * 2
    evaluated = [line for line in lines if line["kind"] == "evaluation"]
    assert "test_class_accuracy" not in evaluated[0]
    assert evaluated[-1]["test_nll"] == scores[1]["test_nll"]
    assert scores[0]["test_class_accuracy"] == [1.0] * 3


@pytest.mark.parametrize(
    ("keep", "selection", "kept"),
    [
        (1, "validation", [30, 60]),
        (2, "validation", [30, 50, 60]),
        (1, "test", [20, 60]),
    ],
)
def test_the_last_and_the_best_checkpoints_are_kept(keep, selection, kept, tmp_path):
    changes = {"keep_checkpoints": keep, "selection": selection, "checkpoint_steps": 10}
    training(Counting(), tmp_path, steps=60, **changes).run()
    assert saved(tmp_path) == kept


def test_a_score_that_is_not_finite_is_not_the_best(tmp_path):
    class Unsure(Counting):
        def measure_held_out(self, states: Any, evaluation: Any) -> dict[str, np.ndarray]:
            return {"accuracy": np.array([[np.nan if self.taken > 40 else 0.5]])}

    training(Unsure(), tmp_path, checkpoint_steps=10).run()
    assert saved(tmp_path) == [10, 50]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    scores, progress = training(Counting(2), folder).run()
    return record(folder), scores, progress


def assert_ends_as(folder: Path, feed: Counting, undisturbed: Any) -> None:
    lines, scores, progress = undisturbed
    bar = tqdm(file=io.StringIO(), total=100)
    mine, came_to = training(feed, folder, bar=bar).run()
    assert record(folder) == lines
    assert came_to == progress
    assert mine == scores
    assert bar.n == bar.total == 100


@pytest.mark.parametrize("call", [0, 1, 3, 6])
@pytest.mark.parametrize("moment", ["steps", "save"])
def test_after_a_kill_all_ends_the_same(call, moment, undisturbed, tmp_path, monkeypatch):
    def kill(feed: Counting) -> None:
        if len(feed.calls) > call:
            raise MemoryError

    first = Counting(2, at=kill if moment == "steps" else None)
    killed = training(first, tmp_path)
    save = killed._save

    def kill_before(*arguments: Any) -> None:
        kill(first)
        save(*arguments)

    if moment == "save":  # the record is ahead of the checkpoints
        monkeypatch.setattr(killed, "_save", kill_before)
    with pytest.raises(MemoryError):
        killed.run()
    after = saved(tmp_path)
    second = Counting(2)
    assert_ends_as(tmp_path, second, undisturbed)
    assert second.calls[0][0] == max(after, default=0)


@pytest.mark.parametrize("call", [0, 2, 5])
def test_a_signal_saves_after_the_call_and_the_rest_follows(call, undisturbed, tmp_path):
    interruption = Interruption()

    def receive(feed: Counting) -> None:
        if len(feed.calls) == call + 1:
            interruption._note(signal.SIGTERM, None)

    first = Counting(2, at=receive)
    with pytest.raises(StoppedError) as stopped:
        training(first, tmp_path, interruption).run()
    assert len(first.calls) == call + 1
    assert (stopped.value.number, stopped.value.step) == (signal.SIGTERM, first.taken)
    assert saved(tmp_path)[-1] == first.taken
    second = Counting(2)
    assert_ends_as(tmp_path, second, undisturbed)
    assert second.calls[0][0] == first.taken


def test_a_signal_in_the_last_call_lets_it_end(undisturbed, tmp_path):
    interruption = Interruption()

    def receive(feed: Counting) -> None:
        if feed.taken == 50:
            interruption._note(signal.SIGINT, None)

    scores, _ = training(Counting(2, at=receive), tmp_path, interruption).run()
    assert scores == undisturbed[1]
    assert interruption.received == signal.SIGINT


def test_what_has_been_trained_is_only_evaluated_again(undisturbed, tmp_path):
    training(Counting(2), tmp_path).run()
    again = Counting(2)
    assert_ends_as(tmp_path, again, undisturbed)
    assert again.calls == []
    assert len(again.evaluated) == 1


def test_checkpoints_of_another_config_are_refused(tmp_path):
    training(Counting(), tmp_path, steps=20).run()
    with pytest.raises(ConfigError, match=r"learning_rate: 0\.1, now 0\.2"):
        training(Counting(), tmp_path, steps=20, learning_rate=0.2).run()


def test_a_run_that_breaks_stops_and_leaves_the_last_good_checkpoint(tmp_path, capsys):
    bar = tqdm(file=io.StringIO(), total=50)
    feed = Counting(breaks={0: 32})
    scores, progress = training(feed, tmp_path, bar=bar).run()
    assert feed.taken == 40  # the end of that call
    assert progress == Progress([None], ["step 33: total"])
    assert np.isnan(scores[0]["test_nll"])  # not those of step 30, which were good
    assert saved(tmp_path) == [30]
    assert steps(tmp_path, "evaluation") == [10, 20, 30]
    assert record(tmp_path)[-1]["total"] is None
    assert bar.n == 50
    said = capsys.readouterr().err
    assert said == (
        "m, 5 per class, seed 0: total is not finite from step 33 on; the run counts as diverged.\n"
    )
    again = Counting(breaks={0: 32})
    assert training(again, tmp_path).run()[1] == progress
    assert again.calls == [(30, 10)]


def test_the_others_of_a_group_go_on_when_one_breaks(undisturbed, tmp_path, capsys):
    scores, progress = training(Counting(3, breaks={2: 17}), tmp_path).run()
    assert progress.broken == [None, None, "step 18: total"]
    assert progress.total[2] is None
    assert scores[:2] == undisturbed[1]
    assert [line for line in record(tmp_path) if line["seed"] < 2] == undisturbed[0]
    broken = [line for line in record(tmp_path) if line["seed"] == 2 and line["kind"] == "train"]
    assert [line["total"] is None for line in broken] == [line["step"] > 17 for line in broken]
    assert capsys.readouterr().err.count("seed 2: total is not finite from step 18 on") == 1


def test_that_a_run_has_broken_is_remembered_over_a_kill_and_said_once(tmp_path, capsys):
    def kill(feed: Counting) -> None:
        if feed.taken > 45:
            raise MemoryError

    with pytest.raises(MemoryError):
        training(Counting(2, breaks={1: 17}, at=kill), tmp_path).run()
    _, progress = training(Counting(2, breaks={1: 17}), tmp_path).run()
    assert progress.broken == [None, "step 18: total"]
    assert capsys.readouterr().err.count("not finite") == 1


def test_one_call_that_does_not_compile_is_traced(tmp_path, monkeypatch, capsys):
    feed = Counting()
    traced: list[tuple[str, int]] = []

    @contextlib.contextmanager
    def trace(folder: str) -> Iterator[None]:
        traced.append((folder, feed.taken))
        yield

    monkeypatch.setattr("jax.profiler.trace", trace)
    training(feed, tmp_path, evaluate_epochs=0.5, profile=True).run()
    assert traced == [(str(tmp_path / "profile"), 4)]
    assert capsys.readouterr().err.count("A trace of some steps") == 1


@pytest.mark.parametrize(
    ("broken", "expected"),
    [
        ({"isda": NEVER, "total": NEVER}, None),
        ({"gradient_norm": 7, "isda": 7, "jacobian": NEVER, "total": 7}, "step 8: isda"),
        ({"gradient_norm": 7, "isda": 9, "jacobian": 8, "total": 7}, "step 8: total"),
        ({"gradient_norm": 7, "isda": 8, "total": 8}, "step 8: gradient_norm"),
        ({"gradient_norm": 9, "isda": 9, "jacobian": 3, "total": 3}, "step 4: jacobian"),
        ({"a": 0, "gradient_norm": 0, "total": 0, "z": 0}, "step 1: a"),
    ],
)
def test_the_first_term_that_broke_is_named(broken, expected):
    progress = Progress([None], [None])
    steps = {name: np.array([step]) for name, step in broken.items()}
    assert progress.note([1.0], steps) == ([0] if expected else [])
    assert progress.broken == [expected]
    assert progress.note([np.inf], {"total": np.array([20])}) == ([] if expected else [0])
    assert progress.broken == [expected or "step 21: total"]
    assert progress.total == [None]


AVERAGED = {"score_epochs": 3, "evaluate_epochs": 0, "steps": 48}


@pytest.mark.parametrize("every", [0, 1, 2.5])
def test_scores_are_means_over_the_ends_of_the_last_epochs(every, tmp_path):
    feed = Counting(2)
    scores, _ = training(feed, tmp_path, **AVERAGED | {"evaluate_epochs": every}).run()
    lines = [line for line in record(tmp_path) if line["kind"] == "evaluation"]
    last = [line for line in lines if line["step"] in (32, 40, 48)]
    assert len(last) == 2 * 3
    assert scores[0]["test_accuracy"] == pytest.approx(-(12 + 20 + 28) / 3)
    for name in ("test_nll", "test_accuracy", "validation_accuracy"):
        mine = [line[name] for line in last if line["seed"] == 1]
        assert scores[1][name] == pytest.approx(np.mean(mine), rel=1e-12)
    assert scores[0]["test_class_accuracy"] == [1.0] * 3


def test_the_ends_of_a_streams_epochs_are_those_of_evaluations(tmp_path):
    feed = Counting()
    changes = {"steps": 13, "steps_per_epoch": 2.6, "checkpoint_steps": 0}
    training(feed, tmp_path, **AVERAGED | changes).run()
    assert steps(tmp_path, "evaluation") == [8, 10, 13]


@pytest.mark.parametrize("epochs", [0, 1])
def test_the_last_epochs_score_is_what_it_always_was(epochs, undisturbed, tmp_path):
    scores, progress = training(Counting(2), tmp_path, score_epochs=epochs).run()
    assert (record(tmp_path), scores, progress) == undisturbed


@pytest.fixture(scope="module")
def averaged(tmp_path_factory):
    folder = tmp_path_factory.mktemp("averaged")
    scores, progress = training(Counting(2), folder, **AVERAGED).run()
    return record(folder), scores, progress


@pytest.mark.parametrize("call", [0, 2, 4, 5, 6])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_means_survive_a_kill_and_a_signal(call, number, averaged, tmp_path):
    interruption = Interruption()

    def disturb(feed: Counting) -> None:
        if len(feed.calls) > call and number == signal.SIGKILL:
            raise MemoryError
        if len(feed.calls) == call + 1:
            interruption._note(number, None)

    first = training(Counting(2, at=disturb), tmp_path, interruption, **AVERAGED)
    with contextlib.suppress(MemoryError, StoppedError):
        first.run()
    scores, progress = training(Counting(2), tmp_path, **AVERAGED).run()
    assert (record(tmp_path), scores, progress) == averaged
    again, _ = training(Counting(2), tmp_path, **AVERAGED).run()  # of the checkpoint of the end
    assert again == scores


def test_a_group_that_broke_has_its_last_scores(tmp_path):
    scores, progress = training(Counting(breaks={0: 41}), tmp_path, **AVERAGED).run()
    assert progress.broken == ["step 42: total"]
    assert np.isnan(scores[0]["test_nll"])


def test_means_leave_counts_whole_and_what_is_missing_missing():
    progress = Progress([None], [None])
    for value in (0.25, 0.75, math.nan):
        progress.score([{"a": value, "count": [2, 4], "none": None, "nested": [[1, value]]}])
        if value == 0.75:
            expected = {"a": 0.5, "count": [2, 4], "none": None, "nested": [[1, 0.5]]}
            assert progress.means() == [expected]
            assert all(type(n) is int for n in progress.means()[0]["count"])
    assert math.isnan(progress.means()[0]["a"])
