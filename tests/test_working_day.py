"""An editor's whole day with one text: each step of docs/working-day.md, in its order."""

import json
import shutil
from pathlib import Path

from lxml import etree

from synopsis_writer.document import read_document
from synopsis_writer.settings import folder
from tests.support.loopback import LoopbackServer, Reply
from tests.support.terminal import ANSWER, FILE, ORDER, Run, Terminal
from tests.test_lengths import EPG, FORMS, KURZ, together
from tests.test_revise import THIRD, VARIANTS

VARIANT = FILE.replace(".md", "-variant-2.md")


def test_a_draft_becomes_a_released_and_exported_text(terminal: Terminal, tmp_path: Path) -> None:
    shutil.copytree(folder("examples"), tmp_path / "haus")
    with (tmp_path / "haus" / "house.yaml").open("a", encoding="utf-8") as file:
        file.write(FORMS)

    def synopsis(*arguments: str, answer: Reply | None = None, code: int = 0) -> Run:
        with LoopbackServer([answer] if answer else []) as server:
            run = terminal(*arguments, server=server if answer else None)
        assert run.code == code, run.err
        return run

    home = ("--house", "haus")
    synopsis("write", *ORDER, *home, answer=Reply(ANSWER))
    third = json.dumps({"paragraphs": [{"storyline": "B", "text": THIRD}]})
    synopsis("revise", FILE, "--paragraph", "3", "-n", "ohne Namen", *home, answer=Reply(third))
    assert read_document(tmp_path / FILE).text.split("\n\n")[2] == THIRD
    synopsis("revise", FILE, "--variants", "2", "-n", "einmal anders", *home, answer=Reply(VARIANTS))
    synopsis("lengths", VARIANT, "--to", "kurztext,epg", *home, answer=together())
    short = [tmp_path / VARIANT.replace(".md", f"-{form}.md") for form in ("kurztext", "epg")]
    assert [read_document(path).text for path in short] == [KURZ, EPG]

    path = tmp_path / VARIANT  # the variant that was chosen, edited by hand, wrongly at first
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("Unter der Lampe", "Unter der  Lampe daß"), encoding="utf-8")
    synopsis("check", VARIANT, *home, code=1)
    path.write_text(text.replace("Unter der Lampe", "Unter der  alten Lampe"), encoding="utf-8")
    synopsis("check", VARIANT, "--fix", *home)
    assert "Unter der alten Lampe" in path.read_text(encoding="utf-8")

    synopsis("release", VARIANT, "--by", "Eva Muster", *home)
    record = read_document(path).meta["release"]
    assert record["by"] == "Eva Muster"
    assert 0 < record["person_share"] < record["model_share"] < 1
    synopsis("release", "--verify", "synopsen", *home)

    versions = synopsis("log", "versions", VARIANT, "--json")
    told = json.loads(versions.out)["versions"]
    by = [version["by"] for version in told]
    assert by[:4] == ["model"] * 4, "the draft, its third paragraph, two variants"
    assert set(by[4:]) == {"person"}
    assert told[-1]["request"] == {"released": "Eva Muster"}

    synopsis("export", VARIANT, "--format", "docx", "-o", "hund.docx", *home)
    guide = synopsis(
        "export", VARIANT, "--format", "xmltv", "--channel", "ndr.de", "--start", "2026-12-24T20:15+01:00", *home
    )
    assert "alten Lampe" in str(etree.fromstring(guide.out.encode()).findtext("programme/desc"))
    episode = json.loads(synopsis("export", VARIANT, "--format", "jsonld", *home).out)
    assert episode["digitalSourceType"].endswith("/CompositeWithTrainedAlgorithmicMediaDigitalSource")

    accepted = synopsis("check", "hund.docx", *ORDER, *home)
    assert "passed all" in accepted.out
