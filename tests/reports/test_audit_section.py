"""The report's section on the gradient audit, and a model's page, against the audit they are made of."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

from analysis.audit import findings, quartiles, ratio_text
from analysis.document import Results
from analysis.results.gradient_audit import Audit
from reports.figures.gradient_audit import distribution_figure
from reports.files import load_results
from reports.page import render_audit, render_html, write_audit_page
from reports.sections.gradient_audit import audit_of
from tests.reports.audit_examples import make_audit, make_point
from tests.reports.page_text import Page
from tests.reports.sample_results import changed, make_results
from tests.reports.test_report_page import sections


def with_audit(results: Results, audit: Audit | None) -> Results:
    return changed(results, {"audit": audit})


def test_findings_and_numbers_are_in_the_report(results: Results) -> None:
    """Against every sentence of the audit, each ratio's summary, the cost and what is missing."""
    audit = make_audit()
    text = sections(render_html(results))["Gradient audit"]
    for sentence in (*audit.findings, *audit.missing):
        assert sentence in text
    for stage in (stage for point in audit.points[3::4] for stage in point.stages if stage.trained):
        for found in stage.summary.values():
            assert found.median is not None
            assert f"\n{ratio_text(found.median)}\n" in text
    for words in (
        "2.14 evaluation passes",
        "seed 0",
        "6 pairs",
        "✓ held",
        "✕ did not hold",
        "5 min 41 s",
        "1 row",
    ):
        assert words in text


def test_no_audit_is_said(results: Results) -> None:
    text = sections(render_html(with_audit(results, None)))["Gradient audit"]
    assert text == "Not made yet; “adadpo audit dpo-vs-adadpo” makes it."


def test_results_without_an_audit_are_read(results: Results, tmp_path: Path) -> None:
    """A results.json without the block of the audit."""
    import json

    content = results.model_dump(mode="json")
    content["blocks"] = [each for each in content["blocks"] if each["kind"] != "audit"]
    (tmp_path / "results.json").write_text(json.dumps(content))
    assert load_results(tmp_path / "results.json") == with_audit(results, None)


def test_an_audit_survives_its_file() -> None:
    """Written and read, nothing changes: every number is finite or null."""
    audit = make_audit()
    assert Audit.model_validate_json(audit.model_dump_json()) == audit
    assert "NaN" not in audit.model_dump_json()


def test_distributions_have_a_row_per_ratio_and_stage() -> None:
    """Boxes, medians and dots against the stages; marks at the edge for what is beyond the axis."""
    point = make_point("adadpo", 60, 60)
    drawn = distribution_figure(point, 1, "figure-x", "after step 60")
    html = str(drawn.picture)
    assert html.count('class="box"') == html.count('class="interval"') == 5 * 4
    assert html.count('class="row strong"') == 5
    assert html.count('class="muted strong"') == 5  # the trained stage, in each
    assert html.count('class="estimate"') == 2 * 5  # the sequence ratio leaves on both sides
    assert any("outside the axis" in note for note in drawn.notes)
    logits = next(stage for stage in point.stages if stage.stage == "per_token").log_ratios["logits"]
    assert html.count("h0") > len(logits)
    assert "nan" not in html


def test_medians_are_drawn_where_they_belong() -> None:
    """The bar of a balanced stage stands on the dotted line at 1; below 1 is left of it."""
    html = str(distribution_figure(make_point("adadpo", 60, 60), 1, "f", "").picture)
    one = re.search(r'<line x1="([\d.]+)"[^>]* class="reference"', html)
    bars = [float(x) for x in re.findall(r'<line x1="([\d.]+)"[^>]* class="interval"', html)]
    assert one
    assert bars[3] == pytest.approx(float(one[1]), abs=0.1)
    assert bars[0] < float(one[1])


def test_training_figures_have_a_line_and_a_band_per_arm(results: Results) -> None:
    section = audit_of(results)
    assert section
    assert [figure.title[0] for figure in section.training] == ["1", "2", "2", "3", "4"]
    for figure in section.training:
        html = str(figure.picture)
        assert html.count('class="between arm-0"') == html.count('class="between arm-1"') == 1
        assert html.count("<circle") == 8
        assert html.count('class="reference"') == 1


def test_without_snapshots_the_training_log_is_drawn(results: Results) -> None:
    """Start and end only: what training logged of ratio 1, for the audited setting and seed."""
    section = audit_of(with_audit(results, make_audit(steps=(0, 60))))
    assert section
    assert section.training[-1].title == "1 · Probability space, as logged"
    assert str(section.training[-1].picture).count("<circle") == 2 * 8
    assert "train.snapshot_steps" in section.training[-1].notes[0]
    other = make_audit(steps=(0, 60)).model_copy(update={"setting": "beta=9"})
    none = audit_of(with_audit(results, other))
    assert none
    assert len(none.training) == 5


def test_arms_that_are_the_same_policy_share_a_figure(results: Results) -> None:
    point = make_point("adadpo", 0, 1)
    audit = make_audit().model_copy(update={"points": [point, point.model_copy(update={"arm": "again"})]})
    section = audit_of(with_audit(results, audit))
    assert section
    assert len(section.distributions) == 1
    assert [figure.title for figure in section.training] == ["1 · Probability space, as logged"]
    assert section.course is None


def test_model_page(tmp_path: Path) -> None:
    """One page, the same for the same audit, without script or reference; what a file says is escaped."""
    audit = make_audit(steps=(0,)).model_copy(
        update={"target": "<b>m</b>", "left_out": ["<script>x</script>"]}
    )
    path = write_audit_page(audit, tmp_path / "audit.html")
    html = path.read_text(encoding="utf-8")
    assert html == render_audit(audit)
    page = Page(html)
    assert not page.named("script")
    assert not page.named("b")
    assert "<script>x</script>" in page.text
    assert "<b>m</b>" in page.text
    assert html.count("<svg") == html.count("<desc") == 1
    identities = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(identities) == len(set(identities))


def test_undefined_everywhere() -> None:
    """Ratios of no pair: dashes with a reason, no number made up, no picture that fails."""
    point = make_point("adadpo", 0, 1)
    nothing = quartiles([None, None], 0.05)
    stages = [
        stage.model_copy(
            update={
                "summary": dict.fromkeys(stage.summary, nothing),
                "log_ratios": {ratio: [None, None] for ratio in stage.log_ratios},
                "clipped_share": None,
            }
        )
        for stage in point.stages
    ]
    empty = point.model_copy(update={"stages": stages, "cosines": [], "cosine": quartiles([])})
    audit = make_audit().model_copy(update={"points": [empty], "findings": findings([empty])})
    text = Page(render_audit(audit)).text
    assert "not defined for any pair" in text
    assert "undefined for 2 pairs" in text
    assert not re.search(r"\bnan\b|\bNone\b|\binf\b", text)


def test_long_ratios_are_finite_text() -> None:
    """Ratios of a thousand nats, which no float holds."""
    audit = make_audit(steps=(0,))
    point = audit.points[0]
    stages = [
        stage.model_copy(update={"summary": {r: quartiles([-1000.0, 900.0], 0.05) for r in stage.summary}})
        for stage in point.stages
    ]
    html = render_audit(audit.model_copy(update={"points": [point.model_copy(update={"stages": stages})]}))
    assert "e−" in html
    assert math.isfinite(len(html))
    assert "inf" not in Page(html).text.replace("info", "")


def test_page_stays_small() -> None:
    """Results with the audit of 40 pairs against the same without it: at most 100 kB more."""
    results = make_results()
    whole = len(render_html(results).encode())
    assert whole - len(render_html(with_audit(results, None)).encode()) < 100_000
