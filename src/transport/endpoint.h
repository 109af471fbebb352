// SPDX-License-Identifier: Apache-2.0
// Endpoint, Conn and Request: the C++ side of the transport section of spectrumkv.h, one method for one C function.
// Methods check their arguments and throw skv::Error; they return SKV_OK or SKV_IN_PROGRESS where the C function may
// say IN_PROGRESS, and throw a request's failed terminal status as an Error. All of it is thread-safe.
//
// How the C handles are meant to be built on this:
//   struct skv_endpoint { ... std::shared_ptr<skv::transport::Endpoint> it; };   likewise skv_conn, skv_request.
//   skv_send:             handle->it = conn->it->send(...); handle->it->set_handle(handle); *out = handle;
//   skv_endpoint_poll:    hands back the pointers given to set_handle; a request without one is never reported.
//   skv_request_destroy:  handle->it->destroy() (may throw BUSY), then delete handle.
//   skv_conn_destroy, skv_endpoint_destroy: close(), then delete handle. close() never throws.
// Any destruction order is safe: what a Conn or Request needs is kept alive by it.
#pragma once

#include <spectrumkv.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace skv::transport {

class Core;       // what the objects of one endpoint share: lock, progress, queues (core.h)
struct Peer;      // one connection's session and link (core.h)
struct Transfer;  // one request's state (core.h)
class Request;
class SecretKey;    // auth.h
class TlsIdentity;  // tls.h

// What is sent. Opaque to the transport. layer_bytes sums to bytes.size(): the payload's header first, then one entry
// a layer; no entry is 0. keep_alive is dropped when the request has ended; if it is null the caller keeps the bytes.
struct Parcel {
  std::span<const std::byte> bytes;
  std::vector<std::uint64_t> layer_bytes;
  std::array<std::uint8_t, 32> fingerprint{};
  std::array<std::uint8_t, 16> request_id{};
  std::shared_ptr<const void> keep_alive;
  std::uint32_t ready = UINT32_MAX;  // leading entries that hold their bytes; the rest follows with Request::extend
};

// Entries that got smaller after the offer.
struct Shrunk {
  std::vector<std::uint64_t> layer_bytes;  // of all entries, as they are now
  std::vector<std::uint32_t> notes;        // of all entries: the sender's, 0 for those that are as offered
  std::vector<std::byte> head;             // what the first entry must hold in the end
};

// What arrived and verified.
struct Received {
  std::span<std::byte> bytes;
  std::shared_ptr<void> owner;  // null: the caller's buffer
  std::uint64_t wire_ns = 0;    // accepted -> ended
  std::int32_t plane = SKV_PLANE_NONE;
  std::vector<std::uint64_t> layer_bytes;  // as offered
  std::shared_ptr<const Shrunk> shrunk;    // null: nothing got smaller
  bool ended = true;                       // false: taken early, layers are still arriving (Request::arrival)
  std::int32_t device = -1;                // whose memory the bytes are in; -1: the host's
};

// How far a payload that was taken early has come.
struct Arrival {
  std::uint32_t entries = 0;  // leading ones that verified
  bool ended = false;         // all of it, and the root verified
  std::uint64_t wire_ns = 0;  // when ended
  std::shared_ptr<const Shrunk> shrunk;
};

class DeviceCalls;  // device_calls.h

class Conn {
 public:
  Conn(std::shared_ptr<Core> core, std::shared_ptr<Peer> peer);
  ~Conn();  // close()
  Conn(const Conn&) = delete;
  Conn& operator=(const Conn&) = delete;

  std::int64_t get(std::int32_t key) const;  // skv_conn_get. Throws KEY.
  void close() noexcept;                     // skv_conn_destroy, first half. Idempotent, does not wait.

  // skv_send. Throws CLOSED, TIMED_OUT, NO_RESOURCE, and for a parcel that makes no sense EMPTY, RANGE, ARGUMENT.
  std::shared_ptr<Request> send(std::uint64_t key, Parcel parcel, std::uint64_t deadline);
  void lend(void* communicator, bool sending);  // skv_conn_set_communicator. NULL, STATE, ARGUMENT, RANGE, NCCL.
  // skv_recv_offer. Throws CLOSED, TIMED_OUT (deadline already past).
  std::shared_ptr<Request> recv_offer(std::uint64_t deadline);

