"""Every operation of the OpenAPI document, driven with what it allows and with what it does not.

Whatever comes in, an answer is one that the document announces: never a 500, errors always {code, message, hint}, good
answers with the fields that are promised. New addresses are driven without a change here.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inkstick.web.app import create_app
from support.office import MemoryOffice, png

ENDLESS = "/api/v1/events"
"""A stream without an end: test_web_events reads it."""
OPENAPI: dict[str, Any] = create_app(MemoryOffice(Path(tempfile.gettempdir()))).openapi()
OPERATIONS = [
    (method, path, data)
    for path, methods in OPENAPI["paths"].items()
    for method, data in methods.items()
    if path != ENDLESS
]
GOOD = {
    ("get", "/healthz"),
    ("get", "/api/v1/documents"),
    ("get", "/api/v1/documents/{id}"),
    ("get", "/api/v1/search"),
    ("post", "/api/v1/documents"),
    ("put", "/api/v1/documents/{name}"),
    ("post", "/v1/models/{id}/inference"),
}
"""Operations whose good answers are sure to be met; of the others a refusal may be all there is."""
PICTURE = png(4, 4)
BOUNDARY = "x--boundary--x"


@dataclass(frozen=True)
class Call:
    """One request. `query` and `path` are percent-encoded already."""

    method: str
    path: str
    query: str
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


class Desk:
    """An office with one document in it, and a client, in a loop of their own."""

    def __init__(self, folder: Path) -> None:
        self.loop = asyncio.new_event_loop()
        self.office = MemoryOffice(folder)
        transport = httpx.ASGITransport(create_app(self.office), raise_app_exceptions=False)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080")
        self.loop.run_until_complete(self._start())

    async def _start(self) -> None:
        await self.office.start()
        for text in ("one, two\ftwo", "FAIL"):
            await self.client.put("/api/v1/documents/a.txt", content=text.encode())
        await asyncio.sleep(0)

    def send(self, call: Call) -> httpx.Response:
        address = f"http://127.0.0.1:8080{call.path}" + (f"?{call.query}" if call.query else "")
        request = self.client.build_request(call.method, address, content=call.body, headers=list(call.headers))
        return self.loop.run_until_complete(self.client.send(request))

    def close(self) -> None:
        self.loop.run_until_complete(self.client.aclose())
        self.loop.run_until_complete(self.office.close())
        self.loop.close()


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    desk = Desk(tmp_path_factory.mktemp("operations"))
    yield desk
    desk.close()


# What is sent

ANYTHING = st.text(max_size=30) | st.sampled_from(
    ["", "0", "-1", "9" * 30, "..", "%00", "\x00", "\u202e", "a,b", "'--"]
)


def value(name: str, schema: Mapping[str, Any]) -> st.SearchStrategy[str]:
    """What a parameter or a field may hold by its schema, and now and then what it may not."""
    if "anyOf" in schema:
        found = st.one_of([value(name, one) for one in schema["anyOf"] if one.get("type") != "null"])
        return found if "pattern" not in schema else st.from_regex(schema["pattern"], fullmatch=True) | found
    if name == "model":
        good: st.SearchStrategy[str] = st.just("inkstick")
    elif name in ("id", "n"):
        good = st.sampled_from([f"{1:026d}", f"{2:026d}", "1", "2"])
    elif "enum" in schema:
        good = st.sampled_from(schema["enum"])
    elif "pattern" in schema:
        good = st.from_regex(schema["pattern"], fullmatch=True)
    elif schema.get("type") in ("integer", "number"):
        good = st.integers(schema.get("minimum", 0), schema.get("maximum", 10**6)).map(str)
    elif "$ref" in schema:
        good = value(name, OPENAPI["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
    else:
        good = st.text(max_size=40)
    return st.integers(0, 4).flatmap(lambda roll: ANYTHING if roll == 0 else good)


def encoded(text: str, *, safe: str = "") -> str:
    return quote(text.encode("utf-8", "surrogatepass"), safe=safe)


@st.composite
def calls(draw: st.DrawFn, method: str, path: str, data: Mapping[str, Any]) -> Call:
    query, headers = list[str](), list[tuple[bytes, bytes]]()
    for parameter in data.get("parameters", ()):
        name, where = parameter["name"], parameter["in"]
        if where != "path" and not parameter.get("required") and draw(st.integers(0, 4)):
            continue
        what = "model" if name == "id" and path.startswith("/v1/") else name
        text = draw(value(what, parameter.get("schema", {})))
        if where == "path":
            path = path.replace(f"{{{name}}}", encoded(text) or "_")
        elif where == "query":
            query.append(f"{encoded(name)}={encoded(text)}")
        else:
            headers.append((name.encode(), text.encode("utf-8", "replace").translate(None, b"\r\n\0").strip()))
    if draw(st.integers(0, 9)) == 0:
        query.append(f"{encoded(draw(ANYTHING))}={encoded(draw(ANYTHING))}")
    body = b""
    for media, content in data.get("requestBody", {}).get("content", {}).items():
        kind, body = draw(bodies(media, content.get("schema", {})))
        headers.append((b"content-type", kind))
    return Call(method.upper(), path, "&".join(query), tuple(headers), body)


@st.composite
def bodies(draw: st.DrawFn, media: str, schema: Mapping[str, Any]) -> tuple[bytes, bytes]:
    """A content type and a body: of the right shape, or nearly, or nothing of the kind."""
    if draw(st.integers(0, 7)) == 0:
        other = draw(st.sampled_from([media, "text/plain", "multipart/form-data", "application/json"]))
        return other.encode(), draw(st.binary(max_size=60))
    if media == "multipart/form-data":
        return f"{media}; boundary={BOUNDARY}".encode(), draw(forms(schema))
    if media == "application/json":
        return media.encode(), json.dumps(draw(instances(schema))).encode()
    return media.encode(), draw(st.sampled_from([PICTURE, b"one\ftwo", b""]) | st.binary(max_size=60))


@st.composite
def forms(draw: st.DrawFn, schema: Mapping[str, Any]) -> bytes:
    out = []
    fields: dict[str, Any] = schema.get("properties", {})
    for name in sorted(fields, key=lambda name: name == "file"):
        if name == "file" and draw(st.integers(0, 5)):
            data = draw(st.sampled_from([PICTURE, b"one\ftwo", b""]) | st.binary(max_size=60))
            head = b'Content-Disposition: form-data; name="file"; filename="' + draw(names()) + b'"\r\n\r\n'
            out.append(head + data)
        elif name != "file" and draw(st.integers(0, 7)) == 0:
            text = draw(value(name, fields[name])).encode("utf-8", "replace")
            out.append(f'Content-Disposition: form-data; name="{name}"\r\n\r\n'.encode() + text)
    if draw(st.integers(0, 9)) == 0:
        out.append(b'Content-Disposition: form-data; name="' + draw(names()) + b'"\r\n\r\nx')
    lines = b"".join(f"--{BOUNDARY}\r\n".encode() + part + b"\r\n" for part in out)
    return lines + (f"--{BOUNDARY}--\r\n".encode() if draw(st.integers(0, 9)) else b"")


def names() -> st.SearchStrategy[bytes]:
    odd = st.text(max_size=20).map(lambda text: text.encode("utf-8", "replace"))
    return (odd | st.binary(max_size=20)).map(lambda raw: raw.translate(None, b'\r\n"'))


def instances(schema: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    """JSON by a schema, with a wrong value here and there."""
    odd: st.SearchStrategy[Any] = (
        st.none() | st.booleans() | st.integers() | st.text(max_size=10) | st.just([]) | st.just({})
    )
    if "oneOf" in schema or "anyOf" in schema:
        good: st.SearchStrategy[Any] = st.one_of([instances(one) for one in schema.get("oneOf") or schema["anyOf"]])
    elif "const" in schema or "enum" in schema:
        good = st.sampled_from(schema.get("enum") or [schema["const"]])
    elif schema.get("type") == "object":
        known = {name: instances(one) for name, one in schema.get("properties", {}).items()}
        needed = set(schema.get("required", ()))
        good = st.fixed_dictionaries(
            {name: one for name, one in known.items() if name in needed},
            optional={name: one for name, one in known.items() if name not in needed} | {"surplus": st.integers()},
        )
    elif schema.get("type") == "array":
        good = st.lists(instances(schema["items"]), max_size=3)
    elif schema.get("type") == "boolean":
        good = st.booleans()
    elif "pattern" in schema:
        good = st.from_regex(schema["pattern"], fullmatch=False)
    else:
        good = st.sampled_from(["inkstick"]) | st.text(max_size=20)
    return st.integers(0, 15).flatmap(lambda roll: odd if roll == 0 else good)


# What comes back


def announced(data: Mapping[str, Any], status: int) -> Mapping[str, Any]:
    answers: dict[str, Any] = data["responses"]
    found = answers.get(str(status)) or answers.get("default")
    assert found is not None, f"status {status} is not announced"
    return dict(found)


def fits(body: Any, schema: Mapping[str, Any]) -> bool:
    """Whether a JSON value has the types and the needed fields that the schema promises."""
    if "$ref" in schema:
        return fits(body, OPENAPI["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
    if "anyOf" in schema:
        return any(fits(body, one) for one in schema["anyOf"])
    if "enum" in schema and body not in schema["enum"]:
        return False
    kinds: dict[str, Any] = {
        "object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "boolean": bool,
        "null": type(None),
    }  # fmt: skip
    if "type" in schema and not isinstance(body, kinds[schema["type"]]):
        return False
    if isinstance(body, dict):
        known = schema.get("properties", {})
        return set(schema.get("required", ())) <= set(body) and all(
            fits(item, known[name]) for name, item in body.items() if name in known
        )
    return not isinstance(body, list) or all(fits(item, schema.get("items", {})) for item in body)


def check(data: Mapping[str, Any], answer: httpx.Response) -> None:
    assert answer.status_code != 500, answer.text
    promised = announced(data, answer.status_code).get("content", {})
    kind = answer.headers.get("content-type", "").partition(";")[0]
    assert not promised or kind in promised, f"{kind} is not announced for {answer.status_code}"
    if kind == "application/json":
        assert fits(answer.json(), promised.get(kind, {}).get("schema", {})), answer.text
    if answer.status_code >= 400 and "status" not in answer.json():  # (the checks of /readyz are no error)
        body = answer.json()
        assert all(isinstance(body[name], str) and body[name] for name in ("code", "message", "hint")), body


@pytest.mark.parametrize(
    ("method", "path", "data"), OPERATIONS, ids=[f"{method} {path}" for method, path, _ in OPERATIONS]
)
def test_whatever_comes_in_the_answer_is_one_that_was_announced(
    desk: Desk, method: str, path: str, data: Mapping[str, Any]
) -> None:
    statuses = set[int]()

    @settings(max_examples=40, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(calls(method, path, data))
    def drive(call: Call) -> None:
        answer = desk.send(call)
        check(data, answer)
        statuses.add(answer.status_code)

    drive()
    if (method, path) in GOOD:
        assert any(status < 400 for status in statuses), f"only refusals: {statuses}"


def test_a_picture_that_is_not_even_ascii_is_refused_and_no_fault(desk: Desk) -> None:
    url = "data:image/png;base64,\u008a\u0017"
    body = {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]}
    headers = ((b"content-type", b"application/json"),)
    answer = desk.send(Call("POST", "/v1/chat/completions", "", headers, json.dumps(body).encode()))
    assert (answer.status_code, answer.json()["code"]) == (422, "usage")
