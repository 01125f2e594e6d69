"""What is restored is bit for bit what was saved, or it is said that it is not.

Covers `checkpoint_manager.py` too.
"""

import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import regjax as rj
from experiments.training import checkpoint_file
from experiments.training.checkpoints import Checkpoints
from regjax.semantic import statistics

ROOT = Path(__file__).parents[3]
CONFIG = {"learning_rate": 0.1, "losses": {"plain": "cross_entropy"}, "train_sizes": (5, 10)}
MESH = Mesh(np.array(jax.devices()).reshape(4, 2), ("data", "fsdp"))


class State(NamedTuple):
    step: jax.Array
    params: dict[str, jax.Array]
    model_state: dict[str, Any]
    opt_state: Any
    loss_state: rj.LossState


def make(seed: int, *, on: Any = None) -> State:
    """A state with something of everything, `params` spread over a mesh if `on` names axes."""
    rng = np.random.default_rng(seed)
    params = {"kernel": rng.normal(size=(8, 6)), "bias": rng.normal(size=6)}
    params = jax.tree.map(lambda p: jnp.asarray(p, jnp.float32), params)
    if on is not None:
        spread = NamedSharding(MESH, PartitionSpec(*on))
        params["kernel"] = jax.device_put(params["kernel"], spread)
        params["bias"] = jax.device_put(params["bias"], NamedSharding(MESH, PartitionSpec()))
    half = jnp.asarray(rng.normal(size=3), jnp.bfloat16)
    isda = statistics.init(3, 4, covariance="diagonal")
    model_state: dict[str, Any] = {
        "half": half,
        "odd/'name": jnp.zeros((0, 2)),
        "none": None,
        "e": (),
    }
    optimizer = optax.chain(optax.clip(1.0), optax.adam(0.1))
    stages = {"isda": isda._replace(seen=jnp.asarray(rng.normal(size=3), jnp.float32)), "no": ()}
    return State(
        jnp.int32(seed),
        params,
        model_state,
        optimizer.init(params),
        rj.LossState(jnp.int32(seed), stages),
    )


def bits(tree: Any) -> list[bytes]:
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


def folder_with(path: Path, *steps: int, keep: int = 3, **kwargs: Any) -> Path:
    with Checkpoints(path, keep=keep, belongs_to=CONFIG) as checkpoints:
        for step in steps:
            checkpoints.save(step, make(step, **kwargs), {"epoch": step})
    return path


def restored(path: Path, like: Any = None, **changes: Any) -> Any:
    with Checkpoints(path, keep=3, belongs_to=CONFIG | changes) as checkpoints:
        return checkpoints.restore(make(0) if like is None else like)


def steps_in(path: Path) -> list[str]:
    return sorted(child.name for child in path.iterdir())


@pytest.mark.parametrize("on", [None, ("data", "fsdp"), (None, "fsdp")])
def test_restores_bit_for_bit(tmp_path, on):
    state = make(7, on=on)
    with Checkpoints(tmp_path, keep=1, belongs_to=CONFIG) as checkpoints:
        assert checkpoints.restore(state) is None
        checkpoints.save(7, state, {"iterator": [1, {"shard": 2}]})
    step, values, data = restored(tmp_path, make(0, on=on))
    assert (step, data) == (7, {"iterator": [1, {"shard": 2}]})
    assert jax.tree.structure(values) == jax.tree.structure(state)
    assert bits(values) == bits(state)
    for leaf, was in zip(jax.tree.leaves(values), jax.tree.leaves(state), strict=True):
        assert (leaf.dtype, leaf.sharding, leaf.committed) == (
            was.dtype,
            was.sharding,
            was.committed,
        )


def test_restores_onto_another_mesh_by_shapes_alone(tmp_path):
    folder_with(tmp_path, 7, on=("data", "fsdp"))
    spread = NamedSharding(MESH, PartitionSpec("fsdp", None))
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), make(0))
    like.params["kernel"] = jax.ShapeDtypeStruct((8, 6), jnp.float32, sharding=spread)
    values = restored(tmp_path, like).state
    assert bits(values) == bits(make(7))
    assert values.params["kernel"].sharding == spread


