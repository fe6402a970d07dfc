#include <convec/error.hpp>

namespace convec {

// Defined here so that each type has one vtable, and catching works across shared libraries.
Error::~Error() = default;
ShapeError::~ShapeError() = default;
DTypeError::~DTypeError() = default;
DeviceError::~DeviceError() = default;
ValueError::~ValueError() = default;
IoError::~IoError() = default;
EofError::~EofError() = default;
Cancelled::~Cancelled() = default;

}  // namespace convec
