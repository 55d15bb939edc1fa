"""The medium: one hybrid ISO that starts under BIOS, UEFI and Secure Boot (Debian's signed shim and GRUB)."""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from inkstick_image import esp, hashes, trees
from inkstick_image.errors import ImageError
from inkstick_image.tools import run, to_disk
from inkstick_image.trees import Place

ESP_BYTES = 64 << 20  # room for keys and unified kernels later
ALIGN = 4 << 20  # a partition added on the stick later starts where flash likes it
BIOS_MODULES = "biosdisk iso9660 search search_fs_file normal configfile part_gpt part_msdos test echo linux"
KERNEL_WORDS = {"gpu": "modprobe.blacklist=nouveau"}  # which would take the card before NVIDIA's driver does
CERTIFICATE = "INKSTICK.CER"  # where MokManager shows it first
EFI = {
    "BOOTX64.EFI": "usr/lib/shim/shimx64.efi.signed",
    "grubx64.efi": "usr/lib/grub/x86_64-efi-signed/gcdx64.efi.signed",
    "mmx64.efi": "usr/lib/shim/mmx64.efi.signed",
}


@dataclass(frozen=True, slots=True)
class Contents:
    """`layers`: squashfs files in the order in which they are stacked. `kernel_folder`: vmlinuz and initrd.img."""

    edition: str
    version: str
    layers: tuple[Path, ...]
    kernel_folder: Path
    builder_tree: Path
    menu: str
    certificate: Path | None = None  # the builder's own key for modules, for MokManager to enrol


def verity(place: Place, layer: Path, out: Path) -> str:
    """Write the layer's hash tree to `out`; its root hash. The salt and the id are fixed: same layer, same bits."""
    uuid = "-".join(
        hashlib.sha256(layer.name.encode()).hexdigest()[a:b] for a, b in ((0, 8), (8, 12), (12, 16), (16, 20), (20, 32))
    )
    said = run(["veritysetup", "format", "--salt=-", f"--uuid={uuid}", layer, out], log=place.log)
    return next(line.split()[-1] for line in said.splitlines() if line.startswith("Root hash"))


@dataclass(frozen=True, slots=True)
class Seal:
    """Of a layer: its sha256, the root of its hash tree, and the file with the tree, beside it."""

    sha256: str
    root: str
    tree: Path


def seal(place: Place, layer: Path) -> Seal:
    """Made once for a layer of the cache, which never changes, and remembered beside it. Raises ImageError for one that
    has changed: its medium would agree with its own manifest, and not start."""
    noted, tree, digest = layer.with_suffix(".seal"), layer.with_name(f"{layer.name}.verity"), hashes.of_file(layer)
    words = noted.read_text(encoding="ascii", errors="replace").split() if noted.exists() else []
    if words[:1] not in ([], [digest]):
        raise _damaged(layer)
    if len(words) != 3 or not tree.exists() or hashes.of_file(tree) != words[2]:
        words = [digest, verity(place, layer, tree), hashes.of_file(tree)]
        part = noted.with_suffix(".part")
        part.write_text(f"{' '.join(words)}\n", encoding="ascii")
        to_disk(part)
        part.rename(noted)
    return Seal(digest, words[1], tree)


def unchanged(file: Path) -> Path:
    """The same for a file of a layer's folder that has no hash tree: the kernel, the first root file system."""
    noted, digest = file.with_name(f"{file.name}.sha256"), hashes.of_file(file)
    if noted.exists() and noted.read_text(encoding="ascii") not in ("", digest):
        raise _damaged(file)
    noted.write_text(digest, encoding="ascii")
    return file


def _damaged(file: Path) -> ImageError:
    return ImageError(f"{file} is damaged.", f"It is made anew after: rm -r {shlex.quote(str(file.parent))}")


@dataclass(frozen=True, slots=True)
class Made:
    """`roots`: layer → root hash; `digests`: its file → sha256; `sums`: the medium's sha256sum.txt; `files`: file of
    the medium → component."""

    roots: dict[str, str]
    digests: dict[str, str]
    sums: str
    files: dict[str, str]


def make(place: Place, contents: Contents, iso: Path) -> Made:
    """Write `iso`."""
    root = place.work / "iso"
    shutil.rmtree(root, ignore_errors=True)
    for folder in (".disk", "live", "boot/grub/i386-pc", "EFI/BOOT"):
        (root / folder).mkdir(parents=True)
    (root / ".disk/info").write_text(f"Inkstick {contents.version} {contents.edition}\n", encoding="ascii")
    seals = _live(place, contents, root / "live")
    roots = {name: each.root for name, each in seals.items()}
    digests = {f"live/{name}": each.sha256 for name, each in seals.items()}
    _grub(place, contents, root, roots)
    if contents.certificate is not None:
        shutil.copyfile(contents.certificate, root / CERTIFICATE)
    sums = _sums(root, digests)
    files = {f"/{path.relative_to(root)}": owner(path.name) for path in sorted(root.rglob("*")) if path.is_file()}
    for path in (root, *root.rglob("*")):
        os.utime(path, (place.epoch, place.epoch))
    system = _esp(place, root)
    part = iso.with_suffix(".part")  # (an ISO that a virtual machine has open stays what it is)
    part.unlink(missing_ok=True)
    _xorriso(replace(place, packer=contents.builder_tree), contents, root, system, part)
    _pad(part)
    part.rename(iso)
    shutil.rmtree(root)
    system.unlink()
    return Made(roots, digests, sums, files)


