# %% [markdown]
"""# What unlabelled points do to a boundary.

Two moons, and three points of each whose moon is known. A network that is trained on the six alone
draws its boundary where they leave it room. What do all the other points, whose moon is not
known, change? Here are the Pi-model, temporal ensembling, the mean teacher, virtual adversarial
training, entropy minimisation and ISDA's term, each beside the same six points, in one picture.

Open this file in Jupyter (through jupytext) or VS Code, or run it:
`python -m experiments.gallery.notebooks.few_labels`. It takes about a minute.
"""

# %%
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from sklearn.datasets import make_moons

import regjax as rj
from experiments.report.plots import COLOURS

# %% [markdown]
# ## Points
#
# One set of 300 points for all; the six with a label are drawn anew for each of ten seeds, and all
# methods are given the same ones. 2,000 others are for the score.

# %%
POINTS, PER_CLASS, NOISE = 300, 3, 0.12
SEEDS = np.arange(10)


def moons(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Points [N, 2], about the origin, and their moons, 0 and 1."""
    x, moon = make_moons(count, noise=NOISE, random_state=seed)
    return (x - [0.5, 0.25]).astype(np.float32), moon


x, moon = moons(POINTS, seed=0)
test_x, test_moon = moons(2000, seed=1)


def labelled(seed: int) -> np.ndarray:
    """Which points have a label: so many of each moon."""
    generator = np.random.default_rng(seed)
    each = [generator.choice(np.flatnonzero(moon == c), PER_CLASS, False) for c in (0, 1)]
    return np.concatenate(each)


known = np.stack([labelled(int(seed)) for seed in SEEDS])  # [seeds, 6]
unlabeled = rj.Batch(jnp.asarray(x), jnp.zeros((POINTS, 2)), jnp.arange(POINTS))


# %% [markdown]
# ## A network, and one program a method
#
# The unlabelled points are `batch.unlabeled`, and the terms penalties over those. Two views of a
# point differ by noise. Weights of the terms that compare predictions grow slowly, as in the
# papers: an optax schedule in the place of a number. `vmap` trains all seeds in one program.

# %%
WIDTH, STEPS = 32, 1000
Params = list[dict[str, jax.Array]]


def initial(key: jax.Array) -> Params:
    """Three layers; weights as He et al. (2015) draw them."""
    sizes, keys = (2, WIDTH, WIDTH, 2), jax.random.split(key, 3)
    return [
        {"kernel": jax.random.normal(k, (a, b)) * jnp.sqrt(2 / a), "bias": jnp.zeros(b)}
        for k, a, b in zip(keys, sizes[:-1], sizes[1:], strict=True)
    ]


def network(params: Params, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Logits [B, 2] of points [B, 2], and the features before the last layer."""
    for layer in params[:-1]:
        x = jax.nn.gelu(x @ layer["kernel"] + layer["bias"][None])
    return x @ params[-1]["kernel"] + params[-1]["bias"][None], x


def forward(params: Params) -> rj.Forward:
    """The network with its head, of which ISDA needs to know."""
    return rj.from_function(network, params, head=lambda p: (p[-1]["kernel"], p[-1]["bias"]))


def ramp(most: float) -> Any:
    """A weight that grows to `most` over half of the steps."""
    return lambda step: most * jnp.exp(-5 * (1 - jnp.minimum(2 * step / STEPS, 1)) ** 2)


def grown(most: float) -> Any:
    """ISDA's strength."""
    return lambda step: most * step / STEPS


def plain() -> rj.Loss:
    """Cross entropy of the six points."""
    return rj.cross_entropy()


def noisy(loss: rj.Loss) -> rj.Loss:
    """Every view of a point is moved a little."""
    return rj.noise_injection(loss, sigma=0.1)


isda = rj.isda(strength=grown(0.5))
LOSSES = {
    "six labels alone": noisy(plain()),
    "Pi-model": rj.pi_model(noisy(plain()), weight=ramp(10.0)),
    "temporal ensembling": rj.temporal_ensembling(noisy(plain()), weight=ramp(10.0), images=POINTS),
    "mean teacher": rj.mean_teacher(noisy(plain()), weight=ramp(10.0), decay=0.99),
    "VAT": rj.vat(noisy(plain()), weight=1.0, epsilon=0.3),
    "entropy": rj.entropy(noisy(plain()), weight=ramp(1.0)),
    "ISDA's term": rj.semantic_consistency(noisy(isda), weight=1.0),
    "VAT + ISDA's term": rj.vat(
        rj.semantic_consistency(noisy(isda), weight=1.0), weight=1.0, epsilon=0.3
    ),
}
optimizer = optax.adam(optax.cosine_decay_schedule(0.01, STEPS))


def train(loss: rj.Loss, known: jax.Array, seed: jax.Array) -> Params:
    """What is evaluated after STEPS steps: the network, or its teacher."""
    key = jax.random.key(seed)
    label = jax.nn.one_hot(jnp.asarray(moon)[known], 2)
    batch = rj.Batch(unlabeled.image[known], label, known, unlabeled=unlabeled)
    params = initial(key)

    def step(carry: tuple, key: jax.Array) -> tuple[tuple, None]:
        params, opt_state, state = carry

        def objective(params: Params) -> tuple[jax.Array, rj.LossState]:
            result, next_state = loss.apply(state, forward(params), batch, key)
            return rj.total(result, batch), next_state

        grads, state = jax.grad(objective, has_aux=True)(params)
        updates, opt_state = optimizer.update(grads, opt_state)
        return (optax.apply_updates(params, updates), opt_state, state), None

    carry = (params, optimizer.init(params), loss.init(forward(params), batch))
    params, _, state = jax.lax.scan(step, carry, jax.random.split(key, STEPS))[0]
    teaches = "mean_teacher" in state.stages
    return rj.taught(forward(params), state).params if teaches else params


trained = {
    name: jax.jit(jax.vmap(lambda known, seed, loss=loss: train(loss, known, seed)))(known, SEEDS)
    for name, loss in LOSSES.items()
}

# %% [markdown]
# ## The picture
#
# The networks of one seed; the shade is the probability of a moon, the line the boundary. Crosses
# are the six points with a label. Above each, the accuracy on other points, over all seeds.

# %%
SIDE, SHOWN = 121, 0
EXTENT = (2.0, 1.4)
axes_x, axes_y = (np.linspace(-e, e, SIDE, dtype=np.float32) for e in EXTENT)
grid = jnp.asarray(np.stack(np.meshgrid(axes_x, axes_y), -1).reshape(-1, 2))


@jax.jit
@jax.vmap
def evaluate(params: Params) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The probability of moon 1 on the grid; accuracy on other points, and how sure it is there."""
    logits = network(params, jnp.asarray(test_x))[0]
    shade = jax.nn.softmax(network(params, grid)[0])[:, 1].reshape(SIDE, SIDE)
    return shade, (logits.argmax(-1) == test_moon).mean(), jax.nn.softmax(logits).max(-1).mean()


found = {name: evaluate(params) for name, params in trained.items()}
accuracy = {name: 100 * np.asarray(right) for name, (_, right, _) in found.items()}
sure = {name: 100 * float(each.mean()) for name, (_, _, each) in found.items()}

figure, panels = plt.subplots(2, 4, figsize=(13, 5.4), layout="constrained")
for panel, (name, (probability, *_)) in zip(panels.flat, found.items(), strict=True):
    panel.contourf(
        axes_x, axes_y, probability[SHOWN], np.linspace(0, 1, 21), cmap="RdBu", alpha=0.6
    )
    panel.contour(axes_x, axes_y, probability[SHOWN], [0.5], colors="black", linewidths=1.8)
    for c, colour in enumerate((COLOURS[1], COLOURS[0])):
        panel.scatter(*x[moon == c].T, s=5, color=colour, alpha=0.7)
        own = known[SHOWN][moon[known[SHOWN]] == c]
        panel.scatter(*x[own].T, s=110, color=colour, marker="X", edgecolors="white", zorder=3)
    mean, std = accuracy[name].mean(), accuracy[name].std(ddof=1)
    panel.set_title(f"{name}: {mean:.1f} ± {std:.1f} %", fontsize=11)
    panel.set(xticks=[], yticks=[], aspect="equal")
plt.show()

for name, each in accuracy.items():
    gain = each - accuracy["six labels alone"]
    print(
        f"{name:20} {each.mean():5.1f} ± {each.std(ddof=1):4.1f} % ({gain.mean():+.1f}, better for "
        f"{(gain > 0).sum()} of {len(SEEDS)} seeds); sure by {sure[name]:.1f} %"
    )

# %% [markdown]
# Six labels leave the boundary much room, and most of what a network could draw goes through a
# moon. The Pi-model, temporal ensembling and VAT ask for predictions that stay as they are where a
# point is moved a little, which costs least where there are no points: the boundary goes to the gap
# between the moons. So does the mean teacher's, less far here. Entropy asks a network to be sure,
# and it can be sure of the wrong moon: the boundary gets sharper and stays where the six labels put
# it.
#
# ISDA's term moves features along covariances that it knows from three points of each moon, which
# say little; it does not know either where the other points are dense. Alone it changes little
# here, and beside VAT as little. In its paper there are labels by the hundred, and features that
# vary in more directions.
