"""The page's server: who may ask, texts and drafts, checks, and what goes wrong."""

import hashlib
import json
import unicodedata
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from synopsis_writer import Writer, read_document
from synopsis_writer.page.server import Access
from synopsis_writer.settings import load_settings
from tests.support.page import Browser, served
from tests.support.terminal import PATH

FILE = "rote-rosen/der-weisse-hund.md"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("page")


@pytest.fixture(scope="module")
def browser(home: Path) -> Iterator[Browser]:
    """A browser with the page of a server without a model."""

    def open_writer() -> Writer:
        folders = {"out": home / "texts", "log": home / "data" / "runs.sqlite3", "cache": home / "cache"}
        settings = load_settings({**folders, "lang": "en", "model": "none-such.gguf"}, {})
        return Writer(settings, environment={})

    with served(open_writer) as browser:
        yield browser


@pytest.fixture
def texts(home: Path) -> Path:
    """The folder of saved texts, with one of them."""
    folder = home / "texts"
    file = folder / FILE
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(PATH.read_bytes())
    return folder


def text(**fields: Any) -> dict[str, Any]:
    """A new text as the page sends it."""
    return {"title": "Ein Test", "paragraphs": [{"storyline": "A", "text": "Er geht nach Hause."}], **fields}


@pytest.mark.parametrize(
    ("method", "path", "changes"),
    [
        ("GET", "/api/state", {"cookie": ""}),
        ("GET", "/api/state", {"cookie": "synopsis-{port}=wrong"}),
        ("GET", "/", {"cookie": ""}),
        ("GET", "/?token=wrong", {"cookie": ""}),
        ("GET", "/static/page.js", {"cookie": ""}),
        ("GET", "/api/state", {"host": "evil.example:{port}"}),
        ("GET", "/api/state", {"host": "127.0.0.1"}),
        ("GET", "/api/state", {"host": "localhost.evil.example:{port}"}),
        ("GET", "/api/state", {"sec-fetch-site": "cross-site"}),
        ("GET", "/api/state", {"sec-fetch-site": "same-site"}),
        ("POST", "/api/check", {"origin": "http://evil.example"}),
        ("POST", "/api/check", {"origin": "null"}),
        ("POST", "/api/check", {"origin": ""}),
        ("POST", "/api/check", {"origin": "http://127.0.0.1:1"}),
        ("POST", "/api/check", {"x-synopsis-token": ""}),
        ("PUT", "/api/journal/d-abcd", {"x-synopsis-token": "wrong"}),
        ("DELETE", "/api/journal/d-abcd", {"x-synopsis-token": "wrong"}),
    ],
)
def test_only_the_page_itself_may_ask(browser: Browser, method: str, path: str, changes: dict[str, str]) -> None:
    port = browser.origin.rpartition(":")[2]
    changed = {name: value.replace("{port}", port) for name, value in changes.items()}
    if "cookie" not in changed:
        changed["cookie"] = "; ".join(f"{name}={value}" for name, value in browser.client.cookies.items())
    with type(browser.client)(base_url=browser.origin, trust_env=False) as client:
        answer = client.request(method, path, json={}, headers={**browser.headers, **changed})
    assert (answer.status_code, answer.headers["cache-control"]) == (403, "no-store")
    assert answer.text.endswith("open the address that 'synopsis page' printed\n")
    assert browser.token not in answer.text


def test_each_request_that_changes_anything_needs_token_and_origin(browser: Browser) -> None:
    from synopsis_writer.page.routing import ROUTES

    changing = [line for line, *_ in ROUTES if not line.startswith("GET ")]
    assert len(changing) > 10
    for line in changing:
        method, path = line.split()
        path = path.replace("{id:path}", FILE).replace("{draft}", "d-abcd").replace("{job}", "j-none")
        for name in browser.headers:
            headers = {key: value for key, value in browser.headers.items() if key != name}
            answer = browser.ask(method, f"/api{path}", {}, headers=headers)
            assert (answer.status_code, "only the page itself" in answer.text) == (403, True), (line, name)


