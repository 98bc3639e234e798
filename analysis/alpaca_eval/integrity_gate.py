"""The gate an evaluation passes before its number counts.

It reads raw records, since what it looks for is what `read_annotations` refuses: it never raises over their content.
An evaluation with a "quarantine" flag is shown with its reasons and enters no mean and no test; a "note" is told
beside a number that counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from adadpo.errors import AnnotationError
from analysis.alpaca_eval.annotations import KEYS, preferences_of
from analysis.results.model import Frozen, Value

# The largest |LC - WR| on AlpacaEval 2's leaderboard (tatsu-lab/alpaca_eval at 01f3cb2) is 19.0 points, once in each
# direction: GPT-4 Turbo asked to be concise, and a model of 3335 characters on average. Beyond all of them LC
# extrapolates. Without calibration rows honest gaps are wider: the largest of 40 models there is 33.8 points (GPT-4
# asked to be concise) by the formula without difficulty.
MAX_LC_GAP = 20.0
MAX_LC_GAP_UNCALIBRATED = 40.0
CALIBRATED = "length_controlled_v1"
# What AlpacaEval's calibration file was made for.
OFFICIAL = {"generator_1": "gpt4_1106_preview", "annotator": "weighted_alpaca_eval_gpt4_turbo"}
# A prompt without a judgement can move WR by 100 / n points, so a hundredth of the prompts by one point, which is
# the default region of practical equivalence. The leaderboard's least complete model has 801 of 805 (0.5%).
MAX_MISSING_SHARE = 0.01
# A real model may fall silent at times: gemma-2b-it, the emptiest of 40 models of the leaderboard, did on 22 of 805
# prompts (2.7%). Beyond this, generation itself failed.
MAX_EMPTY_SHARE = 0.05
# Answers that another prompt got as well. Real models have none to a few ("Yes."); one constant answer, which fools
# the judge into a win rate of 77 (Zheng et al. 2024, arXiv:2410.07137), has them all.
MAX_REPEATED_SHARE = 0.10

Severity = Literal["quarantine", "note"]
_ROLES = {"generator_1": "baseline", "generator_2": "generator", "annotator": "judge"}


@dataclass(frozen=True, slots=True)
class Expected:
    """What an evaluation should be; what is None is not checked."""

    instructions: Sequence[str] | None = None  # the whole prompt set
    baseline: str | None = None  # generator_1
    judge: str | None = None  # annotator
    generator: str | None = None  # generator_2: the policy and, where its name tells, its version
    baseline_outputs: Mapping[str, str] | None = None  # instruction -> output_1
    versions: Mapping[str, str] | None = None  # of what made the outputs and judged them, by any names


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Beyond these an evaluation does not count; shares are of the prompts, in [0, 1]."""

    lc_gap: float = MAX_LC_GAP  # |LC - WR| in points, where LC is AlpacaEval's `length_controlled_v1`
    lc_gap_uncalibrated: float = MAX_LC_GAP_UNCALIBRATED  # by any other formula
    missing_share: float = MAX_MISSING_SHARE  # prompts without a preference, absent or unjudged
    empty_share: float = MAX_EMPTY_SHARE
    repeated_share: float = MAX_REPEATED_SHARE


class Flag(Frozen):
    """One thing that is not as it should be."""

    name: str  # e.g. "missing_prompts"
    severity: Severity
    message: str  # one sentence without a full stop, with its numbers
    values: dict[str, Value]


class Integrity(Frozen):
    """What the gate found, worst first; no flags: nothing to say."""

    n: int  # records
    flags: list[Flag]

    @property
    def quarantined(self) -> bool:
        """Whether the evaluation must not count."""
        return any(flag.severity == "quarantine" for flag in self.flags)

    @property
    def reasons(self) -> list[str]:
        """Why it must not count; empty when it does."""
        return [flag.message for flag in self.flags if flag.severity == "quarantine"]


