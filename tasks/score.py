"""Batch scoring of a file, through the same predictor that serves, in pieces that fit into memory.

The input is read twice: first to the end, for its digest and for rows that cannot be scored, then a piece at a time.
A finished piece stays in a folder beside the output until the output is whole, so that a killed run goes on behind it;
what a run makes of a piece depends on nothing else, so that the output has the same bytes either way.
"""

import itertools
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bento.errors import DataError, UserError
from bento.manifest import file_sha256
from bento.predictor import Predictor, Text
from bento.schemas import MAX_CHARACTERS
from tasks.evaluate import evaluation_batch
from tasks.outputs import require_output
from tasks.score_files import Bad, Row, file_format, join, parquet_schema, read_rows, with_answers, write_piece

PIECE_ROWS = 8_192
STEP_ROWS = 1_024
"""Rows that are tokenized at once and sorted by length."""
STEP_VALUES = 1 << 22
"""Most probabilities that are held at once: fewer rows where a text has many, as with entities in long texts."""
SHOWN = 10
COLUMN_NAMES = {
    "label": "predicted_label",
    "labels": "predicted_labels",
    "score": "predicted_score",
    "entities": "predicted_entities",
}
"""Of answers whose names a labelled file may have already."""

Progress = Callable[[int, int], None]
"""Called with the rows done and all of them."""


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What a run did."""

    num_rows: int
    """Rows of the output."""
    num_rejected: int
    num_resumed: int
    """Rows of the input that an earlier run had done."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is scored, and where to."""

    source: Path
    out: Path
    text: str
    text_pair: str | None
    rejects: Path | None
    """Where rows go that cannot be scored, with number and reason; without it they are an error."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are read."""
        return (self.text,) if self.text_pair is None else (self.text, self.text_pair)


def score_file(
    model: Path, source: Path, out: Path, *, text: str, text_pair: str | None, rejects: Path | None = None,
    progress: Progress = lambda done, total: None,
) -> Scored:  # fmt: skip
    """Write `source` with the answers added as columns to `out`.

    Those are `predicted_label`, `probability` and `abstained`; of label sets `predicted_labels` and
    `label_probabilities`, as JSON lists; of scores `predicted_score`; of entities `predicted_entities`, a JSON list.

    The output appears only when it is whole. Raises: DataError, before anything is written, naming the rows that cannot
    be scored unless `rejects` takes them; UserError while another run writes the same output.
    """
    job = Job(source=source, out=out, text=text, text_pair=text_pair, rejects=rejects)
    file_format(out)
    if not source.is_file():
        raise DataError(f"{source}: expected a CSV, TSV, JSONL or Parquet file, but there is no such file")
    _check_outputs(job)
    predictor = Predictor(model)
    _check_pairs(predictor, job)
    before = _stamp(source)
    num_rows, columns = _examine(job)
    with _unfinished(predictor, job) as folder:
        numbers = range(math.ceil(num_rows / PIECE_ROWS))
        resumed = sum((folder / f"{number}.done").is_file() for number in numbers)
        _score_pieces(predictor, job, folder, num_rows, columns, progress)
        if _stamp(source) != before:
            raise DataError(
                f"{source}: it was changed while it was read, so nothing was written; run the command again"
            )
        rejected = _publish(job, folder, numbers)
    return Scored(
        num_rows=num_rows - rejected, num_rejected=rejected, num_resumed=min(resumed * PIECE_ROWS, num_rows)
    )  # fmt: skip


def _check_outputs(job: Job) -> None:
    """Raises: DataError for one that would write over another file of the run, or cannot be written."""
    taken = {job.source.resolve(): "the input"}
    for path, what in ((job.out, "the output"), (job.rejects, "the rejected rows")):
        if path is None:
            continue
        if path.resolve() in taken:
            raise DataError(f"{path}: expected a file of its own for {what}, got that of {taken[path.resolve()]}")
        taken[path.resolve()] = what
        require_output(path)


def _stamp(path: Path) -> tuple[int, int, int]:
    """Changes whenever the file does."""
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


def _check_pairs(predictor: Predictor, job: Job) -> None:
    pairs = predictor.manifest.pairs
    if pairs is not (job.text_pair is not None):
        what = "pairs: name the second column with --text-pair" if pairs else "single texts: leave --text-pair out"
        raise DataError(f"{job.source}: {predictor.manifest.name} reads {what}")


