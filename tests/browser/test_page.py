"""The report in a real browser: Debian's Chromium, driven over a pipe."""

import re
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from synopsis_writer.evals.metrics import METRICS, Scored
from synopsis_writer.evals.record import Row, RunInfo
from synopsis_writer.evals.report import render_report
from tests.browser.run_data import DEMO, REAL, accepted, info_of, results_of, scored_rows, shapeless, suite

pytestmark = pytest.mark.browser
sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is missing: pip install --group dev")
CASES = suite()[:5]
MODELS = (*REAL, DEMO)
# What would run if a model's text were taken as markup or as a template.
HOSTILE = (
    "</p></script><script>window.ran = 1</script><img src=x onerror='window.ran = 2'>"
    "<a href='javascript:window.ran = 3'>x</a> {{ 7 * 7 }}"
)
WATCH = """
window.violations = [];
addEventListener("securitypolicyviolation", (event) => window.violations.push(event.violatedDirective));
"""
CONTRAST = """(selectors) => {
  const parse = (colour) => colour.match(/[0-9.]+/g).map(Number);
  const light = (colour) => {
    const [r, g, b] = colour.map((part) => part / 255).map(
      (part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    for (let part = element; part; part = part.parentElement) {
      const colour = parse(getComputedStyle(part).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  return selectors.map((selector) => {
    const element = document.querySelector(selector);
    const style = getComputedStyle(element);
    const ink = light(parse(element instanceof SVGElement ? style.fill : style.color));
    const paper = light(ground(element));
    return (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
  });
}"""


@pytest.fixture(scope="module")
def scored() -> list[Scored]:
    rows = list(scored_rows(CASES, MODELS, 2))
    assert {each.row.outcome for each in rows} == {"accepted", "refused", "failed"}
    return rows


def written(folder: Path, info: RunInfo, scored: list[Scored], cases: Any = CASES) -> str:
    page = folder / "report.html"
    page.write_text(render_report(results_of(info, scored, cases)), encoding="utf-8")
    return page.as_uri()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, scored: list[Scored]) -> str:
    return written(tmp_path_factory.mktemp("report"), info_of(CASES, MODELS, 2), scored)


@contextmanager
def opened(chromium: Any, address: str, **options: Any) -> Iterator[Any]:
    """Open the page; at the end nothing may have been complained of, refused or fetched."""
    context = chromium.new_context(**({"viewport": {"width": 1280, "height": 900}} | options))
    context.add_init_script(WATCH)
    page = context.new_page()
    reported: list[str] = []
    page.on("console", lambda message: reported.append(message.text))
    page.on("pageerror", lambda error: reported.append(str(error)))
    page.on("request", lambda request: reported.append(request.url) if request.url != address else None)
    page.goto(address)
    try:
        yield page
        if options.get("java_script_enabled", True):
            assert page.evaluate("window.violations") == []
        assert reported == []
    finally:
        context.close()


def column(page: Any, head: str) -> list[float | None]:
    """The figures of a column of the results, in the order of the rows that are seen."""
    return page.evaluate(  # type: ignore[no-any-return] # what JavaScript gives
        """(head) => {
          const place = [...document.querySelectorAll("#table th[data-sort]")].findIndex(
            (each) => each.textContent.trim() === head);
          return [...document.querySelectorAll("#table tbody tr:not([hidden])")].map((row) =>
            "value" in row.cells[place].dataset ? Number(row.cells[place].dataset.value) : null);
        }""",
        head,
    )


def test_the_page_opens_without_errors(chromium: Any, address: str, scored: list[Scored]) -> None:
    with opened(chromium, address) as page:
        assert page.title() == "herbst-vergleich: eval report"
        assert page.locator("#table tbody tr").count() == len(scored)
        assert page.locator("#charts svg").count() >= 10
        assert page.get_by_text(f"{len(scored)} of {len(scored)} results").is_visible()


def test_the_policy_allows_no_other_script_style_or_image(chromium: Any, address: str) -> None:
    context = chromium.new_context()
    context.add_init_script(WATCH)
    page = context.new_page()
    page.goto(address)
    page.evaluate(
        """() => {
          for (const [tag, text] of [["script", "window.ran = 1"], ["style", "body { color: red }"]]) {
            const element = document.createElement(tag);
            element.textContent = text;
            document.body.append(element);
          }
          const image = document.createElement("img");
          image.src = "data:image/gif;base64,R0lGODlhAQABAAAAACw=";
          document.body.append(image);
        }"""
    )
    page.wait_for_function("window.violations.length >= 3")
    assert set(page.evaluate("window.violations")) == {"script-src-elem", "style-src-elem", "img-src"}
    assert page.evaluate("window.ran") is None
    context.close()


