#!/bin/sh
# Creates .venv and installs the pinned dependencies into it: through uv, which takes seconds, else through pip.
set -eu
cd "$(dirname "$0")/.."
venv=${VENV:-.venv}
extras=${EXTRAS:-dev}

python=${PYTHON:-}
if [ -z "$python" ]; then
    for candidate in python3.11 python3.12 python3.13 python3; do
        if command -v "$candidate" >/dev/null 2>&1 && "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then
            python=$candidate
            break
        fi
    done
fi
if [ -z "$python" ]; then
    echo "bootstrap: no Python 3.11 to 3.13 found. Install one, or name it: make PYTHON=/path/to/python3.11" >&2
    exit 1
fi
if ! command -v c++ >/dev/null 2>&1 && ! command -v g++ >/dev/null 2>&1; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        echo "bootstrap: installing a C++ compiler (the steering kernels are compiled at first use)"
        apt-get update -qq && apt-get install -y -qq g++ >/dev/null
    else
        echo "bootstrap: no C++ compiler found; steering on CPUs will be slow. Debian/Ubuntu: apt-get install g++. Fedora: dnf install gcc-c++." >&2
    fi
fi
# Tests of the console drive a browser, for which nothing is downloaded that Debian does not package.
case $extras in *dev*)
    if ! command -v chromium >/dev/null 2>&1; then
        if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
            echo "bootstrap: installing Chromium (tests of the console drive it)"
            apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium >/dev/null
        else
            echo "bootstrap: no Chromium found; tests of the console will be skipped. Debian/Ubuntu: apt-get install chromium." >&2
        fi
    fi ;;
esac

[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"

# uv does not read pip's settings: hand over the index and the local wheels that pip is told to use.
setting() { "$venv/bin/python" -m pip config get "global.$1" 2>/dev/null || true; }
index=${PIP_INDEX_URL:-$(setting index-url)}
links=${PIP_FIND_LINKS:-$(setting find-links)}
[ -z "$index" ] || export UV_DEFAULT_INDEX="${UV_DEFAULT_INDEX:-$index}"
[ -z "$links" ] || export UV_FIND_LINKS="${UV_FIND_LINKS:-$links}"
export UV_LINK_MODE="${UV_LINK_MODE:-hardlink}"

echo "bootstrap: installing into $venv"
if "$venv/bin/python" -m pip install --quiet -c constraints.txt uv \
    && "$venv/bin/uv" pip install --quiet --python "$venv/bin/python" -c constraints.txt -e ".[$extras]"; then
    :
else
    echo "bootstrap: uv could not install; falling back to pip, which takes some minutes" >&2
    "$venv/bin/python" -m pip install --quiet -c constraints.txt -e ".[$extras]"
fi
touch "$venv/.installed"
