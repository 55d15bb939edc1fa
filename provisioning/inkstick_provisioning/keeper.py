"""The one process with rights (`inkstick-keeper.service`): carries out what the first start decided, puts network and
firewall in place, opens and closes the data volume, watches battery and boot stick, and tells the console.

Everything that is decided is decided elsewhere, by pure functions; this is the hand that does it. It can end at any
moment and be started again: what it did is found in the machine itself (mounts, rules, files).
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from inkstick.config import DataFolder
from inkstick.errors import InkstickError
from inkstick_provisioning import (
    firststart,
    given,
    hardware,
    identity,
    luks,
    machine,
    moment,
    network,
    power,
    recovery,
    requests,
    settings,
    share,
    status,
    unattended,
    units,
    untrusted,
    volume,
)
from inkstick_provisioning.faults import SetupError, StillOpen, UnattendedError
from inkstick_provisioning.firststart import Dialogue, Situation, Step
from inkstick_provisioning.language import say
from inkstick_provisioning.network import Mode, Port
from inkstick_provisioning.power import Charge
from inkstick_provisioning.requests import Asked
from inkstick_provisioning.rights import as_user
from inkstick_provisioning.share import Share
from inkstick_provisioning.status import Line, Status, Stick
from inkstick_provisioning.unattended import Wishes
from inkstick_provisioning.volume import MAPPED, Checked, Room, State, Survey, Where

TICK = 1.0
SEEN_SECONDS = 300.0
SLOW_SECONDS = 10.0
DATA = Path("/var/lib/inkstick")
OPENED = status.RUN / "volume"
CONSOLE = Path("/run/inkstick-console")  # a folder of the console's own: nobody else writes there
PAGE = DATA / "state/requests"
LAN = "INKSTICK_HOST=0.0.0.0\nINKSTICK_PORT=443\n"
"""Which of its two listening sockets (inkstick-serve.socket) the service takes while a port is in use."""
NETWORK, LOGIND = Path("/run/systemd/network"), Path("/run/systemd/logind.conf.d")
PIN = ("/opt/inkstick/.venv/bin/inkstick", "pin")
PIN_SECONDS = 60.0
USER = 800


# ---- network


def ports() -> list[Port]:
    folder = Path("/sys/class/net")
    return [Port(path.name, (path / "device").exists()) for path in sorted(folder.iterdir()) if path.name != "lo"]


def put_network(modes: dict[str, Mode]) -> bool:
    """Rules first, then the ports: there is no moment in which an open port has no rules. Where they cannot be loaded
    (False) every port is down."""
    guarded = units.succeeds(["nft", "-f", "-"], network.ruleset(modes))
    folder = NETWORK
    folder.mkdir(parents=True, exist_ok=True)
    wanted = network.files(modes if guarded else dict.fromkeys(modes, Mode.NONE))
    for path in folder.glob("*-inkstick-*.network"):
        if path.name not in wanted:
            path.unlink()
    for name, text in wanted.items():
        (folder / name).write_text(text, encoding="ascii")
    # (not waited for, and nothing is done where it has not started yet: it reads the files when it does)
    units.systemctl("--no-block", "try-reload-or-restart", "systemd-networkd.service")
    return guarded


def addresses(modes: dict[str, Mode], listed: str) -> tuple[str, ...]:
    """The page's addresses, from `ip -json -4 address`: those at whose ports a cable is in come first, and of these the
    fixed ones. Where a network gave none, the one that the port took by itself: its neighbours may have such ones."""
    found, empty = list(network.direct_addresses(modes).items()), set()
    for entry in json.loads(listed or "[]"):
        name, own = str(entry.get("ifname", "")), entry.get("addr_info", ())
        given = [str(a["local"]) for a in own if a.get("scope") == "global"]
        if modes.get(name) is Mode.JOIN and not given:
            given = [str(a["local"]) for a in own if a.get("scope") == "link"]
        if modes.get(name) in (Mode.JOIN, Mode.DIRECT):
            found += [(name, host) for host in given]
        if "NO-CARRIER" in entry.get("flags", ()):
            empty.add(name)
    hosts = dict.fromkeys(host for _, host in sorted(found, key=lambda each: each[0] in empty))
    return tuple(f"https://{host}/" for host in hosts)


# ---- the keeper


class Keeper:
    """`dialogue`: the first start. `wishes`: what holds now. `lines`: warnings that stay. `guests`: sticks' units that
    were stopped while the data folder changes. `mute`: our addresses at which the page does not answer.
    `guarded`: the firewall's rules are those of the modes.
    `stays`: the stick may not be taken out, though it was started from memory."""

    def __init__(self) -> None:
        self.wishes = Wishes(network=Mode.NONE)
        self.modes: dict[str, Mode] = {}
        self.number = 0
        self.lines: list[Line] = []
        self.guests: list[str] = []
        self.device = ""
        self.kept = ""
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8")
        self.medium = power.medium_device(mounts)
        self.stays = power.needs_stick_after_all(Path("/proc/cmdline").read_text(encoding="utf-8"), mounts)
        self.signs = machine.signs()
        self.card = hardware.judge(machine.look())
        self.clock = self._clock()
        self.leaving = ""
        self.slow: dict[str, Any] = {}
        self.mute: tuple[str, ...] = ()
        self.guarded = True
        self.pairing: dict[str, Any] = {}
        self.errand: subprocess.Popen[str] | None = None
        self.asked: dict[str, Any] = {}
        self.shared = share.read(untrusted.text(status.RUN / share.TOLD))
        self.password = self.shared.password if self.shared else share.password()
        self.slow_at = self.seen_at = self.pin_at = -1e9
        self.dialogue = self._again() or self._begin()

    # -- the first start

    def _clock(self) -> moment.Clock:
        return moment.judge(time.time(), _built(), moment.parse_seen(untrusted.text(DATA / "state" / moment.SEEN)))

    def _situation(self) -> Situation:
        try:
            survey = luks.look()
        except (InkstickError, OSError, ValueError) as error:  # memory is always a place
            sys.stderr.write(f"no disks: {error}\n")
            survey = volume.survey(())
        return Situation(survey, self._clock(), network.usable(ports()))

    def _again(self) -> Dialogue | None:
        """After a restart of this process: nothing is asked a second time."""
        kept = _json(untrusted.text(status.RUN / "keeper.json"))
        if not kept.get("done"):
            return None
        try:
            found = unattended.parse(str(kept["wishes"]))
        except (UnattendedError, KeyError):
            return None
        self.device = _backing()
        return firststart.finished(replace(firststart.begin(self._situation(), found.language), wishes=found))

    def save(self) -> None:
        """What a restart of this process, and the next start of the volume, need to know; no passphrase is in it."""
        done, wishes = self.dialogue.step is Step.DONE, unattended.text(self.dialogue.wishes)
        status.write(status.RUN / "keeper.json", {"done": done, "wishes": wishes}, 0o600)
        if done and self.device and wishes != self.kept:
            self.kept = wishes
            try:
                luks.remember(self.device, wishes)
            except InkstickError as error:  # then the next start asks for more than the passphrase
                sys.stderr.write(f"settings are not kept: {error.message}\n")

    def _known(self, situation: Situation) -> Wishes | None:
        """What the header of the volume that is asked for says, None without one that can be used."""
        first = volume.first_locked(situation.survey)
        if first is None or first.state is not State.LOCKED:
            return None
        try:
            self.kept = luks.recall(first.device)
            return unattended.parse(self.kept) if self.kept else None
        except UnattendedError:
            return None

    def _begin(self) -> Dialogue:
        """From the file on the stick, if there is one, else at the first question. A volume that is open was left so
        by a keeper that was cut off in the middle: it is closed, since nobody has typed its passphrase to this one."""
        if Path(volume.MAPPER).exists():
            with contextlib.suppress(InkstickError, subprocess.SubprocessError):
                self.close_volume()
        units.run(["udevadm", "settle", "--timeout=15"])  # until then a disk has no partitions of any kind, for lsblk
        situation = self._situation()
        if not self.clock.right:
            _set_clock(self.clock.best)
        try:
            found = given.find()
            if found is None:
                return self._by_hand(situation)
            wishes = unattended.parse(found.text)
            if wishes.disk:  # a name that stays is a link to the one of today
                wishes = replace(wishes, disk=os.path.realpath(wishes.disk))
            dialogue = firststart.unattended(situation, wishes, wishes.passphrase or found.key(wishes.key_file))
            if dialogue.unattended and not situation.clock.right:
                self.tell_clock()
            return dialogue
        except UnattendedError as error:
            told = (("place", "; ".join(error.problems)),)
            self.lines.append(Line("inkstick.toml cannot be used: {place}", "", told))
            return self._by_hand(situation)

    def _by_hand(self, situation: Situation) -> Dialogue:
        """Everything is asked; or, where the volume that is there knows the rest, its passphrase."""
        known = self._known(situation)
        return firststart.again(situation, known) if known else firststart.begin(situation)

    def start(self) -> None:
        """Every port is down until it is known what it is for; after a restart of this process that is known, and
        whoever is on the network stays there."""
        if self.dialogue.step is not Step.DONE:
            self.put(self.wishes)
        self.settle()

    def answer(self, asked: Asked) -> None:
        """A line for the present question; one for an earlier question is late, and nothing."""
        if asked.number == self.number and self.dialogue.step not in (Step.WORKING, Step.DONE):
            before, self.dialogue = self.dialogue.clock, firststart.answer(self.dialogue, asked.value)
            if self.dialogue.clock is not None and self.dialogue.clock != before:
                _set_clock(self.dialogue.clock)  # now: it goes on while the other questions are answered
            if self.dialogue.step in (Step.LANGUAGE, Step.NETWORK, Step.CLOCK):  # a disk may have come since
                situation = replace(self.dialogue.situation, survey=self._situation().survey)
                self.dialogue = replace(self.dialogue, situation=situation)
            self.number += 1
            self.settle()

    def settle(self) -> None:
        """What the answers so far ask for, done."""
        self.ask()
        if self.dialogue.step not in (Step.LANGUAGE, Step.NETWORK):
            self.put(replace(self.dialogue.wishes, where=self.wishes.where))
        if self.dialogue.step is Step.WORKING:
            self.work()
            self.number += 1
            self.ask()
        self.save()

    def ask(self) -> None:
        """The question as a file, for console and page."""
        shown = asdict(firststart.screen(self.dialogue))
        language = self.dialogue.wishes.language
        self.asked = {**shown, "number": self.number, "language": language}
        status.write(status.RUN / "first-start.json", self.asked)

    def work(self) -> None:
        """The decision carried out; on a failure back to a question."""
        dialogue = self.dialogue
        try:
            key, behind = "", None
            if dialogue.offer is not None and dialogue.offer.where is not Where.MEMORY:
                self.take_volume(dialogue)
                key = self.recovery(dialogue)
                behind = self.clock_behind(dialogue)
            if behind and not key:  # a key that is not shown now never is
                self.dialogue = firststart.late(dialogue, behind)
            else:
                self.dialogue = firststart.finished(dialogue, key)
        except (InkstickError, OSError, subprocess.SubprocessError) as error:
            told = _fault(error)
            message = say("en", told.sentence, **dict(told.values))
            sys.stderr.write(f"first start: {message}\n")
            if Path(volume.MAPPER).exists():  # not after a wrong passphrase: whoever typed it in a browser waits for us
                with contextlib.suppress(Exception):
                    self.close_volume()
            now = replace(dialogue, situation=self._situation())
            self.dialogue = firststart.failed(now, message, told.action)

    def clock_behind(self, dialogue: Dialogue) -> moment.Clock | None:
        """The clock as it has to be asked for, where the volume was used later than it says; it is set to that moment
        meanwhile. What a person said at this start holds, whatever the volume says: that may be the wrong one."""
        clock = self._clock()
        if clock.right or dialogue.clock is not None:
            return None
        _set_clock(clock.best)
        if dialogue.unattended:
            self.tell_clock()
            return None
        return replace(clock, floor=_built())

    def tell_clock(self) -> None:
        """Where nobody is asked what time it is."""
        if (told := Line("The clock is wrong. Documents get the wrong date.")) not in self.lines:
            self.lines.append(told)

    def put(self, wishes: Wishes) -> None:
        """Network, lid and USB as wished."""
        modes = network.assign(ports(), wishes.network, wishes.ports)
        if modes != self.modes:
            self.end_share()
            self.modes = {**{name: modes[name] for name in self.modes if name in modes}, **modes}  # the new ones last
            self.guarded = put_network(self.modes)
            if not self.guarded:  # (what is wished is not what is: so it is tried again)
                self.modes = dict.fromkeys(self.modes, Mode.NONE)
            self.tell_service()
        if wishes.lid != self.wishes.lid:
            LOGIND.mkdir(parents=True, exist_ok=True)
            (LOGIND / "50-inkstick.conf").write_text(power.lid_settings(wishes.lid), encoding="ascii")
            units.systemctl("kill", "--signal=HUP", "systemd-logind.service")
        self.wishes = wishes
        status.write(status.RUN / "wishes.json", {"usb": wishes.usb.value, "language": wishes.language})

    def tend_ports(self) -> None:
        """An adapter that was plugged in later is used as all the others are; of one that is gone nothing is left."""
        if network.assign(ports(), self.wishes.network, self.wishes.ports) != self.modes:
            self.put(self.wishes)

    def tell_service(self) -> None:
        """The page on the network only while a port is in use; else on this computer alone."""
        hosts = [network.host(address) for address in addresses(self.modes, "")]
        lan = any(mode is not Mode.NONE for mode in self.modes.values())
        names = ",".join([self.name(), *hosts])
        text = f"{LAN}INKSTICK_NAMES={names}\n" if lan else ""
        path = status.RUN / "network.env"
        if untrusted.text(path) != text:
            path.write_text(text, encoding="ascii")
            units.systemctl("try-restart", "--no-block", "inkstick-serve.service")
        if lan:
            self.new_pin()

    def pair_anew(self) -> None:
        """Another data folder has a key of its own, and a PIN of the one before is none there: neither is shown now."""
        self.pairing, self.slow_at = {}, -1e9
        if any(mode is not Mode.NONE for mode in self.modes.values()):
            as_service(_make_state)
            self.new_pin()

    def new_pin(self) -> None:
        self.send_for_pin("new")
        self.slow_at = -1e9

    def name(self) -> str:
        return self.wishes.name or identity.hostname(_serial())

    # -- the share

    def tend_share(self) -> None:
        """Inbox and results on the network, or not any more, as is wished now; anew where an address changed."""
        settled = self.dialogue.step is Step.DONE and not self.leaving
        hosts = share.reached(self.slow["addresses"], self.modes, wished=self.wishes.smb, settled=settled)
        wanted = Share(self.name(), hosts, self.password) if hosts else None
        if wanted == self.shared:
            return
        if wanted is None:
            self.end_share()
            return
        self.shared = wanted
        status.write(status.RUN / share.TOLD, share.told(wanted), 0o600)
        as_service(_make_folders)
        units.run(["nft", "-f", "-"], network.ruleset(self.modes, share=True))
        units.systemctl("restart", "--no-block", units.SHARE)

    def end_share(self) -> None:
        """The port closed, then the share stopped: it may not see the data folder that comes next."""
        if self.shared is not None:
            self.shared = None
            units.run(["nft", "-f", "-"], network.ruleset(self.modes))
            (status.RUN / share.TOLD).unlink(missing_ok=True)
            units.systemctl("stop", units.SHARE)

    # -- the data volume

    def take_volume(self, dialogue: Dialogue) -> None:
        """Made or opened beside the data in memory, which is carried onto it; then it takes its place."""
        offer = dialogue.offer
        assert offer is not None
        if Path(volume.MAPPER).exists():  # left open by an attempt that failed: perhaps another one
            self.close_volume()
        found = luks.prepare(offer, dialogue.secret.encode(), OPENED)
        if found is not Checked.CLEAN:
            self.lines.append(Line("The data volume was repaired after it was not closed properly."))
        self.device = _backing() or offer.device
        self.guests = units.visits()
        units.stop_writers(self.guests)
        os.chown(OPENED, USER, USER)
        OPENED.chmod(0o750)
        luks.carry(DATA, OPENED)
        _mount(["umount", str(OPENED)])
        _empty(DATA)
        luks.mount(DATA)  # over the memory, which comes to light again when the volume is locked
        self.wishes = replace(self.wishes, where=offer.where)
        self.pair_anew()
        self.resume()

    def resume(self) -> None:
        """Those who write, and the sticks that were stopped with them, go on: with a reserve that fits the data folder
        as it is now (that of a volume may be more than all memory)."""
        units.systemctl("restart", "--no-block", "inkstick-settings.service")
        units.systemctl("start", "--no-block", *units.SERVICES, *self.guests)
        self.guests = []

    def recovery(self, dialogue: Dialogue) -> str:
        """A volume's second key, to be shown once; "" where nobody sits before the screen, or there is one. (Also to a
        volume that is not new: its first start may have failed after it was made.)"""
        if dialogue.unattended or luks.slots(self.device) != 1:
            return ""
        key = recovery.make()
        luks.add_recovery(self.device, dialogue.secret.encode(), key)
        return key

    def close_volume(self) -> None:
        """Locked again: the key is forgotten, data are in memory until it is opened. Raises SetupError where somebody
        has it open still; then all goes on with it as before."""
        self.end_share()
        self.end_errand()
        self.guests = [*self.guests, *units.visits()]
        units.systemctl("stop", *units.WRITERS, *self.guests)
        try:
            for folder in (OPENED, DATA):
                if _is_volume(folder):
                    _mount(["umount", str(folder)])
            luks.close()
            self.wishes = replace(self.wishes, where=None)
            self.device = ""
            self.pair_anew()
        except (SetupError, subprocess.SubprocessError) as error:
            raise StillOpen from error
        finally:
            self.resume()

    def wipe(self) -> None:
        """The keys destroyed first: whatever comes after may fail. Then whoever touches the volume waits for ever, so
        nothing can be ended in good order, and the kernel switches off. A volume that was not opened is meant too."""
        device = self.device or (_backing() if _is_volume(DATA) else _unopened(self._situation().survey))
        if not device:
            self.leave("poweroff")
            return
        luks.wipe(device)
        self.say_last(Line("Every document and result is destroyed. This computer switches itself off."))
        time.sleep(power.READ_SECONDS)
        ask_kernel("o")

    # -- requests

    def handle(self, asked: Asked) -> None:
        if asked.what == "answer":
            self.answer(asked)
        elif asked.what == "network" and asked.value in [mode.value for mode in Mode]:
            mode = Mode(asked.value)
            self.dialogue = replace(self.dialogue, wishes=replace(self.dialogue.wishes, network=mode))
            self.put(replace(self.wishes, network=mode))
            self.save()
        elif asked.what == "share":
            smb = not self.wishes.smb
            self.dialogue = replace(self.dialogue, wishes=replace(self.dialogue.wishes, smb=smb))
            self.put(replace(self.wishes, smb=smb))
            self.save()
            self.slow_at = -1e9
        elif asked.what == "pin":
            self.new_pin()
        elif asked.what == "lock":
            self.close_volume()
            self.lock()
        elif asked.what == "power":
            self.leave("poweroff")
        elif asked.what == "wipe":
            self.wipe()
        elif asked.what == "card":
            self.let_card_in()
        else:
            self.about_sticks(asked)

    def lock(self) -> None:
        """Back to the question for the passphrase; the network stays as it is."""
        self.dialogue = firststart.again(self._situation(), self.wishes)
        self.number += 1
        self.settle()

    def let_card_in(self) -> None:
        for device in machine.look().thunderbolt:
            if not device.authorised:
                machine.authorise(device.id)

    def about_sticks(self, asked: Asked) -> None:
        for stick in sticks():
            if asked.what == "eject" or stick.id == asked.value:
                (status.RUN / "sticks" / f"{stick.id}.ask").write_text(asked.what, encoding="ascii")

    def leave(self, how: str) -> None:
        """In good order: the writers end, the volume is unmounted, the machine goes off."""
        self.leaving = how
        self.tell()
        units.systemctl("stop", *units.WRITERS)
        os.sync()
        units.systemctl("--no-block", how)

    # -- what is watched

    def tick(self) -> None:
        if power.is_gone(self.medium):  # before anything that may have to be read from it
            self.medium_gone()
        for asked in [*requests.take(CONSOLE, requests.EVERYTHING), *requests.take(PAGE, requests.PAGE)]:
            try:
                self.handle(asked)
            except (InkstickError, OSError, subprocess.SubprocessError) as error:
                sys.stderr.write(f"{asked.what}: {error}\n")
                self.lines = [*self.lines[-4:], _fault(error)]
        self.tell()

    def medium_gone(self) -> None:
        """Nothing can be loaded from the stick any more, so no program is started: the kernel does the rest."""
        units.freeze(units.WRITERS)
        kept = "What was accepted is safe." if _is_volume(DATA) else "Documents were in memory only, and are lost."
        self.say_last(Line(f"The stick that this computer was started from is gone. {kept} It switches itself off."))
        os.sync()
        time.sleep(power.GONE_SECONDS)
        ask_kernel("suo")

    def say_last(self, line: Line) -> None:
        """What the screen says from now on. No program is started for it, and the volume is not touched."""
        self.lines, self.leaving, self.errand = [line], "poweroff", None
        self.slow_at = self.seen_at = time.monotonic() + 3600
        with contextlib.suppress(OSError):
            self.tell()

    def tell(self) -> None:
        """The status file. What takes a program to find out is looked up every ten seconds only."""
        answered = self.errand is not None and self.errand.poll() is not None
        if answered or time.monotonic() - self.slow_at > SLOW_SECONDS:
            self.tend_ports()
            self.slow, self.slow_at = self.look(), time.monotonic()
            self.tend_share()
        batteries, mains = power.look()
        state = power.charge(batteries, mains)
        warnings = [*self.lines, *([told] if (told := power.warning(state, batteries)) else [])]
        if not self.leaving and power.is_gone(self.device.removeprefix("/dev/")):
            warnings.insert(0, Line("The disk with the data volume was taken out. What was accepted is on it.",
                                    "Put it in again, press L, and type its passphrase."))  # fmt: skip
        warnings += [told] if (told := _medium_damaged()) else []
        if self.stays:
            warnings.append(Line("There is too little memory to hold the system: leave the stick in."))
        if not self.guarded:
            down = "The firewall cannot be loaded: every network port stays down."
            warnings.append(Line(down, "Start this computer again; if that does not help, write the stick anew."))
        warnings += [Line("The page does not answer at {place}: that is no private address.",
                          "Use a cable straight to another computer, or another network.", (("place", host),))
                     for host in self.mute]  # fmt: skip
        room = _room()
        kept = _is_volume(DATA)
        if kept and os.statvfs(DATA).f_flag & os.ST_RDONLY:  # the kernel's own doing (errors=remount-ro)
            failed = "The disk with the data volume failed, and takes nothing more. What was accepted is on it."
            again = "Start this computer again. If it comes back, take another stick or disk."
            warnings.append(Line(failed, again))
        elif kept and (full := volume.fullness(room)):
            values = (("size", volume.size(room.free)), ("place", volume.size(room.total)))
            nearly = "The data volume is nearly full: {size} of {place} are left."
            warnings.append(Line(nearly, "", values) if "nearly" in full else Line(full))
        warnings += map(_line, self.card.notes)
        status.save(status.PATH, Status(
            boot="leaving" if self.leaving else "running", language=self.dialogue.wishes.language, name=self.name(),
            modes=tuple((name, mode.value) for name, mode in self.modes.items()), free=room.free, total=room.total,
            kept=kept, warnings=tuple(warnings), sticks=sticks(), question=self.dialogue.step is not Step.DONE,
            card=_line(self.card.advice), share=self.shared.password if self.shared else "", **self.slow,
        ))  # fmt: skip
        self.remember()
        if state is Charge.EMPTY and not self.leaving:
            self.leave("poweroff")

    def look_at_card(self) -> None:
        """Anew when something about it has changed."""
        signs = machine.signs()
        if signs != self.signs:
            self.signs, self.card = signs, hardware.judge(machine.look())

    def look(self) -> dict[str, Any]:
        """What systemd, the service's commands and the firewall say."""
        self.look_at_card()
        watched = [*units.SERVICES, *([units.SHARE] if self.shared else [])]
        shown = units.systemctl("show", "--property=Id,ActiveState,StatusText", *watched)
        pairing = self.pair()
        counters = _json(units.run(["nft", "--json", "list", "counters", "table", "inet", "inkstick"]))
        digits = str(pairing.get("pin") or "")
        pages = addresses(self.modes, units.run(["ip", "-json", "-4", "address"]))
        self.mute = tuple(host for host in map(network.host, pages) if not network.is_private(host))
        return {
            "parts": units.states(shown),
            "addresses": tuple(page for page in pages if network.host(page) not in self.mute),
            "pin": f"{digits[:4]} {digits[4:]}".strip(),
            "fingerprint": str(pairing.get("fingerprint") or fingerprint(DATA / "state/tls")),
            "dropped": tuple(sorted(network.dropped(counters).items())),
        }

    def send_for_pin(self, action: str) -> None:
        """The service's own command makes or shows it. It is a whole Python that is started, and nobody waits for it: a
        key that is pressed meanwhile would wait too."""
        self.end_errand()
        command = [*PIN, action, "--json", "--data", str(DATA)]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
        who: dict[str, Any] = {"user": USER, "group": USER, "extra_groups": []} if USER else {}
        self.pin_at = time.monotonic()
        try:
            self.errand = subprocess.Popen(command, **pipes, **who)
        except OSError as error:
            self.errand = None
            sys.stderr.write(f"{command[0]}: {error}\n")

    def end_errand(self) -> None:
        if self.errand is not None:
            self.errand.kill()
            self.errand.communicate()
            self.errand = None

    def pair(self) -> dict[str, Any]:
        """PIN and fingerprint as they were told last; asked for a minute after the last answer, or a slow machine would
        do little else, while there is a page on the network."""
        if self.errand is not None and self.errand.poll() is not None:
            self.pairing = _json(self.errand.communicate()[0])
            self.errand, self.pin_at = None, time.monotonic()
        on_lan = any(mode is not Mode.NONE for mode in self.modes.values())
        if self.errand is None and on_lan and time.monotonic() - self.pin_at > PIN_SECONDS:
            self.send_for_pin("show")
        return self.pairing

    def remember(self) -> None:
        """The moment, on the volume, so that a clock that falls back is noticed at the next start."""
        if _is_volume(DATA) and time.monotonic() - self.seen_at > SEEN_SECONDS:
            self.seen_at = time.monotonic()
            as_service(lambda: status.write(DATA / "state" / moment.SEEN, int(time.time())))


