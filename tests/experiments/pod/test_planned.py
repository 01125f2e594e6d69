"""A config's step, planned for devices that nothing is computed on.

Covers `shapes.py`, `chips.py` and `pod/tables.py` too.
"""

import importlib.util
import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.isda import table1
from experiments import ConfigError, compiled_for, platform
from experiments.classify import CLASSIFICATION
from experiments.models import layers
from experiments.pod import chips, planned, shapes, tables
from experiments.pod.program import Work
from experiments.runs import entries
from experiments.runs.plan import Run
from experiments.training import sweep

ISDA = "isda(strength=0.5)"
KEY = jax.random.key(0)


def config(**changes):
    small = {"model": "small_cnn", "batch_size": 16, "runs_at_once": 1, "dataset": "digits"}
    return entries.defaults() | small | {"image_size": 4} | changes


def run(loss):
    return Run("x", loss, 0, None, 0)


def plan(loss=ISDA, **changes):
    given = config(**changes)
    return planned.planned(given, CLASSIFICATION, run(loss), shapes.of(given), jax.devices())


def test_layers_and_sweeps_follow_the_platform_that_is_compiled_for():
    # On CPUs a kernel larger than its image is a product of matrices.
    x, kernel = (jax.ShapeDtypeStruct(s, jnp.float32) for s in ((8, 2, 2, 3), (3, 3, 3, 2)))

    def loss(x, kernel):
        return jnp.sum(layers.max_pool(layers.convolve(x, kernel)) ** 2)

    def text(name):
        with compiled_for(name):
            traced = jax.jit(jax.grad(lambda *each: loss(*each), (0, 1))).trace(x, kernel)
        return traced.lower(lowering_platforms=(name,)).as_text()

    on_cpu, on_tpu = text("cpu"), text("tpu")
    assert on_cpu.count("stablehlo.convolution") == 0
    assert on_cpu.count("stablehlo.concatenate") > 0
    assert on_tpu.count("stablehlo.convolution") == 3
    assert on_tpu.count("stablehlo.concatenate") == 0
    assert on_tpu.count("stablehlo.select_and_scatter") == 1
    assert platform() == "cpu"
    assert sweep._single_device_strategy() == "map"
    with compiled_for("tpu"):
        assert sweep._single_device_strategy() == "vmap"


def test_whitened_images_lie_beside_their_pixels():
    found = plan("cross_entropy", whiten="zca(epsilon=0.1)")
    assert found.parts["data"] == 1797 * (4 * 4 + 4 + 4 * 4 * 4)


def test_a_step_of_data_in_memory_keeps_them_on_every_chip():
    found = plan()
    assert found.parts["data"] == 1797 * (4 * 4 + 4)
    assert found.batch == 16
    # Of each class the count, the mean of 64 features and their covariance, and the step's number.
    assert found.parts["statistics"] == 10 * (1 + 64 + 64 * 64) * 4 + 4
    assert found.kept == 10
    text = found.lowered.as_text()
    assert "1797x4x4x1xui8" in text
    assert "20x16xi32" in text


def test_fsdp_splits_the_network_and_an_axis_the_classes():
    given = config(fsdp=2, data="stream")
    split = plan("isda(strength=0.5, axis_name='fsdp')", fsdp=2, data="stream")
    task = CLASSIFICATION.task(given, shapes.spec(shapes.of(given)), 1.0)
    network = 4 * sum(x.size for x in jax.tree.leaves(jax.eval_shape(task.build, KEY).params))
    # All but the biases and what else is no matrix.
    assert network / 2 <= split.parts["network"] < 0.6 * network
    assert split.parts["data"] == 0
    assert split.kept == 5
    assert split.parts["statistics"] == 5 * (1 + 64 + 64 * 64) * 4 + 4


