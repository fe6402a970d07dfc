#include "word2vec/encoding.hpp"

#include <algorithm>
#include <utility>

#include "cpu/thread_pool.hpp"

namespace convec::word2vec {

namespace {

struct Encoded {
  std::int64_t size = 0;
  std::int64_t sentences = 0;
};

// Encodes a piece in place, from its ids to the beginning of its memory. `open_words` are in the sentence already.
template <typename Map>
Encoded encode(const Ids& ids, std::int64_t open_words, std::int64_t max_sentence_length, Map&& map) {
  Encoded encoded;
  std::int32_t* to = ids.memory();
  std::int64_t left = max_sentence_length - open_words;  // words until the sentence is cut
  for (const std::int32_t *from = ids.begin(), *end = from + ids.size(); from < end; ++from) {
    if (*from == end_id || *from == empty_id) {
      if (left == max_sentence_length && *from == end_id) continue;  // just cut, or no words
      *to++ = end_id;
      ++encoded.sentences;
      left = max_sentence_length;
      continue;
    }
    const std::int32_t id = map(*from);
    *to = id;
    to += id >= 0;
    if (--left == 0) {
      *to++ = end_id;
      ++encoded.sentences;
      left = max_sentence_length;
    }
  }
  encoded.size = to - ids.memory();
  return encoded;
}

}  // namespace

Encoding::Encoding(const CorpusOptions& options) : corpus_(std::make_shared<Corpus::Impl>(options)) {}

void Encoding::append(Piece* pieces, std::int64_t count, const IdMaps* maps) {
  std::vector<std::int64_t> open(static_cast<std::size_t>(count));
  for (std::int64_t number = 0; number < count; ++number) {
    const Piece& piece = pieces[number];
    open[static_cast<std::size_t>(number)] = open_words_;
    if (piece.max_sentence_length == 0) continue;  // a piece in the midst of a word: it has nothing
    const PieceSummary& summary = piece.summary;
    open_words_ = (summary.has_line_end ? summary.tail_words : open_words_ + summary.words) % piece.max_sentence_length;
    corpus_->raw_words += summary.words;
  }
  std::vector<Encoded> encoded(static_cast<std::size_t>(count));
  cpu::parallel_for(count, [&](std::int64_t number, int) {
    const Piece& piece = pieces[number];
    const auto index = static_cast<std::size_t>(number);
    if (maps == nullptr) {
      encoded[index] = encode(piece.ids, open[index], piece.max_sentence_length, [](std::int32_t id) { return id; });
    } else {
      const std::int32_t* map = (*maps)[static_cast<std::size_t>(piece.worker)].data();
      encoded[index] =
          encode(piece.ids, open[index], piece.max_sentence_length, [map](std::int32_t id) { return map[id]; });
    }
  });
  std::vector<std::int64_t> places(static_cast<std::size_t>(count));
  std::int64_t place = corpus_->ids.size();
  for (std::size_t index = 0; index < encoded.size(); ++index) {
    places[index] = place;
    place += encoded[index].size;
    corpus_->sentences += encoded[index].sentences;
  }
  corpus_->ids.extend(place - corpus_->ids.size());
  cpu::parallel_for(count, [&](std::int64_t number, int) {
    const auto index = static_cast<std::size_t>(number);
    corpus_->ids.write(places[index], pieces[number].ids.memory(), encoded[index].size);
    pieces[number].ids.release();
  });
}

std::shared_ptr<const Corpus::Impl> Encoding::finish() {
  corpus_->ids.finish();
  return std::exchange(corpus_, nullptr);
}

}  // namespace convec::word2vec
