"""Training steps beside PyTorch's: the same networks, losses, batches and optimizer, in turn.

    python -m experiments.benchmark --against=torch

Both start from the same parameters and take the same images. The better of PyTorch's two memory
formats counts; `torch.compile` is a column of its own, empty where it cannot derive twice. ISDA by
itself, without a network, is beside its authors' formulas. `tables.py` shows the tables.
"""

from __future__ import annotations

import functools
import importlib.util
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from experiments import ConfigError
from experiments.benchmark import isda
from experiments.benchmark.timing import in_turn, random_data, random_task
from experiments.benchmark.transforms import EVERY_STAGE, LAYERS, PLAIN, Setting, Step

# OpenMP's threads look for more work for some milliseconds, on the cores that XLA then needs.
PAUSE = 0.05
MODELS = {"small_cnn": LAYERS, "preact_resnet18": EVERY_STAGE}
LOSSES = {
    "plain": PLAIN,
    "double_backprop": f"{PLAIN} | double_backprop(weight=0.1)",
    "one_probe": f"{PLAIN} | jacobian(weight=0.1, probes=1)",
    "jacobian": f"{PLAIN} | jacobian(weight=0.1)",
    "mixup": f"{PLAIN} | mixup(alpha=1.0)",
    "noisy_feature_mixup": (
        f"{PLAIN} | noisy_feature_mixup(alpha=1.0, add=0.4, multiply=0.2, layers={{layers}})"
    ),
}
TWICE = ("double_backprop", "one_probe", "jacobian")  # what torch.compile cannot derive
ISDA_CASES = (isda.Case(128, 100, 640, "full"), isda.Case(256, 1000, 512, "full"))
QUICK_ISDA = (isda.Case(8, 3, 4, "full"),)
FORMATS = ("contiguous", "channels last")

_TIMES = {"ours_ms": ".1f", "torch_ms": ".1f", "ratio": ".3f"}
_STEPS = (
    "A training step beside PyTorch's (ratio: ours over the better of its memory formats; "
    "compiled: by\ntorch.compile, and ours over that)",
    {"model": "s", "images": "s", "loss": "s"}
    | _TIMES
    | {"format": "s", "compiled_ms": "s", "compiled_ratio": "s"},
)
TABLES = {
    **{f"{model}_against_torch": _STEPS for model in MODELS},
    "isda_against_torch": (
        "ISDA's loss, its gradients and the update of its statistics, beside its authors' formulas "
        "in\nPyTorch (ratio: ours over theirs)",
        {"batch": "d", "classes": "d", "features": "d"} | _TIMES,
    ),
}


def costs(quick: bool) -> Iterator[dict[str, Any]]:
    """All tables' rows, by their names.

    Raises:
      ConfigError: PyTorch is not installed.
    """
    if importlib.util.find_spec("torch") is None:
        raise ConfigError("--against=torch needs PyTorch: pip install -e '.[experiments,torch]'.")
    rounds = 2 if quick else 7
    cases = QUICK_ISDA if quick else ISDA_CASES
    rows = [_isda_row(case, rounds) for case in tqdm(cases, desc="isda beside torch")]
    yield {"isda_against_torch": {"rows": rows}}
    for model in MODELS:
        setting = _setting(model, quick)
        rows = [_row(setting, name, rounds) for name in tqdm(LOSSES, desc=f"{model} beside torch")]
        yield {f"{model}_against_torch": {"rows": rows}}


def _setting(model: str, quick: bool) -> Setting:
    if quick:
        return Setting((8, 8, 3), 8, 2, 2, model=_of_width(model, 4))
    on_cpu = jax.default_backend() == "cpu"
    return Setting((32, 32, 3), 128, 5, 7, model=_of_width(model, 16 if on_cpu else 64))


def _of_width(model: str, width: int) -> str:
    return model if model == "small_cnn" else f"{model}(width={width})"


def _row(setting: Setting, name: str, rounds: int) -> dict[str, Any]:
    """A loss's steps: ours, PyTorch's in both memory formats and, where it can, compiled."""
    layers = MODELS[setting.model.partition("(")[0]]
    ours = Step(LOSSES[name].format(layers=layers), setting)
    theirs = {layout: _torch_step(setting, name, layout) for layout in FORMATS}
    if name not in TWICE:
        theirs["compiled"] = _torch_step(setting, name, "channels last", compiled=True)
    taken = in_turn(*map(_rested, (ours.seconds, *theirs.values())), rounds=rounds)
    medians = [statistics.median(column) for column in zip(*taken, strict=True)]
    places = {layout: place for place, layout in enumerate(theirs, start=1)}
    better = min(FORMATS, key=lambda layout: medians[places[layout]])

    def ratio(layout: str) -> float:
        return statistics.median(times[0] / times[places[layout]] for times in taken)

    compiled = places.get("compiled")
    return {
        "model": setting.model,
        "images": f"{setting.batch} x {'x'.join(map(str, setting.shape))}",
        "loss": name,
        "ours_ms": 1e3 * medians[0],
        "torch_ms": 1e3 * medians[places[better]],
        "ratio": ratio(better),
        "format": better,
        "compiled_ms": f"{1e3 * medians[compiled]:.1f}" if compiled else "",
        "compiled_ratio": f"{ratio('compiled'):.3f}" if compiled else "",
    }


def _torch_step(
    setting: Setting, name: str, layout: str, compiled: bool = False
) -> Callable[[], float]:
    from experiments.benchmark.pytorch import losses, networks, timed  # an extra

    network = networks.create(setting.model, setting.shape, 10)
    task = random_task(setting.model, setting.shape)
    networks.put(network, jax.device_get(task.build(jax.random.key(0)).params))
    loss = getattr(losses, name)
    if name == "noisy_feature_mixup":
        loss = functools.partial(loss, layers=network.layers)
    data = jax.device_get(random_data(4 * setting.batch, setting.shape))
    shape = (setting.steps, setting.batch)
    rows = np.random.default_rng(1).integers(0, len(data["label"]), shape)
    return timed.Step(network, loss, data, rows, layout, compiled).seconds


def _isda_row(case: isda.Case, rounds: int) -> dict[str, Any]:
    from experiments.benchmark.pytorch import timed  # an extra

    ours = isda.Program(case)
    theirs = timed.IsdaStep(*ours.given)
    taken = in_turn(*map(_rested, (ours.seconds, theirs.seconds)), rounds=rounds)
    return {
        **case._asdict(),
        "ours_ms": 1e3 * statistics.median(ours for ours, _ in taken),
        "torch_ms": 1e3 * statistics.median(torchs for _, torchs in taken),
        "ratio": statistics.median(ours / torchs for ours, torchs in taken),
    }


def _rested(timing: Callable[[], float]) -> Callable[[], float]:
    def seconds() -> float:
        time.sleep(PAUSE)
        return timing()

    return seconds
