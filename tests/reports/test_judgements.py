"""The section of the judges: which judgement is which, what each says, why one says nothing; never markup."""

from __future__ import annotations

import re
from typing import Any

import pytest

from analysis.document import Results
from analysis.results.model import Failure, Judgement
from reports.page import render_html
from tests.reports.page_text import Page
from tests.reports.sample_results import changed, make_results

EVIL = "<img src=x onerror=alert(1)> & \u202e[red]"


def judgement(results: Results, **changes: Any) -> Judgement:
    given: dict[str, Any] = {
        "eval_id": "abc/def0",
        "judge": "rubric",
        "lc_method": "no_difficulty",
        "declared": True,
        "counts": {"done": 23, "failed": 1},
        "means": {
            "dpo": {"length_controlled_win_rate": 51.26, "win_rate": 50.5},
            "adadpo": {"length_controlled_win_rate": 52.75, "win_rate": 51.25},
        },
        "comparison": results.comparisons[0],
        "judging": {"pairs": 100, "missing": 0},
    }
    return Judgement(**(given | changes))


def section(results: Results) -> list[str]:
    """The lines of the section."""
    found = re.search(r'<section aria-labelledby="judges">.*?</section>', render_html(results), re.DOTALL)
    assert found
    return Page(found[0]).lines


def row(lines: list[str], heading: str, columns: int) -> list[str]:
    at = lines.index(heading)
    return lines[at + 1 : at + 1 + columns]


def with_judgements(*judgements: dict[str, Any]) -> Results:
    results = make_results()
    return changed(results, {"judgements": [judgement(results, **each) for each in judgements]})


AGAIN = {
    "eval_id": "abc/123f",
    "judge": "alpaca_eval served",
    "lc_method": "joint_difficulty",
    "declared": False,
}


def test_one_judgement_without_notes_needs_no_section() -> None:
    """The rubric alone, and files older than judging again."""
    for results in (make_results(), with_judgements({})):
        assert "Judges and integrity" not in Page(render_html(results)).lines


def test_which_is_which() -> None:
    """A column for each judgement, by role, folder, method, runs and numbers, against the values given."""
    means = {"dpo": {"length_controlled_win_rate": 40.04, "win_rate": 39.5}, "adadpo": {}}
    counts = {"done": 2, "quarantined": 1, "waiting": 21}
    lines = section(with_judgements({}, AGAIN | {"means": means, "counts": counts, "comparison": None}))
    assert [line for line in row(lines, "Judgement", 4) if line.isalpha() or " " in line] == [
        "declared",
        "not declared",
    ]
    assert row(lines, "Folder in a run's eval/*", 2) == ["def0", "123f"]
    assert row(lines, "LC method", 2) == ["no_difficulty", "joint_difficulty"]
    assert row(lines, "Runs that count", 2) == ["23 of 24 (1 failed)", "2 of 24 (1 quarantined, 21 waiting)"]
    text = " ".join(lines)
    assert "LC win rate: dpo 51.26 40.04" in text
    assert "LC win rate: adadpo 52.75 –" in text
    assert "Win rate: dpo 50.50 39.50" in text
    assert "no run that counts has a value" in text
    assert "no setting has a complete pair of runs" in text


def test_how_judging_went() -> None:
    """Figures of one judge, a dash with a reason for the other; no row that nobody has, no row of zeros missing."""
    told = {"pairs": 64, "missing": 3, "requests": 1234, "dollars": 0.456, "position_bias_estimate": -0.0123}
    lines = section(with_judgements({}, AGAIN | {"judging": told}))
    assert row(lines, "Requests", 3) == ["–", "(no figure of this judge)", "1234"]
    assert row(lines, "Dollars charged to the sweep by then", 3)[-1] == "0.46"
    assert row(lines, "Position bias: preference for the answer shown first, minus 0.5", 3)[-1] == "−0.012"
    assert row(lines, "Pairs without a preference", 2) == ["0", "3"]
    assert "Judge's own noise: SD of a preference judged again" not in lines
    assert "Pairs without a preference" not in " ".join(section(with_judgements({}, AGAIN)))


def test_why_a_judge_says_nothing() -> None:
    """LC that cannot be computed has its reason; runs that do not count have theirs."""
    failure = Failure(
        run_id="0123",
        arm="dpo",
        setting="beta=0.1",
        seed=0,
        state="quarantined",
        reason="quarantined: 2 are empty",
    )
    none = {
        "means": {},
        "comparison": None,
        "reason": "all length differences are 3 characters",
        "failures": [failure],
    }
    text = " ".join(section(with_judgements({}, AGAIN | none)))
    assert "–: all length differences are 3 characters" in text
    assert "Runs without a result of another judge: 1" in text
    assert "quarantined: 2 are empty" in text


def test_a_metric_of_training_is_no_judge_s() -> None:
    """Declared on a metric that no judge touches: no difference by judge."""
    results = with_judgements({}, AGAIN)
    declared = results.declared.model_copy(update={"primary": "reward_margin"})
    lines = section(results.model_copy(update={"declared": declared}))
    assert not any(line.startswith("Difference") for line in lines)


@pytest.mark.parametrize("where", ["judge", "lc_method", "reason", "eval_id"])
def test_names_are_never_markup(where: str) -> None:
    """Hostile text is shown as text, hidden characters as code points."""
    html = render_html(with_judgements({}, AGAIN | {where: EVIL, "means": {}}))
    assert "<img" not in html
    assert "\u202e" not in html
    assert "&lt;img src=x onerror=alert(1)&gt;" in html
