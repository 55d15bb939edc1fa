"""docs/api.md tells the truth: its examples are run, as they stand, against a served office."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from pathlib import Path

import pytest

from inkstick.config import Settings
from inkstick.web.app import create_app
from inkstick.web.documents import STATES
from inkstick.web.problems import STATUS
from inkstick.web.server import serve
from support.office import MemoryOffice, png

MANUAL = Path(__file__).parents[2] / "docs" / "api.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", MANUAL.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl on this machine")
async def test_every_example_runs_in_its_order(tmp_path: Path) -> None:
    (tmp_path / "report.pdf").write_text("an invoice\fsecond page")
    (tmp_path / "page.png").write_bytes(png(8, 8))
    office = MemoryOffice(tmp_path / "data", settings=Settings(data=tmp_path / "data", port=0))
    stop, address = asyncio.Event(), asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(serve(office, address.set_result, stop=stop))
    base = (await asyncio.wait_for(address, 60)).rstrip("/")
    script = "set -eu\n" + "\n".join(blocks("sh")).replace("http://127.0.0.1:8080", base).replace("curl ", "curl -f ")
    process = await asyncio.create_subprocess_exec(
        "bash", "-c", script, cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    stop.set()
    await serving
    assert process.returncode == 0, err.decode()
    assert (tmp_path / "report.md").read_text() == "an invoice\nsecond page"
    assert (tmp_path / "page1.png").read_bytes().startswith(b"\x89PNG")
    for words in ('"snippet":"an invoice"', 'id: 1\ndata: {"id": 1, "kind": "accepted"', '"chat.completion"',
                  '"status":"done"}', "inkstick_documents"):  # fmt: skip
        assert words in out.decode(), words


def test_the_answers_shown_have_every_field(tmp_path: Path) -> None:
    shown, inference = (json.loads(block) for block in blocks("json"))
    schemas = create_app(MemoryOffice(tmp_path)).openapi()["components"]["schemas"]
    assert list(shown) == list(schemas["Document"]["properties"])
    assert list(inference) == list(schemas["Answer"]["properties"])


def test_every_state_and_every_code_is_explained() -> None:
    text = MANUAL.read_text(encoding="utf-8")
    missing = [word for word in (*STATES, *STATUS) if f"`{word}`" not in text]
    assert missing == []
