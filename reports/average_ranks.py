"""Three arms or more at a glance: average ranks; exploratory."""

from __future__ import annotations

from analysis.results import Results
from reports.formats import number, p_value
from reports.lookup import arm_name, metric_named
from reports.shown import Column, Missing, Shown, Table
from reports.text import plural


def ranks_of(results: Results) -> Table | Missing | None:
    """A row for each arm, the best first; None for fewer than three arms and for older files."""
    found = results.average_ranks
    if found is None:
        return None
    if found.reason is not None or found.p_value is None or found.critical_difference is None:
        return Missing(f"Not defined: {found.reason or 'no reason was recorded'}.")
    metric = metric_named(results, results.declared.primary)
    best = min(found.ranks.values())
    rows: list[list[Shown]] = [
        [
            arm_name(results, arm),
            number(rank, 2),
            "best" if rank == best else number(rank - best, 2),
            "–" if rank == best else "yes" if rank - best >= found.critical_difference else "no",
        ]
        for arm, rank in sorted(found.ranks.items(), key=lambda each: each[1])
    ]
    f_test = "" if found.f_p_value is None else f"; Iman–Davenport {p_value(found.f_p_value, found.alpha)}"
    note = (
        f"Exploratory. Rank 1 is the best arm at a setting, over {plural(found.settings, 'setting')}"
        f"{f' ({found.left_out} left out: an arm has no value there)' if found.left_out else ''}. Friedman "
        f"{p_value(found.p_value, found.alpha)}{f_test}. Critical difference at {found.alpha:g} (Nemenyi): "
        f"{found.critical_difference:.2f}; arms whose ranks differ by less are not told apart. Settings share their "
        "seeds and prompts, which no rank shows."
    )
    columns = [Column("Arm"), Column("Average rank", numeric=True)]
    columns += [Column("Behind the best", numeric=True), Column("Beyond the critical difference")]
    return Table(f"{metric.label}: arms ranked at every setting", columns, rows, note)
