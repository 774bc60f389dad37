#!/bin/sh
# Run a command where Debian's testing release and its Python are: in a small system of its own, which is made first and
# kept (some 300 MB). Ends with 125 and a reason if that cannot be; else as the command does. As root, on Debian.
#
#   debian-python.sh 3.14 COMMAND...     in this directory, which is the same in there
set -u

version=$1
shift
home=${XDG_CACHE_HOME:-$HOME/.cache}/bgjobs-debian
root=$home/python$version

leave() {
    echo "$1"
    exit 125
}

[ "$(uname -s)" = Linux ] && [ "$(id -u)" = 0 ] && command -v unshare >/dev/null ||
    leave 'only root on Linux can make a system of its own for it'
if ! command -v debootstrap >/dev/null; then
    command -v apt-get >/dev/null || leave 'there is no debootstrap, and no apt-get to install it with'
    { apt-get -qq update && apt-get -qq install --no-install-recommends debootstrap; } >/dev/null 2>&1 </dev/null ||
        leave 'debootstrap could not be installed'
fi
if [ ! -e "$root/ready" ]; then
    rm -rf "$root"
    mkdir -p "$home"
    timeout 600 debootstrap --variant=minbase --include="python$version,python$version-venv,ca-certificates" \
        testing "$root" >"$home/log" 2>&1 </dev/null || leave "Debian could not be fetched: $(tail -n 1 "$home/log")"
    touch "$root/ready"
fi
# What reaches the network out here shall do so in there.
cp -L /etc/resolv.conf "$root/etc/resolv.conf" 2>/dev/null
cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt" 2>/dev/null
mkdir -p "$root$PWD"

# The mounts are in a name space of their own: they go with the command, however it ends.
exec unshare --mount --propagation private sh -euc '
    root=$1 place=$2
    shift 2
    mount --bind "$root" "$root"
    mount -t proc proc "$root/proc"
    for folder in /dev /sys "$place"; do mount --rbind "$folder" "$root$folder"; done
    unset TMPDIR VIRTUAL_ENV
    PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 exec chroot "$root" sh -c "cd \"\$0\" && exec \"\$@\"" "$place" "$@"
' sh "$root" "$PWD" "$@"
