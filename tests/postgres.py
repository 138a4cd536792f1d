"""A PostgreSQL server of the tests' own, from the binaries of this machine."""

import getpass
import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bento import database
from tests.terminal import free_port

USER = "retort"


def binaries() -> Path | None:
    """The folder that has `initdb` and `pg_ctl`, which Debian keeps off the path."""
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in folders if (folder / "pg_ctl").exists()), None)


def database_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """What a fixture yields: the URL of an empty PostgreSQL that is Retort's database; skips where there is none."""
    folder = binaries()
    if folder is None or importlib.util.find_spec("psycopg") is None:
        pytest.skip("expected PostgreSQL's server programs and psycopg; apt-get install postgresql brings the first")
    with running(folder) as url:
        monkeypatch.setenv("RETORT_DATABASE_URL", url)
        yield url
        database.engine().dispose()


@contextmanager
def running(folder: Path) -> Iterator[str]:
    """SQLAlchemy URL of an empty database; the server is stopped and its files are removed at the end."""
    with stopped(folder) as (url, control):
        control("start")
        yield url


@contextmanager
def stopped(folder: Path) -> Iterator[tuple[str, Callable[[str], None]]]:
    """The URL of an empty database whose server does not run, and what makes it `start` and `stop`."""
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

    def control(action: str) -> None:
        how = {"start": ["-l", str(data / "log"), "-o", options], "stop": ["-m", "fast"]}[action]
        call("pg_ctl", "-w", *how, action)

    try:
        call("initdb", "--username", USER, "--auth", "trust", "--encoding", "UTF8", "--no-locale")
        yield f"postgresql+psycopg://{USER}@127.0.0.1:{port}/postgres", control
    finally:
        if (data / "cluster/postmaster.pid").exists():
            control("stop")
        shutil.rmtree(data, ignore_errors=True)


def _unprivileged() -> str:
    """Who runs the server, since PostgreSQL refuses root."""
    if os.geteuid() != 0:
        return getpass.getuser()
    known = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in known else "nobody"
