"""Prompt templates and the rules of a form that they state; user text goes in as data and cannot leave its block."""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache, partial
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synopsis_writer import __version__
from synopsis_writer.brief import Brief
from synopsis_writer.characters import printable
from synopsis_writer.document import Document, read_document, read_text
from synopsis_writer.errors import FileError, InputError, TemplateError
from synopsis_writer.examples import Example
from synopsis_writer.gate.features import Avoid, kind_wording
from synopsis_writer.house import CHECK_NAMES, FEWEST_SENTENCES, Form, House, Range, built_in_house, can_encode
from synopsis_writer.models.base import Message
from synopsis_writer.settings import folder as shipped
from synopsis_writer.show import Show
from synopsis_writer.storage.arrays import cached_value, digest
from synopsis_writer.storage.files import find_files, read_input, write_file
from synopsis_writer.synopsis import Outline, Synopsis

if TYPE_CHECKING:
    from jinja2 import Template as CompiledTemplate
    from jinja2 import nodes
    from jinja2.sandbox import ImmutableSandboxedEnvironment

README = "README.md"  # beside the templates: what each may use, explained for authors of templates


def _fields(mark: str) -> dict[str, frozenset[str]]:
    parts = read_text(shipped("prompts") / README).split("\n## ")[1:]
    return {part.split("\n")[0]: frozenset(re.findall(rf"\n- `(\w+)`{mark}:", part)) for part in parts}


_NEEDED, _OPTIONAL = _fields(""), _fields(r" \(optional\)")
JUDGE_TEMPLATES = {name: _NEEDED[name] for name in ("judge", "judge_pair")}
TEMPLATES = {name: fields for name, fields in _NEEDED.items() if name not in JUDGE_TEMPLATES}
_NOT_FOR_NEW_TEXTS = {"revise", "lengths", "review", *JUDGE_TEMPLATES}
_CHARACTERS_A_TOKEN = 4.2  # measured on German synopses; the server's own usage is what counts
_TURN_TOKENS = 6  # what a chat template adds around a turn, about
_MOST_REPAIRED = 12_000  # characters of a rambling answer that a repair quotes
_NUMBERS = "null ein zwei drei vier fünf sechs sieben acht neun zehn elf zwölf".split()


@dataclass(frozen=True)
class Rules:
    """What a template says of a form: a sentence a rule."""

    purpose: str
    form: tuple[str, ...]  # how long it is, how it is told, and how it ends
    style: tuple[str, ...]  # sentences, vocabulary and marks
    checks: frozenset[str]  # those that are not off
    storylines: str  # their letters, as in `A, B oder C`
    beats: str  # how many sentences an outline has
    opening: str  # quotation mark
    closing: str


def render_rules(form: Form, house: House) -> Rules:
    """Return the rules of a form of the house; a check that is off states none, but for the length."""
    checks = frozenset(name for name in CHECK_NAMES if form.level(name) != "off")
    opening, closing = house.quotation_marks
    encoding = form.encoding or "utf-8"
    given = {"form": form, "house": house, "marks": f"{opening} {closing}", "encoding": encoding}
    ellipsis = house.quotation_marks.replace(opening, f"{opening}…", 1)
    foreign = [mark for mark in "äöüß„“»«’–…€" if not can_encode(mark, encoding)]
    is_wide = len("ä".encode(encoding, "replace")) > len("a".encode(encoding))
    has_rhythm = 2 * form.most_words / max(1, sum(form.sentence_mean)) >= FEWEST_SENTENCES
    more = {"ellipsis": ellipsis, "foreign": foreign, "has_wide_letters": is_wide, "has_rhythm": has_rhythm}
    rendered = _template().render(**given, **more)
    told, style = ([line.partition(": ")[::2] for line in part.splitlines()] for part in rendered.split("---\n"))
    of_form = tuple(rule for check, rule in told if check in {*checks, "length"})
    of_style = tuple(rule for check, rule in style if check in checks)
    letters = ("immer A", "A oder B", "A, B oder C")[form.storylines - 1]
    beats = count(form.aim.beats, "deutscher Satz", "deutsche Sätze") if form.aim.beats else "deutsche Sätze"
    return Rules(" ".join(form.purpose.split()), of_form, of_style, checks, letters, beats, opening, closing)


