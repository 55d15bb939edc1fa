"""``GET /metrics``: the office's figures in Prometheus' text format, from a registry of our own."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from inkstick.web.office_port import Stats

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
STATES = ("queued", "reading", "done", "partial", "failed", "blocked")


class StatsCollector(Collector):
    """One snapshot as metrics. Names carry their unit."""

    def __init__(self, stats: Stats) -> None:
        self.stats = stats

    def collect(self) -> Iterator[Metric]:
        stats = self.stats
        yield _labelled("documents", "Documents by state.", "state", dict.fromkeys(STATES, 0) | dict(stats.documents))
        yield _counter("pages_read", "Pages read since the start, by engine.", stats.pages_read)
        yield _counter("pages_failed", "Pages that no attempt could read, by engine.", stats.pages_failed)
        yield _gauge("pages_in_flight", "Pages at an engine now.", stats.in_flight)
        yield _gauge("pages_waiting", "Opened pages that wait for an engine.", stats.waiting)
        yield _gauge("image_held_bytes", "Page images in memory.", stats.bytes_held)
        yield _gauge("pages_per_second", "Pages read a second, lately.", stats.pages_per_second)
        yield self._engines()
        yield _labelled("watch", "The watch daemon's own counts.", "what", _numbers(stats.watch))
        yield _gauge("disk_free_bytes", "Free space of the data folder's file system.", stats.disk_free)
        yield _gauge("disk_total_bytes", "Size of the data folder's file system.", stats.disk_total)
        yield _gauge("disk_reserve_bytes", "Free space below which nothing is accepted.", stats.disk_reserve)
        yield _gauge("blocked", "1 while everything waits for something.", 1 if stats.blocked else 0)

    def _engines(self) -> Metric:
        family = GaugeMetricFamily(
            "inkstick_engine_ready", "1 if pages may be sent to it.", labels=["engine", "model", "role", "state"]
        )
        for engine in self.stats.engines:
            family.add_metric([engine.name, engine.model, engine.role, engine.state], 1 if engine.ready else 0)
        return family


def render(stats: Stats) -> bytes:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(StatsCollector(stats))
    return generate_latest(registry)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"inkstick_{name}", text, value=value)


def _labelled(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(f"inkstick_{name}", text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def _counter(name: str, text: str, values: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(f"inkstick_{name}", text, labels=["engine"])
    for engine, value in values.items():
        family.add_metric([engine], value)
    return family


def _numbers(watch: Mapping[str, object]) -> dict[str, float]:
    return {
        re.sub(r"[^a-zA-Z0-9_]", "_", key): float(value)
        for key, value in watch.items()
        if isinstance(value, int | float)
    }
