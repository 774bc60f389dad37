#!/usr/bin/env bash
# A real Windows CPython on Debian, under Wine: for tests of Windows behaviour where no Windows machine is.
#
#   wine-python.sh setup                 install Wine + mingw (Debian packages, as root) and build the interpreter; idempotent
#   wine-python.sh pip PKG...            put wheels (win_amd64 or pure) into its site-packages, with the Linux pip
#   wine-python.sh editable [EXTRA]      put the project into it, as `pip install --editable .[EXTRA]` does
#   wine-python.sh run ARGS...           python.exe ARGS..., exit code kept; cwd and relative paths work (Z: is /)
#   wine-python.sh stop                  end this prefix's Wine server and every process in it
#
# Settings: WINE_PYTHON_VERSION 3.11 (default) | 3.12 | 3.13; WINE_PYTHON_HOME (default ~/.cache/bgjobs-wine);
# WINE_PYTHON_STDIN=1 passes standard input on (as a pipe), otherwise it is the null device.
#
# Where the parts come from: python3XX.dll, the .pyd modules, OpenSSL and SQLite are the python.org build that
# the panda3d win_amd64 wheel carries in deploy_libs/ (hash-pinned below); the pure-Python standard library is
# that of a Linux CPython of the same minor version on this machine (it is the same source; patch levels may
# differ); python.exe, python3.dll (stable-ABI forwarder) and bcryptprimitives.dll (missing from Wine 8, wanted
# by Rust wheels) are compiled here from the few lines below.
set -euo pipefail

ver=${WINE_PYTHON_VERSION:-3.11}
tag=${ver/./}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
home=${WINE_PYTHON_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/bgjobs-wine}
dir=$home/py$tag
export WINEPREFIX=$home/prefix WINEDEBUG=${WINEDEBUG:--all} WINEDLLOVERRIDES='mscoree,mshtml='
export PYTHONUTF8=${PYTHONUTF8-} PYTHONDONTWRITEBYTECODE=${PYTHONDONTWRITEBYTECODE-}
declare -A sha=(
  [311]=37acfb92655c4226879f95c988e2ef1449a53c54486d6c1ebc00e2772429af82
  [312]=f6493e2ecc0d1b7c1556a999556e5278cbc9484fe5fe1e159a1ccc02b870b18f
  [313]=0e505261bb58d8402d0099c291f1a3459acfdd38f3e7d666e72aa2e1ea5dc46f
)

host_python() {  # a Python of this machine that has pip and can read TOML
  local py
  for py in ${PYTHON:-} python3 python3.13 python3.12 python3.11; do
    "$py" -c 'import pip, tomllib' >/dev/null 2>&1 || continue
    echo "$py"; return
  done
  echo "no Python 3.11 or newer with pip here" >&2; return 1
}

find_stdlib() {  # a Linux CPython of the same minor version: PATH first, then pyenv
  local py
  for py in "python$ver" python3 "$HOME"/.pyenv/versions/"$ver".*/bin/python3; do
    command -v "$py" >/dev/null 2>&1 || continue
    "$py" -c 'import sys,sysconfig
if "%d.%d" % sys.version_info[:2] != sys.argv[1]: sys.exit(1)
print(sysconfig.get_paths()["stdlib"])' "$ver" 2>/dev/null && return
  done
  echo "no Linux CPython $ver here to take the standard library from" >&2; return 1
}

