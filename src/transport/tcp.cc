// SPDX-License-Identifier: Apache-2.0
#include "transport/tcp.h"

#include <ifaddrs.h>
#include <netdb.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <asio/ip/address.hpp>
#include <asio/local/stream_protocol.hpp>
#include <asio/steady_timer.hpp>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <system_error>
#include <thread>

#include "error.h"
#include "transport/stream.h"

namespace skv::transport {
namespace {

using asio::ip::tcp;
using Unix = asio::local::stream_protocol;

constexpr std::chrono::milliseconds kAcceptPause{100};  // when the process has no descriptors left

std::string unix_path(const Uri& uri) {
  std::string path = uri.name;
  if (path[0] == '@') path[0] = '\0';  // abstract
  return path;
}

std::string show(const tcp::endpoint& at) {
  const std::string host = at.address().to_string();
  return (at.address().is_v6() ? "[" + host + "]" : host) + ":" + std::to_string(at.port());
}

// A name lookup cannot be interrupted, so it runs aside and outlives a deadline that passes first.
struct Lookup {
  std::mutex mutex;
  std::condition_variable done;
  bool ready = false;
  int error = 0;
  Addresses addresses;
};

void look_up(const std::shared_ptr<Lookup>& lookup, const std::string& host, std::uint16_t port) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* list = nullptr;
  const int error = getaddrinfo(host.c_str(), nullptr, &hints, &list);
  std::lock_guard lock(lookup->mutex);
  for (const addrinfo* a = list; error == 0 && a != nullptr; a = a->ai_next) {
    if (a->ai_family != AF_INET && a->ai_family != AF_INET6) continue;
    tcp::endpoint at;
    std::memcpy(at.data(), a->ai_addr, a->ai_addrlen);
    at.resize(a->ai_addrlen);
    at.port(port);
    lookup->addresses.push_back(at);
  }
  if (list != nullptr) freeaddrinfo(list);
  lookup->error = error;
  lookup->ready = true;
  lookup->done.notify_all();
}

// Accepts peers of one protocol.
template <typename Protocol>
class StreamListener final : public Listener, public std::enable_shared_from_this<StreamListener<Protocol>> {
 public:
  StreamListener(Core& core, const typename Protocol::endpoint& at)
      : core_(core), acceptor_(core.io()), pause_(core.io()) {
    std::error_code error;
    acceptor_.open(at.protocol(), error);
    if (error) fail_errno(SKV_E_IO, error.value(), "socket");
    if constexpr (std::is_same_v<Protocol, tcp>) acceptor_.set_option(tcp::acceptor::reuse_address(true));
    acceptor_.bind(at, error);
    if (!error) acceptor_.listen(asio::socket_base::max_listen_connections, error);
    if (error) fail_errno(SKV_E_ADDRESS, error.value(), "listen");
    core_.ready().watch(acceptor_.native_handle());
  }

  typename Protocol::endpoint bound() const { return acceptor_.local_endpoint(); }

  // The path to remove once this stops, if it is still the same file.
  void owns(std::string path) {
    struct stat st;
    if (::stat(path.c_str(), &st) != 0) return;
    path_ = std::move(path);
    device_ = st.st_dev;
    inode_ = st.st_ino;
  }

  void start() {
    acceptor_.async_accept([this, self = this->shared_from_this()](std::error_code error, auto socket) {
      core_.locked([&] {
        if (stopped_) return;
        if (!error) {
          if (may_enter(socket)) adopt_stream(core_, std::move(socket));
        } else if (error.value() == EMFILE || error.value() == ENFILE || error.value() == ENOBUFS ||
                   error.value() == ENOMEM) {
          return pause_then_start();
        }
        start();
      });
    });
  }

  void stop() override {
    if (stopped_) return;
    stopped_ = true;
    pause_.cancel();
    core_.ready().unwatch(acceptor_.native_handle());
    std::error_code ignored;
    acceptor_.close(ignored);
    struct stat st;
    if (!path_.empty() && ::stat(path_.c_str(), &st) == 0 && st.st_dev == device_ && st.st_ino == inode_) {
      ::unlink(path_.c_str());
    }
  }

 private:
  bool may_enter(typename Protocol::socket& socket) {
    if constexpr (std::is_same_v<Protocol, Unix>) {
      if (is_trusted_user(core_, socket.native_handle())) return true;
      core_.stats.handshakes_failed++;
      core_.stats.auth_errors++;
      return false;
    } else {
      return true;
    }
  }

  void pause_then_start() {
    pause_.expires_after(kAcceptPause);
    pause_.async_wait([this, self = this->shared_from_this()](std::error_code) {
      core_.locked([&] {
        if (!stopped_) start();
      });
    });
  }

  Core& core_;
  typename Protocol::acceptor acceptor_;
  asio::steady_timer pause_;
  bool stopped_ = false;
  std::string path_;
  dev_t device_ = 0;
  ino_t inode_ = 0;
};

// Handlers share the listener; the core owns this handle to it.
class SharedListener final : public Listener {
 public:
  explicit SharedListener(std::shared_ptr<Listener> it) : it_(std::move(it)) {}
  ~SharedListener() override { it_->stop(); }
  void stop() override { it_->stop(); }