@pytest.mark.parametrize(("head", "first"), [("chrF", "descending"), ("seconds", "ascending"), ("cost", "ascending")])
def test_a_column_sorts_best_first_and_then_the_other_way(chromium: Any, address: str, head: str, first: str) -> None:
    with opened(chromium, address) as page:
        button = page.get_by_role("button", name=head, exact=True)
        for order in (first, "ascending" if first == "descending" else "descending"):
            button.click()
            values = column(page, head)
            known = [value for value in values if value is not None]
            assert page.locator(f'#table th[aria-sort="{order}"]').inner_text().startswith(head)
            assert page.locator("#table th[aria-sort]").count() == 1
            assert known == sorted(known, reverse=order == "descending")
            assert None in values
            assert values[: len(known)] == known  # what is unscored stands last, either way


def test_a_column_of_words_sorts_by_them(chromium: Any, address: str) -> None:
    with opened(chromium, address) as page:
        page.get_by_role("button", name="Outcome").click()
        outcomes = page.locator("#table tbody tr td:nth-child(6)").all_inner_texts()
        assert outcomes == sorted(outcomes)


def test_sorting_works_by_keyboard_and_the_focus_is_visible(chromium: Any, address: str) -> None:
    with opened(chromium, address) as page:
        page.locator("#outcome").focus()
        page.keyboard.press("Tab")  # the table, which scrolls
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Case"
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        page.keyboard.press("Enter")
        assert page.locator('#table th[aria-sort="ascending"]').inner_text().startswith("Case")


def test_the_filters_leave_what_fits_in_table_and_cases(chromium: Any, address: str, scored: list[Scored]) -> None:
    case = CASES[1]
    with opened(chromium, address) as page:
        page.locator("#find").fill(f"{case.id} {REAL[0].upper()}")
        wanted = [each for each in scored if (each.row.id.case, each.row.id.model) == (case.id, REAL[0])]
        assert page.locator("#shown").inner_text() == f"{len(wanted)} of {len(scored)} results"
        assert page.locator("#table tbody tr:visible").count() == len(wanted)
        assert page.locator("details.case:visible").count() == 1
        page.locator("#find").fill("")
        page.locator("#outcome").select_option("failed")
        failed = [each for each in scored if each.row.outcome == "failed"]
        assert page.locator("#table tbody tr:visible .badge.failed").count() == len(failed)
        page.locator("#find").fill("nothing is called like this")
        assert page.locator("#table tbody tr:visible").count() == 0


def test_the_form_is_detected_too(chromium: Any, address: str, scored: list[Scored]) -> None:
    form = CASES[0].brief.form
    fitting = {case.id for case in CASES if case.brief.form == form}
    with opened(chromium, address) as page:
        page.locator("#find").fill(form)
        rows = sum(each.row.id.case in fitting for each in scored)
        assert 0 < rows < len(scored)
        assert page.locator("#table tbody tr:visible").count() == rows


def test_a_result_of_the_table_leads_to_its_text(chromium: Any, address: str) -> None:
    with opened(chromium, address) as page:
        link = page.locator("#table tbody tr[data-outcome=refused] a").first
        place = (link.get_attribute("href") or "").removeprefix("#")
        assert not page.locator(f"#{place}").is_visible()
        link.click()
        page.wait_for_function(
            """(place) => {
              const { top, height } = document.getElementById(place).getBoundingClientRect();
              return height > 0 && top >= 0 && top < innerHeight / 2;
            }""",
            arg=place,
        )


def test_a_text_is_beside_its_reference_and_on_a_phone_above_it(chromium: Any, address: str) -> None:
    for width, is_beside in ((1280, True), (375, False)):
        with opened(chromium, address, viewport={"width": width, "height": 800}) as page:
            page.locator("details.case > summary").first.click()
            text = page.locator("details.case .written").first.bounding_box()
            reference = page.locator("details.case .reference").first.bounding_box()
            assert (reference["x"] > text["x"] + text["width"]) is is_beside
            assert (reference["y"] >= text["y"] + text["height"]) is not is_beside


