/// Tables of a Word2Vec model that several processes of one host train at once.
#pragma once

#include <cstdint>
#include <memory>

#include <convec/export.hpp>
#include <convec/word2vec.hpp>

namespace convec {

/// The tables of a model in memory that processes share, each with a model of the same options and vocabulary. They
/// train like the threads of one process: without locks, but for the most frequent rows, of which each thread changes
/// a copy of its own and now and then adds what changed (Hogwild; Recht et al., 2011). Not thread-safe.
class CONVEC_API Word2VecSharedTables {
 public:
  /// Bytes of memory that the tables of a model take.
  static std::int64_t memory_size(const Word2Vec& model);

  /// @param model whose numbers are trained with; it must outlive this object, at its place. Its own tables change in
  ///        download() alone.
  /// @param memory the same in every process, 64-byte aligned, all zero before the first upload(); kept
  /// @param size of it, in bytes
  /// @throws ValueError there is no memory, too little, or it is not aligned
  Word2VecSharedTables(Word2Vec& model, std::shared_ptr<void> memory, std::int64_t size);
  ~Word2VecSharedTables();
  Word2VecSharedTables(Word2VecSharedTables&&) noexcept;             ///< leaves the other empty
  Word2VecSharedTables& operator=(Word2VecSharedTables&&) noexcept;  ///< leaves the other empty

  /// Copies the model's tables into the memory: once, by one process, before others train.
  /// @throws ValueError the model's vocabulary has another size since
  void upload();
  /// Copies the memory into the model's tables. While others train it is their work in progress.
  /// @throws ValueError as upload()
  void download();
  /// As Word2Vec::train(), on the shared tables and beside other processes.
  /// @throws ValueError as Word2Vec::train() and upload(); `deterministic`, which is not possible here
  Word2VecResult train(const std::int32_t* tokens, std::int64_t size, const Word2VecTraining& training);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace convec