 private:
  std::shared_ptr<Listener> it_;
};

// A socket file that nobody listens on any more may be replaced; anything else may not.
void remove_stale(const std::string& path) {
  struct stat st;
  if (::lstat(path.c_str(), &st) != 0) return;
  if (!S_ISSOCK(st.st_mode)) fail(SKV_E_ADDRESS, "%s exists and is no socket", path.c_str());
  asio::io_context io;
  Unix::socket probe(io);
  std::error_code error;
  probe.open(Unix(), error);
  if (!error) probe.non_blocking(true, error);
  if (!error) probe.connect(Unix::endpoint(path), error);
  if (error.value() != ECONNREFUSED) fail(SKV_E_ADDRESS, "%s is in use by another process", path.c_str());
  ::unlink(path.c_str());
}

}  // namespace

Addresses resolve(const Uri& uri, std::uint64_t deadline) {
  std::error_code error;
  const auto address = asio::ip::make_address(uri.name, error);
  if (!error) return {tcp::endpoint(address, uri.port)};
  const auto lookup = std::make_shared<Lookup>();
  try {
    std::thread([lookup, host = uri.name, port = uri.port] { look_up(lookup, host, port); }).detach();
  } catch (const std::system_error& e) {
    fail_errno(SKV_E_NO_RESOURCE, e.code().value(), "thread for a name lookup");
  }
  std::unique_lock lock(lookup->mutex);
  if (!lookup->done.wait_until(lock, to_time_point(deadline), [&] { return lookup->ready; })) {
    fail(SKV_E_TIMED_OUT, "looking up \"%s\" took too long", uri.name.c_str());
  }
  if (lookup->error != 0 || lookup->addresses.empty()) {
    fail(SKV_E_ADDRESS, "cannot find host \"%s\": %s", uri.name.c_str(), gai_strerror(lookup->error));
  }
  return lookup->addresses;
}

void want_permission(const Options& options, const Addresses& addresses) {
  const tcp::endpoint& at = addresses.front();
  if (at.address().is_loopback() || options.allow_open_tcp || options.security != SKV_SECURITY_NONE) return;
  fail(SKV_E_PERMITTED, "%s is not a loopback address: set a key or certificates, or ALLOW_OPEN_TCP", show(at).c_str());
}

std::string device_of(const Addresses& addresses, bool connecting) {
  if (addresses.empty()) return "";
  tcp::endpoint at(addresses.front());
  if (connecting) {
    // Connecting a datagram socket sends nothing and chooses the source address.
    const int socket = ::socket(at.data()->sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (socket < 0) return "";
    auto size = static_cast<socklen_t>(at.capacity());
    const bool good = ::connect(socket, at.data(), static_cast<socklen_t>(at.size())) == 0 &&
                      ::getsockname(socket, at.data(), &size) == 0;
    ::close(socket);
    if (!good) return "";
  }
  if (at.address().is_unspecified()) return "";
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0) return "";
  std::string name;
  for (const ifaddrs* i = list; i != nullptr && name.empty(); i = i->ifa_next) {
    if (i->ifa_addr == nullptr || i->ifa_addr->sa_family != at.data()->sa_family) continue;
    tcp::endpoint own;
    std::memcpy(own.data(), i->ifa_addr,
                i->ifa_addr->sa_family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6));
    // All of 127.0.0.0/8 is the loopback device's.
    const bool loopback = own.address().is_loopback() && at.address().is_loopback();
    if (own.address() == at.address() || loopback) name = i->ifa_name;
  }
  ::freeifaddrs(list);
  return name;
}

std::unique_ptr<Listener> listen_tcp(Core& core, const Uri&, const Addresses& addresses, std::string& bound) {
  const tcp::endpoint& at = addresses.front();
  auto listener = std::make_shared<StreamListener<tcp>>(core, at);
  bound = "tcp://" + show(listener->bound());
  listener->start();
  return std::make_unique<SharedListener>(std::move(listener));
}

std::unique_ptr<Listener> listen_unix(Core& core, const Uri& uri, std::string& bound) {
  const bool abstract = uri.name[0] == '@';
  if (!abstract) remove_stale(uri.name);
  auto listener = std::make_shared<StreamListener<Unix>>(core, Unix::endpoint(unix_path(uri)));
  if (!abstract) listener->owns(uri.name);
  bound = "unix://" + uri.name;
  listener->start();
  return std::make_unique<SharedListener>(std::move(listener));
}

void connect_tcp(Peer& peer, const Uri& uri, const Addresses& addresses) {
  std::vector<StreamProtocol::endpoint> list(addresses.begin(), addresses.end());
  connect_stream(peer, std::move(list), uri.name);
}

void connect_unix(Peer& peer, const Uri& uri) { connect_stream(peer, {Unix::endpoint(unix_path(uri))}, ""); }

}  // namespace skv::transport
