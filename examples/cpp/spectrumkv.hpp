// SPDX-License-Identifier: Apache-2.0
//
// A C++20 convenience over spectrumkv.h, to copy into a project: handles that destroy themselves, exceptions that carry
// the status, spans. Header only, no state of its own, not part of the ABI. What it lacks, call on the handles: every
// class gives its own with get().
#pragma once

#include <spectrumkv.h>

#include <chrono>
#include <cstddef>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>

namespace spectrumkv {

/// What the library said no with.
class Error : public std::runtime_error {
 public:
  Error(skv_status status, const skv_error& error)
      : std::runtime_error(std::string(skv_status_name(status)) + ": " + error.message),
        status_(status),
        native_(error.native) {}
  skv_status status() const noexcept { return status_; }
  int native() const noexcept { return native_; }

 private:
  skv_status status_;
  int native_;
};

/// Calls f(arguments..., error*). Throws for errors; returns SKV_OK or SKV_IN_PROGRESS.
template <typename F, typename... Arguments>
skv_status call(F f, Arguments&&... arguments) {
  skv_error error;
  const skv_status status = f(std::forward<Arguments>(arguments)..., &error);
  if (status < 0) throw Error(status, error);
  return status;
}

/// So long from now, as the library's absolute deadline.
inline std::uint64_t deadline(std::chrono::milliseconds timeout) {
  return skv_deadline_ms(timeout.count() < 0 ? 0 : static_cast<std::uint64_t>(timeout.count()));
}

/// A handle that destroys itself.
template <typename T, void (*Destroy)(T*)>
class Handle {
 public:
  explicit Handle(T* handle) noexcept : handle_(handle) {}
  T* get() const noexcept { return handle_.get(); }

