"""Both players' steps against closed forms of linear ones. Covers `training/adversarial.py` too."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support import assert_close

import regjax as rj
from experiments.training import adversarial
from experiments.training.objectives import parse
from experiments.training.playing import Drawn, Pair, Play, of_class

SIZE, NOISE, SIDE, CLASSES = 6, 2, 2, 3
PIXELS, RATE = SIDE * SIDE, 0.1


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def players(objective, seed=0):
    """A linear generator and critic, and what they see, float64."""
    rng = np.random.default_rng(seed)
    told = CLASSES if objective.of == "labels" else 0
    inputs = NOISE + objective.codes + told
    maps = objective.maps(CLASSES)
    a = rng.normal(size=(inputs, PIXELS))
    w = rng.normal(size=(SIDE * SIDE * (1 + maps), 1 + objective.outputs(CLASSES)))
    networks = {
        "generator": rj.from_function(lambda a, z: (z @ a).reshape(-1, SIDE, SIDE, 1), a),
        "critic": rj.from_function(lambda w, x: x.reshape(len(x), -1) @ w, w),
    }
    params = {"generator": jnp.asarray(a), "critic": jnp.asarray(w)}
    optimizer = optax.sgd(RATE)
    opt = {player: optimizer.init(params[player]) for player in params}
    pair = Pair(params, {"generator": (), "critic": ()}, opt)
    label = np.eye(CLASSES)[np.arange(SIZE) % CLASSES]
    weight = np.array([1, 1, 1, 1, 1, 0]) / 5
    drawn = Drawn(
        jnp.asarray(rng.normal(size=(SIZE, SIDE, SIDE, 1))),
        jnp.asarray(label),
        jnp.asarray(rng.normal(size=(SIZE, NOISE + objective.codes))),
        jnp.asarray(rng.uniform(size=SIZE)),
        jnp.asarray(weight),
        jax.random.key(0),
    )
    return Play(networks, optimizer, NOISE, objective), pair, drawn


def seen(image, label, maps):
    """The critic's input, flat as NHWC: its maps behind each pixel."""
    if not maps:
        return image.reshape(len(image), -1)
    maps = np.broadcast_to(label[:, None, None, :], (len(image), SIDE, SIDE, CLASSES))
    return np.concatenate([image, maps], -1).reshape(len(image), -1)


def slopes(objective, out, label, codes, whose):
    """The value, and its derivative in the critic's outputs of real and generated images."""
    name, numbers = objective.name, objective.numbers
    real, fake = out
    d_real, d_fake, value = np.zeros_like(real), np.zeros_like(fake), 0
    if name == "wgan":
        if whose == "critic":
            d_real[:, 0], d_fake[:, 0], value = -1, 1, fake[:, 0] - real[:, 0]
        else:
            d_fake[:, 0], value = -1, -fake[:, 0]
        return value, d_real, d_fake
    if whose == "critic":
        value = -np.log(sigmoid(real[:, 0])) - np.log(1 - sigmoid(fake[:, 0]))
        d_real[:, 0], d_fake[:, 0] = sigmoid(real[:, 0]) - 1, sigmoid(fake[:, 0])
    else:
        value = -np.log(sigmoid(fake[:, 0]))
        d_fake[:, 0] = sigmoid(fake[:, 0]) - 1
    of_real, of_fake = {
        "cgan": (0, 0),
        "acgan": (1, 1),
        "infogan": (numbers.get("labels"), numbers.get("weight")),
    }[name]
    columns = slice(1, 1 + CLASSES)
    if of_fake:
        p = softmax(fake[:, columns])
        value = value - of_fake * np.log((p * label).sum(-1))
        d_fake[:, columns] = of_fake * (p - label)
    if of_real and whose == "critic":
        p = softmax(real[:, columns])
        value = value - of_real * np.log((p * label).sum(-1))
        d_real[:, columns] = of_real * (p - label)
    if name == "infogan":
        off = fake[:, 1 + CLASSES :] - codes
        value = value + of_fake * (off**2).sum(-1) / 2
        d_fake[:, 1 + CLASSES :] = of_fake * off
    return value, d_real, d_fake


@pytest.mark.parametrize(
    "text",
    [
        "wgan(clip=0.5, rate=2.0)",
        "infogan(weight=0.7, labels=0.3)",
        pytest.param("cgan()", marks=pytest.mark.slow),
        pytest.param("acgan()", marks=pytest.mark.slow),
        pytest.param("wgan(penalty=10.0)", marks=pytest.mark.slow),
    ],
)
def test_value_and_both_gradients_have_closed_forms(text, x64):
    objective = parse(text)
    play, pair, drawn = players(objective)
    following, metrics = jax.jit(play.step)(pair, drawn)
    image, label, latent, _, weight = (np.asarray(x) for x in drawn[:5])
    a, w = (np.asarray(pair.params[p]) for p in ("generator", "critic"))
    w = np.clip(w, -0.5, 0.5) if "clip" in text else w
    z = np.concatenate([latent, label], -1) if objective.of == "labels" else latent
    maps, codes = objective.maps(CLASSES), latent[:, NOISE:]
    fake = (z @ a).reshape(SIZE, SIDE, SIDE, 1)
    x, y = (seen(each, label, maps) for each in (image, fake))
    value, d_real, d_fake = slopes(objective, (x @ w, y @ w), label, codes, "critic")
    total = (weight * value).sum()
    direction = x.T @ (weight[:, None] * d_real) + y.T @ (weight[:, None] * d_fake)
    if "penalty" in text:
        norm = np.linalg.norm(w)
        total, direction = total + 10 * (norm - 1) ** 2, direction + 20 * (norm - 1) * w / norm
    assert_close(np.asarray(metrics["total"]), total, jnp.float64)
    after = w - RATE * direction
    assert_close(np.asarray(following.params["critic"]), after, jnp.float64)
    # The generator's, by the critic after its step, whose parameters it leaves alone.
    _, _, d_fake = slopes(objective, (x @ after, y @ after), label, codes, "generator")
    d_image = ((weight[:, None] * d_fake) @ after.T).reshape(SIZE, PIXELS, -1)[:, :, 0]
    expected = a - RATE * objective.numbers["rate"] * z.T @ d_image
    assert_close(np.asarray(following.params["generator"]), expected, jnp.float64)
    value, _, _ = slopes(objective, (x @ w, y @ w), label, codes, "generator")
    assert_close(np.asarray(metrics["generator"]), (weight * value).sum(), jnp.float64)


