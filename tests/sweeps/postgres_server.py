"""A real PostgreSQL server on a loopback port of its own, in a folder of its own, for tests."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest

PASSWORD = "p@ss:w/rd %$x"  # every character that means something in a URL


def programs() -> Path | None:
    """Where initdb and postgres are; Debian keeps them off the PATH."""
    found = shutil.which("initdb")
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return Path(found).resolve().parent if found else debian[-1].parent if debian else None


class Server:
    """A running server; its superuser is `owner`, with the same password as `adadpo`, who owns the databases."""

    def __init__(self, folder: Path, bin_folder: Path, user: str | None) -> None:
        self.folder, self.bin, self.user = folder, bin_folder, user
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        (folder / "password").write_text(PASSWORD)
        self.run("initdb", "-D", folder / "data", "-U", "owner", "-A", "scram-sha-256", "--no-sync",
                 f"--pwfile={folder / 'password'}")  # fmt: skip
        self.start()
        self.sql(f"CREATE ROLE adadpo LOGIN PASSWORD '{PASSWORD}'")

    def run(self, program: str, *words: str | Path) -> str:
        """One of PostgreSQL's programs, as a user whom it accepts."""
        as_user = ["setpriv", f"--reuid={self.user}", "--clear-groups", "--"] if self.user else []
        done = subprocess.run(
            [*as_user, str(self.bin / program), *map(str, words)],
            capture_output=True, text=True, cwd="/", timeout=120,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "PGPASSWORD": PASSWORD},
        )  # fmt: skip
        assert done.returncode == 0, f"{program}: {done.stderr}{done.stdout}"
        return done.stdout

    def start(self) -> None:
        settings = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
        log = self.folder / "log"
        self.run("pg_ctl", "-D", self.folder / "data", "-o", settings, "-l", log, "-w", "start")

    def stop(self, how: str = "immediate") -> None:
        """`immediate` is a crash: no connection is told."""
        self.run("pg_ctl", "-D", self.folder / "data", "-m", how, "-w", "stop")

    def sql(self, statement: str, database: str = "postgres") -> str:
        """As the superuser."""
        return self.run("psql", "-h", "127.0.0.1", "-p", str(self.port), "-U", "owner", "-d", database,
                        "-v", "ON_ERROR_STOP=1", "-Atc", statement)  # fmt: skip

    def database(self, name: str) -> str:
        """A new, empty database; its URL for a sweep file, which needs STUDY_PASSWORD."""
        self.sql(f"CREATE DATABASE {name} OWNER adadpo")
        return f"postgresql://adadpo:$STUDY_PASSWORD@127.0.0.1:{self.port}/{name}"

    def full_url(self, name: str) -> str:
        return f"postgresql://adadpo:{quote(PASSWORD, safe='')}@127.0.0.1:{self.port}/{name}"


@contextmanager
def running_postgres() -> Iterator[Server]:
    """A server for the length of a block; where there is none, the test skips, or fails in CI."""
    bin_folder = programs()
    try:
        import psycopg  # noqa: F401 -- the driver that SQLAlchemy takes
    except ImportError:
        bin_folder = None
    if bin_folder is None:
        absent = "PostgreSQL or its driver psycopg is not installed"
        if os.environ.get("CI") == "true":
            pytest.fail(absent)
        pytest.skip(absent)
    # Not pytest's folder, which is closed to others: the server refuses to run as root.
    folder = Path(tempfile.mkdtemp(prefix="adadpo-pg-"))
    user = None
    if os.getuid() == 0:
        names = [entry.pw_name for entry in pwd.getpwall()]
        user = "postgres" if "postgres" in names else "nobody"
        shutil.chown(folder, user)
    server = None
    try:
        server = Server(folder, bin_folder, user)
        yield server
    finally:
        if server is not None and (folder / "data" / "postmaster.pid").exists():
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)
