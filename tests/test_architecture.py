"""The house rules that a machine can check."""

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture_tree import in_page, tree

ROOT = Path(__file__).parent.parent
LONGEST = {  # modules with one long idea each
    "pipeline.models.clip": 420,  # one model, however it comes
    "pipeline.optimization.mappers": 420,  # one training loop
    "pipeline.checkpoints.safe_unpickler": 410,  # one pickle machine
}
PACKAGES = ("flows", "kernels", "pipeline", "storage")
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for package in PACKAGES
    for path in (ROOT / package).rglob("*.py")
)


def test_imports_follow_the_layers():
    result = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("name", MODULES)
def test_public_surface_is_documented_and_typed(name: str):
    module = importlib.import_module(name)
    assert module.__doc__, f"{name} needs a docstring"
    tree = ast.parse(inspect.getsource(module))
    missing = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        if isinstance(node, ast.FunctionDef) and _is_nested(tree, node):
            continue
        if not ast.get_docstring(node):
            missing.append(f"{node.name}: docstring")
        if isinstance(node, ast.FunctionDef):
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            untyped = [a.arg for a in arguments if a.annotation is None and a.arg not in ("self", "cls")]
            missing += [f"{node.name}({a})" for a in untyped]
            if node.returns is None:
                missing.append(f"{node.name}: return type")
    assert not missing, missing


def _is_nested(tree: ast.AST, function: ast.FunctionDef) -> bool:
    return any(
        function in ast.walk(outer) and outer is not function
        for outer in ast.walk(tree)
        if isinstance(outer, ast.FunctionDef)
    )


def test_nothing_unpickles_code():
    offenders = []
    own = ROOT / "flows" / "groups.py"  # what it pickled itself, to see whether it can cross to another process
    for package in PACKAGES:
        for path in {*(ROOT / package).rglob("*.py")} - {own}:
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import | ast.ImportFrom):
                    names = [a.name for a in node.names] + [getattr(node, "module", None) or ""]
                    offenders += [str(path) for n in names if n.split(".")[0] in ("pickle", "dill", "cloudpickle")]
    assert not offenders


def test_the_tree_of_the_architecture_page_is_that_of_the_code():
    assert in_page() == tree(), "run `python -m tests.architecture_tree`"


@pytest.mark.parametrize("name", MODULES)
def test_no_module_is_over_400_lines(name: str):
    path = ROOT / (name.replace(".", "/") + ".py")
    path = path if path.exists() else ROOT / name.replace(".", "/") / "__init__.py"
    lines = path.read_text().count("\n")
    assert lines <= LONGEST.get(name, 400), f"{name} has {lines} lines: another idea, another module"
