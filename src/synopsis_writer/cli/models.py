"""`synopsis models`: what is configured, what answers, what the embedded model is."""

import os
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import typer

from synopsis_writer.characters import count_of
from synopsis_writer.cli import options
from synopsis_writer.cli.console import print_output, print_result, status, warn
from synopsis_writer.cli.options import argument, switch
from synopsis_writer.errors import ModelError, SettingsError

if TYPE_CHECKING:
    from synopsis_writer.models.resolve import ResolvedModel
    from synopsis_writer.settings import Settings

SHUTDOWN_DAYS = 60  # before a model is shut down, from which on that is reported

app = typer.Typer(help="Which models there are, and which one is asked.", invoke_without_command=True)


@app.callback()
def models(*, context: typer.Context, model: options.ModelFlags, json: bool = options.JSON) -> None:
    """Show which model would be asked and why, what its server offers, and the embedded models."""
    if context.invoked_subcommand is not None:
        return
    report, fault = _report(options.settings_from(model))
    ends = report.get("shutdowns", {})
    lines = (
        f"asked:     {report['asked'] or 'none'} ({report['why']})",
        *(
            f"offered:   {name}" + f" (shut down on {ends.get(name)})" * (name in ends)
            for name in report["offered"]
        ),
        *(f"pulled:    {pulled}" for pulled in report["pulled"]),
        f"packaged:  {report['packaged'] or 'not installed: pip install synopsis-writer[local]'}",
    )
    print_output(report | ({"exit_code": fault.exit_code} if fault else {}), lines, as_json=json)
    asked = report["asked"]
    if end := ends.get(asked):
        days = (date.fromisoformat(end) - datetime.now(UTC).date()).days
        if days <= SHUTDOWN_DAYS:
            when = f"in {count_of(days, 'day')}" if days > 0 else "now"
            warn(f"{asked} is shut down on {end}, {when}: name another model with --model")
    if fault is not None:
        raise fault


def _report(settings: "Settings") -> "tuple[dict[str, Any], ModelError | None]":
    """Return what `--json` prints, and the error of the server that would be asked."""
    import asyncio

    from synopsis_writer.models import download
    from synopsis_writer.models.resolve import resolve_model, server_address
    from synopsis_writer.models.server import check_address

    resolved: ResolvedModel | None = None
    try:
        resolved = resolve_model(settings, os.environ)
        why = resolved.why
    except SettingsError as error:
        if address := server_address(settings, os.environ):
            check_address(address)
        why = str(error)
    offered: Mapping[str, date | None] = {}
    fault: ModelError | None = None
    server = (resolved.model, resolved.base_url) if resolved and resolved.kind == "hosted" else None
    if server is None and settings.is_flag("base_url"):  # what it offers says how to go on
        server = (settings.hosted_model, settings.base_url)
    try:
        if server is not None:
            offered = asyncio.run(_offered(*server, insecure=settings.insecure))
    except ModelError as error:
        fault = error
    ends = {name: end.isoformat() for name, end in offered.items() if end}
    return {
        "asked": resolved.model if resolved else None,
        "why": why,
        "offered": list(offered),
        **({"shutdowns": ends} if ends else {}),
        "error": str(fault) if fault else None,
        "pulled": [
            f"{pulled.name} ({pulled.size / 1e9:.1f} GB)" for pulled in download.pulled_models(settings.cache)
        ],
        "packaged": f"{download.MODEL_NAME}, for demo drafts only; {download.MODEL_LICENCE}"
        if download.is_packaged_available()
        else None,
    }, fault


async def _offered(model: str, base_url: str | None, *, insecure: bool) -> "Mapping[str, date | None]":
    from synopsis_writer.models.hosted import HostedClient
    from synopsis_writer.models.server import DEFAULT_BASE_URL, host_of, look_up_key

    key = look_up_key(host_of(base_url or DEFAULT_BASE_URL), os.environ)
    client = HostedClient(model, base_url, key.value, insecure=insecure, key_hint=key.hint)
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
    from synopsis_writer.models.download import pull

    settings = options.settings_from(insecure=insecure)
    print_result(str(pull(name, settings.cache, insecure=settings.insecure)))


@app.command("known")
def known_models() -> None:
    """List well-known instruct models that can be pulled by name; none of them has been tried here."""
    from synopsis_writer.models.download import KNOWN

    print_result(
        *(
            f"{name}  {known.parameters} billion parameters, about {known.gigabytes} GB, "
            f"{known.licence}, not tried here: {known.repo}"
            for name, known in KNOWN.items()
        )
    )


@app.command("rm")
def remove_model(name: str = argument("As 'synopsis models' lists it.", "NAME")) -> None:
    """Delete a pulled model from the cache."""
    from synopsis_writer.models.download import remove

    remove(name, options.settings_from().cache)
    status(f"removed {name}")
