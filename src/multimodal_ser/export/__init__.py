"""a Predictor's model → one ONNX file that says what it is, checked against torch."""

from multimodal_ser.export.onnx_file import Exported, export

__all__ = ["Exported", "export"]
