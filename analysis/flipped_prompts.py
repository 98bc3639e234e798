"""Prompts that one arm wins and the other loses, over all pairs of runs of a comparison."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from analysis.findings import FlippedPrompt, FlippedPrompts
from analysis.paired_prompts import outcome
from analysis.results import Declared, RunRow
from analysis.table import index_runs

MOST = 5  # prompts kept per direction
LONGEST = 4000  # characters kept of each text: what a page shows of any string at most


@dataclass(frozen=True, slots=True)
class _Judged:
    """One prompt in one pair of runs: the records of both arms."""

    setting: str
    seed: int
    candidate: Mapping[str, Any]
    baseline: Mapping[str, Any]

    @property
    def difference(self) -> float:
        return float(self.candidate["preference"] - self.baseline["preference"])

    @property
    def flip(self) -> int:
        """1: the candidate wins where the baseline arm loses; -1: the other way round; 0: neither."""
        ours, theirs = outcome(self.candidate["preference"]), outcome(self.baseline["preference"])
        return (ours == "win" and theirs == "loss") - (ours == "loss" and theirs == "win")


def flipped_prompts(
    annotations: Mapping[str, Iterable[Mapping[str, Any]]],
    runs: Iterable[RunRow],
    *,
    declared: Declared,
    settings: Sequence[str],
    seeds: Sequence[int],
    most: int = MOST,
) -> FlippedPrompts | None:
    """The prompts that flip most consistently: by flips one way minus the other, then by the mean difference.

    Equal ones are in the order of the prompts. The pair that is shown has the largest difference in the direction,
    the first of the plan among equal ones. They are picked for being extreme: with many prompts and few pairs, some
    flip every time by luck.

    Args:
        annotations: run id -> AlpacaEval annotations of the runs that count, preferences in [1, 2] or None.
        runs: the tidy table.
        declared: the arms.
        settings: planned, in their order.
        seeds: planned.
        most: prompts kept per direction.

    Returns:
        None where no prompt has a preference in both runs of a pair.
    """
    index = index_runs(runs)
    judged: dict[str, list[_Judged]] = {}
    pairs = 0
    for setting in settings:
        for seed in seeds:
            both = [index.get((arm, setting, seed)) for arm in (declared.candidate, declared.baseline)]
            ids = [run.run_id for run in both if run is not None and run.run_id in annotations]
            if len(ids) < 2:
                continue
            pairs += 1
            ours, theirs = (
                {row["instruction"]: row for row in annotations[name] if row["preference"] is not None}
                for name in ids
            )
            for instruction, row in ours.items():
                if instruction in theirs:
                    found = _Judged(setting, seed, row, theirs[instruction])
                    judged.setdefault(instruction, []).append(found)
    if not judged:
        return None
    ranked: dict[int, list[tuple[int, float, str]]] = {1: [], -1: []}
    for instruction, of_prompt in judged.items():
        net = sum(each.flip for each in of_prompt)
        if net:
            sign = 1 if net > 0 else -1
            ranked[sign].append((sign * net, sign * _mean_difference(of_prompt), instruction))
    chosen = {
        sign: sorted(found, key=lambda one: (-one[0], -one[1]))[:most]  # stable: then in the order of prompts
        for sign, found in ranked.items()
    }
    return FlippedPrompts(
        prompts=len(judged),
        pairs=pairs,
        n_to_candidate=len(ranked[1]),
        n_to_baseline=len(ranked[-1]),
        to_candidate=[_flip(text, judged[text], 1) for _, _, text in chosen[1]],
        to_baseline=[_flip(text, judged[text], -1) for _, _, text in chosen[-1]],
    )


def _mean_difference(of_prompt: Sequence[_Judged]) -> float:
    return sum(each.difference for each in of_prompt) / len(of_prompt)


def _flip(instruction: str, of_prompt: Sequence[_Judged], sign: int) -> FlippedPrompt:
    shown = max((each for each in of_prompt if each.flip == sign), key=lambda each: sign * each.difference)
    return FlippedPrompt(
        instruction=instruction[:LONGEST],
        pairs=len(of_prompt),
        candidate_wins=sum(each.flip > 0 for each in of_prompt),
        baseline_wins=sum(each.flip < 0 for each in of_prompt),
        mean_difference=_mean_difference(of_prompt),
        setting=shown.setting,
        seed=shown.seed,
        reference_output=shown.candidate["output_1"][:LONGEST],
        candidate_output=shown.candidate["output_2"][:LONGEST],
        baseline_output=shown.baseline["output_2"][:LONGEST],
        candidate_preference=shown.candidate["preference"],
        baseline_preference=shown.baseline["preference"],
    )
