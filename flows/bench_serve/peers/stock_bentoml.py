"""BentoML as its documentation shows it; PEER_WORKERS processes, each with a model of its own."""

import os
from typing import Any

import bentoml
from classifier import Classifier

WORKERS = int(os.environ["PEER_WORKERS"])


@bentoml.service(workers=WORKERS)
class Plain:
    """One text a call."""

    def __init__(self) -> None:
        """Load the model."""
        self.classifier = Classifier()

    @bentoml.api
    def predict(self, text: str) -> dict[str, Any]:
        """The answer to one text."""
        return self.classifier([text])[0]


@bentoml.service(workers=WORKERS)
class Batchable:
    """BentoML's own adaptive batching."""

    def __init__(self) -> None:
        """Load the model."""
        self.classifier = Classifier()

    @bentoml.api(batchable=True)
    def predict(self, texts: list[str]) -> list[dict[str, Any]]:
        """The answers to the texts of several calls."""
        return self.classifier(texts)
