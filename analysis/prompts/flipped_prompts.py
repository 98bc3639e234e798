"""Prompts that one arm wins and the other loses, over all pairs of runs of a comparison."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from analysis.alpaca_eval.length_control import LcData
from analysis.prompts.paired import outcome
from analysis.results.model import Declared, FlippedPrompt, FlippedPrompts, RunRow
from analysis.results.table import index_runs

MOST = 5  # prompts kept per direction
LONGEST = 4000  # characters kept of each text: what a page shows of any string at most


@dataclass(slots=True)
class _Prompt:
    """What the pairs so far say of one prompt."""

    pairs: int = 0
    total: float = 0.0  # of candidate minus baseline
    flips: dict[int, int] = field(default_factory=lambda: {1: 0, -1: 0})
    # By direction: the largest difference in it, and the setting and seed of the first pair that has it.
    shown: dict[int, tuple[float, str, int]] = field(default_factory=dict)

    @property
    def net(self) -> int:
        return self.flips[1] - self.flips[-1]

    @property
    def mean_difference(self) -> float:
        return self.total / self.pairs

    def add(self, ours: float, theirs: float, setting: str, seed: int) -> None:
        """A pair of preferences; 1 is a flip to the candidate: it wins where the baseline arm loses."""
        self.pairs += 1
        self.total += ours - theirs
        outcomes = outcome(ours), outcome(theirs)
        sign = {("win", "loss"): 1, ("loss", "win"): -1}.get(outcomes)
        if sign is None:
            return
        self.flips[sign] += 1
        distance = sign * (ours - theirs)
        if sign not in self.shown or distance > self.shown[sign][0]:
            self.shown[sign] = (distance, setting, seed)


def flipped_prompts(
    judged: Mapping[str, LcData],
    runs: Iterable[RunRow],
    annotations: Callable[[str], Iterable[Mapping[str, Any]]],
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
        judged: run id -> `lc_data` of its annotations, of the runs that count.
        runs: the tidy table.
        annotations: gives a run's AlpacaEval annotations; asked for those that are shown.
        declared: the arms.
        settings: planned, in their order.
        seeds: planned.
        most: prompts kept per direction.

    Returns:
        None where no prompt has a preference in both runs of a pair.
    """
    index = index_runs(runs)
    prompts: dict[str, _Prompt] = {}
    pairs = 0
    for setting in settings:
        for seed in seeds:
            both = [index.get((arm, setting, seed)) for arm in (declared.candidate, declared.baseline)]
            ids = [run.run_id for run in both if run is not None and run.run_id in judged]
            if len(ids) < 2:
                continue
            pairs += 1
            ours, theirs = (_preferences(judged[name]) for name in ids)
            for instruction, preference in ours.items():
                if instruction in theirs:
                    prompt = prompts.setdefault(instruction, _Prompt())
                    prompt.add(preference, theirs[instruction], setting, seed)
    if not prompts:
        return None
    ranked: dict[int, list[tuple[int, float, str]]] = {1: [], -1: []}
    for instruction, prompt in prompts.items():
        if prompt.net:
            sign = 1 if prompt.net > 0 else -1
            ranked[sign].append((sign * prompt.net, sign * prompt.mean_difference, instruction))
    chosen = {
        sign: sorted(found, key=lambda one: (-one[0], -one[1]))[:most]  # stable: then in the order of prompts
        for sign, found in ranked.items()
    }

    def flip(instruction: str, sign: int) -> FlippedPrompt:
        prompt = prompts[instruction]
        _, setting, seed = prompt.shown[sign]
        candidate, baseline = (
            next(
                row
                for row in annotations(index[arm, setting, seed].run_id)
                if row["instruction"] == instruction
            )
            for arm in (declared.candidate, declared.baseline)
        )
        return FlippedPrompt(
            instruction=instruction[:LONGEST],
            pairs=prompt.pairs,
            candidate_wins=prompt.flips[1],
            baseline_wins=prompt.flips[-1],
            mean_difference=prompt.mean_difference,
            setting=setting,
            seed=seed,
            reference_output=candidate["output_1"][:LONGEST],
            candidate_output=candidate["output_2"][:LONGEST],
            baseline_output=baseline["output_2"][:LONGEST],
            candidate_preference=candidate["preference"],
            baseline_preference=baseline["preference"],
        )

    return FlippedPrompts(
        prompts=len(prompts),
        pairs=pairs,
        n_to_candidate=len(ranked[1]),
        n_to_baseline=len(ranked[-1]),
        to_candidate=[flip(text, 1) for _, _, text in chosen[1]],
        to_baseline=[flip(text, -1) for _, _, text in chosen[-1]],
    )


def _preferences(run: LcData) -> dict[str, float]:
    """Prompt -> preference in [1, 2], where there is one."""
    return {
        text: target + 1
        for text, target in zip(run.require_instructions(), run.targets.tolist(), strict=True)
        if not math.isnan(target)
    }
