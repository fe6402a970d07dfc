// Safetensors files, in memory and on disk: what is accepted can be read to the last byte, both ways alike.
#include <algorithm>
#include <cstring>
#include <memory>

#include <convec/serialize.hpp>

#include "file.hpp"
#include "fuzz.hpp"

using convec::FileAccess;
using convec::SafetensorsFile;
using convec::StoredTensor;
using convec::Tensor;

namespace {

SafetensorsFile in_memory(std::string_view bytes) {
  const std::shared_ptr<char[]> copy(new char[bytes.size()]);
  std::copy(bytes.begin(), bytes.end(), copy.get());
  return {std::shared_ptr<const void>(copy, copy.get()), bytes.size()};
}

void check(const SafetensorsFile& file, const SafetensorsFile& other, std::string_view bytes) {
  FUZZ_CHECK(file.tensors().size() == other.tensors().size());
  FUZZ_CHECK(file.metadata() == other.metadata());
  for (const StoredTensor& tensor : file.tensors()) {
    FUZZ_CHECK(tensor.bytes <= bytes.size() && tensor.offset <= bytes.size() - tensor.bytes);
    FUZZ_CHECK(file.find(tensor.name) == &tensor);
    std::string copy(static_cast<std::size_t>(tensor.bytes), '\0');
    other.read_bytes(other.at(tensor.name), copy.data());
    FUZZ_CHECK(copy == bytes.substr(static_cast<std::size_t>(tensor.offset), copy.size()));
    FUZZ_CHECK(copy.empty() || std::memcmp(copy.data(), file.data(tensor), copy.size()) == 0);
    convec::fuzz::returns([&] {
      const Tensor values = file.read(tensor.name);
      FUZZ_CHECK(values.shape() == tensor.shape);
      static_cast<void>(file.view(tensor.name));
    });
  }
}

std::vector<std::string> seeds() {
  using convec::DType;
  using convec::Shape;
  const Tensor x(Shape{2, 3});
  const Tensor y(Shape{3}, DType::uint8);
  const Tensor z(Shape{}, DType::float64);
  const Tensor none(Shape{0, 4}, DType::int64);
  std::vector<std::string> all;
  all.push_back(convec::fuzz::written([&](const std::string& path) {
    convec::save_safetensors(path, {{"x", x.view()}, {"y", y.view()}, {"z", z.view()}, {"none", none.view()}},
                             {{"format", "pt"}, {"k\"ey", "\xC3\xA9\n"}}, {false, {}});
  }));
  all.push_back(
      convec::fuzz::written([&](const std::string& path) { convec::save_safetensors(path, {}, {}, {false, {}}); }));
  // Half precision, an array that lies askew, elements of less than a byte.
  const std::string header =
      R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"F16","shape":[2],"data_offsets":[1,5]},)"
      R"("c":{"dtype":"BF16","shape":[1,1],"data_offsets":[5,7]},"d":{"dtype":"F4","shape":[4],"data_offsets":[7,9]},)"
      R"("e":{"dtype":"F64","shape":[],"data_offsets":[9,17]},"f":{"dtype":"BOOL","shape":[2],"data_offsets":[17,19]}})";
  std::string file(8, '\0');
  const std::uint64_t length = header.size();
  std::memcpy(file.data(), &length, sizeof length);
  all.push_back(file + header + std::string(19, '\x3C'));
  return all;
}

}  // namespace

FUZZ_TARGET(safetensors, seeds) {
  const std::string_view bytes = input.rest();
  const convec::fuzz::File file(bytes);
  bool accepted = false;
  const bool one = convec::fuzz::accepts(bytes.size(), [&] {
    const SafetensorsFile loaded = in_memory(bytes);
    accepted = true;
    check(loaded, SafetensorsFile(file.path(), FileAccess::read), bytes);
    check(SafetensorsFile(file.path(), FileAccess::map), loaded, bytes);
  });
  FUZZ_CHECK(one == accepted);
  if (!accepted)
    FUZZ_CHECK(!convec::fuzz::accepts(bytes.size(), [&] { SafetensorsFile(file.path(), FileAccess::read); }));
}