 private:
  struct Destroyer {
    void operator()(T* handle) const noexcept { Destroy(handle); }
  };
  std::unique_ptr<T, Destroyer> handle_;
};

/// What f(arguments..., T** out, error*) makes.
template <typename T, typename F, typename... Arguments>
T* make(F f, Arguments&&... arguments) {
  T* out = nullptr;
  call(f, std::forward<Arguments>(arguments)..., &out);
  return out;
}

/// Strides in bytes, see skv_cache_set_plane.
struct Strides {
  std::int64_t token, head, elem, block = 0;
};

/// A view of KV memory that the caller owns and keeps.
class Cache : public Handle<skv_cache, skv_cache_destroy> {
 public:
  explicit Cache(int layers) : Handle(make<skv_cache>(skv_cache_create, layers)) {}
  Cache& tokens(int layer, std::int64_t first_position, std::int64_t tokens) {
    call(skv_cache_set_tokens, get(), layer, first_position, tokens);
    return *this;
  }
  Cache& layer(int layer, int kv_heads, int k_dim, int v_dim, int dtype) {
    call(skv_cache_set_layer, get(), layer, kv_heads, k_dim, v_dim, dtype);
    return *this;
  }
  template <typename T>
  Cache& plane(int layer, int half, std::span<T> memory, const Strides& s) {
    call(skv_cache_set_plane, get(), layer, half, memory.data(), memory.size_bytes(), s.block, s.token, s.head, s.elem);
    return *this;
  }
  Cache& blocks(int layer, std::span<const std::int32_t> ids, int block_tokens) {
    call(skv_cache_set_blocks, get(), layer, ids.data(), ids.size(), block_tokens);
    return *this;
  }
  std::uint64_t raw_bytes() const {
    std::uint64_t out = 0;
    call(skv_cache_raw_bytes, get(), &out);
    return out;
  }
};

/// The encoded bytes.
class Payload : public Handle<skv_payload, skv_payload_destroy> {
 public:
  using Handle::Handle;
  /// The bytes must outlive the payload.
  static Payload open(std::span<const std::byte> bytes) {
    return Payload(make<skv_payload>(skv_payload_open, bytes.data(), bytes.size()));
  }
  std::span<const std::byte> bytes() const {
    const void* data = nullptr;
    std::size_t size = 0;
    call(skv_payload_data, get(), &data, &size);
    return {static_cast<const std::byte*>(data), size};
  }
  skv_receipt receipt() const {
    skv_receipt out;
    out.struct_size = sizeof out;
    call(skv_payload_receipt, get(), &out);
    return out;
  }
};

class Engine;

/// A tier for every row.
class Plan : public Handle<skv_plan, skv_plan_destroy> {
 public:
  explicit Plan(const Engine& engine);
  Plan& set(int key, std::int64_t value) {
    call(skv_plan_set, get(), key, value);
    return *this;
  }
  Plan& budget(double fraction) {
    call(skv_plan_set_budget, get(), fraction);
    return *this;
  }
  Plan& strategy(const char* name) {
    call(skv_plan_set_strategy, get(), name);
    return *this;
  }
  Plan& solve(const Cache& cache, const skv_scores* scores = nullptr) {
    call(skv_plan_solve, get(), cache.get(), scores);
    return *this;
  }
};

/// A device with its threads.
class Engine : public Handle<skv_engine, skv_engine_destroy> {
 public:
  explicit Engine(int device = SKV_DEVICE_CPU) : Handle(make<skv_engine>(skv_engine_create, device)) {}
  std::string describe() const {
    char line[256];
    call(skv_engine_describe, get(), line, sizeof line);
    return line;
  }
  Payload encode(const Cache& cache, const Plan& plan) const {
    return Payload(make<skv_payload>(skv_encode, get(), cache.get(), plan.get(), nullptr));
  }
  void decode(const Payload& payload, const Cache& cache) const {
    call(skv_decode, get(), payload.get(), cache.get(), nullptr);
  }
};

inline Plan::Plan(const Engine& engine) : Handle(make<skv_plan>(skv_plan_create, engine.get())) {}

/// One asynchronous operation. Destroying one that moves bytes cancels it and waits, at most two seconds.
class Request {
 public:
  explicit Request(skv_request* handle) noexcept : handle_(handle) {}
  Request(Request&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Request& operator=(Request&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~Request() {
    skv_error ignored;
    if (skv_request_destroy(handle_, &ignored) != SKV_E_BUSY) return;
    skv_request_cancel(handle_, &ignored);
    skv_request_wait(handle_, skv_deadline_ms(2000), &ignored);
    skv_request_destroy(handle_, &ignored);
  }
  skv_request* get() const noexcept { return handle_; }
  /// False: still in progress.
  bool wait(std::chrono::milliseconds timeout) { return call(skv_request_wait, handle_, deadline(timeout)) == SKV_OK; }
  void accept(std::chrono::milliseconds timeout) {
    call(skv_offer_accept, handle_, nullptr, std::size_t{0}, deadline(timeout));
  }
  Payload payload() { return Payload(make<skv_payload>(skv_request_payload, handle_)); }

 private:
  skv_request* handle_;
};

/// One peer.
class Conn : public Handle<skv_conn, skv_conn_destroy> {
 public:
  using Handle::Handle;
  /// The payload's bytes must stay until the request ended, unless the payload owns them.
  Request send(std::uint64_t key, const Payload& payload, std::chrono::milliseconds timeout) {
    return Request(make<skv_request>(skv_send, get(), key, payload.get(), deadline(timeout)));
  }
  Request recv_offer(std::chrono::milliseconds timeout) {
    return Request(make<skv_request>(skv_recv_offer, get(), deadline(timeout)));
  }
};

/// A local end.
class Endpoint : public Handle<skv_endpoint, skv_endpoint_destroy> {
 public:
  Endpoint() : Handle(make<skv_endpoint>(skv_endpoint_create)) {}
  std::string listen(const char* uri) {
    char bound[256];
    call(skv_listen, get(), uri, bound, sizeof bound);
    return bound;
  }
  Conn accept(std::chrono::milliseconds timeout) { return Conn(make<skv_conn>(skv_accept, get(), deadline(timeout))); }
  Conn connect(const char* uri, std::chrono::milliseconds timeout) {
    return Conn(make<skv_conn>(skv_connect, get(), uri, deadline(timeout)));
  }
};

}  // namespace spectrumkv
