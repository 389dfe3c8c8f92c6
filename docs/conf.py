"""The settings of the docs' site, which `make site` builds.

Sphinx with MyST and furo reads these pages as they are, and all three still get releases; MkDocs had its last
in 2024.
"""

from sphinx.application import Sphinx

from synopsis_writer import __version__

project = "synopsis-writer"
release = __version__
extensions = ["myst_parser"]
html_theme = "furo"
html_title = f"{project} {release}"
myst_heading_anchors = 3
# Pages of the repository that lie elsewhere, and the page that shows each on the site.
ELSEWHERE = {"../benchmarks/README.md": "benchmarks.md"}


def setup(app: Sphinx) -> None:
    """Let links to pages that lie elsewhere lead to their page on the site."""
    app.connect("source-read", _redirect)


def _redirect(_app: Sphinx, _page: str, source: list[str]) -> None:
    for path, page in ELSEWHERE.items():
        source[0] = source[0].replace(f"]({path}", f"]({page}")