@pytest.mark.parametrize("width", [320, 375, 768, 1280])
def test_the_page_itself_never_scrolls_sideways(chromium: Any, address: str, width: int) -> None:
    with opened(chromium, address, viewport={"width": width, "height": 812}) as page:
        for is_open in (False, True):
            page.evaluate("(open) => document.querySelectorAll('details').forEach((each) => each.open = open)", is_open)
            assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_table_of_results_fits_a_phone_and_a_printed_sheet(chromium: Any, address: str) -> None:
    for width, media in ((360, "screen"), (1032, "print")):  # A4 across, without its margins
        with opened(chromium, address, viewport={"width": width, "height": 800}) as page:
            page.emulate_media(media=media)
            wide = "(table) => table.scrollWidth - table.parentElement.clientWidth"
            assert page.locator("#table").evaluate(wide) <= 0, media


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_readable_on_its_background(chromium: Any, address: str, scheme: str) -> None:
    selectors = [
        "h1", ".kicker", ".banner", ".banner b", "nav a", ".note", ".sub", "td b", "table.results td",
        ".none",
        "table.results a", ".badge.accepted", ".badge.refused", ".badge.failed", ".badge.demo", ".sub.warn",
        ".text p", ".logline", ".line", "mark", ".problems li", ".error", ".took", "pre", "#find",
        ".chart .name", ".ends",
    ]  # fmt: skip
    with opened(chromium, address, color_scheme=scheme) as page:
        paper = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
        assert (max(map(int, re.findall(r"\d+", paper))) < 64) is (scheme == "dark")
        measured = dict(zip(selectors, page.evaluate(CONTRAST, selectors), strict=True))
        assert {name: ratio for name, ratio in measured.items() if ratio < 4.5} == {}


@pytest.mark.parametrize("has_script", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_the_printed_page_has_every_text_and_no_control(
    chromium: Any, address: str, scored: list[Scored], has_script: bool
) -> None:
    pypdf = pytest.importorskip("pypdf", reason="pypdf is missing: pip install --group dev")
    with opened(chromium, address, java_script_enabled=has_script, color_scheme="dark") as page:
        reader = pypdf.PdfReader(BytesIO(page.pdf(prefer_css_page_size=True)))
    sizes = {tuple(sorted(round(side) for side in sheet.mediabox[2:])) for sheet in reader.pages}
    assert sizes == {(595, 842)}  # A4, in points
    printed = bare("".join(sheet.extract_text() for sheet in reader.pages))
    for case in CASES:
        for paragraph in case.reference.paragraphs:
            assert bare(paragraph.text.split(".")[0][:30]) in printed
        assert bare(case.facts[-1][:30]) in printed
    histories = [each.row for each in scored if len(each.row.attempts) > 1]
    assert printed.count(bare("answers, in order")) >= len(histories) > 0
    assert bare("case, model, form …") not in printed


def bare(text: str) -> str:
    """The text without blanks, and ligatures as letters: what a PDF is sure to give back."""
    return "".join(unicodedata.normalize("NFKC", text).split())


def test_without_script_all_of_it_can_be_read(chromium: Any, address: str, scored: list[Scored]) -> None:
    with opened(chromium, address, java_script_enabled=False) as page:
        assert page.locator("#table tbody tr").count() == len(scored)
        assert page.locator(".controls").is_hidden()
        assert page.locator("#table button").count() == 0
        page.locator("details.case > summary", has_text=CASES[0].reference.title).first.click()
        assert page.get_by_text(CASES[0].reference.paragraphs[0].text[:40]).first.is_visible()


def test_a_text_full_of_markup_stays_text_and_runs_nothing(chromium: Any, tmp_path: Path) -> None:
    brief = CASES[0].brief.model_copy(update={"theme": HOSTILE, "notes": HOSTILE})
    paragraph = CASES[0].reference.paragraphs[0].model_copy(update={"text": HOSTILE})
    bad = CASES[0].reference.model_copy(update={"title": HOSTILE, "logline": HOSTILE, "paragraphs": (paragraph,)})
    case = replace(CASES[0], brief=brief, reference=bad, facts=(HOSTILE,))
    no_text = shapeless(case).model_copy(update={"answer": HOSTILE, "problems": (HOSTILE,)})
    refusal = {"passed": False, "checks": ("theme",), "problems": (f"theme: {HOSTILE}",)}
    text = accepted(bad).model_copy(update={"spans": ((4, 40),)} | refusal)
    row = Row(
        case=case.id, model=HOSTILE, prompt="stand", repeat=0, outcome="failed", attempts=(no_text, text),
        best=1, error=HOSTILE, answered=f"also {HOSTILE}",
    )  # fmt: skip
    info = replace(info_of([case], [HOSTILE], 1), name=HOSTILE, prompts={"stand": HOSTILE})
    address = written(tmp_path, info, [Scored(row, dict.fromkeys(METRICS))], [case])
    with opened(chromium, address) as page:
        page.evaluate("document.querySelectorAll('details').forEach((each) => each.open = true)")
        page.get_by_role("button", name="Model").click()
        page.locator("#find").fill("<script>")
        assert page.locator("#table tbody tr:visible").count() == 1
        assert page.evaluate("window.ran") is None
        assert page.locator("script").count() == 1
        assert page.locator("img, a[href^=javascript]").count() == 0
        for place in ("h1", "#table tbody td:nth-child(3)", ".written pre", ".error", ".ask dd >> nth=1"):
            assert HOSTILE in page.locator(place).inner_text()
        assert page.locator(".written .text p").nth(2).text_content().endswith(HOSTILE)
        assert page.locator(".written mark").inner_text() == HOSTILE[4:40]
