"""The skin that shows a stage in Prefect: a task a stage, `Cached` when the store had its result."""

import importlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ParamSpec, cast

from prefect import flow, runtime, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner
from prefect.utilities.annotations import quote

from bento.errors import RetortError, UserError
from flows.failures import in_words
from tasks.search.space import SearchConfig
from tasks.search.trials import Trial
from tasks.store import Step

Arguments = ParamSpec("Arguments")

log = logging.getLogger("retort")


def stage(name: str, function: Callable[Arguments, Step]) -> Callable[Arguments, Step]:
    """`function` as a Prefect task. The store keys on content, so Prefect's own cache and results stay out of it."""

    def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Step:
        made: list[Step] = []

        @task(name=name, task_run_name=name, cache_policy=NO_CACHE, persist_result=False)
        def run() -> State[None]:
            with in_words(name):
                made.append(function(*args, **kwargs))
            return Completed(name="Cached") if made[0].cached else Completed()

        run()
        how = "cached" if made[0].cached else "made"
        log.info("%s: %s in %.1f s, %s", name, how, made[0].seconds, made[0].artifact.sha256[:16])
        return made[0]

    return call


def side_by_side(calls: Sequence[Callable[[], Trial]], config: SearchConfig) -> list[Trial]:
    """The trials of a search as tasks of a flow of their own, on the runner that the config names."""

    @task(name="trial", cache_policy=NO_CACHE, persist_result=False)
    def trial(call: Callable[[], Trial]) -> Trial:
        return call()

    @flow(name="trials", task_runner=_runner(config), persist_result=False)
    def trials() -> list[Trial]:
        return [future.result() for future in [trial.submit(_whole(call)) for call in calls]]

    return trials()


def _whole(call: Callable[[], Trial]) -> Callable[[], Trial]:
    """The call as it is: Prefect would otherwise look for futures inside it."""
    return cast("Callable[[], Trial]", quote(call))


def _runner(config: SearchConfig) -> TaskRunner[Any]:
    """Raises: UserError where the runner's package is not installed."""
    if config.runner == "threads":
        return ThreadPoolTaskRunner(max_workers=config.workers)
    package, name = {"dask": ("prefect_dask", "DaskTaskRunner"), "ray": ("prefect_ray", "RayTaskRunner")}[config.runner]
    try:
        module = importlib.import_module(package)
    except ImportError as error:
        raise UserError(
            f"search.runner: {config.runner} needs the package {package.replace('_', '-')}, which is not installed; "
            f"run `pip install {package.replace('_', '-')}`, or set runner to threads"
        ) from error
    runner: TaskRunner[Any] = getattr(module, name)()
    return runner


def run_name() -> str:
    """`build banking77` rather than a random name, from the run's own parameters."""
    flow = str(runtime.flow_run.get_flow_name())
    config = runtime.flow_run.get_parameters().get("config")
    return f"{flow} {Path(config).stem}" if config else flow


class _UserErrors(logging.Filter):
    """Errors that are the user's to mend: in words on the page of a deployment's run, and once in a terminal, at its
    end, where the command line tells them."""

    def __init__(self, *, told_at_the_end: bool) -> None:
        super().__init__()
        self.told_at_the_end = told_at_the_end
        self.first_lines: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, RetortError):
            self.first_lines.add(str(error).splitlines()[0])
            record.exc_info, record.exc_text = None, None
            record.msg, record.args = "%s", (str(error),)
        text = record.getMessage()
        return not (self.told_at_the_end and any(line in text for line in self.first_lines))


def prepare_logging() -> None:
    """Let progress through to the run's page, and keep tracebacks of users' errors off it."""
    logging.getLogger("retort").setLevel(logging.INFO)
    user_errors = _UserErrors(told_at_the_end=runtime.deployment.id is None)
    for name in ("prefect.flow_runs", "prefect.task_runs"):
        logging.getLogger(name).addFilter(user_errors)
