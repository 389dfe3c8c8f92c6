"""What can go wrong with the hub, each in a sentence that says the mend."""

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING

from synopsis_writer.client.pulled import Target
from synopsis_writer.errors import ConnectionFailed, EngineError, ModelError, RequestRefused, os_reason

if TYPE_CHECKING:
    from huggingface_hub.errors import HfHubHTTPError

_FORBIDDEN = 403
_UNKNOWN = frozenset({401, 404})  # to a stranger the hub answers 401 for a repository that is not there
_PASSING = frozenset({408, 429})
_SERVER_FAULT = 500


def hub_address() -> str:
    """Return the address of the hub: HF_ENDPOINT, or the library's own."""
    from huggingface_hub import constants

    # The library reads the variable once, at import, which may have been before it was set.
    return (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")


def hub_failure(fault: Exception, target: Target, cache: Path) -> ModelError:
    """Return the error for what the library or the system raised: what is wrong, where, and the mend."""
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    again = "pull again: it goes on where it ended"
    if isinstance(fault, HfHubHTTPError):
        return _refusal(fault, target)
    if isinstance(fault, OfflineModeIsEnabled):
        return ConnectionFailed(f"{target.name}: HF_HUB_OFFLINE forbids the network: unset it")
    if isinstance(fault, httpx2.HTTPError | httpx2.InvalidURL):
        return ConnectionFailed(
            f"{target.name}: no whole answer from {hub_address()}: check network and HF_ENDPOINT, and {again}"
        )
    if not isinstance(fault, OSError) or fault.errno is None:  # so the library reports a wrong length
        return ConnectionFailed(f"{target.name}: came in another length than the hub said: {again}")
    if fault.errno in {errno.ENOSPC, errno.EDQUOT}:
        return EngineError(f"{cache}: the disk is full: make room for {target.name}, and {again}")
    return EngineError(f"cannot keep {target.name}: {os_reason(fault, cache)}: choose another folder")


def _refusal(fault: "HfHubHTTPError", target: Target) -> ModelError:
    from huggingface_hub.errors import GatedRepoError, RemoteEntryNotFoundError

    page = f"{hub_address()}/{target.repo}"
    status = fault.response.status_code
    if isinstance(fault, RemoteEntryNotFoundError):
        return RequestRefused(f"{target.name}: no such file on the hub: look at {page}/tree/main")
    if isinstance(fault, GatedRepoError) or status == _FORBIDDEN:
        return RequestRefused(
            f"{target.name}: the hub gives it to known people only ({status}): accept the licence at {page}, "
            "and set HF_TOKEN to a token of that account"
        )
    if status in _UNKNOWN:
        return RequestRefused(
            f"{target.name}: no open repository {target.repo} on the hub ({status}): check the name; "
            f"for a closed one accept the licence at {page}, and set HF_TOKEN to a valid token"
        )
    if status in _PASSING or status >= _SERVER_FAULT:
        return ConnectionFailed(f"{target.name}: the hub answered {status}: pull again later")
    return RequestRefused(f"{target.name}: the hub answered {status}: look at {page}/tree/main")
