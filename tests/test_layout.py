"""The rooms of the house: who may import whom, how long a file is, where its tests are."""

import ast
import re
import sys
from collections import Counter
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
    "consistency": set[str](),
    "signing": set[str](),
    "metrics": {"gradient", "losses"},
    "gradient": {"losses"},
    "semantic": {"losses"},
    "mixing": {"augment", "losses"},
}
# What a room of the experiments may import, from the ground up; all may import regjax and the
# package itself, which holds ConfigError.
ORDER = {
    "data": set[str](),
    "rows": set[str](),
    "models": {"rows"},
    "training": {"data", "rows"},
    "evaluation": {"data", "training"},
    "runs": {"data", "models", "training", "evaluation"},
    "report": {"data", "training", "evaluation", "runs"},
    "comparison": {"data", "training", "evaluation", "runs", "report"},
    "classify": {"data", "training", "evaluation", "runs", "report", "comparison"},
    "search": {"training", "runs", "report", "comparison", "classify"},
    "segment": {"data", "training", "evaluation", "runs", "report", "comparison"},
    "sign": {"training", "runs"},
    "generate": {"data", "training", "evaluation", "runs", "report", "comparison"},
    "benchmark": {"data", "models", "training", "evaluation", "runs", "report"},
    "gallery": {"data", "models", "training", "evaluation", "runs", "report"},
    "pod": {"data", "training", "runs", "report", "classify", "benchmark"},
}
OUTSIDE = {"jax", "numpy", "optax"}  # what the library imports of others; flax.py, flax too
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


def foreign(name: str) -> set[str]:
    """The packages that a module imports beside its own and Python's."""
    found = {other.split(".")[0] for other in imports(MODULES[name])}
    return found - {name.split(".")[0]} - sys.stdlib_module_names


def test_packages_import_each_other_one_way():
    for name in MODULES:
        package = name.split(".")[0]
        if package == "regjax":
            assert foreign(name) <= OUTSIDE | ({"flax"} if name == "regjax.flax" else set()), name
        elif package == "experiments":
            assert "configs" not in foreign(name), name
        else:
            assert foreign(name) <= {"ml_collections", "experiments"}, name


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


def _circle(edges: dict[str, set[str]]) -> list[str]:
    """The nodes that lie on circles, or lead to one: what is left when all others are taken out."""
    left = dict(edges)
    while ends := {name for name, others in left.items() if not others & left.keys()}:
        left = {name: others for name, others in left.items() if name not in ends}
    return sorted(left)


@pytest.mark.parametrize("package", ["regjax", "experiments"])
def test_no_circle_of_modules_nor_of_rooms(package):
    modules: dict[str, set[str]] = {name: set() for name in MODULES}
    rooms: dict[str, set[str]] = {room(name): set() for name in MODULES}
    for name, other in within(package):
        modules[name].add(other)
        if room(name) and room(other) and room(name) != room(other):
            rooms[room(name)].add(room(other))
    assert _circle(modules) == []
    assert _circle(rooms) == []


def test_configs_need_little():
    for name, path in MODULES.items():
        if name.split(".")[0] == "configs":
            ours = {other for other in imports(path) if other.split(".")[0] == "experiments"}
            assert ours <= {"experiments.runs.entries"}, name


def test_the_experiments_have_few_entries():
    entries = {path.name for path in (ROOT / "experiments").iterdir()}
    assert len(entries - {"__init__.py", "README.md", "__pycache__"}) <= 16


@pytest.mark.parametrize("name", MODULES)
def test_a_module_is_short_and_says_what_everything_is(name):
    text = MODULES[name].read_text()
    # Notebooks are one text each, meant to be read from the top.
    assert text.count("\n") <= LONGEST or ".notebooks." in name
    tree = ast.parse(text)
    assert ast.get_docstring(tree)
    for node in _public(tree.body):
        assert ast.get_docstring(node), f"{name}: {node.name}"


Named = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def _public(body: list[ast.stmt]) -> Iterator[Named]:
    """The functions and classes that a module offers, and the methods of these classes."""
    for node in body:
        if isinstance(node, Named) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from _public(node.body)


def _says(named: set[str], path: Path) -> bool:
    """Whether a module is among those named, with its folder where others have its file's name."""
    alike = Counter(other.name for other in FILES)[path.name] > 1
    texts = {text for text in named if "/" in text} if alike else named
    return any(path.as_posix().endswith(f"/{text}") for text in texts)


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
        and not _says(named, path)
        and (path.relative_to(ROOT).parent / f"test_{path.name}").as_posix() not in places
    ]
    assert missing == []
