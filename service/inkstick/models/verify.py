"""Are the files in a folder the model, the whole model, and nothing that could run code?

The threat: weights come from the network or from somebody's stick, and the engine loads whatever lies beside them. The
rules: every file of the manifest is there with its size and sha256; a weights or code file without a known hash is
refused; safetensors headers are sound; no pickle, and no code that the manifest does not list, lies anywhere in the
folder; no configuration points at such code. What remains: the manifest itself is believed.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from inkstick.errors import UsageError
from inkstick.models import safetensors
from inkstick.models.manifest import Manifest, ModelFile, Repository, Role

Progress = Callable[[ModelFile, int, int | None], None]
"""Called with a file, the bytes of it that are done, and its size if known."""

CHUNK = 1 << 20
CONFIG_LIMIT = 64 << 20

PICKLES = frozenset(
    {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".dill", ".npy", ".npz", ".h5", ".pdparams"}
)
CODE = frozenset({".py", ".pyc", ".pyd", ".pyx", ".so", ".pth", ".whl", ".egg"})


class Problem(StrEnum):
    """What is wrong with a file. Closed set; `unpinned` alone may be harmless."""

    MISSING = "missing"
    SIZE = "size"
    SHA256 = "sha256"
    UNPINNED = "unpinned"
    HEADER = "header"
    PICKLE = "pickle"
    FOREIGN_CODE = "foreign_code"
    FOREIGN_WEIGHTS = "foreign_weights"
    REMOTE_CODE = "remote_code"
    LINK = "link"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: `path` below the folder, a sentence, and the command or action that mends it."""

    path: str
    problem: Problem
    message: str
    mend: str
    fatal: bool = True


@dataclass(frozen=True, slots=True)
class Report:
    """What a check found. `files` and `bytes` count what was right."""

    model: str
    folder: Path
    findings: tuple[Finding, ...]
    files: int
    bytes: int

    @property
    def sound(self) -> bool:
        """Whether the model may be used."""
        return not any(finding.fatal for finding in self.findings)

    def require(self) -> None:
        """Raises UsageError (code model_damaged) that names the first thing wrong and its mend."""
        wrong = [finding for finding in self.findings if finding.fatal]
        if wrong:
            more = f" ({len(wrong) - 1} more)" if len(wrong) > 1 else ""
            raise UsageError(wrong[0].message + more, hint=wrong[0].mend, code="model_damaged")


def verify(
    manifest: Manifest,
    folder: Path,
    *,
    given: bool = False,
    extras: tuple[str, ...] = (),
    progress: Progress | None = None,
) -> Report:
    """Check a model's folder, reading every byte. `given`: the folder is somebody's (``--weights``), which changes the
    advice only. Extras are checked where they are present. For an embedded model the folder is not looked at."""
    if manifest.embedded:
        return _embedded(manifest, progress)
    wanted = [entry for entry in manifest.all_files() if _due(entry, folder, extras)]
    findings = [finding for entry in wanted if (finding := check(entry, folder / entry.to, progress))]
    findings += foreign(manifest, folder)
    mended = tuple(replace(finding, mend=_mend(manifest, finding, folder, given)) for finding in findings)
    return _report(manifest, folder, wanted, mended)


def _due(entry: ModelFile, folder: Path, extras: tuple[str, ...]) -> bool:
    return entry.extra is None or entry.extra in extras or (folder / entry.to).exists()


def _report(manifest: Manifest, folder: Path, wanted: list[ModelFile], findings: tuple[Finding, ...]) -> Report:
    wrong = {finding.path for finding in findings}
    right = [entry for entry in wanted if entry.to not in wrong]
    return Report(manifest.id, folder, findings, len(right), sum(entry.size or 0 for entry in right))


def check(entry: ModelFile, path: Path, progress: Progress | None = None) -> Finding | None:
    """Check one file against its entry: there, its size, its sha256, its header. None if nothing is wrong."""
    try:
        size = path.stat().st_size
        if entry.size is not None and size != entry.size:
            return _finding(entry, Problem.SIZE, f"has {size:,} bytes instead of {entry.size:,}")
        if entry.sha256 is None:
            return _unpinned(entry)
        if digest(entry, path, progress) != entry.sha256:
            return _finding(entry, Problem.SHA256, "is damaged or another version: its sha256 differs")
        wrong = safetensors.problem(path) if path.suffix == ".safetensors" else None
        return _finding(entry, Problem.HEADER, wrong) if wrong else None
    except FileNotFoundError:
        return _finding(entry, Problem.MISSING, "is missing")
    except OSError as error:
        return _finding(entry, Problem.UNREADABLE, f"cannot be read ({error.strerror})")


