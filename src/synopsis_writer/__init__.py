"""Writes synopses of German TV series in a house style, and refuses to save one that does not hold it."""

__version__ = "0.1.0"
