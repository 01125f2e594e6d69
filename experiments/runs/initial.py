"""The parameters of another run that a network starts from, as far as they fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

import regjax as rj
from experiments import ConfigError
from experiments.runs import folder
from experiments.runs.load import load

BACKBONE = "backbone."
Layers = dict[str, dict[str, Any]]  # arrays by the path of their layer and their own name


def started(build: Callable[..., rj.Forward], run: str) -> Callable[..., rj.Forward]:
    """The function that makes networks, whose layers are a run's wherever these fit.

    A layer fits one of its path with arrays of the same names and shapes, BatchNorm's averages
    among them; of a network with a `backbone`, the backbone's are looked for without that name, so
    that it takes those of a classifier. All others are fresh.

    Args:
      build: `(key, axis_name=None) -> Forward`.
      run: a work folder; a method may stand behind, as in "runs/imagenet:ISDA". It is of seed 0.

    Raises:
      ConfigError: there is no such run, or nothing of it fits.

    Example:
      `started(networks.builder("pspnet", (64, 64, 3), 11), "runs/imagenet:ISDA")`
    """
    chosen = _chosen(_loaded(run), jax.eval_shape(build, jax.random.key(0)))
    if not chosen:
        raise ConfigError(
            f"config.init_from={run!r} is of another network, of which no layer has the path and "
            "the shape of one of config.model's: name a run of its backbone's family and width."
        )

    def build_from(key: jax.Array, axis_name: str | None = None) -> rj.Forward:
        forward = build(key, axis_name=axis_name)

        def start(path: Any, leaf: jax.Array) -> jax.Array:
            layer, name = _place(path)
            return jnp.asarray(chosen[layer][name], leaf.dtype) if layer in chosen else leaf

        of = (forward.params, forward.state)
        params, state = (jax.tree.map_with_path(start, tree) for tree in of)
        return forward.replace(params=params, state=state)

    return build_from


def _loaded(run: str) -> rj.Forward:
    name, method = folder.parts(run)
    try:
        return load(name, method or folder.read(name).only_method)
    except (OSError, ValueError) as error:
        raise ConfigError(f"config.init_from={run!r} cannot be read: {error}") from error


def _chosen(known: rj.Forward, wanted: rj.Forward) -> Layers:
    """The layers that fit, by the path at which they are wanted."""
    theirs, chosen = _layers(known), {}
    for path, arrays in _layers(wanted).items():
        for name in (path, path.removeprefix(BACKBONE)):
            if name in theirs and _shapes(theirs[name]) == _shapes(arrays):
                chosen[path] = theirs[name]
    return chosen


def _layers(forward: rj.Forward) -> Layers:
    found: Layers = {}
    for tree in (forward.params, forward.state):
        for path, leaf in jax.tree.leaves_with_path(tree):
            layer, name = _place(path)
            found.setdefault(layer, {})[name] = leaf
    return found


def _place(path: Any) -> tuple[str, str]:
    layer, _, name = jax.tree_util.keystr(path, simple=True, separator=".").rpartition(".")
    return layer, name


def _shapes(arrays: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    return {name: leaf.shape for name, leaf in arrays.items()}