def test_every_answer_is_private(browser: Browser) -> None:
    for path in ("/", "/api/state", "/api/none", "/static/none.js", "/api/texts/..%2Fx.md"):
        headers = browser.ask("GET", path).headers
        assert headers["content-security-policy"].startswith("default-src 'self'; frame-ancestors 'none'")
        assert "unsafe" not in headers["content-security-policy"]
        assert (headers["cache-control"], headers["x-frame-options"]) == ("no-store", "DENY")
        assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "no-referrer")


def test_the_first_address_gives_a_cookie_that_no_script_reads(browser: Browser) -> None:
    jar = next(iter(browser.client.cookies.jar))
    assert jar.name == f"synopsis-{jar.port or browser.origin.rpartition(':')[2]}"
    assert (jar.path, jar.has_nonstandard_attr("HttpOnly")) == ("/", True)
    assert jar.get_nonstandard_attr("SameSite") == "strict"


@pytest.mark.parametrize(
    "name",
    [
        "..%2F..%2Fetc%2Fpasswd.md",
        "rote-rosen%2F..%2F..%2Fx.md",
        "%2Fetc%2Fpasswd.md",
        "rote-rosen%2F.hidden.md",
        "x%00.md",
        "..%5Cx.md",
        "rote-rosen",
        "rote-rosen/der-weisse-hund.py",
        f"{'x' * 6000}.md",
        "link.md",
        "linked/der-weisse-hund.md",
        "%ff.md",
    ],
)
@pytest.mark.parametrize("what", ["", "/hash", "/versions"])
def test_an_id_never_leads_out_of_the_folder(
    browser: Browser, texts: Path, tmp_path: Path, name: str, what: str
) -> None:
    (tmp_path / "der-weisse-hund.md").write_bytes(PATH.read_bytes())
    for link, target in (("link.md", tmp_path / "der-weisse-hund.md"), ("linked", tmp_path)):
        (texts / link).unlink(missing_ok=True)
        (texts / link).symlink_to(target)
    answer = browser.ask("GET", f"/api/texts/{name}{what}")
    assert answer.status_code in {400, 404}
    assert answer.json()["error"]["code"] == 2
    listed = browser.get("/api/texts?query=hund")["texts"]
    assert [row["id"] for row in listed] == [FILE]


def test_the_state_names_house_shows_and_ways_to_a_model(browser: Browser) -> None:
    state = browser.get("/api/state")
    assert state["house"]["forms"][0]["name"] == "episode"
    assert "Rote Rosen" in [show["name"] for show in state["shows"]]
    assert (state["model"]["can_write"], [way["kind"] for way in state["model"]["ways_out"]]) == (
        False,
        ["embedded", "key", "server"],
    )
    assert {"html", "json", "txt"} <= set(state["formats"])


def test_a_saved_text_is_found_opened_and_saved_again(browser: Browser, texts: Path) -> None:
    (row,) = browser.get("/api/texts?query=ROTE%20hund")["texts"]
    opened = browser.get(f"/api/texts/{row['id']}")
    before = read_document(texts / FILE)
    assert (opened["title"], opened["journal"]) == (before.meta["title"], None)
    assert opened["hash"] == hashlib.sha256((texts / FILE).read_bytes()).hexdigest()
    opened["paragraphs"][0]["text"] += " Dann geht er."
    opened["title"] = "Neu <b>&amp;"
    saved = browser.put(f"/api/texts/{row['id']}", opened)
    after = read_document(texts / FILE)
    assert after.text == before.text.replace("\n\n", " Dann geht er.\n\n", 1)
    assert (after.meta["title"], after.meta["storylines"]) == (opened["title"], before.meta["storylines"])
    assert after.meta["brief"] == before.meta["brief"]
    assert saved["hash"] == browser.get(f"/api/texts/{FILE}/hash")["hash"] != opened["hash"]
    stale = browser.ask("PUT", f"/api/texts/{row['id']}", opened)
    assert stale.status_code == 409
    assert stale.json()["current"] == {**saved, "state": saved["state"]}


