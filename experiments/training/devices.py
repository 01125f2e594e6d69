"""The devices and processes that an experiment runs on."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import sys
import threading
import zlib
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh

from experiments import ConfigError

DISTRIBUTED = re.compile(r"(?P<address>[^\s,]+:(?P<port>\d+)),(?P<index>\d+),(?P<count>\d+)")
LAST_PORT = 65535
# A process that has died is noticed by the others after so many seconds.
HEARTBEAT = 20
# How long JAX itself would wait beyond the limit; it then ends the process with a stack of its own.
MARGIN = 60
LONGEST_WAIT = 86_400


def start(distributed: str, timeout: int = 300) -> None:
    """Joins this process with the others, before anything else is asked of JAX.

    Args:
      distributed: "" for a process alone; "auto" where the platform says who takes part (Cloud TPU,
        Slurm, Kubernetes, Open MPI); or "HOST:PORT,INDEX,COUNT", the address of process 0, the
        number of this process and how many there are.
      timeout: the seconds that it waits for the others; then the process ends with a sentence and
        exit code 2.

    Raises:
      ValueError: `distributed` is none of these, `timeout` is no such number, or the processes do
        not find each other.

    Example:
      `start("localhost:9876,0,2")` in one process, `start("localhost:9876,1,2")` in another.
    """
    if not distributed:
        return
    _check_timeout(timeout)
    given: dict[str, Any] = {}
    if distributed != "auto":
        match = DISTRIBUTED.fullmatch(str(distributed))
        if not match or int(match["port"]) > LAST_PORT:
            raise ValueError(
                f"config.distributed is {distributed!r}, but must be 'auto' or "
                "'HOST:PORT,INDEX,COUNT', such as 'localhost:9876,0,2' in the first of two."
            )
        address, index, count = match["address"], int(match["index"]), int(match["count"])
        if index >= count:
            raise ValueError(
                f"config.distributed={distributed!r} names process {index} of {count}, which are "
                f"numbered from 0 to {count - 1}."
            )
        given = {"coordinator_address": address, "num_processes": count, "process_id": index}
    given["initialization_timeout"] = timeout + MARGIN
    try:
        with _waiting(distributed, timeout):
            jax.distributed.initialize(heartbeat_timeout_seconds=HEARTBEAT, **given)
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise ValueError(
            f"the processes of config.distributed={distributed!r} found no common start: {reason}."
        ) from None


def _check_timeout(timeout: int) -> None:
    if isinstance(timeout, bool) or not isinstance(timeout, int) or not 0 < timeout <= LONGEST_WAIT:
        raise ValueError(
            f"config.distributed_timeout is {timeout!r}, but must be whole seconds from 1 to "
            f"{LONGEST_WAIT:,}."
        )


@contextlib.contextmanager
def _waiting(distributed: str, timeout: int) -> Iterator[None]:
    """Says for whom this process waits, and ends it where they do not come."""
    others = _others(distributed)
    print(f"Waiting up to {timeout} s for {others}.", file=sys.stderr, flush=True)
    timer = threading.Timer(timeout, _give_up, (others, timeout))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _others(distributed: str) -> str:
    match = DISTRIBUTED.fullmatch(distributed)
    if not match:
        return "the other processes that the platform has named (config.distributed='auto')"
    address, index, count = match["address"], int(match["index"]), int(match["count"])
    if index:
        return f"process 0 of {count} at {address}, and with it all others"
    return f"the other {count - 1} of {count} processes to come to {address}"


def _give_up(others: str, timeout: int) -> None:
    print(
        f"Waited {timeout} s in vain for {others}: start all of them within that time, or set a "
        "longer config.distributed_timeout.",
        file=sys.stderr,
        flush=True,
    )
    os._exit(2)  # the call that waits cannot be ended in another way


def check() -> None:
    """Looks whether JAX has a device at all.

    Raises:
      ConfigError: there is none of the platform that is asked for.
    """
    try:
        jax.devices()
    except (AssertionError, RuntimeError) as error:
        asked = jax.config.values["jax_platforms"]
        reason = f" ({str(error).splitlines()[0].rstrip('.')})" if str(error) else ""
        raise ConfigError(
            f"JAX finds no device of JAX_PLATFORMS={asked!r}{reason}: install its build for that "
            "platform, such as '.[experiments,cuda]', or unset JAX_PLATFORMS."
        ) from None


def is_first() -> bool:
    """Whether this is the one process that writes and speaks."""
    return jax.process_index() == 0


def any_process(flag: bool) -> bool:
    """Whether the flag is set in any of the processes."""
    if jax.process_count() == 1:
        return flag
    return bool(multihost_utils.process_allgather(np.array(flag)).any())


def agree(value: object) -> bool:
    """Whether all processes have an equal value, by its `repr`."""
    if jax.process_count() == 1:
        return True
    mine = np.array(zlib.crc32(repr(value).encode()), np.uint32)
    return len(set(multihost_utils.process_allgather(mine).tolist())) == 1


def from_first(value: Any, like: Any) -> Any:
    """The first process's pytree of arrays and numbers in all processes.

    Args:
      value: what the first process has; of no interest in the others.
      like: a pytree of such shapes and types.
    """
    if jax.process_count() == 1:
        return value
    mine = value if is_first() else like
    return jax.tree.map(np.asarray, multihost_utils.broadcast_one_to_all(mine))


def mesh(fsdp: int = 1, devices: Sequence[Any] | None = None) -> Mesh:
    """All devices as a mesh with the axes `data` and `fsdp`, over which parameters are split.

    Args:
      fsdp: the devices that parameters are split over.
      devices: the devices; None for those of this machine or these machines.

    Raises:
      ValueError: `fsdp` does not divide the number of devices.
    """
    count = jax.device_count() if devices is None else len(devices)
    if fsdp < 1 or count % fsdp:
        raise ValueError(
            f"config.fsdp is {fsdp}, but must divide the number of devices, which is {count}."
        )
    axes = (count // fsdp, fsdp), ("data", "fsdp")
    return jax.make_mesh(*axes, axis_types=(AxisType.Auto,) * 2, devices=devices)


def environment() -> dict[str, str]:
    """Hardware and versions, for a report's footer."""
    device = jax.devices()[0]
    return {
        "device": f"{jax.device_count()} x {device.device_kind} ({os.cpu_count()} CPU cores)",
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "versions": ", ".join(f"{name} {version(name)}" for name in ("jax", "flax", "optax")),
    }
