"""A made-up audit with the sample results' arms: four steps each, one undefined ratio, one clipped pair in ten."""

from __future__ import annotations

import math

from analysis.audit import TOLERANCE, findings, make_stage, quartiles, rounded_values
from analysis.results.gradient_audit import Audit, AuditCost, AuditPoint, AuditStage

PAIRS, MEASURED = 40, 6
LABELS = {
    "base": "base loss",
    "sequence": "sequence ratio, no clip",
    "per_token": "per-token ratio, no clip",
    "per_token_clipped": "per-token ratio, clip 10",
}


def spread(centre: float, width: float, count: int, key: int) -> list[float]:
    return [centre + width * math.sin(1.7 * number + key) for number in range(count)]


def make_stages(arm: str, progress: float) -> list[AuditStage]:
    ada = arm == "adadpo"
    trained = "per_token_clipped" if ada else "base"
    stages = []
    for name, label in LABELS.items():
        balanced = name.startswith("per_token")
        centre = 0.0 if balanced else -0.3 * (1 + progress * (0.3 if ada else 1.0))
        width = 40.0 if name == "sequence" else 0.0 if balanced else 0.4
        probability = spread(centre, width, PAIRS, 1)
        if name == "per_token_clipped":
            probability[::10] = [-0.7] * len(probability[::10])
        ratios = {
            "probability": probability,
            "geometric_mean": probability,
            "arithmetic_mean": [math.nan, *spread(centre + 0.1, width + 0.6, PAIRS - 1, 2)],
            "logits": spread(centre + 0.12, width + 0.3, PAIRS, 3),
            "parameters": spread(centre - 0.2, width + 0.2, MEASURED, 4),
        }
        stages.append(
            make_stage(
                name,
                label=label,
                trained=name == trained,
                promised=("probability", "geometric_mean") if balanced else (),
                clipped=[name == "per_token_clipped" and number % 10 == 0 for number in range(PAIRS)],
                log_ratios=ratios,
            )
        )
    return stages


def make_point(arm: str, step: int, steps: int) -> AuditPoint:
    cosines = rounded_values(spread(-0.4, 0.2, MEASURED, 5))
    return AuditPoint(
        arm=arm,
        method={"loss": "dpo", "beta": 0.1, "balance": "per_token" if arm == "adadpo" else "none"},
        run_id=f"{arm}-run",
        step=step,
        parameters="the LoRA adapters of rank 16 (4,884,480 numbers)",
        stages=make_stages(arm, step / steps),
        cosines=cosines,
        cosine=quartiles(cosines),
    )


def make_audit(steps: tuple[int, ...] = (0, 20, 40, 60)) -> Audit:
    points = [make_point(arm, step, max(*steps, 1)) for arm in ("dpo", "adadpo") for step in steps]
    return Audit(
        target="dpo-vs-adadpo",
        model="smollm2-135m-instruct-v1",
        data="sha256:97aeec3f1c7de6dee6fd31fe66f1702623f4614c3efe1c6fc5f4927cd5fd674d",
        pairs=PAIRS,
        truncated=2,
        left_out=["row 7: no rejected response"],
        gradient_pairs=[3, 1, 4, 15, 9, 26],
        gradient_seed=0,
        precision="bfloat16",
        device="CPU",
        max_length=256,
        setting="beta=0.05 learning_rate=5e-06",
        seed=0,
        tolerance=TOLERANCE,
        points=points,
        missing=["simpo: the run is not trained to its end"],
        findings=findings(points),
        cost=AuditCost(
            evaluation_tokens=3587,
            forward_tokens=4400,
            backward_tokens=813,
            passes=2.14,
            seconds=341.0,
            evaluation_seconds=150.0,
        ),
        versions={"torch": "2.9.0"},
    )
