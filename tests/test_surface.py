"""`adadpo`, the one documented import: complete, typed, light."""

from __future__ import annotations

import ast
import pkgutil
import subprocess
import sys
from pathlib import Path
from typing import assert_type

import adadpo
from adadpo import Declared, Results

ROOT = Path(__file__).parents[1]


def test_every_name_is_there_and_has_a_type() -> None:
    """The lazy names against those of the stub, and each against the object it stands for."""
    stub = ast.parse((ROOT / "adadpo" / "__init__.pyi").read_text(encoding="utf-8"))
    typed = {
        alias.asname: (node.module, alias.name)
        for node in stub.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    lazy = {
        name: (home.partition(":")[0], home.partition(":")[2] or name) for name, home in adadpo._HOME.items()
    }
    assert lazy == typed
    assert sorted(adadpo.__all__) == sorted(lazy)
    assert {*adadpo.__all__} <= {*dir(adadpo)}
    for name, (module, own) in lazy.items():
        assert getattr(adadpo, name) is getattr(sys.modules[module], own)
    # Importing a submodule sets it as an attribute of the package: a name of the same spelling would change meaning.
    assert not {module.name for module in pkgutil.iter_modules(adadpo.__path__)} & {*adadpo.__all__}


def test_import_is_light() -> None:
    """Modules loaded by `import adadpo` against those that would make every command slow."""
    heavy = ("torch", "transformers", "numpy", "pandas", "scipy", "pydantic")
    code = f"import sys, adadpo; dir(adadpo); print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def of_a_user(trainer: type[adadpo.AdaDPOTrainer]) -> None:
    """Not a test: the type checker reads it, and a name without its type fails there."""
    assert_type(adadpo.win_rate([1.0, 2.0]).win_rate, float | None)
    declared = Declared(baseline="dpo", candidate="adadpo", primary="win_rate")
    assert_type(adadpo.compare_runs([], declared=declared, metrics=[]), Results)


def test_packages_are_typed() -> None:
    """py.typed is there, so that a user's type checker reads the packages."""
    assert all((ROOT / name / "py.typed").is_file() for name in ("adadpo", "analysis", "reports", "sweeps"))
