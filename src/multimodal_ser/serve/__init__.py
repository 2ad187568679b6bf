"""recordings over HTTP → predictions and timelines: a server with one page (extra ``serve``)."""

from multimodal_ser.serve.app import create_app
from multimodal_ser.serve.run import run, serving
from multimodal_ser.serve.settings import Settings

__all__ = ["Settings", "create_app", "run", "serving"]
