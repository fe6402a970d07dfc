// Words and ids: convec._core.WordCounter, Vocabulary, CorpusEncoder and Corpus, behind convec.models.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl/filesystem.h>
#include <pybind11/typing.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <convec/corpus.hpp>
#include <convec/error.hpp>
#include <convec/vocabulary.hpp>

#include "array.hpp"
#include "bindings.hpp"
#include "gil.hpp"
#include "in_use.hpp"

namespace convec::python {

template <>
struct SharedNames<WordCounter> {
  static constexpr const char* noun = "the word counter";
  static constexpr const char* how = "make one for each";
};
template <>
struct SharedNames<CorpusEncoder> {
  static constexpr const char* noun = "the corpus encoder";
  static constexpr const char* how = "make one for each";
};

namespace {

// Bytes that are not UTF-8 become lone surrogates (Python's surrogateescape) and back, so no two words become one.
py::str to_str(std::string_view word) {
  PyObject* object = PyUnicode_DecodeUTF8(word.data(), static_cast<Py_ssize_t>(word.size()), "surrogateescape");
  if (object == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::str>(object);
}

std::string type_name(py::handle object) { return Py_TYPE(object.ptr())->tp_name; }

// UTF-8 of Python strings, without leaving a copy in them as PyUnicode_AsUTF8 does.
class Encoder {
 public:
  // The bytes of a string, valid until the next call. `what` names it in messages.
  // Throws DTypeError for what is no string, ValueError for a surrogate that stands for no byte.
  template <typename Name>
  std::string_view operator()(PyObject* object, Name&& name) {
    if (!PyUnicode_Check(object))
      throw DTypeError(name() + " is " + std::string(py::repr(py::handle(object))) + " of type " + type_name(object) +
                       ", but words must be str; convert it, e.g. str(word)");
    const auto length = static_cast<std::size_t>(PyUnicode_GET_LENGTH(object));
    if (PyUnicode_IS_ASCII(object)) return {reinterpret_cast<const char*>(PyUnicode_1BYTE_DATA(object)), length};
    bytes_.clear();
    const int kind = PyUnicode_KIND(object);
    const void* data = PyUnicode_DATA(object);
    for (std::size_t index = 0; index < length; ++index)
      if (!append(PyUnicode_READ(kind, data, static_cast<Py_ssize_t>(index))))
        throw ValueError(name() + " is " + std::string(py::repr(py::handle(object))) +
                         ", which holds half of a surrogate pair and cannot be written as UTF-8");
    return bytes_;
  }

 private:
  bool append(Py_UCS4 character) {
    const auto push = [this](Py_UCS4 byte) { bytes_.push_back(static_cast<char>(byte)); };
    if (character < 0x80) {
      push(character);
    } else if (character < 0x800) {
      push(0xC0U | (character >> 6U));
      push(0x80U | (character & 0x3FU));
    } else if (character >= 0xDC80 && character <= 0xDCFF) {
      push(character & 0xFFU);
    } else if (character >= 0xD800 && character <= 0xDFFF) {
      return false;
    } else if (character < 0x10000) {
      push(0xE0U | (character >> 12U));
      push(0x80U | ((character >> 6U) & 0x3FU));
      push(0x80U | (character & 0x3FU));
    } else {
      push(0xF0U | (character >> 18U));
      push(0x80U | ((character >> 12U) & 0x3FU));
      push(0x80U | ((character >> 6U) & 0x3FU));
      push(0x80U | (character & 0x3FU));
    }
    return true;
  }

  std::string bytes_;
};

// The items of a sequence or an iterable that is no string, as a list or tuple; a tuple where another thread could
// change a list while its items are borrowed. Throws DTypeError with message() for anything else.
template <typename Message>
py::object fast_sequence(PyObject* object, Message&& message) {
  if (PyUnicode_Check(object) || PyBytes_Check(object) || PyByteArray_Check(object)) throw DTypeError(message());
#ifdef Py_GIL_DISABLED
  PyObject* sequence = PySequence_Tuple(object);
#else
  PyObject* sequence = PySequence_Fast(object, "");
#endif
  if (sequence == nullptr) {
    if (!PyErr_ExceptionMatches(PyExc_TypeError)) throw py::error_already_set();
    PyErr_Clear();
    throw DTypeError(message());
  }
  return py::reinterpret_steal<py::object>(sequence);
}

// Calls use(list) for the sentences (an iterable of sequences of str), in lists of about a million words. A sentence is
// done with before the next is asked for, so an iterator may yield the same list again and again.
template <typename Use>
void for_lists(const py::object& sentences, Use&& use) {
  constexpr std::int64_t most_words = 1024 * 1024;
  constexpr std::int64_t most_bytes = 64 * 1024 * 1024;
  if (PyUnicode_Check(sentences.ptr()) || PyBytes_Check(sentences.ptr()) || !py::isinstance<py::iterable>(sentences))
    throw DTypeError("sentences is a " + type_name(sentences) +
                     ", but must be an iterable of sentences, each a list of str");
  TokenList list;
  Encoder encode;
  const auto flush = [&] {
    {
      const ReleaseGil release;
      use(list);
      list.clear();
    }
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
  };
  std::int64_t number = 0;
  for (const py::handle sentence : sentences) {
    const py::object words = fast_sequence(sentence.ptr(), [&] {
      return "sentences[" + std::to_string(number) + "] is a " + type_name(sentence) + ", but must be a list of str";
    });
    // Sizes are looked at anew: a word's __repr__ or another thread may change the list meanwhile.
    for (Py_ssize_t index = 0; index < PySequence_Fast_GET_SIZE(words.ptr()); ++index)
      list.add(encode(PySequence_Fast_GET_ITEM(words.ptr(), index),
                      [&] { return "sentences[" + std::to_string(number) + "][" + std::to_string(index) + "]"; }));
    list.end_sentence();
    ++number;
    if (list.words() >= most_words || list.bytes() >= most_bytes || list.sentences() >= most_words) flush();
  }
  if (list.sentences() > 0) flush();
}

// A Python callable that C++ may copy and drop without holding the GIL.
std::shared_ptr<const py::object> shared_callable(const py::object& callable) {
  return {new py::object(callable), [](const py::object* object) {
            const AcquireGil acquire;
            delete object;
          }};
}

// Signals are looked at whether or not the user wants progress, so that Ctrl-C stops a long scan at once.
TextOptions text_options(std::int64_t max_sentence_length, std::int64_t max_lines, bool lines,
                         const py::object& progress, double progress_interval) {
  constexpr double signal_interval = 0.05;
  TextOptions options;
  options.max_sentence_length = max_sentence_length;
  options.max_lines = max_lines;
  options.lines = lines;
  options.progress_interval = progress.is_none() ? signal_interval : std::min(progress_interval, signal_interval);
  options.progress = [progress = shared_callable(progress), progress_interval,
                      last = std::chrono::steady_clock::time_point{}](const ScanProgress& state) mutable {
    const AcquireGil acquire;
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
    if (progress->is_none()) return;
    const auto now = std::chrono::steady_clock::now();
    if (std::chrono::duration<double>(now - last).count() < progress_interval) return;
    last = now;
    (*progress)(state.bytes, state.total_bytes, state.raw_words, state.sentences);
  };
  return options;
}

std::string_view bytes_of(const py::buffer_info& info) {
  if (info.ndim > 1 || info.itemsize != 1 || (info.ndim == 1 && info.strides[0] != 1))
    throw DTypeError("text must be bytes (or a contiguous buffer of them)");
  return {static_cast<const char*>(info.ptr), static_cast<std::size_t>(info.size)};
}

template <typename Words>
py::typing::List<py::str> list_of(std::size_t size, Words&& word) {
  py::list list(size);
  for (std::size_t index = 0; index < size; ++index)
    PyList_SET_ITEM(list.ptr(), static_cast<Py_ssize_t>(index), to_str(word(index)).release().ptr());
  return list;
}

py::array_t<std::int64_t> array_of(const std::int64_t* numbers, std::size_t size) {
  py::array_t<std::int64_t> array(static_cast<py::ssize_t>(size));
  std::copy_n(numbers, size, array.mutable_data());
  return array;
}

Vocabulary make_vocabulary(const py::object& words, const py::array_t<std::int64_t>& counts) {
  if (counts.ndim() != 1)
    throw ShapeError("counts has " + std::to_string(counts.ndim()) + " dimensions, but must have 1");
  const py::object sequence =
      fast_sequence(words.ptr(), [&] { return "words is a " + type_name(words) + ", but must be a list of str"; });
  const auto size = static_cast<std::size_t>(PySequence_Fast_GET_SIZE(sequence.ptr()));
  std::string bytes;
  std::vector<std::size_t> ends;
  ends.reserve(size);
  Encoder encode;
  for (std::size_t index = 0; index < size; ++index) {
    bytes += encode(PySequence_Fast_GET_ITEM(sequence.ptr(), static_cast<Py_ssize_t>(index)),
                    [index] { return "words[" + std::to_string(index) + "]"; });
    ends.push_back(bytes.size());
  }
  std::vector<std::string_view> views;
  views.reserve(size);
  for (std::size_t index = 0, begin = 0; index < size; begin = ends[index++])
    views.emplace_back(bytes.data() + begin, ends[index] - begin);
  const std::vector<std::int64_t> numbers(counts.data(), counts.data() + counts.size());
  const ReleaseGil release;
  return {views, numbers};
}

// A view of the ids that keeps them alive.
py::array_t<std::int32_t> tokens_of(const Corpus& corpus) {
  const auto owner = std::make_unique<Corpus>(corpus).release();
  const py::capsule base(owner, [](void* object) { delete static_cast<Corpus*>(object); });
  py::array_t<std::int32_t> array({static_cast<py::ssize_t>(corpus.size())}, corpus.tokens(), base);
  array.attr("setflags")(py::arg("write") = false);
  return array;
}

Shared<WordCounter> make_counter(std::int64_t max_vocab_size, const py::object& prune_rule, bool keep_ids,
                                 std::int64_t memory_limit) {
  WordCounterOptions options;
  options.max_vocab_size = max_vocab_size;
  if (!prune_rule.is_none())
    options.prune_rule = [rule = shared_callable(prune_rule)](std::string_view word, std::int64_t count,
                                                              std::int64_t min_reduce) {
      const AcquireGil acquire;
      return py::cast<bool>((*rule)(to_str(word), count, min_reduce));
    };
  options.keep_ids = keep_ids;
  options.memory_limit = memory_limit;
  return Shared<WordCounter>(WordCounter(std::move(options)));
}

VocabularyOptions vocabulary_options(std::int64_t min_count, std::int64_t max_final_vocab, bool sorted) {
  VocabularyOptions options;
  options.min_count = min_count;
  options.max_final_vocab = max_final_vocab;
  options.sorted = sorted;
  return options;
}

// The methods that counters and encoders share.
template <typename Scanner, typename ScanFile, typename ScanList>
void define_scanning(py::class_<Shared<Scanner>>& type, const char* file_name, ScanFile scan_file,
                     const char* list_name, ScanList scan_list) {
  type.def(
          file_name,
          [scan_file, file_name](Shared<Scanner>& scanner, const std::filesystem::path& path,
                                 std::int64_t max_sentence_length, std::int64_t max_lines, bool lines,
                                 const py::object& progress, double progress_interval) {
            const TextOptions options =
                text_options(max_sentence_length, max_lines, lines, progress, progress_interval);
            const Using use(scanner.in_use, true, file_name);
            const ReleaseGil release;
            (scanner.*scan_file)(path.string(), options);
          },
          py::arg("path"), py::kw_only(), py::arg("max_sentence_length") = 10000, py::arg("max_lines") = -1,
          py::arg("lines") = true, py::arg("progress") = py::none(), py::arg("progress_interval") = 0.1,
          "Reads a text file with all threads. progress(bytes, total_bytes, raw_words, sentences) is called now and "
          "then.")
      .def(
          "feed",
          [](Shared<Scanner>& scanner, const py::buffer& text, std::int64_t max_sentence_length, std::int64_t max_lines,
             bool lines, const py::object& progress, double progress_interval) {
            const TextOptions options =
                text_options(max_sentence_length, max_lines, lines, progress, progress_interval);
            const py::buffer_info info = text.request();
            const std::string_view bytes = bytes_of(info);
            const Using use(scanner.in_use, true, "feed");
            const ReleaseGil release;
            scanner.feed(bytes, options);
          },
          py::arg("text"), py::kw_only(), py::arg("max_sentence_length") = 10000, py::arg("max_lines") = -1,
          py::arg("lines") = true, py::arg("progress") = py::none(), py::arg("progress_interval") = 0.1,
          "Takes a piece of a text that comes in pieces; end_text() ends it. Options of the first piece hold.")
      .def("end_text", changing("end_text", &Scanner::end_text), py::call_guard<ReleaseGil>(),
           "Ends the text that was fed.")
      .def_property_readonly("text_complete", changing("text_complete", &Scanner::text_complete),
                             "Whether max_lines have been fed.")
      .def(
          list_name,
          [scan_list, list_name](Shared<Scanner>& scanner, const py::object& sentences,
                                 std::int64_t max_sentence_length) {
            const Using use(scanner.in_use, true, list_name);
            for_lists(sentences, [&](const TokenList& list) { (scanner.*scan_list)(list, max_sentence_length); });
          },
          py::arg("sentences"), py::arg("max_sentence_length") = 10000,
          "Takes an iterable of lists of str; an empty list is a sentence, too.");
}

}  // namespace

void register_corpus(py::module_& module) {
  py::class_<Vocabulary>(module, "Vocabulary", "Words with ids from 0 on and their counts.")
      .def(py::init(&make_vocabulary), py::arg("words"), py::arg("counts"),
           "From distinct str and their int64 counts; ids in this order.")
      .def("__len__", &Vocabulary::size)
      .def(
          "words",
          [](const Vocabulary& vocabulary) {
            return list_of(static_cast<std::size_t>(vocabulary.size()),
                           [&](std::size_t id) { return vocabulary.word(static_cast<std::int64_t>(id)); });
          },
          "The words by id. Bytes that are not UTF-8 are lone surrogates ('surrogateescape').")
      .def(
          "counts",
          [](const Vocabulary& vocabulary) {
            return array_of(vocabulary.counts(), static_cast<std::size_t>(vocabulary.size()));
          },
          "The counts by id, int64.")
      .def_property_readonly("total_count", &Vocabulary::total_count, "Sum of the counts.")
      .def(
          "find",
          [](const Vocabulary& vocabulary, const py::object& word) {
            Encoder encode;
            return vocabulary.find(encode(word.ptr(), [] { return std::string("word"); }));
          },
          py::arg("word"), "The id of a word, or -1.");

  py::class_<Corpus>(module, "Corpus", "Ids of words, every sentence followed by -1.")
      .def("__len__", &Corpus::size)
      .def("tokens", &tokens_of, "The ids: a read-only int32 array.")
      .def_property_readonly("words", &Corpus::words, "Words that are in the vocabulary.")
      .def_property_readonly("raw_words", &Corpus::raw_words, "All words of the text.")
      .def_property_readonly("sentences", &Corpus::sentences, "Sentences after cutting.")
      .def_property_readonly("spilled", &Corpus::spilled, "Whether the ids live in a temporary file.");

  py::class_<Shared<WordCounter>> counter(module, "WordCounter",
                                          "Counts words in files, pieces of text and lists of words.");
  counter.def(py::init(&make_counter), py::kw_only(), py::arg("max_vocab_size") = 0, py::arg("prune_rule") = py::none(),
              py::arg("keep_ids") = true, py::arg("memory_limit") = -1,
              "prune_rule(word, count, min_reduce) tells whether a word stays when max_vocab_size is exceeded.");
  define_scanning(counter, "count_file", &WordCounter::count_file, "count_sentences", &WordCounter::count);
  counter.def("__len__", changing("len", &WordCounter::size))
      .def_property_readonly("raw_words", changing("raw_words", &WordCounter::raw_words), "Words counted.")
      .def_property_readonly("sentences", changing("sentences", &WordCounter::sentences), "Sentences ended.")
      .def_property_readonly("min_reduce", changing("min_reduce", &WordCounter::min_reduce),
                             "1 plus the number of prunings.")
      .def("words",
           changing(
               "words",
               +[](const WordCounter& words_of) {
                 const std::vector<std::string_view> words = words_of.words();
                 return list_of(words.size(), [&](std::size_t index) { return words[index]; });
               }),
           "Every distinct word, by first appearance.")
      .def("counts",
           changing(
               "counts",
               +[](const WordCounter& counts_of) {
                 const std::vector<std::int64_t> counts = counts_of.counts();
                 return array_of(counts.data(), counts.size());
               }),
           "Their counts, int64.")
      .def("effective_min_count",
           changing(
               "effective_min_count",
               +[](const WordCounter& counts_of, std::int64_t min_count, std::int64_t max_final_vocab) {
                 return counts_of.effective_min_count(vocabulary_options(min_count, max_final_vocab, true));
               }),
           py::arg("min_count") = 5, py::arg("max_final_vocab") = 0, py::call_guard<ReleaseGil>(),
           "The min_count that vocabulary() will use.")
      .def("vocabulary",
           changing(
               "vocabulary",
               +[](const WordCounter& counts_of, std::int64_t min_count, std::int64_t max_final_vocab, bool sorted) {
                 return counts_of.vocabulary(vocabulary_options(min_count, max_final_vocab, sorted));
               }),
           py::arg("min_count") = 5, py::arg("max_final_vocab") = 0, py::arg("sorted") = true,
           py::call_guard<ReleaseGil>(), "The words that occur at least min_count times.")
      .def_property_readonly("has_corpus", changing("has_corpus", &WordCounter::has_corpus),
                             "Whether corpus() is possible.")
      .def("corpus",
           changing(
               "corpus",
               +[](WordCounter& kept, const Vocabulary& vocabulary, std::int64_t memory_limit,
                   const std::string& spill_directory) {
                 return kept.corpus(vocabulary, {memory_limit, spill_directory});
               }),
           py::arg("vocabulary"), py::kw_only(), py::arg("memory_limit") = -1, py::arg("spill_directory") = "",
           py::call_guard<ReleaseGil>(), "What was counted as ids; the kept ids are used up by it.");

  py::class_<Shared<CorpusEncoder>> encoder(module, "CorpusEncoder",
                                            "Encodes files, pieces of text and lists of words.");
  encoder.def(py::init([](const Vocabulary& vocabulary, std::int64_t memory_limit, const std::string& spill_directory) {
                return Shared<CorpusEncoder>(CorpusEncoder(vocabulary, {memory_limit, spill_directory}));
              }),
              py::arg("vocabulary"), py::kw_only(), py::arg("memory_limit") = -1, py::arg("spill_directory") = "");
  define_scanning(encoder, "add_file", &CorpusEncoder::add_file, "add_sentences", &CorpusEncoder::add);
  encoder.def("finish", changing("finish", &CorpusEncoder::finish), py::call_guard<ReleaseGil>(),
              "The corpus so far; the encoder is empty then.");

  module.def(
      "encode_sentences",
      [](const Vocabulary& vocabulary, const py::object& sentences, std::int64_t max_sentence_length) {
        CorpusEncoder encode(vocabulary, {std::numeric_limits<std::int64_t>::max(), {}});
        for_lists(sentences, [&](const TokenList& list) { encode.add(list, max_sentence_length); });
        return tokens_of(encode.finish());
      },
      py::arg("vocabulary"), py::arg("sentences"), py::arg("max_sentence_length") = 10000,
      "Ids of an iterable of lists of str as a read-only int32 array: -1 after every sentence, empty ones included, "
      "and "
      "after "
      "every max_sentence_length words.");
}

}  // namespace convec::python
