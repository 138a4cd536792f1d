"""The tables are made once, whoever comes first."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
import sqlalchemy as sa

from bento import database
from bento.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]


def test_threads_that_come_first_together_all_find_the_tables(tmp_path: Path) -> None:
    start = Barrier(4)

    def first(url: str) -> sa.Engine:
        start.wait()
        return database._engine(url)

    with ThreadPoolExecutor(4) as threads:
        for number in range(100):
            for engine in threads.map(first, [f"sqlite:///{tmp_path}/{number}.db"] * 4):
                assert {"requests", "feedback", "champions"} <= set(sa.inspect(engine).get_table_names())
                engine.dispose()


def test_a_table_that_another_process_makes_meanwhile_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path}/retort.db"
    create = database.metadata.create_all
    planted = []

    def after_another(engine: sa.Engine) -> None:
        if planted:
            return create(engine)
        planted.append(engine)
        create(engine)
        return create(engine, checkfirst=False)  # what `create_all` does after it looked too early

    monkeypatch.setattr(database.metadata, "create_all", after_another)
    assert sa.inspect(database._engine(url)).has_table("champions")


def test_a_database_that_is_away_is_an_error_at_once(tmp_path: Path) -> None:
    (tmp_path / "retort.db").mkdir()
    with pytest.raises(sa.exc.OperationalError, match="unable to open"):
        database._engine(f"sqlite:///{tmp_path}/retort.db")


def start_together(url: str) -> list[int]:
    """Exit codes of processes that open the same database at about the same time."""
    code = f"from bento import database; database._engine({url!r})"
    processes = [subprocess.Popen([sys.executable, "-c", code], cwd=ROOT) for _ in range(4)]
    return [process.wait(30) for process in processes]


def test_processes_that_start_together_on_a_new_database_all_find_it(tmp_path: Path) -> None:
    assert start_together(f"sqlite:///{tmp_path}/retort.db") == [0] * 4


@pytest.mark.slow
def test_they_do_on_postgresql_too(postgresql: str) -> None:
    assert start_together(postgresql) == [0] * 4


def test_a_database_of_an_earlier_version_gets_the_columns_that_came_since_and_keeps_its_rows(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/retort.db"
    old = sa.MetaData()
    for table in (database.requests, database.feedback):
        sa.Table(
            table.name,
            old,
            *(
                sa.Column(column.name, column.type)
                for column in table.columns
                if column.name not in ("caller", "source")
            ),
        )
    engine = sa.create_engine(url)
    old.create_all(engine)
    with engine.begin() as connection:
        connection.execute(sa.text("INSERT INTO feedback (name, request_id, item, label) VALUES ('a', 'b', 0, 'c')"))
    engine.dispose()
    with database._engine(url).connect() as connection:
        assert connection.execute(sa.select(database.feedback.c.label, database.feedback.c.source)).all() == [
            ("c", None)
        ]
        assert connection.execute(sa.select(database.requests.c.caller)).all() == []


def test_processes_that_add_a_column_together_all_find_it(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/retort.db"
    engine = sa.create_engine(url)
    database.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE feedback DROP COLUMN source"))
    engine.dispose()
    assert start_together(url) == [0] * 4
    assert "source" in {column["name"] for column in sa.inspect(database._engine(url)).get_columns("feedback")}


@pytest.mark.parametrize("url", ["foo", "nosuch://host/db", "postgresql+nosuch://ada:secret@host/db"])
def test_an_address_that_is_none_is_refused_without_its_password(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETORT_DATABASE_URL", url)
    with pytest.raises(ConfigError, match="RETORT_DATABASE_URL: expected") as caught:
        database.engine()
    assert "secret" not in str(caught.value)
