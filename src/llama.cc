// SPDX-License-Identifier: Apache-2.0
#include "llama.h"

#include <algorithm>
#include <bit>
#include <cinttypes>
#include <cstring>
#include <limits>
#include <numeric>

#include "error.h"

namespace skv {
namespace {

static_assert(std::endian::native == std::endian::little, "blob fields are read and written in place");

constexpr uint32_t kMagic = 0xaf143cd8U;
constexpr uint64_t kBlobHeader = 8;    // magic, sequence
constexpr uint64_t kCellBytes = 12;    // position, 1, sequence
constexpr uint64_t kCacheHeader = 16;  // n_stream, cells, v_trans, layers
constexpr uint64_t kTensorHeader = 12;
constexpr int64_t kMaxPosition = std::numeric_limits<int32_t>::max();  // llama_pos
constexpr uint32_t kMaxDim = 4096;
constexpr size_t kMaxBlobLayers = 4096;

// Values of enum ggml_type.
constexpr int32_t kGgmlF32 = 0;
constexpr int32_t kGgmlF16 = 1;
constexpr int32_t kGgmlBF16 = 30;

const char* ggml_name(int32_t type) {
  switch (type) {
    case 2:
      return "q4_0";
    case 3:
      return "q4_1";
    case 6:
      return "q5_0";
    case 7:
      return "q5_1";
    case 8:
      return "q8_0";
    case 9:
      return "q8_1";
    case 20:
      return "iq4_nl";
    default:
      return "unknown";
  }
}

int32_t dtype_of(int32_t type, int32_t layer, char half) {
  switch (type) {
    case kGgmlF32:
      return SKV_F32;
    case kGgmlF16:
      return SKV_F16;
    case kGgmlBF16:
      return SKV_BF16;
    default:
      fail(SKV_E_FEATURE, "layer %d %c has ggml type %d (%s), want f16 (1), bf16 (30) or f32 (0)", layer, half, type,
           ggml_name(type));
  }
}

int32_t ggml_of(int32_t dtype) {
  switch (dtype) {
    case SKV_F32:
      return kGgmlF32;
    case SKV_F16:
      return kGgmlF16;
    case SKV_BF16:
      return kGgmlBF16;
    default:
      fail(SKV_E_DTYPE, "dtype %d, want SKV_F16 (1), SKV_BF16 (2) or SKV_F32 (3)", dtype);
  }
}

uint32_t element_bytes(int32_t dtype) { return dtype == SKV_F32 ? 4 : 2; }

// Walks untrusted bytes; nothing is taken that is not there.
class Reader {
 public:
  explicit Reader(std::span<const std::byte> bytes) : bytes_(bytes) {}
  uint64_t left() const { return bytes_.size() - at_; }
  template <class T>
  T take(const char* what) {
    T value;
    std::memcpy(&value, skip(sizeof value, what), sizeof value);
    return value;
  }
  const std::byte* skip(uint64_t bytes, const char* what) {
    if (bytes > left()) {
      fail(SKV_E_TRUNCATED, "blob ends in %s: %" PRIu64 " bytes at %zu, %" PRIu64 " are left", what, bytes, at_,
           left());
    }
    const std::byte* from = bytes_.data() + at_;
    at_ += static_cast<size_t>(bytes);
    return from;
  }
  // count * bytes, when both come from the blob.
  const std::byte* skip(uint64_t count, uint64_t bytes, const char* what) {
    if (bytes != 0 && count > left() / bytes) {
      fail(SKV_E_TRUNCATED, "blob ends in %s: %" PRIu64 " x %" PRIu64 " bytes at %zu, %" PRIu64 " are left", what,
           count, bytes, at_, left());
    }
    return skip(count * bytes, what);
  }

