"""An office in memory, served at a real port."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from inkstick.config import Settings
from inkstick.web.server import serve
from support.office import MemoryOffice


@contextlib.asynccontextmanager
async def served(data: Path, port: int = 0) -> AsyncIterator[tuple[MemoryOffice, str]]:
    """The office and its address. What keeps it from being served is raised."""
    office = MemoryOffice(data, settings=Settings(data=data, port=port))
    stop, address = asyncio.Event(), asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(serve(office, address.set_result, stop=stop))
    await asyncio.wait([serving, address], return_when=asyncio.FIRST_COMPLETED, timeout=60)
    if serving.done():
        await serving
    try:
        yield office, await address
    finally:
        stop.set()
        await asyncio.wait_for(serving, 60)