def owner(name: str) -> str:
    """Which component a file of the medium belongs to; what is in the layers is accounted for there."""
    if name.endswith((".mod", ".lst", "eltorito.img")):
        return "grub-pc-bin"
    loaders = {"BOOTX64.EFI": "shim-signed", "mmx64.efi": "shim-helpers-amd64-signed", "vmlinuz": "linux-image"}
    return {**loaders, "grubx64.efi": "grub-efi-amd64-signed", "initrd.img": "initramfs-tools-core"}.get(
        name, "inkstick"
    )


def _live(place: Place, contents: Contents, live: Path) -> dict[str, Seal]:
    """The layers and their trees (linked from the cache: they are large), the kernel and the first root file system."""
    seals = {layer.name: seal(place, layer) for layer in contents.layers}
    for layer in contents.layers:
        (live / layer.name).hardlink_to(layer)
        shutil.copyfile(seals[layer.name].tree, live / f"{layer.name}.verity")
    for name in ("vmlinuz", "initrd.img"):
        shutil.copyfile(unchanged(contents.kernel_folder / name), live / name)
    return seals


def _grub(place: Place, contents: Contents, root: Path, roots: dict[str, str]) -> None:
    words = "dm-verity-root-hash=" + ",".join(f"{name}:{value}" for name, value in roots.items())
    menu = contents.menu
    for mark, value in (
        ("@VERITY@", words),
        ("@WORDS@", KERNEL_WORDS.get(contents.edition, "")),
        ("@VERSION@", contents.version),
        ("@EDITION@", contents.edition),
    ):
        menu = menu.replace(mark, value)
    (root / "boot/grub/grub.cfg").write_text(menu, encoding="ascii")
    modules = contents.builder_tree / "usr/lib/grub/i386-pc"
    for module in sorted((*modules.glob("*.mod"), *modules.glob("*.lst"))):
        shutil.copyfile(module, root / "boot/grub/i386-pc" / module.name)
    early = contents.builder_tree / "early.cfg"
    early.write_text("search --file --set=root /.disk/info\nset prefix=($root)/boot/grub\n", encoding="ascii")
    with trees.mounted(contents.builder_tree):
        trees.inside(
            place,
            contents.builder_tree,
            "grub-mkimage",
            "-d",
            "/usr/lib/grub/i386-pc",
            "-O",
            "i386-pc-eltorito",
            "-p",
            "/boot/grub",
            "-c",
            "/early.cfg",
            "-o",
            "/eltorito.img",
            *BIOS_MODULES.split(),
        )
    early.unlink()
    (contents.builder_tree / "eltorito.img").rename(place.work / "eltorito.img")
    shutil.move(place.work / "eltorito.img", root / "boot/grub/eltorito.img")
    for name, source in EFI.items():
        shutil.copyfile(contents.builder_tree / source, root / "EFI/BOOT" / name)


def _sums(root: Path, known: Mapping[str, str]) -> str:
    """sha256sum.txt, for "Check this stick". (xorriso patches eltorito.img and writes boot.cat: left out.)"""
    files = sorted(path for path in root.rglob("*") if path.is_file() and path.name != "eltorito.img")
    names = {path: path.relative_to(root).as_posix() for path in files}
    lines = [f"{known.get(name) or hashes.of_file(path)}  ./{name}\n" for path, name in names.items()]
    (root / "sha256sum.txt").write_text("".join(lines), encoding="ascii")
    return "".join(lines)


def _esp(place: Place, root: Path) -> Path:
    image = place.work / "esp.img"
    image.unlink(missing_ok=True)
    with image.open("wb") as file:
        file.truncate(ESP_BYTES)
    dates = {**place.dates, "MTOOLS_SKIP_CHECK": "1"}
    run(["mkfs.vfat", "-F", "16", "-n", "INKSTICKESP", "--invariant", image], env=dates, log=place.log)
    run(["mmd", "-i", image, "::EFI", "::EFI/BOOT"], env=dates, log=place.log)
    for name in EFI:
        run(["mcopy", "-m", "-i", image, root / "EFI/BOOT" / name, "::EFI/BOOT/"], env=dates, log=place.log)
    if (root / CERTIFICATE).exists():
        run(["mcopy", "-m", "-i", image, root / CERTIFICATE, "::"], env=dates, log=place.log)
    return image


def _xorriso(place: Place, contents: Contents, root: Path, system: Path, iso: Path) -> None:
    hybrid = contents.builder_tree / "usr/lib/grub/i386-pc/boot_hybrid.img"
    command = [
        *place.packing("xorriso"),
        "-as",
        "mkisofs",
        "-r",
        "-J",
        "-joliet-long",
        "-V",
        "INKSTICK",
        "-no-pad",
        "-iso-level",
        "3",
        "-o",
        iso,
    ]
    command += ["--grub2-mbr", hybrid, "--protective-msdos-label", "-partition_offset", "16"]
    command += [
        "-b",
        "boot/grub/eltorito.img",
        "-no-emul-boot",
        "-boot-load-size",
        "4",
        "-boot-info-table",
        "--grub2-boot-info",
    ]
    command += ["-c", "boot.cat", "-append_partition", "2", esp.TYPE, system, "-appended_part_as_gpt"]
    command += ["-eltorito-alt-boot", "-e", "--interval:appended_partition_2:all::", "-no-emul-boot", root]
    run(command, env=place.dates, log=place.log)


def _pad(iso: Path) -> None:
    size = iso.stat().st_size
    os.truncate(iso, -(-size // ALIGN) * ALIGN)
