"""Who may come in: PINs, sessions, tokens, roles, quotas and the audit log as rules over values and a clock."""

from __future__ import annotations

import itertools
import json
import math
import os
import stat
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from inkstick.access import keys, place, private, roles
from inkstick.access.audit import Audit, Entry, follow, parse, problem
from inkstick.access.limits import Limits, Quota
from inkstick.access.moment import Moment
from inkstick.access.pin import LIFE_SECONDS, TRIES, Pairing, Pin, PinFile, fresh, tried, wait_after
from inkstick.access.roles import Role, required
from inkstick.access.sessions import MOST, TOUCH_SECONDS, Life, Sessions
from inkstick.access.tokens import PREFIX, Tokens
from inkstick.errors import DiskFull, UsageError

WALL = "2026-11-21T08:00:00+00:00"


def at(seconds: float, boot: str = "a") -> Moment:
    return Moment(boot, seconds)


# ---- the PIN


def test_a_pin_has_eight_digits_also_when_the_number_is_small() -> None:
    assert fresh(at(0), Role.ADMIN, lambda below: 42 if below == 10**8 else -1).digits == "00000042"


@pytest.mark.parametrize(
    ("said", "seconds", "boot", "role"),
    [
        ("12345678", 0, "a", Role.OPERATOR),
        ("1234 5678", LIFE_SECONDS - 1, "a", Role.OPERATOR),
        (" 12345678\n", 1, "a", Role.OPERATOR),
        ("12345678", LIFE_SECONDS, "a", None),  # too old
        ("12345678", 1, "b", None),  # the machine was started again
        ("12345679", 1, "a", None),
        ("1234567", 1, "a", None),
        ("", 1, "a", None),
        ("１２３４５６７８", 1, "a", None),  # digits, but not ours
    ],
)
def test_only_the_right_pin_in_its_time_is_taken(said: str, seconds: float, boot: str, role: Role | None) -> None:
    _, gained = tried(Pairing(Pin("12345678", Role.OPERATOR, at(0))), said, at(seconds, boot))
    assert gained is role


def test_a_pin_is_good_once() -> None:
    after, gained = tried(Pairing(Pin("12345678", Role.READER, at(0))), "12345678", at(1))
    assert gained is Role.READER
    assert tried(after, "12345678", at(2))[1] is None


def test_a_pin_is_void_after_five_wrong_tries() -> None:
    pairing = Pairing(Pin("12345678", Role.ADMIN, at(0)))
    for n in range(TRIES):
        assert pairing.pin is not None, n
        pairing, gained = tried(pairing, "00000000", at(n))
        assert gained is None
    assert pairing.pin is None
    assert tried(pairing, "12345678", at(9))[1] is None


def test_the_wait_between_wrong_tries_doubles_to_a_minute() -> None:
    assert [wait_after(n) for n in (0, 1, 2, 3, 6, 7, 8, 1000)] == [0, 1, 2, 4, 32, 60, 60, 60]
    pairing = Pairing(None, failures=3, failed=at(100))
    assert [pairing.wait(at(seconds)) for seconds in (100, 103, 104, 200)] == [4, 1, 0, 0]


def test_tries_and_waits_survive_a_restart_of_the_service(tmp_path: Path) -> None:
    pin = PinFile(tmp_path).new(Role.ADMIN, at(0))
    wrong = "00000000" if pin.digits != "00000000" else "11111111"
    assert PinFile(tmp_path).attempt(wrong, at(1)) is None
    assert PinFile(tmp_path).attempt(pin.digits, at(1.5)) == 0.5
    left = PinFile(tmp_path).show(at(2))
    assert left is not None
    assert left.tries == TRIES - 1
    assert PinFile(tmp_path).attempt(pin.digits, at(2)) is Role.ADMIN
    assert PinFile(tmp_path).show(at(2)) is None
    assert stat.S_IMODE((tmp_path / "pin.json").stat().st_mode) == 0o600


def test_a_fresh_pin_takes_the_place_of_the_one_before_and_ends_the_wait(tmp_path: Path) -> None:
    pins = PinFile(tmp_path)
    first = pins.new(Role.ADMIN, at(0))
    for n in range(1, 40):
        pins.attempt("x", at(n))
    second = pins.new(Role.READER, at(40))
    if first.digits != second.digits:
        assert pins.attempt(first.digits, at(40)) is None
    assert pins.attempt(second.digits, at(41)) is Role.READER


def test_a_damaged_pin_file_holds_no_pin(tmp_path: Path) -> None:
    (tmp_path / "pin.json").write_text('{"pin": {"digits": 1')
    assert PinFile(tmp_path).show(at(0)) is None
    assert PinFile(tmp_path).attempt("1", at(0)) is None


