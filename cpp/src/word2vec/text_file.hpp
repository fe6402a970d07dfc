// A file that is read by several threads at once, without a mapping: one cut short meanwhile is an error, not SIGBUS.
#pragma once

#include <cstdint>
#include <string>

namespace convec::word2vec {

// "<path>: <what>: <the system's message for `error`>", as an IoError.
[[noreturn]] void throw_io_error(const std::string& path, const char* what, int error);

class TextFile {
 public:
  // Throws IoError where the path cannot be opened or is a folder.
  explicit TextFile(std::string path);
  ~TextFile();
  TextFile(const TextFile&) = delete;
  TextFile& operator=(const TextFile&) = delete;

  const std::string& path() const noexcept { return path_; }
  // False: a pipe or a device, which can only be read from front to back.
  bool regular() const noexcept { return regular_; }
  // Bytes when it was opened.
  std::int64_t size() const noexcept { return size_; }

  // Reads exactly `size` bytes at `offset`. Throws IoError, also where the file has become shorter.
  void read_at(std::int64_t offset, char* buffer, std::int64_t size) const;
  // Reads on, up to `size` bytes: 0 at the end, `nothing_yet` where nothing came within a twentieth of a second or a
  // signal did. Throws IoError.
  static constexpr std::int64_t nothing_yet = -1;
  std::int64_t read_next(char* buffer, std::int64_t size) const;
  // Bytes of the first `lines` lines, their ends included.
  std::int64_t bytes_of_lines(std::int64_t lines) const;

 private:
  std::string path_;
  int descriptor_ = -1;
  bool regular_ = false;
  std::int64_t size_ = 0;
};

}  // namespace convec::word2vec
