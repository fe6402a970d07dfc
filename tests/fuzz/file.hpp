// Files that live in memory only.
#pragma once

#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>

#include <sys/mman.h>
#include <unistd.h>

#include "fuzz.hpp"

namespace convec::fuzz {

// A file with these bytes.
class File {
 public:
  explicit File(std::string_view bytes) : descriptor_(::memfd_create("convec_fuzz", MFD_CLOEXEC)) {
    FUZZ_CHECK(descriptor_ >= 0);
    while (!bytes.empty()) {
      const ssize_t count = ::write(descriptor_, bytes.data(), bytes.size());
      FUZZ_CHECK(count > 0);
      bytes.remove_prefix(static_cast<std::size_t>(count));
    }
  }
  ~File() { ::close(descriptor_); }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  std::string path() const { return "/proc/self/fd/" + std::to_string(descriptor_); }

 private:
  int descriptor_;
};

// The bytes of a file that `write` writes to the path it is given.
template <typename Write>
std::string written(Write&& write) {
  char name[] = "/tmp/convec_fuzz_XXXXXX";
  const int descriptor = ::mkstemp(name);
  FUZZ_CHECK(descriptor >= 0);
  ::close(descriptor);
  write(std::string(name));
  std::ifstream stream(name, std::ios::binary);
  std::string bytes(std::istreambuf_iterator<char>(stream), {});
  ::unlink(name);
  return bytes;
}

}  // namespace convec::fuzz
