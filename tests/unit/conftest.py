"""What the tests of the web share: an office in memory, and a client of its app."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from inkstick.config import Settings
from inkstick.web.app import create_app
from support.office import MemoryOffice


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[MemoryOffice]:
    """Takes uploads of at most 1 MiB."""
    office = MemoryOffice(tmp_path, settings=Settings(data=tmp_path, max_bytes=1 << 20))
    await office.start()
    yield office
    await office.close()


@pytest.fixture
async def client(office: MemoryOffice) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(create_app(office), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080") as client:
        yield client
