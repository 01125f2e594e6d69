"""The ResNets for CIFAR, as ISDA trains them ("Deep Residual Learning", He et al., 2016, 4.2).

Also with "Squeeze-and-Excitation" (Hu et al., 2018).
"""

import functools

import jax
import jax.numpy as jnp
from flax import nnx

from experiments.models import layers
from experiments.models.layers import residual_conv, residual_norm

STAGES = ((16, 1), (32, 2), (64, 2))  # filters, stride
REDUCTION = 16  # channels for each one of the narrow layer between squeeze and excitation


class SqueezeExcitation(nnx.Module):
    """Channels scaled by a number from 0 to 1, which their means over the image decide.

    Two linear layers without bias, ReLU between them and a sigmoid behind, as in the ISDA authors'
    program; they start as torch's do.
    """

    def __init__(self, channels: int, *, rngs: nnx.Rngs):
        narrow = channels // REDUCTION
        linear = functools.partial(
            layers.Linear, use_bias=False, kernel_init=layers.TORCH, rngs=rngs
        )
        self.squeeze = linear(channels, narrow)
        self.excite = linear(narrow, channels)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Scaled features [B, H, W, channels] of x [B, H, W, channels]."""
        h = nnx.relu(self.squeeze(jnp.mean(x, axis=(1, 2), keepdims=True)))
        return x * nnx.sigmoid(self.excite(h))


class BasicBlock(nnx.Module):
    """Two 3 x 3 convolutions, and a shortcut, 1 x 1 where the shape changes; ReLU comes last."""

    def __init__(
        self,
        channels: int,
        filters: int,
        stride: int,
        *,
        dropout: float = 0.0,
        excited: bool = False,
        dilation: int = 1,
        rngs: nnx.Rngs,
    ):
        self.conv1 = residual_conv(channels, filters, 3, stride, rngs, dilation=dilation)
        self.norm1 = residual_norm(filters, rngs)
        self.conv2 = residual_conv(filters, filters, 3, 1, rngs, dilation=dilation)
        self.norm2 = residual_norm(filters, rngs)
        self.project = stride != 1 or channels != filters
        if self.project:
            self.shortcut = residual_conv(channels, filters, 1, stride, rngs)
            self.shortcut_norm = residual_norm(filters, rngs)
        self.dropout = nnx.Dropout(dropout, rngs=rngs) if dropout else None
        self.excitation = SqueezeExcitation(filters, rngs=rngs) if excited else None

    def __call__(self, x: jax.Array) -> jax.Array:
        """Features [B, H / stride, W / stride, filters] of x [B, H, W, channels]."""
        h = nnx.relu(self.norm1(self.conv1(x)))
        h = h if self.dropout is None else self.dropout(h)
        h = self.norm2(self.conv2(h))
        h = h if self.excitation is None else self.excitation(h)
        return nnx.relu(h + (self.shortcut_norm(self.shortcut(x)) if self.project else x))


class CifarResNet(nnx.Module):
    """Three stages of basic blocks with 16, 32 and 64 filters, strides 1, 2 and 2.

    The shortcuts that change the shape are 1 x 1 convolutions with BatchNorm, as in the ISDA
    authors' program; He et al. subsample and pad with zeros. Also as there, the linear layer starts
    as torch's does. Layers for taps: "input", "stages.0", "stages.1", "stages.2".

    Args:
      image_shape: (height, width, channels).
      classes: number of logits.
      depth: 6 n + 2 layers with weights, for n blocks a stage.
      dropout: rate between the convolutions of a block, after the ReLU; ISDA's is 0.3.
      excited: whether a block ends with squeeze and excitation before its addition.
      rngs: source of the initial parameters.

    Raises:
      ValueError: the depth is not 6 n + 2.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        classes: int,
        *,
        depth: int,
        dropout: float = 0.0,
        excited: bool = False,
        rngs: nnx.Rngs,
    ):
        blocks, rest = divmod(depth - 2, 6)
        if blocks < 1 or rest:
            raise ValueError(f"a ResNet for CIFAR has 6 n + 2 layers, not {depth}.")
        block = functools.partial(BasicBlock, dropout=dropout, excited=excited, rngs=rngs)
        self.conv = residual_conv(image_shape[-1], 16, 3, 1, rngs)
        self.norm = residual_norm(16, rngs)
        stages, channels = [], 16
        for filters, stride in STAGES:
            others = (block(filters, filters, 1) for _ in range(blocks - 1))
            stages.append(nnx.Sequential(block(channels, filters, stride), *others))
            channels = filters
        self.stages = nnx.List(stages)
        self.head = layers.torch_linear(channels, classes, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits [B, C] of images x [B, H, W, K]."""
        x = nnx.relu(self.norm(self.conv(x)))
        for stage in self.stages:
            x = stage(x)
        return self.head(layers.avg_pool(x, x.shape[1:3]).reshape(len(x), -1))
