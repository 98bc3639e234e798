"""LaTeX tables that compile, and strings that print as they are."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from analysis.document import Results
from reports.files import write_report
from reports.render.cells import Column, Missing, NoWrap, Table
from reports.render.tex import escape, latex_table, with_characters
from reports.sections.methods_paragraph import methods_paragraph
from tests.analysis.analysis_examples import analyse
from tests.reports.outside_tools import needed
from tests.reports.sample_results import changed, make_results
from tests.reports.test_report_hostile import attacked_by

pytestmark = pytest.mark.latex

FULL = "β=−3 ± 1.5 × 10⁻⁶, “naïve” Łódź ß – 50% of $x_1$ & #2 {a}~b^c \\d <e> |f| 'g' \"h\" `i` [j] *k*"
ATTACKS = r"\input{/etc/passwd} \write18{touch hacked} } \end{document} {{ %& $$ ^^5c \catcode`\%=12 #1"

OTHERS = "你 \u202e \ud800 😀 --- ,, -x"


def compiled(folder: Path, source: str = "report-tables.tex", engine: str = "pdflatex") -> str:
    """The text of the document, without white space; it must compile at the first go."""
    command = [needed(engine, "texlive-latex-recommended texlive-science lmodern"), "-halt-on-error"]
    command += ["-no-shell-escape", "-interaction=nonstopmode", source]
    done = subprocess.run(command, cwd=folder, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout.decode("latin-1")[-3000:]
    pdf = str(Path(source).with_suffix(".pdf"))
    command = [needed("pdftotext", "poppler-utils"), "-raw", pdf, "-"]
    return squeezed(
        subprocess.run(command, cwd=folder, capture_output=True, check=True).stdout.decode("utf-8")
    )


def squeezed(text: str) -> str:
    """Without white space and breaks at hyphens; quotes and ligatures as one types them."""
    for there, here in (("’", "'"), ("‘", "`"), ("”", '"'), ("“", '"'), ("ﬁ", "fi"), ("ﬀ", "ff"), ("µ", "μ")):
        text = text.replace(there, here)
    return re.sub(r"\s", "", text)


@pytest.fixture(scope="module")
def analysed() -> Results:
    made = make_results()
    found = analyse(
        runs=made.runs,
        declared=made.declared,
        metrics=made.metrics,
        settings=made.settings,
        seeds=made.seeds,
        arms=list(made.arms),
    )
    return changed(made, {"comparisons": list(found.comparisons), "cells": list(found.cells)})


def test_the_document_compiles_and_shows_every_number(analysed: Results, tmp_path: Path) -> None:
    """Checks the compiled tables: means, SDs, estimate, interval and p of the results, and the methods paragraph."""
    write_report(analysed, tmp_path)
    text = compiled(tmp_path / "tables")
    for cell in analysed.cells:
        if cell.metric == analysed.declared.primary and cell.mean is not None and cell.sd is not None:
            assert f"{cell.mean:.2f}±{cell.sd:.2f}({cell.n})" in text
    found = analysed.comparisons[0]
    assert found.estimate is not None
    assert found.estimate.low is not None
    assert found.estimate.high is not None
    assert f"{found.estimate.estimate:+.2f}[{found.estimate.low:+.2f},{found.estimate.high:+.2f}]" in text
    assert "Signed-rankoversettings,zerosranked,thenleftout(Pratt)" in text
    assert "5×10−6" in text
    assert "SDneedsatleast2seeds" in text
    for sentence in methods_paragraph(analysed).split(". "):
        assert squeezed(sentence) in text


def test_tables_are_booktabs_and_siunitx(results: Results, tmp_path: Path) -> None:
    """Checks the source: rules of booktabs, S columns, minus signs, undefined as a dash with a note."""
    write_report(results, tmp_path)
    source = (tmp_path / "tables" / "cells-others.tex").read_text(encoding="ascii")
    assert source.count(r"\toprule") == source.count(r"\bottomrule") == 4
    assert r"S[retain-explicit-plus,table-format=+1.3]" in source
    assert r"{--\textsuperscript{a}}" in source
    assert r"\textsuperscript{a}~SD needs at least 2 seeds." in source
    assert " & -0.2" in source
    assert "−" not in source
    document = (tmp_path / "tables" / "report-tables.tex").read_text(encoding="ascii")
    inputs = re.findall(r"\\input\{([\w-]+)\}", document)
    written = {path.stem for path in (tmp_path / "tables").glob("*.tex")}
    assert set(inputs) == written - {"report-tables"}
    labels = re.findall(
        r"\\label\{(.*?)\}", "".join(p.read_text() for p in (tmp_path / "tables").glob("*.tex"))
    )
    assert len(labels) == len(set(labels)) >= 7


def test_every_string_prints_as_it_is(tmp_path: Path) -> None:
    """Checks escaped strings, compiled, against themselves: signs, Greek, accents, and code points of the rest."""
    (tmp_path / "a.tex").write_text(
        "\\documentclass{article}\\usepackage[T1]{fontenc}\\usepackage{lmodern}\\begin{document}\n"
        + with_characters(f"{escape(FULL)}\\par {escape(ATTACKS)}\\par {escape(OTHERS)}")
        + "\n\\end{document}\n",
        encoding="ascii",
    )
    text = compiled(tmp_path, "a.tex")
    plain = FULL.replace("⁻⁶", "−6").replace("ﬁ", "fi")
    assert squeezed(plain) in text
    assert squeezed(ATTACKS) in text
    assert "⟨U+4F60⟩⟨U+202E⟩⟨U+D800⟩⟨U+1F600⟩---,,-x" in text
    assert not (tmp_path / "hacked").exists()


def test_hostile_results_compile(tmp_path: Path) -> None:
    """Checks results whose every string is an attack, some a megabyte long: they compile and show the words."""
    small = make_results(2, (0, 1), 2)
    nasty = attacked_by(small, lambda text: f"{ATTACKS} {text} \u202e\ud800你 {'x' * 5000}")
    made = (
        small.evaluation
        and nasty.evaluation
        and nasty.evaluation.model_copy(update={"model": "y" * 1_000_000})
    )
    nasty = changed(nasty, {"verdict": f"{nasty.verdict} {'x' * 1_000_000}", "evaluation": made})
    write_report(nasty, tmp_path)
    assert sum(path.stat().st_size for path in (tmp_path / "tables").glob("*.tex")) < 2_000_000
    text = compiled(tmp_path / "tables")
    assert squeezed(r"\input{/etc/passwd} \write18{touch hacked} } \end{document}") in text
    assert "root:x:0" not in text
    assert not list(tmp_path.rglob("hacked"))


def test_letters_of_other_scripts_with_unicode_engines(results: Results, tmp_path: Path) -> None:
    """Checks the source for engines that know Unicode: the character itself, by its decimal number."""
    source = with_characters(escape("你"))
    assert r"\adadpocharacter{20320}{4F60}" in source
    assert r"\iffontchar\font#1 \char#1 \else" in source
    assert source.isascii()


def test_many_arms_stand_below_one_another(tmp_path: Path) -> None:
    """Checks a table of five columns of mean ± SD: one row for each setting and column, the values unchanged."""
    paired = ("1.50", " ± ", "0.25", " (2)")
    table = Table(
        "c",
        [Column("Setting"), *(Column(f"arm {at}", True) for at in range(5))],
        [[NoWrap("s"), *[paired] * 5]],
    )
    source = latex_table(table, "x")
    assert source.count("1.50 & 0.25 & (2)") == 5
    assert [f"arm {at} & 1.50" in source for at in range(5)] == [True] * 5


def test_a_long_table_breaks_over_pages(tmp_path: Path) -> None:
    """Checks 200 rows, compiled: the first and the last are there, the head on every page."""
    rows = [[NoWrap(f"row{at}"), Missing("why not") if at % 2 else f"{at}.5"] for at in range(200)]
    table = Table("Long", [Column("Name"), Column("Value", True)], rows)
    preamble = "\\documentclass{article}\\usepackage{booktabs,siunitx,longtable}\\begin{document}\n"
    (tmp_path / "a.tex").write_text(
        preamble + latex_table(table, "l") + "\\end{document}\n", encoding="ascii"
    )
    text = compiled(tmp_path, "a.tex")
    assert text.count("NameValue") >= 4
    assert all(f"row{at}" in text for at in range(200))
    assert "whynot." in text


def test_nothing_has_run_yet(tmp_path: Path) -> None:
    """Checks the document of a sweep without any run: it compiles, and says that there is no value."""
    write_report(make_results(missing=True), tmp_path)
    assert "norunhasavalue" in compiled(tmp_path / "tables")
