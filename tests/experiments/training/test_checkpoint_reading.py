"""Reading a checkpoint: by name, and only for what it was saved for."""

import jax.numpy as jnp
import numpy as np
import pytest

from experiments import ConfigError
from experiments.training import checkpoint_reading
from experiments.training.checkpoints import Checkpoints

CONFIG = {"learning_rate": 0.1, "losses": {"plain": "cross_entropy"}, "train_sizes": (5, 10)}
STATE = {"kernel": jnp.arange(6.0).reshape(3, 2), "bias": jnp.ones(2, jnp.bfloat16)}
NAME = "leaves_0.safetensors"


@pytest.fixture
def folder(tmp_path):
    with Checkpoints(tmp_path, keep=1, belongs_to=CONFIG) as checkpoints:
        checkpoints.save(1, STATE, {"epoch": 4}, score=0.5)
    return tmp_path


def restored(folder, like=STATE, **changes):
    with Checkpoints(folder, keep=1, belongs_to=CONFIG | changes) as checkpoints:
        return checkpoints.restore(like)


def test_arrays_are_read_by_name_without_a_config(folder):
    found = checkpoint_reading.read_arrays(folder, 1)
    assert found.keys() == {"['kernel']", "['bias']"}
    np.testing.assert_array_equal(found["['kernel']"], STATE["kernel"])
    assert found["['bias']"].dtype == jnp.bfloat16
    assert checkpoint_reading.read_score(folder, 1) == 0.5


@pytest.mark.parametrize("content", [None, b"{}"])
def test_arrays_that_are_damaged_are_not_read(folder, content):
    file = folder / "1" / "state" / NAME
    file.unlink() if content is None else file.write_bytes(content)
    reason = "missing" if content is None else "not what was written"
    with pytest.raises(OSError, match=rf"The checkpoint of step 1 in .* \({NAME} is {reason}\)\.$"):
        checkpoint_reading.read_arrays(folder, 1)


def test_another_config_is_refused_with_what_differs(folder):
    with pytest.raises(ConfigError) as error:
        restored(folder, learning_rate=0.2, losses={"nfm": "x"}, seeds=3)
    assert str(error.value) == (
        f"{folder} holds checkpoints of another config (learning_rate: 0.1, now 0.2, "
        "losses.nfm: nothing, now 'x', losses.plain: 'cross_entropy', now nothing, seeds: "
        "nothing, now 3): choose another --workdir, or the config as it was."
    )
    assert restored(folder).step == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kernel": jnp.zeros((3, 5))}, r"state\['kernel'\]: float32\[3, 2\], now float32\[3, 5\]"),
        ({"bias": jnp.zeros(2)}, r"state\['bias'\]: bfloat16\[2\], now float32\[2\]"),
        ({"extra": jnp.zeros(2)}, r"state\['extra'\]: nothing, now float32\[2\]"),
    ],
)
def test_a_state_that_does_not_fit_is_refused(folder, change, message):
    with pytest.raises(ConfigError, match=message):
        restored(folder, STATE | change)


def test_a_checkpoint_of_an_older_version_is_refused_and_stays(folder):
    file = folder / "1" / "state" / NAME
    older = file.rename(file.with_name("leaves_0.bin"))
    sentence = (
        f"{folder} holds checkpoints of an older version (leaves_0.bin), which this one cannot "
        "read: choose another --workdir, or delete that folder and its runs' lines in runs.jsonl, "
        "and they are trained again."
    )
    with pytest.raises(ConfigError) as error:
        restored(folder)
    assert str(error.value) == sentence
    with pytest.raises(ConfigError) as error:
        checkpoint_reading.read_arrays(folder, 1)
    assert str(error.value) == sentence
    assert older.exists()