def test_a_new_text_never_replaces_a_file(browser: Browser, texts: Path) -> None:
    brief = {"show": "rote rosen", "theme": "Ein Hund läuft weg", "form": "", "words": None, "beats": [""]}
    new = text(title="Der weiße Hund", brief=brief)
    saved = browser.post("/api/texts", new)
    assert saved["id"].startswith("rote-rosen/der-weisse-hund-")
    assert (texts / FILE).read_bytes() == PATH.read_bytes()
    document = read_document(texts / saved["id"])
    assert document.meta["brief"] == {"show": "Rote Rosen", "theme": "Ein Hund läuft weg", "form": "episode"}
    assert saved["state"] == "refused"  # it is far too short
    (texts / saved["id"]).unlink()


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"[" * 100_000, "no JSON"),
        (b"\xff\xfe", "no JSON"),
        (b"[]", "no object"),
        (b'{"paragraphs": 1}', "paragraphs"),
        (b'{"paragraphs": [{"storyline": "D"}]}', "storyline"),
        (b'{"brief": {"show": "Rote Rosen"}}', "theme"),
        (b'{"origin": {"x": 1e999}}', "not finite"),
        (b'{"id": "a.md", "brief": {"show": "x", "theme": "y", "form": "none"}}', "no form 'none'"),
    ],
)
def test_bad_input_is_answered_in_one_line(browser: Browser, data: bytes, problem: str) -> None:
    answer = browser.ask("POST", "/api/texts", data)
    assert answer.status_code == 400
    assert problem in answer.json()["error"]["message"]
    assert "\n" not in answer.json()["error"]["message"]


def test_what_is_too_large_is_refused_before_it_is_read(browser: Browser) -> None:
    assert browser.ask("POST", "/api/check", b" " * 8_000_001).status_code == 413


def test_a_check_marks_words_in_units_of_the_browser(browser: Browser) -> None:
    body = ["😀 Er geht.", " ", "  " + unicodedata.normalize("NFD", "Schön: daß") + " er geht."]
    given = text(paragraphs=[{"storyline": "A", "text": part} for part in body])
    result = browser.post("/api/check", given)
    (finding,) = [each for each in result["findings"] if each["check"] == "spelling"]
    (start, end), *_ = finding["spans"]
    units = "\n".join(body).encode("utf-16-le")
    assert units[2 * start : 2 * end].decode("utf-16-le") == "daß"
    assert finding["words"] == ["daß"]
    assert (result["passed"], result["counts"]["words"]) == (False, 6)
    given["waived"] = [{"check": "spelling", "words": ["daß"], "reason": "Ein Zitat"}]
    waived = browser.post("/api/check", given)["findings"]
    assert [each["waived"] for each in waived if each["check"] == "spelling"] == ["Ein Zitat"]


def test_a_brief_that_is_not_whole_yet_does_not_stop_the_check(browser: Browser) -> None:
    brief = {"show": "Rote Rosen", "theme": "", "words": "viele", "beats": ["", "x"], "form": "teaser"}
    result = browser.post("/api/check", text(brief=brief))
    assert (result["form"], result["limits"]["words"]) == ("teaser", [200, 600])
    assert result["problem"].startswith("brief: beats.0: is too short")
    assert browser.post("/api/check", text(paragraphs=[]))["findings"] == []


def test_code_puts_right_what_it_can(browser: Browser) -> None:
    given = text(paragraphs=[{"storyline": "B", "text": 'Er sagt: "Nein..."'}, {"text": "Sie  geht."}])
    fixed = browser.post("/api/fix", given)
    assert [part["text"] for part in fixed["text"]["paragraphs"]] == ["Er sagt: „Nein…“", "Sie geht."]
    assert fixed["text"]["paragraphs"][0]["storyline"] == "B"
    assert fixed["fixed"]