setup() {
  [ -n "${sha[$tag]:-}" ] || { echo "no pinned wheel for $ver" >&2; return 2; }
  if ! command -v wine >/dev/null || ! command -v x86_64-w64-mingw32-gcc >/dev/null; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
      wine wine64 gcc-mingw-w64-x86-64-win32 >/dev/null
  fi
  if [ ! -e "$dir/ready" ]; then
    local lib tmp
    lib=$(find_stdlib)
    rm -rf "$dir"; mkdir -p "$dir/DLLs" "$dir/Lib"
    tmp=$(mktemp -d)
    echo "panda3d==1.10.16 --hash=sha256:${sha[$tag]}" >"$tmp/req.txt"
    "$(host_python)" -m pip download -qq --no-deps --only-binary=:all: --platform win_amd64 --implementation cp \
      --python-version "$ver" --require-hashes -r "$tmp/req.txt" -d "$tmp"
    "$(host_python)" - "$tmp"/panda3d-*.whl "$dir" <<'PY'
import os, sys, zipfile
wheel, dest = sys.argv[1:]
with zipfile.ZipFile(wheel) as z:
    for name in z.namelist():
        base = os.path.basename(name)
        if not name.startswith('deploy_libs/') or not base or base.lower().startswith('api-ms-'):
            continue  # Wine has its own C runtime
        top = base.lower().startswith(('python3', 'vcruntime'))
        with open(os.path.join(dest, '' if top else 'DLLs', base), 'wb') as f:
            f.write(z.read(name))
PY
    tar -C "$lib" --exclude=__pycache__ --exclude=./site-packages --exclude=./dist-packages --exclude=./test \
      --exclude=./lib-dynload --exclude='./config-*' --exclude='./_sysconfigdata*' -cf - . | tar -C "$dir/Lib" -xf -
    mkdir -p "$dir/Lib/site-packages"
    # The importer is frozen into the DLL; one that is newer than 3.11.7 and 3.12.1 calls this as a class method.
    "$(host_python)" - "$dir/Lib/importlib/metadata/__init__.py" <<'PY'
import re, sys
with open(sys.argv[1], encoding='utf-8') as f:
    text = f.read()
text = re.sub(r'(?<!@classmethod\n)    def invalidate_caches\(cls\)', '    @classmethod\n    def invalidate_caches(cls)', text)
with open(sys.argv[1], 'w', encoding='utf-8', newline='\n') as f:
    f.write(text)
PY
    # Wine 8 has no CopyFile2, and aborts a process that calls it.
    sed -i 's/hasattr(_winapi, "CopyFile2")/False/' "$dir/Lib/shutil.py"

    cat >"$tmp/main.c" <<'C'
#include <stdio.h>
#include <windows.h>
typedef int (*py_main_t)(int, wchar_t **);
int wmain(int argc, wchar_t **argv) {
    HMODULE dll = LoadLibraryW(PYDLL);
    py_main_t m = dll ? (py_main_t)(void *)GetProcAddress(dll, "Py_Main") : NULL;
    if (!m) { fprintf(stderr, "cannot load the Python DLL: %lu\n", GetLastError()); return 101; }
    return m(argc, argv);
}
C
    cat >"$tmp/app.manifest" <<'X'
<assembly xmlns="urn:schemas-microsoft-com:asm.v1" manifestVersion="1.0">
<compatibility xmlns="urn:schemas-microsoft-com:compatibility.v1"><application>
<supportedOS Id="{8e0f7a12-bfb3-4fe8-b9a5-48fd50a15a9a}"/></application></compatibility>
</assembly>
X
    echo '1 24 "app.manifest"' >"$tmp/app.rc"
    (cd "$tmp" && x86_64-w64-mingw32-windres app.rc -O coff -o app.res)
    x86_64-w64-mingw32-gcc -O2 -s -municode "-DPYDLL=L\"python$tag.dll\"" -o "$dir/python.exe" \
      "$tmp/main.c" "$tmp/app.res"

    cat >"$tmp/prng.c" <<'C'
#include <windows.h>
#include <ntsecapi.h>
__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE buf, SIZE_T len) {
    while (len) {
        ULONG n = len > 0x10000000 ? 0x10000000 : (ULONG)len;
        if (!RtlGenRandom(buf, n)) return FALSE;
        buf += n; len -= n;
    }
    return TRUE;
}
C
    x86_64-w64-mingw32-gcc -O2 -s -shared -o "$dir/bcryptprimitives.dll" "$tmp/prng.c" -ladvapi32

    if [ ! -e "$dir/python3.dll" ]; then
      { echo 'LIBRARY python3.dll'; echo EXPORTS
        x86_64-w64-mingw32-objdump -p "$dir/python$tag.dll" |
          awk -v d="python$tag" '/\[Ordinal\/Name Pointer\] Table/{f=1;next} f&&/^$/{f=0} f{print $NF " = " d "." $NF}'
      } >"$tmp/python3.def"
      echo 'int DllMainCRTStartup(void *a, unsigned b, void *c) { return 1; }' >"$tmp/empty.c"
      x86_64-w64-mingw32-gcc -s -shared -nostdlib -o "$dir/python3.dll" "$tmp/empty.c" "$tmp/python3.def"
    fi
    wine winecfg -v win10 </dev/null 2>&1 | cat >/dev/null  # a new Wine 8 prefix says it is Windows 7
    rm -f "$dir/DLLs/_wmi.pyd"  # Wine aborts a process that asks WMI, as `platform` does from 3.12 on; it does without
    rm -rf "$tmp"
    touch "$dir/ready"
  fi
  run -c 'import sys, sqlite3, ssl, ctypes, subprocess, multiprocessing
