"""State of the tests goes to a folder of its own, made before Prefect is imported, which reads its home once, and
torch takes one thread."""

import os
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest

from tests.terminal import SMOKE, Terminal, free_port, wait_for

# The models are tiny, and on a busy machine torch's threads cost ten times the work by waiting for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["RETORT_HOME"] = tempfile.mkdtemp(prefix="retort-tests-")
for name in ("RETORT_DATABASE_URL", "RETORT_STORE", "MLFLOW_TRACKING_URI", "PREFECT_API_URL", "PREFECT_HOME"):
    os.environ.pop(name, None)


@pytest.fixture(scope="session")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Terminal:
    home = tmp_path_factory.mktemp("retort") / "home"
    return Terminal(home=home)


@pytest.fixture(scope="session")
def built(terminal: Terminal) -> dict[str, Any]:
    """The summary of the first build."""
    summary: dict[str, Any] = terminal.json("run", str(SMOKE))
    return summary


@pytest.fixture(scope="session")
def service(terminal: Terminal, built: dict[str, Any]) -> Iterator[str]:
    """Base URL of `retort serve smoke`."""
    port = free_port()
    process = terminal.start("serve", "smoke", "--port", str(port))
    try:
        wait_for(f"http://127.0.0.1:{port}/readyz", process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)
