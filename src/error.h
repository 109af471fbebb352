// SPDX-License-Identifier: Apache-2.0
// The one exception type of the library. Thrown anywhere inside, caught only by guard() in api.cc.
#pragma once

#include <spectrumkv.h>

#include <exception>
#include <string>
#include <string_view>
#include <utility>

namespace skv {

class Error final : public std::exception {
 public:
  Error(skv_status status, std::string message, int native = 0)
      : status_(status), native_(native), message_(std::move(message)) {}
  skv_status status() const noexcept { return status_; }
  int native() const noexcept { return native_; }
  const std::string& message() const noexcept { return message_; }
  const char* what() const noexcept override { return message_.c_str(); }

 private:
  skv_status status_;
  int native_;
  std::string message_;
};

// Throws Error with a printf-formatted message that says what was got and what is wanted.
[[noreturn]] void fail(skv_status status, const char* format, ...) __attribute__((format(printf, 2, 3)));
// The same with an errno (or device code) kept in skv_error.native; the message gets ": strerror" appended.
[[noreturn]] void fail_errno(skv_status status, int code, const char* format, ...)
    __attribute__((format(printf, 3, 4)));

// Name of a status, "SKV_UNKNOWN" if there is none.
const char* status_name(skv_status status) noexcept;

// Fills a caller-owned error (may be null); truncates the message at a UTF-8 boundary.
void fill(skv_error* error, skv_status status, int native, std::string_view message) noexcept;

}  // namespace skv