@cache
def _template() -> "CompiledTemplate":
    from jinja2 import Environment, StrictUndefined

    # For a model, not a browser: nothing is escaped.
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)  # noqa: S701
    environment.filters["capital"] = lambda text: text[:1].upper() + text[1:]
    environment.globals |= {"aimed": _aimed, "count": count, "number": number, "share": share}
    return environment.from_string(files(__package__).joinpath("rules.j2").read_text(encoding="utf-8"))


def _aimed(limits: Range, aim: Range | None, one: str, many: str) -> str:
    """Return limits and, where there is one, the aim within them: `200 bis 600 Wörter, am besten …`."""
    digits = max(*limits, *(aim or ())) >= len(_NUMBERS)
    best = "" if aim is None or aim == limits else f", am besten {span(aim, digits=digits)}"
    return count(limits, one, many, digits=digits) + best


def count(limits: Range | float, singular: str, plural: str, *, one: str = "ein", digits: bool = False) -> str:
    """Return how many: `ein Absatz`, `zwei bis vier Absätze`, `höchstens 180 Zeichen`."""
    if isinstance(limits, int | float):
        return f"{number(limits, one=one)} {singular if limits == 1 else plural}"
    return f"{span(limits, one=one, digits=digits)} {singular if limits[1] == 1 else plural}"


def span(limits: Range, *, one: str = "ein", digits: bool = False) -> str:
    """Return the numbers: `zwei bis vier`, `genau zwei`; `one` is what a single thing is called."""
    least, most = limits
    digits = digits or most >= len(_NUMBERS) or any(end != int(end) for end in limits)
    first, last = (_figure(end) if digits else number(end, one=one if most == 1 else "ein") for end in limits)
    if least == most:
        return last if most == 1 else f"genau {last}"
    return f"{first} bis {last}" if least else f"höchstens {last}"


def _figure(value: float) -> str:
    return f"{value:.10g}".replace(".", ",")


def number(value: float, *, one: str = "ein") -> str:
    """Return a number as German prose writes it: up to twelve as a word."""
    if value == 1:
        return one
    return _NUMBERS[int(value)] if value == int(value) and value < len(_NUMBERS) else _figure(value)


def share(limits: Range) -> str:
    """Return a share in per cent: `höchstens 35 Prozent`; nothing where every share is allowed."""
    least, most = (_figure(end * 100) for end in limits)
    if limits[0] == limits[1]:
        return f"{least} Prozent"
    if limits[0] <= 0:
        return f"höchstens {most} Prozent" if limits[1] < 1 else ""
    return f"{least} bis {most} Prozent" if limits[1] < 1 else f"mindestens {least} Prozent"


@dataclass(frozen=True)
class Template:
    """One template."""

    name: str  # which request it renders
    version: str  # as its front matter says
    hash: str  # the first 12 hex digits of the SHA-256 of its text
    source: str
    compile: Callable[[], "CompiledTemplate"]  # once

    def render(self, **fields: object) -> str:
        """Return the text of one turn; TemplateError where it uses what it may not, or is endless."""
        from jinja2 import TemplateError as JinjaError

        try:
            pieces = self.compile().generate(fields, _bounded=_bounded(_MOST_LOOPS, "loops"))
            return "".join(_bounded(_MOST_CHARACTERS, "gives characters", len)(pieces)).strip()
        except (JinjaError, TypeError, ValueError, LookupError, ArithmeticError, RecursionError) as error:
            raise TemplateError(f"prompt template {self.name}: {error}: fix the template") from error


