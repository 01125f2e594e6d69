# %% [markdown]
"""# What a Jacobian penalty does.

A classifier's margin at an example is the distance by which the example may be moved before its
class changes. It is the gap between the probabilities, divided by how fast they change with the
input; so a penalty on the Jacobian should widen margins. Two-dimensional data let us look: three
handwritten digits, on their first two principal components.

Open this file in Jupyter (through jupytext) or VS Code, or run it:
`python -m experiments.gallery.notebooks.jacobian`. It takes about fifteen seconds.
"""

# %%
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb

import regjax as rj
from experiments.data import sources, subsets
from experiments.report.plots import COLOURS, MARKERS

# %% [markdown]
# ## Data: three digits in the plane
#
# The components come from all training images of the three digits, the labels from only twenty of
# each. Both axes are divided by one number, so that distances mean the same in every direction.

# %%
DIGITS, PER_CLASS = (3, 5, 9), 20
data = sources.load("digits")


def flat(split: sources.Split) -> tuple[np.ndarray, np.ndarray]:
    """The images of the three digits, [N, 64], and their labels 0, 1 and 2."""
    kept = np.isin(split["label"], DIGITS)
    label = np.searchsorted(DIGITS, split["label"][kept])
    return split["image"][kept].reshape(-1, 64) / 255.0, label


pixels, labels = flat(data.train)
test_pixels, test_labels = flat(data.test)
mean, components = pixels.mean(0), np.linalg.svd(pixels - pixels.mean(0))[2][:2].T
scale = ((pixels - mean) @ components).std()
chosen = subsets.balanced_indices(labels, PER_CLASS, seed=0)


def points(images: np.ndarray) -> jax.Array:
    """Images [N, 64] on the two components, [N, 2]."""
    return jnp.asarray((images - mean) @ components / scale, jnp.float32)


x, y = points(pixels[chosen]), labels[chosen]
test_x, test_y = points(test_pixels), test_labels
batch = rj.Batch(x, jax.nn.one_hot(y, 3))
test_label = jax.nn.one_hot(test_y, 3)
print(f"{len(x)} points to train on, {len(test_x)} to test on")

# %% [markdown]
# ## A network, and one program that trains it at every strength
#
# A network need not come from a library: a pure function of parameters and input will do.
# A loss is a pytree and its `weight` a leaf, so `jax.vmap` runs over strengths and seeds alike, and
# all runs are one compiled program.

# %%
WIDTH, STEPS = 48, 300
WEIGHTS = jnp.array([0.0, 0.03, 0.1, 0.3, 1.0, 3.0])
SEEDS = jnp.arange(4)
Params = list[dict[str, jax.Array]]


def initial(key: jax.Array) -> Params:
    """Three layers; weights as He et al. (2015) draw them."""
    sizes, keys = (2, WIDTH, WIDTH, 3), jax.random.split(key, 3)
    return [
        {"kernel": jax.random.normal(k, (a, b)) * jnp.sqrt(2 / a), "bias": jnp.zeros((1, b))}
        for k, a, b in zip(keys, sizes[:-1], sizes[1:], strict=True)
    ]


def network(params: Params, x: jax.Array) -> jax.Array:
    """Logits [B, 3] of points [B, 2]."""
    for layer in params[:-1]:
        x = jax.nn.gelu(x @ layer["kernel"] + layer["bias"])
    return x @ params[-1]["kernel"] + params[-1]["bias"]


optimizer = optax.adam(optax.cosine_decay_schedule(0.01, STEPS))


def train(loss: rj.Loss, seed: jax.Array) -> Params:
    """The parameters after STEPS steps on all training points at once."""
    key = jax.random.key(seed)
    params = initial(key)
    state = loss.init(rj.from_function(network, params), batch)

    def step(carry: tuple, key: jax.Array) -> tuple[tuple, None]:
        params, opt_state, state = carry

        def objective(params: Params) -> tuple[jax.Array, rj.LossState]:
            forward = rj.from_function(network, params)
            result, next_state = loss.apply(state, forward, batch, key)
            return rj.total(result, batch), next_state

        grads, state = jax.grad(objective, has_aux=True)(params)
        updates, opt_state = optimizer.update(grads, opt_state)
        return (optax.apply_updates(params, updates), opt_state, state), None

    carry = (params, optimizer.init(params), state)
    return jax.lax.scan(step, carry, jax.random.split(key, STEPS))[0][0]


by_seed = jax.vmap(train, (None, 0))
train_all = jax.jit(jax.vmap(by_seed, (0, None)))  # parameters [strengths, seeds, ...]
losses = jax.vmap(lambda w: rj.jacobian(rj.cross_entropy(), weight=w))(WEIGHTS)
trained = train_all(losses, SEEDS)

