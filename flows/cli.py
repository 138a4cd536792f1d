"""The command line: each command is a thin call of a flow or task.

Results go to stdout, as tables or with `--json` as one JSON document; everything else goes to stderr. Exit codes:
0 done, 1 anything else, 2 bad input or config, 3 a gate said no, 4 inconclusive, 143 ended by SIGTERM.
"""

import getpass
import os
import signal
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from bento.errors import RetortError, UserError
from flows import cli_capacity
from flows.cli_audit import audit_app
from flows.cli_bench import bench
from flows.cli_correct import correct_prior
from flows.cli_experiment import experiment
from flows.cli_retrain import retrain
from flows.reports import Kind
from flows.terminal import (
    EXIT_CODES,
    AsJson,
    ConfigPath,
    Name,
    Overrides,
    Why,
    console,
    errors,
    print_json,
    progress_bar,
    run_flow,
    show,
    start_logging,
)

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


def main() -> None:
    """Run the command line; a mistake of the user's is told in words and never as a traceback."""
    signal.signal(signal.SIGTERM, _end)
    try:
        app()
    except UserError as error:
        _fail(error, 2)
    except RetortError as error:
        _fail(error, 1)
    except Exception as error:
        from flows.failures import no_prefect, outside

        if (told := no_prefect(error) or outside(error, " ".join(["retort", *sys.argv[1:2]]))) is not None:
            _fail(told, 1)
        _print_failure(f"{type(error).__name__}: {error}")
        raise


def _end(number: int, _frame: object) -> NoReturn:
    """An end like any other: what was started, such as Prefect's temporary server, is ended too."""
    sys.exit(128 + number)


def _fail(error: Exception, code: int) -> NoReturn:
    _print_failure(str(error))
    errors.print(f"[bold red]error[/] {_escape(str(error))}", soft_wrap=True, highlight=False)
    sys.exit(code)


def _print_failure(text: str) -> None:
    """With --json a document comes in any case."""
    if "--json" in sys.argv:
        print_json({"outcome": "failed", "error": text})


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        console.print(f"retort {version('retort')}", highlight=False)
        raise typer.Exit


@app.callback(help=__doc__)
def options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print it and exit")
    ] = False,
) -> None:
    """What belongs to no command."""
    from bento.settings import check_home

    if context.invoked_subcommand != "doctor":  # which tells it among what else it finds
        check_home()


@app.command()
def run(
    config: ConfigPath,
    overrides: Overrides = None,
    as_json: AsJson = False,
    extra: Annotated[Path | None, typer.Option(help="A file of newly labelled rows to add")] = None,
) -> None:
    """The whole build: data to promoted champion."""
    from flows.config import load_config

    load_config(config, overrides)
    start_logging()
    from flows.build import build
    from flows.show import show_build

    path, more = str(config.resolve()), str(extra.resolve()) if extra else None
    result = run_flow(lambda: build(path, overrides, more))
    show(result, show_build, as_json=as_json)
    raise typer.Exit(EXIT_CODES[result["outcome"]])