@dataclass(frozen=True)
class Prompt:
    """What is sent to a model, and where it came from."""

    messages: tuple[Message, ...]  # system, a user and an assistant turn for each example, and the brief last
    name: str  # the template of the last turn
    version: str  # of both templates, as `system 1, synopsis 1`
    hash: str  # the first 12 hex digits of the SHA-256 over the templates' hashes
    example_ids: tuple[str, ...]  # in the order shown

    @property
    def stable(self) -> int:
        """How many messages another theme leaves as they are: all but the last example and the brief."""
        return max(1, len(self.messages) - 3)

    @property
    def tokens(self) -> int:
        """About how many tokens the messages take."""
        return sum(estimate_tokens(message.content) + _TURN_TOKENS for message in self.messages)


@dataclass(frozen=True)
class Prompts:
    """All templates of one folder, and the house whose rules they state."""

    templates: Mapping[str, Template]
    house: House

    def synopsis(
        self, brief: Brief, show: Show, examples: Sequence[Example], outline: Outline | None, avoid: Avoid | None = None
    ) -> Prompt:
        """Render the request; for one show, form and examples only the last turn differs."""
        shots = [(example.id, _cached_block(example.brief), example.synopsis.as_json()) for example in examples]
        return self._prompt("synopsis", show, brief, shots, brief_block(brief, outline), avoid_block(avoid))

    def outline(self, brief: Brief, show: Show, examples: Sequence[Example]) -> Prompt:
        """Render the request for an outline; of `examples` those with beats are shown."""
        shots = [
            (example.id, brief_block(example.brief.model_copy(update={"beats": ()})), plan)
            for example in examples
            if (plan := outline_of(example))
        ]
        return self._prompt("outline", show, brief, shots, brief_block(brief))

    def revision(
        self,
        base: Prompt,
        brief: Brief,
        synopsis: Synopsis,
        wish: Mapping[str, object],
        *,
        paragraphs: Sequence[int] = (),
        only: str | None = None,
        variants: int = 1,
    ) -> Prompt:
        """Return `base` with the request for a version of `synopsis` as its last turn; `wish` has German labels."""
        template = self.templates["revise"]
        numbered = {
            str(number): {"Strang": paragraph.storyline, "Text": paragraph.text}
            for number, paragraph in enumerate(synopsis.paragraphs, start=1)
        }
        request = template.render(
            brief=brief_block(brief),
            text=json_block({**_head(synopsis), "Absätze": numbered}),
            wish=json_block(wish),
            paragraphs=list(paragraphs),
            only=only or "",
            variants=variants,
        )
        return _continued(base, template, (*base.messages[:-1], Message("user", request)))

    def repair(self, base: Prompt, answer: str, problems: Sequence[str]) -> tuple[Message, ...]:
        """Return the base prompt, the last answer and what is wrong with it: never more than that."""
        request = self.templates["repair"].render(problems=[_escape(problem) for problem in problems])
        return (*base.messages, Message("assistant", answer[:_MOST_REPAIRED]), Message("user", request))

    def lengths(self, base: Prompt, story: Synopsis, forms: Sequence[str]) -> Prompt:
        """Render the request for a story in other forms: it goes on from the one that the story answered."""
        template = self.templates["lengths"]
        asked = [{"name": name, "rules": render_rules(self.house.form(name), self.house)} for name in forms]
        turns = (Message("assistant", story.as_json()), Message("user", template.render(forms=asked)))
        return _continued(base, template, (*base.messages, *turns))

    def review(self, brief: Brief, show: Show, text: Mapping[str, object]) -> Prompt:
        """Render the request to read a text, given as data under German labels, as a copy editor."""
        template = self.templates["review"]
        cast = {"Ensemble": [f"{member.name}: {member.role}" for member in show.cast]} if show.cast else {}
        data = {"Auftrag": json.loads(brief_block(brief)), **cast}
        # No block contains a `<`, so the first one begins where the template says.
        turns = template.render(brief=json_block(data), text=json_block(text))
        system, line, rest = turns.partition("\n<auftrag>\n")
        messages = (Message("system", system), Message("user", (line + rest).strip()))
        return Prompt(messages, template.name, f"review {template.version}", template.hash, ())

    def copy_sources(self, cache: Path | None = None) -> dict[str, str]:
        """Return the templates' texts and the rules by id: an answer must not repeat its instructions."""

        def render() -> dict[str, str]:  # with Jinja, which a check loads for nothing else
            rules = {name: render_rules(form, self.house) for name, form in self.house.forms.items()}
            return {f"prompt form {name}": "\n".join((it.purpose, *it.form, *it.style)) for name, it in rules.items()}

        code = [read_text(Path(__file__)), read_text(Path(__file__).with_name("rules.j2"))]
        path = cache and cache / digest([__version__, *code, self.house.model_dump_json()])
        sources = {f"prompt {name}": template.source for name, template in self.templates.items()}
        return {**sources, **cached_value(path, render)}

    def _prompt(
        self, name: str, show: Show, brief: Brief, shots: list[tuple[str, str, str]], block: str, avoid: str = ""
    ) -> Prompt:
        system, request = self.templates["system"], self.templates[name]
        typed = show.model_copy(update={"name": _escape(show.name)})  # what a person typed is data here, too
        rules = render_rules(self.house.form(brief.form).with_length(*brief.length), self.house)
        messages = [Message("system", system.render(form=brief.form, show=typed, rules=rules))]
        for _, shown, answer in shots:
            asked = request.render(brief=shown, rules=rules, avoid="")
            messages += [Message("user", asked), Message("assistant", answer)]
        messages.append(Message("user", request.render(brief=block, rules=rules, avoid=avoid)))
        version, ids = f"system {system.version}, {name} {request.version}", tuple(shot[0] for shot in shots)
        return Prompt(tuple(messages), name, version, _hash(system.hash + request.hash), ids)