def test_what_is_restored_can_be_donated(tmp_path):
    folder_with(tmp_path, 7)
    state = restored(tmp_path).state
    step = jax.jit(lambda s: jax.tree.map(lambda x: x + 1, s), donate_argnums=0)
    after = step(state)
    assert state.params["kernel"].is_deleted()
    assert bits(after.params) == bits(jax.tree.map(lambda x: x + 1, make(7).params))


def test_save_has_its_own_copy_of_arrays_that_the_next_step_overwrites(tmp_path):
    step = jax.jit(lambda x: x * 0, donate_argnums=0)
    values = jnp.arange(1e6)
    with Checkpoints(tmp_path, keep=1, belongs_to=CONFIG) as checkpoints:
        checkpoints.save(1, values, {})
        jax.block_until_ready(step(values))
    np.testing.assert_array_equal(restored(tmp_path, jnp.zeros(1_000_000)).state, np.arange(1e6))


def test_keeps_the_last_and_the_best(tmp_path):
    scores = {1: float("nan"), 2: 0.5, 3: 0.9, 4: 0.7, 5: None, 6: None}
    with Checkpoints(tmp_path, keep=2, belongs_to=CONFIG) as checkpoints:
        for step, score in scores.items():
            checkpoints.save(step, make(step), {}, score=score)
    assert steps_in(tmp_path) == ["3", "5", "6"]
    with Checkpoints(tmp_path, keep=2, belongs_to=CONFIG) as checkpoints:
        assert checkpoints.restore(make(0)).step == 6
        for step, score in {7: 0.8, 8: 0.9, 9: 0.95, 10: None, 11: None}.items():
            checkpoints.save(step, make(step), {}, score=score)
            checkpoints.wait()
            if step == 8:  # the best is remembered from one start to the next
                assert steps_in(tmp_path) == ["3", "7", "8"]
    assert steps_in(tmp_path) == ["10", "11", "9"]


def test_data_may_change_while_it_is_written(tmp_path):
    data = {"iterator": [1]}
    with Checkpoints(tmp_path, keep=1, belongs_to=CONFIG) as checkpoints:
        checkpoints.save(1, make(1), data)
        data["iterator"].append(2)
        with pytest.raises(TypeError, match="not JSON"):
            checkpoints.save(2, make(2), {"iterator": b"1"})
    assert restored(tmp_path).data == {"iterator": [1]}


def test_a_step_is_saved_once(tmp_path):
    with Checkpoints(tmp_path, keep=2, belongs_to=CONFIG) as checkpoints:
        checkpoints.save(1, make(1), {"first": True})
        checkpoints.save(1, make(2), {"first": False})
    assert restored(tmp_path).data == {"first": True}


def damage(path: Path, size: float | None) -> None:
    """Deletes the file, or truncates it to that share of its size."""
    if size is None:
        path.unlink()
    else:
        os.truncate(path, int(path.stat().st_size * size))


@pytest.mark.parametrize("size", [None, 0, 0.01, 0.5, 0.99])
def test_damage_to_any_file_is_noticed(tmp_path, capfd, size):
    whole = folder_with(tmp_path / "whole", 100, 200)
    files = [f.relative_to(whole) for f in (whole / "200").rglob("*") if f.is_file()]
    assert any(file.suffix == ".safetensors" for file in files)
    for file in files:
        folder = shutil.copytree(whole, tmp_path / "damaged" / str(file).replace("/", "-"))
        damage(folder / file, size)
        with Checkpoints(folder, keep=3, belongs_to=CONFIG) as checkpoints:
            step, values, _ = checkpoints.restore(make(0))
            checkpoints.save(200, make(200), {"again": True})
        assert bits(values) == bits(make(step))
        said = capfd.readouterr().err
        if step == 200:
            assert file.suffix != ".safetensors"
            assert not said
            continue
        assert said.count("\n") == 1
        assert said.startswith(f"The checkpoint of step 200 in {folder} is damaged (")
        assert said.endswith("): going on from step 100.\n")
        assert restored(folder).data == {"again": True}
        assert not capfd.readouterr().err


