// Keyed vectors: search, correlations, near spellings and the word2vec file formats.
#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <convec/error.hpp>
#include <convec/vectors.hpp>

#include "array.hpp"
#include "bindings.hpp"
#include "gil.hpp"
#include "in_use.hpp"
#include "vector_arguments.hpp"

namespace convec::python {

template <>
struct SharedNames<Word2VecReader> {
  static constexpr const char* noun = "the reader";
  static constexpr const char* how = "make one for each";
};

namespace {

using std::int64_t;
using SharedReader = Shared<Word2VecReader>;

py::array norms(const py::object& vectors) {
  const py::array array = as_array(vectors, "vectors");
  const VectorTable table = table_of(array);
  py::array_t<float> result = empty({table.rows});
  float* data = result.mutable_data();
  {
    const ReleaseGil release;
    vector_norms(table, data);
  }
  return result;
}

py::array similarities(const py::object& vectors, const py::object& norms, const py::object& queries) {
  const py::array array = as_array(vectors, "vectors");
  const py::array query_array = as_array(queries, "queries");
  const VectorTable table = table_of(array);
  py::array norm_array;
  const float* norm_data = norms_of(norms, table, norm_array);
  const float* query_data = nullptr;
  const int64_t count = queries_of(query_array, table.dim, "queries", query_data);
  py::array_t<float> result = empty({count, table.rows});
  float* data = result.mutable_data();
  {
    const ReleaseGil release;
    vector_similarities(table, norm_data, query_data, count, data);
  }
  return result;
}

py::tuple nearest(const py::object& vectors, const py::object& norms, const py::object& queries, int64_t topn,
                  int64_t begin, int64_t end, const std::vector<std::vector<int64_t>>& excluded) {
  const py::array array = as_array(vectors, "vectors");
  const py::array query_array = as_array(queries, "queries");
  const VectorTable table = table_of(array);
  py::array norm_array;
  const float* norm_data = norms_of(norms, table, norm_array);
  const float* query_data = nullptr;
  const int64_t count = queries_of(query_array, table.dim, "queries", query_data);
  const Search search(topn, begin, end, excluded, count);
  const int64_t width = search.width();
  py::array_t<int64_t> rows({count, width});
  py::array_t<float> values({count, width});
  int64_t* row_data = rows.mutable_data();
  float* value_data = values.mutable_data();
  {
    const ReleaseGil release;
    nearest_vectors(table, norm_data, query_data, count, search.options, row_data, value_data);
  }
  return py::make_tuple(rows, values);
}

// The arguments of a search by products of similarities, and the arrays that keep their memory alive.
struct ProductQuery {
  ProductQuery(const py::object& vectors, const py::object& norm_object, const py::object& positive_object,
               const py::object& negative_object)
      : array(as_array(vectors, "vectors")),
        table(table_of(array)),
        norms(norms_of(norm_object, table, norm_array)),
        terms(positive_object, negative_object, table.dim) {}