 private:
  std::span<const std::byte> bytes_;
  size_t at_ = 0;
};

// Cells of one cache in order of position.
struct Cells {
  uint32_t count = 0;
  int32_t first_position = 0;
  std::vector<int32_t> order;  // cell of every position; empty when they are in order already
};

Cells read_cells(Reader& reader, int32_t sequence) {
  Cells cells;
  cells.count = reader.take<uint32_t>("cell count");
  if (cells.count == 0) fail(SKV_E_EMPTY, "a cache of the blob has 0 cells");
  if (cells.count > static_cast<uint32_t>(kMaxPosition)) fail(SKV_E_MALFORMED, "%" PRIu32 " cells", cells.count);
  if (cells.count > reader.left() / kCellBytes) {  // before anything is allocated for them
    fail(SKV_E_TRUNCATED, "%" PRIu32 " cells of 12 bytes, %" PRIu64 " bytes are left", cells.count, reader.left());
  }
  std::vector<int32_t> positions(cells.count);
  for (uint32_t i = 0; i < cells.count; ++i) {
    positions[i] = reader.take<int32_t>("cells");
    const auto owners = reader.take<uint32_t>("cells");
    if (owners != 1) {
      fail(SKV_E_FEATURE,
           "cell %" PRIu32 " lists %" PRIu32
           " sequences, want 1 (cells with M-RoPE or n-gram data are "
           "not supported)",
           i, owners);
    }
    const auto owner = reader.take<int32_t>("cells");
    if (owner != sequence) {
      fail(SKV_E_FEATURE, "cell %" PRIu32 " belongs to sequence %d, the blob to %d", i, owner, sequence);
    }
    if (positions[i] < 0) fail(SKV_E_MALFORMED, "cell %" PRIu32 " has position %d", i, positions[i]);
  }
  const auto consecutive = [&](auto position_of) {
    for (uint32_t i = 1; i < cells.count; ++i) {
      if (static_cast<int64_t>(position_of(i)) != static_cast<int64_t>(position_of(i - 1)) + 1) return i;
    }
    return uint32_t{0};
  };
  if (consecutive([&](uint32_t i) { return positions[i]; }) != 0) {
    cells.order.resize(cells.count);
    std::iota(cells.order.begin(), cells.order.end(), 0);
    const auto at = [&](int32_t cell) { return positions[static_cast<size_t>(cell)]; };
    std::sort(cells.order.begin(), cells.order.end(), [&](int32_t a, int32_t b) { return at(a) < at(b); });
    const uint32_t gap = consecutive([&](uint32_t i) { return at(cells.order[i]); });
    if (gap != 0) {
      fail(SKV_E_FEATURE, "positions jump from %d to %d, want consecutive ones", at(cells.order[gap - 1]),
           at(cells.order[gap]));
    }
  }
  cells.first_position = positions[static_cast<size_t>(cells.order.empty() ? 0 : cells.order.front())];
  return cells;
}

// What the blob says of one layer's K or V; memory is all its cells' elements.
struct Tensor {
  const std::byte* memory = nullptr;  // null: no such tensor
  int32_t dtype = 0;
  uint32_t dim = 0;
};

struct BlobCache {
  Cells cells;
  bool v_trans = false;
  std::vector<Tensor> half[2];
};

uint32_t dim_of(uint64_t channels, int32_t heads, int32_t layer, char half) {
  if (heads < 1 || heads > 1024) fail(SKV_E_GEOMETRY, "layer %d: %d kv-heads, want 1..1024", layer, heads);
  const auto count = static_cast<uint64_t>(heads);
  if (channels % count != 0 || channels / count % 8 != 0 || channels == 0 || channels / count > kMaxDim) {
    fail(SKV_E_GEOMETRY,
         "layer %d %c: %" PRIu64 " channels for %d kv-heads, want a multiple of 8 in 8..%" PRIu32 " each", layer, half,
         channels, heads, kMaxDim);
  }
  return static_cast<uint32_t>(channels / count);
}

Tensor read_rows(Reader& reader, uint32_t cells, int32_t heads, int32_t layer, char half) {
  Tensor tensor;
  tensor.dtype = dtype_of(reader.take<int32_t>("tensor type"), layer, half);
  const auto row = reader.take<uint64_t>("row size");
  if (row % element_bytes(tensor.dtype) != 0) {
    fail(SKV_E_MALFORMED, "layer %d %c: rows of %" PRIu64 " bytes, want a multiple of %" PRIu32, layer, half, row,
         element_bytes(tensor.dtype));
  }
  tensor.dim = dim_of(row / element_bytes(tensor.dtype), heads, layer, half);
  tensor.memory = reader.skip(cells, row, "rows");
  return tensor;
}

Tensor read_transposed(Reader& reader, uint32_t cells, int32_t heads, int32_t layer) {
  Tensor tensor;
  tensor.dtype = dtype_of(reader.take<int32_t>("tensor type"), layer, 'V');
  const auto element = reader.take<uint32_t>("element size");
  if (element != element_bytes(tensor.dtype)) {
    fail(SKV_E_MALFORMED, "layer %d V: elements of %" PRIu32 " bytes, want %" PRIu32, layer, element,
         element_bytes(tensor.dtype));
  }
  const auto channels = reader.take<uint32_t>("channel count");
  tensor.dim = dim_of(channels, heads, layer, 'V');
  tensor.memory = reader.skip(static_cast<uint64_t>(channels) * element, cells, "transposed elements");
  return tensor;
}

// heads: of the layers not read yet; takes its share off the front.
BlobCache read_cache(Reader& reader, int32_t sequence, std::span<const int32_t>& heads, int32_t first_layer) {
  const auto streams = reader.take<uint32_t>("stream count");
  if (streams != 1) {
    // With several streams (no unified KV) or recurrent state this field is not 1.
    fail(SKV_E_FEATURE, "%" PRIu32 " streams, want 1 (recurrent, hybrid and multi-stream states are not supported)",
         streams);
  }
  BlobCache cache;
  cache.cells = read_cells(reader, sequence);
  const auto v_trans = reader.take<uint32_t>("v_trans");
  if (v_trans > 1) fail(SKV_E_MALFORMED, "v_trans %" PRIu32 ", want 0 or 1", v_trans);
  cache.v_trans = v_trans == 1;
  const auto layers = reader.take<uint32_t>("layer count");
  if (layers == 0) fail(SKV_E_MALFORMED, "a cache of the blob has 0 layers");
  if (layers > heads.size()) {
    fail(SKV_E_RANGE, "the blob has %" PRIu64 " layers or more, heads were given for %" PRIu64,
         static_cast<uint64_t>(layers) + static_cast<uint64_t>(first_layer),
         static_cast<uint64_t>(heads.size()) + static_cast<uint64_t>(first_layer));
  }
  for (uint32_t i = 0; i < layers; ++i) {
    const int32_t layer = first_layer + static_cast<int32_t>(i);
    cache.half[SKV_K].push_back(read_rows(reader, cache.cells.count, heads[i], layer, 'K'));
  }
  // MLA: V is a view of K, and nothing follows. Such models have one kv-head and one cache, which keeps a blob of most
  // other models that was cut right here from being taken for one.
  const bool may_lack_v = first_layer == 0 && layers == heads.size() &&
                          std::all_of(heads.begin(), heads.end(), [](int32_t count) { return count == 1; });
  const bool has_v = reader.left() != 0 || !may_lack_v;
  for (uint32_t i = 0; i < layers; ++i) {
    const int32_t layer = first_layer + static_cast<int32_t>(i);
    Tensor v;
    if (has_v && cache.v_trans) v = read_transposed(reader, cache.cells.count, heads[i], layer);
    if (has_v && !cache.v_trans) v = read_rows(reader, cache.cells.count, heads[i], layer, 'V');
    const int32_t k_dtype = cache.half[SKV_K][i].dtype;
    if (has_v && v.dtype != k_dtype) {
      fail(SKV_E_FEATURE, "layer %d: K has dtype %d and V %d, want one", layer, k_dtype, v.dtype);
    }
    cache.half[SKV_V].push_back(v);
  }
  heads = heads.subspan(layers);
  return cache;
}

// A recurrent cell as llama-memory-recurrent.cpp writes it for one sequence: 1 cell {position, 0 sequences}.
bool looks_recurrent(Reader reader) {
  if (reader.left() < kCellBytes) return false;
  const auto cells = reader.take<uint32_t>("state");
  reader.skip(sizeof(int32_t), "state");
  return cells == 1 && reader.take<uint32_t>("state") == 0;
}

// Puts a tensor into the view; rows in the order of cells, or transposed.
void set_tensor(Cache& view, int32_t layer, int half, std::byte* memory, bool transposed, int32_t heads, int32_t dim,
                int32_t dtype, int64_t cells) {
  const int64_t element = element_bytes(dtype);
  const int64_t row = heads * dim * element;
  const int64_t bytes = cells * row;
  // stride_block = stride_token: with a block table every cell is a block of one token.
  if (transposed) {
    view.set_plane(layer, half, memory, static_cast<size_t>(bytes), element, element, dim * cells * element,
                   cells * element);
  } else {
    view.set_plane(layer, half, memory, static_cast<size_t>(bytes), row, row, dim * element, element);
  }
}

void add_to_view(Cache& view, int32_t first_layer, int32_t group, const BlobCache& cache,
                 std::span<const int32_t> heads) {
  const int64_t tokens = cache.cells.count;
  for (size_t i = 0; i < cache.half[SKV_K].size(); ++i) {
    const int32_t layer = first_layer + static_cast<int32_t>(i);
    const Tensor& k = cache.half[SKV_K][i];
    const Tensor& v = cache.half[SKV_V][i];
    view.set_tokens(layer, cache.cells.first_position, tokens);
    view.set_layer(layer, heads[i], static_cast<int32_t>(k.dim), static_cast<int32_t>(v.dim), k.dtype);
    view.set_group(layer, group);
    for (int half = 0; half < 2; ++half) {
      const Tensor& tensor = half == SKV_K ? k : v;
      if (tensor.memory == nullptr) continue;
      set_tensor(view, layer, half, const_cast<std::byte*>(tensor.memory), half == SKV_V && cache.v_trans, heads[i],
                 static_cast<int32_t>(tensor.dim), tensor.dtype, tokens);
    }
    if (!cache.cells.order.empty()) view.set_blocks(layer, cache.cells.order.data(), cache.cells.order.size(), 1);
  }
}

// Layers [first, last) of one group.
struct Group {
  size_t first;
  size_t last;
};

std::vector<Group> groups_of(std::span<const LlamaLayer> layers) {
  if (layers.empty() || layers.size() > kMaxBlobLayers) {
    fail(SKV_E_LAYOUT, "%zu layers, want 1..%zu", layers.size(), kMaxBlobLayers);
  }
  std::vector<Group> groups;
  for (size_t i = 0; i < layers.size(); ++i) {
    const LlamaLayer& layer = layers[i];
    if (groups.empty() || layer.group != layers[i - 1].group) {
      if (layer.group != static_cast<int32_t>(groups.size()) || layer.group > kLlamaSliding) {
        fail(SKV_E_LAYOUT, "layer %zu has group %d, want all layers of group 0, then all of group 1", i, layer.group);
      }
      groups.push_back({i, i});
    }
    groups.back().last = i + 1;
    const LlamaLayer& head = layers[groups.back().first];
    if (layer.tokens != head.tokens || layer.first_position != head.first_position) {
      fail(SKV_E_LAYOUT, "layer %zu has tokens %" PRId64 " at %" PRId64 ", others of its group %" PRId64 " at %" PRId64,
           i, layer.tokens, layer.first_position, head.tokens, head.first_position);
    }
    if (layer.tokens < 1 || layer.first_position < 0 || layer.tokens > kMaxPosition ||
        layer.first_position > kMaxPosition - layer.tokens + 1) {
      fail(SKV_E_LAYOUT, "layer %zu has tokens %" PRId64 " at %" PRId64 ", want positions of 31 bits", i, layer.tokens,
           layer.first_position);
    }
    if (layer.first_head != 0) fail(SKV_E_LAYOUT, "layer %zu begins at head %d, want 0", i, layer.first_head);
    const auto is_dim = [](int32_t dim) { return dim >= 8 && dim <= static_cast<int32_t>(kMaxDim) && dim % 8 == 0; };
    if (layer.kv_heads < 1 || layer.kv_heads > 1024 || !is_dim(layer.dim[SKV_K]) ||
        (layer.dim[SKV_V] != 0 && !is_dim(layer.dim[SKV_V]))) {
      fail(SKV_E_LAYOUT, "layer %zu has %d heads of %d and %d", i, layer.kv_heads, layer.dim[SKV_K], layer.dim[SKV_V]);
    }
    if ((layer.dim[SKV_V] == 0) != (head.dim[SKV_V] == 0)) {
      fail(SKV_E_LAYOUT, "layer %zu %s V, others of its group do not agree", i,
           layer.dim[SKV_V] == 0 ? "lacks" : "has");
    }
  }
  // MLA has one kv-head and no second cache; anything else without V would not be read back (read_cache).
  for (size_t i = 0; i < layers.size(); ++i) {
    if (layers[i].dim[SKV_V] == 0 && (layers[i].kv_heads != 1 || groups.size() > 1)) {
      fail(SKV_E_LAYOUT, "layer %zu lacks V, want 1 kv-head and 1 group then, not %d and %zu", i, layers[i].kv_heads,
           groups.size());
    }
  }
  return groups;
}

void check_options(int32_t v_trans, int32_t dtype) {
  if (v_trans != 0 && v_trans != 1) fail(SKV_E_RANGE, "v_trans %d, want 0 or 1", v_trans);
  ggml_of(dtype);
}

// Writes framing into memory known to be large enough.
class Writer {
 public:
  explicit Writer(std::byte* at) : at_(at) {}
  template <class T>
  void put(T value) {
    std::memcpy(at_, &value, sizeof value);
    at_ += sizeof value;
  }
  std::byte* skip(uint64_t bytes) {
    std::byte* from = at_;
    at_ += bytes;
    return from;
  }

