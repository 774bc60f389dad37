#!/bin/sh
# Install what the long stages need and a bare Debian may lack. Without root, apt or network: say so, and go on. Each
# stage then says what it has to leave out.
set -u
PATH=$PATH:/usr/sbin:/sbin

packages=
for need in mkfs.ext4:e2fsprogs mkfs.xfs:xfsprogs strace:strace unshare:util-linux lowntfs-3g:ntfs-3g systemctl:systemd; do
    command -v "${need%%:*}" >/dev/null 2>&1 || packages="$packages ${need#*:}"
done

if [ -z "$packages" ]; then
    echo 'stage tools: all there'
elif [ "$(id -u)" != 0 ]; then
    echo "stage tools: not installed without root:$packages"
elif ! command -v apt-get >/dev/null 2>&1; then
    echo "stage tools: not installed without apt-get:$packages"
else
    export DEBIAN_FRONTEND=noninteractive
    # shellcheck disable=SC2086 # a list of plain names
    if { apt-get -qq update && apt-get -qq install --no-install-recommends $packages; } >/dev/null 2>&1; then
        echo "stage tools: installed$packages"
    else
        echo "stage tools: could not be installed:$packages"
    fi
fi
