/// @file cpu_features.hpp
/// Which instruction-set level the CPU kernels run at.
#pragma once

#include <string>
#include <vector>

#include <convec/export.hpp>

namespace convec {

/// Levels in rising order. Each has its own compiled copy of every kernel.
enum class IsaLevel { baseline, avx2, avx512 };

/// "baseline", "avx2", "avx512".
CONVEC_API const char* name_of(IsaLevel level) noexcept;

/// The best level this machine and its operating system support and this library was built with.
CONVEC_API IsaLevel detected_isa() noexcept;

/// Levels that can be chosen here, lowest first.
CONVEC_API std::vector<IsaLevel> available_isas();

/// The level in use: detected_isa(), lowered by the environment variable CONVEC_ISA or by set_isa().
CONVEC_API IsaLevel current_isa() noexcept;

/// Chooses a level. Networks built earlier keep working. Not to be called while an op is running.
/// @throws ValueError the level is not available here.
CONVEC_API void set_isa(IsaLevel level);

/// @throws ValueError the name is not one of the levels.
CONVEC_API IsaLevel parse_isa(const std::string& name);

/// The processor's own name, or "unknown".
CONVEC_API std::string cpu_name();

}  // namespace convec
