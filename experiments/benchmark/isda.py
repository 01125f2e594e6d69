"""What ISDA costs by itself: its loss, its gradients and the update of its statistics, together.

The network is one linear layer, so that there is little else. `tables.py` shows the table.
"""

from __future__ import annotations

import functools
import statistics
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from tqdm import tqdm

import regjax as rj
from experiments.benchmark.flops import flops


class Case(NamedTuple):
    """B, C, A, and ISDA's arguments."""

    batch: int
    classes: int
    features: int
    covariance: str
    rank: int | None = None


CASES = (
    Case(128, 10, 640, "full"),
    Case(128, 100, 640, "full"),
    Case(128, 100, 342, "full"),
    Case(256, 1000, 512, "full"),
    Case(256, 1000, 2048, "diagonal"),
    Case(128, 100, 640, "shared"),
    Case(128, 100, 640, "low_rank", 16),
)
QUICK_CASES = tuple(Case(8, 3, 4, c, 2 if c == "low_rank" else None) for _, _, _, c, _ in CASES[3:])


def costs(cases: tuple[Case, ...], rounds: int) -> list[dict[str, Any]]:
    """A row for each case: median time, peak of memory, FLOPs at most."""
    return [_costs(case, rounds) for case in tqdm(cases, desc="isda")]


class Program:
    """The compiled step of a case, on random features.

    Attributes:
      given: the network and the batch.
      gflop: at most, if all classes occur.
      megabytes: of arguments, results and temporaries.
    """

    def __init__(self, case: Case) -> None:
        """Counts and compiles."""
        loss = rj.isda(strength=0.5, covariance=case.covariance, rank=case.rank)
        self.given = problem(case)
        self._state = loss.init(*self.given)
        step = functools.partial(_step, loss)
        passes = most_pieces(case.batch, case.classes)
        self.gflop = flops(step, self._state, *self.given, passes=passes) / 1e9
        lowered = jax.jit(step, donate_argnums=0).lower(self._state, *self.given)
        self._compiled = lowered.compile()
        self.megabytes = peak_bytes(self._compiled) / 1e6

    def step(self) -> Any:
        """The loss, and its gradients of features, kernel and bias."""
        self._state, found = jax.block_until_ready(self._compiled(self._state, *self.given))
        return found

    def seconds(self) -> float:
        """Time of one step."""
        start = time.perf_counter()
        self.step()
        return time.perf_counter() - start


def _costs(case: Case, rounds: int) -> dict[str, Any]:
    program = Program(case)
    times = [program.seconds() for _ in range(rounds + 2)]
    return {
        **case._asdict(),
        "ms": 1e3 * statistics.median(times[2:]),
        "megabytes": program.megabytes,
        "gflop": program.gflop,
    }


def most_pieces(batch: int, classes: int) -> int:
    """Passes of the loop over classes in the update, at most, for hard labels.

    Each takes 16 examples of a class or more, but for the class's last.
    """
    return min(batch, classes) + batch // 16


def problem(case: Case) -> tuple[rj.Forward, rj.Batch]:
    """A linear layer, and normal features of random classes in the place of images."""
    for_x, for_y, for_kernel = jax.random.split(jax.random.key(0), 3)
    kernel = jax.random.normal(for_kernel, (case.features, case.classes)) / case.features**0.5
    params = {"kernel": kernel, "bias": jnp.zeros(case.classes)}
    forward = rj.from_function(
        lambda p, x: (x @ p["kernel"] + p["bias"][None], x),
        params,
        head=lambda p: (p["kernel"], p["bias"]),
    )
    features = jax.random.normal(for_x, (case.batch, case.features))
    label = jax.random.randint(for_y, (case.batch,), 0, case.classes)
    return forward, rj.Batch(features, jax.nn.one_hot(label, case.classes))


def _step(loss: rj.Loss, state: rj.LossState, forward: rj.Forward, batch: rj.Batch) -> Any:
    """The next state, and the loss with its gradients: features, kernel, bias."""

    def objective(features: jax.Array, params: Any) -> tuple[jax.Array, rj.LossState]:
        moved, here = batch.replace(image=features), forward.replace(params=params)
        result, next_state = loss.apply(state, here, moved, jax.random.key(0))
        return rj.total(result, moved), next_state

    gradient = jax.value_and_grad(objective, argnums=(0, 1), has_aux=True)
    (value, state), slopes = gradient(batch.image, forward.params)
    return state, (value, slopes)


def peak_bytes(compiled: Any) -> int:
    """Arguments, results and temporaries, what is donated once."""
    m = compiled.memory_analysis()
    live = m.argument_size_in_bytes + m.output_size_in_bytes + m.temp_size_in_bytes
    return live - m.alias_size_in_bytes
