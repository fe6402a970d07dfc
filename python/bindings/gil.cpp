#include "gil.hpp"

#include <atomic>
#include <chrono>
#include <thread>

#include <pthread.h>
#include <unistd.h>

namespace py = pybind11;

namespace convec::python {

namespace {

std::atomic<bool> closed{false};
// Threads that ask for the lock, or hold it within a computation.
std::atomic<int> inside{0};
std::thread::id ending_thread;

void enter() noexcept {
  inside.fetch_add(1);
  if (!closed.load() || std::this_thread::get_id() == ending_thread) return;
  inside.fetch_sub(1);
  for (;;) ::pause();
}

void leave() noexcept { inside.fetch_sub(1); }

// Called with the lock held, after the threads that are no daemons have ended and before the interpreter does.
void close_gate() {
  ending_thread = std::this_thread::get_id();
  closed.store(true);
  // Those who were asking get the lock, and callbacks come to their end; one that does not is not waited for for ever.
  constexpr std::chrono::seconds longest{10};
  const auto begin = std::chrono::steady_clock::now();
  PyThreadState* const state = PyEval_SaveThread();
  while (inside.load() > 0 && std::chrono::steady_clock::now() - begin < longest)
    std::this_thread::sleep_for(std::chrono::milliseconds{1});
  PyEval_RestoreThread(state);
}

}  // namespace

ReleaseGil::ReleaseGil() : state_(PyEval_SaveThread()) {}

ReleaseGil::~ReleaseGil() {
  enter();
  PyEval_RestoreThread(state_);
  leave();
}

AcquireGil::AcquireGil() {
  enter();
  state_ = PyGILState_Ensure();
}

AcquireGil::~AcquireGil() {
  PyGILState_Release(state_);
  leave();
}

void watch_for_exit() {
  // The child of a fork has only the thread that forked, which holds the lock.
  pthread_atfork(nullptr, nullptr, [] { inside.store(0); });
  py::module_::import("atexit").attr("register")(py::cpp_function(&close_gate));
}

}  // namespace convec::python
