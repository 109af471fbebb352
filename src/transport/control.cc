// SPDX-License-Identifier: Apache-2.0
#include "transport/control.h"

#include <algorithm>
#include <cstring>

#include "error.h"
#include "transport/digest.h"
#include "transport/frame.h"

namespace skv::transport {
namespace {

constexpr std::size_t kOfferFixed = 72;

// Appends little-endian fields.
class Writer {
 public:
  explicit Writer(std::size_t bytes) { out_.reserve(bytes); }
  template <typename T>
  void put(T value) {
    std::byte field[sizeof(T)];
    store_le<T>(field, value);
    out_.insert(out_.end(), field, field + sizeof(T));
  }
  template <std::size_t N>
  void put(const std::array<std::uint8_t, N>& bytes) {
    const auto* p = reinterpret_cast<const std::byte*>(bytes.data());
    out_.insert(out_.end(), p, p + N);
  }
  void bytes(std::span<const std::byte> more) { out_.insert(out_.end(), more.begin(), more.end()); }
  void pad_to(std::size_t bytes) { out_.resize(bytes); }
  void text(std::string_view s) {
    const auto* p = reinterpret_cast<const std::byte*>(s.data());
    out_.insert(out_.end(), p, p + s.size());
  }
  std::vector<std::byte> take() { return std::move(out_); }

 private:
  std::vector<std::byte> out_;
};

// Reads little-endian fields of a body whose size was checked.
class Reader {
 public:
  explicit Reader(std::span<const std::byte> bytes) : bytes_(bytes) {}
  template <typename T>
  T get() {
    const T value = load_le<T>(next(sizeof(T)).data());
    return value;
  }
  template <std::size_t N>
  std::array<std::uint8_t, N> array() {
    std::array<std::uint8_t, N> out;
    std::memcpy(out.data(), next(N).data(), N);
    return out;
  }
  std::span<const std::byte> next(std::size_t n) {
    if (n > bytes_.size() - at_) fail(SKV_E_PROTOCOL, "control body of %zu bytes ends early", bytes_.size());
    at_ += n;
    return bytes_.subspan(at_ - n, n);
  }
  std::span<const std::byte> rest() { return next(bytes_.size() - at_); }

