"""An editor's day on the page: a real browser, a real server, and a scripted model."""

import json
import shutil
import signal
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from docs.screenshot import draw_page
from synopsis_writer.document import read_document
from synopsis_writer.evals.judge import RATINGS_FILE
from synopsis_writer.settings import folder
from tests.support.browser import GONE, Model, Served, environment_of, lasting_port, opened, watch
from tests.support.loopback import FailingStream, Reply, StalledStream
from tests.support.terminal import ANSWER, CLOSED, COMMAND, GOOD, PATH
from tests.test_eval_scoring import ALL, CASES, write_run
from tests.test_lengths import EPG, FORMS, KURZ, together
from tests.test_ratings import FIRST as ONE
from tests.test_ratings import SECOND as OTHERS
from tests.test_revise import OTHER, THIRD, VARIANTS

pytestmark = pytest.mark.browser
sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is missing: pip install --group dev")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is missing")
pytest.importorskip("uvicorn", reason="the extra is missing: pip install '.[page]'")
sync_api.expect.set_options(timeout=60_000)  # a busy machine is not a failure
FILE = "rote-rosen/der-weisse-hund.md"
FIRST = GOOD.synopsis.paragraphs[0].text
COUNT = len(GOOD.synopsis.paragraphs)
STATIC = folder("prompts").parent / "src" / "synopsis_writer" / "page" / "static"


@pytest.fixture(scope="module")
def model() -> Iterator[Model]:
    with Model([Reply(ANSWER)]) as model:
        yield model


@pytest.fixture(scope="module")
def languages(_languages: Path) -> Path:
    return _languages


def house(home: Path) -> Path:
    shutil.copytree(folder("examples"), home / "haus")
    with (home / "haus" / "house.yaml").open("a", encoding="utf-8") as file:
        file.write(FORMS)
    return home


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, _languages: Path, model: Model) -> Iterator[Served]:
    home = house(tmp_path_factory.mktemp("page"))
    served = Served(home, environment_of(home, model, _languages), ("--house", "haus")).start()
    yield served
    served.stop(signal.SIGINT)


@pytest.fixture
def served(server: Served) -> Served:
    server.clear()
    return server


@pytest.fixture
def saved(served: Served) -> Path:
    """A good text in the folder."""
    return served.put(PATH, FILE)


@pytest.fixture
def page(chromium: Any, served: Served) -> Iterator[Any]:
    with opened(chromium, served.address) as page:
        yield page


@pytest.fixture
def text(chromium: Any, served: Served, saved: Path) -> Iterator[Any]:
    """The page with the good text open."""
    assert saved.exists()
    with opened(chromium, served.address) as page:
        open_text(page)
        yield page


def part(page: Any, name: str) -> None:
    if page.locator(f"#part-{name}").get_attribute("open") is None:
        page.locator(f"#part-{name} > summary").click()


def open_text(page: Any, title: str = GOOD.synopsis.title) -> None:
    part(page, "texts")
    page.locator("#library button", has_text=title).click()
    expect(page.locator("#title")).to_have_value(title)
    clean(page)


def expect(thing: Any) -> Any:
    return sync_api.expect(thing)


def checked(page: Any) -> None:
    """Wait until what is shown was found in the text as it is now: before that a click may meet an older list."""
    page.evaluate(
        """async () => {
          const findings = await import("/static/findings.js");
          for (let waits = 0; findings.asking; waits++) {
            if (waits > 6000) throw Error("the text is not checked");
            await new Promise((resolve) => setTimeout(resolve, 20));
          }
        }"""
    )


def clean(page: Any) -> None:
    checked(page)
    expect(page.locator("#verdict")).to_have_text("Nothing to object to")


def objected(page: Any, words: str = "1 error") -> None:
    checked(page)
    expect(page.locator("#verdict")).to_contain_text(words)


def field(page: Any, name: str) -> Any:
    first, *others = (page.get_by_role(role, name=name, exact=True) for role in ("textbox", "combobox", "searchbox"))
    for other in others:
        first = first.or_(other)
    return first


def fill_brief(page: Any, form: str = "portrait") -> None:
    field(page, "Show").fill("Rote Rosen")
    field(page, "Theme").fill(GOOD.brief.theme)
    field(page, "Form").select_option(form)


def write(page: Any) -> None:
    fill_brief(page)
    page.get_by_role("button", name="Write", exact=True).click()


def caret(page: Any, paragraph: int, offset: int = 0) -> None:
    """Put the cursor into a paragraph."""
    page.locator("#body p").nth(paragraph).evaluate(
        "(element, offset) => { element.parentElement.focus();"
        " getSelection().collapse(element.firstChild ?? element, offset); }",
        offset,
    )


