// Instruction-set levels: what is detected, chosen and refused.
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include <convec/cpu_features.hpp>
#include <convec/error.hpp>
#include <convec/version.hpp>

#include "test.hpp"

using convec::IsaLevel;

TEST(levels_rise_from_baseline_to_the_detected_one) {
  const std::vector<IsaLevel> levels = convec::available_isas();
  CHECK(!levels.empty());
  CHECK(levels.front() == IsaLevel::baseline);
  CHECK(levels.back() == convec::detected_isa());
  for (std::size_t i = 1; i < levels.size(); ++i) CHECK(levels[i - 1] < levels[i]);
}

TEST(the_environment_may_only_lower_the_level) {
  const char* wanted = std::getenv("CONVEC_ISA");
  if (wanted == nullptr) {
    CHECK(convec::current_isa() == convec::detected_isa());
    return;
  }
  for (const IsaLevel level : convec::available_isas())
    if (std::strcmp(name_of(level), wanted) == 0) CHECK(convec::current_isa() == level);
  CHECK(convec::current_isa() <= convec::detected_isa());
}

TEST(levels_are_set_by_name) {
  const IsaLevel before = convec::current_isa();
  for (const IsaLevel level : convec::available_isas()) {
    convec::set_isa(convec::parse_isa(name_of(level)));
    CHECK(convec::current_isa() == level);
  }
  convec::set_isa(before);
  CHECK_THROWS(convec::parse_isa("sse9"), convec::ValueError, "sse9");
  CHECK_THROWS(convec::parse_isa(""), convec::ValueError, "baseline");
}

TEST(levels_beyond_the_machine_are_refused) {
  if (convec::detected_isa() == IsaLevel::avx512) return;
  CHECK_THROWS(convec::set_isa(IsaLevel::avx512), convec::ValueError, "this machine supports");
}

TEST(the_processor_has_a_name) { CHECK(!convec::cpu_name().empty()); }

TEST(the_version_is_spelled_out) {
  const std::string expected = std::to_string(CONVEC_VERSION_MAJOR) + "." + std::to_string(CONVEC_VERSION_MINOR) + "." +
                               std::to_string(CONVEC_VERSION_PATCH);
  CHECK_EQ(std::string(CONVEC_VERSION), expected);
}

TEST_MAIN()
