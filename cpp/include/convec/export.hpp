/// @file export.hpp
/// Marks the symbols a shared libconvec exports; all others are hidden.
#pragma once

#if defined(_WIN32)
#define CONVEC_API
#else
/// Marks what the library exports; all else is hidden.
#define CONVEC_API __attribute__((visibility("default")))
#endif
