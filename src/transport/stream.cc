// SPDX-License-Identifier: Apache-2.0
#include "transport/stream.h"

#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <asio/buffer.hpp>
#include <asio/error.hpp>
#include <asio/ip/tcp.hpp>

#include "error.h"

namespace skv::transport {
namespace {

constexpr std::size_t kSpans = 16;
constexpr std::size_t kRecordBytes = 16 * 1024;  // the most that one TLS record holds

class StreamLink final : public Link {
 public:
  using Socket = StreamProtocol::socket;

  StreamLink(Peer& peer, Socket socket) : peer_(peer), socket_(std::move(socket)) {}

  void connect(std::vector<StreamProtocol::endpoint> addresses, std::string host) {
    addresses_ = std::move(addresses);
    host_ = std::move(host);
    try_next(std::error_code());
  }

  // The socket is connected.
  void start() {
    std::error_code error;
    socket_.non_blocking(true, error);
    const int family = socket_.local_endpoint(error).protocol().family();
    if (!error && family != AF_UNIX) socket_.set_option(asio::ip::tcp::no_delay(true), error);
    if (error) return peer_.session.broken(SKV_E_IO, "socket: " + error.message());
    if (family == AF_UNIX && peer_.connecting && !is_trusted_user(peer_.core, socket_.native_handle())) {
      return peer_.session.broken(SKV_E_AUTH,
                                  "the socket belongs to another user than this process's, root or PEER_UID");
    }
    if (peer_.security == SKV_SECURITY_TLS || peer_.security == SKV_SECURITY_TLS_PSK) {
      try {
        tls_ = peer_.core.options.tls->start(socket_.native_handle(), peer_.connecting, host_);
      } catch (const Error& broken) {
        return peer_.session.broken(broken.status(), broken.message());
      }
      record_.reserve(kRecordBytes);
    }
    connected_ = true;
    local_ = family == AF_UNIX;
    peer_.core.ready().watch(socket_.native_handle());
    await_read();
  }

  std::optional<std::uint64_t> holds() override {
    int bytes = 0;
    // Unix sockets count something else.
    if (!connected_ || aborted_ || local_ || apart_ || ::ioctl(socket_.native_handle(), SIOCOUTQ, &bytes) != 0)
      return std::nullopt;
    return static_cast<std::uint64_t>(std::max(bytes, 0));
  }

  void flush() override {
    if (!connected_ || aborted_) return;
    write();
  }

  void use(std::unique_ptr<UcxChannel> channel) override { apart_ = std::move(channel); }

  void channel_ready() override {
    if (!apart_ || aborted_) return;
    const bool comes = apart_->arrived() > 0 || !apart_->broken().empty();
    const bool reads = waits_data_ && !peer_.session.is_closed() && comes;
    if (!reads && !waits_room_) return;  // what happened is another conn's
    if (reads) {
      waits_data_ = false;
      if (read()) await_read();
    }
    if (waits_room_ && !aborted_) {
      waits_room_ = false;
      write();
    }
    peer_.core.process(peer_);
  }

  void finish() override {
    if (aborted_) return;
    if (!connected_) return peer_.core.link_gone(peer_);
    if ((!peer_.session.wants_output() && !record_waits()) || !write()) return said_all();
  }

  void abort() override {
    if (aborted_) return;
    aborted_ = true;
    apart_.reset();
    std::error_code ignored;
    if (connected_) peer_.core.ready().unwatch(socket_.native_handle());
    socket_.close(ignored);
  }

 private:
  void try_next(std::error_code last) {
    if (next_ == addresses_.size()) {
      peer_.session.broken(SKV_E_ADDRESS, "cannot connect: " + last.message());
      return;
    }
    const auto& at = addresses_[next_++];
    std::error_code error;
    if (socket_.is_open()) socket_.close(error);
    socket_.open(at.protocol(), error);
    if (error) return try_next(error);
    socket_.async_connect(at, [this, self = peer_.shared_from_this()](std::error_code result) {
      peer_.core.locked([&] {
        if (aborted_ || peer_.session.is_closed()) return;
        if (result) {
          try_next(result);
        } else {
          start();
        }
        peer_.core.process(peer_);
      });
    });
  }

