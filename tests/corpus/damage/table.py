"""The table of corruptions: the name of each, the check that must refuse it, and how it is done."""

from dataclasses import dataclass, replace

from synopsis_writer.house import Ending, built_in_house
from tests.corpus.damage import dress, letters, matter, shape
from tests.corpus.damage.draft import Change, Draft, TextChange, before, behind, inserting, on_text, replacing


@dataclass(frozen=True)
class Damage:
    """One kind of corruption.

    A damage that finds nothing to damage returns the draft as it is, and is not counted for it.

    Attributes:
        name: what is wrong with the text, in a few words.
        check: the check that must refuse it, since it is the one that can name the reason.
        change: makes a damaged draft of a good one.
    """

    name: str
    check: str
    change: Change


def _text(name: str, check: str, change: TextChange) -> Damage:
    return Damage(name, check, on_text(change))


def _only(change: TextChange, ending: Ending) -> Change:
    """Corrupt the forms that end open, or those that end closed."""
    forms = built_in_house().forms
    return lambda draft: on_text(change)(draft) if forms[draft.brief.form].ending == ending else draft


def _cut_by_the_server(draft: Draft) -> Draft:
    return replace(draft, text=shape.cut_behind_sentence(draft.text), truncated=True)


def _speech_where_none_belongs(draft: Draft) -> Draft:
    return draft if draft.brief.form == "episode" else inserting("lines", 2)(draft)


DAMAGES = (
    _text("empty", "length", shape.nothing),
    _text("only spaces", "length", shape.only_spaces),
    _text("too short", "length", shape.beginning_only),
    _text("too long", "length", shape.far_too_long),
    _text("one paragraph", "paragraphs", shape.one_paragraph),
    _text("a paragraph for each sentence", "paragraphs", shape.paragraph_for_each_sentence),
    _text("endless sentence", "rhythm", shape.endless_sentence),
    _text("monotone sentences", "rhythm", shape.monotone),
    _text("staccato", "rhythm", shape.staccato),
    _text("long-winded sentences", "rhythm", shape.long_winded),
    Damage("whole English", "language", replacing("english")),
    _text("half English", "language", matter.half_english),
    _text("one English sentence", "language", matter.english_sentence),
    Damage("one foreign sentence", "language", inserting("foreign")),
    Damage("German mixed with English", "language", inserting("mixed")),
    _text("cut in mid-word", "ending", shape.cut_in_word),
    _text("cut in mid-sentence", "ending", shape.cut_behind_word),
    Damage("cut at a sentence end", "ending", _cut_by_the_server),
    _text("quotation left open", "ending", shape.quotation_left_open),
    Damage("bullet list", "markup", dress.last_paragraph(dress.bullets)),
    Damage("numbered list", "markup", dress.last_paragraph(dress.numbers)),
    Damage("Markdown headings", "markup", dress.headings),
    Damage("title as a line of its own", "markup", dress.title_line),
    Damage("bold names", "markup", dress.bold_names),
    _text("italics", "markup", dress.italics),
    _text("HTML", "markup", dress.html),
    Damage("JSON", "markup", dress.as_json),
    _text("code fence", "markup", dress.around("```\n", "\n```")),
    Damage("table", "markup", dress.cast_table),
    _text("script form", "markup", dress.script),
    _text("speaker labels", "markup", dress.speaker_labels),
    _text("emoji", "markup", dress.emoji),
    Damage("hashtag", "markup", dress.hashtag),
    _text("link", "markup", dress.link),
    _text("invisible character", "markup", dress.invisible),
    _text("control character", "markup", dress.control),
    _text("English quotes", "markup", dress.quotation_marks("“", "”")),
    _text("straight quotes", "markup", dress.quotation_marks('"', '"')),
    _text("guillemets", "markup", dress.quotation_marks("»", "«")),
    Damage("meta preface", "meta_talk", before("prefaces")),
    Damage("meta postscript", "meta_talk", behind("postscripts")),
    Damage("refusal", "meta_talk", before("refusals")),
    Damage("chat-template token", "meta_talk", behind("chat")),
    Damage("brief repeated", "meta_talk", dress.brief_repeated),
    Damage("title repeated", "meta_talk", dress.title_repeated),
    _text("exclamations", "exclamations", shape.exclamations),
    _text("sentence in capitals", "exclamations", letters.sentence_in_capitals),
    Damage("told by the hero", "person", matter.told_by_the_hero),
    Damage("whole text in first person", "person", replacing("first_person")),
    Damage("reader addressed", "person", inserting("address")),
    _text("dialogue flood", "dialogue", shape.flood_of_speech),
    Damage("speech where none belongs", "dialogue", _speech_where_none_belongs),
    Damage("wrong tense", "tense", matter.wrong_tense),
    _text("umlauts written out", "umlauts", letters.umlauts_spelt_out),
    _text("ß spelt ss", "umlauts", letters.sharp_s_spelt),
    _text("mojibake", "umlauts", letters.mojibake),
    _text("letters lost to an encoding", "umlauts", letters.lost_letters),
    _text("garbled letters", "spelling", letters.garbled),
    _text("many typos", "spelling", letters.typos),
    _text("dialect spelling", "spelling", letters.dialect),
    _text("nonsense words", "spelling", letters.nonsense_words),
    _text("wrong articles", "agreement", letters.wrong_articles),
    _text("prompt leak", "copy", matter.prompt_leak),
    Damage("one copied sentence", "copy", matter.copied_sentence),
    Damage("copied paragraph", "copy", matter.copied_paragraph),
    Damage("example under invented names", "copy", matter.copied_with_other_names),
    Damage("example under the brief's names", "copy", matter.copied_with_own_names),
    _text("loop of words", "repetition", shape.loop_of_words),
    _text("loop of sentences", "repetition", shape.loop_of_sentences),
    _text("loop of paragraphs", "repetition", shape.loop_of_paragraphs),
    _text("soft loop", "repetition", shape.soft_loop),
    _text("three sentences begin alike", "repetition", shape.same_opening),
    _text("one noun for all", "repetition", letters.one_noun_for_all),
    Damage("stock phrase", "floskel", inserting("phrases")),
    Damage("impossible day or hour", "consistency", inserting("impossible")),
    Damage("wrong theme", "theme", matter.wrong_theme),
    Damage("sermon of formulas", "theme", replacing("sermon")),
    Damage("people of another show", "cast", matter.people_of_another_show),
    Damage("guest from another show", "cast", matter.guest_of_another_show),
    Damage("people of the brief missing", "cast", matter.people_of_the_brief_missing),
    Damage("crowd of strangers", "cast", matter.crowd_of_strangers),
    Damage("person changes the last name", "cast", matter.changed_last_name),
    _text("questions only", "hook", shape.questions_only),
    Damage("open ending in a closed form", "hook", _only(shape.question_at_the_end, "closed")),
    Damage("closed ending in an open form", "hook", _only(shape.no_question_at_the_end, "question")),
    Damage("invented date", "dates", inserting("dates")),
    Damage("invented channel or episode", "dates", inserting("broadcasts")),
)
