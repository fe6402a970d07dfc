#include "cublas_lt.hpp"

#include <dlfcn.h>

#include <array>
#include <atomic>
#include <cstdlib>
#include <map>
#include <mutex>
#include <tuple>
#include <utility>
#include <vector>

#include <convec/error.hpp>

#include "cuda_backend.hpp"
#include "kernel.hpp"
#include "tensor_core.hpp"

#if !defined(CONVEC_CUDA_EMULATION) && __has_include(<cublasLt.h>)
#include <cublasLt.h>
#define CONVEC_CUBLASLT_HEADER 1
#endif

namespace convec::cuda {

namespace {

// What convec uses of cuBLASLt 12 and 13, by the names of its header. Enumerations are int there, handles are pointers.
namespace lt {

constexpr int status_success = 0;
constexpr int status_execution_failed = 13;
constexpr int status_internal_error = 14;
constexpr int real_32f = 0;                // CUDA_R_32F
constexpr int real_16bf = 14;              // CUDA_R_16BF
constexpr int compute_32f = 68;            // CUBLAS_COMPUTE_32F
constexpr int compute_32f_fast_16bf = 75;  // CUBLAS_COMPUTE_32F_FAST_16BF
constexpr int compute_32f_fast_tf32 = 77;  // CUBLAS_COMPUTE_32F_FAST_TF32
constexpr std::int32_t op_n = 0;           // CUBLAS_OP_N
constexpr std::int32_t op_t = 1;
// cublasLtMatmulDescAttributes_t
constexpr int desc_transa = 3;
constexpr int desc_transb = 4;
constexpr int desc_epilogue = 7;
constexpr int desc_bias_pointer = 8;
// cublasLtEpilogue_t
constexpr std::uint32_t epilogue_default = 1;
constexpr std::uint32_t epilogue_relu = 2;
constexpr std::uint32_t epilogue_bias = 4;
constexpr std::uint32_t epilogue_relu_bias = 6;
constexpr std::uint32_t epilogue_bgrada = 256;
// cublasLtMatmulPreferenceAttributes_t
constexpr int pref_max_workspace_bytes = 1;
constexpr int pref_reduction_scheme_mask = 3;
constexpr int pref_min_alignment_a_bytes = 5;
constexpr int pref_min_alignment_b_bytes = 6;
constexpr int pref_min_alignment_c_bytes = 7;
constexpr int pref_min_alignment_d_bytes = 8;
// cublasLtReductionScheme_t: slices of a sum are added up in a second pass, not by whichever block comes first
// (CUBLASLT_REDUCTION_SCHEME_INPLACE, 1).
constexpr std::uint32_t reduction_in_order = 2 | 4;  // COMPUTE_TYPE, OUTPUT_TYPE

using Handle = void*;
using Descriptor = void*;
using Layout = void*;
using Preference = void*;

struct Algorithm {
  std::uint64_t data[8];
};
struct HeuristicResult {
  Algorithm algorithm;
  std::size_t workspace_size;
  int state;
  float waves_count;
  int reserved[4];
};

#if defined(CONVEC_CUBLASLT_HEADER)
static_assert(status_success == CUBLAS_STATUS_SUCCESS && status_execution_failed == CUBLAS_STATUS_EXECUTION_FAILED &&
              status_internal_error == CUBLAS_STATUS_INTERNAL_ERROR);
static_assert(real_32f == CUDA_R_32F && real_16bf == CUDA_R_16BF && op_n == CUBLAS_OP_N && op_t == CUBLAS_OP_T);
static_assert(compute_32f == CUBLAS_COMPUTE_32F && compute_32f_fast_16bf == CUBLAS_COMPUTE_32F_FAST_16BF &&
              compute_32f_fast_tf32 == CUBLAS_COMPUTE_32F_FAST_TF32);
static_assert(desc_transa == CUBLASLT_MATMUL_DESC_TRANSA && desc_transb == CUBLASLT_MATMUL_DESC_TRANSB &&
              desc_epilogue == CUBLASLT_MATMUL_DESC_EPILOGUE && desc_bias_pointer == CUBLASLT_MATMUL_DESC_BIAS_POINTER);
static_assert(epilogue_default == CUBLASLT_EPILOGUE_DEFAULT && epilogue_relu == CUBLASLT_EPILOGUE_RELU &&
              epilogue_bias == CUBLASLT_EPILOGUE_BIAS && epilogue_relu_bias == CUBLASLT_EPILOGUE_RELU_BIAS &&
              epilogue_bgrada == CUBLASLT_EPILOGUE_BGRADA);
static_assert(pref_max_workspace_bytes == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES &&
              pref_reduction_scheme_mask == CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK &&
              pref_min_alignment_a_bytes == CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES &&
              pref_min_alignment_b_bytes == CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES &&
              pref_min_alignment_c_bytes == CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES &&
              pref_min_alignment_d_bytes == CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES);
static_assert(reduction_in_order == (CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE | CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE));
static_assert(sizeof(Algorithm) == sizeof(cublasLtMatmulAlgo_t) &&
              sizeof(HeuristicResult) == sizeof(cublasLtMatmulHeuristicResult_t));
#endif

}  // namespace lt

// Up to 32 MB, as NVIDIA advises for Hopper; what a product takes is what its algorithm asks for.
constexpr std::uint64_t most_workspace = std::uint64_t{32} << 20U;
// Shapes that are remembered. A program whose shapes never repeat starts anew.
constexpr std::size_t most_plans = 1024;

// The power of two that an address is a multiple of, up to 256.
std::uint32_t alignment_of(const void* pointer) {
  const auto address = reinterpret_cast<std::uintptr_t>(pointer) | 256U;
  return static_cast<std::uint32_t>(address & (~address + 1U));
}

std::uint32_t epilogue_of(const LtProduct& p) {
  if (p.column_sums != nullptr) return lt::epilogue_bgrada;
  if (p.activation == Activation::relu) return p.bias == nullptr ? lt::epilogue_relu : lt::epilogue_relu_bias;
  return p.bias == nullptr ? lt::epilogue_default : lt::epilogue_bias;
}

}  // namespace

// Never unloaded: other parts of the program may use the same.
struct CublasLt::Library {
  std::string file;
  void* library = nullptr;
  std::size_t (*version)();
  int (*create)(lt::Handle*);
  int (*descriptor_create)(lt::Descriptor*, int compute_type, int scale_type);
  int (*descriptor_set)(lt::Descriptor, int attribute, const void* value, std::size_t bytes);
  int (*descriptor_destroy)(lt::Descriptor);
  int (*layout_create)(lt::Layout*, int type, std::uint64_t rows, std::uint64_t columns, std::int64_t stride);
  int (*layout_destroy)(lt::Layout);
  int (*preference_create)(lt::Preference*);
  int (*preference_set)(lt::Preference, int attribute, const void* value, std::size_t bytes);
  int (*preference_destroy)(lt::Preference);
  int (*find)(lt::Handle, lt::Descriptor, lt::Layout a, lt::Layout b, lt::Layout c, lt::Layout d, lt::Preference,
              int wanted, lt::HeuristicResult*, int* found);
  int (*matmul)(lt::Handle, lt::Descriptor, const void* alpha, const void* a, lt::Layout, const void* b, lt::Layout,
                const void* beta, const void* c, lt::Layout, void* d, lt::Layout, const lt::Algorithm*, void* workspace,
                std::size_t workspace_bytes, cudaStream_t);

