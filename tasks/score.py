"""Batch scoring of a file, through the same predictor that serves, in pieces that fit into memory."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

from bento.errors import DataError
from bento.predictor import Predictor

CHUNK_ROWS = 10_000
COLUMN_NAMES = {
    "label": "predicted_label",
    "labels": "predicted_labels",
    "score": "predicted_score",
    "entities": "predicted_entities",
}
"""Of answers whose names a labelled file may have already."""
READERS = {".csv": ",", ".tsv": "\t"}


def score_file(model: Path, source: Path, out: Path, *, text: str, text_pair: str | None) -> int:
    """Write `source` with the answers added as columns to `out`; the number of rows.

    Those are `predicted_label`, `probability` and `abstained`; of label sets `predicted_labels` and
    `label_probabilities`, as JSON lists; of scores `predicted_score`; of entities `predicted_entities`, a JSON list.

    The output appears only when it is whole. Raises: DataError.
    """
    import pandas as pd

    if not source.is_file():
        raise DataError(f"{source}: expected a CSV, TSV, JSONL or Parquet file, but there is no such file")
    predictor = Predictor(model)
    temporary = out.with_name(f".{out.name}-{uuid4().hex[:8]}.tmp")
    num_rows = 0
    try:
        parts = []
        for frame in _chunks(source):
            scored = _score(predictor, frame, text, text_pair, source)
            num_rows += len(scored)
            if out.suffix == ".parquet":
                parts.append(scored)
            else:
                _append(scored, temporary, out.suffix)
        if out.suffix == ".parquet":
            pd.concat(parts).to_parquet(temporary, index=False)
        if not num_rows:
            raise DataError(f"{source}: expected rows, but it is empty")
        temporary.replace(out)
    finally:
        temporary.unlink(missing_ok=True)
    return num_rows


def _chunks(source: Path) -> Iterator[Any]:
    import pandas as pd
    import pyarrow.parquet as pq

    try:
        if source.suffix in READERS:
            separator = READERS[source.suffix]
            yield from pd.read_csv(source, chunksize=CHUNK_ROWS, sep=separator, dtype=str, keep_default_na=False)
        elif source.suffix == ".jsonl":
            yield from pd.read_json(source, lines=True, chunksize=CHUNK_ROWS, dtype=False)
        elif source.suffix == ".parquet":
            for batch in pq.ParquetFile(source).iter_batches(CHUNK_ROWS):
                yield batch.to_pandas()
        else:
            raise DataError(f"{source}: expected a name ending in .csv, .tsv, .jsonl or .parquet")
    except (ValueError, OSError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{source}: could not be read: {error}") from error


def _score(predictor: Predictor, frame: Any, text: str, text_pair: str | None, source: Path) -> Any:
    for column in (text, text_pair):
        if column is not None and column not in frame.columns:
            known = ", ".join(map(str, frame.columns))
            raise DataError(
                f"{source}: expected a column {column!r}, it has: {known}; name it with --text or --text-pair"
            )
    pairs = predictor.manifest.pairs
    if pairs is not (text_pair is not None):
        what = "pairs: name the second column with --text-pair" if pairs else "single texts: leave --text-pair out"
        raise DataError(f"{source}: {predictor.manifest.name} reads {what}")
    first = frame[text].astype(str).tolist()
    texts = list(zip(first, frame[text_pair].astype(str), strict=True)) if text_pair else first
    answers = predictor.answers(texts, predictor.predict(texts))
    return frame.assign(**{COLUMN_NAMES.get(name, name): _written(values) for name, values in answers.items()})


def _written(values: list[Any]) -> list[Any]:
    """Lists as JSON, which any of the formats holds."""
    return [json.dumps(value, ensure_ascii=False) if isinstance(value, list) else value for value in values]


def _append(frame: Any, path: Path, suffix: str) -> None:
    if suffix == ".jsonl":
        with path.open("a", encoding="utf-8") as file:
            file.write(frame.to_json(orient="records", lines=True, force_ascii=False))
    elif suffix in READERS:
        frame.to_csv(path, mode="a", header=not path.exists(), index=False, sep=READERS[suffix])
    else:
        raise DataError(f"{path.name}: expected an output name ending in .csv, .tsv, .jsonl or .parquet")
