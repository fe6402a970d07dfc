#include "word2vec/id_store.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <limits>
#include <new>
#include <utility>
#include <vector>

#include <convec/error.hpp>

#include "word2vec/text_file.hpp"

namespace convec::word2vec {

namespace {

constexpr auto id_bytes = static_cast<std::int64_t>(sizeof(std::int32_t));
constexpr std::int64_t unknown = std::numeric_limits<std::int64_t>::max();

// The number in a file that holds nothing else, or `unknown`.
std::int64_t number_in(const char* path) {
  std::ifstream file(path);
  std::int64_t number = 0;
  return file >> number ? number : unknown;
}

// The number after `name` in a file of names and numbers, or `unknown`.
std::int64_t number_in(const char* path, const std::string& name) {
  std::ifstream file(path);
  for (std::string word; file >> word;) {
    std::int64_t number = 0;
    if (word == name && file >> number) return number;
  }
  return unknown;
}

bool is_directory(const char* path) {
  struct stat status{};
  return ::stat(path, &status) == 0 && S_ISDIR(status.st_mode);
}

std::string temporary_directory() {
  // NOLINTNEXTLINE(concurrency-mt-unsafe): nothing here changes the environment
  const char* chosen = std::getenv("TMPDIR");
  if (chosen != nullptr && is_directory(chosen)) return chosen;
  // /tmp is memory on many machines, /var/tmp is not.
  return is_directory("/var/tmp") ? "/var/tmp" : "/tmp";
}

}  // namespace

std::int64_t available_memory() {
  std::int64_t available = number_in("/proc/meminfo", "MemAvailable:");
  if (available != unknown) available *= 1024;
  if (available == unknown) {
    const long pages = ::sysconf(_SC_PHYS_PAGES);
    available = pages > 0 ? pages * ::sysconf(_SC_PAGESIZE) / 2 : std::int64_t{1024} * 1024 * 1024;
  }
  const std::int64_t allowed = number_in("/sys/fs/cgroup/memory.max");
  const std::int64_t used = number_in("/sys/fs/cgroup/memory.current");
  if (allowed != unknown && used != unknown) {
    // Pages of files can be dropped.
    const std::int64_t files = number_in("/sys/fs/cgroup/memory.stat", "inactive_file");
    available = std::min(available, std::max<std::int64_t>(allowed - used + (files == unknown ? 0 : files), 0));
  }
  return available;
}

std::int64_t resolve_memory_limit(std::int64_t limit) { return limit < 0 ? available_memory() / 2 : limit; }

IdStore::IdStore(std::int64_t memory_limit, std::string directory)
    : memory_limit_(resolve_memory_limit(memory_limit)), directory_(std::move(directory)) {}

IdStore::~IdStore() {
  if (descriptor_ < 0) {
    std::free(data_);
    return;
  }
  if (data_ != nullptr) ::munmap(data_, static_cast<std::size_t>(size_ * id_bytes));
  ::close(descriptor_);
}

void IdStore::allocate(std::int64_t capacity) {
  // realloc moves large blocks by their page tables, without copying.
  void* memory = std::realloc(data_, static_cast<std::size_t>(std::max<std::int64_t>(capacity, 1) * id_bytes));
  if (memory == nullptr) throw std::bad_alloc();
  data_ = static_cast<std::int32_t*>(memory);
  capacity_ = capacity;
}

void IdStore::spill() {
  const std::string directory = directory_.empty() ? temporary_directory() : directory_;
#if defined(O_TMPFILE)
  descriptor_ = ::open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
#endif
  if (descriptor_ < 0) {  // a file system that has no nameless files
    std::string path = directory + "/convec-corpus-XXXXXX";
    descriptor_ = ::mkostemp(path.data(), O_CLOEXEC);
    if (descriptor_ < 0) throw_io_error(directory, "cannot make a temporary file for the corpus", errno);
    ::unlink(path.c_str());
  }
  directory_ = directory;
  std::int32_t* memory = std::exchange(data_, nullptr);
  capacity_ = unknown;
  try {
    write(0, memory, size_);
  } catch (...) {
    std::free(memory);
    throw;
  }
  std::free(memory);
}

void IdStore::reserve(std::int64_t ids) {
  if (spilled() || size_ + ids <= capacity_) return;
  if ((size_ + ids) * id_bytes > memory_limit_)
    spill();
  else
    allocate(size_ + ids);
}

void IdStore::extend(std::int64_t ids) {
  const std::int64_t wanted = size_ + ids;
  if (!spilled() && wanted > capacity_) {
    if (wanted * id_bytes > memory_limit_)
      spill();
    else
      allocate(std::min(std::max(wanted, 2 * capacity_), memory_limit_ / id_bytes));
  }
  size_ = wanted;
}

void IdStore::write(std::int64_t place, const std::int32_t* ids, std::int64_t count) {
  if (count == 0) return;
  if (data_ != nullptr) {
    std::memcpy(data_ + place, ids, static_cast<std::size_t>(count * id_bytes));
    return;
  }
  const auto* bytes = reinterpret_cast<const char*>(ids);
  std::int64_t left = count * id_bytes;
  std::int64_t offset = place * id_bytes;
  while (left > 0) {
    const ssize_t written = ::pwrite(descriptor_, bytes, static_cast<std::size_t>(left), offset);
    if (written < 0) {
      if (errno == EINTR) continue;
      throw_io_error(directory_, "cannot write the temporary file of the corpus", errno);
    }
    bytes += written;
    offset += written;
    left -= written;
  }
}

void IdStore::finish() {
  if (!spilled()) {
    if (capacity_ != size_ || data_ == nullptr) allocate(size_);
    return;
  }
  if (size_ == 0) return;
  void* memory = ::mmap(nullptr, static_cast<std::size_t>(size_ * id_bytes), PROT_READ, MAP_SHARED, descriptor_, 0);
  if (memory == MAP_FAILED) throw_io_error(directory_, "cannot map the temporary file of the corpus", errno);
  data_ = static_cast<std::int32_t*>(memory);
}

}  // namespace convec::word2vec