  void await_read() {
    if (aborted_ || reading_ || (waits_data_ && !peer_.session.is_closed())) return;
    reading_ = true;
    socket_.async_wait(Socket::wait_read, [this, self = peer_.shared_from_this()](std::error_code error) {
      if (error) return;
      peer_.core.locked([&] {
        reading_ = false;
        if (aborted_) return;
        if (read()) await_read();
        if (record_waits() && !broken_) write();
        peer_.core.process(peer_);
      });
    });
  }

  void await_write() {
    if (aborted_ || writing_) return;
    writing_ = true;
    peer_.core.ready().want_write(socket_.native_handle(), true);
    socket_.async_wait(Socket::wait_write, [this, self = peer_.shared_from_this()](std::error_code error) {
      if (error) return;
      peer_.core.locked([&] {
        writing_ = false;
        if (aborted_) return;
        peer_.core.ready().want_write(socket_.native_handle(), false);
        write();
        peer_.core.process(peer_);
      });
    });
  }

  enum class Io { kDone, kAgain, kEnd, kBroken };

  // One read of what is there into the first targets. kBroken: why_ says how.
  Io read_some(const Session::ReadTargets& targets, std::size_t& n) {
    if (!tls_) {
      const std::array buffers{asio::buffer(targets[0].data(), targets[0].size()),
                               asio::buffer(targets[1].data(), targets[1].size())};
      return plain_read(buffers, n);
    }
    try {
      const TlsStream::Result result = tls_->read(targets[0]);
      n = result.bytes;
      if (result.step == TlsStream::Step::kWantWrite) await_write();
      if (result.step == TlsStream::Step::kEnd) return Io::kEnd;
      return result.step == TlsStream::Step::kDone ? Io::kDone : Io::kAgain;
    } catch (const Error& error) {
      broken_ = true;
      why_ = error;
      return Io::kBroken;
    }
  }

  template <typename Buffers>
  Io plain_read(const Buffers& buffers, std::size_t& n) {
    std::error_code error;
    do {
      n = socket_.read_some(buffers, error);
    } while (error == asio::error::interrupted);
    if (!error) return Io::kDone;
    if (error == asio::error::would_block) return Io::kAgain;
    if (error == asio::error::eof) return Io::kEnd;
    why_ = Error(SKV_E_PEER_LOST, "the connection broke: " + error.message());
    return Io::kBroken;
  }

  // Reads what is there. False: the stream is at its end.
  bool read() {
    Session& session = peer_.session;
    for (std::size_t done = 0; done < kIoBudget;) {
      std::size_t n = 0;
      const auto targets = session.read_targets();
      const bool over = session.is_closed();
      if (apart_ && !over && session.wants_data()) {
        n = apart_->read(targets[0]);
        if (n == 0 && !apart_->broken().empty()) {
          session.broken(SKV_E_PEER_LOST, "plane ucx: " + apart_->broken());
          return false;
        }
        waits_data_ = n == 0;
        if (waits_data_) return true;
        session.received(n, now_ns());
        done += n;
        continue;
      }
      // Then only the end of the stream matters; unread bytes would turn our last words into a reset. Last words that
      // wait for the TLS handshake need it to go on.
      const bool handshakes = over && tls_ && !broken_ && !tls_->established() && !shut_;
      const Io io = handshakes ? read_some({std::span(scratch_), {}}, n)
                    : over     ? plain_read(std::array{asio::buffer(scratch_)}, n)
                               : read_some(targets, n);
      if (io == Io::kAgain) return true;
      if (io != Io::kDone) {
        if (over) {
          peer_.core.link_gone(peer_);
        } else if (io == Io::kEnd) {
          session.end_of_stream(now_ns());
        } else {
          session.broken(why_.status(), why_.message());
        }
        return false;
      }
      if (!over) session.received(n, now_ns());
      done += n;
    }
    // Bytes that TLS holds decrypted do not make the socket readable.
    if (tls_ || apart_) read_again();
    return true;
  }

