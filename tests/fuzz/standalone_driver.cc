// SPDX-License-Identifier: Apache-2.0
// Replays files and folders of inputs through a fuzz target, where libFuzzer is not there: every file as it is, then
// cut at every length up to a limit and with single bytes changed.
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

using Bytes = std::vector<uint8_t>;

constexpr size_t kStepsPerFile = 2000;

// Runs on an exact copy, so that the sanitizers see a read beyond the end.
void run(const Bytes& bytes, size_t size) {
  const Bytes copy(bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(size));
  LLVMFuzzerTestOneInput(copy.data(), copy.size());
}

void replay(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  Bytes bytes{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  run(bytes, bytes.size());
  const size_t step = bytes.size() / kStepsPerFile + 1;
  for (size_t i = 0; i < bytes.size(); i += step) {
    run(bytes, i);
    const uint8_t before = bytes[i];
    for (const uint8_t changed : {uint8_t{0}, uint8_t{0xFF}, static_cast<uint8_t>(before ^ 1U)}) {
      bytes[i] = changed;
      run(bytes, bytes.size());
    }
    bytes[i] = before;
  }
}

}  // namespace

int main(int argc, char** argv) {
  size_t files = 0;
  for (int i = 1; i < argc; ++i) {
    if (!std::filesystem::is_directory(argv[i])) {
      replay(argv[i]);
      ++files;
      continue;
    }
    for (const auto& entry : std::filesystem::recursive_directory_iterator(argv[i])) {
      if (!entry.is_regular_file()) continue;
      replay(entry.path());
      ++files;
    }
  }
  std::printf("%zu files replayed\n", files);
  return files == 0 ? 1 : 0;
}
