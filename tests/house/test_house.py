"""The house's own rules: floors, public names, sizes of modules."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PACKAGES = {
    "edge_fgr": ROOT / "runtime" / "edge_fgr",
    "edge_fgr_train": ROOT / "train" / "edge_fgr_train",
    "edge_fgr_export": ROOT / "export" / "edge_fgr_export",
    "edge_fgr_bench": ROOT / "benchmarks" / "edge_fgr_bench",
}
MODULES = [
    (f"{package}.{path.stem}".removesuffix(".__init__"), path)
    for package, folder in PACKAGES.items()
    for path in sorted(folder.glob("*.py"))
    if path.stem != "__main__"
]
by_name = pytest.mark.parametrize(("name", "path"), MODULES, ids=[name for name, _ in MODULES])


@by_name
def test_public_names_are_sorted_and_there(name, path):
    module = importlib.import_module(name)
    if not hasattr(module, "__all__"):
        assert path.name == "__init__.py"
        return
    names = module.__all__
    assert names == sorted(names, key=lambda n: (not n.isupper(), not n[0].isupper(), n))
    assert all(hasattr(module, public) for public in names)


@by_name
def test_whatever_is_not_public_is_private(name, path):
    tree = ast.parse(path.read_text())
    public = set(getattr(importlib.import_module(name), "__all__", ()))
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            allowed = node.name in public or node.name.startswith("_") or node.name == "main"
            assert allowed or name == "edge_fgr.cli", f"{node.name} is neither public nor private"


@by_name
def test_modules_stay_small(name, path):
    assert len(path.read_text().splitlines()) < 300, name


def test_only_what_opens_sessions_imports_onnxruntime():
    for path in PACKAGES["edge_fgr"].glob("*.py"):
        if path.stem not in ("doctor", "optimised", "providers", "session_options", "sessions"):
            assert "import onnxruntime" not in path.read_text()


def test_only_the_command_line_imports_typer():
    """That is cli, extras and commands. Progress is the exception: it borrows a terminal's bar."""
    for path in PACKAGES["edge_fgr"].glob("*.py"):
        if path.stem not in ("cli", "extras", "progress") and not path.stem.endswith("_command"):
            assert "import typer" not in path.read_text()


def test_floors():
    tool = Path(sys.executable).parent / "lint-imports"
    result = subprocess.run([tool], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout
