"""`retort bench serve`: the service under load, beside other servers of the same ONNX file."""
