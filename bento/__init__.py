"""What runs in production: a model folder, its predictor and the service around it, without torch."""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # ONNX Runtime reads it once, when it is imported
