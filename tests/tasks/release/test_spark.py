"""The registered model as a user-defined function of Spark: the predictor's answers, one predictor a worker."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bento.predictor import Predictor
from tasks.release import tracking
from tests.tiny import write_tiny_model

SCRIPT = Path(__file__).with_name("spark_script.py")
NUM_ROWS = 60


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.skipif(
    importlib.util.find_spec("pyspark") is None or shutil.which("java") is None,
    reason="Spark is not installed: pip install pyspark==4.3.0; for Java: apt-get install default-jre-headless",
)
def test_spark_gets_the_predictors_answers_and_each_worker_loads_it_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RETORT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    model = write_tiny_model(tmp_path / "model")
    with tracking.build_run("tiny", tags={}, started_at=1.8e9) as run_id:
        pass
    tracking.register("tiny", model, sha256="0" * 64, run_id=run_id, tags={}, description="", examples=["my card"])
    tracking.point_alias("tiny", "1")
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "models:/tiny@champion", str(NUM_ROWS)], capture_output=True, text=True,
        check=False, timeout=300, env=os.environ | {"SPARK_LOCAL_IP": "127.0.0.1"}, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    predictor = Predictor(model)
    texts = [f"my card is lost {'please ' * (at % 3)}" for at in range(NUM_ROWS)]
    answers = predictor.answers(texts, predictor.predict(texts))
    expected = [dict(zip(answers, values, strict=True)) for values in zip(*answers.values(), strict=True)]
    assert [{key: row[key] for key in answers} for row in found["rows"]] == expected
    workers = {process for process, _ in found["predictors"]}
    assert len({tuple(held) for held in found["predictors"]}) == len(workers) < 12, "one predictor a worker"
    assert found["shipped_bytes"] < 100_000, "Spark ships where the model is, not the model"
