// SPDX-License-Identifier: Apache-2.0
// Proof of a shared key over a handshake: HMAC-SHA256 of both HELLOs, with a label for each direction so that neither
// end's proof serves as the other's. Fresh nonces in both HELLOs make a recorded proof worthless.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace skv::transport {

inline constexpr std::size_t kProofBytes = 32;
inline constexpr std::size_t kMinKeyBytes = 16;
inline constexpr std::size_t kMaxKeyBytes = 1024;
using Proof = std::array<std::byte, kProofBytes>;

// A key that is wiped when it goes away.
class SecretKey {
 public:
  explicit SecretKey(std::span<const std::uint8_t> bytes) : bytes_(bytes.begin(), bytes.end()) {}
  ~SecretKey();
  SecretKey(const SecretKey&) = delete;
  SecretKey& operator=(const SecretKey&) = delete;
  std::span<const std::uint8_t> bytes() const noexcept { return bytes_; }

 private:
  std::vector<std::uint8_t> bytes_;
};

// What the connecting (or accepting) end proves. The HELLO bodies as they were on the wire.
Proof prove(const SecretKey& key, bool connecting, std::span<const std::byte> connecting_hello,
            std::span<const std::byte> accepting_hello);
// In constant time.
bool same_proof(std::span<const std::byte> got, const Proof& want) noexcept;

// A key of 32 bytes for another use of the same secret.
Proof derive_key(const SecretKey& key, const char* purpose);

}  // namespace skv::transport
