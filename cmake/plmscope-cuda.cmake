# SPDX-License-Identifier: MIT
# The GPU as a target: plmscope::cuda, for .cu files that include <plmscope/cuda.cuh>. Made where the
# CUDA language is enabled (nvcc 13) and cuBLASLt is found: in the toolkit, or below
# PLMSCOPE_CUBLAS_ROOT (include/ and lib/), as the wheel nvidia-cublas of PyPI has it. The build tree
# and the installed package both read this file. plmscope_cuda_missing says why there is no target.
set(PLMSCOPE_CUBLAS_ROOT "" CACHE PATH "A folder with include/cublasLt.h and lib/libcublasLt.so")
mark_as_advanced(PLMSCOPE_CUBLAS_ROOT)
set(plmscope_cuda_missing "")
if(NOT TARGET plmscope::cuda)
  if(NOT CMAKE_CUDA_COMPILER_LOADED)
    set(plmscope_cuda_missing "the project does not enable the language CUDA")
  elseif(CMAKE_CUDA_COMPILER_VERSION VERSION_LESS 13)
    set(plmscope_cuda_missing "nvcc ${CMAKE_CUDA_COMPILER_VERSION} is older than 13")
  else()
    find_package(CUDAToolkit QUIET)
    find_path(PLMSCOPE_CUBLAS_INCLUDE_DIR cublasLt.h
              HINTS "${PLMSCOPE_CUBLAS_ROOT}/include" ${CUDAToolkit_INCLUDE_DIRS})
    find_library(PLMSCOPE_CUBLAS_LIBRARY
                 NAMES cublasLt libcublasLt.so.${CUDAToolkit_VERSION_MAJOR}
                 HINTS "${PLMSCOPE_CUBLAS_ROOT}/lib" ${CUDAToolkit_LIBRARY_DIR})
    mark_as_advanced(PLMSCOPE_CUBLAS_INCLUDE_DIR PLMSCOPE_CUBLAS_LIBRARY)
    if(NOT PLMSCOPE_CUBLAS_INCLUDE_DIR OR NOT PLMSCOPE_CUBLAS_LIBRARY)
      set(plmscope_cuda_missing "cuBLASLt was not found; set PLMSCOPE_CUBLAS_ROOT")
    else()
      add_library(plmscope::cuda INTERFACE IMPORTED GLOBAL)
      # CMake before 3.26 does not know that nvcc 13 has C++20. EIGEN_NO_CUDA: without it Eigen is
      # scalar in .cu files, and through the linker in the whole program.
      set(plmscope_cuda_options --extended-lambda --expt-relaxed-constexpr)
      if(NOT "cuda_std_20" IN_LIST CMAKE_CUDA_COMPILE_FEATURES)
        list(APPEND plmscope_cuda_options -std=c++20)
      endif()
      # The runtime that the program's CUDA_RUNTIME_LIBRARY names, static unless it says Shared.
      set(plmscope_cudart CUDA::cudart_static)
      if(TARGET CUDA::cudart)
        set(plmscope_cudart "$<IF:$<STREQUAL:$<TARGET_PROPERTY:CUDA_RUNTIME_LIBRARY>,Shared>,CUDA::cudart,CUDA::cudart_static>")
      endif()
      set_target_properties(plmscope::cuda PROPERTIES
        INTERFACE_COMPILE_OPTIONS "$<$<COMPILE_LANG_AND_ID:CUDA,NVIDIA>:${plmscope_cuda_options}>"
        INTERFACE_COMPILE_DEFINITIONS "EIGEN_NO_CUDA"
        INTERFACE_INCLUDE_DIRECTORIES "${PLMSCOPE_CUBLAS_INCLUDE_DIR}"
        INTERFACE_SYSTEM_INCLUDE_DIRECTORIES "${PLMSCOPE_CUBLAS_INCLUDE_DIR}"
        INTERFACE_LINK_LIBRARIES
          "plmscope::plmscope;${plmscope_cudart};${PLMSCOPE_CUBLAS_LIBRARY}")
    endif()
  endif()
endif()
