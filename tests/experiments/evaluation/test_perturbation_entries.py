"""Perturbations as a config writes them: what they become, and what is said where they cannot."""

import pytest

from configs import digits
from experiments import ConfigError
from experiments.evaluation.perturbation_entries import read, read_all
from experiments.evaluation.perturbations import CORRUPTIONS
from experiments.runs.plan import plan

NOISE = {"white noise": "white_noise(sigma=(0.1, 0.2, 0.3))"}


def config(**changes):
    return digits.get_config("smoke").to_dict() | {"perturbations": NOISE} | changes


@pytest.mark.parametrize(
    ("text", "levels", "examples", "options", "level", "about"),
    [
        ("white_noise(sigma=0.5)", (0.5,), 0, {}, "sigma", "white_noise"),
        (
            "salt_and_pepper(amount=[0, 1], protocol='pixel', examples=7)",
            (0.0, 1.0),
            7,
            {"protocol": "pixel"},
            "amount",
            "salt_and_pepper",
        ),
        ("corruption(name='fog')", (1, 2, 3, 4, 5), 0, {"name": "fog"}, "severity", "fog"),
        (
            "stored_corruption(name='fog', severity=(5, 3), std=(0.2, 1, 3))",
            (5, 3),
            0,
            {"name": "fog", "std": (0.2, 1, 3)},
            "severity",
            "fog",
        ),
        (
            "pgd(epsilon=(0.1, 0.2), steps=3, norm='l2', restarts=2)",
            (0.1, 0.2),
            0,
            {"steps": 3, "norm": "l2", "restarts": 2},
            "epsilon",
            "pgd",
        ),
        (
            "cw_l2(distance=2, steps=5, search_steps=3)",
            (2.0,),
            0,
            {"steps": 5, "search_steps": 3},
            "distance",
            "cw_l2",
        ),
        (
            "apgd(epsilon=(0.01, 0.03), steps=50, loss='targeted_dlr', restarts=9)",
            (0.01, 0.03),
            0,
            {"steps": 50, "loss": "targeted_dlr", "restarts": 9},
            "epsilon",
            "apgd",
        ),
        (
            "autoattack(epsilon=2, norm='l2', queries=7)",
            (2.0,),
            0,
            {"norm": "l2", "queries": 7},
            "epsilon",
            "autoattack",
        ),
        ("ddn(distance=1, steps=9)", (1.0,), 0, {"steps": 9}, "distance", "ddn"),
        ("dataset(name='cats', examples=7)", (1.0,), 7, {"name": "cats"}, "", "cats"),
        (
            "dataset(name='pets/small', map={'cat': ('tabby', 'lion'), 'dog': 'pug'})",
            (1.0,),
            0,
            {"name": "pets/small", "map": (("cat", ("tabby", "lion")), ("dog", ("pug",)))},
            "",
            "pets/small",
        ),
    ],
)
def test_an_expression_is_read(text, levels, examples, options, level, about):
    found = read(text)
    assert (found.text, found.levels, found.examples) == (text, levels, examples)
    assert all(type(each) is float for each in found.levels)
    assert dict(found.options) == options
    assert (found.kind, found.level, found.about) == (text.partition("(")[0], level, about)
    assert read(text) == found
    assert hash(read(text)) == hash(found)  # one compiled program for both


