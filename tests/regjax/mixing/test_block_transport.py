"""The transport of Puzzle Mix against SciPy's assignment."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from regjax.mixing.block_transport import transport_blocks

transports = jax.jit(jax.vmap(transport_blocks))


def worth(saliency: np.ndarray, mask: np.ndarray, cost: float) -> np.ndarray:
    """Of every block, at every place: `[N, N]`."""
    at = np.indices(mask.shape).reshape(2, -1)
    square = ((at[:, :, None] - at[:, None]) ** 2).sum(0) / (max(mask.shape) - 1) ** 2
    return saliency.reshape(-1, 1) * mask.reshape(1, -1) - cost * square


@pytest.mark.parametrize("shape", [(1, 4), (3, 2), (4, 4), (8, 8)])
def test_the_transport_is_an_optimal_permutation(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    saliency = rng.gamma(0.5, size=(120, *shape))
    saliency /= saliency.sum((1, 2), keepdims=True)
    mask = rng.integers(3, size=(120, *shape)) / 2
    cost = rng.choice([0.0, 0.01, 0.1, 0.8], size=120)
    arrays = (jnp.asarray(a, jnp.float32) for a in (saliency, mask, cost))
    found = np.asarray(transports(*arrays))
    np.testing.assert_array_equal(np.sort(found), np.tile(np.arange(found.shape[1]), (120, 1)))
    moved = 0
    for source, *problem in zip(found, saliency, mask, cost, strict=True):
        value = worth(*problem)
        reached = value[source, np.arange(len(source))].sum()
        np.testing.assert_allclose(reached, value[linear_sum_assignment(-value)].sum(), atol=1e-6)
        moved += reached > np.trace(value) + 1e-6
    assert moved > 20


def test_nothing_moves_without_a_gain() -> None:
    """Of equally good permutations it takes that which leaves all blocks in place."""
    saliency = jnp.full((3, 4, 4), 1 / 16)
    mask = jnp.stack([jnp.zeros((4, 4)), jnp.ones((4, 4)), jnp.eye(4)])
    for cost in (0.0, 0.8):
        source = transports(saliency, mask, jnp.full(3, cost))
        np.testing.assert_array_equal(source, np.tile(np.arange(16), (3, 1)))
    broken = transports(jnp.full((1, 2, 2), jnp.nan), jnp.ones((1, 2, 2)), jnp.ones(1))
    np.testing.assert_array_equal(np.sort(broken[0]), np.arange(4))
