#include <cstring>
#include <string>

#include <convec/context.hpp>
#include <convec/error.hpp>

namespace convec {

const char* name_of(MatmulPrecision precision) noexcept {
  switch (precision) {
    case MatmulPrecision::tf32:
      return "tf32";
    case MatmulPrecision::tf32x3:
      return "3xtf32";
    case MatmulPrecision::mixed_bfloat16:
      return "mixed_bfloat16";
    case MatmulPrecision::float32:
      break;
  }
  return "float32";
}

MatmulPrecision parse_matmul_precision(const char* name) {
  for (const MatmulPrecision precision :
       {MatmulPrecision::float32, MatmulPrecision::tf32, MatmulPrecision::tf32x3, MatmulPrecision::mixed_bfloat16})
    if (std::strcmp(name, name_of(precision)) == 0) return precision;
  throw ValueError("matmul_precision is '" + std::string(name) +
                   "', but must be 'float32', 'tf32', '3xtf32' or 'mixed_bfloat16'");
}

}  // namespace convec
