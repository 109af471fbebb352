# Install rules: library, header, CMake package (find_package(spectrumkv)), pkg-config file.
include(CMakePackageConfigHelpers)

# Component runtime: what programs load. Component development: what compiling and linking against it takes.
install(TARGETS spectrumkv EXPORT spectrumkvTargets
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT runtime NAMELINK_COMPONENT development
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT development
  RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT runtime)
install(FILES include/spectrumkv.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT development)
install(EXPORT spectrumkvTargets NAMESPACE spectrumkv:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/spectrumkv
        COMPONENT development)

configure_package_config_file(cmake/spectrumkv-config.cmake.in spectrumkv-config.cmake
  INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/spectrumkv)
# Before 1.0 a minor release may break the ABI, so a consumer asks for the same minor.
write_basic_package_version_file(spectrumkv-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/spectrumkv-config.cmake
              ${CMAKE_CURRENT_BINARY_DIR}/spectrumkv-config-version.cmake
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/spectrumkv COMPONENT development)

# Relative to the .pc file itself, so that an installed tree can be moved.
file(RELATIVE_PATH _skv_pc_to_prefix /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
configure_file(cmake/spectrumkv.pc.in spectrumkv.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/spectrumkv.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig
        COMPONENT development)
