"""Every address of the API, over real ASGI, with an office in memory."""

from __future__ import annotations

import asyncio
import base64
import errno
import hashlib
import io
import json
import os
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from inkstick.web.app import create_internal_app
from inkstick.web.office_port import OfficePort
from support.office import MemoryOffice, png


def test_the_office_in_memory_is_an_office(tmp_path: Path) -> None:
    office: OfficePort = MemoryOffice(tmp_path)
    assert office.settings.data == tmp_path


async def upload(client: httpx.AsyncClient, text: str = "hello", name: str = "a.txt") -> dict[str, Any]:
    answer = await client.put(f"/api/v1/documents/{name}", content=text.encode())
    assert answer.status_code == 201, answer.text
    return await settled(client, answer.json()["id"])


async def settled(client: httpx.AsyncClient, id: str) -> dict[str, Any]:
    async with asyncio.timeout(60):
        while True:
            document: dict[str, Any] = (await client.get(f"/api/v1/documents/{id}")).json()
            if document["state"] in ("done", "partial", "failed"):
                return document
            await asyncio.sleep(0.005)


def problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    body: dict[str, Any] = answer.json()
    assert body["code"] == code, body
    assert body["message"], "an error without a sentence for people"
    assert body["hint"], "an error that does not say what to do"
    return body


# Uploads


async def test_a_folder_that_no_disk_can_hold_is_refused(client: httpx.AsyncClient) -> None:
    deep = "/".join(["f" * 200] * 30)
    problem(await client.put("/api/v1/documents/a.txt", content=b"x", params={"folder": deep}), 422, "usage")
    fine = await client.put("/api/v1/documents/a.txt", content=b"x", params={"folder": "/".join(["f" * 200] * 8)})
    assert fine.status_code == 201


@pytest.mark.parametrize(
    ("asked", "status", "code"),
    [("bytes=9999-", 416, "no_range"), ("bytes=x-y", 400, "usage"), ("lines=1", 400, "usage")],
)
async def test_a_part_that_a_file_does_not_have_is_told_as_every_error_is(
    client: httpx.AsyncClient, asked: str, status: int, code: str
) -> None:
    address = f"/api/v1/documents/{(await upload(client))['id']}/original"
    answer = await client.get(address, headers={"Range": asked})
    problem(answer, status, code)
    assert answer.headers.get("content-range") == ("bytes */5" if status == 416 else None)
    part = await client.get(address, headers={"Range": "bytes=1-2"})
    assert (part.status_code, part.content) == (206, b"el")


async def test_a_form_is_accepted_with_the_options_before_its_file(client: httpx.AsyncClient) -> None:
    answer = await client.post(
        "/api/v1/documents",
        data={"task": "text", "priority": "bulk"},
        files={"file": ("r\u00e9sum\u00e9 墨.txt", b"one\ftwo")},
    )
    assert answer.status_code == 201
    assert answer.headers["location"] == f"/api/v1/documents/{answer.json()['id']}"
    document = await settled(client, answer.json()["id"])
    assert (document["name"], document["task"], document["priority"]) == ("résumé 墨.txt", "text", "bulk")
    assert (document["pages"], document["pages_done"], document["error"]) == (2, 2, None)
    assert document["sha256"] == hashlib.sha256(b"one\ftwo").hexdigest()