# %% [markdown]
# ## What the strength does
#
# `rj.metrics` measures what the penalty acts on. The norm is that of the Jacobian of the
# probabilities; its square is the penalty. At the training points the optimizer sees it, between
# them it does not: a network can also lower it by steps that are steep, and stand elsewhere.


# %%
@jax.jit
@jax.vmap
@jax.vmap
def evaluate(params: Params) -> dict[str, jax.Array]:
    """Scalars of one network."""

    def probabilities(x: jax.Array) -> jax.Array:
        return jax.nn.softmax(network(params, x))

    logits = network(params, test_x)
    norms = rj.metrics.jacobian_frobenius_norm(probabilities, jnp.concatenate([x, test_x]))
    return {
        "training accuracy": rj.metrics.accuracy(network(params, x), batch.label),
        "test accuracy": rj.metrics.accuracy(logits, test_label),
        "test negative log-likelihood": rj.metrics.negative_log_likelihood(logits, test_label),
        "norm at training points": norms[: len(x)].mean(),
        "norm at test points": norms[len(x) :].mean(),
    }


scores = {name: np.asarray(value) for name, value in evaluate(trained).items()}
best = int(scores["test accuracy"].mean(1).argmax())  # by the test points: to look at, not to claim
names = ["none"] + [f"{w:g}" for w in WEIGHTS[1:]]
titles = ["no penalty"] + [f"weight {w:g}" for w in WEIGHTS[1:]]


def lines(axes: Axes, names_drawn: tuple[str, ...], ylabel: str, legend: Any) -> None:
    """Mean over the seeds against strength, with its standard deviation as a band."""
    for name, colour, marker in zip(names_drawn, COLOURS, MARKERS, strict=False):
        mean, std = scores[name].mean(1), scores[name].std(1, ddof=1)
        axes.plot(names, mean, color=colour, marker=marker, label=name)
        axes.fill_between(names, mean - std, mean + std, color=colour, alpha=0.15, linewidth=0)
    axes.set(xlabel="weight of the penalty", ylabel=ylabel)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, loc=legend)


figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
lines(left, ("training accuracy", "test accuracy"), "accuracy", "lower left")
lines(middle, ("test negative log-likelihood",), "nats", "upper right")
lines(
    right, ("norm at training points", "norm at test points"), "norm of the Jacobian", "center left"
)
plt.show()

gain = scores["test accuracy"][best] - scores["test accuracy"][0]
print(
    f"Best at weight {names[best]}: {100 * gain.mean():+.1f} points of test accuracy, paired by "
    f"seed with a standard deviation of {100 * gain.std(ddof=1):.1f} (n={len(SEEDS)}); at weight "
    f"{names[-1]}, "
    f"{100 * (scores['test accuracy'][-1] - scores['test accuracy'][0]).mean():+.1f}. The best was "
    "chosen by the test points themselves, which flatters it."
)

# %% [markdown]
# ## The decision boundary
#
# The same network from the same seed, without the penalty, with the best strength, with too much.
# The paler the colour, the less sure the network is.

# %%
SHOWN = (0, best, len(WEIGHTS) - 1)
SIDE = 121
axis = np.linspace(-3.5, 3.5, SIDE, dtype=np.float32)
grid = jnp.asarray(np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2))
shown = jax.tree.map(lambda p: p[jnp.array(SHOWN), 0], trained)


@jax.jit
@jax.vmap
def look(params: Params) -> tuple[jax.Array, jax.Array]:
    """Logits and the spectral norm of the probabilities' Jacobian, on the grid and at the tests."""

    def probabilities(x: jax.Array) -> jax.Array:
        return jax.nn.softmax(network(params, x))

    everywhere = jnp.concatenate([grid, test_x])
    norms = rj.metrics.jacobian_spectral_norm(probabilities, everywhere, iterations=8)
    return network(params, everywhere), norms


logits, norms = (np.asarray(a) for a in look(shown))
palette = np.array([to_rgb(c) for c in COLOURS[:3]])


def draw_regions(axes: Axes, logits: np.ndarray) -> None:
    """Colours mixed by probability, the boundaries, and the training points."""
    p = np.asarray(jax.nn.softmax(logits)).reshape(SIDE, SIDE, 3)
    box = (axis[0], axis[-1], axis[0], axis[-1])
    axes.imshow(0.35 * p @ palette + 0.65, origin="lower", extent=box, interpolation="bilinear")
    for c in range(3):
        other = np.delete(p, c, axis=-1).max(-1)
        axes.contour(axis, axis, p[..., c] - other, levels=[0.0], colors="0.25", linewidths=1)
        at = np.asarray(x)[y == c]
        style: dict[str, Any] = {"color": COLOURS[c], "marker": MARKERS[c], "label": DIGITS[c]}
        axes.scatter(at[:, 0], at[:, 1], s=34, edgecolor="white", **style)
    axes.set(xlim=(-2.7, 2.7), ylim=(-2.7, 2.7), xlabel="first component")


