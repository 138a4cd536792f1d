"""Clients that others wrote, against the real service: BentoML's own, Triton's, and a fuzzer that reads /docs.json."""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import bentoml
import httpx
import numpy as np
import pytest
from bentoml.exceptions import BentoMLException

from tests.bento.conftest import LABELS
from tests.service import service
from tests.tiny import write_tiny_model

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning"
)  # BentoML uses what pathspec and pydantic deprecated
KEY = "a-key-of-the-tests-0"
SCHEMATHESIS = """
[checks.negative_data_rejection]
# 413 where what is too much is the body as a whole
expected-statuses = [400, 401, 404, 405, 409, 413, 422]

[checks.positive_data_acceptance]
# which labels there are, how long all is together and which shape goes with which data is not said in JSON Schema
expected-statuses = ["2xx", 400, 404, 409, 413, 422]

[auth.openapi.bearer]
bearer = "KEY"
"""


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The URLs of an open service and of one with an API key."""
    folder = tmp_path_factory.mktemp("clients")
    model = write_tiny_model(folder / "model", labels=LABELS)
    with service(model, folder / "open") as url, service(model, folder / "locked", RETORT_API_KEYS=KEY) as locked:
        yield url, locked


@contextmanager
def tidy(client: Any) -> Iterator[Any]:
    """BentoML's client leaves its temporary folder to the garbage collector, which warns."""
    try:
        yield client
    finally:
        client._temp_dir.cleanup()


def test_bentomls_client_predicts_gives_feedback_and_says_what_is_wrong(services: tuple[str, str]) -> None:
    with bentoml.SyncHTTPClient(services[0]) as client, tidy(client):
        assert client.is_ready()
        answer = client.predict(texts=["my card", "refund"], return_all=True, request_id="bentoml-1")
        assert [set(each["probabilities"]) for each in answer["predictions"]] == [set(LABELS)] * 2
        stored = client.feedback(request_id="bentoml-1", item=1, label="refund")
        assert (stored["item"], stored["label"]) == (1, "refund")
        with pytest.raises(BentoMLException, match="at least one visible character"):
            client.predict(text=" ")


@pytest.mark.anyio
async def test_bentomls_asynchronous_client_predicts(services: tuple[str, str]) -> None:
    async with bentoml.AsyncHTTPClient(services[0]) as client:
        with tidy(client):
            assert (await client.predict(text="my card"))["predictions"][0]["label"] in LABELS


def test_bentomls_client_carries_the_api_key(services: tuple[str, str]) -> None:
    with bentoml.SyncHTTPClient(services[1], token=KEY) as client, tidy(client):
        assert client.predict(text="my card")["predictions"][0]["label"] in LABELS
    stranger = bentoml.SyncHTTPClient(services[1], token="wrong")
    with stranger as client, tidy(client), pytest.raises(BentoMLException, match="API key"):
        client.predict(text="my card")


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
def test_tritons_client_infers_as_predict_does(services: tuple[str, str], binary: bool) -> None:
    triton = pytest.importorskip("tritonclient.http", reason="expected tritonclient[http], a package of the dev extra")
    texts = ["my card", "où est 👍"]
    ours = httpx.post(f"{services[0]}/predict", json={"texts": texts, "return_all": True}).json()["predictions"]
    for url, headers in ((services[0], None), (services[1], {"X-API-Key": KEY})):
        with triton.InferenceServerClient(url.removeprefix("http://")) as client:
            assert client.is_server_live(headers)
            assert client.is_server_ready(headers)
            assert client.is_model_ready("tiny", headers=headers)
            metadata = client.get_model_metadata("tiny", headers=headers)
            (wanted,) = metadata["inputs"]
            tensor = triton.InferInput(wanted["name"], [len(texts)], wanted["datatype"])
            tensor.set_data_from_numpy(np.array(texts, dtype=object), binary_data=binary)
            answer = client.infer("tiny", [tensor], request_id="triton", headers=dict(headers or {}))
            assert answer.get_response()["id"] == "triton"
            assert list(answer.as_numpy("label")) == [each["label"] for each in ours]
            probabilities = np.array([list(each["probabilities"].values()) for each in ours])
            assert np.allclose(answer.as_numpy("probabilities"), probabilities)
            assert answer.as_numpy("abstained").dtype == bool
            with pytest.raises(triton.InferenceServerException, match="expected the model 'tiny'"):
                client.infer("other", [tensor], headers=dict(headers or {}))


def without_headers(document: dict[str, Any]) -> dict[str, Any]:
    """The fuzzer expects a refusal of headers that are not described; every client and proxy sends some."""
    for operations in document["paths"].values():
        for operation in operations.values():
            kept = [each for each in operation.get("parameters", ()) if each["in"] != "header"]
            operation["parameters"] = kept
    return document


@pytest.mark.slow
@pytest.mark.parametrize("locked", [False, True], ids=["open", "with keys"])
def test_a_fuzzer_of_the_openapi_document_finds_nothing(
    services: tuple[str, str], locked: bool, tmp_path: Path
) -> None:
    if importlib.util.find_spec("schemathesis") is None:
        pytest.skip("expected schemathesis, a package of the dev extra")
    settings = SCHEMATHESIS.replace("KEY", KEY) if locked else SCHEMATHESIS.partition("[auth")[0]
    (tmp_path / "schemathesis.toml").write_text(settings)
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(tmp_path / "schemathesis.toml"), "run"]
    (tmp_path / "openapi.json").write_text(
        json.dumps(without_headers(httpx.get(f"{services[locked]}/docs.json").json()))
    )
    command += [
        "openapi.json",
        f"--url={services[locked]}",
        "--phases=coverage,fuzzing",
        "--max-examples=10",
        "--no-color",
    ]
    done = subprocess.run([*command, "--continue-on-failure"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, "\n".join(line[:300] for line in done.stdout.splitlines()) + done.stderr[-2000:]
    assert httpx.post(f"{services[0]}/predict", json={"text": "my card"}).status_code == 200
