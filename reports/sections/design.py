"""What was planned and how much of it is there."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.document import Results
from analysis.results.model import State
from reports.render.cells import Column, Fact, Missing, NoWrap, Shown, Table, beginning, state_tag
from reports.render.formats import arm_name, arms_in_order, setting_value
from reports.render.text import plural, shorten

_STATES: tuple[State, ...] = tuple(State)  # in the order in which they are shown
# The choices the paper's text leaves open; see the method page of the project.
_OUR_CHOICES = ("clip", "normalization", "placement")
FAILURE_REASON = 400
MOST_FAILURES = 150


@dataclass(frozen=True)
class Design:
    """Arms, axes, counts, failures."""

    sentence: str
    arms: Table
    axes: Table
    counts: list[Fact]
    gap: str
    failures: Table
    without: int  # runs that have no result


def design_of(results: Results) -> Design:
    """The design and its completeness."""
    arms, planned = arms_in_order(results), len(results.arms) * len(results.settings) * len(results.seeds)
    parts = [plural(len(results.arms), "arm"), plural(len(results.settings), "setting")]
    parts.append(plural(len(results.seeds), "seed"))
    done, known = results.counts.get(State.DONE, 0), sum(results.counts.values())
    gap = f"{plural(known, 'run')} of {planned:,} are accounted for." if known != planned else ""
    return Design(
        sentence=f"{' × '.join(parts)} = {plural(planned, 'run')}, of which {done:,} done.",
        arms=_arms(results, [arm for arm in arms if arm in results.arms]),
        axes=_axes(results),
        counts=[Fact(state, str(results.counts[state])) for state in _STATES if results.counts.get(state)],
        gap=gap,
        failures=beginning(_failures(results), MOST_FAILURES, "tables/runs.csv"),
        without=len(results.failures),
    )


def _arms(results: Results, arms: list[str]) -> Table:
    keys = list(dict.fromkeys(key for arm in arms for key in results.arms[arm]))
    rows: list[list[Shown]] = []
    for arm in arms:
        chosen = results.arms[arm]
        values: list[Shown] = [
            setting_value(chosen[key]) if key in chosen else Missing("not a hyperparameter of this arm")
            for key in keys
        ]
        rows.append([arm_name(results, arm), *values])
    ours = [key for key in _OUR_CHOICES if key in keys]
    note = f"{', '.join(ours)}: this project's own documented choices, not the paper's." if ours else ""
    return Table("Arms and their method", [Column("Arm"), *(Column(key) for key in keys)], rows, note)


def _axes(results: Results) -> Table:
    rows: list[list[Shown]] = [
        [axis, ", ".join(setting_value(value) for value in values)] for axis, values in results.axes.items()
    ]
    rows.append(["seed", ", ".join(map(str, results.seeds)) or Missing("no seeds")])
    return Table("Grid, the same for every arm", [Column("Axis"), Column("Values")], rows)


def _failures(results: Results) -> Table:
    rows: list[list[Shown]] = [
        [
            NoWrap(each.run_id),
            arm_name(results, each.arm),
            NoWrap(each.setting),
            str(each.seed),
            state_tag(each.state),
            shorten(each.reason, FAILURE_REASON),
        ]
        for each in results.failures
    ]
    titles = ["Run", "Arm", "Setting"]
    columns = [*map(Column, titles), Column("Seed", numeric=True), Column("State"), Column("Reason")]
    return Table("What is known of each", columns, rows)
