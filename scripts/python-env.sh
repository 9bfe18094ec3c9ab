#!/usr/bin/env bash
# Makes or updates a virtual environment: python-env.sh DIR user|dev|bench
#   user   the package covet with its build tool
#   dev    the same, and what its tests and lints need, with exact versions
#   bench  FastAPI and uvicorn, which `make bench` measures against
set -euo pipefail
cd "$(dirname "$0")/.."
directory=$1 kind=$2

python=${PYTHON:-python3}
"$(dirname "$0")/need.sh" "$python"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  echo "python-env.sh: $python is too old: $("$python" -V); Python 3.11 or newer is needed (set PYTHON=...)" >&2
  exit 1
}
if ! [ -x "$directory/bin/pip" ]; then
  rm -rf "$directory"
  # Debian ships venv without pip's wheel unless python3-venv is installed.
  if ! "$python" -m venv "$directory" 2>/dev/null; then
    rm -rf "$directory"
    root=()
    [ "$(id -u)" -eq 0 ] || root=(sudo)
    "${root[@]}" apt-get -qq update >&2
    DEBIAN_FRONTEND=noninteractive "${root[@]}" apt-get -qq install --yes --no-install-recommends python3-venv >&2
    "$python" -m venv "$directory"
  fi
fi

install=("$directory/bin/pip" install --quiet --disable-pip-version-check --no-warn-script-location)
case $kind in
  user) "${install[@]}" --editable guest-python ;;
  dev) "${install[@]}" --requirement guest-python/requirements-dev.txt --editable guest-python ;;
  bench) "${install[@]}" --requirement benches/requirements.txt ;;
  *) echo "python-env.sh: user, dev or bench" >&2; exit 2 ;;
esac
touch "$directory/.$kind"
