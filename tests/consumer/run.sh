#!/usr/bin/env bash
# Builds and runs the consumer project against installed trees: tests/consumer/run.sh PRESET...
# Each preset (release, release-shared) is configured, built, installed and used.
set -euo pipefail
cd "$(dirname "$0")/../.."

for preset in "$@"; do
  echo "== consumer of $preset"
  prefix=$PWD/build/$preset/install
  rm -rf "$prefix" "build/consumer-$preset"
  cmake --preset "$preset" --log-level=WARNING
  cmake --build --preset "$preset"
  cmake --install "build/$preset" >/dev/null
  cmake -S tests/consumer -B "build/consumer-$preset" -G Ninja --log-level=WARNING \
    -DCMAKE_BUILD_TYPE=Release -DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_CXX_FLAGS=-Werror
  cmake --build "build/consumer-$preset"
  "build/consumer-$preset/consumer"
done
