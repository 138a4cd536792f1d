"""What the surroundings do to a run is told in words, without a password and without a traceback."""

import errno
from typing import Any

import pytest
import sqlalchemy as sa
from prefect.client.orchestration import SyncPrefectClient

from flows.failures import OutsideError, in_words, no_prefect


def raised(error: Exception) -> str:
    with pytest.raises(OutsideError) as found, in_words("monitor tiny"):
        raise error
    return str(found.value)


@pytest.mark.parametrize("kind", [sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.DatabaseError])
def test_a_database_that_does_not_answer_is_named_without_its_password(
    kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RETORT_DATABASE_URL", "postgresql+psycopg://retort:T0PSECRET@10.0.0.1/retort")
    text = raised(kind("SELECT 1", {}, Exception("connection refused\nmore")))
    assert text.startswith(
        "monitor tiny: expected Retort's database at postgresql+psycopg://retort:***@10.0.0.1/retort"
    )
    assert "(connection refused)" in text
    assert "nothing moved" in text
    assert "T0PSECRET" not in text


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device", "/data/store/x"),
        OSError(errno.EDQUOT, "Disk quota exceeded", "/data/store/x"),
        sa.exc.OperationalError("INSERT", {}, Exception("database or disk is full")),
    ],
)
def test_a_full_disk_is_named(error: Exception) -> None:
    text = raised(error)
    assert text.startswith("monitor tiny: expected room to write, but the disk is full (")
    assert "Free some space" in text


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError("gone"),
        sa.exc.ProgrammingError("SELEC", {}, Exception("syntax")),
        sa.exc.IntegrityError("INSERT", {}, Exception("twice")),
        ZeroDivisionError(),
    ],
)
def test_mistakes_of_our_own_keep_their_traceback(error: Exception) -> None:
    with pytest.raises(type(error)), in_words("monitor tiny"):
        raise error


def test_a_prefect_server_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    with pytest.raises(RuntimeError) as found:
        SyncPrefectClient("http://127.0.0.1:9/api").raise_for_api_version_mismatch()
    told = str(no_prefect(found.value))
    assert "the Prefect server of PREFECT_API_URL" in told
    assert "127.0.0.1:9" in told
    assert "unset PREFECT_API_URL" in told


def test_a_temporary_prefect_server_that_does_not_start_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    told = no_prefect(RuntimeError("Timed out while attempting to connect to ephemeral Prefect API server."))
    assert "temporary server" in str(told)


def test_other_failures_are_not_taken_for_prefects() -> None:
    assert no_prefect(RuntimeError("Failed to allocate")) is None
    assert no_prefect(ValueError("Failed to reach API at http://x")) is None
