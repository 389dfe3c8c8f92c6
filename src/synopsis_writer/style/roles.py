"""Callings by their field, to tell when a person changes hers in mid-text."""

from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

# Fields that exclude each other; what one person may well be at a time stands in one line.
_CALLINGS = """
arzt chirurg anästhesist internist gynäkologe kardiologe neurologe orthopäde psychiater pathologe
pfleger krankenpfleger krankenschwester altenpfleger hebamme sanitäter rettungssanitäter
anwalt rechtsanwalt staatsanwalt jurist richter notar strafverteidiger
polizist kommissar hauptkommissar kriminalist
lehrer kunstlehrer musiklehrer sportlehrer erzieher schulleiter
schauspieler sänger pianist musiker tänzer geiger cellist dirigent organist
koch küchenchef bäcker konditor kellner wirt gastronom metzger fleischer hotelier unternehmer manager
schreiner tischler schlosser mechaniker maurer dachdecker elektriker klempner zimmermann
goldschmied uhrmacher schneider schuster frisör friseur
bauer winzer schäfer förster gärtner landwirt imker
journalist reporter redakteur fotograf
pfarrer pastor priester seelsorger
eiskunstläufer schwimmer boxer läufer fußballer turner
pilot busfahrer lokführer taxifahrer lastwagenfahrer
"""
_WITH_UMLAUT = {"arzt": "ärztin", "anwalt": "anwältin", "koch": "köchin", "bauer": "bäuerin"}


class Calling(NamedTuple):
    """A field of work, and whether the word for it is a woman's."""

    field: int
    is_woman: bool


def calling(word: str) -> Calling | None:
    """Return the calling of a lower-case noun, compounds of a known one included; None for another noun."""
    known = _callings()
    return next((known[word[cut:]] for cut in range(len(word) - _SHORTEST + 1) if word[cut:] in known), None)


_SHORTEST = 4  # letters: Arzt, Koch, Wirt


@cache
def _callings() -> Mapping[str, Calling]:
    found: dict[str, Calling] = {}
    for field, line in enumerate(_CALLINGS.split("\n")):
        for man in line.split():
            found[man] = Calling(field, is_woman=False)
            found[_as_woman(man)] = Calling(field, is_woman=True)
    women = ("krankenschwester", "hebamme")
    return found | {word: found[word]._replace(is_woman=True) for word in women}


def _as_woman(man: str) -> str:
    """Return Ärztin for Arzt, Unfallchirurgin for Unfallchirurg, Gynäkologin for Gynäkologe."""
    for ending, woman in _WITH_UMLAUT.items():
        if man.endswith(ending):
            return man[: -len(ending)] + woman
    return man.removesuffix("e") + "in"
