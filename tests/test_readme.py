"""Python blocks of README and methods page are run, the README's sweep is checked, its commands exist."""

import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
METHODS = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README + METHODS, flags=re.S)
SWEEPS = re.findall(r"```yaml\n(.*?)```", README, flags=re.S)


def python_block(containing: str) -> str:
    (found,) = [text for kind, text in BLOCKS if kind == "python" and containing in text]
    return found


def test_every_python_block_is_run_by_a_test() -> None:
    assert sum(kind == "python" for kind, _ in BLOCKS) == 3


def test_preference_loss() -> None:
    exec(python_block("preference_loss"), {})


def test_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    exec(python_block("signed_rank_test"), {})
    assert "no_difficulty" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore:.*pin_memory")  # TRL asks for it without a GPU too
def test_drop_in_trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    from adadpo.models.load import load_model, load_tokenizer, resolve_model
    from adadpo.quiet import quiet

    monkeypatch.chdir(tmp_path)
    source = resolve_model("tiny-random-llama")
    rows = [
        {
            "prompt": [{"role": "user", "content": f"Say {i}."}],
            "chosen": [{"role": "assistant", "content": f"{i}"}],
            "rejected": [{"role": "assistant", "content": "No."}],
        }
        for i in range(8)
    ]
    with quiet():
        names: dict[str, Any] = {
            "model": load_model(source),
            "tokenizer": load_tokenizer(source),
            "dataset": datasets.Dataset.from_list(rows),
        }
        exec(python_block("AdaDPOTrainer"), names)
    logged = names["trainer"].state.log_history[0]
    assert {"balance/chosen", "balance/rejected", "balance/clipped", "balance/log_gradient_ratio"} <= set(
        logged
    )


def test_sweep_is_right(tmp_path: Path) -> None:
    from sweeps.config.schema import load_spec

    (text,) = SWEEPS
    file = tmp_path / "sweep.yaml"
    file.write_text(text)
    assert load_spec(file).seeds == [0, 1, 2]


def test_commands_exist_and_all_are_named() -> None:
    from sweeps.cli.main import app

    shown = CliRunner().invoke(app, ["--help"]).output
    named = set(re.findall(r"^    adadpo (\w+)", README, flags=re.M))
    existing = {
        command.name or command.callback.__name__ for command in app.registered_commands if command.callback
    }
    assert named == existing
    assert all(name in shown for name in named)
