"""What ISDA adds to the networks of its paper's Table 3: multiply-adds and step times.

    python -m experiments.benchmark.isda_networks
    python -m experiments.benchmark.isda_networks --time=resnet32,wide_resnet16_8

A step of the latter takes many seconds on a CPU.

In the paper each image multiplies its class's covariance with all classes' weights, which is `A^2
(1 + C + 3.4 C / B)` multiply-adds an image for A features, C classes and batches of B: the update,
the bound, and the merging of C matrices once a batch. Here the bound's product is taken once for
each class of the batch and not for each image, so that what is counted off the program ("here", of
a batch with as many classes as can be) is less, but for 100 classes in batches of 64, up to 1.7
times as much. The networks' own are counted without the products with padding, up to a tenth of the
paper's. Its times are of a V100, ours of this machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from absl import flags
from tqdm import tqdm

import regjax as rj
from experiments import ConfigError
from experiments.benchmark.flops import flops
from experiments.benchmark.isda import most_pieces
from experiments.benchmark.tables import table
from experiments.benchmark.timing import paired
from experiments.benchmark.transforms import PLAIN, Setting, Step
from experiments.runs import commands, networks

SHAPE, ISDA = (32, 32, 3), "isda(strength=0.5)"


class Added(NamedTuple):
    """What the paper says that ISDA adds: millions of multiply-adds, the same and time in %."""

    millions: float
    percent: float
    time: float


class Network(NamedTuple):
    """A row of Table 3: the network here, its features, its batch, the paper's numbers by classes.

    `millions` are the network's own multiply-adds there.
    """

    model: str
    features: int
    batch: int
    millions: float
    added: dict[int, Added]


def _row(model: str, features: int, batch: int, millions: float, *added: float) -> Network:
    ten, hundred = Added(*added[:3]), Added(*added[3:])
    return Network(model, features, batch, millions, {10: ten, 100: hundred})


PAPER = {
    "resnet32": _row("resnet32", 64, 128, 69.43, 0.05, 0.07, 1.85, 0.44, 0.63, 1.85),
    "resnet110": _row("resnet110", 64, 128, 254.20, 0.05, 0.02, 4.48, 0.44, 0.17, 2.94),
    "se_resnet110": _row("se_resnet110", 64, 128, 254.73, 0.05, 0.02, 2.17, 0.44, 0.17, 1.08),
    "wide_resnet16_8": _row(
        *("wide_resnet16_8(dropout=0.3)", 512, 128, 1550.0),
        *(2.96, 0.19, 3.39, 27.19, 1.76, 10.77),
    ),
    "wide_resnet28_10": _row(
        *("wide_resnet28_10(dropout=0.3)", 640, 128, 5250.0),
        *(4.61, 0.09, 2.37, 42.46, 0.81, 12.35),
    ),
    "resnext29_8x64d": _row(
        *("resnext29_8x64d", 1024, 128, 5390.0),
        *(11.80, 0.22, 1.90, 109.00, 2.02, 12.32),
    ),
    "densenet_bc100_12": _row(
        *("densenet_bc100_12", 342, 64, 292.38),
        *(1.35, 0.46, 5.50, 12.43, 4.25, 12.03),
    ),
    "shake_shake26_2x32d": _row(
        *("shake_shake26(width=32)", 128, 64, 426.69),
        *(0.19, 0.04, 5.77, 1.76, 0.41, 2.21),
    ),
    "shake_shake26_2x112d": _row(
        *("shake_shake26(width=112)", 448, 64, 5130.0),
        *(2.31, 0.05, 3.85, 21.30, 0.42, 5.07),
    ),
}


def as_in_the_paper(features: int, classes: int, batch: int) -> float:
    """Multiply-adds an image that ISDA adds by its paper's program."""
    return features**2 * (1 + classes + 3.4 * classes / batch)