def paragraphs(page: Any) -> list[str]:
    return page.locator("#body p").all_text_contents()  # type: ignore[no-any-return]


def paste(page: Any, kinds: dict[str, str]) -> None:
    """Paste what an application put into the clipboard, by kind."""
    page.evaluate(
        """(kinds) => {
          const clipboardData = new DataTransfer();
          for (const [kind, text] of Object.entries(kinds)) clipboardData.setData(kind, text);
          const event = new ClipboardEvent("paste", { clipboardData, bubbles: true, cancelable: true });
          document.activeElement.dispatchEvent(event);
        }""",
        kinds,
    )


def underlined(page: Any, name: str) -> list[str]:
    return page.evaluate("(name) => [...(CSS.highlights.get(name) ?? [])].map(String)", name)  # type: ignore[no-any-return]


def save(page: Any) -> None:
    page.evaluate("document.getElementById('announcer').textContent = ''")
    page.keyboard.press("Control+s")
    expect(page.locator("#announcer")).to_have_text("Saved")


def notice(page: Any, words: str) -> Any:
    found = page.locator(".notice", has_text=words)
    expect(found).to_be_visible()
    return found


def test_a_text_is_written_repaired_and_accepted(page: Any, served: Served, model: Model) -> None:
    model.play(Reply(CLOSED), Reply(ANSWER))
    write(page)
    expect(page.locator("#job [role=status]")).to_have_text("Done")
    assert page.locator("#attempts > li").all_text_contents()[-1].startswith("Attempt 2: accepted")
    expect(page.locator("#attempts > li").first).to_contain_text("Open or closed ending")
    expect(page.locator("#job")).to_contain_text("300 tokens")
    assert paragraphs(page)[0] == FIRST
    clean(page)
    save(page)
    expect(page.locator("#kept")).to_have_text("accepted")
    assert read_document(served.texts / FILE).text == GOOD.synopsis.text


def test_the_text_is_seen_to_grow_and_can_be_stopped(page: Any, model: Model) -> None:
    model.play(StalledStream(ANSWER, 600, pause=0.005))
    write(page)
    expect(page.locator("#growing p").nth(1)).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#job [role=status]")).to_contain_text("Stopped")
    assert FIRST in paragraphs(page), "what was there stays"
    page.keyboard.press("Control+z")
    assert paragraphs(page) == [""]


def test_a_model_that_dies_in_the_text_leaves_what_it_wrote(page: Any, model: Model) -> None:
    model.play(FailingStream(ANSWER, code=400, pause=0.005))
    write(page)
    notice(page, "What was written already is in the text.")
    assert paragraphs(page)[0] == FIRST


def test_the_prompt_and_its_examples_are_shown_with_reasons(page: Any) -> None:
    fill_brief(page)
    page.get_by_role("button", name="Prompt and examples").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.locator("pre").last).to_contain_text(GOOD.brief.theme)
    assert all(dialog.locator("li small").all_text_contents())


def test_a_text_is_edited_until_it_is_clean(text: Any, saved: Path) -> None:
    caret(text, 1)
    text.keyboard.type("Ich sage das. ")
    objected(text)
    assert underlined(text, "error") == ["Ich"]
    caret(text, 1, 1)
    expect(text.locator("#findings .current h3")).to_contain_text("Narrative person")
    caret(text, 1, 14)
    for _ in range(14):
        text.keyboard.press("Backspace")
    clean(text)
    assert underlined(text, "error") == []
    caret(text, 1)
    text.keyboard.type("Nun ist es Abend. ")
    clean(text)
    expect(text.locator("#kept")).to_have_text("Draft kept")
    save(text)
    assert "\n\nNun ist es Abend. " in read_document(saved).text


def test_the_words_of_a_finding_are_a_click_away(text: Any) -> None:
    caret(text, COUNT - 1)
    text.keyboard.type("**Sie** geht. ")
    checked(text)
    text.locator(".quote", has_text="**Sie**").click()
    assert text.evaluate("String(getSelection())") == "**Sie**"
    assert text.evaluate("document.activeElement.id") == "body"


def hold(page: Any, path: str) -> list[Any]:
    """Hold the page's requests to a path, and return the list that they come into."""
    held: list[Any] = []

    def keep(route: Any) -> None:
        held.append(route)

    page.route(path, keep)
    return held


def quote_wrongly(page: Any) -> None:
    """Add a sentence, in one step to undo, whose marks code can put right."""
    caret(page, 0, paragraphs(page)[0].index(".") + 1)
    page.keyboard.insert_text(' Er sagt "ja".')
    checked(page)


