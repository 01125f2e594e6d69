"""What is public is exported, documented and shown by an example, and the examples run."""

import doctest
import importlib
import inspect
import pkgutil
import types

import jax
import pytest

import regjax as rj

MODULES = ["regjax", *(m.name for m in pkgutil.walk_packages(rj.__path__, "regjax."))]


def public(module: types.ModuleType) -> list[str]:
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and callable(value)
        and getattr(value, "__module__", None) == module.__name__
    ]


def test_all_is_sorted_and_exists() -> None:
    assert rj.__all__ == sorted(set(rj.__all__))
    assert all(hasattr(rj, name) for name in rj.__all__)


def test_all_names_every_public_value_of_the_package() -> None:
    public = {name for name in vars(rj) if not name.startswith("_")}
    modules = {name for name in public if inspect.ismodule(getattr(rj, name))}
    assert public - modules == {n for n in rj.__all__ if not inspect.ismodule(getattr(rj, n))}


@pytest.mark.parametrize("name", MODULES)
def test_every_module_and_public_name_is_documented(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__
    for each in public(module):
        assert (getattr(module, each).__doc__ or "").strip(), f"{name}.{each}"


@pytest.mark.parametrize("name", [n for n in rj.__all__ if inspect.isfunction(getattr(rj, n))])
def test_every_public_function_has_an_example(name: str) -> None:
    function = getattr(rj, name)
    assert doctest.DocTestFinder().find(function, name)[0].examples, f"regjax.{name}"


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name: str) -> None:
    with jax.numpy_rank_promotion("allow"):  # as users have it
        assert doctest.testmod(importlib.import_module(name)).failed == 0
