"""A config's training step on a pod of TPUs, planned on a machine without one.

    python -m experiments.pod --config=configs/isda/table1.py --topology=v5e:4x4

compiles the very step of every method (the first of its strengths, or `--method` alone) for that
topology: whether it fits, what each chip computes, reads, writes and sends, how long that takes at
least, and what to change where it does not fit. It needs libtpu (`pip install -e '.[pod]'`),
minutes of a CPU and no data set; of one whose shapes are not known by its name, `--image`,
`--classes` and `--examples` say them. All is printed, and written to `--output` as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from absl import flags

from experiments import ConfigError
from experiments.benchmark.communication import rounds
from experiments.classify import CLASSIFICATION
from experiments.pod import chips, estimate, planned, program, shapes, tables
from experiments.pod.chips import Chip
from experiments.pod.planned import Planned
from experiments.report import files
from experiments.runs import commands, config_flag, imports, problem
from experiments.runs.experiment import check_entries
from experiments.runs.plan import Run, plan

Config = Mapping[str, Any]


def rows(
    config: Config, topology: str, method: str = "", known: shapes.Shapes | None = None
) -> Iterator[dict[str, Any]]:
    """A row for each method of a config, as soon as its step is compiled.

    Args:
      config: with all entries.
      topology: of the pod, such as "v5e:4x4".
      method: the only one; "" for all.
      known: the shapes of the data set; None for those that its name tells.

    Raises:
      ConfigError: config, topology or method cannot be used, or libtpu is not installed.

    Example:
      `for row in rows(config, "v5e:4x4"): print(row["fits"], row["images_per_second"])`
    """
    check_entries(config, CLASSIFICATION)
    imports.load(config)
    runs = _chosen(plan(config, CLASSIFICATION.parse), method)
    known = known or shapes.of(config)
    chip, devices = chips.find(topology), chips.devices(topology)
    planned.check(config, len(devices))
    for run in runs:
        began = time.perf_counter()
        step = planned.planned(config, CLASSIFICATION, run, known, devices)
        found = _compiled(step, config, chip, len(devices), known.classes)
        about = {"topology": topology, "method": run.method, "loss": run.loss}
        yield about | found | {"compilation": time.perf_counter() - began}


def _chosen(runs: Sequence[Run], method: str) -> list[Run]:
    """The first run of each method, or of the one that is named."""
    first: dict[str, Run] = {}
    for run in runs:
        first.setdefault(run.method, run)
    if method and method not in first:
        raise ConfigError(f"--method={method} is none of the config's: {', '.join(first)}.")
    return [first[method]] if method else list(first.values())


def _compiled(step: Planned, config: Config, chip: Chip, count: int, classes: int) -> Any:
    try:
        compiled = step.lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        total = estimate.wanted(str(error))
        if total is None:
            raise
        row: dict[str, Any] = {"fits": False, "total": total, "lies": step.parts}
    else:
        work = program.work(
            str(compiled.as_text()),
            chip,
            _passes(step, config, classes),
            outermost=None if config["data"] == "stream" else 1,  # the loop over the steps
            mixed=step.mixed,
            share=_share(step, config, count, classes),
            rounds=rounds(step.batch // config["accumulate"], count // config["fsdp"]),
        )
        row = tables.row(step, chip, tables.memory(compiled), work)
    if row["fits"]:
        return row | {"advice": []}
    about = (config, step.parts, row["total"], chip, count, classes)
    return row | {"advice": estimate.advice(*about)}


def _passes(step: Planned, config: Config, classes: int) -> int:
    """Of the one kind of loop whose length no program tells: ISDA's, over the classes at hand.

    As in `benchmark.isda.most_pieces`, of the classes whose statistics a chip keeps.
    """
    batch = step.batch // config["accumulate"]
    return min(batch, step.kept) + batch * step.kept // classes // 16


def _share(step: Planned, config: Config, count: int, classes: int) -> float:
    """Of the classes whose statistics a chip keeps, those at most that occur where it looks.

    It works for its own examples where it keeps all classes, else for those of all chips.
    """
    own = problem.parallelism(config) == "shard_map" and step.kept == classes
    examples = step.batch // config["accumulate"] // (count if own else 1)
    return min(examples / classes, 1.0)


def main() -> None:
    """Plans what the flags name; bad input ends it with one sentence and exit code 2."""
    given = flags.FLAGS
    with commands.ends():
        jax.config.update("jax_platforms", "cpu")  # where it is traced; libtpu has no devices
        config = given.config.to_dict()
        known = shapes.of(config, given.image, given.classes, given.examples)
        chip, done = chips.find(given.topology), []
        for row in rows(config, given.topology, given.method, known):
            done.append(row)
            print(f"\n{tables.text(row, chip, done[0])}", flush=True)
            _write(Path(given.output), done)
        print(f"\nWritten to {given.output}", file=sys.stderr)


def _write(path: Path, done: list[dict[str, Any]]) -> None:
    about = {"command": commands.line(), "jax": jax.__version__}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.replace(path, (json.dumps(about | {"rows": done}, indent=2) + "\n").encode())
    except OSError as error:
        raise ConfigError(
            f"--output={path} cannot be written ({error}): choose another file."
        ) from None


if __name__ == "__main__":
    config_flag.define()
    flags.DEFINE_string("topology", "v5e:4x4", "Of the pod: its chips, and how they lie.")
    flags.DEFINE_string("method", "", "One of the config's losses by name; all by default.")
    flags.DEFINE_string("image", "", "Shape of an image, such as 224x224x3.")
    flags.DEFINE_integer("classes", 0, "Number of classes.", lower_bound=0)
    flags.DEFINE_integer("examples", 0, "Number of training images.", lower_bound=0)
    flags.DEFINE_string("output", "runs/pod.json", "Where the JSON goes.")
    commands.run(main)
