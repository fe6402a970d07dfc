#!/usr/bin/env bash
# Builds convec for this machine's GPU, tests it there and measures it against its peers: one command for a machine with
# a GPU, its driver, a CUDA toolkit (12.8 or later), CMake, Ninja and a Python with NumPy, pybind11, pytest and CuPy;
# with PyTorch and JAX as peers where they are installed. No network is used. It ends within nine minutes: every step
# has a limit, and so have all together. A step that fails or takes too long costs no other its results.
#
#   tools/gpu_check.sh
#   OUT=results PYTHON=python3.11 tools/gpu_check.sh
#   DRY_RUN=1 tools/gpu_check.sh
#
# OUT        folder for the figures (cuda.json, ...) and the log of each step; build/gpu by default
# PYTHON     the interpreter
# DRY_RUN    1: there is no GPU; the same steps on the emulated device, with the peers on the CPU, as far as they are
#            installed, and whatever time it takes
# CORPUS     a text, one sentence a line: the quality of word vectors trained on it is measured last, in the time that is
#            left, with gensim (its evaluation files) in BENCH_PYTHON
# BENCH_PYTHON  the interpreter of the benchmarks, where the peers are installed for another one; PYTHON by default
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

python=${PYTHON:-python3}
bench_python=${BENCH_PYTHON:-$python}
out=${OUT:-build/gpu}
dry=${DRY_RUN:-0}
build=$PWD/build/gpu-check
results=()
# Seconds for all, of the nine minutes that such a machine is lent for; dry, a small machine may take its time.
total=525 slack=1
if [ "$dry" = 1 ]; then total=7200 slack=8; fi
mkdir -p "$out" || exit 1
out=$(cd "$out" && pwd)
# Of an earlier run: they must not be taken for this one's.
rm -f "$out"/*.log "$out"/cuda*.json "$out"/word2vec_*.json

# step NAME SECONDS COMMAND...: runs it with a limit, its output in a log of its own.
step() {
  local name=$1 limit=$(($2 * slack)) log="$out/${1//[ \']/-}.log" left=$((total - SECONDS)) started=$SECONDS status=0
  shift 2
  if ((left < 5)); then
    results+=("skipped $name: there is no time left")
    return 1
  fi
  printf '== %s\n' "$name"
  timeout --kill-after=5 "$((limit < left ? limit : left))" "$@" >"$log" 2>&1 </dev/null || status=$?
  local spent="$((SECONDS - started)) s"
  case $status in
    0) results+=("ok      $name ($spent)") ;;
    124 | 137) results+=("TIMEOUT $name (after $spent; see $log)") ;;
    *) results+=("FAILED  $name (status $status, $spent; see $log)") ;;
  esac
  [ "$status" = 0 ] || tail -n 15 "$log"
  return "$status"
}

# The last thing printed, whatever has happened.
summary() {
  local json=()
  for name in seed bandwidth dense neighbours convolutions; do
    if [ -s "$out/cuda-$name.json" ]; then json+=("$out/cuda-$name.json"); fi
  done
  if [ "${#json[@]}" != 0 ]; then
    "$python" benchmarks/bench_cuda.py --json "$out/cuda.json" --table "${json[@]}" 2>&1
  fi
  if [ -s "$out/Word2Vec-benchmark.log" ]; then grep -E '^\||words/s, ' "$out/Word2Vec-benchmark.log"; fi
  printf '\n'
  if [ "${#results[@]}" != 0 ]; then printf '%s\n' "${results[@]}"; fi
  printf 'figures and logs: %s; %s s in all\n' "$out" "$SECONDS"
}
trap summary EXIT
trap 'exit 130' INT TERM

command -v nvcc >/dev/null || export PATH="$PATH:/usr/local/cuda/bin"
command -v nvcc >/dev/null || { echo "gpu_check: nvcc is not on PATH; install a CUDA toolkit" >&2; exit 1; }
nvcc --version | tail -n 2
if [ "$dry" = 1 ]; then
  arch=90
else
  nvidia-smi || { echo "gpu_check: nvidia-smi fails: there is no NVIDIA driver or no GPU here" >&2; exit 1; }
  arch=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1 | tr -dc 0-9)
fi
pybind11=$("$python" -m pybind11 --cmakedir) || { echo "gpu_check: $python has no pybind11" >&2; exit 1; }
# An editable installation is found before PYTHONPATH: what is built here would not be what is measured.
probe=$build/probe
mkdir -p "$probe/convec" && touch "$probe/convec/__init__.py"
for each in "$python" "$bench_python"; do
  if ! (cd / && PYTHONPATH=$probe "$each" -c 'import sys, convec; sys.exit(not convec.__file__.startswith(sys.argv[1]))' \
    "$probe"); then
    echo "gpu_check: $each finds another convec first; uninstall it there, or name another interpreter by PYTHON" >&2
    exit 1
  fi
done

# The emulated device is a matter of the machines without a GPU.
targets=(_core _cuda)
if [ "$dry" = 1 ]; then targets+=(_cuda_emulated); fi
configure() {
  cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_CUDA_ARCHITECTURES="$arch-real" -DCONVEC_CUDA=ON \
    -DCONVEC_BUILD_PYTHON=ON -DCONVEC_BUILD_TESTS="$dry" -DPython_EXECUTABLE="$(command -v "$python")" \
    -Dpybind11_DIR="$pybind11"
}
# The package is used where it lies, with the modules beside its sources in a folder of its own.
assemble() {
  rm -rf "$build/package" && mkdir -p "$build/package" && cp -r python/convec "$build/package/" &&
    cp "$build"/python/bindings/_*.so "$build/package/convec/"
}
export -f configure assemble
export build arch python pybind11 dry
# shellcheck disable=SC2016 # the inner shell's arguments
step "build" 300 bash -c 'configure && cmake --build "$build" --target "$@" && assemble' build "${targets[@]}" || exit 1
export PYTHONPATH="$build/package:$PWD/tests/python${PYTHONPATH:+:$PYTHONPATH}"

step "info" 20 "$python" -m convec info && cat "$out/info.log"
# Without the project's settings, which ask for plugins.
pytest=("$python" -m pytest -q -rs -c /dev/null --rootdir "$PWD" -p no:cacheprovider)
ops=(tests/python/test_cuda_ops.py tests/python/test_cuda_network.py)
# What takes part: the tests on the GPU; dry, the same on the emulated device.
on=gpu learns='a_gpu_learns and (100 or 1024)' mode=() chosen=(-k gpu)
small='conv2d or dense or max_pool2d or softmax_cross_entropy or batch_norm or small_cnn'
words=(--words 20000000 --rounds 3 --tables "float32,bfloat16" --only
  'skip-gram,128,50000;skip-gram,300,50000;skip-gram,128,550000')
if [ "$dry" = 1 ]; then
  on=emulated learns=one_team_repeats mode=(--emulated) chosen=()
  words=(--emulated --tables "float32,bfloat16" --only 'skip-gram,128,50000')
fi

products=(tests/python/test_cuda_precision.py tests/python/test_ops_bfloat16.py)
step "tests" 80 "${pytest[@]}" "${ops[@]}" "${products[@]}" -k "$on"
# A part a process: an error of one leaves the device to the others.
for part in seed bandwidth dense neighbours convolutions; do
  case $part in seed) limit=110 ;; convolutions) limit=130 ;; neighbours) limit=45 ;; *) limit=35 ;; esac
  step "benchmark $part" "$limit" "$bench_python" benchmarks/bench_cuda.py ${mode[@]+"${mode[@]}"} --parts "$part" \
    --seconds 0.03 --patience "$((60 * slack))" --json "$out/cuda-$part.json"
done
# On a GPU those alone that need one.
step "word vectors' tests" 50 "${pytest[@]}" tests/python/test_word2vec_cuda.py tests/python/test_keyedvectors_cuda.py \
  ${chosen[@]+"${chosen[@]}"}
step "Word2Vec benchmark" 80 "$python" benchmarks/bench_word2vec_cuda.py "${words[@]}" --peers none \
  --json "$out/word2vec_cuda.json"

# CuPy asks for what a device may not have, which is no error of a program's.
sanitizer=(compute-sanitizer --error-exitcode 9 --require-cuda-init no --report-api-errors no)
if ! command -v compute-sanitizer >/dev/null; then
  results+=("skipped memcheck and racecheck: compute-sanitizer is not on PATH")
  sanitizer=()
fi
# Dry, its tests run without it.
if [ "${#sanitizer[@]}" != 0 ] || [ "$dry" = 1 ]; then
  for tool in memcheck racecheck; do
    with=() name="tests of $tool alone"
    if [ "${#sanitizer[@]}" != 0 ]; then with=("${sanitizer[@]}" --tool "$tool") name=$tool; fi
    CONVEC_TEST_EVERY=7 step "$name" 45 ${with[@]+"${with[@]}"} "${pytest[@]}" "${ops[@]}" -k "$on and ($small)"
    CONVEC_TEST_EVERY=14 step "precision $name" 40 ${with[@]+"${with[@]}"} "${pytest[@]}" \
      "${products[@]}" -k "$on and values"
    step "Word2Vec $name" 40 ${with[@]+"${with[@]}"} "${pytest[@]}" tests/python/test_word2vec_cuda.py -k "$learns"
  done
fi

# The default concurrency is judged by what it does to the vectors, beside the processor's; gensim brings the tests.
if [ -n "${CORPUS:-}" ] && [ "$dry" != 1 ]; then
  step "Word2Vec quality" 200 "$python" benchmarks/bench_word2vec.py --corpus "$CORPUS" --quality --seeds 3 --epochs 1 \
    --device cpu,cuda --only 'skip-gram,100;CBOW,100' --peers-python "$bench_python" \
    --json "$out/word2vec_quality.json"
  results+=("$(grep '^| ' "$out/Word2Vec-quality.log")")
fi

if printf '%s\n' "${results[@]}" | grep -Eq '^(FAILED|TIMEOUT)'; then exit 1; fi
