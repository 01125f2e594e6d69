"""An attack by random search, which looks at the network's answers and not at its gradient."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from regjax.attacks.ascent import BALLS, Best, check_norm, worse
from regjax.attacks.balls import L2, LInf
from regjax.attacks.threat import Target, aim, scalar
from regjax.core.batch import Batch, example_keys
from regjax.core.checks import check_count
from regjax.core.draws import uniform
from regjax.core.forward import Forward
from regjax.core.stages import Number

# The squares' share of the image at first, and after which thousandths of the steps it halves.
_SHARE = 0.8
_HALVED_AFTER = (1, 5, 20, 50, 100, 200, 400, 600, 800)


def square(
    forward: Forward,
    batch: Batch,
    key: jax.Array,
    *,
    epsilon: Number,
    steps: int = 1000,
    norm: str = "linf",
    low: float = 0.0,
    high: float = 1.0,
) -> jax.Array:
    """Square attack: changes within random squares, each kept where it raises the margin.

    In L-infinity it begins with vertical stripes, and a square's every channel moves to
    `x + epsilon` or `x - epsilon`. In L2 it begins with a grid of bumps, and moves what change
    there is in another square into a new bump. Squares shrink as `square_sides` says. See "Square
    Attack: a query-efficient black-box adversarial attack via random search" (Andriushchenko et
    al., 2020), algorithms 1 to 3. An image that is misled is not changed any more.

    Costs a forward pass in FLOPs a step at most: it ends where no image is left.

    Args:
      forward: the network (positional, as are `batch` and `key`).
      batch: as in `fgsm`, but with images `[B, H, W, K]`.
      key: draws the squares.
      epsilon: as in `pgd`.
      steps: how many changes are tried, static; AutoAttack tries 5,000.
      norm: `"linf"` or `"l2"`, static.
      low: as in `fgsm`.
      high: as in `fgsm`.

    Returns:
      `[B, H, W, K]` like the image, in float32 at least, in the ball up to rounding: of the largest
      margin that was found.

    Raises:
      TypeError: steps is no integer; the images or labels are not floating.
      ValueError: the norm is unknown, images are not `[B, H, W, K]`, steps is less than 1; and as
        in `fgsm`.

    Example:
      >>> import jax, jax.numpy as jnp, regjax as rj
      >>> forward = rj.from_function(lambda params, x: x.reshape(len(x), -1) @ params, jnp.eye(2))
      >>> batch = rj.Batch(jnp.array([0.6, 0.4]).reshape(1, 2, 1, 1), jnp.array([[1.0, 0.0]]))
      >>> image = rj.attacks.square(forward, batch, jax.random.key(0), epsilon=0.25)
      >>> print(image.round(4).ravel())
      [0.35 0.65]
    """
    check_count("steps", steps)
    check_norm("square", norm)
    target = aim("square", forward, batch, low, high)
    check_images("square", target)
    image = target.batch.image
    ball = BALLS[norm](image, scalar("epsilon", epsilon, image), low, high)
    return search(target, ball, key, (image, target.margins(image)), steps)[0]


def square_sides(steps: int, height: int, width: int) -> np.ndarray:
    """The side of each step's square, `[steps]` integers.

    It is `sqrt(p H W)`, rounded, of a share `p` that is 0.8 at first and halves after 0.1, 0.5, 2,
    5, 10, 20, 40, 60 and 80 percent of the steps.

    Example:
      >>> square_sides(1000, 32, 32)[[0, 100, 999]].tolist()
      [29, 7, 1]
    """
    thousandths = np.floor(np.arange(steps) / steps * 10_000) / 10
    halvings = np.sum(thousandths[:, None] > np.array(_HALVED_AFTER), axis=1)
    sides = np.rint(np.sqrt(_SHARE * 0.5**halvings * height * width)).astype(int)
    return np.clip(sides, 1, min(height, width))


def bump(side: int) -> np.ndarray:
    """Two heaps side by side, one of them negative, of norm 1: `[side, side]`; eq. 2 of the paper.

    Example:
      >>> bump(2).round(2).tolist()
      [[0.14, 0.69], [-0.14, -0.69]]
    """
    found = np.zeros((side, side))
    if side > 1:
        found[: side // 2] = _heap(side // 2, side)
    found[side // 2 :] = -_heap(side - side // 2, side)
    return found / np.linalg.norm(found)


def _heap(height: int, width: int) -> np.ndarray:
    """A sum of centred rectangles, each by 1 larger on all sides, the n-th as high as 1 / n^2."""
    found = np.zeros((height, width))
    y, x = height // 2, width // 2
    for n in range(max(y, x) + 1):
        found[max(y - n, 0) : y + n + 1, max(x - n, 0) : x + n + 1] += 1 / (n + 1) ** 2
    return found / np.linalg.norm(found)


def search(target: Target, ball: LInf | L2, key: jax.Array, best: Best, steps: int) -> Best:
    """The best of what is given and what the attack finds for what is not misled yet."""
    image = ball.image
    keys = example_keys(key, target.batch)
    _, height, width, channels = image.shape
    sides = square_sides(steps, height, width)
    if isinstance(ball, L2):
        sides = np.minimum(np.maximum(sides, 3) // 2 * 2 + 1, min(height, width))  # odd, as theirs
    distinct, which = np.unique(sides, return_inverse=True)
    bumps = jnp.asarray(_laid_out(distinct, height, width), image.dtype)
    start = _stripes(ball, keys) if isinstance(ball, LInf) else _grid(ball, keys)

    def step(carry: tuple[jax.Array, Best]) -> tuple[jax.Array, Best]:
        number, (x, margins) = carry
        drawn = uniform(jax.vmap(jax.random.fold_in, (0, None))(keys, number + 1), (5 + channels,))
        side = jnp.asarray(sides)[number]
        if isinstance(ball, LInf):
            tried = _recoloured(ball, x, side, drawn)
        else:
            tried = _moved(ball, x, side, bumps[jnp.asarray(which)[number]], drawn)
        tried = ball.project(tried)
        found = jnp.where(margins <= 0, target.margins(tried), -jnp.inf)
        return number + 1, worse((x, margins), tried, found)

    def goes_on(carry: tuple[jax.Array, Best]) -> jax.Array:
        return (carry[0] < steps) & jnp.any(carry[1][1] <= 0)

    first = jnp.where(best[1] <= 0, target.margins(start), jnp.inf)
    _, found = lax.while_loop(goes_on, step, (jnp.int32(0), (start, first)))
    return worse(best, found[0], jnp.where(best[1] <= 0, found[1], -jnp.inf))


def check_images(name: str, target: Target) -> None:
    """Refuses images that have no squares.

    Args:
      name: of the attack, for the error.
      target: with the batch.

    Raises:
      ValueError: at trace time, the images are not `[B, H, W, K]`.
    """
    shape = target.batch.image.shape
    if len(shape) != 4:
        raise ValueError(f"{name} needs images [B, H, W, K], but they are {list(shape)}.")


def _stripes(ball: LInf, keys: jax.Array) -> jax.Array:
    _, _, width, channels = ball.image.shape
    sign = _sign(uniform(keys, (1, width, channels)))
    return ball.project(ball.image + ball.epsilon * sign.astype(ball.image.dtype))


def _grid(ball: L2, keys: jax.Array) -> jax.Array:
    """Bumps of a fifth of the image, of random signs."""
    _, height, width, channels = ball.image.shape
    side = max(min(height, width) // 5, 1)
    down, across = height // side, width // side
    sign = _sign(uniform(keys, (down, across, channels))).repeat(side, 1).repeat(side, 2)
    move = sign * np.tile(bump(side), (down, across))[None, ..., None]
    rest = height - side * down, width - side * across
    before = [(r // 2, r - r // 2) for r in rest]
    move = jnp.pad(move, [(0, 0), *before, (0, 0)]).astype(ball.image.dtype)
    return ball.project(ball.image + ball.epsilon * ball.steepest(move))


def _recoloured(ball: LInf, x: jax.Array, side: jax.Array, drawn: jax.Array) -> jax.Array:
    sign = _sign(drawn[:, None, None, 5:]).astype(x.dtype)
    inside = _window(x, side, _corner(x, side, drawn[:, :2]))
    return jnp.where(inside, ball.image + ball.epsilon * sign, x)


def _moved(
    ball: L2, x: jax.Array, side: jax.Array, bumps: jax.Array, drawn: jax.Array
) -> jax.Array:
    move = x - ball.image
    to, source = (_corner(x, side, drawn[:, at]) for at in (slice(0, 2), slice(2, 4)))
    inside, emptied = _window(x, side, to), _window(x, side, source)
    shape = jnp.where(drawn[:, 4, None, None] < 0, bumps[:1], bumps[1:])
    shape = jax.vmap(lambda a, corner: jnp.roll(a, corner, (0, 1)))(shape, to)[..., None]
    old = jnp.where(inside, move, 0)
    new = shape * _sign(drawn[:, None, None, 5:]).astype(x.dtype) + _unit(old, (1, 2))
    left = jnp.maximum(ball.epsilon**2 - _square(move, (1, 2, 3)), 0) / x.shape[-1]
    budget = left + _square(jnp.where(inside | emptied, move, 0), (1, 2))
    move = jnp.where(emptied, 0, move)
    move = jnp.where(inside, _unit(new, (1, 2)) * jnp.sqrt(budget), move)
    return ball.image + ball.epsilon * ball.steepest(move)


def _laid_out(sides: np.ndarray, height: int, width: int) -> np.ndarray:
    """A bump of each side and its transpose in a corner of an image, `[S, 2, H, W]`."""
    found = np.zeros((len(sides), 2, height, width))
    for i, side in enumerate(sides):
        found[i, 0, :side, :side], found[i, 1, :side, :side] = bump(side), bump(side).T
    return found


def _corner(x: jax.Array, side: jax.Array, drawn: jax.Array) -> jax.Array:
    """Of a square that lies in the image, `[B, 2]`, of two draws in (-1, 1)."""
    room = jnp.asarray(x.shape[1:3])[None] - side + 1
    return jnp.floor((drawn + 1) / 2 * room).astype(jnp.int32)


def _window(x: jax.Array, side: jax.Array, corner: jax.Array) -> jax.Array:
    """Whether a pixel is in the square, `[B, H, W, 1]`."""
    down = jnp.arange(x.shape[1])[None, :, None, None] - corner[:, 0, None, None, None]
    across = jnp.arange(x.shape[2])[None, None, :, None] - corner[:, 1, None, None, None]
    return (down >= 0) & (down < side) & (across >= 0) & (across < side)


def _sign(drawn: jax.Array) -> jax.Array:
    return jnp.where(drawn < 0, -1, 1)


def _square(a: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    return jnp.sum(a**2, axis=axes, keepdims=True)


def _unit(a: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    norm = jnp.sqrt(_square(a, axes))
    return a / jnp.where(norm == 0, 1, norm)
