"""frames → features/<corpus>/<encoder>.safetensors: extraction, import and reading."""

from multimodal_ser.features.extract import ExtractionResult, extract
from multimodal_ser.features.importing import ImportResult, import_features
from multimodal_ser.features.pool import pool_frames
from multimodal_ser.features.store import FeatureHeader, FeatureStore, feature_path, write_store

__all__ = [
    "ExtractionResult",
    "FeatureHeader",
    "FeatureStore",
    "ImportResult",
    "extract",
    "feature_path",
    "import_features",
    "pool_frames",
    "write_store",
]
