"""The format: what is written is read bit for bit, or it is said that it is not."""

import errno
import os
import resource
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from safetensors.numpy import load_file, save_file

from experiments.training import checkpoint_file
from experiments.training.checkpoint_file import DamagedError, Piece

LEAVES = {
    ".step": jnp.int32(7),
    ".params['kernel']": jnp.arange(6.0).reshape(2, 3),
    ".params['odd/'name é']": jnp.asarray([1.5, -2], jnp.bfloat16),
    ".seen": jnp.asarray([True, False]),
    ".key": jnp.asarray([1, 2**32 - 1], jnp.uint32),
    ".empty": jnp.zeros((0, 2)),
}
ABOUT = {"score": 0.1, "belongs_to": {"é": [1, None]}}
NAME = "leaves_0.safetensors"


def written(folder: Path, leaves: dict[str, jax.Array]) -> Path:
    path = folder / NAME
    checkpoint_file.write(path, ABOUT, checkpoint_file.local(leaves))
    return path


def assert_same(found: np.ndarray, expected: jax.Array) -> None:
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    assert found.tobytes() == np.asarray(expected).tobytes()


def test_every_kind_of_array_is_read_as_it_was_written(tmp_path):
    path = written(tmp_path, LEAVES)
    assert checkpoint_file.read_about(path) == ABOUT
    pieces = checkpoint_file.read(path)
    assert {piece.name for piece in pieces} == LEAVES.keys()
    for name, start, value in pieces:
        assert start is None
        assert_same(value, LEAVES[name])


def test_safetensors_reads_the_arrays_by_their_names(tmp_path):
    found = load_file(written(tmp_path, LEAVES))
    assert found.keys() == LEAVES.keys()
    for name, value in found.items():
        assert_same(value, LEAVES[name])
    assert found[".params['odd/'name é']"].dtype == ml_dtypes.bfloat16


def test_parts_on_devices_are_named_by_their_start_and_put_together(tmp_path):
    mesh = Mesh(np.array(jax.devices()[:4]).reshape(2, 2), ("data", "fsdp"))
    axes = {"rows": ("data",), "both": ("fsdp", "data"), "same": ()}
    values = {"rows": jnp.arange(4), "both": jnp.arange(24.0).reshape(4, 6), "same": jnp.ones(3)}
    spread = {
        name: jax.device_put(value, NamedSharding(mesh, PartitionSpec(*axes[name])))
        for name, value in values.items()
    }
    path = written(tmp_path, spread)
    parts = ["both@0,0", "both@0,3", "both@2,0", "both@2,3", "rows@0", "rows@2", "same"]
    assert sorted(load_file(path)) == parts
    pieces, shapes = checkpoint_file.read(path), {name: v.shape for name, v in values.items()}
    for name, value in checkpoint_file.whole(pieces, shapes).items():
        assert_same(value, values[name])
    with pytest.raises(DamagedError, match="parts of its arrays are missing"):
        checkpoint_file.whole([p for p in pieces if p.key != "both@2,0"], shapes)
    with pytest.raises(DamagedError, match="parts of its arrays are missing"):
        checkpoint_file.whole([p for p in pieces if p.key != "same"], shapes)


def test_a_flipped_bit_is_noticed_anywhere(tmp_path):
    path = written(tmp_path, LEAVES)
    content = path.read_bytes()
    for place in range(0, len(content), 7):
        changed = bytearray(content)
        changed[place] ^= 1 << place % 8
        path.write_bytes(changed)
        with pytest.raises(DamagedError, match=f"{NAME} is not what was written"):
            checkpoint_file.read(path)


@pytest.mark.parametrize("size", [0, 5, 100, -100, -1])
def test_a_file_of_another_length_is_noticed(size, tmp_path):
    path = written(tmp_path, LEAVES)
    content = path.read_bytes()
    for changed in (content[:size], content + b"\0"):
        path.write_bytes(changed)
        with pytest.raises(DamagedError, match=f"{NAME} is not what was written"):
            checkpoint_file.read(path)


def test_an_array_that_took_another_ones_shape_or_place_is_noticed(tmp_path):
    path = written(tmp_path, {"a": jnp.zeros((0, 2)), "b": jnp.ones(2), "c": jnp.zeros(2)})
    content = path.read_bytes()
    for old, new in ((b'"shape":[0,2]', b'"shape":[0,3]'), (b'"b":{', b'"d":{')):
        assert content.count(old) == 1
        path.write_bytes(content.replace(old, new))
        with pytest.raises(DamagedError):
            checkpoint_file.read(path)
    swapped = content.replace(b'"b":{', b'"x":{').replace(b'"c":{', b'"b":{')
    path.write_bytes(swapped.replace(b'"x":{', b'"c":{'))
    with pytest.raises(DamagedError):
        checkpoint_file.read(path)


def test_a_file_that_is_not_there_or_of_someone_elses_is_named(tmp_path):
    with pytest.raises(DamagedError, match="nothing is missing"):
        checkpoint_file.read_about(tmp_path / "nothing")
    save_file({"a": np.zeros(2)}, tmp_path / "plain")
    with pytest.raises(DamagedError, match="plain is not what was written"):
        checkpoint_file.read_about(tmp_path / "plain")


def test_others_may_read_it_if_they_may_read_what_this_process_writes(tmp_path):
    before = os.umask(0o027)
    try:
        path = written(tmp_path, LEAVES)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o640


def test_what_the_system_says_is_an_error_of_the_system(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large") as error:
            checkpoint_file.write(tmp_path / NAME, ABOUT, [Piece("a", None, np.zeros(1000))])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert error.value.errno == errno.EFBIG


def test_an_array_that_cannot_be_stored_is_no_error_of_the_disk(tmp_path):
    with pytest.raises(Exception, match="complex128") as error:
        checkpoint_file.write(tmp_path / NAME, ABOUT, [Piece("a", None, np.zeros(2, complex))])
    assert not isinstance(error.value, OSError)
