// A stand-in for NVIDIA's cuBLASLt that computes on the host, for tests of what convec asks of the library: shapes,
// strides, transposes, epilogues, alignments. It follows the documentation of the cuBLASLt API (CUDA 13), whose names
// and numbers are written out here a second time.
#include "cublas_lt_stand_in.hpp"

#include <cstring>
#include <memory>

namespace {

using convec::test::CublasLtStandIn;

CublasLtStandIn stand_in;

constexpr int success = 0;
constexpr int not_supported = 15;
constexpr int invalid_value = 7;

struct Handle {};
struct Descriptor {
  int compute_type = 0;
  std::int32_t transa = 0;
  std::int32_t transb = 0;
  std::uint32_t epilogue = 1;
  void* bias = nullptr;
};
constexpr int float32 = 0;
constexpr int bfloat16 = 14;
struct Layout {
  int type;
  std::uint64_t rows, columns;
  std::int64_t stride;
};
struct Preference {
  std::uint64_t workspace = 0;
  std::uint32_t reduction = 7;
  std::uint32_t alignments[4] = {256, 256, 256, 256};
};
struct Algorithm {
  std::uint64_t reduction;
  std::uint64_t alignments[4];
  std::uint64_t rest[3];
};
static_assert(sizeof(Algorithm) == 64);
struct HeuristicResult {
  Algorithm algorithm;
  std::size_t workspace;
  int state;
  float waves;
  int reserved[4];
};

constexpr std::size_t own_workspace = 1000;

bool aligned(const void* pointer, std::uint64_t to) { return reinterpret_cast<std::uintptr_t>(pointer) % to == 0; }

template <typename T>
int read(T& to, const void* value, std::size_t bytes) {
  if (bytes != sizeof(T)) return invalid_value;
  std::memcpy(static_cast<void*>(&to), value, bytes);
  return success;
}

float rounded(float value, int compute_type) {
  std::uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof bits);
  if (compute_type == 77) bits = (bits + 0x1000U) & 0xFFFFE000U;                         // 32F_FAST_TF32
  if (compute_type == 75) bits = (bits + 0x7FFFU + ((bits >> 16U) & 1U)) & 0xFFFF0000U;  // 32F_FAST_16BF
  std::memcpy(&value, &bits, sizeof bits);
  return value;
}

// The bits of a number rounded to bfloat16, to the nearest, ties to even.
std::uint32_t bits_of(float value) {
  std::uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof bits);
  return (bits + 0x7FFFU + ((bits >> 16U) & 1U)) & 0xFFFF0000U;
}

struct Product {
  std::uint64_t m, n, k;
  Descriptor descriptor;
  Layout a_layout, b_layout, d_layout;
  const void* a;
  const void* b;
  void* d;
  unsigned char* workspace;

  static float read(const void* matrix, const Layout& layout, std::uint64_t row, std::uint64_t column) {
    const std::uint64_t at = column * static_cast<std::uint64_t>(layout.stride) + row;
    if (layout.type == float32) return static_cast<const float*>(matrix)[at];
    const std::uint32_t bits = std::uint32_t{static_cast<const std::uint16_t*>(matrix)[at]} << 16U;
    float value = 0.0F;
    std::memcpy(&value, &bits, sizeof value);
    return value;
  }

  float a_at(std::uint64_t row, std::uint64_t column) const {
    const std::uint64_t r = descriptor.transa != 0 ? column : row;
    const std::uint64_t c = descriptor.transa != 0 ? row : column;
    return read(a, a_layout, r, c);
  }
  float b_at(std::uint64_t row, std::uint64_t column) const {
    const std::uint64_t r = descriptor.transb != 0 ? column : row;
    const std::uint64_t c = descriptor.transb != 0 ? row : column;
    return read(b, b_layout, r, c);
  }
  void run() const {
    std::memset(workspace, 0xA5, own_workspace);
    auto* const bias = static_cast<float*>(descriptor.bias);
    for (std::uint64_t row = 0; row < m; ++row) {
      for (std::uint64_t column = 0; column < n; ++column) {
        double sum = 0.0;
        for (std::uint64_t i = 0; i < k; ++i)
          sum += double{rounded(a_at(row, i), descriptor.compute_type)} *
                 double{rounded(b_at(i, column), descriptor.compute_type)};
        if ((descriptor.epilogue & 4U) != 0) sum += double{bias[row]};
        if ((descriptor.epilogue & 2U) != 0 && sum < 0.0) sum = 0.0;
        const std::uint64_t at = column * static_cast<std::uint64_t>(d_layout.stride) + row;
        if (d_layout.type == float32)
          static_cast<float*>(d)[at] = static_cast<float>(sum);
        else
          static_cast<std::uint16_t*>(d)[at] = static_cast<std::uint16_t>(bits_of(static_cast<float>(sum)) >> 16U);
      }
      if (descriptor.epilogue != 256) continue;  // BGRADA: sums of A's rows
      double sum = 0.0;
      for (std::uint64_t i = 0; i < k; ++i) sum += double{a_at(row, i)};
      bias[row] = static_cast<float>(sum);
    }
  }
};

// Kept, because a captured step runs again and again.
std::vector<std::unique_ptr<Product>> products;

}  // namespace

#define EXPORTED extern "C" __attribute__((visibility("default")))

EXPORTED CublasLtStandIn* convec_stand_in() { return &stand_in; }

EXPORTED std::size_t cublasLtGetVersion() { return 130205; }

EXPORTED int cublasLtCreate(void** handle) {
  static Handle the_handle;
  *handle = &the_handle;
  return success;
}

EXPORTED int cublasLtMatmulDescCreate(void** made, int compute_type, int scale_type) {
  if (scale_type != 0) return invalid_value;
  auto* descriptor = new Descriptor;
  descriptor->compute_type = compute_type;
  *made = descriptor;
  ++stand_in.objects;
  return success;
}

