from pathlib import Path

from synopsis_writer.gate import form, lexicon

LINES = (lexicon._DATA / "verb_forms.txt").read_text(encoding="utf-8").splitlines()
PRESENT = LINES[LINES.index("[present]") + 1 : LINES.index("[preterite]")]
PRETERITE = LINES[LINES.index("[preterite]") + 1 :]


def test_the_forms_are_sorted_and_of_one_tense_alone() -> None:
    assert sorted(set(PRESENT)) == PRESENT
    assert sorted(set(PRETERITE)) == PRETERITE
    assert not set(PRESENT) & set(PRETERITE)


def test_each_form_is_looked_up_with_its_tense() -> None:
    known = dict.fromkeys(PRESENT, "present") | dict.fromkeys(PRETERITE, "preterite")
    assert form._known_forms() == known
    assert len(known) > 13_000


def test_the_licence_of_the_forms_travels_with_them() -> None:
    assert "Copyright (c) 2026 v4nn4" in "".join(LINES[:8])
    notice = Path(__file__).parents[1].joinpath("NOTICE").read_text(encoding="utf-8")
    assert "Copyright (c) 2026 v4nn4\n\nPermission is hereby granted, free of charge" in notice
