"""The command, with a compiler that is played.

Covers `pod/__main__.py` too.
"""

import types

import jax
import pytest

from experiments import ConfigError
from experiments.pod import __main__ as pod
from experiments.runs import entries

PARTS = {"network": 10**8, "optimizer": 10**8, "statistics": 0, "data": 0}
TEXT = "HloModule m\n\nENTRY %main (x: f32[8]) -> f32[8] {\n  %x = f32[8]{0} parameter(0)\n" + (
    "  ROOT %r = f32[8]{0} all-reduce(%x), to_apply=%main\n}\n"
)
CONFIG = entries.defaults() | {
    "losses": {
        "plain": "cross_entropy",
        "noise": "cross_entropy | noise_injection(sigma={strength})",
    },
    "strengths": {"noise": (0.1, 0.2)},
    "runs_at_once": 1,
}


class Lowered:
    """A program that is compiled to `TEXT`, or is refused."""

    def __init__(self, refusal=""):
        self.refusal = refusal

    def compile(self):
        if self.refusal:
            raise jax.errors.JaxRuntimeError(self.refusal)
        return self

    def as_text(self):
        return TEXT

    def memory_analysis(self):
        names = ("argument", "output", "alias", "temp", "generated_code")
        sizes = (50, 40, 30, 20, 10)
        named = {f"{n}_size_in_bytes": s for n, s in zip(names, sizes, strict=True)}
        return types.SimpleNamespace(**named)


@pytest.fixture
def compiler(monkeypatch):
    """Has steps compiled by the played compiler; what it holds is the refusals by loss."""
    refusals = {}

    def planned(config, experiment, run, known, devices):
        lowered = Lowered(refusals.get(run.method, ""))
        return pod.planned.Planned(lowered, config["batch_size"], PARTS, known.classes, False)

    monkeypatch.setattr(pod.planned, "planned", planned)
    monkeypatch.setattr(pod.chips, "devices", lambda topology: [None] * 16)
    return refusals


def test_every_method_is_a_row_with_its_first_strength(compiler):
    plain, noise = pod.rows(CONFIG, "v5e:4x4")
    assert plain["method"] == "plain"
    assert plain["memory"] == {"arguments": 50, "results": 10, "temporaries": 20, "program": 10}
    assert plain["sent"] == {"all-reduce": {"count": 1, "bytes": 32}}
    assert plain["advice"] == []
    assert "sigma=0.1" in noise["loss"]
    (only,) = pod.rows(CONFIG, "v5e:4x4", "noise")
    assert only["loss"] == noise["loss"]
    with pytest.raises(ConfigError, match="--method=x is none of the config's: plain, noise"):
        next(pod.rows(CONFIG, "v5e:4x4", "x"))


def test_what_the_compiler_refuses_does_not_fit_and_comes_with_advice(compiler):
    compiler["plain"] = "RESOURCE_EXHAUSTED: out of memory. Used 20.0G of 15.75G hbm."
    row, _ = pod.rows(CONFIG, "v5e:4x4")
    assert not row["fits"]
    assert row["total"] == 20 * 2**30
    assert "config.accumulate=2" in row["advice"][0]
    compiler["plain"] = "INTERNAL: something else"
    with pytest.raises(jax.errors.JaxRuntimeError, match="something else"):
        next(pod.rows(CONFIG, "v5e:4x4"))


def test_loops_over_classes_are_as_long_as_those_that_a_chip_keeps_and_sees():
    step = pod.planned.Planned(None, 1024, PARTS, 1000, False)
    config = CONFIG | {"batch_size": 1024}
    assert pod._passes(step, config, 1000) == 1000 + 1024 // 16
    assert pod._share(step, config, 16, 1000) == 64 / 1000
    assert pod._share(step, config | {"parallelism": "jit"}, 16, 1000) == 1
    split = step._replace(kept=125)
    assert pod._passes(split, config, 1000) == 125 + 128 // 16
    assert pod._share(split, config, 16, 1000) == 1
    assert pod._passes(split, config | {"accumulate": 16}, 1000) == 64


def test_what_is_wrong_is_said_before_anything_is_compiled(compiler):
    for changes, sentence in (
        ({"batch_size": 20}, "config.batch_size=20 must be a multiple of 16"),
        ({"runs_at_once": 4}, "config.runs_at_once is 4"),
        ({"dataset": "folder:mine"}, "name --image, such as 224x224x3"),
        ({"batchsize": 3}, "config.batchsize is no entry"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            next(pod.rows(CONFIG | changes, "v5e:4x4"))
    with pytest.raises(ConfigError, match="--topology=v5e:5x5 is none"):
        next(pod.rows(CONFIG, "v5e:5x5"))
