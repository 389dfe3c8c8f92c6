"""The command group models: the configured model, what its server offers, and the embedded models."""

import os
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any

import typer

from synopsis_writer.characters import count_of
from synopsis_writer.cli import lazily, options
from synopsis_writer.cli.console import Output, print_result, status, warn
from synopsis_writer.cli.options import argument, switch
from synopsis_writer.errors import ModelError, SettingsError

with lazily():
    import asyncio

    from synopsis_writer import settings as config
    from synopsis_writer.models import download, hosted, resolve, server

SHUTDOWN_DAYS = 60  # before a model is shut down, from which on that is reported

app = typer.Typer(help="Which models there are, and which one is asked.", invoke_without_command=True)


@app.callback()
def models(*, context: typer.Context, model: options.ModelFlags, json: bool = options.JSON) -> None:
    """Show which model would be asked and why, what its server offers, and the embedded models."""
    if context.invoked_subcommand is not None:
        return
    report, fault = _report(options.settings_from(model))
    asked, ends = report["asked"], report.get("shutdowns", {})
    lines = [f"asked:     {asked or 'none'} ({report['why']})"]
    shut_down = {name: f" (shut down on {end})" for name, end in ends.items()}
    lines += [f"offered:   {name}{shut_down.get(name, '')}" for name in report["offered"]]
    lines += [f"pulled:    {pulled}" for pulled in report["pulled"]]
    lines.append(f"packaged:  {report['packaged'] or 'not installed: pip install synopsis-writer[local]'}")
    Output(report | ({"exit_code": fault.exit_code} if fault else {}), lines).print(as_json=json)
    if end := ends.get(asked):
        days = (date.fromisoformat(end) - datetime.now(UTC).date()).days
        if days <= SHUTDOWN_DAYS:
            when = f"in {count_of(days, 'day')}" if days > 0 else "now"
            warn(f"{asked} is shut down on {end}, {when}: name another model with --model")
    if fault is not None:
        raise fault


def _report(settings: "config.Settings") -> tuple[dict[str, Any], ModelError | None]:
    asked: str | None = None
    offering = (settings.hosted_model, settings.base_url) if settings.is_flag("base_url") else None
    try:
        resolved = resolve.resolve_model(settings, os.environ)
        asked, why = resolved.model, resolved.why
        if resolved.kind == "hosted":
            offering = resolved.model, resolved.base_url
    except SettingsError as error:  # the list of what the server offers shows the way out
        if address := resolve.server_address(settings, os.environ):
            server.check_address(address)
        why = str(error)
    offered: Mapping[str, date | None] = {}
    fault: ModelError | None = None
    try:
        if offering is not None:
            offered = asyncio.run(_offered(*offering, insecure=settings.insecure))
    except ModelError as error:
        fault = error
    ends = {name: end.isoformat() for name, end in offered.items() if end}
    pulled = download.pulled_models(settings.cache)
    packaged = f"{download.MODEL_NAME}, for demo drafts only; {download.MODEL_LICENCE}"
    return {
        "asked": asked,
        "why": why,
        "offered": list(offered),
        **({"shutdowns": ends} if ends else {}),
        "error": str(fault) if fault else None,
        "pulled": [f"{each.name} ({each.size / 1e9:.1f} GB)" for each in pulled],
        "packaged": packaged if download.is_packaged_available() else None,
    }, fault


async def _offered(model: str, base_url: str | None, *, insecure: bool) -> "Mapping[str, date | None]":
    key = server.look_up_key(server.host_of(base_url or server.DEFAULT_BASE_URL), os.environ)
    client = hosted.HostedClient(model, base_url, key.value, insecure=insecure, key_hint=key.hint)
    try:
        return await client.models()
    finally:
        await client.close()


@app.command("pull")
def pull_model(
    name: str = argument("A name from 'synopsis models known', or owner/repo:file.gguf.", "NAME"),
    insecure: bool | None = switch("Allow plain http to another machine.", default=None),
) -> None:
    """Fetch an instruct model in GGUF into the cache; it is the embedded default from then on."""
    settings = options.settings_from(insecure=insecure)
    print_result(str(download.pull(name, settings.cache, insecure=settings.insecure)))


@app.command("known")
def known_models() -> None:
    """List well-known instruct models that can be pulled by name; none of them has been tried here."""
    for name, known in download.KNOWN.items():
        size = f"{known.parameters} billion parameters, about {known.gigabytes} GB"
        print_result(f"{name}  {size}, {known.licence}, not tried here: {known.repo}")


@app.command("rm")
def remove_model(name: str = argument("As 'synopsis models' lists it.", "NAME")) -> None:
    """Delete a pulled model from the cache."""
    download.remove(name, options.settings_from().cache)
    status(f"removed {name}")
