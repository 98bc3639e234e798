"""The description of `results.json`: a JSON schema, and a page that says every field in words.

The words are the comments beside the fields; what means the same everywhere is said here, once.
`python -m analysis.results.schema docs` writes both files.
"""

from __future__ import annotations

import ast
import inspect
import io
import json
import re
import sys
import tokenize
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

from analysis.results.model import SCHEMA_VERSION, Results

# What these names mean wherever they stand, unless a comment beside the field says more.
COMMON = {
    "action": "what would be added",
    "adjusted": "adjusted p-value",
    "alpha": "level of the test",
    "alternative": "direction that the test looks for",
    "arm": "name of the arm",
    "arms": "arm -> its method's hyperparameters",
    "audit": "the gradient audit",
    "audit_version": "version of the audit's format",
    "axis": "name of the axis",
    "backward_tokens": "tokens of backward passes",
    "baseline": "of the baseline: its name, or the same quantity",
    "baseline_output": "the baseline's answer",
    "baseline_preference": "the judge's preference for the baseline arm's answer, in [1, 2]",
    "baseline_wins": "pairs of which the baseline arm wins and the candidate loses",
    "bayesian": "posterior probabilities of the signed-rank test",
    "bests": "both arms' best settings",
    "by_setting": "per setting",
    "candidate": "of the candidate: its name, or the same quantity",
    "candidate_output": "the candidate's answer",
    "cells": "one arm at one setting on one metric, each",
    "claims": "the claims",
    "comparison": "the comparison itself",
    "components": "variance components",
    "confidence": "nominal level of the interval",
    "corrected": "corrected for having been selected",
    "cosine": "distribution of the cosines",
    "cost": "what it costs",
    "counts": "state -> number of runs",
    "curves": "what was logged during training",
    "data": "the training data, or the pairs",
    "declared": "what was declared",
    "decoding": "how answers were generated",
    "degrees_of_freedom": "Satterthwaite's",
    "device": "where it ran",
    "draws": "number of random draws",
    "equivalence": "two one-sided tests within the margin",
    "estimate": "point estimate, with its interval where it is one",
    "eval_id": "identity of the evaluation",
    "evaluation": "how win rates were made",
    "f_p_value": "p-value of the F statistic",
    "failures": "runs that have no result, and why",
    "flips": "prompts that one arm wins and the other loses, or numbers of sign patterns",
    "flips_reason": "why there are no flipped prompts",
    "forward_tokens": "tokens of forward passes",
    "high": "upper end of the interval",
    "improvement": "how often a run of the candidate is the better one",
    "instruction": "the prompt",
    "interval": "estimate with its interval",
    "judge": "name of the judge",
    "label": "name for people",
    "lc_method": "formula of the length-controlled win rate",
    "lc_sensitivity": "the comparison under the other formulas of length control",
    "left_out_seeds": "positions of seeds with a gap",
    "lost": "settings that the candidate loses",
    "low": "lower end of the interval",
    "max_length": "tokens of a pair at most",
    "mean": "arithmetic mean",
    "measured_for": "model and data here",
    "median": "median",
    "method": "how it was computed",
    "metric": "name of the metric",
    "metrics": "the metrics, or metric -> value",
    "missing": "the comparison under each rule for missing runs",
    "model": "the model",
    "n": "number of values or units",
    "n_prompts": "number of prompts",
    "n_to_baseline": "prompts with more flips to the baseline arm",
    "naive": "without correction for having been selected",
    "name": "name",
    "next_steps": "what to add, the cheapest first",
    "next_steps_reason": "why there are no next steps",
    "only_baseline": "pairs of which the baseline's run alone failed",
    "only_candidate": "pairs of which the candidate's run alone failed",
    "output": "the trained policy's answer",
    "over_settings": "the test over settings",
    "over_settings_unit": "its unit",
    "p_above": "that it is above",
    "p_below": "probability that the difference is below",
    "p_value": "p-value",
    "p_within": "that it is within",
    "pairs": "number of pairs, or values of each pair",
    "paper_claims": "the AdaDPO paper's claims beside the same quantities here",
    "point": "the point",
    "points": "the audited policies",
    "pooled": "all pairs as if independent: descriptive",
    "population": "what the p-value speaks of",
    "power": "probability to reject",
    "precision": "of the computation",
    "prior_strength": "weight of the prior's pseudo-observation",
    "prompt": "of the prompts",
    "prompt_level": "differences with their intervals over prompts",
    "prompt_level_reason": "why there are no intervals over prompts",
    "prompts": "the prompts, or their number",
    "provenance": "where the results come from, in words",
    "published_for": "model and data there",
    "rank_biserial": "matched rank-biserial correlation, from -1 to 1",
    "reason": "why something is null",
    "reduction_per_cost": "reduction of the standard error for one unit of cost",
    "reference": "of the reference",
    "rejected": "sign patterns that the test rejects",
    "replicates": "draws of the bootstrap",
    "rule": "the rule",
    "run_id": "identity of the run",
    "runs": "the runs",
    "samples": "answers to look at",
    "schema_version": "version of this format",
    "seed": "random seed of the run",
    "seeds": "seeds, or their number",
    "self_check": "false positives of the test within these data",
    "setting": "label of the setting: one combination of hyperparameters",
    "settings": "settings, or their number",
    "settings_won": "signs of the settings' differences",
    "shared": "what the units share",
    "sign_p_value": "exact two-sided sign test over settings",
    "simulations": "simulated sweeps",
    "source": "where it is published, or the file",
    "stage": "name of the stage",
    "stages": "the stages of stabilisation",
    "standard_error": "standard error",
    "state": "state of the run",
    "step": "optimiser step",
    "steps": "optimiser steps of the values, or next steps",
    "sweep": "name of the sweep or of the table",
    "t": "the statistic",
    "test": "the signed-rank test",
    "testable": "whether any outcome could reach alpha",
    "tied": "settings without a difference",
    "to_baseline": "the first of those",
    "unequal": "whether the arms tried different numbers of settings",
    "unit": "unit of the values",
    "units": "number of units",
    "value": "the value; null: there is none",
    "values": "the values",
    "verdict": "one sentence: estimate, interval, p, unit, n",
    "verdict_kind": "the verdict in one word",
    "versions": "package -> version",
    "w_minus": "rank sum of the differences below 0",
    "w_plus": "rank sum of the differences above 0",
    "wall_seconds": "wall time of training and generation, in seconds",
    "warning": "what must be kept in mind",
    "won": "settings that the candidate wins",
    "zero_method": "treatment of differences that are 0",
    "zeros": "differences that are 0",
}
HEAD = f"""# results.json

`adadpo launch`, `adadpo report` and `adadpo compare runs.csv -o FOLDER` write it beside the report, which shows nothing
that is not in it. This page and [results.schema.json](results.schema.json), the same as a JSON schema, are made from
the code by `python -m analysis.results.schema docs`.

- Schema version {SCHEMA_VERSION} (`schema_version`). A field that is new has a default, so that older files of this
  version are read; a file of another version is refused with a message, and `adadpo report` makes it anew.
- null is undefined, never 0; a reason stands beside it. NaN and infinities do not occur.
- Win rates and their differences are in percentage points, shares in [0, 1] unless `unit` says %, times in seconds.
- Differences are candidate minus baseline. Values are not rounded.
- Text from models, data and judges is as it was: untrusted.
"""


