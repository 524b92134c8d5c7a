"""A finished run as others load it: a transformers or ONNX folder with a model card."""
