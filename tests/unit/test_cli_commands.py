"""The command line: what it takes, what it refuses and how, its exit statuses."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import getpass
import io
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from rich.console import Console

from inkstick import cli, doctor
from inkstick.commands import ocr
from inkstick.commands.run import SAMPLES, _Host, drop_samples
from inkstick.config import DataFolder, Settings
from inkstick.doctor import Level, examine
from inkstick.errors import Encrypted, UsageError
from inkstick.profile import Format, Profile
from inkstick.supervise.machine import pci_cards
from inkstick.web.office_port import OnProgress


def inkstick(*arguments: str, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "inkstick.cli", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, env={**os.environ, **(environment or {})}, check=False
    )


@dataclass(frozen=True)
class Outcome:
    path: Path
    state: str = "done"
    results: Path | None = None
    pages: int = 0
    flags: Mapping[str, int] = field(default_factory=dict)
    error: Mapping[str, str] | None = None


async def read_files(
    settings: Settings, profile: Profile, files: Sequence[Path], out: Path, on_progress: OnProgress
) -> list[Outcome]:
    """Reads a text file's lines as pages; one that says LOCKED is encrypted."""
    outcomes = []
    for file in files:
        lines = file.read_text().splitlines()
        for n in range(len(lines) + 1):
            on_progress(file, n, len(lines))
        if "LOCKED" in lines:
            outcomes.append(Outcome(file, "failed", error=Encrypted().as_json()))
        elif "DOUBT" in lines:
            outcomes.append(Outcome(file, "partial", out / file.stem, len(lines), {"suspect": 1}))
        else:
            outcomes.append(Outcome(file, "done", out / file.stem, len(lines)))
    return outcomes


async def run_ocr(tmp_path: Path, *texts: str, terminal: bool = False, **flags: bool) -> tuple[int, str, str]:
    files = []
    for n, text in enumerate(texts):
        files.append(tmp_path / f"{n}.txt")
        files[-1].write_text(text)
    out, err = io.StringIO(), io.StringIO()
    job = ocr.Job(Settings(data=tmp_path), Profile(), tuple(files), tmp_path / "out", **flags)
    consoles = Console(file=out, width=80, force_terminal=terminal), Console(file=err, force_terminal=terminal)
    status = await ocr.run(job, read_files, *consoles)
    return status, out.getvalue(), err.getvalue()


async def test_the_summary_names_each_file_and_where_it_went(tmp_path: Path) -> None:
    status, out, err = await run_ocr(tmp_path, "one\ntwo", "three")
    assert status == 0
    for n in range(2):
        assert any(f"{n}.txt" in line and f"out/{n}" in line and "done" in line for line in out.splitlines())
    assert out.endswith("2 files: 2 done\n")
    assert err.count("read") == 2


async def test_a_failed_file_is_named_with_its_code_and_hint_and_the_status_is_1(tmp_path: Path) -> None:
    status, out, _ = await run_ocr(tmp_path, "one", "LOCKED")
    assert status == 1
    assert "encrypted: The document is protected by a password. Save it without" in out


