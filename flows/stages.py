"""The skin that shows a stage in Prefect: a task a stage, `Cached` when the store had its result."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, cast

from prefect import runtime, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed

from bento.errors import RetortError
from tasks.store import Step

Arguments = ParamSpec("Arguments")

log = logging.getLogger("retort")


def stage(name: str, function: Callable[Arguments, Step]) -> Callable[Arguments, Step]:
    """`function` as a Prefect task. The store keys on content, so Prefect's own cache stays out of it."""

    @task(name=name, task_run_name=name, cache_policy=NO_CACHE)
    def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Any:
        step = function(*args, **kwargs)
        log.info(
            "%s: %s in %.1f s, %s", name, "cached" if step.cached else "made", step.seconds, step.artifact.sha256[:16]
        )
        return Completed(name="Cached", data=step) if step.cached else step

    def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Step:
        found: Any = run(*args, **kwargs)
        step: Any = found.data if isinstance(found, State) else found
        return cast(Step, step)

    return call


def run_name() -> str:
    """`build banking77` rather than a random name, from the run's own parameters."""
    flow = str(runtime.flow_run.get_flow_name())
    config = runtime.flow_run.get_parameters().get("config")
    return f"{flow} {Path(config).stem}" if config else flow


class _NoTraceback(logging.Filter):
    """Errors that are the user's to mend are told without Prefect's traceback."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, RetortError):
            record.exc_info, record.exc_text = None, None
            record.msg, record.args = "%s", (str(error),)
        return True


def quiet_user_errors() -> None:
    """Install the filter on Prefect's run loggers."""
    for name in ("prefect.flow_runs", "prefect.task_runs"):
        logging.getLogger(name).addFilter(_NoTraceback())
