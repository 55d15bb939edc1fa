"""What all tests of the real engine share: its environment and the tiny checkpoint."""

from __future__ import annotations

import pytest

from engine import setup
from engine.environment import Missing


@pytest.fixture(scope="session")
def engine() -> setup.Engine:
    try:
        return setup.ready()
    except Missing as missing:
        pytest.skip(f"no real vLLM here: {missing}")
