"""Residency: the platform on which multimodal medical models do their residency."""

__version__ = "0.1.0"
