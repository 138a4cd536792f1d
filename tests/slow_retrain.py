"""A deployed retrain that takes its time, for tests that kill it: `python -m tests.slow_retrain serve|look`.

It is started by the event of a look and protected as the real one is; what it would compute is a pause.
"""

import sys
import time
from typing import Any

from bento.settings import configure, home

configure()

from prefect import flow, serve  # noqa: E402 - Prefect reads its home once, at import
from prefect.flow_runs import suspend_flow_run  # noqa: E402
from prefect.input import RunInput  # noqa: E402

from flows.exclusive import once  # noqa: E402

SECONDS = 8.0
COOLDOWN_MINUTES = 1.0
"""After which a lost request is sent again: longer than a run takes to start on a busy machine, or it is given up."""


class Approval(RunInput):
    """A person's answer."""

    approve: bool = False


def note(word: str) -> None:
    """Add a line to what the test reads."""
    with (home() / "notes").open("a", encoding="utf-8") as file:
        file.write(f"{word}\n")


@flow(name="retrain", persist_result=False)
def retrain(why: str = "by hand", look: int | None = None, ask: bool = False) -> dict[str, Any]:
    """Pause, or wait for a person's approval, and be promoted."""
    return once("smoke", look, lambda: _make(ask), timeout_hours=1)


def _make(ask: bool) -> dict[str, Any]:
    note("begun")
    if ask:
        answer: Approval = suspend_flow_run(wait_for_input=Approval, timeout=600, key="approval")
        return {"outcome": "promoted" if answer.approve else "blocked"}
    time.sleep(SECONDS)
    note("done")
    return {"outcome": "promoted"}


def look() -> None:
    """What a monitoring pass does for a harm that was seen before: store it once, and send what is to be sent."""
    from pathlib import Path

    from flows.config import load_config
    from flows.monitor import send_pending
    from tasks.monitor import looks
    from tasks.release.ledger import Champion
    from tests.terminal import SMOKE

    looks.store_look(
        {"name": "smoke", "state": "harm", "action": "retrain", "reason": "it hurts", "key": "k"}
        | {"evidence": {"champion_sha256": "c"}, "payload": {"name": "smoke", "reason": "it hurts"}}
    )
    champion = Champion(name="smoke", version="1", model_sha256="c", model_path=Path("nowhere"), bento="smoke:1")
    send_pending(load_config(SMOKE, [f"monitor.cooldown_minutes={COOLDOWN_MINUTES}"]), champion)


def deploy() -> None:
    """Serve the flow with the trigger of the real one."""
    from flows.config import load_config
    from flows.deployments import LOOK, trigger
    from flows.monitor import HARM_EVENT
    from tests.terminal import SMOKE

    parameters = {"why": "{{ event.payload.reason }}", "look": LOOK}
    started = trigger(load_config(SMOKE), HARM_EVENT, "retrain on harm", parameters)
    serve(retrain.to_deployment(name="smoke", triggers=[started]))


if __name__ == "__main__":
    look() if sys.argv[1] == "look" else deploy()
