"""Prefect deployments of all flows: the build with its retrain trigger, the monitor with its schedule, the rollback."""

import logging
import os
from pathlib import Path
from typing import Any, cast

import httpx
from prefect import serve
from prefect.client.schemas.objects import ConcurrencyLimitConfig
from prefect.deployments import deploy
from prefect.events import DeploymentEventTrigger
from prefect.flows import Flow

from bento.errors import UserError
from flows.build import build
from flows.config import Config, load_config
from flows.monitor import HARM_EVENT, monitor, resource_id
from flows.rollback import rollback

log = logging.getLogger("retort.deploy")

ROOT = Path(__file__).resolve().parent.parent
ONE_AT_A_TIME = ConcurrencyLimitConfig(limit=1)


def deploy_all(configs: list[Path], *, pool: str | None) -> None:
    """Register all flows of all configs; with a pool return then, else execute their runs here until stopped.

    Raises: UserError when no Prefect server answers, since schedules need one.
    """
    _require_server()
    chosen = [(path, load_config(path)) for path in configs]
    if pool is None:
        serve(*(deployment for path, config in chosen for deployment in _deployments(path, config)))
        return
    for path, config in chosen:
        found = _deployments(path, config, from_source=True)
        deploy(*found, work_pool_name=pool, build=False, push=False)


def _deployments(path: Path, config: Config, *, from_source: bool = False) -> list[Any]:
    common: dict[str, Any] = {"tags": ["retort", config.name], "name": config.name}
    return [
        _source(build, "build", from_source).to_deployment(
            parameters={"config": str(path)},
            triggers=[_retrain_trigger(path, config)],
            concurrency_limit=ONE_AT_A_TIME,
            description=f"Build, gate and release {config.name}; started by hand or by the monitor's harm event.",
            **common,
        ),
        _source(monitor, "monitor", from_source).to_deployment(
            parameters={"config": str(path)},
            cron=config.monitor.schedule,
            concurrency_limit=ONE_AT_A_TIME,
            description=f"Look at the traffic of {config.name} for drift and harm.",
            **common,
        ),
        _source(rollback, "rollback", from_source).to_deployment(
            parameters={"name": config.name},
            concurrency_limit=ONE_AT_A_TIME,
            description=f"Put the champion before the present one of {config.name} back into service.",
            **common,
        ),
    ]


def _source(flow: Flow[..., Any], module: str, from_source: bool) -> Flow[..., Any]:
    if not from_source:
        return flow
    loaded = flow.from_source(source=str(ROOT), entrypoint=f"flows/{module}.py:{module}")
    return cast(Flow[..., Any], loaded)


def _retrain_trigger(path: Path, config: Config) -> DeploymentEventTrigger:
    """A harm event of this model starts the build with the labelled rows that the event names."""
    return DeploymentEventTrigger(
        name=f"retrain {config.name} on harm",
        expect={HARM_EVENT},
        match={"prefect.resource.id": resource_id(config.name)},
        parameters={"config": str(path), "extra": "{{ event.payload.extra }}", "why": "{{ event.payload.reason }}"},
    )


def _require_server() -> None:
    url = os.environ.get("PREFECT_API_URL")
    try:
        if url and httpx.get(f"{url}/health", timeout=5).status_code == 200:
            return
    except httpx.HTTPError:
        log.debug("no answer from the Prefect server", exc_info=True)
    shown = "PREFECT_API_URL is not set" if not url else "the server that PREFECT_API_URL names does not answer"
    raise UserError(
        f"deploy: expected a running Prefect server, since schedules need one, but {shown}. Start one with "
        "`prefect server start` and set PREFECT_API_URL=http://127.0.0.1:4200/api"
    )
