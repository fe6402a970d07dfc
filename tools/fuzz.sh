#!/usr/bin/env bash
# Fuzzes every target with libFuzzer:
#   tools/fuzz.sh [SECONDS [TARGET...]]
# SECONDS of wall-clock time in all (60), shared by the targets (all of them), as many at once as there are processors.
# What is found is left in build/fuzz/found, the inputs that lead somewhere new in build/fuzz/corpus. Needs Clang with
# its sanitizers: taken from PATH, or from Debian's packages where this is run by root; else there is only a message.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-60}
shift || true
probe=$(mktemp -d)
trap 'rm -rf "$probe"' EXIT
echo 'extern "C" int LLVMFuzzerTestOneInput(const unsigned char*, unsigned long) { return 0; }' >"$probe/probe.cpp"

# Sets `compiler` to a Clang that has libFuzzer.
find_clang() {
  for compiler in ${CXX:-} clang++ clang++-{22..14}; do
    if command -v "$compiler" >/dev/null &&
      "$compiler" -fsanitize=fuzzer,address,undefined "$probe/probe.cpp" -o "$probe/probe" 2>/dev/null; then
      return
    fi
  done
  compiler=
}

install_clang() {
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 0
  echo "Installing Clang, to fuzz with"
  export DEBIAN_FRONTEND=noninteractive
  local install=(apt-get -qq install -y --no-install-recommends)
  { apt-get -qq update && "${install[@]}" clang; } >"$probe/log" 2>&1 || return 0
  # Where Debian has the sanitizers in a package of their own.
  "${install[@]}" "libclang-rt-$(clang++ -dumpversion | cut -d. -f1)-dev" >>"$probe/log" 2>&1 || true
}

find_clang
if [ -z "$compiler" ]; then
  install_clang
  find_clang
fi
if [ -z "$compiler" ]; then
  echo "Nothing was fuzzed: there is no Clang with libFuzzer here. On Debian: apt-get install clang libclang-rt-14-dev"
  exit 0
fi

cmake --preset fuzz -DCMAKE_CXX_COMPILER="$compiler" --log-level=ERROR >/dev/null
cmake --build --preset fuzz
program=$PWD/build/fuzz/tests/fuzz/convec_fuzz
if (($# == 0)); then mapfile -t targets < <("$program" --list); else targets=("$@"); fi
jobs=$(nproc)
share=$((seconds * jobs / ${#targets[@]}))
mkdir -p build/fuzz/found
cd build/fuzz

fuzz() {
  local target=$1
  mkdir -p "corpus/$target" "seeds/$target"
  "$program" --target="$target" --write-seeds="seeds/$target"
  # A refused file may take 4 times its size and 16 MB (the targets see to that); these are for what is accepted.
  if ! "$program" --target="$target" -max_total_time="$share" -max_len=4096 -timeout=20 -rss_limit_mb=2048 \
    -malloc_limit_mb=512 -print_final_stats=1 -artifact_prefix="found/$target-" "corpus/$target" "seeds/$target" \
    >"$target.log" 2>&1; then
    tail -n 60 "$target.log"
    return 255
  fi
  sed -n "s/^stat::number_of_executed_units: */$target: /p" "$target.log" | sed 's/$/ inputs/'
}
export -f fuzz
export program share
printf '%s\n' "${targets[@]}" | xargs -P "$jobs" -I '{}' bash -c 'fuzz {}'
