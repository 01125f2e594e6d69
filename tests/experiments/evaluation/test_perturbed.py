"""Answers and scores under perturbations: all levels in one program, the same wherever it runs."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
import sklearn.metrics
import tiny_answers
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P
from scipy.special import log_softmax, softmax
from tiny_answers import Examples

import regjax as rj
from experiments.evaluation import perturbed
from experiments.evaluation.perturbation_entries import read

SHAPE, CLASSES, COUNT, FIRST = (4, 4, 1), 4, 17, 5
NOISE = read("white_noise(sigma=(0.0, 0.3, 2.0))")
PGD = read("pgd(epsilon=(0.0, 0.1, 0.5), steps=4)")
TASK = tiny_answers.Task(classes=CLASSES)


def network(seed=0):
    """Its parameters."""
    return np.random.default_rng(seed + 10).normal(size=(16, CLASSES)).astype(np.float32)


@functools.cache
def split(seed=0):
    generator = np.random.default_rng(seed)
    image = generator.integers(0, 256, (COUNT, *SHAPE)).astype(np.uint8)
    return image, generator.integers(0, CLASSES, COUNT).astype(np.int32)


def examples(chosen=slice(None), seed=0):
    """Of the test split, in which they have the indices from `FIRST` on."""
    image, label = (part[chosen] for part in split(seed))
    index = np.arange(FIRST, FIRST + COUNT, dtype=np.int32)[chosen]
    return Examples({"image": image, "label": label}, index)


@functools.cache
def program(perturbation, task=TASK):
    return jax.jit(functools.partial(perturbation.measure, task))


def rows(perturbation, state=None, given=None, task=TASK):
    state, given = network() if state is None else state, given or examples()
    return jax.tree.map(np.asarray, program(perturbation, task)(state, given))


def answer(image, state):
    """The network's in NumPy, of prepared images."""
    return image.reshape(len(image), -1) @ state.astype(np.float64)


@functools.partial(jax.jit, static_argnums=1)
def noise(index, shape):
    key = jax.random.fold_in(jax.random.key(perturbed.ROOT), index)[None]
    return rj.corruptions.white_noise(jnp.zeros((1, *shape)), 1.0, key, protocol="paper")


@functools.cache
def noises():
    each = [noise(index, SHAPE) for index in examples().number]
    return np.concatenate(each).astype(np.float64)


def noisy(state, level):
    """Logits image by image, each with the noise that its index has."""
    return answer((split()[0] / 255 - 0.4) / 0.3 + level * noises(), state)


def test_every_example_is_answered_at_every_level():
    found, label = rows(NOISE), split()[1]
    assert {name: (x.shape, x.dtype) for name, x in found.items()} == {
        "label": ((COUNT,), np.int32),
        "prediction": ((COUNT, 3), np.int32),
        "nll": ((COUNT, 3), np.float32),
        "confidence": ((COUNT, 3), np.float32),
    }
    assert found["label"].tolist() == label.tolist()
    for i, level in enumerate(NOISE.levels):
        g = noisy(network(), level)
        assert found["prediction"][:, i].tolist() == g.argmax(-1).tolist()
        np.testing.assert_allclose(found["confidence"][:, i], softmax(g, -1).max(-1), rtol=1e-3)
        nll = -log_softmax(g, -1)[np.arange(COUNT), label]
        np.testing.assert_allclose(found["nll"][:, i], nll, rtol=1e-3, atol=1e-4)
    assert np.any(found["prediction"][:, 0] != found["prediction"][:, 2])


def test_the_scores_of_each_level():
    found, label = NOISE.scores(rows(NOISE)), split()[1]
    assert tuple(found) == ("accuracy", "nll", "ece")
    for i, level in enumerate(NOISE.levels):
        g = noisy(network(), level)
        assert found["accuracy"][i] == sklearn.metrics.accuracy_score(label, g.argmax(-1))
        loss = sklearn.metrics.log_loss(label, softmax(g, -1), labels=range(CLASSES))
        np.testing.assert_allclose(found["nll"][i], loss, rtol=1e-4)
        given = jnp.asarray(g, jnp.float32), jax.nn.one_hot(label, CLASSES)
        theirs = rj.metrics.expected_calibration_error(*given)
        np.testing.assert_allclose(found["ece"][i], theirs, atol=1e-5)
    assert np.ptp(found["accuracy"]) > 0


def test_examples_without_a_label_count_nowhere():
    given, label = examples(), split()[1].copy()
    label[:9] = -1
    given = given._replace(stored={**given.stored, "label": label})
    found, some = NOISE.scores(rows(NOISE, given=given)), rows(NOISE)
    expected = NOISE.scores({name: x[9:] for name, x in some.items()})
    assert found == expected
    assert found != NOISE.scores(some)
    nothing = {name: x[:9] for name, x in rows(NOISE, given=given).items()}
    assert NOISE.scores(nothing) == dict.fromkeys(("accuracy", "nll", "ece"), [None] * 3)


