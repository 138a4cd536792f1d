"""A tiny model, a private state folder, and apps around them."""

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bento.app import Server, create_app
from bento.serve_settings import ServeSettings
from tests import postgres
from tests.serving import Client, serving
from tests.tiny import write_tiny_model

LABELS = ("card_lost", "refund", "transfer")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder of the test's own."""
    monkeypatch.setenv("RETORT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("RETORT_DATABASE_URL", raising=False)
    return tmp_path / "home"


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder; tests that alter a model make their own."""
    return write_tiny_model(tmp_path_factory.mktemp("model"), labels=LABELS)


@pytest.fixture(scope="session")
def model_of_pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder whose inputs are pairs of sentences."""
    return write_tiny_model(tmp_path_factory.mktemp("pairs"), labels=LABELS, pairs=True)


@pytest.fixture
def make_server(model: Path) -> Callable[..., Server]:
    """Build a server on the tiny model, settings changed by keyword."""

    def make(**changes: object) -> Server:
        return Server(ServeSettings(**({"model": model, "audit_rate": 1.0} | changes)))

    return make


@pytest.fixture
def server(make_server: Callable[..., Server]) -> Server:
    return make_server()


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with serving(create_app(server)) as client:
        yield client


@pytest.fixture
def postgresql() -> Iterator[str]:
    """URL of an empty PostgreSQL database."""
    folder = postgres.binaries()
    if folder is None or importlib.util.find_spec("psycopg") is None:
        pytest.skip("expected PostgreSQL's server programs and psycopg; apt-get install postgresql brings the first")
    with postgres.running(folder) as url:
        yield url
