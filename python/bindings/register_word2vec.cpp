// The trainer of Word2Vec.
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <convec/error.hpp>
#include <convec/word2vec.hpp>
#include <convec/word2vec_replica.hpp>
#include <convec/word2vec_shared.hpp>

#include "array.hpp"
#include "bindings.hpp"
#include "gil.hpp"
#include "in_use.hpp"
#include "word2vec_training.hpp"

namespace convec::python {

template <>
struct SharedNames<Word2VecReplica> {
  static constexpr const char* noun = "the replica";
  static constexpr const char* how = "make one for each";
};
template <>
struct SharedNames<Word2VecSharedTables> {
  static constexpr const char* noun = "this view of the shared tables";
  static constexpr const char* how = "make one for each";
};

namespace {

std::vector<std::int64_t> to_counts(
    const py::array_t<std::int64_t, py::array::c_style | py::array::forcecast>& counts) {
  if (counts.ndim() != 1)
    throw ShapeError("counts has " + std::to_string(counts.ndim()) + " dimensions, but must have 1");
  return {counts.data(), counts.data() + counts.size()};
}

void check_numbers(const ConstTensorView& array, const Shape& shape, const char* name) {
  if (array.dtype != DType::float32)
    throw DTypeError(std::string(name) + " is " + name_of(array.dtype) + ", but must be float32");
  if (array.shape != shape)
    throw ShapeError(std::string(name) + " has shape " + to_string(array.shape) + ", but must have " +
                     to_string(shape));
}

// The rows of a table without their padding, or None. The array keeps the memory alive, also after set_vocabulary().
py::object table(const std::shared_ptr<void>& memory, const Word2Vec& model) {
  if (memory == nullptr) return py::none();
  const py::dtype dtype(model.options().precision == Precision::float16 ? "float16" : "float32");
  const py::ssize_t item = dtype.itemsize();
  const py::capsule owner(new std::shared_ptr<void>(memory),
                          [](void* pointer) { delete static_cast<std::shared_ptr<void>*>(pointer); });
  return py::array(dtype, {model.vocabulary_size(), model.options().vector_size}, {model.row_stride() * item, item},
                   memory.get(), owner);
}

Precision parse_precision(const std::string& name) {
  if (name == "float32") return Precision::float32;
  if (name == "float16") return Precision::float16;
  throw ValueError("precision is '" + name + "', but must be 'float32' or 'float16'");
}

struct Tokens {
  py::array array;
  const std::int32_t* data;
  std::int64_t size;
};

Tokens to_tokens(py::handle object) {
  Tokens tokens{as_array(object, "tokens"), nullptr, 0};
  const ConstTensorView tokens_view = view(tokens.array, "tokens");
  if (tokens_view.shape.rank() != 1)
    throw ShapeError("tokens has shape " + to_string(tokens_view.shape) + ", but must have one dimension");
  if (tokens_view.dtype != DType::int32)
    throw DTypeError(std::string("tokens is ") + name_of(tokens_view.dtype) + ", but must be int32");
  tokens.data = static_cast<const std::int32_t*>(tokens_view.data);
  tokens.size = tokens_view.shape.size();
  return tokens;
}

// Of the model's own tables, or of shared ones.
template <typename Tables>
py::dict train(Tables& tables, py::handle token_array, std::int64_t position, std::int64_t epoch,
               std::int64_t words_done, std::int64_t words_total, float alpha, float min_alpha, int workers,
               bool compute_loss, bool deterministic, const py::object& progress, double progress_interval) {
  const Tokens tokens = to_tokens(token_array);
  Word2VecTraining training;
  training.position = position;
  training.epoch = epoch;
  training.words_done = words_done;
  training.words_total = words_total;
  training.alpha = alpha;
  training.min_alpha = min_alpha;
  training.workers = workers;
  training.compute_loss = compute_loss;
  training.deterministic = deterministic;
  training.progress_interval = progress_interval;
  return train_word2vec(std::move(training), progress, [&](const Word2VecTraining& settings) {
    return tables.train(tokens.data, tokens.size, settings);
  });
}

// `train` as a method of a class of tables.
template <typename Tables, typename Class>
void define_train(Class& tables, const char* documentation) {
  tables.def("train", changing("train", &train<Tables>), py::arg("tokens"), py::kw_only(), py::arg("position") = 0,
             py::arg("epoch") = 0, py::arg("words_done") = 0, py::arg("words_total") = 0, py::arg("alpha") = 0.025F,
             py::arg("min_alpha") = 0.0001F, py::arg("workers") = 3, py::arg("compute_loss") = false,
             py::arg("deterministic") = false, py::arg("progress") = py::none(), py::arg("progress_interval") = 0.1,
             documentation);
}

Shared<Word2VecSharedTables> share_tables(SharedWord2Vec& model, py::array_t<std::uint8_t> memory) {
  const TensorView bytes = mutable_view(memory, "memory");
  // keep_alive holds the array.
  return Shared<Word2VecSharedTables>({model, std::shared_ptr<void>(bytes.data, [](void*) {}), bytes.shape.size()});
}

Shared<Word2VecReplica> make_replica(const SharedWord2Vec& model, const std::string& name) {
  const Using use(model.in_use, false, "Word2VecReplica");
  std::shared_ptr<void> memory;
  if (name == "vectors") {
    memory = model.vectors();
  } else if (name == "syn1neg") {
    memory = model.syn1neg();
  } else if (name == "syn1") {
    memory = model.syn1();
  } else {
    throw ValueError("name is '" + name + "', but must be 'vectors', 'syn1neg' or 'syn1'");
  }
  const ReleaseGil release;
  return Shared<Word2VecReplica>(
      {std::move(memory), model.options().precision, model.vocabulary_size(), model.row_stride()});
}

// Rows [begin, end) of an order, or of the table.
struct Chosen {
  Chosen(const Word2VecReplica& replica, const py::object& order, std::int64_t first, std::int64_t last)
      : begin(first), end(last) {
    if (!order.is_none()) {
      array = order.cast<py::array_t<std::int64_t, py::array::c_style | py::array::forcecast>>();
      which = array.data();
    }
    const std::int64_t count = order.is_none() ? replica.rows() : static_cast<std::int64_t>(array.size());
    if (begin < 0 || end < begin || end > count)
      throw ValueError("rows [" + std::to_string(begin) + ", " + std::to_string(end) +
                       ") are asked for, but there are " + std::to_string(count));
  }
  py::array_t<std::int64_t, py::array::c_style | py::array::forcecast> array;
  const std::int64_t* which = nullptr;
  std::int64_t begin;
  std::int64_t end;
};

void changes_of(const Word2VecReplica& replica, const py::object& order, std::int64_t begin, std::int64_t end,
                py::handle out, py::handle squares) {
  const Chosen chosen(replica, order, begin, end);
  py::array out_array = as_array(out, "out");
  const TensorView to = mutable_view(out_array, "out");
  check_numbers(to, {end - begin, replica.row_stride()}, "out");
  py::array square_array = as_array(squares, "squares");
  const TensorView sums = mutable_view(square_array, "squares");
  check_numbers(sums, {end - begin}, "squares");
  const ReleaseGil release;
  replica.changes(chosen.which, begin, end, to.f32(), sums.f32());
}

void apply_changes(Word2VecReplica& replica, const py::object& order, std::int64_t begin, std::int64_t end,
                   py::handle changes, py::handle squares, py::handle factors, std::int64_t processes) {
  const Chosen chosen(replica, order, begin, end);
  const py::array change_array = as_array(changes, "changes");
  const py::array factor_array = as_array(factors, "factors");
  const ConstTensorView from = view(change_array, "changes");
  const ConstTensorView by = view(factor_array, "factors");
  const py::array square_array = as_array(squares, "squares");
  const ConstTensorView sums = view(square_array, "squares");
  check_numbers(sums, {end - begin}, "squares");
  check_numbers(from, {end - begin, replica.row_stride()}, "changes");
  check_numbers(by, {end - begin}, "factors");
  const ReleaseGil release;
  replica.apply(chosen.which, begin, end, from.f32(), sums.f32(), by.f32(), processes);
}

}  // namespace

void register_word2vec(py::module_& module) {
  py::class_<SharedWord2Vec> trainer(module, "Word2VecTrainer",
                                     "The tables of a Word2Vec model; see convec.models.Word2Vec.");
  define_train<Word2Vec>(
      trainer,
      "Trains on word numbers (int32, each sentence followed by -1); returns {'trained_words': ..., 'loss': ...}. "
      "progress(words done, alpha) is called now and then; what it raises stops training.");
  trainer
      .def(py::init([](const py::array_t<std::int64_t, py::array::c_style | py::array::forcecast>& counts,
                       std::int64_t vector_size, bool sg, bool hs, int negative, int window, bool shrink_windows,
                       bool cbow_mean, std::uint64_t seed, double sample, double ns_exponent,
                       const std::string& precision) {
             Word2VecOptions options;
             options.vector_size = vector_size;
             options.sg = sg;
             options.hs = hs;
             options.negative = negative;
             options.window = window;
             options.shrink_windows = shrink_windows;
             options.cbow_mean = cbow_mean;
             options.seed = seed;
             options.precision = parse_precision(precision);
             return SharedWord2Vec(Word2Vec(options, to_counts(counts), sample, ns_exponent));
           }),
           py::arg("counts"), py::kw_only(), py::arg("vector_size"), py::arg("sg"), py::arg("hs"), py::arg("negative"),
           py::arg("window"), py::arg("shrink_windows"), py::arg("cbow_mean"), py::arg("seed"), py::arg("sample"),
           py::arg("ns_exponent"), py::arg("precision") = "float32",
           "Allocates and initialises tables for words of the given counts.")
      .def("initialize", changing("initialize", &Word2Vec::initialize), py::arg("seed"),
           "Random vectors, zero output tables.")
      .def(
          "set_vocabulary",
          changing(
              "set_vocabulary",
              +[](Word2Vec& model, const py::array_t<std::int64_t, py::array::c_style | py::array::forcecast>& counts,
                  double sample, double ns_exponent) { model.set_vocabulary(to_counts(counts), sample, ns_exponent); }),
          py::arg("counts"), py::kw_only(), py::arg("sample"), py::arg("ns_exponent"),
          "Another vocabulary: rows below both sizes are kept, further ones initialised. Arrays of the tables taken "
          "before show the old ones.")
      .def_property_readonly_static(
          "piece_alignment", [](const py::object&) { return Word2Vec::piece_alignment; },
          "Pieces of an epoch that begin with the first sentence at or after a multiple of so many tokens give the "
          "result "
          "of an epoch in one call.")
      .def_property_readonly("vectors",
                             looking(
                                 "vectors", +[](const Word2Vec& model) { return table(model.vectors(), model); }),
                             "The words' vectors, float32 (words, vector_size), writable; rows are padded in memory.")
      .def_property_readonly("syn1neg",
                             looking(
                                 "syn1neg", +[](const Word2Vec& model) { return table(model.syn1neg(), model); }),
                             "Output vectors of negative sampling, or None.")
      .def_property_readonly("syn1",
                             looking(
                                 "syn1", +[](const Word2Vec& model) { return table(model.syn1(), model); }),
                             "Vectors of the Huffman tree's inner nodes, or None.")
      .def_property_readonly(
          "sample_int",
          looking(
              "sample_int",
              +[](const Word2Vec& model) {
                const std::vector<std::uint32_t>& thresholds = model.sample_thresholds();
                return py::array_t<std::uint32_t>(static_cast<py::ssize_t>(thresholds.size()), thresholds.data());
              }),
          "Probability that an occurrence of each word survives sub-sampling, in units of 2^-32; empty where nothing "
          "is "
          "sub-sampled.")
      .def("huffman_path",
           looking(
               "huffman_path",
               +[](const Word2Vec& model, std::int64_t word) {
                 std::vector<std::int32_t> points;
                 std::vector<std::uint8_t> codes;
                 model.huffman_path(word, points, codes);
                 return py::make_tuple(
                     py::array_t<std::int32_t>(static_cast<py::ssize_t>(points.size()), points.data()),
                     py::array_t<std::uint8_t>(static_cast<py::ssize_t>(codes.size()), codes.data()));
               }),
           py::arg("word"), "Inner nodes from the root down, and the branch taken at each.")
      .def("score",
           looking(
               "score",
               +[](const Word2Vec& model, py::handle token_array) {
                 const Tokens tokens = to_tokens(token_array);
                 std::vector<double> scores;
                 {
                   const ReleaseGil release;
                   scores = model.score(tokens.data, tokens.size);
                 }
                 return py::array_t<double>(static_cast<py::ssize_t>(scores.size()), scores.data());
               }),
           py::arg("tokens"), "Log probability of each sentence; hierarchical softmax only.");
  py::class_<Shared<Word2VecSharedTables>> tables(
      module, "Word2VecSharedTables",
      "The tables of a trainer in memory that processes of one host share, and train at once.");
  define_train<Word2VecSharedTables>(tables, "As Word2VecTrainer.train, on the shared tables.");
  tables
      .def(py::init(&share_tables), py::arg("trainer"), py::arg("memory").noconvert(), py::keep_alive<1, 2>(),
           py::keep_alive<1, 3>(),
           "memory: uint8, of memory_size() bytes or more, 64-byte aligned, all zero before the first upload().")
      .def_static(
          "memory_size", [](const SharedWord2Vec& model) { return Word2VecSharedTables::memory_size(model); },
          py::arg("trainer"), "Bytes that the tables of a trainer take.")
      .def("upload", changing("upload", &Word2VecSharedTables::upload), "Copies the trainer's tables into the memory.")
      .def("download", changing("download", &Word2VecSharedTables::download),
           "Copies the memory into the trainer's tables.");
  py::class_<Shared<Word2VecReplica>>(
      module, "Word2VecReplica",
      "A table of a trainer of which other processes have copies: its rows as they were when "
      "all were last the same.")
      .def(py::init(&make_replica), py::arg("trainer"), py::arg("name"),
           "Remembers the rows of 'vectors', 'syn1neg' or 'syn1' as they are.")
      .def("__len__", [](const Shared<Word2VecReplica>& replica) { return static_cast<std::size_t>(replica.rows()); })
      .def_property_readonly("row_stride", looking("row_stride", &Word2VecReplica::row_stride),
                             "Numbers of a row, padding included.")
      .def("changes", looking("changes", &changes_of), py::arg("order"), py::arg("begin"), py::arg("end"),
           py::kw_only(), py::arg("out"), py::arg("squares"),
           "Writes by how much the rows order[begin:end] (None: these numbers themselves) have changed to out, float32 "
           "(end - begin, row_stride), and the sums of its squares to squares, float32 (end - begin).")
      .def(
          "apply", changing("apply", &apply_changes), py::arg("order"), py::arg("begin"), py::arg("end"),
          py::arg("changes"), py::arg("squares"), py::arg("factors"), py::arg("processes"),
          "Sets the same rows to what they were plus changes, and remembers them so. changes and squares are sums over "
          "the processes; factors (end - begin) scale changes that are alike, and less the less they are.");
}

}  // namespace convec::python