figure, panels = plt.subplots(1, 3, figsize=(12, 4.3), layout="constrained", sharey=True)
for panel, k, z in zip(panels, SHOWN, logits, strict=True):
    draw_regions(panel, z[: len(grid)])
    accuracy = scores["test accuracy"][k, 0]
    panel.set_title(f"{titles[k]}: test accuracy {accuracy:.2f}")
panels[0].set_ylabel("second component")
figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center", title="digit")
plt.show()

# %% [markdown]
# ## Margins, and what the norm says about them
#
# In the plane the margin can be measured: the distance from a test point to the nearest boundary of
# its class. Beside it stand two numbers made from score and norm, `score / (2 norm)`:
#
# - with the norm at the point alone, an estimate of first order, which may be too large;
# - with the largest norm in a ball around the point, a guarantee for as far as the ball reaches. On
#   a grid the largest is easy to find; for images it is not.


# %%
def measured_margins(logits: np.ndarray) -> np.ndarray:
    """Distance from each test point to where its class's logit meets another's; 0 if wrong."""
    on_grid, at_tests = logits[: len(grid)].reshape(SIDE, SIDE, 3), logits[len(grid) :]
    margins = np.zeros(len(test_y))
    for c in range(3):
        gap = on_grid[..., c] - np.delete(on_grid, c, axis=-1).max(-1)
        contours = plt.figure().gca().contour(axis, axis, gap, levels=[0.0]).allsegs[0]
        plt.close()
        mine = (test_y == c) & (at_tests.argmax(-1) == c)
        apart = np.asarray(test_x)[mine, None] - np.concatenate(contours)[None]
        margins[mine] = np.linalg.norm(apart, axis=-1).min(-1)
    return margins


def guaranteed(score: np.ndarray, norms: np.ndarray) -> np.ndarray:
    """The largest r with r <= score / (2 max norm within r), over the grid's distances."""
    distance = np.linalg.norm(np.asarray(test_x)[:, None] - np.asarray(grid)[None], axis=-1)
    order = distance.argsort(1)
    largest = np.maximum.accumulate(norms[: len(grid)][order], axis=1)
    bound = rj.metrics.margin_lower_bound(
        jnp.broadcast_to(score[:, None], largest.shape).ravel(), jnp.asarray(largest).ravel()
    )
    radius = np.take_along_axis(distance, order, 1)
    return np.minimum(radius, np.asarray(bound).reshape(largest.shape)).max(1)


margins = np.stack([measured_margins(z) for z in logits])
test_scores = jnp.stack([rj.metrics.score(jnp.asarray(z[len(grid) :]), test_label) for z in logits])
estimates = np.asarray(
    rj.metrics.margin_lower_bound(test_scores.ravel(), jnp.asarray(norms[:, len(grid) :]).ravel())
).reshape(margins.shape)
HIGHEST = 100  # of what is drawn
guarantees = np.stack([guaranteed(s, n) for s, n in zip(test_scores, norms, strict=True)])

figure, panels = plt.subplots(1, 3, figsize=(12, 4), layout="constrained", sharey=True, sharex=True)
for panel, k, true, estimate, sure in zip(
    panels, SHOWN, margins, estimates, guarantees, strict=True
):
    right_ones = true > 0
    cut = estimate[right_ones].clip(max=HIGHEST)
    panel.scatter(true[right_ones], cut, s=14, color=COLOURS[0], marker="o")
    panel.scatter(true[right_ones], sure[right_ones], s=14, color=COLOURS[1], marker="s")
    panel.plot([0.01, 3], [0.01, 3], color="black", linestyle="--", linewidth=1)
    panel.set(xscale="log", yscale="log", xlabel="measured margin", title=titles[k])
    panel.set(xlim=(0.01, 3), ylim=(0.001, 2 * HIGHEST))
    panel.grid(alpha=0.3)
panels[0].set_ylabel(f"score / (2 norm), cut at {HIGHEST}")
panels[0].legend(["norm at the point", "largest norm around"], loc="lower right")
plt.show()