# ---- small hands


def as_service(work: Callable[[], None]) -> None:
    """Something done in the service's folders as the service's user: a link that it laid there leads root nowhere."""
    for message in as_user(USER, lambda _: work()):
        sys.stderr.write(f"state/: {message}\n")


def _make_folders() -> None:
    """What is shared: the service makes these when it starts, perhaps after us."""
    for folder in (DataFolder(DATA).inbox, DataFolder(DATA).results):
        folder.mkdir(0o700, exist_ok=True)


def _make_state() -> None:
    """Where the PIN for the first browser lies, which is asked for before the service, who makes this, has started."""
    DataFolder(DATA).state.mkdir(0o700, exist_ok=True)


def _empty(folder: Path) -> None:
    """What was carried away, removed from memory."""
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def fingerprint(folder: Path) -> str:
    """Of the certificate in a folder, "" without one."""
    for path in sorted(folder.glob("*.pem")) if folder.is_dir() else ():
        with contextlib.suppress(ValueError):
            return identity.fingerprint(ssl.PEM_cert_to_DER_cert(untrusted.text(path)))
    return ""


def sticks() -> tuple[Stick, ...]:
    found = []
    for path in sorted((status.RUN / "sticks").glob("*.json")):
        with contextlib.suppress(OSError, ValueError, TypeError):
            found.append(Stick(**json.loads(path.read_text(encoding="utf-8"))))
    return tuple(found)


