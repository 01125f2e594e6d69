"""What all commands share, whatever their platform, their terminal and its encoding are."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
MAIN = """
import jax
from absl import flags
from ml_collections import config_flags
from experiments.runs import commands

def main(*rest):
    print(flags.FLAGS.output, *rest, flags.FLAGS.config.data_dir, chr(177), chr(0xDCFF))
    jax.devices()

flags.DEFINE_string("output", "", "")
config_flags.DEFINE_config_file("config")
commands.run(main, arguments=True)
"""
STOPPED = """
from experiments.runs import commands
from experiments.training.interruption import StoppedError

with commands.ends():
    raise StoppedError(1, 20)
"""


def test_paths_at_home_an_ascii_output_strict_warnings_and_no_device(tmp_path):
    paths = ["--output=~/a~", "~/b", "c/~", "--config.data_dir=~/d"]
    done = subprocess.run(
        [sys.executable, "-c", MAIN, "--config=configs/digits.py:smoke", *paths],
        env=os.environ
        | {"HOME": str(tmp_path), "JAX_PLATFORMS": "cuda", "PYTHONIOENCODING": "ascii"}
        | {"PYTHONWARNINGS": "error::DeprecationWarning"},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.stdout == f"{tmp_path}/a~ {tmp_path}/b c/~ {tmp_path}/d \\xb1 \\udcff\n"
    assert done.stderr == (
        "JAX finds no device of JAX_PLATFORMS='cuda': install its build for that platform, such as "
        "'.[experiments,cuda]', or unset JAX_PLATFORMS.\n"
    )
    assert done.returncode == 2


def test_a_terminal_that_has_been_closed_does_not_change_the_exit_code():
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer) as nowhere:
        command = [sys.executable, "-c", STOPPED]
        done = subprocess.run(command, cwd=ROOT, stdout=nowhere, stderr=nowhere)
    assert done.returncode == os.EX_TEMPFAIL