def test_what_cannot_be_planned_is_one_sentence(monkeypatch):
    planned.check(config(), 16)
    wrong = {
        "runs_at_once": (4, "set it to 1"),
        "parallelism": ("pmap", "'shard_map' sends the same"),
        "batch_size": (24, "config.batch_size=24 must be a multiple of 16, the 16 chips times"),
        "unlabeled_batch_size": (8, "config.unlabeled_batch_size=8 must be a multiple of 16"),
    }
    for name, (value, sentence) in wrong.items():
        with pytest.raises(ConfigError, match=sentence):
            planned.check(config(**{name: value}), 16)
    with pytest.raises(ConfigError, match=r"multiple of 64, the 16 chips times .*accumulate=4"):
        planned.check(config(accumulate=4), 16)
    with pytest.raises(ConfigError, match=r"config\.losses\.x: .*axis_name='nowhere'"):
        plan("isda(strength=0.5, axis_name='nowhere')", parallelism="jit")
    for topology in ("v5e:3x3", "v9:4x4", "v5e", "4x4", "v5p:4x4"):
        with pytest.raises(ConfigError, match=r"known are, by chip, v4: 2x2x1, .*v5e: 2x2, 2x4"):
            chips.find(topology)

    def without(*_, **__):
        raise RuntimeError("JAX TPU support not installed; cannot generate TPU topology.")

    monkeypatch.setattr(chips.topologies, "get_topology_desc", without)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    with pytest.raises(ConfigError, match=r"^libtpu, .*pip install -e '\.\[pod\]' installs it\.$"):
        chips.devices("v5e:4x4")


def test_shapes_are_those_of_the_data_set_or_as_given():
    given = table1.get_config().to_dict()
    assert shapes.of(given) == shapes.Shapes((224, 224, 3), 1000, 1_281_167, 1_331_167)
    assert shapes.of(given | {"image_size": 160}).image == (160, 160, 3)
    own = config(dataset="folder:mine", image_size=0)
    with pytest.raises(ConfigError, match="name --image, such as 224x224x3, --classes and"):
        shapes.of(own, "64x64x3", 7)
    assert shapes.of(own, "64x32x3", 7, 900) == shapes.Shapes((64, 32, 3), 7, 900, 900)
    for wrong in ("64x64", "64x64x", "0x64x3", "64x64x3x1", "axbxc"):
        with pytest.raises(ConfigError, match=r"--image=.* must be height x width x channels"):
            shapes.of(config(), wrong)


def test_a_row_says_what_fits_and_its_multiples():
    step = planned.Planned(None, 256, {"network": 10**9, "data": 0}, 10, False)
    work = Work(197e9, 819e6, 0.002, {"all-reduce": (4, 10**8)})
    found = {"arguments": 10**9, "results": 0, "temporaries": 2 * 10**9, "program": 0}
    row = tables.row(step, chips.CHIPS["v5e"], found, work)
    assert row["total"] == 3 * 10**9
    assert row["seconds"]["products"] == row["seconds"]["memory"] == pytest.approx(1e-3)
    assert row["images_per_second"] == pytest.approx(256 / 3e-3)
    row |= {"method": "x", "loss": ISDA, "advice": []}
    text = tables.text(row | {"flops": 2 * row["flops"]}, chips.CHIPS["v5e"], row)
    assert (
        "fits: 3.00 GB of 16.00 GB on each chip, of which lie there between steps: network 1.00"
        in text
    )
    assert "and sends 4 all-reduce of 100.00 MB" in text
    assert "at least 3 ms a step" in text
    assert "2.00 times x's FLOPs, 1.00 its bytes, 1.00 its memory, 1.00 its time" in text
    less = {"fits": False, "total": 33 * 10**9, "lies": {"data": 1}, "advice": ["Do this."]}
    text = tables.text(less | {"method": "y", "loss": ISDA}, chips.CHIPS["v5e"], row)
    assert "does not fit: 33.00 GB of 16.00 GB" in text
    assert text.endswith("\n  Do this.")


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None,
    reason="needs libtpu, the compiler for TPUs: pip install -e '.[pod]'",
)
def test_the_command_compiles_for_a_pod(tmp_path):
    command = [
        *(sys.executable, "-m", "experiments.pod", "--config=configs/digits.py:smoke"),
        *("--topology=v5e:2x2", "--method=baseline", "--config.runs_at_once=1"),
        *("--config.batch_size=16", f"--output={tmp_path / 'pod.json'}"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "fits: " in done.stdout
    (row,) = json.loads((tmp_path / "pod.json").read_text())["rows"]
    assert row["lies"]["data"] == 1797 * (8 * 8 + 4)
    # The convolutions' products, of four images a chip, are XLA's own count but for padding.
    assert 0 < row["flops"] < 1e9
    assert row["sent"]["all-reduce"]["bytes"] >= row["lies"]["network"] * 0.9
    assert np.isfinite(row["images_per_second"])
