"""`parse` reads what losses print, refuses all else in one sentence, and evaluates nothing."""

import builtins
import pickle
import random
import string
import sys
import types

import jax.numpy as jnp
import numpy as np
import pytest

import regjax as rj

HEAD = "cross_entropy | "
NASTY = [
    "",
    " ",
    "|",
    "cross_entropy |",
    "| cross_entropy",
    "cross_entropy || l2(weight=1)",
    "cross_entropy or l2(weight=1)",
    "cross_entropy | l2",
    "cross_entropy & l2(weight=1)",
    "l2(weight=1)",
    "l2(weight=1) | cross_entropy",
    "cross_entropy | cross_entropy",
    "cross_entropy | (l2(weight=1) | l1(weight=1))",
    "cross_entropy; boom()",
    "cross_entropy\nboom()",
    "boom()",
    "__import__('os').system('boom')",
    "cross_entropy.__class__",
    "cross_entropy().__init__",
    "rj.cross_entropy",
    "(lambda: boom())()",
    "[boom() for _ in (1,)]",
    "{boom(): 1}",
    "f'{boom()}'",
    "(x := boom())",
    "await boom()",
    "yield boom()",
    "*cross_entropy",
    "cross_entropy(**{'a': 1})",
    "cross_entropy()()",
    "cross_entropy(1)",
    "cross_entropy if 1 else 2",
    "'cross_entropy'",
    "1",
    "None",
    "...",
    "\0",
    "cross_entropy\0",
    "\ud800",
    "\N{SNOWMAN}",
    "cross_entropy # | l2(weight=boom())\n| boom",
    HEAD + "l2(1)",
    HEAD + "l2(*[1])",
    HEAD + "l2(**boom())",
    HEAD + "l2(weight=1, weight=2)",
    HEAD + "__class__(weight=1)",
    HEAD + "l2.definition.function(weight=1)",
    HEAD + "(" * 5000,
    HEAD + "l2(weight=" + "(" * 150 + "x" + ")" * 150 + ")",
    HEAD + "l2(weight=" + "-" * 3000 + "1)",
    HEAD + "l2(weight=" + "x." * 2000 + "y)",
    HEAD + "l2(weight=" + "1+" * 30000 + "1)",
    HEAD + "l2(weight=" + "9" * 5000 + ")",
    HEAD + "l2(weight=0x" + "f" * 5000 + ")",
    HEAD + "l2(weight=1e999)",
    HEAD + "l2(weight=" + "[" * 90 + "]" * 90 + ")",
    HEAD + " | ".join(["l2(weight=1)"] * 20000),
    "cross_entropy" * 10000,
]
VALUES = [
    "boom()",
    "boom",
    "boom.x",
    "x.__class__",
    "().__class__.__bases__[0]",
    "lambda: boom()",
    "[boom() for _ in (1,)]",
    "{boom() for _ in (1,)}",
    "f'{boom()}'",
    "(x := boom())",
    "1 if boom() else 2",
    "boom() or 1",
    "2 ** 9 ** 9",
    "1 + 1",
    "'a' * 10 ** 10",
    "{[]: 1}",
    "{[1]}",
    "{**boom()}",
    "[*boom()]",
    "1 < 2",
    "not 1",
    "...",
    "b'1'",
    "'1'",
    "1j",
    "{}",
    "None",
]


