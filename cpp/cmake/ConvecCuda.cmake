# Whether the CUDA backend is built, and for which architectures. Included from the top folder, before any target.
#
# CONVEC_CUDA: AUTO (where there is a CUDA compiler), ON (fails without one) or OFF.
# CMAKE_CUDA_ARCHITECTURES or the environment variable CUDAARCHS: what to compile for; at first everything from
# Turing (7.5) to Blackwell (12.0), and PTX of the last for what comes later.
set(CONVEC_CUDA AUTO CACHE STRING "Build the CUDA backend: AUTO (where there is a CUDA compiler), ON or OFF")
set_property(CACHE CONVEC_CUDA PROPERTY STRINGS AUTO ON OFF)
set(CONVEC_WITH_CUDA OFF)
if(NOT CONVEC_CUDA)
  return()
endif()

# The backend uses parts of the core that a shared library does not export.
if(BUILD_SHARED_LIBS)
  if(CONVEC_CUDA STREQUAL "AUTO")
    message(STATUS "convec is a shared library, and built without its CUDA backend, which needs a static one")
    return()
  endif()
  message(FATAL_ERROR "CONVEC_CUDA is ON, but the CUDA backend needs convec as a static library: set BUILD_SHARED_LIBS=OFF "
                      "(CMAKE_POSITION_INDEPENDENT_CODE is ON, so that it may go into a shared library of yours), or "
                      "build without CUDA: -DCONVEC_CUDA=OFF.")
endif()

include(CheckLanguage)
check_language(CUDA)
if(NOT CMAKE_CUDA_COMPILER)
  if(CONVEC_CUDA STREQUAL "AUTO")
    message(STATUS "No CUDA compiler was found: convec is built without its CUDA backend")
    return()
  endif()
  message(
    FATAL_ERROR
      "CONVEC_CUDA is ON, but no CUDA compiler was found. Install the CUDA toolkit and put nvcc on PATH, or name it with "
      "-DCMAKE_CUDA_COMPILER=/path/to/nvcc (or CUDACXX in the environment), or build without CUDA: -DCONVEC_CUDA=OFF.")
endif()

# Asked of the compiler itself: an older one may not know the architectures that CMake would try it with.
execute_process(COMMAND "${CMAKE_CUDA_COMPILER}" --version OUTPUT_VARIABLE convec_nvcc ERROR_QUIET)
string(REGEX MATCH "release ([0-9.]+)" convec_nvcc "${convec_nvcc}")
if(CMAKE_MATCH_1 AND CMAKE_MATCH_1 VERSION_LESS 12.8)
  set(convec_too_old "CUDA ${CMAKE_MATCH_1} is too old for convec's CUDA backend, which needs 12.8 or later")
  if(CONVEC_CUDA STREQUAL "AUTO")
    message(STATUS "${convec_too_old}: convec is built without it")
    return()
  endif()
  message(FATAL_ERROR "${convec_too_old}. Install a newer toolkit or build without CUDA: -DCONVEC_CUDA=OFF.")
endif()

set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
set(CMAKE_CUDA_STANDARD 17)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES AND NOT DEFINED ENV{CUDAARCHS})
  # 8.9 runs the code of 8.6: nothing here uses what it has more.
  set(CMAKE_CUDA_ARCHITECTURES 75-real 80-real 86-real 90-real 100-real 120)
endif()
enable_language(CUDA)
set(CONVEC_WITH_CUDA ON)
message(STATUS "The CUDA backend is built for the architectures ${CMAKE_CUDA_ARCHITECTURES}")
