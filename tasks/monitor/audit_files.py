"""The audit queue as a file for labelling tools, and their files with the labels filled in.

| format | written | read |
|---|---|---|
| jsonl | an object a line | the same with `label` |
| csv | a row a text | the same with `label`; Label Studio's CSV export |
| label-studio | tasks with predictions, as its import takes them | its exports JSON and JSON_MIN |
| argilla | records, as `Record.from_dict` takes them | what `dataset.records.to_json` wrote |

In Label Studio and Argilla the question is named `label` and is a choice of one; in Argilla the text's field is `text`.
"""

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from xml.sax.saxutils import quoteattr

from bento.errors import DataError

Format = Literal["jsonl", "csv", "label-studio", "argilla"]
FORMATS: tuple[Format, ...] = ("jsonl", "csv", "label-studio", "argilla")
FIELDS = ("request_id", "item", "stream", "text", "text_pair")
COLUMNS = (*FIELDS, "suggestion", "proposal", "label")
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet would run."""
MAX_LABEL = 256

Row = Mapping[str, Any]
"""Of the audit queue: column name -> value."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One label of a file; empty where nobody gave one."""

    where: str
    request_id: str
    item: int
    label: str


def written(rows: Sequence[Row], form: Format) -> str:
    """The file's text, from rows of the audit queue."""
    return WRITERS[form](rows)


def _fields(row: Row) -> dict[str, Any]:
    return {field: row[field] for field in FIELDS}


def _jsonl(rows: Sequence[Row]) -> str:
    lines = (
        _fields(row) | {"suggestion": row["label"], "proposal": row["proposed_label"], "label": ""} for row in rows
    )
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def _csv(rows: Sequence[Row]) -> str:
    file = io.StringIO(newline="")
    table = csv.writer(file)
    table.writerow(COLUMNS)
    for row in rows:
        values = [*_fields(row).values(), row["label"], row["proposed_label"], ""]
        table.writerow([_harmless(value) for value in values])
    return file.getvalue()


def _harmless(value: Any) -> Any:
    """A client's text must not be run as a formula by the spreadsheet that opens it."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def _label_studio(rows: Sequence[Row]) -> str:
    return json.dumps([_task(row) for row in rows], ensure_ascii=False, indent=1)


def _task(row: Row) -> dict[str, Any]:
    predictions = [_prediction(row["label"], max(row["probabilities"]), f"version {row['version']}")]
    if row["proposed_label"] is not None:
        predictions.append(_prediction(row["proposed_label"], row["proposed_probability"], "teacher"))
    data = {name: value for name, value in _fields(row).items() if value is not None}
    return {"data": data, "predictions": predictions}


def _prediction(label: str, score: float, version: str) -> dict[str, Any]:
    choice = {"from_name": "label", "to_name": "text", "type": "choices", "value": {"choices": [label]}}
    return {"model_version": version, "score": score, "result": [choice]}


def labelling_config(labels: Sequence[str], *, pairs: bool) -> str:
    """What Label Studio asks for as a project's labelling interface."""
    second = '  <Text name="text_pair" value="$text_pair"/>\n' if pairs else ""
    choices = "".join(f"    <Choice value={quoteattr(label)}/>\n" for label in labels)
    return (
        f'<View>\n  <Text name="text" value="$text"/>\n{second}  <Choices name="label" toName="text" choice="single" '
        f'showInLine="true">\n{choices}  </Choices>\n</View>\n'
    )


def _argilla(rows: Sequence[Row]) -> str:
    return json.dumps([_record(row) for row in rows], ensure_ascii=False, indent=1)


def _record(row: Row) -> dict[str, Any]:
    """One suggestion is all that a question has: the proposal where there is one."""
    suggestion = {"value": row["label"], "score": max(row["probabilities"]), "agent": f"version {row['version']}"}
    if row["proposed_label"] is not None:
        suggestion = {"value": row["proposed_label"], "score": row["proposed_probability"], "agent": "teacher"}
    return {
        "id": f"{row['request_id']}/{row['item']}",
        "fields": {name: row[name] for name in ("text", "text_pair") if row[name] is not None},
        "metadata": {name: row[name] for name in ("request_id", "item", "stream")},
        "suggestions": {"label": suggestion},
        "responses": {},
        "vectors": {},
        "status": "pending",
    }


WRITERS: dict[Format, Callable[[Sequence[Row]], str]] = {
    "jsonl": _jsonl,
    "csv": _csv,
    "label-studio": _label_studio,
    "argilla": _argilla,
}


