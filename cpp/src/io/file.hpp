// Files: a regular file open for reading, mapped or not, and one that replaces another only when it is complete.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace convec::io {

// Owns a file descriptor.
class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int number) : number_(number) {}
  ~Descriptor() { close(); }
  Descriptor(Descriptor&& other) noexcept : number_(other.release()) {}
  Descriptor& operator=(Descriptor&& other) noexcept;
  int get() const noexcept { return number_; }
  int release() noexcept;
  // Errors of the system's close are returned as errno, 0 for none.
  int close() noexcept;

 private:
  int number_ = -1;
};

// Throws IoError with the system's reason: "'model' cannot be opened: No such file or directory".
[[noreturn]] void throw_system(const std::string& path, const char* what, int code);

class InputFile {
 public:
  // Throws IoError where the file cannot be opened or is no regular file.
  explicit InputFile(std::string path);

  const std::string& path() const noexcept { return path_; }
  std::uint64_t size() const noexcept { return size_; }

  // Bytes [offset, offset + size). Throws IoError where they cannot be read, also because the file became shorter.
  void read(void* to, std::size_t size, std::uint64_t offset) const;

  // The whole file, read-only, mapped as long as the pointer or a copy of it lives. Not for an empty file.
  std::shared_ptr<const void> map() const;

 private:
  std::string path_;
  Descriptor descriptor_;
  std::uint64_t size_ = 0;
};

// A file written under another name in the same folder. commit() puts it in its place; without that it is removed.
class AtomicFile {
 public:
  // Throws IoError where the folder is absent or cannot be written to, or `path` is there and no regular file.
  explicit AtomicFile(const std::string& path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  // Throws IoError, a full disk included.
  void write(const void* bytes, std::size_t size);

  // Renames. `sync`: waits for the disk, before and after. Throws IoError; the old file is untouched then.
  void commit(bool sync);

 private:
  std::string path_;       // as given, for messages
  std::string target_;     // after symbolic links
  std::string temporary_;  // empty once renamed
  Descriptor descriptor_;
};

}  // namespace convec::io
