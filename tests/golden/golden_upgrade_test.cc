// SPDX-License-Identifier: Apache-2.0
// Upgrades against the reference: the same upgrade from the same tensors, the same result from the same two payloads,
// and the same refusals.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "codec_upgrade.h"
#include "golden_files.h"

namespace skv {
namespace {

using namespace test;

std::vector<std::string> names_in(const char* part) {
  std::vector<std::string> out;
  const Json all = table("upgrades.json")[part];
  for (const auto& [key, value] : all.items()) out.push_back(key);
  return out;
}

std::unique_ptr<Payload> open_file(const std::string& name) {
  // The bytes live as long as the payload.
  auto bytes = std::make_shared<std::vector<std::byte>>(bytes_of(read_file(name)));
  const std::span<const std::byte> all = *bytes;
  return Payload::open(all, std::move(bytes));
}

std::vector<uint8_t> as_bytes(std::span<const std::byte> bytes) {
  const auto* data = reinterpret_cast<const uint8_t*>(bytes.data());
  return {data, data + bytes.size()};
}

class GoldenUpgrade : public testing::TestWithParam<std::string> {};

TEST_P(GoldenUpgrade, IsWrittenFromItsSource) {
  const Json facts = table("upgrades.json")["upgrades"][GetParam()];
  const std::vector<uint8_t> wanted = as_bytes(bytes_of(read_file("upgrades/" + GetParam())));
  const Source source(GetParam());
  for (const Layout layout : {Layout::kTokenMajor, Layout::kTransposed, Layout::kPaged}) {
    Memory memory(source.facts, layout, 0);
    memory.fill(source.tensors);
    on_every_engine([&](Engine& engine) {
      const auto base = open_file(GetParam());
      Plan plan;
      plan.options.sinks = 0;
      if (facts["budget_bytes"] != 0) plan.set_bytes(facts["budget_bytes"]);
      solve_upgrade(engine, plan, *base, memory.cache(), nullptr);
      for (size_t i = 0; i < source.tiers.size(); ++i) {
        const std::vector<uint8_t> targets = unhex(facts["targets"][i / 2][i % 2]);
        if (!targets.empty()) plan.set_tiers(static_cast<int32_t>(i / 2), static_cast<int>(i % 2), targets);
      }
      plan.scored = facts["scored"];
      const auto upgrade = encode_upgrade(engine, memory.cache(), *base, plan);
      EXPECT_EQ(plan.payload_bytes(), wanted.size());
      ASSERT_EQ(as_bytes(upgrade->bytes()), wanted);
      const auto result = apply_upgrade(*base, *upgrade);
      ASSERT_EQ(result->bytes().size(), facts["result_bytes"]);
      ASSERT_EQ(sha256(as_bytes(result->bytes())), facts["result_sha256"]);
    });
  }
}

TEST_P(GoldenUpgrade, FromAFileGivesTheResultOnRecord) {
  const Json facts = table("upgrades.json")["upgrades"][GetParam()];
  const auto base = open_file(GetParam());
  const auto upgrade = open_file("upgrades/" + GetParam());
  EXPECT_EQ(upgrade->get(SKV_ALL, SKV_PAYLOAD_UPGRADE), 1);
  const auto result = apply_upgrade(*base, *upgrade);
  EXPECT_EQ(result->get(SKV_ALL, SKV_PAYLOAD_UPGRADE), 0);
  ASSERT_EQ(sha256(as_bytes(result->bytes())), facts["result_sha256"]);
  for (size_t l = 0; l < result->segments().size(); ++l) {
    for (int half = 0; half < 2; ++half) {
      const std::vector<uint8_t> targets = unhex(facts["targets"][l][static_cast<size_t>(half)]);
      std::vector<uint8_t> tiers(targets.size());
      result->tiers(static_cast<int32_t>(l), half, tiers);
      EXPECT_EQ(tiers, targets);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Files, GoldenUpgrade, testing::ValuesIn(names_in("upgrades")), test_name);

class RefusedUpgrade : public testing::TestWithParam<std::string> {};

TEST_P(RefusedUpgrade, HasItsStatus) {
  const Json facts = table("upgrades.json")["refused"][GetParam()];
  const auto base = open_file(facts["base"]);
  const auto upgrade = open_file("upgrades/refused/" + GetParam());
  std::string got = "SKV_OK";
  try {
    apply_upgrade(*base, *upgrade);
  } catch (const Error& error) {
    got = status_name(error.status());
    EXPECT_FALSE(error.message().empty());
  }
  EXPECT_EQ(got, facts["status"]);
}

INSTANTIATE_TEST_SUITE_P(Files, RefusedUpgrade, testing::ValuesIn(names_in("refused")), test_name);

}  // namespace
}  // namespace skv
