"""The numbers: win rates, paired tests, intervals and the verdict; importing it never imports torch."""

from analysis.analyse import Analysis, analyse
from analysis.annotations import Annotation, AnnotationError, read_annotations
from analysis.compare import compare
from analysis.intervals import clopper_pearson, hodges_lehmann, rank_biserial, sign_test
from analysis.length_control import LengthControlled, length_controlled_win_rate
from analysis.results import Results
from analysis.signed_rank import signed_rank_test
from analysis.table import TableError, pair_by_setting, runs_from_frame
from analysis.win_rate import WinRate, win_rate

# Names that others may rely on; what is not here may change.
__all__ = [
    "Analysis",
    "Annotation",
    "AnnotationError",
    "LengthControlled",
    "Results",
    "TableError",
    "WinRate",
    "analyse",
    "clopper_pearson",
    "compare",
    "hodges_lehmann",
    "length_controlled_win_rate",
    "pair_by_setting",
    "rank_biserial",
    "read_annotations",
    "runs_from_frame",
    "sign_test",
    "signed_rank_test",
    "win_rate",
]
