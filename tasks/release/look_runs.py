"""MLflow: one run a look at the traffic, and one of all looks at a champion, whose steps they are."""

import contextlib
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_MAX_RETRIES, MLFLOW_HTTP_REQUEST_TIMEOUT
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NOTE
from requests import RequestException
from sqlalchemy.exc import SQLAlchemyError

from bento.errors import TrackingError
from tasks.release.tracking import REPORT_FOLDER, connect, create_run, experiment_id_of, shown_uri

PATIENCE = {MLFLOW_HTTP_REQUEST_MAX_RETRIES: 1, MLFLOW_HTTP_REQUEST_TIMEOUT: 10}
"""Retries, and seconds of one request, that a look may cost."""
CREDENTIALS = re.compile(r"//[^/@\s]+@")
MAX_TAG = 5_000
"""Characters of a tag that every MLflow takes."""


def log_look(
    name: str, *, look: int, at: float, champion: str, step: int, metrics: Mapping[str, float], tags: Mapping[str, str],
    report: Path, figures: Mapping[str, Any],
) -> str:  # fmt: skip
    """One look as a run of the experiment `NAME-monitor`; returns its id.

    Its metrics are also a step of the run of all looks at this champion, which MLflow draws as lines over time. `at` is
    in seconds since the epoch. Raises: TrackingError, within seconds where the server does not answer.
    """
    try:
        with _impatient():
            connect()
            experiment_id = experiment_id_of(f"{name}-monitor")
            parent = _looks_at(experiment_id, name, champion, at)
            known = {"retort.look": str(look)} | {f"retort.{key}": value[:MAX_TAG] for key, value in tags.items()}
            run_id = create_run(experiment_id, f"look {look}", at, known | {MLFLOW_PARENT_RUN_ID: parent})
            client, params = MlflowClient(), [Param("champion", champion), Param("look", str(look))]
            client.log_batch(run_id, _measured(metrics, at, 0), params)
            client.log_batch(parent, _measured(metrics, at, step))
            if report.is_file():  # of a look that is logged late it may be gone
                client.log_artifact(run_id, str(report), REPORT_FOLDER)
            for file, figure in figures.items():
                client.log_figure(run_id, figure, file)
            page = f"#/experiments/{experiment_id}/runs/{run_id}/artifacts/{REPORT_FOLDER}/{report.name}"
            note = f"{', '.join(tags.values())}\n\n[report of look {look}]({page})"
            for each in (run_id, parent):
                client.set_tag(each, MLFLOW_RUN_NOTE, note)
            client.set_terminated(run_id)
    except (MlflowException, RequestException, SQLAlchemyError, OSError) as error:
        raise _took_no_run(error) from error
    return run_id


def logged_looks(name: str, most: int = 200) -> set[int]:
    """Of the newest runs of looks, the looks that are there whole. Raises: TrackingError."""
    try:
        with _impatient():
            connect()
            runs = MlflowClient().search_runs(
                [experiment_id_of(f"{name}-monitor")], "attributes.status = 'FINISHED'", max_results=most,
                order_by=["attributes.start_time DESC"],
            )  # fmt: skip
    except (MlflowException, RequestException, SQLAlchemyError, OSError) as error:
        raise _took_no_run(error) from error
    return {int(run.data.tags["retort.look"]) for run in runs if "retort.look" in run.data.tags}


def _took_no_run(error: Exception) -> TrackingError:
    words = CREDENTIALS.sub("//", str(error).splitlines()[0])[:300]
    return TrackingError(f"expected MLflow at {shown_uri()} to take a run, but it did not ({words})")


def _looks_at(experiment_id: str, name: str, champion: str, at: float) -> str:
    """The run that holds all looks at this champion as steps."""
    client, tags = MlflowClient(), {"retort.looks_at": champion}
    found = client.search_runs([experiment_id], f"tags.`retort.looks_at` = '{champion}'", max_results=1)
    if found:
        return str(found[0].info.run_id)
    run_id = create_run(experiment_id, f"looks at {name} version {champion}", at, tags)
    client.log_param(run_id, "champion", champion)
    client.set_terminated(run_id)
    return run_id


def _measured(metrics: Mapping[str, float], at: float, step: int) -> list[Metric]:
    return [Metric(key, value, round(at * 1e3), step) for key, value in metrics.items() if math.isfinite(value)]


@contextlib.contextmanager
def _impatient() -> Iterator[None]:
    """Give a server that does not answer up after seconds, not after the minutes that a build may wait."""
    before = {variable: variable.get_raw() for variable in PATIENCE}
    for variable, value in PATIENCE.items():
        variable.set(value)
    try:
        yield
    finally:
        for variable, value in before.items():
            variable.unset() if value is None else variable.set(value)
