import pkgutil
import subprocess
import sys

import analysis


def test_public_names_are_pinned() -> None:
    """The public names against the list that others rely on."""
    assert sorted(analysis.__all__) == [
        "Analysis",
        "Annotation",
        "AnnotationError",
        "Asset",
        "AssetError",
        "Calibration",
        "CalibrationError",
        "LengthControlled",
        "Results",
        "TableError",
        "WinRate",
        "analyse",
        "analyse_missing_runs",
        "analyse_runs",
        "bayesian_signed_rank",
        "benjamini_hochberg",
        "benjamini_yekutieli",
        "best_of_grid",
        "best_of_grid_difference",
        "bootstrap_difference",
        "bootstrap_estimate",
        "check_false_positives",
        "clopper_pearson",
        "compare",
        "compare_search_budgets",
        "crossed_test",
        "equivalence_test",
        "fetch_assets",
        "hodges_lehmann",
        "holm",
        "joint_difficulty",
        "length_controlled_win_rate",
        "list_assets",
        "make_study",
        "official_calibration",
        "pair_by_setting",
        "partial_conjunction",
        "pooled_signed_rank",
        "probability_of_improvement",
        "rank_biserial",
        "rank_next_steps",
        "read_annotations",
        "read_calibration",
        "runs_from_frame",
        "settings_won",
        "sign_test",
        "signed_rank_test",
        "simulate_power",
        "win_rate",
    ]
    assert all(hasattr(analysis, name) for name in analysis.__all__)
    # Importing a submodule sets it as an attribute of the package: a name of the same spelling would change meaning.
    assert not {module.name for module in pkgutil.iter_modules(analysis.__path__)} & {*analysis.__all__}


def test_import_is_light() -> None:
    """Modules loaded by `import analysis` against those that would make every command slow."""
    heavy = ("torch", "transformers", "pandas", "scipy.stats")
    code = f"import sys, analysis; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