def test_a_network_that_answers_nan_is_wrong():
    found = NOISE.scores(rows(NOISE, np.full((16, CLASSES), np.nan, np.float32)))
    assert found["accuracy"] == [0.0] * 3
    assert np.isnan(found["nll"] + found["ece"]).all()


@pytest.mark.parametrize("perturbation", [NOISE, PGD], ids=["noise", "attack"])
def test_answers_depend_on_the_index_and_not_on_place_or_company(perturbation):
    whole, order = rows(perturbation), np.random.default_rng(0).permutation(COUNT)[:8]
    for chosen in (order, slice(0, 7), slice(7, COUNT)):
        part = rows(perturbation, given=examples(chosen))
        for name, values in part.items():
            np.testing.assert_allclose(values, whole[name][chosen], rtol=1e-3, atol=1e-4)
    moved = examples()._replace(number=examples().number + 1)
    other = rows(perturbation, given=moved)["nll"]
    level = 1 if perturbation is PGD else 2
    assert np.abs(other - whole["nll"])[:, level].max() > 1e-4
    again = rows(perturbation)
    assert all(np.array_equal(again[name], whole[name]) for name in whole)


def under_map(states, given):
    return jax.vmap(functools.partial(PGD.measure, TASK), (0, None))(states, given)


def in_a_loop(states, given):
    return jax.lax.map(lambda state: PGD.measure(TASK, state, given), states)


def on_devices(states, given):
    mesh = jax.make_mesh((2,), ("run",), axis_types=(AxisType.Auto,))
    each = jax.vmap(functools.partial(PGD.measure, TASK), (0, None))
    places = {"in_specs": (P("run"), P()), "out_specs": P("run")}
    return jax.shard_map(each, mesh=mesh, check_vma=False, **places)(states, given)


@pytest.mark.parametrize("together", [under_map, in_a_loop, on_devices])
def test_an_attack_is_the_same_with_whatever_other_networks_it_is_made(together):
    states = np.stack([network(seed) for seed in range(2)])
    found = jax.jit(together)(states, jax.tree.map(jnp.asarray, examples()))
    for i, state in enumerate(states):
        for name, expected in rows(PGD, state).items():
            np.testing.assert_allclose(found[name][i], expected, rtol=1e-3, atol=1e-4)


def test_an_attack_at_full_strength_leaves_nothing():
    found = PGD.scores(rows(PGD))
    assert found["nll"][0] + 0.01 < found["nll"][1] < found["nll"][2]
    assert found["accuracy"][2] == 0 < found["accuracy"][0]
    clean = NOISE.scores(rows(NOISE))
    np.testing.assert_allclose(found["nll"][0], clean["nll"][0], rtol=1e-3)


def test_all_levels_are_one_program_which_is_traced_once():
    traces: list[int] = []

    def counted(params, image):
        traces.append(1)
        return tiny_answers.linear(params, image)

    task, counts = tiny_answers.Task(counted, CLASSES), []
    for text in ("white_noise(sigma=0.1)", "white_noise(sigma=(0.1, 0.2, 0.3))"):
        traces.clear()
        rows(read(text), task=task)
        counts.append(len(traces))
        rows(read(text), task=task)  # equal, and so no other program
        assert len(traces) == counts[-1]
    assert counts == [1, 1]


def test_pixels_may_be_stored_as_floats():
    given = examples()
    image = given.stored["image"].astype(np.float32) / 255
    found = rows(NOISE, given=given._replace(stored={**given.stored, "image": image}))
    for name, expected in rows(NOISE).items():
        np.testing.assert_allclose(found[name], expected, rtol=1e-4, atol=1e-5)


def test_the_network_sees_its_own_precision():
    half = tiny_answers.Task(classes=CLASSES, dtype=jnp.bfloat16)
    shapes = jax.eval_shape(functools.partial(PGD.measure, half), network(), examples())
    assert shapes["nll"].dtype == jnp.float32
    found, expected = rows(NOISE, task=half), rows(NOISE)
    assert 1e-4 < np.abs(found["nll"] - expected["nll"]).max() < 1


def test_only_pixels_as_bytes_or_floats_are_taken():
    wrong = examples()._replace(stored={"image": np.zeros((3, *SHAPE), np.int32), "label": None})
    with pytest.raises(TypeError, match="must be uint8 or floating"):
        NOISE.measure(TASK, network(), wrong)


# Other data sets.


