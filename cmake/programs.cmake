# SPDX-License-Identifier: MIT
# How our own programs, examples, tests and benchmarks are compiled. Nothing here reaches a user of
# the library target.
include(cmake/cpu_check.cmake)

# The dense products of our programs: PLMSCOPE_GEMM, with `auto` resolved.
set(plmscope_gemm "${PLMSCOPE_GEMM}")
if(plmscope_gemm STREQUAL auto)
  if(TARGET plmscope::onednn)
    set(plmscope_gemm onednn)
  elseif(TARGET plmscope::openblas)
    set(plmscope_gemm openblas)
  else()
    set(plmscope_gemm eigen)
  endif()
elseif(NOT plmscope_gemm MATCHES "^(eigen|onednn|openblas)$")
  message(FATAL_ERROR "PLMSCOPE_GEMM is '${PLMSCOPE_GEMM}'; use auto, eigen, onednn or openblas")
elseif(NOT plmscope_gemm STREQUAL eigen AND NOT TARGET plmscope::${plmscope_gemm})
  message(FATAL_ERROR "PLMSCOPE_GEMM=${plmscope_gemm}, but that library was not found")
endif()
message(STATUS "plmscope ${PROJECT_VERSION}: dense products by ${plmscope_gemm} (Eigen "
               "${Eigen3_VERSION} found), compiled for this processor: ${PLMSCOPE_NATIVE}")

find_program(PLMSCOPE_CCACHE ccache)
mark_as_advanced(PLMSCOPE_CCACHE)
if(PLMSCOPE_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  # What a file read is written by the compiler anyway: ccache need not preprocess it first.
  set(CMAKE_CXX_COMPILER_LAUNCHER "${CMAKE_COMMAND}" -E env CCACHE_DEPEND=1 "${PLMSCOPE_CCACHE}")
  set(CMAKE_CUDA_COMPILER_LAUNCHER "${CMAKE_CXX_COMPILER_LAUNCHER}")
endif()
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)

