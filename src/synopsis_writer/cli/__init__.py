"""The command line: one module a command group; each command parses, calls and prints."""

from synopsis_writer.cli.app import main

__all__ = ["main"]
