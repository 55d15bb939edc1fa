"""In which order the tests are given to the processes that share them."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What must stay together in one process comes first: a long group begun last would leave the other one idle."""
    items.sort(key=lambda item: item.get_closest_marker("xdist_group") is None)
