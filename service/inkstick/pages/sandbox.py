"""How a process that opens untrusted documents is started, and what it cannot do.

Threat: a document that takes over its parser. Rule: the parser can then reach nothing but its own socket and the
descriptors that it was given: no network, no data folder, no other process, no writable file, bounded memory, time
and processes. Residual risks are in docs/sandbox.md.

Two layers. The outer one is a unit of systemd's for each parser, where the setting `pages_socket` names the socket that
starts them (the appliance); else bubblewrap, where a trial run shows that it works. The inner one (`confine`) is what
a process can do to itself before it reads its first byte: resource limits, no_new_privs, death with its parent.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import shutil
import signal
import site
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import inkstick

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38
TMP_BYTES = 64 << 20
CPU_SECONDS = 20_000
FILE_BYTES = 20 << 30
TRIAL_SECONDS = 300.0
"""Against a hang only: who gives up too early on a slow machine goes on without the outer layer."""


@dataclass(frozen=True, slots=True)
class Sandbox:
    """Which layers are used. `bwrap`: path of bubblewrap, None where it is missing or does not work. `units`: at this
    socket systemd starts parsers; then none is started here (`inkstick.pages.unit`)."""

    bwrap: str | None = None
    why_not: str = ""
    units: Path | None = None

    def describe(self) -> dict[str, str]:
        """The layers in words, for `inkstick doctor`."""
        walls = "no network, no data folder, own processes, read-only system"
        if self.units:
            outer = f"a unit of systemd's for each parser ({self.units}): {walls}"
        elif self.bwrap:
            outer = f"bubblewrap ({self.bwrap}): {walls}"
        else:
            outer = f"none: {self.why_not or 'bubblewrap is not installed'}"
        return {
            "outer": outer,
            "inner": "memory, time, file and descriptor limits; no new privileges; dies with the service",
        }

    def command(self, arguments: Sequence[str]) -> list[str]:
        """The command line that runs the Python interpreter with these arguments inside the sandbox."""
        python = [sys.executable, *arguments]
        return [*_bwrap_arguments(self.bwrap), *python] if self.bwrap else python

    def popen(self, arguments: Sequence[str], channel: socket.socket, errors: int) -> subprocess.Popen[bytes]:
        """Start it with `channel` as its standard input and `errors` (a descriptor) as its standard error."""
        return subprocess.Popen(
            self.command(arguments),
            stdin=channel.fileno(),
            stdout=subprocess.DEVNULL,
            stderr=errors,
            env=environment(),
            cwd="/",
            start_new_session=True,
        )


def detect(units: Path | None = None) -> Sandbox:
    """The strongest sandbox that works here, by trying it. `units` (setting `pages_socket`): that, nothing weaker."""
    if units is not None:
        return Sandbox(units=units)
    path = shutil.which("bwrap")
    if path is None:
        return Sandbox(None, "bubblewrap is not installed")
    trial = Sandbox(path)
    try:
        done = subprocess.run(
            trial.command(["-c", "import inkstick"]),
            env=environment(),
            capture_output=True,
            timeout=TRIAL_SECONDS,
            cwd="/",
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Sandbox(None, f"bubblewrap does not start: {error}")
    if done.returncode:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        return Sandbox(None, f"bubblewrap does not work here: {lines[-1] if lines else done.returncode}")
    return trial


def environment() -> dict[str, str]:
    """All that a parser process sees of the environment."""
    return {
        "PATH": "/usr/bin:/bin",
        "HOME": "/tmp",  # noqa: S108 - the sandbox's own, empty
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(_package().parent),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUTF8": "1",
        "PYTHONSAFEPATH": "1",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "ORT_DISABLE_TELEMETRY": "1",
        "MALLOC_ARENA_MAX": "2",
    }


def _package() -> Path:
    return Path(inkstick.__file__).resolve().parent


def _bwrap_arguments(bwrap: str) -> list[str]:
    out = [bwrap, "--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL", "--clearenv"]
    out += ["--proc", "/proc", "--dev", "/dev", "--perms", "0700", "--size", str(TMP_BYTES), "--tmpfs", "/tmp"]  # noqa: S108
    for path in _system_paths():
        out += ["--symlink", str(path.readlink()), str(path)] if path.is_symlink() else _read_only(path)
    for path in _python_paths():
        out += _read_only(path)
    for name, value in environment().items():
        out += ["--setenv", name, value]
    return [*out, "--hostname", "inkstick", "--chdir", "/", "--remount-ro", "/", "--"]


def _read_only(path: Path) -> list[str]:
    return ["--ro-bind", str(path), str(path)]


def _system_paths() -> list[Path]:
    names = ("/usr", "/lib", "/lib32", "/lib64", "/libx32", "/bin", "/etc/ld.so.cache")
    return [path for path in map(Path, names) if path.exists()]


def _python_paths() -> list[Path]:
    """The interpreter, the environment with the packages, and our own package; nothing else of the disk."""
    wanted = {Path(sys.base_prefix), Path(sys.base_exec_prefix), Path(sys.prefix), _package()}
    wanted |= {Path(folder) for folder in site.getsitepackages() if Path(folder).is_dir()}
    wanted |= {Path(os.path.realpath(sys.executable)).parent.parent}
    chosen: list[Path] = [Path("/usr")]
    for path in sorted(wanted, key=lambda p: len(p.parts)):
        if path != Path("/") and not any(path.is_relative_to(other) for other in chosen):
            chosen.append(path)
    return chosen[1:]


# What a process does to itself ------------------------------------------------------------------------------------


def confine(memory_bytes: int, *, parent: int | None = None) -> None:
    """Limit the calling process for good. `parent`: its parent's pid, to notice a parent that is already dead."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    if parent is not None and os.getppid() != parent:
        os._exit(1)
    for what, value in _limits(memory_bytes).items():
        with contextlib.suppress(ValueError, OSError):  # already lower: all the better
            resource.setrlimit(what, (value, value))
    os.umask(0o077)


def _limits(memory_bytes: int) -> Mapping[int, int]:
    return {
        resource.RLIMIT_AS: memory_bytes,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: 256,
        resource.RLIMIT_FSIZE: FILE_BYTES,
        resource.RLIMIT_CPU: CPU_SECONDS,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
    }


def channel() -> socket.socket:
    """What was given as standard input, moved away from there so that no library reads from it."""
    sock = socket.socket(fileno=os.dup(0))
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    return sock


def renew_cpu(seconds: float) -> None:
    """Allow `seconds` of processor time from now; past them the kernel sends SIGXCPU, which ends the process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    soft = int(used.ru_utime + used.ru_stime + seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (min(soft, hard) if hard > 0 else soft, hard))
