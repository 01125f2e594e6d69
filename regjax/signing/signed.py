"""Images moved to where a network's features are larger: signed input regularization (SIGN)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from regjax.core.axes import varying_as
from regjax.core.checks import check_choice, check_scalar
from regjax.core.forward import Forward
from regjax.core.head_check import head_features
from regjax.core.precision import wide
from regjax.core.stages import Number

PLACES = ("iterate", "original")
REDUCTIONS = ("sum", "mean")
NORMS = ("rms", "l2", "max")

Clip = tuple[float, float] | str | None


class Signed(NamedTuple):
    """Images that `signed` moved, where several numbers of iterations are asked for, of each.

    Attributes:
      image: the moved images p*, `[B, ...]` or `[K, B, ...]`.
      delta: how far each pixel was moved, p* - p, of the same shape; not the difference of rounded
        images, so that steps far below a rounding error of p count.
      growth: the Euclidean norm of the last gradient divided by that of the first, `[B]` or
        `[K, B]`; 0 where there is none.
    """

    image: jax.Array
    delta: jax.Array
    growth: jax.Array

    @property
    def distance(self) -> jax.Array:
        """The mean of |p* - p| over each image's pixels, in the image's units, like `growth`."""
        return jnp.mean(jnp.abs(self.delta), axis=self._pixels)

    @property
    def negative(self) -> jax.Array:
        """The share of each image's pixels that are below 0, like `growth`."""
        return jnp.mean(self.image < 0, axis=self._pixels, dtype=self.delta.dtype)

    @property
    def _pixels(self) -> tuple[int, ...]:
        return tuple(range(self.growth.ndim, self.delta.ndim))


class _Move(NamedTuple):
    """Where a trajectory is, and what is kept of it, `[K, ...]`."""

    delta: jax.Array
    velocity: jax.Array
    first: jax.Array
    kept: jax.Array
    growth: jax.Array


def signed(
    forward: Forward,
    image: jax.Array,
    *,
    iterations: int | tuple[int, ...],
    step: Number = 1.0,
    at: str = "iterate",
    momentum: Number = 0.0,
    normalize: str | None = None,
    reduce: str = "sum",
    clip: Clip = None,
) -> Signed:
    """Images moved along the gradient of the sum of a network's features.

        d_k = sum_a grad Phi_a(p_k),   v_k = momentum v_(k-1) + d_k,   p_(k+1) = p_k + step v_k

    from `p_0 = p`, with Phi the last linear layer's input, by running averages and without dropout:
    each image by itself, without its label. See "Signed Input Regularization" (Asgari Taghanaki,
    Abhishek and Hamarneh, 2019), Algorithm 1, which has step 1 and no momentum.

    **The step decides everything, and depends on the pixels' units**: where a network's images are
    scaled by s, the same network needs the step times s^2. On pixels in [0, 1] a step of 1 leaves
    nothing of an image; `step=1/65025` is the paper's step in grey levels, from 0 to 255.

    All is one `lax.scan`, and several numbers of iterations share it. The sum over features is one
    pullback, so that an iteration costs about 2 times a forward pass in FLOPs.

    Args:
      forward: the network, with a head, so that its features are known (positional, as is `image`).
      image: `[B, ...]`, floating, in the units of the network's input.
      iterations: how many, at least 0, static; or several, at each of which the trajectory is kept.
      step: in units of the image, squared, by units of a feature.
      at: "iterate" takes the gradient where the image has come to, "original" always at p. Static.
      momentum: the share of the last move that is added to the next.
      normalize: None, or what each image's gradient is divided by: its root mean square "rms", its
        Euclidean norm "l2", its largest entry "max"; a gradient of 0 stays 0. The step is then in
        units of the image. Static.
      reduce: "sum" of the features, or their "mean". Static.
      clip: None, the bounds `(low, high)` of pixels after each iteration, or "relu" for those of at
        least 0. Static.

    Returns:
      A `Signed`, float32 at least; the image itself for 0 iterations.

    Raises:
      TypeError: iterations are no integers, or the image is not floating.
      ValueError: an iteration is negative or there is none, a choice is unknown, a number is no
        scalar, or the network does not return its features.

    Example:
      >>> import jax.numpy as jnp, regjax as rj
      >>> def network(kernel, x):
      ...     features = x**2 / 2
      ...     return features @ kernel, features
      >>> forward = rj.from_function(network, jnp.eye(2), head=lambda kernel: (kernel, None))
      >>> found = rj.signed(forward, jnp.ones((1, 2)), iterations=(0, 3), step=0.1)
      >>> print(found.image.round(3))
      [[[1.    1.   ]]
      <BLANKLINE>
       [[1.331 1.331]]]
    """
    counts = _counts(iterations)
    _check(image, at, normalize, reduce, clip)
    for name, number in (("step", step), ("momentum", momentum)):
        check_scalar(f"signed's {name}", number)
    start = wide(image)
    slope = _slope(forward, start, image.dtype, reduce)
    step, momentum = (jnp.asarray(each, start.dtype) for each in (step, momentum))
    original = slope(start) if at == "original" else None

    def advance(move: _Move, count: jax.Array) -> tuple[_Move, None]:
        gradient = slope(start + move.delta) if original is None else original
        size = _root(gradient)
        first = jnp.where(count == 1, size, move.first)
        velocity = momentum * move.velocity + _normalized(gradient, normalize)
        delta = move.delta + step * velocity
        if clip is not None:
            delta = _clipped(start + delta, clip) - start
        here = jnp.asarray(counts) == count
        kept, growth = (
            jnp.where(_column(here, new.ndim + 1), new[None], old)
            for new, old in ((delta, move.kept), (_ratio(size, first), move.growth))
        )
        return _Move(delta, velocity, first, kept, growth), None

    begin = _beginning(slope, start, len(counts))
    move, _ = lax.scan(advance, begin, jnp.arange(1, max(counts) + 1))
    moved = start[None] + move.kept
    if clip is not None:  # a sum may be beyond the bounds by rounding
        moved = jnp.where(
            _column(jnp.asarray(counts) == 0, moved.ndim), moved, _clipped(moved, clip)
        )
    found = Signed(moved, move.kept, move.growth)
    return Signed(*(x[0] for x in found)) if isinstance(iterations, int) else found


