"""The reader of `name(argument=literal)`; `test_expression.py` tries nasty texts on it."""

import ast

import pytest

from regjax.core.calls import CallError, imported, read_call, read_named, syntax

OTHER = ["", "a(", "a(1)", "a(*b)", "a(**{})", "a.b(c=1)", "a()()", "1"]
MODULES = ["a@b", "a:b:c", "a:", ":a", "-a:b", "a():b", "a:b.c(d=1)", "a:b@c", "a:b(1)"]


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("cosine", ("cosine", {})),
        (" cosine() ", ("cosine", {})),
        ("step(epochs=(80, 120), factor=1e-1)", ("step", {"epochs": (80, 120), "factor": 0.1})),
        ("a.b:c(d='x:y@z')", ("a.b:c", {"d": "x:y@z"})),
        (" a:b ", ("a:b", {})),
        ("a(b={'x':True})", ("a", {"b": {"x": True}})),
        (
            "a(b=-1, c='x', d=None, e={'f': [1]})",
            ("a", {"b": -1, "c": "x", "d": None, "e": {"f": [1]}}),
        ),
    ],
)
def test_texts_and_nodes_are_read_alike(text: str, read: tuple[str, dict[str, object]]) -> None:
    assert read_call(text) == read
    assert read_call(syntax(text)) == read
    assert read_named(text, "thing", "a(b=1)") == read


@pytest.mark.parametrize(
    "text", ["", "a(", "a(1)", "a(*b)", "a(**{})", "a.b(c=1)", "a()()", "1", *MODULES]
)
def test_other_forms_have_no_reason(text: str) -> None:
    with pytest.raises(CallError) as caught:
        read_call(text)
    assert caught.value.reason is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a(b=open('x'))", "b in a(...) must be a Python literal"),
        ("a(b=1 + 1)", "b in a(...) must be a Python literal"),
        ("a" * 999 + "(b=x)", "b in " + "a" * 200 + "...(...) must be"),
    ],
)
def test_arguments_that_cannot_be_read_are_named(text: str, reason: str) -> None:
    with pytest.raises(CallError) as caught:
        read_call(text)
    assert str(caught.value).startswith(reason)


def test_an_argument_given_twice_in_a_tree_that_python_did_not_check() -> None:
    twice = [ast.keyword("b", ast.Constant(1)), ast.keyword("b", ast.Constant(2))]
    with pytest.raises(CallError, match="a is given an argument twice"):
        read_call(ast.Call(ast.Name("a"), [], twice))


@pytest.mark.parametrize("text", ["a(b=1e999)", "a(b=(1, [-1e999]))", "a(b=c)", "a(", "a(1)"])
def test_errors_say_what_the_text_was_meant_to_be(text: str) -> None:
    with pytest.raises(ValueError, match=r"^the thing '.*' cannot be read: .* such as a\(b=1\)\.$"):
        read_named(text, "thing", "a(b=1)")


def test_what_a_module_has_is_found_where_it_was_imported() -> None:
    assert imported("ast:parse") is ast.parse
    with pytest.raises(ValueError, match=r"^the module ast has no 'pars'; .*: parse"):
        imported("ast:pars")
    with pytest.raises(ValueError, match=r"'nowhere\.at:all' is of the module nowhere\.at, which"):
        imported("nowhere.at:all")
