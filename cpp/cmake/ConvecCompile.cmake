# Compile options shared by every target, and the helper that compiles one source once per instruction set.

# Interface target with warnings and sanitizers.
add_library(convec_options INTERFACE)
target_compile_options(convec_options INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Wcast-qual -Wnon-virtual-dtor)
if(CONVEC_WARNINGS_AS_ERRORS)
  target_compile_options(convec_options INTERFACE -Werror)
endif()
if(CONVEC_SANITIZE)
  target_compile_options(convec_options INTERFACE -fsanitize=${CONVEC_SANITIZE} -fno-sanitize-recover=all
                                                  -fno-omit-frame-pointer)
  target_link_options(convec_options INTERFACE -fsanitize=${CONVEC_SANITIZE})
endif()
if(CONVEC_BUILD_FUZZERS)
  # What libFuzzer goes by: which branches are taken, and what is compared with what.
  target_compile_options(convec_options INTERFACE -fsanitize=fuzzer-no-link)
endif()

# Flags of each level. cpp/src/cpu/features.cpp tests the processor for every one of them.
set(CONVEC_ISA_LEVELS baseline)
set(CONVEC_ISA_FLAGS_baseline "")
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
  set(CONVEC_ISA_LEVELS baseline avx2 avx512)
  set(CONVEC_ISA_FLAGS_baseline -msse4.2 -mpopcnt)
  set(CONVEC_ISA_FLAGS_avx2 -mavx2 -mfma -mf16c -mbmi -mbmi2)
  set(CONVEC_ISA_FLAGS_avx512 ${CONVEC_ISA_FLAGS_avx2} -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512cd -mprfchw
                              -mprefer-vector-width=512)
endif()

# convec_add_isa_kernels(<target> <source>...)
#
# Compiles the sources once per level, in namespace convec::cpu::isa_<level>, and links the objects into <target>.
# Never with link-time optimisation: it could inline code of one level into another.
function(convec_add_isa_kernels target)
  if(CONVEC_SANITIZE)
    # Its unrolled loops, checked at every access, take the optimiser minutes.
    set_source_files_properties(src/cpu/kernels/word2vec.cpp PROPERTIES COMPILE_OPTIONS -O0)
  endif()
  foreach(level IN LISTS CONVEC_ISA_LEVELS)
    set(objects convec_kernels_${level})
    add_library(${objects} OBJECT ${ARGN})
    target_include_directories(${objects} PRIVATE ${PROJECT_SOURCE_DIR}/cpp/src ${PROJECT_SOURCE_DIR}/cpp/include)
    target_compile_definitions(${objects} PRIVATE CONVEC_ISA_NAMESPACE=isa_${level})
    # -ffp-contract=fast: a multiply and an add become one FMA where the level has it. No other relaxed arithmetic.
    target_compile_options(${objects} PRIVATE -O3 -ffp-contract=fast -fno-math-errno -fno-trapping-math
                                              ${CONVEC_ISA_FLAGS_${level}})
    if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
      # GCC 12's own avx512fintrin.h trips this warning wherever its intrinsics are inlined (GCC bug 105593).
      target_compile_options(${objects} PRIVATE -Wno-maybe-uninitialized -Wno-uninitialized)
    endif()
    if(CONVEC_BUILD_FUZZERS)
      # As they are shipped: sanitizers would take minutes to compile, and see less than the guard pages of tests/fuzz.
      target_compile_options(${objects} PRIVATE -O1)
    else()
      target_link_libraries(${objects} PRIVATE $<BUILD_INTERFACE:convec_options>)
    endif()
    set_target_properties(${objects} PROPERTIES INTERPROCEDURAL_OPTIMIZATION OFF)
    target_sources(${target} PRIVATE $<TARGET_OBJECTS:${objects}>)
  endforeach()
endfunction()
