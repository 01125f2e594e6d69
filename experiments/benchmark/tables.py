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

import functools
import itertools
import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from tqdm import tqdm

import regjax as rj
from experiments.benchmark import communication, isda, streams, training
from experiments.benchmark.flops import flops
from experiments.benchmark.timing import paired, random_data, random_task
from experiments.report import files
from experiments.runs import commands
from experiments.training import devices, steps, sweep
from experiments.training.descent import Descent
from experiments.training.task import Rows, gather

OUTPUT = flags.DEFINE_string("output", "runs/benchmark.json", "Where the JSON goes.")
QUICK = flags.DEFINE_bool("quick", False, "Small shapes, few transforms.")

PLAIN = "cross_entropy"
LAYERS = ("input", "conv1", "conv2")
STAGES = {
    "label_smoothing": "label_smoothing(amount=0.1)",
    "disturb_label": "disturb_label(rate=0.1)",
    "noise_injection": "noise_injection(sigma=0.1)",
    "feature_noise": f"feature_noise(add=0.4, multiply=0.2, layers={LAYERS})",
    "cutout": "cutout(size=4)",
    "mixup": "mixup(alpha=1.0)",
    "cutmix": "cutmix(alpha=1.0)",
    "manifold_mixup": f"manifold_mixup(alpha=1.0, layers={LAYERS})",
    "noisy_mixup": "noisy_mixup(alpha=1.0, add=0.4, multiply=0.2)",
    "noisy_feature_mixup": (
        f"noisy_feature_mixup(alpha=1.0, add=0.4, multiply=0.2, layers={LAYERS})"
    ),
    "puzzlemix": "puzzlemix(alpha=1.0)",
    "l1": "l1(weight=1e-4)",
    "l2": "l2(weight=1e-4)",
    "double_backprop": "double_backprop(weight=0.1)",
    "jacobian, 1 probe": "jacobian(weight=0.1, probes=1)",
    "frobenius, 1 probe": "frobenius(weight=0.1, probes=1)",
    "hessian_frobenius, 1 probe": "hessian_frobenius(weight=0.1, probes=1)",
    "hsfob-db1, 1 probe": "hessian_frobenius(weight=.1, probes=1) | double_backprop(weight=.1)",
    "hsfob-db2, 2 probes": (
        "hessian_frobenius(weight=.1, power=2, probes=2) | double_backprop(weight=.1)"
    ),
    "jacobian, exact": "jacobian(weight=0.1)",
    "frobenius, exact": "frobenius(weight=0.1)",
    "hessian_frobenius, exact": "hessian_frobenius(weight=0.1)",
    "hessian_frobenius squared, exact": "hessian_frobenius(weight=0.1, power=2)",
}
TRANSFORMS = {
    **{name: f"{PLAIN} | {stages}" for name, stages in STAGES.items()},
    "isda": "isda(strength=0.5)",
    "isda, diagonal": "isda(strength=0.5, covariance='diagonal')",
    "isda, rank 16": "isda(strength=0.5, covariance='low_rank', rank=16)",
}
QUICK_TRANSFORMS = ("double_backprop", "isda")
# Mixing in the layers of a pre-activation ResNet, as Noisy Feature Mixup's paper trains it.
EVERY_STAGE = ("input", "stages.0", "stages.1", "stages.2")
IN_STAGES = {
    "manifold_mixup": f"{PLAIN} | manifold_mixup(alpha=1.0, layers={EVERY_STAGE})",
    "noisy_feature_mixup": (
        f"{PLAIN} | noisy_feature_mixup(alpha=1.0, add=0.4, multiply=0.2, layers={EVERY_STAGE})"
    ),
}
TRAINING_TABLES = {
    **training.TABLES,
    **communication.TABLES,
    **streams.TABLES,
}
SWEPT = "cross_entropy | double_backprop(weight=0.1)"


class Setting(NamedTuple):
    """Shapes and repetitions: images `[batch, *shape]`, `runs` models in a sweep, the network."""

    shape: tuple[int, int, int]
    batch: int
    steps: int
    rounds: int
    runs: int = 1
    model: str = "small_cnn"


def random_problem(setting: Setting) -> tuple[Descent, dict[str, jax.Array]]:
    """The setting's network and random images of its shape, ten classes."""
    data = random_data(4 * setting.batch, setting.shape)
    return random_task(setting.model, setting.shape), data


