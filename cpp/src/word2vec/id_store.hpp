// The ids of a corpus: in memory, or above a limit in a temporary file without a name.
#pragma once

#include <cstdint>
#include <string>

namespace convec::word2vec {

// Bytes this process could still allocate: the system's available memory, or what its control group leaves of it.
std::int64_t available_memory();
// `limit`, or half of available_memory() where it is negative.
std::int64_t resolve_memory_limit(std::int64_t limit);

class IdStore {
 public:
  // `directory` as in CorpusOptions::spill_directory.
  IdStore(std::int64_t memory_limit, std::string directory);
  ~IdStore();
  IdStore(const IdStore&) = delete;
  IdStore& operator=(const IdStore&) = delete;

  // Makes room for so many more ids in one go. Throws IoError where the file cannot be made.
  void reserve(std::int64_t ids);
  // Lengthens the store by `ids` ids, to be written by write(). Throws as reserve().
  void extend(std::int64_t ids);
  // Writes ids at a place within size(); may run on several threads for disjoint places. Throws IoError.
  void write(std::int64_t place, const std::int32_t* ids, std::int64_t count);
  // After the last write: gives back what is not used, or maps the file.
  void finish();

  std::int64_t size() const noexcept { return size_; }
  bool spilled() const noexcept { return descriptor_ >= 0; }
  // Valid after finish().
  const std::int32_t* data() const noexcept { return data_; }

 private:
  void spill();
  void allocate(std::int64_t capacity);

  std::int64_t memory_limit_;
  std::string directory_;
  std::int32_t* data_ = nullptr;
  std::int64_t size_ = 0;
  std::int64_t capacity_ = 0;
  int descriptor_ = -1;
};

}  // namespace convec::word2vec