def _continued(base: Prompt, template: Template, messages: tuple[Message, ...]) -> Prompt:
    version, digest = f"{base.version}, {template.name} {template.version}", _hash(base.hash + template.hash)
    return replace(base, messages=messages, name=template.name, version=version, hash=digest)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:12]


def estimate_tokens(text: str) -> int:
    """Return about how many tokens `text` takes."""
    return round(len(text) / _CHARACTERS_A_TOKEN)


_LABELS = {
    "show": "Serie",
    "form": "Form",
    "theme": "Thema",
    "before": "Was bisher geschah (es gilt weiter und wird nicht noch einmal erzählt)",
    "characters": "Figuren",
    "beats": "Szenen",
    "words": "Wörter",
    "character_count": "Zeichen",
    "air_date": "Sendetermin",
    "notes": "Hinweise",
}


def brief_block(brief: Brief, outline: Outline | None = None, rules: Rules | None = None) -> str:
    """Return the brief, with its plan and its form's rules if given, as JSON without any delimiter."""
    given = brief.as_data()
    data: dict[str, Any] = {label: given[key] for key, label in _LABELS.items() if key in given}
    if rules is not None:
        data |= {"Zweck der Form": rules.purpose, "Regeln der Form": list(rules.form)}
    if outline is not None:
        data["Plan"] = {**_head(outline), "Szenen": list(outline.beats)}
    return json_block(data)


def _head(planned: Synopsis | Outline) -> dict[str, object]:
    people = [f"{person.name}: {person.role}" for person in planned.characters]
    return {"Titel": planned.title, "Logline": planned.logline, "Figuren": people}


_cached_block = lru_cache(maxsize=1_000)(brief_block)
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')


def avoid_block(avoid: Avoid | None) -> str:
    """Return what the last texts had as JSON under German labels; empty where there is nothing."""
    if avoid is None:
        return ""
    ends = {
        label: [f"{kind_wording(kind).text('de')}: {words}" for kind, words in kinds.items()]
        for label, kinds in (("Einstieg", avoid.openings), ("Schluss", avoid.endings))
    }
    data = {**ends, "Motive": list(avoid.motifs), "Namen": list(avoid.names)}
    return json_block({label: value for label, value in data.items() if value})


