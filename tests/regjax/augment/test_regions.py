"""Boxes in images, and masks spread over channels."""

import jax
import jax.numpy as jnp
from support import assert_same

from regjax.augment.regions import box, spread


def test_a_box_of_two_sides() -> None:
    keys = jax.random.split(jax.random.key(0), 200)
    sides = (jnp.array(5.0), jnp.array(0.0))
    inside = jax.vmap(lambda k: box(k, (6, 4), sides))(keys)
    assert inside.shape == (200, 6, 4)
    assert not inside.any()
    whole = jax.vmap(lambda k: box(k, (6, 4), (jnp.array(13.0), jnp.array(9.0))))(keys)
    assert whole.all()


def test_a_mask_is_spread_over_channels_and_examples() -> None:
    inside, image = jnp.array([[True, False]]), jnp.ones((3, 1, 2, 4))
    whole = spread(inside, image)
    assert whole.shape == image.shape
    assert_same(whole[1, 0, :, 3], inside[0])
    own = spread(jnp.stack([inside, ~inside, inside]), image)
    assert_same(own[:, 0, 0, 0], jnp.array([True, False, True]))
