"""Scores under perturbations: every test image once, on any devices, all levels in one program."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_corrupted
import tiny_imagenet
import tiny_runs
from scipy.special import log_softmax
from tiny_runs import CLASSES, SHAPE

import regjax as rj
from experiments.data.preprocessing import normalise
from experiments.data.sources import DataError, Dataset, MissingDataError
from experiments.data.streams import Streams
from experiments.evaluation import classification as scores
from experiments.evaluation import perturbed as robustness
from experiments.evaluation.perturbation_entries import read
from experiments.runs.plan import Run
from experiments.training import step as training
from experiments.training.memory import Memory
from experiments.training.parallel import Parallel
from experiments.training.streaming import Stream
from experiments.training.sweep import Sweep

TRAIN, BATCH = 5, 8
MOST = 2 * BATCH + 1
COUNTS = (BATCH - 1, BATCH, BATCH + 1, MOST)
NOISE = read("white_noise(sigma=(0.0, 0.3, 2.0))")
PGD = read("pgd(epsilon=(0.0, 0.1), steps=2)")
RUNS = [Run("m", "cross_entropy", 0, None, seed) for seed in range(3)]


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(scores, "BATCH", BATCH)


@functools.cache
def split(count, seed=0):
    generator = np.random.default_rng(seed)
    image = generator.integers(0, 256, (count, *SHAPE)).astype(np.uint8)
    return image, generator.integers(0, CLASSES, count).astype(np.int32)


@functools.cache
def task(**options):
    """With a normalisation that is not that of [0, 1], and statistics that are not a batch's."""
    prepare = functools.partial(normalise, mean=0.4, std=0.3)
    return dataclasses.replace(tiny_runs.task(norm=True, **options), prepare=prepare)


def memory(tests, data_dir=None, classes=CLASSES):
    train, test = (
        dict(zip(("image", "label"), each, strict=True)) for each in (split(TRAIN), split(tests, 1))
    )
    return Memory(Dataset("tiny", train, test, classes), 0, data_dir)


@functools.cache
def program(kind, tests, chosen):
    data = memory(tests).data
    if kind in ("map", "sharded"):
        return Sweep(chosen, data, kind)
    return Parallel(chosen, data, SHAPE, kind)


def feed_of(kind, source, runs=1, chosen=None):
    """A feed of the first runs, whose programs are compiled once for sources of one size."""
    made = program(kind, len(source.data.label) - TRAIN, chosen or task())
    return source.feed(made, RUNS[:runs], 4)


def moved(states):
    """With averages of BatchNorm that are not those of the start."""
    return states._replace(model_state=jax.tree.map(lambda x: x + 0.5, states.model_state))


def started(feed):
    return moved(feed.start())


@functools.cache
def network(seed=0, chosen=None):
    """The same, by itself."""
    return moved(_init(chosen or task())(np.uint32(seed)))


@functools.cache
def _init(chosen):
    return jax.jit(functools.partial(training.init, chosen))


def answer(state, image):
    """The network in NumPy, of prepared images."""
    params, norm = (jax.tree.map(lambda x: np.asarray(x, np.float64), t) for t in state[1:4:2])
    hidden = image.reshape(len(image), -1) @ params["hidden"]["kernel"] + params["hidden"]["bias"]
    mean, var = norm["norm"]["mean"], norm["norm"]["var"]
    hidden = (hidden - mean) / np.sqrt(var + 1e-5)
    hidden = np.tanh(hidden * params["norm"]["scale"] + params["norm"]["bias"])
    return hidden @ params["head"]["kernel"] + params["head"]["bias"]


def noisy(image, index, sigma):
    """One prepared image with the noise that its index has."""
    clean = (image[None] / 255 - 0.4) / 0.3
    return clean + sigma * np.asarray(noise(index, clean.shape), np.float64)


@functools.partial(jax.jit, static_argnums=1)
def noise(index, shape):
    key = jax.random.fold_in(jax.random.key(robustness.ROOT), index)[None]
    return rj.corruptions.white_noise(jnp.zeros(shape), 1.0, key, protocol="paper")


def counted(state, images, label, first, levels=NOISE.levels):
    """Accuracy and negative log-likelihood at each level, image by image."""
    logits = [
        np.concatenate(
            [answer(state, noisy(image, first + i, level)) for i, image in enumerate(images)]
        )
        for level in levels
    ]
    right = [np.mean(each.argmax(-1) == label) for each in logits]
    places = np.arange(len(label))
    return right, [-np.mean(log_softmax(each, -1)[places, label]) for each in logits]