def _examine(job: Job) -> tuple[int, list[str]]:
    """The number of rows, and the columns of the first.

    Raises: DataError when there are no rows, a column is missing, or rows cannot be scored.
    """
    bad: list[str] = []
    columns: list[str] = []
    num_rows = num_bad = 0
    for num_rows, row in enumerate(_checked(job), start=1):
        content = row.content if isinstance(row, Bad) else row
        columns = columns or (list(content) if isinstance(content, dict) else [])
        if isinstance(row, Bad):
            num_bad += 1
            if len(bad) < SHOWN:
                bad.append(f"  row {num_rows}: {row.reason}")
    if not num_rows:
        raise DataError(f"{job.source}: expected rows, but it is empty")
    if num_bad and job.rejects is None:
        more = f"\n  and {num_bad - len(bad):,} more" if num_bad > len(bad) else ""
        raise DataError(
            f"{job.source}: {num_bad:,} of {num_rows:,} rows cannot be scored, so nothing was written:\n"
            + "\n".join(bad)
            + f"{more}\nCorrect them, or let --rejects FILE.jsonl take them and score the others."
        )
    if num_bad == num_rows:
        raise DataError(f"{job.source}: expected a row that can be scored, but there is none:\n" + "\n".join(bad))
    return num_rows, columns


def _checked(job: Job) -> Iterator[Row | Bad]:
    """The rows, those that cannot be scored as bad ones. Raises: DataError when the first lacks a column."""
    columns: set[str] | None = None
    free = file_format(job.out) == ".jsonl"
    for row in read_rows(job.source):
        if columns is None and not isinstance(row, Bad):
            columns = set(row)
            _check_columns(job, row)
        reason = None if isinstance(row, Bad) else _reason(row, job, columns if not free else None)
        yield row if reason is None else Bad(reason=reason, content=row)


def _check_columns(job: Job, first: Row) -> None:
    for column in job.columns:
        if column not in first:
            known = ", ".join(map(str, first))
            raise DataError(
                f"{job.source}: expected a column {column!r}, it has: {known}; name it with --text or --text-pair"
            )


def _reason(row: Row, job: Job, columns: set[str] | None) -> str | None:
    """Why a row cannot be scored; by the same limits as the service's."""
    for column in job.columns:
        value = row.get(column)
        if not isinstance(value, str):
            return f"expected a text in {column!r}, got {'nothing' if value is None else type(value).__name__}"
        if not value.strip():
            return f"expected a text with at least one visible character in {column!r}, got an empty one"
        if len(value) > MAX_CHARACTERS:
            return f"expected at most {MAX_CHARACTERS:,} characters in {column!r}, got {len(value):,}"
    if columns is not None and not row.keys() <= columns:
        more = ", ".join(sorted(row.keys() - columns))
        return f"expected the first row's columns, got also {more}; an output that ends in .jsonl takes any"
    return None


@contextmanager
def _unfinished(predictor: Predictor, job: Job) -> Iterator[Path]:
    """The folder beside the output that keeps the pieces; one of another input, model or setting is emptied first."""
    from filelock import FileLock, Timeout

    folder = job.out.with_name(f".{job.out.name}.unfinished")
    folder.mkdir(exist_ok=True)
    try:
        with FileLock(folder / "lock", timeout=0):
            key = _key(predictor, job)
            kept = folder / "key.json"
            if not kept.is_file() or kept.read_text(encoding="utf-8") != key:
                for path in folder.iterdir():
                    if path.name != "lock":
                        path.unlink()
                kept.write_text(key, encoding="utf-8")
            yield folder
            shutil.rmtree(folder)
    except Timeout as error:
        raise UserError(f"{job.out}: another run is scoring into it; wait for that, or name another output") from error


def _key(predictor: Predictor, job: Job) -> str:
    """All that the pieces depend on."""
    import onnxruntime
    import tokenizers

    return json.dumps({
        "source": file_sha256(job.source), "model": predictor.sha256, "columns": job.columns, "format": 1,
        "rejects": job.rejects is not None, "piece_rows": PIECE_ROWS, "names": [job.source.name, job.out.name],
        "versions": [onnxruntime.__version__, tokenizers.__version__],
    })  # fmt: skip


