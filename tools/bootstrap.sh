#!/bin/sh
# Creates the virtual environment and installs what building and testing convec needs. Called by the Makefile:
#   tools/bootstrap.sh VENV
# The interpreter is $PYTHON where set, else the first Python 3.10 or later found on PATH.
set -eu

venv=$1

fail() {
  printf '\nconvec: %s\n' "$1" >&2
  exit 1
}

# A name on PATH may be a shim that cannot run, so candidates are run rather than looked up.
is_recent() {
  "$1" -c 'import sys; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1
}

python=
for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11 python3.10 python}; do
  if is_recent "$candidate"; then
    python=$candidate
    break
  fi
done
if [ -z "$python" ]; then
  if [ -n "${PYTHON:-}" ]; then
    fail "PYTHON=$PYTHON does not run or is older than Python 3.10; name a newer interpreter."
  fi
  fail "no Python 3.10 or later was found on PATH (python3 is $(python3 --version 2>&1 || true)).
Install one, e.g. 'sudo apt-get install python3 python3-venv', or name it: make PYTHON=/path/to/python3.12"
fi

compiler=
for candidate in ${CXX:-c++ g++ clang++}; do
  if command -v "$candidate" >/dev/null 2>&1; then
    compiler=$candidate
    break
  fi
done
if [ -z "$compiler" ]; then
  fail "no C++ compiler was found${CXX:+ (CXX=$CXX)}. Install one, e.g. 'sudo apt-get install g++', or set CXX."
fi

# The headers are in a package of their own on Debian and Fedora; without them CMake's message is hard to read.
if ! "$python" -c '
import pathlib, sys, sysconfig
sys.exit(not (pathlib.Path(sysconfig.get_paths()["include"]) / "Python.h").is_file())'; then
  fail "Python's own C headers are missing for $python. Install them, e.g.
'sudo apt-get install python3-dev' (Debian, Ubuntu) or 'sudo dnf install python3-devel' (Fedora)."
fi

if ! [ -x "$venv/bin/python" ] || ! is_recent "$venv/bin/python" || ! "$venv/bin/python" -m pip --version >/dev/null 2>&1
then
  echo "Creating $venv with $("$python" --version)"
  if ! "$python" -m venv --clear "$venv" >"$venv.log" 2>&1; then
    cat "$venv.log" >&2
    rm -rf "$venv.log" "$venv"
    fail "'$python -m venv' failed. On Debian and Ubuntu the module is a package of its own:
'sudo apt-get install python3-venv', then run make again."
  fi
  rm -f "$venv.log"
fi

# CMake and Ninja of the machine are used where they are recent enough.
tools=
cmake_is_recent() {
  command -v cmake >/dev/null 2>&1 || return 1
  version=$(cmake --version 2>/dev/null | sed -n 's/^cmake version \([0-9]*\)\.\([0-9]*\).*/\1 \2/p')
  [ -n "$version" ] || return 1
  # shellcheck disable=SC2086 # two numbers, meant to be split
  set -- $version
  [ "$1" -gt 3 ] || { [ "$1" -eq 3 ] && [ "$2" -ge 20 ]; }
}
cmake_is_recent || tools="$tools cmake"
if ! command -v ninja >/dev/null 2>&1 || ! ninja --version >/dev/null 2>&1; then
  tools="$tools ninja"
fi

echo "Installing build and test tools into $venv"
# shellcheck disable=SC2086 # a list, meant to be split
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  'scikit-build-core>=0.10' 'pybind11>=2.13' 'numpy>=1.24' 'pytest>=8' pytest-timeout hypothesis h5py safetensors zstandard \
  onnx onnxruntime 'mpi4py>=4' mpich $tools