@pytest.mark.parametrize(
    ("kind", "runs", "tests"),
    [("map", 2, MOST), *((k, r, t) for k, r in (("sharded", 3), ("jit", 1)) for t in COUNTS)],
)
def test_every_test_image_in_memory_is_scored_exactly_once(kind, runs, tests):
    source = memory(MOST)
    source.tests = source.tests[:tests]
    feed = feed_of(kind, source, runs)
    found = feed.perturbed(started(feed), NOISE)
    assert {name: values.shape for name, values in found.items()} == dict.fromkeys(
        ("accuracy", "nll", "ece"), (runs, 3)
    )
    image, label = (part[:tests] for part in split(MOST, 1))
    for i in range(runs):
        accuracy, nll = counted(network(i), image, label, TRAIN)
        np.testing.assert_allclose(found["accuracy"][i], accuracy, atol=1e-6)
        # Of one image more or less this would be another mean.
        np.testing.assert_allclose(found["nll"][i], nll, rtol=2e-4)
    if tests == MOST:
        assert np.ptp(found["accuracy"][0]) > 0
        clean = feed.evaluate(started(feed))
        np.testing.assert_allclose(found["accuracy"][:, 0], clean["test_accuracy"], atol=1e-6)
        np.testing.assert_allclose(found["ece"][:, 0], clean["test_ece"], atol=1e-5)


@pytest.mark.parametrize("count", [4, 10])
def test_some_of_the_images_are_spaced_evenly_over_all(count):
    source = memory(9)
    feed = feed_of("map", source)
    some = dataclasses.replace(NOISE, levels=(0.0,), examples=count)
    found = feed.perturbed(started(feed), some)
    chosen = [0, 2, 4, 6] if count == 4 else range(9)
    image, label = (part[list(chosen)] for part in split(9, 1))
    accuracy, nll = counted(network(), image, label, 0, (0.0,))
    np.testing.assert_allclose(found["accuracy"][0], accuracy, atol=1e-6)
    np.testing.assert_allclose(found["nll"][0], nll, rtol=2e-4)


@functools.cache
def alone(run):
    feed = memory(9).feed(program("map", 9, task()), [run], 4)
    return feed.perturbed(started(feed), PGD)


@pytest.mark.parametrize("kind", ["map", "sharded", "jit"])
def test_an_attack_is_the_same_wherever_and_with_whatever_the_network_was_trained(kind):
    together = RUNS if kind in ("map", "sharded") else RUNS[:1]
    feed = feed_of(kind, memory(9), len(together))
    found = feed.perturbed(started(feed), PGD)
    for name, values in found.items():
        expected = np.concatenate([alone(run)[name] for run in together])
        np.testing.assert_allclose(values, expected, rtol=1e-3, atol=1e-5)
    assert np.all(found["nll"][:, 1] > found["nll"][:, 0] + 0.01)


def test_all_levels_are_one_program_which_is_traced_once():
    traces: list[int] = []

    def prepare(image, **options):
        traces.append(1)
        return normalise(image, **options)

    chosen = dataclasses.replace(task(), prepare=prepare)
    feed, counts = feed_of("map", memory(MOST), 2, chosen), []
    states = started(feed)
    for text in ("white_noise(sigma=0.1)", "white_noise(sigma=(0.1, 0.2, 0.3))"):
        perturbation = read(text)
        traces.clear()
        feed.perturbed(states, perturbation)
        counts.append(len(traces))
        feed.perturbed(states, read(text))  # equal, and so no other program
        assert len(traces) == counts[-1]
        assert feed._program._perturbed_all(perturbation)._cache_size() == 1
    assert counts == [1, 1]


def test_the_averaged_parameters_are_tested():
    chosen = task(decay=0.5)
    feed = feed_of("map", memory(9), 1, chosen)
    states = started(feed)
    averages = jax.tree.map(lambda x: x * 1.5, states.params)
    found = feed.perturbed(states._replace(average=averages), NOISE)
    state = network()._replace(params=jax.tree.map(lambda x: x * 1.5, network().params))
    np.testing.assert_allclose(found["nll"][0], counted(state, *split(9, 1), TRAIN)[1], 2e-4)


