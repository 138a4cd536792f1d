"""Changes under load: another champion and back, a rolling restart, a replica that is killed.

Two replicas stand behind the generator, which asks each for its readiness ten times a second, as a balancer does.
"""

import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import sqlalchemy as sa

from bento.database import champions, metadata
from bento.errors import RetortError
from bento.manifest import Manifest, folder_sha256
from flows.bench import row
from flows.bench_serve.bench import MAX_CONNECTIONS, Bench
from flows.bench_serve.systems import Running, free_port, running, service
from flows.bench_serve.traffic import Outcome, poisson, send

LOAD = 0.4
"""Of the capacity of one replica, so that one alone can carry it."""
NAME = "bench"
SWAP_TIMEOUT_S = 30.0


def change_rows(bench: Bench) -> list[dict[str, Any]]:
    """Failed requests of each change."""
    return [*swap_rows(bench), *restart_rows(bench), *kill_rows(bench)]


def swap_rows(bench: Bench) -> list[dict[str, Any]]:
    """The champion moves to another version and back while requests come."""
    with tempfile.TemporaryDirectory(prefix="retort-swap-") as folder:
        url = f"sqlite:///{folder}/retort.db"
        first, second = bench.model, _another(bench.model, Path(folder) / "second")
        point(url, first, "1")
        with running(service(bench.model, RETORT_FOLLOW=NAME, RETORT_DATABASE_URL=url)) as server:

            def change() -> None:
                for model, version in ((second, "2"), (first, "1")):
                    time.sleep(bench.effort.change_s / 4)
                    point(url, model, version)
                    wait_for_version(server, version)

            outcome = under_load(bench, [server], bench.effort.change_s, change)
    return [_failed_row("swap and rollback", outcome)]


def restart_rows(bench: Bench) -> list[dict[str, Any]]:
    """Each replica in turn is ended by SIGTERM and started again on its port."""
    ports = [free_port(), free_port()]
    with ExitStack() as whole:
        replicas = {port: whole.enter_context(ExitStack()) for port in ports}
        servers = [replica.enter_context(running(bench.service, port)) for port, replica in replicas.items()]
        seconds = bench.effort.change_s + 8 * max(server.ready_s for server in servers)  # with load they take longer

        def change() -> None:
            for port, replica in replicas.items():
                time.sleep(bench.effort.change_s / 4)
                replica.close()
                replica.enter_context(running(bench.service, port))

        outcome = under_load(bench, servers, seconds, change)
    return [_failed_row("rolling restart", outcome)]


def kill_rows(bench: Bench) -> list[dict[str, Any]]:
    """One of two replicas is gone at once; each lost request is sent once more."""
    with running(bench.service) as first, running(bench.service) as second:

        def change() -> None:
            time.sleep(bench.effort.change_s / 2)
            first.kill()

        outcome = under_load(bench, [first, second], bench.effort.change_s, change, retries=1)
    lost = int((outcome.tries_N > 1).sum())
    return [
        _failed_row("replica killed, after a retry", outcome),
        row("replica killed: lost in flight", lost, "requests", f"of {outcome.num_requests:,}"),
    ]


def under_load(
    bench: Bench, servers: list[Running], seconds: float, change: Callable[[], None], retries: int = 0
) -> Outcome:
    """What the requests saw that came while `change` ran. Raises: RetortError when it took longer than they came."""
    for server in servers:
        bench.warm(server)
    capacity = bench.closed_loop(servers[0], bench.effort.num_tuning).answered_per_s
    arrivals_s = poisson(LOAD * capacity, seconds, bench.rng)
    plan = bench.plan(
        servers[0], bench.texts.take(len(arrivals_s)), ports=tuple(server.port for server in servers),
        arrivals_s=arrivals_s, connections=MAX_CONNECTIONS, retries=retries,
    )  # fmt: skip
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(send, plan)
        change()
        if sending.done():
            raise RetortError(f"bench serve: the change was expected to end within {seconds:.0f} s of load, it did not")
        return sending.result()


def point(url: str, model: Path, version: str) -> None:
    """Make `model` the champion in a database of the benchmark's own."""
    values = {
        "name": NAME, "version": version, "model_sha256": folder_sha256(model), "model_path": str(model),
        "bento": f"{NAME}:{version}", "updated_at": time.time(),
    }  # fmt: skip
    engine = sa.create_engine(url, connect_args={"timeout": 30})
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(champions.delete())
        connection.execute(champions.insert().values(**values))
    engine.dispose()


def wait_for_version(server: Running, version: str) -> None:
    """Raises: RetortError when the service does not follow."""
    deadline = time.monotonic() + SWAP_TIMEOUT_S
    while time.monotonic() < deadline:
        if httpx.get(f"{server.url}/identity").json().get("version") == version:
            return
        time.sleep(0.05)
    raise RetortError(f"bench serve: expected version {version} to serve within {SWAP_TIMEOUT_S:g} s, it does not")


def _another(model: Path, folder: Path) -> Path:
    """The same model under another digest."""
    shutil.copytree(model, folder)
    manifest = Manifest.read(folder)
    manifest.model_copy(update={"lineage": manifest.lineage | {"copied_for": NAME}}).write(folder)
    return folder


def _failed_row(what: str, outcome: Outcome) -> dict[str, Any]:
    failed = outcome.num_failed
    against = f"of {outcome.num_requests:,}, p99 {outcome.quantile_ms(0.99):.3g} ms; {outcome.statuses()}"
    return row(f"{what}: failed", failed, "requests", against, target="0", met=failed == 0)