def json_block(data: object) -> str:
    """Return data as JSON, brackets, braces, pipes and back quotes escaped: no value can close its block."""
    return _STRING.sub(lambda string: _escape(string[0]), json.dumps(data, ensure_ascii=False, indent=2))


def _escape(text: str) -> str:
    return text.translate(_ESCAPES)


_ESCAPES = str.maketrans({char: f"\\u{ord(char):04x}" for char in "<>[]{}|`"})


def outline_of(example: Example) -> str | None:
    """Return the outline answer an example stands for, or None when its brief has too few beats."""
    fields = example.synopsis.model_dump(mode="json", exclude={"paragraphs"})
    try:
        return Outline.model_validate({**fields, "beats": example.brief.beats}).model_dump_json()
    except ValueError:
        return None


def load_prompts(folder: Path, house: House | None = None) -> Prompts:
    """Load the templates of `folder`, and the program's own for those it lacks; TemplateError if one is wrong."""
    templates = {
        name: load_template(template_path(folder, name), needed, _OPTIONAL.get(name, frozenset()))
        for name, needed in TEMPLATES.items()
    }
    return Prompts(templates, house or built_in_house())


def template_path(folder: Path, name: str) -> Path:
    """Return the path of a template: in a folder that has some of them, or the program's own."""
    own = folder / f"{name}.md"
    is_partial = not own.exists() and any((folder / f"{each}.md").exists() for each in _NEEDED)
    return shipped("prompts") / own.name if is_partial else own


def copy_templates(folder: Path) -> list[Path]:
    """Write the program's templates and their README; FileError where one of them is there already."""
    paths = [folder / name for name in (*(f"{name}.md" for name in _NEEDED), README)]
    if there := next((path for path in paths if path.exists()), None):
        raise FileError(f"{there}: is there already: name another folder")
    for path in paths:
        write_file(path, read_text(shipped("prompts") / path.name))
    return paths


def load_template(path: Path, needed: frozenset[str], optional: frozenset[str] = frozenset()) -> Template:
    """Load and check one template, which bears its file's name and must use the fields `needed`."""
    try:
        document = read_document(path)
    except FileError as error:
        hint = "--prompts names a folder that holds at least one of them"
        raise TemplateError(f"prompt template {error}: {hint}") from error
    except InputError as error:
        raise TemplateError(str(error)) from error
    name, version = path.stem, document.meta.get("version")
    if document.meta.get("name") != name or not isinstance(version, int | str):
        raise TemplateError(f"{document.location('name')}: the front matter must say 'name: {name}' and a 'version'")
    compiled = cache(partial(_compiled, document, needed, optional))
    template = Template(name, str(version), _hash(document.text), document.text, compiled)
    if path.parent != shipped("prompts"):  # the program's own are right, and mere checks need none
        template.compile()
    return template


def _compiled(document: Document, needed: frozenset[str], optional: frozenset[str]) -> "CompiledTemplate":
    from jinja2 import TemplateSyntaxError, meta, nodes

    path, offset = document.path, document.first_line
    try:
        tree = _environment().parse(document.text)
        _check_nodes(tree, path, offset)  # first: what multiplies does so already while it is compiled
        used = meta.find_undeclared_variables(tree)
        for loop in list(tree.find_all(nodes.For)):  # all loops count together
            loop.iter = nodes.Call(nodes.Name("_bounded", "load"), [loop.iter], [], None, None)
        compiled = _environment().from_string(tree)
    except TemplateSyntaxError as error:
        raise TemplateError(f"{path}:{offset + error.lineno - 1}: {error.message}: fix the template") from error
    except (ValueError, RecursionError, MemoryError, SyntaxError) as error:  # a deep nesting, a long number
        raise TemplateError(f"{path}:{offset}: cannot be compiled: fix the template") from error
    if unknown := sorted(used - needed - optional):
        line = offset + document.text[: document.text.find(unknown[0])].count("\n")
        raise TemplateError(f"{path}:{line}: unknown field '{unknown[0]}': use {', '.join(sorted(needed | optional))}")
    if missing := sorted(needed - used):
        raise TemplateError(f"{path}:{offset}: never uses the field '{missing[0]}': add it to the template")
    return compiled


