#include <convec/serialize.hpp>

#include <algorithm>
#include <cstring>
#include <limits>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include <convec/error.hpp>

#include "io/file.hpp"
#include "io/json.hpp"

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "safetensors files are little-endian, and nothing here swaps bytes"
#endif

namespace convec {

namespace {

// The format's own limit.
constexpr std::uint64_t most_header_bytes = 100'000'000;
constexpr std::size_t prefix_bytes = 8;
// So many entries of a std::map stay within the 16 MB that a damaged file may cost beyond its own size.
constexpr std::size_t most_metadata = 65536;
// The array section begins at a multiple of this, for vector loads from a mapped file.
constexpr std::size_t header_alignment = 64;
constexpr std::size_t write_bytes = std::size_t{8} << 20U;
constexpr const char* metadata_key = "__metadata__";

struct TypeInfo {
  const char* name;
  unsigned bits;
  StoredType type;
};

constexpr TypeInfo types[] = {
    {"BOOL", 8, StoredType::boolean},
    {"U8", 8, StoredType::uint8},
    {"I8", 8, StoredType::int8},
    {"U16", 16, StoredType::uint16},
    {"I16", 16, StoredType::int16},
    {"F16", 16, StoredType::float16},
    {"BF16", 16, StoredType::bfloat16},
    {"U32", 32, StoredType::uint32},
    {"I32", 32, StoredType::int32},
    {"F32", 32, StoredType::float32},
    {"U64", 64, StoredType::uint64},
    {"I64", 64, StoredType::int64},
    {"F64", 64, StoredType::float64},
    {"C64", 64, StoredType::complex64},
    {"F8_E4M3", 8, StoredType::float8_e4m3},
    {"F8_E5M2", 8, StoredType::float8_e5m2},
    {"F8_E8M0", 8, StoredType::float8_e8m0},
    {"F6_E2M3", 6, StoredType::float6_e2m3},
    {"F6_E3M2", 6, StoredType::float6_e3m2},
    {"F4", 4, StoredType::float4},
};

const TypeInfo& info_of(StoredType type) noexcept { return types[static_cast<std::size_t>(type)]; }

// Elements of 1 byte and less may lie anywhere.
std::size_t alignment_of(StoredType type) noexcept {
  return type == StoredType::complex64 ? 4 : std::max(info_of(type).bits / 8U, 1U);
}

StoredType stored_type(DType dtype) noexcept {
  switch (dtype) {
    case DType::float32:
      return StoredType::float32;
    case DType::float64:
      return StoredType::float64;
    case DType::int32:
      return StoredType::int32;
    case DType::int64:
      return StoredType::int64;
    case DType::bfloat16:
      return StoredType::bfloat16;
    case DType::uint8:
      break;
  }
  return StoredType::uint8;
}

// The element type of tensor.hpp with the same bytes. Throws DTypeError where there is none.
DType dtype_of(const StoredTensor& tensor) {
  for (const DType dtype : {DType::float32, DType::float64, DType::int32, DType::int64, DType::uint8})
    if (stored_type(dtype) == tensor.type) return dtype;
  throw DTypeError(io::quoted(tensor.name) + " holds " + name_of(tensor.type) +
                   ", which convec has no arrays of; read() converts F16 and BF16 to float32");
}

// ---- Half-width floats ----

float from_bits(std::uint32_t bits) noexcept {
  float value = 0.0F;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

float from_bfloat16(std::uint16_t bits) noexcept { return from_bits(std::uint32_t{bits} << 16U); }

// IEEE 754 binary16; every value of it is a float.
float from_float16(std::uint16_t half) noexcept {
  const std::uint32_t bits = half;
  const std::uint32_t sign = (bits & 0x8000U) << 16U;
  const std::uint32_t exponent = bits >> 10U & 0x1FU;
  const std::uint32_t fraction = bits & 0x3FFU;
  if (exponent == 31) return from_bits(sign | 0x7F800000U | fraction << 13U);
  if (exponent != 0) return from_bits(sign | (exponent + 112U) << 23U | fraction << 13U);
  const float magnitude = static_cast<float>(fraction) * 0x1p-24F;
  return sign == 0 ? magnitude : -magnitude;
}

// ---- The header ----

// Fills tensors and metadata from a header that nothing is known about.
class HeaderParser {
 public:
  HeaderParser(const char* header, std::size_t size, std::uint64_t data_begin, std::uint64_t data_size,
               const std::string& source)
      : json_(header, size, source + ": the header"), source_(source), begin_(data_begin), size_(data_size) {
    // An entry takes at least so many bytes, so a header of nothing but braces makes no room for them.
    constexpr std::size_t shortest_entry = 50;
    const auto braces = static_cast<std::size_t>(std::count(header, header + size, '{'));
    tensors.reserve(std::min(braces, size / shortest_entry + 1));
  }

  std::vector<StoredTensor> tensors;
  FileMetadata metadata;
  std::vector<std::uint32_t> by_name;

  void parse() {
    bool has_metadata = false;
    std::string key;
    json_.begin_object();
    while (json_.next_key(key)) {
      if (key == metadata_key) {
        if (std::exchange(has_metadata, true)) json_.fail("__metadata__ occurs twice");
        parse_metadata();
      } else {
        parse_tensor(std::move(key));
      }
    }
    json_.finish();
    check_layout();
    sort_names();
  }

 private:
  void parse_metadata() {
    std::string key;
    json_.begin_object();
    while (json_.next_key(key)) {
      if (metadata.size() == most_metadata)
        json_.fail("more than " + std::to_string(most_metadata) + " entries of metadata");
      if (metadata.count(key) != 0) json_.fail("the metadata " + io::quoted(key) + " occurs twice");
      std::string value = json_.string();
      metadata.emplace(std::move(key), std::move(value));
    }
  }

  void parse_tensor(std::string name) {
    StoredTensor tensor;
    tensor.name = std::move(name);
    bool has_type = false;
    bool has_shape = false;
    bool has_offsets = false;
    std::uint64_t end = 0;
    const auto once = [this](bool& seen, const std::string& key) {
      if (std::exchange(seen, true)) json_.fail(key + " occurs twice");
    };
    std::string key;
    json_.begin_object();
    while (json_.next_key(key)) {
      if (key == "dtype") {
        once(has_type, key);
        tensor.type = parse_type(json_.string());
      } else if (key == "shape") {
        once(has_shape, key);
        tensor.shape = parse_shape();
      } else if (key == "data_offsets") {
        once(has_offsets, key);
        json_.begin_array();
        if (!json_.next_element()) json_.fail("expected two offsets");
        tensor.offset = static_cast<std::uint64_t>(json_.count());
        if (!json_.next_element()) json_.fail("expected two offsets");
        end = static_cast<std::uint64_t>(json_.count());
        if (json_.next_element()) json_.fail("expected two offsets");
      } else {
        json_.fail("a tensor has the entry " + io::quoted(key) + ", but only dtype, shape and data_offsets");
      }
    }
    const std::string shown = io::quoted(tensor.name);
    if (!has_type || !has_shape || !has_offsets) json_.fail(shown + " lacks its dtype, shape or data_offsets");
    if (tensor.offset > end || end > size_)
      json_.fail(shown + " has the offsets " + std::to_string(tensor.offset) + " to " + std::to_string(end) +
                 ", but they must rise and lie within the file's " + std::to_string(size_) +
                 " bytes of arrays; is the file truncated?");
    tensor.bytes = end - tensor.offset;
    tensor.offset += begin_;
    check_size(tensor);
    tensors.push_back(std::move(tensor));
  }

  StoredType parse_type(const std::string& name) const {
    for (const TypeInfo& info : types)
      if (name == info.name) return info.type;
    json_.fail("the dtype " + io::quoted(name) + " is not known");
  }

  Shape parse_shape() {
    std::int64_t extents[Shape::max_rank] = {};
    std::size_t rank = 0;
    json_.begin_array();
    while (json_.next_element()) {
      if (rank == Shape::max_rank) json_.fail("a shape has more than 8 dimensions");
      extents[rank++] = json_.count();
    }
    return {extents, rank};
  }

  void check_size(const StoredTensor& tensor) const {
    std::uint64_t elements = 0;
    try {
      elements = static_cast<std::uint64_t>(tensor.shape.size());
    } catch (const ShapeError& error) {
      throw ValueError(source_ + ": " + io::quoted(tensor.name) + ": " + error.what());
    }
    const std::uint64_t bits = info_of(tensor.type).bits;
    // In this order nothing overflows: a file is shorter than 2^60 bytes.
    if (elements > tensor.bytes * 8 / bits || elements * bits != tensor.bytes * 8)
      json_.fail(io::quoted(tensor.name) + " is " + name_of(tensor.type) + " of shape " + to_string(tensor.shape) +
                 ", which does not take " + std::to_string(tensor.bytes) + " bytes");
  }

  // The arrays must cover the file's rest without gaps and overlaps.
  void check_layout() {
    by_name.resize(tensors.size());
    for (std::size_t i = 0; i < by_name.size(); ++i) by_name[i] = static_cast<std::uint32_t>(i);
    std::sort(by_name.begin(), by_name.end(), [this](std::uint32_t a, std::uint32_t b) {
      return std::pair(tensors[a].offset, tensors[a].bytes) < std::pair(tensors[b].offset, tensors[b].bytes);
    });
    std::uint64_t end = begin_;
    for (const std::uint32_t index : by_name) {
      const StoredTensor& tensor = tensors[index];
      if (tensor.offset != end)
        throw ValueError(source_ + ": " + io::quoted(tensor.name) + " begins at byte " + std::to_string(tensor.offset) +
                         ", but the array before it ends at " + std::to_string(end));
      end += tensor.bytes;
    }
    if (end != begin_ + size_)
      throw ValueError(source_ + ": the arrays end at byte " + std::to_string(end) + ", but the file at " +
                       std::to_string(begin_ + size_));
  }

  void sort_names() {
    std::sort(by_name.begin(), by_name.end(),
              [this](std::uint32_t a, std::uint32_t b) { return tensors[a].name < tensors[b].name; });
    for (std::size_t i = 1; i < by_name.size(); ++i)
      if (tensors[by_name[i]].name == tensors[by_name[i - 1]].name)
        throw ValueError(source_ + ": " + io::quoted(tensors[by_name[i]].name) + " occurs twice");
  }

  io::JsonReader json_;
  const std::string& source_;
  std::uint64_t begin_;
  std::uint64_t size_;
};

}  // namespace

const char* name_of(StoredType type) noexcept { return info_of(type).name; }

// ---- Reading ----

struct SafetensorsFile::Impl {
  std::string source;                   // "'model.safetensors'"
  std::unique_ptr<io::InputFile> file;  // null for a file in memory
  std::shared_ptr<const void> memory;   // null where the file is not mapped
  std::vector<StoredTensor> tensors;
  std::vector<std::uint32_t> by_name;
  FileMetadata metadata;
  // Arrays that do not lie at a multiple of their element size, by offset. operator new aligns for all of them.
  std::unordered_map<std::uint64_t, std::unique_ptr<std::byte[]>> aligned;

