"""The registered MLflow model, as code: MLflow runs this file to load it, so there is no pickle.

`mlflow.pyfunc.load_model("models:/NAME@champion").predict(["text", ...])` works where Retort is not installed: the
`bento` package is logged beside this file.
"""

import warnings
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.pyfunc import PythonModel, PythonModelContext

warnings.filterwarnings("ignore", message=".*Add type hints to the `predict`")  # pairs fit no hint that MLflow knows


class RetortModel(PythonModel):  # type: ignore[misc]
    """Texts in; one row a text out: `label`, `probability`."""

    def load_context(self, context: PythonModelContext) -> None:
        """Open the logged model folder, its digests checked."""
        from bento.predictor import Predictor

        self.predictor = Predictor(Path(context.artifacts["model"]))

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]  # MLflow reads type hints here
        """`model_input`: strings, or a frame whose first column (or first two, for pairs) holds them."""
        probabilities_NC = self.predictor.predict(_texts(model_input))
        best_N = probabilities_NC.argmax(axis=1)
        return pd.DataFrame(
            {
                "label": [self.predictor.labels[at] for at in best_N],
                "probability": probabilities_NC.max(axis=1).astype(float),
            }
        )


def _texts(model_input: Any) -> list[Any]:
    if isinstance(model_input, pd.DataFrame):
        if "text_pair" in model_input.columns:
            return list(zip(model_input["text"], model_input["text_pair"], strict=True))
        return [str(text) for text in model_input.iloc[:, 0]]
    return [str(text) for text in model_input]


mlflow.models.set_model(RetortModel())