EXPORTED int cublasLtMatmulDescSetAttribute(void* object, int attribute, const void* value, std::size_t bytes) {
  auto& descriptor = *static_cast<Descriptor*>(object);
  switch (attribute) {
    case 3:
      return read(descriptor.transa, value, bytes);
    case 4:
      return read(descriptor.transb, value, bytes);
    case 7:
      return read(descriptor.epilogue, value, bytes);
    case 8:
      return read(descriptor.bias, value, bytes);
    default:
      return invalid_value;
  }
}

EXPORTED int cublasLtMatmulDescDestroy(void* object) {
  delete static_cast<Descriptor*>(object);
  --stand_in.objects;
  return success;
}

EXPORTED int cublasLtMatrixLayoutCreate(void** made, int type, std::uint64_t rows, std::uint64_t columns,
                                        std::int64_t stride) {
  if ((type != float32 && type != bfloat16) || stride < static_cast<std::int64_t>(rows)) return invalid_value;
  *made = new Layout{type, rows, columns, stride};
  ++stand_in.objects;
  return success;
}

EXPORTED int cublasLtMatrixLayoutDestroy(void* object) {
  delete static_cast<Layout*>(object);
  --stand_in.objects;
  return success;
}

EXPORTED int cublasLtMatmulPreferenceCreate(void** made) {
  *made = new Preference;
  ++stand_in.objects;
  return success;
}

EXPORTED int cublasLtMatmulPreferenceSetAttribute(void* object, int attribute, const void* value, std::size_t bytes) {
  auto& preference = *static_cast<Preference*>(object);
  if (attribute == 1) return read(preference.workspace, value, bytes);
  if (attribute == 3) return read(preference.reduction, value, bytes);
  if (attribute >= 5 && attribute <= 8) return read(preference.alignments[attribute - 5], value, bytes);
  return invalid_value;
}

EXPORTED int cublasLtMatmulPreferenceDestroy(void* object) {
  delete static_cast<Preference*>(object);
  --stand_in.objects;
  return success;
}

EXPORTED int cublasLtMatmulAlgoGetHeuristic(void* /*handle*/, void* descriptor_, void* a_, void* b_, void* c_, void* d_,
                                            void* preference_, int wanted, HeuristicResult* results, int* found) {
  ++stand_in.searches;
  const auto& descriptor = *static_cast<Descriptor*>(descriptor_);
  const auto& a = *static_cast<Layout*>(a_);
  const auto& b = *static_cast<Layout*>(b_);
  const auto& d = *static_cast<Layout*>(d_);
  const auto& preference = *static_cast<Preference*>(preference_);
  *found = 0;
  const std::uint64_t k = descriptor.transa != 0 ? a.rows : a.columns;
  if (wanted < 1 || c_ != d_ || (descriptor.transa != 0 ? a.columns : a.rows) != d.rows ||
      (descriptor.transb != 0 ? b.rows : b.columns) != d.columns || (descriptor.transb != 0 ? b.columns : b.rows) != k)
    return invalid_value;
  const bool vector = (descriptor.epilogue & 4U) != 0 || descriptor.epilogue == 256;
  if (vector != (descriptor.bias != nullptr)) return invalid_value;
  // A bias would be of the result's type, and so would sums.
  if (a.type != b.type || (a.type == float32 && d.type != float32) || (a.type == bfloat16 && vector))
    return invalid_value;
  if (stand_in.nothing_supported || descriptor.epilogue == stand_in.unsupported_epilogue ||
      preference.workspace < own_workspace)
    return not_supported;
  results[0] = {};
  results[0].algorithm.reduction = preference.reduction;
  for (int i = 0; i < 4; ++i) results[0].algorithm.alignments[i] = preference.alignments[i];
  results[0].workspace = own_workspace;
  *found = 1;
  return success;
}

EXPORTED int cublasLtMatmul(void* /*handle*/, void* descriptor_, const void* alpha, const void* a, void* a_layout,
                            const void* b, void* b_layout, const void* beta, const void* c, void* c_layout, void* d,
                            void* d_layout, const Algorithm* algorithm, void* workspace, std::size_t workspace_bytes,
                            void* stream) {
  const auto& descriptor = *static_cast<Descriptor*>(descriptor_);
  const auto& a_is = *static_cast<Layout*>(a_layout);
  const auto& d_is = *static_cast<Layout*>(d_layout);
  if (stand_in.matmul_status != 0) return stand_in.matmul_status;
  if (*static_cast<const float*>(alpha) != 1.0F || *static_cast<const float*>(beta) != 0.0F || c != d ||
      c_layout != d_layout || workspace_bytes < own_workspace || !aligned(workspace, 256) || workspace == nullptr)
    return invalid_value;
  const void* const pointers[] = {a, b, c, d};
  for (int i = 0; i < 4; ++i)
    if (!aligned(pointers[i], algorithm->alignments[i])) return invalid_value;
  const std::uint64_t k = descriptor.transa != 0 ? a_is.rows : a_is.columns;
  stand_in.calls.push_back({d_is.rows, d_is.columns, k, descriptor.transa != 0, descriptor.transb != 0,
                            descriptor.compute_type, descriptor.epilogue,
                            static_cast<std::uint32_t>(algorithm->reduction), workspace_bytes});
  products.push_back(
      std::make_unique<Product>(Product{d_is.rows, d_is.columns, k, descriptor, a_is, *static_cast<Layout*>(b_layout),
                                        d_is, a, b, d, static_cast<unsigned char*>(workspace)}));
  stand_in.launch(stream, [](void* product) { static_cast<Product*>(product)->run(); }, products.back().get());
  return success;
}
