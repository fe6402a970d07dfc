#!/usr/bin/env bash
# Builds convec for this machine's GPU, tests it there and measures it against its peers: one command for a machine with
# a GPU, its driver, a CUDA toolkit (12.8 or later), CMake, Ninja and a Python with NumPy, pybind11 and pytest; with CuPy
# for the ops on arrays, and with PyTorch and JAX as peers where they are installed. No network is used. As a rule
# under nine minutes; every step has a limit.
#
#   tools/gpu_check.sh
#   OUT=results PYTHON=python3.11 tools/gpu_check.sh
#
# OUT      folder for the figures (cuda.json) and the log of each step; build/gpu by default
# PYTHON   the interpreter
# DRY_RUN  1: no GPU is there; everything that needs none is done, on the emulated device
set -uo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
out=${OUT:-build/gpu}
dry=${DRY_RUN:-0}
mkdir -p "$out"
out=$(cd "$out" && pwd)
build=$PWD/build/gpu-check
results=()

# step NAME SECONDS COMMAND...: runs it with a limit, its output in a log of its own.
step() {
  local name=$1 limit=$2 started=$SECONDS status
  shift 2
  printf '== %s\n' "$name"
  timeout "$limit" "$@" >"$out/${name// /-}.log" 2>&1
  status=$?
  case $status in
    0) results+=("ok      $name ($((SECONDS - started)) s)") ;;
    124) results+=("TIMEOUT $name (over $limit s; see $out/${name// /-}.log)") ;;
    *)
      results+=("FAILED  $name (status $status; see $out/${name// /-}.log)")
      tail -n 15 "$out/${name// /-}.log"
      ;;
  esac
  return "$status"
}

if [ "$dry" = 1 ]; then
  arch=90
else
  nvidia-smi || { echo "gpu_check: nvidia-smi fails: there is no NVIDIA driver or no GPU here" >&2; exit 1; }
  arch=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1 | tr -d .)
fi
command -v nvcc >/dev/null || export PATH="$PATH:/usr/local/cuda/bin"
command -v nvcc >/dev/null || { echo "gpu_check: nvcc is not on PATH; install a CUDA toolkit" >&2; exit 1; }
nvcc --version | tail -n 2

pybind11=$("$python" -m pybind11 --cmakedir) || exit 1
configure() {
  cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_CUDA_ARCHITECTURES="$arch" -DCONVEC_CUDA=ON \
    -DCONVEC_BUILD_PYTHON=ON -DCONVEC_BUILD_TESTS=ON -DPython_EXECUTABLE="$(command -v "$python")" \
    -Dpybind11_DIR="$pybind11" &&
    cmake --build "$build" --target _core _cuda _cuda_emulated
}
# The package is used where it lies, with the modules beside its sources in a folder of its own.
assemble() {
  rm -rf "$build/package" && mkdir -p "$build/package" && cp -r python/convec "$build/package/" &&
    cp "$build"/python/bindings/_*.so "$build/package/convec/"
}
export -f configure assemble
export build arch python pybind11
step "build" 240 bash -c 'configure && assemble' || { printf '%s\n' "${results[@]}"; exit 1; }
export PYTHONPATH="$build/package:$PWD/tests/python${PYTHONPATH:+:$PYTHONPATH}"

step "info" 20 "$python" -m convec info && cat "$out/info.log"
# Without the project's settings, which ask for plugins.
pytest=("$python" -m pytest -q -c /dev/null --rootdir "$PWD" -p no:cacheprovider)
if [ "$dry" = 1 ]; then
  step "tests" 120 "${pytest[@]}" tests/python/test_cuda_ops.py tests/python/test_cuda_network.py
  step "benchmarks" 60 "$python" benchmarks/bench_cuda.py --emulated --json "$out/cuda.json"
  step "Word2Vec tests" 60 "${pytest[@]}" tests/python/test_word2vec_cuda.py tests/python/test_keyedvectors_cuda.py
  step "Word2Vec benchmark" 60 "$python" benchmarks/bench_word2vec_cuda.py --emulated --peers none \
    --only 'skip-gram,128,50000' --json "$out/word2vec_cuda.json"
else
  step "tests" 60 "${pytest[@]}" -rs tests/python/test_cuda_ops.py tests/python/test_cuda_network.py -k "gpu"
  if command -v compute-sanitizer >/dev/null; then
    small='gpu and (conv2d or dense or max_pool2d or softmax_cross_entropy or batch_norm or small_cnn)'
    for tool in memcheck racecheck; do
      CONVEC_TEST_EVERY=7 step "$tool" 45 compute-sanitizer --tool "$tool" --error-exitcode 9 \
        "${pytest[@]}" tests/python/test_cuda_ops.py tests/python/test_cuda_network.py -k "$small"
    done
    for tool in memcheck racecheck; do
      step "Word2Vec $tool" 40 compute-sanitizer --tool "$tool" --error-exitcode 9 \
        "${pytest[@]}" tests/python/test_word2vec_cuda.py -k "a_gpu_learns and (100 or 1024)"
    done
  else
    results+=("skipped memcheck and racecheck: compute-sanitizer is not on PATH")
  fi
  step "benchmarks" 110 "$python" benchmarks/bench_cuda.py --json "$out/cuda.json"
  step "Word2Vec tests" 60 "${pytest[@]}" -rs tests/python/test_word2vec_cuda.py tests/python/test_keyedvectors_cuda.py \
    -k gpu
  step "Word2Vec benchmark" 100 "$python" benchmarks/bench_word2vec_cuda.py --words 20000000 --rounds 3 \
    --tables float32,bfloat16 --json "$out/word2vec_cuda.json" \
    --only 'skip-gram,128,50000;skip-gram,300,50000;skip-gram,128,550000'
fi

printf '\n%s\n' "${results[@]}"
sed -n '/^what  /,$p' "$out/benchmarks.log"
sed -n '/^| M words/,$p' "$out/Word2Vec-benchmark.log"
if printf '%s\n' "${results[@]}" | grep -Eq '^(FAILED|TIMEOUT)'; then exit 1; fi
