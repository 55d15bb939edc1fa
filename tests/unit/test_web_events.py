"""The event stream: resumable, bounded, alive, and gone when the service stops."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from inkstick.errors import Unavailable
from inkstick.web.app import create_app
from inkstick.web.events import Streams
from inkstick.web.office_port import Event
from support.office import MemoryOffice


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[MemoryOffice]:
    office = MemoryOffice(tmp_path)
    await office.start()
    yield office
    await office.close()


async def accept(office: MemoryOffice, text: str = "one") -> str:
    async def chunks() -> AsyncIterator[bytes]:
        yield text.encode()

    info = await office.accept_upload("a.txt", chunks())
    seen = 0
    while (await office.document(info.id)).state != "done":
        await office.wait_event(after=seen, timeout=5)
        seen = await office.last_event()
    return info.id


async def take(stream: AsyncIterator[str], count: int) -> list[dict[str, Any]]:
    """The next `count` events; comments and the retry line are left out."""
    found: list[dict[str, Any]] = []
    async with asyncio.timeout(60):
        async for text in stream:
            for message in text.strip().split("\n\n") if text.startswith("id: ") else ():
                identity, data = message.split("\n")
                found.append(json.loads(data.removeprefix("data: ")))
                assert identity == f"id: {found[-1]['id']}"
            if len(found) >= count:
                break
    return found[:count]


async def test_who_comes_as_the_last_one_leaves_is_told_what_happens(office: MemoryOffice) -> None:
    streams = Streams(office, heartbeat=0.05)
    last = streams.follow(0)
    assert "retry" in await anext(last)
    assert "still here" in await anext(last)
    await last.aclose()
    fresh = streams.follow(0)
    assert "retry" in await anext(fresh)
    told = asyncio.create_task(take(fresh, 1))
    await accept(office)
    assert [event["id"] for event in await told] == [1]
    await fresh.aclose()


async def test_a_client_resumes_exactly_where_it_was(office: MemoryOffice) -> None:
    id = await accept(office)
    streams = Streams(office)
    first = await take(streams.follow(0), 2)
    rest = await take(streams.follow(await streams.start(first[-1]["id"])), 2)
    assert [event["id"] for event in first + rest] == [1, 2, 3, 4]
    assert {event["kind"] for event in first + rest} == {"document"}
    assert [event["data"]["state"] for event in first + rest] == ["queued", "reading", "reading", "done"]
    assert {event["document"] for event in first + rest} == {id}


async def test_without_a_position_only_what_happens_from_now_on_comes(office: MemoryOffice) -> None:
    await accept(office)
    streams = Streams(office)
    stream = streams.follow(await streams.start(None))
    waiting = asyncio.create_task(take(stream, 1))
    await asyncio.sleep(0.01)
    later = await accept(office)
    assert (await waiting)[0]["document"] == later


async def test_all_who_wait_are_answered_by_one_question_and_each_gets_everything(
    office: MemoryOffice, monkeypatch: pytest.MonkeyPatch
) -> None:
    questions: list[int] = []
    ask = office.events

    async def counted(*, after: int, limit: int = 200) -> Sequence[Event]:
        questions.append(after)
        return await ask(after=after, limit=limit)

    monkeypatch.setattr(office, "events", counted)
    streams = Streams(office, gather=0)
    waiting = [asyncio.create_task(take(streams.follow(0), 4)) for _ in range(50)]
    await asyncio.sleep(0.05)
    await accept(office)
    found = await asyncio.gather(*waiting)
    assert all([event["id"] for event in events] == [1, 2, 3, 4] for events in found)
    assert len(questions) <= 10, "two for each event at most, whoever listens"
    assert streams.open == 0


async def test_more_events_than_a_batch_all_come_once(office: MemoryOffice) -> None:
    await accept(office, "\f".join(["page"] * 500))
    events = await take(Streams(office).follow(0), 503)
    assert [event["id"] for event in events] == list(range(1, 504))


async def test_a_position_from_another_life_is_told_to_reload(office: MemoryOffice) -> None:
    await accept(office)
    streams = Streams(office)
    (event,) = await take(streams.follow(await streams.start(99999)), 1)
    assert (event["kind"], event["id"]) == ("reset", 4)


async def test_a_position_behind_what_is_kept_is_told_to_reload(
    office: MemoryOffice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of old events the ledger keeps the last 10,000: who was away for longer has missed some and must know it."""
    await accept(office)
    ask = office.events

    async def without_the_first(*, after: int, limit: int = 200) -> Sequence[Event]:
        return await ask(after=max(after, 1), limit=limit)

    monkeypatch.setattr(office, "events", without_the_first)
    streams = Streams(office)
    (event,) = await take(streams.follow(await streams.start(0)), 1)
    assert (event["kind"], event["id"]) == ("reset", 4)
    (event,) = await take(streams.follow(await streams.start(1)), 1)
    assert (event["kind"], event["id"]) == ("document", 2)


async def test_a_silent_stream_shows_that_it_lives(office: MemoryOffice) -> None:
    stream = Streams(office, heartbeat=0.02).follow(0)
    async with asyncio.timeout(60):
        assert await anext(stream) == "retry: 2000\n\n"
        assert await anext(stream) == ": still here\n\n"
        assert await anext(stream) == ": still here\n\n"


async def test_the_number_of_followers_is_bounded(office: MemoryOffice) -> None:
    streams = Streams(office, most=1)
    stream = streams.follow(0)
    await anext(stream)
    with pytest.raises(Unavailable):
        await streams.start(0)
    await stream.aclose()
    assert await streams.start(0) == 0


async def test_streams_end_when_the_service_stops(office: MemoryOffice) -> None:
    streams = Streams(office)

    async def all_of_it() -> list[str]:
        return [text async for text in streams.follow(0)]

    following = asyncio.create_task(all_of_it())
    await asyncio.sleep(0.01)
    streams.close()
    assert await asyncio.wait_for(following, 60) == ["retry: 2000\n\n"]
    assert streams.open == 0


async def test_the_address_takes_the_position_as_header_or_query(office: MemoryOffice) -> None:
    await accept(office)
    streams = Streams(office, heartbeat=0.01)
    transport = httpx.ASGITransport(create_app(office, streams=streams))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        asyncio.get_running_loop().call_later(0.1, streams.close)
        where = "/api/v1/events?after=1"
        both, query = await asyncio.gather(client.get(where, headers={"Last-Event-ID": "3"}), client.get(where))
        assert both.headers["content-type"].startswith("text/event-stream")
        assert [line for line in both.text.split("\n") if line.startswith("id:")] == ["id: 4"]
        assert [line for line in query.text.split("\n") if line.startswith("id:")] == ["id: 2", "id: 3", "id: 4"]
        wrong = await client.get("/api/v1/events", headers={"Last-Event-ID": "x"})
        assert (wrong.status_code, wrong.json()["code"]) == (422, "usage")
