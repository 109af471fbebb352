// SPDX-License-Identifier: Apache-2.0
#include "transport/auth.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <cstring>

#include "error.h"

namespace skv::transport {
namespace {

Proof hmac(const SecretKey& key, std::span<const std::byte> message) {
  Proof out;
  unsigned int size = 0;
  const auto* in = reinterpret_cast<const unsigned char*>(message.data());
  if (HMAC(EVP_sha256(), key.bytes().data(), static_cast<int>(key.bytes().size()), in, message.size(),
           reinterpret_cast<unsigned char*>(out.data()), &size) == nullptr ||
      size != out.size()) {
    fail(SKV_E_UNAVAILABLE, "OpenSSL does not provide HMAC-SHA256");
  }
  return out;
}

}  // namespace

SecretKey::~SecretKey() { OPENSSL_cleanse(bytes_.data(), bytes_.size()); }

Proof prove(const SecretKey& key, bool connecting, std::span<const std::byte> connecting_hello,
            std::span<const std::byte> accepting_hello) {
  // The label's length is the same for both, so that the message can be read in one way only.
  const char* label = connecting ? "spectrumkv 1 psk connecting end" : "spectrumkv 1 psk accepting end.";
  std::vector<std::byte> message(std::strlen(label));
  std::memcpy(message.data(), label, message.size());
  message.insert(message.end(), connecting_hello.begin(), connecting_hello.end());
  message.insert(message.end(), accepting_hello.begin(), accepting_hello.end());
  return hmac(key, message);
}

bool same_proof(std::span<const std::byte> got, const Proof& want) noexcept {
  return got.size() == want.size() && CRYPTO_memcmp(got.data(), want.data(), want.size()) == 0;
}

Proof derive_key(const SecretKey& key, const char* purpose) {
  return hmac(key, std::as_bytes(std::span(purpose, std::strlen(purpose))));
}

}  // namespace skv::transport
