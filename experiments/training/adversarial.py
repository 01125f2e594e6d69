"""What a generator and its critic play for, as pure functions of the critic's outputs.

Every loss is of one example, `[B]`, not averaged, to be minimised by one of the two. None of these
functions stops a gradient: who takes which is the task's, in games.py. Outputs of a critic are
`[B, 1 + M]`, the logit of being real, then those of classes, then the means of codes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def wgan_critic(real: jax.Array, fake: jax.Array) -> jax.Array:
    """What a WGAN's critic minimises, `D(fake) - D(real)`, `[B]`.

    Its mean is minus the Wasserstein distance where the critic is the best that is 1-Lipschitz.
    See "Wasserstein GAN" (Arjovsky et al., 2017), eq. 3; its program has both signs the other way.

    Args:
      real: the critic's outputs of real images, `[B, 1]`.
      fake: those of generated ones.

    Example:
      >>> print(wgan_critic(jnp.array([[3.0]]), jnp.array([[1.0]])))
      [-2.]
    """
    return fake[:, 0] - real[:, 0]


def wgan_generator(fake: jax.Array) -> jax.Array:
    """What a WGAN's generator minimises, `-D(fake)`, `[B]`; see `wgan_critic`.

    Example:
      >>> print(wgan_generator(jnp.array([[3.0]])))
      [-3.]
    """
    return -fake[:, 0]


def clipped(params: Any, clip: jax.Array | float) -> Any:
    """All parameters within `[-clip, clip]`, BatchNorm's too.

    See "Wasserstein GAN" (Arjovsky et al., 2017), Algorithm 1; as in its program, which clips
    before each step of the critic, BatchNorm's scales are not left out.

    Args:
      params: pytree of the critic's.
      clip: the bound.

    Example:
      >>> print(clipped({"scale": jnp.array([1.0, -0.005])}, 0.01)["scale"])
      [ 0.01  -0.005]
    """
    return jax.tree.map(lambda p: jnp.clip(p, -clip, clip), params)


def gradient_penalty(
    critic: Callable[[jax.Array], jax.Array], real: jax.Array, fake: jax.Array, share: jax.Array
) -> jax.Array:
    """How far slopes of the critic are from 1, `(|dD(x)/dx| - 1)^2`, `[B]`.

    Between the images, at `x = share real + (1 - share) fake`. See "Improved Training of
    Wasserstein GANs" (Gulrajani et al., 2017), eq. 3, which takes no BatchNorm in the critic: with
    it an image's slope is that of the sum over the batch.

    Args:
      critic: from images to outputs `[B, 1]`.
      real: images, `[B, ...]`.
      fake: generated ones.
      share: from U(0, 1), `[B]`.

    Example:
      >>> x = jnp.ones((1, 2))
      >>> print(gradient_penalty(lambda x: x @ jnp.array([[3.0], [4.0]]), x, x, jnp.ones(1)))
      [16.]
    """
    share = share.reshape(-1, *(1,) * (real.ndim - 1))
    between = share * real + (1 - share) * fake
    slope = jax.grad(lambda x: jnp.sum(critic(x)[:, 0]))(between)
    square = jnp.sum(jnp.square(slope), range(1, slope.ndim))
    # The root has no derivative at 0, where the penalty's is taken as 0.
    norm = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)
    return jnp.square(norm - 1)


def gan_critic(real: jax.Array, fake: jax.Array) -> jax.Array:
    """What a critic minimises, `-log D(real) - log(1 - D(fake))`, `[B]`, nats.

    D is the logistic function of the first output. See "Generative Adversarial Nets" (Goodfellow et
    al., 2014), eq. 1; told the label too, "Conditional Generative Adversarial Nets" (Mirza and
    Osindero, 2014), eq. 2.

    Args:
      real: the critic's outputs of real images, `[B, 1 + M]`.
      fake: those of generated ones.

    Example:
      >>> print(gan_critic(jnp.zeros((1, 1)), jnp.zeros((1, 1))).round(4))
      [1.3863]
    """
    return jax.nn.softplus(-real[:, 0]) + jax.nn.softplus(fake[:, 0])


def gan_generator(fake: jax.Array) -> jax.Array:
    """What a generator minimises, `-log D(fake)`, `[B]`, nats.

    The paper's alternative to `log(1 - D(fake))`, whose gradient does not vanish where the critic
    wins; a choice for all losses here but WGAN's. See `gan_critic`.

    Example:
      >>> print(gan_generator(jnp.zeros((1, 1))).round(4))
      [0.6931]
    """
    return jax.nn.softplus(-fake[:, 0])


def class_loss(outputs: jax.Array, label: jax.Array) -> jax.Array:
    """The cross entropy of a critic's classes, `[B]`, nats: minus the log-likelihood `L_C`.

    See "Conditional Image Synthesis with Auxiliary Classifier GANs" (Odena et al., 2017), eq. 3.

    Args:
      outputs: the critic's, `[B, 1 + M]`, M of C or more.
      label: one-hot, `[B, C]`.

    Example:
      >>> print(class_loss(jnp.zeros((1, 3)), jnp.array([[1.0, 0.0]])).round(4))
      [0.6931]
    """
    logits = outputs[:, 1 : 1 + label.shape[1]]
    return -jnp.sum(label * jax.nn.log_softmax(logits), -1)


def code_loss(outputs: jax.Array, label: jax.Array, codes: jax.Array) -> jax.Array:
    """Minus the bound of the information in an image of its class and codes, `[B]`, nats.

    `-log Q(label|x) + sum_k (codes_k - mu_k)^2 / 2`: Q has a categorical part and normal ones of
    deviation 1, and constants are left out. See "InfoGAN" (Chen et al., 2016), eq. 5.

    Args:
      outputs: the critic's, `[B, 1 + C + K]`.
      label: one-hot, `[B, C]`.
      codes: `[B, K]`.

    Example:
      >>> print(code_loss(jnp.zeros((1, 4)), jnp.array([[1.0, 0.0]]), jnp.array([[2.0]])).round(4))
      [2.6931]
    """
    means = outputs[:, 1 + label.shape[1] :]
    return class_loss(outputs, label) + jnp.sum(jnp.square(codes - means), -1) / 2


def critic_steps(taken: jax.Array, few: jax.Array | float, many: jax.Array | float) -> jax.Array:
    """How many steps a WGAN's critic takes before the generator's next.

    As in the program of "Wasserstein GAN": `many` before each of the first 25 and of every 500th,
    `few` before others.

    Args:
      taken: int32 `[]`, the generator's steps.
      few: 5 in the paper.
      many: 100 in its program.

    Example:
      >>> [int(critic_steps(jnp.int32(n), 5, 100)) for n in (0, 24, 25, 499, 500, 501)]
      [100, 100, 5, 5, 100, 5]
    """
    return jnp.where((taken < 25) | (taken % 500 == 0), many, few)
