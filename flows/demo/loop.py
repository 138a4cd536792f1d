"""The story of `make demo-loop`: a model is built, served in a world that changes, and kept good by Retort's commands.

Every step is a command that a person, a schedule or an event would start; here they run one after the other, so that
all of it takes minutes. Labels come from an auditor who knows what is right, the rest from nowhere but the service.
"""

import json
import logging
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from bento import settings
from bento.errors import RetortError
from bento.predictor import Predictor
from flows.demo.service import Service, retort_json, serving
from flows.demo.world import MIXED, MOVED, QUIET, SIGNED, People, Phase
from tasks.release.ledger import read_champion
from tasks.report.loop import write_loop_report

log = logging.getLogger("retort.demo")
console = Console()

NAME = "demo_loop"
CONFIG = Path(__file__).parents[2] / "configs" / "demo_loop.yaml"
NUM_IN_PHASE = 600
NUM_BETWEEN_LOOKS = 300
MAX_LOOKS = 10
BUSY_PAUSE_S, TRICKLE_PAUSE_S = 0.05, 1.0
"""Between a few requests, while a model is tried and while one is made, which takes minutes of both cores."""
SPOILED = ("data.max_rows=250", "gate.accuracy.margin=0.9")
"""A build that should never serve: it saw a quarter of the data, and its gate lets everything pass."""


@dataclass
class Story:
    """What has happened so far."""

    service: Service
    people: People
    folder: Path
    marks: list[dict[str, Any]] = field(default_factory=list)
    """Events by the number of requests before them: `at`, `kind` (phase, look, action), `text`, `tone`."""

    def mark(self, kind: str, text: str, tone: str = "muted") -> None:
        """Note an event and say it."""
        self.marks.append({"at": len(self.service.answers), "kind": kind, "text": text, "tone": tone})
        style = {"good": "green", "bad": "red", "unsure": "yellow"}.get(tone, "bold" if kind == "phase" else "")
        console.print(f"{len(self.service.answers):5,} requests  {text}", style=style, highlight=False)

    def live(self, phase: Phase, number: int = NUM_IN_PHASE) -> None:
        """A stretch of traffic."""
        self.service.ask(self.people.write(phase, number))

    def look(self) -> dict[str, Any]:
        """A monitoring pass."""
        found: dict[str, Any] = retort_json("monitor", str(CONFIG))
        tone = {"harm": "bad", "suspect": "unsure"}.get(found["state"], "good")
        self.mark("look", f"look: {found['state']}, action {found['action']}. {found['reason']}", tone)
        return found

    def audit(self) -> None:
        """The auditor answers whatever waits."""
        self.mark("action", f"auditor: {self.service.label_queue(self.folder)} labels")


def run() -> Path:
    """Tell the whole story. Returns the page with its picture. Raises: RetortError when it takes another turn."""
    started = time.monotonic()
    folder = settings.home() / NAME
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if read_champion(NAME) is not None:
        raise RetortError(f"{NAME} has a champion from an earlier run; remove {settings.home()} to begin anew")
    console.print("building the first model", style="bold")
    first = retort_json("run", str(CONFIG), "--set", "release.experiment=null")
    _expect(first["outcome"] == "promoted", f"the first build to be promoted, got {first['outcome']}")
    left_alone = Predictor(Path(first["model_path"]))
    with serving(NAME, folder / "service.log") as service:
        story = Story(service, People(), folder)
        story.mark("action", f"version {first['version']} serves at {service.url}", "good")
        _harmless(story)
        _harmful(story)
        _bad_challenger(story)
    return _report(story, left_alone, time.monotonic() - started)


def _expect(holds: bool, what: str) -> None:
    """Raises: RetortError where the story takes another turn than its title says."""
    if not holds:
        raise RetortError(f"demo-loop: expected {what}; `retort status {NAME}` shows what there is")


def _harmless(story: Story) -> None:
    """Drift that does not matter: it is seen, judged by labels, and nothing is retrained."""
    story.mark("phase", QUIET.name)
    story.live(QUIET)
    story.audit()
    looks = [story.look()]
    story.mark("phase", SIGNED.name)
    story.live(SIGNED)
    looks.append(story.look())
    story.audit()
    looks.append(story.look())
    story.mark("phase", MIXED.name)
    story.live(MIXED)
    story.audit()
    looks.append(story.look())
    _expect(all(found["action"] != "retrain" for found in looks), "no retrain without harm")
    if looks[-1]["action"] == "correct_prior":
        done = retort_json("correct-prior", str(CONFIG), codes=(0, 3, 4))
        story.mark("action", f"prior correction: {done['outcome']}", "good")


