"""The peers with the settings that each is tried with; the best one of each is compared."""

import itertools
import sys
from pathlib import Path

from flows.bench_serve.systems import SCRIPTS, Absent, System, list_body, plain_body, settings_in, v2_body

BENTOML, LITSERVE, MLSERVER, UVICORN = "stock BentoML 1.4.39", "LitServe 0.2.19", "MLServer 1.7.1", "uvicorn"
LITSERVE_PACKAGES = ("litserve==0.2.19", "uvloop==0.23.0", "httptools==0.9.0")
MLSERVER_PACKAGES = ("mlserver==1.7.1", "uvloop==0.21.0", "httptools==0.9.0")
"""Its parallel workers do not start with a newer uvloop."""
BATCHES = (1, 8, 32)
WORKERS = (1, 2)


def contenders(model: Path) -> dict[str, list[System] | Absent]:
    """Every peer with its settings, or why it is not there."""
    return {
        BENTOML: stock_bentoml(model),
        LITSERVE: settings_in(LITSERVE_PACKAGES, litserve, model),
        MLSERVER: settings_in(MLSERVER_PACKAGES, mlserver, model),
        UVICORN: bare_uvicorn(model),
    }


def stock_bentoml(model: Path) -> list[System]:
    """Both APIs, in one process and in two; in this environment, which has BentoML."""
    return [
        System(
            name=BENTOML,
            setting=f"{api.lower()}, {workers} workers",
            command=(
                sys.executable, "-m", "bentoml", "serve", f"stock_bentoml:{api}", "--working-dir", str(SCRIPTS),
                "--host", "127.0.0.1", "-p", "{port}",
            ),
            environment=_environment(model, workers=workers) | {"BENTOML_HOME": "{state}"},
            body=plain_body if api == "Plain" else list_body,
        )
        for api, workers in itertools.product(("Plain", "Batchable"), WORKERS)
    ]  # fmt: skip


def litserve(python: str, model: Path) -> list[System]:
    """Batches of several sizes, without and with a wait for more, one and two workers, each with its HTTP process."""
    tried = [(1, 0.0), (8, 0.0), (8, 0.002), (32, 0.0), (32, 0.005)]
    return [
        System(
            name=LITSERVE,
            setting=f"batches of {batch}, {1e3 * wait_s:g} ms, {workers} workers",
            command=(python, str(SCRIPTS / "litserve_api.py")),
            environment=_environment(model, workers=workers, batch=batch, wait_s=wait_s, api_servers=1),
            ready_path="/health",
        )
        for (batch, wait_s), workers in itertools.product(tried, WORKERS)
    ]


def mlserver(python: str, model: Path) -> list[System]:
    """Adaptive batching of several sizes, inside the HTTP process and in parallel workers."""
    tried = [(0, 0.0), (8, 0.002), (32, 0.002), (32, 0.01)]
    return [
        System(
            name=MLSERVER,
            setting=f"batches of {batch or 1}, {1e3 * wait_s:g} ms, {workers} parallel workers",
            command=(str(Path(python).parent / "mlserver"), "start", "{state}"),
            environment=_environment(model)
            | {
                "MLSERVER_HOST": "127.0.0.1", "MLSERVER_HTTP_PORT": "{port}", "MLSERVER_GRPC_PORT": "0",
                "MLSERVER_METRICS_ENDPOINT": "", "MLSERVER_DEBUG": "false",
                "MLSERVER_PARALLEL_WORKERS": str(workers), "MLSERVER_MODEL_NAME": "text",
                "MLSERVER_MODEL_IMPLEMENTATION": "mlserver_model.Texts",
                "MLSERVER_MODEL_MAX_BATCH_SIZE": str(batch), "MLSERVER_MODEL_MAX_BATCH_TIME": str(wait_s),
            },
            path="/v2/models/text/infer", ready_path="/v2/models/text/ready", body=v2_body,
        )
        for (batch, wait_s), workers in itertools.product(tried, (0, *WORKERS))
    ]  # fmt: skip


def bare_uvicorn(model: Path) -> list[System]:
    """One process, batches of several sizes; in this environment, which has uvicorn and starlette."""
    return [
        System(
            name=UVICORN,
            setting=f"batches of {batch}",
            command=(sys.executable, str(SCRIPTS / "uvicorn_app.py")),
            environment=_environment(model, batch=batch),
        )
        for batch in BATCHES
    ]


def _environment(model: Path, **settings: object) -> dict[str, str]:
    """What the scripts read."""
    named = {f"PEER_{name.upper()}": str(value) for name, value in settings.items()}
    return {"PEER_MODEL": str(model), "PEER_PORT": "{port}", "PYTHONPATH": str(SCRIPTS), **named}
