#include "cuda_word2vec.hpp"

#include <cstdint>
#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <convec/cuda/word2vec.hpp>
#include <convec/error.hpp>
#include <convec/word2vec.hpp>

#include "gil.hpp"
#include "word2vec_training.hpp"

namespace convec::python {

namespace {

namespace py = pybind11;

using cuda::TablePrecision;
using cuda::Word2VecDeviceOptions;
using cuda::Word2VecIds;
using cuda::Word2VecOnDevice;

Word2VecDeviceOptions options_of(int device, const std::string& tables, int concurrency, std::int64_t resident_bytes,
                                 std::int64_t piece_tokens) {
  Word2VecDeviceOptions options;
  options.device = device;
  if (tables != "float32" && tables != "bfloat16")
    throw ValueError("tables is '" + tables + "', but must be 'float32' or 'bfloat16'");
  options.tables = tables == "bfloat16" ? TablePrecision::bfloat16 : TablePrecision::float32;
  options.concurrency = concurrency;
  options.resident_bytes = resident_bytes;
  options.piece_tokens = piece_tokens;
  return options;
}

// C-contiguous int32 numbers; nothing is converted.
const py::array& checked(const py::array& tokens) {
  if (!py::isinstance<py::array_t<std::int32_t, py::array::c_style>>(tokens))
    throw DTypeError("tokens must be a C-contiguous array of int32");
  if (tokens.ndim() != 1)
    throw ShapeError("tokens has " + std::to_string(tokens.ndim()) + " dimensions, but must have 1");
  return tokens;
}
const std::int32_t* data_of(const py::array& tokens) { return static_cast<const std::int32_t*>(tokens.data()); }

// What convec._core knows of an array in a device's memory (its cuda_array).
struct DeviceTokens {
  py::object owner;
  ConstTensorView view;
  std::uintptr_t stream = 0;
};

DeviceTokens device_tokens(const py::object& tokens) {
  const py::object found = py::module_::import("convec._core").attr("cuda_array")(tokens, "tokens");
  if (found.is_none()) throw DTypeError("tokens must be a C-contiguous array of int32, of NumPy or on a CUDA device");
  const auto [owner, address, type, size, device, stream] =
      found.cast<std::tuple<py::object, std::uintptr_t, std::string, std::vector<std::int64_t>, int, std::uintptr_t>>();
  if (type != "int32") throw DTypeError("tokens is " + type + ", but must be int32");
  const Shape shape(size.data(), size.size());
  return {owner, {reinterpret_cast<void*>(address), DType::int32, shape, {DeviceType::cuda, device}}, stream};
}

// Ids, and who keeps their memory alive.
struct KeptIds {
  py::object owner;
  std::unique_ptr<Word2VecIds> ids;
};

template <typename Train>
py::dict train(std::int64_t position, std::int64_t epoch, std::int64_t words_done, std::int64_t words_total,
               float alpha, float min_alpha, bool compute_loss, bool deterministic, const py::object& progress,
               double progress_interval, const Train& run) {
  Word2VecTraining training;
  training.position = position;
  training.epoch = epoch;
  training.words_done = words_done;
  training.words_total = words_total;
  training.alpha = alpha;
  training.min_alpha = min_alpha;
  training.compute_loss = compute_loss;
  training.deterministic = deterministic;
  training.progress_interval = progress_interval;
  return train_word2vec(std::move(training), progress, run);
}

}  // namespace

void register_cuda_word2vec(py::module_& module) {
  // Its Word2VecTrainer is this module's too.
  py::module_::import("convec._core");
  // Local: a test may load this module and the emulated one.
  py::class_<KeptIds>(module, "Word2VecIds", py::module_local(),
                      "Word numbers for several epochs, in device memory where they fit. Those of an array that is "
                      "there already (CuPy's, or by __cuda_array_interface__ or DLPack) stay where they are, and must "
                      "not change.")
      .def(py::init([](const Word2VecOnDevice& tables, const py::object& tokens) {
             if (!py::isinstance<py::array>(tokens)) {
               const DeviceTokens there = device_tokens(tokens);
               KeptIds kept{there.owner, nullptr};
               const ReleaseGil release;
               kept.ids = std::make_unique<Word2VecIds>(tables, there.view, reinterpret_cast<void*>(there.stream));
               return kept;
             }
             const auto host = py::reinterpret_borrow<py::array>(tokens);
             const std::int32_t* data = data_of(checked(host));
             const auto size = static_cast<std::int64_t>(host.size());
             KeptIds kept{tokens, nullptr};
             const ReleaseGil release;
             kept.ids = std::make_unique<Word2VecIds>(tables, data, size);
             return kept;
           }),
           py::arg("tables"), py::arg("tokens"))
      .def_property_readonly(
          "resident", [](const KeptIds& kept) { return kept.ids->resident(); }, "Whether they are in device memory.")
      .def("__len__", [](const KeptIds& kept) { return static_cast<std::size_t>(kept.ids->size()); });
  py::class_<Word2VecOnDevice>(module, "Word2VecTables", py::module_local(),
                               "The tables of a convec._core.Word2VecTrainer on a CUDA device.")
      .def(py::init([](SharedWord2Vec& model, int device, const std::string& tables, int concurrency,
                       std::int64_t resident_bytes, std::int64_t piece_tokens) {
             return std::make_unique<Word2VecOnDevice>(
                 model, options_of(device, tables, concurrency, resident_bytes, piece_tokens));
           }),
           py::arg("model"), py::kw_only(), py::arg("device") = 0, py::arg("tables") = "float32",
           py::arg("concurrency") = 0, py::arg("resident_bytes") = -1, py::arg("piece_tokens") = 0,
           py::keep_alive<1, 2>())
      .def_property_readonly("concurrency", &Word2VecOnDevice::concurrency, "Stretches of text in work at once.")
      .def("upload", &Word2VecOnDevice::upload, py::call_guard<ReleaseGil>(),
           "Copies the model's tables to the device.")
      .def("download", &Word2VecOnDevice::download, py::call_guard<ReleaseGil>(),
           "Copies the tables back into the model, which stays as it is where that fails.")
      .def(
          "train",
          [](Word2VecOnDevice& tables, const py::array& tokens, std::int64_t position, std::int64_t epoch,
             std::int64_t words_done, std::int64_t words_total, float alpha, float min_alpha, bool compute_loss,
             bool deterministic, const py::object& progress, double progress_interval) {
            const std::int32_t* data = data_of(checked(tokens));
            const auto size = static_cast<std::int64_t>(tokens.size());
            return train(position, epoch, words_done, words_total, alpha, min_alpha, compute_loss, deterministic,
                         progress, progress_interval,
                         [&](const Word2VecTraining& training) { return tables.train(data, size, training); });
          },
          py::arg("tokens"), py::kw_only(), py::arg("position") = 0, py::arg("epoch") = 0, py::arg("words_done") = 0,
          py::arg("words_total") = 0, py::arg("alpha") = 0.025F, py::arg("min_alpha") = 0.0001F,
          py::arg("compute_loss") = false, py::arg("deterministic") = false, py::arg("progress") = py::none(),
          py::arg("progress_interval") = 0.1, "As Word2VecTrainer.train, on tokens in the host's memory.")
      .def(
          "train",
          [](Word2VecOnDevice& tables, const KeptIds& kept, std::int64_t position, std::int64_t epoch,
             std::int64_t words_done, std::int64_t words_total, float alpha, float min_alpha, bool compute_loss,
             bool deterministic, const py::object& progress, double progress_interval) {
            return train(position, epoch, words_done, words_total, alpha, min_alpha, compute_loss, deterministic,
                         progress, progress_interval,
                         [&](const Word2VecTraining& training) { return tables.train(*kept.ids, training); });
          },
          py::arg("ids"), py::kw_only(), py::arg("position") = 0, py::arg("epoch") = 0, py::arg("words_done") = 0,
          py::arg("words_total") = 0, py::arg("alpha") = 0.025F, py::arg("min_alpha") = 0.0001F,
          py::arg("compute_loss") = false, py::arg("deterministic") = false, py::arg("progress") = py::none(),
          py::arg("progress_interval") = 0.1, "As Word2VecTrainer.train, on word numbers kept for several epochs.");
  module.def(
      "word2vec_memory_needed",
      [](const SharedWord2Vec& model, const std::string& tables) {
        return Word2VecOnDevice::memory_needed(model, options_of(0, tables, 0, -1, 0));
      },
      py::arg("model"), py::kw_only(), py::arg("tables") = "float32",
      "Bytes of device memory that a model needs to be trained, word numbers aside.");
}

}  // namespace convec::python
