"""What single techniques give alone, on a small real teacher: which chains are built, and each target."""

from typing import Any

import pytest
from typer.testing import CliRunner

from bento.errors import UserError
from flows import bench_techniques as techniques
from flows.bench_techniques import bench_techniques
from flows.cli import app
from flows.config import Config
from tests.small import colours_build


@pytest.fixture(scope="module")
def chosen(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return Config.model_validate(colours_build(tmp_path_factory.mktemp("techniques"), intermediate_size=32))


def test_every_technique_has_its_figure_and_target(chosen: Config) -> None:
    rows = {row["metric"]: row for row in bench_techniques(chosen)["rows"]}
    kept = rows["half the layers: accuracy kept"]
    assert kept["met"] is (kept["value"] >= 99)
    stored = rows["90 % of the weights zero: stored"]
    assert 0 < stored["value"] < 100
    assert stored["ratio"] == pytest.approx(100 / stored["value"])
    assert rows["90 % of the weights zero: accuracy lost"]["target"] == "<= 3 points"
    shift = rows["batch-invariant int8: largest change of a logit in a batch"]
    assert (shift["value"], shift["met"]) == (0, True)
    assert float(shift["against"].removeprefix("dynamic int8: ")) > 0, "which is what the mode is for"
    assert rows["batch-invariant int8: one sentence, p50"]["ratio"] > 0
    order = rows["vocabulary cut before the training: accuracy"]
    assert 0 < order["value"] <= 1
    assert order["against"].startswith("cut behind it: 0.") or order["against"].startswith("cut behind it: 1.")


def test_half_of_the_layers_keep_their_width_and_the_configs_training(
    chosen: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    chains: list[Any] = []

    def record(config: Config, *_: Any, **__: Any) -> Any:
        chains.append(config.compress)
        raise InterruptedError

    monkeypatch.setattr(techniques, "make_candidate", record)
    for make in (techniques._half, techniques._sparse, techniques._batch_invariant, techniques._orders):
        with pytest.raises(InterruptedError):
            make(chosen)
    half, sparse, dynamic, order = chains
    assert order == dynamic[:3], "the same, so it is trained once"
    assert [step.kind for step in half] == ["distil", "export"], "all else is the teacher's"
    assert (half[0].num_layers, half[0].intermediate_size, half[0].learning_rate) == (None, None, 3e-3)
    assert [step.kind for step in sparse] == ["prune_vocabulary", "prune_weights", "export", "pack"]
    assert (sparse[1].sparsity, sparse[1].epochs) == (0.9, 12)
    assert dynamic[:3] == chosen.compress[:3], "the config's own student"


def test_a_search_has_no_techniques_to_measure(chosen: Config) -> None:
    search = Config.model_validate(chosen.model_dump() | {"compress": {"search": {}}})
    with pytest.raises(UserError, match="expected a chain under compress, got a search"):
        bench_techniques(search)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["serve", "--techniques"], "expected --techniques with compress, got it with serve"),
        (["compress", "--training", "--techniques"], "got both"),
    ],
)
def test_a_part_of_another_benchmark_is_refused(arguments: list[str], said: str) -> None:
    found = CliRunner().invoke(app, ["bench", *arguments])
    assert isinstance(found.exception, UserError)
    assert said in str(found.exception)
