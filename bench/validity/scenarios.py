"""The simulated worlds. SDs are those of a difference of two runs; its own noise has SD 1 unless said."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Noise = Literal["normal", "t3", "skew"]
Prompts = Literal["normal", "rare", "skew"]


@dataclass(frozen=True)
class Scenario:
    """d_ks = effect + setting_k + seed_s + prompts + run_ks, candidate minus baseline, in points."""

    name: str
    settings: int = 9
    seeds: int = 3
    effect: float = 0.0
    run_sd: float = 1.0
    setting_sd: float = 0.0
    seed_sd: float = 0.0
    prompt_sd: float = 0.0  # of the mean difference, by what all runs share of the prompts
    prompts: int = 805  # each run's noise is half training, half answers, where prompts are simulated
    prompt_kind: Prompts = "normal"
    prompt_share: float = 0.04  # of "skew": prompts that differ, all one way
    prompt_data: bool = True  # False: the verdict gets the table of runs alone
    noise: Noise = "normal"
    skewed_settings: bool = False
    halves: bool = False  # metrics are rounded to halves: ties and zeros
    missing: float = 0.0  # share of runs, either arm, that failed at random
    diverged: float = 0.0  # share of the candidate's runs that diverged
    diverge_worst: bool = False  # its worst ones rather than any
    candidates: int = 1
    rope: float = 1.0
    # What a verdict in error is: "level": better or worse; "equivalence": equivalent; None: what it should say
    error: Literal["level", "equivalence"] | None = "level"
    # Why no method can hold the level, whatever it does with what it is given, and still find anything
    impossible: str = ""


NULL = Scenario("")
GRID = [
    replace(NULL, name="nothing shared"),
    *(replace(NULL, name=f"setting SD {sd:g}", setting_sd=sd) for sd in (0.5, 1, 2)),
    *(replace(NULL, name=f"seed SD {sd:g}", seed_sd=sd) for sd in (0.5, 1)),
    replace(NULL, name="setting SD 1, seed SD .5", setting_sd=1, seed_sd=0.5),
    replace(NULL, name="setting SD 1, seed SD 1", setting_sd=1, seed_sd=1),
    *(replace(NULL, name=f"prompt SD {sd:g}, 805 prompts", prompt_sd=sd) for sd in (0.5, 1)),
    replace(NULL, name="setting 1, seed .5, prompt SD .5", setting_sd=1, seed_sd=0.5, prompt_sd=0.5),
]
NO_PROMPT_DATA = (
    "what all runs share of these prompts and an effect give the very same tables; the verdict speaks of these prompts "
    "only and says that run-level data cannot tell of others"
)
NOT_AT_RANDOM = (
    "a run's own value decides whether it is missing, and nothing in the others tells; the verdict says that it is "
    "about those that did not diverge, which do differ: the candidate's worst are gone"
)
PROMPTS = [
    replace(
        NULL, name="prompt SD .5, table of runs alone", prompt_sd=0.5, prompt_data=False, impossible=NO_PROMPT_DATA
    ),
    replace(NULL, name="prompt SD .5, 20 prompts", prompt_sd=0.5, prompts=20),
    *(
        replace(NULL, name=f"prompt SD .5, {n} prompts, 1 in 10 differs", prompt_sd=0.5, prompts=n, prompt_kind="rare")
        for n in (50, 100)
    ),
    *(
        replace(
            NULL, name=f"prompt SD {sd:g}, {n} prompts, 1 in {one_in} differs, one way", prompt_sd=sd, prompts=n,
            prompt_kind="skew", prompt_share=1 / one_in,
        )
        for sd, n, one_in in (
            (0.5, 20, 25), (0.5, 50, 25), (1, 50, 25), (0.5, 100, 25), (0.5, 100, 100), (0.5, 805, 40)
        )
    ),
]  # fmt: skip
SHAPES = [
    replace(NULL, name="rounded to 0.5: ties and zeros", halves=True, seed_sd=0.5),
    replace(NULL, name="heavy tails (t, 3 df)", noise="t3", seed_sd=0.5),
    replace(NULL, name="skewed runs", noise="skew", seed_sd=0.5),
    replace(NULL, name="skewed settings", skewed_settings=True, setting_sd=1, seed_sd=0.5),
    replace(NULL, name="15% of runs missing at random", missing=0.15, seed_sd=0.5),
    replace(NULL, name="20% of the candidate's runs diverged, any", diverged=0.2, seed_sd=0.5),
    replace(
        NULL, name="20% of the candidate's runs diverged, its worst", diverged=0.2, diverge_worst=True, seed_sd=0.5,
        impossible=NOT_AT_RANDOM,
    ),
]  # fmt: skip
BOTH = replace(NULL, setting_sd=0.5, seed_sd=0.5)
SIZES = [
    replace(BOTH, name="1 seed", seeds=1),
    *(replace(BOTH, name=f"{n} seeds", seeds=n) for n in (2, 3, 5, 10)),
    *(replace(BOTH, name=f"{n} settings", settings=n) for n in (6, 12, 24)),
    *(
        replace(NULL, name=f"24 settings, {n} seeds, SD 1 and 1", settings=24, seeds=n, setting_sd=1, seed_sd=1)
        for n in (2, 3, 5)
    ),
    replace(BOTH, name="family of 3, Holm", candidates=3),
    replace(NULL, name="family of 3, Holm, seed SD 1", candidates=3, seed_sd=1, settings=12),
]  # fmt: skip
EQUIVALENCE = [
    replace(NULL, name="equivalence, truth at the margin", effect=1, run_sd=0.5, error="equivalence"),
    replace(
        NULL, name="equivalence, at the margin, seed SD .5", effect=1, run_sd=0.5, seed_sd=0.5, error="equivalence"
    ),
    replace(NULL, name="equivalence, truth 0 (power)", run_sd=0.5, error=None),
]  # fmt: skip
EFFECT = replace(NULL, effect=1, run_sd=1.4, setting_sd=0.5, error=None)
POWER = [
    replace(EFFECT, name=f"effect 1, {k} settings, {s} seeds{extra}", settings=k, seeds=s, seed_sd=sd)
    for k, s, sd, extra in (
        (6, 3, 0, ""), (9, 3, 0, ""), (12, 3, 0, ""), (24, 3, 0, ""), (9, 2, 0, ""), (9, 5, 0, ""), (12, 5, 0, ""),
        (9, 10, 0, ""), (9, 3, 0.5, ", seed SD .5"), (9, 5, 0.5, ", seed SD .5"),
    )
]  # fmt: skip
POWER += [
    replace(
        EFFECT,
        name=f"effect 1, 9 settings, 5 seeds, prompt SD .5, {n} prompts",
        seeds=5,
        prompt_sd=0.5,
        prompts=n,
    )
    for n in (100, 805)
]
SCENARIOS = [*GRID, *PROMPTS, *SHAPES, *SIZES, *EQUIVALENCE, *POWER]