  explicit Library(const std::string& file_) : file(file_), library(::dlopen(file_.c_str(), RTLD_NOW | RTLD_LOCAL)) {
    if (library == nullptr) throw DeviceError(std::string("cuBLASLt cannot be loaded: ") + ::dlerror());
    take(version, "cublasLtGetVersion");
    take(create, "cublasLtCreate");
    take(descriptor_create, "cublasLtMatmulDescCreate");
    take(descriptor_set, "cublasLtMatmulDescSetAttribute");
    take(descriptor_destroy, "cublasLtMatmulDescDestroy");
    take(layout_create, "cublasLtMatrixLayoutCreate");
    take(layout_destroy, "cublasLtMatrixLayoutDestroy");
    take(preference_create, "cublasLtMatmulPreferenceCreate");
    take(preference_set, "cublasLtMatmulPreferenceSetAttribute");
    take(preference_destroy, "cublasLtMatmulPreferenceDestroy");
    take(find, "cublasLtMatmulAlgoGetHeuristic");
    take(matmul, "cublasLtMatmul");
    const std::size_t number = version();
    if (number < 120000 || number >= 140000)
      throw DeviceError(file + " is cuBLASLt " + version_text() + ", but convec knows 12 and 13");
  }

  std::string version_text() const {
    const std::size_t number = version();
    return std::to_string(number / 10000) + "." + std::to_string(number / 100 % 100) + "." +
           std::to_string(number % 100);
  }

 private:
  template <typename Function>
  void take(Function& function, const char* symbol) {
    function = reinterpret_cast<Function>(::dlsym(library, symbol));
    if (function == nullptr) throw DeviceError(file + " is no cuBLASLt: it has no " + symbol);
  }
};

// How a product of one shape is done; without an algorithm: not by this library.
struct CublasLt::Plan {
  const Library* library;
  lt::Descriptor descriptor = nullptr;
  lt::Layout a = nullptr;
  lt::Layout b = nullptr;
  lt::Layout c = nullptr;
  bool usable = false;
  lt::Algorithm algorithm{};
  std::size_t workspace = 0;

