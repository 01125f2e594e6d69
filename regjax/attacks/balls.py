"""The images that an attack may return: a ball around each image, cut off at the bounds."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from regjax.core.draws import normal, uniform

# Of images of 3,072 pixels, most of them at a bound, four find the step to rounding.
_NEWTON_STEPS = 8


@dataclasses.dataclass(frozen=True)
class LInf:
    """The images within `epsilon` of `image` in every pixel, and within the bounds."""

    image: jax.Array
    epsilon: jax.Array
    low: float
    high: float

    def start(self, keys: jax.Array) -> jax.Array:
        """Uniform in the ball, `[B, ...]`, then clipped to the bounds; one key an example."""
        move = self.epsilon * uniform(keys, self.image.shape[1:])
        return self.project(self.image + move.astype(self.image.dtype))

    def steepest(self, gradient: jax.Array) -> jax.Array:
        """The step of size 1 along which the loss rises most."""
        return jnp.sign(gradient)

    def project(self, image: jax.Array) -> jax.Array:
        """The nearest image of the set."""
        lowest = jnp.maximum(self.image - self.epsilon, self.low)
        return jnp.clip(image, lowest, jnp.minimum(self.image + self.epsilon, self.high))


@dataclasses.dataclass(frozen=True)
class L2:
    """The images within the Euclidean distance `epsilon` of `image`, and within the bounds."""

    image: jax.Array
    epsilon: jax.Array
    low: float
    high: float

    def start(self, keys: jax.Array) -> jax.Array:
        """Uniform in the ball, `[B, ...]`, then clipped to the bounds; one key an example."""
        shape = self.image.shape[1:]
        to_direction, to_radius = jnp.moveaxis(jax.vmap(jax.random.split)(keys), 1, 0)
        # The volume within radius r of n dimensions is r^n.
        radius = jnp.abs(uniform(to_radius, (1,))) ** (1 / self.image[0].size)
        direction = unit(normal(to_direction, shape))
        move = self.epsilon * _rows(radius, direction) * direction
        return jnp.clip(self.image + move.astype(self.image.dtype), self.low, self.high)

    def steepest(self, gradient: jax.Array) -> jax.Array:
        """The step of size 1 along which the loss rises most."""
        return unit(gradient)

    def project(self, image: jax.Array) -> jax.Array:
        """The nearest image of the set.

        Clipping what lies on the ball to the bounds, as is usual, ends inside the ball and wastes
        a part of epsilon. The nearest image is `clip(t move)` with the largest `t <= 1` that keeps
        it in the ball. Its squared norm is increasing, concave and piecewise linear in `t^2`, so
        that Newton's method comes from below, and every iterate is in the set.
        """
        move = image - self.image
        size = jnp.abs(move)
        edge = jnp.where(move > 0, self.high - self.image, self.image - self.low)
        budget = jnp.square(self.epsilon)

        def newton(_: int, square: jax.Array) -> jax.Array:
            free = jnp.sqrt(square) * size < edge
            slope = _sum(jnp.where(free, size**2, 0))
            left = budget - _sum(jnp.where(free, 0, edge**2))
            return jnp.clip(jnp.where(slope == 0, 1, left / _nonzero(slope)), square, 1)

        whole = _sum(size**2)
        square = jnp.where(whole == 0, 1, jnp.minimum(1, budget / _nonzero(whole)))
        square = jax.lax.fori_loop(0, _NEWTON_STEPS, newton, square)
        kept = jnp.clip(jnp.sqrt(square) * move, self.low - self.image, self.high - self.image)
        norm = jnp.sqrt(_sum(kept**2))  # above epsilon by rounding only
        kept = kept * jnp.where(norm > self.epsilon, self.epsilon / _nonzero(norm), 1)
        return jnp.clip(self.image + kept, self.low, self.high)


def unit(a: jax.Array) -> jax.Array:
    """Each example's array divided by its Euclidean norm; 0 stays 0.

    Example:
      >>> unit(jnp.array([[3e-30, 4e-30], [0.0, 0.0]])).round(3).tolist()
      [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """
    # Divided by the largest entry first, since squares of tiny gradients are 0 in float32.
    a = a / _nonzero(jnp.max(jnp.abs(a), axis=tuple(range(1, a.ndim)), keepdims=True))
    return a / _nonzero(jnp.sqrt(_sum(a**2)))


def _sum(a: jax.Array) -> jax.Array:
    """Each example's sum, `[B, 1, ...]`."""
    return jnp.sum(a, axis=tuple(range(1, a.ndim)), keepdims=True)


def _rows(values: jax.Array, like: jax.Array) -> jax.Array:
    return values.reshape(-1, *[1] * (like.ndim - 1))


def _nonzero(a: jax.Array) -> jax.Array:
    return jnp.where(a == 0, 1, a)
