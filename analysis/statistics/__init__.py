"""One statistic, one file: each module has `BLOCK`, the model of its block, and `make`, a function of a `Study`.

A file that is put here is found: its block is part of the schema, of `results.json` and, with a template of the same
name in reports/templates/sections, of the page.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType


def modules() -> list[ModuleType]:
    """The statistics, by name."""
    return [
        import_module(f"{__name__}.{name}") for name in sorted(each.name for each in iter_modules(__path__))
    ]