def test_what_code_can_put_right_is_put_right_and_undone(text: Any) -> None:
    before = paragraphs(text)
    quote_wrongly(text)
    wrong = paragraphs(text)
    text.locator("#findings .fix").first.click()
    clean(text)
    assert "Er sagt „ja“." in paragraphs(text)[0]
    text.keyboard.press("Control+z")
    assert paragraphs(text) == wrong
    text.keyboard.press("Control+z")
    assert paragraphs(text) == before
    text.keyboard.press("Control+Shift+Z")
    text.keyboard.press("Control+Shift+Z")
    assert "Er sagt „ja“." in paragraphs(text)[0]


@pytest.mark.parametrize("is_key", [False, True])
def test_a_fix_that_is_wanted_before_the_check_of_what_was_typed_waits_for_it(text: Any, is_key: bool) -> None:
    quote_wrongly(text)
    held = hold(text, "**/api/check")
    caret(text, 0)
    with text.expect_request("**/api/check"):
        text.keyboard.insert_text("Nun ist es Abend. ")
    typed = paragraphs(text)
    if is_key:
        text.keyboard.press("Control+.")
    else:
        text.locator("#findings .fix").first.click()
    assert paragraphs(text) == typed, "the list is of an older text"
    held[-1].continue_()
    expect(text.locator("#body")).to_contain_text("Er sagt „ja“.")
    assert paragraphs(text)[0] == typed[0].replace('"ja"', "„ja“")


def test_what_is_typed_while_all_is_put_right_stays(text: Any) -> None:
    quote_wrongly(text)
    held = hold(text, "**/api/fix")
    with text.expect_request("**/api/fix"):
        text.get_by_role("button", name="Fix all").click()
    caret(text, 1)
    text.keyboard.insert_text("Nun ist es Abend. ")
    typed = paragraphs(text)
    with text.expect_response("**/api/fix"):
        held[-1].continue_()
    expect(text.locator("#announcer")).to_have_text("The text has changed meanwhile")
    assert paragraphs(text) == typed


def test_a_finding_is_waived_with_a_reason(text: Any, saved: Path) -> None:
    caret(text, 1)
    text.keyboard.type("Ich sage das. ")
    objected(text)
    text.get_by_role("button", name="Waive with a reason").first.click()
    field(text, "Why may this stay?").fill("Das ist der Titel eines Lieds")
    text.keyboard.press("Enter")
    clean(text)
    expect(text.locator("#findings .waived")).to_contain_text("Das ist der Titel eines Lieds")
    save(text)
    assert read_document(saved).meta["waived"][0]["reason"] == "Das ist der Titel eines Lieds"
    text.get_by_role("button", name="Take back").click()
    objected(text)


def test_a_word_becomes_the_houses_own(text: Any, served: Served) -> None:
    caret(text, 0)
    text.keyboard.type(
        "Der Quormling, der Blafzer, der Snirkel, der Wubbert, der Flomp, der Drusch, der Krebbel kommen. "
    )
    checked(text)
    text.get_by_role("button", name="is ours").first.click()
    notice(text, "is now a word of the house")
    house = (served.folder / "haus" / "house.yaml").read_text(encoding="utf-8")
    assert "Quormling" in house


def test_one_paragraph_is_revised(text: Any, model: Model, saved: Path) -> None:
    model.play(Reply(json.dumps({"paragraphs": [{"storyline": "B", "text": THIRD}]})))
    caret(text, 2)
    field(text, "Wish").fill("ohne Namen")
    field(text, "What").select_option(label="paragraph 3")
    field(text, "Wish").press("Enter")
    dialog = text.get_by_role("dialog")
    expect(dialog.locator("ins").first).to_be_visible()
    dialog.get_by_role("button", name="Take this").click()
    assert paragraphs(text)[2] == THIRD
    expect(text.locator("#kept")).to_have_text("accepted")
    assert THIRD in read_document(saved).text
    text.keyboard.press("Control+z")
    assert paragraphs(text)[2] == GOOD.synopsis.paragraphs[2].text, "the model's change is undone as any other"


def revise_in_variants(page: Any, model: Model) -> Any:
    model.play(Reply(VARIANTS))
    field(page, "Wish").fill("einmal anders")
    field(page, "Variants").select_option("2")
    page.get_by_role("button", name="Revise").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.locator("h3", has_text="Variant 2")).to_be_visible()
    return dialog


def test_one_of_two_variants_is_taken_by_its_key(text: Any, model: Model) -> None:
    revise_in_variants(text, model)
    text.keyboard.press("2")
    expect(text.locator("#body")).to_contain_text("Unter der Lampe wartet noch immer der Brief.")
    expect(text.locator("#kept")).to_have_text("accepted")