# Streams.


@pytest.mark.parametrize("tests", [BATCH - 1, BATCH + 1])
def test_every_streamed_test_image_is_scored_exactly_once(tests, tmp_path):
    tiny_imagenet.prepare(tmp_path, splits={"train": 8, "test": tests})
    streams = Streams("tiny_imagenet", tmp_path, image_size=4, workers=0)

    def build(key, axis_name=None):
        del axis_name
        kernel = jax.random.normal(key, (48, tiny_imagenet.CLASSES))
        return rj.from_function(lambda w, x: x.reshape(len(x), -1) @ w, kernel)

    prepare = functools.partial(normalise, mean=0.4, std=0.3)
    chosen = dataclasses.replace(task(), build=build, prepare=prepare)
    feed = Stream(streams).feed(Parallel(chosen, None, streams.shape, "shard_map"), RUNS[:1], 8)
    states = feed.start()
    found = feed.perturbed(states, NOISE)
    feed.close()
    ((image, label, index, weight),) = streams.test(16)
    real = weight > 0
    assert index[real].tolist() == list(range(tests))
    kernel = np.asarray(states.params, np.float64)
    for i, level in enumerate(NOISE.levels):
        seen = np.concatenate([noisy(x, j, level) for j, x in enumerate(image[real])])
        logits = log_softmax(seen.reshape(tests, -1) @ kernel, -1)
        own = logits[np.arange(tests), label[real]]
        np.testing.assert_allclose(found["nll"][0, i], -own.mean(), rtol=1e-3)
        right = np.mean(logits.argmax(-1) == label[real])
        np.testing.assert_allclose(found["accuracy"][0, i], right, atol=1e-6)
    np.testing.assert_allclose(found["ece"][0, 0], feed.evaluate(states)["test_ece"][0], atol=1e-5)


# Stored corruptions.


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """Severities 2 and 4 of the one that TFDS calls by another name, of 9 and 11 images."""
    folder = tmp_path_factory.mktemp("stored")
    for severity, count in ((2, 9), (4, 11)):
        name = f"frosted_glass_blur_{severity}"
        tiny_corrupted.prepare(folder, name, *split(count, severity), CLASSES)
    return folder


def glass(severity, **options):
    rest = "".join(f", {name}={value}" for name, value in options.items())
    return read(f"stored_corruption(name='glass_blur', severity={severity}{rest})")


@pytest.mark.parametrize(("kind", "runs"), [("sharded", 2), ("jit", 1)])
def test_stored_images_are_scored_as_they_are(kind, runs, stored):
    source, chosen = memory(9, stored), glass((2, 4), std=(0.2,))
    source.check(chosen)
    feed = feed_of(kind, source, runs)
    found = feed.perturbed(started(feed), chosen)
    assert found["accuracy"].shape == (runs, 2)
    for i in range(runs):
        for j, (severity, count) in enumerate(((2, 9), (4, 11))):
            image, label = split(count, severity)
            logits = log_softmax(answer(network(i), (image / 255 - 0.4) / 0.2), -1)
            np.testing.assert_allclose(found["accuracy"][i, j], np.mean(logits.argmax(-1) == label))
            nll = -logits[np.arange(count), label].mean()
            np.testing.assert_allclose(found["nll"][i, j], nll, rtol=2e-4)


def test_some_of_the_stored_images(stored):
    feed = feed_of("map", memory(9, stored))
    found = feed.perturbed(started(feed), glass((4,), examples=4))
    image, label = (part[[0, 2, 5, 8]] for part in split(11, 4))
    logits = log_softmax(answer(network(), (image / 255 - 0.4) / 0.3), -1)
    np.testing.assert_allclose(found["nll"][0], -logits[np.arange(4), label].mean(), rtol=2e-4)


def test_stored_images_that_are_missing_or_do_not_fit_are_named_before_the_training(stored):
    with pytest.raises(MissingDataError, match="'cifar10_corrupted/frosted_glass_blur_3' in"):
        memory(6, stored).check(glass((2, 3)))
    other = memory(6, stored, classes=10)
    with pytest.raises(DataError, match=r"blur_2 has images \[4, 4, 1\] of 4 classes, .* of 10\."):
        other.check(glass((2, 4)))
    other.check(read("corruption(name='glass_blur')"))
