"""docs/api.md and the page /docs tell the truth: their examples are run, as they stand, against a served office."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import re
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from inkstick.web import manual
from inkstick.web.app import create_app
from inkstick.web.documents import STATES
from inkstick.web.examples import EXAMPLES, PREAMBLE
from inkstick.web.problems import STATUS
from support.office import MemoryOffice, png
from support.served import served

MANUAL = Path(__file__).parents[2] / "docs" / "api.md"
BASE = "http://127.0.0.1:8080"
needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="no curl on this machine")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", MANUAL.read_text(encoding="utf-8"), re.DOTALL)


@contextlib.asynccontextmanager
async def reached(tmp_path: Path, *, fails: bool = False) -> AsyncIterator[str]:
    """The address of an office in memory, with report.pdf and page.png in the folder where examples run."""
    (tmp_path / "report.pdf").write_text("an invoice\fsecond page" + ("\fFAIL" if fails else ""))
    (tmp_path / "page.png").write_bytes(png(8, 8))
    async with served(tmp_path / "data") as (_, address):
        yield address.rstrip("/")


async def run(tmp_path: Path, *command: str) -> str:
    """What the command printed; it must succeed."""
    process = await asyncio.create_subprocess_exec(
        *command, cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode()


@needs_curl
async def test_every_example_for_the_shell_runs_in_its_order(tmp_path: Path) -> None:
    async with reached(tmp_path) as base:
        script = "set -eu\n" + "\n".join(blocks("sh")).replace(BASE, base).replace("curl ", "curl -f ")
        out = await run(tmp_path, "bash", "-c", script)
    assert (tmp_path / "report.md").read_text() == "an invoice\nsecond page"
    assert (tmp_path / "page1.png").read_bytes().startswith(b"\x89PNG")
    for words in ('"snippet":"an invoice"', 'id: 1\ndata: {"id": 1, "kind": "document"', '"chat.completion"',
                  '"status":"done"}', "inkstick_documents"):  # fmt: skip
        assert words in out, words


@pytest.mark.parametrize(
    ("number", "says"), [(0, "done 22"), (1, "second page"), (2, "Invoice 墨")], ids=["urllib", "httpx", "openai"]
)
async def test_every_example_in_python_runs(tmp_path: Path, number: int, says: str) -> None:
    block = blocks("python")[number]
    if "import openai" in block and importlib.util.find_spec("openai") is None:
        pytest.skip("the openai package is not installed here; tests/engine has it")
    async with reached(tmp_path) as base:
        out = await run(tmp_path, sys.executable, "-c", block.replace(BASE, base))
    assert says in out
    assert "openai" not in block or out.count(says) == 2, "whole, and in pieces"


@needs_curl
async def test_every_example_on_the_page_runs_in_its_order(tmp_path: Path) -> None:
    async with reached(tmp_path, fails=True) as base:
        script = "\n".join(["set -eu", PREAMBLE, *EXAMPLES.values()]).replace(BASE, base).replace("curl ", "curl -f ")
        out = await run(tmp_path, "bash", "-c", script)
        async with httpx.AsyncClient(base_url=base) as client:
            page = (await client.get("/docs")).text
    assert '"chat.completion"' in out
    assert (tmp_path / "page1.png").read_bytes().startswith(b"\x89PNG")
    assert f"BASE={base}" in page
    assert "models/inkstick/inference&#34; -F task=text" in page


def test_every_example_is_of_an_address_that_there_is(tmp_path: Path) -> None:
    found = manual.sections(create_app(MemoryOffice(tmp_path)).openapi())
    with_example = [op for section in found for op in section.operations if op.example]
    assert len(with_example) == len(EXAMPLES)


def test_the_answers_shown_have_every_field(tmp_path: Path) -> None:
    shown, inference = (json.loads(block) for block in blocks("json"))
    schemas = create_app(MemoryOffice(tmp_path)).openapi()["components"]["schemas"]
    assert list(shown) == list(schemas["Document"]["properties"])
    assert list(inference) == list(schemas["Answer"]["properties"])


def test_every_state_and_every_code_is_explained() -> None:
    text = MANUAL.read_text(encoding="utf-8")
    missing = [word for word in (*STATES, *STATUS) if f"`{word}`" not in text]
    assert missing == []
