# SPDX-License-Identifier: MIT
# Providers of dense products beside Eigen, as targets: plmscope::onednn and plmscope::openblas, each
# made only where the library is found. The build tree and the installed package both read this file.
# Headers: <plmscope/backend/cpu/gemm_onednn.hpp> and <plmscope/backend/cpu/gemm_openblas.hpp>.

if(NOT TARGET plmscope::onednn)
  # Not find_package(dnnl): its package file asks for OpenCL development files that the processor
  # engine does not use.
  find_path(PLMSCOPE_ONEDNN_INCLUDE_DIR oneapi/dnnl/dnnl.hpp)
  find_library(PLMSCOPE_ONEDNN_LIBRARY dnnl)
  mark_as_advanced(PLMSCOPE_ONEDNN_INCLUDE_DIR PLMSCOPE_ONEDNN_LIBRARY)
  if(PLMSCOPE_ONEDNN_INCLUDE_DIR AND PLMSCOPE_ONEDNN_LIBRARY)
    add_library(plmscope::onednn INTERFACE IMPORTED GLOBAL)
    # The header sets the number of threads of the OpenMP runtime that Debian's oneDNN is linked with.
    set_target_properties(plmscope::onednn PROPERTIES
      INTERFACE_INCLUDE_DIRECTORIES "${PLMSCOPE_ONEDNN_INCLUDE_DIR}"
      INTERFACE_SYSTEM_INCLUDE_DIRECTORIES "${PLMSCOPE_ONEDNN_INCLUDE_DIR}"
      INTERFACE_LINK_LIBRARIES "plmscope::plmscope;${PLMSCOPE_ONEDNN_LIBRARY};gomp")
  endif()
endif()

if(NOT TARGET plmscope::openblas)
  # The OpenMP build first: Debian may hold several, and another BLAS can own the plain name.
  find_path(PLMSCOPE_OPENBLAS_INCLUDE_DIR openblas_config.h
            PATH_SUFFIXES openblas-openmp openblas openblas-pthread openblas-serial)
  find_library(PLMSCOPE_OPENBLAS_LIBRARY openblas
               PATH_SUFFIXES openblas-openmp openblas-pthread openblas-serial)
  mark_as_advanced(PLMSCOPE_OPENBLAS_INCLUDE_DIR PLMSCOPE_OPENBLAS_LIBRARY)
  if(PLMSCOPE_OPENBLAS_INCLUDE_DIR AND PLMSCOPE_OPENBLAS_LIBRARY)
    add_library(plmscope::openblas INTERFACE IMPORTED GLOBAL)
    set_target_properties(plmscope::openblas PROPERTIES
      INTERFACE_INCLUDE_DIRECTORIES "${PLMSCOPE_OPENBLAS_INCLUDE_DIR}"
      INTERFACE_SYSTEM_INCLUDE_DIRECTORIES "${PLMSCOPE_OPENBLAS_INCLUDE_DIR}"
      INTERFACE_LINK_LIBRARIES "plmscope::plmscope;${PLMSCOPE_OPENBLAS_LIBRARY}")
  endif()
endif()
