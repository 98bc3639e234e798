"""docs/clusters.md: its sections are sweeps that pass, its commands exist with their options, its SQL runs."""

from __future__ import annotations

import io
import re
import shlex
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from sweeps.config.schema import load_spec
from sweeps.failures.causes import POLICIES
from tests.sweeps.postgres_server import Server
from tests.sweeps.sweep_examples import SMALL, command, write_sweep

PAGE = (Path(__file__).parents[2] / "docs" / "clusters.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)
INLINE = re.findall(
    r"`((?:launch|invariant|study|search|srun_args|additional_parameters): [^`]*[}\]])`", PAGE
)
COMMANDS = re.findall(r"^ {4,}(adadpo .*)$", PAGE, flags=re.MULTILINE)
LINKS = re.findall(r"\]\(([^)]+)\)", PAGE)


@pytest.mark.parametrize("section", [*BLOCKS, *INLINE])
def test_every_section_is_one_of_a_sweep(tmp_path: Path, section: str) -> None:
    """Put into a small sweep in place of its own, it passes the check and can be planned."""
    if section.startswith(("srun_args", "additional_parameters")):
        section = f"launch:\n  executor: slurm\n  {' '.join(section.split())}\n"
    section = section.replace("effective_batch: 128", "effective_batch: 8")
    replaced = {line.partition(":")[0] for line in section.splitlines() if line[:1].isalpha()}
    replaced |= {"grid"} & {"grid" for key in replaced if key == "search"}
    sweep = YAML(typ="safe").load(SMALL)
    if "search" in replaced:
        del sweep["train"]["learning_rate"]
    kept = io.StringIO()
    YAML().dump({key: value for key, value in sweep.items() if key not in replaced}, kept)
    file = write_sweep(tmp_path / "sweep.yaml", kept.getvalue() + section)
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


def test_the_failures_are_those_of_the_code() -> None:
    """The table against `POLICIES`, row by row."""
    start = PAGE.index("| cause |")
    rows = PAGE[start : PAGE.index("\n\n", start)].splitlines()
    assert rows[2:] == [
        f"| {cause} | {policy.meaning} | {tried(policy.retries)} | {ends(policy.stop_after)} | {policy.advice} |"
        for cause, policy in POLICIES.items()
    ]


def tried(retries: int) -> str:
    return f"{retries} times" if retries else "no"


def ends(stop_after: int | None) -> str:
    return "no" if stop_after is None else "at once" if stop_after == 1 else f"after {stop_after} alike"


def test_every_link_leads_somewhere() -> None:
    """To a file beside the page, or to a heading of it."""
    headings = {
        re.sub(r"[^a-z0-9 -]", "", line.lower()).strip().replace(" ", "-")
        for line in PAGE.splitlines()
        if line.startswith("## ")
    }
    for link in LINKS:
        if link.startswith("#"):
            assert link[1:] in headings
        else:
            assert (Path(__file__).parents[2] / "docs" / link).exists(), link
    assert len(LINKS) > len(headings)


def test_the_sql_is_enough_for_a_study(postgres: Server) -> None:
    """The role can make its tables in its own database and no database of its own."""
    for statement in re.findall(r"```sql\n(.*?)```", PAGE, flags=re.DOTALL)[0].strip().splitlines():
        postgres.sql(statement)
    postgres.sql("SET ROLE adadpo_study; CREATE TABLE study (id int)", "adadpo_studies")
    with pytest.raises(AssertionError, match="permission denied"):
        postgres.sql("SET ROLE adadpo_study; CREATE ROLE another", "adadpo_studies")