def test_a_stored_corruption_reads_a_data_set_for_each_level():
    glass = read("stored_corruption(name='glass_blur', severity=(2, 4), std=(0.2,), examples=9)")
    names = ["cifar10_corrupted/frosted_glass_blur_2", "cifar10_corrupted/frosted_glass_blur_4"]
    assert [glass.reads(level) for level in glass.levels] == names
    (first, one), (second, other) = glass.parts()
    assert [first, second] == names
    assert one == other  # one compiled program
    assert (one.levels, one.examples, one.options) == ((1.0,), 9, glass.options)
    assert glass.headings == ("severity 2", "severity 4")
    assert glass.labels(np.arange(3), ("a",), ("b",)).tolist() == [0, 1, 2]
    fog = read("stored_corruption(name='fog', severity=1)")
    assert fog.reads(1) == "cifar10_corrupted/fog_1"


def test_stored_images_are_scored_as_they_are():
    glass, each = read("stored_corruption(name='glass_blur', severity=(2, 4), std=(0.2,))"), []
    for severity, (_, one) in zip((2, 4), glass.parts(), strict=True):
        each.append(one.scores(rows(one, given=examples(seed=severity))))
    found = perturbed.joined(each)
    for i, severity in enumerate((2, 4)):
        image, label = split(severity)
        g = answer((image / 255 - 0.4) / 0.2, network())
        assert found["accuracy"][i] == np.mean(g.argmax(-1) == label)
        nll = -log_softmax(g, -1)[np.arange(COUNT), label].mean()
        np.testing.assert_allclose(found["nll"][i], nll, rtol=2e-4)
    assert len(found["ece"]) == 2


def test_another_data_set_is_scored_where_its_classes_are_ours():
    cats = read("dataset(name='cats', map={'cat': ('tabby', 'lion'), 'ship': 'boat'})")
    assert cats.reads(1.0) == "cats"
    ((name, one),) = cats.parts()
    assert (name, one, cats.headings) == ("cats", cats, ("cats",))
    theirs, ours = ("tabby", "oak", "lion", "boat"), ("ship", "cat", "dog", "car")
    image, label = split(3)
    mapped = cats.labels(label, theirs, ours)
    assert mapped.tolist() == np.array([1, -1, 1, 0])[label].tolist()
    given = Examples({"image": image, "label": mapped}, np.arange(COUNT, dtype=np.int32))
    g, known = answer((image / 255 - 0.4) / 0.3, network()), mapped >= 0
    found = cats.scores(rows(cats, given=given))
    assert found["accuracy"] == [np.mean(g.argmax(-1)[known] == mapped[known])]
    nll = -log_softmax(g, -1)[known, mapped[known]].mean()
    np.testing.assert_allclose(found["nll"], [nll], rtol=1e-4)
    equal = read("dataset(name='cats')")
    assert equal.labels(np.arange(4), ("dog", "oak", "ship", "x"), ours).tolist() == [2, -1, 0, -1]


def test_our_own_images_are_one_part():
    assert NOISE.reads(0.3) is None
    assert NOISE.parts() == [(None, NOISE)]
    assert NOISE.headings == ("sigma 0", "sigma 0.3", "sigma 2")
    some = dataclasses.replace(NOISE, examples=4)
    assert some.parts() == [(None, some)]


def test_of_several_draws_the_first_is_the_usual_one_and_scores_are_means():
    """Draws of a perturbation are independent of each other, and the same for every network."""
    several = read("white_noise(sigma=(0.3, 2.0), draws=3)")
    found, one = rows(several), rows(read("white_noise(sigma=(0.3, 2.0))"))
    assert found["nll"].shape == (COUNT, 2, 3)
    np.testing.assert_allclose(found["nll"][..., 0], one["nll"], rtol=1e-4, atol=1e-5)
    assert np.ptp(found["nll"], axis=-1).min() > 0
    scores, label = several.scores(found), split()[1]
    right = (found["prediction"] == label[:, None, None]).mean(0)
    assert scores["accuracy_by_draw"] == right.tolist()
    np.testing.assert_allclose(scores["accuracy"], right.mean(-1))
    np.testing.assert_allclose(scores["nll"], found["nll"].astype(float).mean((0, 2)), rtol=1e-6)
    assert "accuracy_by_draw" not in NOISE.scores(rows(NOISE))


def test_of_another_data_set_there_are_scores_by_class():
    other = read("dataset(name='digits')")
    state = network() / 20  # which is not sure of anything
    found, label = rows(other, state), split()[1]
    scores = other.scores(found)
    right = found["prediction"][:, 0] == label
    ((*accuracy,),) = scores["class_accuracy"]
    assert accuracy == [right[label == c].mean() for c in range(label.max() + 1)]
    assert scores["class_count"] == [np.bincount(label).tolist()]
    p = softmax(answer((split()[0] / 255 - 0.4) / 0.3, state), -1)
    unsure = right & (p[np.arange(COUNT), label] <= 0.5)
    assert scores["unsure_count"] == [unsure.sum()]
    assert unsure.any()
    np.testing.assert_allclose(
        scores["unsure_uncertainty"], [scipy.stats.entropy(p[unsure], axis=-1).mean()], rtol=1e-3
    )
