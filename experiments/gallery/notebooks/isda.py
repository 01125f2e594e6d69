# %% [markdown]
"""# The statistics behind ISDA.

Implicit semantic data augmentation (Wang et al., 2021) moves an example's features `a`, the input
of the last linear layer, in the directions in which its class varies: `N(a, strength Sigma_y)`. It
draws no sample: it minimises an upper bound of the expected cross entropy, in closed form. All that
it knows about the data is in one covariance matrix a class. Here we look at those matrices.

Open this file in Jupyter (through jupytext) or VS Code, or run it:
`python -m experiments.gallery.notebooks.isda`. It takes about fifteen seconds.
"""

# %%
import functools
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
# ## A network with a named head
#
# `head=` tells `bind` which layer is the last: its input becomes `outputs.features`, and its kernel
# `forward.head.kernel`. The data are forty images of each digit.

# %%
CLASSES, FEATURES, PER_CLASS, SIZE, EPOCHS = 10, 32, 40, 50, 30
data = sources.load("digits")
chosen = subsets.balanced_indices(data.train["label"], PER_CLASS, seed=0)


def batch_of(image: np.ndarray, label: np.ndarray) -> rj.Batch:
    """Pixels in [0, 1], labels as probabilities."""
    return rj.Batch(jnp.asarray(image / 255, jnp.float32), jax.nn.one_hot(label, CLASSES))


train_set = batch_of(data.train["image"][chosen], data.train["label"][chosen])
test_set = batch_of(data.test["image"], data.test["label"])