async def test_raw_bytes_are_accepted_and_compared_with_their_hash(client: httpx.AsyncClient) -> None:
    digest = hashlib.sha256(b"hello").hexdigest()
    good = await client.put("/api/v1/documents/a.txt?task=text", content=b"hello", headers={"X-Content-SHA256": digest})
    assert (good.status_code, good.json()["task"], good.json()["priority"]) == (201, "text", "person")
    other = await client.put("/api/v1/documents/a.txt", content=b"hallo", headers={"X-Content-SHA256": digest})
    problem(other, 422, "checksum")
    problem(await client.put("/api/v1/documents/a", content=b"x", headers={"X-Content-SHA256": "abc"}), 422, "usage")
    assert len((await client.get("/api/v1/documents")).json()["documents"]) == 1


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("task=dance", "task"),
        ("colour=red", "colour"),
        ("formats=md,exe", "formats"),
        ("task=extract", "keys"),
        ("task=text&task=table", "twice"),
        ("to=fr", "to"),
        ("priority=now", "priority"),
    ],
)
async def test_a_wrong_wish_is_refused_by_name(client: httpx.AsyncClient, query: str, says: str) -> None:
    raw = problem(await client.put(f"/api/v1/documents/a.txt?{query}", content=b"x"), 422, "usage")
    assert says in raw["message"]
    form = await client.post(f"/api/v1/documents?{query}", files={"file": ("a.txt", b"x")})
    assert says in problem(form, 422, "usage")["message"]
    assert (await client.get("/api/v1/documents")).json()["documents"] == []


async def test_a_form_with_anything_after_its_file_is_refused_whole(client: httpx.AsyncClient) -> None:
    two = await client.post("/api/v1/documents", files=[("file", ("a.txt", b"a")), ("file", ("b.txt", b"b"))])
    assert "more than one" in problem(two, 422, "usage")["message"]
    body = (
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\nhello\r\n'
        b'--x\r\nContent-Disposition: form-data; name="task"\r\n\r\ntext\r\n--x--\r\n'
    )
    late = await client.post(
        "/api/v1/documents", content=body, headers={"Content-Type": "multipart/form-data; boundary=x"}
    )
    assert "before" in problem(late, 422, "usage")["hint"]
    assert (await client.get("/api/v1/documents")).json()["documents"] == []


FORM = "multipart/form-data; boundary=x"
HEAD = b"--x\r\nContent-Disposition: form-data; %s\r\n\r\n"


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", b"{}"),
        ("multipart/form-data", b""),
        (FORM, b""),
        (FORM, b"--x--\r\n"),
        (FORM, b"nonsense"),
        ("multipart/form-data; boundary=" + "x" * 300, b""),
        (FORM, HEAD % b'name="file"; filename=""' + b"--x--\r\n"),
        (FORM, HEAD % b'name="file"; filename="a"' + b"half"),
        (FORM, HEAD % b'name="doc"; filename="a"' + b"1\r\n--x--\r\n"),
        (FORM, b"--x\r\nContent-Disposition: " + b"a" * 100_000),
    ],
)
async def test_a_body_that_is_no_form_with_a_file_is_refused(client: httpx.AsyncClient, kind: str, body: bytes) -> None:
    answer = await client.post("/api/v1/documents", content=body, headers={"Content-Type": kind})
    problem(answer, 422, "usage")
    assert (await client.get("/api/v1/documents")).json()["documents"] == []


async def test_a_huge_field_is_refused(client: httpx.AsyncClient) -> None:
    answer = await client.post("/api/v1/documents", data={"task": "x" * 70_000}, files={"file": ("a.txt", b"x")})
    problem(answer, 413, "too_large")


async def never_read() -> AsyncIterator[bytes]:
    raise AssertionError("the body was read")
    yield b""


async def test_a_full_disk_refuses_before_the_body_is_read(client: httpx.AsyncClient, office: MemoryOffice) -> None:
    office.full = True
    problem(await client.put("/api/v1/documents/a.txt", content=never_read()), 507, "disk_full")
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    problem(await client.post("/api/v1/documents", content=never_read(), headers=headers), 507, "disk_full")


async def test_too_large_is_said_before_the_body_or_while_it_comes(client: httpx.AsyncClient) -> None:
    headers = {"Content-Length": str(2 << 20)}
    problem(await client.put("/api/v1/documents/a.txt", content=never_read(), headers=headers), 413, "too_large")

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 65536

    problem(await client.put("/api/v1/documents/a.txt", content=endless()), 413, "too_large")


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("C:\\scans\\a.txt", "a.txt"),
        ("../../etc/passwd", "passwd"),
        ("..", "document"),
        ("a\x01\tb", "ab"),
        ("/", "document"),
    ],
)
def test_a_name_never_carries_a_path(given: str, name: str) -> None:
    from inkstick.web.documents import file_name

    assert file_name(given) == name


