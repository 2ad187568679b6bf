"""A Predictor's model → one ONNX file with its description, compared with torch."""

from multimodal_ser.export.onnx_file import Exported, export

__all__ = ["Exported", "export"]
