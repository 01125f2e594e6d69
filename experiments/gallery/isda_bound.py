"""ISDA's bound and what it bounds, over a training: Figure 9 of the ISDA paper.

    python -m experiments.gallery.isda_bound runs/isda_figure9 --output=isda_bound.png

At every checkpoint that a run kept, the network as it is evaluated sees so many training images,
without augmentation, and the strength and the covariances are those of that step: the cross entropy,
the expected cross entropy of features that are really moved, by sampling, and ISDA's bound of it.
The first is at most the second, and the second at most the third, but for the error of sampling.
The numbers are written beside the picture as JSON.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from matplotlib.figure import Figure

import regjax as rj
from experiments import ConfigError
from experiments.data.sources import Dataset
from experiments.gallery import figure_file
from experiments.report import files
from experiments.report.plots import COLOURS
from experiments.runs import commands, entries, folder, imports, load, networks
from experiments.training.feeds import MEASURED, spaced
from experiments.training.growth import grown
from experiments.training.task import Examples
from regjax.semantic.explicit import expected_loss

METHOD = "ISDA"


class Point(NamedTuple):
    """The losses at a step: means over the images, nats, and of the sampling its standard error."""

    step: int
    strength: float
    cross_entropy: float
    expected: float
    error: float
    bound: float


def losses(
    forward: rj.Forward, batch: rj.Batch, statistics: Any, strength: jax.Array, samples: int
) -> jax.Array:
    """Cross entropy, expected cross entropy by `samples` draws, and the bound, `[3, B]`, nats.

    Args:
      forward: the network.
      batch: B images.
      statistics: ISDA's state, None for the identity matrix.
      strength: lambda, `[]`.
      samples: M.
    """
    outputs, kernel = forward(batch.image), forward.head.kernel
    spread = 0.5 * strength * rj.semantic.differences(statistics, kernel, batch.label)
    plain, bound = (
        rj.semantic.upper_bound(outputs.logits, batch.label, s) for s in (0 * spread, spread)
    )
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(0), i))(batch.index)
    roots = None if statistics is None else statistics.covariance.roots()
    of = (outputs.logits, batch.label, roots, kernel)
    expected = expected_loss(*of, strength=strength, samples=samples, keys=keys)
    return jnp.stack([plain, expected, bound])


def measure(workdir: str, method: str, examples: int, samples: int) -> list[Point]:
    """The losses at every checkpoint of the method's first seed.

    Raises:
      ConfigError: streamed images.
      ValueError: there is no such run, or its loss is not ISDA.
    """
    found = folder.read(workdir)
    imports.load(found.config)
    data = networks.open_data(entries.complete(found.config))
    if not isinstance(data, Dataset):
        raise ConfigError(f"{workdir} is of images that are streamed: these are not measured.")
    at = spaced(len(data.train["label"]), examples)
    stored = {name: data.train[name][at] for name in ("image", "label")}
    chosen = {row.method: row.strength for row in found.chosen}
    of = {"strength": chosen.get(method)}
    steps = load.trained(workdir, method, **of).checkpoints
    runs = (load.trained(workdir, method, **of, step=step) for step in steps)
    return [_point(run, step, stored, samples) for run, step in zip(runs, steps, strict=True)]


def _point(run: load.Trained, step: int, stored: Any, samples: int) -> Point:
    loss = rj.parse(run.loss)
    if loss.stages[0].name != "isda":
        raise ValueError(f"the method's loss is {run.loss}, but its base must be isda.")
    loss = grown(loss, run.task.growing, jnp.int32(step), run.steps)
    strength = jnp.asarray(loss.stages[0].arguments["strength"], jnp.float32)
    network, statistics = run.task.network(run.state), run.state.loss_state.stages["isda"]

    @jax.jit
    def means(stored: Any, index: jax.Array) -> jax.Array:
        batch = run.task.batch(Examples(stored, index, jnp.ones(len(index))))
        return losses(network, batch, statistics, strength, samples)

    size = len(stored["label"])
    parts = (slice(i, i + MEASURED) for i in range(0, size, MEASURED))
    index = np.arange(size, dtype=np.int32)
    each = [means({n: x[p] for n, x in stored.items()}, index[p]) for p in parts]
    plain, expected, bound = np.concatenate([np.asarray(e, float) for e in each], 1)
    # That of the means of single images, which differ, is not the sampling's: by halves of the keys
    # it would need as many draws again. Images are independent, so that this bounds it from above.
    error = float(np.std(expected - plain, ddof=1) / np.sqrt(size))
    return Point(step, float(strength), plain.mean(), expected.mean(), error, bound.mean())


def draw(points: list[Point]) -> Figure:
    """The three curves over the steps."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    names = {"bound": "ISDA's bound", "expected": "expected loss", "cross_entropy": "cross entropy"}
    for (name, label), colour in zip(names.items(), COLOURS, strict=False):
        values = [getattr(point, name) for point in points]
        axes.plot([point.step for point in points], values, color=colour, label=label, marker=".")
    axes.set(xlabel="step", ylabel="nats", yscale="log")
    axes.legend(frameon=False)
    return figure


def main(workdir: str = "") -> None:
    """Writes the figure and its numbers, and prints these."""
    given = flags.FLAGS
    try:
        if not workdir:
            raise ConfigError("Name the work folder of a comparison.")
        figure_file.check(given.output)
        points = measure(workdir, given.method, given.examples, given.samples)
        path = figure_file.write(draw(points), given.output)
        numbers = [point._asdict() for point in points]
        files.replace(path.with_suffix(".json"), json.dumps(numbers, indent=2).encode())
    except (ConfigError, OSError, ValueError) as error:
        commands.stop(error)
    print(f"{'step':>8}{'lambda':>8}{'plain':>10}{'expected':>10}{'bound':>10}")
    for p in points:
        numbers = f"{p.cross_entropy:10.4f}{p.expected:10.4f}{p.bound:10.4f}"
        print(f"{p.step:8}{p.strength:8.3f}{numbers}")
    print(f"Written to {path} and {path.with_suffix('.json')}")


if __name__ == "__main__":
    flags.DEFINE_string("output", "isda_bound.png", "The PNG to write.")
    flags.DEFINE_string("method", METHOD, "The method of the comparison whose base is isda.")
    flags.DEFINE_integer("examples", 1000, "Training images; 0 for all.", lower_bound=0)
    flags.DEFINE_integer("samples", 1000, "Draws for each of them.", lower_bound=1)
    commands.run(main, arguments=True)
