// SPDX-License-Identifier: Apache-2.0
// Frame headers and control bodies from arbitrary bytes; half of the headers get a right CRC so that deeper checks are
// reached. What decodes must encode back to the same bytes.
#include <cstdlib>
#include <cstring>

#include "error.h"
#include "transport/control.h"
#include "transport/frame.h"

namespace {

using namespace skv::transport;

void must(bool holds) {
  if (!holds) std::abort();
}

template <class Body, class Decode>
void body(std::span<const std::byte> bytes, Decode&& decode) {
  try {
    const Body decoded = decode(bytes);
    const auto again = decode(encode(decoded));  // what was accepted can be said again
    must(encode(again) == encode(decoded));
  } catch (const skv::Error& e) {
    must(e.status() == SKV_E_PROTOCOL);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span<const std::byte> bytes(reinterpret_cast<const std::byte*>(data), size);
  could_be_header(bytes);
  if (size >= kHeaderBytes) {
    std::array<std::byte, kHeaderBytes> header;
    std::memcpy(header.data(), data, header.size());
    if (size % 2 == 0) {
      const uint32_t magic = kMagic;
      std::memcpy(header.data(), &magic, 4);
      std::memset(header.data() + 12, 0, 4);
      const uint32_t crc = crc32c(header);
      std::memcpy(header.data() + 12, &crc, 4);
    }
    try {
      must(encode_header(decode_header(header)) == header);
    } catch (const skv::Error& e) {
      must(e.status() == SKV_E_PROTOCOL || e.status() == SKV_E_VERSION);
    }
  }
  body<Hello>(bytes, [](auto b) { return decode_hello(b); });
  body<Offer>(bytes, [](auto b) { return decode_offer(b); });
  body<Accept>(bytes, [](auto b) { return decode_accept(b); });
  body<Commit>(bytes, [](auto b) { return decode_commit(b); });
  body<Shrink>(bytes, [](auto b) { return decode_shrink(b); });
  body<Verdict>(bytes, [](auto b) { return decode_verdict(b); });
  return 0;
}
