"""The retrain: the labels and texts of the traffic, assembled once, go through the whole build beside the source."""

from pathlib import Path
from typing import Any

from prefect import flow, runtime

from bento.errors import UserError
from flows.build import command_of, make
from flows.config import load_config
from flows.exclusive import once
from flows.failures import in_words
from flows.notify import tell_of_failure
from flows.stages import prepare_logging, run_name
from tasks.monitor.retrain_data import assemble_once, check_look
from tasks.release.ledger import read_champion


@flow(
    name="retrain", flow_run_name=run_name, persist_result=False,
    on_failure=[tell_of_failure], on_crashed=[tell_of_failure],
)  # fmt: skip
def retrain(
    config: str, overrides: list[str] | None = None, why: str = "a retrain started by hand", look: int | None = None
) -> dict[str, Any]:
    """Assemble what the traffic has to teach, then build, gate and release; `look` is the number of the look at it.

    A run that begins again, after a kill or its approval, and a second run for the same look, learn from the same rows,
    so they find their stages done. Returns the summary that `retort retrain --json` prints. Raises: UserError without
    a champion or usable labels.
    """
    prepare_logging()
    chosen = load_config(Path(config), overrides)
    chosen.require_classes("retort retrain")
    if read_champion(chosen.name) is None:
        raise UserError(f"{chosen.name} has no champion, so no traffic; `retort run {config}` makes the first")
    if look is not None:
        check_look(chosen.name, look)
    cause = f"look {look}" if look is not None else f"run {runtime.flow_run.id}"
    command = command_of("retort retrain", config, overrides)

    def body() -> dict[str, Any]:
        return make(chosen, why=why, command=command, more=assemble_once(chosen.name, cause, chosen.retrain))

    with in_words(f"retrain {chosen.name}"):
        return once(chosen.name, look, body, timeout_hours=chosen.release.timeout_hours)