# ---- sessions and tokens

LIFE = Life(idle=100, longest=1000)


def begun(sessions: Sessions, now: Moment, name: str = "Firefox") -> tuple[str, str]:
    session, secret = sessions.begin(Role.OPERATOR, name, "192.0.2.9", WALL, now)
    return session.id, secret


@pytest.mark.parametrize(
    ("used", "asked", "alive"),
    [
        ([], at(99), True),
        ([], at(100), False),
        ([at(90), at(180)], at(270), True),
        ([at(n) for n in range(90, 1000, 90)], at(999), True),
        ([at(n) for n in range(90, 1000, 90)], at(1000), False),
        ([at(1)], at(2, "b"), False),
    ],
)
def test_a_session_ends_idle_or_old_or_with_the_machine(
    tmp_path: Path, used: list[Moment], asked: Moment, alive: bool
) -> None:
    sessions = Sessions(tmp_path, LIFE)
    _, secret = begun(sessions, at(0))
    for moment in used:
        assert sessions.find(secret, moment)
    assert (Sessions(tmp_path, LIFE).find(secret, asked) is not None) is alive


def test_a_session_survives_a_restart_of_the_service_and_its_file_gives_nobody_a_way_in(tmp_path: Path) -> None:
    _, secret = begun(Sessions(tmp_path, LIFE), at(0))
    kept = (tmp_path / "sessions.json").read_text()
    assert secret not in kept
    assert stat.S_IMODE((tmp_path / "sessions.json").stat().st_mode) == 0o600
    found = Sessions(tmp_path, LIFE).find(secret, at(1))
    assert found is not None
    assert found.role is Role.OPERATOR
    assert Sessions(tmp_path, LIFE).find(found.digest, at(1)) is None


def test_a_revoked_session_is_gone_at_once_and_the_others_stay(tmp_path: Path) -> None:
    sessions = Sessions(tmp_path, LIFE)
    one, secret = begun(sessions, at(0))
    _, other = begun(sessions, at(0))
    assert sessions.revoke(one, at(1))
    assert sessions.find(secret, at(1)) is None
    assert sessions.find(other, at(1))
    assert sessions.revoke(one, at(1)) is None
    assert Sessions(tmp_path, LIFE).find(secret, at(1)) is None


def test_of_too_many_sessions_the_one_unused_longest_ends(tmp_path: Path) -> None:
    sessions = Sessions(tmp_path, LIFE)
    secrets = [begun(sessions, at(n))[1] for n in range(MOST + 1)]
    assert sessions.find(secrets[0], at(MOST)) is None
    assert all(sessions.find(secret, at(MOST)) for secret in secrets[1:])


def test_a_token_is_shown_once_kept_as_a_hash_and_good_until_revoked(tmp_path: Path) -> None:
    token, secret = Tokens(tmp_path).make(Role.READER, "nightly", WALL)
    assert secret.startswith(PREFIX)
    assert secret not in (tmp_path / "tokens.json").read_text()
    again = Tokens(tmp_path)
    assert again.find(secret) == token
    assert again.revoke(token.id) == token
    assert again.find(secret) is None
    assert Tokens(tmp_path).find(secret) is None


# ---- roles


@pytest.mark.parametrize(
    ("method", "path", "role"),
    [
        ("GET", "/healthz", Role.ANYONE),
        ("GET", "/static/style.css", Role.ANYONE),
        ("GET", "/static/deep/er.js", Role.ANYONE),
        ("GET", "/", Role.READER),
        ("HEAD", "/", Role.READER),
        ("GET", "/api/v1/documents/06b2/results/md", Role.READER),
        ("PUT", "/api/v1/documents/a.pdf", Role.OPERATOR),
        ("POST", "/v1/models/a/b/inference", Role.OPERATOR),
        ("POST", "/access/pin", Role.ADMIN),
        ("GET", "/not/known", Role.ADMIN),
        ("DELETE", "/", Role.ADMIN),
        ("POST", "/healthz", Role.ADMIN),
        ("GET", "//healthz", Role.ADMIN),
        ("GET", "/healthz/", Role.ADMIN),
        ("GET", "/healthz\n", Role.ADMIN),
    ],
)
def test_every_address_needs_a_role_and_an_unknown_one_an_admin(method: str, path: str, role: Role) -> None:
    assert required(method, path) is role


