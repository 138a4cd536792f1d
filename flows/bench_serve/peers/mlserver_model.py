"""MLServer's custom model; batching and worker processes are set in the environment that it reads itself."""

import numpy as np
from classifier import Classifier
from mlserver import MLModel
from mlserver.codecs import NumpyCodec, StringCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Texts(MLModel):
    """The texts of the first input."""

    async def load(self) -> bool:
        """Load the model."""
        self.classifier = Classifier()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Labels and their probabilities, in the order of the texts."""
        answers = self.classifier(StringCodec.decode_input(payload.inputs[0]))
        labels = StringCodec.encode_output("label", [answer["label"] for answer in answers])
        probabilities = NumpyCodec.encode_output("probability", np.array([[one["probability"]] for one in answers]))
        return InferenceResponse(model_name=self.name, outputs=[labels, probabilities])
