"""From a run to one ONNX file, quantised and compared. Needs the extra ``export``."""
