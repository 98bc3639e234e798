# The types of what `__init__.py` imports when it is first used.
from adadpo.errors import (
    AdaDPOError as AdaDPOError,
)
from adadpo.errors import (
    AnnotationError as AnnotationError,
)
from adadpo.errors import (
    AssetError as AssetError,
)
from adadpo.errors import (
    CalibrationError as CalibrationError,
)
from adadpo.errors import (
    ReportError as ReportError,
)
from adadpo.errors import (
    TableError as TableError,
)
from adadpo.method.losses import (
    PreferenceLoss as PreferenceLoss,
)
from adadpo.method.losses import (
    preference_loss as preference_loss,
)
from adadpo.method.registry import (
    Method as Method,
)
from adadpo.method.registry import (
    make_method as make_method,
)
from adadpo.training.trainer import (
    AdaDPOConfig as AdaDPOConfig,
)
from adadpo.training.trainer import (
    AdaDPOTrainer as AdaDPOTrainer,
)
from analysis.alpaca_eval.annotations import (
    Annotation as Annotation,
)
from analysis.alpaca_eval.annotations import (
    read_annotations as read_annotations,
)
from analysis.alpaca_eval.assets import (
    Asset as Asset,
)
from analysis.alpaca_eval.assets import (
    fetch_assets as fetch_assets,
)
from analysis.alpaca_eval.assets import (
    list_assets as list_assets,
)
from analysis.alpaca_eval.assets import (
    official_calibration as official_calibration,
)
from analysis.alpaca_eval.calibration import (
    Calibration as Calibration,
)
from analysis.alpaca_eval.calibration import (
    read_calibration as read_calibration,
)
from analysis.alpaca_eval.difficulty import (
    joint_difficulty as joint_difficulty,
)
from analysis.alpaca_eval.length_control import (
    LengthControlled as LengthControlled,
)
from analysis.alpaca_eval.length_control import (
    length_controlled_win_rate as length_controlled_win_rate,
)
from analysis.alpaca_eval.win_rates import (
    WinRate as WinRate,
)
from analysis.alpaca_eval.win_rates import (
    win_rate as win_rate,
)
from analysis.comparison import (
    compare as compare_arms,
)
from analysis.document import (
    Results as Results,
)
from analysis.grid.best_setting import (
    best_of_grid as best_of_grid,
)
from analysis.grid.best_setting import (
    best_of_grid_difference as best_of_grid_difference,
)
from analysis.grid.best_setting import (
    compare_search_budgets as compare_search_budgets,
)
from analysis.inference.bayes import (
    bayesian_signed_rank as bayesian_signed_rank,
)
from analysis.inference.crossed import (
    crossed_test as crossed_test,
)
from analysis.inference.equivalence import (
    equivalence_test as equivalence_test,
)
from analysis.inference.intervals import (
    clopper_pearson as clopper_pearson,
)
from analysis.inference.intervals import (
    hodges_lehmann as hodges_lehmann,
)
from analysis.inference.intervals import (
    probability_of_improvement as probability_of_improvement,
)
from analysis.inference.intervals import (
    rank_biserial as rank_biserial,
)
from analysis.inference.intervals import (
    settings_won as settings_won,
)
from analysis.inference.intervals import (
    sign_test as sign_test,
)
from analysis.inference.missing_runs import (
    analyse_missing_runs as analyse_missing_runs,
)
from analysis.inference.multiplicity import (
    benjamini_hochberg as benjamini_hochberg,
)
from analysis.inference.multiplicity import (
    holm as holm,
)
from analysis.inference.pooled import (
    pooled_signed_rank as pooled_signed_rank,
)
from analysis.inference.self_check import (
    check_false_positives as check_false_positives,
)
from analysis.inference.signed_rank import (
    signed_rank_test as signed_rank_test,
)
from analysis.planning.next_step import (
    rank_next_steps as rank_next_steps,
)
from analysis.planning.power import (
    simulate_power as simulate_power,
)
from analysis.prompts.bootstrap import (
    bootstrap_difference as bootstrap_difference,
)
from analysis.prompts.bootstrap import (
    bootstrap_estimate as bootstrap_estimate,
)
from analysis.results.model import Declared as Declared
from analysis.results.model import Metric as Metric
from analysis.results.model import RunRow as RunRow
from analysis.results.table import (
    pair_by_setting as pair_by_setting,
)
from analysis.results.table import (
    runs_from_frame as runs_from_frame,
)
from analysis.study import (
    make_study as make_study,
)
from analysis.summary import (
    Analysis as Analysis,
)
from analysis.summary import (
    analyse as analyse,
)
from analysis.summary import (
    analyse_runs as compare_runs,
)
from reports.files import (
    load_results as load_results,
)
from reports.files import (
    write_report as write_report,
)
from reports.page import (
    render_html as render_html,
)

_HOME: dict[str, str]

__all__ = [
    "AdaDPOConfig",
    "AdaDPOError",
    "AdaDPOTrainer",
    "Analysis",
    "Annotation",
    "AnnotationError",
    "Asset",
    "AssetError",
    "Calibration",
    "CalibrationError",
    "Declared",
    "LengthControlled",
    "Method",
    "Metric",
    "PreferenceLoss",
    "ReportError",
    "Results",
    "RunRow",
    "TableError",
    "WinRate",
    "analyse",
    "analyse_missing_runs",
    "bayesian_signed_rank",
    "benjamini_hochberg",
    "best_of_grid",
    "best_of_grid_difference",
    "bootstrap_difference",
    "bootstrap_estimate",
    "check_false_positives",
    "clopper_pearson",
    "compare_arms",
    "compare_runs",
    "compare_search_budgets",
    "crossed_test",
    "equivalence_test",
    "fetch_assets",
    "hodges_lehmann",
    "holm",
    "joint_difficulty",
    "length_controlled_win_rate",
    "list_assets",
    "load_results",
    "make_method",
    "make_study",
    "official_calibration",
    "pair_by_setting",
    "pooled_signed_rank",
    "preference_loss",
    "probability_of_improvement",
    "rank_biserial",
    "rank_next_steps",
    "read_annotations",
    "read_calibration",
    "render_html",
    "runs_from_frame",
    "settings_won",
    "sign_test",
    "signed_rank_test",
    "simulate_power",
    "win_rate",
    "write_report",
]
