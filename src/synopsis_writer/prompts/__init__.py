"""Prompt templates, and the examples that prompts show."""
