"""Building without root: who may, and what the others are told."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from inkstick_image import __main__ as builder
from inkstick_image import namespace, tools
from inkstick_image.errors import ImageError
from inkstick_image.namespace import Facts

LENT = "# lent ids\nann:100000:65536\n1001:165536:65536\nbob:231072:1000\n"
ANN = Facts("ann", 1000, LENT, LENT, most="15000")


@pytest.mark.parametrize(("user", "uid", "count"), [("ann", 1000, 65536), ("carol", 1001, 65536), ("dan", 1004, 0)])
def test_ids_are_lent_by_name_or_by_number(user: str, uid: int, count: int) -> None:
    assert namespace.lent(LENT, user, uid) == count


def test_only_the_first_line_of_an_account_counts_as_unshare_takes_no_other() -> None:
    assert namespace.lent("ann:100000:10\nann:200000:65536\n", "ann", 1000) == 10


def test_new_ids_are_lent_behind_all_others() -> None:
    assert namespace.free(LENT, "eve:500000:10\n") == 500_010
    assert namespace.free("", "not a line\n") == 100_000


@pytest.mark.parametrize(
    ("facts", "code", "said", "helps"),
    [
        (Facts("bob", 1002, LENT, LENT), "no_ids", "bob is lent fewer than 65,536", "--add-subuids 232072-297607"),
        (Facts("ann", 1000, LENT, ""), "no_ids", "/etc/subgid", "--add-subgids 232072-297607"),
        (Facts("dan", 1004), "no_ids", "dan", "--add-subuids 100000-165535"),
        (
            Facts("ann", 1000, LENT, LENT, clone="0"),
            "no_namespace",
            "unprivileged_userns_clone",
            "sysctl kernel.unprivileged_userns_clone=1",
        ),
        (Facts("ann", 1000, LENT, LENT, most="0"), "no_namespace", "max_user_namespaces", "user.max_user_namespaces="),
        (
            Facts("ann", 1000, LENT, LENT, most="15000", apparmor="1"),
            "no_namespace",
            "apparmor_restrict_unprivileged_userns",
            "sysctl kernel.apparmor_restrict_unprivileged_userns=0",
        ),
        (ANN, "no_namespace", "unshare: mount /proc failed", "In a container"),
    ],
)
def test_what_stands_in_the_way_is_named_with_a_code_and_what_helps(
    facts: Facts, code: str, said: str, helps: str
) -> None:
    error = namespace.refusal(facts, "unshare: mount /proc failed\n")
    assert error.code == code
    assert said in error.message
    assert helps in error.hint
    assert "sudo ./build.sh image" in error.hint
    assert f"[{code}]\n" in error.told()


def test_the_namespace_ends_whole_and_its_root_is_whoever_builds() -> None:
    assert {"--map-root-user", "--map-auto", "--kill-child"} <= set(namespace.ENTER)


def test_an_error_without_a_code_and_a_hint_is_one_line() -> None:
    assert ImageError("It failed.").told() == "build.sh: It failed."


def test_all_that_is_missing_is_one_apt_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(ImageError) as raised:
        builder.check_host(offline=False, edition="cpu", cache=tmp_path)
    assert raised.value.code == "missing"
    (line,) = raised.value.hint.splitlines()
    assert line.startswith("sudo apt-get install ")
    assert {"mmdebstrap", "squashfs-tools", "xorriso", "uidmap"} <= set(line.split())
    assert len(line.split()) == len(set(line.split()))


@pytest.mark.parametrize(("edition", "twice", "needed"), [("cpu", False, 6), ("gpu", False, 30), ("gpu", True, 41)])
def test_too_little_disk_is_said_before_anything_is_built(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, edition: str, twice: bool, needed: int
) -> None:
    def check(free: int) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=free))
        builder.check_host(offline=False, edition=edition, cache=tmp_path, twice=twice)

    monkeypatch.setattr(tools, "missing", lambda programs: [])
    monkeypatch.setattr(tools, "KEYRING", tmp_path)
    check(needed << 30)
    with pytest.raises(ImageError, match=f"Only {needed - 1} GiB are free") as raised:
        check((needed << 30) - 1)
    assert f"needs {needed} GiB from nothing" in raised.value.hint