def test_a_single_paragraph_of_a_variant_is_taken(text: Any, model: Model) -> None:
    dialog = revise_in_variants(text, model)
    place = next(n for n, each in enumerate(OTHER["paragraphs"], 1) if "Unter der Lampe wartet" in each["text"])
    dialog.get_by_role("button", name=f"Take paragraph {place}").last.click()
    dialog.get_by_role("button", name="Leave as is").click()
    expect(text.locator("#kept")).to_have_text("accepted")
    assert ["Unter der Lampe" in each for each in paragraphs(text)] == [False] * 4 + [True]
    assert paragraphs(text)[0] == FIRST


def test_a_story_is_told_in_other_lengths(text: Any, served: Served, model: Model) -> None:
    model.play(together())
    text.get_by_role("button", name="Lengths").click()
    for form in ("kurztext", "epg"):
        text.get_by_role("dialog").locator(f"[value={form}]").check()
    text.get_by_role("dialog").get_by_role("button", name="Write").click()
    tabs = text.locator("#open .tab")
    expect(tabs).to_have_count(3)
    expect(text.locator(".count", has_text="bytes")).to_contain_text("40 to 120")
    assert paragraphs(text) == [EPG]
    save(text)
    tabs.nth(1).locator("button").first.evaluate("button => button.click()")  # tabs are made anew after a save
    assert paragraphs(text) == [KURZ]
    save(text)
    names = sorted(path.name for path in (served.texts / "rote-rosen").iterdir())
    assert names == ["der-weisse-hund-epg.md", "der-weisse-hund-kurztext.md", "der-weisse-hund.md"]


def test_a_counter_warns_before_a_limit_is_passed(page: Any) -> None:
    fill_brief(page, "epg")
    page.locator("#body").click()
    page.keyboard.type("ü" * 116)
    expect(page.locator(".count.near")).to_contain_text("116 bytes")
    page.keyboard.type("üüüüü")
    expect(page.locator(".count.over")).to_contain_text("1 too many")


def test_a_text_is_released_with_a_name(text: Any, saved: Path) -> None:
    text.get_by_role("button", name="Release").click()
    field(text, "Your name").fill("Eva Muster")
    text.keyboard.press("Enter")
    expect(text.locator("#record")).to_contain_text("Released by Eva Muster")
    expect(text.locator("#kept")).to_have_text("released")
    assert read_document(saved).meta["release"]["by"] == "Eva Muster"


def test_what_is_refused_is_released_with_a_reason_alone(text: Any, saved: Path) -> None:
    caret(text, 1)
    text.keyboard.type("Ich sage das. ")
    objected(text)
    text.get_by_role("button", name="Release").click()
    dialog = text.get_by_role("dialog")
    field(dialog, "Your name").fill("Eva Muster")
    dialog.get_by_role("button", name="Release").click()
    assert "release" not in read_document(saved).meta, "the reason is still to give"
    dialog.locator("[name=person]").fill("So heißt das Lied")
    text.keyboard.press("Enter")
    expect(text.locator("#record")).to_contain_text("So heißt das Lied")


def test_a_text_goes_out_as_word_and_comes_in_by_drop(text: Any, tmp_path: Path) -> None:
    text.get_by_role("button", name="Export").click()
    with text.expect_download() as waiting:
        text.get_by_role("dialog").get_by_role("button", name="docx").click()
    path = tmp_path / waiting.value.suggested_filename
    waiting.value.save_as(path)
    assert path.suffix == ".docx"
    text.evaluate(
        """([bytes, name]) => {
          const dataTransfer = new DataTransfer();
          dataTransfer.items.add(new File([new Uint8Array(bytes)], name));
          const event = new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true });
          document.body.dispatchEvent(event);
        }""",
        [list(path.read_bytes()), path.name],
    )
    notice(text, f"{path.name} opened")
    expect(text.locator("#open .tab")).to_have_count(2)
    assert FIRST in paragraphs(text)


def test_a_failed_export_says_why_on_the_page(text: Any, saved: Path) -> None:
    text.get_by_role("button", name="Export").click()
    expect(text.get_by_role("dialog")).to_be_visible()
    saved.unlink()
    text.refusals.add("404")
    text.get_by_role("dialog").get_by_role("button", name="html").click()
    notice(text, "no such text")
    expect(text.locator("#body")).to_contain_text(FIRST)


def test_a_file_that_is_no_text_is_refused_in_one_line(page: Any) -> None:
    page.refusals.add("400")
    page.locator("#file").set_input_files({"name": "bild.png", "mimeType": "image/png", "buffer": b"\x89PNG\r\n"})
    notice(page, "bild.png")
    page.locator("#file").set_input_files({"name": "a.txt", "mimeType": "text/plain", "buffer": b"a" * 2_000_001})
    notice(page, "a.txt")