 private:
  std::shared_ptr<Core> core_;
  std::shared_ptr<Peer> peer_;
};

class Request {
 public:
  Request(std::shared_ptr<Core> core, std::shared_ptr<Transfer> transfer);
  ~Request();  // a live one is cancelled
  Request(const Request&) = delete;
  Request& operator=(const Request&) = delete;

  // The pointer that Endpoint::poll reports for this request.
  void set_handle(void* handle);

  std::int64_t get(std::int32_t key) const;                                  // skv_request_get. Throws KEY.
  void identity(std::uint8_t* fingerprint, std::uint8_t* request_id) const;  // skv_request_identity. Throws STATE.
  skv_status test() const;                                                   // skv_request_test
  skv_status wait(std::uint64_t deadline);                                   // skv_request_wait
  skv_status wait_layer(std::int32_t layer, std::uint64_t deadline);         // skv_request_wait_layer; RANGE, STATE
  void set(std::int32_t key, std::int64_t value);                            // skv_request_set. KEY, RANGE, STATE.
  void extend(std::uint32_t ready);  // send side: so many leading entries hold their bytes now
  // Send side: bytes that entries not ready yet may have, see Session::affordable.
  std::uint64_t affordable() const;
  void shrink(std::uint32_t entry, std::uint64_t bytes, std::uint32_t note, std::span<const std::byte> head);
  void abandon(std::string_view why);                  // send side: the rest will never come
  Arrival arrival() const;                             // throws the terminal status of a transfer that failed
  void stream_wait(std::int32_t layer, void* stream);  // throws UNAVAILABLE
  void accept(void* buffer, std::size_t bytes, std::uint64_t deadline);  // skv_offer_accept
  void reject(std::string_view reason);                                  // skv_offer_reject
  void cancel();                                                         // skv_request_cancel
  Received take();                                                       // skv_request_payload. Throws STATE.
  void give_back(Received received);  // undoes take() when opening the payload failed, so that it may be tried again
  void destroy();                     // skv_request_destroy. Throws BUSY.

 private:
  std::shared_ptr<Core> core_;
  std::shared_ptr<Transfer> transfer_;
};

class Endpoint {
 public:
  Endpoint();   // skv_endpoint_create. Throws NO_RESOURCE.
  ~Endpoint();  // close()
  Endpoint(const Endpoint&) = delete;
  Endpoint& operator=(const Endpoint&) = delete;

  void set(std::int32_t key, std::int64_t value);   // skv_endpoint_set. KEY, RANGE, STATE.
  void set_model(const std::uint8_t* fingerprint);  // skv_endpoint_set_model. NULL, STATE.
  void set_psk(std::int32_t security, const std::uint8_t* key, std::size_t bytes);  // skv_endpoint_set_psk
  void set_tls(const char* certificate, const char* key, const char* authority,
               const char* peer_name);                                     // skv_endpoint_set_tls
  void use_device_calls(DeviceCalls& calls);                               // tests: in the place of CUDA's
  void set_library(std::int32_t plane, const char* path);                  // skv_endpoint_set_library
  void listen(const char* uri, char* bound, std::size_t capacity);         // skv_listen; bound may be null
  std::shared_ptr<Conn> accept(std::uint64_t deadline);                    // skv_accept
  std::shared_ptr<Conn> connect(const char* uri, std::uint64_t deadline);  // skv_connect
  std::int32_t fd();                                                       // skv_endpoint_fd
  skv_status progress(std::uint64_t deadline);                             // skv_endpoint_progress
  skv_status drain(std::uint64_t deadline);                                // skv_endpoint_drain. CLOSED.
  std::size_t poll(std::span<void*> out);        // skv_endpoint_poll: pointers given to Request::set_handle
  std::size_t events(std::span<skv_event> out);  // skv_endpoint_events. CLOSED.
  skv_endpoint_stats stats() const;              // struct_size is sizeof(skv_endpoint_stats): copy what fits
  // skv_endpoint_destroy, first half. Idempotent. Waits at most 250 ms for goodbyes to leave.
  void close() noexcept;

 private:
  void set_security(std::int32_t security, std::shared_ptr<const SecretKey> psk,
                    std::shared_ptr<const TlsIdentity> tls);

  std::shared_ptr<Core> core_;
};

}  // namespace skv::transport