def test_every_corruption_can_be_named():
    assert len(set(CORRUPTIONS)) == 19
    for name in CORRUPTIONS:
        assert read(f"corruption(name={name!r})").about == name


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read: write a name with keyword arguments"),
        ("white_noise(0.1)", "cannot be read"),
        ("white_noise(sigma=1e999)", "cannot be read"),
        ("white_noise(sigma=__import__('os'))", "cannot be read"),
        (3, "3 is no expression such as 'white_noise"),
        (
            "red_noise(sigma=1)",
            "unknown perturbation 'red_noise'; known are: white_noise, salt_and_pepper, "
            "switched_off_pixels, corruption, stored_corruption, dataset, fgsm, pgd, mim, apgd, "
            "square, autoattack, cw_l2, ddn",
        ),
        (
            "white_noise",
            r"white_noise needs sigma=, numbers from 0 to 1000, such as sigma=\(0.1, 0.2\), not "
            "None",
        ),
        ("white_noise(sigma=())", "needs sigma=, .* not \\(\\)"),
        ("white_noise(sigma=(0.1, -0.1))", "needs sigma=, .* not \\(0.1, -0.1\\)"),
        ("white_noise(sigma='a')", "needs sigma=, .* not 'a'"),
        ("white_noise(sigma=(True,))", "needs sigma="),
        (
            "salt_and_pepper(amount=(0.1, 1.5))",
            "needs amount=, numbers from 0 to 1, such as amount=\\(0.1, 0.2\\), not \\(0.1, 1.5\\)",
        ),
        (
            "corruption(name='fog', severity=(1, 2.0))",
            "needs severity=, whole numbers from 1 to 5, such as severity=\\(1, 2\\), not",
        ),
        ("corruption(name='fog', severity=6)", "needs severity=, whole .* not 6"),
        ("corruption(name='fog', severity=0)", "needs severity=, whole .* not 0"),
        ("white_noise(sigma=(0.1, 0.2, 0.1))", "white_noise names a sigma twice: \\(0.1, 0.2, 0.1"),
        ("white_noise(sigma=(1, 1.0))", "names a sigma twice"),
        ("white_noise(sigma=1, amount=1)", "has no 'amount'; it takes: sigma, protocol, examples"),
        ("fgsm(epsilon=0.1, steps=3)", "fgsm has no 'steps'; it takes: epsilon, examples"),
        ("white_noise(sigma=1, protocol='both')", "must be 'paper' or 'pixel', not 'both'"),
        ("white_noise(sigma=1, examples=-1)", "a whole number of examples, 0 for all, not -1"),
        ("white_noise(sigma=1, examples=2.0)", "a whole number of examples, 0 for all, not 2.0"),
        ("white_noise(sigma=1, examples=True)", "a whole number of examples"),
        ("corruption", "corruption needs name=, one of: gaussian_noise, .*saturate, not None"),
        ("corruption(name='frog')", "corruption needs name=, one of: .*, not 'frog'"),
        ("corruption(name=['fog'])", "corruption needs name="),
        ("corruption(name='fog', std=(0.2, 0))", "std must be positive numbers, not \\(0.2, 0\\)"),
        ("corruption(name='fog', levels='large')", "levels must be 'auto', 'cifar'.* not 'large'"),
        ("corruption(name='fog', std=0.2)", "std must be positive numbers, not 0.2"),
        ("pgd(epsilon=0.1, steps=0)", "pgd's steps must be a whole number of at least 1, not 0"),
        ("pgd(epsilon=0.1, restarts=1.0)", "restarts must be a whole number of at least 1"),
        ("pgd(epsilon=0.1, norm='l1')", "pgd's norm must be 'linf' or 'l2', not 'l1'"),
        ("pgd(epsilon=2)", r"pgd's epsilon is of pixels from 0 to 1, such as 8 / 255, not \(2"),
        ("square(epsilon=2)", r"square's epsilon is of pixels from 0 to 1"),
        (
            "apgd(epsilon=0.1, loss='hinge')",
            "apgd's loss must be one of: cross_entropy, dlr, targeted_dlr, not 'hinge'",
        ),
        ("autoattack(epsilon=0.1, queries=0)", "queries must be a whole number of at least 1"),
        ("ddn(epsilon=1)", "ddn needs distance=, numbers from 0 to 1000"),
        ("dataset", "dataset needs name=, a data set, such as 'svhn_cropped', not None"),
        ("dataset(name='')", "dataset needs name=, a data set"),
        ("dataset(name=3)", "dataset needs name=, a data set"),
        (
            "dataset(name='a', level=1)",
            "has no 'level'; it takes: name, map, resize, colored, examples",
        ),
        ("dataset(name='a', resize='crop')", "resize must be 'centre' or 'whole', not 'crop'"),
        ("dataset(name='a', colored=1)", "colored must be True or False, not 1"),
        ("white_noise(sigma=1, draws=0)", "a whole number of draws up to 1000, not 0"),
        ("white_noise(sigma=1, draws=2.0)", "a whole number of draws up to 1000, not 2.0"),
        ("fgsm(epsilon=0.1, draws=3)", "fgsm has no 'draws'; it takes: epsilon, examples"),
        ("dataset(name='a', map={})", "dataset's map must be class names such as {'our class'"),
        ("dataset(name='a', map=('b', 'c'))", "dataset's map must be class names"),
        ("dataset(name='a', map={'b': ()})", "dataset's map must be class names"),
        ("dataset(name='a', map={'b': ('c', 1)})", "dataset's map must be class names"),
        ("dataset(name='a', map={1: 'c'})", "dataset's map must be class names"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_sentence(text, message):
    with pytest.raises(ValueError, match=message) as caught:
        read(text)
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match=r"^config\.perturbations\['x'\]: "):
        read_all({"x": text})


@pytest.mark.parametrize(
    "values",
    [(1.0, 2.0), (1.0, 2.0, "3"), 1.0, (1.0, 2.0, True), (1.0, 2.0, float("nan"))],
)
def test_published_numbers_are_one_for_each_level(values):
    published = {"db": {"white noise": values}}
    with pytest.raises(ConfigError, match=r"^config\.published_robustness\.db must be, for a name"):
        plan(config(published_robustness=published))


def test_published_numbers_are_those_of_a_perturbation():
    with pytest.raises(ConfigError, match="but for 'noise' it is"):
        plan(config(published_robustness={"db": {"noise": (1.0, 2.0, 3.0)}}))
    with pytest.raises(ConfigError, match=r"published_robustness\.db must be"):
        plan(config(published_robustness={"db": (1.0, 2.0, 3.0)}))
    assert plan(config(published_robustness={"db": {"white noise": (1.0, None, 3)}}))


@pytest.mark.parametrize(
    "text",
    [
        "white_noise(sigma=1, examples=5)",
        "stored_corruption(name='fog')",
        "dataset(name='cats')",
    ],
)
def test_a_stream_is_tested_whole_and_on_its_own_images(text):
    stream = {"data": "stream", "train_sizes": (0,), "validation_per_class": 0}
    stream |= {"selection": "test", "runs_at_once": 1, "parallelism": ""}
    assert plan(config(**stream))
    with pytest.raises(ConfigError, match=r"perturbations\['x'\]: with config.data='stream' all"):
        plan(config(**stream, perturbations={"x": text}))
