"""Releases: a person's approval of a text, recorded in its file."""

import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from synopsis_writer.characters import LONGEST_NAME, clean_name
from synopsis_writer.document import Document, format_document, read_document
from synopsis_writer.errors import FileError, GateRefusedError, InputError
from synopsis_writer.gate.finding import Waiver, waive, waivers_of
from synopsis_writer.gate.gate import failures
from synopsis_writer.gate.text import lower_words
from synopsis_writer.log import Maker, Version
from synopsis_writer.storage.files import write_file
from synopsis_writer.workspace import Report
from synopsis_writer.writer import Writer

SUFFIXES = frozenset({".md", ".markdown"})  # of files that can hold a text, its brief and its release


class NotReleasedError(GateRefusedError):
    """The gate refuses the text; `report` holds its findings."""

    def __init__(self, report: Report) -> None:
        self.report = report
        reasons = " ".join(f"{finding.check}: {finding.sentence}" for finding in report.refused)
        super().__init__(f"{report.source}: not released: {reasons}")


def release(
    file: str | Path, by: str, *, waivers: Mapping[str, str] | None = None, writer: Writer | None = None
) -> dict[str, Any]:
    """Check a Markdown file again, record in it who releases it and what is waived; return the record."""
    path = Path(file)
    if path.suffix.lower() not in SUFFIXES:
        hint = "name a file in it, or a batch's row" if path.is_dir() else "save the text as Markdown (.md)"
        raise FileError(f"{file}: cannot hold a record: {hint}")
    document = read_document(path)

    def save(released: Document) -> None:
        if read_document(path) != document:
            raise FileError(f"{file}: was changed meanwhile: read it again, then release it")
        write_file(path, format_document(released.meta, released.text))

    return release_document(document, by, save, waivers=waivers, writer=writer)


def release_document(
    document: Document, by: str, save: Callable[[Document], None], *,
    waivers: Mapping[str, str] | None = None, writer: Writer | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Release a text from any source, as `release` does, and `save` it with its record."""
    if not by.strip() or len(by) > LONGEST_NAME:
        raise InputError(f"nobody releases it: give your name with --by, {LONGEST_NAME} characters at most")
    with contextlib.nullcontext(writer) if writer else Writer() as opened:
        report = opened.check_sync(document)
        waived = list(waivers_of(document))
        for check, reason in (waivers or {}).items():
            found = [finding for finding in failures(report.findings) if finding.check == check]
            if not found:
                raise InputError(f"--waive {check}: no such finding refuses the text: leave it out")
            if not reason.strip() or len(reason) > 10 * LONGEST_NAME:
                raise InputError(f'--waive {check}: gives no reason: write it as {check}="why it may pass"')
            words = (tuple(finding.marked_words(report.text)) for finding in found)
            why = clean_name(reason, 10 * LONGEST_NAME)
            waived += [Waiver(check=check, words=each, reason=why) for each in words]
        findings = waive(report.findings, report.text, waived)
        if failures(findings):
            raise NotReleasedError(replace(report, findings=findings))
        versions = opened.log.versions_of(document)
    used = {finding.check for finding in findings if finding.waived}
    listed = [each.model_dump(mode="json") for each in waived]
    now = datetime.now(UTC).replace(microsecond=0).isoformat()
    record = {"by": clean_name(by), "at": now, **{name: document.meta.get(name) for name in ("model", "prompt")}}
    record |= zip(("model_share", "person_share"), _shares(versions, document) or (None, None), strict=True)
    record["waived"] = [each for each in listed if each["check"] in used]
    record["text_sha256"] = document.text_hash
    meta = document.meta | ({"waived": listed} if listed else {})
    meta.pop("release", None)
    released = replace(document, meta={**meta, "release": record})
    save(released)
    if versions:
        with contextlib.suppress(FileError):  # the file has the record
            opened.log.add_version(released, "person", parent=versions[-1], request={"released": record["by"]})
    return record


def _shares(versions: Iterable[Version], document: Document) -> tuple[float, float] | None:
    """Return which shares of the words are the model's and the person's; None if that is unknown."""
    words: list[str] = []
    makers: list[Maker] = []
    for version in versions:
        if version.content is None:
            return None
        new = lower_words(version.document.text)
        owners: list[Maker] = [version.maker] * len(new)
        matcher = SequenceMatcher(None, words, new, autojunk=False)
        for old_start, new_start, size in matcher.get_matching_blocks():
            owners[new_start : new_start + size] = makers[old_start : old_start + size]
        words, makers = new, owners
    if not words or words != lower_words(document.text):
        return None
    share = round(makers.count("model") / len(words), 3)
    return share, round(1 - share, 3)