  const std::byte* at(const StoredTensor& tensor) const {
    return static_cast<const std::byte*>(memory.get()) + tensor.offset;
  }

  void copy(void* to, std::size_t size, std::uint64_t offset) const {
    if (size == 0) return;
    if (file)
      file->read(to, size, offset);
    else
      std::memcpy(to, static_cast<const std::byte*>(memory.get()) + offset, size);
  }

  void parse(std::uint64_t size) {
    std::uint64_t header_size = 0;
    if (size < prefix_bytes)
      throw ValueError(source + " has " + std::to_string(size) +
                       " bytes, but a safetensors file has at least 8; is it truncated?");
    copy(&header_size, prefix_bytes, 0);
    if (header_size > most_header_bytes)
      throw ValueError(source + " says that its header has " + std::to_string(header_size) +
                       " bytes, but at most 100000000 are allowed; it is no safetensors file, or damaged");
    if (header_size > size - prefix_bytes)
      throw ValueError(source + " says that its header has " + std::to_string(header_size) + " bytes, but only " +
                       std::to_string(size - prefix_bytes) + " follow; it is truncated or no safetensors file");
    if (size >> 60U != 0) throw ValueError(source + " is larger than 2^60 bytes");
    const auto length = static_cast<std::size_t>(header_size);
    const std::unique_ptr<char[]> header(new char[length + 1]);
    copy(header.get(), length, prefix_bytes);
    if (length == 0 || header[0] != '{')
      throw ValueError(source + " has no header that begins with '{'; it is no safetensors file");
    HeaderParser parser(header.get(), length, prefix_bytes + header_size, size - prefix_bytes - header_size, source);
    parser.parse();
    tensors = std::move(parser.tensors);
    by_name = std::move(parser.by_name);
    metadata = std::move(parser.metadata);
  }