def test_passwords_come_from_a_file_to_the_letter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an editor of Windows saves it; a space and a comma belong to a password."""
    (tmp_path / "passwords").write_bytes("\ufeff geheim, \r\n\r\nschlüssel".encode())
    assert ocr.passwords_in(str(tmp_path / "passwords")) == (" geheim, ", "schlüssel")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"sesame\n")))
    assert ocr.profile_from({}, ocr.passwords_in("-")).passwords == ("sesame",)
    (tmp_path / "old").write_bytes(b"schl\xfcssel")
    for bad, said in ((tmp_path / "old", "not UTF-8"), (tmp_path, "cannot be read"), (tmp_path / "none", "cannot")):
        with pytest.raises(UsageError, match=said):
            ocr.passwords_in(str(bad))


async def test_a_partial_file_is_not_read_whole(tmp_path: Path) -> None:
    status, out, _ = await run_ocr(tmp_path, "DOUBT")
    assert status == 1
    assert "look at: 1 page in doubt" in out


async def test_quiet_prints_only_what_went_wrong(tmp_path: Path) -> None:
    assert await run_ocr(tmp_path, "one", quiet=True) == (0, "", "")
    status, out, err = await run_ocr(tmp_path, "one", "LOCKED", quiet=True)
    assert (status, err) == (1, "")
    assert "1.txt" in out
    assert "0.txt" not in out


async def test_json_is_one_document_for_programs(tmp_path: Path) -> None:
    status, out, err = await run_ocr(tmp_path, "one", "LOCKED", json=True)
    good, bad = json.loads(out)["documents"]
    assert (status, err) == (1, "")
    assert (good["state"], good["pages"], good["error"]) == ("done", 1, None)
    assert (bad["error"]["code"], bad["results"]) == ("encrypted", None)


async def test_a_terminal_gets_bars_and_a_table(tmp_path: Path) -> None:
    status, out, err = await run_ocr(tmp_path, "one\ntwo", "three", terminal=True)
    assert status == 0
    assert "all 2 files" in err
    assert "results, or what to do" in out


async def test_markup_in_a_name_is_printed_as_it_is(tmp_path: Path) -> None:
    odd = tmp_path / "[bold]x[red].txt"
    odd.write_text("one")
    out = io.StringIO()
    job = ocr.Job(Settings(data=tmp_path), Profile(), (odd,), tmp_path / "out")
    await ocr.run(job, read_files, Console(file=out, width=300), Console(file=io.StringIO(), force_terminal=True))
    assert "[bold]x[red].txt" in out.getvalue()


@pytest.mark.parametrize("terminal", [True, False])
async def test_a_name_cannot_write_lines_of_its_own_or_steer_the_terminal(tmp_path: Path, terminal: bool) -> None:
    odd = tmp_path / "a\ndone: b.pdf\x1b]0;c\x07\u202efdp.\u200cd.txt"
    odd.write_text("LOCKED")
    out, err = io.StringIO(), io.StringIO()
    job = ocr.Job(Settings(data=tmp_path), Profile(), (odd,), tmp_path / "out")
    consoles = Console(file=out, width=300, force_terminal=terminal), Console(file=err, force_terminal=terminal)
    await ocr.run(job, read_files, *consoles)
    said = out.getvalue() + err.getvalue()
    assert "a\\ndone: b.pdf\\x1b]0;c\\x07\\u202efdp.\u200cd.txt" in said
    assert not any(word in said for word in ("\ndone", "\x1b]", "\u202e"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
async def test_a_signal_that_would_end_it_leaves_nothing_half_made(tmp_path: Path, number: signal.Signals) -> None:
    async def reading() -> int:
        with tempfile.TemporaryDirectory(dir=tmp_path):
            os.kill(os.getpid(), number)
            await asyncio.sleep(60)
        return 0

    before = signal.signal(number, signal.SIG_DFL)
    try:
        assert await ocr.heeding_signals(reading()) == 130
    finally:
        asyncio.get_running_loop().remove_signal_handler(number)
        signal.signal(number, before)
    assert list(tmp_path.iterdir()) == []


def test_wishes_become_a_profile() -> None:
    profile = ocr.profile_from({"task": "extract", "keys": "invoice number, total", "formats": "md,pdf", "to": None})
    assert profile.keys == ("invoice number", "total")
    assert profile.formats == (Format.MD, Format.PDF, Format.JSON)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "COMMAND"),
        (("dance",), "invalid choice"),
        (("ocr", "a.pdf"), "-o"),
        (("ocr", "-o", "out"), "FILE"),
        (("ocr", "-o", "out", "missing.pdf"), "There is no file missing.pdf"),
        (("ocr", "-o", "out", "/"), "is a folder"),
        (("ocr", "-o", "out", "/dev/null"), "Save it as a file first"),
        (("ocr", "-o", "/etc/passwd", "/etc/hostname"), "is not a folder"),
        (("ocr", "-o", "out", "/etc/hostname", "--task", "dance"), "invalid choice"),
        (("ocr", "-o", "out", "/etc/hostname", "--formats", "exe"), "formats cannot be 'exe'"),
        (("ocr", "-o", "out", "/etc/hostname", "--task", "extract"), "needs keys"),
        (("serve", "--port", "99999"), "port"),
        (("run", "--samples", "/nowhere"), "/nowhere"),
        (("run", "--host", "inkstick.example"), "cannot be served"),
        (("serve", "--engine", "magic"), "invalid choice"),
        (("engine", "--model", "/nowhere/weights"), "config.json"),
        (("models",), "ACTION"),
        (("audit", "verify", "--data", "/nowhere"), "There is no data folder"),
    ],
)
def test_a_wrong_command_line_ends_with_2_and_says_why(
    arguments: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = cli.main(arguments)
    except SystemExit as ended:  # argparse
        status = int(str(ended.code))
    assert status == 2
    assert says in capsys.readouterr().err


def test_the_command_runs_and_tells_its_version() -> None:
    done = inkstick("--version")
    assert (done.returncode, done.stdout) == (0, "inkstick 0.1.0\n")


def test_help_names_every_command() -> None:
    done = inkstick("--help")
    for command in ("ocr", "serve", "watch", "run", "engine", "models", "doctor"):
        assert f"\n    {command} " in done.stdout


def test_doctor_tells_levels_and_ends_with_1_if_something_is_bad(tmp_path: Path) -> None:
    good = inkstick("doctor", "--data", str(tmp_path), "--port", "0", environment={"INKSTICK_RESERVE_BYTES": "1"})
    assert "bad " not in good.stdout, good.stdout
    assert good.returncode == 0
    bad = inkstick("doctor", "--data", str(tmp_path), "--port", "0", "--engine-url", f"unix://{tmp_path}/none")
    assert bad.returncode == 1
    assert "does not answer" in bad.stdout
    assert "Start it, or leave --engine-url out" in bad.stdout


def test_doctor_sees_a_full_disk_and_foreign_eyes(tmp_path: Path) -> None:
    DataFolder(tmp_path).create()
    (tmp_path / "state").chmod(0o755)
    found = {finding.name: finding for finding in examine(Settings(data=tmp_path, port=0, reserve_bytes=1 << 60))}
    assert found["disk"].level is Level.BAD
    assert found["privacy"].level is Level.WARN
    assert found["folder inbox"].level is Level.OK
    assert list(tmp_path.rglob(".inkstick-doctor*")) == []


def test_doctor_believes_no_address_that_a_power_cut_left_behind(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path / "data")
    settings.folder.create()
    settings.folder.address.write_text("http://127.0.0.1:1/")
    with socket.socket() as another:
        another.bind(("127.0.0.1", 0))
        another.listen()
        taken = dataclasses.replace(settings, port=another.getsockname()[1])
        (page,) = [finding for finding in examine(taken) if finding.name == "page"]
        assert (page.level, "in use" in page.text) == (Level.BAD, True), page
        with socket.socket(socket.AF_UNIX) as door:
            door.bind(str(settings.folder.door))
            door.listen()
            (page,) = [finding for finding in examine(taken) if finding.name == "page"]
    assert (page.level, page.text) == (Level.OK, "is being served at http://127.0.0.1:1/")


def test_doctor_sees_an_inbox_that_is_not_mounted_and_one_that_results_come_back_into(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path / "data")
    settings.folder.create()
    settings.folder.inbox.rmdir()
    for target, says in ((tmp_path / "share", "which is not there"), (settings.folder.results, "read again, for ever")):
        settings.folder.inbox.unlink(missing_ok=True)
        settings.folder.inbox.symlink_to(target)
        bad = [
            finding for finding in examine(settings) if finding.name == "folder inbox" and finding.level is Level.BAD
        ]
        assert len(bad) == 1 and says in bad[0].text, target


def test_doctor_names_a_setting_that_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INKSTICK_WORKRES", "1")
    monkeypatch.setenv("INKSTICK_ENGINE_KEY", "secret")
    found = list(examine(Settings(data=tmp_path / "data")))
    assert [finding.level for finding in found if "INKSTICK_WORKRES" in finding.text] == [Level.WARN]
    assert not any("secret" in finding.text or "ENGINE_KEY" in finding.text for finding in found)


def test_doctor_leaves_nothing_behind_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    settings = Settings(data=tmp_path / "data")
    settings.folder.create()
    monkeypatch.setattr(os, "fsync", full)
    found = [finding for finding in examine(settings) if finding.name == "folder inbox"]
    assert [finding.level for finding in found] == [Level.BAD]
    assert list(settings.folder.inbox.iterdir()) == []


def test_doctors_advice_about_workers_helps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_memory", lambda: 3 << 29)
    monkeypatch.setattr(Settings, "cores", 4)
    levels = [
        finding.level
        for workers in (0, 1)
        for finding in examine(Settings(data=tmp_path / "data", workers=workers))
        if finding.name == "machine"
    ]
    assert levels == [Level.WARN, Level.OK]


def test_an_nvidia_card_is_found_without_a_driver(tmp_path: Path) -> None:
    for name, vendor, kind in (("a", "0x10de", "0x030000"), ("b", "0x10de", "0x040300"), ("c", "0x8086", "0x030000")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "vendor").write_text(f"{vendor}\n")
        (tmp_path / name / "class").write_text(f"{kind}\n")
    assert pci_cards(tmp_path) == ["a"]


def test_samples_are_dropped_once_per_data_folder(tmp_path: Path) -> None:
    samples, folder = tmp_path / "samples", DataFolder(tmp_path / "data")
    samples.mkdir()
    folder.create()
    for name in ("b.png", "a.pdf", "README.md", "make.py", ".hidden"):
        (samples / name).write_text(name)
    assert drop_samples(folder, samples) == ["samples/a.pdf", "samples/b.png"]
    assert sorted(path.name for path in (folder.inbox / "samples").iterdir()) == ["a.pdf", "b.png"]
    assert drop_samples(folder, samples) == []


def test_usage_errors_are_one_class() -> None:
    with pytest.raises(UsageError):
        ocr.profile_from({"to": "fr"})


def test_models_are_listed_and_the_embedded_one_is_checked_byte_for_byte(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ["--data", str(tmp_path / "data")]
    assert cli.main(["models", "list", *data]) == 0
    assert "hunyuanocr-1.5" in capsys.readouterr().out
    assert cli.main(["models", "verify", "pp-ocrv6-small", *data]) == 0
    assert "as they should be" in capsys.readouterr().out
    assert cli.main(["models", "verify", *data]) == 1
    assert "inkstick models fetch hunyuanocr-1.5" in " ".join(capsys.readouterr().out.split())


def test_models_lie_where_the_settings_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("INKSTICK_MODELS", str(tmp_path / "elsewhere"))
    assert cli.main(["models", "verify", "--data", str(tmp_path / "data")]) == 1
    assert str(tmp_path / "elsewhere") in "".join(capsys.readouterr().out.split("\n"))


def test_a_licence_is_shown_to_whom_the_system_knows_no_name_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a container that runs as any number."""

    def unknown() -> str:
        raise KeyError("getpwuid(): uid not found: 54321")

    monkeypatch.setattr(getpass, "getuser", unknown)
    assert cli.main(["models", "licence", "pp-ocrv6-small", "--data", str(tmp_path)]) == 0
    assert "Apache" in capsys.readouterr().out


