"""Every error of the project ends a command with its message and its exit code, without a traceback."""

from __future__ import annotations

import gc
import signal

import pytest

from adadpo import errors
from sweeps.cli import main as cli


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.UserError("text"), 2),
        (errors.FailureError("text"), 1),
        (errors.ModelError("text"), 2),
        (errors.DataError("text"), 2),
        (errors.JudgeError("text"), 1),
        (errors.AnnotationError("text"), 2),
        (errors.AssetError("text"), 1),
        (errors.ReportError("text"), 1),
        (errors.ResultsError("text"), 2),
        (OSError(28, "No space left on device", "results.json"), 1),
    ],
    ids=lambda value: type(value).__name__,
)
def test_message_and_exit_code(
    error: Exception, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(**_: object) -> None:
        raise error

    monkeypatch.setattr(cli, "app", fail)
    monkeypatch.setattr(cli, "wait_briefly", lambda: None)
    monkeypatch.setattr(gc, "set_threshold", lambda *_: None)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    assert exit_.value.code == code
    text = "No space left on device: results.json" if isinstance(error, OSError) else "text"
    assert capsys.readouterr().err == f"adadpo: {text}\n"