set(plmscope_warnings -Wall -Wextra -Wconversion -Wsign-conversion -Wshadow -Werror)
if(CMAKE_CXX_COMPILER_ID STREQUAL GNU AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  # g++ 12 finds its own AVX-512 intrinsics uninitialised (GCC bug 105593) and its own std::string
  # copying onto itself (105651).
  list(APPEND plmscope_warnings -Wno-maybe-uninitialized -Wno-restrict)
endif()
if(CMAKE_CXX_COMPILER_ID MATCHES Clang)
  # std::stable_sort of libstdc++ 12 calls its own deprecated function.
  list(APPEND plmscope_warnings -Wno-deprecated-declarations)
endif()
set(plmscope_native_flags "")
if(PLMSCOPE_NATIVE)
  set(plmscope_native_flags -march=native)
endif()

# One object library for all programs: it ends them with one sentence on the wrong processor.
plmscope_cpu_check(plmscope_cpu_check ${plmscope_native_flags})

# plmscope_program(NAME SOURCE... [GEMM]): an executable of ours. With GEMM it is linked with the
# chosen provider and sees PLMSCOPE_PROGRAM_GEMM_{ONEDNN,OPENBLAS,EIGEN}=1.
function(plmscope_program name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "GEMM" "" "")
  add_executable(${name} ${arg_UNPARSED_ARGUMENTS})
  target_link_libraries(${name} PRIVATE plmscope::plmscope plmscope_cpu_check)
  target_compile_options(${name} PRIVATE ${plmscope_warnings} ${plmscope_native_flags})
  # "native" means another processor on another machine: its name in the command makes Ninja and
  # ccache notice.
  target_compile_definitions(${name} PRIVATE PLMSCOPE_PROCESSOR="${plmscope_processor}")
  if(arg_GEMM)
    string(TOUPPER "${plmscope_gemm}" upper)
    target_compile_definitions(${name} PRIVATE PLMSCOPE_PROGRAM_GEMM_${upper}=1)
    if(NOT plmscope_gemm STREQUAL eigen)
      target_link_libraries(${name} PRIVATE plmscope::${plmscope_gemm})
    endif()
  endif()
endfunction()

# A fresh build costs what the compiler makes of templates, again in every source. So the tests and the
# program are compiled as few files, each holding several sources. OFF: one by one, better for work on
# a single one and for tools that go by the commands of each source.
option(PLMSCOPE_FEW_FILES "Compile several sources of our tests and our program as one file" ON)

# plmscope_joined(FILE SOURCE...): writes FILE, which holds SOURCEs, each in a namespace of its own, so
# that equal names stay apart. What they include comes first, outside of all; a change of a source
# therefore configures anew.
function(plmscope_joined path)
  set(includes "")
  set(bodies "")
  foreach(source IN LISTS ARGN)
    get_filename_component(source "${source}" ABSOLUTE)
    get_filename_component(name "${source}" NAME_WE)
    file(STRINGS "${source}" lines REGEX "^#(include|if|el|endif)")
    string(JOIN "\n" lines ${lines} "")
    string(APPEND includes "${lines}")
    string(APPEND bodies "namespace file_${name} {\n#include \"${source}\"\n}\n")
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${source}")
  endforeach()
  file(CONFIGURE OUTPUT "${path}" CONTENT "// Written by CMake.\n@includes@@bodies@" @ONLY)
endfunction()

# plmscope_all_examples(FILE SOURCE...): writes FILE, a program that holds the examples SOURCEs.
function(plmscope_all_examples path)
  set(EXAMPLE_NAMES "")
  foreach(file IN LISTS ARGN)
    get_filename_component(name "${file}" NAME_WE)
    string(APPEND EXAMPLE_NAMES "  if (name == \"${name}\") return file_${name}::main();\n")
  endforeach()
  get_filename_component(folder "${path}" DIRECTORY)
  plmscope_joined("${folder}/joined.cpp" ${ARGN})
  configure_file("${PROJECT_SOURCE_DIR}/examples/all.cpp.in" "${path}" @ONLY)
endfunction()

# plmscope_few_files(OUT STEM SOURCE...): OUT becomes the files STEM_1.cpp, STEM_2.cpp, ... of the build
# folder that hold SOURCEs, in equal shares of up to about 100 kB: most of what a file costs is what its
# sources have in common, but more than that would take over 3 GiB of memory.
function(plmscope_few_files out stem)
  if(NOT PLMSCOPE_FEW_FILES)
    set(${out} "${ARGN}" PARENT_SCOPE)
    return()
  endif()
  set(all_bytes 0)
  foreach(source IN LISTS ARGN)
    get_filename_component(source "${source}" ABSOLUTE)
    file(SIZE "${source}" size)
    math(EXPR all_bytes "${all_bytes} + ${size}")
  endforeach()
  math(EXPR share "${all_bytes} / (${all_bytes} / 100000 + 1)")
  set(files "")
  set(held "")
  set(bytes 0)
  set(left "${ARGN}")
  foreach(source IN LISTS ARGN)
    list(POP_FRONT left)
    list(APPEND held "${source}")
    get_filename_component(source "${source}" ABSOLUTE)
    file(SIZE "${source}" size)
    math(EXPR bytes "${bytes} + ${size}")
    if(bytes GREATER_EQUAL share OR NOT left)
      list(LENGTH files number)
      math(EXPR number "${number} + 1")
      plmscope_joined("${CMAKE_CURRENT_BINARY_DIR}/${stem}_${number}.cpp" ${held})
      list(APPEND files "${CMAKE_CURRENT_BINARY_DIR}/${stem}_${number}.cpp")
      set(held "")
      set(bytes 0)
    endif()
  endforeach()
  set(${out} "${files}" PARENT_SCOPE)
endfunction()

# plmscope_cuda_program(NAME SOURCE...): sources, .cpp among them, compiled by nvcc. To be called in a
# folder of its own, because CMake knows one language per source and folder.
function(plmscope_cuda_program name)
  set_source_files_properties(${ARGN} PROPERTIES LANGUAGE CUDA)
  add_executable(${name} ${ARGN})
  target_link_libraries(${name} PRIVATE plmscope::cuda plmscope_cpu_check)
  target_compile_options(${name} PRIVATE -Werror=all-warnings
    "$<$<BOOL:${plmscope_native_flags}>:-Xcompiler=${plmscope_native_flags}>")
  target_compile_definitions(${name} PRIVATE PLMSCOPE_PROCESSOR="${plmscope_processor}")
endfunction()
