"""Training: against a plain loop written out here; sweeps: equal to single runs, compiled once."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import regjax as rj
import regjax.flax
from experiments import models, optimizers, sweep, training
from experiments.data.preprocessing import normalise

CLASSES, SHAPE, BATCH = 3, (4, 4, 1), 6
EXPRESSIONS = [
    "cross_entropy | double_backprop(weight={}) | noise_injection(sigma=0.1)",
    "cross_entropy | jacobian(weight={}, probes=1)",
]


@functools.cache
def data():
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (30, *SHAPE)).astype(np.uint8)
    label = (np.arange(30) % CLASSES).astype(np.int32)
    image[np.arange(30), label] = 255  # something to learn
    return training.Data(jnp.asarray(image), jnp.asarray(label))


@functools.cache
def task(model="small_cnn", optimizer="adam"):
    def build(key, axis_name=None):
        return regjax.flax.bind(models.create(model, SHAPE, CLASSES, nnx.Rngs(key)))

    return training.Task(build, optimizers.optimizer(optimizer, 0.01), normalise, CLASSES)


def batches(seed, steps=4):
    generator = np.random.default_rng(seed)
    index = np.stack([generator.permutation(30)[:BATCH] for _ in range(steps)]).astype(np.int32)
    return index, np.ones(index.shape, np.float32)


def single(expression, seed, count, model=("small_cnn", "adam")):
    """One run, by the functions of training.py alone."""
    loss = jax.tree.map(jnp.float32, rj.parse(expression))
    state = training.init(task(*model), jnp.uint32(seed))
    state = training.init_loss(task(*model), SHAPE, state, loss)
    advance = jax.jit(functools.partial(training.train_steps, task(*model), data()))
    return advance(count, state, loss, jnp.uint32(seed), *batches(seed))[:2]


def swept(program, expression, strengths, seeds, count):
    losses = sweep.stack([rj.parse(expression.format(s)) for s in strengths])
    seeds = np.asarray(seeds, np.uint32)
    index, weight = map(np.stack, zip(*(batches(int(s)) for s in seeds), strict=True))
    states = program.init(losses, seeds)
    return program.advance(states, losses, seeds, index, weight, count)[:2]


def test_a_step_is_the_optimizers_step_on_the_losses_gradient():
    state, metrics = single("cross_entropy", seed=3, count=1)
    forward = task().build(jax.random.split(jax.random.key(3))[0])
    index = batches(3)[0][0]
    label = np.asarray(data().label)[index]

    def mean_loss(params):
        logits = forward.replace(params=params)(data().image[index] / jnp.float32(255)).logits
        return -jnp.mean(jax.nn.log_softmax(logits)[jnp.arange(BATCH), label])

    value, gradient = jax.value_and_grad(mean_loss)(forward.params)
    updates, _ = optax.adam(0.01).update(gradient, optax.adam(0.01).init(forward.params))
    np.testing.assert_allclose(metrics["total"], value, rtol=1e-5)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5),
        state.params,
        optax.apply_updates(forward.params, updates),
    )


@pytest.mark.parametrize("strategy", sweep.STRATEGIES)
@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_a_sweep_equals_single_runs(strategy, expression):
    strengths, seeds = (0.0, 0.1, 1.0, 0.5) * 2, (0, 1, 2, 3, 3, 2, 1, 0)
    program = sweep.Sweep(task(), data(), strategy)
    states, metrics = swept(program, expression, strengths, seeds, count=3)
    for i in (1, 4, 7):
        state, alone = single(expression.format(strengths[i]), seeds[i], 3)
        np.testing.assert_allclose(metrics["total"][i], alone["total"], rtol=1e-4)
        jax.tree.map(
            lambda many, one, i=i: np.testing.assert_allclose(many[i], one, rtol=1e-3, atol=2e-5),
            states.params,
            state.params,
        )
    assert not np.allclose(metrics["total"][0], metrics["total"][1], rtol=1e-3)


def test_a_sweep_carries_batchnorm_and_equals_single_runs():
    program = sweep.Sweep(task("thesis_resnet", "sgd"), data(), "vmap")
    states, _ = swept(program, EXPRESSIONS[0], (0.1, 0.2), (0, 1), count=3)
    state, _ = single(EXPRESSIONS[0].format(0.2), 1, 3, ("thesis_resnet", "sgd"))
    for many, one in zip(
        jax.tree.leaves(states.model_state), jax.tree.leaves(state.model_state), strict=True
    ):
        np.testing.assert_allclose(many[1], one, rtol=1e-3, atol=1e-4)
        assert not np.allclose(one, np.round(one))  # neither the initial 0 nor 1


def test_one_program_serves_all_strengths_and_numbers_of_steps():
    program = sweep.Sweep(task(), data(), "map")
    for strength, count in ((0.1, 1), (0.2, 4)):
        swept(program, EXPRESSIONS[0], (strength, 2 * strength), (0, 1), count)
    assert program._advance._cache_size() == 1


def test_training_learns_and_predicts_every_example():
    program = sweep.Sweep(task(), data(), "map")
    losses, seeds = sweep.stack([rj.cross_entropy()] * 2), np.arange(2, dtype=np.uint32)
    states = program.init(losses, seeds)
    index = np.tile(np.arange(30, dtype=np.int32).reshape(5, BATCH), (2, 8, 1))
    states, first, _ = program.advance(states, losses, seeds, index, np.ones(index.shape, "f4"), 5)
    states, last, _ = program.advance(states, losses, seeds, index, np.ones(index.shape, "f4"), 40)
    assert (last["total"] < 0.6 * first["total"]).all()
    logits = program.predict_all(states, index[:, :5])
    assert logits.shape == (2, 30, CLASSES)
    assert (np.argmax(logits, -1) == np.asarray(data().label)[None]).mean() > 0.8


def test_padding_of_weight_zero_changes_nothing():
    index, weight = batches(0)
    other = index.copy()
    other[:, -2:] = 29 - index[:, -2:]
    weight[:, -2:] = 0
    results = []
    for chosen in (index, other):
        loss = jax.tree.map(jnp.float32, rj.parse(EXPRESSIONS[0].format(0.1)))
        state = training.init_loss(task(), SHAPE, training.init(task(), jnp.uint32(0)), loss)
        run = jax.jit(functools.partial(training.train_steps, task(), data()))
        results.append(run(3, state, loss, jnp.uint32(0), chosen, weight)[0].params)
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-6), *results)


def test_equal_seeds_give_equal_networks_and_other_seeds_others():
    first, again, other = (training.init(task(), jnp.uint32(s)).params for s in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert not np.allclose(first["head"]["kernel"], other["head"]["kernel"])


def test_errors_name_what_is_known():
    with pytest.raises(ValueError, match="unknown strategy 'pmap'; known are: vmap, map, sharded"):
        sweep.over_runs(lambda: None, "pmap")
    with pytest.raises(ValueError, match="differ only in numbers"):
        sweep.stack([rj.cross_entropy(), rj.l2(rj.cross_entropy(), weight=1.0)])
    with pytest.raises(ValueError, match="probes must be None or a whole number of at least 1"):
        loss = rj.frobenius(rj.cross_entropy(), weight=1, probes=0)
        training.check(task(), SHAPE, loss, 2)
