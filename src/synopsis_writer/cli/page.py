"""The command page."""

import gc
import mimetypes
import os
import sys
import threading
import webbrowser
from importlib.util import find_spec
from pathlib import Path

from synopsis_writer import cli
from synopsis_writer.cli import options
from synopsis_writer.cli.console import warn
from synopsis_writer.cli.options import number, option, switch
from synopsis_writer.errors import InputError, SettingsError

with cli.lazily():
    import asyncio

    from synopsis_writer import house as houses
    from synopsis_writer import settings as config
    from synopsis_writer import writer as writers
    from synopsis_writer.page import server

SWITCH_INTERVAL = 0.001  # seconds for which a check may keep the server from answering
_PORT = 8642  # in use by no service that IANA lists


def page(
    *,
    port: int = number("The port to listen on; 0 is any free one.", default=_PORT, min=0, max=65535),
    no_open: bool = switch("Do not open a browser."),
    host: str = option(
        "The address to listen on; another than this machine's needs --insecure.", "ADDRESS", default="127.0.0.1"
    ),
    out: Path | None = option("The folder of saved texts.  [default: synopsen]", "FOLDER"),
    run: options.RunFlags,
    semantic: bool | None = options.SEMANTIC,
) -> int:
    """Open the editor's page in your browser: write, correct, revise, release and export texts there.

    It is served on this machine for this machine alone, until Ctrl-C.
    """
    settings = options.settings_from(run, semantic=semantic, out=out)
    return open_page(settings, host, port, log=not run.no_log, no_open=no_open)


def open_page(
    settings: "config.Settings", host: str = "127.0.0.1", port: int = 0, *,
    log: bool = True, no_open: bool = False, fragment: str = "",
) -> int:  # fmt: skip
    """Serve the page until Ctrl-C, and open a browser at its address; `fragment` is what to show there."""
    if find_spec("starlette") is None or find_spec("uvicorn") is None:
        raise SettingsError("the page needs an extra: pip install 'synopsis-writer[page]'")
    if not server.is_loopback(host):
        if not settings.insecure:
            raise InputError(
                f"--host {host}: the page would go over plain http to other machines, and whoever reads that "
                "network could read your texts and change them: leave --host out, or add --insecure"
            )
        warn(f"{host}: whoever reads this network can read your texts, and change them")
    sys.setswitchinterval(SWITCH_INTERVAL)
    mimetypes.add_type("text/javascript", ".js")  # some Windows registries say otherwise
    houses.open_house(settings)  # fails at once if the house is broken
    # A text browser would take over the terminal.
    has_window = sys.platform in {"win32", "darwin"} or {"DISPLAY", "WAYLAND_DISPLAY", "BROWSER"} & os.environ.keys()
    with server.listen(host, port) as listening:
        access = server.Access(host, listening.getsockname()[1])
        address = access.address + fragment

        def show() -> None:
            warn(f"the page: {address}")
            if has_window and not no_open:
                threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()

        def freeze() -> None:
            gc.collect()
            gc.freeze()  # a full pass over all that is loaded would stop all threads for 60 ms

        app = server.application(access, lambda: writers.Writer(settings, log=log), settings.lang, show, freeze)
        try:
            asyncio.run(server.serve(app, listening))
        except KeyboardInterrupt:
            cli.end_quietly()
    return 0
