import pytest

from flows import bench_geometry
from flows.config import Config
from tests.small import write_bert, write_colours


def test_a_compressed_geometry_is_measured_against_the_whole_one(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = {"hidden_size": 64, "num_hidden_layers": 8, "num_attention_heads": 2, "intermediate_size": 1024}
    monkeypatch.setattr(bench_geometry, "BERT_BASE", sizes)
    monkeypatch.setattr(bench_geometry, "NUM_ROUNDS", 1)
    folder = tmp_path_factory.mktemp("geometry")
    config = Config.model_validate(
        {
            "name": "colours",
            "data": {"source": str(write_colours(folder / "rows")), "validation": 0.3},
            "teacher": {"model": str(write_bert(folder / "bert")), "max_tokens": 16},
            "compress": [{"kind": "export"}],
        }
    )
    rows = bench_geometry.bench_geometry(config)["rows"]
    assert [row["metric"] for row in rows] == ["model folder", "batches of 32", "one sentence, p50"]
    assert rows[0]["ratio"] > 5, "four layers of narrower matrices in 4 bits"
    assert rows[0]["met"] == (rows[0]["value"] <= 13)
    assert all(row["value"] > 0 for row in rows)
