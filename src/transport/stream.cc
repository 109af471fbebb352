// SPDX-License-Identifier: Apache-2.0
#include "transport/stream.h"

#include <array>

#include <asio/buffer.hpp>
#include <asio/error.hpp>
#include <asio/ip/tcp.hpp>

#include "error.h"

namespace skv::transport {
namespace {

constexpr std::size_t kSpans = 16;

class StreamLink final : public Link {
 public:
  using Socket = StreamProtocol::socket;

  StreamLink(Peer& peer, Socket socket) : peer_(peer), socket_(std::move(socket)) {}

  void connect(std::vector<StreamProtocol::endpoint> addresses) {
    addresses_ = std::move(addresses);
    try_next(std::error_code());
  }

  // The socket is connected.
  void start() {
    std::error_code error;
    socket_.non_blocking(true, error);
    const int family = socket_.local_endpoint(error).protocol().family();
    if (!error && family != AF_UNIX) socket_.set_option(asio::ip::tcp::no_delay(true), error);
    if (error) return peer_.session.broken(SKV_E_IO, "socket: " + error.message());
    connected_ = true;
    peer_.core.ready().watch(socket_.native_handle());
    await_read();
  }

  void flush() override {
    if (!connected_ || aborted_) return;
    write();
  }

  void finish() override {
    if (aborted_) return;
    if (!connected_) return peer_.core.link_gone(peer_);
    if (!peer_.session.wants_output() || !write()) return said_all();
  }

  void abort() override {
    if (aborted_) return;
    aborted_ = true;
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
    if (aborted_) return;
    socket_.async_wait(Socket::wait_read, [this, self = peer_.shared_from_this()](std::error_code error) {
      if (error) return;
      peer_.core.locked([&] {
        if (aborted_) return;
        if (read()) await_read();
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

  // Reads what is there. False: the stream is at its end.
  bool read() {
    Session& session = peer_.session;
    for (std::size_t done = 0; done < kIoBudget;) {
      std::array<asio::mutable_buffer, 2> buffers;
      const auto targets = session.read_targets();
      if (session.is_closed()) {
        // Only the end of the stream matters now; unread bytes would turn our last words into a reset.
        buffers[0] = asio::buffer(scratch_);
      } else {
        for (std::size_t i = 0; i < 2; i++) buffers[i] = asio::buffer(targets[i].data(), targets[i].size());
      }
      std::error_code error;
      const std::size_t n = socket_.read_some(buffers, error);
      if (error == asio::error::would_block) return true;
      if (error == asio::error::interrupted) continue;
      if (error) {
        if (session.is_closed()) {
          peer_.core.link_gone(peer_);
        } else if (error == asio::error::eof) {
          session.end_of_stream(now_ns());
        } else {
          session.broken(SKV_E_PEER_LOST, "the connection broke: " + error.message());
        }
        return false;
      }
      session.received(n, now_ns());
      done += n;
    }
    return true;
  }

  // Writes what fits. False: nothing is left, or the connection is broken.
  bool write() {
    Session& session = peer_.session;
    for (std::size_t done = 0;;) {
      std::array<std::span<const std::byte>, kSpans> list;
      const std::size_t count = session.output(list);
      if (count == 0) return false;
      if (done >= kIoBudget) break;
      std::array<asio::const_buffer, kSpans> buffers;
      for (std::size_t i = 0; i < count; i++) buffers[i] = asio::buffer(list[i].data(), list[i].size());
      std::error_code error;
      const std::size_t n = socket_.write_some(std::span(buffers).first(count), error);
      if (error == asio::error::would_block) {
        session.stalled();
        break;
      }
      if (error == asio::error::interrupted) continue;
      if (error) {
        if (!session.is_closed()) read();  // the peer may have said why before it left
        session.broken(SKV_E_PEER_LOST, "the connection broke: " + error.message());
        return false;
      }
      session.sent(n, now_ns());
      done += n;
    }
    await_write();
    return true;
  }

  void said_all() {
    if (shut_) return;
    shut_ = true;
    std::error_code error;
    socket_.shutdown(Socket::shutdown_send, error);
    // The peer's end of stream, or the linger time, closes the socket.
    if (error || peer_.end_status == SKV_E_PEER_LOST) peer_.core.link_gone(peer_);
  }

  Peer& peer_;  // owns this
  Socket socket_;
  std::vector<StreamProtocol::endpoint> addresses_;
  std::size_t next_ = 0;
  bool connected_ = false, aborted_ = false, writing_ = false, shut_ = false;
  std::array<std::byte, 4096> scratch_;
};

}  // namespace

void adopt_stream(Core& core, StreamProtocol::socket socket) {
  const auto peer = core.make_peer(false, SKV_PLANE_INLINE, kNever);
  if (!peer) return;
  auto link = std::make_unique<StreamLink>(*peer, std::move(socket));
  StreamLink& started = *link;
  peer->link = std::move(link);
  started.start();
  core.process(*peer);
}

void connect_stream(Peer& peer, std::vector<StreamProtocol::endpoint> addresses) {
  auto link = std::make_unique<StreamLink>(peer, StreamProtocol::socket(peer.core.io()));
  StreamLink& started = *link;
  peer.link = std::move(link);
  started.connect(std::move(addresses));
}

}  // namespace skv::transport
