#!/usr/bin/env bash
# Fuzzes the parsers: run.sh [SECONDS [TARGET...]], each target for 30 seconds without arguments. Fails at the first finding;
# its input is then in target/fuzz of the repository.
set -euo pipefail
cd "$(dirname "$0")/../.."
seconds=${1:-30}
[[ $seconds =~ ^[0-9]+$ ]] || { echo "run.sh: seconds are a number: $seconds" >&2; exit 2; }
targets=("${@:2}")
[ ${#targets[@]} -gt 0 ] || targets=(multipart urlencoded query cookies)

# It is installed as a wheel, which there is for Python 3.11 and 3.12.
venv=target/fuzz-venv atheris=3.0.0
python=${PYTHON:-python3.11}
if ! [ -e "$venv/.atheris-$atheris" ]; then
  rm -rf "$venv"
  "$python" -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: "atheris==$atheris"
  touch "$venv/.atheris-$atheris"
fi

export PYTHONPATH=guest-python
echo "==> times of large inputs"
"$venv/bin/python" guest-python/fuzz/scaling.py
for target in "${targets[@]}"; do
  echo "==> $target, $seconds seconds"
  # Inputs that are new go into the first folder; the second is only read. Five seconds are hundreds of times
  # what the largest input takes.
  mkdir -p "target/fuzz/$target"
  "$venv/bin/python" "guest-python/fuzz/$target.py" "target/fuzz/$target" "guest-python/fuzz/corpus/$target" \
    -artifact_prefix="target/fuzz/$target-" -max_total_time="$seconds" -max_len=2048 -timeout=5 -rss_limit_mb=1024 \
    -seed=1 -print_final_stats=1 -verbosity=0
done