def check_integrity(
    annotations: Iterable[Any],
    *,
    expected: Expected | None = None,
    lc: float | None = None,
    wr: float | None = None,
    lc_method: str | None = None,
    versions: Mapping[str, str] | None = None,
    thresholds: Thresholds | None = None,
) -> Integrity:
    """Look at an evaluation's raw records for what would make its numbers meaningless.

    Args:
        annotations: records in AlpacaEval's format as they were read; anything is accepted.
        expected: prompts, baseline, judge and generator that the evaluation should have. Without them, only
            what the records tell about themselves is checked.
        lc: length-controlled win rate in percent; None when undefined.
        wr: raw win rate in percent; None when undefined.
        lc_method: the formula of `lc`.
        versions: of what made this evaluation, under the names of `expected.versions`.
        thresholds: how much is too much. None: the defaults, whose reasons stand next to them.

    Returns:
        Flags in the order of severity, then of the checks. It serialises (`model_dump`) into a scores file.
    """
    expected, thresholds = expected or Expected(), thresholds or Thresholds()
    given = list(annotations)
    rows = [row for row in given if isinstance(row, Mapping) and all(key in row for key in KEYS)]
    if not given:
        return Integrity(n=0, flags=[_flag("no_annotations", "there is no annotation", n=0)])
    preferences = [_preference(row["preference"]) for row in rows]
    unjudged = sum(p is None for p in preferences)
    flags = [
        *_unusable(given, rows, preferences),
        *_prompts(rows, expected),
        *_missing(rows, unjudged, expected, thresholds),
        *_names(rows, expected),
        *_versions(versions or {}, expected),
        *_baseline_outputs(rows, expected),
        *_outputs(rows, thresholds),
        *_constant_judge(preferences),
        *_foreign_calibration(rows, lc, lc_method),
        *_gap(lc, wr, thresholds.lc_gap if lc_method == CALIBRATED else thresholds.lc_gap_uncalibrated),
    ]
    return Integrity(n=len(given), flags=sorted(flags, key=lambda flag: flag.severity == "note"))


def baseline_differences(a: Mapping[str, str], b: Mapping[str, str]) -> list[str]:
    """Instructions of both to which the baseline's answers differ, in `a`'s order."""
    return [instruction for instruction, output in a.items() if b.get(instruction, output) != output]


def _unusable(
    given: Sequence[Any], rows: Sequence[Mapping[str, Any]], preferences: Sequence[float | str | None]
) -> Iterator[Flag]:
    if lacking := len(given) - len(rows):
        yield _flag("malformed_records", f"{_count(lacking, 'record')} without {', '.join(KEYS)}", n=lacking)
    texts = ("instruction", "output_1", "output_2")
    if wrong := sum(not all(isinstance(row[key], str) for key in texts) for row in rows):
        yield _flag("not_text", f"{_count(wrong, 'record')} whose instruction or output is not text", n=wrong)
    if invalid := [p for p in preferences if isinstance(p, str)]:
        yield _flag(
            "invalid_preferences",
            f"{_count(len(invalid), 'record')} whose preference is not in [1, 2]: {invalid[0]}",
            n=len(invalid),
            first=invalid[0],
        )


def _prompts(rows: Sequence[Mapping[str, Any]], expected: Expected) -> Iterator[Flag]:
    counts = Counter(str(row["instruction"]) for row in rows)
    if twice := [text for text, count in counts.items() if count > 1]:
        yield _flag(
            "duplicated_prompts",
            f"{_count(len(twice), 'prompt')} judged more than once, the first: {_quote(twice[0])}",
            n=len(twice),
            first=twice[0][:200],
        )
    if expected.instructions is None:
        return
    wanted = set(expected.instructions)
    if strange := [text for text in counts if text not in wanted]:
        yield _flag(
            "unknown_prompts",
            f"{_count(len(strange), 'prompt')} not in the prompt set, the first: {_quote(strange[0])}",
            n=len(strange),
            first=strange[0][:200],
        )


def _missing(
    rows: Sequence[Mapping[str, Any]], unjudged: int, expected: Expected, thresholds: Thresholds
) -> Iterator[Flag]:
    """Prompts that are absent and prompts without a preference: together they must be few."""
    there = {str(row["instruction"]) for row in rows}
    wanted = list(dict.fromkeys(expected.instructions or ()))
    absent = [text for text in wanted if text not in there]
    n = len(wanted) or len(rows)
    fails = n > 0 and (len(absent) + unjudged) / n > thresholds.missing_share
    if absent:
        yield _flag(
            "missing_prompts",
            f"{len(absent)} of {n} prompts are missing, the first: {_quote(absent[0])}",
            fails,
            n=len(absent),
            expected=n,
            share=len(absent) / n,
            first=absent[0][:200],
        )
    if unjudged:
        yield _flag(
            "missing_preferences",
            f"{unjudged} of {n} prompts have no preference ({_percent(unjudged / n)}) and are left out",
            fails,
            n=unjudged,
            share=unjudged / n,
        )