  void read_again() {
    peer_.core.post([this, weak = peer_.weak_from_this()] {
      const auto self = weak.lock();
      if (!self || aborted_) return;
      read();
      peer_.core.process(peer_);
    });
  }

  // Moves some output to the socket. n: bytes that left, or are TLS's to send.
  Io write_some(std::span<const std::span<const std::byte>> list, std::size_t& n) {
    if (tls_) return write_record(n);
    std::array<asio::const_buffer, kSpans> buffers;
    for (std::size_t i = 0; i < list.size(); i++) buffers[i] = asio::buffer(list[i].data(), list[i].size());
    std::error_code error;
    do {
      n = socket_.write_some(std::span(buffers).first(list.size()), error);
    } while (error == asio::error::interrupted);
    if (!error) {
      peer_.session.sent(n, now_ns());
      return Io::kDone;
    }
    if (error == asio::error::would_block) return Io::kAgain;
    why_ = Error(SKV_E_PEER_LOST, "the connection broke: " + error.message());
    return Io::kBroken;
  }

  // A record that TLS could not send at once must be given to it again as it was, whatever happened to the transfer its
  // bytes are of: so they are copied, a record's worth at a time.
  void fill_record() {
    Session& session = peer_.session;
    record_sent_ = 0;
    record_.clear();
    while (record_.size() < kRecordBytes) {
      std::array<std::span<const std::byte>, kSpans> list;
      const std::size_t count = session.output(list);
      std::size_t n = 0;
      for (std::size_t i = 0; i < count && record_.size() < kRecordBytes; i++) {
        const std::size_t step = std::min(list[i].size(), kRecordBytes - record_.size());
        record_.insert(record_.end(), list[i].begin(), list[i].begin() + static_cast<std::ptrdiff_t>(step));
        n += step;
      }
      if (n == 0) return;
      session.sent(n, now_ns());
    }
  }

  Io write_record(std::size_t& n) {
    if (record_sent_ == record_.size()) fill_record();
    try {
      const TlsStream::Result result = tls_->write(std::span(record_).subspan(record_sent_));
      record_sent_ += result.bytes;
      n = result.bytes;
      if (result.step == TlsStream::Step::kDone) return Io::kDone;
      if (result.step == TlsStream::Step::kEnd) return Io::kEnd;
      awaits_peer_ = result.step == TlsStream::Step::kWantRead;
      return Io::kAgain;
    } catch (const Error& error) {
      broken_ = true;
      why_ = error;
      return Io::kBroken;
    }
  }

  bool record_waits() const noexcept { return record_sent_ < record_.size(); }

  // The same with DATA bodies on a channel of their own: in the order of their headers on the stream.
  bool write_apart() {
    Session& session = peer_.session;
    for (std::size_t done = 0; done < kIoBudget;) {
      std::array<std::span<const std::byte>, kSpans> list;
      std::uint32_t apart = 0;
      const std::size_t count = session.output(list, &apart);
      if (count == 0) return false;
      std::size_t n = 0;
      if ((apart & 1) != 0) {
        n = apart_->send(list[0]);
        peer_.core.kick_ucx();
        if (n == 0) {
          if (!apart_->broken().empty()) {
            session.broken(SKV_E_PEER_LOST, "plane ucx: " + apart_->broken());
            return false;
          }
          session.stalled();
          waits_room_ = true;
          return true;
        }
        session.sent(n, now_ns());
      } else {
        std::size_t plain = 1;
        while (plain < count && (apart >> plain & 1) == 0) plain++;
        const Io io = write_some(std::span(list).first(plain), n);
        if (io == Io::kAgain) {
          session.stalled();
          break;
        }
        if (io != Io::kDone) {
          session.broken(why_.status(), why_.message());
          return false;
        }
      }
      done += n;
    }
    await_write();
    return true;
  }

