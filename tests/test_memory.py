"""A report's memory grows slowly with its runs: what is large stays in their files (figures: bench/conductor.py)."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "bench"))

from conductor import make_runs, many  # type: ignore[import-not-found]  # noqa: E402

STATUS = Path("/proc/self/status")
# The process's own peak: the one that the kernel tells a parent may be the parent's, from before exec.
PROGRAM = f"""
import sys
from sweeps.cli.main import main
try:
    main()
finally:
    print(open({str(STATUS)!r}).read(), file=sys.stderr)
"""


def peak_mb(folder: Path, size: int) -> float:
    """Peak memory of a report of so many finished runs."""
    folder.mkdir()
    sweep = many(folder, size)
    make_runs(sweep)
    command = [sys.executable, "-c", PROGRAM, "report", "many", "--store", str(sweep.store.root)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    found = re.search(r"VmHWM:\s+(\d+) kB", said)
    assert found is not None
    return int(found[1]) / 1024


@pytest.mark.skipif(not STATUS.exists(), reason="no /proc to read a peak of memory from")
def test_a_report_of_a_thousand_runs(tmp_path: Path) -> None:
    """29 kB a run were measured; replicates that are held, 32 kB a run more, are beyond the bound."""
    few, many_runs = peak_mb(tmp_path / "few", 100), peak_mb(tmp_path / "many", 1100)
    assert few < many_runs < few + 45
