"""The class names of the four packages, and the drawing of the error tree."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

import adadpo.errors as errors

ROOT = Path(__file__).parents[1]
PACKAGES = ("adadpo", "analysis", "reports", "sweeps")
# These still share a name with another class. Rename one of the two and take the name out; add none.
SHARED = {
    *(
        "Answer",
        "Cells",
        "Design",
        "Evaluation",
        "Finding",
        "Groups",
        "Judgement",
        "Judgements",
        "Options",
        "Pair",
    ),
    *("Part", "Plan", "RunTable", "Samples", "Score", "Search", "Section", "Study", "Verdict"),
}


def test_no_other_two_classes_share_a_name() -> None:
    places = defaultdict(list)
    for package in PACKAGES:
        for file in sorted((ROOT / package).rglob("*.py")):
            for node in ast.parse(file.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    places[node.name].append(str(file.relative_to(ROOT)))
    assert len(places) > 100
    assert {name: files for name, files in places.items() if len(files) > 1 and name not in SHARED} == {}


def test_every_error_is_in_the_drawing_under_its_parent() -> None:
    drawing = (errors.__doc__ or "").split("\n\n")[1].splitlines()
    drawn: dict[str, str | None] = {}
    parents: list[str] = []
    for line in drawing:
        mark = line.find("── ")
        depth = 0 if mark < 0 else (mark - 1) // 4 + 1
        name = line[0 if mark < 0 else mark + 3 :].split()[0]
        drawn[name] = parents[depth - 1] if depth else None
        parents[depth:] = [name]
    classes = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, Exception)]
    tree = {
        one.__name__: next((base.__name__ for base in one.__bases__ if base in classes), None)
        for one in classes
    }
    assert drawn == tree


def test_errors_are_defined_in_one_file() -> None:
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            for node in ast.parse(file.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.ClassDef) and node.name.endswith("Error"):
                    assert file == ROOT / "adadpo" / "errors.py", f"{node.name} is in {file}"
