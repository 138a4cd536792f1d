"""What is measured: the service, its peers in environments of their own, and how each of them is started."""

import contextlib
import hashlib
import importlib.metadata
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx
import psutil

from bento.errors import RetortError
from bento.processes import VARIABLE
from bento.settings import home

log = logging.getLogger("retort.bench")

SCRIPTS = Path(__file__).parent / "peers"
SAME_AS_HERE = ("onnxruntime", "tokenizers", "numpy")
"""Installed in a peer's environment in the versions of this one."""
READY_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 15.0
MAX_LOG_CHARACTERS = 2_000


def plain_body(text: str) -> str:
    """The request that this service, LitServe and the sketches take."""
    return json.dumps({"text": text})


def list_body(text: str) -> str:
    """BentoML's request for a batchable API."""
    return json.dumps({"texts": [text]})


def v2_body(text: str) -> str:
    """The open inference protocol's."""
    return json.dumps({"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": [text]}]})


@dataclass(frozen=True, kw_only=True)
class System:
    """One server with one setting; `{port}` and `{state}` in its words stand for what `running` chooses."""

    name: str
    setting: str = ""
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    path: str = "/predict"
    ready_path: str = "/readyz"
    body: Callable[[str], str] = plain_body

    @property
    def title(self) -> str:
        return f"{self.name}, {self.setting}" if self.setting else self.name


@dataclass(frozen=True, kw_only=True)
class Absent:
    """A peer that cannot be measured here."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class Running:
    """A started server."""

    system: System
    port: int
    process: "subprocess.Popen[bytes]"
    state: Path
    """A folder of its own, gone when it ends."""
    ready_s: float

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def processes(self) -> list[psutil.Process]:
        """The process and all below it."""
        parent = psutil.Process(self.process.pid)
        return [parent, *parent.children(recursive=True)]

    def cpu_s(self) -> float:
        """CPU seconds of all its processes so far."""
        return sum(times.user + times.system for times in (each.cpu_times() for each in self.processes()))

    def resident_bytes(self) -> int:
        """Of all its processes."""
        return sum(each.memory_info().rss for each in self.processes())

    def kill(self) -> None:
        """End it at once, as a machine that loses its power."""
        for process in self.processes():
            process.kill()


def service(model: Path, **environment: str) -> System:
    """The service as this code has it, started as `bentoml serve` starts it, with its defaults and `environment`."""
    return System(
        name="Retort",
        command=(
            sys.executable, "-m", "bentoml", "serve", "bento.service:Retort", "--host", "127.0.0.1", "-p", "{port}"
        ),
        environment={
            "RETORT_HOME": "{state}", "RETORT_DATABASE_URL": "sqlite:///{state}/retort.db", "BENTOML_HOME": "{state}",
            "RETORT_MODEL": str(model), **environment,
        },
    )  # fmt: skip


def in_processes(system: System, number: int) -> System:
    """The service in so many processes."""
    if number == 1:
        return system
    return replace(system, setting=f"{number} processes", environment={**system.environment, VARIABLE: str(number)})


@contextlib.contextmanager
def running(system: System, port: int | None = None) -> Iterator[Running]:
    """Start `system` and wait until it is ready; it is stopped at the end. Raises: RetortError when it never is."""
    port = port or free_port()
    with tempfile.TemporaryDirectory(prefix="retort-bench-", ignore_cleanup_errors=True) as folder:
        state = Path(folder)

        def filled(word: str) -> str:
            return word.replace("{port}", str(port)).replace("{state}", str(state))

        kept = {name: value for name, value in os.environ.items() if not name.startswith("RETORT_")}
        environment = kept | {name: filled(value) for name, value in system.environment.items()}
        start = time.perf_counter()
        with (state / "log").open("wb") as output:
            process = subprocess.Popen(
                [*_dying_with_us(), *map(filled, system.command)], env=environment, cwd=state, stdout=output,
                stderr=output, start_new_session=True,
            )  # fmt: skip
        try:
            wait_until_ready(f"http://127.0.0.1:{port}{system.ready_path}", system, process, state / "log")
            ready_s = time.perf_counter() - start
            yield Running(system=system, port=port, process=process, state=state, ready_s=ready_s)
        finally:
            _stop(process)


def wait_until_ready(url: str, system: System, process: "subprocess.Popen[bytes]", output: Path) -> None:
    """Raises: RetortError with the end of what the process wrote."""
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(url, timeout=2).status_code == 200:
                return
        time.sleep(0.05)
    tail = output.read_text(encoding="utf-8", errors="replace")[-MAX_LOG_CHARACTERS:]
    raise RetortError(f"{system.title} was not ready within {READY_TIMEOUT_S:g} s; its log ends with:\n{tail}")


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _dying_with_us() -> list[str]:
    """Words before a command that end it when this process is killed, where util-linux has them."""
    return ["setpriv", "--pdeathsig", "TERM"] if shutil.which("setpriv") else []


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """SIGTERM to the first process, then SIGKILL to what is left of its group."""
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_TIMEOUT_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def environment_python(packages: Sequence[str]) -> Path:
    """Python of an environment that has exactly these packages with what they need, made at the first call.

    Raises: subprocess.CalledProcessError when they cannot be installed.
    """
    key = hashlib.sha256(" ".join(packages).encode()).hexdigest()[:16]
    folder = home() / "bench" / "environments" / key
    python = folder / "bin" / "python"
    if (folder / "complete").is_file():
        return python
    log.info("installing %s", " ".join(packages))
    shutil.rmtree(folder, ignore_errors=True)
    for command in ([sys.executable, "-m", "venv", str(folder)], [str(python), "-m", "pip", "install", *packages]):
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    (folder / "complete").touch()
    return python


def as_here(packages: Sequence[str]) -> list[str]:
    """`name==version` of packages as installed in this environment."""
    return [f"{package}=={importlib.metadata.version(package)}" for package in packages]


def settings_in(
    packages: Sequence[str], make: Callable[[str, Path], list[System]], model: Path
) -> list[System] | Absent:
    """What `make` gives for the Python of an environment with `packages` and the runtime of this one."""
    try:
        return make(str(environment_python((*packages, *as_here(SAME_AS_HERE)))), model)
    except subprocess.CalledProcessError as error:
        return Absent(reason=f"{packages[0]} cannot be installed: {str(error.stderr).strip()[-300:]}")
