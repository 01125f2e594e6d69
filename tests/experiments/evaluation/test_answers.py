"""Answers by samples: against NumPy, and how far the number of samples changes them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_answers
from scipy.special import log_softmax, softmax
from scipy.stats import entropy

import regjax as rj
from experiments import ConfigError
from experiments.evaluation import answers
from experiments.evaluation.answers import Sampled, read
from experiments.evaluation.classification import Classification
from experiments.evaluation.perturbation_entries import read_all
from regjax.core.draws import normal

COUNT, CLASSES = 60, 4


def outputs_of(count=COUNT, one=False):
    rng = np.random.default_rng(0)
    logits = 2 * rng.normal(size=(count, CLASSES))
    raw = rng.normal(size=(count, 1 if one else CLASSES))
    as_given = [jnp.asarray(x, jnp.float32) for x in (logits, raw)]
    return rj.Outputs(as_given[0], auxiliary=(rj.Branch(as_given[1]),)), logits, raw


def batch_of(count=COUNT, first=0):
    ones = jnp.ones((count, 1))
    return rj.Batch(ones, ones, jnp.arange(first, first + count, dtype=jnp.int32))


@pytest.mark.parametrize("one", [False, True])
@pytest.mark.parametrize("measure", answers.MEASURES)
def test_answers_and_their_uncertainty(measure, one):
    outputs, logits, raw = outputs_of(one=one)
    batch = batch_of(first=5)
    found, uncertainty = Sampled(samples=7, measure=measure).answer(outputs, batch)
    keys = rj.example_keys(jax.random.key(answers.ROOT), batch)
    noise = np.asarray(normal(keys, (7, CLASSES)), float)
    sigma = np.broadcast_to(np.exp(raw / 2), logits.shape)
    p = softmax(logits[:, None] + sigma[:, None] * noise, -1).mean(1)
    np.testing.assert_allclose(found, np.log(p), rtol=1e-3, atol=1e-4)
    expected = {
        "variance": (sigma**2).mean(-1),
        "std": sigma.mean(-1),
        "max": (sigma**2).max(-1),
        "predicted": (sigma**2)[np.arange(COUNT), p.argmax(-1)],
        "entropy": entropy(p, axis=-1),
    }
    np.testing.assert_allclose(uncertainty, expected[measure], rtol=1e-3)


def test_ranks_do_not_depend_on_the_number_of_samples_beyond_its_standard_error():
    """Of entropies, by 32 independent answers of 100 and of 400 samples; of variances, at all."""
    outputs, *_ = outputs_of()

    def several(samples, measure="entropy"):
        of = jax.jit(Sampled(samples=samples, measure=measure).answer)
        return np.stack([of(outputs, batch_of(first=1000 * i))[1] for i in range(32)])

    few, many = several(100), several(400)
    mean = many.mean(0)
    error = np.sqrt(few.var(0, ddof=1))
    pairs = np.triu_indices(COUNT, 1)
    apart = np.abs(mean[:, None] - mean)[pairs] > 5 * np.hypot.outer(error, error)[pairs]
    assert apart.mean() > 0.3  # or else nothing would be said
    for one in (*few, *many):
        same = np.sign(one[:, None] - one)[pairs] == np.sign(mean[:, None] - mean)[pairs]
        assert same[apart].all()
    ratio = few.var(0, ddof=1).mean() / many.var(0, ddof=1).mean()
    assert 2.8 < ratio < 5.7  # four times the samples, a quarter of the variance
    np.testing.assert_array_equal(several(1, "variance")[0], several(2, "variance")[-1])


def two_headed(params, image):
    """Half of an image, times the parameters, is the logits, the rest the second head's output."""
    left, right = jnp.split(image.reshape(len(image), -1), 2, axis=-1)
    return left @ params, None, (right @ params,)


def test_evaluations_and_perturbations_answer_by_samples():
    task = tiny_answers.Task(two_headed, classes=CLASSES)
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (9, 4, 4, 1)).astype(np.uint8)
    label = (np.arange(9) % CLASSES).astype(np.int32)
    examples = tiny_answers.Examples({"image": image, "label": label}, np.arange(9, dtype=np.int32))
    params = jnp.asarray(rng.normal(size=(8, CLASSES)), jnp.float32)
    sampled = Sampled(samples=5)
    names = ("nll", "unsure_by_class")
    rows = Classification(CLASSES, names, sampled).measure(task, params, examples)
    batch = task.batch(examples)
    log_p, uncertainty = sampled.answer(task.network(params)(batch.image), batch)
    nll = -np.asarray(log_p)[np.arange(9), label]
    np.testing.assert_allclose(rows["nll"], nll, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(rows["probability"], np.exp(-nll), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(rows["uncertainty"], uncertainty, rtol=1e-5)
    plain = Classification(CLASSES, names).measure(task, params, examples)
    own = log_softmax(np.asarray(task.network(params)(batch.image).logits), -1)
    np.testing.assert_allclose(plain["nll"], -own[np.arange(9), label], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(plain["uncertainty"], entropy(np.exp(own), axis=-1), rtol=1e-3)
    text = {"none": "white_noise(sigma=0.0)"}
    found = read_all(text, sampled)["none"].measure(task, params, examples)
    np.testing.assert_allclose(found["nll"][:, 0], nll, rtol=1e-4, atol=1e-5)


def test_expressions_are_read_and_wrong_ones_refused():
    assert read("") is None
    assert read("aleatoric") == Sampled()
    expected = Sampled(7, "softplus", "max")
    assert read("aleatoric(samples=7, variance='softplus', measure='max')") == expected
    for text, words in {
        "dropout(samples=3)": "unknown",
        "aleatoric(rate=3)": "unknown",
        "aleatoric(samples=0)": "whole number from 1",
        "aleatoric(samples=True)": "whole number from 1",
        "aleatoric(variance='std')": "variance must be one of",
        "aleatoric(measure='mean')": "measure must be one of",
        "aleatoric(": "config.uncertainty",
    }.items():
        with pytest.raises(ConfigError, match=words):
            read(text)