def _names(rows: Sequence[Mapping[str, Any]], expected: Expected) -> Iterator[Flag]:
    wanted = {
        "generator_1": expected.baseline,
        "generator_2": expected.generator,
        "annotator": expected.judge,
    }
    for key, role in _ROLES.items():
        found = sorted({str(row[key]) for row in rows})
        if len(found) > 1:
            yield _flag(f"several_{role}s", f"several {role}s in one file: {_listed(found)}", n=len(found))
        name = wanted[key]
        if name is not None and found and (others := [each for each in found if each != name]):
            yield _flag(
                f"wrong_{role}",
                f"the {role} is {_listed(others)}, expected {_quote(name)}",
                found=others[0],
                expected=name,
            )


def _versions(found: Mapping[str, str], expected: Expected) -> Iterator[Flag]:
    for name, version in (expected.versions or {}).items():
        if found.get(name) != version:
            now = _quote(found[name]) if name in found else "not recorded"
            message = f"the version of {name} is {now}, expected {_quote(version)}"
            yield _flag("changed_version", message, of=name, found=found.get(name), expected=version)


def _baseline_outputs(rows: Sequence[Mapping[str, Any]], expected: Expected) -> Iterator[Flag]:
    if expected.baseline_outputs is None:
        return
    found = {str(row["instruction"]): str(row["output_1"]) for row in rows}
    if changed := baseline_differences(found, expected.baseline_outputs):
        yield _flag(
            "changed_baseline_outputs",
            f"the baseline's answers differ from the expected ones on {_count(len(changed), 'prompt')}, "
            f"the first: {_quote(changed[0])}",
            n=len(changed),
            first=changed[0][:200],
        )


def _outputs(rows: Sequence[Mapping[str, Any]], thresholds: Thresholds) -> Iterator[Flag]:
    n = len(rows)
    outputs = [row["output_2"].strip() for row in rows if isinstance(row["output_2"], str)]
    said = Counter(output for output in outputs if output)
    if empty := len(outputs) - said.total():
        yield _flag(
            "empty_outputs",
            f"{empty} of {n} outputs are empty ({_percent(empty / n)})",
            empty / n > thresholds.empty_share,
            n=empty,
            share=empty / n,
        )
    repeated = sum(count for count in said.values() if count > 1)
    if not repeated:
        return
    often, count = said.most_common(1)[0]
    yield _flag(
        "repeated_outputs",
        f"{repeated} of {n} outputs are given to more than one prompt ({_percent(repeated / n)}), "
        f"one of them {count} times",
        repeated / n > thresholds.repeated_share,
        n=repeated,
        share=repeated / n,
        most_common=count,
        first=often[:200],
    )


def _constant_judge(preferences: Sequence[float | str | None]) -> Iterator[Flag]:
    found = [p for p in preferences if isinstance(p, float)]
    if len(found) > 1 and len(set(found)) == 1:
        message = f"the judge gave every prompt the same preference, {found[0]:g}"
        yield _flag("constant_preferences", message, False, n=len(found), preference=found[0])


def _foreign_calibration(
    rows: Sequence[Mapping[str, Any]], lc: float | None, lc_method: str | None
) -> Iterator[Flag]:
    if lc is None or lc_method != CALIBRATED:
        return
    for key, name in OFFICIAL.items():
        if others := sorted({str(row[key]) for row in rows} - {name}):
            role = _ROLES[key]
            message = f"{CALIBRATED} is calibrated for the {role} {_quote(name)}: with {_listed(others)} LC is not the "
            yield _flag(
                f"other_{role}_than_calibrated", message + "leaderboard's figure", False, found=others[0]
            )


def _gap(lc: float | None, wr: float | None, most: float) -> Iterator[Flag]:
    if lc is None or wr is None or abs(lc - wr) <= most:
        return
    side = "above" if lc > wr else "below"
    message = (
        f"LC {lc:.1f} is {abs(lc - wr):.1f} points {side} WR {wr:.1f}, more than {most:g}: LC extrapolates"
    )
    yield _flag("extreme_lc_gap", message, lc=lc, wr=wr, gap=lc - wr)


def _preference(value: Any) -> float | str | None:
    """The preference; None when the judge gave none; the value in words when it is none that could be."""
    try:
        return preferences_of([value])[0]
    except AnnotationError:
        return repr(value)[:80]


def _flag(name: str, message: str, fails: bool = True, **values: Value) -> Flag:
    return Flag(name=name, severity="quarantine" if fails else "note", message=message, values=values)


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def _quote(text: str) -> str:
    return repr(text[:59] + "…" if len(text) > 60 else text)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(_quote(name) for name in names[:3]) + more


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"
