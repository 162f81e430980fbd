"""Model and features to exact ONNX."""
