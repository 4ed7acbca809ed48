"""A reverse-proxy gateway in front of one paid image-generation API."""

__version__ = "0.1.0"