def digest(entry: ModelFile, path: Path, progress: Progress | None = None) -> str:
    """The file's sha256, read in pieces."""
    hasher, done = hashlib.sha256(), 0
    with path.open("rb") as stream:
        while piece := stream.read(CHUNK):
            hasher.update(piece)
            done += len(piece)
            if progress:
                progress(entry, done, entry.size)
    return hasher.hexdigest()


def _unpinned(entry: ModelFile) -> Finding:
    fatal = entry.role in (Role.WEIGHTS, Role.CODE)
    why = "so it cannot be trusted" if fatal else "so it was not checked"
    return _finding(entry, Problem.UNPINNED, f"is unpinned: the manifest holds no sha256 for it, {why}", fatal=fatal)


def _finding(entry: ModelFile, problem: Problem, what: str, *, fatal: bool = True) -> Finding:
    return Finding(entry.to, problem, f"{entry.to} {what}.", "", fatal)


def strays(manifest: Manifest, folder: Path) -> list[Finding]:
    """What lies in a model's own folder and must not, each with its mend."""
    return [replace(finding, mend=_mend(manifest, finding, folder, False)) for finding in foreign(manifest, folder)]


def foreign(manifest: Manifest, folder: Path) -> list[Finding]:
    """What lies beside the model and must not: pickles, code, weights, links to folders, pointers to code."""
    known = {entry.to: entry for entry in manifest.all_files()}
    weights = {str(Path(name).parent) for name, entry in known.items() if entry.role is Role.WEIGHTS}
    code = {name for name, entry in known.items() if entry.role is Role.CODE}
    found: list[Finding] = []
    for name in sorted(_walk(folder)):
        finding = _stray(name, folder, weights) if name not in known else None
        if finding is None and name.endswith(".json"):
            finding = _pointer(name, folder, code)
            if finding and finding.problem is Problem.UNREADABLE and name in known:
                continue  # `check` tells it
            if finding and known.get(name, _UNKNOWN).pinned and not manifest.trusts_code:
                # The manifest vouches for these bytes, and the engine is not told to run what they point at.
                finding = replace(finding, fatal=False)
        if finding:
            found.append(finding)
    return found


def _walk(folder: Path) -> Iterator[str]:
    """Names of all files, and of links to folders, below the folder; with ``/``."""
    for root, folders, files in os.walk(folder):
        links = [name for name in folders if (Path(root) / name).is_symlink()]
        for name in [*files, *links]:
            yield (Path(root) / name).relative_to(folder).as_posix()


def _stray(name: str, folder: Path, weights: set[str]) -> Finding | None:
    suffix = Path(name).suffix.lower()
    if (folder / name).is_dir():
        return Finding(name, Problem.LINK, f"{name} is a link to a folder, whose files are not checked.", "")
    if suffix in CODE:
        return Finding(name, Problem.FOREIGN_CODE, f"{name} is program code that the manifest does not list.", "")
    if suffix in PICKLES:
        return Finding(name, Problem.PICKLE, f"{name} is a format that can run code when it is loaded.", "")
    if suffix == ".safetensors":
        beside = str(Path(name).parent) in weights
        return Finding(
            name, Problem.FOREIGN_WEIGHTS, f"{name} are weights that the manifest does not list.", "", beside
        )
    return None


def _pointer(name: str, folder: Path, code: set[str]) -> Finding | None:
    """A configuration whose ``auto_map`` names code that the manifest does not list beside it, or in another repository
    (``NAME--module.Class``, which is no file's name)."""
    path = folder / name
    try:
        if not path.is_file() or path.stat().st_size > CONFIG_LIMIT:
            return None
        values = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return None
    except OSError as error:
        return Finding(name, Problem.UNREADABLE, f"{name} cannot be read ({error.strerror}).", "")
    for reference in _references(values):
        module = reference.partition(".")[0]
        target = (Path(name).parent / f"{module}.py").as_posix()
        if target not in code:
            what = f"{name} asks for the program code {reference!r}, which the manifest does not list."
            return Finding(name, Problem.REMOTE_CODE, what, "")
    return None


