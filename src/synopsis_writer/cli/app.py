"""The command `synopsis`: its groups, and how it ends."""

import contextvars
import functools
import importlib
import io
import itertools
import os
import sys
from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperArgument
from typer.exceptions import TyperException

from synopsis_writer import __version__, cli
from synopsis_writer.cli import options
from synopsis_writer.cli.console import INTERRUPTED, STDERR, fail, failure_of, print_error, print_result
from synopsis_writer.cli.options import switch
from synopsis_writer.errors import SynopsisError

# Each command or group, with the module of `cli` that has it, imported when it runs, and its name there.
_COMMANDS = dict(
    command.split("=")
    for command in (
        "write=write.write revise=write.revise lengths=write.lengths outline=write.outline "
        "prompt=write.prompt check=check.check release=check.release export=check.export page=write.page "
        "examples=house.examples_app house=house.app style=house.style_app models=models.app "
        "prompts=house.prompts_app eval=evals.app batch=batch.app log=log.app cache=log.cache_app"
    ).split()
)


def _show_version(wanted: bool) -> None:
    if wanted:
        print_result(f"synopsis-writer {__version__}")
        raise typer.Exit


def _root(
    _version: bool = switch("Print the version and exit.", callback=_show_version, is_eager=True),
    _log_format: options.LogFormat | None = options.LOG_FORMAT,
    debug: bool = switch("Print the traceback of a mistake in the program."),
) -> None:
    STDERR.is_debugging = debug


@functools.cache
def make_app(name: str = "", *, is_list: bool = False) -> typer.Typer:
    """Return the program with all its commands, as a mere list of them, or with only the named one."""
    app = typer.Typer(
        name="synopsis",
        help="Write synopses of German TV series in a house style, and refuse those that break it.",
        epilog=(
            "Exit codes: 0 done, 1 refused by the gate, 2 bad input, 3 model or network failed, "
            "4 an eval below its thresholds, 70 a mistake in the program, 129, 130 or 143 ended by a signal."
        ),
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    app.callback()(options.with_flags(_root))
    for command in [name] if name else _COMMANDS:
        module, _, attribute = _COMMANDS[command].partition(".")
        part = getattr(importlib.import_module(f"synopsis_writer.cli.{module}"), attribute)
        if is_list:
            app.command(command, help=part.info.help if isinstance(part, typer.Typer) else part.__doc__)(lambda: None)
        elif isinstance(part, typer.Typer):
            commands: list[Any] = [*part.registered_commands, part.registered_callback]
            for each in filter(None, commands):
                each.callback = options.with_flags(each.callback)
            app.add_typer(part, name=command)
        else:
            app.command(command)(options.with_flags(part))
    return app


def main() -> None:
    """Run the command line, and exit with its code."""
    if sys.stdout is None:  # closed by the caller
        sys.stdout = io.StringIO()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without umlauts: a question mark, no traceback
            if not stream.isatty():  # a file or a pipe, which this program must be able to read back
                stream.reconfigure(encoding="utf-8", newline="\n")
    code = run()
    try:
        sys.stdout.flush()
    except OSError as error:
        code = _unwritable(error)
    # A signal explains any failure, such as workers that got it as well, or a terminal that is gone.
    sys.exit(cli.interruption()[0] if cli.is_signalled() else code)


@STDERR.installed()
def run(arguments: Sequence[str] | None = None) -> int:  # noqa: PLR0911 - one for each way to end
    """Run one command, by default the process's, and print its error; return its exit code."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    first = next((each for each in given if not each.startswith("-")), "")
    is_list = given[:1] in (["-h"], ["--help"]) or _COMMANDS.keys().isdisjoint(given)
    is_list = is_list and "_SYNOPSIS_COMPLETE" not in os.environ
    name = first if first in _COMMANDS and not is_list else ""
    command = typer.main.get_command(make_app(name, is_list=is_list))
    _improve_help(command)
    flags = given[: given.index("--")] if "--" in given else given
    values = {*flags, *map("=".join, itertools.pairwise(flags))}
    STDERR.expects_json = "--json" in flags or ("check" in flags and "--format=json" in values)
    if "--log-format=json" in values or os.environ.get("SYNOPSIS_LOG_FORMAT") == "json":
        STDERR.log_format = "json"  # also for errors of the flags themselves
    try:
        call = functools.partial(command.main, given or ["--help"], prog_name="synopsis")
        outcome = contextvars.copy_context().run(call, standalone_mode=False)
    except SynopsisError as error:
        return fail(str(error), error.exit_code, **({"run": error.run} if error.run else {}))
    except TyperException as error:
        message = error.format_message()
        if message.startswith("Usage:"):  # the help of a group that was given no command
            STDERR.print_line(message)
        else:
            return fail(f"{message.rstrip('.')}: see synopsis --help", SynopsisError.exit_code)
        return SynopsisError.exit_code
    except SystemExit as end:  # Typer's answer to --show-completion, or with a code to a closed pipe
        return _unwritable(BrokenPipeError()) if end.code else 0
    except Exception as error:  # noqa: BLE001 - ours, and any other: nobody is shown a traceback
        if isinstance(error, OSError) and error.filename is None:
            return _unwritable(error)
        return fail(*failure_of(error))
    if outcome == INTERRUPTED:  # Typer's answer to Ctrl-C
        ended_with, message = cli.interruption()
        fail(message, ended_with)
    return outcome if isinstance(outcome, int) else 0


class _Argument(TyperArgument):
    """An argument that help shows by its name alone, without braces and a Python type."""

    def get_usage_pieces(self, ctx: Any) -> list[str]:  # noqa: ARG002
        name = self.display_name_raw
        return [name if self.required or name.startswith("[") else f"[{name}]"]

    def display_type_rich(self, ctx: Any) -> None:  # noqa: ARG002
        return None


def _improve_help(command: Any) -> None:
    """Show arguments by their names alone, and in a list of commands the first sentence of each whole."""
    command.short_help = " ".join((command.help or "").partition("\n\n")[0].split())
    for parameter in command.params:
        if isinstance(parameter, TyperArgument):
            parameter.__class__ = _Argument
    for subcommand in getattr(command, "commands", {}).values():
        _improve_help(subcommand)


def _unwritable(error: OSError) -> int:
    """Report that stdout cannot be written, unless its reader has left; Python must not try again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if isinstance(error, BrokenPipeError):
        return 141  # as the shell says of a program that a closed pipe ended: 128 + SIGPIPE
    print_error(f"cannot print: {(error.strerror or str(error)).lower()}: name another target for the output")
    return SynopsisError.exit_code
