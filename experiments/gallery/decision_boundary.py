"""The boundaries that eight ways of training draw between two noisy classes: a figure and a table.

    python -m experiments.gallery.decision_boundary --output=decision_boundary.png

The toy figure of "Noisy Feature Mixup" (Lim et al., 2022). The data are those of `data/circles.py`,
300 training points, the network has three hidden layers of 32 ReLUs. For every scheme 20 networks,
each with training points and initial weights of its own, are trained in one program; the accuracies
are on the same 10,000 test points. Network, optimizer, batches and steps are the same for all.

Since the question is how smooth a boundary a scheme draws without a loss of accuracy, its strength
is the largest of the candidates in SCHEMES whose validation accuracy is within a standard error of
the best one's; `--tune` prints them all. The points and networks of `--tune` are neither those of
the figure nor of its table.

What comes out: NFM's boundary is smoother than that of noise injection and of all other mixing, as
the paper says, and only weight decay's is smoother, here, where the best boundary is a circle. It
depends on the rule, which was preferred after both had been seen: with the very best strengths,
0.15 for noise injection and 0.8 for noisy mixup and NFM, the three turn 1.26, 1.09 and 1.25 times.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags
from flax import nnx
from tqdm import tqdm

import regjax as rj
import regjax.flax
from experiments import ConfigError
from experiments.data import circles
from experiments.gallery import boundary_plot, figure_file
from experiments.gallery.boundary_plot import GRID, Panel
from experiments.runs import commands
from experiments.training.descent import Descent
from experiments.training.sweep import Sweep, stack
from experiments.training.task import Examples, Rows, TrainState

TRAIN, SCORED, BATCH, STEPS, WIDTH, RATE = 300, 10_000, 100, 1000, 32, 0.01
# What points are drawn for, as a part of their seed.
TRAINING, TEST, TUNING, VALIDATION = range(4)
LAYERS = ("input", "hidden1", "hidden2", "hidden3")


class Hidden(nnx.Module):
    """A layer of ReLUs, some of which are dropped."""

    def __init__(self, inputs: int, rate: float, *, rngs: nnx.Rngs):
        self.linear = nnx.Linear(inputs, WIDTH, rngs=rngs)
        self.dropout = nnx.Dropout(rate, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Features [B, WIDTH] of x [B, inputs]."""
        return self.dropout(nnx.relu(self.linear(x)))


