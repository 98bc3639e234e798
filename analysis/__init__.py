"""The numbers: win rates, paired tests, intervals and the verdict; importing it never imports torch.

Submodules load when a name is first used: the command line starts without numpy.
"""

from importlib import import_module
from typing import Any

_HOME = {
    "Analysis": "analysis.summary",
    "Annotation": "analysis.annotations",
    "AnnotationError": "analysis.annotations",
    "Asset": "analysis.alpaca_eval_assets",
    "AssetError": "analysis.alpaca_eval_assets",
    "Calibration": "analysis.calibration",
    "CalibrationError": "analysis.calibration",
    "LengthControlled": "analysis.length_control",
    "Results": "analysis.results",
    "TableError": "analysis.table",
    "WinRate": "analysis.win_rates",
    "analyse": "analysis.summary",
    "analyse_missing_runs": "analysis.missing_runs",
    "analyse_runs": "analysis.run_table",
    "bayesian_signed_rank": "analysis.bayes",
    "benjamini_hochberg": "analysis.multiplicity",
    "benjamini_yekutieli": "analysis.multiplicity",
    "best_of_grid": "analysis.selection",
    "best_of_grid_difference": "analysis.selection",
    "bootstrap_difference": "analysis.prompt_bootstrap",
    "bootstrap_estimate": "analysis.prompt_bootstrap",
    "check_false_positives": "analysis.self_check",
    "clopper_pearson": "analysis.intervals",
    "compare": "analysis.comparison",
    "compare_search_budgets": "analysis.search_budget",
    "crossed_test": "analysis.crossed",
    "equivalence_test": "analysis.equivalence",
    "fetch_assets": "analysis.alpaca_eval_assets",
    "hodges_lehmann": "analysis.intervals",
    "holm": "analysis.multiplicity",
    "joint_difficulty": "analysis.difficulty",
    "length_controlled_win_rate": "analysis.length_control",
    "list_assets": "analysis.alpaca_eval_assets",
    "official_calibration": "analysis.alpaca_eval_assets",
    "pair_by_setting": "analysis.table",
    "partial_conjunction": "analysis.multiplicity",
    "pooled_signed_rank": "analysis.pooled",
    "probability_of_improvement": "analysis.effect_sizes",
    "rank_biserial": "analysis.intervals",
    "rank_next_steps": "analysis.next_step",
    "read_annotations": "analysis.annotations",
    "read_calibration": "analysis.calibration",
    "runs_from_frame": "analysis.table",
    "settings_won": "analysis.effect_sizes",
    "sign_test": "analysis.intervals",
    "signed_rank_test": "analysis.signed_rank",
    "simulate_power": "analysis.power",
    "spread_over_seeds": "analysis.seed_spread",
    "win_rate": "analysis.win_rates",
}

# Names that others may rely on; what is not here may change.
__all__ = [*_HOME]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'analysis' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
