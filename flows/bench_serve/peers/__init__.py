"""Other servers of the same ONNX file: scripts for environments of their own, where this project is not installed."""
