#!/usr/bin/env bash
# Runs the test suites of FastAPI and Starlette against the bridge: run.sh [fastapi|starlette] [options of pytest]
# The environment and the suites are put below target/ once. What is counted is explained in docs/compatibility.md.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD here=$PWD/tests/compat venv=$PWD/target/compat-venv suites=$PWD/target/compat

case ${1:-all} in
  fastapi | starlette) names=$1; shift ;;
  *) names="starlette fastapi" ;;
esac

if [ "$(cat "$venv/.requirements" 2>/dev/null)" != "$(cat "$here/requirements.txt")" ]; then
  # The newest one: the guest has 3.14, and tasks begin differently before 3.12.
  for python in ${PYTHON:-python3.14 python3.13 python3.12 python3}; do
    "$python" -c "" 2>/dev/null && break
  done
  rm -rf "$venv"
  "$python" -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$here/requirements.txt"
  cp "$here/requirements.txt" "$venv/.requirements"
fi
if [ "$(cat "$suites/.sdists" 2>/dev/null)" != "$(cat "$here/sdists.txt")" ]; then
  rm -rf "$suites"
  mkdir -p "$suites"
  "$venv/bin/pip" download --quiet --disable-pip-version-check --no-deps --no-binary :all: --require-hashes \
    --requirement "$here/sdists.txt" --dest "$suites"
  for archive in "$suites"/*.tar.gz; do
    tar --extract --gzip --file "$archive" --directory "$suites"
  done
  cp "$here/sdists.txt" "$suites/.sdists"
fi

status=0
for name in $names; do
  echo "==> $name, on $("$venv/bin/python" -V)"
  cd "$suites/$(sed -n "s/^\($name\)==\([^ ]*\).*/\1-\2/p" "$here/sdists.txt")"
  # Their own options ask for what only their continuous integration has, and benchmarks are no tests.
  PYTHONPATH="$here:$root/guest-python/tests:$root/guest-python" PYTHONDONTWRITEBYTECODE=1 \
    "$venv/bin/python" -m pytest -p covet_compat -p no:cacheprovider -o addopts= --strict-markers --quiet --timeout 60 \
    --ignore tests/benchmarks --ignore tests/memory_benchmarks tests "$@" || status=1
done
exit "$status"
