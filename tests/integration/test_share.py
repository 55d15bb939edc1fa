"""Inbox and results as folders of the network: real smbd behind the appliance's own rules, a client on the other end of
the cable. Needs root, network namespaces, and the Debian packages samba and smbclient (`./build.sh test --vm` installs
them)."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from inkstick.supervise.process import descendants
from inkstick_provisioning import network, share
from inkstick_provisioning.network import Mode
from support.wire import PATH, Wire, laid

USER = "daemon"  # exists on every Debian, owns nothing
ADDRESS = "10.77.0.1"
SAMPLES = Path(__file__).parent.parent / "samples"
TESTS = Path(__file__).parent.parent


@dataclass(frozen=True)
class Office:
    """A data folder that is offered on `wire`."""

    wire: Wire
    data: Path
    password: str

    def smb(self, folder: str, commands: str, *options: str, login: str | None = None) -> str:
        """What smbclient says on the other computer, with its exit status in front."""
        who = ["-U", f"{USER}%{self.password}" if login is None else login]
        command = ["smbclient", f"//{ADDRESS}/{folder}", *who, *options, "-c", commands]
        done = self.wire.inside(self.wire.there, *command)
        return f"{done.returncode} {done.stdout}{done.stderr}"

    def run(self, name: str) -> Path:
        return self.data.parent / name


@pytest.fixture(scope="module")
def office() -> Iterator[Office]:
    for program in ("smbd", "pdbedit", "smbclient"):
        if not shutil.which(program, path=PATH):
            pytest.skip(f"{program} is missing: apt-get install samba smbclient")
    with laid() as wire, tempfile.TemporaryDirectory() as root:
        Path(root).chmod(0o755)
        found = Office(wire, Path(root) / "data", share.password())
        account = pwd.getpwnam(USER)
        for folder in (found.data, found.data / "inbox", found.data / "results", found.run("run")):
            folder.mkdir(mode=0o700)
            os.chown(folder, account.pw_uid, account.pw_gid)
        wire.rules(network.ruleset({"cable0": Mode.DIRECT}, share=True))
        with offered(found):
            yield found


@contextlib.contextmanager
def offered(office: Office) -> Iterator[None]:
    """smbd, from when it says to systemd that it is ready until it is killed with all that it started."""
    port = "/proc/sys/net/ipv4/ip_unprivileged_port_start"  # as in the image's 90-inkstick.conf
    opened = office.wire.inside(office.wire.here, "sh", "-c", f"echo 443 >{port}")
    if opened.returncode:
        pytest.skip(f"port 445 cannot be had without rights here: {opened.stderr.strip()}")
    told = office.run("notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
        ready.bind(str(told))
        told.chmod(0o777)
        ready.settimeout(60)
        command = ["ip", "netns", "exec", office.wire.here, "unshare", "--pid", "--fork", "--mount-proc"]
        command += [sys.executable, "-m", "support.shared", str(office.data), str(office.run("run")), ADDRESS, USER]
        environment = {**os.environ, "PATH": PATH, "SHARE_PASSWORD": office.password, "NOTIFY_SOCKET": str(told),
                       "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])}  # fmt: skip
        log = office.run("said").open("wb")
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT, cwd="/")
        try:
            try:
                while b"READY=1" not in ready.recv(4096):
                    pass
            except TimeoutError:
                pytest.fail(f"smbd did not start: {office.run('said').read_text()}")
            yield
        finally:
            for pid in descendants(process.pid):  # its first process is that namespace's init: with it everything ends
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.wait(60)
            log.close()


def test_samba_takes_the_file_and_knows_every_line(office: Office) -> None:
    file = office.run("run") / "smb.conf"
    done = office.wire.inside(office.wire.here, "testparm", "--suppress-prompt", str(file))
    assert done.returncode == 0, done.stderr
    unknown = {line.split('"')[1] for line in done.stderr.splitlines() if line.startswith("Unknown parameter")}
    assert unknown <= {"smb3 unix extensions"}, "that one is newer than Debian 12's Samba"
    assert "Invalid combination" not in done.stderr
    for line in ("disable netbios = Yes", "server smb encrypt = required", "server min protocol = SMB3"):
        assert line in done.stdout
    assert office.password not in done.stdout + office.run("said").read_text()


def test_nobody_comes_in_without_the_password(office: Office) -> None:
    for folder in ("inbox", "results"):
        assert office.smb(folder, "ls").startswith("0 "), "with it one comes in"
    for login in ("", "%", f"{USER}%", f"{USER}%wrong-pass-word-here", f"root%{office.password}", "guest%"):
        for folder in ("inbox", "results", "IPC$"):
            told = office.smb(folder, "ls", login=login)
            assert told.startswith("1 ") and "session setup failed: NT_STATUS" in told, (login, folder, told)


@pytest.mark.parametrize("oldest", ["NT1", "SMB2_02", "SMB2_10", "SMB3_00", "SMB3_02"])
def test_older_protocols_are_refused(office: Office, oldest: str) -> None:
    assert office.smb("inbox", "ls").startswith("0 "), "the newest one is taken"
    told = office.smb("inbox", "ls", "--option", "client min protocol=CORE", "-m", oldest)
    assert told.startswith("1 ") and "blocks of size" not in told, told


def test_what_travels_is_encrypted_also_for_a_client_that_asks_for_nothing(office: Office) -> None:
    secret = b"a line that nobody on the cable may read\n" * 200
    office.run("secret").write_bytes(secret)
    heard = office.run("heard")
    code = "import socket,sys\ns=socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.ntohs(3))\n"
    code += "print('up', flush=True)\nout=open(sys.argv[1],'wb',0)\nwhile True: out.write(s.recv(65535))"
    listen = ["ip", "netns", "exec", office.wire.there, sys.executable, "-c", code, str(heard)]
    with subprocess.Popen(listen, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stdout.readline() == "up\n"
        told = office.smb("inbox", f"put {office.run('secret')} .s; rm .s", "--client-protection", "off")
        process.kill()
    assert told.startswith("0 "), told
    frames = heard.read_bytes()
    assert len(frames) > len(secret) and b"\xfdSMB" in frames, "the cable was listened to"
    assert b"nobody on the cable" not in frames


def test_results_are_read_and_never_written(office: Office) -> None:
    folder = office.data / "results" / "letter"
    folder.mkdir(exist_ok=True)
    (folder / "letter.txt").write_text("Dear Sir")
    into = office.run("letter.txt")
    assert office.smb("results", f"get letter\\letter.txt {into}").startswith("0 ")
    assert into.read_text() == "Dear Sir"
    for writing in (
        f"put {into} letter\\new.txt", f"put {into} letter\\letter.txt", "rm letter\\letter.txt", "mkdir new",
        "rename letter other", "rmdir letter", "setmode letter\\letter.txt +r",
    ):  # fmt: skip
        assert "NT_STATUS" in office.smb("results", writing), writing
    assert [path.name for path in folder.iterdir()] == ["letter.txt"]
    assert (folder / "letter.txt").read_text() == "Dear Sir"
    shutil.rmtree(folder)


def test_no_link_leads_out_of_a_share(office: Office) -> None:
    outside, into = office.run("outside"), office.run("taken")
    outside.mkdir(mode=0o777)
    outside.chmod(0o777)
    (outside / "secret.txt").write_text("not yours")
    for folder in ("inbox", "results"):
        for name, target in (("file", outside / "secret.txt"), ("folder", outside), ("inside", Path("plain"))):
            (office.data / folder / name).symlink_to(target)
        (office.data / folder / "plain").write_text("ours")
        (office.data / folder / "plain").chmod(0o644)
        assert office.smb(folder, f"get plain {into}").startswith("0 "), "what is no link is read"
        into.unlink()
        for asked in ("file", "inside", "folder\\secret.txt", "..\\..\\outside\\secret.txt", "..\\state\\pin.json"):
            told = office.smb(folder, f"get {asked} {into}")
            assert "NT_STATUS" in told and not into.exists(), (folder, asked, told)
        office.smb(folder, f"put {office.data / folder / 'file'} folder\\new.txt")
        assert [path.name for path in outside.iterdir()] == ["secret.txt"]
        for name in ("file", "folder", "inside", "plain"):
            (office.data / folder / name).unlink()


def test_what_is_dropped_belongs_to_the_service_and_is_no_program(office: Office) -> None:
    sample = SAMPLES / "english-letter.pdf"
    told = office.smb("inbox", f"mkdir post; put {sample} post\\.letter; setmode post\\.letter +rhs")
    assert told.startswith("0 "), told
    account = pwd.getpwnam(USER)
    for path, mode in ((office.data / "inbox/post", 0o40700), (office.data / "inbox/post/.letter", 0o100400)):
        found = path.stat()
        assert (found.st_uid, oct(found.st_mode & ~0o200)) == (account.pw_uid, oct(mode & ~0o200)), path
    assert (office.data / "inbox/post/.letter").read_bytes() == sample.read_bytes()
    shutil.rmtree(office.data / "inbox/post")


@pytest.mark.timeout(300)
def test_a_document_dropped_by_the_network_is_read_and_its_text_fetched_by_the_network(office: Office) -> None:
    environment = {**os.environ, "INKSTICK_SETTLE_SECONDS": "0.5", "INKSTICK_RESERVE_BYTES": "0"}
    command = [sys.executable, "-m", "inkstick.cli", "run", "--data", str(office.data), "--port", "0"]
    log = office.run("service").open("wb")
    into = office.run("text")
    with log, subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT, umask=0o022) as process:
        try:
            told = office.smb("inbox", f"put {SAMPLES / 'english-letter.pdf'} letter.pdf; ls")
            assert told.startswith("0 "), told
            until = time.monotonic() + 240
            while not office.smb("results", f"get letter\\letter.txt {into}").startswith("0 "):
                assert process.poll() is None and time.monotonic() < until, office.run("service").read_text()
                time.sleep(1)
        finally:
            process.send_signal(signal.SIGTERM)
    truth = (SAMPLES / "truth/english-letter.txt").read_text(encoding="utf-8").split()
    assert len(set(truth) & set(into.read_text(encoding="utf-8").split())) > 0.9 * len(set(truth))
    assert "letter.pdf" not in office.smb("inbox", "ls"), "it was claimed"
