"""`./build.sh vm`: what is asked of QEMU, what the person is told. Nothing of the machine gets beyond this computer."""

from __future__ import annotations

import base64
from pathlib import Path

from inkstick_image import qemu
from inkstick_image.qemu import Wanted

ISO = Path("dist/inkstick.iso")


def test_without_root_only_the_page_is_passed_on_and_only_to_this_computer() -> None:
    line = " ".join(qemu.command(Wanted(ISO)))
    assert "restrict=on" in line
    assert "hostfwd=tcp:127.0.0.1:8443-10.77.0.1:443" in line
    assert 'chromium --host-resolver-rules="MAP 10.77.0.1:443 127.0.0.1:8443"' in " ".join(qemu.words(Wanted(ISO)))


def test_as_root_the_page_is_where_the_screen_says() -> None:
    wanted = Wanted(ISO, tap=True, kvm=True)
    assert "tap,id=cable,ifname=inkstick0,script=no,downscript=no" in qemu.command(wanted)
    assert "https://10.77.0.1/" in " ".join(qemu.words(wanted))
    assert any("10.77.0.2/24" in step for step in qemu.steps_of_tap())
    assert not any("route" in step for step in qemu.steps_of_tap())


def test_the_iso_is_never_written_and_settings_go_in_as_a_credential() -> None:
    text = '[network]\nmode = "direct"\n'
    command = qemu.command(Wanted(ISO, settings=text))
    assert any(word.endswith("readonly=on") and str(ISO) in word for word in command)
    given = next(word for word in command if "inkstick.toml=" in word)
    assert base64.b64decode(given.partition("inkstick.toml=")[2]).decode() == text


def test_a_machine_without_kvm_is_said_to_be_slow() -> None:
    assert "emulated" in " ".join(qemu.words(Wanted(ISO)))
    assert "emulated" not in " ".join(qemu.words(Wanted(ISO, kvm=True)))


def test_a_terminal_that_cannot_show_the_screen_s_picture_and_no_screen_at_all_are_said() -> None:
    assert "Safe graphics" not in " ".join(qemu.words(Wanted(ISO)))
    assert "Safe graphics" in " ".join(qemu.words(Wanted(ISO, display=("-display", "curses"))))
    assert "--settings" in " ".join(qemu.words(Wanted(ISO, display=("-display", "none"))))
