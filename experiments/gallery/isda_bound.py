"""ISDA's bound and what it bounds, over a training: Figure 9 of the ISDA paper.

    python -m experiments.gallery.isda_bound runs/isda_figure9 --output=isda_bound.png

At every checkpoint that a run kept, the network as it is evaluated sees so many of the images that
it was trained on, without augmentation, and the strength and the covariances are those of that
step: the cross entropy, the expected cross entropy of features that are really moved, by sampling,
and ISDA's bound of it. The first is at most the second, and the second at most the third, but for
the error of sampling. The numbers are written beside the picture as JSON.
"""

from __future__ import annotations

import functools
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
from experiments.gallery.examples import trained_on
from experiments.report.plots import COLOURS
from experiments.runs import commands, entries, folder, imports, load, networks
from experiments.training.feeds import MEASURED, spaced
from experiments.training.growth import grown
from experiments.training.task import Examples
from regjax.semantic.explicit import expected_loss
from regjax.semantic.isda import head_kernel

METHOD = "ISDA"


class Point(NamedTuple):
    """The strength and the losses at a step, means over the images, nats."""

    step: int
    strength: float
    cross_entropy: float
    expected: float
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
    outputs, kernel = forward(batch.image), head_kernel(forward)
    spread = 0.5 * strength * rj.semantic.differences(statistics, kernel, batch.label)
    plain, bound = (
        rj.semantic.upper_bound(outputs.logits, batch.label, s) for s in (0 * spread, spread)
    )
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(0), i))(batch.index)
    roots = None if statistics is None else statistics.covariance.roots()
    of = (outputs.logits, batch.label, roots, kernel)
    expected = expected_loss(*of, strength=strength, samples=samples, keys=keys)
    return jnp.stack([plain, expected, bound])


_losses = jax.jit(losses, static_argnames="samples")


def measure(workdir: str, method: str, examples: int, samples: int) -> list[Point]:
    """The losses at every checkpoint of the method's first seed.

    Raises:
      ConfigError: several training sizes, or streamed images.
      ValueError: there is no such run, or its loss is not ISDA, or ISDA with shrinkage.
    """
    found = folder.read(workdir)
    sizes = found.config["train_sizes"]
    if len(sizes) > 1:
        named = ", ".join(map(str, sizes))
        raise ConfigError(f"{workdir} must hold networks of one training size, not of {named}.")
    imports.load(found.config)
    config = entries.complete(found.config)
    data = networks.open_data(config)
    if not isinstance(data, Dataset):
        raise ConfigError(f"{workdir} is of images that are streamed: these are not measured.")
    mine = trained_on(config, data)
    at = mine[spaced(len(mine), examples)]
    stored = {name: data.train[name][at] for name in ("image", "label")}
    chosen = {row.method: row.strength for row in found.chosen}
    trained = functools.partial(load.trained, workdir, method, strength=chosen.get(method))
    last = trained()
    # One task for all, so that they are one program.
    runs = ((step, trained(step=step)) for step in last.checkpoints)
    return [_point(last.task, step, run, stored, samples) for step, run in runs]


def _point(task: Any, step: int, run: load.Trained, stored: Any, samples: int) -> Point:
    stages = dict(grown(rj.parse(run.loss), task.growing, jnp.int32(step), run.steps).named())
    if "isda" not in stages:
        raise ValueError(f"the method's loss is {run.loss}, but its base must be isda.")
    arguments = stages["isda"].arguments
    if arguments.get("shrinkage") is not None:
        raise ValueError(f"{run.loss} has shrinkage, with which the bound is not measured.")
    strength = jnp.asarray(arguments["strength"], jnp.float32)
    network, statistics = task.network(run.state), run.state.loss_state.stages["isda"]
    found = []
    size = len(stored["label"])
    for index in np.array_split(np.arange(size), -(-size // MEASURED)):
        own = {name: array[index] for name, array in stored.items()}
        batch = task.batch(Examples(own, index.astype(np.int32), jnp.ones(len(index))))
        found.append(_losses(network, batch, statistics, strength, samples))
    means = np.concatenate([np.asarray(part, float) for part in found], 1).mean(1)
    return Point(step, float(strength), *map(float, means))


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
        numbers = [point._asdict() for point in points]
        path = figure_file.write(draw(points), given.output, numbers)
    except (ConfigError, OSError, ValueError) as error:
        commands.stop(error)
    print(f"{'step':>8}{'lambda':>8}{'plain':>10}{'expected':>10}{'bound':>10}")
    for p in points:
        shown = f"{p.cross_entropy:10.4f}{p.expected:10.4f}{p.bound:10.4f}"
        print(f"{p.step:8}{p.strength:8.3f}{shown}")
    print(f"Written to {path} and {path.with_suffix('.json')}")


if __name__ == "__main__":
    flags.DEFINE_string("output", "isda_bound.png", "The PNG to write.")
    flags.DEFINE_string("method", METHOD, "The method of the comparison whose base is isda.")
    flags.DEFINE_integer(
        "examples", 1000, "Images that it was trained on; 0 for all.", lower_bound=0
    )
    flags.DEFINE_integer("samples", 1000, "Draws for each of them.", lower_bound=1)
    commands.run(main, arguments=True)