 private:
  std::span<const std::byte> bytes_;
  std::size_t at_ = 0;
};

void want_size(const char* what, std::span<const std::byte> body, std::size_t want) {
  if (body.size() != want) fail(SKV_E_PROTOCOL, "%s body of %zu bytes, want %zu", what, body.size(), want);
}
void want_zero(const char* what, std::span<const std::byte> bytes) {
  if (std::any_of(bytes.begin(), bytes.end(), [](std::byte b) { return b != std::byte{0}; })) {
    fail(SKV_E_PROTOCOL, "%s body: reserved bytes are not 0", what);
  }
}

unsigned long long ull(std::uint64_t value) { return value; }

// Bytes of the UTF-8 character at the front, 0 if there is none (overlong forms and surrogates are let through: they
// harm nobody who only shows the text).
std::size_t utf8_length(std::string_view text) {
  const auto lead = static_cast<unsigned char>(text[0]);
  const std::size_t length = lead < 0x80   ? 1
                             : lead < 0xc2 ? 0
                             : lead < 0xe0 ? 2
                             : lead < 0xf0 ? 3
                             : lead < 0xf5 ? 4
                                           : 0;
  if (length > text.size()) return 0;
  for (std::size_t i = 1; i < length; i++) {
    if ((static_cast<unsigned char>(text[i]) & 0xc0) != 0x80) return 0;
  }
  return length;
}

}  // namespace

std::vector<std::byte> encode(const Hello& hello) {
  Writer w(kHelloBytes);
  w.put(hello.protocol_min);
  w.put(hello.protocol_max);
  w.put(hello.library_version);
  w.put(hello.wire_version);
  w.put(hello.plane);
  w.put(hello.fingerprint);
  w.put(hello.max_payload);
  w.put(hello.max_data);
  w.put(hello.max_transfers);
  w.put(hello.nonce);
  w.put(hello.epoch);
  w.put(hello.auth);
  w.put(hello.heartbeat_ms);
  w.put(hello.planes);
  w.put(hello.nccl_version);
  w.put(hello.place);
  w.pad_to(kHelloBytes);
  return w.take();
}

Hello decode_hello(std::span<const std::byte> body) {
  want_size("HELLO", body, kHelloBytes);
  Reader r(body);
  Hello hello;
  hello.protocol_min = r.get<std::uint16_t>();
  hello.protocol_max = r.get<std::uint16_t>();
  hello.library_version = r.get<std::uint32_t>();
  hello.wire_version = r.get<std::uint32_t>();
  hello.plane = r.get<std::uint32_t>();
  hello.fingerprint = r.array<32>();
  hello.max_payload = r.get<std::uint64_t>();
  hello.max_data = r.get<std::uint32_t>();
  hello.max_transfers = r.get<std::uint32_t>();
  hello.nonce = r.array<16>();
  hello.epoch = r.get<std::uint64_t>();
  hello.auth = r.get<std::uint32_t>();
  hello.heartbeat_ms = r.get<std::uint32_t>();
  hello.planes = r.get<std::uint32_t>();
  hello.nccl_version = r.get<std::uint32_t>();
  hello.place = r.get<std::uint64_t>();
  want_zero("HELLO", r.rest());
  if (hello.protocol_min > hello.protocol_max) {
    fail(SKV_E_PROTOCOL, "HELLO protocol range %u..%u is empty", hello.protocol_min, hello.protocol_max);
  }
  if (hello.max_data < kMinDataBytes || hello.max_data > kMaxDataBytes) {
    fail(SKV_E_PROTOCOL, "HELLO DATA limit %u, want %u..%u", hello.max_data, kMinDataBytes, kMaxDataBytes);
  }
  return hello;
}

std::vector<std::byte> encode(const Offer& offer) {
  Writer w(kOfferFixed + 8 * offer.layer_bytes.size());
  w.put(offer.key);
  w.put(offer.request_id);
  w.put(offer.fingerprint);
  w.put(offer.total);
  w.put(static_cast<std::uint32_t>(offer.layer_bytes.size()));
  w.put(std::uint32_t{0});
  for (const std::uint64_t bytes : offer.layer_bytes) w.put(bytes);
  return w.take();
}

Offer decode_offer(std::span<const std::byte> body) {
  Reader r(body);
  Offer offer;
  offer.key = r.get<std::uint64_t>();
  offer.request_id = r.array<16>();
  offer.fingerprint = r.array<32>();
  offer.total = r.get<std::uint64_t>();
  const auto entries = r.get<std::uint32_t>();
  want_zero("OFFER", r.next(4));
  if (entries < 1 || entries > kMaxEntries)
    fail(SKV_E_PROTOCOL, "OFFER of %u entries, want 1..%u", entries, kMaxEntries);
  want_size("OFFER", body, kOfferFixed + std::size_t{8} * entries);
  offer.layer_bytes.reserve(entries);
  std::uint64_t sum = 0;
  for (std::uint32_t i = 0; i < entries; i++) {
    const auto bytes = r.get<std::uint64_t>();
    if (bytes == 0 || bytes > UINT64_MAX - sum) fail(SKV_E_PROTOCOL, "OFFER entry %u of %llu bytes", i, ull(bytes));
    sum += bytes;
    offer.layer_bytes.push_back(bytes);
  }
  if (sum != offer.total) fail(SKV_E_PROTOCOL, "OFFER total %llu, its entries sum to %llu", ull(offer.total), ull(sum));
  return offer;
}

std::vector<std::byte> encode(const Accept& accept) {
  Writer w(24);
  w.put(accept.total);
  w.put(accept.entries);
  w.pad_to(16);
  if (accept.operations != 0) w.put(accept.operations);
  return w.take();
}

Accept decode_accept(std::span<const std::byte> body) {
  if (body.size() != 24) want_size("ACCEPT", body, 16);
  Reader r(body);
  Accept accept;
  accept.total = r.get<std::uint64_t>();
  accept.entries = r.get<std::uint32_t>();
  want_zero("ACCEPT", r.next(4));
  if (body.size() == 24) {
    accept.operations = r.get<std::uint64_t>();
    if (accept.operations == 0) fail(SKV_E_PROTOCOL, "ACCEPT of 24 bytes without operations");
  }
  return accept;
}

std::uint64_t operations_of(std::int32_t plane, std::span<const std::uint64_t> layer_bytes) {
  Writer w(8 + 8 * layer_bytes.size());
  w.put(static_cast<std::uint32_t>(plane));
  w.put(static_cast<std::uint32_t>(layer_bytes.size()));
  for (const std::uint64_t bytes : layer_bytes) w.put(bytes);
  const std::uint64_t hash = digest64(w.take());
  return hash == 0 ? 1 : hash;
}

std::vector<std::byte> encode(const Ready& ready) {
  Writer w(kReadyFixed + ready.words.size());
  w.put(ready.first);
  w.put(ready.count);
  w.put(static_cast<std::uint32_t>(ready.words.size()));
  w.put(std::uint32_t{0});
  const std::size_t fixed = kReadyFixed;
  std::vector<std::byte> out = w.take();
  out.resize(fixed);
  out.insert(out.end(), ready.words.begin(), ready.words.end());
  return out;
}

Ready decode_ready(std::span<const std::byte> body) {
  Reader r(body);
  Ready ready;
  ready.first = r.get<std::uint32_t>();
  ready.count = r.get<std::uint32_t>();
  const auto length = r.get<std::uint32_t>();
  want_zero("READY", r.next(4));
  if (length > kMaxReadyWords)
    fail(SKV_E_PROTOCOL, "READY with %u bytes of the plane, want at most %zu", length, kMaxReadyWords);
  want_size("READY", body, kReadyFixed + std::size_t{length});
  const auto words = r.rest();
  ready.words.assign(words.begin(), words.end());
  return ready;
}

std::vector<std::byte> encode(const Credit& credit) {
  Writer w(16);
  w.put(credit.granted);
  w.pad_to(16);
  return w.take();
}

Credit decode_credit(std::span<const std::byte> body) {
  want_size("CREDIT", body, 16);
  Reader r(body);
  Credit credit;
  credit.granted = r.get<std::uint64_t>();
  want_zero("CREDIT", r.rest());
  return credit;
}

std::vector<std::byte> encode(const Commit& commit) {
  Writer w(32);
  w.put(commit.total);
  w.put(commit.root);
  w.put(commit.leaves);
  w.put(commit.entries);
  w.pad_to(32);
  return w.take();
}

Commit decode_commit(std::span<const std::byte> body) {
  want_size("COMMIT", body, 32);
  Reader r(body);
  Commit commit;
  commit.total = r.get<std::uint64_t>();
  commit.root = r.get<std::uint64_t>();
  commit.leaves = r.get<std::uint64_t>();
  commit.entries = r.get<std::uint32_t>();
  want_zero("COMMIT", r.rest());
  return commit;
}

std::vector<std::byte> encode(const Shrink& shrink) {
  Writer w(16 + shrink.head.size());
  w.put(shrink.entry);
  w.put(shrink.note);
  w.put(shrink.bytes);
  w.bytes(shrink.head);
  return w.take();
}

Shrink decode_shrink(std::span<const std::byte> body) {
  Reader r(body);
  Shrink shrink;
  shrink.entry = r.get<std::uint32_t>();
  shrink.note = r.get<std::uint32_t>();
  shrink.bytes = r.get<std::uint64_t>();
  const auto head = r.rest();
  shrink.head.assign(head.begin(), head.end());
  return shrink;
}

std::vector<std::byte> encode(const Verdict& verdict) {
  const std::string reason = clean_reason(verdict.reason);
  Writer w(16 + reason.size());
  w.put(static_cast<std::uint32_t>(verdict.status));
  w.put(static_cast<std::uint32_t>(reason.size()));
  w.pad_to(16);
  w.text(reason);
  return w.take();
}

Verdict decode_verdict(std::span<const std::byte> body) {
  Reader r(body);
  Verdict verdict;
  verdict.status = static_cast<skv_status>(r.get<std::uint32_t>());
  const auto length = r.get<std::uint32_t>();
  want_zero("status", r.next(8));
  if (length > kMaxReasonBytes) fail(SKV_E_PROTOCOL, "reason of %u bytes, want at most %zu", length, kMaxReasonBytes);
  want_size("status", body, 16 + std::size_t{length});
  const auto text = r.rest();
  verdict.reason = clean_reason({reinterpret_cast<const char*>(text.data()), text.size()});
  return verdict;
}

std::string clean_reason(std::string_view text) {
  std::size_t n = std::min(text.size(), kMaxReasonBytes);
  if (n < text.size()) {
    while (n > 0 && (static_cast<unsigned char>(text[n]) & 0xc0) == 0x80) n--;
  }
  std::string out(text.substr(0, n));
  for (std::size_t i = 0; i < out.size();) {
    const std::size_t length = utf8_length(std::string_view(out).substr(i));
    const auto u = static_cast<unsigned char>(out[i]);
    if (length == 0) {
      out[i] = '?';
    } else if (u < 0x20 || u == 0x7f) {
      out[i] = ' ';
    }
    i += std::max<std::size_t>(length, 1);
  }
  return out;
}

}  // namespace skv::transport