def _counts(iterations: int | tuple[int, ...]) -> tuple[int, ...]:
    counts = iterations if isinstance(iterations, tuple | list) else (iterations,)
    if not all(isinstance(n, int) and not isinstance(n, bool) for n in counts):
        raise TypeError(f"iterations must be a whole number, or several, got {iterations!r}.")
    if not counts or min(counts) < 0:
        raise ValueError(f"iterations must each be at least 0, got {iterations!r}.")
    return tuple(counts)


def _check(image: jax.Array, at: str, normalize: str | None, reduce: str, clip: Clip) -> None:
    if not jnp.issubdtype(image.dtype, jnp.floating):
        raise TypeError(
            f"signed moves floating images, but they are {image.dtype}: convert them first, for "
            "example with image.astype('float32') / 255."
        )
    check_choice("at", at, PLACES)
    check_choice("reduce", reduce, REDUCTIONS)
    if normalize is not None:
        check_choice("normalize", normalize, NORMS)
    bounds = isinstance(clip, tuple) and len(clip) == 2 and clip[0] < clip[1]
    if not (clip is None or clip == "relu" or bounds):
        raise ValueError(f"clip must be None, 'relu' or (low, high), but it is {clip!r}.")


def _slope(
    forward: Forward, like: jax.Array, dtype: Any, reduce: str
) -> Callable[[jax.Array], jax.Array]:
    """The function from images to the gradient of the sum of their features, in wide floats."""
    network = forward.frozen()

    def total(image: jax.Array) -> jax.Array:
        features = wide(head_features(network(image.astype(dtype))))
        share = 1 if reduce == "sum" else len(features) / features.size
        return share * jnp.sum(features)

    return lambda image: jax.grad(total)(image).astype(like.dtype)


def _beginning(slope: Callable[..., jax.Array], start: jax.Array, count: int) -> _Move:
    # Of the type that a gradient has, under shard_map too, so that a loop can carry it.
    zeros = varying_as(jnp.zeros_like(start), start)
    zeros = varying_as(zeros, jax.eval_shape(slope, start))
    each = jnp.sum(zeros, axis=tuple(range(1, zeros.ndim)))
    kept, growth = (jnp.broadcast_to(x[None], (count, *x.shape)) for x in (zeros, each))
    return _Move(zeros, zeros, each, kept, growth)


def _column(a: jax.Array, ndim: int) -> jax.Array:
    return a.reshape(-1, *[1] * (ndim - 1))


def _root(a: jax.Array) -> jax.Array:
    """Each image's Euclidean norm, `[B]`."""
    pixels = tuple(range(1, a.ndim))
    # Divided by the largest entry first, since squares of small gradients are 0 in float32.
    peak = jnp.max(jnp.abs(a), axis=pixels)
    square = jnp.sum((a / _column(_nonzero(peak), a.ndim)) ** 2, axis=pixels)
    return peak * jnp.sqrt(_nonzero(square))  # whose derivative at 0 is finite


def _normalized(a: jax.Array, by: str | None) -> jax.Array:
    if by is None:
        return a
    size = jnp.max(jnp.abs(a), axis=tuple(range(1, a.ndim))) if by == "max" else _root(a)
    if by == "rms":
        size = size / a[0].size ** 0.5
    return a / _column(_nonzero(size), a.ndim)


def _ratio(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.where(b == 0, 0, a / _nonzero(b))


def _nonzero(a: jax.Array) -> jax.Array:
    return jnp.where(a == 0, 1, a)


def _clipped(a: jax.Array, clip: Clip) -> jax.Array:
    return jnp.maximum(a, 0) if isinstance(clip, str) else jnp.clip(a, *(clip or (None, None)))