@pytest.fixture(autouse=True)
def _boom(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever evaluates a text fails the test, and does not raise what the tests expect."""

    def boom(*_: object, **__: object) -> None:
        pytest.fail("parse evaluated its text")

    monkeypatch.setattr(builtins, "boom", boom, raising=False)
    for name in ("eval", "exec"):
        monkeypatch.setattr(builtins, name, boom)


def refused(text: object) -> str:
    with pytest.raises((ValueError, TypeError)) as caught:
        rj.parse(text)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 2000
    assert message.endswith(".")
    return message


@pytest.mark.parametrize("text", NASTY, ids=range(len(NASTY)))
def test_nasty_texts_are_refused(text: str) -> None:
    assert refused(text)


@pytest.mark.parametrize("value", VALUES)
def test_values_that_are_no_literals_are_refused(value: str) -> None:
    assert "weight" in refused(f"cross_entropy | l2(weight={value})")


@pytest.mark.parametrize("text", [None, 3, b"cross_entropy", ["cross_entropy"], rj.cross_entropy()])
def test_what_is_no_string_is_refused(text: object) -> None:
    assert f"given {type(text).__name__}." in refused(text)


def test_random_texts_are_refused_or_losses() -> None:
    pieces = "cross_entropy l2 ( ) = weight | 1 ' . , lambda : boom() [ ] { } __class__ * - if e9"
    pieces = [*pieces.split(), "\n", "\\", "\0", " "]
    draw = random.Random(0)
    for _ in range(2000):
        text = "".join(draw.choices([*pieces, draw.choice(string.printable)], k=draw.randrange(12)))
        for candidate in (text, f"cross_entropy | l2(weight={text})"):
            try:
                loss = rj.parse(candidate)
            except (ValueError, TypeError):
                continue
            assert rj.parse(repr(loss)) == loss


def test_errors_name_what_is_given_and_what_is_known() -> None:
    for text, words in [
        ("crossentropy", ["unknown stage 'crossentropy'", "cross_entropy", "double_backprop"]),
        ("cross_entropy | l3(weight=1)", ["unknown stage 'l3'", "l1", "l2"]),
        ("cross_entropy | l2(strength=1)", ["no argument 'strength'", "weight, exclude"]),
        ("cross_entropy | l2", ["l2 needs the argument 'weight'"]),
        ("l2(weight=1)", ["'l2(weight=1)' must begin with one base loss (", "penalties (", "l2"]),
        ("cross_entropy | l2(1)", ["no loss expression", "double_backprop(weight=0.1)"]),
        ("cross_entropy | l2(weight=1, weight=2)", ["l2 is given an argument twice"]),
        ("cross_entropy | l2(weight=x)", ["weight in", "Python literal", "0.1"]),
        ("cross_entropy | l2(weight='1')", ["l2's weight must be a number", "'1'"]),
    ]:
        message = refused(text)
        assert all(word in message for word in words), message


@pytest.mark.parametrize(
    "number",
    [
        *(1e-300, 5e-324, -0.0, 0.0, 1e22, 0.1, 1 / 3, 1.7e308, 1, 10**20, 3),
        *(np.float32(0.1), np.float64(0.1), np.float16(0.1), np.array(0.1)),
        *(jnp.float32(0.1), jnp.bfloat16(0.1)),
    ],
)
def test_odd_numbers_survive(number: float) -> None:
    loss = rj.noise_injection(rj.cross_entropy(), sigma=number)
    back = rj.parse(repr(loss))
    assert back == loss
    assert repr(back) == repr(loss)
    (read,) = (stage.arguments["sigma"] for stage in back.stages[1:])
    assert np.float64(read).tobytes() == np.float64(number).tobytes()


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        (" cross_entropy()\n", "cross_entropy"),
        ("cross_entropy|l2(weight=1)", "cross_entropy | l2(weight=1.0)"),
        ("cross_entropy | l2(weight=1_0)", "cross_entropy | l2(weight=10.0)"),
        ("cross_entropy | l2(weight=1, exclude=None)", "cross_entropy | l2(weight=1.0)"),
        (
            "cross_entropy | l2(exclude=['a', 'b'], weight=.5)",
            "cross_entropy | l2(weight=0.5, exclude=('a', 'b'))",
        ),
        (
            'cross_entropy | jacobian(batch_norm="batch", probes=2, weight=1e-3)',
            "cross_entropy | jacobian(weight=0.001, probes=2)",
        ),
    ],
)
def test_expressions_are_printed_in_one_form(text: str, printed: str) -> None:
    assert repr(rj.parse(text)) == printed
    assert rj.parse(printed) == rj.parse(text)


def test_a_stage_of_an_imported_module_is_named_with_it(monkeypatch):
    module = types.ModuleType("mine")

    @rj.penalty
    def squares(point):
        """The squared logits."""
        return (point.outputs.logits**2).sum(-1)

    module.squares = squares
    monkeypatch.setitem(sys.modules, "mine", module)
    loss = rj.parse("cross_entropy | mine:squares(weight=0.1)")
    assert repr(loss) == "cross_entropy | mine:squares(weight=0.1)"
    assert rj.parse(repr(loss)) == loss == pickle.loads(pickle.dumps(loss))
    assert [name for name, _ in loss.named()] == ["cross_entropy", "squares"]
    for text, message in (
        ("cross_entropy | mine:other(weight=1)", "the module mine has no 'other'; .*squares"),
        ("cross_entropy | os:getcwd", "'os:getcwd' is no stage: it needs one of the decorators"),
        ("cross_entropy | absent:squares(weight=1)", "of the module absent, which has not been"),
    ):
        with pytest.raises(ValueError, match=message):
            rj.parse(text)
    assert "absent" not in sys.modules