def test_an_older_version_is_compared_and_restored(text: Any) -> None:
    caret(text, 1)
    text.keyboard.type("Nun ist es Abend. ")
    save(text)
    text.get_by_role("button", name="History").click()
    text.locator("#versions .item").last.click()
    dialog = text.get_by_role("dialog").last
    expect(dialog.locator("del")).to_contain_text("Nun ist es Abend. ")
    dialog.get_by_role("button", name="Restore").click()
    notice(text, "restored")
    assert paragraphs(text)[1] == GOOD.synopsis.paragraphs[1].text


def test_texts_are_found_by_words_people_and_state(page: Any, served: Served, saved: Path) -> None:
    other = served.put(PATH, "rote-rosen/anders.md")
    content = saved.read_text(encoding="utf-8").replace(f"title: {GOOD.synopsis.title}", "title: Ganz anders")
    other.write_text(content.replace("Gesa", "Wilma"), encoding="utf-8")
    part(page, "texts")
    expect(page.locator("#library .item")).to_have_count(2)
    page.locator("#query").fill("wilma")
    expect(page.locator("#library .item")).to_have_count(1)
    field(page, "State").select_option("released")
    expect(page.locator("#library")).to_have_text("No text fits.")


def test_a_server_that_is_killed_costs_no_word(chromium: Any, tmp_path: Path, languages: Path, model: Model) -> None:
    served = Served(tmp_path, environment_of(tmp_path, model, languages)).start(lasting_port())
    with opened(chromium, served.address) as page:
        page.refusals |= GONE
        fill_brief(page)
        page.locator("#body").click()
        page.keyboard.type("Gesa zählt")
        expect(page.locator("#kept")).to_have_text("Draft kept")
        served.stop()
        page.keyboard.type(" die Schafe")
        notice(page, "No connection to the program")
        page.keyboard.type(" noch einmal.")
        assert paragraphs(page) == ["Gesa zählt die Schafe noch einmal."]
        served.start(served.port)
        with opened(chromium, served.address) as other:  # what was on the disk when all was killed
            notice(other, "A draft was not saved").get_by_role("button", name="Restore").click()
            expect(other.locator("#body")).to_have_text("Gesa zählt")
            expect(field(other, "Theme")).to_have_value(GOOD.brief.theme)
        notice(page, "The program was restarted.")
        page.locator("#body").press("Control+End")
        page.keyboard.press("Backspace")  # a step of its own to undo, however soon it comes
        window = page.context.new_page()  # the new address, in the same browser
        window.goto(served.address)
        expect(page.locator(".notice.error")).to_have_count(0)
        expect(page.locator("#kept")).to_have_text("Draft kept")
        page.keyboard.press("Control+z")
        assert paragraphs(page) == ["Gesa zählt die Schafe noch einmal."]
        window.close()
    served.stop()


def test_what_a_closed_window_could_not_hand_in_comes_with_the_next_one(
    chromium: Any, tmp_path: Path, languages: Path, model: Model
) -> None:
    served = Served(tmp_path, environment_of(tmp_path, model, languages)).start(lasting_port())
    with opened(chromium, served.address) as page:
        page.refusals |= GONE
        served.stop()
        page.locator("#body").click()
        page.keyboard.type("Gesa zählt.")
        notice(page, "No connection to the program")
        served.start(served.port)
        page.goto(served.address)
        page.wait_for_selector("html[data-ready]", state="attached")
        notice(page, "not saved").get_by_role("button", name="Restore").click()
        expect(page.locator("#body")).to_have_text("Gesa zählt.")
    served.stop()


def test_the_whole_work_goes_by_keyboard(page: Any, served: Served, model: Model) -> None:
    model.play(Reply(ANSWER))
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("Ctrl+Enter")
    page.keyboard.type("brief")
    page.keyboard.press("Enter")
    page.keyboard.type("Rote Rosen")
    page.keyboard.press("Tab")
    page.keyboard.type(GOOD.brief.theme)
    page.keyboard.press("Tab")
    page.keyboard.type("portrait")
    page.keyboard.press("Control+Enter")
    clean(page)
    page.keyboard.press("F6")
    page.keyboard.press("Control+Home")
    page.keyboard.type("Ich ")
    objected(page)
    page.keyboard.press("Control+End")
    page.keyboard.press("F8")
    assert page.evaluate("String(getSelection())") == "Ich"
    page.keyboard.press("Delete")
    page.keyboard.press("Delete")
    clean(page)
    page.keyboard.press("Control+s")
    expect(page.locator("#kept")).to_have_text("accepted")
    page.keyboard.press("Control+k")
    page.keyboard.type("release")
    page.keyboard.press("Enter")
    page.keyboard.type("Eva Muster")
    page.keyboard.press("Enter")
    expect(page.locator("#kept")).to_have_text("released")
    assert read_document(served.texts / FILE).meta["release"]["by"] == "Eva Muster"


