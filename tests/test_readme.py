"""The README's Python runs, and its table of transforms names every public stage."""

import re
from pathlib import Path

import jax

import regjax as rj
from regjax.core.stages import REGISTRY

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_the_python_blocks_run_one_after_the_other():
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) >= 4
    names: dict[str, object] = {}
    with jax.numpy_rank_promotion("allow"):  # a reader's own code may broadcast
        for block in blocks:
            exec(block, names)
    assert isinstance(names["loss"], rj.Loss)
    assert set(names["metrics"]) == {"cross_entropy", "double_backprop"}


def test_the_table_of_transforms_is_complete():
    table = README.split("## The transforms")[1].split("\n\n")[1]
    listed = set(re.findall(r"`(\w+)", table))
    own = {name for name, d in REGISTRY.items() if d.function.__module__.startswith("regjax.")}
    assert own == listed
