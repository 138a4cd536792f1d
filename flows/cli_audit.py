"""`retort audit`: the labelling queue of a served model."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from bento.errors import UserError
from flows.terminal import AsJson, ConfigPath, Name, Overrides, print_json
from tasks.monitor.audit_files import FORMATS, Format

audit_app = typer.Typer(no_args_is_help=True, help="The labelling queue of a served model.")

FileFormat = Annotated[
    str | None, typer.Option("--format", metavar="|".join(FORMATS), help="Else what the file's name says")
]


@audit_app.command("next")
def audit_next(
    name: Name, limit: Annotated[int, typer.Option(min=1, max=1_000_000)] = 1, as_json: AsJson = False
) -> None:
    """The oldest requests that wait for a label: random ones first, then targeted ones."""
    from bento.audit_records import audit_queue

    _refuse_unknown(name)
    rows = audit_queue(name, limit)
    if as_json:
        return _show(rows, as_json, "")
    for row in rows:
        proposed = f"  teacher: {row['proposed_label']}" if row["proposed_label"] else ""
        typer.echo(f"{row['request_id']} {row['item']}  {row['label']}{proposed}  {row['text']}")


@audit_app.command("export")
def audit_export(name: Name, out: Annotated[Path, typer.Argument(metavar="OUT")], form: FileFormat = None) -> None:
    """The whole queue as a file for a labelling tool, to be imported again with the labels filled in."""
    from tasks.monitor.audit import export_queue
    from tasks.monitor.audit_files import labelling_config

    _refuse_unknown(name)
    chosen = _format(form) or ("csv" if out.suffix.lower() == ".csv" else "jsonl")
    typer.echo(f"{export_queue(name, out, chosen):,} rows written to {out}")
    manifest = _manifest(name)
    if chosen == "label-studio" and manifest is not None:
        config = out.with_suffix(".xml")
        config.write_text(labelling_config(manifest.labels, pairs=manifest.pairs), encoding="utf-8")
        typer.echo(f"the labelling interface for it is in {config}")


@audit_app.command("import")
def audit_import(
    name: Name,
    source: Annotated[Path, typer.Argument(metavar="IN")],
    form: FileFormat = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Correct labels that are there; they stay as history")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """The labels of a file. All of it is checked before the first is stored; the first label of a row stands."""
    from tasks.monitor.audit import import_labels

    _refuse_unknown(name)
    manifest = _manifest(name)
    known = None if manifest is None else manifest.labels
    done = import_labels(name, source, form=_format(form), replace=replace, known_labels=known)
    kinds = ("taken", "known", "replaced", "unlabelled", "unknown", "other_model", "contradicting", "disagreeing")
    counts = {kind.replace("_", " "): getattr(done, kind) for kind in kinds}
    text = ", ".join(f"{count:,} {kind}" for kind, count in counts.items() if count or kind == "taken")
    if done.new_labels:
        text += f"; labels that the champion does not know: {', '.join(done.new_labels)}"
    _show(asdict(done) | {"refused": done.refused}, as_json, text)


@audit_app.command("propose")
def audit_propose(
    config: ConfigPath,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Let the champion's teacher suggest labels for the queue; they are shown as such and never count."""
    from bento.settings import configure
    from flows.config import load_config

    chosen = load_config(config, overrides)
    configure()
    from tasks.monitor.proposals import propose
    from tasks.release.ledger import require_champion

    champion = require_champion(chosen.name, " whose teacher could be asked")
    num = propose(chosen.name, champion.model_path)
    _show({"proposed": num}, as_json, f"{num:,} rows of the queue have a new proposal of the teacher's")


@audit_app.command("status")
def audit_status(name: Name, as_json: AsJson = False) -> None:
    """How many rows wait in both streams, how many have a label, and how many labels were corrected."""
    from bento.audit_records import count_queue, history

    _refuse_unknown(name)
    found = asdict(count_queue(name)) | {"corrected": len(history(name))}
    text = (
        f"{name}: {found['random_waiting']:,} drawn at random wait, {found['random_labelled']:,} have a label; "
        f"{found['targeted_waiting']:,} targeted wait, {found['targeted_labelled']:,} have a label; "
        f"{found['corrected']:,} labels were corrected"
    )
    _show(found, as_json, text)


def _refuse_unknown(name: str) -> None:
    """Raises: UserError for a name that has no champion and never answered, as one without promotions may."""
    from bento.audit_records import has_answered
    from tasks.release.ledger import require_champion

    if not has_answered(name):
        require_champion(name, " and no request in the log")


def _format(given: str | None) -> Format | None:
    if given is not None and given not in FORMATS:
        raise UserError(f"audit: expected the format {', '.join(FORMATS)}, got {given!r}")
    return given


def _manifest(name: str) -> Any:
    """The champion's manifest, or None while there is none."""
    from bento.manifest import Manifest
    from tasks.release.ledger import read_champion

    champion = read_champion(name)
    return None if champion is None or not champion.model_path.is_dir() else Manifest.read(champion.model_path)


def _show(value: Any, as_json: bool, text: str) -> None:
    print_json(value) if as_json else typer.echo(text)