@pytest.mark.slow
def test_the_focus_is_seen_on_every_stop(text: Any) -> None:
    text.locator(".skip").focus()
    seen = set()
    for _ in range(90):
        text.keyboard.press("Tab")
        found = text.evaluate(
            """() => {
              const { id, outerHTML } = document.activeElement;
              const { outlineStyle, borderLeftColor } = getComputedStyle(document.activeElement);
              const isSeen = id === "body" ? borderLeftColor !== "rgba(0, 0, 0, 0)" : outlineStyle !== "none";
              return [outerHTML.slice(0, 120), isSeen];
            }"""
        )
        if found[0].startswith("<body"):
            break
        assert found[1], found[0]
        seen.add(found[0])
    assert len(seen) > 25


@pytest.mark.parametrize("width", [320, *(pytest.param(each, marks=pytest.mark.slow) for each in (360, 1920))])
def test_nothing_is_wider_than_the_window(chromium: Any, served: Served, saved: Path, width: int) -> None:
    assert saved.exists()
    with opened(chromium, served.address, viewport={"width": width, "height": 740}) as page:
        open_text(page)
        caret(page, 1)
        page.keyboard.type(f"Ich habe **Donau{'dampfschifffahrts' * 5}kapitäne** gesehen. ")
        expect(page.locator("#findings li").first).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        if width < 400:
            page.locator("#regions a", has_text="Findings").click()
            expect(page.locator("#findings li").first).to_be_in_viewport()


def test_two_windows_on_one_text_do_not_overwrite_each_other(text: Any, served: Served, saved: Path) -> None:
    other = text.context.new_page()
    other.refusals = {"409"}
    text.refusals.add("409")
    complaints = watch(other, served.address)
    other.goto(f"{served.address.partition('?')[0]}#{FILE}")
    other.wait_for_selector("html[data-ready]", state="attached")
    caret(text, 1)
    text.keyboard.type("Von eins. ")
    expect(text.locator("#kept")).to_have_text("Draft kept")
    caret(other, 1)
    other.keyboard.type("Von zwei. ")
    for window in (text, other):
        notice(window, "This text is open in another window, too.")
    save(text)
    told = notice(other, "The file was changed elsewhere meanwhile.")
    told.get_by_role("button", name="Keep mine as a new text").click()
    expect(other.locator("#kept")).to_have_text("accepted")
    assert "Von eins. " in read_document(saved).text
    assert "Von zwei. " in read_document(saved.with_name("der-weisse-hund-2.md")).text
    assert complaints == []


@pytest.mark.parametrize("choice", ["Take theirs", "Keep mine as a new text"])
def test_a_file_that_changed_on_disk_asks(text: Any, saved: Path, choice: str) -> None:
    caret(text, 1)
    text.keyboard.type("Von Gesa. ")
    changed = saved.read_text(encoding="utf-8").replace("Elf Ohrmarken", "Zwölf Ohrmarken")
    saved.write_text(changed, encoding="utf-8")
    text.refusals.add("409")
    text.keyboard.press("Control+s")
    told = notice(text, "The file was changed elsewhere meanwhile.")
    assert saved.read_text(encoding="utf-8") == changed
    told.get_by_role("button", name=choice).click()
    if choice == "Take theirs":
        expect(text.locator("#body")).to_contain_text("Zwölf Ohrmarken")
        text.keyboard.press("Control+z")
        expect(text.locator("#body")).to_contain_text("Von Gesa. ")
    else:
        expect(text.locator("#kept")).to_have_text("accepted")
        assert "Von Gesa. " in read_document(saved.with_name("der-weisse-hund-2.md")).text
    assert saved.read_text(encoding="utf-8") == changed


def test_an_open_text_that_changes_on_disk_is_noticed_by_itself(text: Any, saved: Path) -> None:
    saved.write_text(saved.read_text(encoding="utf-8").replace("Elf Ohrmarken", "Zwölf Ohrmarken"), encoding="utf-8")
    notice(text, "The file was changed elsewhere meanwhile.").get_by_role("button", name="Take theirs").click()
    expect(text.locator("#body")).to_contain_text("Zwölf Ohrmarken")
    expect(text.locator("#kept")).to_have_text("draft")


