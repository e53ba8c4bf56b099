"""Encoders: pictures to vectors, on CPU or GPU."""
