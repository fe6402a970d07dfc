// A test is a function that throws when a check fails. One program a file; CTest runs them all.
//
//   TEST(shapes_multiply) { CHECK_EQ(Shape({2, 3}).size(), 6); }
#pragma once

#include <cmath>
#include <cstdio>
#include <exception>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace convec::test {

struct Test {
  const char* name;
  void (*function)();
};

inline std::vector<Test>& tests() {
  static std::vector<Test> all;
  return all;
}

struct Registration {
  Registration(const char* name, void (*function)()) noexcept { tests().push_back({name, function}); }
};

struct Failure : std::runtime_error {
  using std::runtime_error::runtime_error;
};

[[noreturn]] inline void fail(const char* file, int line, const std::string& what) {
  throw Failure(std::string(file) + ":" + std::to_string(line) + ": " + what);
}

template <typename A, typename B>
void check_equal(const A& a, const B& b, const char* text, const char* file, int line) {
  if (a == b) return;
  std::ostringstream message;
  message << text << ": " << a << " != " << b;
  fail(file, line, message.str());
}

// NaN is near nothing.
inline void check_near(double a, double b, double tolerance, const char* text, const char* file, int line) {
  if (std::abs(a - b) <= tolerance) return;
  std::ostringstream message;
  message.precision(9);
  message << text << ": " << a << " and " << b << " differ by " << std::abs(a - b) << ", more than " << tolerance;
  fail(file, line, message.str());
}

// `call` must throw an Expected (and nothing derived otherwise) whose message contains `part`.
template <typename Expected, typename Call>
void check_throws(Call&& call, const std::string& part, const char* text, const char* file, int line) {
  try {
    call();
  } catch (const Expected& error) {
    if (std::string(error.what()).find(part) == std::string::npos)
      fail(file, line, std::string(text) + " threw '" + error.what() + "', which does not contain '" + part + "'");
    return;
  } catch (const std::exception& error) {
    fail(file, line, std::string(text) + " threw another exception: " + error.what());
  }
  fail(file, line, std::string(text) + " did not throw");
}

// Runs the tests whose name contains the first argument (all without one); the number that failed.
inline int run(int argc, char** argv) {
  const std::string wanted = argc > 1 ? argv[1] : "";
  int failed = 0;
  int count = 0;
  for (const Test& test : tests()) {
    if (std::string(test.name).find(wanted) == std::string::npos) continue;
    ++count;
    try {
      test.function();
      std::printf("ok      %s\n", test.name);
    } catch (const std::exception& error) {
      ++failed;
      std::printf("FAILED  %s\n        %s\n", test.name, error.what());
    }
    std::fflush(stdout);
  }
  std::printf("%d tests, %d failed\n", count, failed);
  return count == 0 ? 1 : failed;
}

}  // namespace convec::test

#define TEST(name)                                                             \
  static void name();                                                          \
  static const convec::test::Registration name##_registration(#name, &(name)); \
  static void name()

#define CHECK(condition)                                                              \
  do {                                                                                \
    if (!(condition)) convec::test::fail(__FILE__, __LINE__, #condition " is false"); \
  } while (false)

#define CHECK_EQ(a, b) convec::test::check_equal(a, b, #a " == " #b, __FILE__, __LINE__)
#define CHECK_NEAR(a, b, tolerance) convec::test::check_near(a, b, tolerance, #a " near " #b, __FILE__, __LINE__)
#define CHECK_THROWS(call, Expected, part) \
  convec::test::check_throws<Expected>([&] { static_cast<void>(call); }, part, #call, __FILE__, __LINE__)

#define TEST_MAIN() \
  int main(int argc, char** argv) { return convec::test::run(argc, argv); }
