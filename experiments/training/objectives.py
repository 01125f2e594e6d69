"""Objectives of two players, by expressions: `wgan(clip=0.01)`, `acgan()`, `infogan()`."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from experiments import is_number
from experiments.training import adversarial
from regjax.core.calls import CallError, read_call

CODES = 2  # of infoGAN, beside its class
EACH_CLASS = "each_class"
# The numbers of each, with what they are where nobody says; `rate` is what the generator's learning
# rate is multiplied by.
WGAN = {"critic_steps": 5, "many": 100, "rate": 1.0}
NUMBERS: dict[str, dict[str, float]] = {
    "wgan": {"clip": 0.01, **WGAN},
    "cgan": {"rate": 1.0},
    "acgan": {"rate": 1.0},
    "infogan": {"weight": 1.0, "labels": 1.0, "rate": 5.0},
}
KNOWN = "wgan(clip=0.01), wgan(penalty=10.0), cgan(), acgan(), infogan(weight=1.0)"


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("numbers",),
    meta_fields=("name", "each_class"),
)
@dataclasses.dataclass(frozen=True)
class Objective:
    """What two players play for; a pytree of its numbers, which prints as its expression.

    Attributes:
      numbers: the numbers by name.
      name: "wgan", "cgan", "acgan" or "infogan".
      each_class: whether there is a pair of players for each class.
    """

    numbers: Mapping[str, Any]
    name: str
    each_class: bool = False

    def __repr__(self) -> str:
        """Returns what `parse` reads."""
        given = dict(self.numbers) | ({EACH_CLASS: True} if self.each_class else {})
        return f"{self.name}({', '.join(f'{n}={value!r}' for n, value in given.items())})"

    @property
    def of(self) -> str:
        """The part of the labels in the generator, see `generator.Generator`."""
        if self.each_class:
            return "networks"
        return "nothing" if self.name == "wgan" else "labels"

    @property
    def codes(self) -> int:
        """The last numbers of a latent that are codes."""
        return CODES if self.name == "infogan" else 0

    def outputs(self, classes: int) -> int:
        """The critic's outputs beside the first."""
        return {"acgan": classes, "infogan": classes + CODES}.get(self.name, 0)

    def maps(self, classes: int) -> int:
        """The constant maps beside an image that tell the critic its label."""
        return classes if self.name == "cgan" else 0

    @property
    def terms(self) -> tuple[str, ...]:
        """The names of a step's scalars."""
        own = ("distance",) if self.name == "wgan" else ()
        return ("total", "generator", *own, "gradient_norm")

    def critic(self, real: Any, fake: Any, label: jax.Array, codes: jax.Array) -> jax.Array:
        """The critic's loss by example, `[B]`, of its outputs `[B, 1 + M]`; no penalty yet."""
        if self.name == "wgan":
            return adversarial.wgan_critic(real, fake)
        loss = adversarial.gan_critic(real, fake)
        if self.name == "acgan":
            of_class = adversarial.class_loss(real, label) + adversarial.class_loss(fake, label)
            return loss + of_class
        if self.name == "infogan":
            loss = loss + self.numbers["weight"] * adversarial.code_loss(fake, label, codes)
            # A choice: without it the class of a code would be any.
            loss = loss + self.numbers["labels"] * adversarial.class_loss(real, label)
        return loss

    def generator(self, fake: Any, label: jax.Array, codes: jax.Array) -> jax.Array:
        """The generator's loss by example, `[B]`."""
        if self.name == "wgan":
            return adversarial.wgan_generator(fake)
        loss = adversarial.gan_generator(fake)
        if self.name == "acgan":
            return loss + adversarial.class_loss(fake, label)
        if self.name == "infogan":
            loss = loss + self.numbers["weight"] * adversarial.code_loss(fake, label, codes)
        return loss

    def due(self, taken: jax.Array) -> jax.Array | None:
        """The critic's steps before the generator's next; None where both always take one."""
        if self.name != "wgan":
            return None
        few, many = self.numbers["critic_steps"], self.numbers["many"]
        return adversarial.critic_steps(jnp.asarray(taken), few, many)


def parse(text: str) -> Objective:
    """The objective of an expression.

    Args:
      text: `wgan` with `clip=` or `penalty=`, the critic's steps `critic_steps=5` and those before
        the first 25 and every 500th step of the generator, `many=100` (with a penalty as many as
        others), and `each_class=True` for a pair of players of each class; `cgan()`, `acgan()`,
        `infogan(weight=1.0, labels=1.0)`. Each takes `rate=`, a factor of the generator's learning
        rate, which is 5 for infoGAN as in its program.

    Raises:
      ValueError: it is none of them, or takes no such arguments.

    Example:
      >>> parse("wgan(penalty=10.0)")
      wgan(penalty=10.0, critic_steps=5, many=5, rate=1.0)
    """
    try:
        name, given = read_call(text)
    except CallError as error:
        raise ValueError(f"the objective {text!r} cannot be read: write {KNOWN}.") from error
    if name not in NUMBERS:
        raise ValueError(f"unknown objective {text!r}; known are: {KNOWN}.")
    each = given.pop(EACH_CLASS, False)
    if type(each) is not bool or (each and name != "wgan"):
        raise ValueError(f"{EACH_CLASS} in {text!r} must be True or False, and is for wgan only.")
    return Objective(_numbers(text, name, given), name, each)


def _numbers(text: str, name: str, given: dict[str, Any]) -> dict[str, Any]:
    usual = dict(NUMBERS[name])
    if name == "wgan" and "penalty" in given:
        usual = {"penalty": 10.0, **WGAN, "many": given.get("critic_steps", 5)}
    for each in given:
        if each not in usual:
            both = " (a critic has a clip or a penalty)" if each == "clip" else ""
            raise ValueError(f"{text!r} takes {', '.join(usual)}, but not {each}{both}.")
    found = usual | given
    for each, value in found.items():
        steps = each in ("critic_steps", "many")
        right = is_number(value) and value > 0 and (type(value) is int or not steps)
        # Without its bound the information counts nothing, which is a GAN all the same.
        if not (right or (is_number(value) and value == 0 and each in ("weight", "labels"))):
            words = "a whole number above 0" if steps else "a positive number"
            raise ValueError(f"{each} in {text!r} must be {words}, not {value!r}.")
    return found
