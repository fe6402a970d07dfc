#!/usr/bin/env bash
# Builds and runs the consumer project and the C++ examples outside the tree: tests/consumer/run.sh PRESET...
# Each preset (release, release-shared) is configured, built, installed and used; 'wheel' is what pip has installed.
set -euo pipefail
cd "$(dirname "$0")/../.."

python=$PWD/.venv/bin/python
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" examples/embed_cpp/make_files.py "$work"
"$python" tests/consumer/write_idx.py "$work"

build() { # build SOURCE PREFIX
  rm -rf "$work/build"
  cmake -S "$1" -B "$work/build" -G Ninja --log-level=WARNING \
    -DCMAKE_BUILD_TYPE=Release -DCMAKE_PREFIX_PATH="$2" -DCMAKE_CXX_FLAGS=-Werror
  cmake --build "$work/build"
}

for preset in "$@"; do
  echo "== consumer of $preset"
  if [ "$preset" = wheel ]; then
    prefix=$("$python" -m convec --cmake-dir)
  else
    prefix=$PWD/build/$preset/install
    rm -rf "$prefix"
    cmake --preset "$preset" --log-level=WARNING
    cmake --build --preset "$preset"
    cmake --install "build/$preset" >/dev/null
  fi
  build tests/consumer "$prefix"
  "$work/build/consumer"
  build examples/embed_cpp "$prefix"
  "$work/build/embed" "$work"/{images,network,vectors}.safetensors monday | tee "$work/output"
  grep -q "near 'monday':.*tuesday" "$work/output"
  build examples/train_cpp "$prefix"
  "$work/build/train_mnist" "$work" 2
done
