#!/usr/bin/env bash
# Installs what this checkout needs and nothing else; safe to run again (does nothing then).
#
#   lab/provision.sh [--quiet] [--link] [--dev] [--browser] [--demo]
#
#   --quiet  say nothing when nothing is to be done
#   --link   also put `mpq` on everybody's PATH (/usr/local/bin/mpq; for a virtual machine)
#   --dev    also clang with its sanitizers, for `make fuzz`
#   --browser  also Chromium, for `make test-report`
#   --demo   run the demo at the end
#
# 1. Debian packages that are missing (names them first; needs root or sudo only for this).
# 2. .venv with the project and its tests' needs at the versions of constraints.txt.
# 3. the C engine, when its sources are newer than what is built.
set -euo pipefail
cd "$(dirname "$0")/.."

quiet= link= dev= browser= demo=
for argument in "$@"; do
    case $argument in
        --quiet) quiet=1 ;;
        --link) link=1 ;;
        --dev) dev=1 ;;
        --browser) browser=1 ;;
        --demo) demo=1 ;;
        *) sed -n '2,/^set /{/^#/s/^# \?//p}' "$0" >&2; exit 2 ;;
    esac
done
say() { printf 'provision: %s\n' "$*" >&2; }

# ---- Debian packages. A command or file that is there (from wherever) needs no package.
missing=()
need() { missing+=("$1"); }
command -v gcc >/dev/null || need gcc
[ -e /usr/include/stdlib.h ] || need libc6-dev
[ -e /usr/include/openssl/evp.h ] || need libssl-dev
python3 -c 'import venv, ensurepip' 2>/dev/null || need python3-venv
python3 - <<'PY' || need python3-dev
import os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h")))
PY
PATH=$PATH:/usr/sbin:/sbin
command -v ip >/dev/null || need iproute2
command -v iperf3 >/dev/null || need iperf3
command -v tshark >/dev/null || need tshark
command -v nft >/dev/null || need nftables
command -v unshare >/dev/null || need util-linux
if [ -n "$dev" ] && ! printf 'int LLVMFuzzerTestOneInput(void) { return 0; }' |
        clang -x c -fsanitize=fuzzer,address,undefined - -o /dev/null 2>/dev/null; then
    need clang
    need libclang-rt-14-dev         # of Debian 12's clang
fi
if [ -n "$browser" ] && ! command -v chromium >/dev/null && ! command -v google-chrome >/dev/null; then
    need chromium
    need fonts-dejavu-core
fi
if [ ${#missing[@]} -gt 0 ]; then
    say "these Debian packages are missing and will be installed: ${missing[*]}"
    root=()
    if [ "$(id -u)" != 0 ]; then
        if command -v sudo >/dev/null; then root=(sudo)
        else say "that needs root: apt-get install --no-install-recommends ${missing[*]}"; exit 1; fi
    fi
    export DEBIAN_FRONTEND=noninteractive
    "${root[@]}" apt-get update -qq
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

# ---- Python
want=$(cat pyproject.toml constraints.txt setup.py | sha256sum | cut -d' ' -f1)
if [ "$(cat .venv/provisioned 2>/dev/null || :)" != "$want" ]; then
    say "making .venv (Python packages at pinned versions; about two minutes)"
    [ -x .venv/bin/python ] || python3 -m venv .venv
    PIP_CONSTRAINT=$PWD/constraints.txt .venv/bin/python -m pip install -q --disable-pip-version-check -e '.[dev]'
    echo "$want" >.venv/provisioned
    touch .venv/built
fi

# ---- the engine (an editable install does not rebuild it when a source changes)
if [ ! -e .venv/built ] || [ -n "$(find native -name '*.[ch]' -newer .venv/built -not -name _engine.c -print -quit)" ] ||
   [ native/engine.cdef -nt .venv/built ] || [ native/build_ffi.py -nt .venv/built ] || ! ls native/_engine*.so >/dev/null 2>&1; then
    [ -n "$quiet" ] || say "building the engine"
    flock .venv/native.lock .venv/bin/python setup.py -q build_ext --inplace
    touch .venv/built
fi

if [ -n "$link" ]; then
    root=()
    [ "$(id -u)" = 0 ] || root=(sudo)
    "${root[@]}" ln -sf "$PWD/.venv/bin/mpq" /usr/local/bin/mpq
fi
[ -n "$quiet" ] || say "ready: .venv/bin/mpq"
if [ -n "$demo" ]; then
    exec .venv/bin/mpq run demo
fi
