// Trains word vectors on a GPU through the installed headers, and looks for neighbours there. Without a GPU it says
// why, and ends with status 0.
#include <cstdint>
#include <cstdio>
#include <vector>

#include <convec/cuda.hpp>
#include <convec/cuda/vectors.hpp>
#include <convec/cuda/word2vec.hpp>
#include <convec/error.hpp>
#include <convec/vectors.hpp>
#include <convec/word2vec.hpp>

int main() {
  try {
    std::printf("%d CUDA devices\n", convec::cuda::load());
  } catch (const convec::DeviceError& error) {
    std::printf("not run: %s\n", error.what());
    return 0;
  }
  // Words 0 and 1 are always neighbours, and so are 2 and 3.
  std::vector<std::int32_t> tokens;
  for (int sentence = 0; sentence < 4000; ++sentence) {
    const int first = sentence % 2 * 2;
    for (const int word : {first, first + 1, first, first + 1, -1}) tokens.push_back(word);
  }
  convec::Word2VecOptions options;
  options.vector_size = 32;
  options.sg = true;
  options.window = 1;
  convec::Word2Vec model(options, {4000, 4000, 4000, 4000}, 0.0);
  {
    convec::cuda::Word2VecOnDevice on_device(model);
    convec::Word2VecTraining training;
    training.alpha = 0.1F;
    const auto size = static_cast<std::int64_t>(tokens.size());
    std::printf("%lld words trained\n",
                static_cast<long long>(on_device.train(tokens.data(), size, training).trained_words));
    on_device.download();
  }
  const convec::VectorTable table{static_cast<const float*>(model.vectors().get()), model.vocabulary_size(),
                                  options.vector_size, model.row_stride()};
  std::vector<float> norms(4);
  convec::vector_norms(table, norms.data());
  convec::cuda::VectorsOnDevice vectors(table.rows, table.dim);
  vectors.copy_in(0, table, norms.data());
  convec::NearestOptions search;
  search.topn = 1;
  search.end = table.rows;
  const std::int64_t excluded[] = {2};
  const std::int64_t offsets[] = {0, 1};
  search.excluded = excluded;
  search.excluded_offsets = offsets;
  std::int64_t row = -1;
  float similarity = 0;
  vectors.nearest(table.data + 2 * table.stride, 1, search, &row, &similarity);
  std::printf("nearest to 2: %lld\n", static_cast<long long>(row));
  return row == 3 ? 0 : 1;
}