def test_the_log_keeps_no_file_name() -> None:
    rule = roles.rule_for("PUT", "/api/v1/documents/secret.pdf")
    assert rule is not None
    assert roles.logged(rule, "/api/v1/documents/secret.pdf") == {}
    rule = roles.rule_for("GET", "/api/v1/documents/06b2/results/md")
    assert rule is not None
    assert roles.logged(rule, "/api/v1/documents/06b2/results/md") == {"id": "06b2", "format": "md"}


# ---- quotas


def test_more_uploads_at_a_time_than_allowed_are_refused_until_one_ends() -> None:
    limits = Limits(Quota(at_once=2, bytes_per_hour=0))
    limits.begin("a", 1 << 40, 0)
    limits.begin("a", 0, 0)
    limits.begin("b", 0, 0)
    with pytest.raises(UsageError) as refused:
        limits.begin("a", 0, 0)
    assert refused.value.code == "too_many"
    limits.end("a")
    limits.begin("a", 0, 0)


def test_the_bytes_of_an_hour_are_counted_and_forgotten_after_it() -> None:
    limits = Limits(Quota(at_once=0, bytes_per_hour=100))
    limits.begin("a", 100, 0)
    limits.add("a", 60, 0)
    limits.add("a", 40, 1800)
    for now, size, fine in [(1801, 1, False), (3599, 1, False), (3600, 60, True), (3600, 61, False)]:
        if fine:
            limits.begin("a", size, now)
        else:
            with pytest.raises(UsageError):
                limits.begin("a", size, now)
    with pytest.raises(UsageError):
        limits.add("a", 101, 10_000)


# ---- the audit log


def written(folder: Path, count: int) -> Audit:
    audit = Audit(folder)
    for n in range(count):
        audit.write(WALL, f"session:{n}", "upload", {"id": f"doc{n}", "bytes": n})
    return audit


def test_a_log_is_whole_and_goes_on_after_a_restart(tmp_path: Path) -> None:
    written(tmp_path, 3)
    written(tmp_path, 2)
    assert Audit(tmp_path).verify() == (5, None)
    assert [entry.number for entry in Audit(tmp_path).tail(3)] == [5, 4, 3]
    assert stat.S_IMODE((tmp_path / "audit.jsonl").stat().st_mode) == 0o600


def test_every_change_of_a_line_is_found(tmp_path: Path) -> None:
    written(tmp_path, 6)
    lines = (tmp_path / "audit.jsonl").read_bytes().splitlines(keepends=True)
    last = parse(lines[-1])
    head = (last.number, last.hash)
    assert problem(lines, head) is None
    for place_, line in enumerate(lines):
        for position, bit in itertools.product(range(len(line)), (0, 3)):
            changed = bytearray(line)
            changed[position] ^= 1 << bit
            assert problem([*lines[:place_], bytes(changed), *lines[place_ + 1 :]], head), (place_, position)
        assert problem(lines[:place_] + lines[place_ + 1 :], head), f"line {place_} removed"
        assert problem([*lines[: place_ + 1], line, *lines[place_ + 1 :]], head), f"line {place_} doubled"
    for one, other in itertools.combinations(range(len(lines)), 2):
        swapped = list(lines)
        swapped[one], swapped[other] = lines[other], lines[one]
        assert problem(swapped, head)


def test_a_line_sealed_anew_does_not_fit_those_after_it(tmp_path: Path) -> None:
    written(tmp_path, 3)
    lines = (tmp_path / "audit.jsonl").read_bytes().splitlines(keepends=True)
    forged: Entry = follow(parse(lines[0]), WALL, "session:1", "upload", {"id": "another"})
    assert problem([lines[0], forged.as_line(), lines[2]], None)


def test_a_cut_off_end_is_found_and_a_torn_line_is_mended(tmp_path: Path) -> None:
    written(tmp_path, 4)
    log = tmp_path / "audit.jsonl"
    whole = log.read_bytes()
    log.write_bytes(b"".join(whole.splitlines(keepends=True)[:3]))
    assert Audit(tmp_path).verify() == (3, "the end is missing: 4 entries were written")
    log.write_bytes(whole + b'{"number": 5, "ti')  # what a power cut leaves of a line that nobody was told of
    assert Audit(tmp_path).verify() == (4, None)
    written(tmp_path, 1)
    assert Audit(tmp_path).verify() == (6, None)
    assert [entry.what for entry in Audit(tmp_path).tail(2)] == ["upload", "mended"]


