"""The rooms of the house: who may import whom, how long a file is, where its tests are."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("regjax", "experiments", "configs")
FILES = [p for name in PACKAGES for p in sorted((ROOT / name).rglob("*.py"))]

# What a room of the library imports beside `core`.
FAMILIES = {
    "core": set[str](),
    "losses": set[str](),
    "augment": set[str](),
    "attacks": set[str](),
    "corruptions": set[str](),
    "noise": set[str](),
    "parameters": set[str](),
    "flax": set[str](),
    "metrics": {"gradient"},
    "gradient": {"losses"},
    "semantic": {"losses"},
    "mixing": {"augment", "losses"},
}
# What a room of the experiments may import, from the ground up; all may import regjax and the
# package itself, which holds ConfigError.
ORDER = {
    "data": set[str](),
    "models": set[str](),
    "training": {"data"},
    "evaluation": {"data", "training"},
    "runs": {"data", "models", "training", "evaluation"},
    "report": {"data", "training", "evaluation", "runs"},
    "comparison": {"data", "training", "evaluation", "runs", "report"},
    "classify": {"data", "training", "evaluation", "runs", "report", "comparison"},
    "benchmark": {"data", "models", "training", "evaluation", "runs", "report"},
    "gallery": {"data", "models", "training", "evaluation", "runs", "report"},
}
OUTSIDE = {"jax", "numpy", "optax", "flax"}  # of the library; flax in flax.py alone
LONGEST, TWIN_FROM = 320, 60


def module(path: Path) -> str:
    """Its dotted name."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module(path): path for path in FILES}


def _nodes(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those under `if TYPE_CHECKING`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from _nodes(child)


def imports(path: Path) -> set[str]:
    """The names of the modules that a file imports, its own packages' as far as they are files."""
    found = set()
    for node in _nodes(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import"
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            modules = inner & MODULES.keys()
            found |= modules | ({str(node.module)} if len(modules) < len(inner) else set())
    return found


def room(name: str) -> str:
    """The part of its package that a module is in; "" for the package itself."""
    return [*name.split("."), ""][1]


def within(package: str) -> Iterator[tuple[str, str]]:
    """All pairs of a module and a module of the same package that it imports."""
    for name, path in MODULES.items():
        if name.split(".")[0] == package:
            for other in imports(path):
                if other.split(".")[0] == package:
                    yield name, other


def test_the_library_imports_jax_numpy_optax_and_what_python_brings():
    for name, path in MODULES.items():
        if name.split(".")[0] != "regjax":
            continue
        others = {other.split(".")[0] for other in imports(path)} - {"regjax"}
        ours = others & {"experiments", "configs", "flax", "tensorflow_datasets", "absl", "chex"}
        assert ours <= ({"flax"} if name == "regjax.flax" else set()), name


@pytest.mark.parametrize("package", ["regjax", "experiments"])
def test_imports_run_one_way(package):
    allowed = FAMILIES if package == "regjax" else ORDER
    for name, other in within(package):
        mine, theirs = room(name), room(other)
        if not mine or mine == theirs or not theirs:
            continue
        known = allowed[mine] | ({"core"} if package == "regjax" else set())
        assert theirs in known, f"{name} imports {other}"


def test_every_room_of_the_lists_is_there_and_used():
    for package, rooms in (("regjax", FAMILIES), ("experiments", ORDER)):
        names = {room(name) for name in MODULES if name.startswith(f"{package}.")}
        assert names == set(rooms)
    used = {(room(a), room(b)) for a, b in within("regjax")}
    for name, others in FAMILIES.items():
        assert {other for other in others if (name, other) not in used} == set(), name


@pytest.mark.parametrize("package", ["regjax", "experiments"])
def test_no_circle_of_modules(package):
    edges: dict[str, set[str]] = {}
    for name, other in within(package):
        edges.setdefault(name, set()).add(other)
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join([*path, name])
        if name not in done:
            for other in edges.get(name, ()):
                visit(other, (*path, name))
            done.add(name)

    for name in edges:
        visit(name, ())


def test_configs_need_little():
    for name, path in MODULES.items():
        if name.split(".")[0] == "configs":
            others = {o for o in imports(path) if o.split(".")[0] in ("regjax", "experiments")}
            assert others <= {"experiments.runs.entries"}, name


def test_the_experiments_have_few_entries():
    entries = {path.name for path in (ROOT / "experiments").iterdir()}
    assert len(entries - {"__init__.py", "README.md", "__pycache__"}) <= 13


@pytest.mark.parametrize("name", MODULES)
def test_a_module_is_short_and_says_what_everything_is(name):
    text = MODULES[name].read_text()
    # Notebooks are one text each, meant to be read from the top.
    assert text.count("\n") <= LONGEST or ".notebooks." in name
    tree = ast.parse(text)
    assert ast.get_docstring(tree)
    for node in _public(tree):
        assert ast.get_docstring(node), f"{name}: {node.name}"


Named = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def _public(tree: ast.Module) -> Iterator[Named]:
    """The functions and classes that a module offers; a class's own are its interface's."""
    for node in tree.body:
        if isinstance(node, Named) and not node.name.startswith("_"):
            yield node


def test_every_long_module_has_tests_that_name_it():
    tests = list((ROOT / "tests").rglob("test_*.py"))
    said = " ".join(ast.get_docstring(ast.parse(p.read_text())) or "" for p in tests)
    named = set(re.findall(r"[\w/]+\.py", said))
    places = {path.relative_to(ROOT / "tests").as_posix() for path in tests}
    missing = [
        path.relative_to(ROOT).as_posix()
        for name, path in MODULES.items()
        if name.split(".")[0] != "configs"
        and path.name not in ("__init__.py", "__main__.py")
        and path.read_text().count("\n") > TWIN_FROM
        and not any(path.as_posix().endswith(f"/{each}") for each in named)
        and (path.relative_to(ROOT).parent / f"test_{path.name}").as_posix() not in places
    ]
    assert missing == []
