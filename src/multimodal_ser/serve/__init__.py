"""A server: recordings over HTTP → predictions and timelines, and a page (extra ``serve``)."""

from multimodal_ser.serve.app import create_app
from multimodal_ser.serve.run import run, serving
from multimodal_ser.serve.settings import Settings

__all__ = ["Settings", "create_app", "run", "serving"]
