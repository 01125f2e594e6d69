"""The gradient of a batch, however it is divided, equals that of the whole in NumPy or at once."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec
from support import assert_close

import regjax as rj
from experiments.training.gradients import gradient

DENSE = "cross_entropy | l2(weight=0.1, exclude=())"
WEIGHTED = "cross_entropy | class_weights(weights=(0.5, 2.0, 1.0)) | l2(weight=0.1, exclude=())"


def network(params, state):
    del state
    return rj.from_function(lambda p, x: x @ p, params)


def examples(dense):
    """Eight examples, the last of which is padding, of 0 to 4 labelled positions or of a class."""
    rng = np.random.default_rng(0)
    label = np.eye(3)[rng.integers(3, size=(8, 4) if dense else 8)]
    image = rng.normal(size=(*label.shape[:-1], 2))
    if dense:
        label *= (np.arange(4) < np.array([0, 1, 4, 2, 4, 3, 0, 4])[:, None])[..., None]
    batch = rj.Batch(jnp.asarray(image), jnp.asarray(label), jnp.arange(8), jnp.ones(8))
    return batch.replace(weight=batch.weight.at[-1].set(0))


def by_hand(params, batch, classes, by_image=False):
    """The mean over all labelled positions, or over images of each one's, and the penalty."""
    if by_image:
        each = batch.label / jnp.maximum(batch.label.sum((1, 2), keepdims=True), 1)
        batch = batch.replace(label=each)
    counts = batch.label * batch.weight.reshape(8, *[1] * (batch.label.ndim - 1)) * classes
    log_p = jax.nn.log_softmax(batch.image @ params)
    return -jnp.sum(counts * log_p) / counts.sum() + 0.1 * jnp.sum(params**2)


DIVISIONS = [(1, 1), (2, 1), (1, 2), (2, 2)]
CASES = [
    *itertools.product([DENSE, WEIGHTED], DIVISIONS, [False]),
    *itertools.product([DENSE], [(1, 1), (2, 2)], [True]),
]


@pytest.mark.parametrize(("text", "divided", "by_image"), CASES)
def test_positions_images_and_classes_count_alike_however_a_batch_is_divided(
    text, divided, by_image
):
    parts, devices = divided
    batch, loss, params = examples(text == DENSE), rj.parse(text), jnp.full((2, 3), 0.3)
    params = params * jnp.arange(6.0).reshape(2, 3)
    classes = jnp.array([0.5, 2.0, 1.0]) if text == WEIGHTED else jnp.ones(3)
    classes = classes.reshape(*[1] * (batch.label.ndim - 1), 3)
    value, direction = jax.value_and_grad(by_hand)(params, batch, classes, by_image)
    axis = "data" if devices > 1 else None
    state = loss.init(network(params, ()), batch)

    def found(batch):
        of = (network, params, (), state, loss, batch, jax.random.key(0))
        taken = gradient(*of, parts=parts, axis_name=axis, by_image=by_image)
        return taken.direction, taken.metrics

    if axis:
        mesh = Mesh(np.array(jax.devices()[:devices]), (axis,))
        specs = {"in_specs": PartitionSpec(axis), "out_specs": PartitionSpec()}
        found = functools.partial(jax.shard_map, mesh=mesh, **specs)(found)
    got, metrics = jax.jit(found)(batch)
    assert_close(got, direction)
    assert_close(metrics["total"], value)
    assert_close(metrics["cross_entropy"], value - 0.1 * jnp.sum(params**2))
