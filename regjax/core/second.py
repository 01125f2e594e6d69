"""The second stream: the unlabelled examples of a batch, as the network sees them."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Any

import jax

from regjax.core.batch import Batch
from regjax.core.definitions import REGISTRY
from regjax.core.forward import Forward, check_names
from regjax.core.keys import named_key
from regjax.core.outputs import Outputs

if TYPE_CHECKING:
    from regjax.core.loss import View


class Second:
    """The examples of `batch.unlabeled` in views of them, of which the first serves all penalties.

    A view is what the loss's own wrappers make of the examples, with draws of some key.

    Attributes:
      forward: the `Forward` of the first view, whose BatchNorm averages are those that the batch's
        own examples left.
      batch: the `Batch` of the first view.
      key: what drives the network's dropout there.
    """

    def __init__(self, view: View, batch: Batch, key: jax.Array, state: Any) -> None:
        """Makes the first view, of examples that follow on a pass that left `state`."""
        self._view, self._given, self._first = view, batch, key
        forward, self.batch = view(batch, key)
        self.forward, self.key = forward.replace(state=state), named_key(key, "forward()")

    @functools.cached_property
    def outputs(self) -> Outputs:
        """The network's outputs at the first view."""
        return self.forward(self.batch.image, self.key)

    def again(self, key: jax.Array, shared: tuple[str, ...] = ()) -> tuple[Forward, Batch]:
        """Another view of the same examples.

        Args:
          key: of its draws.
          shared: the names of wrappers that draw as in the first view, such as "random_flip".

        Returns:
          A `Forward` and a `Batch`.

        Raises:
          TypeError: `shared` is no tuple.
          ValueError: one of its names is no wrapper's, in any loss.
        """
        _check_shared(shared)
        return self._view(self._given, key, dict.fromkeys(shared, self._first))


def _check_shared(names: tuple[str, ...]) -> None:
    """Refuses what is the name of no wrapper; it need not be one of this loss."""
    check_names(names, "shared", "random_flip")
    known = sorted(name for name, found in REGISTRY.items() if found.kind == "wrapper")
    for name in names:
        if re.sub(r"_\d+$", "", str(name)) not in known:
            raise ValueError(
                f"shared names wrappers that draw alike in both views, but there is no wrapper "
                f"{name!r}: there are {', '.join(known)}."
            )
