#!/usr/bin/env bash
# Every linter, over every tracked file; each reports before the script fails. Called by `make lint`.
set -uo pipefail
cd "$(dirname "$0")/.."
bin=$PWD/${BIN:-.venv/bin}
failed=()

check() {
  local name=$1
  shift
  echo "== $name"
  "$@" || failed+=("$name")
}

mapfile -t cxx < <(git ls-files '*.cpp' '*.hpp' '*.cu' '*.cuh' 'cuda/*.h')
mapfile -t kernels < <(git ls-files 'cpp/src/cpu/kernels/*.cpp')
mapfile -t units < <(git ls-files 'cpp/*.cpp' 'tests/cpp/*.cpp' ':!cpp/src/cpu/kernels')

# run_tidy DATABASE FILES [ARGUMENTS...]: FILES is the name of an array. The compiler's own flags that clang does not know
# are no finding; neither are counts of what is filtered out, nor the progress of a file with several compile commands.
run_tidy() {
  local database=$1
  local -n files=$2
  shift 2
  printf '%s\0' "${files[@]}" | xargs -0 -n 1 -P "$(nproc)" "$bin/clang-tidy" -p "$database" --quiet "$@" \
    --extra-arg=-Wno-unknown-warning-option 2> >(grep -Ev '^[0-9]+ warnings? |^\[[0-9]+/[0-9]+\].* Processing file ' >&2)
}

# Kernels are compiled for several instruction-set levels. The analyzer, which follows every path of their unrolled
# loops, sees them at one of these.
tidy() {
  cmake --preset tidy --log-level=ERROR >/dev/null || return
  mkdir -p build/tidy/one_level
  "$bin/python" - build/tidy/compile_commands.json build/tidy/one_level/compile_commands.json <<'PYTHON' || return
import json
import sys

commands = {command["file"]: command for command in json.load(open(sys.argv[1], encoding="utf-8"))}
json.dump(list(commands.values()), open(sys.argv[2], "w", encoding="utf-8"))
PYTHON
  local status=0
  run_tidy build/tidy units || status=1
  run_tidy build/tidy kernels '--checks=-clang-analyzer-*' || status=1
  run_tidy build/tidy/one_level kernels '--checks=-*,clang-analyzer-*' || status=1
  return "$status"
}

# Warnings go to stderr: a declaration of the C++ headers without documentation is one.
doxygen_headers() {
  if ! command -v doxygen >/dev/null; then
    echo "doxygen is not installed, so that the documentation of the headers is not checked: apt-get install doxygen"
    return 0
  fi
  mkdir -p build
  (cat docs/Doxyfile; echo "GENERATE_HTML = NO"; echo "GENERATE_XML = YES"; echo "WARN_AS_ERROR = FAIL_ON_WARNINGS") |
    doxygen - >/dev/null
}

check clang-format "$bin/clang-format" --dry-run -Werror "${cxx[@]}"
check ruff "$bin/ruff" check .
check "ruff format" "$bin/ruff" format --check .
check mypy "$bin/mypy"
check stubs "$bin/python" tools/make_stubs.py --check
check doxygen doxygen_headers
check clang-tidy tidy

if ((${#failed[@]})); then
  printf 'lint: failed: %s\n' "${failed[*]}" >&2
  exit 1
fi
echo "lint: all passed"