  void align() {
    for (const StoredTensor& tensor : tensors) {
      const std::byte* const bytes = at(tensor);
      if (tensor.bytes == 0 || reinterpret_cast<std::uintptr_t>(bytes) % alignment_of(tensor.type) == 0) continue;
      std::unique_ptr<std::byte[]>& moved = aligned[tensor.offset];
      moved.reset(new std::byte[static_cast<std::size_t>(tensor.bytes)]);
      std::memcpy(moved.get(), bytes, static_cast<std::size_t>(tensor.bytes));
    }
  }
};

SafetensorsFile::SafetensorsFile(const std::string& path, FileAccess access) {
  const auto impl = std::make_shared<Impl>();
  impl->source = io::quoted(path);
  impl->file = std::make_unique<io::InputFile>(path);
  impl->parse(impl->file->size());
  if (access == FileAccess::map) {
    impl->memory = impl->file->map();
    impl->align();
  }
  impl_ = impl;
}

SafetensorsFile::SafetensorsFile(std::shared_ptr<const void> bytes, std::size_t size) {
  const auto impl = std::make_shared<Impl>();
  impl->source = "a file in memory";
  impl->memory = std::move(bytes);
  impl->parse(size);
  impl->align();
  impl_ = impl;
}

SafetensorsFile::~SafetensorsFile() = default;
SafetensorsFile::SafetensorsFile(SafetensorsFile&&) noexcept = default;
SafetensorsFile& SafetensorsFile::operator=(SafetensorsFile&&) noexcept = default;

const std::vector<StoredTensor>& SafetensorsFile::tensors() const noexcept { return impl_->tensors; }
const FileMetadata& SafetensorsFile::metadata() const noexcept { return impl_->metadata; }
std::shared_ptr<const void> SafetensorsFile::owner() const noexcept { return impl_; }

const StoredTensor* SafetensorsFile::find(const std::string& name) const noexcept {
  const auto& tensors = impl_->tensors;
  const auto found =
      std::lower_bound(impl_->by_name.begin(), impl_->by_name.end(), name,
                       [&tensors](std::uint32_t index, const std::string& key) { return tensors[index].name < key; });
  return found != impl_->by_name.end() && tensors[*found].name == name ? &tensors[*found] : nullptr;
}

const StoredTensor& SafetensorsFile::at(const std::string& name) const {
  const StoredTensor* const tensor = find(name);
  if (tensor != nullptr) return *tensor;
  constexpr std::size_t most_listed = 8;
  std::string listed;
  for (std::size_t i = 0; i < std::min(impl_->tensors.size(), most_listed); ++i)
    listed += (i == 0 ? "" : ", ") + io::quoted(impl_->tensors[i].name);
  if (impl_->tensors.size() > most_listed) listed += ", ...";
  throw ValueError(impl_->source + " holds no " + io::quoted(name) + "; there is " +
                   (listed.empty() ? "nothing in it" : listed));
}

const void* SafetensorsFile::data(const StoredTensor& tensor) const {
  if (!impl_->memory) throw ValueError(impl_->source + " is not mapped; open it with FileAccess::map");
  const auto moved = impl_->aligned.find(tensor.offset);
  // An empty array at the same offset has no bytes to point to, so which of the two is found does not matter.
  return moved == impl_->aligned.end() ? impl_->at(tensor) : moved->second.get();
}

ConstTensorView SafetensorsFile::view(const std::string& name) const {
  const StoredTensor& tensor = at(name);
  return {data(tensor), dtype_of(tensor), tensor.shape};
}

void SafetensorsFile::read_bytes(const StoredTensor& tensor, void* output) const {
  impl_->copy(output, static_cast<std::size_t>(tensor.bytes), tensor.offset);
}

void SafetensorsFile::read(const StoredTensor& tensor, TensorView output) const {
  if (output.shape != tensor.shape)
    throw ShapeError("output has shape " + to_string(output.shape) + ", but " + io::quoted(tensor.name) + " in " +
                     impl_->source + " has " + to_string(tensor.shape));
  if (output.device.type != DeviceType::cpu)
    throw DeviceError("output is on " + to_string(output.device) + ", but files are read into host memory");
  if (stored_type(output.dtype) == tensor.type) return read_bytes(tensor, output.data);
  const bool convertible =
      tensor.type == StoredType::float16 || tensor.type == StoredType::bfloat16 || tensor.type == StoredType::float64;
  if (output.dtype != DType::float32 || !convertible)
    throw DTypeError(io::quoted(tensor.name) + " in " + impl_->source + " holds " + name_of(tensor.type) +
                     ", which is not read as " + name_of(output.dtype));
  constexpr std::size_t chunk = 8192;
  alignas(8) std::byte buffer[chunk * sizeof(double)];
  const std::size_t size = info_of(tensor.type).bits / 8U;
  const auto elements = static_cast<std::size_t>(tensor.shape.size());
  float* to = output.f32();
  for (std::size_t done = 0; done < elements; done += chunk) {
    const std::size_t count = std::min(chunk, elements - done);
    impl_->copy(buffer, count * size, tensor.offset + done * size);
    for (std::size_t i = 0; i < count; ++i) {
      if (tensor.type == StoredType::float64) {
        double value = 0.0;
        std::memcpy(&value, buffer + i * size, size);
        to[done + i] = static_cast<float>(value);
      } else {
        std::uint16_t bits = 0;
        std::memcpy(&bits, buffer + i * size, size);
        to[done + i] = tensor.type == StoredType::float16 ? from_float16(bits) : from_bfloat16(bits);
      }
    }
  }
}

Tensor SafetensorsFile::read(const std::string& name) const {
  const StoredTensor& tensor = at(name);
  const bool half = tensor.type == StoredType::float16 || tensor.type == StoredType::bfloat16;
  Tensor copy(tensor.shape, half ? DType::float32 : dtype_of(tensor));
  read(tensor, copy.view());
  return copy;
}

// ---- Writing ----

namespace {

void check_text(const std::string& text, const char* what) {
  if (!io::is_utf8(text.data(), text.size()))
    throw ValueError(std::string(what) + " " + io::quoted(text) + " is not UTF-8 text, but must be");
}

// Elements of a row and of the way to the next; both the whole array where it is contiguous.
struct Rows {
  std::int64_t count = 1;
  std::int64_t length = 0;
  std::int64_t stride = 0;
};

Rows rows_of(const NamedTensor& tensor) {
  const std::int64_t size = tensor.view.shape.size();
  if (tensor.row_stride == 0 || size == 0) return {1, size, size};
  if (tensor.view.shape.rank() == 0)
    throw ShapeError("row_stride of " + io::quoted(tensor.name) + " is given, but a scalar has no rows");
  const std::int64_t count = tensor.view.shape[0];
  if (tensor.row_stride < size / count)
    throw ShapeError("row_stride of " + io::quoted(tensor.name) + " is " + std::to_string(tensor.row_stride) +
                     ", but a row has " + std::to_string(size / count) + " elements and rows may not overlap");
  if (tensor.row_stride == size / count) return {1, size, size};
  return {count, size / count, tensor.row_stride};
}

void check(const NamedTensor& tensor) {
  check_text(tensor.name, "the name");
  if (tensor.name == metadata_key) throw ValueError("an array is called __metadata__, a name the format keeps");
  if (tensor.view.device.type != DeviceType::cpu)
    throw DeviceError(io::quoted(tensor.name) + " is on " + to_string(tensor.view.device) +
                      ", but files are written from host memory; copy it there");
  if (!tensor.view.present() && tensor.view.shape.size() != 0)
    throw ValueError(io::quoted(tensor.name) + " is absent, but an array to save must have data");
}

std::string make_header(const std::vector<const NamedTensor*>& order, const FileMetadata& metadata) {
  io::JsonWriter json;
  json.begin_object();
  if (!metadata.empty()) {
    json.key(metadata_key).begin_object();
    for (const auto& [key, value] : metadata) {
      check_text(key, "the metadata");
      check_text(value, "the metadata");
      json.key(key).value(value);
    }
    json.end_object();
  }
  std::int64_t offset = 0;
  for (const NamedTensor* tensor : order) {
    const std::int64_t bytes = tensor->view.shape.size() * static_cast<std::int64_t>(size_of(tensor->view.dtype));
    if (bytes > std::numeric_limits<std::int64_t>::max() - offset)
      throw ShapeError("the arrays together do not fit 63 bits of bytes");
    json.key(tensor->name).begin_object();
    json.key("dtype").value(name_of(stored_type(tensor->view.dtype)));
    json.key("shape").begin_array();
    for (const std::int64_t extent : tensor->view.shape) json.value(extent);
    json.end_array();
    json.key("data_offsets").begin_array().value(offset).value(offset + bytes).end_array();
    json.end_object();
    offset += bytes;
  }
  json.end_object();
  std::string header = json.text();
  header.append((header_alignment - (prefix_bytes + header.size()) % header_alignment) % header_alignment, ' ');
  return header;
}

// Writes arrays and tells the progress.
class ArrayWriter {
 public:
  ArrayWriter(io::AtomicFile& file, const SaveOptions& options, std::uint64_t all)
      : file_(file), options_(options), all_(all) {}

