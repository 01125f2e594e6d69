"""Several real processes on this machine, as on several hosts: one result, one record.

Covers `devices.py` too.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments.training import checkpoint_file, devices

ROOT = Path(__file__).parents[3]
LOSSES = {
    "cross entropy": "cross_entropy",
    "NFM": (
        "cross_entropy | noisy_feature_mixup(alpha=1.0, add=0.4, multiply=0.2, "
        "layers=('input', 'hidden'))"
    ),
    "ISDA": "isda(strength=0.5)",
}
FLAGS = [
    "--config=configs/digits.py:smoke",
    f"--config.losses={LOSSES!r}",
    "--config.strengths={}",
    "--config.whiten=zca(epsilon=0.1)",  # the first process learns it for all
    "--config.train_sizes=(4,)",
    "--config.model=tiny",
    # Adam would make steps of what is 0 but for rounding.
    "--config.optimizer=sgd(momentum=0.9)",
    "--config.learning_rate=0.1",
    "--config.seeds=1",
    "--config.epochs=2",
    "--config.batch_size=16",
    "--config.runs_at_once=1",
]
PLAYERS = [
    "--config=configs/mnist_generators.py:smoke",
    "--config.model=tiny",
    "--config.losses={'infogan': 'infogan()'}",
    "--config.optimizer=sgd",
    "--config.train_sizes=(4,)",
    "--config.batch_size=16",
]


def start(count, workdir, data, *more, each=(), program="tiny_classify", flags=FLAGS):
    """Starts the processes of one comparison, `each` with flags of its own."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    # One device and few threads each; what is left of the suite's own flags compiles fast.
    environment = os.environ | {
        "XLA_FLAGS": "--xla_backend_optimization_level=0",
        "TFDS_DATA_DIR": str(data),
        "JAX_PLATFORMS": "cpu",
    }
    processes = []
    for index in range(count):
        command = [sys.executable, f"tests/{program}.py", *flags, f"--workdir={workdir}"]
        if count > 1:
            command.append(f"--config.distributed=localhost:{port},{index},{count}")
        command += each[index] if each else []
        processes.append(
            subprocess.Popen(
                [*command, *more],
                cwd=ROOT,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    return processes


def finish(processes):
    """Waits for them: exit codes and what each wrote to stderr."""
    outputs = [process.communicate(timeout=300) for process in processes]
    return [process.returncode for process in processes], [error for _, error in outputs]


def trained(workdir):
    """The checkpointed parameters and statistics of every method, by name."""
    arrays = {}
    for file in Path(workdir).glob("training/*/checkpoints/*/*/leaves_*.safetensors"):
        method = file.parts[-5].rsplit("-", 2)[0]
        for name, start, value in checkpoint_file.read(file):
            assert start is None  # no array is split over the processes
            arrays[method, file.parts[-3], name] = np.asarray(value, np.float64)
    return arrays


def steps(workdir):
    lines = Path(workdir).glob("training/*/metrics.jsonl")
    return sorted(
        (line["method"], line["kind"], line["step"])
        for file in lines
        for line in map(json.loads, file.read_text().splitlines())
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def alone(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    codes, errors = finish(start(1, folder, data))
    assert codes == [0], errors
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(("count", "kind"), [(2, "jit"), (4, "shard_map")])
def test_processes_train_what_one_trains(count, kind, alone, data, tmp_path):
    codes, errors = finish(start(count, tmp_path, data, f"--config.parallelism={kind}"))
    assert codes == [0] * count, errors
    expected, found = trained(alone), trained(tmp_path)
    assert found.keys() == expected.keys()
    assert {method for method, *_ in found} == {name.replace(" ", "_") for name in LOSSES}
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-5, err_msg=str(name))
    # One process writes the record, and each line once.
    assert steps(tmp_path) == steps(alone)
    assert len((tmp_path / "runs.jsonl").read_text().splitlines()) == len(LOSSES)
    assert all("Traceback" not in error for error in errors)
    assert all("step/s" not in error for error in errors[1:])


@pytest.mark.slow
def test_two_processes_train_the_players_that_one_trains(data, tmp_path):
    how = {"program": "tiny_players", "flags": PLAYERS}
    for count in (1, 2):
        codes, errors = finish(start(count, tmp_path / str(count), data, **how))
        assert codes == [0] * count, errors
    expected, found = trained(tmp_path / "1"), trained(tmp_path / "2")
    assert found.keys() == expected.keys() != set()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-5, err_msg=str(name))
    # The first process draws alone.
    assert (tmp_path / "2" / "pictures" / "infogan.png").exists()


@pytest.mark.slow
def test_a_network_in_parts_is_not_drawn_and_one_process_draws_it_later(data, tmp_path):
    flags = ["--config.parallelism=jit", "--config.fsdp=2"]
    how = {"program": "tiny_players", "flags": [*PLAYERS, *flags]}
    codes, errors = finish(start(2, tmp_path, data, **how))
    assert codes == [0, 0], errors
    assert "the same command in one process draws them" in errors[0]
    assert not (tmp_path / "pictures").exists()
    codes, errors = finish(start(1, tmp_path, data, **how))
    assert codes == [0], errors
    assert (tmp_path / "pictures" / "infogan.png").exists()


@pytest.mark.parametrize(
    ("distributed", "others"),
    [
        ("a.b:1,0,3", "the other 2 of 3 processes to come to a.b:1"),
        ("a.b:1,1,3", "process 0 of 3 at a.b:1, and with it all others"),
        ("auto", "the other processes that the platform has named (config.distributed='auto')"),
    ],
)
def test_a_partner_that_does_not_come_is_named_at_once_and_at_the_end(
    distributed, others, monkeypatch, capsys
):
    ended, codes, timer = threading.Event(), [], threading.Timer

    def end(code):
        codes.append(code)
        ended.set()

    monkeypatch.setattr(devices.os, "_exit", end)
    monkeypatch.setattr(devices.threading, "Timer", lambda _, *rest: timer(0.01, *rest))
    monkeypatch.setattr(jax.distributed, "initialize", lambda **given: waited(ended, given))
    devices.start(distributed, 7)
    assert codes == [2]
    first, last = capsys.readouterr().err.splitlines()
    assert first == f"Waiting up to 7 s for {others}."
    assert last.startswith(f"Waited 7 s in vain for {others}: start all of them within that time")


def waited(ended, given):
    assert given["initialization_timeout"] > 7  # JAX's own end would come later
    assert ended.wait(10)


@pytest.mark.parametrize("timeout", [0, 1.5, True, 86_401])
def test_the_time_to_wait_is_checked(timeout):
    with pytest.raises(ValueError, match=r"_timeout is .* whole seconds from 1 to 86,400"):
        devices.start("localhost:1,0,2", timeout)


def test_processes_of_different_configs_end_with_a_sentence(data, tmp_path):
    rates = (["--config.learning_rate=0.1"], ["--config.learning_rate=0.2"])
    codes, errors = finish(start(2, tmp_path, data, each=rates))
    assert codes == [2, 2]
    assert all("All processes must have the same config" in error for error in errors)


@pytest.mark.slow
def test_one_that_dies_ends_the_other_and_both_go_on(data, tmp_path):
    flags = [f"--config.losses={{'ISDA': {LOSSES['ISDA']!r}}}", "--config.epochs=2000"]
    flags += ["--config.checkpoint_steps=20"]
    first, second = start(2, tmp_path, data, *flags)
    wait_for(lambda: list(tmp_path.glob("training/*/checkpoints/40/commit_success.txt")))
    second.send_signal(signal.SIGKILL)
    error = first.communicate(timeout=60)[1]
    assert first.returncode not in (0, None)
    assert error
    second.communicate()
    processes = start(2, tmp_path, data, *flags)
    wait_for(lambda: max(step for *_, step in steps(tmp_path)) >= 200)
    for process in processes:
        process.send_signal(signal.SIGTERM)
    codes, errors = finish(processes)
    assert codes == [os.EX_TEMPFAIL] * 2, errors
    assert "Stopped by SIGTERM, saved at step" in errors[0]
    taken = [step for _, kind, step in steps(tmp_path) if kind == "train"]
    assert taken == list(range(20, taken[-1] + 1, 20))


def wait_for(condition, seconds=120):
    """Polls; the limit only ends a test that hangs."""
    for _ in range(10 * seconds):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("nothing happened")


@pytest.mark.slow
def test_two_processes_choose_a_strength_and_train_again_as_one(data, tmp_path):
    losses = {"l2": "cross_entropy | l2(weight={strength})", "plain": "cross_entropy"}
    more = [
        f"--config.losses={losses}",
        "--config.strengths={'l2': (0.001, 1.0)}",
        "--config.selection=retrain",
        "--config.validation_per_class=2",
        "--config.score_epochs=2",
    ]
    for count in (1, 2):
        codes, errors = finish(start(count, tmp_path / f"{count}", data, *more))
        assert codes == [0] * count, errors
    results = [json.loads((tmp_path / n / "results.json").read_text()) for n in ("1", "2")]
    for found in results:
        counts = {"selection": {"finished": 2, "planned": 2}}
        assert found["phases"] == counts | {"retrain": {"finished": 2, "planned": 2}}
    one, two = (
        {(row["method"], row["strength"]): row["scores"]["nll"][0] for row in found["rows"]}
        for found in results
    )
    assert one == pytest.approx(two, abs=1e-3)