@app.command()
def plan(config: ConfigPath, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """What would run, what is cached, which gates, which aliases would move; no side effects."""
    from flows.config import load_config
    from flows.plan import make_plan
    from flows.show import show_plan

    found = make_plan(load_config(config, overrides))
    show(found, show_plan, as_json=as_json)


@app.command()
def gate(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model folder (Retort, ONNX, torch) or weight file")],
    data: Annotated[Path, typer.Argument(metavar="DATA", help="A labelled file, or a folder with a test file")],
    against: Annotated[Path | None, typer.Option(metavar="MODEL", help="What it must not be worse than")] = None,
    config: Annotated[Path | None, typer.Option(help="A build's config, or a file with its gate section alone")] = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Judge any model folder on labelled rows, against any other, by the gates of a build."""
    from flows.config import load_gates

    chosen = load_gates(config, overrides)
    start_logging()
    from flows.gate import gate_folder
    from flows.show import show_gate

    result = run_flow(lambda: gate_folder(model, data, against, chosen))
    show(result, show_gate, as_json=as_json)
    raise typer.Exit(EXIT_CODES[result["outcome"]])


@app.command()
def serve(name: Name, port: Annotated[int, typer.Option(min=1, max=65535, help="Loopback port")] = 3000) -> None:
    """Serve the champion of NAME and follow its promotions without a restart."""
    from bento.settings import configure

    configure()
    from flows.doctor import is_free
    from tasks.release.ledger import require_champion

    champion = require_champion(name, " to serve")
    if not is_free(port):
        raise UserError(f"--port: expected a free port, but something listens on {port} already; choose another")
    environment = os.environ | {"RETORT_FOLLOW": name, **_absolute_state()}
    bento = champion.model_path.parent.parent
    command = [sys.executable, "-m", "bentoml", "serve", str(bento), "--host", "127.0.0.1", "-p", str(port)]
    errors.print(f"serving {champion.bento} on http://127.0.0.1:{port}")
    os.execve(sys.executable, command, environment)  # noqa: S606  # signals then reach the service itself


def _absolute_state() -> dict[str, str]:
    """The state folder as the service must see it, wherever BentoML changes the working directory to."""
    from bento.settings import database_url, home

    return {"RETORT_HOME": str(home()), "RETORT_DATABASE_URL": database_url()}


@app.command()
def monitor(config: ConfigPath, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """One monitoring pass; a harm verdict emits the event that triggers a retrain."""
    from flows.config import load_config

    load_config(config, overrides)
    start_logging()
    from flows.monitor import monitor as watch
    from flows.show import show_look

    result = run_flow(lambda: watch(str(config.resolve()), overrides))
    show(result, show_look, as_json=as_json)


@app.command()
def deploy(
    configs: Annotated[list[Path], typer.Argument(metavar="CONFIG...", help="The configs to keep good")],
    pool: Annotated[str | None, typer.Option(help="Register into this work pool and return; workers run it")] = None,
    image: Annotated[
        str | None, typer.Option(help="With --pool or --yaml: of a Docker or Kubernetes pool's runs")
    ] = None,
    yaml: Annotated[Path | None, typer.Option(help="Write them for `prefect deploy --all`, register nothing")] = None,
) -> None:
    """Prefect deployments of all flows, with their schedules and triggers; runs them here unless told otherwise."""
    from flows.config import load_config

    for config in configs:
        load_config(config)
    start_logging()
    from flows.deployments import deploy_all, write_yaml

    paths = [config.resolve() for config in configs]
    if image and not yaml:
        raise UserError(
            "deploy: expected --image with --yaml, got it without; write the file, then `prefect deploy --all`"
        )
    if yaml:
        write_yaml(paths, yaml, pool=pool, image=image)
    else:
        deploy_all(paths, pool=pool)


@app.command()
def promote(name: Name, version: Annotated[str, typer.Argument(metavar="VERSION")], why: Why = "by hand") -> None:
    """Move the champion by hand, to a version that has both blessings."""
    from bento.settings import configure

    configure()
    from flows.release import promote_by_hand

    entry = promote_by_hand(name, version, who=getpass.getuser(), why=why)
    console.print(f"{name}: champion is now version {entry.version} ({entry.bento})")


@app.command()
def rollback(name: Name, why: Why = "by hand", as_json: AsJson = False) -> None:
    """Put the champion before the present one back into service, after a boot check, without a rebuild."""
    start_logging()
    from flows.rollback import rollback as roll

    result = run_flow(lambda: roll(name, why=why, who=getpass.getuser()))
    text = f"{name}: champion is now version {result['champion']}, was {result['previous']}"
    print_json(result) if as_json else console.print(text)


@app.command()
def challenge(
    name: Name,
    version: Annotated[str, typer.Argument(metavar="VERSION")],
    share: Annotated[float, typer.Option(help="Of the requests, up to 0.5; the same key always gets the same model")],
    why: Why = "by hand",
) -> None:
    """Let a version answer a share of the champion's requests; repeat it with another share to change that."""
    _put_beside(name, version, "challenger", share, why)


@app.command()
def shadow(
    name: Name,
    version: Annotated[str, typer.Argument(metavar="VERSION")],
    share: Annotated[float, typer.Option(help="Of the requests, up to 1, that are asked again when nothing waits")],
    why: Why = "by hand",
) -> None:
    """Ask a version again what others were asked; its answers go to the log alone."""
    _put_beside(name, version, "shadow", share, why)


def _put_beside(name: str, version: str, arm: str, share: float, why: str) -> None:
    from bento.settings import configure

    configure()
    from flows.arms import put_beside

    put_beside(name, version, arm=arm, share=share, who=getpass.getuser(), why=why)
    console.print(f"{name}: version {version} is now {arm} with a share of {share:g}")


@app.command()
def withdraw(
    name: Name,
    arm: Annotated[str | None, typer.Option(metavar="challenger|shadow", help="Both when left out")] = None,
    why: Why = "by hand",
) -> None:
    """Take the challenger, the shadow or both from beside the champion, which then answers everything."""
    from bento.settings import configure

    configure()
    from flows.arms import withdraw as take_away

    for each, found in take_away(name, arm, who=getpass.getuser(), why=why).items():
        console.print(f"{name}: version {found.version.version} is no longer {each}")


@app.command()
def status(name: Annotated[str | None, typer.Argument(metavar="[NAME]")] = None, as_json: AsJson = False) -> None:
    """Champion, challenger, versions, ledger, last verdicts."""
    from bento.settings import configure

    configure()
    from flows.show import show_status
    from flows.status import read_status

    found = read_status(name)
    show(found, show_status, as_json=as_json)


@app.command()
def score(
    name: Name,
    source: Annotated[Path, typer.Argument(metavar="IN")],
    out: Annotated[Path, typer.Argument(metavar="OUT")],
    text: Annotated[str, typer.Option(help="Column that holds the text")] = "text",
    text_pair: Annotated[str | None, typer.Option(help="Column of the second sentence")] = None,
    rejects: Annotated[
        Path | None, typer.Option(metavar="FILE.jsonl", help="Takes rows that cannot be scored; else they are an error")
    ] = None,
) -> None:
    """Batch scoring of CSV, TSV, JSONL or Parquet with the champion of NAME; a killed run goes on where it was."""
    from tasks.release.ledger import require_champion
    from tasks.score import score_file

    champion = require_champion(name)
    with progress_bar("scoring") as progress:
        done = score_file(
            champion.model_path, source, out, text=text, text_pair=text_pair, rejects=rejects, progress=progress
        )
    console.print(f"{done.num_rows:,} rows scored by {champion.bento} into {out}")
    if done.num_resumed:
        console.print(f"{done.num_resumed:,} rows of the input had been done before")
    if rejects is not None:
        console.print(f"{done.num_rejected:,} rows rejected into {rejects}")


@app.command("export-edge")
def export_edge(
    name: Name,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty folder, or an earlier export")],
    as_json: AsJson = False,
) -> None:
    """Static files that run the champion of NAME in a browser, offline; needs npm and Node.js."""
    from bento.settings import configure

    configure()
    from dataclasses import asdict

    from flows.show import show_edge
    from tasks.edge import export_edge as export
    from tasks.release.ledger import require_champion

    champion = require_champion(name, " to export")
    result = {"outcome": "exported"} | asdict(export(champion, folder))
    show(result, show_edge, as_json=as_json)


@app.command()
def report(
    target: Annotated[str, typer.Argument(metavar="RUN", help="A model name, or a report folder's name")],
    kind: Annotated[Kind | None, typer.Option(help="The newest of this kind; without it the build's")] = None,
) -> None:
    """The HTML report of a build, a monitoring pass or an experiment: prints its path."""
    from flows.reports import find_report

    console.print(str(find_report(target, kind)), soft_wrap=True, highlight=False)


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Versions, pins, ports, writable folders, servers; says what to do about each."""
    from dataclasses import asdict

    from flows.doctor import examine, render

    findings = examine()
    print_json([asdict(finding) for finding in findings]) if as_json else console.print(render(findings))
    raise typer.Exit(1 if any(finding.level == "bad" for finding in findings) else 0)


@app.command()
def synthesize(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER")],
    period: Annotated[
        int, typer.Option(min=0, max=3, help="0 is what the quickstart trains on; 1 and later have drifted")
    ] = 0,
    rows: Annotated[
        int, typer.Option(min=100, max=1_000_000, help="Training rows; the other splits are in proportion")
    ] = 3_000,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Write the bundled synthetic help-desk messages as files, for trying drift and retraining."""
    from tasks.data.synthetic import write_files

    write_files(folder, rows=rows, period=period, seed=seed)
    console.print(f"period {period} written to {folder}")


app.command()(bench)
app.command()(experiment)
app.command()(retrain)
app.command("correct-prior")(correct_prior)
cli_capacity.register(app)
app.add_typer(audit_app, name="audit")


if __name__ == "__main__":
    main()
