/// @file error.hpp
/// The exceptions convec throws. Every message names the argument, what came, what was expected and how to
/// mend it.
#pragma once

#include <stdexcept>
#include <string>

#include <convec/export.hpp>

namespace convec {

/// Base of everything convec throws on purpose.
class CONVEC_API Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
  ~Error() override;
};

/// A rank, extent or layout is wrong. Python: ValueError.
class CONVEC_API ShapeError : public Error {
 public:
  using Error::Error;
  ~ShapeError() override;
};

/// An element type is wrong. Python: TypeError.
class CONVEC_API DTypeError : public Error {
 public:
  using Error::Error;
  ~DTypeError() override;
};

/// A device is absent, or arrays live on different devices. Python: RuntimeError.
class CONVEC_API DeviceError : public Error {
 public:
  using Error::Error;
  ~DeviceError() override;
};

/// A value is out of range. Python: ValueError.
class CONVEC_API ValueError : public Error {
 public:
  using Error::Error;
  ~ValueError() override;
};

/// A file cannot be read or written. Python: OSError, or the subclass that fits the code (FileNotFoundError, ...).
class CONVEC_API IoError : public Error {
 public:
  /// @param code the system's errno, or 0 where it did not come from the system
  explicit IoError(const std::string& message, int code = 0) : Error(message), code_(code) {}
  ~IoError() override;
  /// The system's number of the error (errno, or that of the device's library).
  int code() const noexcept { return code_; }

 private:
  int code_;
};

/// A file ends before what it promises to hold. Python: EOFError.
class CONVEC_API EofError : public IoError {
 public:
  using IoError::IoError;
  ~EofError() override;
};

/// The caller's progress callback asked to stop. Python: whatever the callback raised.
class CONVEC_API Cancelled : public Error {
 public:
  using Error::Error;
  ~Cancelled() override;
};

}  // namespace convec