  // Writes what fits. False: nothing is left, or the connection is broken.
  bool write() {
    if (apart_) return write_apart();
    Session& session = peer_.session;
    for (std::size_t done = 0;;) {
      std::array<std::span<const std::byte>, kSpans> list;
      const std::size_t count = session.output(list);
      if (count == 0 && !record_waits()) return false;
      if (done >= kIoBudget) break;
      std::size_t n = 0;
      awaits_peer_ = false;
      const Io io = write_some(std::span(list).first(count), n);
      if (io == Io::kAgain) {
        if (awaits_peer_) return true;  // in its handshake TLS has to hear the peer first
        session.stalled();
        break;
      }
      if (io != Io::kDone) {
        const Error why = io == Io::kEnd ? Error(SKV_E_PEER_LOST, "the peer closed the connection") : why_;
        if (!session.is_closed() && !tls_) read();  // the peer may have said why before it left
        session.broken(why.status(), why.message());
        record_.clear();
        record_sent_ = 0;
        return false;
      }
      done += n;
    }
    await_write();
    return true;
  }

  void said_all() {
    if (shut_) return;
    shut_ = true;
    std::error_code error;
    if (tls_) tls_->say_goodbye();
    socket_.shutdown(Socket::shutdown_send, error);
    // The peer's end of stream, or the linger time, closes the socket.
    if (error || peer_.end_status == SKV_E_PEER_LOST) peer_.core.link_gone(peer_);
  }

  Peer& peer_;  // owns this
  Socket socket_;
  std::vector<StreamProtocol::endpoint> addresses_;
  std::size_t next_ = 0;
  bool local_ = false;
  bool connected_ = false, aborted_ = false, writing_ = false, shut_ = false;
  std::unique_ptr<UcxChannel> apart_;  // where DATA bodies go and come; null: the stream
  bool waits_data_ = false, waits_room_ = false, reading_ = false;
  std::array<std::byte, 4096> scratch_;
  Error why_{SKV_E_PEER_LOST, ""};  // of the last kBroken

  std::string host_;
  std::unique_ptr<TlsStream> tls_;  // null: plain
  std::vector<std::byte> record_;   // what TLS is to send, from record_sent_ on
  std::size_t record_sent_ = 0;
  bool awaits_peer_ = false, broken_ = false;  // TLS has to hear the peer before it can write; it failed
};

}  // namespace

bool is_trusted_user(const Core& core, int socket) {
  ucred peer{};
  socklen_t size = sizeof peer;
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return false;
  return peer.uid == ::geteuid() || peer.uid == 0 || static_cast<std::int64_t>(peer.uid) == core.options.peer_uid;
}

void adopt_stream(Core& core, StreamProtocol::socket socket) {
  std::error_code error;
  const bool local = socket.local_endpoint(error).protocol().family() == AF_UNIX;
  const auto peer = core.make_peer(false, local ? Carrier::kUnix : Carrier::kTcp, kNever);
  if (!peer) return;
  auto link = std::make_unique<StreamLink>(*peer, std::move(socket));
  StreamLink& started = *link;
  peer->link = std::move(link);
  started.start();
  core.process(*peer);
}

void connect_stream(Peer& peer, std::vector<StreamProtocol::endpoint> addresses, std::string host) {
  auto link = std::make_unique<StreamLink>(peer, StreamProtocol::socket(peer.core.io()));
  StreamLink& started = *link;
  peer.link = std::move(link);
  started.connect(std::move(addresses), std::move(host));
}

}  // namespace skv::transport
