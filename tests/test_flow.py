"""The way of the data: a theme passes through few files on its way from the command to the saved file."""

from tests.support.loopback import LoopbackServer, Reply
from tests.support.terminal import ANSWER, GOOD, ORDER, PATH, Terminal
from tests.support.tracer import traced

MOST_FILES = 12  # beside the checks, all of which read the text


def test_a_theme_passes_through_few_files(terminal: Terminal) -> None:
    assert terminal("check", str(PATH)).code == 0  # loads word lists, which would take long to trace
    with LoopbackServer([Reply(ANSWER)]) as server, traced(GOOD.brief.theme) as passed:
        run = terminal("write", *ORDER, server=server)
    assert run.code == 0, run.err
    files = {file for file in passed if not file.startswith(("gate/", "testing"))}
    assert {"cli/write.py", "writer.py", "prompts/templates.py", "result.py"} <= files  # the tracer sees them
    assert len(files) <= MOST_FILES, sorted(files)
