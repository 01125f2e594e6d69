"""What the losses cost: FLOPs, memory and time of a training step, and what sweeps gain.

And what training costs besides: checkpoints, calls, what is sent and what is read.

    python -m experiments.benchmark --output=runs/benchmark.json

Every number is a multiple of the plain cross-entropy step, or of training one model at a time, on
the same machine. Times are taken in turn with the plain step's, pair by pair, inside the compiled
loop that real training uses; the median ratio is shown. ISDA's own cost, without a network, is
absolute (`isda.py`), and so is the training's (`training.py`,
`communication.py`, `streams.py`). Each table is printed, and written to the JSON, as soon as it is
there: what was stopped keeps those. `--quick` shrinks it: small shapes, few transforms.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags
from tqdm import tqdm

import regjax as rj
from experiments.benchmark import (
    against,
    augment,
    communication,
    isda,
    streams,
    training,
    transforms,
)
from experiments.benchmark.timing import paired, processor
from experiments.benchmark.transforms import PLAIN, Setting
from experiments.report import files
from experiments.runs import commands
from experiments.training import devices, sweep
from experiments.training.task import Rows

OUTPUT = flags.DEFINE_string("output", "runs/benchmark.json", "Where the JSON goes.")
QUICK = flags.DEFINE_bool("quick", False, "Small shapes, few transforms.")
AGAINST = flags.DEFINE_enum("against", None, ["torch"], "Steps beside another library's instead.")

TRAINING_TABLES = {
    **training.TABLES,
    **communication.TABLES,
    **streams.TABLES,
    **against.TABLES,
}
KNOWN_TABLES = {**augment.TABLES, **TRAINING_TABLES}
SWEPT = "cross_entropy | double_backprop(weight=0.1)"


def sweep_gains(setting: Setting, loss: str) -> list[dict[str, Any]]:
    """A row for each strategy: models x steps / s, and that over one model at a time."""
    task, data = transforms.random_problem(setting)
    alone = _advance(sweep.Sweep(task, data, "map"), loss, 1, setting)
    rows = []
    for strategy in tqdm(sweep.STRATEGIES, desc="sweeps"):
        program = sweep.Sweep(task, data, strategy)
        runs = setting.runs + -setting.runs % program.runs_multiple
        together = _advance(program, loss, runs, setting)
        seconds, ratio = paired(alone, together, setting.rounds)
        rows.append(
            {
                "strategy": strategy,
                "runs": runs,
                "throughput": runs / (seconds * ratio),
                "one_at_a_time": 1 / seconds,
                "gain": runs / ratio,
            }
        )
    return rows


def _advance(program: sweep.Sweep, loss: str, runs: int, setting: Setting) -> Callable[[], float]:
    losses = sweep.stack([rj.parse(loss)] * runs)
    seeds = np.arange(runs, dtype=np.uint32)
    states = [program.init(losses, seeds)]
    shape = (runs, setting.steps, setting.batch)
    index = np.random.default_rng(1).integers(0, 4 * setting.batch, shape).astype(np.int32)
    rows = Rows(index, np.ones(shape, np.float32))

    def seconds() -> float:
        start = time.perf_counter()
        states[0], *_ = program.advance(states[0], losses, seeds, rows, setting.steps)
        jax.block_until_ready(states[0])
        return (time.perf_counter() - start) / setting.steps

    return seconds


def table(rows: Sequence[dict[str, Any]], columns: dict[str, str]) -> str:
    """Markdown of the rows' entries named by `columns`, each with its format."""
    lines = [list(columns), ["---"] * len(columns)]
    lines += [[format(row[name], spec) for name, spec in columns.items()] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def of_losses(quick: bool) -> Iterator[dict[str, Any]]:
    """All measurements of losses as plain data, by the names of their tables."""
    cases, rounds = (isda.QUICK_CASES, 3) if quick else (isda.CASES, 15)
    yield {"isda": {"rows": isda.costs(cases, rounds)}}
    yield _transforms(quick)
    mixing = dict(list(transforms.IN_STAGES.items())[: 1 if quick else None])
    yield {"resnet": _costs(transforms.resnet(quick), mixing)}
    yield _unlabeled(quick)
    yield {"augment": augment.costs(augment.QUICK if quick else augment.FULL)}
    yield _sweeps(quick)


def of_training(quick: bool) -> Iterator[dict[str, Any]]:
    """All measurements of what training costs besides, in the same form."""
    yield training.costs(training.QUICK_CASES if quick else training.CASES)
    counts = communication.QUICK_DEVICES if quick else communication.DEVICES
    yield {"communication": communication.costs(counts, quick)}
    yield {"streams": streams.costs(streams.QUICK if quick else streams.FULL)}


def _measured(quick: bool) -> Iterator[dict[str, Any]]:
    if AGAINST.value:
        return against.costs(quick)
    return itertools.chain(of_losses(quick), of_training(quick))


def _transforms(quick: bool) -> dict[str, Any]:
    setting = Setting((8, 8, 1), 8, 2, 3) if quick else Setting((32, 32, 3), 128, 5, 5)
    known = transforms.TRANSFORMS
    names = transforms.QUICK_TRANSFORMS if quick else tuple(known)
    return {"transforms": _costs(setting, {name: known[name] for name in names})}


def _unlabeled(quick: bool) -> dict[str, Any]:
    known = transforms.UNLABELED
    names = transforms.QUICK_UNLABELED if quick else tuple(known)
    losses = {name: known[name] for name in names}
    basis = f"{PLAIN} | {transforms.VIEWS}"
    return {"semi_supervised": _costs(transforms.cnn13(quick), losses, basis)}


def _costs(setting: Setting, losses: Mapping[str, str], basis: str = PLAIN) -> dict[str, Any]:
    rows = transforms.transform_costs(setting, losses, basis)
    return {"setting": setting._asdict(), "rows": rows}


def _sweeps(quick: bool) -> dict[str, Any]:
    setting = Setting((8, 8, 1), 8, 2, 3, 2) if quick else Setting((8, 8, 1), 50, 20, 5, 16)
    default = sweep.default_strategy()
    loss = PLAIN if quick else SWEPT
    about = {"setting": setting._asdict(), "default": default, "loss": loss}
    return {"sweeps": {**about, "rows": sweep_gains(setting, loss)}}


def text(name: str, result: dict[str, Any]) -> str:
    """One of the measurements as the table that is printed."""
    if name == "environment":
        return "; ".join(f"{each}: {value}" for each, value in result.items())
    about, columns = _heading(name, result)
    return f"{about}:\n\n{table(result['rows'], columns)}"


def _heading(name: str, result: dict[str, Any]) -> tuple[str, dict[str, str]]:
    if name in KNOWN_TABLES:
        return KNOWN_TABLES[name]
    if name == "isda":
        formats = {"batch": "d", "classes": "d", "features": "d", "covariance": "s"}
        return (
            "ISDA's loss, its gradients and the update of its statistics (memory: all arrays at "
            "the\npeak; GFLOP: at most, if all classes occur)"
        ), formats | {"ms": ".1f", "megabytes": ".0f", "gflop": ".2f"}
    setting = result["setting"]
    if name == "sweeps":
        formats = {"strategy": "s", "runs": "d", "throughput": ".0f", "one_at_a_time": ".0f"}
        return (
            f"Sweeps of the small network, {_describe(setting)}, with\n"
            f"{result['loss']}, in models x steps / s; '{result['default']}' is this platform's "
            "default"
        ), formats | {"gain": ".2f"}
    formats = {"transform": "s", "flops": ".2f", "memory": ".2f", "megabytes": ".0f"}
    return (
        f"A training step of {setting['model']}, {_describe(setting)}, as multiples of\n"
        f"the plain step{' on as many with labels' if setting['unlabeled'] else ''} (memory: "
        "temporaries; compilation: of the whole loop, in s)"
    ), formats | {"time": ".2f", "compilation": ".1f", "plain_ms": ".1f"}


def main() -> None:
    """Prints each table and adds it to the JSON as soon as it has been measured."""
    path = Path(OUTPUT.value)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        measured: dict[str, Any] = {}
        environment = {"environment": {"processor": processor(), **devices.environment()}}
        quick = QUICK.value
        for part in itertools.chain([environment], _measured(quick)):
            measured |= part
            files.replace(path, (json.dumps(measured, indent=2) + "\n").encode())
            for name, result in part.items():
                print(f"\n{text(name, result)}", flush=True)
    except OSError as error:
        commands.stop(f"--output={path} cannot be written ({error}): choose another file.")
    print(f"\nWritten to {path}")


def _describe(setting: dict[str, Any]) -> str:
    more = f" and {setting['unlabeled']} without labels" if setting["unlabeled"] else ""
    return f"batches of {setting['batch']} images{more} {'x'.join(map(str, setting['shape']))}"
