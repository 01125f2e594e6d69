"""What whole trainings cost: products counted by hand, and the way from a classifier's folder."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
import tiny_players
import toys
from ml_collections import ConfigDict

from experiments import ConfigError, classify, generate
from experiments.benchmark import whole_training
from experiments.data import spec
from experiments.runs import samples
from experiments.runs.load import Trained
from experiments.runs.plan import plan

BATCH, STEPS, TAKEN = 18, 6, 3
NOISE, WIDTH, PIXELS, CLASSES = 3, 8, (2 * toys.SIDE) ** 2, toys.CLASSES


@pytest.fixture(autouse=True)
def brought(monkeypatch):
    """A pair of networks, a classifier and a data set that take little time."""
    tiny_players.bring(monkeypatch)


def config(loss, *, model="tiny", **changes):
    return tiny_players.config(loss, model, **changes)


def untrained(loss, experiment, **changes):
    """A run that has not moved, of as many steps as if it had."""
    given = config(loss, **changes).to_dict()
    data = toys.pictures()
    known = spec.of_arrays(data.train, data.classes, data.class_names, data.scored)
    task = experiment.task(given, known, STEPS / 3)
    state = task.init(np.uint32(0), experiment.parse(loss))
    if experiment is generate.GENERATION:
        moves = dataclasses.replace(state.loss_state, taken=jnp.int32(TAKEN))
        state = state._replace(loss_state=moves)
    (run,) = plan(given, experiment.parse)
    return Trained(task, state, known, loss, STEPS, (), given, experiment, run)


def of_players(inputs, seen, outputs, linear=False):
    """Multiply-adds of an image: of the critic's step, and of the generator's behind it.

    A loss that is linear in the critic's outputs needs none of them to move the generator.
    """
    made = inputs * WIDTH + WIDTH * PIXELS
    first, last = seen * WIDTH, WIDTH * outputs
    # Of real and of generated images: outputs, both kernels, the hidden layer.
    critic = made + 2 * (2 * first + 3 * last)
    # Outputs once more, back to the image; both kernels of the generator, its hidden layer.
    return critic, 2 * first + (1 if linear else 2) * last + made + WIDTH * PIXELS


@pytest.mark.parametrize(
    ("loss", "sizes", "taken"),
    [
        ("wgan(critic_steps=2, many=2)", (NOISE, PIXELS, 1), TAKEN),
        ("wgan(critic_steps=2, many=2, each_class=True)", (NOISE, PIXELS, 1), TAKEN),
        ("acgan()", (NOISE + CLASSES, PIXELS, 1 + CLASSES), STEPS),
        ("cgan()", (NOISE + CLASSES, PIXELS * (1 + CLASSES), 1), STEPS),
    ],
)
def test_the_critic_moves_at_every_step_and_the_generator_when_it_is_its_turn(loss, sizes, taken):
    found = untrained(loss, generate.GENERATION, model="tiny(width=8, latents=3)")
    moves = dataclasses.replace(found.state.loss_state, taken=jnp.int32(taken))
    found = found._replace(state=found.state._replace(loss_state=moves))
    critic, generator = of_players(*sizes, linear=loss.startswith("wgan"))
    expected = 2 * BATCH * (STEPS * critic + taken * generator)
    assert whole_training.of_training(found) == expected


@pytest.mark.parametrize(
    ("loss", "inputs", "networks"),
    [("cgan()", NOISE + CLASSES, 1), ("wgan(each_class=True)", NOISE, CLASSES)],
)
def test_an_image_takes_a_forward_pass_of_each_network(loss, inputs, networks):
    found = untrained(loss, generate.GENERATION, model="tiny(width=8, latents=3)")
    expected = 10 * networks * 2 * (inputs * WIDTH + WIDTH * PIXELS)
    assert whole_training.of_images(found, 10) == expected


def test_a_classifiers_training_is_its_steps():
    plain = untrained("cross_entropy", classify.CLASSIFICATION)
    # Outputs, both kernels, and the hidden layer.
    each = 2 * (PIXELS * WIDTH + WIDTH * CLASSES) + WIDTH * CLASSES
    assert whole_training.of_training(plain) == STEPS * 2 * BATCH * each
    isda = untrained("isda(strength=0.5)", classify.CLASSIFICATION)
    assert whole_training.of_training(isda) > whole_training.of_training(plain)


def test_images_that_are_gone_are_named():
    given = untrained("cross_entropy", classify.CLASSIFICATION)
    mixture = {"digits": 0.1, "npz:of_others_{seed}": 0.1}
    found = given._replace(config=given.config | {"mixture": mixture, "seeds": 2})
    with pytest.raises(ConfigError, match="npz:of_others_0 is named"):
        list(whole_training.generators(found))


@pytest.mark.slow
def test_a_folder_leads_to_the_generator_of_its_images(tmp_path):
    game = config("acgan()", model="tiny(width=8, latents=3)", seeds=2)
    generate.compare(game, tmp_path / "made")
    recipe = samples.Recipe(per_class=4, test_per_class=2)
    for seed in range(2):
        samples.write(tmp_path / "made", tmp_path / f"samples_{seed}", recipe, seed=seed)
    classify.compare(config("cross_entropy"), tmp_path / "plain")
    mixture = ConfigDict({f"npz:{tmp_path}/samples_{{seed}}": 1 / 6})
    given = config("cross_entropy", mixture=mixture, seeds=2)
    classify.compare(given, tmp_path / "mixed")
    names = (str(tmp_path / "plain"), str(tmp_path / "mixed"))
    plain, mixed = whole_training.rows(names)
    assert (plain["steps"], plain["generator_steps"], plain["extra"]) == (STEPS, 0, 0)
    # 15 of 36 images in each batch of 18.
    assert (mixed["steps"], mixed["generator_steps"]) == (9, STEPS)
    critic, generator = of_players(NOISE + CLASSES, PIXELS, 1 + CLASSES)
    images = 6 * CLASSES * 2 * ((NOISE + CLASSES) * WIDTH + WIDTH * PIXELS)
    expected = (2 * BATCH * STEPS * (critic + generator) + images) / 1e12
    assert mixed["generator_tflop"] == pytest.approx(expected)
    whole = mixed["tflop"] + mixed["generator_tflop"]
    assert mixed["extra"] == pytest.approx(whole / plain["tflop"] - 1)
