"""The BasicCNN of "Signed Input Regularization" (Asgari Taghanaki et al., 2019), after Keras."""

import jax
from flax import nnx

from experiments.models import layers
from experiments.models.applications import check_size

HIDDEN = 512


class BasicCNN(nnx.Module):
    """Four 3 x 3 convolutions of 32, 32, 64 and 64 filters and two dense layers.

    The second and the fourth are without padding, before a max pool. The feature is the dense layer
    of 512 after its ReLU. Layers for taps: "input", "convs.0" to "convs.3", "hidden".

    Args:
      image_shape: (height, width, channels).
      classes: number of logits.
      dropout: rates after the first and the second pool and after the dense layer; 0.6, 0.6 and 0.5
        in the search for augmentation policies, 0.25, 0.25 and 0.5 in Keras's example.
      rngs: source of the initial parameters, and of dropout.

    Raises:
      ValueError: the images are too small, or `dropout` is not three rates.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        classes: int,
        *,
        dropout: tuple[float, ...] = (0.3, 0.3, 0.3),
        rngs: nnx.Rngs,
    ):
        check_size("basic_cnn", image_shape, 10)
        if len(dropout) != 3 or not all(_is_rate(rate) for rate in dropout):
            raise ValueError(
                "basic_cnn's dropout must be three rates from 0.0 to below 1.0, of the two pools "
                f"and the dense layer, not {dropout}."
            )
        height, width, channels = image_shape
        plan = zip((channels, 32, 32, 64), (32, 32, 64, 64), ("SAME", "VALID") * 2, strict=True)
        self.convs = nnx.List(
            [layers.Conv(k, n, (3, 3), padding=padding, rngs=rngs) for k, n, padding in plan]
        )
        self.dropouts = nnx.List([nnx.Dropout(rate, rngs=rngs) for rate in dropout])
        self.hidden = layers.Linear(64 * _left(height) * _left(width), HIDDEN, rngs=rngs)
        self.head = layers.Linear(HIDDEN, classes, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits [B, C] of images x [B, H, W, K]."""
        for i, conv in enumerate(self.convs):
            x = nnx.relu(conv(x))
            if i in (1, 3):
                x = self.dropouts[i // 2](layers.max_pool(x))
        x = nnx.relu(self.hidden(x.reshape(len(x), -1)))
        return self.head(self.dropouts[2](x))


def _is_rate(value: object) -> bool:
    return isinstance(value, int | float) and 0 <= value < 1


def _left(size: int) -> int:
    """What one side of the image has left before the dense layers."""
    return ((size - 2) // 2 - 2) // 2
