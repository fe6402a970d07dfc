#include "in_use.hpp"

#include <algorithm>
#include <mutex>
#include <string>

#include <pthread.h>

#include <convec/error.hpp>

namespace convec::python {

namespace {

// One lock for all objects, held for some nanoseconds, so that a fork can be kept from happening meanwhile.
struct Gate {
  std::mutex mutex;
  std::uint64_t forks = 0;
};

Gate& gate() {
  static Gate* const only = [] {
    static Gate* made = new Gate;
    pthread_atfork([] { made->mutex.lock(); }, [] { made->mutex.unlock(); },
                   [] {
                     ++made->forks;
                     made->mutex.unlock();
                   });
    return made;
  }();
  return *only;
}

}  // namespace

void InUse::enter(bool changes, const std::string& what) {
  const std::thread::id self = std::this_thread::get_id();
  Gate& all = gate();
  const std::lock_guard<std::mutex> lock(all.mutex);
  const auto other = std::find_if(users_.begin(), users_.end(), [&](const User& user) {
    return user.thread != self && (changes || user.changes || forks_ != all.forks);
  });
  if (other != users_.end()) {
    if (forks_ != all.forks)
      throw Error(std::string(noun_) + " was in use by another thread (" + other->what +
                  ") when this process was forked, and is not whole here; make or load it in this process");
    throw Error(std::string(noun_) + " is in use by another thread (" + other->what + "), so that " + what +
                " is not possible now; let one thread wait for the other, or " + how_);
  }
  forks_ = all.forks;
  users_.push_back({self, what, changes});
}

void InUse::leave(bool changes) noexcept {
  const std::thread::id self = std::this_thread::get_id();
  const std::lock_guard<std::mutex> lock(gate().mutex);
  const auto own = std::find_if(users_.rbegin(), users_.rend(),
                                [&](const User& user) { return user.thread == self && user.changes == changes; });
  if (own != users_.rend()) users_.erase(std::next(own).base());
}

}  // namespace convec::python
