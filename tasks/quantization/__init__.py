"""Quantization: which parts of a graph can be made smaller, in what precision, and which must not be."""
