"""One definition of the deployments, for Prefect's API and for `prefect.yaml`."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.cli.deploy._models import PrefectYamlModel
from prefect.events import DeploymentEventTrigger
from prefect.utilities.importtools import import_object
from typer.testing import CliRunner

from flows.cli import app
from flows.config import load_config
from flows.deployments import CHECKOUT_IN_IMAGE, ROOT, Definition, define, write_yaml

QUICKSTART = ROOT / "configs" / "quickstart.yaml"


@pytest.fixture
def written(tmp_path: Path) -> Path:
    out = tmp_path / "prefect.yaml"
    write_yaml([QUICKSTART], out, pool=None, image=None)
    return out


def test_the_file_in_the_checkout_is_what_the_definition_says(written: Path) -> None:
    again = "run: retort deploy configs/quickstart.yaml --yaml prefect.yaml"
    assert (ROOT / "prefect.yaml").read_text(encoding="utf-8") == written.read_text(encoding="utf-8"), again


def definitions() -> list[Definition]:
    return define(load_config(QUICKSTART), "configs/quickstart.yaml")


def entries(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load(path.read_text(encoding="utf-8"))["deployments"]
    return found


def test_prefect_reads_the_file_as_the_api_reads_the_definition(written: Path) -> None:
    read = PrefectYamlModel.model_validate(yaml.safe_load(written.read_text(encoding="utf-8")))
    for definition, entry in zip(definitions(), read.deployments, strict=True):
        made = definition.deployment(definition.flow)
        assert (entry.name, entry.description, entry.tags) == (made.name, made.description, made.tags)
        assert entry.parameters == made.parameters
        crons = [schedule.schedule.cron for schedule in made.schedules or []]
        assert [schedule.cron for schedule in entry.schedules or []] == crons
        triggers = [DeploymentEventTrigger.model_validate(trigger) for trigger in entry.triggers or []]
        assert [one.model_dump() for one in triggers] == [one.model_dump() for one in made.triggers]


@pytest.mark.parametrize("definition", definitions(), ids=lambda definition: definition.entrypoint)
def test_each_entry_point_is_its_flow_and_takes_its_parameters(definition: Definition) -> None:
    module, name = definition.entrypoint.removesuffix(f":{definition.flow.fn.__name__}"), definition.flow.fn.__name__
    found = import_object(f"{module.removesuffix('.py').replace('/', '.')}.{name}")
    assert found is definition.flow
    assert (ROOT / module).is_file()
    schema = set(definition.flow.parameters.properties)
    assert set(definition.parameters) <= schema
    for trigger in definition.triggers:
        assert set(trigger.parameters or {}) <= schema


def test_an_image_is_run_in_its_own_checkout(tmp_path: Path) -> None:
    out = tmp_path / "prefect.yaml"
    write_yaml([QUICKSTART], out, pool="kubernetes", image="registry/retort:1")
    assert {entry["work_pool"]["name"] for entry in entries(out)} == {"kubernetes"}
    assert all(entry["work_pool"]["job_variables"] == {"image": "registry/retort:1"} for entry in entries(out))
    (step,) = yaml.safe_load(out.read_text(encoding="utf-8"))["pull"]
    assert step == {"prefect.deployments.steps.set_working_directory": {"directory": CHECKOUT_IN_IMAGE}}
    assert "--pool kubernetes --image registry/retort:1 --yaml prefect.yaml`" in out.read_text(encoding="utf-8")


def test_the_first_lines_repeat_what_wrote_the_file(written: Path) -> None:
    assert "`retort deploy configs/quickstart.yaml --yaml prefect.yaml`" in written.read_text(encoding="utf-8")


def test_a_config_outside_the_checkout_is_named_whole(tmp_path: Path) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text(QUICKSTART.read_text(encoding="utf-8"), encoding="utf-8")
    write_yaml([config], tmp_path / "prefect.yaml", pool=None, image=None)
    assert entries(tmp_path / "prefect.yaml")[0]["parameters"] == {"config": str(config)}


def test_the_rollback_knows_whom_to_tell() -> None:
    config = load_config(QUICKSTART, ["notify=[slack-webhook/ops]"])
    (found,) = [one for one in define(config, "x.yaml") if one.flow.name == "rollback"]
    assert found.parameters == {"name": "quickstart", "notify": ["slack-webhook/ops"]}


def test_an_image_without_a_file_is_refused() -> None:
    done = CliRunner().invoke(app, ["deploy", str(QUICKSTART), "--image", "retort:1"])
    assert "expected --image with --yaml" in str(done.exception)