print("Windows CPython", sys.version.split()[0], "under Wine; getwindowsversion", sys.getwindowsversion()[:3])'
}

run() {
  # Wine 8 cannot stat an inherited regular file (WinError 6 at start-up), so each standard stream is a pipe.
  local rc=0 feed=/dev/null
  [ -z "${WINE_PYTHON_STDIN:-}" ] || feed=/dev/stdin
  set +e
  { { if [ "$feed" = /dev/stdin ]; then cat; fi } |
    { if [ "$feed" = /dev/stdin ]; then wine "$dir/python.exe" "$@"; else wine "$dir/python.exe" "$@" </dev/null; fi
    } 2>&1 1>&3 3>&- | cat >&2 3>&-; rc=${PIPESTATUS[1]}; } 3> >(cat)
  set -e
  wait
  return "$rc"
}

wheels() {
  # pip reads environment markers of the interpreter that runs it, so Windows-only dependencies
  # (colorama for click and pytest, tzdata) are named here, and pinned without their markers.
  local pins
  pins=$(mktemp)
  sed "s/ ; .*'win32'.*//" "$here/constraints.txt" >"$pins"
  PIP_CONSTRAINT=$pins "$(host_python)" -m pip install -qq --upgrade --target "$dir/Lib/site-packages" --platform win_amd64 \
    --implementation cp --python-version "$ver" --only-binary=:all: --no-warn-conflicts colorama tzdata "$@"
  rm -f "$pins"
}

editable() {
  local tmp
  local -a wanted
  mapfile -t wanted < <("$(host_python)" - "$here/pyproject.toml" "$@" <<'PY'
import sys, tomllib
with open(sys.argv[1], 'rb') as f:
    project = tomllib.load(f)['project']
print(*project['dependencies'], *project['optional-dependencies'].get(''.join(sys.argv[2:]), ()), sep='\n')
PY
  )
  wheels "${wanted[@]}"
  tmp=$(mktemp -d)
  # A copy, because pip splits the variables at blanks.
  cp "$here/constraints.txt" "$tmp"
  PIP_CONSTRAINT=$tmp/constraints.txt PIP_BUILD_CONSTRAINT=$tmp/constraints.txt \
    "$(host_python)" -m pip wheel -qq --no-deps -w "$tmp" "$here"
  "$(host_python)" - "$tmp"/*.whl "$here" "$dir/Lib/site-packages" <<'PY'
import glob, os, shutil, sys, zipfile
wheel, source, site = sys.argv[1:]
for old in glob.glob(os.path.join(glob.escape(site), 'bgjobs-*.dist-info')):
    shutil.rmtree(old)
with zipfile.ZipFile(wheel) as z:  # what the package says of itself; its code stays where it is
    z.extractall(site, [name for name in z.namelist() if '.dist-info/' in name])
with open(os.path.join(site, 'bgjobs.pth'), 'w', encoding='utf-8') as f:
    f.write('Z:' + source.replace('/', '\\') + '\\src\n')
PY
  rm -rf "$tmp"
}

case ${1:-} in
  setup) setup ;;
  pip) shift; wheels "$@" ;;
  editable) shift; editable "$@" ;;
  run) shift; run "$@" ;;
  stop) server=$(command -v wineserver || echo /usr/lib/wine/wineserver); "$server" -k || true ;;
  *) sed -n '2,/^set -e/p' "$0" | sed '$d; s/^# \{0,1\}//' >&2; exit 2 ;;
esac
