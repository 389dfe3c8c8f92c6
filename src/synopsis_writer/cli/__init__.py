"""The command line: one module a command group; each command parses, calls and prints."""

import sys


def main() -> None:
    """Run the command `synopsis`; Ctrl-C while it still loads ends it like any other Ctrl-C."""
    try:
        from synopsis_writer.cli.app import main as run_app
    except KeyboardInterrupt:
        sys.exit(130)  # `console.INTERRUPTED`, which may not be loaded yet
    run_app()


__all__ = ["main"]
