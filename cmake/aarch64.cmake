# Cross-building for 64-bit Arm with Debian's compiler; what is built runs under qemu-user. Libraries for the target are
# unpacked by scripts/setup.sh --aarch64 into build/aarch64-libraries: the host's packages stay as they are.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_LIBRARY_ARCHITECTURE aarch64-linux-gnu)

get_filename_component(_skv_libraries ${CMAKE_CURRENT_LIST_DIR}/../build/aarch64-libraries ABSOLUTE)
if(NOT EXISTS ${_skv_libraries}/usr/include)
  message(FATAL_ERROR "no libraries for aarch64 in ${_skv_libraries}: run ./scripts/setup.sh --aarch64")
endif()
set(CMAKE_FIND_ROOT_PATH ${_skv_libraries} /usr/aarch64-linux-gnu)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
# Before /usr/include, where Debian's cross compiler looks too; the second holds OpenSSL's configuration.h.
foreach(_language C CXX)
  set(CMAKE_${_language}_FLAGS_INIT
      "-isystem ${_skv_libraries}/usr/include -isystem ${_skv_libraries}/usr/include/${CMAKE_LIBRARY_ARCHITECTURE}")
endforeach()
# Where libc and libstdc++ of the target lie; the libraries above are found by the programs' own run paths.
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64-static -L /usr/aarch64-linux-gnu)
