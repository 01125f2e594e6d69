"""Noisy Feature Mixup's loss against its expansion, as mixing and noise shrink together: a figure.

    python -m experiments.gallery.nfm_expansion --output=nfm_expansion.png

A network with two hidden layers of three numbers, small enough for the mean over the noise to be
exact (Gauss's rules, float64), is trained on the points of `data/circles.py`. In each of its layers
the expected loss is compared with the expansion of `regjax/mixing/expansion.py`, at strengths
`1 - lambda = s_add = s_mult = epsilon`. Left, what the expansion leaves out must fall with the
third power of epsilon, with the second if only the terms of first order are taken; right, how large
the terms are.
"""

from __future__ import annotations

import functools
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags
from flax import nnx
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import regjax as rj
import regjax.flax
from experiments import ConfigError
from experiments.data import circles, spec
from experiments.gallery import figure_file
from experiments.report.plots import COLOURS, MARKERS
from experiments.runs import commands
from experiments.training import steps
from experiments.training.descent import Descent
from experiments.training.task import Rows
from regjax.mixing.expansion import NoisyFeatureMixupTerms, noisy_feature_mixup_expansion, split_at

WIDTH, TRAIN, STEPS, RATE = 3, 300, 500, 0.02
LAYERS, EXAMPLES = ("input", "hidden1", "hidden2"), 16
EPSILONS = np.geomspace(0.001, 0.2, 11)
SHOWN = 0.1  # the epsilon of the right panel and of the table


