"""The rules of a form in German, rendered from the limits that the gate holds."""

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from synopsis_writer.house.form import CHECK_NAMES, FEWEST_SENTENCES, Form, Range, can_encode
from synopsis_writer.house.house import House

if TYPE_CHECKING:
    from jinja2 import Template

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
def _template() -> "Template":
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
