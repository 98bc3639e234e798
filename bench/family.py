"""The table of the family, from the results of two sweeps; one Markdown file.

.venv/bin/adadpo launch sweeps/configs/family.yaml
.venv/bin/adadpo launch bench/family_baselines.yaml --allow-untestable
.venv/bin/adadpo audit sweeps/configs/family.yaml
cp runs/sweeps/family/audit.json bfloat16.json
.venv/bin/adadpo audit sweeps/configs/family.yaml --precision float32
.venv/bin/python bench/family.py runs/sweeps bench/results/family.md bfloat16.json runs/sweeps/family/audit.json
"""

from __future__ import annotations

import json
import math
import statistics
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import fmean, stdev

from machine import machine

from adadpo.method.registry import LOSSES
from analysis.document import Results
from analysis.results.model import RunRow
from reports.files import load_results

METRICS = {
    "length_controlled_win_rate": ("LC", 1),
    "win_rate": ("WR", 1),
    "reward_accuracy": ("held-out accuracy", 3),
    "kl": ("KL", 2),
    "log_gradient_ratio": ("log gradient ratio", 3),
}


RATIOS = {
    "probability": "probability space (1)",
    "geometric_mean": "geometric means over tokens (2)",
    "arithmetic_mean": "arithmetic means over tokens (2)",
    "logits": "logits (3)",
    "parameters": "parameters (4)",
}


def main(folder: Path, file: Path, audits: list[Path]) -> None:
    family = load_results(folder / "family" / "results.json")
    baselines = load_results(folder / "family-baselines" / "results.json")
    rows = [
        line for loss in dict.fromkeys(_loss(run) for run in family.runs) for line in _lines(family, loss)
    ]
    rows += [_line(baselines, LOSSES[arm].title, _runs(baselines, _of_arm(arm))) for arm in ("dpop", "sppo")]  # type: ignore[index]
    header = ["method", "runs", *(label for label, _ in METRICS.values()), "LC: Ada minus base, per setting"]
    table = [header, ["---"] * len(header), *rows]
    settings = family.comparisons[0]
    text = f"""# The whole family with and without per-token balance

`sweeps/configs/family.yaml` ({_count(family)}) and `bench/family_baselines.yaml` ({_count(baselines)}), made by the
commands at the head of `bench/family.py`. {_machine()} Trained at commit
{family.provenance["trained at commit"]}; {family.provenance["packages now"]}.

Model {family.evaluation.model}, data {family.evaluation.data}, judge {family.evaluation.judge}, \
{family.evaluation.n_prompts} prompts, LC by `{family.evaluation.lc_method}`. Each method at its own default
hyperparameters, learning rates {", ".join(f"{v:g}" for v in family.axes["learning_rate"])}, seeds \
{", ".join(map(str, family.seeds))}. Mean ± SD over runs: learning rates and seeds together, so the SD is not that of
seeds alone. WR and LC in points, KL in nats per response, the gradient ratio over training.

{chr(10).join("| " + " | ".join(row) + " |" for row in table)}

**Declared test**, over {len(settings.differences)} settings (loss x learning rate): {family.verdict}

A single loss has {len(family.axes["learning_rate"])} settings here: no test could reach p < .05 for it, so its
difference stands without one. A small model, small data and a rubric judge: this shows that the family runs and what
the measurements look like, not which method is better on real tasks.

{_audit(*audits)}"""
    file.write_text(text)
    print(text)


def _audit(bfloat16: Path, float32: Path) -> str:
    """Gradient ratios of the first setting's policies, in the arithmetic of training and in float32."""
    found = {
        name: json.loads(path.read_text()) for name, path in (("bfloat16", bfloat16), ("float32", float32))
    }
    first = found["bfloat16"]
    lines = [
        "| arm | step | ratio, chosen over rejected | bfloat16 | float32 | largest difference of a pair |"
    ]
    lines.append("| --- | --- | --- | --- | --- | --- |")
    for points in zip(*(each["points"] for each in found.values()), strict=True):
        stages = [next(stage for stage in point["stages"] if stage["trained"]) for point in points]
        for ratio, label in RATIOS.items():
            logs = [stage["log_ratios"][ratio] for stage in stages]
            gap = max(abs(a - b) for a, b in zip(*logs, strict=True))
            medians = " | ".join(f"{math.exp(statistics.median(each)):.3f}" for each in logs)
            lines.append(f"| {points[0]['arm']} | {points[0]['step']} | {label} | {medians} | {gap:.3f} |")
    return f"""## Gradient audit

`adadpo audit sweeps/configs/family.yaml`, in bfloat16 (as trained) and with `--precision float32`: setting \
{first["setting"]}, seed {first["seed"]}, {first["pairs"]} held-out pairs, {len(first["gradient_pairs"])} of them with
gradients of {first["points"][0]["parameters"]}. Medians over pairs; the last column in log units.

{chr(10).join(lines)}

{chr(10).join("- " + finding for finding in first["findings"])}
"""


def _lines(results: Results, loss: str) -> list[list[str]]:
    return [
        _line(
            results,
            ("" if arm == "base" else "Ada") + LOSSES[loss].title,  # type: ignore[index]
            _runs(results, lambda run, arm=arm: run.arm == arm and _loss(run) == loss),  # type: ignore[misc]
            _differences(results, loss) if arm == "ada" else "",
        )
        for arm in ("base", "ada")
    ]


def _line(results: Results, name: str, runs: list[RunRow], differences: str = "") -> list[str]:
    shown = []
    for metric, (_, decimals) in METRICS.items():
        values = [value for run in runs if (value := run.metrics[metric]) is not None]
        spread = f" ± {stdev(values):.{decimals}f}" if len(values) > 1 else ""
        missing = f" ({len(values)} of {len(runs)})" if len(values) < len(runs) else ""
        mean = round(fmean(values), decimals) + 0.0 if values else None  # + 0.0: no minus before a rounded 0
        shown.append(f"{mean:.{decimals}f}{spread}{missing}" if values else "none")
    return [name, str(len(runs)), *shown, differences]


def _differences(results: Results, loss: str) -> str:
    found = [each for each in results.comparisons[0].differences if f"loss={loss} " in each.setting + " "]
    return ", ".join("none" if each.mean is None else f"{each.mean:+.1f}" for each in found)


def _runs(results: Results, keep: Callable[[RunRow], bool]) -> list[RunRow]:
    return [run for run in results.runs if keep(run)]


def _of_arm(arm: str) -> Callable[[RunRow], bool]:
    return lambda run: run.arm == arm


def _loss(run: RunRow) -> str:
    return str(run.hyperparameters["loss"])


def _count(results: Results) -> str:
    states: Iterable[str] = (f"{n} {state}" for state, n in results.counts.items())
    return f"{len(results.runs)} runs: {', '.join(states)}"


def _machine() -> str:
    found = machine("torch", "transformers", "trl", "peft")
    versions = ", ".join(f"{name} {found[name]}" for name in ("torch", "transformers", "trl", "peft"))
    return f"Machine: {found['cpu']}, {found['cores']} cores, {found.get('gpu', 'no GPU')}; {versions}."


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), [Path(name) for name in sys.argv[3:5]])