def test_a_paste_from_word_brings_its_words_alone(page: Any) -> None:
    page.locator("#body").click()
    html = (
        "<html><head><style>p { color: red; mso-style-name: x }</style></head><body>"
        '<p class=MsoNormal style="font-size:40pt"><b>Gesa</b> z\u00e4hlt.<script>window.ran = 1</script></p>'
        '<img src=x onerror="window.ran = 2"><p>Der Hund bellt.</p></body></html>'
    )
    plain = "\ufeffGesa\u00a0z\u00e4hlt\u00ad.\r\n\r\n\r\nDer Hund\u200b bellt.\r\n"
    paste(page, {"text/html": html, "text/plain": plain})
    assert paragraphs(page) == ["Gesa zählt.", "Der Hund bellt."]
    assert page.evaluate("window.ran") is None
    assert page.locator("#body *:not(p)").count() == 0
    page.keyboard.type(" Laut.")
    assert paragraphs(page)[1] == "Der Hund bellt. Laut."


@pytest.mark.slow
def test_a_paste_of_two_megabytes_is_taken_and_said(page: Any) -> None:
    page.refusals.add("400")  # too long to check
    page.locator("#body").click()
    paste(page, {"text/plain": ("Gesa zählt die Schafe. " * 400 + "\n") * 218})
    notice(page, "characters pasted")
    assert page.locator("#body p").count() == 218
    page.keyboard.press("Control+z")
    assert paragraphs(page) == [""]


def test_paragraphs_are_parted_joined_and_deleted_as_one_types(page: Any) -> None:
    page.locator("#body").click()
    page.keyboard.type("Eins.")
    page.keyboard.press("Enter")
    page.keyboard.type("Zwei.")
    page.keyboard.press("Enter")
    page.keyboard.type("Drei.")
    assert paragraphs(page) == ["Eins.", "Zwei.", "Drei."]
    caret(page, 1)
    page.keyboard.press("Backspace")
    page.keyboard.type(" ")
    assert paragraphs(page) == ["Eins. Zwei.", "Drei."]
    page.keyboard.press("Control+a")
    page.keyboard.type("N")
    assert paragraphs(page) == ["N"]
    page.keyboard.press("Backspace")
    page.keyboard.type("Neu.")
    page.keyboard.press("Control+b")
    assert page.locator("#body").inner_html() == '<p data-storyline="A">Neu.</p>'


def test_storyline_and_order_of_paragraphs_are_changed(text: Any) -> None:
    caret(text, 0)
    text.get_by_role("button", name="Move paragraph down").click()
    assert paragraphs(text)[1] == FIRST
    text.get_by_role("button", name="Storyline C").click()
    assert text.locator("#body p").nth(1).get_attribute("data-storyline") == "C"


def test_hostile_text_is_text(page: Any, served: Served) -> None:
    evil = "<img src=x onerror=window.ran=1></textarea><script>window.ran=2</script>{{7*7}}"
    path = served.put(PATH, "rote-rosen/b\u00f6se <b>.md")
    content = path.read_text(encoding="utf-8").replace(f"title: {GOOD.synopsis.title}", f'title: "{evil}"')
    path.write_text(content.replace("Elf Ohrmarken", evil), encoding="utf-8")
    part(page, "texts")
    page.locator("#library .item").click()
    expect(page.locator("#title")).to_have_value(evil)
    expect(page.locator("#findings li").first).to_be_visible()
    assert page.evaluate("window.ran") is None
    assert page.locator("img, b script").count() == 0


@pytest.mark.slow
def test_without_a_model_the_page_names_three_ways_and_checks_all_the_same(
    chromium: Any, tmp_path: Path, languages: Path
) -> None:
    served = Served(tmp_path, environment_of(tmp_path, None, languages, SYNOPSIS_MODEL="none-such.gguf")).start()
    served.put(PATH, FILE)
    try:
        with opened(chromium, served.address) as page:
            assert notice(page, "No model").locator("li").count() == 5
            expect(page.get_by_role("button", name="Write", exact=True)).to_be_disabled()
            open_text(page)
            caret(page, 1)
            page.keyboard.type("Ich sage das. ")
            objected(page)
    finally:
        served.stop()


def test_the_page_speaks_german_and_english(page: Any) -> None:
    page.get_by_role("button", name="Deutsch").click()
    expect(page.get_by_role("button", name="Speichern")).to_be_visible()
    assert page.locator("html").get_attribute("lang") == "de"
    page.locator("#body").click()
    page.keyboard.type("Ich gehe.")
    expect(page.locator("#findings")).to_contain_text("Der Text")
    page.get_by_role("button", name="English").click()
    expect(page.locator("#findings")).to_contain_text("The text")


def test_both_languages_have_all_words() -> None:
    words = json.loads((STATIC / "words.json").read_text(encoding="utf-8"))
    assert all(len(pair) == 2 and all(pair) for pair in words.values())
    places = {key: [pair[0].count("{"), pair[1].count("{")] for key, pair in words.items()}
    assert {key: count for key, count in places.items() if count[0] != count[1]} == {}


