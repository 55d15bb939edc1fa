"""`inkstick doctor`: what is in force on this machine, and whether it will do. Reads; writes one probe file.

Each check gives findings: ok, warn (works, but) or bad (will not work), in words, with what to do.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import os
import platform
import shutil
import socket
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

from inkstick import __version__
from inkstick.config import DataFolder, Settings
from inkstick.supervise.machine import pci_cards

ENGINE_KEY = "INKSTICK_ENGINE_KEY"
PACKAGES = ("fastapi", "starlette", "uvicorn", "rapidocr", "onnxruntime", "pymupdf", "pillow", "numpy")
OLDEST_SQLITE = (3, 51, 3)
BYTES_PER_CORE = 1 << 30
FONT_FOLDERS = ("/usr/share/fonts", "/usr/local/share/fonts")
CJK_FONTS = ("cjk", "notosanssc", "notoserifsc", "sourcehan", "wqy", "wenquanyi", "droidsansfallback", "uming", "ukai")


class Level(StrEnum):
    OK = "ok"
    WARN = "warn"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Finding:
    level: Level
    name: str
    text: str
    hint: str = ""


def examine(settings: Settings) -> Iterator[Finding]:
    """Every check, in the order in which a person wants to read them. A check that breaks is itself a finding."""
    checks: tuple[Callable[[Settings], Iterator[Finding]], ...] = (
        _settings, _software, _sqlite, _machine, _data_folder, _disk, _page, _sandbox, _engine, _gpu, _fonts,
    )  # fmt: skip
    for check in checks:
        try:
            yield from check(settings)
        except Exception as error:  # (whatever is wrong with this machine, the other checks still run)
            yield Finding(Level.BAD, check.__name__.strip("_"), f"the check itself broke: {error!r}", "Report this.")


def _settings(settings: Settings) -> Iterator[Finding]:
    for field in dataclasses.fields(settings):
        yield Finding(Level.OK, f"setting {field.name}", str(getattr(settings, field.name)))
    known = {f"INKSTICK_{field.name.upper()}" for field in dataclasses.fields(settings)} | {ENGINE_KEY}
    for name in sorted(name for name in os.environ if name.startswith("INKSTICK_") and name not in known):
        yield Finding(Level.WARN, "settings", f"{name} is none of them and counts for nothing", "See docs/settings.md.")


def _software(_: Settings) -> Iterator[Finding]:
    yield Finding(Level.OK, "inkstick", __version__)
    yield Finding(Level.OK, "python", f"{platform.python_version()} ({sys.executable})")
    for package in PACKAGES:
        try:
            yield Finding(Level.OK, package, importlib.metadata.version(package))
        except importlib.metadata.PackageNotFoundError:
            yield Finding(Level.BAD, package, "not installed", "Run ./build.sh run: it installs what is missing.")


def _sqlite(_: Settings) -> Iterator[Finding]:
    import apsw

    text = apsw.sqlite_lib_version()
    if tuple(int(part) for part in text.split(".")[:3]) >= OLDEST_SQLITE:
        yield Finding(Level.OK, "sqlite", text)
    else:
        yield Finding(
            Level.BAD, "sqlite", f"{text} can lose data", "Install apsw 3.51.3 or newer; it brings its own SQLite."
        )


def _machine(settings: Settings) -> Iterator[Finding]:
    yield Finding(Level.OK, "system", f"{_system_name()}, Linux {platform.release()}, {platform.machine()}")
    memory = _memory()
    text = f"{settings.cores} cores, {_gigabytes(memory)} of memory available"
    if memory < (settings.workers or settings.cores) * BYTES_PER_CORE:
        yield Finding(Level.WARN, "machine", text, "Set INKSTICK_WORKERS lower: each OCR process wants about 1 GB.")
    else:
        yield Finding(Level.OK, "machine", text)


def _system_name() -> str:
    for line in Path("/etc/os-release").read_text(encoding="utf-8").splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip('"')
    return "unknown system"


def _memory() -> int:
    """Bytes available, without swap."""
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


def _data_folder(settings: Settings) -> Iterator[Finding]:
    from inkstick.errors import Unavailable, UsageError
    from inkstick.intake.root import guard_against_loops

    folder = settings.folder
    if not folder.root.exists():
        yield Finding(Level.OK, "data folder", f"{folder.root} will be made at the first start")
        return
    for path in (folder.root, folder.inbox, folder.results, folder.done, folder.failed, folder.state):
        if path.exists():
            yield _writable(path)
        elif path.is_symlink():
            hint = "Plug it in or mount it. Nothing is lost meanwhile."
            yield Finding(Level.BAD, f"folder {path.name}", f"leads to {path.readlink()}, which is not there", hint)
    try:
        guard_against_loops(folder)
    except UsageError as error:
        yield Finding(Level.BAD, "folder inbox", error.message, error.hint)
    except Unavailable:
        pass  # told above
    yield _one_file_system(folder)
    if folder.state.exists() and folder.state.stat().st_mode & 0o077:
        hint = f"chmod 700 {folder.state}"
        yield Finding(Level.WARN, "privacy", "other users of this machine can look into state/", hint)


def _writable(path: Path) -> Finding:
    """A real write: permissions, read-only mounts and quotas all show."""
    probe = path / f".inkstick-doctor-{uuid.uuid4().hex[:8]}"
    try:
        with probe.open("xb") as file:
            file.write(b"probe")
            os.fsync(file.fileno())
    except OSError as error:
        return Finding(Level.BAD, f"folder {path.name}", f"cannot be written: {error.strerror}", f"Look at {path}.")
    finally:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)
    return Finding(Level.OK, f"folder {path.name}", f"{path} can be written")


def _one_file_system(folder: DataFolder) -> Finding:
    root = folder.root.stat().st_dev
    elsewhere = [
        p for p in (folder.results, folder.done, folder.failed, folder.state) if p.exists() and p.stat().st_dev != root
    ]
    if elsewhere:
        names = ", ".join(path.name for path in elsewhere)
        hint = "Results appear by one rename, which needs one file system: mount the whole data folder instead."
        return Finding(Level.BAD, "file system", f"{names}: on another file system than the data folder", hint)
    if folder.inbox.exists() and folder.inbox.stat().st_dev != root:
        return Finding(Level.OK, "file system", "the inbox is on another one: files are copied, not moved")
    return Finding(Level.OK, "file system", "all folders are on one")


def _disk(settings: Settings) -> Iterator[Finding]:
    place = next(path for path in (settings.data, *settings.data.parents) if path.exists())
    usage = shutil.disk_usage(place)
    text = f"{_gigabytes(usage.free)} of {_gigabytes(usage.total)} free; {_gigabytes(settings.reserve_bytes)} are kept"
    if usage.free < settings.reserve_bytes:
        yield Finding(Level.BAD, "disk", text, "Nothing is accepted until there is more room: carry results away.")
    elif usage.free < 2 * settings.reserve_bytes:
        yield Finding(Level.WARN, "disk", text, "Carry results away soon.")
    else:
        yield Finding(Level.OK, "disk", text)


def _page(settings: Settings) -> Iterator[Finding]:
    from inkstick.access.place import check_host
    from inkstick.errors import UsageError
    from inkstick.web.server import listen

    try:
        check_host(settings.host)
        listen(settings.host, settings.port).close()
    except UsageError as error:
        running = settings.folder.address  # which outlives a power cut
        if running.exists() and not _reach(f"unix://{settings.folder.door}"):
            yield Finding(Level.OK, "page", f"is being served at {running.read_text(encoding='utf-8')}")
        else:
            yield Finding(Level.BAD, "page", error.message, error.hint)
    else:
        yield Finding(Level.OK, "page", f"port {settings.port} on {settings.host} is free")


def _sandbox(settings: Settings) -> Iterator[Finding]:
    from inkstick.pages.sandbox import detect

    for name, text in detect(settings.pages_socket).describe().items():
        missing = text.startswith("none")
        hint = "Install bubblewrap, so that a hostile document meets one more wall." if missing else ""
        yield Finding(Level.WARN if missing else Level.OK, f"sandbox, {name}", text, hint)


def _engine(settings: Settings) -> Iterator[Finding]:
    if not settings.engine_url:
        yield _own_engine(settings)
        return
    problem = _reach(settings.engine_url)
    if problem:
        hint = "Start it, or leave --engine-url out: the embedded engine reads then."
        yield Finding(Level.BAD, "engine", f"{settings.engine_url} does not answer: {problem}", hint)
    else:
        yield Finding(Level.OK, "engine", f"{settings.engine_url} takes connections")


def _own_engine(settings: Settings) -> Finding:
    from inkstick.engines.registry import runs
    from inkstick.engines.supervised import SupervisedEngine, sentence
    from inkstick.errors import UsageError
    from inkstick.supervise import statefile, weights
    from inkstick.supervise.choice import hindrance, supervises

    try:
        if (why := hindrance(settings)) is not None:
            return Finding(Level.WARN, "engine", f"embedded (rapidocr), not the model. {why.message}", why.hint)
        if not supervises(settings):
            return Finding(Level.OK, "engine", "embedded (rapidocr); no server was named by --engine-url")
        if not runs(settings):
            return Finding(Level.OK, "engine", "vllm; it does not run now, `inkstick run` starts it")
        state = SupervisedEngine(settings.folder, weights.chosen(settings).spec).told()
    except UsageError as error:
        return Finding(Level.BAD, "engine", error.message, error.hint)
    hint = "" if state.ready else f"The CPU engine reads meanwhile. Its log: {settings.folder.engine / statefile.LOG}"
    return Finding(Level.OK if state.ready else Level.WARN, "engine", sentence(state), hint)


def _reach(url: str) -> str:
    """Why nothing can be reached there, or an empty text."""
    parts = urlsplit(url)
    try:
        if parts.scheme == "unix":
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door:
                door.settimeout(3)
                door.connect(parts.path)
        elif parts.scheme in ("http", "https") and parts.hostname:
            port = parts.port or (443 if parts.scheme == "https" else 80)
            socket.create_connection((parts.hostname, port), 3).close()
        else:
            return "neither http://… nor unix:///path"
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _gpu(_: Settings) -> Iterator[Finding]:
    cards = pci_cards(Path("/sys/bus/pci/devices"))
    driver = Path("/proc/driver/nvidia/version")
    if not cards and not driver.exists():
        yield Finding(Level.OK, "gpu", "no NVIDIA GPU; the CPU engine reads")
    elif not driver.exists():
        hint = "Pages are read on the CPU. With Secure Boot on, the driver's key may not be enrolled."
        yield Finding(Level.WARN, "gpu", f"{len(cards)} NVIDIA GPU, but no driver is loaded", hint)
    elif not any(Path("/dev").glob("nvidia[0-9]*")):
        yield Finding(Level.WARN, "gpu", "the driver is loaded, but there is no /dev/nvidia0", "Run nvidia-modprobe.")
    else:
        version = driver.read_text(encoding="utf-8").splitlines()[0]
        yield Finding(Level.OK, "gpu", f"{max(1, len(cards))} NVIDIA GPU; {version}")


def _fonts(_: Settings) -> Iterator[Finding]:
    files = [path for folder in FONT_FOLDERS for path in Path(folder).rglob("*.[to]t[fc]")]
    cjk = [path for path in files if any(name in path.name.lower().replace("-", "") for name in CJK_FONTS)]
    if cjk:
        yield Finding(Level.OK, "fonts", f"{len(files)} installed, Chinese among them ({cjk[0].name})")
    else:
        hint = "Only for looking at pages on this machine's own screen: install fonts-noto-cjk."
        yield Finding(Level.OK, "fonts", f"{len(files)} installed, none with Chinese", hint)


def _gigabytes(count: int) -> str:
    return f"{count / (1 << 30):.1f} GiB"
