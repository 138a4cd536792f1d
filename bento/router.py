"""Which models are loaded, and which of them answers a request.

Embedded: a folder that never changes. Following: a thread reads each second what the database assigns to the name:
champion, challenger, shadow. A new model is loaded, checked against its digest and warmed off the hot path, then takes
over in one assignment. A request keeps the model that it began with. A model that cannot be loaded is refused: the old
champion goes on, and the champion answers what was the share of a refused challenger.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path

import orjson

from bento.arms import CHALLENGER, MUST_FIT, SHADOW, Arm, Assignment, Pointer, Raised, read_assignment
from bento.errors import IntegrityError, RetortError
from bento.manifest import Manifest
from bento.metrics import Metrics
from bento.predictor import Predictor

logger = logging.getLogger(__name__)

FOLLOW_EVERY_S = 1.0
RETRY_REFUSED_S = 30.0
"""A refused model is looked at again after this time: its files may have been on their way."""
WARM_WORDS = (1, 4, 8, 16, 32, 64, 128, 256, 512)
"""Texts of so many words are run before a model serves, since the first run at a length is slower than the next."""
SHADOW_THREADS = 1
"""A shadow has one core at most, and never spins while it waits."""


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Which model answers: what `/identity` says, each answer carries and each log row stores."""

    name: str
    version: str
    model_sha256: str
    bento: str


@dataclass(frozen=True, kw_only=True)
class Champion:
    """A loaded model, what it is called, and the arm in which it answers."""

    identity: Identity
    predictor: Predictor
    arm: str = "champion"

    @cached_property
    def identity_json(self) -> orjson.Fragment:
        """The identity as it is in each answer."""
        return orjson.Fragment(orjson.dumps(asdict(self.identity)))


@dataclass(frozen=True, kw_only=True)
class Beside:
    """A loaded model beside the champion."""

    arm: Arm
    model: Champion


@dataclass(frozen=True, kw_only=True)
class Serving:
    """All that is loaded; replaced as a whole, so that a request never sees half of a change."""

    champion: Champion | None = None
    beside: Mapping[str, Beside] = field(default_factory=dict)
    """Challenger and shadow, as far as there are."""

    def choose(self, unit: str) -> Champion | None:
        """Who answers `unit`, a key or a request id: the challenger if it draws it, else the champion."""
        challenger = self.beside.get(CHALLENGER)
        if challenger is not None and challenger.arm.draws(unit):
            return challenger.model
        return self.champion

    def models(self) -> list[Champion]:
        """All of them, the champion first."""
        champion = [] if self.champion is None else [self.champion]
        return [*champion, *(found.model for found in self.beside.values())]


def load_predictor(
    folder: Path, threads: int | None, expected_sha256: str | None = None, before: Predictor | None = None
) -> Predictor:
    """Load, check and warm a model. Raises: IntegrityError when its digest is not the expected one."""
    predictor = Predictor(folder, threads=threads or Manifest.read(folder).served_threads, before=before)
    if expected_sha256 is not None and predictor.sha256 != expected_sha256:
        raise IntegrityError(
            f"{folder}: expected model sha256 {expected_sha256}, got {predictor.sha256}; "
            "this is not the model that was promoted, so it is not served. Promote it again."
        )
    warm(predictor)
    return predictor


def warm(predictor: Predictor) -> None:
    """Run the model at lengths from a word to the longest text that it takes."""
    for num_words in WARM_WORDS:
        text = "a " * num_words
        predictor.predict([(text, text) if predictor.manifest.pairs else text])
        if num_words >= predictor.manifest.max_tokens:
            break


