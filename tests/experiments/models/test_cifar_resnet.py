"""The ResNets for CIFAR: sizes, order of operations, initial weights, averages, a step."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import regjax as rj
import regjax.flax as rf
from experiments import models
from experiments.models import cifar_resnet, layers

SHAPE = (32, 32, 3)


@functools.cache
def smallest():
    """Eight layers, one block a stage."""
    model = cifar_resnet.CifarResNet(SHAPE, 10, depth=8, rngs=nnx.Rngs(0))
    return rf.bind(model, head="head")


def abstract(name, classes=10):
    return nnx.eval_shape(lambda: models.create(name, SHAPE, classes, nnx.Rngs(0)))


@pytest.mark.parametrize(
    ("depth", "identity"),  # what the published networks, without projections, have
    [(20, 269_722), (44, 658_586), (56, 853_018)],
)
def test_parameters_are_the_published_ones_and_two_projections(depth, identity):
    blocks = (depth - 2) // 6
    expected = 9 * 3 * 16 + 2 * 16 + 65 * 10
    for k, f in ((16, 16), (16, 32), (32, 64)):
        expected += 9 * k * f + (2 * blocks - 1) * 9 * f * f + 2 * blocks * 2 * f
    assert expected == identity
    expected += (16 * 32 + 2 * 32) + (32 * 64 + 2 * 64)
    params = nnx.state(abstract(f"resnet{depth}"), nnx.Param)
    assert sum(p.size for p in jax.tree.leaves(params)) == expected


def test_taps_reach_the_stages_whose_shapes_are_those_of_the_paper():
    forward = smallest()
    assert {"input", "stages.0", "stages.1", "stages.2", "head"} <= set(forward.layers)
    shapes = {}

    def tap(layer, h):
        shapes[layer] = h.shape
        return h

    outputs = jax.eval_shape(lambda x: forward(x, tap=tap), jnp.ones((2, *SHAPE)))
    assert shapes["stages.0"] == (2, 32, 32, 16)
    assert shapes["stages.1"] == (2, 16, 16, 32)
    assert shapes["stages.2"] == (2, 8, 8, 64)
    assert outputs.logits.shape == (2, 10)
    assert outputs.features.shape == (2, 64)


@pytest.mark.parametrize("shape", [(8, 8, 1), (33, 30, 3)])
def test_images_of_other_sizes_are_pooled_whole(shape):
    def logits():
        return models.create("resnet20", shape, 7, nnx.Rngs(0))(jnp.ones((2, *shape)))

    assert jax.eval_shape(logits).shape == (2, 7)


def test_convolutions_start_normal_with_the_deviation_of_the_program_and_without_bias():
    model = cifar_resnet.CifarResNet(SHAPE, 10, depth=20, rngs=nnx.Rngs(0))
    convolutions = [m for _, m in nnx.iter_modules(model) if isinstance(m, nnx.Conv)]
    assert len(convolutions) == 1 + 18 + 2
    for convolution in convolutions:
        kernel = np.asarray(convolution.kernel[...])
        height, width, _, out = kernel.shape
        z = kernel.ravel() / np.sqrt(2 / (height * width * out))
        assert abs(z.mean()) < 4 / np.sqrt(z.size)
        assert abs(z.std() - 1) < 4 / np.sqrt(2 * z.size)
        assert convolution.bias is None
    every = np.concatenate([np.ravel(c.kernel[...]) / np.std(c.kernel[...]) for c in convolutions])
    assert np.abs(every).max() > 3.5  # not truncated


def test_the_linear_layer_starts_as_torchs():
    for array in smallest().params["head"].values():
        assert 0.7 / 8 < np.abs(array).max() <= 1 / 8


def test_dropout_falls_between_the_relu_and_the_second_convolution_in_training_only():
    block = cifar_resnet.BasicBlock(4, 4, 1, dropout=0.25, rngs=nnx.Rngs(0))
    seen = []
    block.conv2 = lambda h: (seen.append(h), h)[1]
    x = jax.random.normal(jax.random.key(0), (2, 6, 6, 4))
    block(x)
    active = np.asarray(nnx.relu(block.norm1(block.conv1(x))))
    kept = np.asarray(seen[0] > 0)
    assert 0.6 < kept.sum() / (active > 0).sum() < 0.9
    np.testing.assert_allclose(seen[0], kept * active / 0.75, rtol=1e-6)
    block.eval()
    block(x)
    np.testing.assert_allclose(seen[1], nnx.relu(block.norm1(block.conv1(x))), rtol=1e-6)


def test_squeeze_and_excitation_is_what_numpy_computes():
    layer = cifar_resnet.SqueezeExcitation(32, rngs=nnx.Rngs(0))
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 32))
    first, second = (np.asarray(m.kernel[...], np.float64) for m in (layer.squeeze, layer.excite))
    assert first.shape == (32, 2)
    assert np.abs(first).max() <= 32**-0.5
    assert 0.7 * 2**-0.5 < np.abs(second).max() <= 2**-0.5
    assert layer.squeeze.bias is layer.excite.bias is None
    scale = 1 / (1 + np.exp(-np.maximum(x.mean((1, 2)) @ first, 0) @ second))
    np.testing.assert_allclose(
        layer(jnp.asarray(x, jnp.float32)), x * scale[:, None, None], rtol=1e-4, atol=1e-5
    )


def test_a_block_ends_with_the_relu_of_branch_plus_shortcut():
    block = cifar_resnet.BasicBlock(4, 4, 1, rngs=nnx.Rngs(0))
    block.norm2.scale[...] = jnp.zeros(4)
    x = jax.random.normal(jax.random.key(0), (2, 6, 6, 4))
    np.testing.assert_array_equal(block(x), np.maximum(x, 0))


@pytest.mark.parametrize("size", [1, 3])
def test_strided_convolutions_are_centred_on_every_second_pixel(size):
    convolution = layers.residual_conv(2, 2, size, 2, nnx.Rngs(0))
    kernel = jnp.zeros((size, size, 2, 2)).at[size // 2, size // 2].set(jnp.eye(2))
    convolution.kernel[...] = kernel
    x = jax.random.normal(jax.random.key(0), (2, 8, 6, 2))
    np.testing.assert_allclose(convolution(x), x[:, ::2, ::2], rtol=1e-6)


def test_a_projected_shortcut_is_normalised():
    block = cifar_resnet.BasicBlock(2, 4, 2, rngs=nnx.Rngs(0))
    block.norm2.scale[...] = jnp.zeros(4)
    x = np.asarray(jax.random.normal(jax.random.key(0), (5, 6, 6, 2)), np.float64)
    projected = x[:, ::2, ::2] @ np.asarray(block.shortcut.kernel[...], np.float64)[0, 0]
    centred = projected - projected.mean((0, 1, 2))
    expected = np.maximum(centred / np.sqrt(projected.var((0, 1, 2)) + 1e-5), 0)
    np.testing.assert_allclose(block(jnp.asarray(x, jnp.float32)), expected, atol=1e-5)


@pytest.mark.nnx
def test_a_training_step_lowers_the_loss_and_moves_the_averages_by_a_tenth():
    forward = smallest()
    image = jax.random.normal(jax.random.key(0), (8, *SHAPE))
    batch = rj.Batch(image, jax.nn.one_hot(jnp.arange(8), 10))
    loss, optimizer = rj.cross_entropy(), optax.sgd(0.01)

    @jax.jit
    def step(params, state):
        def objective(params):
            bound = forward.replace(params=params, state=state)
            result, _ = loss.apply(loss.init(bound, batch), bound, batch, jax.random.key(0))
            return rj.total(result, batch), result.outputs.state

        (value, state), slope = jax.value_and_grad(objective, has_aux=True)(params)
        updates, _ = optimizer.update(slope, optimizer.init(params))
        return value, optax.apply_updates(params, updates), state

    before, params, state = step(forward.params, forward.state)
    after, _, _ = step(params, state)
    assert after < before
    kernel = forward.params["conv"]["kernel"]
    first = jax.lax.conv_general_dilated(
        image, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    first = np.asarray(first, np.float64)
    moved = {k: np.asarray(state["norm"][k]) for k in ("mean", "var")}
    np.testing.assert_allclose(moved["mean"], 0.1 * first.mean((0, 1, 2)), atol=1e-5)
    np.testing.assert_allclose(moved["var"], 0.9 + 0.1 * first.var((0, 1, 2)), rtol=1e-4)


@pytest.mark.parametrize("depth", [2, 18, 33])
def test_other_depths_are_refused(depth):
    with pytest.raises(ValueError, match=f"6 n \\+ 2 layers, not {depth}"):
        cifar_resnet.CifarResNet(SHAPE, 10, depth=depth, rngs=nnx.Rngs(0))
