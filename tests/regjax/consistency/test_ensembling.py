"""Temporal ensembling against a loop over images in NumPy, in float64."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import assert_close, assert_same, random_batch, tanh_forward, tanh_params

import regjax as rj

pytestmark = pytest.mark.usefixtures("x64")
KEY = jax.random.key(0)
LOSS = rj.parse("cross_entropy | temporal_ensembling(weight=1, images=6, momentum=0.6)")


def second(index: list[int], weight: Any = None) -> rj.Batch:
    image = random_batch(len(index), seed=3, dtype=jnp.float64).image
    weight = None if weight is None else jnp.array(weight)
    return rj.Batch(image, jnp.zeros((len(index), 3)), jnp.array(index), weight)


def labelled(unlabeled: rj.Batch) -> rj.Batch:
    return random_batch(4, dtype=jnp.float64).replace(unlabeled=unlabeled)


def begin() -> rj.LossState:
    return LOSS.init(tanh_forward(), labelled(second([0])))


def step(state: rj.LossState, seed: int, unlabeled: rj.Batch) -> tuple[rj.Result, Any, np.ndarray]:
    forward = tanh_forward(tanh_params(seed, jnp.float64))
    result, state = LOSS.apply(state, forward, labelled(unlabeled), KEY)
    p = jax.nn.softmax(forward(unlabeled.image).logits)
    return result, state, np.float64(p)


def test_targets_are_corrected_averages_of_earlier_predictions() -> None:
    """Images come at different times, one is skipped, and padding leaves no trace."""
    state, average, seen = begin(), np.zeros((6, 3)), np.zeros(6)
    visits = [([0, 3, 5], None), ([3, 1, 0], None), ([5, 3, 2], (1.0, 1.0, 0.0)), ([0, 3, 5], None)]
    for number, (index, weight) in enumerate(visits):
        result, state, p = step(state, number, second(index, weight))
        for row, i in enumerate(index):
            target = average[i] / (1 - 0.6 ** seen[i]) if seen[i] else p[row]
            value = ((p[row] - target) ** 2).mean()
            found = result.unlabeled["temporal_ensembling"][row]
            assert_close(found, value, jnp.float64)
            if weight is None or weight[row]:
                average[i] = 0.6 * average[i] + 0.4 * p[row]
                seen[i] += 1
        held = state.stages["temporal_ensembling"]
        assert_close(held.average, average, jnp.float64)
        assert_same(held.seen, seen.astype(np.int32))
    assert seen.tolist() == [3, 1, 0, 4, 0, 3]
    rows = np.float64(held.average) / (1 - 0.6 ** np.maximum(seen, 1))[:, None]
    assert_close(rows[seen > 0].sum(1), np.ones(4), jnp.float64)


def test_a_constant_prediction_is_its_own_target_from_the_first_update_on() -> None:
    state = begin()
    for _ in range(4):
        result, state, _ = step(state, 0, second([4, 1]))
        assert_close(result.unlabeled["temporal_ensembling"], np.zeros(2), jnp.float64)
    assert state.stages["temporal_ensembling"].seen.tolist() == [0, 4, 0, 0, 4, 0]


def test_the_target_after_two_predictions() -> None:
    """`(0.6 z_1 + z_2) / 1.6`."""
    state, given = begin(), []
    for seed in range(3):
        result, state, p = step(state, seed, second([4, 1]))
        given.append(p)
    values = ((given[2] - 0.375 * given[0] - 0.625 * given[1]) ** 2).mean(-1)
    assert_close(result.unlabeled["temporal_ensembling"], values, jnp.float64)


def test_an_image_that_comes_twice_counts_once_by_the_mean_of_both() -> None:
    """As where a small stream's batches run on across epochs."""
    state, average = begin(), np.zeros((2, 3))
    for number in range(2):
        _, state, p = step(state, number, second([2, 5, 2, 2, 2, 2, 2]))
        average = 0.6 * average + 0.4 * np.stack([p[[0, 2, 3, 4, 5, 6]].mean(0), p[1]])
    held = state.stages["temporal_ensembling"]
    assert_close(held.average[jnp.array([2, 5])], average, jnp.float64)
    assert held.seen.tolist() == [0, 0, 2, 0, 0, 2]


def test_an_axis_that_is_not_there_is_refused() -> None:
    loss = rj.temporal_ensembling(rj.cross_entropy(), weight=1.0, images=6, axis_name="dta")
    batch = labelled(second([0]))
    with pytest.raises(ValueError, match="axis_name='dta' is neither an axis of a pmap"):
        loss.apply(loss.init(tanh_forward(), batch), tanh_forward(), batch, KEY)


def test_the_target_gets_no_gradient_and_a_first_visit_has_none() -> None:
    batch, state = labelled(second([0, 1])), begin()

    def value(params: Any) -> jax.Array:
        result, _ = LOSS.apply(state, tanh_forward(params), batch, KEY)
        return result.unlabeled["temporal_ensembling"].sum()

    found, slope = jax.value_and_grad(value)(tanh_params())
    assert found == 0
    assert_same(slope, jax.tree.map(jnp.zeros_like, slope))


def test_parts_of_a_batch_leave_what_the_whole_leaves() -> None:
    assert LOSS.in_parts() == {"temporal_ensembling"}


def test_images_without_an_index_and_dense_labels_are_refused() -> None:
    batch = labelled(second([0]).replace(index=None))
    with pytest.raises(ValueError, match=r"needs batch\.unlabeled\.index"):
        LOSS.apply(LOSS.init(tanh_forward(), batch), tanh_forward(), batch, KEY)
    with pytest.raises(ValueError, match="one prediction an image"):
        LOSS.init(tanh_forward(), rj.Batch(jnp.ones((2, 4, 4, 1)), jnp.ones((2, 4, 4, 3))))
