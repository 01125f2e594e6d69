"""PyramidNets with ShakeDrop: the published counts, taps, widths and rates, logits as torch's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from model_checks import abstract, assert_logits, assert_takes_a_step, averages, parameters, tapped

from experiments import rows
from experiments.models import shake_pyramid, shakes

SHAPE = (32, 32, 3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "features", "count", "moving"),
    [
        ("shake_pyramidnet", 864, 26_210_842, 210_864),
        ("shake_pyramidnet(depth=110, alpha=270)", 1144, 18_323_787, 111_484),
        ("shake_pyramidnet(depth=110, alpha=84)", 400, 2_528_712, 42_664),
    ],
)
def test_the_published_networks(text, features, count, moving):
    model = abstract(text, SHAPE, 10)
    assert (parameters(model), averages(model)) == (count, moving)
    assert model.head.kernel.shape == (features, 10)


@pytest.mark.parametrize(
    ("shape", "pixels"),
    [(SHAPE, [(32, 32), (16, 16), (8, 8)]), ((9, 14, 1), [(9, 14), (5, 7), (3, 4)])],
)
def test_taps_reach_the_stages_and_images_of_other_sizes_are_pooled_whole(shape, pixels):
    seen, outputs = tapped("shake_pyramidnet(depth=11, alpha=8)", shape, 7)
    assert seen["input"] == (2, *shape)
    for i, (size, filters) in enumerate(zip(pixels, (19, 21, 24), strict=True)):
        assert seen[f"stages.{i}"] == (2, *size, 4 * filters)
    assert outputs.logits.shape == (2, 7)
    assert outputs.features.shape == (2, 96)


def test_rates_rise_evenly_to_a_half_and_layers_have_numbers_of_their_own():
    for in_program in (False, True):
        text = f"shake_pyramidnet(depth=20, alpha=6, as_in_program={in_program})"
        drops = [b.drop for s in abstract(text, (8, 8, 3), 10).stages for b in s.layers]
        assert [d.rate for d in drops] == pytest.approx([i / 12 for i in range(1, 7)])
        assert [d.number for d in drops] == list(range(6))
        assert {d.one_for_all for d in drops} == {in_program}


# Computed once in float64 by torch 2.14, from the same weights and images.
LOGITS = [[-2.966280, -2.847779, 0.155348], [-2.660674, -2.894136, 0.114558]]


@pytest.mark.slow
def test_logits_are_torchs():
    model = shake_pyramid.ShakePyramidNet((9, 9, 3), 3, depth=20, alpha=10, rngs=nnx.Rngs(0))
    assert_logits(model, (9, 9, 3), LOGITS)


def test_a_block_adds_what_is_left_of_its_branch_to_means_and_zeros():
    drop = shakes.ShakeDrop(0, 0.5, rngs=nnx.Rngs(0))
    block = shake_pyramid.PyramidBlock(2, 1, 2, drop, nnx.Rngs(0))
    x = np.asarray(jax.random.normal(jax.random.key(0), (32, 3, 4, 2)), np.float64)
    block.norm4.scale[...] = jnp.zeros(4)
    block.norm4.bias[...] = jnp.full(4, 8.0)
    rowwise = np.stack([x[:, :2].mean(1), x[:, 2]], 1)
    skip = np.concatenate([rowwise.reshape(32, 2, 2, 2, 2).mean(3), np.zeros((32, 2, 2, 2))], -1)
    with rows.spread(jax.random.key(1), rows.every(1, 0)):
        factor = (np.asarray(block(jnp.asarray(x, jnp.float32)), np.float64) - skip) / 8
    np.testing.assert_allclose(
        factor, np.broadcast_to(factor[:, :1, :1, :1], factor.shape), atol=1e-6
    )
    kept = np.abs(factor[:, 0, 0, 0] - 1) < 1e-6
    assert 8 < kept.sum() < 24
    assert np.all(np.abs(factor[~kept]) < 1)
    block.eval()
    np.testing.assert_allclose(block(jnp.asarray(x, jnp.float32)), skip + 4, atol=1e-5)


@pytest.mark.nnx
@pytest.mark.parametrize("in_program", [False, True])
def test_a_training_step(in_program):
    text = f"shake_pyramidnet(depth=11, alpha=6, as_in_program={in_program})"
    assert_takes_a_step(text, (8, 8, 3))


@pytest.mark.parametrize("depth", [2, 26, 271])
def test_other_depths_are_refused(depth):
    with pytest.raises(ValueError, match=f"9 n \\+ 2 layers, not {depth}"):
        shake_pyramid.ShakePyramidNet(SHAPE, 10, depth=depth, rngs=nnx.Rngs(0))
