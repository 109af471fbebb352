// SPDX-License-Identifier: Apache-2.0
// What packing saves and costs: payloads of files, packed, opened, unpacked and verified on one thread, in turns with a
// memcpy of the same bytes. Medians; rates are of payload bytes.
//
//   bench/pack_bench FILE.skv ... [ROUNDS]      default 9; `spectrumkv eval p1 --record DIR` writes payloads of a model
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <iterator>
#include <memory>
#include <vector>

#include "codec.h"
#include "error.h"

namespace {

double seconds(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double median(std::vector<double>& values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

void run(const char* path, int rounds) {
  std::ifstream file(path, std::ios::binary);
  const std::vector<char> chars((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const std::span<const std::byte> bytes = std::as_bytes(std::span(chars));
  skv::Engine engine(SKV_DEVICE_CPU);
  engine.set(SKV_ENGINE_THREADS, 1);
  std::vector<std::byte> copy(bytes.size());
  std::vector<double> copies, packs, opens;
  size_t packed_bytes = 0;
  for (int round = -1; round < rounds; ++round) {  // the first warms up
    const double copied = seconds([&] { std::memcpy(copy.data(), bytes.data(), bytes.size()); });
    const auto plain = skv::Payload::open(bytes, nullptr);
    const auto layers = static_cast<int32_t>(plain->segments().size());
    std::unique_ptr<skv::Payload> packed;
    const double packing = seconds([&] { packed = skv::Payload::pack(engine, *plain); });
    const std::vector<std::byte> wire(packed->wire_bytes().begin(), packed->wire_bytes().end());
    packed_bytes = wire.size();
    std::unique_ptr<skv::Payload> opened;
    const double opening = seconds([&] {
      opened = skv::Payload::open(wire, nullptr);
      skv::verify_layers(&engine, *opened, 0, layers);
    });
    if (std::memcmp(opened->bytes().data(), bytes.data(), bytes.size()) != 0) {
      skv::fail(SKV_E_INTERNAL, "%s: unpacking gives other bytes", path);
    }
    if (round < 0) continue;
    copies.push_back(copied);
    packs.push_back(packing);
    opens.push_back(opening);
  }
  const auto size = static_cast<double>(bytes.size());
  const double packing = median(packs), opening = median(opens);
  std::printf("%s: %.1f MB, %.4f left, pack %.2f GB/s, open, unpack and verify %.2f GB/s, memcpy %.1f GB/s", path,
              size / 1e6, static_cast<double>(packed_bytes) / size, size / packing / 1e9, size / opening / 1e9,
              size / median(copies) / 1e9);
  std::printf(", saves %.0f Mb for every second that takes\n",
              8 * (size - static_cast<double>(packed_bytes)) / (packing + opening) / 1e6);
}

}  // namespace

int main(int argc, char** argv) try {
  int rounds = 9;
  int files = argc;
  if (argc > 2 && std::atoi(argv[argc - 1]) > 0) rounds = std::atoi(argv[--files]);
  if (files < 2) {
    std::fprintf(stderr, "usage: pack_bench FILE.skv ... [ROUNDS]\n");
    return 2;
  }
  for (int i = 1; i < files; ++i) run(argv[i], rounds);
  return 0;
} catch (const skv::Error& error) {
  std::fprintf(stderr, "%s: %s\n", skv::status_name(error.status()), error.message().c_str());
  return 1;
}
