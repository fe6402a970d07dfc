#!/usr/bin/env bash
# Builds a source distribution and, from it, a wheel; checks both and uses the wheel in an empty environment.
# With CMAKE_ARGS=-DCONVEC_CUDA=ON the wheel has the CUDA module, too, which must leave it under 25 MB.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$PWD/.venv/bin/python
pip=(-m pip --quiet --disable-pip-version-check)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$python" -c '
import sys
from scikit_build_core.build import build_sdist
build_sdist(sys.argv[1])' "$work/dist" >"$work/sdist.log" 2>&1 || { cat "$work/sdist.log" >&2; exit 1; }
sdist=$(echo "$work"/dist/*.tar.gz)
tar -tzf "$sdist" | sed 's|^[^/]*/||' | LC_ALL=C sort >"$work/files"
for needed in LICENSE CMakeLists.txt cpp/CMakeLists.txt python/convec/__init__.py python/bindings/module.cpp; do
  grep -qx "$needed" "$work/files" || { echo "the source distribution lacks $needed" >&2; exit 1; }
done
if grep -E '(^|/)(\.ci|\.venv|build|dist)/' "$work/files"; then
  echo "the source distribution holds what it should not" >&2
  exit 1
fi
"$python" "${pip[@]}" wheel --no-deps --no-build-isolation -Cbuild-dir="$work/build" --wheel-dir "$work/dist" "$sdist"
"$python" -m venv "$work/venv"
"$work/venv/bin/python" "${pip[@]}" install "$work"/dist/*.whl
"$work/venv/bin/python" tools/smoke_wheel.py "$work"/dist/*.whl
