"""The bill of materials: every file has an owner, and both documents say the same, twice alike."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from inkstick_image import account, owners, sbom
from inkstick_image.errors import ImageError
from inkstick_image.sbom import Component

STATUS = """Package: coreutils
Status: install ok installed
Architecture: amd64
Version: 9.7-3

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1

Package: tz
Status: install ok installed
Architecture: all
Version: 2:1.0
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small Debian tree."""
    tree = tmp_path / "tree"
    for name, text in {
        "var/lib/dpkg/status": STATUS,
        "var/lib/dpkg/info/coreutils.list": "/.\n/bin\n/bin/ls\n/usr/lib/thing.py\n",
        "var/lib/dpkg/info/tz:all.list": "/usr/share/tz\n",
        "usr/share/doc/tz/copyright": "Format: x\n\nFiles: *\nLicense: GPL-2+\n text\n\nLicense: MIT\n text\n",
        "usr/bin/ls": "x",
        "usr/share/tz": "x",
        "usr/lib/thing.py": "x",
        "usr/lib/__pycache__/thing.cpython-313.pyc": "x",
        "etc/ours.conf": "x",
    }.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)
    (tree / "bin").symlink_to("usr/bin")
    return tree


def test_every_file_has_the_package_that_brought_it(tree: Path) -> None:
    listed = owners.files(tree)
    listed.pop("/bin"), listed.pop("/usr/share/doc/tz/copyright")
    found = owners.assign(listed, owners.of_debian(tree), ["/etc/ours.conf"])
    assert found["/usr/bin/ls"] == "coreutils"
    assert found["/usr/lib/__pycache__/thing.cpython-313.pyc"] == "coreutils"
    assert found["/usr/share/tz"] == "tz"
    assert found["/var/lib/dpkg/status"] == "dpkg"
    assert found["/etc/ours.conf"] == owners.OURS


def test_a_file_of_nobody_stops_the_build(tree: Path) -> None:
    with pytest.raises(ImageError, match=r"/etc/ours\.conf belongs to no component"):
        owners.assign({"/etc/ours.conf": ""}, owners.of_debian(tree))


def test_a_rule_for_a_package_that_is_not_installed_stops_the_build(tree: Path, tmp_path: Path) -> None:
    (tree / "usr/share/doc/tz/copyright").unlink()
    (tree / "bin").unlink()
    with pytest.raises(ImageError, match="No such component: dpkg"):
        account.write(tmp_path, tree, owners.of_debian(tree), ["/etc/ours.conf"], sbom.debian(tree, {}))


def test_installed_packages_are_listed_with_hash_licence_and_text(tree: Path) -> None:
    coreutils, tz = sbom.debian(tree, {"coreutils_9.7-3_amd64.deb": "ab", "tz_2%3a1.0_all.deb": "cd"})
    assert (coreutils.version, coreutils.sha256, coreutils.licences) == ("9.7-3", "ab", ())
    assert (tz.licences, tz.texts, tz.sha256) == (("GPL-2+", "MIT"), ("/usr/share/doc/tz/copyright",), "cd")
    assert tz.purl == "pkg:deb/debian/tz@2%3A1.0?arch=amd64"


def test_python_packages_are_listed_by_their_own_metadata(tmp_path: Path) -> None:
    info = tmp_path / "Some_Thing-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: Some_Thing\nVersion: 1.2\nLicense-Expression: MIT\n\nLicense: no\n")
    (info / "LICENSE.txt").write_text("x")
    (info / "RECORD").write_text("some_thing/a.py,sha256=x,1\n../bin/tool,,\nSome_Thing-1.2.dist-info/RECORD,,\n")
    (part,) = sbom.python(tmp_path, tmp_path)
    assert (part.name, part.licences) == ("some-thing", ("MIT",))
    assert part.texts == ("/Some_Thing-1.2.dist-info/LICENSE.txt",)
    packages = tmp_path / "lib"
    packages.mkdir()
    info.rename(packages / info.name)
    assert owners.of_python(tmp_path, packages)["/bin/tool"] == "some-thing"


def test_both_documents_hold_every_component_and_are_the_same_twice() -> None:
    parts = [
        Component("debian", "libc6", "2.41", ("LGPL-2.1+",), ("/usr/share/doc/libc6/copyright",), "ab"),
        Component("python", "numpy", "2.4"),
        Component("model", "det.onnx", "0123", ("Apache-2.0",), (), "ef"),
        Component("own", "inkstick", "0.1.0", ("AGPL-3.0-or-later",)),
    ]
    first = account.documents(parts, "0.1.0", 1763683200)
    assert first == account.documents([*reversed(parts), parts[0]], "0.1.0", 1763683200)
    cyclonedx, spdx = json.loads(first["inkstick.cdx.json"]), json.loads(first["inkstick.spdx.json"])
    assert cyclonedx["specVersion"] == "1.6" and spdx["spdxVersion"] == "SPDX-2.3"
    assert {part["name"] for part in cyclonedx["components"]} == {part.name for part in parts}
    assert {part["name"] for part in spdx["packages"]} == {part.name for part in parts} | {"inkstick-image"}
    ids = [part["SPDXID"] for part in spdx["packages"]]
    assert len(set(ids)) == len(ids) == 5
    assert {link["relatedSpdxElement"] for link in spdx["relationships"]} == set(ids)
    assert cyclonedx["metadata"]["timestamp"] == "2025-11-21T00:00:00Z"


def test_what_two_layers_name_is_one_part_with_the_hash_and_the_texts_of_both() -> None:
    known = Component("debian", "gcc", "14", ("GPL-3",), ("/usr/share/doc/gcc/copyright",), "aa")
    below = Component("debian", "gcc", "14", ("GPL-3",), ("/usr/share/doc/gcc/copyright",))
    twice = [Component("python", "tqdm", "4", ("MIT",), (f"/{place}/LICENCE",)) for place in ("a", "b")]
    other = Component("python", "tqdm", "5", ("MIT",))
    parts = [below, known, *twice, other]
    assert sbom.ordered(parts) == [
        known,
        Component("python", "tqdm", "4", ("MIT",), ("/a/LICENCE", "/b/LICENCE")),
        other,
    ]
    bill = sbom.cyclonedx(parts, "image", "1", 0)
    references = [part["bom-ref"] for part in bill["components"]]
    assert len(references) == len(set(references)) == 3
    names = [part["SPDXID"] for part in sbom.spdx(parts, "image", "1", 0)["packages"]]
    assert len(names) == len(set(names)) == 4
