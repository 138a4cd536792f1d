"""State of the tests goes to a folder of its own, made before Prefect is imported, which reads its home once, and
torch takes one thread."""

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.terminal import SMOKE, Terminal, free_port, serving, wait_for

# The models are tiny, and on a busy machine torch's threads cost ten times the work by waiting for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["RETORT_HOME"] = tempfile.mkdtemp(prefix="retort-tests-")
atexit.register(shutil.rmtree, os.environ["RETORT_HOME"], ignore_errors=True)
for name in ("RETORT_DATABASE_URL", "RETORT_STORE", "MLFLOW_TRACKING_URI", "PREFECT_API_URL", "PREFECT_HOME"):
    os.environ.pop(name, None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that have slow tests first, so that no process is left with a long one when the others are done."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(scope="session")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    """With a Prefect server of its own, since a temporary one takes each command six seconds to start."""
    home, port = tmp_path_factory.mktemp("retort") / "home", free_port()
    url = f"http://127.0.0.1:{port}/api"
    settings = {
        "PREFECT_API_URL": url,
        "PREFECT_HOME": str(home.parent / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    }
    found = Terminal(home=home, more=tuple(settings.items()))
    command = [sys.executable, "-m", "prefect", "server", "start", "--port", str(port)]
    with (home.parent / "prefect.log").open("w", encoding="utf-8") as log:
        server = subprocess.Popen(command, env=found.environment, text=True, stdout=log, stderr=log)
    try:
        wait_for(f"{url}/health", server)
        yield found
    finally:
        server.terminate()
        server.wait(30)


@pytest.fixture(scope="session")
def built(terminal: Terminal) -> dict[str, Any]:
    """The summary of the first build, on a temporary Prefect server, as a newcomer has it."""
    summary: dict[str, Any] = replace(terminal, more=()).json("run", str(SMOKE))
    return summary


@pytest.fixture(scope="session")
def service(terminal: Terminal, built: dict[str, Any]) -> Iterator[str]:
    """Base URL of `retort serve smoke`."""
    with serving(terminal, "smoke") as url:
        yield url
