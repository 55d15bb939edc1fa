"""Debian packages: resolved once, kept by hash in cache/debs, and offered to mmdebstrap as a small local archive.

The mirror is the build host's own apt configuration (its Debian suite replaced by ours), or `--mirror`. apt runs on a
root of its own, so that nothing of the host's package state matters; signatures are checked by the archive's keyring.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import quote

from inkstick_image import hashes
from inkstick_image.errors import ImageError
from inkstick_image.recipe import Recipe
from inkstick_image.tools import KEYRING, run

_OURS = (
    "-oAPT::Default-Release=",
    "-oAPT::Install-Recommends=0",
    "-oAPT::Install-Suggests=0",
    "-oAPT::Keep-Downloaded-Packages=1",
    "-oAcquire::Languages=none",
)
"""apt reads the host's settings after those of ours that are in a file (they may say by which proxy the mirror is
reached): what decides over packages is said last."""
_LINE = re.compile(r"^'([^']+)' (\S+) (\d+) SHA256:([0-9a-f]{64})$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Deb:
    """One package file. `name`: as apt names the file; `size` in bytes."""

    name: str
    size: int
    sha256: str


def mirrors(listed: str) -> tuple[str, str | None]:
    """The archive and the security archive, from a host's apt sources (both formats) as one text.

    Raises ImageError where no Debian archive is among them (Ubuntu, for one)."""
    found = re.findall(r"^(?:deb(?:\s+\[[^]]*\])?|URIs:)\s+(\S+)", listed, re.MULTILINE)
    archive = next((uri for uri in found if re.search(r"/debian/?$", uri)), None)
    security = next((uri for uri in found if re.search(r"/debian-security/?$", uri)), None)
    if archive is None:
        raise ImageError("This machine's apt names no Debian archive.", "Give one: --mirror URL")
    return archive.rstrip("/"), security.rstrip("/") if security else None


def host_sources(apt: Path = Path("/etc/apt")) -> str:
    """What apt itself would read there: no copy that somebody keeps beside it."""
    listed = sorted(file for file in (apt / "sources.list.d").glob("*") if file.suffix in (".list", ".sources"))
    files = [apt / "sources.list", *listed]
    return "\n".join(file.read_text(encoding="utf-8", errors="replace") for file in files if file.is_file())


def sources(recipe: Recipe, archive: str, security: str | None) -> str:
    """A sources.list of our suite with its updates."""
    parts = " ".join(recipe.components)
    lines = [
        f"deb [signed-by={KEYRING}] {archive} {suite} {parts}" for suite in (recipe.suite, f"{recipe.suite}-updates")
    ]
    if security is not None:
        lines.append(f"deb [signed-by={KEYRING}] {security} {recipe.suite}-security {parts}")
    return "\n".join(lines) + "\n"


class Archive:
    """apt on a root of its own below `root`, and the packages it fetched."""

    def __init__(self, root: Path, debs: Path) -> None:
        self._root, self._debs = root, debs

    def update(self, listed: str) -> None:
        for folder in ("state/lists/partial", "cache/archives/partial"):
            (self._root / folder).mkdir(parents=True, exist_ok=True)
        (self._root / "status").touch()
        (self._root / "sources.list").write_text(listed, encoding="utf-8")
        (self._root / "apt.conf").write_text(self._configuration(), encoding="utf-8")
        self._apt("apt-get", "update", "-qq")

    def fetch(self, name: str, packages: Sequence[str]) -> list[Deb]:
        """Resolve, download what the cache lacks, check every hash, write `<name>.json`."""
        wanted = ("?essential", *packages)
        nowhere = f"-oDir::Cache::archives={self._root}/nowhere"  # apt does not list what it already has
        (self._root / "nowhere/partial").mkdir(parents=True, exist_ok=True)
        listed = self._apt("apt-get", "install", "-y", "--print-uris", nowhere, "-oAcquire::ForceHash=SHA256", *wanted)
        debs = sorted((Deb(m[1], int(m[2]), m[3]) for m in _LINE.findall(listed)), key=lambda deb: deb.name)
        for deb in debs:  # apt takes what it already has
            kept, fetched = self._debs / deb.sha256, self._root / "cache/archives" / deb.name
            if kept.exists() and not fetched.exists():
                fetched.hardlink_to(kept)
        self._apt("apt-get", "install", "-y", "--download-only", "-qq", *wanted)
        for deb in debs:
            self._keep(deb)
        stanzas = self._stanzas(debs)
        record = {"packages": list(packages), "debs": [asdict(deb) for deb in debs], "stanzas": stanzas}
        part = self._debs / f"{name}.json.part"
        part.write_text(json.dumps(record, indent=1), encoding="utf-8")
        part.rename(self._debs / f"{name}.json")
        return debs

    def _keep(self, deb: Deb) -> None:
        fetched, kept = self._root / "cache/archives" / deb.name, self._debs / deb.sha256
        if hashes.of_file(fetched) != deb.sha256:
            for damaged in (fetched, kept):  # (one file under two names, or the next run would take it once more)
                damaged.unlink(missing_ok=True)
            raise ImageError(f"{deb.name} is not what the archive's index says.", "Run the command again.")
        if not (kept.exists() and kept.samefile(fetched)):
            kept.unlink(missing_ok=True)  # it was cut short, so that apt fetched another
            kept.hardlink_to(fetched)

    def _stanzas(self, debs: Sequence[Deb]) -> dict[str, str]:
        """sha256 → the package's entry of the archive's index."""
        wanted = {deb.sha256 for deb in debs}
        names = sorted({deb.name.split("_")[0] for deb in debs})
        shown = self._apt("apt-cache", "show", *names)
        found = {}
        for stanza in shown.split("\n\n"):
            match = re.search(r"^SHA256: (\S+)$", stanza, re.MULTILINE)
            if match and match[1] in wanted:
                found[match[1]] = stanza.strip()
        if wanted - found.keys():
            raise ImageError("apt's index lacks packages that apt just resolved.", "Run the command again.")
        return found

    def _apt(self, program: str, *arguments: str) -> str:
        return run([program, *arguments, *_OURS], env={"APT_CONFIG": str(self._root / "apt.conf")})

    def _configuration(self) -> str:
        root = self._root
        return (
            f'Dir::State "{root}/state"; Dir::State::status "{root}/status"; Dir::Cache "{root}/cache";\n'
            f'Dir::Etc::SourceList "{root}/sources.list"; Dir::Etc::SourceParts "/dev/null";\n'
            'Dir::Etc::Preferences "/dev/null"; Dir::Etc::PreferencesParts "/dev/null";\n'
            'APT::Architecture "amd64"; APT::Architectures "amd64"; APT::Sandbox::User "root";\n'
            'Binary::apt-get::APT::Keep-Downloaded-Packages "1";\n'
        )


def recorded(debs: Path, name: str, packages: Sequence[str]) -> list[Deb]:
    """What `fetch` resolved last. Raises ImageError if that is missing, incomplete or for other packages."""
    path = debs / f"{name}.json"
    hint = "Run ./build.sh fetch on a connected machine first."
    if not path.exists():
        raise ImageError(f"cache/ holds no packages for '{name}'.", hint)
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        wanted, found = record["packages"], [Deb(**deb) for deb in record["debs"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ImageError(f"{path} is damaged.", hint) from error
    if wanted != list(packages):
        raise ImageError(f"The recipe's packages for '{name}' changed since they were fetched.", hint)
    if lacking := [deb.name for deb in found if not (debs / deb.sha256).exists()]:
        raise ImageError(f"cache/ lacks {len(lacking)} packages, {lacking[0]} for one.", hint)
    return found


def whole(debs: Path, deb: Deb) -> Path:
    """A package's file in the cache. Raises ImageError where it is damaged."""
    kept = debs / deb.sha256
    if hashes.of_file(kept) != deb.sha256:
        raise ImageError(
            f"{deb.name} in the cache is damaged: {kept}", "Run ./build.sh fetch on a connected machine: it mends that."
        )
    return kept


def local_archive(debs: Path, name: str, into: Path) -> str:
    """A flat archive of exactly these packages in `into`; the line for sources.list. Raises ImageError where one
    is damaged."""
    record = json.loads((debs / f"{name}.json").read_text(encoding="utf-8"))
    stanzas = []
    into.mkdir(parents=True, exist_ok=True)
    for raw in record["debs"]:
        deb = Deb(**raw)
        placed = into / f"{deb.sha256}.deb"
        placed.unlink(missing_ok=True)  # by a build that was cut short
        placed.hardlink_to(whole(debs, deb))
        stanza = record["stanzas"][deb.sha256]
        stanzas.append(re.sub(r"^Filename: .*$", f"Filename: ./{deb.sha256}.deb", stanza, flags=re.MULTILINE))
    (into / "Packages").write_text("\n\n".join(stanzas) + "\n", encoding="utf-8")
    return f"deb [trusted=yes] copy:{quote(str(into))} ./"  # (a space would be the end of it)
