"""Write `platforms.tsv`: what the package index offers of each dependency, by platform.

Asks pip, by its own configuration, which packages the program and each extra bring on this machine at the
versions of `constraints.txt`, and which files there are of each. What other systems need besides (`colorama`
on Windows, say) is not among them.

    python -m tools.platforms
"""

import csv
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from packaging.tags import Tag
from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import InvalidVersion, Version

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "platforms.tsv"
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
# Of each platform its tag, whose numbers are those of glibc, musl and macOS: wheels that ask for a newer
# system than Debian 12 or macOS 14 are not counted.
PLATFORMS: Mapping[str, tuple[str, tuple[int, int]]] = {
    "manylinux x86_64": (r"manylinux_?(\d+)_(\d+)_x86_64|manylinux(?:1|2010|2014)_x86_64", (2, 36)),
    "manylinux aarch64": (r"manylinux_(\d+)_(\d+)_aarch64|manylinux2014_aarch64", (2, 36)),
    "musllinux x86_64": (r"musllinux_(\d+)_(\d+)_x86_64", (1, 2)),
    "musllinux aarch64": (r"musllinux_(\d+)_(\d+)_aarch64", (1, 2)),
    "macOS x86_64": (r"macosx_(\d+)_(\d+)_(?:x86_64|universal2|intel)", (14, 99)),
    "macOS arm64": (r"macosx_(\d+)_(\d+)_(?:arm64|universal2)", (14, 99)),
    "Windows amd64": (r"win_amd64", (0, 0)),
}
_FILE = re.compile(r"/([^/\s#]+\.(?:whl|tar\.gz|zip))(?=[#\s]|$)")


def main() -> None:
    """Write the table."""
    users = dependencies()
    with ThreadPoolExecutor(4) as pool:
        offers = list(pool.map(offer, users))
    rows = sorted(zip(users, users.values(), offers, strict=True), key=lambda row: (row[1], row[0]))
    with TABLE.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, delimiter="\t", lineterminator="\n")
        table.writerow(("needed by", "name", "version", "sdist", *PLATFORMS))
        table.writerows((user, *pin, *offered) for pin, user, offered in rows)


def dependencies() -> dict[tuple[str, str], str]:
    """Return name and version of all that an installation brings, each with `core` or the extra it is for.

    What several extras bring is listed with the first of them.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found: dict[tuple[str, str], str] = {}
    for extra in ("", *sorted(project["optional-dependencies"])):
        command = "install --quiet --dry-run --ignore-installed --report - --constraint constraints.txt"
        report = json.loads(pip(*command.split(), f".[{extra}]" if extra else "."))
        for package in report["install"]:
            name = canonicalize_name(package["metadata"]["name"])
            if name != project["name"]:
                found.setdefault((name, package["metadata"]["version"]), extra or "core")
    return found


def offer(pin: tuple[str, str]) -> list[str]:
    """Return whether there is an sdist, and for each platform the Pythons that there are wheels for."""
    name, version = pin
    files = set(_FILE.findall(pip("index", "versions", "-vv", name)))
    sdist = any(_is_sdist(file, name, Version(version)) for file in files)
    tags = frozenset(tag for file in files for tag in _tags(file, name, Version(version)))
    return ["yes" if sdist else "no", *(pythons(tags, platform) for platform in PLATFORMS)]


def pythons(tags: Iterable[Tag], platform: str) -> str:
    """Return the Pythons that have a wheel on a platform: `all`, `no`, or which."""
    served = [python for python in PYTHONS if any(_serves(tag, python, platform) for tag in tags)]
    return "all" if len(served) == len(PYTHONS) else " ".join(served) or "no"


def _serves(tag: Tag, python: str, platform: str) -> bool:
    pattern, newest = PLATFORMS[platform]
    if tag.platform != "any":
        match = re.fullmatch(pattern, tag.platform)
        if match is None or tuple(int(number or 0) for number in match.groups()) > newest:
            return False
    minor = int(python.partition(".")[2])
    built_for = re.fullmatch(r"cp3(\d+)", tag.interpreter)
    if built_for is None:
        return tag.abi == "none" and tag.interpreter in {"py3", f"py3{minor}"}
    oldest = int(built_for[1])
    return oldest <= minor if tag.abi == "abi3" else oldest == minor and tag.abi in {f"cp3{minor}", "none"}


def _tags(file: str, name: str, version: Version) -> frozenset[Tag]:
    try:
        found, of_version, _, tags = parse_wheel_filename(file)
    except (InvalidWheelFilename, InvalidVersion):
        return frozenset()
    return tags if (found, of_version) == (name, version) else frozenset()


def _is_sdist(file: str, name: str, version: Version) -> bool:
    try:
        return parse_sdist_filename(file) == (name, version)
    except (InvalidSdistFilename, InvalidVersion):
        return False


def pip(*arguments: str) -> str:
    """Return what pip prints on stdout; its errors end the script."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return done.stdout


if __name__ == "__main__":
    main()
