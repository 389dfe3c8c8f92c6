"""The rules of a form in German, rendered from the limits that the gate holds."""

from collections.abc import Iterator
from dataclasses import dataclass

from synopsis_writer.house.form import CHECK_NAMES, FEWEST_SENTENCES, Form, Range, can_encode
from synopsis_writer.house.house import House

_NUMBERS = "null ein zwei drei vier fünf sechs sieben acht neun zehn elf zwölf".split()


@dataclass(frozen=True)
class Rules:
    """What a template says of a form: a sentence a rule.

    Attributes:
        form: how long it is, how it is told, and how it ends.
        style: sentences, vocabulary and marks.
        checks: the names of the checks that are not off.
        storylines: the letters of the storylines, as in `A, B oder C`.
        beats: how many sentences an outline has.
        opening, closing: the house's quotation marks.
    """

    purpose: str
    form: tuple[str, ...]
    style: tuple[str, ...]
    checks: frozenset[str]
    storylines: str
    beats: str
    opening: str
    closing: str


def render_rules(form: Form, house: House) -> Rules:
    """Return the rules of a form of the house; a check that is off states none, but for the length."""
    checks = frozenset(name for name in CHECK_NAMES if form.level(name) != "off")
    marks = f"{house.quotation_marks[0]} {house.quotation_marks[1]}"
    quoted = house.quotation_marks.replace(house.quotation_marks[0], f"{house.quotation_marks[0]}…", 1)
    return Rules(
        " ".join(form.purpose.split()),
        tuple(rule for check, rule in _form_rules(form, marks, quoted) if check in {*checks, "length"}),
        tuple(rule for check, rule in _style_rules(form, house, marks) if check in checks),
        checks,
        _either("ABC"[: form.storylines]),
        count(form.aim.beats, "deutscher Satz", "deutsche Sätze") if form.aim.beats else "deutsche Sätze",
        *house.quotation_marks,
    )


def _form_rules(form: Form, marks: str, quoted: str) -> Iterator[tuple[str, str]]:
    yield from (("length", rule) for rule in _length_rules(form))
    parts = _aimed(form.paragraphs, form.aim.paragraphs, "Absatz", "Absätze")
    yield "paragraphs", "Ein einziger Absatz." if form.paragraphs[1] == 1 else f"{_capital(parts)}."
    yield (
        "length",
        (
            "Ein einziger Erzählstrang A.",
            "Ein Hauptstrang A und ein Nebenstrang B, der mit einer deutlichen Wendung einsetzt.",
            "Ein Hauptstrang A im Wechsel mit den Nebensträngen B und C, die deutlich einsetzen.",
        )[form.storylines - 1],
    )
    yield "tense", _tense(form)
    yield "dialogue", _speech(form, marks)
    if questions := _questions(form):
        yield "hook", questions
    if form.ending == "question":
        yield "hook", "Das Ende ist offen: Einer der letzten Sätze ist eine Frage."
    elif form.ending == "ellipsis":
        yield "hook", f"Das Ende ist offen: Der letzte Satz bricht ab und schließt mit {quoted}."
    elif form.ending == "closed":
        yield "hook", f"Das Ende ist geschlossen: keine Frage im letzten Satz und kein {quoted}."
    if form.headline == "yes":
        yield "headline", "Über dem Text steht der Titel: eine kurze Zeile ohne Punkt."
    if form.actors_in_brackets == "yes":
        named = "Nennt der Auftrag, wer eine Figur spielt, so steht dieser Name in Klammern dahinter"
        yield "actors", f"{named}, wenn sie zum ersten Mal vorkommt. Erfinde keinen."
    elif form.actors_in_brackets == "no":
        yield "actors", "Wer eine Figur spielt, steht nicht im Text."


def _length_rules(form: Form) -> Iterator[str]:
    title = "der Titel auch" if form.title_counts else "der Titel nicht"
    if form.words:
        counted = f", {title}" if form.title_counts else ""
        yield f"{_capital(_aimed(form.words, form.aim.words, 'Wort', 'Wörter'))}{counted}."
    elif form.characters:
        length = _aimed(form.characters, form.aim.characters, "Zeichen", "Zeichen")
        yield f"{_capital(length)}, Leerzeichen mitgezählt, {title}."
    else:
        size = f"{count(form.length[0], 'Byte', 'Bytes', digits=True)} in {form.encoding or 'utf-8'}"
        yield f"{_capital(size)}, Leerzeichen mitgezählt, {title}."
        if len("ä".encode(form.encoding or "utf-8", "replace")) > len("a".encode(form.encoding or "utf-8")):
            yield "Ein Umlaut zählt so viel wie zwei Buchstaben, ein Anführungszeichen mehr."
    foreign = [mark for mark in "äöüß„“»«’–…€" if form.encoding and not can_encode(mark, form.encoding)]
    if foreign:
        yield f"Diese Zeichen gibt es dort nicht, schreibe ohne sie: {' '.join(foreign)}"