  void write(const NamedTensor& tensor) {
    const Rows rows = rows_of(tensor);
    const std::size_t size = size_of(tensor.view.dtype);
    const auto length = static_cast<std::size_t>(rows.length) * size;
    const auto stride = static_cast<std::size_t>(rows.stride) * size;
    const auto* from = static_cast<const std::byte*>(tensor.view.data);
    if (rows.count == 1 || length >= write_bytes) {
      for (std::int64_t row = 0; row < rows.count; ++row, from += stride) put(from, length);
      return;
    }
    // Short rows are gathered, so that there is not a system call for each.
    const std::size_t together = write_bytes / length;
    std::vector<std::byte> buffer(std::min(together, static_cast<std::size_t>(rows.count)) * length);
    for (auto left = static_cast<std::size_t>(rows.count); left > 0;) {
      const std::size_t count = std::min(together, left);
      for (std::size_t row = 0; row < count; ++row, from += stride)
        std::memcpy(buffer.data() + row * length, from, length);
      put(buffer.data(), count * length);
      left -= count;
    }
  }

 private:
  void put(const std::byte* bytes, std::size_t size) {
    while (size > 0) {
      const std::size_t piece = std::min(size, write_bytes);
      file_.write(bytes, piece);
      bytes += piece;
      size -= piece;
      done_ += piece;
      if (options_.progress) options_.progress(done_, all_);
    }
  }

