// Which threads use an object: several may look at it at once, or one may change it.
//
// The interpreter's lock does not see to that: it is given up during computations, and a free-threaded Python has none.
#pragma once

#include <cstdint>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

namespace convec::python {

class InUse {
 public:
  // `noun` is what messages call the object, and `how` one way to do without sharing it. Both must outlive it.
  explicit InUse(const char* noun, const char* how) : noun_(noun), how_(how) {}
  // Who uses one object does not use another.
  InUse(const InUse& other) : InUse(other.noun_, other.how_) {}
  InUse& operator=(const InUse&) = delete;
  ~InUse() = default;

  // Notes that this thread does `what` from now on, which changes the object or only looks at it. A thread that uses
  // it already may do anything. Never waits.
  // Throws Error where another thread changes the object; or looks at it, and this one would change it.
  void enter(bool changes, const std::string& what);
  // Ends what enter() began.
  void leave(bool changes) noexcept;

 private:
  struct User {
    std::thread::id thread;
    std::string what;
    bool changes;
  };

  const char* noun_;
  const char* how_;
  std::vector<User> users_;
  std::uint64_t forks_ = 0;
};

// enter() and leave().
class Using {
 public:
  Using(InUse& object, bool changes, const std::string& what) : object_(object), changes_(changes) {
    object_.enter(changes, what);
  }
  ~Using() { object_.leave(changes_); }
  Using(const Using&) = delete;
  Using& operator=(const Using&) = delete;

 private:
  InUse& object_;
  bool changes_;
};

// What messages call an object, and how to do without sharing it; specialised for each class that is shared.
template <typename Object>
struct SharedNames;

// An object that Python may hand to several threads.
template <typename Object>
struct Shared : Object {
  explicit Shared(Object&& object) : Object(std::move(object)) {}
  template <typename... Arguments>
  explicit Shared(std::in_place_t, Arguments&&... arguments) : Object(std::forward<Arguments>(arguments)...) {}

  mutable InUse in_use{SharedNames<Object>::noun, SharedNames<Object>::how};
};

// A function of an object, as a method of the shared one that looks at it.
template <typename Object, typename Result, typename... Arguments>
auto looking(const char* what, Result (*function)(const Object&, Arguments...)) {
  return [what, function](const Shared<Object>& object, Arguments... arguments) -> Result {
    const Using use(object.in_use, false, what);
    return function(object, std::forward<Arguments>(arguments)...);
  };
}
template <typename Object, typename Result, bool no_throw, typename... Arguments>
auto looking(const char* what, Result (Object::*function)(Arguments...) const noexcept(no_throw)) {
  return [what, function](const Shared<Object>& object, Arguments... arguments) {
    const Using use(object.in_use, false, what);
    return (object.*function)(std::forward<Arguments>(arguments)...);
  };
}

// The same, as a method that changes it.
template <typename Object, typename Result, typename... Arguments>
auto changing(const char* what, Result (*function)(Object&, Arguments...)) {
  return [what, function](Shared<std::remove_const_t<Object>>& object, Arguments... arguments) -> Result {
    const Using use(object.in_use, true, what);
    return function(object, std::forward<Arguments>(arguments)...);
  };
}
template <typename Object, typename Result, bool no_throw, typename... Arguments>
auto changing(const char* what, Result (Object::*function)(Arguments...) noexcept(no_throw)) {
  return [what, function](Shared<Object>& object, Arguments... arguments) {
    const Using use(object.in_use, true, what);
    return (object.*function)(std::forward<Arguments>(arguments)...);
  };
}
template <typename Object, typename Result, bool no_throw, typename... Arguments>
auto changing(const char* what, Result (Object::*function)(Arguments...) const noexcept(no_throw)) {
  return [what, function](Shared<Object>& object, Arguments... arguments) {
    const Using use(object.in_use, true, what);
    return (object.*function)(std::forward<Arguments>(arguments)...);
  };
}

}  // namespace convec::python
