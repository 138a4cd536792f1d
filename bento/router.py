"""Which model answers: the one in the Bento, or the champion that the database points at.

Embedded: a folder that never changes. Following: a thread reads the champion pointer each second; a new champion is
loaded, checked against its digest and warmed off the hot path, then takes over in one assignment. A request keeps the
model that it began with. A model that cannot be loaded is refused and the old one goes on.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from bento.errors import IntegrityError
from bento.metrics import Metrics
from bento.predictor import Predictor

logger = logging.getLogger(__name__)

FOLLOW_EVERY_S = 1.0
RETRY_REFUSED_S = 30.0
"""A refused model is looked at again after this time: its files may have been on their way."""
WARM_TEXTS = ("a", "warm up the session with a sentence", "and with a longer one " * 12)


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Which model answers: what `/identity` says, each answer carries and each log row stores."""

    name: str
    version: str
    model_sha256: str
    bento: str


@dataclass(frozen=True, kw_only=True)
class Champion:
    """A loaded model and what it is called."""

    identity: Identity
    predictor: Predictor


@dataclass(frozen=True, kw_only=True)
class Pointer:
    """One row of the champion table."""

    name: str
    version: str
    model_sha256: str
    model_path: str
    bento: str


def read_pointer(name: str) -> Pointer | None:
    """The champion of `name` in the database, or None when nothing was ever promoted."""
    import sqlalchemy as sa

    from bento import database

    columns = [database.champions.c[field] for field in Pointer.__annotations__]
    with database.engine().connect() as connection:
        row = connection.execute(sa.select(*columns).where(database.champions.c.name == name)).one_or_none()
    return None if row is None else Pointer(**row._asdict())


def load_predictor(folder: Path, threads: int | None, expected_sha256: str | None = None) -> Predictor:
    """Load, check and warm a model. Raises: IntegrityError when its digest is not the expected one."""
    predictor = Predictor(folder, threads=threads)
    if expected_sha256 is not None and predictor.sha256 != expected_sha256:
        raise IntegrityError(
            f"{folder}: expected model sha256 {expected_sha256}, got {predictor.sha256}; "
            "this is not the model that was promoted, so it is not served. Promote it again."
        )
    predictor.predict(WARM_TEXTS, batch_size=1)
    return predictor


class Router:
    """Holds the champion; `current` is read once per request and replaced in one assignment."""

    def __init__(
        self,
        metrics: Metrics,
        *,
        model: Path | None = None,
        follow: str | None = None,
        bento: str = "",
        threads: int | None = None,
        pointer: Callable[[str], Pointer | None] = read_pointer,
        every_s: float = FOLLOW_EVERY_S,
    ) -> None:
        """Serve the folder `model`, or follow the champion of the name `follow`; `bento` is this Bento's tag."""
        self.metrics = metrics
        self.model = model
        self.follow = follow
        self.bento = bento
        self.threads = threads
        self.pointer = pointer
        self.every_s = every_s
        self.current: Champion | None = None
        self.reason = "the model is being loaded"
        """Why nothing is served, while `current` is None."""
        self._serving: Pointer | None = None
        self._refused: tuple[Pointer, float] | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="retort-follow", daemon=True)

    def start(self) -> None:
        """Load the model; when following, keep looking for the next one."""
        if self.follow is None:
            self._load_embedded()
            return
        self.check_pointer()
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
        self._take_over(
            Champion(
                identity=Identity(name=name, version=version, model_sha256=predictor.sha256, bento=self.bento),
                predictor=predictor,
            )
        )

    def _follow(self) -> None:
        while not self._stop.wait(self.every_s):
            self.check_pointer()

    def check_pointer(self) -> None:
        """Read the pointer once and load what it names if that is new; never raises, so the thread lives on."""
        name = self.follow or ""
        try:
            pointer = self.pointer(name)
        except Exception as error:  # noqa: BLE001 - a database that is away must not stop the service
            self.metrics.pointer_errors.inc()
            self.reason = f"the champion of {name} cannot be read: {error}"
            logger.warning(self.reason)
            return
        if pointer is None:
            self.reason = f"{name} has no champion yet: promote one"
        elif pointer != self._serving and not self._recently_refused(pointer):
            self._load_champion(pointer)

    def _recently_refused(self, pointer: Pointer) -> bool:
        if self._refused is None:
            return False
        refused, at = self._refused
        return refused == pointer and time.monotonic() - at < RETRY_REFUSED_S

    def _load_champion(self, pointer: Pointer) -> None:
        identity = Identity(
            name=pointer.name, version=pointer.version, model_sha256=pointer.model_sha256, bento=pointer.bento
        )
        try:
            predictor = load_predictor(Path(pointer.model_path), self.threads, pointer.model_sha256)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with the new model, the old one goes on
            self._refused = (pointer, time.monotonic())
            self._refuse(f"{pointer.name} version {pointer.version} is refused: {error}")
            return
        self._serving = pointer
        self._take_over(Champion(identity=identity, predictor=predictor))

    def _refuse(self, reason: str) -> None:
        self.reason = reason
        self.metrics.swaps_refused.inc()
        logger.error(reason)

    def _take_over(self, champion: Champion) -> None:
        self.current = champion
        self.metrics.swaps.inc()
        self.metrics.ready.set(1)
        self.metrics.model_info.clear()
        self.metrics.model_info.labels(**asdict(champion.identity)).set(1)
        logger.info("serving %s", champion.identity)
