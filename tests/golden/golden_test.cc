// SPDX-License-Identifier: Apache-2.0
// The library against the golden files of reference.py: the same bytes from the same tensors, the same tensors from the
// same bytes, and the same refusals, on every target this machine has.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "golden_files.h"

namespace skv {
namespace {

using namespace test;

class Golden : public testing::TestWithParam<std::string> {};

TEST_P(Golden, IsWrittenFromItsSource) {
  const std::vector<std::byte> wanted = bytes_of(read_file(GetParam()));
  const Source source(GetParam());
  for (const Layout layout : {Layout::kTokenMajor, Layout::kTransposed, Layout::kPaged}) {
    Memory memory(source.facts, layout, 0);
    memory.fill(source.tensors);
    on_every_engine([&](Engine& engine) {
      Plan plan;
      set_options(plan, source.facts);
      solve(engine, plan, memory.cache(), nullptr);
      for (size_t i = 0; i < source.tiers.size(); ++i) {
        if (!source.tiers[i].empty())
          plan.set_tiers(static_cast<int32_t>(i / 2), static_cast<int>(i % 2), source.tiers[i]);
      }
      plan.scored = source.facts["scored"];
      const auto payload = Payload::create(memory.cache(), plan, {});
      encode_layers(engine, memory.cache(), plan, *payload, 0, memory.cache().layer_count());
      ASSERT_EQ(payload->bytes().size(), wanted.size());
      for (size_t i = 0; i < wanted.size(); ++i) ASSERT_EQ(payload->bytes()[i], wanted[i]) << "byte " << i;
    });
  }
}

TEST_P(Golden, DecodesToTheRecordedTensors) {
  const std::vector<std::byte> bytes = bytes_of(read_file(GetParam()));
  const Json facts = table("golden.json")[GetParam()];
  const std::pair<const char*, int32_t> dtypes[] = {{"f16", SKV_F16}, {"bf16", SKV_BF16}, {"f32", SKV_F32}};
  on_every_engine([&](Engine& engine) {
    for (const auto& [name, dtype] : dtypes) {
      for (const Layout layout : {Layout::kTokenMajor, Layout::kTransposed, Layout::kPaged}) {
        const auto payload = Payload::open(bytes, nullptr);
        Memory memory(facts, layout, dtype);
        decode_layers(engine, *payload, memory.cache(), 0, memory.cache().layer_count());
        ASSERT_EQ(test::sha256(memory.gather()), facts["sha256"][name])
            << name << " layout " << static_cast<int>(layout);
      }
    }
  });
}

TEST_P(Golden, SaysItsFacts) {
  const std::vector<std::byte> bytes = bytes_of(read_file(GetParam()));
  const Source source(GetParam());
  const auto payload = Payload::open(bytes, nullptr);
  const Header& header = payload->header();
  EXPECT_EQ(unhex(source.facts["fingerprint"]),
            std::vector<uint8_t>(header.fingerprint.begin(), header.fingerprint.end()));
  EXPECT_EQ(unhex(source.facts["request_id"]),
            std::vector<uint8_t>(header.request_id.begin(), header.request_id.end()));
  EXPECT_EQ(header.budget_bytes, source.facts["budget_bytes"]);
  EXPECT_EQ(header.scored, source.facts["scored"]);
  ASSERT_EQ(payload->segments().size(), source.facts["layers"].size());
  for (size_t l = 0; l < payload->segments().size(); ++l) {
    const SegmentShape& shape = payload->segments()[l].shape;
    const Json& layer = source.facts["layers"][l];
    EXPECT_EQ(shape.tokens, layer["tokens"]);
    EXPECT_EQ(shape.first_head, layer["first_head"]);
    EXPECT_EQ(shape.first_position, layer["first_position"]);
    EXPECT_EQ(shape.group, layer["group"]);
    for (const size_t half : {0, 1}) {
      EXPECT_EQ(payload->segments()[l].layout.half[half].runs, layer["runs"][half]);
      const std::vector<uint8_t>& wanted = source.tiers[l * 2 + half];
      std::vector<uint8_t> got(wanted.size());
      read_tiers(payload->segment_bytes(l), payload->segments()[l], static_cast<int>(half), 0, got);
      EXPECT_EQ(got, wanted);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Files, Golden, testing::ValuesIn(names("golden.json")), test_name);

class Malformed : public testing::TestWithParam<std::string> {};

TEST_P(Malformed, IsRefusedWithItsStatus) {
  const std::vector<std::byte> bytes = bytes_of(read_file("malformed/" + GetParam()));
  const std::string wanted = table("malformed.json")[GetParam()];
  for (int32_t target = SKV_TARGET_SCALAR; target <= SKV_TARGET_NEON; ++target) {
    const kernels::Kernels* kernels = kernels::kernels_of(target);
    if (kernels == nullptr) continue;
    std::string got = "SKV_OK";
    std::string message;
    try {
      for (const Segment& segment : parse(bytes).segments) {
        const std::span<const std::byte> own = std::span(bytes).subspan(segment.offset, segment.layout.bytes);
        verify_segment(own, segment, kernels->digest);
        check_scales(own, segment);
      }
    } catch (const Error& error) {
      got = status_name(error.status());
      message = error.message();
    }
    EXPECT_EQ(got, wanted) << message;
    EXPECT_EQ(message.empty(), wanted == "SKV_OK");
  }
}

INSTANTIATE_TEST_SUITE_P(Files, Malformed, testing::ValuesIn(names("malformed.json")), test_name);

}  // namespace
}  // namespace skv
