"""No public function takes more than six arguments that are not options."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from typing import Any

import analysis

MOST = 6


def functions() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Public functions and methods of the package, by name; a value's constructor lists its fields."""
    for found in pkgutil.walk_packages(analysis.__path__, "analysis."):
        module = importlib.import_module(found.name)
        for name, each in vars(module).items():
            if name.startswith("_") or getattr(each, "__module__", None) != module.__name__:
                continue
            if inspect.isfunction(each):
                yield f"{module.__name__}.{name}", each
            elif inspect.isclass(each):
                for method, of in vars(each).items():
                    if inspect.isfunction(of) and not method.startswith("_"):
                        yield f"{module.__name__}.{name}.{method}", of


def required(function: Callable[..., Any]) -> int:
    """Arguments that are no options: an option is keyword-only and has a default."""
    return sum(
        each.name != "self" and not (each.kind is each.KEYWORD_ONLY and each.default is not each.empty)
        for each in inspect.signature(function).parameters.values()
        if each.kind is not each.VAR_KEYWORD
    )


def test_no_function_takes_more_than_six() -> None:
    """Every public function of the package, and a check that the count sees what it should."""
    found = dict(functions())
    assert "analysis.comparison.compare" in found
    assert {name: required(each) for name, each in found.items() if required(each) > MOST} == {}

    def seven(a: int, b: int, c: int, d: int, e: int, *, f: int, g: int, h: int = 0) -> None: ...

    assert required(seven) == MOST + 1