@pytest.mark.usefixtures("texts")
def test_what_is_typed_is_on_the_disk_before_the_answer(browser: Browser, home: Path) -> None:
    opened = browser.get(f"/api/texts/{FILE}")
    opened["paragraphs"][0]["text"] = "Getippt 😀 \ud83d <script>"
    browser.put(f"/api/journal/{opened['draft']}", opened)
    file = home / "data" / "drafts" / f"{opened['draft']}.json"
    assert file.stat().st_mode & 0o077 == 0
    assert "Getippt" in file.read_text(encoding="utf-8")
    again = browser.get(f"/api/texts/{FILE}")
    assert again["journal"]["text"]["paragraphs"][0]["text"] == "Getippt 😀 \ufffd <script>"
    assert [each["id"] for each in browser.get("/api/journal")["drafts"]] == [FILE]
    saved = browser.put(f"/api/texts/{FILE}", again["journal"]["text"])
    assert (browser.get(f"/api/texts/{FILE}")["journal"], file.exists()) == (None, False)
    assert saved["paragraphs"][0]["text"].startswith("Getippt")


def test_two_windows_on_one_text_do_not_overwrite_each_other(browser: Browser, texts: Path) -> None:
    path = f"/api/texts/{FILE}"
    first, second = browser.get(path), browser.get(path)
    first["title"], second["title"] = "Eins", "Zwei"
    for draft, typed in (("d-0001", first), ("d-0002", second)):
        browser.put(f"/api/journal/{draft}", typed)
    assert browser.get(path)["journal"]["draft"] == "d-0002"
    browser.put(path, {**first, "draft": "d-0001"})
    told = browser.ask("PUT", path, {**second, "draft": "d-0002"})
    assert (told.status_code, told.json()["current"]["title"]) == (409, "Eins")
    assert browser.get("/api/journal/d-0002")["title"] == "Zwei"
    assert read_document(texts / FILE).meta["title"] == "Eins"
    assert browser.ask("DELETE", "/api/journal/d-0002").json() == {}
    assert browser.ask("GET", "/api/journal/d-0002").status_code == 404


@pytest.mark.parametrize(("days", "count"), [(29, 1), (31, 0)])
def test_a_draft_is_kept_for_thirty_days(browser: Browser, home: Path, days: int, count: int) -> None:
    browser.put("/api/journal/d-0030", text(title="Liegen geblieben"))
    file = home / "data" / "drafts" / "d-0030.json"
    entry = json.loads(file.read_text(encoding="utf-8"))
    entry["at"] = (datetime.now(UTC) - timedelta(days=days)).isoformat()
    file.write_text(json.dumps(entry), encoding="utf-8")
    drafts = [each["draft"] for each in browser.get("/api/journal")["drafts"]]
    assert (drafts.count("d-0030"), file.exists()) == (count, bool(count))
    browser.ask("DELETE", "/api/journal/d-0030")


@pytest.mark.usefixtures("texts")
def test_a_draft_is_gone_when_the_file_has_its_words(browser: Browser, home: Path) -> None:
    opened = browser.get(f"/api/texts/{FILE}")
    browser.put("/api/journal/d-0031", opened)
    browser.put("/api/journal/d-0032", {**opened, "title": "Anders"})
    assert [each["draft"] for each in browser.get("/api/journal")["drafts"]] == ["d-0032"]
    assert not (home / "data" / "drafts" / "d-0031.json").exists()
    browser.ask("DELETE", "/api/journal/d-0032")


@pytest.mark.parametrize("draft", ["d-", "d-..%2Fx", "x", "d-ABCDEF", f"d-{'a' * 33}", "d-abcd%0a"])
def test_a_draft_has_only_an_id_that_is_one(browser: Browser, draft: str) -> None:
    answer = browser.ask("PUT", f"/api/journal/{draft}", text())
    assert answer.status_code in {400, 404}


