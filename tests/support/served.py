"""An office, served at a real port."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from inkstick.config import Settings
from inkstick.web.office_port import OfficePort
from inkstick.web.server import serve
from support.office import MemoryOffice


@contextlib.asynccontextmanager
async def at_port(office: OfficePort) -> AsyncIterator[str]:
    """Serve `office` as its settings say; its address. What keeps it from being served, or ends it, is raised."""
    stop, address = asyncio.Event(), asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(serve(office, address.set_result, stop=stop))
    await asyncio.wait([serving, address], return_when=asyncio.FIRST_COMPLETED, timeout=60)
    if serving.done():
        await serving
    try:
        yield await address
    finally:
        stop.set()
        await asyncio.wait_for(serving, 60)


@contextlib.asynccontextmanager
async def served(data: Path, port: int = 0) -> AsyncIterator[tuple[MemoryOffice, str]]:
    """An office in memory, and its address."""
    office = MemoryOffice(data, settings=Settings(data=data, port=port))
    async with at_port(office) as address:
        yield office, address
