"""One row of the data, its id, and what was found wrong with rows."""

import hashlib
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from bento.errors import DataError

NUM_EXAMPLES = 3
EXAMPLE_CHARS = 80


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One labelled text and where it came from."""

    id: str
    text: str
    text_pair: str | None
    label: str
    """The truth as `tasks.data.truths` writes it."""
    names: tuple[str, ...]
    """The class names in the label: one, several or none; never any in a score."""
    split: str
    file: str
    line: int
    """Line of a text file, row of a Parquet file or hub data set; from 1."""
    origin: Literal["source", "feedback"] = "source"
    further: Mapping[str, Any] = field(default_factory=dict)
    """Other columns of the source."""

    @property
    def stratum(self) -> str:
        """What splits and samples keep the shares of: the row's first class."""
        return self.names[0] if self.names else ""

    @property
    def example(self) -> str:
        """The row as an error or a report quotes it."""
        text = self.text if len(self.text) <= EXAMPLE_CHARS else self.text[: EXAMPLE_CHARS - 3] + "..."
        return f"{self.file}:{self.line}: {text!r} ({self.label or 'no label'})"


def row_id(text: str, text_pair: str | None = None) -> str:
    """Hash of the normalised text (NFKC, casefold, single spaces), as 32 hex digits.

    It names the row and decides its split for ever, so that neither spelling in capitals nor a retrain can move a
    text from training into the test.
    """
    normal = "\x1f".join(_normalise(part) for part in (text, text_pair) if part is not None)
    return hashlib.sha256(normal.encode()).hexdigest()[:32]


def _normalise(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One kind of fault: how often, where, and what was done about it."""

    kind: str
    action: Literal["error", "dropped", "noted"]
    count: int
    message: str
    examples: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "\n".join([f"- {self.message}", *(f"    {example}" for example in self.examples)])


@dataclass(kw_only=True)
class Findings:
    """Collects all faults, so that a user meets them in one error and not one at a time."""

    found: list[Finding] = field(default_factory=list)

    def add(
        self,
        kind: str,
        action: Literal["error", "dropped", "noted"],
        message: str,
        examples: Sequence[str] = (),
        *,
        count: int | None = None,
    ) -> None:
        """Note one kind of fault; `count` defaults to the number of examples, of which the first few are kept."""
        number = len(examples) if count is None else count
        self.found.append(
            Finding(kind=kind, action=action, count=number, message=message, examples=tuple(examples[:NUM_EXAMPLES]))
        )

    def drop(
        self,
        rows: Sequence[Row],
        faulty: Callable[[Row], bool],
        *,
        kind: str,
        message: str,
        remedy: str,
        max_share: float = 1.0,
    ) -> list[Row]:
        """The rows without the faulty ones, reported; an error where they are more than `max_share` of all."""
        bad = [row for row in rows if faulty(row)]
        if not bad:
            return list(rows)
        too_many = len(bad) > max_share * len(rows)
        text = f"{_rows(len(bad))} of {len(rows):,} {message}"
        if too_many:
            text += f"; {remedy}" if max_share == 0 else f", more than the {max_share:.0%} that is dropped; {remedy}"
        self.add(kind, "error" if too_many else "dropped", text, [row.example for row in bad])
        gone = {id(row) for row in bad}
        return [row for row in rows if id(row) not in gone]

    def raise_errors(self, subject: str) -> None:
        """Raises: DataError with every error found so far."""
        errors = [str(finding) for finding in self.found if finding.action == "error"]
        if errors:
            raise DataError("\n".join([f"{subject} cannot be used:", *errors]))


def _rows(number: int) -> str:
    return f"{number:,} row" if number == 1 else f"{number:,} rows"


def listed(names: Iterable[str], *, most: int = 12) -> str:
    """Names for an error text, cut where there are many."""
    shown = list(names)
    return ", ".join(shown[:most]) + (f" and {len(shown) - most:,} more" if len(shown) > most else "")
