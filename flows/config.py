"""The config: one YAML file, frozen and strict, whose errors name the key, the file and the line."""

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, get_args

from pydantic import Discriminator, Field, Tag, ValidationError, field_validator, model_validator

from bento.errors import ConfigError, UserError
from flows.config_yaml import Key, apply_override, read_yaml, short
from flows.schedules import check_schedule
from tasks.analysis import ErrorsConfig
from tasks.behaviour import BehaviourConfig
from tasks.calibrate import AbstainConfig
from tasks.compress import Technique, check_chain
from tasks.data import DataConfig
from tasks.data.labelled import Columns
from tasks.experiment.config import ExperimentConfig
from tasks.gate import GateConfig, check_gates
from tasks.monitor.config import MonitorConfig
from tasks.monitor.objectives import ObjectivesConfig
from tasks.monitor.retrain_config import RetrainConfig
from tasks.report.card import CardConfig
from tasks.search.space import SearchConfig
from tasks.train import TeacherConfig
from tasks.types import Section

BLOCK = r"^[a-z0-9-]+/[a-z0-9-]+$"
"""Type and name of a Prefect block, such as slack-webhook/ops."""
AnySection = TypeVar("AnySection", bound=Section)


class ServeConfig(Section):
    """How the service answers."""

    max_tokens: int | None = Field(default=None, ge=4, le=8192)
    """Inputs are truncated to this many tokens, in evaluation as in service; null is the teacher's `max_tokens`."""
    abstain: AbstainConfig | None = None
    """When it says that it does not know; null answers always."""
    objectives: ObjectivesConfig = ObjectivesConfig()
    """What it promises of latency and availability; monitoring counts the error budgets."""
    core_hour_price: float = Field(default=0.04, ge=0)
    """What a core costs in an hour, in any currency; the default is about what clouds ask for one (USD)."""


class ReleaseConfig(Section):
    """Who decides about a promotion."""

    approval: Literal["auto", "require", "require_if"] = "auto"
    """`auto` promotes on both blessings; `require` asks a person; `require_if` asks when accuracy falls by more than
    `accuracy_drop` against the champion."""
    accuracy_drop: float = Field(default=0.0, ge=0, le=1)
    """Only for `require_if`: the observed loss against the champion above which a person is asked."""
    timeout_hours: float = Field(default=24, gt=0)
    """How long an approval is waited for; no answer is a no."""
    experiment: ExperimentConfig | None = None
    """How a candidate proves itself on real traffic before it is promoted, and is watched after; null promotes at once,
    as does a name without a champion."""


class Searched(Section):
    """In place of a list of techniques: let trials find it."""

    search: SearchConfig
    """What may be tried, within which limits."""


def _form(value: Any) -> str:
    return "search" if isinstance(value, dict | Searched) else "list"


Compress = Annotated[
    Annotated[tuple[Technique, ...], Tag("list")] | Annotated[Searched, Tag("search")], Discriminator(_form)
]