def test_no_turn_leaves_the_generator_alone():
    play, pair, drawn = players(parse("wgan()"))
    play = Play(play.networks, play.optimizer, NOISE, play.objective, jnp.array(False))
    following, _ = jax.jit(play.step)(pair, drawn)
    np.testing.assert_array_equal(following.params["generator"], pair.params["generator"])
    assert np.abs(following.params["critic"] - pair.params["critic"]).max() > 0


def test_a_clip_is_exact_for_every_parameter():
    params = {"scale": jnp.array([1.0, -0.3, 0.009]), "bias": jnp.array([0.0, 0.02])}
    found = adversarial.clipped(params, 0.01)
    np.testing.assert_array_equal(found["scale"], np.float32([0.01, -0.01, 0.009]))
    np.testing.assert_array_equal(found["bias"], np.float32([0.0, 0.01]))


def test_a_slope_of_nothing_has_a_finite_derivative():
    def penalty(w):
        x = jnp.ones((2, 3))
        return adversarial.gradient_penalty(lambda x: x @ w, x, x, jnp.ones(2)).sum()

    value, slope = jax.jit(jax.value_and_grad(penalty))(jnp.zeros((3, 1)))
    assert value == 2
    np.testing.assert_array_equal(slope, np.zeros((3, 1)))


def test_the_examples_of_a_class_again_where_there_are_few():
    label = jnp.eye(2)[jnp.array([0, 1, 0, 0, 0, 0])]
    image, number = jnp.arange(6.0)[:, None], jnp.arange(6)
    batch = rj.Batch(image, label, number, jnp.array([1.0, 1, 1, 1, 1, 0]))
    chosen = jax.jit(of_class)
    found, keys = chosen(batch, jnp.int32(1), jax.random.key(0))
    np.testing.assert_array_equal(found.image[:, 0], [1, 1, 1])
    assert len(np.unique(jax.random.key_data(keys), axis=0)) == 3
    found, _ = chosen(batch, jnp.int32(0), jax.random.key(0))
    np.testing.assert_array_equal(found.image[:, 0], [0, 2, 3])
    np.testing.assert_array_equal(found.weight, [1, 1, 1])
    nothing = batch.replace(label=jnp.eye(2)[jnp.zeros(6, int)])
    found, _ = chosen(nothing, jnp.int32(1), jax.random.key(0))
    np.testing.assert_array_equal(found.weight, [0, 0, 0])


def judged(p, x):
    """A critic of one hidden layer."""
    return jax.nn.leaky_relu(x.reshape(-1, 1) @ p["first"] + p["bias"][None], 0.2) @ p["last"]


def straight(p, x):
    """A linear critic, whose clip is the bound of its slope."""
    return p["last"][:1] * x.reshape(-1, 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "critic", "shift"),
    [
        # The penalty lets slopes be a little above 1, the less the larger it is.
        ("wgan(penalty=50.0)", judged, 3.0),
        ("wgan(penalty=50.0)", judged, -2.0),
        ("wgan(clip=1.0)", straight, 3.0),
    ],
)
def test_a_critic_comes_near_the_distance_of_two_gaussians(text, critic, shift):
    """N(0, 1) and N(m, 1), which are |m| apart."""
    keys, hidden = jax.random.split(jax.random.key(0)), 16
    own = {
        "first": jax.random.normal(keys[0], (1, hidden)),
        "bias": jax.random.normal(keys[1], (hidden,)),
        # From slopes of either sign the penalty would not let them come to the other.
        "last": jnp.zeros((hidden, 1)),
    }
    make = rj.from_function(lambda m, z: (m + z).reshape(-1, 1, 1, 1), jnp.array([[shift]]))
    networks = {"generator": make, "critic": rj.from_function(critic, own)}
    optimizer = optax.adam(0.01)
    params = {player: networks[player].params for player in networks}
    opt = {player: optimizer.init(params[player]) for player in params}
    pair = Pair(params, {"generator": (), "critic": ()}, opt)
    play = Play(networks, optimizer, 1, parse(text), jnp.array(False))

    def step(pair, key):
        real, latent, share = jax.random.split(key, 3)
        drawn = Drawn(
            jax.random.normal(real, (128, 1, 1, 1)),
            jnp.ones((128, 2)),
            jax.random.normal(latent, (128, 1)),
            jax.random.uniform(share, (128,)),
            jnp.full(128, 1 / 128),
            key,
        )
        pair, metrics = play.step(pair, drawn)
        return pair, metrics["distance"]

    run = jax.jit(lambda pair, keys: jax.lax.scan(step, pair, keys)[1])
    found = run(pair, jax.random.split(jax.random.key(1), 800))
    np.testing.assert_allclose(found[-200:].mean(), abs(shift), rtol=0.1)