@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_a_file_whose_name_is_no_utf8_is_named_in_the_summary(tmp_path: Path, flags: tuple[str, ...]) -> None:
    odd = tmp_path / os.fsdecode(b"caf\xe9.txt")
    odd.write_text("one")
    strict = {"PYTHONIOENCODING": "utf-8:strict"}  # as in any locale but C
    unread = "standalone.reading = lambda settings: contextlib.nullcontext((None, None))"  # it gets to no engine
    code = f"import contextlib, sys; from inkstick import cli, standalone; {unread}; sys.exit(cli.main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "ocr", "-o", str(tmp_path / "out"), *flags, str(odd)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, env={**os.environ, **strict}, check=False
    )
    assert done.returncode == 1
    assert "caf\\udce9.txt" in done.stdout
    assert "Traceback" not in done.stderr
    if flags:
        assert json.loads(done.stdout)["documents"][0]["file"] == str(odd)


@pytest.mark.parametrize(
    "arguments", [("ocr", "-o", "/proc/none/out", "/etc/hostname"), ("run", "--data", "/proc/none")]
)
def test_a_folder_that_cannot_be_made_is_said_in_words(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == 1
    assert "/proc/none" in capsys.readouterr().err


def test_a_disk_without_room_ends_a_command_and_nothing_goes_on_by_itself() -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "inkstick.cli", "models", "list"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "Make room there" in done.stderr and "by itself" not in done.stderr


def test_samples_that_cannot_be_copied_do_not_keep_the_address_back(tmp_path: Path) -> None:
    folder, said = DataFolder(tmp_path / "data"), list[str]()
    folder.create()
    folder.address.write_text("http://127.0.0.1:8080")
    (folder.inbox / SAMPLES).write_text("no folder")
    host = _Host(folder, tmp_path, said.append)
    host._greet()
    assert "cannot be copied" in said[0]
    assert "The page is at http://127.0.0.1:8080" in said


def test_an_engine_told_to_stop_while_python_still_starts_ends_in_good_order(tmp_path: Path) -> None:
    """As its unit starts it: with SIGTERM blocked, since the first process of a namespace hears none that it has no
    handler for. It was killed a minute later, and its unit had failed."""
    command = [sys.executable, "-m", "inkstick.cli", "engine", "--data", str(tmp_path)]
    with subprocess.Popen(
        command, preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    ) as one:
        one.send_signal(signal.SIGTERM)
        assert one.wait(60) == 0
    assert not list(tmp_path.iterdir()), "it had gone on"
