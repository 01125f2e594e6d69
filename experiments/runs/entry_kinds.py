"""What an entry of a config is, and the kinds of values that there are."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

MOST = 2**31 - 1  # of whole numbers: the largest int32

# What values of each kind are, in Python (in JSON a tuple is a list) and in words.
KINDS: dict[str, tuple[Any, str]] = {
    "text": (str, "a text"),
    "whole": (int, "a whole number"),
    "number": (int | float, "a number"),
    "switch": (bool, "True or False"),
    "tuple": (tuple | list, "a tuple"),
    "section": (Mapping, "a ConfigDict"),
    "weights": (str | tuple | list, "'balanced', 'median' or a tuple of numbers"),
    "curves": (Mapping | tuple | list, "a ConfigDict"),
}
_OF = {str: "text", int: "whole", float: "number", bool: "switch", tuple: "tuple", dict: "section"}


@dataclasses.dataclass(frozen=True)
class Entry:
    """An entry of every config.

    Attributes:
      name: its name, as in `--config.NAME=VALUE`.
      default: the value that most configs keep.
      help: the meaning of the entry.
      kind: the kind of its values, a key of KINDS; by default what the default is.
      least: the least value of numbers.
      known: the values that a text can have; () where they are not listed.
      shared: whether a finished run depends on it. Losses, strengths, sizes and seeds, which are
        each run's own, may grow from one start of a comparison to the next.
      own: whether the processes of one comparison may differ in it.
      needed: whether a report cannot do without it: folders of older versions lack other entries.
      shown: whether the report shows it among what the training was.
      special: whether only experiments that name it in their `entries` look at it.
    """

    name: str
    default: Any
    help: str
    _: dataclasses.KW_ONLY
    kind: str = ""
    least: int = 0
    known: tuple[str, ...] = ()
    shared: bool = False
    own: bool = False
    needed: bool = False
    shown: bool = False
    special: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", self.kind or _OF[type(self.default)])

    def fits(self, value: Any) -> bool:
        """Whether a value is of the entry's kind; True and False are no numbers."""
        right = isinstance(value, KINDS[self.kind][0])
        return right and (self.kind == "switch" or not isinstance(value, bool))
