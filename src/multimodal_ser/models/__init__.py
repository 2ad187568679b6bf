"""Layers, fusion networks, and adapters that align a source corpus with a target corpus."""