class Step:
    """A loss's training step on a random problem: counted, compiled in the training loop, timed."""

    def __init__(self, expression: str, setting: Setting) -> None:
        """Counts and compiles."""
        task, data = random_problem(setting)
        loss = jax.tree.map(jnp.float32, rj.parse(expression))
        seed, count = jnp.uint32(0), jnp.int32(setting.steps)
        self._state = jax.jit(task.init)(seed, loss)
        shape = (setting.steps, setting.batch)
        index = np.random.default_rng(1).integers(0, len(data["label"]), shape).astype(np.int32)
        rows = Rows(jnp.asarray(index), jnp.ones(shape))
        self._arguments = (loss, seed, rows)
        batch = task.batch(gather(data, jax.tree.map(lambda x: x[0], rows)))
        passes = isda.most_pieces(setting.batch, task.classes)
        self.flops = flops(task.step, self._state, loss, batch, seed, passes=passes)
        advance = functools.partial(steps.advance, task)
        began = time.perf_counter()
        lowered = jax.jit(advance).lower(data, count, self._state, *self._arguments)
        self._compiled = lowered.compile()
        self.compilation = time.perf_counter() - began
        self._data, self._count, self._steps = data, count, setting.steps
        memory: Any = self._compiled.memory_analysis()
        self.bytes = memory.temp_size_in_bytes

    def seconds(self) -> float:
        """Time of one step, in a loop of many."""
        start = time.perf_counter()
        arguments = (self._data, self._count, self._state, *self._arguments)
        jax.block_until_ready(self._compiled(*arguments))
        return (time.perf_counter() - start) / self._steps


def transform_costs(setting: Setting, losses: Mapping[str, str]) -> list[dict[str, Any]]:
    """A row for the plain step and each of the losses."""
    plain = Step(PLAIN, setting)
    rows = []
    for name, loss in tqdm(losses.items(), desc=f"transforms, {setting.model}"):
        step = Step(loss, setting)
        seconds, ratio = paired(plain.seconds, step.seconds, setting.rounds)
        rows.append(
            {
                "transform": name,
                "loss": loss,
                "flops": step.flops / plain.flops,
                "memory": step.bytes / plain.bytes,
                "megabytes": step.bytes / 1e6,
                "time": ratio,
                "compilation": step.compilation,
                "plain_ms": 1e3 * seconds,
            }
        )
    first = {"flops": 1.0, "memory": 1.0, "megabytes": plain.bytes / 1e6, "time": 1.0}
    seconds = statistics.median(row["plain_ms"] for row in rows)
    first |= {"compilation": plain.compilation, "plain_ms": seconds}
    return [{"transform": "plain", "loss": PLAIN, **first}, *rows]


def resnet(quick: bool) -> Setting:
    """PreActResNet-18 on CIFAR's shape, on CPUs a quarter as wide."""
    if quick:
        return Setting((8, 8, 3), 8, 2, 3, model="preact_resnet18(width=4)")
    width = 16 if jax.default_backend() == "cpu" else 64
    return Setting((32, 32, 3), 128, 5, 5, model=f"preact_resnet18(width={width})")


def sweep_gains(setting: Setting, loss: str) -> list[dict[str, Any]]:
    """A row for each strategy: models x steps / s, and that over one model at a time."""
    task, data = random_problem(setting)
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
    mixing = dict(list(IN_STAGES.items())[: 1 if quick else None])
    yield {"resnet": _costs(resnet(quick), mixing)}
    yield _sweeps(quick)


def of_training(quick: bool) -> Iterator[dict[str, Any]]:
    """All measurements of what training costs besides, in the same form."""
    yield training.costs(training.QUICK_CASES if quick else training.CASES)
    counts = communication.QUICK_DEVICES if quick else communication.DEVICES
    yield {"communication": communication.costs(counts, quick)}
    yield {"streams": streams.costs(streams.QUICK if quick else streams.FULL)}


def _transforms(quick: bool) -> dict[str, Any]:
    setting = Setting((8, 8, 1), 8, 2, 3) if quick else Setting((32, 32, 3), 128, 5, 5)
    names = QUICK_TRANSFORMS if quick else tuple(TRANSFORMS)
    return {"transforms": _costs(setting, {name: TRANSFORMS[name] for name in names})}


def _costs(setting: Setting, losses: Mapping[str, str]) -> dict[str, Any]:
    return {"setting": setting._asdict(), "rows": transform_costs(setting, losses)}


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
    if name in TRAINING_TABLES:
        return TRAINING_TABLES[name]
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
        "the plain step (memory: temporaries; compilation: of the whole loop, in s)"
    ), formats | {"time": ".2f", "compilation": ".1f", "plain_ms": ".1f"}


def main() -> None:
    """Prints each table and adds it to the JSON as soon as it has been measured."""
    path = Path(OUTPUT.value)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        measured: dict[str, Any] = {}
        environment = {"environment": devices.environment()}
        quick = QUICK.value
        for part in itertools.chain([environment], of_losses(quick), of_training(quick)):
            measured |= part
            files.replace(path, (json.dumps(measured, indent=2) + "\n").encode())
            for name, result in part.items():
                print(f"\n{text(name, result)}", flush=True)
    except OSError as error:
        commands.stop(f"--output={path} cannot be written ({error}): choose another file.")
    print(f"\nWritten to {path}")


def _describe(setting: dict[str, Any]) -> str:
    return f"batches of {setting['batch']} images {'x'.join(map(str, setting['shape']))}"