 private:
  std::byte* at_;
};

}  // namespace

std::vector<LlamaLayer> llama_layers(std::span<const Segment> segments) {
  std::vector<LlamaLayer> layers;
  layers.reserve(segments.size());
  for (const Segment& segment : segments) {
    const SegmentShape& shape = segment.shape;
    // A position beyond 63 bits is no position of llama.cpp either: refused by its sign.
    layers.push_back({static_cast<int64_t>(shape.first_position),
                      shape.tokens,
                      shape.heads,
                      shape.first_head,
                      {shape.dim[SKV_K], shape.dim[SKV_V]},
                      shape.group});
  }
  return layers;
}

Cache llama_cache(std::span<const std::byte> blob, std::span<const int32_t> heads) {
  if (heads.empty() || heads.size() > kMaxBlobLayers) {
    fail(SKV_E_RANGE, "%zu layers, want 1..%zu", heads.size(), kMaxBlobLayers);
  }
  Reader reader(blob);
  const auto magic = reader.take<uint32_t>("magic");
  if (magic != kMagic) fail(SKV_E_MALFORMED, "magic %08" PRIx32 ", want %08" PRIx32, magic, kMagic);
  const auto sequence = reader.take<int32_t>("sequence");
  std::span<const int32_t> left = heads;
  std::vector<BlobCache> caches;
  caches.push_back(read_cache(reader, sequence, left, 0));
  if (left.empty() && looks_recurrent(reader)) {
    fail(SKV_E_FEATURE, "a recurrent state follows the cache: hybrid models are not supported");
  }
  // Only what remains tells that there is a second cache.
  if (reader.left() != 0 && !left.empty()) {
    caches.push_back(read_cache(reader, sequence, left, static_cast<int32_t>(heads.size() - left.size())));
    if (caches[1].v_trans != caches[0].v_trans) fail(SKV_E_MALFORMED, "v_trans differs between the blob's caches");
  }
  if (!left.empty()) {
    fail(SKV_E_RANGE, "the blob has %zu layers, heads were given for %zu", heads.size() - left.size(), heads.size());
  }
  if (reader.left() != 0) {
    fail(SKV_E_TRAILING,
         "%" PRIu64 " bytes after the last of %zu layers (heads given for too few layers, or another state)",
         reader.left(), heads.size());
  }
  Cache view(static_cast<int32_t>(heads.size()));
  size_t first = 0;
  for (size_t i = 0; i < caches.size(); ++i) {
    const size_t count = caches[i].half[SKV_K].size();
    add_to_view(view, static_cast<int32_t>(first), i == 0 ? kLlamaFull : kLlamaSliding, caches[i],
                heads.subspan(first, count));
    first += count;
  }
  return view;
}

uint64_t llama_blob_bytes(std::span<const LlamaLayer> layers, int32_t v_trans, int32_t dtype) {
  check_options(v_trans, dtype);
  // 4,096 layers of 2^31 tokens x 1,024 heads x 8,192 channels need 66 bits and more: counted in 128.
  __extension__ using Wide = unsigned __int128;
  Wide total = kBlobHeader;
  for (const Group& group : groups_of(layers)) {
    total += kCacheHeader + static_cast<Wide>(layers[group.first].tokens) * kCellBytes;
    for (size_t i = group.first; i < group.last; ++i) {
      for (int half = 0; half < 2; ++half) {
        if (layers[i].dim[half] == 0) continue;
        total += kTensorHeader + static_cast<Wide>(layers[i].tokens) * static_cast<uint32_t>(layers[i].kv_heads) *
                                     static_cast<uint32_t>(layers[i].dim[half]) * element_bytes(dtype);
      }
    }
  }
  if (total > static_cast<Wide>(std::numeric_limits<int64_t>::max())) fail(SKV_E_LAYOUT, "the blob exceeds 2^63 bytes");
  return static_cast<uint64_t>(total);
}

Cache llama_frame(std::span<const LlamaLayer> layers, int32_t v_trans, int32_t dtype, std::span<std::byte> blob) {
  const uint64_t bytes = llama_blob_bytes(layers, v_trans, dtype);
  if (blob.size() < bytes) fail(SKV_E_TOO_SMALL, "blob of %zu bytes, want %" PRIu64, blob.size(), bytes);
  Cache view(static_cast<int32_t>(layers.size()));
  Writer out(blob.data());
  out.put(kMagic);
  out.put(int32_t{0});
  for (const Group& group : groups_of(layers)) {
    const LlamaLayer& head = layers[group.first];
    out.put(uint32_t{1});
    out.put(static_cast<uint32_t>(head.tokens));
    for (int64_t t = 0; t < head.tokens; ++t) {
      out.put(static_cast<int32_t>(head.first_position + t));
      out.put(uint32_t{1});
      out.put(int32_t{0});
    }
    out.put(static_cast<uint32_t>(v_trans));
    out.put(static_cast<uint32_t>(group.last - group.first));
    for (int half = 0; half < 2; ++half) {
      for (size_t i = group.first; i < group.last; ++i) {
        const LlamaLayer& layer = layers[i];
        const auto index = static_cast<int32_t>(i);
        const bool transposed = half == SKV_V && v_trans == 1;
        if (half == SKV_K) {
          view.set_tokens(index, layer.first_position, layer.tokens);
          view.set_layer(index, layer.kv_heads, layer.dim[SKV_K], layer.dim[SKV_V], dtype);
          view.set_group(index, layer.group);
        }
        if (layer.dim[half] == 0) continue;
        const auto channels = static_cast<uint32_t>(layer.kv_heads * layer.dim[half]);
        const uint64_t row = static_cast<uint64_t>(channels) * element_bytes(dtype);
        out.put(ggml_of(dtype));
        if (transposed) {
          out.put(element_bytes(dtype));
          out.put(channels);
        } else {
          out.put(row);
        }
        set_tensor(view, index, half, out.skip(row * static_cast<uint64_t>(layer.tokens)), transposed, layer.kv_heads,
                   layer.dim[half], dtype, layer.tokens);
      }
    }
  }
  return view;
}

}  // namespace skv