class Net(nnx.Module):
    """Two hidden layers."""

    def __init__(self, rngs: nnx.Rngs):
        self.first = nnx.Linear(64, 64, rngs=rngs)
        self.second = nnx.Linear(64, FEATURES, rngs=rngs)
        self.head = nnx.Linear(FEATURES, CLASSES, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits of images [B, 8, 8, 1]."""
        h = nnx.relu(self.first(x.reshape(len(x), -1)))
        return self.head(nnx.relu(self.second(h)))


fresh = regjax.flax.bind(Net(nnx.Rngs(0)), head="head")

# %% [markdown]
# ## Training, while two sets of statistics watch
#
# The state of `rj.isda` holds statistics that never forget, as in the paper; its strength grows
# with the steps, also as in the paper. A second set, with `decay=0.9`, watches the same features
# and forgets the older ones. Both see a network that is still changing, so neither need agree with
# the network as it is now: after every epoch we compare them with the covariances of all training
# features at that moment.

# %%
STRENGTH = 0.5
STEPS = EPOCHS * len(chosen) // SIZE
optimizer = optax.adam(3e-3)
epochs = jnp.asarray(
    [subsets.epoch_batches(np.arange(len(chosen)), SIZE, e, seed=0)[0] for e in range(EPOCHS)]
)
nothing_seen = rj.statistics.init(CLASSES, FEATURES)


class Run(NamedTuple):
    """What a training step carries on."""

    params: Any
    opt_state: Any
    loss_state: rj.LossState
    forgetful: rj.statistics.ClassStatistics


def distance(seen: Any, true: Any) -> jax.Array:
    """Between full covariances, relative to the true ones, Frobenius norm, mean over classes."""
    apart = jnp.linalg.norm(seen.covariance.matrix - true.covariance.matrix, axis=(1, 2))
    return jnp.mean(apart / jnp.linalg.norm(true.covariance.matrix, axis=(1, 2)))


def train_step(run: Run, index: jax.Array) -> tuple[Run, jax.Array]:
    """One step, and the mean loss."""
    batch = rj.Batch(train_set.image[index], train_set.label[index])
    loss = rj.isda(strength=STRENGTH * run.loss_state.step / STEPS)

    def objective(params: Any) -> tuple[jax.Array, tuple[rj.Result, rj.LossState]]:
        forward = fresh.replace(params=params)
        result, state = loss.apply(run.loss_state, forward, batch, jax.random.key(0))
        return rj.total(result, batch), (result, state)

    grads, (result, state) = jax.grad(objective, has_aux=True)(run.params)
    updates, opt_state = optimizer.update(grads, run.opt_state)
    features: Any = result.outputs.features
    forgetful = rj.statistics.update(run.forgetful, features, batch.label, decay=0.9)
    params = optax.apply_updates(run.params, updates)
    return Run(params, opt_state, state, forgetful), result.metrics["isda"]


def train_epoch(run: Run, indices: jax.Array) -> tuple[Run, tuple[jax.Array, ...]]:
    """One epoch, its mean loss, and how far off both sets of statistics then are."""
    run, losses = jax.lax.scan(train_step, run, indices)
    features: Any = fresh.replace(params=run.params)(train_set.image).features
    true = rj.statistics.update(nothing_seen, features, train_set.label)
    faithful = run.loss_state.stages["isda"]
    return run, (losses.mean(), distance(faithful, true), distance(run.forgetful, true))


loss_state = rj.isda(strength=STRENGTH).init(fresh, train_set)
run = Run(fresh.params, optimizer.init(fresh.params), loss_state, nothing_seen)
run, history = jax.jit(functools.partial(jax.lax.scan, train_epoch))(run, epochs)
losses, faithful_error, forgetful_error = map(np.asarray, history)

forward = fresh.replace(params=run.params)
outputs_of = jax.jit(lambda forward, image: forward(image))
outputs, test_outputs = (outputs_of(forward, batch.image) for batch in (train_set, test_set))
test_accuracy = float(rj.metrics.accuracy(test_outputs.logits, test_set.label))
print(f"loss {losses[0]:.2f} at first, {losses[-1]:.4f} at last; test accuracy {test_accuracy:.3f}")

# %% [markdown]
# With a network that stands still, batches add up to what all examples at once would give: the
# update is exact, and its order does not matter.


# %%
@jax.jit
def gather(features: jax.Array, label: jax.Array) -> tuple[rj.statistics.ClassStatistics, Any]:
    """Statistics batch by batch, and their distances from those of everything."""
    true = rj.statistics.update(nothing_seen, features, label)

    def add(seen: Any, batch: tuple[jax.Array, jax.Array]) -> tuple[Any, jax.Array]:
        seen = rj.statistics.update(seen, *batch)
        return seen, distance(seen, true)

    parts = (features.reshape(-1, SIZE, FEATURES), label.reshape(-1, SIZE, CLASSES))
    return jax.lax.scan(add, nothing_seen, parts)


statistics, standing_error = gather(outputs.features, train_set.label)
standing_error = np.asarray(standing_error)

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.7), layout="constrained")
x = np.arange(1, EPOCHS + 1)
left.plot(x, faithful_error, color=COLOURS[0], marker=MARKERS[0], label="never forgets")
left.plot(x, forgetful_error, color=COLOURS[1], marker=MARKERS[1], label="decay=0.9")
left.set(yscale="log", xlabel="epoch", title="while the network learns")
left.set_ylabel("relative distance of the covariances")
left.legend(frameon=False)
seen = SIZE / CLASSES * np.arange(1, len(standing_error) + 1)
right.plot(seen, standing_error, color=COLOURS[2], marker=MARKERS[2])
right.set(
    yscale="log", xlabel="examples seen of each class", title="with the network standing still"
)
for axes in (left, right):
    axes.grid(alpha=0.3)
plt.show()

nearer = "forgetting" if forgetful_error[-1] < faithful_error[-1] else "never forgetting"
print(
    f"At the end of training the statistics are off by {faithful_error[-1]:.0%} without forgetting "
    f"and by {forgetful_error[-1]:.0%} with: {nearer} is nearer to the network as it is. Standing "
    f"still, all batches together are off by {standing_error[-1]:.0e}, which is rounding."
)

# %% [markdown]
# ## In how many directions does a class vary?
#
# The eigenvalues of a class's covariance are the variances along its own directions. Were all
# directions alike, as isotropic noise would have it, every line on the left would be flat. The
# effective dimension is `(sum of eigenvalues)^2 / sum of their squares`.

# %%
matrices = np.asarray(statistics.covariance.matrix)
values, directions = (a[..., ::-1] for a in np.linalg.eigh(matrices))  # the largest first
values = values.clip(min=0)
effective = values.sum(1) ** 2 / (values**2).sum(1)
share = values / values.sum(1, keepdims=True)

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.7), layout="constrained")
colours = plt.colormaps["viridis"](np.linspace(0, 0.92, CLASSES))
for c in range(CLASSES):
    left.plot(np.arange(1, FEATURES + 1), share[c], color=colours[c], linewidth=1.3, label=c)
left.axhline(1 / FEATURES, color="black", linestyle="--", linewidth=1)
left.text(FEATURES, 1.15 / FEATURES, "all alike", ha="right")
left.set(yscale="log", ylim=(1e-5, 1), xlabel="direction", ylabel="share of the class's variance")
left.legend(title="digit", ncols=2, frameon=False, loc="lower left")
right.bar(range(CLASSES), effective, color=colours)
right.set(xlabel="digit", ylabel=f"effective dimension, of {FEATURES}", xticks=range(CLASSES))
for axes in (left, right):
    axes.grid(alpha=0.3, axis="y")
plt.show()
print(
    f"Effective dimensions go from {effective.min():.1f} to {effective.max():.1f} of {FEATURES}; "
    f"the first direction alone has {share[:, 0].min():.0%} to {share[:, 0].max():.0%} of the "
    "variance."
)

# %% [markdown]
# ## What lies along a direction?
#
# Start at a class's mean, go along its first or second direction by so many standard deviations,
# and show the image whose features are nearest: what ISDA takes to be a variant of the digit. A
# frame marks images of another class. They are chosen among all images, trained on or not.

# %%
gallery = np.concatenate([data.train["image"], data.test["image"]])
gallery_label = np.concatenate([data.train["label"], data.test["label"]])
gallery_features = np.asarray(outputs_of(forward, batch_of(gallery, gallery_label).image).features)
means = np.asarray(statistics.mean)
SHOWN, MOVES = (1, 4, 8, 9), (-2, -1, 0, 1, 2)


def nearest(features: np.ndarray) -> np.ndarray:
    """Indices into the gallery, [N], of features [N, A]."""
    squares = (gallery_features**2).sum(1)[None] - 2 * features @ gallery_features.T
    return squares.argmin(1)


figure, grid = plt.subplots(4, 11, figsize=(9.5, 4), layout="constrained")
for axes in grid.ravel():
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
for row, c in zip(grid, SHOWN, strict=True):
    for block, k in ((row[:5], 0), (row[6:], 1)):
        steps = np.outer(MOVES, np.sqrt(values[c, k]) * directions[c, :, k])
        for axes, i in zip(block, nearest(means[c][None] + steps), strict=True):
            axes.imshow(gallery[i, ..., 0], cmap="gray_r")
            if gallery_label[i] != c:
                axes.spines[:].set(visible=True, color=COLOURS[1], linewidth=3)
for i, move in enumerate(MOVES):
    for column in (i, 6 + i):
        grid[-1, column].set_xlabel(f"{move:+d}" if move else "mean")
grid[0, 2].set_title("first direction")
grid[0, 8].set_title("second direction")
plt.show()

# %% [markdown]
# ## Does moving a feature so keep its class?
#
# That is ISDA's premise, and it can be tested: move the features of test images and ask for the
# class of the nearest training image, which knows nothing of the last layer. The rivals are noise
# with another class's covariance and noise that is the same in all directions, each scaled to the
# same total variance.

# %%
MOVED = np.array([0.0, 0.25, 0.5, 1.0, 2.0, 4.0])
roots = directions * np.sqrt(values)[:, None]  # [C, A, A], root @ root' is the covariance
variance = values.sum(1)
test_label, test_features = data.test["label"], np.asarray(test_outputs.features)
normal = np.random.default_rng(0).standard_normal((4, *test_features.shape))
other = (test_label + np.random.default_rng(1).integers(1, CLASSES, len(test_label))) % CLASSES


def kept(noise: np.ndarray) -> list[float]:
    """How often the nearest training image has the class of the test image that was moved."""
    train_features, train_label = np.asarray(outputs.features), data.train["label"][chosen]
    squares = (train_features**2).sum(1)[None]
    rates = []
    for strength in MOVED:
        moved = (test_features + np.sqrt(strength) * noise).reshape(-1, FEATURES)
        near = train_label[(squares - 2 * moved @ train_features.T).argmin(1)]
        rates.append(float((near.reshape(len(noise), -1) == test_label[None]).mean()))
    return rates


scale = np.sqrt(variance[test_label] / variance[other])[:, None]
of_class = np.einsum("nij,knj->kni", roots[test_label], normal)
of_other = np.einsum("nij,knj->kni", roots[other], normal) * scale
alike = normal * np.sqrt(variance[test_label] / FEATURES)[:, None]
premise = {
    "own class's covariance": kept(of_class),
    "another class's covariance": kept(of_other),
    "the same in all directions": kept(alike),
}

figure, axes = plt.subplots(figsize=(6, 3.7), layout="constrained")
for (name, rates), colour, marker in zip(premise.items(), COLOURS, MARKERS, strict=False):
    axes.plot(MOVED, rates, color=colour, marker=marker, label=name)
axes.set(xlabel="strength", ylabel="class kept")
axes.grid(alpha=0.3)
axes.legend(frameon=False)
plt.show()
between = np.linalg.svd(means - means.mean(0), full_matrices=False)[2][: CLASSES - 1]
inside = np.einsum("ka,cab,kb->c", between, matrices, between) / variance
at = list(MOVED).index(STRENGTH)
print(
    f"At strength {STRENGTH} the class is kept with "
    + ", ".join(f"{name} at {rates[at]:.1%}" for name, rates in premise.items())
    + f"; not moved at all {kept(alike)[0]:.1%}. Of a class's variance {inside.mean():.0%} lies "
    f"in the {CLASSES - 1} directions in which the classes' means differ, of noise that is the "
    f"same in all directions {(CLASSES - 1) / FEATURES:.0%}."
)

# %% [markdown]
# So a class's own covariance is kinder than another class's, but here it does not point away from
# the other classes: most of how a class varies lies where the classes differ. Noise in all
# directions is kinder still, because most of it goes where no feature ever does.
#
# ## How tight is the bound?
#
# `rj.semantic.differences` is the variance of `z_j - z_y` under the class's covariance,
# `upper_bound` puts half of it, times the strength, on top of the logits; `rj.expected_loss` draws
# features and averages, which costs far more and is what the bound is a bound of.

# %%
GRID = jnp.linspace(0.0, 4.0, 9)
SAMPLES = 200
kernel = forward.params["head"]["kernel"]
Q = rj.statistics.ClassStatistics


@jax.jit
def bounds(seen: Q | None) -> tuple[jax.Array, jax.Array]:
    """The table of differences, and the mean bound at every strength of the grid."""
    table = rj.semantic.differences(seen, kernel, train_set.label)

    def bound(strength: jax.Array) -> jax.Array:
        return rj.semantic.upper_bound(outputs.logits, train_set.label, 0.5 * strength * table)

    return table, jax.vmap(bound)(GRID).mean(1)


@jax.jit
@jax.vmap
def sampled(strength: jax.Array) -> jax.Array:
    """The sampled loss of every example."""
    return rj.expected_loss(
        outputs.logits,
        train_set.label,
        statistics.covariance.roots(),
        kernel,
        strength=strength,
        samples=SAMPLES,
        keys=jax.random.split(jax.random.key(0), len(chosen)),
    )


table, full_bound = map(np.asarray, bounds(statistics))
sampled_loss = np.asarray(sampled(GRID)).mean(1)
ratio = full_bound[1:] / sampled_loss[1:]
print(
    f"bound / sampled loss: {ratio[0]:.2f} at strength {GRID[1]:g}, {ratio[-1]:.2f} at {GRID[-1]:g}"
)

# %% [markdown]
# ## What cheaper covariances see
#
# A full covariance takes `C A^2` numbers. A diagonal takes `C A` and loses what features have in
# common; a sketch of low rank takes `C R A` and keeps the strongest directions; "shared" is one
# matrix for all classes, of features around the mean of all, so it has the distances between the
# classes in it. What matters is the table of differences that the bound adds to the logits.

# %%
RANKS = (1, 2, 4, 8, 16)


@functools.partial(jax.jit, static_argnames=("kind", "rank"))
def cheaper(kind: str, rank: int | None = None) -> Q:
    """Statistics of the same features, kept in another way."""
    classes = 1 if kind == "shared" else CLASSES
    label = train_set.label if classes > 1 else jnp.ones((len(chosen), 1))
    empty = rj.statistics.init(classes, FEATURES, covariance=kind, rank=rank)
    return rj.statistics.update(empty, outputs.features, label)


kinds: dict[str, Any] = {
    "diagonal": bounds(cheaper("diagonal")),
    "shared": bounds(cheaper("shared")),
    "identity": bounds(None),
}
sketches = {rank: bounds(cheaper("low_rank", rank)) for rank in RANKS}


def table_error(other: jax.Array) -> float:
    """Distance of a table of differences from the full covariance's, relative to its norm."""
    return float(np.linalg.norm(np.asarray(other) - table) / np.linalg.norm(table))


errors = {name: table_error(result[0]) for name, result in kinds.items()}
sketch_errors = [table_error(sketches[rank][0]) for rank in RANKS]

figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
left.plot(GRID, full_bound, color="black", label="bound, full")
left.plot(GRID, sketches[2][1], color=COLOURS[3], marker="o", label="bound, rank 2")
styles = list(zip(("--", "-.", ":"), COLOURS[:3], strict=True))  # two of them nearly coincide
for (name, (_, bound)), (style, colour) in zip(kinds.items(), styles, strict=True):
    left.plot(GRID, bound, color=colour, linestyle=style, label=f"bound, {name}")
left.plot(GRID, sampled_loss, "s", color=COLOURS[5], label=f"mean of {SAMPLES} draws, full")
left.set(xlabel="strength", ylabel="nats", yscale="log", title="mean loss")
right.plot(RANKS, sketch_errors, color=COLOURS[3], marker="o")
for value, (style, colour) in zip(errors.values(), styles, strict=True):
    right.axhline(value, color=colour, linestyle=style)
right.set(
    xscale="log", yscale="log", xlabel="rank of low_rank", title="relative error of the differences"
)
right.set_xticks(RANKS, [str(rank) for rank in RANKS])
figure.legend(*left.get_legend_handles_labels(), loc="outside right center", frameon=False)
for axes in (left, right):
    axes.grid(alpha=0.3)
plt.show()

at = GRID.tolist().index(1.0)
below = [name for name, (_, bound) in kinds.items() if bound[at] < sampled_loss[at]]
below += [f"rank {rank}" for rank in RANKS if sketches[rank][1][at] < sampled_loss[at]]
print(
    f"At strength 1 these lie below the loss sampled with full covariances: {', '.join(below)}. "
    "They bound the loss under the noise that they themselves describe, and no other."
)
enough = next((rank for rank, e in zip(RANKS, sketch_errors, strict=True) if e < 0.05), None)
print(
    "Relative errors of the differences: "
    + ", ".join(f"{name} {value:.0%}" for name, value in errors.items())
    + ", "
    + ", ".join(f"rank {rank} {e:.0%}" for rank, e in zip(RANKS, sketch_errors, strict=True))
    + f". The first rank below 5% is {enough}; a class's effective dimension is "
    f"{effective.mean():.1f} on average."
)
