"""The whole ISO, built by an ordinary user from the same packages, is root's, bit for bit."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

from support.ordinary import lacks, ordinary
from vm.conftest import ROOT

SECONDS = 3600  # against hangs
SOURCES = ("image", "service", "provisioning", "locks", "models-manifest")
LACKS = lacks()
pytestmark = [pytest.mark.vm_full, pytest.mark.timeout(SECONDS)]


@pytest.mark.skipif(bool(LACKS), reason=LACKS)
@pytest.mark.skipif("INKSTICK_ISO" in os.environ, reason="the ISO was given, not built here")
def test_an_ordinary_user_s_iso_is_root_s(iso: Path) -> None:
    cache = Path(os.environ.get("INKSTICK_CACHE") or ROOT / "cache")
    with ordinary() as person:
        clone = person.folder / "inkstick"
        for name in SOURCES:
            shutil.copytree(ROOT / name, clone / name, symlinks=True)
        for name in ("pyproject.toml", "LICENSE"):
            shutil.copyfile(ROOT / name, clone / name)
        for name in ("debs", "wheels"):
            shutil.copytree(cache / name, clone / "cache" / name)
        owner = person.folder.stat()
        subprocess.run(["chown", "-R", f"{owner.st_uid}:{owner.st_gid}", clone], check=True)
        words = ("-m", "inkstick_image", "image", "--edition", "cpu", "--quick", "--offline")
        path = [clone / "image", Path(sysconfig.get_path("purelib"))]
        done = person.python(*words, path=path, INKSTICK_CACHE=str(clone / "cache"))
        assert done.returncode == 0, done.stdout + done.stderr
        (theirs,) = (clone / "dist").glob("*.iso")
        assert (
            theirs.with_name(f"{theirs.name}.sha256").read_bytes() == iso.with_name(f"{iso.name}.sha256").read_bytes()
        )
        unlike = {path.lstat().st_uid for path in clone.rglob("*")} - {owner.st_uid}
        assert not unlike, "something in the clone is not its owner's"
