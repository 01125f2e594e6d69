"""Two players as a task: whose turn it is, what they share, what is loaded.

Covers `training/generator.py` too.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import regjax as rj
from experiments.training.games import Game
from experiments.training.objectives import parse
from experiments.training.task import Examples

SHAPE, CLASSES, NOISE = (2, 2, 1), 2, 3


def build(objective, key, axis_name=None):
    """Linear players."""
    del axis_name
    told = CLASSES if objective.of == "labels" else 0
    inputs = NOISE + objective.codes + told
    pixels = 4 * (1 + objective.maps(CLASSES))
    first, second = jax.random.split(key)
    a = 0.1 * jax.random.normal(first, (inputs, 4))
    w = 0.1 * jax.random.normal(second, (pixels, 1 + objective.outputs(CLASSES)))
    return {
        "generator": rj.from_function(make, a),
        "critic": rj.from_function(judge, w),
    }


def make(a, z):
    return jnp.tanh(z @ a).reshape(len(z), *SHAPE)


def judge(w, x):
    return x.reshape(len(x), -1) @ w


def game(**changes):
    example = {
        "image": jax.ShapeDtypeStruct(SHAPE, jnp.uint8),
        "label": jax.ShapeDtypeStruct((), jnp.int32),
    }
    return Game(build, optax.sgd(0.05), NOISE, CLASSES, example, **changes)


def examples(size=8, seed=0):
    rng = np.random.default_rng(seed)
    stored = {
        "image": jnp.asarray(rng.integers(0, 256, (size, *SHAPE)), jnp.uint8),
        "label": jnp.arange(size, dtype=jnp.int32) % CLASSES,
    }
    return Examples(stored, jnp.arange(size), jnp.ones(size))


def steps(task, objective, count):
    """The states behind so many steps, stacked."""
    batch = task.batch(examples())

    def step(state, _):
        state, _ = task.step(state, objective, batch, jnp.uint32(0))
        return state, state

    run = jax.jit(lambda: jax.lax.scan(step, task.init(jnp.uint32(0), objective), length=count))
    return run()


@pytest.mark.slow
def test_the_critic_takes_a_hundred_steps_at_first_and_at_every_five_hundredth():
    _, each = steps(game(), parse("wgan(clip=0.01)"), 5_100)
    expected, taken = [], 0
    while len(expected) < 5_100:
        due = 100 if taken < 25 or taken % 500 == 0 else 5
        expected += [taken] * (due - 1) + [taken + 1]
        taken += 1
    moves = np.asarray(each.loss_state.taken)
    np.testing.assert_array_equal(moves, expected[:5_100])
    assert moves[-1] > 500  # so that the second kind was there
    kernel = np.asarray(each.params["generator"])
    moved = (np.diff(kernel, axis=0) != 0).any((1, 2))
    np.testing.assert_array_equal(moved, np.diff(moves) > 0)
    bound = 0.01 + 0.05 * 2 + 1e-6  # clipped before a step of the critic, not behind it
    assert np.abs(each.params["critic"]).max() <= bound


@pytest.mark.slow
def test_a_pair_of_each_class_learns_from_its_images_alone():
    task, objective = game(), parse("wgan(each_class=True, critic_steps=1, many=1)")
    start = task.init(jnp.uint32(0), objective)
    step = jax.jit(functools.partial(task.step, objective=objective, seed=jnp.uint32(0)))
    given = examples()
    state, _ = step(start, batch=task.batch(given))
    image = given.stored["image"].at[1::2].set(7)  # of class 1
    other, _ = step(start, batch=task.batch(given._replace(stored=given.stored | {"image": image})))
    for player in ("generator", "critic"):
        mine, theirs = state.params[player], other.params[player]
        assert len(mine) == CLASSES
        np.testing.assert_array_equal(mine[0], theirs[0])
        assert np.abs(mine[1] - theirs[1]).max() > 0
        assert np.abs(mine[0] - start.params[player][0]).max() > 0
    found = task.generator(state)
    label = jnp.array([1, 0, 1])
    latent = jax.random.normal(jax.random.key(3), (3, NOISE))
    one_by_one = [
        make(state.params["generator"][c], z[None]) for c, z in zip(label, latent, strict=True)
    ]
    expected = (np.concatenate(one_by_one) + 1) / 2
    np.testing.assert_allclose(found(latent, label), expected, atol=1e-6)


def test_a_generator_is_told_its_label_and_draws_alike_for_a_key():
    task, objective = game(decay=0.5), parse("infogan()")
    start = task.init(jnp.uint32(0), objective)
    state, metrics = jax.jit(lambda s: task.step(s, objective, task.batch(examples()), 0))(start)
    assert set(metrics) == set(task.terms(objective))
    half = (start.params["generator"] + state.params["generator"]) / 2
    np.testing.assert_allclose(state.average, half, atol=1e-6)
    found = task.generator(state)
    assert (found.latents, found.codes, found.of) == (NOISE + 2, 2, "labels")
    label = jnp.array([0, 1, 1])
    image = found.draw(jax.random.key(1), label)
    assert image.shape == (3, *SHAPE)
    np.testing.assert_array_equal(image, found.draw(jax.random.key(1), label))
    assert 0 <= image.min() <= image.max() <= 1
    latent = jnp.zeros((2, NOISE + 2))
    apart = found(latent, jnp.array([0, 1]))
    expected = (jnp.tanh(half[-2:]).reshape(2, *SHAPE) + 1) / 2
    np.testing.assert_allclose(apart, expected, atol=1e-6)
    with pytest.raises(ValueError, match=r"latents \[B, 5\] and labels \[B\]"):
        found(latent[:, 1:], jnp.array([0, 1]))
    assert task.network(state, "critic")(image[..., :]).logits.shape == (3, 5)
    with pytest.raises(ValueError, match="parts of a game are generator, critic"):
        task.network(state, "judge")
