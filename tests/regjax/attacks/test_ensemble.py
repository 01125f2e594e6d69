"""The ensemble leaves what none of its parts misleads, and touches nothing that is misled."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import assert_same

import regjax as rj
from regjax import attacks

KEY = jax.random.key(0)
SIZE, SHAPE, STEPS = 32, (4, 2, 1), 8
RNG = np.random.default_rng(2)
PARAMS = tuple(jnp.asarray(RNG.normal(size=shape), jnp.float32) for shape in ((8, 16), (16, 5)))


def network(params: Any, x: jax.Array) -> jax.Array:
    return jnp.tanh((x.reshape(len(x), -1) - 0.5) @ params[0]) @ params[1]


FORWARD = rj.from_function(network, PARAMS)


def drawn() -> rj.Batch:
    image = jnp.asarray(np.random.default_rng(3).uniform(size=(SIZE, *SHAPE)), jnp.float32)
    label = jnp.eye(5)[jnp.argmax(FORWARD(image).logits, -1)]
    return rj.Batch(image, label, jnp.arange(SIZE, dtype=jnp.int32) + 9)


def wrong(batch: rj.Batch, image: jax.Array) -> np.ndarray:
    return np.asarray(jnp.argmax(FORWARD(image).logits, -1) != jnp.argmax(batch.label, -1))


@functools.cache
def program() -> Any:
    options = {"steps": STEPS, "queries": 20}
    attack = functools.partial(attacks.autoattack, FORWARD, **options)
    return jax.jit(lambda batch, e: attack(batch, KEY, epsilon=e))


def test_what_its_parts_mislead_it_misleads() -> None:
    batch, epsilon = drawn(), 0.04
    image = program()(batch, epsilon)
    assert jnp.all((image >= 0) & (image <= 1))
    assert jnp.all(jnp.abs(image - batch.image) <= epsilon + 1e-6)
    part = functools.partial(attacks.apgd, FORWARD, batch, KEY, epsilon=epsilon, steps=STEPS)
    first = jax.jit(part)()
    found = wrong(batch, image)
    assert np.all(found[wrong(batch, first)])
    assert_same(image[wrong(batch, first)], first[wrong(batch, first)])  # and is left alone
    assert wrong(batch, first).sum() < found.sum() < SIZE


def test_one_program_for_all_epsilons_in_any_order_and_company() -> None:
    batch = drawn()
    images = [program()(batch, e) for e in (0.05, 0.1)]
    order = jnp.asarray(np.random.default_rng(0).permutation(SIZE))
    moved = program()(jax.tree.map(lambda a: a[order], batch), 0.1)
    np.testing.assert_allclose(moved, images[1][order], atol=1e-6)
    misled = batch.replace(label=jnp.roll(batch.label, 1, axis=1).at[:5].set(batch.label[:5]))
    found = program()(misled, 0.1)
    assert_same(found[5:], batch.image[5:])
    np.testing.assert_allclose(found[:5], images[1][:5], atol=1e-6)
    assert program()._cache_size() == 1


@pytest.mark.slow
def test_mapped_over_epsilons() -> None:
    batch = drawn()
    mapped = jax.jit(jax.vmap(program().__wrapped__, (None, 0)))(batch, jnp.array([0.05, 0.1]))
    expected = jnp.stack([program()(batch, e) for e in (0.05, 0.1)])
    np.testing.assert_allclose(mapped, expected, atol=1e-5)


@pytest.mark.parametrize("classes", [2, 3, 4, 20])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_any_number_of_classes(classes: int, norm: str) -> None:
    forward = rj.from_function(
        lambda params, x: x.reshape(len(x), -1) @ params, jnp.ones((8, classes))
    )
    batch = rj.Batch(jnp.zeros((2, *SHAPE)), jnp.eye(classes)[:2])
    found = jax.eval_shape(
        lambda b: attacks.autoattack(forward, b, KEY, epsilon=0.1, norm=norm), batch
    )
    assert found.shape == batch.image.shape


def test_mistakes() -> None:
    attack = functools.partial(attacks.autoattack, FORWARD, key=KEY, epsilon=0.1)
    with pytest.raises(ValueError, match=r"autoattack needs images \[B, H, W, K\]"):
        attack(drawn().replace(image=drawn().image.reshape(SIZE, -1)))
    with pytest.raises(ValueError, match=r"queries must be at least 1, got 0"):
        attack(drawn(), queries=0)
    with pytest.raises(ValueError, match=r"autoattack knows the norms"):
        attack(drawn(), norm="l0")
