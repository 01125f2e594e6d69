"""The random factors of Shake-Shake and ShakeDrop, other ones backward than forward.

What is drawn are factors: a value is multiplied by one, its derivative by another,
`y = stop_gradient((a - b) h) + b h`. So a derivative of any order is that of the network with the
backward factors, at the values that the forward factors gave: the first one is what the papers
define, and a penalty on gradients differentiates the very gradients that the papers train by.

Draws are made for each image of a batch, from the network's dropout key, the layer and the image's
row of the whole batch: see `experiments.rows` for what is the same on any number of devices.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from experiments import rows


@jax.custom_jvp
def scaled(h: jax.Array, forward: jax.Array, backward: jax.Array) -> jax.Array:
    """`forward h`, of which the derivative is `backward`, whatever the order.

    Args:
      h: `[B, ...]`.
      forward: `[B]`, no derivative is taken of it.
      backward: `[B]`, nor of this.

    Returns:
      `[B, ...]`, of h's dtype.

    Example:
      `jax.grad(lambda h: scaled(h, jnp.ones(1), jnp.zeros(1)).sum())(jnp.ones((1, 2)))`, all 0
    """
    del backward  # it is for the derivative
    return _rows(forward, h) * h


@scaled.defjvp
def _derivative(
    primals: tuple[jax.Array, ...], tangents: tuple[jax.Array, ...]
) -> tuple[jax.Array, jax.Array]:
    h, _, backward = primals
    return scaled(*primals), _rows(backward, h) * tangents[0]


class _Draws(nnx.Module):
    """What draws for each image of a batch in training, and for none in evaluation."""

    def __init__(self, number: int, *, rngs: nnx.Rngs):
        self.number = number
        self.deterministic = False
        self.stream = rngs["dropout"].fork()

    def set_view(self, deterministic: bool | None = None) -> None:
        """Serves `nnx.view`."""
        self.deterministic = self.deterministic if deterministic is None else deterministic

    def draws(self, size: int, count: int) -> tuple[jax.Array, ...]:
        """So many draws from U(0, 1) for every image, each `[B]`."""
        keys = rows.keys(self.stream, self.number, size)
        drawn = jax.vmap(lambda key: jax.random.uniform(key, (count,)))(keys)
        return tuple(drawn[:, i] for i in range(count))


class ShakeShake(_Draws):
    """Two branches, mixed at random ("Shake-Shake regularization", Gastaldi, 2017).

    `a h1 + (1 - a) h2` in training, with derivatives by `b` in place of `a`, both from U(0, 1), one
    of each for every image ("Shake-Shake-Image"); the mean of both branches in evaluation.

    Args:
      number: which of a network's layers with draws this is.
      rngs: its stream `dropout` is what is drawn from.
    """

    def __call__(self, h1: jax.Array, h2: jax.Array) -> jax.Array:
        """The mixture [B, ...] of h1 [B, ...] and h2 [B, ...]."""
        if self.deterministic:
            return (h1 + h2) / 2
        a, b = self.draws(len(h1), 2)
        return scaled(h1, a, b) + scaled(h2, 1 - a, 1 - b)


class ShakeDrop(_Draws):
    """A branch that is now and then scaled ("ShakeDrop regularization", Yamada et al., 2019).

    With probability `rate` the branch is multiplied by `a` from U(-1, 1), and its derivative by `b`
    from U(0, 1), each drawn for every image; otherwise it is as it is. In evaluation it is
    multiplied by its mean, `1 - rate`.

    Args:
      number: which of a network's layers with draws this is.
      rate: probability of being scaled.
      one_for_all: whether all images of a batch are scaled, or none; otherwise each by itself.
      rngs: its stream `dropout` is what is drawn from.
    """

    def __init__(self, number: int, rate: float, *, one_for_all: bool = False, rngs: nnx.Rngs):
        super().__init__(number, rngs=rngs)
        self.rate, self.one_for_all = rate, one_for_all

    def __call__(self, h: jax.Array) -> jax.Array:
        """The branch [B, ...] of h [B, ...]."""
        if self.deterministic:
            return (1 - self.rate) * h
        u, a, b = self.draws(len(h), 3)
        if self.one_for_all:
            u = jax.random.uniform(rows.shared(self.stream, self.number))
        kept = u >= self.rate
        return scaled(h, jnp.where(kept, 1, 2 * a - 1), jnp.where(kept, 1, b))


def _rows(factor: jax.Array, h: jax.Array) -> jax.Array:
    """A factor [B] as one of h [B, ...]."""
    return factor.astype(h.dtype).reshape(-1, *(1,) * (h.ndim - 1))
