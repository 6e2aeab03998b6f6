# SPDX-License-Identifier: MIT
# Installed: the headers, the target plmscope::plmscope and the license. One package for every
# architecture, because there is nothing compiled in it.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
set(plmscope_package_dir "${CMAKE_INSTALL_DATADIR}/cmake/plmscope")

install(TARGETS plmscope EXPORT plmscope-targets
        FILE_SET HEADERS DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}")
install(EXPORT plmscope-targets NAMESPACE plmscope:: DESTINATION "${plmscope_package_dir}")
configure_package_config_file(cmake/plmscope-config.cmake.in
  "${PROJECT_BINARY_DIR}/package/plmscope-config.cmake"
  INSTALL_DESTINATION "${plmscope_package_dir}" NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file("${PROJECT_BINARY_DIR}/package/plmscope-config-version.cmake"
  COMPATIBILITY SameMinorVersion ARCH_INDEPENDENT)
install(FILES "${PROJECT_BINARY_DIR}/package/plmscope-config.cmake"
              "${PROJECT_BINARY_DIR}/package/plmscope-config-version.cmake"
              cmake/plmscope-providers.cmake cmake/plmscope-cuda.cmake
        DESTINATION "${plmscope_package_dir}")
install(FILES LICENSE ATTRIBUTION.md DESTINATION "${CMAKE_INSTALL_DATADIR}/doc/plmscope")