def read_entries(source: Path, form: Format | None = None) -> list[Entry]:
    """Every label of a file, in order; without `form` it is found out. Raises: DataError naming the place."""
    try:
        text = source.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{source}: expected a readable text file in UTF-8: {error}") from error
    form = form or _form(source, text)
    return [_checked(entry) for entry in READERS[form](str(source), text)]


def _form(source: Path, text: str) -> Format:
    suffixes: dict[str, Format] = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}
    if source.suffix.lower() in suffixes:
        return suffixes[source.suffix.lower()]
    records = _records(str(source), text)
    return "argilla" if records and "fields" in records[0] else "label-studio"


def _checked(entry: Entry) -> Entry:
    if len(entry.label) > MAX_LABEL or "\0" in entry.label:
        raise DataError(f"{entry.where}: expected a label of at most {MAX_LABEL} characters without NUL")
    return entry


def _entry(where: str, request_id: Any, item: Any, label: Any) -> Entry:
    item = int(item) if isinstance(item, str) and item.isascii() and item.isdigit() else item
    label = "" if label is None else label
    right = isinstance(request_id, str) and request_id != "" and type(item) is int and item >= 0
    if not (right and isinstance(label, str)):
        got = {"request_id": request_id, "item": item, "label": label}
        raise DataError(
            f'{where}: expected such as {{"request_id": "...", "item": 0, "label": "..."}}, got {str(got)[:160]}; '
            "export the queue again and keep these columns"
        )
    return Entry(where=where, request_id=request_id, item=item, label=label.strip())


def _from_jsonl(source: str, text: str) -> Iterator[Entry]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            where = f"{source}:{number}"
            row = _parsed(where, line)
            if not isinstance(row, dict):
                raise DataError(f"{where}: expected an object, got {line[:80]!r}")
            yield _entry(where, row.get("request_id"), row.get("item", 0), row.get("label"))


def _parsed(where: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise DataError(f"{where}: expected JSON, got {text[:80]!r}: {error}") from error


def _from_csv(source: str, text: str) -> Iterator[Entry]:
    table = csv.DictReader(io.StringIO(text, newline=""))
    missing = {"request_id", "label"} - set(table.fieldnames or ())
    if missing:
        raise DataError(
            f"{source}: expected the columns request_id, item and label, got none named {' or '.join(sorted(missing))}"
        )
    for row in table:
        values = {name: (row.get(name) or "").removeprefix("'") for name in ("request_id", "item", "label")}
        yield _entry(f"{source}:{table.line_num}", values["request_id"], values["item"] or 0, values["label"])


def _records(source: str, text: str) -> list[dict[str, Any]]:
    records = _parsed(source, text)
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise DataError(f"{source}: expected a JSON list of objects, as the labelling tool exports it")
    return records


def _from_label_studio(source: str, text: str) -> Iterator[Entry]:
    """JSON has `data` and `annotations`; JSON_MIN has the data's fields and the answer side by side."""
    for number, task in enumerate(_records(source, text), 1):
        where = f"{source}: task {task.get('id', number)}"
        data = task.get("data", task)
        if not isinstance(data, dict):
            raise DataError(f"{where}: expected an object as data, got {str(data)[:80]}")
        labels = list(_choices(where, task["annotations"])) if "annotations" in task else [_single(task.get("label"))]
        for label in labels or [""]:
            yield _entry(where, data.get("request_id"), data.get("item", 0), label)


def _choices(where: str, annotations: Any) -> Iterator[Any]:
    try:
        for annotation in annotations:
            if annotation.get("was_cancelled"):
                continue
            for result in annotation["result"]:
                if result["type"] == "choices" and result["from_name"] == "label":
                    yield _single(result["value"])
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{where}: expected annotations as Label Studio exports them, got {error!r}") from error


def _single(value: Any) -> Any:
    """The choice, which Label Studio wraps in an object where it is a list; a list of several is no single class."""
    choices = value.get("choices") if isinstance(value, dict) else value
    return choices[0] if isinstance(choices, list) and len(choices) == 1 else choices


def _from_argilla(source: str, text: str) -> Iterator[Entry]:
    for number, record in enumerate(_records(source, text), 1):
        where = f"{source}: record {record.get('id', number)}"
        request_id, _, item = str(record.get("id") or "").rpartition("/")
        responses = record.get("responses") or {}
        if not isinstance(responses, dict):
            raise DataError(f"{where}: expected responses by question, got {str(responses)[:80]}")
        for response in responses.get("label") or [{"value": ""}]:
            value = response.get("value") if isinstance(response, dict) else response
            yield _entry(where, request_id, item, value)


READERS: dict[Format, Callable[[str, str], Iterator[Entry]]] = {
    "jsonl": _from_jsonl,
    "csv": _from_csv,
    "label-studio": _from_label_studio,
    "argilla": _from_argilla,
}
