"""Decoding of untrusted image bytes, in worker processes that can be killed."""

from visualindex.imaging.inputs import InputSpec

__all__ = ["InputSpec"]
