"""The project's one documented import: `from adadpo import win_rate, compare_runs, AdaDPOTrainer`.

A name's module loads when the name is first used; `import adadpo` loads neither torch nor numpy. The types are in
`__init__.pyi`.
"""

from importlib import import_module
from typing import Any

# name -> its module; where the name there is another one, after a colon
_HOME = {
    "AdaDPOConfig": "adadpo.training.trainer",
    "AdaDPOError": "adadpo.errors",
    "AdaDPOTrainer": "adadpo.training.trainer",
    "Analysis": "analysis.summary",
    "Annotation": "analysis.alpaca_eval.annotations",
    "AnnotationError": "adadpo.errors",
    "Asset": "analysis.alpaca_eval.assets",
    "AssetError": "adadpo.errors",
    "Calibration": "analysis.alpaca_eval.calibration",
    "CalibrationError": "adadpo.errors",
    "Declared": "analysis.results.model",
    "LengthControlled": "analysis.alpaca_eval.length_control",
    "Method": "adadpo.method.registry",
    "Metric": "analysis.results.model",
    "PreferenceLoss": "adadpo.method.losses",
    "ReportError": "adadpo.errors",
    "Results": "analysis.document",
    "RunRow": "analysis.results.model",
    "TableError": "adadpo.errors",
    "WinRate": "analysis.alpaca_eval.win_rates",
    "analyse": "analysis.summary",
    "analyse_missing_runs": "analysis.inference.missing_runs",
    "bayesian_signed_rank": "analysis.inference.bayes",
    "benjamini_hochberg": "analysis.inference.multiplicity",
    "best_of_grid": "analysis.grid.best_setting",
    "best_of_grid_difference": "analysis.grid.best_setting",
    "bootstrap_difference": "analysis.prompts.bootstrap",
    "bootstrap_estimate": "analysis.prompts.bootstrap",
    "check_false_positives": "analysis.inference.self_check",
    "clopper_pearson": "analysis.inference.intervals",
    "compare_arms": "analysis.comparison:compare",
    "compare_runs": "analysis.summary:analyse_runs",
    "compare_search_budgets": "analysis.grid.best_setting",
    "crossed_test": "analysis.inference.crossed",
    "equivalence_test": "analysis.inference.equivalence",
    "fetch_assets": "analysis.alpaca_eval.assets",
    "hodges_lehmann": "analysis.inference.intervals",
    "holm": "analysis.inference.multiplicity",
    "joint_difficulty": "analysis.alpaca_eval.difficulty",
    "length_controlled_win_rate": "analysis.alpaca_eval.length_control",
    "list_assets": "analysis.alpaca_eval.assets",
    "load_results": "reports.files",
    "make_method": "adadpo.method.registry",
    "official_calibration": "analysis.alpaca_eval.assets",
    "make_study": "analysis.study",
    "pair_by_setting": "analysis.results.table",
    "pooled_signed_rank": "analysis.inference.pooled",
    "preference_loss": "adadpo.method.losses",
    "probability_of_improvement": "analysis.inference.intervals",
    "rank_biserial": "analysis.inference.intervals",
    "rank_next_steps": "analysis.planning.next_step",
    "read_annotations": "analysis.alpaca_eval.annotations",
    "read_calibration": "analysis.alpaca_eval.calibration",
    "render_html": "reports.page",
    "runs_from_frame": "analysis.results.table",
    "settings_won": "analysis.inference.intervals",
    "sign_test": "analysis.inference.intervals",
    "signed_rank_test": "analysis.inference.signed_rank",
    "simulate_power": "analysis.planning.power",
    "win_rate": "analysis.alpaca_eval.win_rates",
    "write_report": "reports.files",
}

# What others may rely on; what is not here may change.
__all__ = [*_HOME]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'adadpo' has no attribute {name!r}")
    module, _, own = _HOME[name].partition(":")
    return getattr(import_module(module), own or name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
