"""The registered MLflow model, as code: MLflow runs this file to load it, so there is no pickle.

`mlflow.pyfunc.load_model("models:/NAME@champion").predict(["text", ...])` works where Retort is not installed: the
`bento` package is logged beside this file.
"""

from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.pyfunc import PythonModel, PythonModelContext


class RetortModel(PythonModel):  # type: ignore[misc]
    """Texts in; one row a text out: `label`, `probability`, `abstained`; of label sets `labels`, `label_probabilities`;
    of scores `score`; of entities `entities`."""

    def load_context(self, context: PythonModelContext) -> None:
        """Open the logged model folder, its digests checked."""
        from bento.predictor import shared_predictor

        self.predictor = shared_predictor(Path(context.artifacts["model"]))

    def predict(self, context: PythonModelContext, model_input: pd.DataFrame, params: Any = None) -> pd.DataFrame:
        """`model_input`: a frame whose first column holds the texts, with `text_pair` beside `text` for pairs.

        The hint is one of those that MLflow does not turn into a check of its own, so a list of strings comes through.
        """
        texts = _texts(model_input)
        return pd.DataFrame(self.predictor.answers(texts, self.predictor.predict(texts)))


def _texts(model_input: Any) -> list[Any]:
    if isinstance(model_input, pd.DataFrame):
        if "text_pair" in model_input.columns:
            return list(zip(model_input["text"], model_input["text_pair"], strict=True))
        return [str(text) for text in model_input.iloc[:, 0]]
    return [str(text) for text in model_input]


mlflow.models.set_model(RetortModel())
