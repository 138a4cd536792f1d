"""The database on PostgreSQL: release, service, feedback, a look and a rollback, with nothing in SQLite."""

import importlib.util
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa
import yaml

from tests import postgres
from tests.small import colours_build
from tests.terminal import Terminal, serving

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def database_url() -> Iterator[str]:
    folder = postgres.binaries()
    if folder is None or importlib.util.find_spec("psycopg") is None:
        pytest.skip("expected PostgreSQL's server programs and psycopg; apt-get install postgresql brings the first")
    with postgres.running(folder) as url:
        yield url


@pytest.fixture(scope="module")
def terminal_there(terminal: Terminal, database_url: str) -> Terminal:
    return replace(terminal, more=(*terminal.more, ("RETORT_DATABASE_URL", database_url)))


@pytest.fixture
def config(tmp_path: Path) -> Path:
    gate = {"accuracy": {"margin": 0.99}, "min_rows": 20}
    path = tmp_path / "colours.yaml"
    path.write_text(yaml.safe_dump(colours_build(tmp_path) | {"gate": gate}), encoding="utf-8")
    return path


def test_the_loop_runs_on_postgresql(terminal_there: Terminal, config: Path, database_url: str) -> None:
    first = terminal_there.json("run", str(config))
    assert first["outcome"] == "promoted"
    with serving(terminal_there, "colours") as url, httpx.Client(base_url=url) as client:
        _talk(client)
        second = terminal_there.json("run", str(config), "--set", "compress.2.threads=2")
        assert second["outcome"] == "promoted"
        back = terminal_there.json("rollback", "colours")
        assert (back["champion"], back["previous"]) == (first["version"], second["version"])
    look = terminal_there.json("monitor", str(config))
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