class Router:
    """Holds the loaded models; `serving` is read once per request and replaced in one assignment."""

    def __init__(
        self,
        metrics: Metrics,
        *,
        model: Path | None = None,
        follow: str | None = None,
        bento: str = "",
        threads: int | None = None,
        assignment: Callable[[str], Assignment] = read_assignment,
        every_s: float = FOLLOW_EVERY_S,
    ) -> None:
        """Serve the folder `model`, or follow what is assigned to the name `follow`; `bento` is this Bento's tag."""
        self.metrics = metrics
        self.model = model
        self.follow = follow
        self.bento = bento
        self.threads = threads
        self.assignment = assignment
        self.every_s = every_s
        self.serving = Serving()
        self.reason = "the model is being loaded"
        """Why nothing is served, while there is no champion; else why the last model was refused."""
        self.raised: Raised | None = None
        """What monitoring asks to be drawn for labelling; kept while the database is away, until it lapses."""
        self._pointer: Pointer | None = None
        self._refused: dict[Pointer, float] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="retort-follow", daemon=True)

    @property
    def current(self) -> Champion | None:
        """The champion, if one is loaded."""
        return self.serving.champion

    def audit_rate(self, own: float) -> float:
        """Share of the requests to draw for labelling: the service's own, or what monitoring raised it to.

        A service that draws nothing goes on to draw nothing.
        """
        raised = self.raised
        return max(own, raised.rate) if own > 0 and raised is not None and time.time() < raised.until else own

    def start(self) -> None:
        """Load the models; when following, keep looking for the next ones."""
        if self.follow is None:
            self._load_embedded()
            return
        self.check_assignment()
        self._thread.start()

    def stop(self) -> None:
        """End the following thread."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _load_embedded(self) -> None:
        if self.model is None:
            self.reason = "no model: set RETORT_MODEL to a model folder or RETORT_FOLLOW to a model's name"
            return
        try:
            predictor = load_predictor(self.model, self.threads)
        except Exception as error:  # noqa: BLE001 - ONNX Runtime and tokenizers raise their own; alive, but never ready
            self._refuse(f"{self.model} cannot be loaded: {error}")
            return
        name = predictor.manifest.name
        version = self.bento.partition(":")[2][:32] or "local"
        identity = Identity(name=name, version=version, model_sha256=predictor.sha256, bento=self.bento)
        self._take_over(Serving(champion=Champion(identity=identity, predictor=predictor)))

    def _follow(self) -> None:
        while not self._stop.wait(self.every_s):
            self.check_assignment()

    def check_assignment(self) -> None:
        """Read the assignment once and load what is new in it; never raises, so the thread lives on."""
        name = self.follow or ""
        try:
            wanted = self.assignment(name)
        except Exception as error:  # noqa: BLE001 - a database that is away must not stop the service
            self.metrics.pointer_errors.inc()
            self.reason = f"the champion of {name} cannot be read: {error}"
            logger.warning(self.reason)
            return
        if wanted.champion is None:
            self.reason = f"{name} has no champion yet: promote one"
            return
        self.raised = wanted.raised
        self._follow_champion(wanted.champion)
        if self.current is not None:
            for arm in (CHALLENGER, SHADOW):
                self._follow_arm(arm, wanted.beside.get(arm))

    def _follow_champion(self, pointer: Pointer) -> None:
        """A champion that moved ends what was beside the old one, in the database as here."""
        if pointer == self._pointer:
            return
        known = self.serving.beside.get(CHALLENGER)
        if known is not None and known.arm.pointer == pointer:
            predictor: Predictor | None = known.model.predictor
        else:
            predictor = self._load(pointer, self.threads)
        if predictor is not None:
            self._pointer = pointer
            self._take_over(Serving(champion=_called(pointer, predictor, "champion")))

    def _follow_arm(self, name: str, wanted: Arm | None) -> None:
        """Load, keep, re-share or drop the challenger or the shadow."""
        known = self.serving.beside.get(name)
        if wanted == (known and known.arm):
            return
        if wanted is None:
            model = None
        elif known is not None and known.arm.pointer == wanted.pointer:
            model = known.model
        else:
            model = self._load_arm(name, wanted.pointer)
        beside = {arm: found for arm, found in self.serving.beside.items() if arm != name}
        if wanted is not None and model is not None:
            beside[name] = Beside(arm=wanted, model=model)
        if beside != self.serving.beside:
            self._take_over(replace(self.serving, beside=beside))

    def _load_arm(self, name: str, pointer: Pointer) -> Champion | None:
        threads = SHADOW_THREADS if name == SHADOW else self.threads
        predictor = self._load(pointer, threads, like=self.current)
        return None if predictor is None else _called(pointer, predictor, name)

    def _load(self, pointer: Pointer, threads: int | None, like: Champion | None = None) -> Predictor | None:
        """The predictor, or None when it is refused, now or a short while ago."""
        now = time.monotonic()
        self._refused = {known: at for known, at in self._refused.items() if now - at < RETRY_REFUSED_S}
        if pointer in self._refused:
            return None
        try:
            before = self.current.predictor if self.current else None
            predictor = load_predictor(Path(pointer.model_path), threads, pointer.model_sha256, before)
            if like is not None:
                _check_fits(predictor, like)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with the new model, the champion goes on
            self._refused[pointer] = now
            self._refuse(f"{pointer.name} version {pointer.version} is refused: {error}")
            return None
        return predictor

    def _refuse(self, reason: str) -> None:
        self.reason = reason
        self.metrics.swaps_refused.inc()
        logger.error(reason)

    def _take_over(self, serving: Serving) -> None:
        before, self.serving = self.serving, serving
        if serving.champion is not before.champion:
            self.metrics.swaps.inc()
        self.metrics.ready.set(1)
        self.metrics.arm_share.clear()
        for arm, beside in serving.beside.items():
            self.metrics.arm_share.labels(arm=arm).set(beside.arm.share)
        self.metrics.model_info.clear()
        for model in serving.models():
            self.metrics.model_info.labels(**asdict(model.identity), arm=model.arm).set(1)
        logger.info("serving %s", ", ".join(f"{model.identity} as {model.arm}" for model in serving.models()))


def _called(pointer: Pointer, predictor: Predictor, arm: str) -> Champion:
    names = {each: getattr(pointer, each) for each in Identity.__annotations__}
    return Champion(identity=Identity(**names), predictor=predictor, arm=arm)


def _check_fits(predictor: Predictor, champion: Champion) -> None:
    """What stands beside a champion must answer as it does. Raises: RetortError."""
    ours, its = champion.predictor.manifest, predictor.manifest
    for part in MUST_FIT:
        if getattr(ours, part) != getattr(its, part):
            raise RetortError(
                f"expected the champion's {part}, {getattr(ours, part)}, got {getattr(its, part)}; "
                "the champion answers alone. Withdraw it."
            )
