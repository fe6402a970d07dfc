#include "word2vec/text_file.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>
#include <vector>

#include <convec/error.hpp>

namespace convec::word2vec {

void throw_io_error(const std::string& path, const char* what, int error) {
  throw IoError(path + ": " + what + ": " + std::generic_category().message(error));
}

TextFile::TextFile(std::string path) : path_(std::move(path)) {
  if (path_.find('\0') != std::string::npos) throw IoError("the path of a text file holds a NUL byte");
  do descriptor_ = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC);
  while (descriptor_ < 0 && errno == EINTR);
  if (descriptor_ < 0) throw_io_error(path_, "cannot open the text file", errno);
  struct stat status{};
  int error = ::fstat(descriptor_, &status) == 0 ? 0 : errno;
  if (error == 0 && S_ISDIR(status.st_mode)) error = EISDIR;
  if (error != 0) {
    ::close(descriptor_);
    throw_io_error(path_, "cannot read the text file", error);
  }
  regular_ = S_ISREG(status.st_mode);
  size_ = regular_ ? status.st_size : 0;
}

TextFile::~TextFile() { ::close(descriptor_); }

void TextFile::read_at(std::int64_t offset, char* buffer, std::int64_t size) const {
  while (size > 0) {
    const ssize_t got = ::pread(descriptor_, buffer, static_cast<std::size_t>(size), offset);
    if (got < 0) {
      if (errno == EINTR) continue;
      throw_io_error(path_, "cannot read the text file", errno);
    }
    if (got == 0)
      throw IoError(path_ + ": the text file was cut short while it was read: it had " + std::to_string(size_) +
                    " bytes, now it ends at " + std::to_string(offset));
    offset += got;
    buffer += got;
    size -= got;
  }
}

std::int64_t TextFile::read_next(char* buffer, std::int64_t size) const {
  constexpr int wait_milliseconds = 50;
  pollfd wanted{descriptor_, POLLIN, 0};
  ssize_t got = ::poll(&wanted, 1, wait_milliseconds);
  if (got == 0) return nothing_yet;
  if (got > 0) got = ::read(descriptor_, buffer, static_cast<std::size_t>(size));
  if (got >= 0) return got;
  if (errno == EINTR || errno == EAGAIN) return nothing_yet;
  throw_io_error(path_, "cannot read the text file", errno);
}

std::int64_t TextFile::bytes_of_lines(std::int64_t lines) const {
  std::vector<char> buffer(std::size_t{1} << 18U);
  for (std::int64_t offset = 0; lines > 0 && offset < size_;) {
    const std::int64_t size = std::min<std::int64_t>(static_cast<std::int64_t>(buffer.size()), size_ - offset);
    read_at(offset, buffer.data(), size);
    for (const char *at = buffer.data(), *end = at + size; at < end; ++at) {
      at = static_cast<const char*>(std::memchr(at, '\n', static_cast<std::size_t>(end - at)));
      if (at == nullptr) break;
      if (--lines == 0) return offset + (at - buffer.data()) + 1;
    }
    offset += size;
  }
  return lines > 0 ? size_ : 0;
}

}  // namespace convec::word2vec
