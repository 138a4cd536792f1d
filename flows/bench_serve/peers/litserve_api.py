"""LitServe with its own batching: PEER_BATCH texts, PEER_WAIT_S for more of them, PEER_WORKERS processes."""

import os
from typing import Any

import litserve
from classifier import Classifier

BATCH = int(os.environ["PEER_BATCH"])


class Texts(litserve.LitAPI):
    """One text a call; LitServe hands over a list of them where it batches."""

    def setup(self, device: str) -> None:
        """Load the model."""
        self.classifier = Classifier()

    def decode_request(self, request: dict[str, Any]) -> str:
        """The text of one call."""
        text: str = request["text"]
        return text

    def predict(self, inputs: Any) -> Any:
        """The answers to one batch, or to one text."""
        return self.classifier(inputs) if BATCH > 1 else self.classifier([inputs])[0]

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        """The answer of one call."""
        return output


if __name__ == "__main__":
    api = Texts(max_batch_size=BATCH, batch_timeout=float(os.environ["PEER_WAIT_S"]))
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=int(os.environ["PEER_WORKERS"]))
    server.run(
        host="127.0.0.1", port=int(os.environ["PEER_PORT"]), log_level="warning", generate_client_file=False,
        num_api_servers=int(os.environ["PEER_API_SERVERS"]),
    )  # fmt: skip
