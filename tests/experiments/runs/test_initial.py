"""A network that starts from another run's layers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import regjax.flax
from experiments import ConfigError
from experiments.runs import initial


class Block(nnx.Module):
    def __init__(self, width: int, rngs: nnx.Rngs):
        self.linear = nnx.Linear(3, width, rngs=rngs)
        self.norm = nnx.BatchNorm(width, rngs=rngs)

    def __call__(self, x):
        return self.norm(self.linear(x))


class Classifier(nnx.Module):
    """Its head has as many biases as that of `Dense`, but other weights."""

    def __init__(self, rngs: nnx.Rngs):
        self.stem, self.stage = nnx.Linear(3, 3, rngs=rngs), Block(3, rngs)
        self.head = nnx.Linear(3, 2, rngs=rngs)

    def __call__(self, x):
        return self.head(self.stage(self.stem(x)))


class Backbone(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.stem, self.stage = nnx.Linear(3, 3, use_bias=False, rngs=rngs), Block(3, rngs)

    def __call__(self, x):
        return self.stage(self.stem(x))


class Dense(nnx.Module):
    def __init__(self, rngs: nnx.Rngs, inside: int = 3):
        self.backbone = Backbone(rngs)
        self.head = nnx.Linear(inside, 2, rngs=rngs)

    def __call__(self, x):
        h = self.backbone(x)
        return self.head(jnp.concatenate([h] * (self.head.in_features // 3), -1))


def bound(make, key=0):
    forward = regjax.flax.bind(make(rngs=nnx.Rngs(key)))
    return forward.replace(state=jax.tree.map(lambda x: x + 0.5, forward.state))


def arrays(forward):
    of = jax.tree.leaves_with_path((forward.params, forward.state))
    names = [jax.tree_util.keystr(path[1:], simple=True, separator=".") for path, _ in of]
    return dict(zip(names, (leaf for _, leaf in of), strict=True))


@pytest.fixture
def donor(monkeypatch):
    found = bound(Classifier, 1)
    monkeypatch.setattr(initial, "load", lambda name, method: found)
    return found


def build(key, axis_name=None, inside=6):
    return regjax.flax.bind(Dense(nnx.Rngs(key), inside))


def test_layers_of_a_backbone_are_a_classifiers_with_their_averages(donor):
    made = jax.jit(initial.started(build, "runs/a:b"))(jax.random.key(2))
    mine, theirs = (arrays(each) for each in (made, donor))
    fresh = arrays(build(jax.random.key(2)))
    taken = {path for path in mine if path.startswith("backbone.stage.")}
    assert len(taken) == 6  # kernel, bias, scale, bias, mean, var
    for path in mine:
        want = theirs[path.removeprefix("backbone.")] if path in taken else fresh[path]
        np.testing.assert_array_equal(mine[path], want, err_msg=path)


def test_a_layer_of_another_form_is_fresh_as_a_whole(donor):
    made = initial.started(build, "runs/a:b")(jax.random.key(2))
    fresh = arrays(build(jax.random.key(2)))
    # The donor's stem has a bias beside the same kernel, and its head another kernel.
    for path in ("backbone.stem.kernel", "head.bias"):
        np.testing.assert_array_equal(arrays(made)[path], fresh[path])
    same = initial.started(lambda key, axis_name=None: bound(Classifier, 3), "runs/a:b")
    found, given = arrays(same(jax.random.key(0))), arrays(donor)
    jax.tree.map(np.testing.assert_array_equal, found, given)


def test_another_network_and_a_missing_run_are_refused(donor, tmp_path, monkeypatch):
    def other(key, axis_name=None):
        return regjax.flax.bind(nnx.Sequential(nnx.Linear(3, 2, rngs=nnx.Rngs(key))))

    with pytest.raises(ConfigError, match=r"init_from='runs/a:b' is of another network"):
        initial.started(other, "runs/a:b")
    monkeypatch.undo()
    with pytest.raises(ConfigError, match=r"init_from='.*nothing' cannot be read"):
        initial.started(build, str(tmp_path / "nothing"))
