"""The service about itself: how much it read lately, what it is made of, what its log says."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence

from inkstick import appliance, diagnostics
from inkstick.clock import Clock
from inkstick.config import Settings
from inkstick.inventory import inventory
from inkstick.logring import LogRing
from inkstick.store.ledger import Row
from inkstick.throughput import Throughput
from inkstick.web.office_port import Stats
from inkstick.web.screens_port import SystemInfo

log = logging.getLogger(__name__)

KEEP_SECONDS = 60.0


class System:
    """Of one office. Its log ring hears our own loggers from the first `start` to `close`."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings, self._clock = settings, clock
        self._kept = settings.folder.state / "throughput.json"
        self._throughput = Throughput(clock.monotonic())
        self._ring = LogRing()

    def start(self) -> None:
        own = logging.getLogger("inkstick")
        own.addHandler(self._ring)
        own.setLevel(logging.INFO)
        log.info("the service started")
        try:
            value = json.loads(self._kept.read_bytes())
        except (OSError, ValueError):
            return
        now, wall = self._clock.monotonic(), self._clock.wall().timestamp()
        self._throughput = Throughput.restored(value if isinstance(value, dict) else {}, now, wall)

    def close(self) -> None:
        self._keep()
        logging.getLogger("inkstick").removeHandler(self._ring)

    async def keep(self) -> None:
        """Until cancelled: the figures of the last day, kept for a restart."""
        while True:
            await asyncio.sleep(KEEP_SECONDS)
            await asyncio.to_thread(self._keep)

    def _keep(self) -> None:
        """Not synced: a chart that lacks its last minutes after a power cut is no loss."""
        part = self._kept.with_name(".throughput.json.part")
        try:
            saved = self._throughput.saved(self._clock.monotonic(), self._clock.wall().timestamp())
            part.write_text(json.dumps(saved), encoding="ascii")
            part.rename(self._kept)
        except OSError as error:
            log.warning("the figures of the last day were not kept: %s", error.strerror)

    def note(self, pages_read: int) -> None:
        """So many pages were read since the start."""
        self._throughput.note(self._clock.monotonic(), pages_read)

    async def info(self, pages_read: int) -> SystemInfo:
        self.note(pages_read)
        offers = (await asyncio.to_thread(appliance.look, self._settings.appliance_folder)).offers
        made_of = await asyncio.to_thread(inventory)
        return SystemInfo(made_of, self._throughput.series(self._clock.monotonic()), self._ring.lines(), offers)

    async def export(self, stats: Stats, pages_read: int, rows: Sequence[Row]) -> bytes:
        info = await self.info(pages_read)
        made_of, series = info.inventory, info.series
        return await asyncio.to_thread(diagnostics.export, self._settings, made_of, stats, series, info.log, rows)