# Documents


async def test_the_list_is_newest_first_and_goes_on_where_it_ended(client: httpx.AsyncClient) -> None:
    ids = [(await upload(client, name=f"{n}.txt"))["id"] for n in range(5)]
    first = (await client.get("/api/v1/documents?limit=2")).json()
    second = (await client.get("/api/v1/documents", params={"limit": 2, "after": first["after"]})).json()
    third = (await client.get("/api/v1/documents", params={"limit": 2, "after": second["after"]})).json()
    seen = [document["id"] for part in (first, second, third) for document in part["documents"]]
    assert seen == ids[::-1]
    assert third["after"] is None


async def test_the_list_is_filtered_by_words_and_state(client: httpx.AsyncClient) -> None:
    await upload(client, "alpha", "one.txt")
    await upload(client, "FAIL", "two.txt")

    async def names(**query: str) -> list[str]:
        found = (await client.get("/api/v1/documents", params=query)).json()["documents"]
        return [document["name"] for document in found]

    assert await names(q="ALPHA") == ["one.txt"]
    assert await names(state="failed") == ["two.txt"]
    problem(await client.get("/api/v1/documents?state=lost"), 422, "usage")


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "after=x", "after=-1", "q=" + "x" * 501])
async def test_a_wrong_query_is_refused_by_name(client: httpx.AsyncClient, query: str) -> None:
    body = problem(await client.get(f"/api/v1/documents?{query}"), 422, "usage")
    assert body["message"].startswith(query.partition("=")[0])


async def test_pages_tell_how_they_were_read(client: httpx.AsyncClient) -> None:
    document = await upload(client, "one\fDOUBT\fFAIL")
    assert (document["state"], document["flags"]) == ("partial", ["suspect"])
    listed = (await client.get(f"/api/v1/documents/{document['id']}/pages?limit=2")).json()
    assert [(page["number"], page["state"], page["flags"]) for page in listed["pages"]] == [
        (1, "read", []),
        (2, "read", ["suspect"]),
    ]
    rest = (await client.get(f"/api/v1/documents/{document['id']}/pages", params={"after": listed["after"]})).json()
    assert [page["state"] for page in rest["pages"]] == ["failed"]


async def test_results_come_as_files_to_save(client: httpx.AsyncClient) -> None:
    document = await upload(client, "<script>alert(1)</script>")
    for format, media in (("md", "text/markdown"), ("json", "application/json"), ("txt", "text/plain")):
        answer = await client.get(f"/api/v1/documents/{document['id']}/results/{format}")
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith(media)
        assert answer.headers["content-disposition"].startswith("attachment")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "alert(1)" in answer.text


async def test_tables_come_as_one_zip(client: httpx.AsyncClient) -> None:
    document = await upload(client, "a,b\n1,2\fno table\fc,d")
    answer = await client.get(f"/api/v1/documents/{document['id']}/results/csv")
    assert answer.headers["content-disposition"].startswith("attachment")
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.namelist() == ["page-1.csv", "page-2.csv"]
        assert archive.read("page-1.csv") == b"a,b\n1,2"


async def test_a_result_that_is_not_there_says_so(client: httpx.AsyncClient) -> None:
    document = await upload(client, "plain")
    problem(await client.get(f"/api/v1/documents/{document['id']}/results/pdf"), 409, "not_ready")
    problem(await client.get(f"/api/v1/documents/{document['id']}/results/exe"), 422, "usage")


