"""What every answer carries and what every request must pass: headers, Host, Origin, no asset from elsewhere."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx
import pytest
from fastapi import FastAPI

from inkstick.access.place import check_host, is_loopback
from inkstick.errors import UsageError
from inkstick.web import site
from inkstick.web.app import create_app
from inkstick.web.security import host_name
from support.office import MemoryOffice

HERE = "http://127.0.0.1:8080"
PATHS = ["/", "/docs", "/openapi.json", "/healthz", "/metrics", "/static/style.css", "/static/app.js",
         "/documents/none", "/api/v1/documents", "/api/v1/nothing", "/v1/models"]  # fmt: skip


@dataclass(frozen=True)
class House:
    office: MemoryOffice
    app: FastAPI


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    """One for all: to make an app takes longer than to be refused by it."""
    office = MemoryOffice(tmp_path_factory.mktemp("house"))
    return House(office, create_app(office))


@pytest.fixture
async def client(house: House) -> AsyncIterator[httpx.AsyncClient]:
    await house.office.start()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(house.app), base_url=HERE) as client:
        yield client
    await house.office.close()


@pytest.mark.parametrize("path", PATHS)
async def test_every_answer_carries_the_headers(client: httpx.AsyncClient, path: str) -> None:
    headers = (await client.get(path)).headers
    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["img-src"] == policy["connect-src"] == "'self'"
    assert policy["form-action"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "server" not in headers


async def test_refusals_carry_the_headers_too(client: httpx.AsyncClient) -> None:
    answer = await client.get("/", headers={"Host": "evil.example"})
    assert "content-security-policy" in answer.headers


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.0.0.1:8080", "localhost", "localhost:9999", "LOCALHOST.", "[::1]", "[::1]:8080", "127.8.9.1:1",
     "inkstick.localhost:8080"],
)  # fmt: skip
async def test_this_machine_by_its_own_names_is_answered(client: httpx.AsyncClient, host: str) -> None:
    assert (await client.get("/api/v1/documents", headers={"Host": host})).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "localhost.evil.example", "192.168.1.5:8080", "",
     "0.0.0.0:8080", "[::]:8080", "169.254.169.254", "2130706433", "0x7f.1", "127.1:8080", "localhost@evil.example",
     "evil.example#localhost", "[::1].evil.example", "[::ffff:10.0.0.1]:8080"],
)  # fmt: skip
async def test_a_rebound_name_is_refused_everywhere(client: httpx.AsyncClient, host: str) -> None:
    for path in ("/", "/api/v1/documents", "/v1/models", "/metrics", "/static/app.js"):
        answer = await client.get(path, headers={"Host": host})
        assert (answer.status_code, answer.json()["code"]) == (421, "wrong_host"), path


async def test_two_host_headers_are_refused(client: httpx.AsyncClient) -> None:
    headers = [("Host", "127.0.0.1:8080"), ("Host", "evil.example")]
    assert (await client.get("/", headers=headers)).status_code == 421


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_health_answers_anyone(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(path, headers={"Host": "10.0.0.7"})).status_code == 200


async def post(client: httpx.AsyncClient, path: str, **headers: str) -> int:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return (await client.post(path, files={"file": ("a.txt", b"x")}, headers=named)).status_code


@pytest.mark.parametrize("path", ["/api/v1/documents", "/upload"])
async def test_our_own_pages_and_programs_may_post(client: httpx.AsyncClient, path: str) -> None:
    fine = (201, 303)
    assert await post(client, path) in fine
    assert await post(client, path, Origin=HERE) in fine
    assert await post(client, path, Origin=HERE, Sec_Fetch_Site="same-origin") in fine
    assert await post(client, path, Sec_Fetch_Site="none") in fine


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"},
        {"Sec_Fetch_Site": "same-site", "Origin": HERE},
        {"Sec_Fetch_Site": "nonsense"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:9090"},
        {"Origin": "http://localhost:8080"},
        {"Origin": "https://127.0.0.1:8080"},
        {"Origin": "http://127.0.0.1:8080.evil.example"},
    ],
)
async def test_another_site_cannot_post(client: httpx.AsyncClient, headers: dict[str, str]) -> None:
    before = (await client.get("/api/v1/documents")).json()["documents"]
    paths = ["/api/v1/documents", "/upload", "/api/v1/documents/1/retry", "/documents/1/retry"]
    for path in [*paths, "/v1/chat/completions", "/v1/models/inkstick/inference"]:
        assert await post(client, path, **headers) == 403, path
    assert (await client.get("/api/v1/documents")).json()["documents"] == before


async def test_another_site_can_link_to_a_page_but_not_embed_or_fetch(client: httpx.AsyncClient) -> None:
    followed = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert (await client.get("/", headers=followed)).status_code == 200
    for mode in ("no-cors", "cors"):
        embedded = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": mode}
        assert (await client.get("/api/v1/documents", headers=embedded)).status_code == 403


async def test_no_answer_grants_cross_origin_reading(client: httpx.AsyncClient) -> None:
    answer = await client.get("/api/v1/documents", headers={"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("host", ["inkstick.example", "", "127.0.0.1.example", "192.168.1", "*"])
def test_what_is_no_address_is_not_served(host: str) -> None:
    with pytest.raises(UsageError, match="cannot be served"):
        check_host(host)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "0.0.0.0", "::", "192.168.1.5"])
def test_an_address_is_served(host: str) -> None:
    check_host(host)


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("a:1", "a"), ("a", "a"), ("[::1]:1", "::1"), ("[::1]", "::1"),
        ("::1", None), ("a:1:2", None), ("[::1].a", None), ("a:", None), ("a@b", None), ("a\n", None),
    ],
)  # fmt: skip
def test_the_host_is_told_from_its_port(header: str, name: str | None) -> None:
    assert host_name(header) == name


def test_a_name_that_only_looks_like_loopback_is_not() -> None:
    assert not is_loopback("127.0.0.1.example")
    assert not is_loopback("notlocalhost")


# Nothing from elsewhere


async def test_pages_load_nothing_from_elsewhere(client: httpx.AsyncClient) -> None:
    for path in ("/", "/docs", "/documents/none"):
        text = (await client.get(path, headers={"Accept": "text/html"})).text
        loaded = re.findall(r"""(?:src|href|action)="([^"]*)\"""", text)
        assert loaded
        assert [address for address in loaded if not address.startswith(("/", "#", "?"))] == []
        assert "style=" not in text, "an inline style that the policy would refuse"
        assert not re.search(r"<script(?![^>]*(src=|application/json))", text), "an inline script"


def test_static_files_name_no_other_host() -> None:
    for file in (site.HERE / "static").iterdir():
        text = file.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|url\(|@import|//[a-z0-9-]+\.[a-z]", text), file.name


def test_templates_trust_no_text() -> None:
    for file in (site.HERE / "templates").iterdir():
        text = file.read_text(encoding="utf-8")
        assert not re.search(r"\|\s*safe|autoescape|Markup", text), file.name


def test_scripts_write_text_only() -> None:
    for file in (site.HERE / "static").glob("*.js"):
        text = file.read_text(encoding="utf-8")
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|Function\(", text), (
            file.name
        )


async def test_the_manual_shows_every_address(client: httpx.AsyncClient) -> None:
    schema = (await client.get("/openapi.json")).json()
    assert schema["openapi"].startswith("3.1")
    page = (await client.get("/docs")).text
    for path, methods in schema["paths"].items():
        for method in methods:
            assert f"{method.upper()} {path}" in page, (method, path)