  explicit Plan(const Library* library_) : library(library_) {}
  ~Plan() {
    for (const lt::Layout layout : {a, b, c})
      if (layout != nullptr) static_cast<void>(library->layout_destroy(layout));
    if (descriptor != nullptr) static_cast<void>(library->descriptor_destroy(descriptor));
  }
  Plan(const Plan&) = delete;
  Plan& operator=(const Plan&) = delete;

  // The library's matrices have their columns one after the other: what it sees of ours are the transposed, and it
  // computes C^T = B^T A^T. Its "a" is our B, its rows are our columns.
  void make(lt::Handle handle, const LtProduct& p, int compute_type) {
    const auto m = static_cast<std::uint64_t>(p.columns);
    const auto n = static_cast<std::uint64_t>(p.rows);
    const auto k = static_cast<std::uint64_t>(p.depth);
    const std::int32_t transpose_a = p.b_transposed ? lt::op_t : lt::op_n;
    const std::int32_t transpose_b = p.a_transposed ? lt::op_t : lt::op_n;
    const std::uint32_t epilogue = epilogue_of(p);
    if (library->descriptor_create(&descriptor, compute_type, lt::real_32f) != lt::status_success) return;
    if (!set(lt::desc_transa, transpose_a) || !set(lt::desc_transb, transpose_b) || !set(lt::desc_epilogue, epilogue) ||
        !set_vector(p))
      return;
    if (!layout(a, p.factors, p.b_transposed ? k : m, p.b_transposed ? m : k) ||
        !layout(b, p.factors, p.a_transposed ? n : k, p.a_transposed ? k : n) || !layout(c, p.result, m, n))
      return;
    lt::Preference preference = nullptr;
    if (library->preference_create(&preference) != lt::status_success) return;
    const std::uint32_t alignment_c = alignment_of(p.c);
    lt::HeuristicResult result{};
    int found = 0;
    usable = prefer(preference, lt::pref_max_workspace_bytes, most_workspace) &&
             prefer(preference, lt::pref_reduction_scheme_mask, lt::reduction_in_order) &&
             prefer(preference, lt::pref_min_alignment_a_bytes, alignment_of(p.b)) &&
             prefer(preference, lt::pref_min_alignment_b_bytes, alignment_of(p.a)) &&
             prefer(preference, lt::pref_min_alignment_c_bytes, alignment_c) &&
             prefer(preference, lt::pref_min_alignment_d_bytes, alignment_c) &&
             library->find(handle, descriptor, a, b, c, c, preference, 1, &result, &found) == lt::status_success &&
             found > 0 && result.state == lt::status_success && result.workspace_size <= most_workspace;
    algorithm = result.algorithm;
    workspace = result.workspace_size;
    static_cast<void>(library->preference_destroy(preference));
  }

  // Where bias is read, or the sums of columns are written.
  bool set_vector(const LtProduct& p) const {
    const void* const vector = p.column_sums != nullptr ? p.column_sums : p.bias;
    return vector == nullptr || set(lt::desc_bias_pointer, vector);
  }

 private:
  template <typename T>
  bool set(int attribute, const T& value) const {
    return library->descriptor_set(descriptor, attribute, &value, sizeof value) == lt::status_success;
  }
  template <typename T>
  bool prefer(lt::Preference preference, int attribute, const T& value) const {
    return library->preference_set(preference, attribute, &value, sizeof value) == lt::status_success;
  }
  bool layout(lt::Layout& made, DType type, std::uint64_t rows, std::uint64_t columns) const {
    return library->layout_create(&made, type == DType::bfloat16 ? lt::real_16bf : lt::real_32f, rows, columns,
                                  static_cast<std::int64_t>(rows)) == lt::status_success;
  }
};

struct CublasLt::Plans {
  // Device; extents; how the operands lie; element types; epilogue and compute type; alignments.
  using Key = std::tuple<int, int64_t, int64_t, int64_t, bool, bool, DType, DType, std::uint32_t, int,
                         std::array<std::uint32_t, 4>>;