class Config(Section):
    """One build: where the text comes from, what is made of it, and what it has to prove."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")
    """Registered name of the model and of its Bento."""
    data: DataConfig
    """The labelled text."""
    teacher: TeacherConfig = TeacherConfig()
    """The big model."""
    more_teachers: tuple[TeacherConfig, ...] = ()
    """Others whose answers are averaged with the teacher's for the students to learn; the gate compares with the
    teacher alone."""
    compress: Compress
    """The chain of techniques, in order, or `{search: ...}`."""
    gate: GateConfig = GateConfig()
    """What a candidate must prove."""
    behaviour: BehaviourConfig = BehaviourConfig()
    """What teacher and candidate are tried on beside the test split."""
    errors: ErrorsConfig = ErrorsConfig()
    """How errors are weighed and where they are looked for."""
    serve: ServeConfig = ServeConfig()
    """How it is served."""
    monitor: MonitorConfig = MonitorConfig()
    """How its traffic is watched."""
    retrain: RetrainConfig = RetrainConfig()
    """What a retrain learns from its traffic, and has to prove."""
    card: CardConfig = CardConfig()
    """What its model card says that no measurement can."""
    release: ReleaseConfig = ReleaseConfig()
    """How it is promoted."""
    notify: tuple[Annotated[str, Field(pattern=BLOCK)], ...] = ()
    """Prefect blocks, each `type/name`, that are told of harm, drift, promotion, veto, rollback and failed runs."""

    @field_validator("compress", "more_teachers", "notify", mode="before")
    @classmethod
    def _as_tuple(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    @field_validator("monitor")
    @classmethod
    def _looks_have_times(cls, monitor: MonitorConfig) -> MonitorConfig:
        check_schedule("monitor.schedule", monitor.schedule)
        return monitor

    @field_validator("release")
    @classmethod
    def _experiments_have_times(cls, release: ReleaseConfig) -> ReleaseConfig:
        if release.experiment is not None:
            check_schedule("release.experiment.schedule", release.experiment.schedule)
        return release

    @field_validator("compress")
    @classmethod
    def _chain_fits(cls, compress: Compress) -> Compress:
        if isinstance(compress, tuple):
            check_chain(compress)
        return compress

    @model_validator(mode="after")
    def _gates_have_tests(self) -> Self:
        """Raises: ValueError for a limit on behavioural tests that the config does not have."""
        self.behaviour.check_limits(self.gate.behaviour)
        return self

    def require_classes(self, what: str) -> None:
        """Raises: UserError where the data has more or other than one class a text."""
        if self.data.task != "single_label":
            raise UserError(f"{what} works with one class a text (single_label); data.task is {self.data.task}")

    def check_task(self) -> None:
        """Before any compute. Raises: UserError for what is not there for the task of the data."""
        check_gates(self.gate, self.data.task)
        self.behaviour.check_task(self.data.task, pairs=self.data.text_pair is not None)
        if self.data.task == "single_label":
            return
        kinds = {technique.kind for technique in self.compress} if isinstance(self.compress, tuple) else set()
        asked = {
            "serve.abstain": self.serve.abstain is not None,
            "errors.costs": bool(self.errors.costs),
            "release.experiment": self.release.experiment is not None,
            "release.approval require_if": self.release.approval == "require_if",
            "compress.search": not isinstance(self.compress, tuple),
            "compress prune_structure": "prune_structure" in kinds,
        }
        for what, given in asked.items():
            if given:
                self.require_classes(what)
        if self.data.task == "entities":
            self._check_tokens()

    def _check_tokens(self) -> None:
        """Raises: UserError for what needs one answer a text."""
        chain = self.compress if isinstance(self.compress, tuple) else ()
        for at, technique in enumerate(chain):
            if technique.kind == "linformer" or (technique.kind == "distil" and technique.layers == "searched"):
                asked = "layers: searched" if technique.kind == "distil" else "it"
                raise UserError(
                    f"compress[{at}] {technique.kind}: {asked} goes by one answer a text, but data.task is entities, "
                    "an answer a word; name the layers, or take spread or top, and leave linformer out"
                )


class Gates(Section):
    """What `retort gate` reads of a file: a whole build's config, or these alone."""

    data: Columns = Columns()
    """What the columns of the labelled rows are called."""
    gate: GateConfig = GateConfig()
    """What the model must prove."""
    threshold: float = Field(default=0.5, gt=0, lt=1)
    """From which probability on a model of label sets answers a label where its folder does not say it."""
    behaviour: BehaviourConfig = BehaviourConfig()
    """Behavioural tests, for which `gate.behaviour` has limits."""

    @model_validator(mode="after")
    def _gates_have_tests(self) -> Self:
        """Raises: ValueError."""
        self.behaviour.check_limits(self.gate.behaviour)
        return self


def load_config(path: Path, overrides: list[str] | None = None) -> Config:
    """Read and check `path` with `a.b=value` overrides. Raises: ConfigError with every fault, one a line."""
    tree, lines = read_yaml(path)
    return _validate(Config, path, tree, lines, overrides)


