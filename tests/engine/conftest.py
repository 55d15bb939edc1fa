"""What all tests of the real engine share: its environment and the tiny checkpoint."""

from __future__ import annotations

import pytest

from engine import setup
from engine.environment import Missing
from inkstick.models import catalogue


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--newer", action="store_true", help="the tests through a newer vLLM too (8 GB more)")


@pytest.fixture(scope="session")
def engine() -> setup.Engine:
    try:
        return setup.ready()
    except Missing as missing:
        pytest.skip(f"no real vLLM here: {missing}")


@pytest.fixture(scope="session")
def layout(engine: setup.Engine) -> setup.LayoutModel:
    stage = catalogue.read().manifests["paddleocr-vl-1.6"].layout
    assert stage is not None
    try:
        return setup.layout(engine.python, stage.side)
    except Missing as missing:
        pytest.skip(f"no layout model here: {missing}")
