"""The workspace: pool, templates and gate of a house, opened once; and checks of texts and of the pool."""

import logging
import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any

from synopsis_writer import examples
from synopsis_writer.brief import make_brief
from synopsis_writer.document import Document
from synopsis_writer.errors import FileError, InputError, SettingsError
from synopsis_writer.examples import Example, Pool, read_brief
from synopsis_writer.gate.finding import Finding, Language, waive, waivers_of
from synopsis_writer.gate.fixes import SHARP_S, apply_fixes, counted
from synopsis_writer.gate.gate import Gate, copy_sources, failures, warnings
from synopsis_writer.gate.lexicon import cache_in
from synopsis_writer.gate.sources import E5Embedder, embed_sources, index_sources
from synopsis_writer.house import CHECK_NAMES, House, open_house
from synopsis_writer.models.base import Answer, bill_data
from synopsis_writer.prompts.selection import ExampleIndex, index_examples
from synopsis_writer.prompts.templates import Prompts, load_prompts
from synopsis_writer.settings import Settings, folder, of_house
from synopsis_writer.show import SHOW_FILE, Show, find_show, generic_show, load_show, nearest_shows
from synopsis_writer.storage.files import find_files, real_path

_log = logging.getLogger(__name__)
UNKNOWN = "unbekannt"  # the show or theme of a text for which none is named
_MOST_ROUNDS = 3  # of fixes; two are enough, unless a rule undid what another does
_ALIKE = 0.4  # of difflib's ratio: an example's name without its show is alike enough


@dataclass(frozen=True)
class Report:
    """What the gate found in one text."""

    source: str  # the file, `-` for stdin, or `text`
    text: str
    first_line: int  # the line of the file on which the text begins, from 1
    form: str
    guessed: bool  # no form was named: it is the one that fits best
    findings: tuple[Finding, ...]
    fixed: Mapping[str, int] = field(default_factory=dict)  # faults of each kind that code has fixed
    lang: Language = "en"  # of the findings
    reviews: tuple[Answer, ...] = ()  # a reviewing model's answers

    @property
    def passed(self) -> bool:
        """Whether no check refuses the text."""
        return not self.refused

    @property
    def refused(self) -> tuple[Finding, ...]:
        """The findings that refuse the text."""
        return failures(self.findings)

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """The findings that are reported and do not refuse it."""
        return warnings(self.findings)

    @property
    def waived(self) -> tuple[Finding, ...]:
        """The findings that a person let pass."""
        return tuple(finding for finding in self.findings if finding.waived)

    def position(self, finding: Finding) -> tuple[int, int]:
        """Return line and column, from 1, of a finding's first span in the file, or of the text."""
        start = finding.spans[0].start if finding.spans else 0
        return self.first_line + self.text.count("\n", 0, start), start - self.text.rfind("\n", 0, start)

    def as_data(self) -> dict[str, Any]:
        """Return the report as JSON holds it."""
        data = {"file": self.source, "passed": self.passed, "form": self.form, "form_guessed": self.guessed}
        data |= {"fixed": dict(self.fixed)} if self.fixed else {}
        data |= {"review": bill_data(self.reviews)} if self.reviews else {}
        return data | {"findings": [finding.as_data() for finding in self.findings]}


@dataclass(frozen=True)
class Workspace:
    """The pool of examples, the prompt templates, and the gate that the settings name."""

    pool: Pool
    prompts: Prompts
    gate: Gate
    settings: Settings
    _reported: set[str] = field(default_factory=set, compare=False, repr=False)  # unknown shows
    _houses: dict[Path, "Workspace"] = field(default_factory=dict, compare=False, repr=False)

    @cached_property
    def index(self) -> ExampleIndex:
        """The index that examples are selected by, built when it is first needed."""
        return index_examples(self.pool.examples, self.settings.cache / "selection")

    def find_show(self, name: str) -> Show:
        """Return the show with this name or alias; an unknown one is logged once, and is a generic show."""
        show = find_show(self.pool.shows, name)
        if show is None and name not in self._reported:
            self._reported.add(name)
            near = " or ".join(nearest_shows(self.pool.shows, name))
            hint = f"did you mean {near}?" if near else "synopsis examples list names the known ones."
            _log.info("unknown show '%s': going on without its cast and place; %s", name, hint)
        return show or generic_show(name)

    @property
    def house(self) -> House:
        """The house that the gate holds."""
        return self.gate.house

    def of_house(self, house: Path | None) -> "Workspace":
        """Return the workspace of another house, opened once; this one for None; raises InputError."""
        if house is not None and house not in self._houses:
            self._houses[house] = open_workspace(self.settings.model_copy(update=of_house(house)))
        return self if house is None else self._houses[house]

    def fix(self, document: Document, **fields: Any) -> Report:
        """Fix what code can fix in a text, and check the result."""
        report = self.check(document, **fields)
        fixed: Counter[str] = Counter()
        for _ in range(_MOST_ROUNDS):
            if not (fixes := sorted({each for finding in report.findings for each in finding.fixes})):
                break
            # What only a check sees has its spans in the composed text.
            own = [each for each in fixes if each.kind != SHARP_S] or fixes
            fixed.update(counted(own))
            document = replace(document, text=apply_fixes(document.text, own))
            report = self.check(document, **fields)
        return replace(report, fixed=dict(fixed))

    def check(self, document: Document, **fields: Any) -> Report:
        """Check a text against the brief in its front matter; `fields` override it."""
        if not document.text:
            raise FileError(f"{document.path}: holds no text: write one, or name another file")
        given = {name: value for name, value in fields.items() if value is not None}
        brief, is_stored = None, "brief" in document.meta
        if is_stored:
            stored = read_brief(document).as_data()
            if {"words", "character_count"} & given.keys():
                stored |= {"words": None, "character_count": None}
            brief = make_brief(**{**stored, **given})
        elif given.keys() - {"show", "form"}:
            brief = make_brief(**{"show": UNKNOWN, "theme": UNKNOWN, **given})
            brief = brief.model_copy(update={} if "theme" in given else {"theme": ""})
        name = brief.show if brief else given.get("show", UNKNOWN)
        form = brief.named_form if brief else given.get("form")
        show = find_show(self.pool.shows, name) or generic_show(name)
        people, title = examples.listed_people(document), document.meta.get("title", "")
        names = tuple(person.name for person in people)
        subject = self.gate.subject(document.text, form, show, brief, title, names)
        here = real_path(document.path)
        itself = next((known.id for known in self.pool.examples if real_path(known.path) == here), "")
        strangers = () if name == UNKNOWN else subject.strangers
        subject = replace(subject, exclude_source=itself, strangers=strangers, characters=people)
        if guessed := "form" not in given and not is_stored:
            candidates = [self.gate.as_form(subject, name) for name in self.house.forms]
            subject = min(candidates, key=lambda candidate: len(failures(self.gate.judge(candidate))))
        findings = waive(self.gate.judge(subject), subject.text.raw, waivers_of(document))
        text = unicodedata.normalize("NFC", document.text)  # as the gate counts its characters
        first, source, name = document.first_line, str(document.path), subject.form.name
        return Report(source, text, first, name, guessed, findings, lang=self.gate.lang)


