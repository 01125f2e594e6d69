"""Real data sets, as TFDS folders that need not be there."""

import os
from pathlib import Path

import pytest

_SIBLING = Path(__file__).parents[2] / "shared" / "tfds"
TFDS_DIR = Path(os.environ.get("REGJAX_TFDS_DIR", _SIBLING))


def prepared(name: str) -> Path:
    """The folder of prepared data sets, of which one is needed; else the test is skipped."""
    if not (TFDS_DIR / name).is_dir():
        pytest.skip(f"no {name} in {TFDS_DIR}; name a folder with REGJAX_TFDS_DIR")
    return TFDS_DIR
