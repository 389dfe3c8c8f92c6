"""How a result reaches the person: the file, the text on stdout, the reasons on stderr."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synopsis_writer.cli.console import complain, give, give_json, printable, say
from synopsis_writer.client.bill import answer_data, bill
from synopsis_writer.errors import FileError, GateRefused
from synopsis_writer.kinds import FileFormat
from synopsis_writer.store import demo_label, provenance, record, render, save

if TYPE_CHECKING:
    from synopsis_writer.session import Session
    from synopsis_writer.synopsis import Synopsis
    from synopsis_writer.writer import Attempt

DONE = 0
UNSTRUCTURED = "Antwort ohne Struktur"  # the title of an answer that is no synopsis


def deliver(
    session: "Session",
    folder: Path | None,
    file_format: FileFormat,
    *,
    force: bool,
    as_json: bool,
    status: Callable[[str], None],
) -> tuple[int, Path | None]:
    """Save and print what came of a brief; return the exit code, and where it was saved.

    An accepted synopsis goes into `<folder>/<show>/` and to stdout. A refused one goes into `folder`
    when there is one, and nowhere else. A text that cannot be saved is printed all the same.
    """
    result = session.result
    accepted = result.accepted
    code, path = DONE, None
    if folder is not None and result.best is not None:
        try:
            path = _keep(
                session, result.best, folder / result.show.slug if accepted else folder, file_format, force
            )
        except FileError as error:
            complain(str(error))
            code = error.exit_code
            if accepted is None and not as_json:
                synopsis = result.best.synopsis
                give(
                    render({}, synopsis, FileFormat.TEXT) if synopsis else printable(result.best.answer.text)
                )
    if as_json:
        give_json(_data(session, path))
    elif accepted is not None:
        give(render({}, accepted, FileFormat.TEXT))
    _explain(session, path, status)
    if accepted is None:
        code = result.error.exit_code if result.error else GateRefused.exit_code
    return code, path


def _keep(session: "Session", attempt: "Attempt", folder: Path, file_format: FileFormat, force: bool) -> Path:
    """Save an attempt; an answer without structure as it came."""
    if attempt.synopsis is None:
        return save(attempt.answer.text + "\n", folder, UNSTRUCTURED, FileFormat.TEXT)
    fields = record(session.result, attempt, attempt.synopsis, session.origin)
    content = render(fields, attempt.synopsis, file_format)
    return save(content, folder, attempt.synopsis.title, file_format, force=force)


def _explain(session: "Session", path: Path | None, status: Callable[[str], None]) -> None:
    result = session.result
    best = result.best
    status(bill([attempt.answer for attempt in result.attempts]))
    if best is not None and best.synopsis is not None and (label := demo_label(best, best.synopsis)):
        say(label)  # even with --quiet: nobody must take a demo draft for more
    if result.accepted is None:
        if result.error is not None:
            complain(str(result.error))
        reasons = " ".join(best.problems) if best else "no answer"
        kept = f"kept as {path}" if path else "nothing saved; --keep-rejected DIR keeps the text"
        complain(f"refused by the gate: {reasons} ({kept})")
    elif path is not None:
        status(f"saved as {path}")


def _data(session: "Session", path: Path | None) -> dict[str, Any]:
    result, best, origin = session.result, session.result.best, session.origin
    synopsis: Synopsis | None = best.synopsis if best else None
    fields: dict[str, Any] = {"brief": result.brief.as_data()}
    if best is not None:
        fields |= record(result, best, synopsis, origin) if synopsis else provenance(result, best, origin)
    return {
        "passed": result.accepted is not None,
        "path": str(path) if path else None,
        "error": str(result.error) if result.error else None,
        **fields,
        "text": synopsis.text if synopsis else None,
        "history": [_attempt(attempt) for attempt in result.attempts],
    }


def _attempt(attempt: "Attempt") -> dict[str, Any]:
    return {
        "number": attempt.number,
        "passed": attempt.passed,
        "finish": attempt.answer.finish,
        "problems": list(attempt.problems),
        "answer": attempt.answer.text,
        "findings": [finding.as_data() for finding in attempt.findings],
        **answer_data(attempt.answer),
    }
