"""SIGN as a regularizer: images that the network in training moves before it learns from them."""

from __future__ import annotations

from typing import Annotated

from jax import lax

from regjax.core.batch import Batch
from regjax.core.forward import Forward
from regjax.core.stages import Range, Share, Unbounded, wrapper
from regjax.signing.signed import Clip, signed


@wrapper
def sign(
    forward: Forward,
    batch: Batch,
    *,
    iterations: Annotated[int, Range(0)],
    step: Unbounded = 1.0,
    at: str = "iterate",
    momentum: Share = 0.0,
    normalize: str | None = None,
    reduce: str = "sum",
    clip: Clip = None,
) -> tuple[Forward, Batch]:
    """Every image of a batch, moved by the network that is being trained.

    `loss(p*, y)` with p* of `signed`, along the gradient of the sum of the network's features as
    they are at this step. This is not in the paper, "Signed Input Regularization" (Asgari Taghanaki
    et al., 2019), where a network that has been trained makes copies once, and another is trained
    on the originals too (`python -m experiments.sign`); here no first network is needed, and none
    of the images is left as it is. Nothing is differentiated through the move.

    When it helps: not known; to be compared with the paper's own way. Cost: about 2 forward passes
    an iteration, 0.7 of a plain step each.

    Args:
      loss: the loss to wrap (positional).
      iterations: how many, at least 0, as all that follows like `signed`.
      step: in the units of the network's input, squared; `normalize` makes it those of the input,
        which fits a network whose features are still growing.
      at: "iterate" or "original".
      momentum: the share of the last move that is added to the next.
      normalize: None, "rms", "l2" or "max".
      reduce: "sum" or "mean".
      clip: None, `(low, high)` or "relu".

    Returns:
      A `Loss`.

    Raises:
      ValueError: at trace time, a choice is unknown, or the network does not return its features.

    Example:
      >>> import regjax as rj
      >>> rj.sign(rj.cross_entropy(), iterations=2, step=0.01, normalize="rms")
      cross_entropy | sign(iterations=2, step=0.01, normalize='rms')
    """
    constant = forward.replace(params=lax.stop_gradient(forward.params))
    found = signed(
        constant,
        lax.stop_gradient(batch.image),
        iterations=iterations,
        step=step,
        at=at,
        momentum=momentum,
        normalize=normalize,
        reduce=reduce,
        clip=clip,
    )
    image = lax.stop_gradient(found.image).astype(batch.image.dtype)
    return forward, batch.replace(image=image)
