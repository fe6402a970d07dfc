#include <convec/corpus.hpp>

#include <utility>

#include "word2vec/encoding.hpp"
#include "word2vec/text_scanner.hpp"
#include "word2vec/vocabulary.hpp"

namespace convec {

Corpus::Corpus() : impl_(std::make_shared<Impl>(CorpusOptions{0, {}})) {}
Corpus::Corpus(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}
Corpus::~Corpus() = default;
Corpus::Corpus(const Corpus&) = default;
Corpus& Corpus::operator=(const Corpus&) = default;

const std::int32_t* Corpus::tokens() const noexcept { return impl_->ids.data(); }
std::int64_t Corpus::size() const noexcept { return impl_->ids.size(); }
std::int64_t Corpus::words() const noexcept { return impl_->ids.size() - impl_->sentences; }
std::int64_t Corpus::raw_words() const noexcept { return impl_->raw_words; }
std::int64_t Corpus::sentences() const noexcept { return impl_->sentences; }
bool Corpus::spilled() const noexcept { return impl_->ids.spilled(); }

struct CorpusEncoder::Impl final : word2vec::TextScanner {
  Impl(const Vocabulary& vocabulary_, CorpusOptions options_)
      : vocabulary(vocabulary_), options(std::move(options_)), encoding(options) {}

  bool wants_ids() const noexcept override { return true; }
  void identify(int, const char* text, const word2vec::Token* tokens, int count, std::int64_t, std::int64_t,
                std::int32_t* ids) override {
    vocabulary.impl().table.find(text, tokens, count, ids);
  }
  void take(std::vector<word2vec::Piece>& pieces) override {
    encoding.append(pieces.data(), static_cast<std::int64_t>(pieces.size()), nullptr);
  }

  Vocabulary vocabulary;
  CorpusOptions options;
  word2vec::Encoding encoding;
};

CorpusEncoder::CorpusEncoder(const Vocabulary& vocabulary, CorpusOptions options)
    : impl_(std::make_unique<Impl>(vocabulary, std::move(options))) {}
CorpusEncoder::~CorpusEncoder() = default;
CorpusEncoder::CorpusEncoder(CorpusEncoder&&) noexcept = default;
CorpusEncoder& CorpusEncoder::operator=(CorpusEncoder&&) noexcept = default;

void CorpusEncoder::add_file(const std::string& path, const TextOptions& options) { impl_->scan_file(path, options); }
void CorpusEncoder::feed(std::string_view text, const TextOptions& options) { impl_->feed(text, options); }
void CorpusEncoder::end_text() { impl_->end_text(); }
bool CorpusEncoder::text_complete() const noexcept { return impl_->text_complete(); }
void CorpusEncoder::add(const TokenList& tokens, std::int64_t max_sentence_length) {
  impl_->scan(tokens.impl(), max_sentence_length);
}

Corpus CorpusEncoder::finish() {
  impl_->end_text();
  std::shared_ptr<const Corpus::Impl> corpus = impl_->encoding.finish();
  impl_ = std::make_unique<Impl>(impl_->vocabulary, impl_->options);
  return Corpus(std::move(corpus));
}

}  // namespace convec
