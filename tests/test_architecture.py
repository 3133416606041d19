"""The policies use nothing but themselves and no clock; one module uses httpx.

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
    found = [path for path in (*POLICIES, *WORKER) if any(name.partition(".")[0] == "httpx" for name in imports(path))]
    assert found == [ROOT / "worker" / "registries" / "http" / "transport.py"]


@pytest.mark.parametrize("path", WORKER, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_program_needs_no_tests(path: Path) -> None:
    assert not any(name.partition(".")[0] == "tests" for name in imports(path))
