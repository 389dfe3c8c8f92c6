"""Eval runs against references: cases, the runs over them, metrics, statistics and reports."""