def results_schema() -> str:
    """The JSON schema of `Results`, as text."""
    return json.dumps(Results.model_json_schema(), indent=1, sort_keys=True) + "\n"


def results_page() -> str:
    """The page: a table of fields for each kind of value, `Results` first."""
    parts = [HEAD]
    for model in models_of(Results):
        words = described(model)
        parts.append(f"## {model.__name__}\n\n{' '.join((model.__doc__ or '').split())}\n")
        rows = [
            f"| `{name}` | {_type(field.annotation)} | {words[name]} |"
            for name, field in model.model_fields.items()
        ]
        parts.append("\n".join(["| field | type | what it is |", "|---|---|---|", *rows]) + "\n")
    return "\n".join(parts)


def models_of(model: type[BaseModel]) -> list[type[BaseModel]]:
    """A model and all that it is made of, each once, in the order in which a reader meets them."""
    found = [model]
    for each in found:
        for field in each.model_fields.values():
            found += [inner for inner in _models_in(field.annotation) if inner not in found]
    return found


def described(model: type[BaseModel]) -> dict[str, str]:
    """Field -> the comment beside or behind it, else what the name means everywhere; "" where neither says."""
    source = inspect.getsource(model)
    comments: dict[int, str] = {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            comments[token.start[0]] = token.string.lstrip("# ").strip()
    (definition,) = ast.parse(source).body
    assert isinstance(definition, ast.ClassDef)
    found = {}
    for statement in definition.body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            lines = range(statement.lineno, (statement.end_lineno or statement.lineno) + 1)
            said = " ".join(comments[line] for line in lines if line in comments)
            common = COMMON.get(statement.target.id, "")
            if common and said.startswith(("None:", "empty:")):  # when it is not there, but not what it is
                said = f"{common}; {said}"
            found[statement.target.id] = re.sub(r"\bNone\b", "null", said or common).replace("|", "\\|")
    return found


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    found = []
    for each in get_args(annotation):
        found += _models_in(each)
    return found


def _type(annotation: Any) -> str:
    """A field's type as a reader of JSON knows it."""
    text = (
        annotation.__name__ if isinstance(annotation, type) and not get_args(annotation) else str(annotation)
    )
    text = re.sub(r"\b(typing|analysis\.\w+|collections\.abc)\.", "", text)
    text = re.sub(r"Optional\[(.*)\]$", r"\1 | None", text)
    text = text.replace("NoneType", "None").replace("None", "null").replace("'", '"')
    return f"`{text}`".replace("|", "\\|")


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    (folder / "results.md").write_text(results_page(), encoding="utf-8")
    (folder / "results.schema.json").write_text(results_schema(), encoding="utf-8")
