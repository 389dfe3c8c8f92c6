"""Write `verb_forms.txt`: the third persons whose tense the tense check can tell.

The verbs are those whose stems HanTa's German model knows; `ablaut` conjugates them. It offers no source
distribution and wheels for few platforms, so it is needed here only, and its forms are shipped as data:

    pip install ablaut==0.11.0
    python -m tools.verb_forms
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import ablaut
from HanTa.HanoverTagger import HanoverTagger

FILE = Path(__file__).parents[1] / "src/synopsis_writer/gate/data/verb_forms.txt"
HEADER = """\
# Third persons, singular and plural, of the 3,400 German verbs that HanTa's model knows: those that are of
# one tense alone. Written by tools/verb_forms.py; not edited by hand. `steht auf` is listed as `steht`, as
# in a main clause, and as `aufsteht`, as in a subordinate one.
# Conjugated by ablaut 0.11.0, Copyright (c) 2026 v4nn4, MIT licence: its text is in the NOTICE file.
"""
IRREGULAR = "sein haben werden dürfen können mögen müssen sollen wollen wissen".split()
SHORT_ENDING = re.compile(r"(?<!i)e[lr]$")  # wandel-n, flüster-n, but führ-en, regier-en


def infinitives() -> list[str]:
    """Return the verbs whose stems the model knows."""
    model = HanoverTagger("morphmodel_ger.pgz")
    stems = {stem for name in ("VV", "VVnp") for stem in model.LP_m_t[model.tag2int[name]]}
    return IRREGULAR + [stem + ("n" if SHORT_ENDING.search(stem) else "en") for stem in sorted(stems)]


def forms(verbs: Iterable[str]) -> tuple[set[str], set[str]]:
    """Return the forms of the present alone, and those of the preterite alone."""
    present: set[str] = set()
    preterite: set[str] = set()
    for verb in verbs:
        try:
            table = ablaut.conjugate(verb)
        except ValueError:  # a stem of a foreign verb
            continue
        present |= third_persons(table.present)
        preterite |= third_persons(table.preterite)
    return present - preterite, preterite - present


def third_persons(row: Sequence[str]) -> set[str]:
    """Return both of a row of six persons, `steht auf` as `steht` and `aufsteht`."""
    parts = [form.split() for form in (row[2], row[5])]
    return {form for part in parts for form in (part[0], "".join(reversed(part)))}


def main() -> None:
    """Write the file."""
    present, preterite = forms(infinitives())
    lines = [*HEADER.splitlines(), "[present]", *sorted(present), "[preterite]", *sorted(preterite)]
    FILE.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
