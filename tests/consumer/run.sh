#!/usr/bin/env bash
# Builds and runs the consumer project and the C++ examples outside the tree: tests/consumer/run.sh PRESET...
# Each preset (release, release-shared) is configured, built, installed and used; 'wheel' is what pip has installed.
# 'cuda' builds the program for GPUs in cuda/ instead, which is linked on any machine and does its work where there is a
# GPU; it needs nvcc.
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
  if [ "$preset" = cuda ]; then
    prefix=$PWD/build/cuda/install
    rm -rf "$prefix"
    cmake --preset cuda --log-level=WARNING -DCONVEC_BUILD_TESTS=OFF
    cmake --build --preset cuda
    cmake --install build/cuda >/dev/null
    build tests/consumer/cuda "$prefix"
    "$work/build/cuda_consumer"
    continue
  fi
  if [ "$preset" = wheel ]; then
    prefix=$("$python" -m convec --cmake-dir)
  else
    prefix=$PWD/build/$preset/install
    rm -rf "$prefix"
    cmake --preset "$preset" --log-level=WARNING -DCONVEC_BUILD_TESTS=OFF
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