for k, true, estimate, sure in zip(SHOWN, margins, estimates, guarantees, strict=True):
    right_ones = true > 0
    print(
        f"{titles[k]}: mean margin {true.mean():.3f}, 0 where wrong. Of the right ones the "
        f"estimate exceeds the margin at {(estimate > true)[right_ones].mean():.0%}, by a median "
        f"factor of {np.median(estimate[right_ones] / true[right_ones]):.1f}; the guarantee is "
        f"{np.median(sure[right_ones] / true[right_ones]):.0%} of it, and above it by at most "
        f"{(sure - true).max():.3f}, where the grid's step is {axis[1] - axis[0]:.3f}"
    )

# %% [markdown]
# Where the softmax is saturated the norm at a point is next to nothing, however steep the network
# is a little further on, so the estimate says little. This is the penalty's own limit too: it sees
# the norm at the training points only. It works as far as smoothness there spreads.
#
# ## Exact, or by random probes
#
# The exact norm takes a backward pass a class; `probes=1` takes one in all, with random signs in
# the place of unit vectors. The mean over draws is right, for the value and for its gradient with
# respect to the parameters. Here are many draws at one network, averaged k at a time.

# %%
DRAWS = 512
standing = jax.tree.map(lambda p: p[best, 0], trained)


def penalty_of(params: Params, loss: rj.Loss, key: jax.Array) -> jax.Array:
    """The mean of the penalty over the training points."""
    forward = rj.from_function(network, params)
    result, _ = loss.apply(loss.init(forward, batch), forward, batch, key)
    return result.metrics["jacobian"]


value_and_grad = jax.jit(
    jax.vmap(lambda loss, key: jax.value_and_grad(penalty_of)(standing, loss, key), (None, 0))
)
keys = jax.random.split(jax.random.key(1), DRAWS)
exact_loss = rj.parse("cross_entropy | jacobian(weight=1.0)")
probe_loss = rj.parse("cross_entropy | jacobian(weight=1.0, probes=1)")
(exact,), exact_grad = value_and_grad(exact_loss, keys[:1])
values, gradients = value_and_grad(probe_loss, keys)


def vectors(gradients: Params) -> np.ndarray:
    """Gradients as rows."""
    return np.concatenate(
        [np.asarray(g).reshape(len(g), -1) for g in jax.tree.leaves(gradients)], 1
    )


exact_row, rows = vectors(exact_grad), vectors(gradients)
counts = [2**i for i in range(8)]


def error(draws: np.ndarray, exact: np.ndarray, k: int) -> float:
    """Root mean square distance of means of k draws from the exact one, relative to its size."""
    means = draws.reshape(-1, k, draws.shape[1]).mean(1)
    return float(np.sqrt(((means - exact) ** 2).sum(1).mean()) / np.linalg.norm(exact))


value_errors = [error(np.asarray(values)[:, None], np.asarray([[exact]]), k) for k in counts]
gradient_errors = [error(rows, exact_row, k) for k in counts]
standard_error = float(np.std(values, ddof=1) / np.sqrt(DRAWS))
deviation = (float(np.mean(values)) - float(exact)) / standard_error

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
left.hist(np.asarray(values), bins=40, color=COLOURS[4])
left.axvline(float(exact), color="black", label="exact")
left.axvline(np.mean(values), color=COLOURS[1], linestyle="--", label=f"mean of {DRAWS} draws")
left.set(xlabel="penalty, estimated with one probe", ylabel="draws")
left.legend(frameon=False)
right.loglog(counts, value_errors, marker="o", color=COLOURS[0], label="value")
right.loglog(counts, gradient_errors, marker="s", color=COLOURS[1], label="gradient")
right.loglog(
    counts, gradient_errors[0] / np.sqrt(counts), "k--", linewidth=1, label="1 / sqrt(probes)"
)
right.set(xlabel="probes", ylabel="relative error (root mean square)")
right.legend(frameon=False)
right.grid(alpha=0.3)
plt.show()
print(
    f"exact {exact:.4f}, mean of the draws {np.mean(values):.4f}: {deviation:+.1f} standard errors "
    f"apart. One probe is off by {value_errors[0]:.0%} in value and {gradient_errors[0]:.0%} in "
    "gradient."
)

# %% [markdown]
# Such noise is much like that of small batches, and one need not wait for it to average out: the
# optimizer does that over the steps.

# %%
probed = train_all(
    jax.vmap(lambda w: rj.jacobian(rj.cross_entropy(), weight=w, probes=1))(WEIGHTS), SEEDS
)
probed_scores = {name: np.asarray(value) for name, value in evaluate(probed).items()}
for k in SHOWN[1:]:
    pair = [100 * s["test accuracy"][k] for s in (scores, probed_scores)]
    exact_text, probe_text = (f"{a.mean():.1f} ± {a.std(ddof=1):.1f}" for a in pair)
    print(f"{titles[k]}, test accuracy: exact {exact_text}, one probe {probe_text} %")
