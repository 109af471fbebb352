// SPDX-License-Identifier: Apache-2.0
#include "transport/ucx.h"

#include <dlfcn.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <optional>

#include "error.h"
#include "transport/frame.h"
#include "transport/ucx_abi.h"

namespace skv::transport {
namespace {

constexpr unsigned kMessage = 7;  // the active message's id
constexpr unsigned kMajor = 1, kMinor = 13;
// Messages of a channel that are on their way: one is copied while others leave.
constexpr std::size_t kUnderWay = 4;
constexpr std::size_t kMessageBytes = 256 * 1024;

// Sets variables for as long as it lives. UCX's constructor reads them: it would install signal handlers, and hook
// memory functions, in a process that is somebody else's. One at a time: endpoints open on any thread.
class Environment {
 public:
  Environment() : turn_(mutex()) {
    for (std::size_t i = 0; i < kNames.size(); i++) {
      if (const char* value = std::getenv(kNames[i])) before_[i] = value;
      ::setenv(kNames[i], kValues[i], 1);
    }
  }
  ~Environment() {
    for (std::size_t i = 0; i < kNames.size(); i++) {
      if (before_[i]) {
        ::setenv(kNames[i], before_[i]->c_str(), 1);
      } else {
        ::unsetenv(kNames[i]);
      }
    }
  }
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