@pytest.mark.parametrize("head", [None, b"", b"[]", b'{"number": 5}', b"\xff"])
def test_a_log_whose_end_cannot_be_judged_is_not_called_whole(tmp_path: Path, head: bytes | None) -> None:
    """Whoever cuts it off takes the file beside it away as well."""
    written(tmp_path, 4)
    lines = (tmp_path / "audit.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "audit.jsonl").write_bytes(b"".join(lines[:3]))
    (tmp_path / "audit.head").unlink()
    if head is not None:
        (tmp_path / "audit.head").write_bytes(head)
    count, wrong = Audit(tmp_path).verify()
    assert (count, bool(wrong and "audit.head" in wrong)) == (3, True)


# ---- key and place


def test_the_key_is_private_made_once_and_its_dates_come_from_no_clock(tmp_path: Path) -> None:
    key = keys.ensure(tmp_path, ["inkstick", "192.0.2.1", "2001:db8::1"])
    assert keys.ensure(tmp_path, ["other"]) == key
    assert stat.S_IMODE(key.folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in key.folder.iterdir()} == {0o600}
    shown = subprocess.run(
        ["openssl", "x509", "-in", str(key.certificate), "-noout", "-text", "-fingerprint", "-sha256"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert "DNS:inkstick, IP Address:192.0.2.1, IP Address:2001:DB8:0:0:0:0:0:1" in shown
    assert "Not Before: Jan  1 00:00:00 2025 GMT" in shown
    assert "Not After : Dec 31 23:59:59 2049 GMT" in shown
    assert key.fingerprint in shown
    assert [path.name for path in tmp_path.iterdir()] == ["tls"], "something was left lying"
    assert not os.path.exists(tmp_path / "tls" / "config")


@pytest.mark.parametrize("name", ["key.pem", "certificate.pem"])
@pytest.mark.parametrize("left", [b"", b"\0" * 300, b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"])
def test_a_key_that_a_damaged_disk_garbled_is_made_anew(name: str, left: bytes, tmp_path: Path) -> None:
    """The service ended with it at each start, and nothing was read any more."""
    before = keys.ensure(tmp_path, ["inkstick"]).fingerprint
    (tmp_path / "tls" / name).write_bytes(left)
    key = keys.ensure(tmp_path, ["inkstick"])
    key.context()
    assert key.fingerprint != before
    assert keys.ensure(tmp_path, ["inkstick"]).fingerprint == key.fingerprint, "made once"


@pytest.mark.parametrize(
    ("host", "local", "own"),
    [
        ("192.0.2.7", "192.0.2.7", True),
        ("192.0.2.8", "192.0.2.7", False),
        ("127.0.0.1", "192.0.2.7", False),
        ("localhost", "192.0.2.7", False),
        ("localhost", "127.0.0.1", True),
        ("192.0.2.7", "::ffff:192.0.2.7", True),
        ("2001:DB8::1", "2001:db8:0::1", True),
        ("fe80::1", "fe80::1%eth0", True),
        ("inkstick.lan", "192.0.2.7", True),
        ("INKSTICK.lan.", "192.0.2.7", True),
        ("evil.inkstick.lan", "192.0.2.7", False),
        ("evil.example", "192.0.2.7", False),
        ("0.0.0.0", "192.0.2.7", False),
        ("", "192.0.2.7", False),
        ("192.0.2.7", None, False),
    ],
)
def test_a_request_may_call_us_by_the_address_it_came_to_or_a_known_name(
    host: str, local: str | None, own: bool
) -> None:
    assert place.is_own(host, local, ["inkstick.lan"]) is own


def test_a_moment_of_another_boot_is_infinitely_long_ago() -> None:
    assert at(5).since(at(2)) == 3
    assert at(5, "b").since(at(2)) == math.inf


def test_sessions_of_a_damaged_file_are_none(tmp_path: Path) -> None:
    (tmp_path / "sessions.json").write_text(json.dumps([{"id": "x"}]))
    assert Sessions(tmp_path, replace(LIFE)).living(at(0)) == []


def test_a_full_disk_keeps_nobody_out_who_was_let_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sessions = Sessions(tmp_path, LIFE)
    _, secret = begun(sessions, at(0))

    def full(path: Path, value: object) -> None:
        raise DiskFull

    monkeypatch.setattr(private, "save", full)
    assert sessions.find(secret, at(TOUCH_SECONDS))
    assert sessions.find(secret, at(LIFE.idle + 1)), "the use was noted all the same"
    assert sessions.find(secret, at(2 * LIFE.idle + 2)) is None


def test_a_configured_name_with_umlauts_is_known_as_browsers_send_it_and_can_be_in_the_certificate() -> None:
    names = place.configured("Büro, scans.example")
    assert names == ["xn--bro-hoa", "scans.example"]
    assert place.is_own("xn--bro-hoa", None, names)
    assert keys._alternatives(names).isascii()
    with pytest.raises(UsageError, match="names"):
        place.configured("a" * 64)
