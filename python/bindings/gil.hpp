// The interpreter's lock, for threads that may still compute when the interpreter ends.
//
// Python kills a daemon thread that asks for the lock once the interpreter is ending (pthread_exit, before
// Python 3.14), and such an unwinding through C++ ends in std::terminate. So everything here gives the lock up and
// takes it by the two classes below: from the moment the interpreter begins to end, a thread other than the one it ends
// on stays where it is instead of asking for the lock.
#pragma once

#include <pybind11/pybind11.h>

namespace convec::python {

// Gives the lock up while it lives.
class ReleaseGil {
 public:
  ReleaseGil();
  ~ReleaseGil();
  ReleaseGil(const ReleaseGil&) = delete;
  ReleaseGil& operator=(const ReleaseGil&) = delete;

 private:
  PyThreadState* state_;
};

// Holds the lock while it lives, to call Python from a computation.
class AcquireGil {
 public:
  AcquireGil();
  ~AcquireGil();
  AcquireGil(const AcquireGil&) = delete;
  AcquireGil& operator=(const AcquireGil&) = delete;

 private:
  PyGILState_STATE state_;
};

// Prepares both for the end of the interpreter. Called once, when the module is imported.
void watch_for_exit();

}  // namespace convec::python
