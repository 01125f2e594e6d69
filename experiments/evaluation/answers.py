"""What a network with a second head answers: probabilities averaged over samples of its logits."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

import regjax as rj
from experiments import ConfigError
from regjax.core.calls import read_named
from regjax.core.draws import normal
from regjax.losses.aleatoric import VARIANCES, deviations, sampled_log_probabilities

EXAMPLE = "aleatoric(samples=100, variance='log', measure='variance')"
MOST = 10_000  # samples
# From which all samples are drawn: of the run's seeds they are independent.
ROOT = 21


def entropy(log_p: jax.Array) -> jax.Array:
    """The entropy of each row of probabilities, `[B]`, nats, of their logarithms `[B, C]`."""
    # Zero times -inf would be NaN.
    return -jnp.sum(jnp.where(jnp.isneginf(log_p), 0.0, jnp.exp(log_p) * log_p), -1)


def _of_predicted(sigma: jax.Array, log_p: jax.Array) -> jax.Array:
    chosen = jnp.argmax(log_p, -1)[:, None]
    return jnp.take_along_axis(sigma**2, chosen, -1)[:, 0]


# Of deviations and of logarithms of probabilities, both `[B, C]`.
MEASURES: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
    "variance": lambda sigma, log_p: jnp.mean(sigma**2, -1),
    "std": lambda sigma, log_p: jnp.mean(sigma, -1),
    "max": lambda sigma, log_p: jnp.max(sigma**2, -1),
    "predicted": _of_predicted,
    "entropy": lambda sigma, log_p: entropy(log_p),
}


@dataclasses.dataclass(frozen=True)
class Sampled:
    """How answers are sampled of a network whose second head says its logits' variances.

    Attributes:
      samples: T, of each image.
      variance: "log" or "softplus", as in the loss, see `rj.aleatoric`.
      measure: the uncertainty, of an image's deviations over the classes: their mean square
        ("variance"), their mean ("std"), the largest square ("max"), the square of the predicted
        class's ("predicted"), or the "entropy" of the averaged probabilities, in nats.
    """

    samples: int = 100
    variance: str = "log"
    measure: str = "variance"

    def answer(self, outputs: rj.Outputs, batch: rj.Batch) -> tuple[jax.Array, jax.Array]:
        """The logarithms of the averaged probabilities, `[B, C]`, and the uncertainty `[B]`.

        Args:
          outputs: of the network.
          batch: whose examples' numbers the samples go by.

        Raises:
          ValueError: the network has no second head that fits.
        """
        logits = outputs.logits.astype(jnp.float32)
        sigma = jnp.broadcast_to(deviations(outputs, self.variance), logits.shape)
        keys = rj.example_keys(jax.random.key(ROOT), batch)
        noise = normal(keys, (self.samples, *logits.shape[1:]))
        log_p = sampled_log_probabilities(logits, sigma, noise)
        return log_p, MEASURES[self.measure](sigma, log_p)


def answer(
    sampled: Sampled | None, outputs: rj.Outputs, batch: rj.Batch
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """A network's logits, float32 `[B, C]`, and where they are sampled its "uncertainty" `[B]`."""
    if sampled is None:
        return outputs.logits.astype(jnp.float32), {}
    logits, uncertainty = sampled.answer(outputs, batch)
    return logits, {"uncertainty": uncertainty}


def read(text: str) -> Sampled | None:
    """Reads `config.uncertainty`; "" is None.

    Raises:
      ConfigError: it is no such expression.

    Example:
      `read("aleatoric(samples=50)") == Sampled(50, "log", "variance")`
    """
    if not text:
        return None
    try:
        name, given = read_named(text, "uncertainty", EXAMPLE)
        return _checked(name, given)
    except ValueError as error:
        raise ConfigError(f"config.uncertainty: {error}") from None


def _checked(name: str, given: dict[str, Any]) -> Sampled:
    known = [field.name for field in dataclasses.fields(Sampled)]
    if name != "aleatoric" or not set(given) <= set(known):
        raise ValueError(f"{name}({', '.join(given)}) is unknown; it is such as {EXAMPLE!r}.")
    found = Sampled(**given)
    if type(found.samples) is not int or not 1 <= found.samples <= MOST:
        raise ValueError(f"samples must be a whole number from 1 to {MOST}, not {found.samples!r}.")
    for option, choices in (("variance", VARIANCES), ("measure", tuple(MEASURES))):
        if getattr(found, option) not in choices:
            raise ValueError(f"{option} must be one of {choices}, not {getattr(found, option)!r}.")
    return found
