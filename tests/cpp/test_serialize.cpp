// safetensors files: round trips, every rule of the format, damaged files, and writing that never leaves half a file.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include <convec/error.hpp>
#include <convec/serialize.hpp>

#include "test.hpp"

using convec::ConstTensorView;
using convec::DType;
using convec::DTypeError;
using convec::FileAccess;
using convec::FileMetadata;
using convec::IoError;
using convec::NamedTensor;
using convec::SafetensorsFile;
using convec::Shape;
using convec::ShapeError;
using convec::StoredTensor;
using convec::Tensor;
using convec::ValueError;

namespace {

// A folder that is gone afterwards.
class Folder {
 public:
  Folder() {
    char name[] = "/tmp/convec_test_XXXXXX";
    CHECK(::mkdtemp(name) != nullptr);
    path_ = name;
  }
  ~Folder() {
    for (const std::string& name : names()) std::remove((path_ + "/" + name).c_str());
    ::rmdir(path_.c_str());
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  std::string file(const std::string& name) const { return path_ + "/" + name; }

  std::vector<std::string> names() const {
    std::vector<std::string> found;
    DIR* const folder = ::opendir(path_.c_str());
    if (folder == nullptr) return found;
    while (const dirent* const entry = ::readdir(folder)) {  // NOLINT(concurrency-mt-unsafe): one thread
      const std::string name = entry->d_name;
      if (name != "." && name != "..") found.push_back(name);
    }
    ::closedir(folder);
    return found;
  }

 private:
  std::string path_;
};

std::string slurp(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void spill(const std::string& path, const std::string& bytes) {
  std::ofstream file(path, std::ios::binary);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

// A file of this header and so many bytes of arrays (0, 1, 2, ...).
std::string make_file(const std::string& header, std::size_t data_bytes) {
  const std::uint64_t size = header.size();
  std::string file(8, '\0');
  std::memcpy(file.data(), &size, 8);
  file += header;
  for (std::size_t i = 0; i < data_bytes; ++i) file += static_cast<char>(i);
  return file;
}

// In memory of exactly that size, so that AddressSanitizer sees a read beyond the end.
SafetensorsFile parse(const std::string& bytes) {
  const std::shared_ptr<char> memory(new char[bytes.size()], std::default_delete<char[]>());
  std::memcpy(memory.get(), bytes.data(), bytes.size());
  return {memory, bytes.size()};
}

SafetensorsFile parse(const std::string& header, std::size_t data_bytes) {
  return parse(make_file(header, data_bytes));
}

std::string example() {
  return make_file(R"({"__metadata__":{"a":"b\u00e9\n"},"x":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},)"
                   R"("y":{"dtype":"U8","shape":[3],"data_offsets":[16,19]}}   )",
                   19);
}

template <typename T>
Tensor range(const Shape& shape, DType dtype) {
  Tensor tensor(shape, dtype);
  for (std::int64_t i = 0; i < shape.size(); ++i) static_cast<T*>(tensor.view().data)[i] = static_cast<T>(i * 3 + 1);
  return tensor;
}

bool same(const ConstTensorView& a, const ConstTensorView& b) {
  return a.dtype == b.dtype && a.shape == b.shape &&
         (a.shape.size() == 0 ||
          std::memcmp(a.data, b.data, static_cast<std::size_t>(a.shape.size()) * convec::size_of(a.dtype)) == 0);
}

}  // namespace

TEST(round_trip_of_every_element_type) {
  const Folder folder;
  const std::string path = folder.file("all.safetensors");
  const Tensor tensors[] = {range<float>({3, 5}, DType::float32),         range<double>({7}, DType::float64),
                            range<std::int32_t>({2, 1, 3}, DType::int32), range<std::int64_t>({}, DType::int64),
                            range<std::uint8_t>({11}, DType::uint8),      range<float>({0, 4}, DType::float32)};
  const char* const names[] = {"floats", "doubles", "ints", "scalar", "bytes", "nothing"};
  std::vector<NamedTensor> named;
  for (std::size_t i = 0; i < std::size(tensors); ++i) named.push_back({names[i], tensors[i].view()});
  const FileMetadata metadata{{"format", "pt"}, {"quote\"\\\n\x01", "zw\xC3\xB6lf \xF0\x9F\x98\x80"}};
  convec::save_safetensors(path, named, metadata);

  for (const FileAccess access : {FileAccess::map, FileAccess::read}) {
    const SafetensorsFile file(path, access);
    CHECK(file.metadata() == metadata);
    CHECK_EQ(file.tensors().size(), std::size(tensors));
    for (std::size_t i = 0; i < std::size(tensors); ++i) {
      CHECK(same(file.read(names[i]).view(), tensors[i].view()));
      if (access == FileAccess::map) CHECK(same(file.view(names[i]), tensors[i].view()));
    }
  }
  // Every array lies at a multiple of its element size, and the first one at a multiple of 64.
  const SafetensorsFile file(path);
  CHECK_EQ(file.tensors().front().offset % 64, 0U);
  for (const StoredTensor& tensor : file.tensors())
    if (tensor.bytes > 0)
      CHECK_EQ(tensor.offset % (tensor.bytes / static_cast<std::uint64_t>(tensor.shape.size())), 0U);
  CHECK_EQ(folder.names().size(), 1U);
}

TEST(rows_that_are_far_apart_are_written_close) {
  const Folder folder;
  const std::string path = folder.file("rows.safetensors");
  const Tensor padded = range<float>({5, 16}, DType::float32);
  convec::save_safetensors(path, {{"x", ConstTensorView(padded.f32(), Shape{5, 10}), 16},
                                  {"one", ConstTensorView(padded.f32(), Shape{1, 10}), 16},
                                  {"close", ConstTensorView(padded.f32(), Shape{5, 16}), 16}});
  const SafetensorsFile file(path);
  for (int row = 0; row < 5; ++row)
    for (int column = 0; column < 10; ++column)
      CHECK_EQ(file.view("x").f32()[row * 10 + column], padded.f32()[row * 16 + column]);
  CHECK(same(file.view("close"), padded.view()));
  CHECK_THROWS(convec::save_safetensors(path, {{"x", ConstTensorView(padded.f32(), Shape{5, 16}), 10}}), ShapeError,
               "may not overlap");
  CHECK_THROWS(convec::save_safetensors(path, {{"x", ConstTensorView(padded.f32(), Shape{}), 10}}), ShapeError,
               "no rows");
}

TEST(many_short_rows_are_gathered) {
  const Folder folder;
  const std::string path = folder.file("rows.safetensors");
  // More than one buffer of 8 MB.
  const Tensor padded = range<float>({70000, 48}, DType::float32);
  std::uint64_t last = 0;
  convec::SaveOptions options;
  options.progress = [&last](std::uint64_t done, std::uint64_t all) {
    CHECK(done > last && done <= all);
    CHECK_EQ(all, 70000U * 40 * 4);
    last = done;
  };
  convec::save_safetensors(path, {{"x", ConstTensorView(padded.f32(), Shape{70000, 40}), 48}}, {}, options);
  CHECK_EQ(last, 70000U * 40 * 4);
  const SafetensorsFile file(path);
  const float* x = file.view("x").f32();
  for (std::int64_t row = 0; row < 70000; row += 7)
    CHECK(std::equal(x + row * 40, x + row * 40 + 40, padded.f32() + row * 48));
}

TEST(half_width_floats_become_floats) {
  std::string bytes = make_file(R"({"h":{"dtype":"F16","shape":[7],"data_offsets":[0,14]},)"
                                R"("b":{"dtype":"BF16","shape":[2],"data_offsets":[14,18]},)"
                                R"("d":{"dtype":"F64","shape":[],"data_offsets":[18,26]}})",
                                0);
  // 1, -2, the largest, the smallest normal, the smallest of all, -0, infinity
  const std::uint16_t halves[] = {0x3C00, 0xC000, 0x7BFF, 0x0400, 0x0001, 0x8000, 0x7C00};
  const std::uint16_t brains[] = {0x3F80, 0xC049};
  const double number = 0.1;
  bytes.append(reinterpret_cast<const char*>(halves), sizeof(halves));
  bytes.append(reinterpret_cast<const char*>(brains), sizeof(brains));
  bytes.append(reinterpret_cast<const char*>(&number), sizeof(number));
  const auto halved = parse(bytes);
  const Tensor h = halved.read("h");
  const float expected[] = {1.0F, -2.0F, 65504.0F, 0x1p-14F, 0x1p-24F, -0.0F, std::numeric_limits<float>::infinity()};
  for (int i = 0; i < 7; ++i) CHECK(h.f32()[i] == expected[i] && std::signbit(h.f32()[i]) == std::signbit(expected[i]));
  CHECK_EQ(halved.read("b").f32()[1], -3.140625F);
  Tensor narrow(Shape{});
  halved.read(halved.at("d"), narrow.view());
  CHECK_EQ(narrow.f32()[0], 0.1F);
  CHECK_THROWS(halved.view("h"), DTypeError, "F16");
  Tensor wrong(Shape{7}, DType::int32);
  CHECK_THROWS(halved.read(halved.at("h"), wrong.view()), DTypeError, "int32");
  Tensor shorter(Shape{6});
  CHECK_THROWS(halved.read(halved.at("h"), shorter.view()), ShapeError, "(7,)");
}

TEST(arrays_that_lie_askew_are_aligned) {
  const auto file = parse(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                          R"("b":{"dtype":"F32","shape":[2],"data_offsets":[1,9]},)"
                          R"("e":{"dtype":"F32","shape":[0],"data_offsets":[1,1]}})",
                          9);
  const ConstTensorView view = file.view("b");
  CHECK_EQ(reinterpret_cast<std::uintptr_t>(view.data) % 4, 0U);
  const unsigned char expected[] = {1, 2, 3, 4, 5, 6, 7, 8};
  CHECK(std::memcmp(view.data, expected, 8) == 0);
  CHECK_EQ(file.view("e").shape.size(), 0);
}

TEST(views_outlive_the_file_object) {
  const Folder folder;
  const std::string path = folder.file("x.safetensors");
  const Tensor x = range<float>({1000}, DType::float32);
  convec::save_safetensors(path, {{"x", x.view()}});
  std::shared_ptr<const void> owner;
  ConstTensorView view;
  {
    const SafetensorsFile file(path);
    owner = file.owner();
    view = file.view("x");
  }
  // A mapped file that is replaced stays as it was.
  convec::save_safetensors(path, {});
  CHECK(same(view, x.view()));
}

TEST(names_are_found_or_listed) {
  const auto file = parse(example());
  CHECK(file.find("y") == &file.tensors()[1]);
  CHECK(file.find("z") == nullptr);
  CHECK_EQ(file.metadata().at("a"), "b\xC3\xA9\n");
  CHECK_THROWS(file.at("z"), ValueError, "there is 'x', 'y'");
  CHECK_THROWS(parse("{}", 0).at("z"), ValueError, "nothing");
}

TEST(headers_that_break_a_rule_are_refused) {
  const char* const entry = R"({"dtype":"U8","shape":[4],"data_offsets":[0,4]})";
  const auto with = [entry](const std::string& rest) { return std::string(R"({"x":)") + entry + rest; };
  struct Case {
    std::string header;
    std::size_t data;
    const char* message;
  };
  const Case cases[] = {
      {"", 0, "begins with '{'"},
      {" {}", 0, "begins with '{'"},
      {"[]", 0, "begins with '{'"},
      {"{", 0, "expected a string"},
      {"{} x", 0, "expected the end"},
      {"{}", 1, "the arrays end at"},
      {with("}"), 5, "the arrays end at"},
      {with("}"), 3, "truncated"},
      {with(R"(,"x":{"dtype":"U8","shape":[0],"data_offsets":[4,4]}})"), 4, "occurs twice"},
      {with(R"(,"y":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}})"), 6, "begins at byte"},
      {with(R"(,"y":{"dtype":"U8","shape":[4],"data_offsets":[5,9]}})"), 9, "begins at byte"},
      {with(R"(,"y":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})"), 4, "begins at byte"},
      {with(R"(,"y":{"dtype":"U8","shape":[4],"data_offsets":[4,2]}})"), 4, "must rise"},
      {with(R"(,"__metadata__":{},"__metadata__":{}})"), 4, "occurs twice"},
      {with(R"(,"__metadata__":{"a":"b","a":"c"}})"), 4, "occurs twice"},
      {with(R"(,"__metadata__":{"a":1}})"), 4, "expected a string"},
      {with(R"(,"__metadata__":"a"})"), 4, "expected an object"},
      {with(",}"), 4, "expected a string"},
      {with(" 1}"), 4, "expected ','"},
      {R"({"x":{"dtype":"U8","shape":[4]}})", 4, "lacks"},
      {R"({"x":{"dtype":"U8","dtype":"U8","shape":[4],"data_offsets":[0,4]}})", 4, "dtype occurs twice"},
      {R"({"x":{"dtype":"U8","shape":[4],"data_offsets":[0,4],"z":0}})", 4, "'z'"},
      {R"({"x":{"dtype":"U9","shape":[4],"data_offsets":[0,4]}})", 4, "not known"},
      {R"({"x":{"dtype":"U8","shape":[5],"data_offsets":[0,4]}})", 4, "does not take"},
      {R"({"x":{"dtype":"F32","shape":[2],"data_offsets":[0,7]}})", 7, "does not take"},
      {R"({"x":{"dtype":"F4","shape":[3],"data_offsets":[0,1]}})", 1, "does not take"},
      {R"({"x":{"dtype":"U8","shape":[-4],"data_offsets":[0,4]}})", 4, "not negative"},
      {R"({"x":{"dtype":"U8","shape":[4.0],"data_offsets":[0,4]}})", 4, "whole number"},
      {R"({"x":{"dtype":"U8","shape":[4e0],"data_offsets":[0,4]}})", 4, "whole number"},
      {R"({"x":{"dtype":"U8","shape":[04],"data_offsets":[0,4]}})", 4, "expected"},
      {R"({"x":{"dtype":"U8","shape":4,"data_offsets":[0,4]}})", 4, "an array"},
      {R"({"x":{"dtype":"U8","shape":[4],"data_offsets":[0]}})", 4, "two offsets"},
      {R"({"x":{"dtype":"U8","shape":[4],"data_offsets":[0,4,4]}})", 4, "two offsets"},
      {R"({"x":{"dtype":"U8","shape":[9223372036854775808],"data_offsets":[0,4]}})", 4, "63 bits"},
      {R"({"x":{"dtype":"U8","shape":[9223372036854775807,4],"data_offsets":[0,4]}})", 4, "too large"},
      {R"({"x":{"dtype":"U8","shape":[0,9223372036854775807,4],"data_offsets":[0,0]}})", 0, "too large"},
      {R"({"x":{"dtype":"F64","shape":[1152921504606846975],"data_offsets":[0,4]}})", 4, "does not take"},
      {R"({"x":{"dtype":"U8","shape":[1,1,1,1,1,1,1,1,4],"data_offsets":[0,4]}})", 4, "8 dimensions"},
      {"{\"a\x01\":{}}", 0, "control character"},
      {R"({"\ud800":{}})", 0, "surrogate"},
      {R"({"\udc00":{}})", 0, "surrogate"},
      {R"({"\ud800\u0041":{}})", 0, "surrogate"},
      {R"({"\u12g4":{}})", 0, "hexadecimal"},
      {R"({"\x":{}})", 0, "escape"},
      {R"({"a)", 0, "no end"},
      {R"({"a\)", 0, "no end"},
      {"{\"\xFF\":{}}", 0, "not UTF-8"},
      {"{\"\xC0\x80\":{}}", 0, "not UTF-8"},
      {"{\"\xED\xA0\x80\":{}}", 0, "not UTF-8"},
      {"{\"\xF4\x90\x80\x80\":{}}", 0, "not UTF-8"},
      {"{\"\xC3", 0, "not UTF-8"},
      {std::string("{}\0", 3), 0, "expected the end"},
  };
  for (const Case& one : cases) CHECK_THROWS(parse(one.header, one.data), ValueError, one.message);
  CHECK_EQ(parse(with("}"), 4).tensors().size(), 1U);
  CHECK_EQ(parse("{}", 0).tensors().size(), 0U);
}

TEST(lengths_of_headers_are_checked) {
  CHECK_THROWS(parse(""), ValueError, "at least 8");
  CHECK_THROWS(parse(std::string(7, '\0')), ValueError, "at least 8");
  CHECK_THROWS(parse(std::string(8, '\0')), ValueError, "begins with");
  CHECK_THROWS(parse(std::string(8, '\xFF')), ValueError, "at most 100000000");
  std::string one_too_long = make_file("{}", 0);
  one_too_long[0] = 3;
  CHECK_THROWS(parse(one_too_long), ValueError, "only 2 follow");
}

TEST(every_truncation_is_an_error) {
  const std::string whole = example();
  for (std::size_t size = 0; size < whole.size(); ++size) CHECK_THROWS(parse(whole.substr(0, size)), ValueError, "");
  CHECK_EQ(parse(whole).tensors().size(), 2U);
  CHECK_THROWS(parse(whole + '\0'), ValueError, "the arrays end at");
}

TEST(every_flipped_bit_is_survived) {
  const std::string whole = example();
  int refused = 0;
  for (std::size_t bit = 0; bit < whole.size() * 8; ++bit) {
    std::string damaged = whole;
    damaged[bit / 8] = static_cast<char>(static_cast<unsigned char>(damaged[bit / 8]) ^ 1U << (bit % 8));
    try {
      const auto file = parse(damaged);
      for (const StoredTensor& tensor : file.tensors()) {
        std::vector<char> bytes(static_cast<std::size_t>(tensor.bytes));
        file.read_bytes(tensor, bytes.data());
        CHECK(bytes.empty() || std::memcmp(bytes.data(), file.data(tensor), bytes.size()) == 0);
      }
    } catch (const ValueError&) {
      ++refused;
    }
  }
  CHECK(refused > 500);
}

TEST(deep_nesting_and_braces_are_refused) {
  CHECK_THROWS(parse(std::string(1000000, '{'), 0), ValueError, "expected");
  CHECK_THROWS(parse(R"({"x":)" + std::string(1000000, '['), 0), ValueError, "expected an object");
}

TEST(unwritable_files_leave_nothing_behind) {
  const Folder folder;
  const std::string path = folder.file("x.safetensors");
  const Tensor x = range<float>({100}, DType::float32);
  const std::vector<NamedTensor> tensors{{"x", x.view()}};
  CHECK_THROWS(convec::save_safetensors(folder.file("absent/x"), tensors), IoError, "cannot be written");
  CHECK_THROWS(convec::save_safetensors(folder.file(""), tensors), IoError, "cannot be written");
  CHECK_THROWS(convec::save_safetensors("/dev/full", tensors), IoError, "no regular file");
  CHECK_THROWS(SafetensorsFile(folder.file("absent")), IoError, "cannot be opened");
  CHECK_THROWS(SafetensorsFile(folder.file("")), IoError, "cannot be read");
  CHECK_THROWS(SafetensorsFile("/dev/null"), IoError, "no regular file");
  CHECK_EQ(folder.names().size(), 0U);

  // Stopped in the middle: the old file stays, nothing else does.
  convec::save_safetensors(path, tensors, {{"a", "b"}});
  const std::string before = slurp(path);
  convec::SaveOptions options;
  options.progress = [](std::uint64_t, std::uint64_t) { throw convec::Cancelled("stop"); };
  CHECK_THROWS(convec::save_safetensors(path, tensors, {}, options), convec::Cancelled, "stop");
  CHECK(slurp(path) == before);
  CHECK_EQ(folder.names().size(), 1U);
}

TEST(links_are_followed_and_permissions_kept) {
  const Folder folder;
  const std::string path = folder.file("x");
  const std::string link = folder.file("link");
  convec::save_safetensors(path, {});
  CHECK_EQ(::chmod(path.c_str(), 0640), 0);
  CHECK_EQ(::symlink(path.c_str(), link.c_str()), 0);
  convec::save_safetensors(link, {}, {{"a", "b"}});
  struct stat status{};
  CHECK_EQ(::lstat(link.c_str(), &status), 0);
  CHECK(S_ISLNK(status.st_mode));
  CHECK_EQ(::lstat(path.c_str(), &status), 0);
  CHECK_EQ(status.st_mode & 0777U, 0640U);
  CHECK_EQ(SafetensorsFile(path).metadata().at("a"), "b");
}

TEST(bad_arguments_are_refused_before_the_file_is_touched) {
  const Folder folder;
  const std::string path = folder.file("x");
  const Tensor x = range<float>({2}, DType::float32);
  CHECK_THROWS(convec::save_safetensors(path, {{"x", x.view()}, {"x", x.view()}}), ValueError, "occurs twice");
  CHECK_THROWS(convec::save_safetensors(path, {{"__metadata__", x.view()}}), ValueError, "__metadata__");
  CHECK_THROWS(convec::save_safetensors(path, {{"\xFF", x.view()}}), ValueError, "UTF-8");
  CHECK_THROWS(convec::save_safetensors(path, {}, {{"a", "\xFF"}}), ValueError, "UTF-8");
  CHECK_THROWS(convec::save_safetensors(path, {{"x", ConstTensorView(nullptr, Shape{2})}}), ValueError, "absent");
  ConstTensorView far = x.view();
  far.device = {convec::DeviceType::cuda, 0};
  CHECK_THROWS(convec::save_safetensors(path, {{"x", far}}), convec::DeviceError, "cuda:0");
  CHECK_EQ(folder.names().size(), 0U);
}

TEST(data_of_an_unmapped_file_is_refused) {
  const Folder folder;
  const std::string path = folder.file("x");
  spill(path, example());
  const SafetensorsFile file(path, FileAccess::read);
  CHECK_THROWS(file.view("x"), ValueError, "not mapped");
  CHECK_EQ(file.read("y").shape()[0], 3);
}

TEST_MAIN()
