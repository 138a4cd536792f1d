"""The config: one YAML file, frozen and strict, whose errors name the key, the file and the line."""

import difflib
import itertools
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, get_args

import yaml
from pydantic import Discriminator, Field, Tag, ValidationError, field_validator, model_validator

from bento.errors import ConfigError, UserError
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

Key = tuple[str | int, ...]
CONFIGS = Path("configs")
"""Where the configs of a checkout are."""
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
    tree, lines = _read(path)
    return _validate(Config, path, tree, lines, overrides)


def load_gates(path: Path | None, overrides: list[str] | None = None) -> Gates:
    """The gates of a file, or the default ones, with `a.b=value` overrides. Raises: ConfigError."""
    tree, lines = _read(path) if path is not None else ({}, {})
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
        _apply(tree, lines, override)
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        told = [_describe(model, path, lines, key, faults) for key, faults in _by_key(error, tree).items()]
        raise ConfigError("\n".join(told)) from error


def _hint(path: Path) -> str:
    """Which file may be meant by one that is not there: the config of that name, or those beside it."""
    beside = sorted(path.parent.glob("*.y*ml"))
    meant = [found for found in (*beside, *sorted(CONFIGS.glob("*.y*ml"))) if found.stem == path.stem]
    if meant:
        return f"; did you mean {meant[0]}?"
    return f"; {path.parent} has {', '.join(found.name for found in beside)}" if beside else ""


def _read(path: Path) -> tuple[dict[str, Any], dict[Key, str]]:
    """The YAML as plain values, and where each key stands (`line 12`)."""
    try:
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=_Loader)
        tree = yaml.load(text, Loader=_Loader)  # noqa: S506 - it is a safe one
        if not isinstance(tree, dict):
            raise ConfigError(f"{path}:1: expected keys such as name, data and compress, got {type(tree).__name__}")
        lines: dict[Key, str] = {}
        _note_lines(path, node, (), lines)
        return tree, lines
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: expected a YAML config, but there is no such file{_hint(path)}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: expected a readable UTF-8 YAML file, got: {error}") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"{path}:{line}: expected YAML, got: {error.problem}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: expected YAML, got: {error}") from error
    except RecursionError as error:
        raise ConfigError(
            f"{path}: expected keys a few levels deep, got hundreds of levels, or an anchor (&) that holds its own "
            "alias (*); write the values out"
        ) from error


class _Loader(yaml.SafeLoader):
    """Says where a value stands that looks like a date or number, or is tagged as one, and is none."""

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        """As PyYAML has it. Raises: ConstructorError."""
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError) as error:  # what PyYAML's own constructors end in
            kind = node.tag.rpartition(":")[2]
            problem = f"{_short(node.value)}, which is no {kind}; put text into quotes"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from error


def _note_lines(path: Path, node: Any, key: Key, lines: dict[Key, str]) -> None:
    lines.setdefault(key, f"{path}:{node.start_mark.line + 1}")
    if isinstance(node, yaml.MappingNode):
        for child_key, child in node.value:
            below = (*key, child_key.value)
            if below in lines:
                raise ConfigError(f"{path}:{child_key.start_mark.line + 1}: {child_key.value} is given twice; keep one")
            lines[below] = f"{path}:{child_key.start_mark.line + 1}"
            _note_lines(path, child, below, lines)
    elif isinstance(node, yaml.SequenceNode):
        for at, child in enumerate(node.value):
            _note_lines(path, child, (*key, at), lines)


def _apply(tree: dict[str, Any], lines: dict[Key, str], override: str) -> None:
    """Set one `a.b=value`; list items by number, as in `compress.1.epochs=3`."""
    dotted, equals, text = override.partition("=")
    if not equals or not re.fullmatch(r"[\w-]+(\.[\w-]+)*", dotted):
        raise ConfigError(f"--set {override}: expected KEY.KEY=VALUE, such as teacher.epochs=3")
    try:
        value = yaml.load(text, Loader=_Loader) if text else ""  # noqa: S506 - it is a safe one
    except (yaml.YAMLError, RecursionError) as error:
        problem = getattr(error, "problem", None) or _short(text)
        raise ConfigError(f"--set {override}: expected a YAML value after =, got {problem}") from error
    key: Key = tuple(int(part) if re.fullmatch("[0-9]{1,9}", part) else part for part in dotted.split("."))
    parent: Any = tree
    node: Any = tree
    for at, (part, following) in enumerate(itertools.pairwise((*key, ""))):
        if node == [] and isinstance(part, int):
            items = f"{'.'.join(dotted.split('.')[:at])}={_nested(key[at:], text)}"
            raise ConfigError(
                f"--set {override}: the list that {part} counts in has no items; give it, as --set '{items}'"
            )
        parent, node = node, _child(node, part, override, [] if isinstance(following, int) else {})
    parent[key[-1]] = value
    lines[key] = f"--set {override}"


def _nested(key: Key, text: str) -> str:
    """The YAML of a value below the keys and items of `key`."""
    for part in reversed(key):
        text = f"[{text}]" if isinstance(part, int) else f"{{{part}: {text}}}"
    return text


def _child(node: Any, part: str | int, override: str, default: Any) -> Any:
    if isinstance(node, list):
        if not isinstance(part, int) or part >= len(node):
            raise ConfigError(f"--set {override}: expected a number from 0 to {len(node) - 1}, got {part!r}")
        return node[part]
    if not isinstance(node, dict):
        raise ConfigError(f"--set {override}: {part!r} lies below a plain value, so it cannot be set")
    if node.get(part) is None:
        node[part] = default
    return node[part]


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
    return f"{where}: {dotted}: {message}, got {_short(fault['input'])}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


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
