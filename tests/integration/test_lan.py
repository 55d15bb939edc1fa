"""The service as other computers reach it: TLS, pairing, roles on every address, revoking, quotas, the audit log."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import html
import json
import os
import re
import shutil
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.routing import iter_route_contexts
from starlette.routing import Mount

from inkstick.access.audit import Audit
from inkstick.access.roles import GIVEN, Role, required, rule_for
from inkstick.clock import SystemClock
from inkstick.commands.access import shown, verified
from inkstick.web import server
from inkstick.web.app import create_app
from inkstick.web.examples import EXAMPLES
from inkstick.web.screens import NAVIGATION
from support.lan import Lan, lan, token
from support.office import MemoryOffice

SAMPLE = {"id": "0" * 12, "n": "1", "format": "md", "name": "a.txt", "path": "style.css", "id:path": "inkstick"}


def addresses(data: Path) -> Iterator[tuple[str, str]]:
    """Every method and path (as the app declares it) of the whole app."""
    app = create_app(MemoryOffice(data))
    for context in iter_route_contexts(app.routes):
        route = context.original_route
        if isinstance(route, Mount):
            yield "GET", f"{route.path}/{{path:path}}"
            continue
        path = context.path or str(getattr(route, "path", ""))
        for method in sorted((context.methods or set()) - {"HEAD"}):
            yield method, path


def filled(path: str) -> str:
    """The path with its parts filled in: one that the router sends to this very route."""
    return re.sub(r"\{([^}]+)\}", lambda found: SAMPLE.get(found[1], "1"), path)


def test_every_address_of_the_app_has_a_role_of_its_own(tmp_path: Path) -> None:
    found = list(addresses(tmp_path))
    assert len(found) > 30
    assert ("GET", "/") in found
    assert ("GET", "/static/{path:path}") in found
    for method, path in found:
        rule = rule_for(method, filled(path))
        assert rule is not None, f"{method} {path} has no role: add it to inkstick.access.roles.RULES"
        assert rule.path == path, f"{method} {path} gets the role of {rule.path}: put the more exact line first"


async def test_every_address_asks_for_its_role_over_tls(tmp_path: Path) -> None:
    state = tmp_path / "state"
    tokens = {role: token(state, role) for role in GIVEN}
    checked = 0
    async with lan(tmp_path) as served, served.client() as client:
        for method, path in addresses(tmp_path / "other"):
            if path == "/api/v1/events":
                continue  # never ends; below
            needed = required(method, filled(path))
            stranger = await client.request(method, filled(path))
            assert (stranger.status_code == 401) is (needed > Role.ANYONE), (method, path, stranger.status_code)
            for role in GIVEN:
                answer = await client.request(method, filled(path), headers=tokens[role])
                refused = answer.status_code == 403 and answer.json()["code"] == "not_allowed"
                assert refused is (role < needed), (method, path, role, answer.status_code)
                assert answer.status_code != 401, (method, path, role)
                checked += 1
        assert (await client.get("/api/v1/events")).status_code == 401
        async with client.stream("GET", "/api/v1/events", headers=tokens[Role.READER]) as stream:
            assert stream.status_code == 200
    assert checked > 90


async def test_a_person_who_may_not_sees_a_page_that_says_so_and_no_way_there(tmp_path: Path) -> None:
    async with lan(tmp_path) as served, served.paired(Role.READER) as browser:
        wish = {"Accept": "text/html", "Accept-Language": "zh"}
        refused = await browser.get("/system", headers=wish)
        assert refused.status_code == 403
        assert refused.headers["content-type"].startswith("text/html")
        assert "您的身份是查看者；此处仅限管理员。" in refused.text
        assert 'href="/access"' not in refused.text
        page = (await browser.get("/documents", headers=wish)).text
        assert 'href="/failures"' in page
        assert 'href="/system"' not in page
        assert 'href="/ask"' not in page
        program = await browser.get("/system")
        assert program.json()["code"] == "not_allowed"


@pytest.mark.parametrize("role", GIVEN)
async def test_no_page_offers_what_its_person_may_not_do(tmp_path: Path, role: Role) -> None:
    """A press led to a refusal, and what had been typed was gone."""
    async with lan(tmp_path) as served, served.paired(role) as browser, served.paired(Role.ADMIN) as admin:
        texts = (b"alpha DOUBT", b"FAIL", b"fine\fFAIL")
        ids = [(await admin.put("/api/v1/documents/a.txt", content=text)).json()["id"] for text in texts]
        async with asyncio.timeout(60):
            while not {row.state for row in await served.office.documents()} <= {"done", "partial", "failed"}:
                await served.office.wait_event(after=await served.office.last_event(), timeout=0.2)
        pages = [entry.address for entry in NAVIGATION] + [f"/documents/{id}" for id in ids]
        seen = 0
        for page in [*pages, f"/documents/{ids[0]}?edit=1", "/folders/edit?at=", "/access"]:
            if not role >= required("GET", page.partition("?")[0]):
                continue
            text = (await browser.get(page, headers={"Accept": "text/html"})).text
            for form in re.findall(r"<form[^>]* action=[^>]*>", text):
                about = dict(re.findall(r'(action|method)="([^"?]*)', form))
                assert role >= required(about["method"].upper(), about["action"]), f"{page}: {form}"
                seen += 1
        assert seen > 10
        listed = (await browser.get("/documents", headers={"Accept": "text/html"})).text
        assert "Take results away (ZIP)" in listed
        assert (await browser.get("/api/v1/archive", params={"id": ids[0]})).status_code == 200


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl here")
async def test_the_examples_on_the_page_work_over_the_network(tmp_path: Path) -> None:
    """They knew neither the certificate nor a token."""
    secret = token(tmp_path / "data" / "state", Role.OPERATOR)["Authorization"].removeprefix("Bearer ")
    async with lan(tmp_path / "data") as served, served.paired(Role.READER) as browser:
        page = (await browser.get("/docs", headers={"Accept": "text/html"})).text
        found = re.search(r'<pre class="example">(.*?)</pre>', page, re.DOTALL)
        assert found
        shutil.copy(served.state / "tls" / "certificate.pem", tmp_path)
        script = f"{html.unescape(found[1])}\n" + EXAMPLES["get", "/api/v1/status"]
        shell = await asyncio.create_subprocess_exec(
            "bash", "-c", script, cwd=tmp_path, stdout=asyncio.subprocess.PIPE, env=os.environ | {"TOKEN": secret}
        )
        out, _ = await shell.communicate()
    assert json.loads(out)["documents"] is not None


async def test_a_person_whose_pairing_ended_is_told_on_a_page_when_they_send_a_form(tmp_path: Path) -> None:
    """It was the bare JSON, in English, and no way on."""
    async with lan(tmp_path) as served, served.client() as browser:
        wish = {"Accept": "text/html", "Accept-Language": "zh"}
        told = await browser.post("/documents/1/retry", headers=wish)
        assert told.status_code == 401
        assert "此浏览器或程序尚未与本机配对。" in told.text
        assert '<a href="/pair">配对此浏览器</a>' in told.text
        assert 'href="/documents"' not in told.text, "nothing that only those who are paired may see"
        assert (await browser.post("/documents/1/retry")).json()["code"] == "not_paired"
        wrong = await browser.get("/documents", headers=wish | {"Host": "elsewhere.example"})
        assert wrong.status_code == 421
        assert "这个地址不属于本机。" in wrong.text


async def test_a_browser_is_paired_works_and_leaves(tmp_path: Path) -> None:
    async with lan(tmp_path) as served, served.client(headers={"Accept": "text/html"}) as browser:
        led = await browser.get("/documents/1?after=10")
        assert (led.status_code, led.headers["location"]) == (303, "/pair?back=/documents/1%3Fafter%3D10")
        page = await browser.get(led.headers["location"])
        assert 'value="/documents/1?after=10"' in page.text
        pin = served.pin(Role.OPERATOR)
        answer = await browser.post("/pair", data={"pin": pin, "name": "", "back": "/docs"})
        assert (answer.status_code, answer.headers["location"]) == (303, "/docs")
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith("__Host-inkstick=")
        for word in ("HttpOnly", "Path=/", "SameSite=strict", "Secure"):
            assert word in cookie
        assert "Domain" not in cookie
        assert (await browser.put("/api/v1/documents/a.txt", content=b"x")).status_code == 201
        assert (await browser.get("/access")).status_code == 403
        again = await served.client().post("/pair", data={"pin": pin})
        assert again.status_code == 403, "a PIN is good once"
        kept = dict(browser.cookies)
        assert (await browser.post("/leave")).status_code == 303
        assert (await browser.get("/api/v1/documents", cookies=kept)).status_code == 401


async def test_whoever_has_no_pin_is_told_how_one_is_made_at_this_machine(tmp_path: Path) -> None:
    """The appliance has no command line to type `inkstick pin new` at."""
    told = tmp_path / "run"
    told.mkdir()
    async with lan(tmp_path / "data", appliance=told) as served, served.client() as client:
        at_a_computer = (await client.post("/pair", data={"pin": "0000"})).text
        assert "<code>inkstick pin new</code>" in at_a_computer
        (told / "status.json").write_text("{}")
        served.pin(Role.ADMIN)
        on_the_appliance = (await client.post("/pair", data={"pin": "0000"})).text
        assert "press I on its keyboard" in on_the_appliance and "pin new" not in on_the_appliance


async def test_wrong_pins_must_wait_and_the_wait_outlives_the_service(tmp_path: Path) -> None:
    async with lan(tmp_path) as served, served.client() as client:
        pin = served.pin(Role.ADMIN)
        wrong = "00000000" if pin != "00000000" else "11111111"
        codes = [(await client.post("/pair", data={"pin": wrong})).status_code for _ in range(2)]
        assert codes == [403, 429]
    async with lan(tmp_path) as served, served.client() as client:
        kept = (tmp_path / "state" / "pin.json").read_text()
        assert '"failures": 1' in kept
        assert '"tries": 4' in kept
        served.pin(Role.ADMIN)
        whats = [entry.what for entry in Audit(tmp_path / "state").tail(10)]
        assert whats == ["pair_failed"], "a try that was not looked at is not written down"


async def test_a_session_survives_a_restart_and_a_revoked_one_ends_at_once_also_in_an_open_stream(
    tmp_path: Path,
) -> None:
    async with lan(tmp_path) as served, served.paired(Role.READER, "lost laptop") as reader:
        kept = dict(reader.cookies)
    async with lan(tmp_path) as served, served.paired(Role.ADMIN) as admin, served.client(cookies=kept) as reader:
        assert (await reader.get("/api/v1/documents")).status_code == 200
        listed = (await admin.get("/access")).text
        assert "lost laptop" in listed
        found = re.search(r"lost laptop.*?/access/sessions/([0-9a-f]{12})/revoke", listed, re.DOTALL)
        assert found
        async with reader.stream("GET", "/api/v1/events") as stream:
            lines = stream.aiter_lines()
            assert await anext(lines)
            assert (await admin.post(f"/access/sessions/{found[1]}/revoke")).status_code == 303
            assert (await admin.put("/api/v1/documents/secret.txt", content=b"x")).status_code == 201
            async with asyncio.timeout(60):
                rest = [line async for line in lines]
        assert not any("queued" in line for line in rest), "a revoked browser was still told what happened"
        assert (await reader.get("/api/v1/documents")).status_code == 401
        assert (await admin.get("/api/v1/documents")).status_code == 200, "the other one stays"


async def test_an_admin_makes_and_revokes_tokens_and_pins_for_others(tmp_path: Path) -> None:
    async with lan(tmp_path) as served, served.paired(Role.ADMIN) as admin, served.client() as script:
        page = (await admin.post("/access/tokens", data={"name": "nightly", "role": "operator"})).text
        secret = re.search(r"<code>(inkstick_[\w-]{43})</code>", page)
        assert secret
        assert secret[1] not in (await admin.get("/access")).text
        header = {"Authorization": f"Bearer {secret[1]}"}
        assert (await script.put("/api/v1/documents/a.txt", content=b"x", headers=header)).status_code == 201
        id = re.search(r"/access/tokens/([0-9a-f]{12})/revoke", page)
        assert id
        await admin.post(f"/access/tokens/{id[1]}/revoke")
        assert (await script.get("/api/v1/documents", headers=header)).status_code == 401
        await admin.post("/access/pin", data={"role": "reader"})
        digits = re.search(r"<output>(\d{4} \d{4})</output>", (await admin.get("/access")).text)
        assert digits
        assert (await script.post("/pair", data={"pin": digits[1]})).status_code == 303
        assert (await script.post("/upload")).status_code == 403


async def test_a_bad_token_is_not_made_up_for_by_a_good_cookie(tmp_path: Path) -> None:
    async with lan(tmp_path) as served, served.paired(Role.ADMIN) as browser:
        answer = await browser.get("/api/v1/documents", headers={"Authorization": "Bearer inkstick_wrong"})
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")


@pytest.mark.parametrize("host", ["evil.example", "10.0.0.1", "localhost.evil.example", "[::1]", ""])
async def test_another_name_is_refused_before_anything_else(tmp_path: Path, host: str) -> None:
    state = tmp_path / "state"
    header = token(state, Role.ADMIN)
    async with lan(tmp_path, names="ink.example") as served, served.client() as client:
        for path in ("/", "/pair", "/api/v1/documents", "/static/style.css"):
            answer = await client.get(path, headers={**header, "Host": host})
            assert (answer.status_code, answer.json()["code"]) == (421, "wrong_host"), path
        assert (await client.get("/healthz", headers={"Host": host})).status_code == 200
        for fine in ("127.0.0.1:1", "localhost", "INK.example:8443"):
            assert (await client.get("/", headers={**header, "Host": fine})).status_code == 200


async def test_another_site_cannot_act_in_a_paired_browser(tmp_path: Path) -> None:
    async with lan(tmp_path) as served, served.paired(Role.ADMIN) as browser:
        for headers in (
            {"Origin": "https://evil.example"},
            {"Origin": served.address.replace("https", "http")},
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
        ):
            assert (await browser.post("/access/pin", headers=headers)).status_code == 403
            assert (await browser.post("/leave", headers=headers)).status_code == 403
        assert (await browser.post("/access/pin", headers={"Origin": served.address})).status_code == 303


def test_only_tls_1_3_is_spoken(tmp_path: Path) -> None:
    async def asked() -> tuple[str | None, str]:
        async with lan(tmp_path) as served:
            return await asyncio.to_thread(_versions, served)

    assert asyncio.run(asked()) == ("TLSv1.3", "refused")


def _versions(served: Lan) -> tuple[str | None, str]:
    port = httpx.URL(served.address).port or 0
    with (
        socket.create_connection(("127.0.0.1", port), timeout=60) as plain,
        served.trust.wrap_socket(plain, server_hostname="localhost") as spoken,
    ):
        version = spoken.version()
    old = served.trust
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=60) as plain:
            old.wrap_socket(plain, server_hostname="localhost").close()
    except ssl.SSLError:
        return version, "refused"
    return version, "taken"


async def test_a_stranger_is_not_read_from(tmp_path: Path) -> None:
    async with lan(tmp_path) as served, served.client() as client:
        refused = await client.put("/api/v1/documents/a", content=b"x" * 1000)
        assert refused.status_code == 401
        assert (await client.post("/pair", content=b"pin=" + b"1" * 100_000)).status_code == 413
        assert (await client.get("/api/v1/documents", headers=[])).json()["hint"]


@contextlib.asynccontextmanager
async def uncollected() -> AsyncIterator[None]:
    """What refers to itself stays: as long as it may on a machine that has little else to do."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def test_crowds_that_never_begin_tls_leave_the_service_its_descriptors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each holds a descriptor from the moment it connects, for as long as a handshake may take. Those that have gone
    were counted until Python happened to collect them, and others kept out."""
    monkeypatch.setattr(server, "MOST_CONNECTIONS", 3)
    monkeypatch.setattr(server, "HANDSHAKE_SECONDS", 2.0)
    async with lan(tmp_path) as there, asyncio.timeout(60), uncollected():
        port = httpx.URL(there.address).port
        crowd = [await asyncio.open_connection("127.0.0.1", port) for _ in range(4)]
        with contextlib.suppress(ConnectionError):
            assert await crowd[-1][0].read() == b""
        for _, writer in crowd[:-1]:
            writer.close()
        async with there.client() as client:
            while True:
                with contextlib.suppress(httpx.TransportError):  # until those have gone
                    assert (await client.get("/healthz")).status_code == 200
                    break
        crowd[-1][1].close()


async def test_quotas_stop_one_person_and_not_the_other(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"upload_bytes_per_hour": 1000, "uploads_at_once": 1}
    async with lan(tmp_path, **settings) as served, served.paired(Role.OPERATOR) as one:
        assert (await one.put("/api/v1/documents/a", content=b"x" * 900)).status_code == 201
        for content in (b"x" * 101, _pieces(101)):
            refused = await one.put("/api/v1/documents/b", content=content)
            assert (refused.status_code, refused.json()["code"]) == (429, "too_many")
        async with served.paired(Role.OPERATOR) as other:
            assert (await other.put("/api/v1/documents/c", content=b"x" * 900)).status_code == 201
        names = [row["name"] for row in (await one.get("/api/v1/documents")).json()["documents"]]
        assert sorted(names) == ["a", "c"]


async def _pieces(size: int):  # type: ignore[no-untyped-def]
    for _ in range(size):
        yield b"x"


async def test_what_is_done_is_written_down_without_names(tmp_path: Path) -> None:
    async with lan(tmp_path) as served:
        async with served.paired(Role.OPERATOR, "Firefox of Ms. Li") as browser:
            id = (await browser.put("/api/v1/documents/diagnosis.txt", content=b"secret text")).json()["id"]
            async with asyncio.timeout(60):
                while (await browser.get(f"/api/v1/documents/{id}")).json()["state"] != "done":  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            assert (await browser.get(f"/api/v1/documents/{id}/results/md")).status_code == 200
            await browser.get("/access")
        entries = list(reversed(Audit(served.state).tail(10)))
        assert [entry.what for entry in entries] == ["paired", "upload", "download", "forbidden"]
        assert entries[1].about == {"id": id, "bytes": 11}
        assert entries[2].about == {"id": id, "format": "md"}
        assert {entry.who for entry in entries} == {entries[0].who}
        text = (served.state / "audit.jsonl").read_text()
        assert not re.search("diagnosis|secret|Li", text)
    assert verified(tmp_path / "state", as_json=False) == ("4 entries, all of them fit.", True)


async def test_the_console_shows_address_pin_and_fingerprint(tmp_path: Path) -> None:
    async with lan(tmp_path) as served:
        pin = served.pin(Role.ADMIN)
        text, found = shown(served.state, SystemClock(), as_json=False)
        assert found
        assert f"{pin[:4]} {pin[4:]}" in text
        assert "address       https://" in text
        assert "fingerprint   " in text


async def test_on_loopback_nothing_is_asked_and_nothing_written_down(tmp_path: Path) -> None:
    office = MemoryOffice(tmp_path)
    await office.start()
    transport = httpx.ASGITransport(create_app(office))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080") as client:
        assert (await client.put("/api/v1/documents/a", content=b"x")).status_code == 201
        assert "nobody is asked" in (await client.get("/access")).text
        assert (await client.get("/pair")).headers["location"] == "/"
    await office.close()
    assert sorted(path.name for path in (tmp_path / "state").iterdir()) == ["engine", "pin.lock", "spool"]
