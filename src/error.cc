// SPDX-License-Identifier: Apache-2.0
#include "error.h"

#include <cstdarg>
#include <cstdio>
#include <cstring>

namespace skv {
namespace {

std::string format_list(const char* format, va_list args) {
  char buffer[sizeof(skv_error::message)];
  const int wanted = std::vsnprintf(buffer, sizeof buffer, format, args);
  if (wanted < 0) return format;
  return std::string(buffer);
}

}  // namespace

void fail(skv_status status, const char* format, ...) {
  va_list args;
  va_start(args, format);
  std::string message = format_list(format, args);
  va_end(args);
  throw Error(status, std::move(message));
}

void fail_errno(skv_status status, int code, const char* format, ...) {
  va_list args;
  va_start(args, format);
  std::string message = format_list(format, args);
  va_end(args);
  char reason[128];
  message += ": ";
  message += strerror_r(code, reason, sizeof reason);  // GNU form: returns the text
  throw Error(status, std::move(message), code);
}

const char* status_name(skv_status status) noexcept {
  switch (status) {
#define SKV_NAME(name) \
  case name:           \
    return #name
    SKV_NAME(SKV_OK);
    SKV_NAME(SKV_IN_PROGRESS);
    SKV_NAME(SKV_E_ARGUMENT);
    SKV_NAME(SKV_E_NULL);
    SKV_NAME(SKV_E_RANGE);
    SKV_NAME(SKV_E_DTYPE);
    SKV_NAME(SKV_E_STRIDE);
    SKV_NAME(SKV_E_OVERLAP);
    SKV_NAME(SKV_E_BLOCK_ID);
    SKV_NAME(SKV_E_KEY);
    SKV_NAME(SKV_E_GEOMETRY);
    SKV_NAME(SKV_E_EMPTY);
    SKV_NAME(SKV_E_STATE);
    SKV_NAME(SKV_E_BUSY);
    SKV_NAME(SKV_E_CLOSED);
    SKV_NAME(SKV_E_NO_MEMORY);
    SKV_NAME(SKV_E_NO_RESOURCE);
    SKV_NAME(SKV_E_UNAVAILABLE);
    SKV_NAME(SKV_E_TOO_SMALL);
    SKV_NAME(SKV_E_IO);
    SKV_NAME(SKV_E_BUDGET);
    SKV_NAME(SKV_E_PERMITTED);
    SKV_NAME(SKV_E_MALFORMED);
    SKV_NAME(SKV_E_TRUNCATED);
    SKV_NAME(SKV_E_TRAILING);
    SKV_NAME(SKV_E_VERSION);
    SKV_NAME(SKV_E_FEATURE);
    SKV_NAME(SKV_E_MODEL);
    SKV_NAME(SKV_E_REQUEST);
    SKV_NAME(SKV_E_LAYOUT);
    SKV_NAME(SKV_E_BASE);
    SKV_NAME(SKV_E_CHECKSUM);
    SKV_NAME(SKV_E_NON_FINITE);
    SKV_NAME(SKV_E_OVERFLOW);
    SKV_NAME(SKV_E_CUDA);
    SKV_NAME(SKV_E_NCCL);
    SKV_NAME(SKV_E_NCCL_VERSION);
    SKV_NAME(SKV_E_TIMED_OUT);
    SKV_NAME(SKV_E_CANCELLED);
    SKV_NAME(SKV_E_PEER_LOST);
    SKV_NAME(SKV_E_REJECTED);
    SKV_NAME(SKV_E_PROTOCOL);
    SKV_NAME(SKV_E_POISONED);
    SKV_NAME(SKV_E_ADDRESS);
    SKV_NAME(SKV_E_AUTH);
    SKV_NAME(SKV_E_INTERNAL);
#undef SKV_NAME
    default:
      return "SKV_UNKNOWN";
  }
}

void fill(skv_error* error, skv_status status, int native, std::string_view message) noexcept {
  if (error == nullptr) return;
  error->status = status;
  error->native = native;
  size_t length = message.size() < sizeof error->message - 1 ? message.size() : sizeof error->message - 1;
  // Do not cut a UTF-8 sequence in two: step back over continuation bytes.
  if (length < message.size()) {
    while (length > 0 && (static_cast<unsigned char>(message[length]) & 0xC0U) == 0x80U) --length;
  }
  // An empty view may point nowhere, which memcpy must not be given.
  if (length != 0) std::memcpy(error->message, message.data(), length);
  std::memset(error->message + length, 0, sizeof error->message - length);
}

}  // namespace skv
