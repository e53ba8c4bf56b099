"""Decoding of untrusted image bytes, in worker processes that can be killed."""

from visualindex.imaging.headers import ImageInfo, probe
from visualindex.imaging.inputs import InputSpec
from visualindex.imaging.jobs import Box, Decoded, DecodeJob
from visualindex.imaging.pool import DecodePool

__all__ = ["Box", "DecodeJob", "DecodePool", "Decoded", "ImageInfo", "InputSpec", "probe"]
