# SPDX-License-Identifier: MIT
# plmscope_cpu_check(NAME FLAG...): an object library that ends a program (exit code 70, one
# sentence) on a processor without what FLAG... and CMAKE_CXX_FLAGS let the compiler use. What that
# is, the compiler's own predefined macros say; plmscope_processor becomes their fingerprint. Empty
# on other architectures than x86.
function(plmscope_cpu_check name)
  add_library(${name} OBJECT "${PROJECT_SOURCE_DIR}/examples/plmscope/cpu_check.cpp")
  target_compile_features(${name} PRIVATE cxx_std_20)
  set(plmscope_processor any PARENT_SCOPE)
  separate_arguments(global UNIX_COMMAND "${CMAKE_CXX_FLAGS}")
  execute_process(COMMAND ${CMAKE_CXX_COMPILER} ${global} ${ARGN} -dM -E -x c++ /dev/null
                  OUTPUT_VARIABLE macros RESULT_VARIABLE failed ERROR_QUIET)
  if(failed OR NOT macros MATCHES "#define __(x86_64|i386)__")
    return()
  endif()
  # What __builtin_cpu_supports of g++ 12 and clang 19 both know, under the macros' names.
  set(features sse3 ssse3 sse4.1 sse4.2 popcnt avx avx2 fma f16c bmi bmi2 lzcnt movbe adx
      avx512f avx512cd avx512bw avx512dq avx512vl avx512ifma avx512vbmi avx512vbmi2 avx512vnni
      avx512bitalg avx512vpopcntdq avx512bf16 avx512fp16 avxvnni gfni vaes vpclmulqdq)
  set(needs "")
  foreach(feature IN LISTS features)
    string(TOUPPER "${feature}" macro)
    string(REPLACE "." "_" macro "${macro}")
    if(macros MATCHES "#define __${macro}__ ")
      string(APPEND needs "X(${feature})")
    endif()
  endforeach()
  set(plmscope_cpu_needs "${needs}" PARENT_SCOPE)
  string(SHA1 processor "${macros}")
  string(SUBSTRING "${processor}" 0 8 processor)
  set(plmscope_processor "${processor}" PARENT_SCOPE)
  target_compile_options(${name} PRIVATE -march=x86-64 -mtune=generic -mno-avx)
  if(needs)
    target_compile_definitions(${name} PRIVATE "PLMSCOPE_CPU_NEEDS=${needs}")
  endif()
endfunction()