def _harmful(story: Story) -> None:
    """Drift that matters: harm, retrain, shadow, promotion under load."""
    story.mark("phase", MOVED.name)
    found: dict[str, Any] = {}
    for _ in range(MAX_LOOKS):
        story.live(MOVED, NUM_BETWEEN_LOOKS)
        story.audit()
        found = story.look()
        if found["action"] == "retrain":
            break
    _expect(found["action"] == "retrain", f"harm within {MAX_LOOKS} looks, got {found['state']}")
    with _meanwhile(story, MOVED, TRICKLE_PAUSE_S):
        done = retort_json("retrain", str(CONFIG), codes=(0, 3, 4))
    story.mark("action", f"retrain: version {done['version']}, {done['outcome']}")
    if done["outcome"] == "experiment":
        state = _experiment_under_load(story)
        _expect(state in ("watch", "promoted"), f"the retrained model to be promoted, got {state}")
    story.mark("phase", f"{MOVED.name}, after the retrain")
    story.live(MOVED)
    story.audit()
    _experiment(story, until=("promoted", "rolled_back"))


def _bad_challenger(story: Story) -> None:
    """A spoiled build with a gate that lets all pass: the experiment stops it."""
    before = retort_json("status", NAME)[0]["champion"]["version"]
    story.mark("phase", "a spoiled challenger")
    overrides = [word for each in SPOILED for word in ("--set", each)]
    with _meanwhile(story, MOVED, TRICKLE_PAUSE_S):
        done = retort_json("run", str(CONFIG), *overrides, codes=(0, 3, 4))
    story.mark("action", f"spoiled build: version {done['version']}, {done['outcome']}")
    state = done["outcome"]
    if state == "experiment":
        state = _experiment_under_load(story)
    _expect(state in ("vetoed", "blocked"), f"the spoiled model to be stopped, got {state}")
    after = retort_json("status", NAME)[0]["champion"]["version"]
    _expect(after == before, f"version {before} to serve on, got {after}")
    story.live(MOVED, NUM_BETWEEN_LOOKS)


def _experiment(story: Story, until: tuple[str, ...] = (), *, loaded: bool = False) -> str:
    """Looks at the experiment, labels in between, until it has left the shadow (or is in one of `until`).

    Where nothing else is `loaded` on the service, traffic comes in between too.
    """
    state = "shadow"
    for _ in range(MAX_LOOKS):
        found = retort_json("experiment", NAME, "--look")
        state = str(found["state"])
        if found["action"] != "wait":
            tone = "good" if found["action"] in ("next", "keep") else "bad"
            story.mark("action", f"experiment: {found['action']}, now {state}. {found['reason']}", tone)
        if (state in until) if until else state not in ("shadow", "ab", "waiting"):
            break
        story.audit()
        if not loaded:
            story.live(MOVED, NUM_BETWEEN_LOOKS)
    return state


def _experiment_under_load(story: Story) -> str:
    with _meanwhile(story, MOVED, BUSY_PAUSE_S):
        return _experiment(story, loaded=True)


@contextmanager
def _meanwhile(story: Story, phase: Phase, pause_s: float) -> Iterator[None]:
    """Traffic goes on."""
    over = threading.Event()

    def go_on() -> None:
        while not over.wait(pause_s):
            story.live(phase, 4)

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _report(story: Story, left_alone: Predictor, seconds: float) -> Path:
    """The page and what it is made of; raises when a request failed."""
    answers = story.service.answers
    failed = [answer for answer in answers if answer.label is None]
    alone = [left_alone.labels[at] for at in left_alone.predict([answer.text for answer in answers]).argmax(axis=1)]
    found = {
        "name": NAME,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds),
        "num_failed": len(failed),
        "with_retort": [answer.label == answer.right for answer in answers],
        "left_alone": [label == answer.right for label, answer in zip(alone, answers, strict=True)],
        "versions": [answer.version for answer in answers],
        "marks": story.marks,
    }
    (story.folder / "story.json").write_text(json.dumps(found | {"answers": [asdict(one) for one in answers]}))
    page = write_loop_report(found, story.folder)
    console.print(f"{len(answers):,} requests, {len(failed)} failed, {seconds / 60:.1f} minutes", style="bold")
    console.print(f"accuracy over time, with and without Retort: {page}", style="bold", soft_wrap=True, highlight=False)
    _expect(not failed, f"every request to be answered, got {failed[:1]}")
    return page


if __name__ == "__main__":
    settings.configure()
    run()