class Network(nnx.Module):
    """Three hidden layers."""

    def __init__(self, rate: float, *, rngs: nnx.Rngs):
        self.hidden1 = Hidden(2, rate, rngs=rngs)
        self.hidden2 = Hidden(WIDTH, rate, rngs=rngs)
        self.hidden3 = Hidden(WIDTH, rate, rngs=rngs)
        self.head = nnx.Linear(WIDTH, 2, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits [B, 2] of points x [B, 2]."""
        return self.head(self.hidden3(self.hidden2(self.hidden1(x))))


class Scheme(NamedTuple):
    """A way of training.

    Attributes:
      name: its name in the figure.
      loss: the expression of its loss at a strength.
      strength: the strength that is used.
      candidates: the strengths that were tried.
    """

    name: str
    loss: Callable[[float], str]
    strength: float = 0.0
    candidates: tuple[float, ...] = (0.0,)

    @property
    def drops(self) -> bool:
        """Whether the strength is the network's rate of dropout."""
        return self.name == "dropout"


def _with_noise(stage: str, more: str = "") -> Callable[[float], str]:
    # Twice as much added as multiplied, and alpha 1, are the paper's on CIFAR.
    return lambda s: f"cross_entropy | {stage}(alpha=1.0, add={s}, multiply={s / 2}{more})"


ALPHAS, LEVELS = (0.1, 0.3, 1.0, 3.0), (0.4, 0.8, 1.2, 1.6, 2.4)
SCHEMES = (
    Scheme("baseline", lambda s: "cross_entropy"),
    Scheme("dropout", lambda s: "cross_entropy", 0.5, (0.1, 0.2, 0.3, 0.5, 0.7)),
    Scheme(
        "weight decay",
        lambda s: f"cross_entropy | l2(weight={s})",
        0.01,
        (0.001, 0.003, 0.01, 0.03, 0.1),
    ),
    Scheme(
        "noise injection",
        lambda s: f"cross_entropy | noise_injection(sigma={s})",
        0.2,
        (0.05, 0.1, 0.15, 0.2, 0.3),
    ),
    Scheme("mixup", lambda s: f"cross_entropy | mixup(alpha={s})", 0.3, ALPHAS),
    Scheme(
        "manifold mixup",
        lambda s: f"cross_entropy | manifold_mixup(alpha={s}, layers={LAYERS})",
        3.0,
        ALPHAS,
    ),
    Scheme("noisy mixup", _with_noise("noisy_mixup"), 1.2, LEVELS),
    Scheme("NFM", _with_noise("noisy_feature_mixup", f", layers={LAYERS}"), 2.4, LEVELS),
)


def task(rate: float) -> Descent:
    """What is trained, with that rate of dropout."""

    def build(key: jax.Array) -> rj.Forward:
        return regjax.flax.bind(Network(rate, rngs=nnx.Rngs(key)), head="head")

    point = {
        "image": jax.ShapeDtypeStruct((2,), jnp.float32),
        "label": jax.ShapeDtypeStruct((), jnp.int32),
    }
    return Descent(build, optax.adam(RATE), lambda points: points, 2, point)


class Margins:
    """How far class 1's logit is above class 0's, see `training.task.Evaluation`."""

    def measure(self, task: Descent, state: TrainState, examples: Examples) -> dict[str, jax.Array]:
        """The margins `[B]`."""
        logits = task.network(state)(task.batch(examples).image).logits
        return {"margin": logits[:, 1] - logits[:, 0]}

    def scores(self, rows: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """None, for they are looked at one by one."""
        return {}


def margins(
    scheme: Scheme, strength: float, points: np.ndarray, seeds: Sequence[int], use: int = TRAINING
) -> np.ndarray:
    """How far class 1's logit is above class 0's, of one trained network for each seed.

    Args:
      scheme: how they are trained.
      strength: of the scheme.
      points: `[N, 2]`, N a multiple of 1000.
      seeds: of the training points and the networks.
      use: what the training points are for.

    Returns:
      `[R, N]`.
    """
    drawn = [circles.draw(TRAIN, use, seed) for seed in seeds]
    image = jnp.concatenate([*(own for own, _ in drawn), points])
    label = jnp.concatenate([*(own for _, own in drawn), np.zeros(len(points), np.int32)])
    program = Sweep(
        task(strength if scheme.drops else 0.0), {"image": image, "label": label}, "vmap"
    )
    losses = stack([rj.parse(scheme.loss(strength))] * len(seeds))
    each = np.asarray(seeds, np.uint32)
    index = np.stack([_batches(seed) + place * TRAIN for place, seed in enumerate(seeds)])
    states = program.init(losses, each)
    states, _, _ = program.advance(
        states, losses, each, Rows(index, np.ones(index.shape, np.float32)), STEPS
    )
    looked_at = np.arange(TRAIN * len(seeds), len(image), dtype=np.int32).reshape(-1, 1000)
    looked_at = np.stack([looked_at] * len(seeds))
    rows = Rows(looked_at, np.ones(looked_at.shape, np.float32))
    return np.asarray(program.measure(states, Margins(), rows)["margin"])


def _batches(seed: int) -> np.ndarray:
    """Which of its training points each step of a run sees, `[STEPS, BATCH]`."""
    generator = np.random.default_rng(seed)
    epochs = np.tile(np.arange(TRAIN, dtype=np.int32), (-(-STEPS * BATCH // TRAIN), 1))
    return generator.permuted(epochs, axis=1).ravel()[: STEPS * BATCH].reshape(STEPS, BATCH)


def run(scheme: Scheme, seeds: Sequence[int]) -> Panel:
    """Trains a scheme's networks and measures them."""
    points, label = circles.draw(SCORED, TEST)
    found = margins(scheme, scheme.strength, np.concatenate([points, GRID.reshape(-1, 2)]), seeds)
    grids = found[:, SCORED:].reshape(-1, *GRID.shape[:2])
    turns = np.array([boundary_plot.turns(grid) for grid in grids])
    return Panel(scheme.name, accuracies(found[:, :SCORED], label), turns, grids)


def accuracies(margin: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Of each run's margins `[R, N]` at points of the classes `[N]`, in percent, `[R]`."""
    return 100.0 * np.mean((margin > 0) == label[None], axis=1)


def table(panels: Sequence[Panel]) -> str:
    """The accuracy and the boundary's turns of each scheme."""
    lines = [f"{'':16}  {'test accuracy (%)':>17}  {'turns of the boundary':>21}"]
    for panel in panels:
        accuracy, turns = boundary_plot.text(panel.accuracy), boundary_plot.text(panel.turns, 2)
        lines.append(f"{panel.name:16}  {accuracy:>17}  {turns:>21}")
    lines.append(f"{'best possible':16}  {100 * circles.best()[1]:>17.1f}  {1:>21.2f}")
    return "\n".join(lines)


def tuning(seeds: Sequence[int]) -> str:
    """The validation accuracy of every strength of every scheme."""
    points, label = circles.draw(SCORED, VALIDATION)
    lines = []
    tried = [(scheme, strength) for scheme in SCHEMES for strength in scheme.candidates]
    for scheme, strength in tqdm(tried, desc="strengths"):
        found = margins(scheme, strength, points, seeds, TUNING)
        score = boundary_plot.text(accuracies(found, label), 2)
        chosen = " chosen" if strength == scheme.strength else ""
        lines.append(f"{scheme.name:16}  {strength:6g}  {score:>14}{chosen}")
    return "\n".join(lines)


def main(output: str, seeds: int, tune: bool = False) -> None:
    """Trains all schemes, writes the figure and prints the table; or prints what `tune` asks for.

    Args:
      output: the figure's path; its folder exists.
      seeds: networks of each scheme.
      tune: whether to print every strength's validation accuracy instead.
    """
    try:
        if seeds < 1:
            raise ConfigError(f"--seeds={seeds}: at least 1 network a scheme is needed.")
        figure_file.check(output)
        if tune:
            print(tuning(range(1000, 1000 + seeds)))  # other initial weights than the figure's, too
            return
        panels = [run(scheme, range(seeds)) for scheme in tqdm(SCHEMES, desc="schemes")]
        print(table(panels))
        figure = boundary_plot.draw(panels, *circles.draw(TRAIN, TRAINING, 0), circles.best()[0])
        print(f"Written to {figure_file.write(figure, output)}")
    except ConfigError as error:
        commands.stop(error)


if __name__ == "__main__":
    # Here and not above, because other commands have flags of these names.
    flags.DEFINE_string("output", "decision_boundary.png", "The figure to write.")
    flags.DEFINE_integer("seeds", 20, "Networks of each scheme.")
    flags.DEFINE_bool("tune", False, "Only print every strength's validation accuracy.")
    commands.run(lambda: main(flags.FLAGS.output, flags.FLAGS.seeds, flags.FLAGS.tune))
