# The CUDA kernels: SPECTRUMKV_CUDA=ON needs nvcc, AUTO builds them where it is found, OFF leaves them out (an engine on
# a device is then SKV_E_UNAVAILABLE). nvcc is CUDACXX, or the one on the PATH, or the one that scripts/setup.sh --cuda
# put into build/cuda.
set(SPECTRUMKV_CUDA AUTO CACHE STRING "Build the CUDA kernels: AUTO, ON or OFF")
set_property(CACHE SPECTRUMKV_CUDA PROPERTY STRINGS AUTO ON OFF)
if(NOT SPECTRUMKV_CUDA MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "SPECTRUMKV_CUDA=${SPECTRUMKV_CUDA}: wanted AUTO, ON or OFF")
endif()

set(SPECTRUMKV_WITH_CUDA OFF)
# nvcc passes sanitizer flags on to no device code and its host stubs trip UBSan: sanitizers see the kernels through
# tests/shim instead.
if(NOT SPECTRUMKV_CUDA STREQUAL "OFF" AND NOT SPECTRUMKV_SANITIZE)
  set(_skv_nvcc "${CMAKE_CUDA_COMPILER}")
  if(NOT _skv_nvcc)
    set(_skv_wanted nvcc)
    if(NOT "$ENV{CUDACXX}" STREQUAL "")
      set(_skv_wanted "$ENV{CUDACXX}")
    endif()
    find_program(_skv_found NAMES ${_skv_wanted} HINTS ${PROJECT_SOURCE_DIR}/build/cuda/nvidia/cu13/bin NO_CACHE)
    if(_skv_found)
      set(_skv_nvcc ${_skv_found})
      set(CMAKE_CUDA_COMPILER ${_skv_nvcc})
    endif()
  endif()
  # NVIDIA's wheels have lib where nvcc looks for lib64.
  get_filename_component(_skv_toolkit "${_skv_nvcc}" DIRECTORY)
  get_filename_component(_skv_toolkit "${_skv_toolkit}" DIRECTORY)
  if(EXISTS ${_skv_toolkit}/lib/libcudart_static.a AND NOT EXISTS ${_skv_toolkit}/lib64)
    string(APPEND CMAKE_CUDA_FLAGS " -L${_skv_toolkit}/lib")
  endif()
  set(_skv_version "")
  if(_skv_nvcc)
    execute_process(COMMAND ${_skv_nvcc} --version OUTPUT_VARIABLE _skv_version ERROR_QUIET)
  endif()
  string(REGEX REPLACE ".*release ([0-9.]+).*" "\\1" _skv_version "${_skv_version}")
  # One architecture while developing; everything from Ampere to Blackwell in what is shipped, the last as PTX too, for
  # what comes after. nvcc knows Blackwell from 12.8 on.
  if(NOT CMAKE_CUDA_ARCHITECTURES)
    if(CMAKE_BUILD_TYPE STREQUAL "Debug")
      set(CMAKE_CUDA_ARCHITECTURES 90)
    elseif(_skv_version VERSION_LESS 12.8)
      set(CMAKE_CUDA_ARCHITECTURES 80-real 90)
    else()
      set(CMAKE_CUDA_ARCHITECTURES 80-real 90-real 100)
    endif()
  endif()
  if(NOT CMAKE_CUDA_HOST_COMPILER)
    set(CMAKE_CUDA_HOST_COMPILER ${CMAKE_CXX_COMPILER})
  endif()
  set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
  if(NOT CMAKE_CUDA_COMPILER)
    set(_skv_problem "no nvcc: set CUDACXX, or run scripts/setup.sh --cuda")
  elseif(_skv_version VERSION_LESS 12.0)
    set(_skv_problem "${_skv_nvcc} is \"${_skv_version}\": wanted nvcc 12.0 or later, for C++20")
  else()
    enable_language(CUDA)
    # CMake 3.25 does not know that nvcc speaks C++20.
    if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
      set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
      set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
    endif()
    set(SPECTRUMKV_WITH_CUDA ON)
  endif()
  if(NOT SPECTRUMKV_WITH_CUDA)
    if(SPECTRUMKV_CUDA STREQUAL "ON")
      message(FATAL_ERROR "SPECTRUMKV_CUDA=ON, but ${_skv_problem}")
    endif()
    message(STATUS "spectrumkv: ${_skv_problem}")
  endif()
elseif(SPECTRUMKV_CUDA STREQUAL "ON")
  message(FATAL_ERROR "SPECTRUMKV_CUDA=ON cannot be built with SPECTRUMKV_SANITIZE")
endif()
message(STATUS "spectrumkv: CUDA kernels ${SPECTRUMKV_WITH_CUDA}")

# spectrumkv_device holds what kernels/cuda/cuda.h declares: the kernels, or a "not built in" for each.
if(SPECTRUMKV_WITH_CUDA)
  file(GLOB _skv_cuda CONFIGURE_DEPENDS kernels/cuda/*.cu)
  add_library(spectrumkv_device STATIC ${_skv_cuda})
  set_target_properties(spectrumkv_device PROPERTIES
    CUDA_STANDARD 20 CUDA_STANDARD_REQUIRED ON CUDA_EXTENSIONS OFF CUDA_VISIBILITY_PRESET hidden
    VISIBILITY_INLINES_HIDDEN ON CUDA_SEPARABLE_COMPILATION OFF)
  # --fmad=false and IEEE division and roots: payload bytes must be the CPU's (docs/wire-format.md).
  target_compile_options(spectrumkv_device PRIVATE
    --fmad=false --prec-div=true --prec-sqrt=true --ftz=false --expt-relaxed-constexpr
    -Xcompiler=-Wall,-Wextra,-ffp-contract=off
    $<$<BOOL:${SPECTRUMKV_WERROR}>:-Werror=all-warnings>)
else()
  add_library(spectrumkv_device STATIC kernels/cuda/absent.cc)
  target_link_libraries(spectrumkv_device PRIVATE spectrumkv_flags)
endif()
target_include_directories(spectrumkv_device PRIVATE include ${CMAKE_CURRENT_SOURCE_DIR})
