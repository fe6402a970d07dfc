#include "io/file.hpp"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <convec/error.hpp>

namespace convec::io {

namespace {

// One system call moves no more than this, so that a signal never waits long.
constexpr std::size_t most_at_once = std::size_t{1} << 26U;

std::string folder_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

std::string file_of(const std::string& path) { return path.substr(path.rfind('/') + 1); }

// The file that a path means: what a symbolic link points to, or the path itself.
std::string resolve(const std::string& path) {
  struct stat status{};
  if (::lstat(path.c_str(), &status) != 0 || !S_ISLNK(status.st_mode)) return path;
  const std::unique_ptr<char, void (*)(void*)> real(::realpath(path.c_str(), nullptr), &std::free);
  if (!real) throw_system(path, "cannot be written: its symbolic link leads nowhere", errno);
  return real.get();
}

}  // namespace

Descriptor& Descriptor::operator=(Descriptor&& other) noexcept {
  if (this != &other) {
    close();
    number_ = other.release();
  }
  return *this;
}

int Descriptor::release() noexcept { return std::exchange(number_, -1); }

int Descriptor::close() noexcept {
  const int number = release();
  return number < 0 || ::close(number) == 0 ? 0 : errno;
}

void throw_system(const std::string& path, const char* what, int code) {
  throw IoError("'" + path + "' " + what + ": " + std::generic_category().message(code), code);
}

InputFile::InputFile(std::string path) : path_(std::move(path)) {
  // Not blocking: a FIFO without a writer would hang here.
  descriptor_ = Descriptor(::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (descriptor_.get() < 0) throw_system(path_, "cannot be opened", errno);
  struct stat status{};
  if (::fstat(descriptor_.get(), &status) != 0) throw_system(path_, "cannot be read", errno);
  if (S_ISDIR(status.st_mode)) throw_system(path_, "cannot be read", EISDIR);
  if (!S_ISREG(status.st_mode)) throw IoError("'" + path_ + "' is no regular file, but must be one");
  size_ = static_cast<std::uint64_t>(status.st_size);
}

void InputFile::read(void* to, std::size_t size, std::uint64_t offset) const {
  auto* bytes = static_cast<std::byte*>(to);
  while (size > 0) {
    const ssize_t got = ::pread(descriptor_.get(), bytes, std::min(size, most_at_once), static_cast<off_t>(offset));
    if (got < 0) {
      if (errno == EINTR) continue;
      throw_system(path_, "cannot be read", errno);
    }
    if (got == 0) throw IoError("'" + path_ + "' has become shorter while it was read");
    bytes += got;
    offset += static_cast<std::uint64_t>(got);
    size -= static_cast<std::size_t>(got);
  }
}

std::shared_ptr<const void> InputFile::map() const {
  const auto size = static_cast<std::size_t>(size_);
  void* const memory = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, descriptor_.get(), 0);
  if (memory == MAP_FAILED) throw_system(path_, "cannot be mapped into memory", errno);
  return {memory, [size](void* mapped) { ::munmap(mapped, size); }};
}

AtomicFile::AtomicFile(const std::string& path) : path_(path), target_(resolve(path)) {
  if (file_of(target_).empty()) throw_system(path_, "cannot be written: it names no file", EISDIR);
  struct stat status{};
  const bool replaces = ::stat(target_.c_str(), &status) == 0;
  if (replaces && S_ISDIR(status.st_mode)) throw_system(path_, "cannot be written", EISDIR);
  if (replaces && !S_ISREG(status.st_mode)) throw IoError("'" + path_ + "' is no regular file, but must be one");
  // Unique among the processes and threads of this machine, and, by the clock, on a shared disk.
  static std::atomic<std::uint64_t> counter{0};
  const auto now = static_cast<std::uint64_t>(std::chrono::system_clock::now().time_since_epoch().count());
  constexpr int attempts = 100;
  int code = EEXIST;
  for (int attempt = 0; attempt < attempts && code == EEXIST; ++attempt) {
    // A long name is cut, so that the other name is not too long where the name itself is not.
    temporary_ = folder_of(target_) + "/." + file_of(target_).substr(0, 180) + "." + std::to_string(::getpid()) + "." +
                 std::to_string(now % 1000000007U) + "." + std::to_string(counter++) + ".tmp";
    const int number = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    code = number < 0 ? errno : 0;
    descriptor_ = Descriptor(number);
  }
  if (code != 0) throw_system(path_, "cannot be written", code);
  // Best effort: the file may belong to somebody else.
  if (replaces) static_cast<void>(::fchmod(descriptor_.get(), status.st_mode & 07777U));
}

AtomicFile::~AtomicFile() {
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void AtomicFile::write(const void* bytes, std::size_t size) {
  const auto* from = static_cast<const std::byte*>(bytes);
  while (size > 0) {
    const ssize_t written = ::write(descriptor_.get(), from, std::min(size, most_at_once));
    if (written < 0) {
      if (errno == EINTR) continue;
      throw_system(path_, "cannot be written", errno);
    }
    from += written;
    size -= static_cast<std::size_t>(written);
  }
}

void AtomicFile::commit(bool sync) {
  // Some file systems report a full disk only here.
  if (sync && ::fsync(descriptor_.get()) != 0) throw_system(path_, "cannot be written", errno);
  const int closed = descriptor_.close();
  if (closed != 0) throw_system(path_, "cannot be written", closed);
  if (::rename(temporary_.c_str(), target_.c_str()) != 0) throw_system(path_, "cannot be replaced", errno);
  temporary_.clear();
  if (!sync) return;
  // The name is in the folder, which is a file of its own. Not every file system lets a folder be synchronised.
  const Descriptor folder(::open(folder_of(target_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (folder.get() >= 0) static_cast<void>(::fsync(folder.get()));
}

}  // namespace convec::io
