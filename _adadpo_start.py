"""The command's first module: it refuses to start where another file shadows a package, then runs the command line.

Its name is nobody else's, and it imports what every Python has loaded already: a user's `json.py` cannot break it.
"""

import os
import sys

PACKAGES = ("adadpo", "analysis", "reports", "sweeps")
# Of these a single file on PYTHONPATH is never the library.
LIBRARIES = (
    "accelerate", "alpaca_eval", "datasets", "filelock", "jinja2", "numpy", "openai", "optuna", "pandas", "peft",
    "pydantic", "rich", "ruamel", "safetensors", "scipy", "submitit", "torch", "transformers", "trl", "typer",
)  # fmt: skip


def find_shadow(path: list[str], python_path: str) -> str | None:
    """What shadows one of the four packages, Python's own modules or a library, in a sentence; None: nothing.

    Args:
        path: as `sys.path`.
        python_path: the variable PYTHONPATH.
    """
    variable = list(map(_real, python_path.split(os.pathsep))) if python_path else []
    others = [_real(entry) for entry in path if entry and _real(entry) not in variable]
    home = next((each for each in others if os.path.isfile(os.path.join(each, "_adadpo_start.py"))), None)
    home = home or _real(os.path.dirname(__file__))
    for entry in map(_real, path):
        if entry == home:
            break  # what comes later shadows nothing
        for name in PACKAGES:
            if file := _module(entry, name):
                return _sentence(file, f"adadpo's own package {name!r} (in {home})", entry in variable)
    trusted = {home, _real(os.path.dirname(os.__file__)), *others}
    for entry in [each for each in variable if each not in trusted and os.access(each, os.R_OK)]:
        for found in sorted(os.listdir(entry)) if os.path.isdir(entry) else []:
            name = found.removesuffix(".py")
            if (file := _module(entry, name)) is None:
                continue
            if name in sys.stdlib_module_names:
                return _sentence(file, f"Python's own module {name!r}", True)
            if name in LIBRARIES and file.endswith(f"{name}.py"):
                return _sentence(file, f"the library {name!r}", True)
    return None


def _module(entry: str, name: str) -> str | None:
    files = (os.path.join(entry, name, "__init__.py"), os.path.join(entry, f"{name}.py"))
    return next((file for file in files if os.path.isfile(file)), None)


def _real(entry: str) -> str:
    return os.path.realpath(entry or ".")


def _sentence(file: str, what: str, by_variable: bool) -> str:
    if by_variable:
        return f"{file} shadows {what}: PYTHONPATH puts its folder first; unset PYTHONPATH or rename the file"
    return f"{file} shadows {what}: its folder comes first in sys.path; start `adadpo`, or rename the file"


def check_and_protect() -> None:
    """End with exit code 2 where something shadows a package; Python in child processes ignores its folder."""
    shadow = find_shadow(sys.path, os.environ.get("PYTHONPATH", ""))
    if shadow is not None:
        sys.stderr.write(f"adadpo: {shadow}\n")
        sys.stderr.flush()
        os._exit(2)  # without exit handlers, which a shadow may have broken
    os.environ["PYTHONSAFEPATH"] = "1"


def main() -> None:
    """The command `adadpo`."""
    check_and_protect()
    from sweeps.cli.entry import main as command

    command()