def _score_pieces(predictor: Predictor, job: Job, folder: Path, num_rows: int, columns: Sequence[str],
                  progress: Progress) -> None:  # fmt: skip
    rows = enumerate(_checked(job), start=1)
    for number, start in enumerate(range(0, num_rows, PIECE_ROWS)):
        piece = list(itertools.islice(rows, PIECE_ROWS))
        if not (folder / f"{number}.done").is_file():
            _score_piece(predictor, job, folder, number, piece, columns, partial(_advance, progress, start, num_rows))
        progress(start + len(piece), num_rows)


def _advance(progress: Progress, start: int, num_rows: int, done: int) -> None:
    progress(start + done, num_rows)


def _score_piece(predictor: Predictor, job: Job, folder: Path, number: int, piece: Sequence[tuple[int, Row | Bad]],
                 columns: Sequence[str], progress: Callable[[int], None]) -> None:  # fmt: skip
    good = [row for _, row in piece if not isinstance(row, Bad)]
    bad = [
        {"row": at, "reason": row.reason, "content": row.content} for at, row in piece if isinstance(row, Bad)
    ]  # fmt: skip
    if good:
        texts = [(row[job.text], row[job.text_pair]) if job.text_pair else row[job.text] for row in good]
        answers = _answers(predictor, texts, progress)
        _write(job, folder, number, good, columns, answers)
    if bad:
        write_piece(bad, folder / f"{number}.bad", ".jsonl")
    _settle(folder / f"{number}.done", len(bad))


def _write(job: Job, folder: Path, number: int, good: list[Row], columns: Sequence[str],
           answers: dict[str, list[Any]]) -> None:  # fmt: skip
    """Rows and answers; in Parquet with the types of a Parquet input, else with those of the first piece."""
    form = file_format(job.out)
    given = good if form == ".jsonl" else [{name: row.get(name) for name in columns} for row in good]
    values = zip(*answers.values(), strict=True)
    rows = [row | dict(zip(answers, found, strict=True)) for row, found in zip(given, values, strict=True)]
    earlier = [path for at in range(number) if (path := folder / f"{at}.piece").is_file()]
    schema = None
    if form == ".parquet" and earlier:
        schema = parquet_schema(earlier[0])
    elif form == ".parquet" and file_format(job.source) == ".parquet":
        schema = with_answers(parquet_schema(job.source), answers)
    write_piece(rows, folder / f"{number}.piece", form, header=not earlier, schema=schema)


def _answers(predictor: Predictor, texts: Sequence[Text], progress: Callable[[int], None]) -> dict[str, list[Any]]:
    """The answers by column, texts of similar length together where the model answers a text alone as in a batch."""
    batch_size = evaluation_batch(predictor.manifest)
    step = min(STEP_ROWS, max(batch_size, STEP_VALUES // math.prod(predictor.answer_shape)))
    found: dict[str, list[Any]] = {}
    for start in range(0, len(texts), step):
        part = texts[start : start + step]
        for name, values in predictor.answers(part, predictor.predict(part, batch_size=batch_size)).items():
            found.setdefault(COLUMN_NAMES.get(name, name), []).extend(_written(values))
        progress(start + len(part))
    return found


def _written(values: list[Any]) -> list[Any]:
    """Lists as JSON, which any of the formats holds."""
    return [json.dumps(value, ensure_ascii=False) if isinstance(value, list) else value for value in values]


def _settle(path: Path, num_bad: int) -> None:
    """Say that a piece is whole, with its files on the disk before."""
    for part in (path.with_suffix(".piece"), path.with_suffix(".bad")):
        if part.is_file():
            with part.open("rb") as file:
                os.fsync(file.fileno())
    temporary = path.with_suffix(".tmp")
    temporary.write_text(str(num_bad), encoding="utf-8")
    temporary.replace(path)


def _publish(job: Job, folder: Path, numbers: range) -> int:
    """Join the pieces into the output, and the rejected rows into their file; how many those are."""
    rejected = sum(int((folder / f"{number}.done").read_text(encoding="utf-8")) for number in numbers)
    if job.rejects is not None:
        _join(folder, numbers, "bad", job.rejects, ".jsonl")
    _join(folder, numbers, "piece", job.out, file_format(job.out))
    return rejected


def _join(folder: Path, numbers: range, kind: str, out: Path, form: str) -> None:
    pieces = [path for number in numbers if (path := folder / f"{number}.{kind}").is_file()]
    whole = out.with_name(f".{out.name}.{kind}")
    try:
        join(pieces, whole, form, compressed=out.suffix == ".gz")
        whole.replace(out)
    finally:
        whole.unlink(missing_ok=True)
