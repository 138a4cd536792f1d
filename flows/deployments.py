"""Prefect deployments of all flows, from one definition: served here, put into a work pool, or as a `prefect.yaml`.

| flow | started by |
|---|---|
| build | hand |
| retrain | the monitor's harm event |
| correct-prior | the monitor's mix event |
| experiment | its schedule, where the config has `release.experiment` |
| monitor | its schedule |
| rollback | hand |

None has a concurrency limit of Prefect's: that lets go of a suspended run, and after a restart of the server never of a
killed one. Leases in Retort's database keep two retrains, or two looks, of one model apart.
"""

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import httpx
import yaml
from prefect import serve
from prefect.deployments import deploy
from prefect.events import DeploymentEventTrigger
from prefect.flows import Flow

from bento.errors import UserError
from flows.build import build
from flows.config import Config, load_config
from flows.correct_prior import correct_prior
from flows.experiment import experiment
from flows.monitor import HARM_EVENT, MIX_EVENT, monitor, resource_id
from flows.retrain import retrain
from flows.rollback import rollback
from tasks.outputs import require_output

log = logging.getLogger("retort.deploy")

ROOT = Path(__file__).resolve().parent.parent
POOL = "retort"
"""Work pool that `prefect.yaml` names where none is asked for."""
LOOK = {
    "__prefect_kind": "json",
    "value": {"__prefect_kind": "jinja", "template": "{{ event.payload.look }}"},
}
"""A number stays one only so."""
CHECKOUT_IN_IMAGE = "/opt/prefect/retort"
"""Where Prefect's own image builds put a project of this name."""
YAML_HEAD = """\
# Deployments of all flows for `prefect deploy --all`, from the checkout. Not to be edited: the same definition that
# `retort deploy` uses has written it, with `retort deploy {arguments}--yaml {file}`.
"""


@dataclass(frozen=True, kw_only=True)
class Definition:
    """One deployment, in Prefect's own words."""

    flow: Flow[..., Any]
    name: str
    description: str
    parameters: Mapping[str, Any]
    cron: str | None = None
    triggers: tuple[DeploymentEventTrigger, ...] = ()
    tags: tuple[str, ...] = field(default=("retort",))

    @property
    def entrypoint(self) -> str:
        """Where Prefect finds the flow, from the checkout."""
        return f"{self.flow.fn.__module__.replace('.', '/')}.py:{self.flow.fn.__name__}"

    def deployment(self, flow: Flow[..., Any]) -> Any:
        """For Prefect's Python API; `flow` is this one, or the same loaded from where a worker finds it."""
        return flow.to_deployment(
            name=self.name,
            description=self.description,
            parameters=dict(self.parameters),
            cron=self.cron,
            triggers=list(self.triggers),
            tags=list(self.tags),
        )

    def entry(self, pool: str, image: str | None) -> dict[str, Any]:
        """For the list `deployments` of a `prefect.yaml`."""
        return {
            "name": self.name,
            "entrypoint": self.entrypoint,
            "description": self.description,
            "parameters": dict(self.parameters),
            "schedules": [{"cron": self.cron}] if self.cron else [],
            "triggers": [trigger.model_dump(mode="json", exclude_unset=True) for trigger in self.triggers],
            "tags": list(self.tags),
            "work_pool": {"name": pool, "job_variables": {"image": image} if image else {}},
        }


def define(config: Config, path: str) -> list[Definition]:
    """All deployments of one model; `path` is its config as the runs will find it."""
    name, given, why = config.name, {"config": path}, {"why": "{{ event.payload.reason }}"}
    one = partial(Definition, name=name, parameters=given, tags=("retort", name))
    on_harm = trigger(config, HARM_EVENT, f"retrain {name} on harm", given | why | {"look": LOOK})
    on_mix = trigger(config, MIX_EVENT, f"correct the prior of {name}", given | why)
    tried = config.release.experiment
    looks_at_experiment = f"Look at the experiment of {name}: promote, veto, roll back or wait."
    return [
        one(flow=build, description=f"Build, gate and release {name}; started by hand."),
        one(
            flow=retrain, triggers=(on_harm,),
            description=f"Build {name} again with what its traffic taught; started by the monitor's harm event.",
        ),
        one(
            flow=correct_prior, triggers=(on_mix,),
            description=f"Correct the prior of {name} for another mix; started by the monitor's mix event.",
        ),
        *([one(flow=experiment, cron=tried.schedule, description=looks_at_experiment)] if tried else []),
        one(
            flow=monitor, cron=config.monitor.schedule,
            description=f"Look at the traffic of {name} for drift and harm.",
        ),
        one(
            flow=rollback, parameters={"name": name, "notify": list(config.notify)},
            description=f"Put the champion before the present one of {name} back into service.",
        ),
    ]  # fmt: skip


def trigger(config: Config, event: str, name: str, parameters: dict[str, Any]) -> DeploymentEventTrigger:
    """An automation, named and to be edited in Prefect's UI: the event of this model starts the deployment."""
    return DeploymentEventTrigger(
        type="event", name=name, expect={event}, match={"prefect.resource.id": resource_id(config.name)},
        parameters=parameters,
    )  # fmt: skip


def deploy_all(configs: list[Path], *, pool: str | None) -> None:
    """Register all flows of all configs; with a pool return then, else execute their runs here until stopped.

    Raises: UserError when no Prefect server answers, since schedules need one.
    """
    _require_server()
    if pool is None:
        serve(*(one.deployment(one.flow) for path in configs for one in define(load_config(path), str(path))))
        return
    found = [one for path in configs for one in define(load_config(path), _in_checkout(path))]
    deploy(*(one.deployment(_from_checkout(one)) for one in found), work_pool_name=pool, build=False, push=False)


def write_yaml(configs: list[Path], out: Path, *, pool: str | None, image: str | None) -> None:
    """Write the same deployments as a `prefect.yaml` for `prefect deploy --all`, run in the checkout.

    An `image`, for the pools whose workers start containers, has the checkout at `CHECKOUT_IN_IMAGE`.
    Raises: DataError where `out` cannot be written.
    """
    require_output(out)
    given = [_in_checkout(path) for path in configs]
    entries = [
        one.entry(pool or POOL, image)
        for path, shown in zip(configs, given, strict=True)
        for one in define(load_config(path), shown)
    ]
    pull = [{"prefect.deployments.steps.set_working_directory": {"directory": CHECKOUT_IN_IMAGE}}] if image else None
    document = {"name": "retort", "build": None, "push": None, "pull": pull, "deployments": entries}
    options = [*given, *(["--pool", pool] if pool else []), *(["--image", image] if image else [])]
    head = YAML_HEAD.format(arguments="".join(f"{option} " for option in options), file=out.name)
    out.write_text(head + yaml.safe_dump(document, sort_keys=False, width=120), encoding="utf-8")


def _in_checkout(path: Path) -> str:
    """A config by its place in the checkout, where workers of a pool begin, or whole when it is elsewhere."""
    resolved = path.resolve()
    return resolved.relative_to(ROOT).as_posix() if resolved.is_relative_to(ROOT) else str(resolved)


def _from_checkout(definition: Definition) -> Flow[..., Any]:
    return cast(Flow[..., Any], definition.flow.from_source(source=str(ROOT), entrypoint=definition.entrypoint))


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
