"""What a training step sends between devices, from its compiled program, and what it has to.

    XLA_FLAGS=--xla_force_host_platform_device_count=8 python -m experiments.benchmark.communication

prints it for the devices that there are, as JSON; `costs` asks for several numbers of devices, each
in a process of its own. No step is run. `tables.py` shows the table.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import numpy as np
from tqdm import tqdm

import regjax as rj
from experiments.benchmark import hlo, isda
from experiments.benchmark.timing import random_task
from experiments.training.parallel import Parallel
from experiments.training.sweep import stack
from experiments.training.task import TrainState, blank

CLASSES = 10
LOSSES = {
    "cross entropy": "cross_entropy",
    "ISDA": "isda(strength=0.5)",
    "NFM": "cross_entropy | noisy_feature_mixup(alpha=1.0, add=0.4, multiply=0.2, layers={})",
}
LAYERS = {
    "small_cnn": ("input", "conv1", "conv2"),
    "thesis_resnet": ("input", "blocks.0", "blocks.1"),
}
SCALARS = 64  # bytes at most: the loss, its terms and weights


class Case(NamedTuple):
    """A network, its images `[batch, *shape]`, a loss by name, a kind of parallelism."""

    model: str
    shape: tuple[int, int, int]
    batch: int
    loss: str
    parallelism: str


CASES = tuple(
    Case(model, (32, 32, 3), 128, loss, kind)
    for model, loss, kind in itertools.product(LAYERS, LOSSES, ("jit", "shard_map"))
)
QUICK_CASES = (Case("small_cnn", (4, 4, 1), 8, "ISDA", "shard_map"),)
DEVICES = (1, 2, 4, 8)
QUICK_DEVICES = (2,)

TABLES = {
    "communication": (
        "What a step sends, MB for each device, and the parameters' gradients with the touched "
        "classes' statistics and BatchNorm's sums (NFM mixes images of all devices, hidden layers "
        "too, and has to send those as well)",
        {"model": "s", "loss": "s", "parallelism": "s", "devices": "d"}
        | {"megabytes": ".3f", "bound_megabytes": ".3f", "ratio": ".2f"},
    )
}


def costs(counts: Iterable[int], quick: bool) -> dict[str, Any]:
    """A row for each case and number of virtual devices."""
    command = [sys.executable, "-m", "experiments.benchmark.communication"]
    rows = []
    for count in counts:
        # Less optimisation by LLVM, which sends nothing.
        flags = f"--xla_force_host_platform_device_count={count} --xla_backend_optimization_level=0"
        environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
        process = subprocess.run(
            [*command, *["--quick"] * quick],
            env=environment,
            stdout=subprocess.PIPE,
            check=True,
            text=True,
        )
        rows += json.loads(process.stdout)
    return {"rows": rows}


def row(case: Case) -> dict[str, Any]:
    """Bytes that a step sends on the devices that there are, by operation, and the bound."""
    state, text = _compiled(case)
    passes = isda.most_pieces(case.batch, CLASSES)
    kinds = hlo.sent(text, passes, rounds(case.batch, jax.device_count()))
    sent, limit = sum(kinds.values()), bound(state, case.batch)
    return {
        **case._asdict(),
        "devices": jax.device_count(),
        "bytes": kinds,
        "megabytes": sent / 1e6,
        "bound_megabytes": limit / 1e6,
        "ratio": sent / limit,
    }


def bound(state: TrainState, batch: int) -> float:
    """Bytes of the gradients, of statistics of the classes in a batch, and of BatchNorm's sums."""
    touched = min(batch, CLASSES) / CLASSES
    # BatchNorm's state has two numbers of a feature, as have its sums; these go both ways.
    numbers = ((1, state.params), (2, state.model_state), (touched, state.loss_state))
    each = (times * leaf.nbytes for times, tree in numbers for leaf in jax.tree.leaves(tree))
    return sum(each) + SCALARS


def rounds(examples: int, devices: int) -> float:
    """The mean number of rounds in which mixing exchanges a batch, `regjax.mixing.exchange`."""
    rng, own = np.random.default_rng(0), examples // devices
    found = np.zeros((20, devices, devices), int)
    for each in found:
        np.add.at(each, (np.arange(examples) // own, rng.permutation(examples) // own), 1)
    return float(np.ceil(found.max((1, 2)) / -(-own // devices)).mean())


def _compiled(case: Case) -> tuple[TrainState, str]:
    """The state before the first step, and the text of the step's program."""
    task = random_task(case.model, case.shape, classes=CLASSES)
    program = Parallel(task, None, case.parallelism)
    loss = rj.parse(LOSSES[case.loss].format(LAYERS[case.model]))
    run = (stack([loss]), np.zeros(1, np.uint32))
    state = program.init(*run)
    examples = jax.tree.map(np.asarray, blank(task.example, case.batch))
    lowered = program.lower(state, *run, program.place(examples))
    return state, str(lowered.compile().as_text())


if __name__ == "__main__":
    chosen = QUICK_CASES if "--quick" in sys.argv else CASES
    print(json.dumps([row(case) for case in tqdm(chosen, f"{jax.device_count()} devices")]))
