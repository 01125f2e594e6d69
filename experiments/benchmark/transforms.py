"""The losses that are measured, and what a training step of each costs beside the plain one."""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

import regjax as rj
from experiments import platform
from experiments.benchmark import isda
from experiments.benchmark.flops import flops
from experiments.benchmark.timing import paired, random_data, random_task
from experiments.training import compiler, steps
from experiments.training.descent import Descent
from experiments.training.task import Rows, gather

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
# Views of an image that differ, in the supervised step too.
VIEWS = "random_flip | random_crop(padding=2)"
TERMS = {
    "pi_model": "pi_model(weight=100.0)",
    "temporal_ensembling": "temporal_ensembling(weight=30.0, images=50000)",
    "mean_teacher": "mean_teacher(weight=100.0)",
    "vat": "vat(weight=1.0, epsilon=8.0)",
    "vat, 2 iterations": "vat(weight=1.0, epsilon=8.0, iterations=2)",
    "entropy": "entropy(weight=1.0)",
}
UNLABELED = {
    **{name: f"{PLAIN} | {term} | {VIEWS}" for name, term in TERMS.items()},
    **{
        name: f"isda(strength=0.5) | {terms} | {VIEWS}"
        for name, terms in {
            "semantic_consistency": "semantic_consistency(weight=0.5)",
            "vat + ISDA": f"semantic_consistency(weight=0.5) | {TERMS['vat']}",
        }.items()
    },
}
QUICK_UNLABELED = ("mean_teacher",)


class Setting(NamedTuple):
    """Shapes and repetitions: images `[batch, *shape]`, `runs` models in a sweep, the network.

    And how many images without labels come with a batch.
    """

    shape: tuple[int, int, int]
    batch: int
    steps: int
    rounds: int
    runs: int = 1
    model: str = "small_cnn"
    classes: int = 10
    unlabeled: int = 0


def random_problem(setting: Setting) -> tuple[Descent, dict[str, jax.Array]]:
    """The setting's network and random images of its shape and classes."""
    data = random_data(4 * setting.batch, setting.shape, setting.classes)
    return random_task(setting.model, setting.shape, classes=setting.classes), data


class Step:
    """A loss's training step on a random problem: counted, compiled in the training loop, timed."""

    def __init__(self, expression: str, setting: Setting) -> None:
        """Counts and compiles."""
        task, data = random_problem(setting)
        loss = jax.tree.map(jnp.float32, rj.parse(expression))
        seed, count = jnp.uint32(0), jnp.int32(setting.steps)
        self._state = jax.jit(task.init)(seed, loss)
        generator = np.random.default_rng(1)

        def drawn(size: int) -> Rows:
            shape = (setting.steps, size)
            index = generator.integers(0, len(data["label"]), shape).astype(np.int32)
            return Rows(jnp.asarray(index), jnp.ones(shape))

        rows = drawn(setting.batch)
        if setting.unlabeled:
            rows = rows._replace(unlabeled=drawn(setting.unlabeled))
        self._arguments = (loss, seed, rows)
        batch = task.batch(gather(data, jax.tree.map(lambda x: x[0], rows)))
        passes = isda.most_pieces(setting.batch, task.classes)
        self.flops = flops(task.step, self._state, loss, batch, seed, passes=passes)
        advance = functools.partial(steps.advance, task)
        began = time.perf_counter()
        asked = compiler.options(platform())
        program = jax.jit(advance, compiler_options=asked)
        lowered = program.lower(data, count, self._state, *self._arguments)
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


def transform_costs(
    setting: Setting, losses: Mapping[str, str], basis: str = PLAIN
) -> list[dict[str, Any]]:
    """A row for the plain step and each of the losses.

    Args:
      setting: with images without labels, the plain step takes as many with labels in their place.
      losses: by name, their expressions.
      basis: the expression of the plain step's.
    """
    plain = Step(basis, setting._replace(batch=setting.batch + setting.unlabeled, unlabeled=0))
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
    return [{"transform": "plain", "loss": basis, **first}, *rows]


def resnet(quick: bool) -> Setting:
    """PreActResNet-18 on CIFAR's shape, on CPUs a quarter as wide."""
    if quick:
        return Setting((8, 8, 3), 8, 2, 3, model="preact_resnet18(width=4)")
    width = 16 if jax.default_backend() == "cpu" else 64
    return Setting((32, 32, 3), 128, 5, 5, model=f"preact_resnet18(width={width})")


def cnn13(quick: bool) -> Setting:
    """CNN-13 on CIFAR's shape, on CPUs an eighth as wide; one image in eight has a label."""
    if quick:
        return Setting((12, 12, 3), 2, 2, 3, model="cnn13(width=2)", unlabeled=6)
    width = 16 if jax.default_backend() == "cpu" else 128
    return Setting((32, 32, 3), 16, 5, 5, model=f"cnn13(width={width})", unlabeled=112)