@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.slow)])
def test_axe_finds_nothing(chromium: Any, served: Served, saved: Path, model: Model, scheme: str) -> None:
    assert saved.exists()
    found: dict[str, Any] = {}

    def look(page: Any, name: str) -> None:
        results = axe.Axe().run(page)
        found.update({f"{name}: {each['id']}": each["nodes"] for each in results.response["violations"]})

    with opened(chromium, served.address, color_scheme=scheme, bypass_csp=True) as page:
        look(page, "empty")
        part(page, "texts")
        expect(page.locator("#library .item")).to_be_visible()
        look(page, "library")
        open_text(page)
        caret(page, 1)
        page.keyboard.type("Ich habe **das** gesagt. ")
        expect(page.locator("#findings li").first).to_be_visible()
        part(page, "brief")
        look(page, "text")
        for name in ("Release", "Lengths", "Export", "History"):
            page.get_by_role("button", name=name, exact=True).click()
            expect(page.get_by_role("dialog")).to_be_visible()
            look(page, name)
            page.keyboard.press("Escape")
        page.get_by_role("button", name="Keys and actions").click()
        look(page, "actions")
        page.keyboard.press("Escape")
        revise_in_variants(page, model)
        look(page, "variants")
        page.keyboard.press("Escape")
        page.set_viewport_size({"width": 360, "height": 740})
        look(page, "phone")
    assert not found, [(name, [node["html"][:150] for node in nodes]) for name, nodes in found.items()]


def test_scripts_and_styles_are_small() -> None:
    sizes = {path.name: len(path.read_bytes()) for path in STATIC.iterdir() if path.suffix in {".js", ".css"}}
    assert sum(sizes.values()) <= 60_000, sizes


def test_the_page_is_small(page: Any) -> None:
    sizes = page.evaluate(
        """() => ["navigation", "resource"].flatMap((kind) => performance.getEntriesByType(kind))
          .filter(({ name }) => !name.includes("/api/"))
          .map(({ name, encodedBodySize, decodedBodySize }) => [name, encodedBodySize, decodedBodySize])"""
    )
    assert sum(plain for _, _, plain in sizes) < 150_000, sizes
    assert 10_000 < sum(sent for name, sent, _ in sizes if name.endswith((".js", ".css"))) < 60_000, sizes


@pytest.mark.slow
def test_a_batchs_folder_opens_as_a_list_to_work_through(page: Any, served: Served, model: Model) -> None:
    model.play(Reply(ANSWER))
    briefs = served.folder / "briefs.csv"
    briefs.write_text(f"show;theme;form\nRote Rosen;{GOOD.brief.theme};portrait\n", encoding="utf-8")
    command = [COMMAND, "batch", "run", "briefs.csv", "--out", "stapel", "--house", "haus"]
    done = subprocess.run(command, cwd=served.folder, env=served.environment, check=False, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    part(page, "texts")
    page.get_by_text("Folder of a batch or an eval").click()
    field(page, "Folder of a batch or an eval").fill("stapel")
    page.keyboard.press("Enter")
    page.locator("#rows .item").click()
    expect(page.locator("#title")).to_have_value(GOOD.synopsis.title)
    page.refusals.add("400")
    field(page, "Folder of a batch or an eval").fill("nirgends")
    page.keyboard.press("Enter")
    expect(page.locator("#folder")).to_contain_text("nirgends")


def test_pairs_are_rated_blind_by_keys(chromium: Any, tmp_path: Path, languages: Path, model: Model) -> None:
    run = write_run(tmp_path / "lauf", [*ONE, *OTHERS], CASES)
    command = ("eval", "rate", "lauf", "--page", "--rater", "Ina", "--suite", str(ALL.folder))
    served = Served(tmp_path, environment_of(tmp_path, model, languages), command=command).start()
    with opened(chromium, served.address, bypass_csp=True) as page:
        dialog = page.get_by_role("dialog")
        expect(dialog.locator("#rated")).to_have_text(f"0 of {len(ONE)} rated")
        expect(dialog.locator("#pair section:visible")).to_have_count(2)
        page.keyboard.press("r")
        expect(dialog.locator("#pair section:visible")).to_have_count(3)
        for number, key in enumerate("120", 1):
            page.keyboard.press(key)
            expect(dialog.locator("#rated")).to_have_text(f"{number} of {len(ONE)} rated")
        assert axe.Axe().run(page).response["violations"] == []
    served.stop()
    lines = (run / RATINGS_FILE).read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["choice"] for line in lines] == [1, 2, 0]


def test_the_picture_of_the_readme_is_taken(chromium: Any, tmp_path: Path) -> None:
    draw_page(chromium, tmp_path, tmp_path / "page.png")
    header = (tmp_path / "page.png").read_bytes()[:24]
    assert (header[:4], struct.unpack(">II", header[16:])) == (b"\x89PNG", (1280, 800))