async def test_a_page_has_a_picture(client: httpx.AsyncClient) -> None:
    document = await upload(client)
    answer = await client.get(f"/api/v1/documents/{document['id']}/pages/1/image?max_side=70")
    assert (answer.headers["content-type"], answer.content) == ("image/png", png(50, 70))
    problem(await client.get(f"/api/v1/documents/{document['id']}/pages/2/image"), 404, "not_found")
    problem(await client.get(f"/api/v1/documents/{document['id']}/pages/0/image"), 422, "usage")
    problem(await client.get(f"/api/v1/documents/{document['id']}/pages/1/image?max_side=99999"), 422, "usage")


async def test_a_failed_document_is_read_again_and_a_good_one_is_not(client: httpx.AsyncClient) -> None:
    failed = await upload(client, "FAIL")
    assert failed["error"]["code"] == "damaged"
    assert failed["error"]["hint"]
    again = await client.post(f"/api/v1/documents/{failed['id']}/retry")
    assert (again.status_code, again.json()["state"]) == (202, "queued")
    assert (await settled(client, failed["id"]))["attempts"] == 2
    good = await upload(client)
    problem(await client.post(f"/api/v1/documents/{good['id']}/retry"), 409, "not_ready")


async def test_search_finds_pages(client: httpx.AsyncClient) -> None:
    document = await upload(client, "one\f墨 <b>two</b>", "b.txt")
    hits = (await client.get("/api/v1/search", params={"q": "墨"})).json()["hits"]
    assert hits == [{"document": document["id"], "name": "b.txt", "page": 2, "snippet": "墨 <b>two</b>"}]
    problem(await client.get("/api/v1/search"), 422, "usage")


@pytest.mark.parametrize("path", ["", "/pages", "/results/md", "/pages/1/image"])
async def test_an_unknown_document_is_not_found(client: httpx.AsyncClient, path: str) -> None:
    problem(await client.get(f"/api/v1/documents/{'0' * 26}{path}"), 404, "not_found")
    problem(await client.get(f"/api/v1/documents/No%20Id{path}"), 422, "usage")


async def test_unknown_addresses_and_methods_answer_in_our_shape(client: httpx.AsyncClient) -> None:
    problem(await client.get("/api/v1/nothing"), 404, "not_found")
    answer = await client.delete("/api/v1/documents")
    problem(answer, 405, "method")
    assert "GET" in answer.headers["allow"]
    problem(await client.post("/healthz"), 405, "method")


async def test_a_fault_of_our_own_tells_nothing_of_its_inside(client: httpx.AsyncClient, office: MemoryOffice) -> None:
    async def broken(id: str) -> None:
        raise RuntimeError("secret path /data/x")

    office.document = broken  # type: ignore[assignment,method-assign]
    answer = await client.get("/api/v1/documents/1")
    problem(answer, 500, "internal")
    assert "secret" not in answer.text


@pytest.mark.parametrize(
    ("number", "status", "code"),
    [
        (errno.ENOSPC, 507, "disk_full"),
        (errno.EDQUOT, 507, "disk_full"),
        (errno.EIO, 503, "unavailable"),
        (errno.EROFS, 503, "unavailable"),
        (errno.ENOENT, 500, "internal"),
    ],
)
async def test_a_disk_that_refuses_is_no_fault_of_our_own(
    client: httpx.AsyncClient, office: MemoryOffice, number: int, status: int, code: str
) -> None:
    """A page that is shown or read at once needs a little room, too."""

    async def refused(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), "/secret/path")

    office.page_image = office.read_image = refused  # type: ignore[assignment,method-assign]
    answer = await client.get(f"/api/v1/documents/{'0' * 26}/pages/1/image")
    problem(answer, status, code)
    assert "secret" not in answer.text
    problem(await client.post("/v1/chat/completions", json=chat(PICTURE)), status, code)


# The service


async def test_health_and_readiness_follow_the_office(client: httpx.AsyncClient, office: MemoryOffice) -> None:
    assert (await client.get("/healthz")).json()["status"] == "ok"
    assert (await client.get("/readyz")).json()["status"] == "ready"
    office.full = True
    unready = await client.get("/readyz")
    assert (unready.status_code, unready.json()["checks"]) == (503, {"disk": "full"})
    assert (await client.get("/healthz")).status_code == 200
    office.live = False
    assert (await client.get("/healthz")).status_code == 503


