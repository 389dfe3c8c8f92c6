"""Write `requirements.lock`: the packages of `constraints.txt`, each with the SHA-256 of its file.

Asks pip, without its configuration. Only files of files.pythonhosted.org are taken; their path there holds
the BLAKE2 digest of their content, which is compared with that of the download. The lock is for the system it
was written on, as its first line says.

    python -m tools.lock
"""

import hashlib
import json
import os
import platform
import re
import sys
import tempfile
from pathlib import Path

from packaging.utils import canonicalize_name

from tools.platforms import ROOT, pip

LOCK = ROOT / "requirements.lock"
_HOME = re.compile(r"https://files\.pythonhosted\.org/packages/(..)/(..)/([0-9a-f]{60})/([^/]+)")


def main() -> None:
    """Write the lock; fail if a file is not the index's own."""
    # Only the public index: what else this machine's pip may take from need not be what is published.
    os.environ["PIP_CONFIG_FILE"] = os.devnull
    for name in ("PIP_FIND_LINKS", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_CONSTRAINT"):
        os.environ.pop(name, None)
    command = "--quiet --no-deps --requirement constraints.txt"
    report = json.loads(pip("install", "--dry-run", "--ignore-installed", "--report", "-", *command.split()))
    with tempfile.TemporaryDirectory() as folder:
        pip("download", "--dest", folder, *command.split())
        entries, foreign = [], []
        for package in report["install"]:
            url, sha256 = (
                package["download_info"]["url"],
                package["download_info"]["archive_info"]["hashes"]["sha256"],
            )
            name = canonicalize_name(package["metadata"]["name"])
            if is_of_the_index(url, sha256, Path(folder)):
                version = package["metadata"]["version"]
                entries.append(f"{name}=={version} \\\n    --hash=sha256:{sha256}")
            else:
                foreign.append(name)
    system = f"{platform.system()} {platform.machine()}, Python {'.'.join(platform.python_version_tuple()[:2])}"
    head = f"# constraints.txt with hashes, for {system}; written by `make lock`."
    if foreign:
        sys.exit(f"no lock: these are not files of the package index: {', '.join(foreign)}")
    LOCK.write_text("\n".join([head, *sorted(entries)]) + "\n", encoding="utf-8")


def is_of_the_index(url: str, sha256: str, folder: Path) -> bool:
    """Whether a file is the one that the index published under this address, by two digests."""
    match = _HOME.fullmatch(url)
    path = folder / match[4] if match else folder
    if match is None or not path.is_file():
        return False
    content = path.read_bytes()
    blake = hashlib.blake2b(content, digest_size=32).hexdigest()
    return blake == "".join(match.groups()[:3]) and hashlib.sha256(content).hexdigest() == sha256


if __name__ == "__main__":
    main()
