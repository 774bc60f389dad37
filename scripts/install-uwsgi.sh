#!/bin/sh
# Install uWSGI beside PYTHON, for the benchmarks. It has no wheels: without a compiler or network, say so, and go on.
#
#   install-uwsgi.sh PYTHON
set -u
export PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt

if [ -x "$(dirname "$1")/uwsgi" ]; then
    exit 0
elif ! command -v "${CC:-gcc}" >/dev/null 2>&1; then
    echo "uWSGI: not installed without a compiler (${CC:-gcc})"
elif "$1" -m pip --quiet --quiet --no-input --disable-pip-version-check install --editable '.[bench-uwsgi]' >/dev/null 2>&1; then
    echo 'uWSGI: installed'
else
    echo 'uWSGI: could not be installed; it is left out'
fi