  py::array array;
  py::array norm_array;
  VectorTable table;
  const float* norms;
  ProductTerms terms;
};

py::array multiplicative(const py::object& vectors, const py::object& norms, const py::object& positive,
                         const py::object& negative) {
  const ProductQuery query(vectors, norms, positive, negative);
  py::array_t<float> result = empty({query.table.rows});
  float* data = result.mutable_data();
  {
    const ReleaseGil release;
    multiplicative_similarities(query.table, query.norms, query.terms.positive, query.terms.positive_count,
                                query.terms.negative, query.terms.negative_count, data);
  }
  return result;
}

py::tuple nearest_by_product(const py::object& vectors, const py::object& norms, const py::object& positive,
                             const py::object& negative, int64_t topn, int64_t begin, int64_t end,
                             const std::vector<int64_t>& excluded) {
  const ProductQuery query(vectors, norms, positive, negative);
  const Search search(topn, begin, end, {excluded}, 1);
  const int64_t width = search.width();
  py::array_t<int64_t> rows(width);
  py::array_t<float> values(width);
  int64_t* row_data = rows.mutable_data();
  float* value_data = values.mutable_data();
  {
    const ReleaseGil release;
    nearest_multiplicative(query.table, query.norms, query.terms.positive, query.terms.positive_count,
                           query.terms.negative, query.terms.negative_count, search.options, row_data, value_data);
  }
  return py::make_tuple(rows, values);
}

template <Correlation (*correlation)(const double*, const double*, int64_t)>
py::tuple correlate(const py::object& x, const py::object& y) {
  const py::array x_array = as_array(x, "x");
  const py::array y_array = as_array(y, "y");
  const ConstTensorView x_view = view(x_array, "x");
  const ConstTensorView y_view = view(y_array, "y");
  if (x_view.dtype != DType::float64 || y_view.dtype != DType::float64) throw DTypeError("x and y must be float64");
  if (x_view.shape.rank() != 1 || x_view.shape != y_view.shape)
    throw ShapeError("x has shape " + to_string(x_view.shape) + " and y " + to_string(y_view.shape) +
                     ", but both must be (count,)");
  const Correlation result =
      correlation(static_cast<const double*>(x_view.data), static_cast<const double*>(y_view.data), x_view.shape[0]);
  return py::make_tuple(result.statistic, result.pvalue);
}

// The UTF-8 of a str, which lives as long as the object. Throws UnicodeEncodeError for lone surrogates.
std::string_view utf8_of(py::handle text) {
  Py_ssize_t size = 0;
  const char* data = PyUnicode_AsUTF8AndSize(text.ptr(), &size);
  if (data == nullptr) throw py::error_already_set();
  return {data, static_cast<std::size_t>(size)};
}

std::vector<int64_t> spellings(const py::str& wanted, const py::typing::List<py::object>& keys, std::size_t count) {
  // Holds the keys while the lock is released.
  const py::tuple held(keys);
  std::vector<std::string_view> views;
  views.reserve(held.size());
  for (const py::handle key : held) {
    Py_ssize_t size = 0;
    const char* data = PyUnicode_Check(key.ptr()) != 0 ? PyUnicode_AsUTF8AndSize(key.ptr(), &size) : nullptr;
    if (data == nullptr) PyErr_Clear();
    views.emplace_back(data == nullptr ? "" : data, static_cast<std::size_t>(size));
  }
  const std::string_view text = utf8_of(wanted);
  const ReleaseGil release;
  return near_spellings(text, views, count);
}

int64_t read_block(Word2VecReader& reader, const py::buffer& block, int64_t begin, int64_t end, bool last) {
  const py::buffer_info info = block.request();
  if (info.ndim != 1 || info.itemsize != 1) throw DTypeError("block must be bytes");
  if (begin < 0 || end < begin || end > info.size)
    throw ValueError("bytes " + std::to_string(begin) + " to " + std::to_string(end) +
                     " are to be read, but block has " + std::to_string(info.size));
  if (PyErr_CheckSignals() != 0) throw py::error_already_set();
  const ReleaseGil release;
  return static_cast<int64_t>(
      reader.read(static_cast<const char*>(info.ptr) + begin, static_cast<std::size_t>(end - begin), last));
}

// Strings that lie one after the other, and where each ends.
py::typing::List<py::str> decode(const char* text, const int64_t* ends, std::size_t count, const char* encoding,
                                 const char* errors) {
  py::typing::List<py::str> words{py::list(count)};
  int64_t begin = 0;
  for (std::size_t i = 0; i < count; ++i) {
    PyObject* word = PyUnicode_Decode(text + begin, ends[i] - begin, encoding, errors);
    if (word == nullptr) throw py::error_already_set();
    words[i] = py::reinterpret_steal<py::object>(word);
    begin = ends[i];
  }
  return words;
}

py::typing::List<py::str> words_of(const Word2VecReader& reader, const std::string& encoding,
                                   const std::string& errors) {
  return decode(reader.words().data(), reader.word_ends().data(), reader.word_ends().size(), encoding.c_str(),
                errors.c_str());
}

py::typing::List<py::str> decode_strings(const py::object& text, const py::object& ends) {
  const py::array text_array = as_array(text, "text");
  const py::array ends_array = as_array(ends, "ends");
  const ConstTensorView bytes = view(text_array, "text");
  const ConstTensorView stops = view(ends_array, "ends");
  if (bytes.dtype != DType::uint8 || bytes.shape.rank() != 1)
    throw DTypeError("text must be a one-dimensional uint8 array");
  if (stops.dtype != DType::int64 || stops.shape.rank() != 1)
    throw DTypeError("ends must be a one-dimensional int64 array");
  const auto* data = static_cast<const int64_t*>(stops.data);
  int64_t previous = 0;
  for (int64_t i = 0; i < stops.shape[0]; ++i) {
    if (data[i] < previous || data[i] > bytes.shape[0])
      throw ValueError("ends[" + std::to_string(i) + "] is " + std::to_string(data[i]) + ", but must rise from " +
                       std::to_string(previous) + " to at most " + std::to_string(bytes.shape[0]));
    previous = data[i];
  }
  return decode(static_cast<const char*>(bytes.data), data, static_cast<std::size_t>(stops.shape[0]), "utf-8",
                "surrogatepass");
}

py::array vectors_of(Word2VecReader& reader, bool float64) {
  std::unique_ptr<void, void (*)(void*)> memory = reader.take_vectors();
  const std::vector<py::ssize_t> shape{reader.rows(), reader.dim()};
  const py::dtype dtype(float64 ? "float64" : "float32");
  if (memory == nullptr) return {dtype, shape};
  const py::capsule owner(memory.get(), std::free);
  return {dtype, shape, {}, memory.release(), owner};
}

void write(const py::object& vectors, const py::typing::List<py::str>& words, const py::object& order,
           const py::typing::Callable<py::object(py::buffer)>& sink, bool binary, bool header, int64_t total,
           const std::string& prefix) {
  const py::array array = as_array(vectors, "vectors");
  const VectorTable table = table_of(array);
  const py::array order_array = as_array(order, "order");
  const ConstTensorView rows = view(order_array, "order");
  if (rows.dtype != DType::int64 || rows.shape.rank() != 1)
    throw DTypeError("order must be a one-dimensional int64 array");
  const auto* first = static_cast<const int64_t*>(rows.data);
  const std::vector<int64_t> order_rows(first, first + rows.shape[0]);
  const py::tuple held(words);
  std::vector<std::string_view> views;
  views.reserve(held.size());
  for (const py::handle word : held) {
    if (PyUnicode_Check(word.ptr()) == 0) throw DTypeError("words must be of type str");
    views.push_back(utf8_of(word));
  }
  const ReleaseGil release;
  write_word2vec(table, views, order_rows, {binary, header, total, prefix}, [&](const char* data, std::size_t size) {
    const AcquireGil acquire;
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
    sink(py::memoryview::from_memory(data, static_cast<py::ssize_t>(size)));
  });
}

}  // namespace

void register_vectors(py::module_& module) {
  module.def("vector_norms", &norms, py::arg("vectors"), "Euclidean norms of the rows.");
  module.def("vector_similarities", &similarities, py::arg("vectors"), py::arg("norms"), py::arg("queries"),
             "Dot products of queries and rows, divided by the rows' norms unless those are None: (queries, rows).");
  module.def(
      "nearest_vectors", &nearest, py::arg("vectors"), py::arg("norms"), py::arg("queries"), py::kw_only(),
      py::arg("topn"), py::arg("begin"), py::arg("end"), py::arg("excluded") = std::vector<std::vector<int64_t>>{},
      "Rows of [begin, end) most similar to each query, and the similarities: two (queries, topn) arrays; -1 and "
      "NaN where there are fewer.");
  module.def("multiplicative_similarities", &multiplicative, py::arg("vectors"), py::arg("norms"), py::arg("positive"),
             py::arg("negative"), "The multiplicative combination of similarities to several vectors, one a row.");
  module.def("nearest_multiplicative", &nearest_by_product, py::arg("vectors"), py::arg("norms"), py::arg("positive"),
             py::arg("negative"), py::kw_only(), py::arg("topn"), py::arg("begin"), py::arg("end"),
             py::arg("excluded") = std::vector<int64_t>{},
             "Rows with the largest multiplicative similarities, and these.");
  module.def("pearson_correlation", &correlate<pearson_correlation>, py::arg("x"), py::arg("y"),
             "Pearson's correlation and its two-sided p-value.");
  module.def("spearman_correlation", &correlate<spearman_correlation>, py::arg("x"), py::arg("y"),
             "Spearman's rank correlation and its two-sided p-value.");
  module.def("near_spellings", &spellings, py::arg("wanted"), py::arg("keys"), py::arg("count"),
             "Indices of the keys that look most like another.");
  module.def("decode_strings", &decode_strings, py::arg("text"), py::arg("ends"),
             "Strings out of their UTF-8 one after the other, and where each ends.");
  py::class_<SharedReader>(module, "Word2VecReader", "Reads the word2vec formats block by block.")
      .def(py::init([](bool binary, bool no_header, int64_t limit, bool float64, int64_t size, bool pieces) {
             return std::make_unique<SharedReader>(std::in_place,
                                                   Word2VecFormat{binary, no_header, limit, float64, pieces}, size);
           }),
           py::kw_only(), py::arg("binary"), py::arg("no_header"), py::arg("limit"), py::arg("float64"),
           py::arg("size"), py::arg("pieces") = false, "pieces: only what the last call of read found is held.")
      .def("read", changing("read", &read_block), py::arg("block"), py::arg("begin"), py::arg("end"), py::arg("last"),
           "Reads from bytes [begin, end) of a block what is whole; the number of bytes consumed.")
      .def_property_readonly("done", looking("done", &Word2VecReader::done))
      .def_property_readonly("promised", looking("promised", &Word2VecReader::promised))
      .def_property_readonly("rows", looking("rows", &Word2VecReader::rows))
      .def_property_readonly("dim", looking("dim", &Word2VecReader::dim))
      .def("words", looking("words", &words_of), py::arg("encoding"), py::arg("errors"), "The words read.")
      .def("take_vectors", changing("take_vectors", &vectors_of), py::arg("float64"),
           "The vectors read; once, or in pieces once after each call of read.");
  module.def("write_word2vec", &write, py::arg("vectors"), py::arg("words"), py::arg("order"), py::arg("sink"),
             py::kw_only(), py::arg("binary"), py::arg("header"), py::arg("total"), py::arg("prefix"),
             "Passes rows in an order to sink(memoryview) in a word2vec format.");
}

}  // namespace convec::python