  io::AtomicFile& file_;
  const SaveOptions& options_;
  std::uint64_t done_ = 0;
  std::uint64_t all_;
};

}  // namespace

void save_safetensors(const std::string& path, const std::vector<NamedTensor>& tensors, const FileMetadata& metadata,
                      const SaveOptions& options) {
  std::unordered_set<std::string> names;
  std::vector<const NamedTensor*> order;
  std::uint64_t all = 0;
  for (const NamedTensor& tensor : tensors) {
    check(tensor);
    static_cast<void>(rows_of(tensor));
    if (!names.insert(tensor.name).second)
      throw ValueError("the name " + io::quoted(tensor.name) + " occurs twice, but names must differ");
    order.push_back(&tensor);
    all += static_cast<std::uint64_t>(tensor.view.shape.size()) * size_of(tensor.view.dtype);
  }
  if (metadata.size() > most_metadata)
    throw ValueError("there are " + std::to_string(metadata.size()) + " entries of metadata, but at most " +
                     std::to_string(most_metadata) + " are allowed");
  std::stable_sort(order.begin(), order.end(), [](const NamedTensor* a, const NamedTensor* b) {
    return size_of(a->view.dtype) > size_of(b->view.dtype);
  });
  const std::string header = make_header(order, metadata);
  if (header.size() > most_header_bytes)
    throw ValueError("the header has " + std::to_string(header.size()) +
                     " bytes, but at most 100000000 are allowed; put long texts into an array of uint8");
  const std::uint64_t header_size = header.size();
  io::AtomicFile file(path);
  file.write(&header_size, prefix_bytes);
  file.write(header.data(), header.size());
  ArrayWriter writer(file, options, all);
  for (const NamedTensor* tensor : order) writer.write(*tensor);
  file.commit(options.sync);
}

}  // namespace convec
