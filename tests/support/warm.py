"""Loads what the command loads: a process that is forked from one which has imported this starts at once."""

from contextlib import redirect_stdout
from io import StringIO

from synopsis_writer.cli.app import run
from tests.support.terminal import PATH

with redirect_stdout(StringIO()):
    run(["check", str(PATH)])
