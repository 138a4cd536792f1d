"""The database on PostgreSQL: release, service, feedback, a look and a rollback, with nothing in SQLite."""

import importlib.util
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from tests import postgres
from tests.terminal import BESIDE_LOAD, SMOKE, Terminal, free_port, wait_for

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def database_url() -> Iterator[str]:
    folder = postgres.binaries()
    if folder is None or importlib.util.find_spec("psycopg") is None:
        pytest.skip("expected PostgreSQL's server programs and psycopg; apt-get install postgresql brings the first")
    with postgres.running(folder) as url:
        yield url


@pytest.fixture(scope="module")
def terminal_there(terminal: Terminal, built: dict[str, Any], database_url: str) -> Terminal:
    """The store of the first build, but a database without any champion."""
    return replace(terminal, more=(*terminal.more, ("RETORT_DATABASE_URL", database_url)))


def test_the_loop_runs_on_postgresql(terminal_there: Terminal, database_url: str) -> None:
    first = terminal_there.json("run", str(SMOKE))
    assert (first["outcome"], {stage["cached"] for stage in first["stages"]}) == ("promoted", {True})
    port = free_port()
    service = terminal_there.start("serve", "smoke", "--port", str(port))
    try:
        wait_for(f"http://127.0.0.1:{port}/readyz", service)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
            _talk(client)
            second = terminal_there.json("run", str(SMOKE), "--set", "compress.2.threads=2", *BESIDE_LOAD)
            assert second["outcome"] == "promoted"
            back = terminal_there.json("rollback", "smoke")
            assert (back["champion"], back["previous"]) == (first["version"], second["version"])
    finally:
        service.terminate()
        service.wait(20)
    look = terminal_there.json("monitor", str(SMOKE))
    assert look["evidence"]["harm"]["num_labels"] == 1
    with sa.create_engine(database_url, poolclass=sa.NullPool).connect() as connection:
        names = set(sa.inspect(connection).get_table_names())
        texts = connection.execute(sa.text("SELECT text FROM requests")).scalars().all()
    assert {"requests", "feedback", "champions", "ledger", "looks"} <= names
    assert texts == ["my laptop \ufffd does not start"]


def _talk(client: httpx.Client) -> None:
    """One request with a character that PostgreSQL refuses, tried again by its client, and its label."""
    body = {"text": "my laptop \0 does not start", "request_id": "r1"}
    answers = [client.post("/predict", json=body).json() for _ in range(2)]
    assert answers[0] == answers[1]
    label = answers[0]["predictions"][0]["label"]
    assert client.post("/feedback", json={"request_id": "r1", "label": label}).json()["agrees"] is True
