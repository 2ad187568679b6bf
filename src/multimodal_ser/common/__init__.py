"""Utilities that all packages share and that are not specific to emotion recognition."""
