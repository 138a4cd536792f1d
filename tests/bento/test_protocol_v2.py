"""The open inference protocol: the same answers in its own shape."""

import httpx
import numpy as np
import pytest

from tests.serving import Client


def v2_body(texts: list[str], **changes: object) -> dict[str, object]:
    return {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [len(texts)], "data": texts} | changes]}


def test_the_inference_protocol_answers_the_same_as_predict(client: Client) -> None:
    texts = ["my card", "refund please"]
    ours = client.post("/predict", json={"texts": texts, "return_all": True}).json()
    theirs = client.post("/v2/models/tiny/infer", json=v2_body(texts) | {"id": "v2-1"}).json()
    outputs = {output["name"]: output for output in theirs["outputs"]}
    assert (theirs["model_name"], theirs["id"]) == ("tiny", "v2-1")
    assert outputs["label"] == {
        "name": "label",
        "datatype": "BYTES",
        "shape": [2],
        "data": [prediction["label"] for prediction in ours["predictions"]],
    }
    assert outputs["probability"]["data"] == [prediction["probability"] for prediction in ours["predictions"]]
    flat = [value for prediction in ours["predictions"] for value in prediction["probabilities"].values()]
    assert outputs["probabilities"]["shape"] == [2, 3]
    assert np.array_equal(outputs["probabilities"]["data"], flat)


def test_the_inference_protocol_gives_only_the_wanted_outputs(client: Client) -> None:
    answer = client.post("/v2/models/tiny/infer", json=v2_body(["card"]) | {"outputs": [{"name": "label"}]}).json()
    assert [output["name"] for output in answer["outputs"]] == ["label"]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v2/models/other/infer", v2_body(["a"]), 404),
        ("/v2/models/tiny/infer", v2_body(["a"], shape=[2]), 422),
        ("/v2/models/tiny/infer", v2_body(["a"], datatype="FP32"), 422),
        ("/v2/models/tiny/infer", v2_body(["a"], name="words"), 422),
        ("/v2/models/tiny/infer", v2_body([]), 422),
        ("/v2/models/tiny/infer", v2_body(["a"], data=[1.5]), 422),
        ("/v2/models/tiny/infer", {"inputs": []}, 422),
        ("/v2/models/tiny/infer", {}, 422),
    ],
)
def test_the_inference_protocol_refuses_other_tensors(
    client: Client, path: str, body: dict[str, object], status: int
) -> None:
    response = client.post(path, json=body)
    assert response.status_code == status
    assert response.json()["error"]["message"]


def test_the_inference_protocol_describes_server_and_model(client: Client) -> None:
    assert client.get("/v2").json()["name"] == "retort"
    assert client.get("/v2/health/live").status_code == 200
    assert client.get("/v2/health/ready").status_code == 200
    assert client.get("/v2/models/tiny").json()["inputs"][0]["datatype"] == "BYTES"
    assert client.get("/v2/models/tiny/ready").json() == {"name": "tiny", "ready": True}
    assert client.get("/v2/models/other").status_code == 404


def test_binary_tensors_are_refused_with_what_to_do(client: Client) -> None:
    headers = {"Inference-Header-Content-Length": "10"}
    response: httpx.Response = client.post("/v2/models/tiny/infer", content=b"{}", headers=headers)
    assert response.status_code == 415
    assert "binary" in response.json()["error"]["message"]
