"""The YAML of a config as plain values, where each of its keys stands, and overrides of single keys."""

import itertools
import re
from pathlib import Path
from typing import Any

import yaml

from bento.errors import ConfigError

Key = tuple[str | int, ...]
CONFIGS = Path("configs")
"""Where the configs of a checkout are."""


def _hint(path: Path) -> str:
    """Which file may be meant by one that is not there: the config of that name, or those beside it."""
    beside = sorted(path.parent.glob("*.y*ml"))
    meant = [found for found in (*beside, *sorted(CONFIGS.glob("*.y*ml"))) if found.stem == path.stem]
    if meant:
        return f"; did you mean {meant[0]}?"
    return f"; {path.parent} has {', '.join(found.name for found in beside)}" if beside else ""


def read_yaml(path: Path) -> tuple[dict[str, Any], dict[Key, str]]:
    """The YAML as plain values, and where each key stands (`line 12`). Raises: ConfigError."""
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
            problem = f"{short(node.value)}, which is no {kind}; put text into quotes"
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


def apply_override(tree: dict[str, Any], lines: dict[Key, str], override: str) -> None:
    """Set one `a.b=value` in `tree`, list items by number, as in `compress.1.epochs=3`; `lines` then says where from.

    Raises: ConfigError.
    """
    dotted, equals, text = override.partition("=")
    if not equals or not re.fullmatch(r"[\w-]+(\.[\w-]+)*", dotted):
        raise ConfigError(f"--set {override}: expected KEY.KEY=VALUE, such as teacher.epochs=3")
    try:
        value = yaml.load(text, Loader=_Loader) if text else ""  # noqa: S506 - it is a safe one
    except (yaml.YAMLError, RecursionError) as error:
        problem = getattr(error, "problem", None) or short(text)
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


def short(value: Any) -> str:
    """A value as an error shows it."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