# What a template may be made of: it can neither multiply, recurse nor call, so that no text is endless.
_NODES = frozenset(
    "Template Output TemplateData Name Const List Tuple Getattr Getitem Slice If For CondExpr Compare "
    "Operand And Or Not Test Filter Concat Add Sub Neg".split()
)
_FILTERS = frozenset("capitalize d default first last length lower string title trim upper".split())
_MOST_NODES = 10_000
_MOST_LOOPS = 100_000
_MOST_CHARACTERS = 1_000_000


def _check_nodes(tree: "nodes.Template", path: Path, offset: int) -> None:
    """Raise TemplateError where a template uses what could multiply or recurse."""
    from jinja2 import nodes

    for count, node in enumerate(tree.find_all(nodes.Node)):
        if count >= _MOST_NODES:
            raise TemplateError(f"{path}:{offset}: has too many parts: write it shorter")
        kind = type(node).__name__
        name = node.name if isinstance(node, nodes.Filter) else None
        is_recursive = isinstance(node, nodes.For) and node.recursive
        if kind not in _NODES or (name and name not in _FILTERS) or is_recursive:
            used = f"the filter '{name}'" if name else f"'{'recursive' if is_recursive else kind.lower()}'"
            ways = f"if, for, comparisons, +, ~, and the filters {', '.join(sorted(_FILTERS))}"
            raise TemplateError(f"{path}:{offset + node.lineno - 1}: {used} is not available: use {ways}")


def _bounded(most: int, what: str, size: Callable[[Any], int] = lambda _: 1) -> Callable[..., Iterator[Any]]:
    """Return what passes on the values of all iterables that it is given until they are too large."""
    total = 0

    def bounded(values: Iterable[Any]) -> Iterator[Any]:
        nonlocal total
        for value in values:
            total += size(value)
            if total > most:
                raise ValueError(f"{what} beyond the limit of {most:,}")
            yield value

    return bounded


@cache
def _environment() -> "ImmutableSandboxedEnvironment":
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    # Plain text for a model, not HTML: there is nothing to escape for a browser.
    return ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False, keep_trailing_newline=True)


def folder_hash(folder: Path) -> str:
    """Return 12 hex digits that change when a template for new texts does; FileError without the folder."""
    if not folder.is_dir():
        raise FileError(f"prompts: {folder}: no such folder: --prompt names one that holds the templates")
    digest = hashlib.sha256()
    for path in _hashed_files(folder):
        is_own = path.is_relative_to(folder)
        name = str(path.relative_to(folder)).encode("utf-8", "surrogatepass") + b"\0" if is_own else b""
        digest.update(name + read_input(path) + b"\0" * is_own)
    return digest.hexdigest()[:12]


def template_texts(folder: Path) -> dict[str, str]:
    """Return the text of each file that `folder_hash` hashes, by its path in the folder; raises FileError."""
    texts = {}
    for path in _hashed_files(folder):
        name = path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name
        texts[printable(name)] = re.sub("\r\n?", "\n", read_input(path).decode("utf-8-sig", "replace"))
    return texts


def _hashed_files(folder: Path) -> Iterator[Path]:
    others = {folder / README, *(folder / f"{name}.md" for name in _NOT_FOR_NEW_TEXTS)}
    kinds = {".md", ".yaml", ".txt"}  # an editor's own files are none of these
    yield from (path for path in find_files(folder, "**/*") if path.suffix in kinds and path not in others)
    paths = (template_path(folder, name) for name in sorted(TEMPLATES.keys() - _NOT_FOR_NEW_TEXTS))
    yield from (path for path in paths if path.parent != folder)