def _json(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _line(advice: hardware.Advice) -> Line:
    return Line(advice.sentence, advice.action, tuple(advice.values.items()))


def _fault(error: Exception) -> Line:
    """No path of a file is in it: it may be a document's name."""
    if isinstance(error, InkstickError):
        return Line(error.message, error.hint)
    told = (error.strerror if isinstance(error, OSError) else "") or str(error)
    return Line("Something went wrong: {place}", "", (("place", told),))


def _room() -> Room:
    figures = os.statvfs(DATA)
    total, free = figures.f_blocks * figures.f_frsize, figures.f_bavail * figures.f_frsize
    return Room(free, total, settings.reserve(total))


def _medium_damaged() -> Line | None:
    """What inkstick-layers.service found, where it is bad."""
    told = _json(untrusted.text(status.RUN / "layers.json"))
    return Line(str(told.get("sentence"))) if told.get("state") in ("damaged", "unverified") else None


def _is_volume(folder: Path) -> bool:
    """Whether the data volume is mounted there."""
    mounts = (line.split() for line in untrusted.text(Path("/proc/self/mounts")).splitlines())
    return any(device == f"/dev/mapper/{MAPPED}" and point == str(folder) for device, point, *_ in mounts)


def _backing() -> str:
    """The device below the opened volume."""
    for line in units.run(["cryptsetup", "status", MAPPED]).splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "device":
            return value.strip()
    return ""


def _unopened(survey: Survey) -> str:
    """The one volume that documents may lie on while nobody has opened one: this stick's, or that of another disk.
    Raises SetupError where it may be one of several."""
    first = volume.first_locked(survey)
    if first is None:
        return ""
    if first.where is not Where.STICK and len(volume.locked(survey)) > 1:
        raise SetupError(
            "Nothing is destroyed: there is more than one data volume, and none is open.",
            hint="Press L and open the one that is meant, then press W again; or take the others out.",
        )
    return first.device


def ask_kernel(letters: str) -> None:
    """Asked without any program: s writes back what can be written, u lets nothing more be written, o switches off."""
    for letter in letters:
        with contextlib.suppress(OSError):
            Path("/proc/sysrq-trigger").write_text(letter, encoding="ascii")
            time.sleep(2.0)


def _mount(command: Sequence[str]) -> None:
    subprocess.run(list(command), check=True, capture_output=True, timeout=60)


def _serial() -> str:
    for path in ("/sys/class/dmi/id/product_uuid", "/etc/machine-id"):
        if text := untrusted.text(Path(path)).strip():
            return text
    return "inkstick"


def _built() -> float:
    """In the image every file has the date of the build."""
    return Path(__file__).stat().st_mtime


def _set_clock(seconds: float) -> None:
    with contextlib.suppress(OSError):
        time.clock_settime(time.CLOCK_REALTIME, seconds)


def _stay_in_memory() -> None:
    """Our own pages are never read from the stick again: it may be gone."""
    ctypes.CDLL(None, use_errno=True).mlockall(3)


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    _stay_in_memory()
    for folder in (status.RUN, status.RUN / "sticks"):
        folder.mkdir(parents=True, exist_ok=True)
    as_service(_make_state)
    given.mount_fat()
    try:
        keeper = Keeper()
    finally:
        given.unmount_fat()
    keeper.start()
    if "NOTIFY_SOCKET" in os.environ:
        from inkstick.supervise.notify import Notifier

        Notifier().ready("keeps this machine")
    while True:
        keeper.tick()
        time.sleep(TICK)


if __name__ == "__main__":
    sys.exit(main())
