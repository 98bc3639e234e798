"""Settings scored under any weights of prompts: win rates refitted, averaged over each setting's runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from analysis.annotations import Records
from analysis.calibration import Calibration
from analysis.each_run import length_controlled_of_each
from analysis.length_control import LcData, fit_length_control, lc_data
from analysis.logit import Array
from analysis.prompt_bootstrap import BLOCK, PromptBootstrap, weighted_length_controlled, weighted_win_rates
from analysis.selection import Score

ScoredMetric = Literal["win_rate", "length_controlled_win_rate"]


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """Replicates of the same runs that are there already, so that they need not be fitted once more."""

    weights: Array  # of the prompts [replicates, prompts]
    bootstrap: PromptBootstrap  # of these draws


@dataclass(frozen=True, slots=True, eq=False)
class GridScores:
    """Every run's annotations, placed among the prompts of all runs."""

    prompts: int  # union over runs
    data: Mapping[str, LcData]
    places: Mapping[str, NDArray[np.intp]]  # of a run's annotations among the prompts
    calibration: Calibration | None
    drawn: Drawn | None = None
    starts: dict[str, Array | None] = field(default_factory=dict)  # what `_start` found so far

    def score(self, groups: Sequence[Sequence[str]], metric: ScoredMetric) -> Score:
        """The `Score` of settings, each the mean over its runs; NaN where one of them has no value.

        Args:
            groups: names of the runs of each setting, at least one each.
            metric: which win rate, in percent.
        """

        def score(weights: Array, wanted: NDArray[np.bool_] | None = None) -> Array:
            if wanted is not None and metric == "length_controlled_win_rate":
                return self._wanted(groups, weights, wanted)
            known = self._known(weights)
            columns = [
                np.mean([self._values(name, weights, metric, known) for name in names], axis=0)
                for names in groups
            ]
            return np.column_stack(columns)

        return score

    def _known(self, weights: Array) -> int:
        """How many of the first draws are the known ones."""
        if self.drawn is None:
            return 0
        known = min(len(weights), len(self.drawn.weights))
        return known if np.array_equal(weights[:known], self.drawn.weights[:known]) else 0

    def _values(self, name: str, weights: Array, metric: ScoredMetric, known: int) -> Array:
        boot = None if self.drawn is None else self.drawn.bootstrap
        if boot is not None and len(weights) == 1 and (weights == 1).all():
            return np.array([boot.estimates[metric][boot.places[name]]])
        counts = weights[:, self.places[name]]
        if metric == "win_rate":
            return weighted_win_rates(self.data[name], counts)
        found = np.full(len(weights), np.nan)
        if known and boot is not None:
            found[:known] = boot.drawn(metric, [boot.places[name]])[0, :known]
        start = self._start(name) if known < len(weights) else None
        if start is None:
            return found
        for at in range(known, len(weights), BLOCK):
            block = slice(at, at + BLOCK)
            found[block] = weighted_length_controlled(self.data[name], counts[block], start, self.calibration)
        return found

    def _wanted(self, groups: Sequence[Sequence[str]], weights: Array, wanted: NDArray[np.bool_]) -> Array:
        """LC where it is wanted alone: of a large grid each draw wants one setting, of a few runs."""
        found = np.full(wanted.shape, np.nan)
        places = np.argwhere(wanted)
        fits = [
            (draw, name) for draw, setting in places for name in groups[setting] if self._is_defined(name)
        ]
        values = length_controlled_of_each(
            [self.data[name] for _, name in fits],
            [weights[draw, self.places[name]] for draw, name in fits],
            self.calibration,
        )
        known = dict(zip(fits, values.tolist(), strict=True))
        for draw, setting in places:
            found[draw, setting] = np.mean([known.get((draw, name), np.nan) for name in groups[setting]])
        return found

    def _is_defined(self, name: str) -> bool:
        """Whether the run has an LC on all its prompts: else it has none on some of them, but by accident."""
        if self.drawn is not None:
            boot = self.drawn.bootstrap
            return not np.isnan(boot.estimates["length_controlled_win_rate"][boot.places[name]])
        return self._start(name) is not None

    def _start(self, name: str) -> Array | None:
        """Coefficients of the fit to all of a run's prompts, where its refits begin; None: LC is undefined."""
        if name not in self.starts:
            fit = fit_length_control(self.data[name], self.calibration)
            is_defined = fit.length_controlled_win_rate is not None
            self.starts[name] = np.array(list(fit.coefficients.values())) if is_defined else None
        return self.starts[name]


def grid_scores(
    runs: Mapping[str, Records | LcData], calibration: Calibration | None = None, drawn: Drawn | None = None
) -> GridScores:
    """Prepare runs for scoring; a run that lacks a prompt is scored on the others.

    Args:
        runs: name -> AlpacaEval annotations, or `lc_data` of them.
        calibration: as for `prompt_bootstrap`.
        drawn: replicates of these runs, of prompts in the order of the runs; None: everything is fitted.

    Raises:
        AnnotationError, CalibrationError: as `length_controlled_win_rate`.
    """
    data = {name: lc_data(run, calibration) for name, run in runs.items()}
    prompts = dict.fromkeys(text for run in data.values() for text in run.require_instructions())
    position = {text: k for k, text in enumerate(prompts)}
    return GridScores(
        prompts=len(position),
        data=data,
        places={
            name: np.array([position[text] for text in run.require_instructions()], dtype=np.intp)
            for name, run in data.items()
        },
        calibration=calibration,
        drawn=drawn if drawn is not None and drawn.bootstrap.runs == tuple(runs) else None,
    )