  std::mutex mutex;
  std::map<int, lt::Handle> handles;  // of devices; null: none could be made
  std::map<Key, std::unique_ptr<Plan>> plans;
};

CublasLt::CublasLt(const std::string& library)
    : library_(std::make_unique<Library>(library)), plans_(std::make_unique<Plans>()) {}
// Handles stay: the driver may be gone when the process ends.
CublasLt::~CublasLt() = default;

std::string CublasLt::name() const { return "cuBLASLt " + library_->version_text() + " (" + library_->file + ")"; }

bool CublasLt::multiply(const Context& context, Scratch& scratch, const LtProduct& p) {
  if (p.rows < 1 || p.columns < 1 || p.depth < 1) return false;
  if (p.activation != Activation::linear && p.activation != Activation::relu) return false;
  const int device = context.device.index;
  int compute_type = lt::compute_32f;
  const bool float32 = p.factors == DType::float32;
  if (float32 && context.matmul_precision == MatmulPrecision::tf32x3) return false;
  if (float32 && context.matmul_precision != MatmulPrecision::float32 && tensor_cores(device))
    compute_type =
        context.matmul_precision == MatmulPrecision::tf32 ? lt::compute_32f_fast_tf32 : lt::compute_32f_fast_16bf;
  const void* const vector = p.column_sums != nullptr ? p.column_sums : p.bias;
  const Plans::Key key{
      device,
      p.rows,
      p.columns,
      p.depth,
      p.a_transposed,
      p.b_transposed,
      p.factors,
      p.result,
      epilogue_of(p),
      compute_type,
      {alignment_of(p.a), alignment_of(p.b), alignment_of(p.c), vector == nullptr ? 0 : alignment_of(vector)}};

  // The scratch holds the device. One product at a time, because a descriptor holds the bias.
  const std::lock_guard<std::mutex> lock(plans_->mutex);
  const auto [handle, first_time] = plans_->handles.try_emplace(device, nullptr);
  if (first_time && library_->create(&handle->second) != lt::status_success) handle->second = nullptr;
  if (handle->second == nullptr) return false;
  if (plans_->plans.size() >= most_plans && plans_->plans.count(key) == 0) plans_->plans.clear();
  std::unique_ptr<Plan>& plan = plans_->plans[key];
  if (!plan) {
    plan = std::make_unique<Plan>(library_.get());
    plan->make(handle->second, p, compute_type);
  }
  if (!plan->usable || !plan->set_vector(p)) return false;
  void* const workspace =
      plan->workspace == 0 ? nullptr : scratch.take<unsigned char>(static_cast<int64_t>(plan->workspace));
  const float one = 1.0F;
  const float zero = 0.0F;
  const int status =
      library_->matmul(handle->second, plan->descriptor, &one, p.b, plan->a, p.a, plan->b, &zero, p.c, plan->c, p.c,
                       plan->c, &plan->algorithm, workspace, plan->workspace, stream_of(context));
  if (status == lt::status_success) return true;
  if (status == lt::status_execution_failed || status == lt::status_internal_error)
    throw DeviceError("a product by " + name() + " failed on " + to_string(context.device) + " (status " +
                      std::to_string(status) + "); CONVEC_CUBLASLT=0 does without the library");
  plan->usable = false;  // not supported after all
  return false;
}

// ---- The library for all products -----------------------------------------------------------------------------------

namespace {

struct Lookup {
  std::mutex mutex;
  std::vector<std::string> files{"libcublasLt.so.13", "libcublasLt.so.12"};
  bool done = false;
  CublasLt* found = nullptr;  // never destroyed
  std::string status;
  std::atomic<CublasLt*> chosen{nullptr};
};

Lookup& lookup() {
  static auto* const the_lookup = new Lookup;
  return *the_lookup;
}

void look(Lookup& l) {
  if (l.done) return;
  l.done = true;
#if defined(CONVEC_CUDA_EMULATION)
  l.status = "the emulated device has no cuBLASLt";
#else
  const char* const named = std::getenv("CONVEC_CUBLASLT");
  if (named != nullptr && std::string(named) == "0") {
    l.status = "CONVEC_CUBLASLT is 0";
    return;
  }
  const std::vector<std::string> files = named == nullptr || *named == '\0' ? l.files : std::vector<std::string>{named};
  for (const std::string& file : files) try {
      l.found = new CublasLt(file);
      l.status = l.found->name();
      l.chosen = l.found;
      return;
    } catch (const DeviceError& error) {
      l.status += (l.status.empty() ? "" : "; ") + std::string(error.what());
    }
#endif
}

}  // namespace

CublasLt* cublas_lt() {
  Lookup& l = lookup();
  {
    const std::lock_guard<std::mutex> lock(l.mutex);
    look(l);
  }
  return l.chosen;
}

std::string cublas_lt_status() {
  Lookup& l = lookup();
  const std::lock_guard<std::mutex> lock(l.mutex);
  look(l);
  return l.status;
}

void add_cublas_lt(const std::string& library) {
  Lookup& l = lookup();
  const std::lock_guard<std::mutex> lock(l.mutex);
  l.files.push_back(library);
}

bool use_cublas_lt(bool use) {
  static_cast<void>(cublas_lt());
  Lookup& l = lookup();
  return l.chosen.exchange(use ? l.found : nullptr) != nullptr;
}

void replace_cublas_lt(CublasLt* library) {
  static_cast<void>(cublas_lt());
  lookup().chosen = library;
}

}  // namespace convec::cuda
