// Uses what Python trained, without Python: embed IMAGES MODEL VECTORS WORD (make_files.py writes the files).
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include <convec/error.hpp>
#include <convec/serialize.hpp>
#include <convec/vectors.hpp>

namespace {
void classify(const std::string& images_path, const std::string& model_path) {
  const convec::SafetensorsFile images(images_path);
  const auto start = std::chrono::steady_clock::now();
  convec::Network network = convec::load_network(model_path);
  convec::Tensor predicted(network.output_shape().with_batch(1));
  const convec::ConstTensorView all = images.view("images");
  network.predict({all.data, all.dtype, network.input_shape().with_batch(1)}, predicted.view());
  const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - start;
  std::printf("loaded and predicted in %.2f ms; the first image:", took.count());
  for (std::int64_t i = 0; i < predicted.shape().size(); ++i) std::printf(" %.3f", predicted.f32()[i]);
  const convec::Dataset data{all, images.view("labels"), {}};
  std::printf("\nloss before a step of training: %.4f", network.train_batch(data).loss);
  std::printf(", after it: %.4f\n", network.test_batch(data).loss);
}

void neighbours(const std::string& path, const std::string& wanted) {
  const convec::SafetensorsFile file(path);
  const convec::ConstTensorView table = file.view("vectors");
  const auto* keys = static_cast<const char*>(file.view("keys").data);
  const auto* ends = static_cast<const std::int64_t*>(file.view("key_ends").data);
  const convec::VectorTable vectors{table.f32(), table.shape[0], table.shape[1], table.shape[1]};
  const auto word = [&](std::int64_t row) {
    return std::string(keys + (row == 0 ? 0 : ends[row - 1]), keys + ends[row]);
  };
  std::int64_t row = 0;
  while (row < vectors.rows && word(row) != wanted) ++row;
  if (row == vectors.rows) throw convec::ValueError("no vector of '" + wanted + "'");
  std::vector<float> norms(static_cast<std::size_t>(vectors.rows));
  vector_norms(vectors, norms.data());
  std::int64_t found[5];
  float similarities[5];
  const convec::NearestOptions options{5, 0, vectors.rows, nullptr, nullptr, {}};
  nearest_vectors(vectors, norms.data(), vectors.data + row * vectors.stride, 1, options, found, similarities);
  std::string text;
  for (const std::int64_t neighbour : found)
    if (neighbour >= 0 && neighbour != row) text += " " + word(neighbour);
  std::printf("near '%s':%s\n", wanted.c_str(), text.c_str());
}
}  // namespace

int main(int argc, char** argv) try {
  if (argc != 5) return std::fprintf(stderr, "usage: embed IMAGES MODEL VECTORS WORD\n"), 2;
  classify(argv[1], argv[2]);
  neighbours(argv[3], argv[4]);
} catch (const std::exception& error) {
  return std::fprintf(stderr, "%s\n", error.what()), 1;
}