def test_a_changed_byte_is_said_and_the_checkpoint_put_aside(tmp_path, capfd):
    folder_with(tmp_path, 100, 200)
    file = tmp_path / "200" / "state" / "leaves_0.safetensors"
    changed = bytearray(file.read_bytes())
    changed[-20] ^= 1
    file.write_bytes(changed)
    assert restored(tmp_path).step == 100
    assert "is not what was written" in capfd.readouterr().err
    assert (tmp_path / "200.damaged" / "state" / file.name).read_bytes() == changed


def test_damage_to_older_checkpoints_does_not_matter(tmp_path, capfd):
    folder_with(tmp_path, 100, 200)
    for file in (tmp_path / "100").rglob("*"):
        if file.is_file():
            file.write_bytes(b"{")
    assert restored(tmp_path).step == 200
    assert not capfd.readouterr().err
    folder_with(tmp_path, 300, 400, 500)
    assert steps_in(tmp_path) == ["300", "400", "500"]


def test_half_written_folders_are_named_and_removed(tmp_path, capfd):
    folder_with(tmp_path, 100, 200)
    shutil.copytree(tmp_path / "200", tmp_path / "50.orbax-checkpoint-tmp")
    (tmp_path / "200").rename(tmp_path / "200.orbax-checkpoint-tmp")
    (tmp_path / "300").mkdir()
    assert restored(tmp_path).step == 100
    reasons = {300: "leaves_0.safetensors is missing", 200: "its writing was interrupted"}
    assert capfd.readouterr().err == "".join(
        f"The checkpoint of step {step} in {tmp_path} is damaged ({reason}): going on from step "
        "100.\n"
        for step, reason in reasons.items()
    )
    assert steps_in(tmp_path) == ["100", "300.damaged"]


def test_starts_over_if_none_is_whole(tmp_path, capfd):
    folder_with(tmp_path, 100)
    damage(tmp_path / "100" / "state" / "leaves_0.safetensors", None)
    assert restored(tmp_path) is None
    assert capfd.readouterr().err == (
        f"The checkpoint of step 100 in {tmp_path} is damaged (leaves_0.safetensors is missing): "
        "starting over.\n"
    )


@pytest.fixture
def small_disk(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "none", disk], capture_output=True
    ).returncode:
        pytest.skip("mounting a small disk is not allowed here")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_full_disk_is_one_sentence_and_nothing_earlier_is_lost(small_disk, capfd, caplog):
    folder, like = small_disk / "checkpoints", jnp.zeros(100_000)

    def save_three() -> None:
        with Checkpoints(folder, keep=5, belongs_to=CONFIG) as checkpoints:
            for step in (1, 2, 3):
                checkpoints.save(step, like + step, {})

    with pytest.raises(OSError, match="cannot be written") as error:
        save_three()
    assert str(error.value) == (
        f"The checkpoint of step 3 cannot be written to {folder} (No space left on device): make "
        "room there, and start the same command again, which goes on from step 2."
    )
    assert not capfd.readouterr().err
    shutil.rmtree(folder / "1")
    with Checkpoints(folder, keep=5, belongs_to=CONFIG) as checkpoints:
        again = checkpoints.restore(like)
        assert again.step == 2
        np.testing.assert_array_equal(again.state, like + 2)
        checkpoints.save(3, like + 3, {})
    assert restored(folder, like).step == 3
    assert not capfd.readouterr().err
    assert not caplog.records


@pytest.mark.parametrize("where", ["save", "wait", "close"])
def test_an_error_of_the_thread_is_not_lost(tmp_path, monkeypatch, capfd, where):
    checkpoints = Checkpoints(folder_with(tmp_path, 1), keep=1, belongs_to=CONFIG)
    with monkeypatch.context() as patch:
        patch.setattr(
            checkpoint_file, "write", partial(_fail, OSError(28, "No space left on device"))
        )
        checkpoints.save(2, make(2), {})
        with pytest.raises(OSError, match=r"The checkpoint of step 2 .* goes on from step 1"):
            checkpoints.save(3, make(3), {}) if where == "save" else getattr(checkpoints, where)()
    checkpoints.close()
    assert steps_in(tmp_path) == ["1"]
    assert not capfd.readouterr().err


def _fail(error: Exception, *args: object) -> None:
    raise error


