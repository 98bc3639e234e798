"""docs/clusters.md: its sections are sweeps that pass, its commands exist with their options, its SQL runs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from postgres_server import Server
from sweep_examples import SMALL, command, write_sweep

from sweeps.spec import load_spec

PAGE = (Path(__file__).parents[2] / "docs" / "clusters.md").read_text(encoding="utf-8")
SECTIONS = re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)
COMMANDS = re.findall(r"^    (adadpo .*)$", PAGE, flags=re.MULTILINE)


@pytest.mark.parametrize("number", range(len(SECTIONS)))
def test_every_section_is_one_of_a_sweep(tmp_path: Path, number: int) -> None:
    """Put into a small sweep in place of its own, it passes the check and can be planned."""
    section = SECTIONS[number]
    replaced = {"launch": "launch", "search": "grid"}.get(section.partition(":")[0], "nothing")
    kept = [line for line in SMALL.splitlines(keepends=True) if not line.startswith(f"{replaced}:")]
    text = "".join(kept)
    if "learning_rate" in section:
        text = text.replace(", learning_rate: 1.0e-3", "")
    file = write_sweep(tmp_path / "sweep.yaml", text + section)
    load_spec(file)
    answer = command("plan", file, "--store", tmp_path / "store")
    assert answer.code == 0, answer.err


def test_every_command_is_there() -> None:
    """Each with its options, by its own help."""
    assert len(COMMANDS) >= 10
    for line in COMMANDS:
        _, verb, *words = shlex.split(line)
        told = command(verb, "--help")
        assert told.code == 0
        for option in (word for word in words if word.startswith("--")):
            assert option in told.out


def test_the_sql_is_enough_for_a_study(postgres: Server) -> None:
    """The role can make its tables in its own database and no database of its own."""
    for statement in re.findall(r"```sql\n(.*?)```", PAGE, flags=re.DOTALL)[0].strip().splitlines():
        postgres.sql(statement)
    postgres.sql("SET ROLE adadpo_study; CREATE TABLE study (id int)", "adadpo_studies")
    with pytest.raises(AssertionError, match="permission denied"):
        postgres.sql("SET ROLE adadpo_study; CREATE ROLE another", "adadpo_studies")
