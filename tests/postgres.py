"""A PostgreSQL server of the tests' own, from the binaries of this machine."""

import getpass
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.terminal import free_port

USER = "retort"


def binaries() -> Path | None:
    """The folder that has `initdb` and `pg_ctl`, which Debian keeps off the path."""
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in folders if (folder / "pg_ctl").exists()), None)


@contextmanager
def running(folder: Path) -> Iterator[str]:
    """SQLAlchemy URL of an empty database; the server is stopped and its files are removed at the end."""
    owner = _unprivileged()
    data, port = Path(tempfile.mkdtemp(prefix="retort-postgres-")), free_port()
    shutil.chown(data, owner)
    options = f"-p {port} -k {data} -c listen_addresses=127.0.0.1 -c fsync=off"

    def call(program: str, *arguments: str) -> None:
        as_owner = ["runuser", "-u", owner, "--"] if os.geteuid() == 0 else []
        subprocess.run(
            [*as_owner, folder / program, "-D", data / "cluster", *arguments],
            check=True, stdout=subprocess.DEVNULL, cwd=data,
        )  # fmt: skip

    try:
        call("initdb", "--username", USER, "--auth", "trust", "--encoding", "UTF8", "--no-locale")
        call("pg_ctl", "-w", "-l", str(data / "log"), "-o", options, "start")
        try:
            yield f"postgresql+psycopg://{USER}@127.0.0.1:{port}/postgres"
        finally:
            call("pg_ctl", "-w", "-m", "fast", "stop")
    finally:
        shutil.rmtree(data, ignore_errors=True)


def _unprivileged() -> str:
    """Who runs the server, since PostgreSQL refuses root."""
    if os.geteuid() != 0:
        return getpass.getuser()
    known = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in known else "nobody"
