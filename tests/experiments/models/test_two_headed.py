"""Second heads and covariances beside a network: where they are, and that losses train them."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from flax import nnx
from ml_collections import ConfigDict

import regjax as rj
from configs import digits
from experiments import classify, models
from experiments.models.two_headed import DEVIATION
from experiments.runs import networks
from experiments.runs.load import load

SHAPE, CLASSES = (8, 8, 1), 3
SECOND = "distribution_net(samples=2)"
LEARNED = "learned_augmentation(samples=1, uncertainty=0.1, margin=9, parameter='covariances')"


def built(text):
    return networks.builder(text, SHAPE, CLASSES)


def batch():
    image = jnp.asarray(np.random.default_rng(0).uniform(size=(4, *SHAPE)), jnp.float32)
    return rj.Batch(image, jnp.eye(CLASSES)[np.array([0, 1, 2, 1])])


def gradient(text, expression):
    """Of a new network's loss by all of its parameters."""
    loss = rj.parse(expression)

    def of(key):
        forward = built(text)(key)
        state = loss.init(forward, batch())

        def total(params):
            own = forward.replace(params=params)
            return rj.total(loss.apply(state, own, batch(), key)[0], batch())

        return jax.grad(total)(forward.params)

    return of


def test_the_second_head_is_one_of_the_network_and_leaves_its_logits():
    forward = jax.eval_shape(built("two_headed(model='small_cnn')"), jax.random.key(0))
    outputs = jax.eval_shape(lambda f: f(batch().image), forward)
    (branch,), width = outputs.auxiliary, outputs.features.shape[1]
    assert outputs.logits.shape == (4, CLASSES)
    assert branch.logits.shape == (4, width)
    assert jax.eval_shape(lambda f: f.head.kernel, forward).shape == (width, CLASSES)
    plain = jax.eval_shape(built("small_cnn"), jax.random.key(0))
    assert set(plain.layers) < set(forward.layers)
    sizes = [sum(x.size for x in jax.tree.leaves(f.params)) for f in (forward, plain)]
    assert sizes[0] - sizes[1] == width * (width + 1)
    ten = jax.eval_shape(built("two_headed(model='small_cnn', outputs=10)"), jax.random.key(0))
    assert ten.params["head"]["second"]["kernel"].shape == (width, 10)


def test_equal_seeds_make_equal_first_heads():
    rngs = [nnx.Rngs(0), nnx.Rngs(0)]
    plain = models.create("small_cnn", SHAPE, CLASSES, rngs[0])
    both = models.create("two_headed(model='small_cnn')", SHAPE, CLASSES, rngs[1])
    np.testing.assert_array_equal(plain.head.kernel[...], both.head.main.kernel[...])


@pytest.mark.parametrize(
    ("text", "expression", "path"),
    [
        ("two_headed(model='small_cnn')", SECOND, ("head", "second", "kernel")),
        ("with_covariances(model='small_cnn')", LEARNED, ("covariances",)),
    ],
)
@pytest.mark.slow
def test_losses_train_what_is_beside_the_network(text, expression, path):
    found = jax.jit(gradient(text, expression))(jax.random.key(0))
    for name in path:
        found = found[name]
    assert np.all(np.isfinite(found))
    assert np.any(found != 0)


def test_covariances_are_a_parameter_beside_the_network():
    text = "with_covariances(model='small_cnn')"
    forward = jax.eval_shape(built(text), jax.random.key(0))
    classes, width, same = forward.parameter("covariances").shape
    assert (classes, width) == (CLASSES, same)
    with pytest.raises(ValueError, match=r"no parameter 'roots'; its parameters are \['conv"):
        forward.parameter("roots")


def test_networks_without_a_head_are_refused():
    for text in ("two_headed(model='two_headed(model=\"small_cnn\")')", "two_headed()"):
        with pytest.raises(ValueError, match=r"attribute 'head'|needs model="):
            models.create(text, SHAPE, CLASSES, nnx.Rngs(0))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "losses"),
    [
        (
            "two_headed(model='tiny')",
            {
                "baseline": "focal(gamma=2.0)",
                "distribution": SECOND,
                "center": "large_margin(margin=2, base=1.0) | center(weight=0.1, rate=0.5)",
            },
        ),
        ("with_covariances(model='tiny')", {"baseline": "cross_entropy", "learned": LEARNED}),
    ],
)
def test_a_config_trains_them(text, losses, tmp_path, monkeypatch):
    monkeypatch.setitem(models.MODELS, "tiny", toys.Tiny)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "data"))
    config = digits.get_config("smoke")
    config.model, config.train_sizes, config.epochs, config.seeds = text, (2,), 2, 1
    config.batch_size, config.accumulate, config.runs_at_once = 15, 3, 1
    config.losses = ConfigDict(losses, sort_keys=False)
    config.strengths = ConfigDict()
    classify.compare(config, tmp_path / "run")
    lines = (tmp_path / "run" / "runs.jsonl").read_text().splitlines()
    lines = [json.loads(line) for line in lines]
    assert {line["method"] for line in lines} == set(losses)
    assert all(np.isfinite(line["train_loss"]) for line in lines)
    network = load(tmp_path / "run", list(losses)[-1], train_size=2)
    if "covariances" in text:
        learned = np.asarray(network.parameter("covariances"))
        assert np.any(np.abs(learned - DEVIATION * np.eye(learned.shape[-1])) > 1e-6)
