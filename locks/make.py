"""Resolve the dependencies of pyproject.toml anew and write the hash locks beside this file.

`uv` does the resolving: it is taken from PATH. Every lock holds for Python 3.11 to 3.13; `pip` installs from it with
``--require-hashes --no-deps``, so nothing that is not written here can come in.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
COMMON = ["--universal", "--python-version", "3.11", "--generate-hashes", "--no-annotate", "--no-header", "--quiet"]


def resolve(source: list[str], out: str, constraints: list[str]) -> None:
    pinned = [part for name in constraints for part in ("-c", str(HERE / name))]
    subprocess.run(["uv", "pip", "compile", *source, *COMMON, *pinned, "-o", str(HERE / out)], check=True)


def main() -> int:
    (HERE / "runtime.txt").unlink(missing_ok=True)
    (HERE / "dev.txt").unlink(missing_ok=True)
    project = str(HERE.parent / "pyproject.toml")
    resolve([project], "runtime.txt", [])
    resolve([project, "--group", "dev"], "dev.txt", ["runtime.txt", "build.txt"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
