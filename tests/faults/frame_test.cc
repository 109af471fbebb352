// SPDX-License-Identifier: Apache-2.0
#include "transport/frame.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string_view>

#include "error.h"
#include "transport/control.h"

namespace skv::transport {
namespace {

skv_status decode_status(std::span<const std::byte, kHeaderBytes> bytes) {
  try {
    decode_header(bytes);
  } catch (const Error& error) {
    return error.status();
  }
  return SKV_OK;
}

FrameHeader data_header() {
  FrameHeader header;
  header.type = FrameType::kData;
  header.epoch = 0x1122'3344'5566'7788;
  header.transfer_id = 3;
  header.layer = 4;
  header.chunk = 5;
  header.offset = 1 << 20;
  header.length = 4096;
  header.digest = 0xfeed;
  return header;
}

TEST(Frame, Crc32cMatchesTheStandardVector) {
  const std::string_view text = "123456789";
  EXPECT_EQ(crc32c(std::as_bytes(std::span(text))), 0xe306'9283u);
}

TEST(Frame, HeaderKeepsEveryField) {
  const FrameHeader header = data_header();
  EXPECT_EQ(decode_header(encode_header(header)), header);
}

TEST(Frame, HeaderBytesAreFixed) {
  const auto bytes = encode_header(data_header());
  EXPECT_EQ(std::memcmp(bytes.data(), "SKVK\x01\x07\0\0\x40\0\0\0", 12), 0);
  EXPECT_EQ(bytes[16], std::byte{0x88});  // little-endian
  EXPECT_EQ(bytes[24], std::byte{3});
}

TEST(Frame, EveryFlippedBitIsRefused) {
  const auto good = encode_header(data_header());
  for (std::size_t bit = 0; bit < 8 * kHeaderBytes; bit++) {
    auto bad = good;
    bad[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
    EXPECT_EQ(decode_status(bad), SKV_E_PROTOCOL) << "bit " << bit;
  }
}

TEST(Frame, IntactHeadersThatMakeNoSenseAreRefused) {
  const auto status = [](auto change) {
    FrameHeader header = data_header();
    change(header);
    return decode_status(encode_header(header));
  };
  EXPECT_EQ(status([](FrameHeader&) {}), SKV_OK);
  EXPECT_EQ(status([](FrameHeader& h) { h.type = static_cast<FrameType>(0); }), SKV_E_PROTOCOL);
  EXPECT_EQ(status([](FrameHeader& h) { h.type = static_cast<FrameType>(16); }), SKV_E_PROTOCOL);
  EXPECT_EQ(status([](FrameHeader& h) { h.type = FrameType::kAuth; }), SKV_E_PROTOCOL);
  EXPECT_EQ(status([](FrameHeader& h) { h.length = 0; }), SKV_E_PROTOCOL);
  EXPECT_EQ(status([](FrameHeader& h) { h.length = kMaxDataBytes; }), SKV_OK);
  EXPECT_EQ(status([](FrameHeader& h) { h.length = kMaxDataBytes + 1; }), SKV_E_PROTOCOL);
  EXPECT_EQ(status([](FrameHeader& h) { h.offset = UINT64_MAX - 4095; }), SKV_E_PROTOCOL);
  EXPECT_EQ(status([](FrameHeader& h) { h.transfer_id = 0; }), SKV_E_PROTOCOL);
  EXPECT_EQ(status([](FrameHeader& h) { h.type = FrameType::kPing; }), SKV_E_PROTOCOL);
  EXPECT_EQ(status([](FrameHeader& h) {
              h = FrameHeader{};
              h.type = FrameType::kOffer;
              h.transfer_id = 1;
              h.length = kMaxControlBytes + 1;
            }),
            SKV_E_PROTOCOL);
}

TEST(Frame, ReservedBytesAndOtherVersionsAreRefusedEvenWithAGoodCrc) {
  // A PING with the byte at `at` changed and the CRC made to fit.
  const auto with = [](std::size_t at, std::uint8_t value) {
    auto bytes = encode_header(FrameHeader{});
    bytes[at] = static_cast<std::byte>(value);
    auto zeroed = bytes;
    std::memset(zeroed.data() + 12, 0, 4);
    store_le<std::uint32_t>(bytes.data() + 12, crc32c(zeroed));
    return decode_status(bytes);
  };
  EXPECT_EQ(with(5, 12), SKV_OK);
  EXPECT_EQ(with(4, 2), SKV_E_VERSION);
  for (const std::size_t at : {6, 7, 8, 9, 10, 11, 52, 53, 54, 55}) EXPECT_EQ(with(at, 1), SKV_E_PROTOCOL) << at;
}

TEST(Frame, AScannerIsToldFromAPeerByItsFirstByte) {
  const auto bytes = [](std::string_view text) { return std::as_bytes(std::span(text)); };
  EXPECT_FALSE(could_be_header(bytes("G")));
  EXPECT_FALSE(could_be_header(bytes("SSH-")));
  EXPECT_TRUE(could_be_header(bytes("")));
  EXPECT_TRUE(could_be_header(bytes("SK")));
  EXPECT_TRUE(could_be_header(bytes("SKVK....")));
}

TEST(Control, OfferTablesAreChecked) {
  Offer offer;
  offer.layer_bytes = {128, 1000, 2000};
  offer.total = 3128;
  const auto good = encode(offer);
  EXPECT_EQ(decode_offer(good).layer_bytes, offer.layer_bytes);
  const auto refused = [](const Offer& bad) {
    try {
      decode_offer(encode(bad));
    } catch (const Error& error) {
      return error.status() == SKV_E_PROTOCOL;
    }
    return false;
  };
  Offer bad = offer;
  bad.total++;
  EXPECT_TRUE(refused(bad));
  bad = offer;
  bad.layer_bytes[1] = 0;
  EXPECT_TRUE(refused(bad));
  bad = offer;
  bad.layer_bytes = {UINT64_MAX, 2};
  bad.total = 1;
  EXPECT_TRUE(refused(bad)) << "a sum that overflows";
  bad.layer_bytes.assign(kMaxEntries + 1, 1);
  bad.total = kMaxEntries + 1;
  EXPECT_TRUE(refused(bad));
  for (std::size_t n = 0; n < good.size(); n++) {
    EXPECT_THROW(decode_offer(std::span(good).first(n)), Error) << n;
  }
}

TEST(Control, ReasonsAreCutBetweenCharactersAndCleaned) {
  std::string text(199, 'x');
  text += "\xc3\xa9 and more";
  const Verdict verdict = decode_verdict(encode(Verdict{SKV_E_REJECTED, text}));
  EXPECT_EQ(verdict.status, SKV_E_REJECTED);
  EXPECT_EQ(verdict.reason, std::string(199, 'x'));
  EXPECT_EQ(clean_reason("a\nb\x1b[31m"), "a b [31m");
  EXPECT_EQ(clean_reason("caf\xc3\xa9 \xff"), "caf\xc3\xa9 ?");
}

}  // namespace
}  // namespace skv::transport
