"""Scores of many runs at once, from their logits."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

import regjax as rj

BATCH = 250  # test images that a device looks at together


@jax.jit
def at_levels(logits: jax.Array, label: jax.Array) -> dict[str, jax.Array]:
    """Scores `[R, L]` of `logits [R, L, N, C]` for the classes `label [N]`."""
    label = jax.nn.one_hot(label, logits.shape[-1])

    def over_both(metric: Callable[..., jax.Array]) -> jax.Array:
        return jax.vmap(jax.vmap(lambda each: metric(each, label)))(logits)

    return {
        "accuracy": over_both(rj.metrics.accuracy),
        "nll": over_both(rj.metrics.negative_log_likelihood),
        "ece": over_both(rj.metrics.expected_calibration_error),
    }


@functools.partial(jax.jit, static_argnums=2)
def of_runs(logits: jax.Array, label: jax.Array, tests: int) -> dict[str, jax.Array]:
    """Scores of `logits [R, N, C]` for `label [R, N]`; the first `tests` are the test's."""
    label = jax.nn.one_hot(label, logits.shape[-1])
    test, held_out = (logits[:, :tests], label[:, :tests]), (logits[:, tests:], label[:, tests:])
    nothing = logits.shape[1] == tests
    return {
        "test_accuracy": jax.vmap(rj.metrics.accuracy)(*test),
        "validation_accuracy": jnp.full(len(logits), jnp.nan)
        if nothing
        else jax.vmap(rj.metrics.accuracy)(*held_out),
        "test_nll": jax.vmap(rj.metrics.negative_log_likelihood)(*test),
        "test_ece": jax.vmap(rj.metrics.expected_calibration_error)(*test),
        "class_accuracy": jax.vmap(_class_accuracy)(*test),
    }


def _class_accuracy(logits: jax.Array, label: jax.Array) -> jax.Array:
    """The accuracy on each class, `[C]`; 0 where the class does not occur."""
    correct = jnp.argmax(logits, -1) == jnp.argmax(label, -1)
    return correct.astype(jnp.float32) @ label / jnp.maximum(label.sum(0), 1)
