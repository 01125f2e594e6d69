"""How a function of one run is spread over devices where its sums over them are written out.

Under "jit" the compiler splits the program of one device as its batch is split; nothing need be
written. Under "shard_map" and "pmap" each device runs the function with its own share of the batch
and the name of the mapped axis; "pmap" is for those who still use it, in one process only.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

AXES = ("data", "fsdp")  # of the mesh; a batch is split over both
# (shared, state, objective, seed, batch, axis_name) -> (state, whatever is alike everywhere)
Function = Callable[..., tuple[Any, Any]]


def shard_mapped(function: Function, mesh: Mesh, axis: int) -> Function:
    """The function on every device of the mesh, the batch split along that axis of its arrays."""
    return jax.shard_map(
        functools.partial(function, axis_name="data"),
        mesh=mesh,
        in_specs=(*[P()] * 4, P(*[None] * axis, "data")),
        out_specs=P(),
    )


def pmapped(function: Function, axis: int) -> Function:
    """The same by `jax.pmap`."""
    mapped = jax.pmap(
        functools.partial(function, axis_name="data"),
        axis_name="data",
        in_axes=(*[None] * 4, 0),
        out_axes=None,
    )

    def split(x: Any) -> Any:
        devices = jax.device_count()
        x = x.reshape(*x.shape[:axis], devices, -1, *x.shape[axis + 1 :])
        return np.moveaxis(np.asarray(x), axis, 0)

    return lambda *arguments: mapped(*arguments[:4], jax.tree.map(split, arguments[4]))
