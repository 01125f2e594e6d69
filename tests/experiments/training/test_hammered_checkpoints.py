"""Damaged checkpoints: bit for bit what was written, or named; never a third thing."""

import jax.numpy as jnp
import numpy as np
import pytest
from hammered import assert_one_sentence, damaged
from hypothesis import given
from hypothesis import strategies as st

from experiments.training import checkpoint_file
from experiments.training.checkpoint_file import DamagedError

LEAVES = {".params['kernel']": jnp.arange(6.0).reshape(2, 3), ".step": jnp.int32(7)}
ABOUT = {"score": 0.1, "belongs_to": {"epochs": 3}}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoint") / "leaves_0.safetensors"
    checkpoint_file.write(path, ABOUT, checkpoint_file.local(LEAVES))
    return path, path.read_bytes()


@given(data=st.data())
def test_a_damaged_checkpoint_is_what_was_written_or_named(written, data):
    path, text = written
    path.write_bytes(data.draw(damaged(text)))
    try:
        about, pieces = checkpoint_file.read_about(path), checkpoint_file.read(path)
    except DamagedError as error:
        assert_one_sentence(error)
    else:
        assert about == ABOUT
        found = {piece.name: piece.value for piece in pieces}
        assert found.keys() == LEAVES.keys()
        for name, value in found.items():
            np.testing.assert_array_equal(value, LEAVES[name], strict=True)


@given(st.binary(max_size=200))
def test_any_file_is_named(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "any.safetensors"
    path.write_bytes(text)
    with pytest.raises(DamagedError):
        checkpoint_file.read(path)
