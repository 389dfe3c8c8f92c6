"""What the gate says of each text: the good ones under every form, and the damaged ones under their own."""

import json
from pathlib import Path
from typing import Any

import yaml

from tests.golden.command import ROOT, House
from tests.golden.material import FORMS

FOLDERS = ("tests/corpus/good", "tests/corpus/paraphrases", "examples", "evals/cases")


def good_texts() -> dict[str, str]:
    """Return the files of all good texts, by their paths in the repository."""
    return {
        path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
        for folder in FOLDERS
        for path in sorted((ROOT / folder).rglob("*.md"))
    }


def damaged_texts() -> dict[str, str]:
    """Return each text of the corpus with each corruption, as files; by text, then corruption."""
    from tests.corpus.damage.table import DAMAGES
    from tests.corpus.measure import damaged

    found = {}
    for damage in DAMAGES:
        for name, draft in damaged(damage):
            if not draft.text.strip() or "\0" in draft.text:
                continue  # no file holds it
            head = {
                "brief": draft.brief.as_data(),
                "title": draft.title,
                "characters": [{"name": person, "role": "Rolle"} for person in draft.people],
            }
            front = yaml.safe_dump(head, allow_unicode=True, sort_keys=False)
            found[f"{name}: {damage.name}"] = f"---\n{front}---\n\n{draft.text}\n"
    return dict(sorted(found.items()))  # a text's damages side by side are packed best


def orders(texts: dict[str, str]) -> list[tuple[str, str]]:
    """Return the texts, each with the forms it is checked as; an empty one is its own."""
    return [(name, form) for name in texts for form in (FORMS if name.endswith(".md") else ("",))]


def verdicts(house: House, texts: dict[str, str], wanted: list[tuple[str, str]]) -> dict[str, Any]:
    """Return what `check --json` says, by text and form: if a text passed, and each finding as a list."""
    found: dict[str, Any] = {}
    folder = house.folder / "texts"
    folder.mkdir()
    for form in sorted({form for _, form in wanted}):
        names = [name for name, its_form in wanted if its_form == form]
        files = []
        for place, name in enumerate(names):
            file = folder / f"{form}-{place}.md"
            file.write_text(texts[name], encoding="utf-8", newline="")
            files.append(_in_place(name, file))
        flags = ("--form", form) if form else ()
        done = house("check", "--json", *files, *flags, keep=False)
        lines = done.out.splitlines()
        assert len(lines) == len(names), done.err
        for name, line in zip(names, lines, strict=True):
            found[f"{name} as {form}" if form else name] = _verdict(json.loads(line))
    return found


def _in_place(name: str, file: Path) -> str:
    """Return the file of a text: an example stays where it is, because the gate knows it by its path."""
    place = ROOT / name
    is_example = name.startswith("examples/") and place.is_file()
    return str(place if is_example and place.read_bytes() == file.read_bytes() else file)


def _verdict(review: dict[str, Any]) -> dict[str, Any]:
    return {
        "passed": review["passed"],
        "form": review["form"],
        "findings": [
            [finding[key] for key in ("check", "passed", "value", "limit", "message", "spans")]
            for finding in review["findings"]
        ],
    }