def open_workspace(settings: Settings) -> Workspace:
    """Load pool, templates and gate; raises InputError where one is missing, broken or unknown."""
    cache_in(settings.cache / "languages")
    house = open_house(settings)
    pool = examples.load_pool(pool_folders(settings))
    if not pool.examples:
        _log.info("%s holds no example, so prompts show none: synopsis examples add", settings.house)
    known = [example.id for example in pool.examples]
    if (missing := next((name for name in settings.pinned if name not in known), None)) is not None:
        near = get_close_matches(missing, known, cutoff=_ALIKE)
        hint = f"did you mean {' or '.join(near)}?" if near else "synopsis examples list names them."
        raise SettingsError(f"no example '{missing}' to pin: {hint}")
    prompts = load_prompts(settings.own_prompts or folder("prompts"), house)
    if unknown := sorted(set(settings.disable) - set(CHECK_NAMES)):
        raise SettingsError(f"no check '{unknown[0]}' to disable: the checks are {', '.join(CHECK_NAMES)}")
    sources = copy_sources(pool.examples, prompts.copy_sources(settings.cache / "rules"))
    copies = index_sources(sources, settings.cache / "copies")
    embeddings = None
    if settings.semantic:
        embedder = E5Embedder(settings.threads)
        embeddings = embed_sources(copy_sources(pool.examples), embedder, settings.cache / "meanings")
    gate = Gate(house, copies, frozenset(settings.disable), pool.shows, embeddings, settings.lang)
    return Workspace(pool, prompts, gate, settings)


def pool_folders(settings: Settings) -> list[Path]:
    """Return the folders of examples: the named one, the house's, or the program's and the user's own."""
    if (named := settings.examples or settings.house) is not None:
        return [named]
    own = settings.own_examples
    return [folder("examples"), *([own] if find_files(own, "*/*.md") else [])]


def check_pool(settings: Settings) -> tuple[int, list[str]]:
    """Return how many examples there are, and each problem of format, show and style, in one line."""
    house = open_house(settings)
    problems: list[str] = []
    shows: dict[str, Show] = {}  # by folder
    found: dict[str, Example] = {}
    for pool in pool_folders(settings):
        for path in [*examples.example_files(pool), *find_files(pool, f"*/{SHOW_FILE}")]:
            try:
                if path.name == SHOW_FILE:
                    shows[path.parent.name] = load_show(path)
                else:
                    example = examples.with_free_id(examples.load_example(path), found)
                    found[example.id] = example
            except InputError as error:
                problems.append(str(error))
    copies = index_sources(copy_sources(list(found.values())), settings.cache / "copies")
    gate = Gate(house, copies, shows=tuple(shows.values()))
    for example in found.values():
        path, brief, show = example.path, example.brief, shows.get(example.path.parent.name)
        if show is None:
            problems.append(f"{path}: {path.parent} has no {SHOW_FILE}: write one with the show's name")
            continue
        if brief.show != show.name:
            problems.append(f"{path}: the brief's show is not '{show.name}': use the name in {SHOW_FILE}")
        if brief.form in house.forms:
            findings = gate.examine(example.synopsis, brief, show, exclude_source=example.id)
            problems += [f"{path}: {finding.check}: {finding.sentence}" for finding in failures(findings)]
        else:
            problems.append(f"{path}: the house has no form '{brief.form}': it has {', '.join(house.forms)}")
    return len(found), problems
