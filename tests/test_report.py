import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from functools import cache
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synopsis_writer.evals.metrics import METRICS, Comparison, Scored, compare
from synopsis_writer.evals.record import AttemptLine, PromptTexts, Row, RunInfo, write_prompts
from synopsis_writer.evals.report import (
    decimals,
    format_duration,
    format_number,
    format_time,
    format_total,
    highlight,
    render_report,
)
from synopsis_writer.evals.suite import Case
from tests.browser.run_data import DEMO, REAL, accepted, info_of, refused, results_of, scored_rows, shapeless, suite

MODELS = (*REAL, DEMO)
CASES = suite()[:4]
HOSTILE = "</title></script><script>alert(1)</script><img src=x onerror=alert(1)> {{ 7 * 7 }} javascript:alert(1)"


class Elements(HTMLParser):
    """All elements with their attributes, and the text of styles and scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inline: dict[str, str] = {}
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.cdata_elem:
            self.inline[self.cdata_elem] = self.inline.get(self.cdata_elem, "") + data


def row_of(case: Case, attempts: Sequence[AttemptLine] = (), **more: object) -> Row:
    fields = {
        "case": case.id, "model": REAL[0], "prompt": "stand", "repeat": 0, "outcome": "refused",
        "attempts": tuple(attempts), "best": None,
    }  # fmt: skip
    return Row.model_validate(fields | more)


def page_of(
    scored: Sequence[Scored],
    cases: Sequence[Case] = CASES,
    info: RunInfo | None = None,
    comparisons: Sequence[Comparison] = (),
) -> str:
    info = info or info_of(CASES, MODELS, 1)
    return render_report(results_of(info, scored, cases), comparisons)


def page_of_row(row: Row, cases: Sequence[Case] = CASES) -> str:
    return page_of([Scored(row, dict.fromkeys(METRICS))], cases)


@cache
def whole() -> tuple[Scored, ...]:
    return tuple(scored_rows(CASES, MODELS, 1))


def test_nothing_in_the_page_needs_anything_outside_it() -> None:
    for tag, attributes in Elements(page_of(whole())).tags:
        assert tag not in {"link", "img", "iframe", "object", "embed", "base", "form"}
        for name, value in attributes.items():
            assert not name.startswith("on")
            assert name not in {"style", "src", "srcset", "action"}
            assert name != "href" or (value or "").startswith("#")


def test_the_policy_names_the_very_style_and_script_of_the_page() -> None:
    page = page_of(whole())
    policies = [
        attributes["content"]
        for tag, attributes in Elements(page).tags
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    inline = Elements(page).inline
    hashes = {
        tag: base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
        for tag, text in inline.items()
    }
    (policy,) = policies
    assert policy == (
        f"default-src 'none'; script-src 'sha256-{hashes['script']}'; style-src 'sha256-{hashes['style']}'; "
        "base-uri 'none'; form-action 'none'"
    )


def test_the_text_of_models_cases_and_errors_is_escaped() -> None:
    brief = CASES[0].brief.model_copy(update={"theme": HOSTILE, "notes": HOSTILE})
    paragraph = CASES[0].reference.paragraphs[0].model_copy(update={"text": HOSTILE})
    bad = CASES[0].reference.model_copy(update={"title": HOSTILE, "logline": HOSTILE, "paragraphs": (paragraph,)})
    case = replace(CASES[0], brief=brief, reference=bad, facts=(HOSTILE,))
    no_text = shapeless(case).model_copy(update={"answer": HOSTILE, "problems": (HOSTILE,)})
    refusal = {"passed": False, "checks": ("theme",), "problems": (f"theme: {HOSTILE}",)}
    text = accepted(bad).model_copy(update={"spans": ((10, 40),)} | refusal)
    row = row_of(case, (no_text, text), best=1, outcome="failed", error=HOSTILE, model=HOSTILE, answered="x" + HOSTILE)
    info = replace(info_of([case], [HOSTILE], 1), name=HOSTILE, prompts={"stand": HOSTILE})
    page = page_of([Scored(row, dict.fromkeys(METRICS))], [case], info)
    tags = [tag for tag, _ in Elements(page).tags]
    assert tags.count("script") == tags.count("title") == 1
    assert "img" not in tags
    assert "{{ 7 * 7 }}" in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert page.count('<p class="error">') == 1


def test_the_headings_leave_out_no_level() -> None:
    levels = [int(tag[1]) for tag, _ in Elements(page_of(whole())).tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_every_header_cell_has_a_scope() -> None:
    cells = [attributes for tag, attributes in Elements(page_of(whole())).tags if tag == "th"]
    assert cells
    assert {attributes.get("scope") for attributes in cells} == {"col", "row"}


def test_an_incomplete_run_says_so_and_names_the_cases_without_a_result() -> None:
    some = [each for each in whole() if each.row.id.case != CASES[0].id]
    page = page_of(some)
    assert "<b>Incomplete.</b>" in page
    assert f"{len(some)} of 24 planned results are here" in page
    assert f"Without any result so far: {CASES[0].id}." in page


def test_held_out_cases_are_counted() -> None:
    known = [replace(case, split=None) for case in CASES]
    assert "held-out" not in page_of(whole(), known)
    assert "(1 held-out)" in page_of(whole(), [replace(known[0], split="held-out"), *known[1:]])


def test_a_complete_run_has_no_such_banner() -> None:
    info = replace(info_of(CASES, REAL, 1), prompts={"stand": "5f2c9a77b1d04e3c"})
    scored = [each for each in whole() if each.row.id.model in REAL and each.row.id.prompt == "stand"]
    page = page_of(scored, info=info)
    assert "Incomplete" not in page
    assert "Demo drafts" not in page


def test_demo_drafts_are_marked_in_banner_summary_table_and_chart() -> None:
    page = page_of(whole())
    demo = sum(each.row.id.model == DEMO for each in whole())
    assert f"{demo} results are assembled by the program" in page
    assert '<span class="badge demo">demo drafts</span>' in page
    assert page.count('<span class="badge demo">demo</span>') == demo
    assert '<li class="demo">' in page


def test_a_run_without_any_result_still_gives_a_page() -> None:
    page = page_of([])
    assert "0 of 24 planned results are here" in page
    assert "Unscored in every group." in page
    assert "There are no results yet." in page


def test_a_metric_without_a_value_is_unscored_and_counted() -> None:
    rows = [row_of(CASES[0], [accepted(CASES[0].reference)], best=0, repeat=place) for place in range(3)]
    values = (0.25, None, 0.75)
    scored = [Scored(row, dict.fromkeys(METRICS) | {"facts": value}) for row, value in zip(rows, values, strict=True)]
    page = page_of(scored)
    assert "<b>0.50</b>" in page
    assert "1 unscored" in page
    assert '<td class="none">unscored</td>' in page
    assert '<td data-value="0.25">0.25</td>' in page


def test_a_case_that_left_the_suite_is_shown_without_brief_and_reference() -> None:
    row = row_of(CASES[0], [accepted(CASES[0].reference)], best=0, outcome="accepted")
    page = page_of_row(row, CASES[1:])
    assert "This case is no longer in the suite" in page
    assert CASES[0].reference.paragraphs[0].text in page
    assert '<div class="reference"' not in page


def test_a_failed_row_shows_its_error_and_no_text() -> None:
    page = page_of_row(row_of(CASES[0], outcome="failed", error="the server answered 503"))
    assert "<b>Error:</b> the server answered 503" in page
    assert "There is no answer." in page
    assert "unpriced" in page


def test_an_answer_without_structure_is_shown_as_received_and_shortened_if_too_long() -> None:
    long = shapeless(CASES[0]).model_copy(update={"answer": "x" * 7_500})
    page = page_of_row(row_of(CASES[0], [long, shapeless(CASES[0])]))
    assert "No answer had the structure of a synopsis." in page
    assert "x" * 6_000 + "</pre>" in page
    assert "1,500 more characters are in results.jsonl." in page
    assert shapeless(CASES[0]).answer[:40] in page


def test_no_answer_is_printed_twice() -> None:
    bad, good = refused(CASES[0])[0], accepted(CASES[1].reference)
    page = page_of_row(row_of(CASES[0], [bad, bad, good], best=2, outcome="accepted"), CASES[2:])
    assert bad.synopsis is not None
    assert page.count(good.answer and CASES[1].reference.paragraphs[-1].text) == 1
    assert page.count(bad.synopsis.paragraphs[-1].text) == 1
    assert "identical to answer 1" in page
    assert "its text is above" in page


def test_findings_are_underlined_where_they_point_and_listed_below() -> None:
    synopsis = CASES[0].reference
    one, two = synopsis.paragraphs[0].text, synopsis.paragraphs[1].text
    spans = ((0, 5), (3, 9), (len(one) - 4, len(one) + 2 + 6))  # two overlap, and one runs over a blank line
    attempt = AttemptLine(
        number=1, passed=False, problems=("cast: nobody turns up",), checks=("cast",), spans=spans,
        answer=synopsis.as_json(), synopsis=synopsis,
    )  # fmt: skip
    page = page_of_row(row_of(CASES[0], [attempt], best=0))
    assert re.findall("<mark>(.*?)</mark>", page) == [one[:9], one[-4:], two[:6]]
    assert "<li>cast: nobody turns up</li>" in page


def test_a_verdict_is_shown_only_where_a_comparison_gives_one() -> None:
    a, b = (
        [
            Scored(row_of(case, repeat=place), dict.fromkeys(METRICS) | {"facts": value, "length_ratio": 1.0})
            for place, case in enumerate(suite()[:8])
        ]
        for value in (0.2, 0.9)
    )
    contest = Comparison("old", "new", tuple(compare(a, b, name) for name in ("facts", "length_ratio", "cost")))
    page = page_of(a, comparisons=[contest])
    verdicts = re.findall(r'</td><td>([^<]*)</td><td class="minor">\d+, \d+, \d+</td>', page)
    assert verdicts == ["better", "for information only", "nothing to compare"]
    assert 'new <span class="note">compared with</span> old' in page
    comparison = page[page.index('<section id="comparisons"') : page.index('<section id="findings"')]
    heads = re.findall(r'<th scope="col">(.*?)</th>', comparison)  # what a phone shows
    assert heads == ["Metric", "Difference, 95&nbsp;% interval", "Verdict on the first"]
    assert 'id="comparisons"' not in page_of(a)


@pytest.mark.parametrize(
    ("values", "places"),
    [([], 0), ([0.0], 0), ([0.5, 1.0], 2), ([0.31], 2), ([0.004], 4), ([41.2], 1), ([9432.0, None], 0)],
)
def test_three_digits_of_the_largest_figure_are_shown(values: list[float | None], places: int) -> None:
    assert decimals(values) == places


@pytest.mark.parametrize(
    ("value", "places", "shown"),
    [(None, 2, "unscored"), (12345.6, 0, "12,346"), (-0.25, 2, "−0.25"), (-0.0001, 2, "0.00"), (0.1, 3, "0.100")],
)
def test_a_number_reads_well(value: float | None, places: int, shown: str) -> None:
    assert format_number(value, places) == shown


@pytest.mark.parametrize(("seconds", "shown"), [(3.44, "3.4 s"), (320.0, "5 min 20 s"), (7_500.0, "2 h 05 min")])
def test_a_time_reads_well(seconds: float, shown: str) -> None:
    assert format_duration(seconds) == shown


def test_an_impossible_date_stays_as_it_is() -> None:
    assert format_time("2026-11-21T08:15:30+00:00") == "2026-11-21 08:15 UTC"
    assert format_time("last week") == "last week"


def test_costs_are_summed_per_currency_and_unpriced_rows_are_counted() -> None:
    paid = row_of(CASES[0], amount=Decimal("0.5"), currency="USD")
    assert format_total([paid, paid]) == "1.00 USD"
    assert format_total([paid, row_of(CASES[0])]) == "0.5000 USD, and 1 of 2 results unpriced"
    assert format_total([row_of(CASES[0])]) == "unpriced"
    failed = row_of(CASES[0], amount=Decimal(0))
    assert format_total([failed, row_of(CASES[0])]) == "unpriced"
    assert format_total([row_of(CASES[0], amount=Decimal(0))]) == format_total([]) == "no cost"
    assert format_total([paid, row_of(CASES[0], amount=Decimal(2), currency="EUR")]) == "0.5000 USD and 2.00 EUR"


def page_with(values: dict[str, Sequence[float | None]], metric: str = "facts") -> str:
    """The report of a run with one group per name, in which each row has one of its values."""
    info = replace(info_of(CASES, list(values), 1), prompts={"stand": "5f2c9a77b1d04e3c"})
    scored = [
        Scored(row_of(case, model=model), dict.fromkeys(METRICS) | {metric: value})
        for model, series in values.items()
        for case, value in zip(suite(), series, strict=False)
    ]
    return page_of(scored, suite()[: max(map(len, values.values()))], info)


def chart_in(page: str, metric: str = "facts told") -> str:
    (chart,) = re.findall(f"<figure><figcaption><h3>{metric}</h3>.*?</figure>", page, re.DOTALL)
    return str(chart)


def test_a_chart_places_dots_and_ends_in_its_box() -> None:
    chart = chart_in(page_with({"a": [0.0, 1.0], "b": [None, None]}))
    assert '<line class="interval" x1="0.0%" x2="100.0%"' in chart
    assert 'class="dot" cx="50.0%"' in chart
    assert chart.count('class="dot"') == 1
    assert re.findall('<span class="value">(.*?)</span>', chart) == ["0.50 (0.00 to 1.00)", "unscored"]
    assert re.findall("<span>(.*?)</span>", chart) == ["0.00", "1.00"]


@settings(max_examples=25)
@given(st.lists(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=6), min_size=1, max_size=3))
def test_a_box_holds_all_intervals(series: list[list[float]]) -> None:
    chart = chart_in(page_with({f"m{number}": values for number, values in enumerate(series)}))
    spots = [float(spot) for spot in re.findall(r'(?:x1|x2|cx)="([-0-9.]+)%"', chart)]
    assert all(0 <= spot <= 100 for spot in spots)
    assert len(spots) == len(series) * 4  # the track, and both ends and the mean of each interval


@pytest.mark.parametrize(
    ("value", "spot", "ends"),
    [(5.0, "100.0", ["0.00", "5.00"]), (-5.0, "0.0", ["−5.00", "0.00"]), (0.0, "0.0", ["0", "1"])],
)
def test_a_single_value_is_shown_from_zero(value: float, spot: str, ends: list[str]) -> None:
    chart = chart_in(page_with({"a": [value, value]}))
    assert f'cx="{spot}%"' in chart
    assert re.findall("<span>(.*?)</span>", chart) == ends


def test_without_any_value_there_is_no_chart() -> None:
    assert "Unscored in every group." in chart_in(page_with({"a": [None]}))


def test_bars_are_as_long_as_findings_are_frequent() -> None:
    checks = [("ending",), ("ending", "cast"), ("ending",), ("ending",)]
    rows = [
        row_of(case, [shapeless(case).model_copy(update={"checks": names, "problems": problems})])
        for case, names in zip(CASES, checks, strict=True)
        for problems in [tuple(f"{name}: So." for name in names)]
    ]
    page = page_of([Scored(row, dict.fromkeys(METRICS)) for row in [*rows, *map(row_of, suite()[4:8])]])
    (bars,) = re.findall('<ul class="bars">(.*?)</ul>', page, re.DOTALL)
    assert re.findall('<span class="name">(.*?)</span>', bars) == ["ending", "cast"]
    assert re.findall('<rect width="(.*?)"', bars) == ["100.0%", "25.0%"]
    assert re.findall('<span class="value">(.*?)</span>', bars) == ["4 (0.50)", "1 (0.12)"]


def test_spans_that_overlap_or_touch_become_one() -> None:
    synopsis, spans = CASES[0].reference, [(5, 9), (0, 3), (3, 4), (8, 12), (20, 20)]
    text = synopsis.paragraphs[0].text
    pieces = [(text[:4], True), (text[4], False), (text[5:12], True), (text[12:], False)]
    assert highlight(synopsis, spans)[0] == (synopsis.paragraphs[0].storyline, tuple(pieces))


@given(st.lists(st.tuples(st.integers(-5, 3000), st.integers(-5, 3000)), max_size=8))
def test_highlights_lose_no_character_of_the_text(spans: list[tuple[int, int]]) -> None:
    synopsis = CASES[0].reference
    passages = highlight(synopsis, spans)
    assert ["".join(text for text, _ in pieces) for _, pieces in passages] == [
        paragraph.text for paragraph in synopsis.paragraphs
    ]
    assert [storyline for storyline, _ in passages] == [each.storyline for each in synopsis.paragraphs]


def test_template_style_and_script_are_next_to_the_module() -> None:
    import synopsis_writer.evals.report as module

    here = Path(module.__file__).parent
    assert {path.name for path in here.glob("report.*")} >= {"report.html.j2", "report.css", "report.js"}


def verdict_page(problems: list[str] | None) -> str:
    run = results_of(info_of(CASES, MODELS, 1), whole(), CASES)
    before = replace(run.info, name="before", models=REAL[:1], prompts={"stand": "0"})
    own = [each for each in whole() if each.row.model == REAL[0] and each.row.prompt == "stand"]
    return render_report(run, problems=problems, against=results_of(before, own, CASES))


def test_the_verdict_and_what_is_missed_come_first() -> None:
    missed = verdict_page(["passed is 0.4, at least <b>0.5</b> is required", "facts is unscored"])
    banner = missed[missed.index('<div class="banner failed">') : missed.index("<main>")]
    assert "<b>Not passed:</b> 2 problems." in banner
    assert "<li>passed is 0.4, at least &lt;b&gt;0.5&lt;/b&gt; is required</li>" in banner
    assert "<b>Passed.</b>" in verdict_page([])
    assert "assed.</b>" not in page_of(whole())


def test_the_run_compared_with_is_in_every_chart() -> None:
    page = verdict_page([])
    charts = re.findall(r'<ul class="chart">.*?</ul>', page, re.DOTALL)
    assert len(charts) > 8
    assert all(chart.count("before: ") == 1 and chart.count('class="other"') == 1 for chart in charts)


def test_metrics_of_one_range_share_an_axis() -> None:
    scored = [Scored(each.row, {**each.scores, "facts": 0.25, "characters": 0.75}) for each in whole()]
    page = page_of(scored)
    names = ("facts told", "people of the reference", "kind of ending")  # 0 to 1, and 0 or 1
    facts, people, ending = (re.findall("<span>(.*?)</span>", chart_in(page, name)) for name in names)
    assert facts == people == ending
    assert float(facts[0]) <= 0.25
    assert float(facts[1]) >= 0.75


def test_cases_with_trouble_come_first() -> None:
    scored = [
        Scored(each.row.model_copy(update={"outcome": "failed" if each.row.case == worst else "accepted"}), each.scores)
        for worst in [CASES[2].id]
        for each in whole()
    ]
    names = re.findall(r"<summary><h3>(.*?)</h3>", page_of(scored))
    assert names == [CASES[index].reference.title for index in (2, 0, 1, 3)]


def test_a_phone_gets_the_columns_that_matter() -> None:
    page = page_of(whole())
    shown = re.findall(r'<th scope="col" data-sort="\w+"(?: data-direction="-?\d")?>(.*?)</th>', page)
    assert shown == ["Case", "Model", "Outcome", METRICS["facts"].name]


def prompts_of(info: RunInfo, texts: PromptTexts, before: tuple[RunInfo, PromptTexts] | None = None) -> str:
    with TemporaryDirectory() as folder:
        runs = []
        for name, (each, saved) in zip("ab", [(info, texts), *([before] if before else [])], strict=False):
            write_prompts(Path(folder, name), saved)
            runs.append(results_of(each, [], CASES, Path(folder, name)))
        page = render_report(runs[0], against=runs[1] if before else None)
    return page[page.index('<section id="prompts"') : page.index('<section id="results"')]


RUN = replace(info_of(CASES, MODELS, 1), name="now", prompts={"stand": "1"})
BEFORE = replace(RUN, name="before", prompts={"alt": "0"})


def test_templates_are_shown_folded_as_text_and_escaped() -> None:
    part = prompts_of(RUN, {"stand": {"system.md": f"Du schreibst.\n{HOSTILE}\n"}})
    assert "<details><summary>" in part
    assert "<details open" not in part
    assert ">Du schreibst.\n&lt;/title&gt;" in part
    assert "<ins>u" in part  # the legend alone
    assert part.count("<ins>") == part.count("<del>") == 1


@pytest.mark.parametrize(
    ("old", "new", "status", "shown"),
    [
        ({"a.md": "Eins zwei."}, {"a.md": "Eins drei."}, "changed", "Eins <del>zwei</del><ins>drei</ins>."),
        ({"a.md": "Eins.\n"}, {"a.md": "Eins."}, "unchanged", "Eins."),
        ({}, {"a.md": "<b>"}, "added", "<ins>&lt;b&gt;</ins>"),
        ({"a.md": "Eins."}, {}, "removed", "<del>Eins.</del>"),
    ],
)
def test_words_that_differ_between_versions_are_marked(
    old: dict[str, str], new: dict[str, str], status: str, shown: str
) -> None:
    within = prompts_of(replace(RUN, prompts={"alt": "0", "stand": "1"}), {"alt": old, "stand": new})
    for part in (prompts_of(RUN, {"stand": new}, (BEFORE, {"alt": old})), within):
        (compared,) = re.findall(r"compared with (?:before: )?alt</span></h3>(.*)", part, re.DOTALL)
        assert f'<span class="note">{status}</span>' in compared
        assert re.findall("<pre[^>]*>(.*?)</pre>", compared, re.DOTALL) == [shown]


def test_a_version_is_compared_with_the_one_of_its_name() -> None:
    before = replace(BEFORE, prompts={"alt": "0", "stand": "2"})
    part = prompts_of(RUN, {"stand": {}}, (before, {"alt": {}, "stand": {}}))
    assert re.findall("compared with (.*?)</span>", part) == ["before: stand"]


def test_a_run_without_saved_templates_says_so() -> None:
    assert "The templates of stand were not saved" in prompts_of(RUN, {})
    compared = prompts_of(RUN, {"stand": {"a.md": "Eins."}}, (BEFORE, {}))
    assert "The templates of before: alt were not saved" in compared
    assert ">Eins.</pre>" in compared
