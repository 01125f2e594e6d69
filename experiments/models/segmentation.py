"""Networks with a class for each pixel: PSPNet and DeepLab-v3, as ISDA trains them (section 6.4).

"Pyramid Scene Parsing Network" (Zhao et al., 2017), "Rethinking Atrous Convolution for Semantic
Image Segmentation" (Chen et al., 2017), and `fcn`, a head without context, to compare with. As in
the authors' program, BatchNorm in the heads is followed by a leaky ReLU; its factor there is the
absolute value of the parameter, here it is the parameter.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from experiments.models import layers
from experiments.models.dilated import BACKBONES, PUBLISHED
from regjax.core.resizing import RESIZINGS, resized

BINS = (1, 2, 3, 6)
DILATIONS = (12, 24, 36)
DROPOUT = 0.1
SLOPE = 0.01


def conv(
    channels: int, filters: int, size: int, rngs: nnx.Rngs, *, dilation: int = 1, bias: bool = False
) -> nnx.Conv:
    """A convolution with equal padding that starts as torch's."""
    edge = (dilation * (size // 2),) * 2
    bound = (channels * size**2) ** -0.5

    def bias_init(key: jax.Array, shape: Any, dtype: Any = jnp.float32, **_: Any) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return layers.Conv(
        channels,
        filters,
        (size, size),
        padding=(edge, edge),
        kernel_dilation=dilation,
        use_bias=bias,
        kernel_init=layers.TORCH,
        bias_init=bias_init,
        rngs=rngs,
    )


class Activated(nnx.Module):
    """A convolution, BatchNorm and a leaky ReLU."""

    def __init__(self, channels: int, filters: int, size: int, *, rngs: nnx.Rngs, **options: Any):
        self.conv = conv(channels, filters, size, rngs, **options)
        self.norm = layers.residual_norm(filters, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, filters] of x [B, H, W, channels]."""
        return nnx.leaky_relu(self.norm(self.conv(x)), SLOPE)


class Pyramid(nnx.Module):
    """Pyramid pooling: means over 1, 4, 9 and 36 windows beside the features themselves."""

    def __init__(self, channels: int, width: int, resizing: str, *, rngs: nnx.Rngs):
        filters, self.resizing = 8 * width, resizing
        self.parts = nnx.List([Activated(channels, filters, 1, rngs=rngs) for _ in BINS])
        self.last = Activated(channels + len(BINS) * filters, filters, 3, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Features [B, h, w, 8 width] of x [B, h, w, channels]."""
        size, parts = (x.shape[1], x.shape[2]), []
        for bins, part in zip(BINS, self.parts, strict=True):
            parts.append(resized(part(adaptive_means(x, bins)), size, self.resizing))
        return self.last(jnp.concatenate([*parts, x], -1))


class AtrousPyramid(nnx.Module):
    """Atrous spatial pyramid pooling: the image's mean, 1 x 1, and 3 x 3 with three gaps."""

    def __init__(self, channels: int, width: int, resizing: str, *, rngs: nnx.Rngs):
        part = functools.partial(Activated, channels, 4 * width, rngs=rngs)
        self.whole, self.near = part(1), part(1)
        self.parts = nnx.List([part(3, dilation=gap) for gap in DILATIONS])
        self.last = Activated((2 + len(DILATIONS)) * 4 * width, 8 * width, 1, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Features [B, h, w, 8 width] of x [B, h, w, channels]."""
        near = self.near(x)
        whole = jnp.broadcast_to(self.whole(adaptive_means(x, 1)), near.shape)
        return self.last(jnp.concatenate([whole, near, *(part(x) for part in self.parts)], -1))


class Plain(nnx.Module):
    """A 3 x 3 convolution, which sees nothing of the rest of the image."""

    def __init__(self, channels: int, width: int, resizing: str, *, rngs: nnx.Rngs):
        del resizing
        self.last = Activated(channels, 8 * width, 3, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Features [B, h, w, 8 width] of x [B, h, w, channels]."""
        return self.last(x)


class Auxiliary(nnx.Module):
    """A second classifier, of the stage before the last."""

    def __init__(self, channels: int, width: int, classes: int, *, rngs: nnx.Rngs):
        self.hidden = Activated(channels, 8 * width, 3, bias=True, rngs=rngs)
        self.dropout = nnx.Dropout(DROPOUT, broadcast_dims=(1, 2), rngs=rngs)
        self.head = conv(8 * width, classes, 1, rngs, bias=True)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits [B, h, w, C] of x [B, h, w, channels]."""
        return self.head(self.dropout(self.hidden(x)))


class Segmenter(nnx.Module):
    """A backbone, what sees its features at many scales, and a 1 x 1 convolution; then enlarged.

    Its logits [B, H, W, C] are those of "head" at the features' h x w, enlarged to the image, and
    so are those of "auxiliary.head". Layers for taps: "input", "backbone.stages.0" to
    "backbone.stages.3", "context".

    Args:
      image_shape: (height, width, channels).
      classes: number of logits.
      context: `Pyramid`, `AtrousPyramid` or `Plain`.
      backbone: "resnet101" as published, "resnet50", "resnet18" or "mobilenet_v2".
      width: 64 as published, of which all channels are multiples.
      auxiliary: whether there is a second classifier.
      resizing: how logits are enlarged: "align_corners" as published, or "half_pixel".
      rngs: source of the initial parameters.

    Raises:
      ValueError: there is no such backbone or convention.
    """

    head_name = "head"

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        classes: int,
        *,
        context: Callable[..., nnx.Module],
        backbone: str = "resnet101",
        width: int = PUBLISHED,
        auxiliary: bool = True,
        resizing: str = "align_corners",
        rngs: nnx.Rngs,
    ):
        for name, given, known in (
            ("backbone", backbone, tuple(BACKBONES)),
            ("resizing", resizing, RESIZINGS),
        ):
            if given not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, but it is {given!r}.")
        self.resizing = resizing
        self.backbone = BACKBONES[backbone](image_shape[-1], width=width, rngs=rngs)
        third, fourth = self.backbone.widths
        self.context = context(fourth, width, resizing, rngs=rngs)
        self.dropout = nnx.Dropout(DROPOUT, broadcast_dims=(1, 2), rngs=rngs)
        self.head = conv(8 * width, classes, 1, rngs, bias=True)
        self.auxiliary = Auxiliary(third, width, classes, rngs=rngs) if auxiliary else None
        self.auxiliary_names = ("auxiliary.head",) if auxiliary else ()

    def __call__(self, x: jax.Array) -> tuple[jax.Array, None, tuple[jax.Array, ...]]:
        """Logits [B, H, W, C] of images x [B, H, W, K], and the second classifier's."""
        third, fourth = self.backbone(x)
        logits = [self.head(self.dropout(self.context(fourth)))]
        if self.auxiliary is not None:
            logits.append(self.auxiliary(third))
        main, *others = (resized(z, (x.shape[1], x.shape[2]), self.resizing) for z in logits)
        return main, None, tuple(others)


def adaptive_means(x: jax.Array, bins: int) -> jax.Array:
    """Means [B, bins, bins, K] of x [B, H, W, K] over windows, which overlap where they must.

    Window i of n pixels reaches from `floor(i n / bins)` to before `ceil((i + 1) n / bins)`.

    Example:
      `adaptive_means(x, 2)` of 3 pixels a side: the first two, and the last two
    """
    rows, columns = (jnp.asarray(_windows(n, bins), x.dtype) for n in x.shape[1:3])
    x = jnp.einsum("Hh,bhwk->bHwk", rows, x, precision="highest")
    return jnp.einsum("Ww,bhwk->bhWk", columns, x, precision="highest")


def _windows(n: int, bins: int) -> np.ndarray:
    i, pixel = np.arange(bins)[:, None], np.arange(n)[None]
    inside = (pixel >= i * n // bins) & (pixel < -(-(i + 1) * n // bins))
    return inside / inside.sum(1, keepdims=True)


pspnet = functools.partial(Segmenter, context=Pyramid)
deeplab_v3 = functools.partial(Segmenter, context=AtrousPyramid)
fcn = functools.partial(Segmenter, context=Plain)
