/// @file serialize.hpp
/// Arrays and networks in safetensors files: read, mapped into memory and written. The format is that of the
/// safetensors library: 8 bytes with the header's length (little-endian), a JSON header, then the arrays' bytes without
/// gaps. Files may come from anywhere: nothing in one is believed before it is checked, and memory stays below four
/// times the file's size plus 16 MB until the check is done.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <convec/export.hpp>
#include <convec/network.hpp>
#include <convec/tensor.hpp>

namespace convec {

/// Element types of the format.
enum class StoredType : std::uint8_t {
  boolean,
  uint8,
  int8,
  uint16,
  int16,
  float16,
  bfloat16,
  uint32,
  int32,
  float32,
  uint64,
  int64,
  float64,
  complex64,
  float8_e4m3,
  float8_e5m2,
  float8_e8m0,
  float6_e2m3,
  float6_e3m2,
  float4
};

/// The format's own spelling: "F32", "BF16", ...
CONVEC_API const char* name_of(StoredType type) noexcept;

/// An array in a file.
struct StoredTensor {
  std::string name;                       ///< unique in the file
  Shape shape;                            ///< as stored
  std::uint64_t offset = 0;               ///< of its first byte from the start of the file
  std::uint64_t bytes = 0;                ///< it takes in the file
  StoredType type = StoredType::float32;  ///< of its elements
};

/// What a file says about itself.
using FileMetadata = std::map<std::string, std::string>;

/// How the arrays of a file are got at.
enum class FileAccess : std::uint8_t {
  map,  ///< arrays are views of the mapped file, read from disk when they are first touched
  read  ///< arrays are read on request; view() and data() are not available
};

/// A safetensors file that is open for reading. The file must not be shortened while it is mapped (convec's own writer
/// never does: it replaces files). All members are const and may be called from several threads.
class CONVEC_API SafetensorsFile {
 public:
  /// Opens a file and checks all of its header.
  /// @throws IoError it cannot be opened or read, or is no regular file.
  /// @throws ValueError it is damaged, truncated or of another kind; the message says where.
  explicit SafetensorsFile(const std::string& path, FileAccess access = FileAccess::map);

  /// A file that is in memory. @param bytes start of the file; kept alive by the object and by owner()
  /// @throws ValueError as above.
  SafetensorsFile(std::shared_ptr<const void> bytes, std::size_t size);

  ~SafetensorsFile();
  SafetensorsFile(SafetensorsFile&&) noexcept;             ///< leaves the other empty
  SafetensorsFile& operator=(SafetensorsFile&&) noexcept;  ///< leaves the other empty

  /// In the order of the header.
  const std::vector<StoredTensor>& tensors() const noexcept;
  const FileMetadata& metadata() const noexcept;  ///< what the file says about itself
  /// The array of that name, or null.
  const StoredTensor* find(const std::string& name) const noexcept;
  /// The array of that name. @throws ValueError there is none; the message lists what there is.
  const StoredTensor& at(const std::string& name) const;

  /// An array's bytes, without a copy, aligned to its element size (an array that lies askew in the file was copied).
  /// @throws ValueError the file was opened with FileAccess::read.
  const void* data(const StoredTensor& tensor) const;
  /// An array without a copy. @throws DTypeError convec has no such element type. @throws ValueError as data().
  ConstTensorView view(const std::string& name) const;

  /// Copies an array into `output`, of its shape and element type; float16, bfloat16 and float64 are converted when
  /// `output` is float32.
  /// @throws ShapeError, DTypeError the output does not fit. @throws IoError the file cannot be read.
  void read(const StoredTensor& tensor, TensorView output) const;
  /// A copy of an array: float16 and bfloat16 as float32, all else as it is.
  /// @throws ValueError there is no such array. @throws DTypeError convec has no such element type. @throws IoError.
  Tensor read(const std::string& name) const;
  /// Copies an array's bytes as they are. @param output tensor.bytes bytes @throws IoError the file cannot be read.
  void read_bytes(const StoredTensor& tensor, void* output) const;

  /// Keeps what data() and view() point to alive.
  std::shared_ptr<const void> owner() const noexcept;

 private:
  struct Impl;
  std::shared_ptr<const Impl> impl_;
};

/// An array to write.
struct NamedTensor {
  std::string name;      ///< unique in the file
  ConstTensorView view;  ///< in host memory
  /// Elements from one row (an index of the first axis) to the next in memory, for rows that are further apart than
  /// they are long; 0: the array is contiguous. Files are always contiguous.
  std::int64_t row_stride = 0;
};

/// How a file is written.
struct SaveOptions {
  /// Waits until the bytes are on the disk, so that not even a power failure leaves a damaged file.
  bool sync = true;
  /// Called every few megabytes with the bytes written and the bytes in all; throws to stop (the old file stays).
  std::function<void(std::uint64_t, std::uint64_t)> progress;
};

/// Writes a safetensors file. It is complete or absent: the bytes go to another name in the same folder, which is then
/// renamed. A symbolic link is followed, permissions of a file that is replaced are kept. No array is copied.
/// Arrays are ordered by element size (the largest first), so that each is aligned, then as given.
/// @throws ValueError a name occurs twice, is "__metadata__" or is not UTF-8; an array is absent.
/// @throws ShapeError a row_stride is shorter than a row. @throws DeviceError an array is not in host memory.
/// @throws IoError the file cannot be written (no such folder, no permission, a full disk); what was there is
/// untouched.
CONVEC_API void save_safetensors(const std::string& path, const std::vector<NamedTensor>& tensors,
                                 const FileMetadata& metadata = {}, const SaveOptions& options = {});

// ---- Networks ----------------------------------------------------------------------------------------------------

/// What goes into a network's file besides its parameters.
struct SaveNetworkOptions {
  /// A name for each layer; by default those of the file that the network was loaded from, or else "conv2d", "dense",
  /// "dense_1", ... Layers with parameters need different ones.
  std::vector<std::string> layer_names;
  /// Also writes what training goes on from: the optimizer's state and the number of steps.
  bool optimizer_state = true;
  /// More metadata; keys that begin with "convec." are the library's own.
  FileMetadata metadata;
  SaveOptions file;  ///< how it is written
};

/// Writes a network to a safetensors file: each parameter as "<layer>/<parameter>", the optimizer's state as
/// "optimizer/<layer>/<parameter>/<slot>", the layers and what compile() was given in the metadata. Python's
/// convec.models.load_model reads it, and load_network() reads what Python's model.save() wrote. The metadata of the
/// file that the network was loaded from are written again, Python's part included, but for what has changed since: the
/// position of training where it was trained on, the arguments of compile() where those differ.
/// @throws ValueError names do not fit. @throws IoError as save_safetensors.
CONVEC_API void save_network(const std::string& path, const Network& network, const SaveNetworkOptions& options = {});

/// The network of a file, with its parameters, compiled as it was when it was saved and ready to go on training where
/// it stopped. Parameters may be stored as F32, F16, BF16 or F64.
/// @throws ValueError, ShapeError the file is damaged or holds no network, or one that does not fit its arrays; no
/// memory is allocated for parameters that the file does not hold. @throws IoError it cannot be read.
CONVEC_API Network load_network(const std::string& path);
/// The same, of a file that is open.
CONVEC_API Network load_network(const SafetensorsFile& file);

}  // namespace convec