async def test_metrics_are_prometheus_text(client: httpx.AsyncClient) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    await upload(client, "one\ftwo")
    answer = await client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }
    assert samples["inkstick_documents", "done"] == 1
    assert samples["inkstick_documents", "failed"] == 0
    assert samples["inkstick_pages_read_total", "rapidocr"] == 2
    assert samples["inkstick_engine_ready", "rapidocr", "pp-ocrv6-small@3.10.0", "primary", "ready"] == 1
    assert samples["inkstick_watch", "settling"] == 1
    assert samples["inkstick_disk_free_bytes",] == 52 << 30
    assert samples["inkstick_blocked",] == 0


async def test_status_says_the_same_in_figures_and_words(client: httpx.AsyncClient, office: MemoryOffice) -> None:
    office.engine_ready = False
    status = (await client.get("/api/v1/status")).json()
    assert status["says"]["engine"]["level"] == "bad"
    assert "nothing is lost" in status["says"]["engine"]["text"]
    assert status["disk"]["free"] == 52 << 30


# One image at once

IMAGE = "data:image/png;base64," + base64.b64encode(png(4, 4)).decode()


def chat(*parts: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(parts)}], **more}


PICTURE = {"type": "image_url", "image_url": {"url": IMAGE}}


async def test_a_completion_holds_the_text_of_one_image(client: httpx.AsyncClient, office: MemoryOffice) -> None:
    text = {"type": "text", "text": "Read it."}
    answer = await client.post("/v1/chat/completions", json=chat(text, PICTURE, model="inkstick"))
    body = answer.json()
    assert body["object"] == "chat.completion"
    assert body["choices"][0]["message"] == {"role": "assistant", "content": f"Invoice 墨\n\n{len(png(4, 4))} bytes"}
    assert body["choices"][0]["finish_reason"] == "stop"
    assert body["inkstick"] == {"engine": "rapidocr", "flags": [], "score": 0.9}
    assert office.requests[-1].prompt == "Read it."