def counted(features: int, classes: int, batch: int) -> float:
    """Multiply-adds an image of products in ISDA's forward pass here, at most.

    Those of a network's own last layer are left out. A batch has at most B classes.
    """

    def abstract(*shape: int) -> Any:
        return jax.ShapeDtypeStruct(shape, jnp.float32)

    def forward(params: Any) -> rj.Forward:
        return rj.from_function(
            lambda p, x: (x @ p[0] + p[1][None], x), params, head=lambda p: (p[0], p[1])
        )

    def cost(text: str) -> int:
        loss = rj.parse(text)
        params = (abstract(features, classes), abstract(classes))
        given = (params, abstract(batch, features), abstract(batch, classes))
        state = jax.eval_shape(lambda p, x, y: loss.init(forward(p), rj.Batch(x, y)), *given)

        def value(state: Any, p: Any, x: jax.Array, y: jax.Array) -> Any:
            result, after = loss.apply(state, forward(p), rj.Batch(x, y), jax.random.key(0))
            return result.losses, after

        return flops(value, state, *given, passes=most_pieces(batch, classes))

    return (cost(ISDA) - cost(PLAIN)) / 2 / batch


def own(model: str, classes: int) -> float:
    """Multiply-adds of the network for one image: convolutions and products."""
    build = networks.builder(model, SHAPE, classes)
    forward = jax.eval_shape(build, jax.random.key(0))
    image = jax.ShapeDtypeStruct((1, *SHAPE), jnp.float32)
    return flops(lambda f, x: f.frozen()(x).logits, forward, image) / 2


def rows(names: tuple[str, ...] = tuple(PAPER)) -> Iterator[dict[str, Any]]:
    """A row for each network and number of classes, in millions of multiply-adds an image."""
    for name in names:
        network = PAPER[name]
        for classes, added in network.added.items():
            sizes = (network.features, classes, network.batch)
            theirs, alone = as_in_the_paper(*sizes) / 1e6, own(network.model, classes) / 1e6
            yield {
                "network": name,
                "classes": classes,
                "own": alone,
                "own_paper": network.millions,
                "added": theirs,
                "added_paper": added.millions,
                "percent": 100 * theirs / alone,
                "percent_paper": added.percent,
                "here": counted(*sizes) / 1e6,
            }


COLUMNS = {
    "network": "",
    "classes": "d",
    "own": ".2f",
    "own_paper": ".2f",
    "added": ".2f",
    "added_paper": ".2f",
    "percent": ".2f",
    "percent_paper": ".2f",
    "here": ".2f",
}


def times(name: str, classes: int, steps: int = 1, rounds: int = 5) -> dict[str, Any]:
    """The step with ISDA over the plain one, in turn, and the paper's percentage."""
    network = PAPER[name]
    setting = Setting(SHAPE, network.batch, steps, rounds, model=network.model, classes=classes)
    plain, isda = Step(PLAIN, setting), Step(ISDA, setting)
    seconds, ratio = paired(plain.seconds, isda.seconds, rounds)
    return {
        "network": name,
        "classes": classes,
        "plain_ms": 1e3 * seconds,
        "time": ratio,
        "time_paper": 1 + network.added[classes].time / 100,
    }


def main() -> None:
    """Prints the table of costs, or that of times."""
    asked = tuple(filter(None, flags.FLAGS.time.split(",")))
    unknown = [name for name in asked if name not in PAPER]
    if unknown:
        commands.stop(ConfigError(f"--time names {unknown[0]}, but knows: {', '.join(PAPER)}."))
    if asked:
        each = [(name, classes) for name in asked for classes in (10, 100)]
        found = [times(*one) for one in tqdm(each, desc="networks")]
        columns = {"network": "", "classes": "d", "plain_ms": ".1f", "time": ".3f"}
        print(table(found, columns | {"time_paper": ".3f"}))
    else:
        print(table(list(rows()), COLUMNS))


if __name__ == "__main__":
    flags.DEFINE_string("time", "", "Networks to time, by name, joined by commas.")
    commands.run(main)