def test_a_paste_of_two_megabytes_is_journalled_and_told_in_one_line(browser: Browser) -> None:
    huge = text(paragraphs=[{"text": "Er geht über die Straße. " * 80_000}])
    browser.put("/api/journal/d-beef", huge)
    answer = browser.ask("POST", "/api/check", huge)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "text: is larger than 1 MB: that is no synopsis"
    assert len(browser.get("/api/journal/d-beef")["paragraphs"][0]["text"]) == 2_000_000
    browser.ask("DELETE", "/api/journal/d-beef")


def test_a_word_cannot_be_added_to_the_built_in_house(browser: Browser) -> None:
    answer = browser.ask("POST", "/api/words", {"word": "Lüneburg"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, 2)
    assert "the built-in house cannot be changed" in answer.json()["error"]["message"]


def test_without_a_model_writing_says_so_in_one_line(browser: Browser) -> None:
    brief = {"show": "Rote Rosen", "theme": "Ein Hund läuft weg"}
    job = browser.post("/api/write", {"brief": brief})["job"]
    stream = browser.ask("GET", f"/api/jobs/{job}/events").text
    assert "event: failed" in stream
    assert "none-such.gguf: no such file" in stream
    assert browser.ask("POST", "/api/write", {"brief": {"show": "Rote Rosen"}}).status_code == 400


def test_a_release_cannot_be_brought_along(browser: Browser, texts: Path) -> None:
    origin = {"release": {"by": "Eva"}, "storylines": [], "model": "m"}
    saved = browser.post("/api/texts", text(title="Ohne Freigabe", origin=origin))
    assert (saved["release"], saved["origin"]["model"]) == (None, "m")
    (texts / saved["id"]).unlink()


def test_findings_come_in_the_language_of_the_page(browser: Browser) -> None:
    said = [
        browser.of(browser.ask("POST", "/api/check", text(), headers={**browser.headers, **more}))
        for more in ({}, {"Accept-Language": "de-AT,en"}, {"Accept-Language": "en"}, {"Accept-Language": "fr"})
    ]
    english, german, *again = (json.dumps(each["findings"], ensure_ascii=False) for each in said)
    assert ("Der Text hat" in german, "The text has" in english) == (True, True)
    assert again == [english, english]


def test_of_checks_of_one_draft_only_the_last_is_made(browser: Browser) -> None:
    def checked(number: int) -> Any:
        return browser.post("/api/check", text(draft="d-0003", title=f"Titel {number}"))

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(checked, range(24)))
    assert all("findings" in each or each == {"superseded": True} for each in results)
    assert "findings" in checked(0)


@pytest.mark.parametrize(
    ("listening", "named", "expected"),
    [
        ("127.0.0.1", "127.0.0.1:1", True),
        ("127.0.0.1", "LOCALHOST:1", True),
        ("::1", "[::1]:1", True),
        ("127.0.0.1", "192.168.0.2:1", False),
        ("127.0.0.1", "localhost.:1", False),
        ("127.0.0.1", "127.0.0.1:2", False),
        ("127.0.0.1", "127.0.0.1", False),
        ("127.0.0.1", "", False),
        ("0.0.0.0", "192.168.0.2:1", True),
        ("0.0.0.0", "evil.example:1", False),
        ("0.0.0.0", "192.168.0.2.evil.example:1", False),
    ],
)
def test_only_names_of_this_machine_are_the_servers(listening: str, named: str, expected: bool) -> None:
    assert Access(listening, 1)._is_ours(named) == expected


def test_no_secret_is_in_a_repr() -> None:
    access = Access("127.0.0.1", 1)
    assert not any(secret in repr(access) for secret in (access.token, access.cookie, access.page_token))
