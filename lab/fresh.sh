#!/usr/bin/env bash
# Run a command on "a fresh Debian 12 with only git, make and python3".
#
#   lab/fresh.sh CACHE_DIR COPY_DIR -- COMMAND [ARG...]
#
# CACHE_DIR  keeps the pristine root file system (made once by debootstrap; 310 MB) and pip's download cache.
# COPY_DIR   a work tree (git checkout) that is cloned to /srv/src in the fresh system; the command starts there.
# Options by environment: FRESH_SUITE (bookworm), FRESH_MIRROR (this machine's), FRESH_KEEP=1 (keep the root afterwards),
#   FRESH_WORKTREE=1 (copy the work tree as it lies instead of `git clone`), FRESH_TIMEOUT (seconds, default 1800; then
#   exit code 137), FRESH_DEV_TUN_MODE (default 666, as udev gives on a real Debian host), FRESH_NO_PIP_CACHE=1.
# The exit code is the command's.
#
# The command runs as root in new mount, pid, uts, ipc and *network-namespace-capable* surroundings: it may create network
# namespaces, TUN, veth, nftables of its own; it sees the host's network only for the package registries. Nothing stays mounted.
set -euo pipefail
usage() { sed -n '2,/^set /{/^#/p}' "$0" >&2; exit 2; }
[ $# -ge 4 ] && [ "$3" = -- ] || usage
cache=$(mkdir -p "$1" && cd "$1" && pwd); src=$(cd "$2" && pwd); shift 3
suite=${FRESH_SUITE:-bookworm}
# The mirror is the one that this machine's own apt uses.
mirror=${FRESH_MIRROR:-$(sed -nE 's/^URIs: *([^ ]*).*/\1/p; s/^deb +(\[[^]]*\] +)?([^ ]*) .*/\2/p' /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | head -1 || :)}
[ -n "$mirror" ] || { echo "fresh.sh: no apt mirror found; set FRESH_MIRROR" >&2; exit 2; }
base=$cache/$suite-base
[ "$(id -u)" = 0 ] || { echo "fresh.sh: needs root" >&2; exit 2; }
command -v debootstrap >/dev/null || DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends debootstrap >/dev/null

if [ ! -d "$base" ]; then
  tmp=$(mktemp -d "$cache/mk.XXXXXX"); trap 'rm -rf "$tmp"' EXIT
  debootstrap --variant=minbase --include=git,make,python3,ca-certificates "$suite" "$tmp" "$mirror" >"$cache/debootstrap.log" 2>&1 ||
    { tail -5 "$cache/debootstrap.log" >&2; exit 1; }
  rm -rf "$tmp"/var/cache/apt/archives/*.deb
  chmod 755 "$tmp"
  cat >"$tmp/etc/apt/sources.list" <<S
deb $mirror $suite main
deb $mirror $suite-updates main
deb ${mirror}-security $suite-security main
S
  mv "$tmp" "$base"; trap - EXIT
fi

# A throw-away layer over the pristine one: overlayfs where the kernel has it, else a copy.
run=$(mktemp -d "$cache/run.XXXXXX"); root=$run/root; mkdir -m 755 "$root" "$run/up" "$run/work"
cleanup() {
  mountpoint -q "$root" && umount "$root"
  if [ -z "${FRESH_KEEP:-}" ]; then rm -rf --one-file-system "$run"; else echo "kept: $run (changes in up/)" >&2; fi
}
trap cleanup EXIT
if ! { grep -qw overlay /proc/filesystems && mount -t overlay -o "lowerdir=$base,upperdir=$run/up,workdir=$run/work" overlay "$root" 2>/dev/null; }; then
  cp -a "$base/." "$root/"
fi
mkdir -p "$cache/pip" "$root/var/cache/pip"
if [ -n "${FRESH_WORKTREE:-}" ]; then mkdir "$root/srv/src"; tar -C "$src" -cf - . | tar -C "$root/srv/src" -xf -
else git clone -q --no-hardlinks "$src" "$root/srv/src"; fi

# What the host needs to reach its package registries travels along: resolver, CA bundle, pip and apt settings.
cp -L /etc/resolv.conf "$root/etc/resolv.conf" 2>/dev/null || :
cp -L /etc/hosts "$root/etc/hosts" 2>/dev/null || :
cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt" 2>/dev/null || :
[ -e /etc/pip.conf ] && cp -L /etc/pip.conf "$root/etc/pip.conf" || :
for f in /etc/apt/apt.conf.d/*; do grep -qiE 'proxy|verify|https?::' "$f" 2>/dev/null && cp -L "$f" "$root/etc/apt/apt.conf.d/" || :; done
pass=(); for v in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY PIP_INDEX_URL PIP_CERT PIP_DEFAULT_TIMEOUT SSL_CERT_FILE REQUESTS_CA_BUNDLE; do
  [ -n "${!v:-}" ] && pass+=("$v=${!v}") || :; done

export FRESH_ROOT=$root FRESH_PIPCACHE=$cache/pip FRESH_NO_PIP_CACHE=${FRESH_NO_PIP_CACHE:-} FRESH_DEV_TUN_MODE=${FRESH_DEV_TUN_MODE:-666}
timeout --foreground -s KILL "${FRESH_TIMEOUT:-1800}" \
  unshare --mount --pid --fork --kill-child --uts --ipc --propagation private -- bash -c '
  set -e; r=$FRESH_ROOT
  mount --bind "$r" "$r"
  mount -t proc proc "$r/proc"; mount -t sysfs sysfs "$r/sys"
  mount -t tmpfs -o mode=755 dev "$r/dev"
  mknod -m 666 "$r/dev/null" c 1 3; mknod -m 666 "$r/dev/zero" c 1 5; mknod -m 666 "$r/dev/full" c 1 7
  mknod -m 666 "$r/dev/random" c 1 8; mknod -m 666 "$r/dev/urandom" c 1 9; mknod -m 666 "$r/dev/tty" c 5 0
  mkdir "$r/dev/net" "$r/dev/pts" "$r/dev/shm"; mknod -m "$FRESH_DEV_TUN_MODE" "$r/dev/net/tun" c 10 200
  ln -s /proc/self/fd "$r/dev/fd"; ln -s fd/0 "$r/dev/stdin"; ln -s fd/1 "$r/dev/stdout"; ln -s fd/2 "$r/dev/stderr"
  mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 devpts "$r/dev/pts"; ln -s pts/ptmx "$r/dev/ptmx"
  mount -t tmpfs -o mode=1777 shm "$r/dev/shm"; mount -t tmpfs -o mode=755 run "$r/run"
  [ -n "$FRESH_NO_PIP_CACHE" ] || mount --bind "$FRESH_PIPCACHE" "$r/var/cache/pip"
  hostname fresh
  # pivot_root, not chroot: the kernel refuses user namespaces (`unshare --user`) to a chrooted process
  cd "$r"; mkdir -p .old; pivot_root . .old; umount -l /.old; rmdir /.old; cd /
  exec /usr/bin/env -i HOME=/root USER=root TERM="${TERM:-dumb}" LANG=C.UTF-8 PIP_CACHE_DIR=/var/cache/pip \
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "${@:1:$0}" \
    bash -c '\''cd /srv/src && exec "$@"'\'' fresh "${@:$(($0+1))}"' "${#pass[@]}" "${pass[@]}" "$@"
