// Paths and long writes, shared by everything that saves.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>

namespace convec::python {

// The bytes of a str, bytes or path-like object, as the operating system takes them. TypeError for anything else.
std::string to_path(const pybind11::object& path);

// SaveOptions::progress that lets Ctrl-C stop a write.
void check_signals(std::uint64_t done, std::uint64_t all);

}  // namespace convec::python
