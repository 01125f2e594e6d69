# %% [markdown]
"""# Losses that compose, on a network of your own.

In regjax a loss is a value, and a regularizer a function from loss to loss. This notebook builds a
few, trains a Flax network with them, sweeps over a strength in one compiled program, and writes two
new ones. The data are scikit-learn's handwritten digits, which need no download.

Open this file in Jupyter (through jupytext) or VS Code, or run it:
`python -m experiments.gallery.notebooks.compose`. It takes about twenty seconds.
"""

# %%
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from flax import nnx

import regjax as rj
import regjax.flax
from experiments.data import sources, subsets
from experiments.report.plots import COLOURS, MARKERS

# %% [markdown]
# ## A loss is a value
#
# It prints as the expression that makes it, and `rj.parse` reads that back. Wrappers, such as
# mixing and noise, act from the outside in; penalties are measured where the wrappers lead.

# %%
plain = rj.cross_entropy()
LAYERS = ("input", "first", "second")
mixed = rj.noisy_feature_mixup(plain, alpha=1.0, add=0.1, multiply=0.1, layers=LAYERS)
composed = rj.double_backprop(mixed, weight=0.03)
print(composed)
assert rj.parse(repr(composed)) == composed

# %% [markdown]
# A loss is also a pytree, whose leaves are its numbers. That is why a jitted function takes one as
# an argument without being compiled anew for other numbers, and why `vmap` can run over many.

# %%
for path, number in jax.tree_util.tree_leaves_with_path(composed):
    print(f"{jax.tree_util.keystr(path[-1:], simple=True)} = {number}")

# %% [markdown]
# ## A network of your own
#
# Nothing in it knows of regjax. `bind` splits it into pure pieces: `forward.params`,
# `forward.state` (BatchNorm's averages) and a function. Its submodules are layers, by their names.
# (The layers are dense for the sake of the sweep below: on a CPU, XLA is slow at convolutions
# under `vmap`.)