class Hidden(nnx.Module):
    """A layer with a smooth nonlinearity: the expansion takes second derivatives."""

    def __init__(self, inputs: int, *, rngs: nnx.Rngs):
        self.linear = nnx.Linear(inputs, WIDTH, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Features [B, WIDTH] of x [B, inputs]."""
        return jnp.tanh(self.linear(x))


class Network(nnx.Module):
    """Two hidden layers."""

    def __init__(self, *, rngs: nnx.Rngs):
        self.hidden1, self.hidden2 = Hidden(2, rngs=rngs), Hidden(WIDTH, rngs=rngs)
        self.head = nnx.Linear(WIDTH, 2, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits [B, 2] of points x [B, 2]."""
        return self.head(self.hidden2(self.hidden1(x)))


class Measured(NamedTuple):
    """What is found in one layer.

    Attributes:
      terms: the terms of the expansion, for strengths of 1.
      expected: the expected loss at each of EPSILONS.
    """

    terms: NoisyFeatureMixupTerms
    expected: np.ndarray

    def remainder(self, order: int = 2) -> np.ndarray:
        """The size of what the terms of up to first or second order leave out, at each epsilon."""
        first = self.terms.loss + EPSILONS * self.terms.mixing_first
        second = EPSILONS**2 * sum(self.terms[2:])
        return np.abs(self.expected - first - (second if order == 2 else 0.0))

    def rate(self, order: int = 2) -> float:
        """The power of epsilon with which it falls, from the smaller half of the epsilons."""
        small = slice(len(EPSILONS) // 2 + 1)
        return float(
            np.polyfit(np.log(EPSILONS[small]), np.log(self.remainder(order)[small]), 1)[0]
        )


def trained() -> tuple[rj.Forward, rj.Batch]:
    """The network after training, and some of the examples that it was trained on."""

    def build(key: jax.Array) -> rj.Forward:
        return regjax.flax.bind(Network(rngs=nnx.Rngs(key)), head="head")

    points, label = circles.draw(TRAIN, 0)
    data = {"image": jnp.asarray(points), "label": jnp.asarray(label)}
    point = spec.of_arrays(data, 2, ("0", "1"), "test").example
    task = Descent(build, optax.adam(RATE), lambda points: points, 2, point)
    loss, seed = jax.tree.map(np.float32, rj.cross_entropy()), jnp.uint32(0)
    run = jax.jit(functools.partial(steps.advance, task, data))
    index = np.tile(np.arange(TRAIN, dtype=np.int32), (STEPS, 1))
    rows = Rows(index, np.ones(index.shape, np.float32))
    state, _, _ = run(np.int32(STEPS), task.init(seed, loss), loss, seed, rows)
    forward = task.forward(state.params, state.model_state)
    examples = jax.tree.map(lambda x: x[:EXAMPLES], data)
    return forward, rj.Batch(examples["image"], jax.nn.one_hot(examples["label"], 2))


def expected_loss(
    forward: rj.Forward, batch: rj.Batch, layer: str, epsilon: jax.Array
) -> jax.Array:
    """The expected loss over all pairs of examples and all noise, by its definition.

    Gauss's rules with three nodes are exact for polynomials of fifth degree in each number of the
    noise, so that the error is of sixth order in epsilon.
    """
    h, after = split_at(forward, batch, layer)
    size, width = h.shape
    u, z, weight = (jnp.asarray(a) for a in _nodes(width))

    def of_partners(shift: jax.Array) -> jax.Array:
        partner = (jnp.arange(size) + shift) % size
        mixed, label = ((1 - epsilon) * a + epsilon * a[partner] for a in (h, batch.label))
        noisy = (1 + epsilon * u[:, None]) * mixed[None] + epsilon * z[:, None]
        log_p = jax.nn.log_softmax(jax.vmap(after)(noisy))
        return weight @ -jnp.mean(jnp.sum(label[None] * log_p, -1), -1)

    return jnp.mean(jax.lax.map(of_partners, jnp.arange(size)))


def _nodes(width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values of U and Z, both `[Q, width]`, and their shares `[Q]`."""
    uniform, normal = np.polynomial.legendre.leggauss(3), np.polynomial.hermite_e.hermegauss(3)
    rules = [uniform] * width + [normal] * width
    value, weight = (np.array(list(itertools.product(*each))) for each in zip(*rules, strict=True))
    share = weight.prod(1)
    return value[:, :width], value[:, width:], share / share.sum()


def measure() -> dict[str, Measured]:
    """Trains, and compares in every layer."""
    forward, batch = trained()
    with jax.enable_x64(True):
        forward, batch = jax.tree.map(lambda x: jnp.asarray(x, float), (forward, batch))
        return {layer: _measure(forward, batch, layer) for layer in LAYERS}


def _measure(forward: rj.Forward, batch: rj.Batch, layer: str) -> Measured:
    @jax.jit
    def run(epsilons: jax.Array) -> tuple[NoisyFeatureMixupTerms, jax.Array]:
        terms = noisy_feature_mixup_expansion(forward, batch, layer)
        return terms, jax.lax.map(lambda e: expected_loss(forward, batch, layer, e), epsilons)

    terms, expected = run(EPSILONS)
    return Measured(jax.tree.map(float, terms), np.asarray(expected))


def at_shown(terms: NoisyFeatureMixupTerms) -> dict[str, float]:
    """The terms but for the loss itself, by name, at the epsilon that is shown."""
    strong = terms.at(mixing=SHOWN, add=SHOWN, multiply=SHOWN)
    return {name.replace("_", ", "): float(v) for name, v in strong._asdict().items()}


def table(found: dict[str, Measured]) -> str:
    """Terms at the epsilon that is shown, in nats, and the rates, by layer."""
    lines = [f"{f'epsilon {SHOWN:g}':22}" + "".join(f"{layer:>12}" for layer in found)]
    columns = [at_shown(measured.terms) for measured in found.values()]
    for name in columns[0]:
        lines.append(f"{name:22}" + "".join(f"{column[name]:12.6f}" for column in columns))
    for order, name in ((2, "remainder's rate"), (1, "with first order only")):
        rates = (f"{measured.rate(order):12.2f}" for measured in found.values())
        lines.append(f"{name:22}" + "".join(rates))
    return "\n".join(lines)


def draw(found: dict[str, Measured]) -> Figure:
    """Both panels."""
    figure = Figure(figsize=(12, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    _remainders(left, found)
    _terms(right, found)
    return figure


def _remainders(axes: Axes, found: dict[str, Measured]) -> None:
    for order, line in ((1, ":"), (2, "-")):
        for (layer, measured), colour, marker in zip(found.items(), COLOURS, MARKERS, strict=False):
            name = f"{layer}, {('first', 'second')[order - 1]} order"
            style: dict[str, Any] = {
                "color": colour,
                "marker": marker,
                "linestyle": line,
                "markersize": 4,
            }
            axes.plot(EPSILONS, measured.remainder(order), label=name, **style)
    _guide(axes, 2, 4 * max(measured.remainder(1)[0] for measured in found.values()))
    _guide(axes, 3, min(measured.remainder(2)[0] for measured in found.values()) / 4)
    axes.set(xscale="log", yscale="log", xlabel="epsilon", ylabel="|loss - expansion| (nats)")
    axes.set_title("what the expansion leaves out")
    axes.legend(fontsize=8, frameon=False, loc="lower right")


def _guide(axes: Axes, power: int, start: float) -> None:
    """A line of that slope, with its name on its first half."""
    values = start * (EPSILONS / EPSILONS[0]) ** power
    axes.plot(EPSILONS, values, color="grey", linewidth=0.8)
    quarter = (EPSILONS[2], values[2])
    shift, side = ((-8, 4), "right") if power == 2 else ((8, -8), "left")
    axes.annotate(f"slope {power}", quarter, shift, textcoords="offset points", ha=side, fontsize=8)


def _terms(axes: Axes, found: dict[str, Measured]) -> None:
    height = 0.8 / len(found)
    for place, (layer, measured) in enumerate(found.items()):
        values = at_shown(measured.terms)
        values.pop("loss")
        rows = np.arange(len(values)) + (place - (len(found) - 1) / 2) * height
        axes.barh(rows, list(values.values()), height, color=COLOURS[place], label=layer)
        axes.set_yticks(range(len(values)), list(values))
    axes.axvline(0, color="black", linewidth=0.8)
    axes.invert_yaxis()
    axes.set_xlabel(f"nats, at epsilon = {SHOWN:g}")
    axes.set_title("the terms")
    axes.legend(fontsize=8, frameon=False)


def main(output: str) -> None:
    """Measures, writes the figure and prints the table."""
    try:
        figure_file.check(output)
        found = measure()
        print(table(found))
        print(f"Written to {figure_file.write(draw(found), output)}")
    except ConfigError as error:
        commands.stop(error)


if __name__ == "__main__":
    # Here and not above, because other commands have flags of these names.
    flags.DEFINE_string("output", "nfm_expansion.png", "The figure to write.")
    commands.run(lambda: main(flags.FLAGS.output))
