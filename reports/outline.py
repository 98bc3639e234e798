"""The sections of the page, in order: what each is called, and the module that makes its content.

`templates/sections/NAME.html` shows what `make` returns, as `it`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.document import Results
from reports.figures import curves, forest, heatmap, scatter, variance
from reports.render.cells import Missing
from reports.sections import (
    best_of_grid,
    comparisons,
    design,
    gradient_audit,
    judgements,
    methods,
    methods_paragraph,
    power_and_next_step,
    run_table,
    sensitivity,
    verdict,
)

TEMPLATES = Path(__file__).parent / "templates" / "sections"


@dataclass(frozen=True)
class Part:
    """A section of the page."""

    name: str  # of its template and of its heading's id
    title: str
    make: Callable[[Results], object]  # Missing: the section says why in one line; None: there is no section


@dataclass(frozen=True)
class Section:
    """A section with its content; without content it says why."""

    name: str
    title: str
    content: object
    reason: str


PARTS = (
    Part("declared", "What was declared", verdict.declaration_of),
    Part("design", "Design and completeness", design.design_of),
    Part("cells", "Mean and SD per cell", run_table.cells_of),
    Part("test", "Primary test", comparisons.primary_test),
    Part("differences", "Paired differences", forest.primary_figure),
    Part("heat", "Difference over the grid", heatmap.heat_of),
    Part("groups", "By group of settings", best_of_grid.groups_of),
    Part("variance", "Variance components", variance.variance_of),
    Part("sensitivity", "Sensitivity", sensitivity.sensitivity_of),
    Part("arms", "Other arms", comparisons.other_arms_of),
    Part("ranks", "Arms by average rank", comparisons.ranks_of),
    Part("others", "Other metrics", comparisons.other_comparisons),
    Part("judges", "Judges and integrity", judgements.judgements_of),
    Part("lengths", "LC against WR and length", scatter.lengths_of),
    Part("kl", "Win rate against KL", scatter.kl_of),
    Part("curves", "Training dynamics", curves.curves_of),
    Part("audit", "Gradient audit", gradient_audit.audit_of),
    Part("best", "Best of the grid", best_of_grid.best_of),
    Part("claims", "The paper's claims", best_of_grid.claims_of),
    Part("next", "Power and next step", power_and_next_step.next_of),
    Part("flips", "Prompts that flipped", judgements.flipped_of),
    Part("samples", "Sample outputs", judgements.samples_of),
    Part("paper", "Methods, ready for a paper", methods_paragraph.paragraph_of),
    Part("methods", "How to read this page", methods.methods_of),
    Part("runs", "All runs", run_table.runs_of),
    Part("provenance", "Provenance", methods.provenance_of),
)


def sections_of(results: Results, parts: Sequence[Part] = PARTS) -> list[Section]:
    """The sections that these results have; a block whose template has the name of its kind is one, after the tests."""
    made = [(part, part.make(results)) for part in parts]
    if results.evaluation is None:  # a table of runs: what it cannot have needs no section that says so
        made = [(part, content) for part, content in made if not isinstance(content, Missing)]
    sections = [
        Section(part.name, part.title, content, content.reason if isinstance(content, Missing) else "")
        for part, content in made
        if content is not None
    ]
    of_blocks = [
        Section(block.kind, block.what, block, f"Undefined: {block.reason}." if block.reason else "")
        for block in results.blocks
        if block.kind not in {part.name for part in PARTS} and (TEMPLATES / f"{block.kind}.html").is_file()
    ]
    after = next((n for n, each in enumerate(sections) if each.name == "variance"), len(sections) - 1) + 1
    return [*sections[:after], *of_blocks, *sections[after:]]
