"""The command line: one module a command group; each command parses, calls and prints."""

import contextlib
import sys


def main() -> None:
    """Run the command `synopsis`; Ctrl-C while it loads or ends is answered like one while it works."""
    try:
        from synopsis_writer.cli.app import main as run_app

        run_app()
    except KeyboardInterrupt:  # where Typer does not handle it
        with contextlib.suppress(OSError, ValueError, AttributeError):
            sys.stderr.write("synopsis: interrupted\n")  # the console may not be loaded yet
        sys.exit(130)


__all__ = ["main"]
