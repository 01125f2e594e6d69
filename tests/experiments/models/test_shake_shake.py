"""Shake-Shake networks: the published counts, taps, the shifted shortcut, logits as torch's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from model_checks import abstract, assert_logits, assert_takes_a_step, averages, parameters, tapped
from multiply_adds import multiply_adds

from experiments import rows
from experiments.models import shake_shake

SHAPE = (32, 32, 3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("width", "count", "moving", "products"),
    [
        (32, 2_989_034, 8_992, 426_689_792),
        (64, 11_914_730, 17_952, 1_685_506_560),
        (96, 26_777_578, 26_912, 3_776_892_672),
        (112, 36_435_434, 31_392, 5_134_799_232),
    ],
)
def test_the_published_networks(width, count, moving, products):
    text = f"shake_shake26(width={width})"
    model = abstract(text, SHAPE, 10)
    assert (parameters(model), averages(model)) == (count, moving)
    assert model.head.kernel.shape == (4 * width, 10)
    assert multiply_adds(text, SHAPE, 10) == pytest.approx(products, rel=0.02)


def test_only_the_shortcuts_that_nothing_calls_are_more_than_the_network_needs():
    model = abstract("shake_shake26(width=32)", SHAPE, 10)
    unused = [b.skip for s in model.stages for b in s.layers if not b.changes]
    assert len(unused) == 9
    assert parameters(model) == 2_989_034
    assert 2_989_034 - sum(map(parameters, unused)) == 2_923_178


@pytest.mark.parametrize(
    ("shape", "pixels"),
    [(SHAPE, [(32, 32), (16, 16), (8, 8)]), ((9, 14, 1), [(9, 14), (5, 7), (3, 4)])],
)
def test_taps_reach_the_stages_and_images_of_other_sizes_are_pooled_whole(shape, pixels):
    seen, outputs = tapped("shake_shake26(width=4, blocks=1)", shape, 7)
    assert seen["input"] == (2, *shape)
    for i, size in enumerate(pixels):
        assert seen[f"stages.{i}"] == (2, *size, 4 * 2**i)
    assert outputs.logits.shape == (2, 7)
    assert outputs.features.shape == (2, 16)


def test_the_shortcut_takes_every_second_pixel_and_every_other_one_below_it():
    x = jnp.arange(16.0).reshape(1, 4, 4, 1)
    first, second = shake_shake.Skip(1, 2, 2, rngs=nnx.Rngs(0)).paths(x)
    np.testing.assert_array_equal(np.ravel(first), [0, 2, 8, 10])
    np.testing.assert_array_equal(np.ravel(second), [5, 7, 13, 15])
    _, shifted = shake_shake.Skip(1, 2, 1, rngs=nnx.Rngs(0)).paths(x)
    expected = [[5, 6, 7, 0], [9, 10, 11, 0], [13, 14, 15, 0], [0, 0, 0, 0]]
    np.testing.assert_array_equal(shifted[0, ..., 0], expected)


# Computed once in float64 by torch 2.14, from the same weights and images.
LOGITS = [[-0.951494, 0.156923, -0.829903], [-0.322575, -0.106963, -0.978975]]


@pytest.mark.slow
def test_logits_are_torchs():
    model = shake_shake.ShakeShakeNet((9, 9, 3), 3, width=4, blocks=2, rngs=nnx.Rngs(0))
    assert_logits(model, (9, 9, 3), LOGITS)


def test_a_block_adds_the_mixture_of_its_branches_to_its_input():
    block = shake_shake.ShakeBlock(2, 2, 1, 0, rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(0), (3, 4, 4, 2))
    block.branch1.norm2.bias[...] = jnp.full(2, 8.0)
    for branch, scale in ((block.branch1, 0.0), (block.branch2, 0.0)):
        branch.norm2.scale[...] = jnp.full(2, scale)
    with rows.spread(jax.random.key(1), rows.every(1, 0)):
        share = np.asarray(block(x) - x) / 8
    np.testing.assert_allclose(share, np.broadcast_to(share[:, :1, :1, :1], share.shape), atol=1e-6)
    assert np.all((share > 0) & (share < 1))
    assert len(np.unique(share[:, 0, 0, 0])) == 3
    block.eval()
    np.testing.assert_allclose(block(x), x + 4, rtol=1e-6)


def test_kernels_start_from_the_deviation_of_their_inputs():
    for conv in (
        shake_shake.Branch(8, 64, 1, rngs=nnx.Rngs(0)).conv1,
        shake_shake.Skip(64, 32, 2, rngs=nnx.Rngs(0)).conv2,
    ):
        kernel = np.asarray(conv.kernel[...])
        z = kernel / np.sqrt(2 / np.prod(kernel.shape[:-1]))
        assert abs(z.std() - 1) < 4 / np.sqrt(2 * z.size)
        assert conv.bias is None


@pytest.mark.nnx
def test_a_training_step():
    assert_takes_a_step("shake_shake26(width=4, blocks=1)", (8, 8, 3))