def test_an_error_that_is_not_the_disks_is_not_hidden(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint_file, "write", partial(_fail, RuntimeError("a mistake")))
    with (
        pytest.raises(RuntimeError, match="a mistake"),
        Checkpoints(tmp_path, keep=1, belongs_to=CONFIG) as checkpoints,
    ):
        checkpoints.save(1, make(1), {})


def test_says_nothing_in_normal_use(tmp_path, capfd, caplog):
    with caplog.at_level(logging.INFO, "absl"):
        folder_with(tmp_path, 1, 2, 3, 4)
        assert restored(tmp_path).step == 4
    assert not caplog.records
    assert capfd.readouterr() == ("", "")


SAVES = """
import sys, jax.numpy as jnp
from experiments.training.checkpoints import Checkpoints
with Checkpoints(sys.argv[1], keep=2, belongs_to={}) as checkpoints:
    restored = checkpoints.restore(jnp.zeros(300_000))
    step = restored.step if restored else 0
    if restored:
        assert (restored.state == step).all() and restored.data == {"step": step}
    print(step, flush=True)
    while True:
        step += 1
        checkpoints.save(step, jnp.full(300_000, float(step)), {"step": step})
        print(step, flush=True)
"""


def run(program: str, *arguments: object, **kwargs: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, **kwargs)


def test_killed_at_any_moment_it_goes_on_from_a_whole_checkpoint(tmp_path):
    rng = np.random.default_rng(0)
    step = 0
    for _ in range(4):
        process = run(SAVES, tmp_path)
        assert process.stdout is not None
        assert int(process.stdout.readline()) >= step - 1  # save waits for the one before
        step = [int(process.stdout.readline()) for _ in range(rng.integers(2, 5))][-1]
        time.sleep(rng.uniform(0, 0.02))  # about a save's time
        process.send_signal(signal.SIGKILL)
        process.communicate()


TOGETHER = """
import sys
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from experiments.training.checkpoints import Checkpoints
address, rank, folder = sys.argv[1], int(sys.argv[2]), sys.argv[3]
jax.config.update("jax_num_cpu_devices", 2)
jax.distributed.initialize(address, 2, rank)
mesh = Mesh(np.array(jax.devices()), ("data",))
def make(value):
    host = {"spread": np.arange(8.) + value, "same": np.arange(3.) * value}
    axes = {"spread": PartitionSpec("data"), "same": PartitionSpec()}
    return {
        name: jax.make_array_from_callback(
            x.shape, NamedSharding(mesh, axes[name]), lambda i, x=x: x[i])
        for name, x in host.items()
    }
def check(found, step):
    assert found.step == step and found.data == {"step": step}, found
    for name, was in make(step).items():
        assert found.state[name].sharding == was.sharding
        for part, expected in zip(found.state[name].addressable_shards, was.addressable_shards):
            assert (np.asarray(part.data) == np.asarray(expected.data)).all()
with Checkpoints(folder, keep=2, belongs_to={}) as checkpoints:
    for step in (1, 2):
        checkpoints.save(step, make(step), {"step": step})
    checkpoints.wait()
    check(checkpoints.restore(make(0)), 2)
    if rank == 1:
        with open(f"{folder}/2/state/leaves_1.safetensors", "r+b") as file:
            file.truncate(file.seek(0, 2) - 1)
    check(checkpoints.restore(make(0)), 1)
    checkpoints.save(2, make(2), {"step": 2})
with Checkpoints(folder, keep=2, belongs_to={}) as checkpoints:
    check(checkpoints.restore(make(0)), 2)
"""


def test_processes_write_their_shares_and_agree_on_what_is_whole(tmp_path):
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        address = f"localhost:{probe.getsockname()[1]}"
    environment = os.environ | {"XLA_FLAGS": ""}
    processes = [
        run(TOGETHER, address, rank, tmp_path, stderr=subprocess.PIPE, env=environment)
        for rank in (0, 1)
    ]
    said = [process.communicate(timeout=60)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    sentences = [line for line in "".join(said).splitlines() if "checkpoint" in line.lower()]
    assert sentences == [
        f"The checkpoint of step 2 in {tmp_path} is damaged (leaves_1.safetensors is not what was "
        "written): going on from step 1."
    ]