def _style_rules(form: Form, house: House, marks: str) -> Iterator[tuple[str, str]]:
    mean = _aimed(form.sentence_mean, form.aim.sentence_mean, "Wort", "Wörter")
    aim = form.aim.sentence_longest
    longest = f"keiner über {count(form.sentence_longest[1], 'Wort', 'Wörter')}"
    longest += f", am besten keiner über {number(aim[1])}" if aim else ""
    if 2 * form.most_words / max(1, sum(form.sentence_mean)) >= FEWEST_SENTENCES:
        spread = count(form.sentence_deviation, "Wort", "Wörter")
        yield "rhythm", f"Kurze und lange Sätze im Wechsel: im Schnitt {mean}; {longest}."
        yield "rhythm", f"Die Satzlängen streuen um {spread} (Standardabweichung)."
    else:
        yield "rhythm", f"Sätze: im Schnitt {mean}; {longest}."
    if least := share((form.variety[0], 1)):
        yield "repetition", f"Wechselnder Wortschatz: von nahen Wörtern sind im Schnitt {least} verschieden."
    most = form.exclamations[1]
    marked = f"Höchstens {count(most, 'Ausrufezeichen', 'Ausrufezeichen')}" if most else "Kein Ausrufezeichen"
    yield "exclamations", f"{marked}, keine Wörter in Großbuchstaben."
    yield "markup", f"Anführungszeichen nur in der Form {marks}."
    if house.orthography == "de-CH":
        yield "umlauts", "Schweizer Rechtschreibung: ss statt ß."
    elif house.orthography == "de-AT":
        yield "spelling", "Österreichische Rechtschreibung."


def _tense(form: Form) -> str:
    told = {
        "present": "Erzählt wird im Präsens",
        "preterite": "Erzählt wird im Präteritum, Früheres im Plusquamperfekt",
        "either": "Erzählt wird im Präsens oder im Präteritum, ohne grundlosen Wechsel",
    }[form.tense]
    past = share(form.preterite)
    return f"{told}; im Präteritum stehen {past} der Verben." if past else f"{told}."


def _speech(form: Form, marks: str) -> str:
    limit, spoken = share(form.speech), form.aim.spoken_sentences
    if not form.speech[1]:
        return "Keine wörtliche Rede."
    if spoken:
        lines = _capital(count(spoken, "gesprochener Satz", "gesprochene Sätze"))
        return f"{lines} in {marks}" + (f", zusammen {limit} des Textes." if limit else ".")
    rare = "nur ausnahmsweise" if form.speech[1] <= _RARE else "ist möglich"
    return f"Wörtliche Rede {rare}" + (f": {limit} des Textes." if limit else ".")


_RARE = 0.05  # share of the characters up to which speech is the exception


def _questions(form: Form) -> str:
    limit, asked = share(form.questions), form.aim.questions_asked
    if not form.questions[1]:
        return "Keine Fragen."
    if asked:
        lines = _capital(count(asked, "Frage", "Fragen", one="eine"))
        return f"{lines}, über den Text verteilt" + (f"; {limit} der Sätze." if limit else ".")
    return f"{_capital(limit)} der Sätze sind Fragen." if limit else ""


def _aimed(limits: Range, aim: Range | None, one: str, many: str) -> str:
    """Return limits and, where there is one, the aim within them: `200 bis 600 Wörter, am besten …`."""
    digits = max(*limits, *(aim or ())) >= len(_NUMBERS)
    best = "" if aim is None or aim == limits else f", am besten {span(aim, digits=digits)}"
    return count(limits, one, many, digits=digits) + best


def count(
    limits: Range | float, singular: str, plural: str, *, one: str = "ein", digits: bool = False
) -> str:
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
    is_word = value == int(value) and value < len(_NUMBERS)
    return _NUMBERS[int(value)] if is_word else _figure(value)


def share(limits: Range) -> str:
    """Return a share in per cent: `höchstens 35 Prozent`; nothing where every share is allowed."""
    least, most = (_figure(end * 100) for end in limits)
    if limits[0] == limits[1]:
        return f"{least} Prozent"
    if limits[0] <= 0:
        return f"höchstens {most} Prozent" if limits[1] < 1 else ""
    return f"{least} bis {most} Prozent" if limits[1] < 1 else f"mindestens {least} Prozent"


def _either(letters: str) -> str:
    rest, last = letters[:-1], letters[-1]
    return f"{', '.join(rest)} oder {last}" if rest else f"immer {last}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