def load_gates(path: Path | None, overrides: list[str] | None = None) -> Gates:
    """The gates of a file, or the default ones, with `a.b=value` overrides. Raises: ConfigError."""
    tree, lines = read_yaml(path) if path is not None else ({}, {})
    where = path or Path("gates")
    if "name" not in tree:
        return _validate(Gates, where, tree, lines, overrides)
    whole = _validate(Config, where, tree, lines, overrides)
    columns = Columns(
        text=whole.data.text, label=whole.data.label, text_pair=whole.data.text_pair, task=whole.data.task
    )
    return Gates(data=columns, gate=whole.gate, behaviour=whole.behaviour)


def _validate(
    model: type[AnySection], path: Path, tree: dict[str, Any], lines: dict[Key, str], overrides: list[str] | None
) -> AnySection:
    for override in overrides or []:
        apply_override(tree, lines, override)
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        told = [_describe(model, path, lines, key, faults) for key, faults in _by_key(error, tree).items()]
        raise ConfigError("\n".join(told)) from error


def _by_key(error: ValidationError, tree: dict[str, Any]) -> dict[Key, list[Any]]:
    """The faults of each key: of a union pydantic has one a form, and those of the form that was meant lie deepest."""
    found: dict[Key, list[Any]] = {}
    for fault in error.errors():
        found.setdefault(_without_tags(fault, tree), []).append(fault)
    return {
        key: faults
        for key, faults in found.items()
        if not any(len(other) > len(key) and other[: len(key)] == key for other in found)
    }


def _describe(root: type[Section], path: Path, lines: dict[Key, str], location: Key, faults: list[Any]) -> str:
    """The pydantic faults of one key as `file:line: key: expected ..., got ...`."""
    fault = faults[0]
    where = next((lines[location[:end]] for end in range(len(location), -1, -1) if location[:end] in lines), str(path))
    dotted = ".".join(str(part) for part in location)
    if fault["type"] == "extra_forbidden":
        known = _known_keys(root, location[:-1], fault)
        close = difflib.get_close_matches(str(location[-1]), known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known here: {', '.join(known)}"
        return f"{where}: {dotted}: unknown key; {hint}"
    if fault["type"] == "missing":
        return f"{where}: {dotted}: expected this key, but it is missing"
    if fault["type"] == "value_error":
        return f"{where}: {fault['ctx']['error']}"
    if fault["type"].startswith("union_tag"):
        kinds = ", ".join(_kinds())
        return f"{where}: {dotted}: expected kind: one of {kinds}; got {fault['input']!r}"
    first, *others = [each["msg"][0].lower() + each["msg"][1:] for each in faults]
    message = " or ".join([first, *(other.removeprefix("input should be ") for other in others)])
    return f"{where}: {dotted}: {message}, got {short(fault['input'])}"


def _without_tags(fault: Any, tree: Any) -> Key:
    """Where the fault is in the file: pydantic puts the forms of unions into the location, which are no keys of it."""
    location = fault["loc"]
    found: list[str | int] = []
    for at, part in enumerate(location):
        below = dict(enumerate(tree)) if isinstance(tree, list) else tree
        if isinstance(below, dict) and part in below:
            tree = below[part]
            found.append(part)
        elif fault["type"] == "missing" and at == len(location) - 1:
            found.append(part)
    return tuple(found)


def _techniques() -> dict[str, type[Section]]:
    union = get_args(Technique)[0]
    return {technique.model_fields["kind"].default: technique for technique in get_args(union)}


def _kinds() -> list[str]:
    return list(_techniques())


def _known_keys(root: type[Section], location: Key, fault: Any) -> list[str]:
    """The field names of the section at `location` below `root`."""
    model: Any = root
    if location[:1] == ("compress",):
        searched = fault["loc"][1] == "search"
        model = Searched if searched else _techniques()[str(fault["loc"][3])]
        location = location[1:] if searched else location[2:]
    for part in location:
        if isinstance(part, int):  # an item of a list, whose type the list's own key gave
            continue
        annotation = model.model_fields[str(part)].annotation
        candidates = [annotation, *get_args(annotation)]
        model = next(found for found in candidates if isinstance(found, type) and issubclass(found, Section))
    return list(model.model_fields)