# %%
class Net(nnx.Module):
    """Two hidden layers with BatchNorm, and dropout before the last."""

    def __init__(self, rngs: nnx.Rngs):
        self.first = nnx.Linear(64, 64, rngs=rngs)
        self.first_norm = nnx.BatchNorm(64, rngs=rngs)
        self.second = nnx.Linear(64, 64, rngs=rngs)
        self.second_norm = nnx.BatchNorm(64, rngs=rngs)
        self.dropout = nnx.Dropout(0.2, rngs=rngs)
        self.head = nnx.Linear(64, 10, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits of images [B, 8, 8, 1]."""
        h = nnx.relu(self.first_norm(self.first(x.reshape(len(x), -1))))
        h = nnx.relu(self.second_norm(self.second(h)))
        return self.head(self.dropout(h))


fresh = regjax.flax.bind(Net(nnx.Rngs(0)), head="head")
print("layers:", *fresh.layers)

# %% [markdown]
# Ten images of each digit to train on, and all test images.

# %%
PER_CLASS, SIZE, STEPS = 10, 50, 200
data = sources.load("digits")
chosen = subsets.balanced_indices(data.train["label"], PER_CLASS, seed=0)


def batch_of(image: np.ndarray, label: np.ndarray) -> rj.Batch:
    """Pixels in [0, 1], labels as probabilities."""
    return rj.Batch(image=jnp.asarray(image / 255, jnp.float32), label=jax.nn.one_hot(label, 10))


train_set = batch_of(data.train["image"][chosen], data.train["label"][chosen])
test_set = batch_of(data.test["image"], data.test["label"])

# %% [markdown]
# ## A step
#
# `loss.apply` returns a result and the loss's next state; `rj.total` is the one place where
# anything is averaged. The step is an ordinary function of values, so it can be jitted, with its
# state donated, so that the new one takes the old one's memory.

# %%
optimizer = optax.adam(3e-3)


class Run(NamedTuple):
    """What a step carries on."""

    forward: rj.Forward
    opt_state: Any
    loss_state: rj.LossState


def start(loss: rj.Loss) -> Run:
    """A run before its first step; copies, because the step takes its memory."""
    forward = jax.tree.map(jnp.copy, fresh)
    return Run(forward, optimizer.init(forward.params), loss.init(forward, train_set))


def step(run: Run, loss: rj.Loss, key: jax.Array) -> tuple[Run, dict[str, jax.Array]]:
    """One step on a batch drawn at random."""
    key, to_draw = jax.random.split(key)
    index = jax.random.choice(to_draw, len(chosen), (SIZE,), replace=False)
    batch = rj.Batch(train_set.image[index], train_set.label[index], index)

    def objective(params: Any) -> tuple[jax.Array, tuple[rj.Result, rj.LossState]]:
        forward = run.forward.replace(params=params)
        result, state = loss.apply(run.loss_state, forward, batch, key)
        return rj.total(result, batch), (result, state)

    params = run.forward.params
    grads, (result, state) = jax.grad(objective, has_aux=True)(params)
    updates, opt_state = optimizer.update(grads, run.opt_state)
    params = optax.apply_updates(params, updates)
    forward = run.forward.replace(params=params, state=result.outputs.state)
    return Run(forward, opt_state, state), result.metrics


jitted_step = jax.jit(step, donate_argnums=0)


def train(loss: rj.Loss) -> tuple[rj.Forward, dict[str, np.ndarray]]:
    """The trained network, and every step's metrics."""
    run, history = start(loss), []
    for key in jax.random.split(jax.random.key(1), STEPS):
        run, metrics = jitted_step(run, loss, key)
        history.append(metrics)
    return run.forward, {name: np.array([m[name] for m in history]) for name in history[0]}


plain_forward, plain_history = train(plain)
composed_forward, composed_history = train(composed)

# %% [markdown]
# The metrics are named after the stages, and free of their weights: what was minimised is the sum
# of the means with the weights.

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
WINDOW = np.ones(15) / 15  # smooths over steps
left.semilogy(
    np.convolve(plain_history["cross_entropy"], WINDOW, "valid"), color="black", label="plain"
)
left.semilogy(
    np.convolve(composed_history["cross_entropy"], WINDOW, "valid"),
    color=COLOURS[0],
    label="composed, on mixed labels",
)
right.plot(np.convolve(composed_history["double_backprop"], WINDOW, "valid"), color=COLOURS[1])
left.set(xlabel="step", ylabel="cross entropy, nats")
left.legend(frameon=False)
right.set(xlabel="step", ylabel="squared gradient of the loss", title="the composed loss's penalty")
for axes in (left, right):
    axes.grid(alpha=0.3)
plt.show()

# %% [markdown]
# Mixed labels cannot be predicted with certainty, so the composed loss stays high; that says
# nothing about how good the network is.
#
# ## Looking inside with a tap
#
# `forward(x, tap=...)` calls `tap(layer, h)` at every layer, and what the tap returns goes on
# through the network. Here it disturbs one layer with noise, in units of that layer's own standard
# deviation. `frozen()` means BatchNorm's running averages; without a key there is no dropout.

# %%
NOISES = jnp.array([0.0, 0.5, 1.0, 1.5, 2.0])


def disturbed(forward: rj.Forward, layer: jax.Array, noise: jax.Array) -> jax.Array:
    """Test accuracy with noise in one of LAYERS; both are traced, so one program serves all."""

    def tap(name: str, h: jax.Array) -> jax.Array:
        if name not in LAYERS:
            return h
        i = LAYERS.index(name)
        drawn = jax.random.normal(jax.random.key(i), h.shape)
        return h + jnp.where(layer == i, noise, 0.0) * h.std() * drawn

    logits = forward.frozen()(test_set.image, tap=tap).logits
    return rj.metrics.accuracy(logits, test_set.label)


over_noises = jax.vmap(disturbed, (None, None, 0))
over_layers = jax.jit(jax.vmap(over_noises, (None, 0, None)))
plain_accuracy, composed_accuracy = (
    np.asarray(over_layers(forward, jnp.arange(len(LAYERS)), NOISES))
    for forward in (plain_forward, composed_forward)
)

figure, panels = plt.subplots(1, 3, figsize=(11, 3.4), layout="constrained", sharey=True)
for panel, layer, before, after in zip(
    panels, LAYERS, plain_accuracy, composed_accuracy, strict=True
):
    panel.plot(NOISES, before, "--", color="black", marker=MARKERS[0], label="plain")
    panel.plot(NOISES, after, color=COLOURS[0], marker=MARKERS[1], label="composed")
    panel.set(title=f"noise in {layer!r}", xlabel="noise, in standard deviations")
    panel.grid(alpha=0.3)
panels[0].set_ylabel("test accuracy")
panels[0].legend(frameon=False)
plt.show()
for layer, before, after in zip(LAYERS, plain_accuracy, composed_accuracy, strict=True):
    print(f"noise of 1 deviation in {layer!r}: plain {before[2]:.3f}, composed {after[2]:.3f}")
print(f"without noise: plain {plain_accuracy[0, 0]:.3f}, composed {composed_accuracy[0, 0]:.3f}")

# %% [markdown]
# One run of each proves little. The next section has several.
#
# ## A sweep in one compiled program
#
# With its numbers at 0, a stage does nothing. So the plain loss, each regularizer alone and both
# together differ in numbers only: `vmap` runs over them, and over seeds, and all runs are one
# program.

# %%
MIXING, WEIGHTS = jnp.array([0.0, 1.0]), jnp.array([0.0, 0.1, 1.0])
SEEDS, TEST_NOISE = jnp.arange(3), 0.3


def composition(mixing: jax.Array, weight: jax.Array) -> rj.Loss:
    """The composed loss in other strengths; traced ones will do."""
    mixed = rj.noisy_feature_mixup(
        plain, alpha=mixing, add=0.1 * mixing, multiply=0.1 * mixing, layers=LAYERS
    )
    return rj.double_backprop(mixed, weight=weight)


def one_run(loss: rj.Loss, seed: jax.Array) -> dict[str, jax.Array]:
    """Test scores of one run; the seed is that of batches and draws."""

    def body(run: Run, key: jax.Array) -> tuple[Run, None]:
        return step(run, loss, key)[0], None

    keys = jax.random.split(jax.random.key(seed), STEPS)
    forward = jax.lax.scan(body, start(loss), keys)[0].forward.frozen()
    noise = TEST_NOISE * jax.random.normal(jax.random.key(0), test_set.image.shape)
    clean, noisy = forward(test_set.image), forward(test_set.image + noise)
    return {
        "accuracy": rj.metrics.accuracy(clean.logits, test_set.label),
        "accuracy under noise": rj.metrics.accuracy(noisy.logits, test_set.label),
        "calibration error": rj.metrics.expected_calibration_error(clean.logits, test_set.label),
    }


grid = jnp.meshgrid(MIXING, WEIGHTS, indexing="ij")
losses = jax.vmap(composition)(*(axis.ravel() for axis in grid))
sweep = jax.jit(jax.vmap(jax.vmap(one_run, (None, 0)), (0, None)))
scores = {
    name: np.asarray(value).reshape(len(MIXING), len(WEIGHTS), len(SEEDS))
    for name, value in sweep(losses, SEEDS).items()
}

figure, panels = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
positions = np.arange(len(WEIGHTS))
for panel, name in zip(panels, ("accuracy", "accuracy under noise"), strict=True):
    for i, label in enumerate(("cross entropy", "noisy feature mixup")):
        mean, std = scores[name][i].mean(-1), scores[name][i].std(-1, ddof=1)
        style = {"color": COLOURS[i], "marker": MARKERS[i], "capsize": 3, "label": label}
        panel.errorbar(positions + 0.06 * i, mean, std, **style)
    panel.set_xticks(positions, ["none", *(f"{w:g}" for w in WEIGHTS[1:])])
    panel.set(xlabel="weight of double backprop", title=f"test {name}")
    panel.grid(alpha=0.3, axis="y")
panels[0].legend(frameon=False)
plt.show()


def mean_std(values: np.ndarray) -> str:
    """Over the seeds, in percent."""
    return f"{100 * values.mean():.1f} ± {100 * values.std(ddof=1):.1f}"


print(f"test accuracy (%) under noise of {TEST_NOISE} in pixels, n={len(SEEDS)}:")
noisy = scores["accuracy under noise"]
best = int(noisy[0].mean(-1).argmax())
cells = {
    "neither": noisy[0, 0],
    "mixup alone": noisy[1, 0],
    f"double backprop ({WEIGHTS[best]:g}) alone": noisy[0, best],
    "both": noisy[1, best],
}
print(*(f"  {name}: {mean_std(values)}" for name, values in cells.items()), sep="\n")

# %% [markdown]
# ## Your own
#
# A wrapper is a function of the network and the batch; a penalty one of the point where the network
# stands. Each asks by name for what it needs, and the decorator does the rest: arguments, weight,
# schedules, `parse`. `rj.example_keys` gives every example a key of its own, by its index in the
# data set.


# %%
@rj.wrapper
def nudge(
    forward: rj.Forward, batch: rj.Batch, key: jax.Array, *, rate: rj.Number
) -> tuple[rj.Forward, rj.Batch]:
    """Moves images, each with probability `rate`, by at most a pixel in both directions."""

    def moved(image: jax.Array, key: jax.Array) -> jax.Array:
        to_decide, to_move = jax.random.split(key)
        corner = jax.random.randint(to_move, (2,), 0, 3)  # 1 is where the image was
        corner = jnp.where(jax.random.uniform(to_decide) < rate, corner, 1)
        padded = jnp.pad(image, ((1, 1), (1, 1), (0, 0)))
        return jax.lax.dynamic_slice(padded, (corner[0], corner[1], 0), image.shape)

    image = jax.vmap(moved)(batch.image, rj.example_keys(key, batch))
    return forward, batch.replace(image=image)


@rj.penalty
def confidence(point: rj.Point) -> jax.Array:
    """The negative entropy of the predictions, nats (Pereyra et al., 2017)."""
    log_p = jax.nn.log_softmax(point.outputs.logits)
    return (jnp.exp(log_p) * log_p).sum(-1)


own = rj.parse("cross_entropy | nudge(rate=0.9) | confidence(weight=0.3)")
print(own, "==", confidence(nudge(plain, rate=0.9), weight=0.3))

# %% [markdown]
# They work with everything above. Again each alone and both, in one program. (The penalty asks for
# unsure predictions. That mends the calibration of a network that is too sure, and of no other.)

# %%
SETTINGS = {
    "neither": (0.0, 0.0),
    "nudge": (0.9, 0.0),
    "confidence": (0.0, 0.3),
    "both": (0.9, 0.3),
}
rates, weights = map(jnp.array, zip(*SETTINGS.values(), strict=True))
own_losses = jax.vmap(lambda r, w: confidence(nudge(plain, rate=r), weight=w))(rates, weights)
own_scores = {name: np.asarray(value) for name, value in sweep(own_losses, SEEDS).items()}

figure, panels = plt.subplots(1, 2, figsize=(9, 2.8), layout="constrained", sharey=True)
for panel, name in zip(panels, ("accuracy", "calibration error"), strict=True):
    values = 100 * own_scores[name]
    for i, (each, colour, marker) in enumerate(zip(values, COLOURS, MARKERS, strict=False)):
        panel.plot(each, np.full(len(each), i), marker, color=colour, alpha=0.35)
        panel.errorbar(
            each.mean(), i, xerr=each.std(ddof=1), fmt=marker, color=colour, capsize=4, markersize=8
        )
    panel.set(xlabel=f"test {name} (%)", yticks=range(len(SETTINGS)), yticklabels=SETTINGS)
    panel.grid(alpha=0.3, axis="x")
panels[0].set_ylim(len(SETTINGS) - 0.5, -0.5)
plt.show()
for i, name in enumerate(SETTINGS):
    print(
        f"{name:>10}: accuracy {mean_std(own_scores['accuracy'][i])}, calibration error "
        f"{mean_std(own_scores['calibration error'][i])}"
    )