def _references(values: Any) -> Iterator[str]:
    """Every text inside every ``auto_map`` of a JSON value."""
    if isinstance(values, dict):
        for key, value in values.items():
            yield from _texts(value) if key == "auto_map" else _references(value)
    elif isinstance(values, list):
        for value in values:
            yield from _references(value)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)


_UNKNOWN = ModelFile("", "", Role.CONFIG)

_FOREIGN = {
    Problem.PICKLE, Problem.FOREIGN_CODE, Problem.FOREIGN_WEIGHTS, Problem.LINK,
}  # fmt: skip


def _mend(manifest: Manifest, finding: Finding, folder: Path, given: bool) -> str:
    """What to do about a finding, as a command where there is one."""
    entry = next((entry for entry in manifest.all_files() if entry.to == finding.path), None)
    extra = entry.extra if entry else None
    fetch = f"inkstick models fetch {manifest.id} --to {shlex.quote(str(folder))}" + (
        f" --with {extra}" if extra else ""
    )
    if finding.problem in _FOREIGN or (finding.problem is Problem.UNREADABLE and entry is None):
        return f"Take it out of the folder: rm -r {shlex.quote(str(folder / finding.path))}"
    if finding.problem is Problem.REMOTE_CODE:
        return f"Do not use this folder. Get the model anew: inkstick models fetch {manifest.id}"
    if finding.problem is Problem.UNPINNED:
        return f"Add the file's sha256, from a source that you trust, to the manifest of {manifest.id}."
    if finding.problem is Problem.HEADER:
        return (
            f"The file is as published, but not sound. Do not use it; tell whoever wrote the manifest of {manifest.id}."
        )
    if given:
        return f"Copy it again from where it came, or get it: {fetch}"
    return f"Get it again: {fetch}"


def _embedded(manifest: Manifest, progress: Progress | None) -> Report:
    """Check files that came with installed packages, where they are."""
    findings: list[Finding] = []
    wanted: list[ModelFile] = []
    for repository in manifest.repositories:
        found = _package(repository, progress)
        findings += found
        wanted += [] if any(finding.path == repository.package for finding in found) else repository.files
    return _report(manifest, Path(), wanted, tuple(findings))


def _package(repository: Repository, progress: Progress | None) -> list[Finding]:
    package = repository.package or ""
    mend = f"Install it again: pip install --force-reinstall --no-deps {package}=={repository.revision}"
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return [Finding(package, Problem.MISSING, f"The package {package} is not installed.", mend)]
    installed = importlib.metadata.version(package)
    if installed != repository.revision:
        what = f"The package {package} is version {installed} instead of {repository.revision}."
        return [Finding(package, Problem.SHA256, what, mend)]
    root = Path(spec.submodule_search_locations[0])
    found = [check(entry, root / entry.path, progress) for entry in repository.files]
    return [replace(finding, mend=mend) for finding in found if finding]


def recognise(folder: Path, manifests: tuple[Manifest, ...]) -> Manifest:
    """The model whose weights files, by name and size, lie in a folder. Raises UsageError if none or several do."""
    fitting = [manifest for manifest in manifests if _weights_fit(folder, manifest)]
    if len(fitting) == 1:
        return fitting[0]
    names = ", ".join(manifest.id for manifest in fitting or manifests if not manifest.embedded)
    found = "fits several models" if fitting else "holds the weights of no model that is known"
    raise UsageError(
        f"The folder {folder} {found}.", hint=f"Say which one it is: inkstick models verify ID --weights DIR ({names})."
    )


def _weights_fit(folder: Path, manifest: Manifest) -> bool:
    if manifest.embedded:
        return False
    reading = manifest.repositories[0].files
    weights = [entry for entry in reading if entry.role is Role.WEIGHTS and entry.extra is None]
    return all((folder / entry.to).is_file() and (folder / entry.to).stat().st_size == entry.size for entry in weights)
