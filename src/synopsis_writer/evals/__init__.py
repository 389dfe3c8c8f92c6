"""Eval runs against references."""
