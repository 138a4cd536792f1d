"""A search from the command line: its points side by side on Prefect's runner, and what the summary says of them."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from bento.errors import UserError
from flows.stages import _runner
from tasks.search.space import SearchConfig
from tests.small import LEARNS, colours_build
from tests.terminal import Terminal

SEARCH: dict[str, Any] = {
    "trials": 2, "minutes": 5, "accuracy_drop": 0.9, "num_layers": [1, 2], "scheme": ["int8_static"], "workers": 2,
    "distil": {**LEARNS, "transfer": None},
}  # fmt: skip


@pytest.fixture
def config(tmp_path: Path) -> Path:
    gate = {"accuracy": {"margin": 0.99}, "min_rows": 20}
    tree = colours_build(tmp_path) | {"name": "searched", "compress": {"search": SEARCH}, "gate": gate}
    path = tmp_path / "searched.yaml"
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return path


@pytest.mark.slow
def test_a_search_is_built_gated_and_promoted_with_its_reasons(terminal: Terminal, config: Path) -> None:
    planned = [step["step"] for step in terminal.json("plan", str(config))["steps"]]
    assert planned[planned.index("search") :][:4] == ["search", "the chain that it chooses", "calibrate", "evaluate"]
    result = terminal.json("run", str(config))
    assert result["outcome"] == "promoted"
    assert [trial["state"] for trial in result["search"]["trials"]] == ["trained", "trained"]
    assert result["search"]["words"].startswith(f"Point {result['search']['chosen']} ")
    assert "What the search looked at" in Path(result["report"]).read_text(encoding="utf-8")
    assert _tables(terminal, result["mlflow_run_id"]) >= {"search.json", "search.txt"}


def _tables(terminal: Terminal, run_id: str) -> set[str]:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{terminal.home / 'mlflow.db'}")
    return {file.path for file in client.list_artifacts(run_id)}


def test_a_runner_whose_package_is_missing_is_told_with_the_remedy() -> None:
    with pytest.raises(UserError, match="pip install prefect-dask"):
        _runner(SearchConfig(runner="dask"))


def test_threads_run_as_many_as_workers() -> None:
    assert _runner(SearchConfig(workers=3))._max_workers == 3  # type: ignore[attr-defined]
