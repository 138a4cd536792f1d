"""One retrain of a name at a time, through its suspension for an approval, and each that was asked for once."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import httpx
from prefect import runtime
from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound, Pause
from prefect.states import Crashed

from tasks import lease
from tasks.monitor import looks

log = logging.getLogger("retort.exclusive")

MARGIN_SECONDS = 3600.0
"""How much longer than its approval may take a suspended run keeps its lease: it still has to promote."""


def retrain_lease(name: str) -> str:
    """The lease that whoever retrains a model has."""
    return f"retrain {name}"


def once(name: str, look: int | None, make: Callable[[], dict[str, Any]], *, timeout_hours: float) -> dict[str, Any]:
    """What `make` returns, with no other retrain of `name` beside it, and one time only for each look that asked.

    A request whose run was lost is sent again, so a run may find that another has answered it: then nothing is made.
    Raises: HeldError while another run is at it.
    """
    with exclusive(name, timeout_hours=timeout_hours):
        known = looks.outcome(look) if look is not None else None
        if known is not None:
            log.info("%s: the retrain that look %d asked for has ended: %s", name, look, known)
            return {"name": name, "outcome": known, "repeated": True}
        result = make()
        if look is not None:
            looks.finish(look, result["outcome"])
    return result


@contextmanager
def exclusive(name: str, *, timeout_hours: float) -> Iterator[None]:
    """Let no other run of a deployment retrain `name` meanwhile; a run that is suspended keeps the others out too.

    Prefect's concurrency limits let go of a suspended run, and one of a server that was restarted never lets go of a
    killed one. By hand, outside a deployment, nothing is held: there the compare-and-swap of the promotion keeps two
    builds apart. Raises: HeldError while another run is at it.
    """
    if runtime.deployment.id is None:
        yield
        return
    run, what = str(runtime.flow_run.id), f"run {runtime.flow_run.name} ({runtime.flow_run.id})"
    free_if_over(retrain_lease(name))
    with lease.lease(retrain_lease(name), run, what) as held:
        try:
            yield
        except Pause:
            held.keep(timeout_hours * 3600 + MARGIN_SECONDS)
            raise


def under_way(name: str) -> str:
    """The retrain of `name` that runs or is suspended, in words; empty when there is none."""
    free_if_over(retrain_lease(name))
    found = lease.holder(retrain_lease(name))
    return str(found["what"]) if found else ""


def free_if_over(name: str) -> None:
    """Give back the lease of a run that Prefect knows to have ended: cancelled while suspended, or timed out.

    And that of one which renews it no longer; Prefect is told, since it takes a killed run for a running one.
    """
    lost = lease.lost(name)
    if lost is not None:
        _mark_crashed(lost)
        lease.release(name, lost)
    found = lease.holder(name)
    if found and _is_over(found["owner"]):
        lease.release(name, found["owner"])


def _mark_crashed(run: str) -> None:
    """As far as Prefect answers and has the run as running."""
    try:
        with get_client(sync_client=True) as client:
            state = client.read_flow_run(UUID(run)).state
            if state is not None and state.is_running():
                client.set_flow_run_state(
                    UUID(run), Crashed(message="its process stopped renewing its lease"), force=True
                )
    except (ObjectNotFound, httpx.HTTPError) as error:
        log.warning("run %s was killed; Prefect could not be told (%s)", run, type(error).__name__)


def _is_over(run: str) -> bool:
    """Whether Prefect says so; while it does not answer, no. A run that was deleted is over too, unless a command asks
    outside a deployment, whose Prefect may be another."""
    try:
        with get_client(sync_client=True) as client:
            state = client.read_flow_run(UUID(run)).state
    except ObjectNotFound:
        return runtime.deployment.id is not None
    except httpx.HTTPError:
        return False
    return state is not None and state.is_final()
