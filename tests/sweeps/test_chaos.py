"""Random kills of workers, launchers and nodes under a sweep of 24 runs; bench/chaos.py has the long version."""

from __future__ import annotations

import random
from pathlib import Path

from tests.cluster.chaos import Chaos, calm, damage
from tests.cluster.slurm_cluster import Cluster


def test_nothing_is_lost_doubled_or_damaged(tmp_path: Path, slurm: Cluster) -> None:
    """Ten kills against the same sweep in peace: every byte, the table and the verdict."""
    expected = calm(tmp_path / "calm")
    chaos = Chaos(slurm, tmp_path / "chaos", random.Random(6), pause=2.0)
    chaos.run(10, seconds=400)
    assert chaos.kills.total() == 10
    assert damage(chaos, expected) == {"lost": 0, "duplicated": 0, "corrupt": 0, "table differs": 0}
