"""The engine's own Python environment: where it is, and whether vLLM is in it. Nothing of it is ever imported here."""

from __future__ import annotations

from pathlib import Path

from inkstick.config import Settings
from inkstick.errors import UsageError

INSTALLED = Path("/opt/inkstick/engine/bin/python")
NEWER = "transformers-5"
"""A folder in the engine's environment, from locks/engine-transformers.txt."""
CHECKOUT = Path(__file__).resolve().parents[3] / ".engine" / "bin" / "python"


def candidates(settings: Settings) -> tuple[Path, ...]:
    """Where it may be, in order: the setting engine_python alone if it is given, else two places."""
    return (settings.engine_python,) if settings.engine_python else (INSTALLED, CHECKOUT)


def find(settings: Settings) -> Path | None:
    """The first candidate with vLLM in it; None if there is none."""
    return next((python for python in candidates(settings) if has_vllm(python)), None)


def require(settings: Settings) -> Path:
    """Raises UsageError that names where was looked."""
    python = find(settings)
    if python is None:
        where = ", ".join(str(path) for path in candidates(settings))
        raise UsageError(
            f"There is no Python with vLLM here (looked at {where}).",
            hint="Name it by INKSTICK_ENGINE_PYTHON, or choose --engine rapidocr; docs/engines.md says how it is made.",
            code="engine_missing",
        )
    return python


def has_vllm(python: Path) -> bool:
    """Whether the environment of this interpreter holds vLLM, by its folders: importing it would take seconds."""
    packages = python.parent.parent / "lib"
    return python.is_file() and any(packages.glob("python3*/site-packages/vllm/__init__.py"))


def newer_transformers(python: Path) -> Path | None:
    """The folder of a transformers that knows HunYuanVL, installed beside vLLM's older one in the same environment;
    put first on the path, it shares that environment's torch. None where it is not installed."""
    folder = python.parent.parent / NEWER
    return folder if (folder / "transformers" / "__init__.py").is_file() else None


def knows_hunyuan(python: Path) -> bool:
    """Whether the environment's own transformers knows HunYuanVL, as that beside a newer vLLM does."""
    model = "python3*/site-packages/transformers/models/hunyuan_vl/__init__.py"
    return any((python.parent.parent / "lib").glob(model))


def require_transformers(settings: Settings) -> tuple[Path, Path | None]:
    """The Python that the transformers engine runs with, and the folder to put first on its path: None where its own
    packages will do. Raises UsageError that names where was looked."""
    for python in candidates(settings):
        if python.is_file() and ((newer := newer_transformers(python)) is not None or knows_hunyuan(python)):
            return python, newer
    where = ", ".join(str(path.parent.parent / NEWER) for path in candidates(settings))
    raise UsageError(
        f"The transformers engine is not installed here (looked for {where}).",
        hint="Name the engine's Python by INKSTICK_ENGINE_PYTHON; docs/engines.md says how it is made.",
        code="engine_missing",
    )