async def test_a_streamed_completion_adds_up_to_the_same_text(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/chat/completions", json=chat(PICTURE, stream=True))
    assert answer.headers["content-type"].startswith("text/event-stream")
    lines = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    chunks = [json.loads(line)["choices"][0] for line in lines[:-1]]
    assert "".join(chunk["delta"].get("content", "") for chunk in chunks) == f"Invoice 墨\n\n{len(png(4, 4))} bytes"
    assert [chunk["finish_reason"] for chunk in chunks][-2:] == [None, "stop"]


async def test_a_text_that_was_cut_says_so(client: httpx.AsyncClient) -> None:
    cut = {"type": "text", "text": "cut it"}
    body = (await client.post("/v1/chat/completions", json=chat(PICTURE, cut))).json()
    assert body["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize(
    ("request_body", "says"),
    [
        (chat(PICTURE, temperature=0.2), "temperature"),
        (chat(PICTURE, n=2), "n is not supported"),
        (chat({"type": "image_url", "image_url": {"url": IMAGE, "detail": "low"}}), "detail"),
        (chat({"type": "image_url", "image_url": {"url": "http://example.org/a.png"}}), "data URL"),
        (chat({"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}), "data URL"),
        (chat({"type": "image_url", "image_url": {"url": "data:image/png;base64,@@@"}}), "base64"),
        (chat({"type": "audio"}), "audio"),
        (chat({"type": "text", "text": "no image"}), "exactly one image"),
        (chat(PICTURE, PICTURE), "exactly one image"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "system", "content": [PICTURE]}]}, "role"),
        ([], "request"),
    ],
)
async def test_a_completion_request_is_closed(client: httpx.AsyncClient, request_body: Any, says: str) -> None:
    answer = await client.post("/v1/chat/completions", json=request_body)
    body = problem(answer, 422, "usage")
    assert says in body["message"]
    assert body["error"]["type"] == "invalid_request_error"
    assert says in body["error"]["message"]


async def test_errors_of_the_reading_come_in_both_shapes(client: httpx.AsyncClient) -> None:
    bad = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    body = problem(await client.post("/v1/chat/completions", json=chat(bad)), 422, "damaged")
    assert body["error"]["code"] == "damaged"
    problem(await client.post("/v1/chat/completions", json=chat(PICTURE, model="gpt-4o")), 404, "not_found")
    problem(await client.post("/v1/chat/completions", content=b"x" * (49 << 20)), 413, "too_large")
    problem(await client.get("/v1/nothing"), 404, "not_found")


async def test_models_are_the_alias_and_the_engine_in_charge(client: httpx.AsyncClient) -> None:
    listed = (await client.get("/v1/models")).json()
    assert [model["id"] for model in listed["data"]] == ["inkstick", "pp-ocrv6-small@3.10.0"]


async def test_the_plain_form_answers_text_and_status(client: httpx.AsyncClient, office: MemoryOffice) -> None:
    office.engine_prompts = True
    files = {"file": ("a.png", png(4, 4))}
    answer = await client.post("/v1/models/pp-ocrv6-small@3.10.0/inference", files=files, data={"prompt": "Read."})
    assert answer.json() == {"text": f"Invoice 墨\n\n{len(png(4, 4))} bytes", "status": "done"}
    assert office.requests[-1].prompt == "Read."
    cut = await client.post("/v1/models/inkstick/inference", files=files, data={"prompt": "cut it"})
    assert cut.json()["status"] == "partial"


async def test_the_plain_form_takes_a_task_and_refuses_what_no_engine_here_does(
    client: httpx.AsyncClient, office: MemoryOffice
) -> None:
    where, files = "/v1/models/inkstick/inference", {"file": ("a.png", png(4, 4))}
    assert (await client.post(where, files=files, data={"task": "text", "page": "3"})).status_code == 200
    assert (office.page_asked[-1].profile.task, office.page_asked[-1].number) == ("text", 3)
    for fields in ({"prompt": "Who signed?"}, {"task": "extract", "keys": "total,date"}):
        body = problem(await client.post(where, files=files, data=fields), 415, "unsupported")
        assert "HunyuanOCR" in body["hint"]
    problem(await client.post(where, files=files, data={"task": "extract"}), 422, "usage")
    problem(await client.post(where, files=files, data={"page": "0"}), 422, "usage")


async def test_the_plain_form_takes_one_file_and_a_prompt_only(client: httpx.AsyncClient) -> None:
    where = "/v1/models/inkstick/inference"
    two = [("file", ("a.png", png(4, 4))), ("file", ("b.png", png(4, 4)))]
    problem(await client.post(where, files=two), 422, "usage")
    problem(await client.post(where, files={"file": ("a", png(4, 4))}, data={"seed": "1"}), 422, "usage")
    problem(await client.post(where, files={"other": ("a", png(4, 4))}), 422, "usage")
    problem(await client.post("/v1/models/other/inference", files={"file": ("a", png(4, 4))}), 404, "not_found")


# The internal socket


async def test_the_watch_daemon_hands_over_its_claims(office: MemoryOffice) -> None:
    transport = httpx.ASGITransport(create_internal_app(office))
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        said = {"claims": ["a", "b"], "status": {"settling": 3}}
        assert (await client.post("/internal/watch", json=said)).status_code == 204
        assert office.last_watch == (("a", "b"), {"settling": 3})
        problem(await client.post("/internal/watch", json={"claim": []}), 422, "usage")
        problem(await client.get("/api/v1/documents"), 404, "not_found")


async def test_an_address_tells_every_method_that_it_takes(client: httpx.AsyncClient) -> None:
    refused = await client.options("/api/v1/documents/0")
    assert (refused.status_code, refused.headers["allow"]) == (405, "DELETE, GET, PUT")
    assert (await client.post("/api/v1/system/diagnostics")).status_code == 405
