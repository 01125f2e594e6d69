"""Searched policies: which pair an image draws, with what chance, and what is no policy.

Covers `pixels.py` too.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from support import assert_close, assert_same

import regjax as rj
from regjax.augment.policy import arrays, with_arrays

STAY = ("rotate", 0.0)
INVERT, WHITE = ("invert", 0.0), ("gamma", 0.0)
PAIRS = ((*INVERT, *STAY), (*WHITE, *STAY), (*WHITE, *INVERT))
MANY = 3000


def policy(sub, **options):
    return rj.policy(rj.cross_entropy(), sub=sub, **options)


@jax.jit
def changed(loss, image, index):
    (_, stage) = loss.stages
    batch = rj.Batch(image, jnp.ones((len(image), 1)), index=index)
    key = jax.random.key(0)
    return stage.definition.function(None, batch, key, **stage.arguments)[1].image


def test_images_draw_their_pairs_alike_and_as_many_as_the_rate_says():
    """One program serves all: the policies are its arguments."""
    images = jnp.full((MANY, 1, 2, 1), 0.25)
    result = changed(with_arrays(policy(PAIRS, rate=0.8)), images, jnp.arange(MANY))
    values = np.round(np.asarray(result[:, 0, 0, 0]), 5)
    counts = [int((values == value).sum()) for value in (0.75, 1.0, 0.0, 0.25)]
    assert sum(counts) == MANY
    expected = MANY * np.array([0.8 / 3, 0.8 / 3, 0.8 / 3, 0.2])
    assert stats.chisquare(counts, expected).pvalue > 1e-3
    before = changed._cache_size()
    never = changed(with_arrays(policy(PAIRS[::-1], rate=0.0)), images, jnp.arange(MANY))
    assert_same(never, images)
    assert changed._cache_size() == before


@pytest.mark.slow
def test_arrays_draw_as_the_policy_does_and_rows_go_by_their_index():
    """Of normalised images, which are as their pixels would be."""
    sub = (("crop", 0.5, "noise", 0.3), ("shear", 0.4, "salt_pepper", 0.9))
    mean, std = (0.5,), (0.25,)
    pixels = jax.random.uniform(jax.random.key(1), (6, 5, 4, 3))
    image, index = (pixels - 0.5) / 0.25, jnp.array([5, 0, 3, 9, 2, 7])
    loss = policy(sub, mean=mean, std=std)
    result = changed(loss, image, index)
    assert np.mean(np.abs(result - image) > 1e-3) > 0.5
    assert_same(changed(with_arrays(loss), image, index), result)
    order = np.array([3, 1, 0, 5, 4, 2])
    assert_close(changed(loss, image[order], index[order]), result[order])
    assert_close((changed(policy(sub), pixels, index) - 0.5) / 0.25, result)
    assert_same(changed(policy(((*STAY, *STAY),), mean=mean, std=std), image, index), image)


@pytest.mark.slow
def test_policies_are_mapped_over():
    losses = [with_arrays(policy((pair,))) for pair in PAIRS]
    stacked = jax.tree.map(lambda *numbers: np.stack(numbers), *losses)
    images = jnp.full((2, 1, 2, 1), 0.25)
    result = jax.vmap(changed, (0, None, None))(stacked, images, jnp.arange(2))
    assert_close(result[:, 0, 0, 0, 0], jnp.array([0.75, 1.0, 0.0]))


@pytest.mark.parametrize(
    ("sub", "said"),
    [
        ((), "must be pairs of operations, such as .* but there is \\(\\)"),
        ("rotate", "but there is 'rotate'"),
        ((("rotate", 0.1),), r"but there is \('rotate', 0.1\)"),
        ((("rotat", 0.1, *STAY),), "no operation 'rotat'; its operations are: crop, blur"),
        (((*STAY, "crop", 1.5),), "between 0 and 1, but crop's is 1.5"),
        (((*STAY, "crop", "all"),), "between 0 and 1, but crop's is 'all'"),
        (((*STAY, "crop", True),), "between 0 and 1, but crop's is True"),
        (((*STAY, "crop", float("nan")),), "between 0 and 1, but crop's is nan"),
    ],
)
def test_what_is_no_policy_is_refused(sub, said):
    with pytest.raises(ValueError, match=f"^policy.*{said}"):
        arrays(sub)
    with pytest.raises(ValueError, match=f"^policy.*{said}"):
        jax.eval_shape(changed, policy(sub), jnp.ones((1, 4, 4, 3)), jnp.arange(1))


@pytest.mark.parametrize("shape", [(1, 4, 4, 2), (1, 4, 4)])
def test_what_is_no_image_is_refused(shape):
    with pytest.raises(ValueError, match=r"^policy needs images \[B, H, W, K\]"):
        jax.eval_shape(changed, policy(PAIRS), jnp.ones(shape), jnp.arange(1))


@pytest.mark.parametrize(
    ("options", "said"),
    [({"mean": (0.1, 0.2)}, "mean must be a tuple"), ({"std": (0.0,)}, "std must be above 0")],
)
def test_a_scale_that_does_not_fit_is_refused(options, said):
    with pytest.raises(ValueError, match=f"^policy's {said}"):
        jax.eval_shape(changed, policy(PAIRS, **options), jnp.ones((1, 4, 4, 3)), jnp.arange(1))


def test_a_list_is_read_as_pairs():
    text = "cross_entropy | policy(sub=[['rotate', 0.25, 'noise', 1]], rate=0.5)"
    loss = policy((("rotate", 0.25, "noise", 1),), rate=0.5)
    assert rj.parse(text) == loss == rj.parse(repr(loss))
