"""The policies use nothing but themselves and no clock; one module uses httpx; each module has its tests.

Which module may import which of ours is for import-linter to say, whose contracts are in pyproject.toml (`make check`).
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
POLICIES = sorted((ROOT / "policies").rglob("*.py"))
WORKER = sorted((ROOT / "worker").rglob("*.py"))
ALLOWED = {"policies", "msgspec", "numpy", "pydantic", "re2"}
PURE = {
    "abc",
    "array",
    "binascii",
    "collections",
    "dataclasses",
    "datetime",
    "difflib",
    "enum",
    "fractions",
    "functools",
    "hashlib",
    "itertools",
    "json",
    "operator",
    "re",
    "typing",
}
CLOCKS = {"now", "utcnow", "today"}


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports by full names only"
            yield node.module or ""


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.stem)
def test_policies_are_pure(path: Path) -> None:
    roots = {name.partition(".")[0] for name in imports(path)}
    assert roots <= ALLOWED | PURE


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.stem)
def test_policies_have_no_clock_and_no_files(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            assert node.func.attr not in CLOCKS, f"{path}:{node.lineno}"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"open", "print", "input", "exec", "eval", "__import__"}, f"{path}:{node.lineno}"


def test_one_module_imports_httpx() -> None:
    users = [path for path in (*POLICIES, *WORKER) if any(name.partition(".")[0] == "httpx" for name in imports(path))]
    assert users == [ROOT / "worker" / "registries" / "http" / "transport.py"]


@pytest.mark.parametrize("path", WORKER, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_program_needs_no_tests(path: Path) -> None:
    assert not any(name.partition(".")[0] == "tests" for name in imports(path))


# Each module `worker/x/y.py` that holds a function has its tests in `tests/x/test_y.py` or, where those are many, in
# `tests/x/y/test_<topic>.py`; a package's own functions (`__init__.py`) in `test_init.py`. The tests of `policies/` are
# in `tests/policies/`.
TESTS = ROOT / "tests"
NO_MIRROR = {"bench", "data", "demo", "deploy", "support", "system"}
WHOLE = {"test_architecture.py", "test_docs.py"}  # the whole tree, the pages


def mirrored(path: Path) -> Path:
    """Where below `tests` a module is looked for, without its ending."""
    return path.relative_to(ROOT / "worker" if path.is_relative_to(ROOT / "worker") else ROOT).with_suffix("")


MODULES = {mirrored(path): path for path in (*POLICIES, *WORKER) if "migrations" not in path.parts}


def homes(module: Path) -> list[Path]:
    """The file and the package that a module's tests may be in: those that exist."""
    file = TESTS / module.parent / f"test_{module.name.strip('_')}.py"
    package = TESTS / module
    return [*([file] if file.exists() else []), *([package] if any(package.glob("test_*.py")) else [])]


def test_each_module_that_does_something_has_its_own_tests() -> None:
    functions = ast.FunctionDef | ast.AsyncFunctionDef
    does_something = {
        module
        for module, path in MODULES.items()
        if any(isinstance(node, functions) for node in ast.walk(ast.parse(path.read_text())))
    }
    assert [module for module in sorted(does_something) if not homes(module)] == []


def test_the_tests_of_a_module_are_in_a_file_or_in_a_package() -> None:
    assert [module for module in MODULES if len(homes(module)) > 1] == []


def test_each_file_of_tests_is_named_after_a_module() -> None:
    named = {home for module in MODULES for home in homes(module)}
    files = {path for path in TESTS.rglob("test_*.py") if path.relative_to(TESTS).parts[0] not in NO_MIRROR | WHOLE}
    assert [path for path in sorted(files) if not named & {path, path.parent}] == []
