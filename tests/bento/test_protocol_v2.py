"""The open inference protocol: the same answers in its own shape."""

import numpy as np
import orjson
import pytest

from bento.app import Server
from tests.serving import Client, v2_body


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


def test_an_output_that_the_model_lacks_is_refused_before_anything_is_answered(client: Client) -> None:
    body = v2_body(["card"]) | {"id": "w1", "outputs": [{"name": "score"}]}
    refused = client.post("/v2/models/tiny/infer", json=body)
    assert (refused.status_code, refused.json()["code"]) == (422, "output")
    assert client.post("/feedback", json={"request_id": "w1", "label": "refund"}).status_code == 404
    assert client.post("/v2/models/tiny/infer", json=v2_body(["refund"]) | {"id": "w1"}).status_code == 200


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
    assert response.json()["error"]


def test_the_inference_protocol_describes_server_and_model(client: Client) -> None:
    assert client.get("/v2").json()["name"] == "retort"
    assert client.get("/v2/health/live").status_code == 200
    assert client.get("/v2/health/ready").status_code == 200
    assert client.get("/v2/models/tiny").json()["inputs"][0]["datatype"] == "BYTES"
    assert client.get("/v2/models/tiny/ready").json() == {"name": "tiny", "ready": True}
    assert client.get("/v2/models/other").status_code == 404


def binary(*texts: bytes, **changes: object) -> tuple[bytes, dict[str, str]]:
    """A request whose texts stand behind the JSON, as tritonclient sends it."""
    raw = b"".join(len(text).to_bytes(4, "little") + text for text in texts)
    tensor = {"name": "text", "datatype": "BYTES", "shape": [len(texts)], "parameters": {"binary_data_size": len(raw)}}
    head = orjson.dumps({"inputs": [tensor | changes]})
    return head + raw, {"Inference-Header-Content-Length": str(len(head))}


def test_binary_tensors_are_answered_as_the_same_texts_in_json(client: Client) -> None:
    texts = ["my card", "où est ma carte ? 👍"]
    body, headers = binary(*(text.encode() for text in texts))
    theirs = client.post("/v2/models/tiny/infer", content=body, headers=headers)
    ours = client.post("/v2/models/tiny/infer", json=v2_body(texts))
    assert theirs.status_code == 200
    assert theirs.json()["outputs"] == ours.json()["outputs"]


@pytest.mark.parametrize(
    ("texts", "cut", "length", "status", "code"),
    [
        ((b"card", b"refund"), 3, None, 422, "binary_tensor"),
        ((b"card",), 7, None, 422, "binary_tensor"),
        ((b"\xff\xfe",), 0, None, 422, "binary_tensor"),
        ((b"card",) * 257, 0, None, 422, "too_long"),
        ((), 0, None, 422, "too_short"),
        ((b"card",), 0, "9" * 5000, 400, "inference_header"),
        ((b"card",), 0, "-1", 400, "inference_header"),
        ((b"card",), 0, "٣", 400, "inference_header"),
        ((b"card",), 0, "5", 400, "invalid_json"),
        ((b"card",), 0, "0", 400, "invalid_json"),
    ],
)
def test_binary_tensors_that_cannot_be_read_are_refused(
    client: Client, texts: tuple[bytes, ...], cut: int, length: str | None, status: int, code: str
) -> None:
    body, headers = binary(*texts)
    if length is not None:
        headers = {"Inference-Header-Content-Length": length}  # type: ignore[dict-item]
    response = client.post(
        "/v2/models/tiny/infer",
        content=body[: len(body) - cut],
        headers={name: value.encode() for name, value in headers.items()},
    )
    assert (response.status_code, response.json()["code"]) == (status, code)


def test_an_error_is_a_string_as_the_protocol_and_its_clients_have_it(client: Client) -> None:
    error = client.get("/v2/models/other").json()
    assert isinstance(error["error"], str)
    assert (error["code"], error["field"]) == ("unknown_model", "name")


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/v2/models/tiny/infer", "method_not_allowed"),
        ("/v2/models/tiny/versions/1", "not_found"),
    ],
)
def test_an_error_of_no_route_is_a_string_too(client: Client, path: str, code: str) -> None:
    error = client.get(path).json()
    assert isinstance(error["error"], str)
    assert error["code"] == code


def test_a_path_that_only_begins_like_the_protocols_has_errors_like_predicts(client: Client) -> None:
    assert client.get("/v2x").json()["error"]["code"] == "not_found"


def test_a_draining_service_is_not_ready(client: Client, server: Server) -> None:
    server.drain()
    for path in ("/v2/health/ready", "/v2/models/tiny/ready"):
        response = client.get(path)
        assert (response.status_code, response.json()["code"]) == (503, "not_ready")
    assert client.get("/v2/health/live").status_code == 200