 private:
  static constexpr std::array<const char*, 4> kNames{"UCX_HANDLE_ERRORS", "UCX_DEBUG_SIGNO", "UCX_MEM_EVENTS",
                                                     "UCX_WARN_UNUSED_ENV_VARS"};
  static constexpr std::array<const char*, 4> kValues{"none", "0", "n", "n"};
  static std::mutex& mutex() {
    static std::mutex it;
    return it;
  }
  std::unique_lock<std::mutex> turn_;
  std::array<std::optional<std::string>, 4> before_;
};

}  // namespace

struct UcxLibrary {
  void (*get_version)(unsigned*, unsigned*, unsigned*);
  const char* (*status_string)(ucp::Status);
  ucp::Status (*config_read)(const char*, const char*, void**);
  ucp::Status (*config_modify)(void*, const char*, const char*);
  void (*config_release)(void*);
  ucp::Status (*init_version)(unsigned, unsigned, const ucp::Params*, const void*, void**);
  void (*cleanup)(void*);
  ucp::Status (*worker_create)(void*, const ucp::WorkerParams*, void**);
  void (*worker_destroy)(void*);
  ucp::Status (*worker_get_address)(void*, void**, std::size_t*);
  void (*worker_release_address)(void*, void*);
  ucp::Status (*worker_get_efd)(void*, int*);
  ucp::Status (*worker_arm)(void*);
  unsigned (*worker_progress)(void*);
  ucp::Status (*worker_set_am_recv_handler)(void*, const ucp::AmHandler*);
  ucp::Status (*ep_create)(void*, const ucp::EpParams*, void**);
  void* (*ep_close_nbx)(void*, const ucp::RequestParam*);
  void* (*am_send_nbx)(void*, unsigned, const void*, std::size_t, const void*, std::size_t, const ucp::RequestParam*);
  void (*am_data_release)(void*, void*);
  void (*request_free)(void*);
  std::string version;
};

namespace {

bool is_error(const void* pointer) {  // UCS_PTR_IS_ERR
  return reinterpret_cast<std::uintptr_t>(pointer) >=
         static_cast<std::uintptr_t>(static_cast<std::intptr_t>(ucp::kLast));
}
ucp::Status status_of(const void* pointer) {
  return static_cast<ucp::Status>(reinterpret_cast<std::intptr_t>(pointer));
}

// Never closed: it may have started threads, and other users of it may be there.
std::shared_ptr<const UcxLibrary> load(const std::string& path) {
  static std::mutex mutex;
  std::lock_guard lock(mutex);
  const std::string name = path.empty() ? "libucp.so.0" : path;
  void* handle = ::dlopen(name.c_str(), RTLD_NOW | RTLD_NOLOAD);
  if (handle == nullptr) {
    const Environment environment;
    handle = ::dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  }
  if (handle == nullptr) {
    const char* why = ::dlerror();
    fail(SKV_E_UNAVAILABLE,
         "plane ucx: %s. Install UCX %u.%u or later (Debian: libucx0), or name it with skv_endpoint_set_library",
         why != nullptr ? why : name.c_str(), kMajor, kMinor);
  }
  auto library = std::make_shared<UcxLibrary>();
  const auto find = [&](const char* symbol, auto& function) {
    void* at = ::dlsym(handle, symbol);
    // ucs functions lie in a library that libucp needs, which RTLD_LOCAL lets its handle see.
    if (at == nullptr)
      fail(SKV_E_UNAVAILABLE, "plane ucx: %s has no %s, want UCX %u.%u or later", name.c_str(), symbol, kMajor, kMinor);
    std::memcpy(&function, &at, sizeof at);
  };
  find("ucp_get_version", library->get_version);
  find("ucs_status_string", library->status_string);
  find("ucp_config_read", library->config_read);
  find("ucp_config_modify", library->config_modify);
  find("ucp_config_release", library->config_release);
  find("ucp_init_version", library->init_version);
  find("ucp_cleanup", library->cleanup);
  find("ucp_worker_create", library->worker_create);
  find("ucp_worker_destroy", library->worker_destroy);
  find("ucp_worker_get_address", library->worker_get_address);
  find("ucp_worker_release_address", library->worker_release_address);
  find("ucp_worker_get_efd", library->worker_get_efd);
  find("ucp_worker_arm", library->worker_arm);
  find("ucp_worker_progress", library->worker_progress);
  find("ucp_worker_set_am_recv_handler", library->worker_set_am_recv_handler);
  find("ucp_ep_create", library->ep_create);
  find("ucp_ep_close_nbx", library->ep_close_nbx);
  find("ucp_am_send_nbx", library->am_send_nbx);
  find("ucp_am_data_release", library->am_data_release);
  find("ucp_request_free", library->request_free);
  unsigned major = 0, minor = 0, patch = 0;
  library->get_version(&major, &minor, &patch);
  library->version = std::to_string(major) + "." + std::to_string(minor) + "." + std::to_string(patch);
  if (major != kMajor || minor < kMinor) {
    fail(SKV_E_UNAVAILABLE, "plane ucx: %s is UCX %s, want %u.%u or later", name.c_str(), library->version.c_str(),
         kMajor, kMinor);
  }
  return library;
}

void must(const UcxLibrary& library, ucp::Status status, const char* what) {
  if (status < 0) fail(SKV_E_UNAVAILABLE, "plane ucx: %s: %s", what, library.status_string(status));
}

}  // namespace

// ------------------------------------------------------------------------------------------------------------ node

struct UcxNode::Slot {
  std::array<std::byte, 16> header;
  std::vector<std::byte> body;
  UcxChannel* channel = nullptr;  // null: it went away meanwhile
  const UcxLibrary* library = nullptr;
  bool busy = false;
};

std::unique_ptr<UcxNode> UcxNode::open(const std::string& path, const std::string& device) {
  std::unique_ptr<UcxNode> node(new UcxNode);
  node->library_ = load(path);
  const UcxLibrary& library = *node->library_;
  node->version_ = library.version;
  // To the end: the worker reads the environment too, which another thread's node must not set meanwhile.
  const Environment environment;
  {
    void* config = nullptr;
    must(library, library.config_read(nullptr, nullptr, &config), "ucp_config_read");
    // Otherwise it takes others too, even between 127.0.0.1 and itself.
    ucp::Status status = ucp::kOk;
    if (!device.empty()) status = library.config_modify(config, "NET_DEVICES", device.c_str());
    ucp::Params params{};
    params.field_mask = ucp::kParamFeatures;
    params.features = ucp::kFeatureAm | ucp::kFeatureWakeup;
    if (status >= 0) status = library.init_version(kMajor, kMinor, &params, config, &node->context_);
    library.config_release(config);
    must(library, status, "ucp_init");
  }
  ucp::WorkerParams params{};
  params.field_mask = ucp::kWorkerThreadMode;
  params.thread_mode = ucp::kThreadSerialized;
  must(library, library.worker_create(node->context_, &params, &node->worker_), "ucp_worker_create");
  void* address = nullptr;
  std::size_t size = 0;
  must(library, library.worker_get_address(node->worker_, &address, &size), "ucp_worker_get_address");
  node->address_.assign(static_cast<std::byte*>(address), static_cast<std::byte*>(address) + size);
  library.worker_release_address(node->worker_, address);
  must(library, library.worker_get_efd(node->worker_, &node->fd_), "ucp_worker_get_efd");
  ucp::AmHandler handler{};
  handler.field_mask = ucp::kAmId | ucp::kAmFlags | ucp::kAmCallback | ucp::kAmArg;
  handler.id = kMessage;
  handler.flags = ucp::kAmWholeMessage;
  handler.on_message = [](void* arg, const void* header, std::size_t header_length, void* data, std::size_t length,
                          const ucp::RecvParam* param) -> ucp::Status {
    return on_message(arg, header, header_length, data, length, param);
  };
  handler.arg = node.get();
  must(library, library.worker_set_am_recv_handler(node->worker_, &handler), "ucp_worker_set_am_recv_handler");
  return node;
}

UcxNode::~UcxNode() {
  if (worker_ != nullptr) library_->worker_destroy(worker_);
  if (context_ != nullptr) library_->cleanup(context_);
}

signed char UcxNode::on_message(void* arg, const void* header, std::size_t header_length, void* data,
                                std::size_t length, const void* given) {
  auto& node = *static_cast<UcxNode*>(arg);
  const auto& param = *static_cast<const ucp::RecvParam*>(given);
  if (header_length != 16) return ucp::kOk;
  const auto* at = static_cast<const std::byte*>(header);
  const auto found = node.channels_.find(load_le<std::uint64_t>(at));
  if (found == node.channels_.end()) return ucp::kOk;  // of a conn that has ended
  UcxChannel& channel = *found->second;
  if (!channel.broken_.empty()) return ucp::kOk;
  const auto number = load_le<std::uint64_t>(at + 8);
  if (number != channel.received_) {
    channel.broken_ = "message " + std::to_string(number) + ", want " + std::to_string(channel.received_);
  } else if ((param.attributes & ucp::kRecvRendezvous) != 0 || length == 0) {
    channel.broken_ = "a message of a kind that this end does not take";
  } else if (length > channel.most_ - std::min(channel.most_, channel.queued_)) {
    channel.broken_ = "more than " + std::to_string(channel.most_) + " bytes that were not asked for";
  }
  if (!channel.broken_.empty()) return ucp::kOk;
  node.came_ = true;
  channel.received_++;
  channel.queued_ += length;
  UcxChannel::Piece& piece = channel.pieces_.emplace_back();
  piece.length = length;
  if ((param.attributes & ucp::kRecvData) != 0) {
    piece.data = data;
    return ucp::kInProgress;  // kept until it is released
  }
  piece.copy.assign(static_cast<std::byte*>(data), static_cast<std::byte*>(data) + length);
  return ucp::kOk;
}

std::unique_ptr<UcxChannel> UcxNode::connect(std::span<const std::byte> address, std::uint64_t token,
                                             std::uint64_t peer_token, std::size_t most) {
  std::unique_ptr<UcxChannel> channel(new UcxChannel(*this, token, peer_token, most));
  ucp::EpParams params{};
  params.field_mask = ucp::kEpAddress | ucp::kEpErrorMode | ucp::kEpErrorHandler;
  params.address = address.data();
  params.error_mode = ucp::kErrorPeer;
  params.on_error = [](void* arg, void*, ucp::Status status) {
    auto& of = *static_cast<UcxChannel*>(arg);
    if (of.broken_.empty()) of.broken_ = of.node_.library_->status_string(status);
  };
  params.on_error_arg = channel.get();
  must(*library_, library_->ep_create(worker_, &params, &channel->ep_), "ucp_ep_create");
  channels_.emplace(token, channel.get());
  return channel;
}

unsigned UcxNode::progress(unsigned rounds) {
  unsigned done = 0;
  came_ = false;
  while (done < rounds && !came_ && library_->worker_progress(worker_) != 0) done++;
  return done;
}

bool UcxNode::arm() { return library_->worker_arm(worker_) != ucp::kBusy; }

std::size_t UcxNode::slots_busy() const noexcept {
  return static_cast<std::size_t>(
      std::count_if(slots_.begin(), slots_.end(), [](const auto& slot) { return slot->busy; }));
}

UcxNode::Slot& UcxNode::take_slot() {
  const auto idle = std::find_if(slots_.begin(), slots_.end(), [](const auto& slot) { return !slot->busy; });
  Slot& slot = idle != slots_.end() ? **idle : *slots_.emplace_back(std::make_unique<Slot>());
  slot.body.resize(kMessageBytes);
  return slot;
}

// --------------------------------------------------------------------------------------------------------- channel

UcxChannel::UcxChannel(UcxNode& node, std::uint64_t token, std::uint64_t peer_token, std::size_t most)
    : node_(node), token_(token), peer_token_(peer_token), most_(most) {}

UcxChannel::~UcxChannel() {
  node_.channels_.erase(token_);
  while (!pieces_.empty()) drop_front();
  for (const auto& slot : node_.slots_) {
    if (slot->channel == this) slot->channel = nullptr;
  }
  if (ep_ == nullptr) return;
  ucp::RequestParam param{};
  param.mask = ucp::kOpFlags;
  param.flags = ucp::kCloseForce;  // what is on its way is given up
  void* request = node_.library_->ep_close_nbx(ep_, &param);
  if (request != nullptr && !is_error(request)) node_.library_->request_free(request);
}

std::size_t UcxChannel::send(std::span<const std::byte> bytes) {
  if (under_way_ >= kUnderWay || !broken_.empty() || bytes.empty()) return 0;
  UcxNode::Slot& slot = node_.take_slot();
  const std::size_t size = std::min(bytes.size(), kMessageBytes);
  std::memcpy(slot.body.data(), bytes.data(), size);
  store_le(slot.header.data(), peer_token_);
  store_le(slot.header.data() + 8, sent_++);
  slot.channel = this;
  slot.library = node_.library_.get();
  slot.busy = true;
  under_way_++;
  ucp::RequestParam param{};
  param.mask = ucp::kOpCallback | ucp::kOpUserData | ucp::kOpFlags;
  param.flags = ucp::kSendEager;
  param.user_data = &slot;
  param.on_sent = [](void* request, ucp::Status status, void* user) {
    auto& of = *static_cast<UcxNode::Slot*>(user);
    of.busy = false;
    if (of.channel != nullptr) {
      of.channel->under_way_--;
      if (status < 0 && of.channel->broken_.empty()) of.channel->broken_ = of.library->status_string(status);
    }
    of.channel = nullptr;
    of.library->request_free(request);
  };
  void* request = node_.library_->am_send_nbx(ep_, kMessage, slot.header.data(), slot.header.size(), slot.body.data(),
                                              size, &param);
  if (request != nullptr && !is_error(request)) return size;
  slot.busy = false;
  slot.channel = nullptr;
  under_way_--;
  if (request == nullptr) return size;
  if (broken_.empty()) broken_ = node_.library_->status_string(status_of(request));
  return 0;
}

void UcxChannel::drop_front() {
  if (pieces_.front().data != nullptr) node_.library_->am_data_release(node_.worker_, pieces_.front().data);
  queued_ -= pieces_.front().length - front_;
  pieces_.pop_front();
  front_ = 0;
}

std::size_t UcxChannel::read(std::span<std::byte> out) {
  std::size_t done = 0;
  while (done < out.size() && !pieces_.empty()) {
    const Piece& piece = pieces_.front();
    const std::byte* from = piece.data != nullptr ? static_cast<const std::byte*>(piece.data) : piece.copy.data();
    const std::size_t step = std::min(out.size() - done, piece.length - front_);
    std::memcpy(out.data() + done, from + front_, step);
    done += step;
    front_ += step;
    queued_ -= step;
    if (front_ == piece.length) drop_front();
  }
  return done;
}

}  // namespace skv::transport
