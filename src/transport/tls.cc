// SPDX-License-Identifier: Apache-2.0
#include "transport/tls.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>

#include <cerrno>
#include <climits>
#include <cstring>

#include "error.h"

namespace skv::transport {
namespace {

template <auto Free>
struct Freed {
  template <typename T>
  void operator()(T* p) const noexcept {
    Free(p);
  }
};
using Context = std::unique_ptr<SSL_CTX, Freed<SSL_CTX_free>>;
using Ssl = std::unique_ptr<SSL, Freed<SSL_free>>;
using Session = std::unique_ptr<SSL_SESSION, Freed<SSL_SESSION_free>>;

// Read ahead, several records in one call instead of two calls for each. A conn keeps this and what a record needs to
// be written: given back when empty (SSL_MODE_RELEASE_BUFFERS) they came anew for every few records, and cost more than
// they saved (docs/results/transport.md).
constexpr std::size_t kReadBytes = 64 * 1024;
constexpr char kIdentity[] = "spectrumkv";  // of the one key
// RFC 8446 ties an external PSK to a hash; this suite's is SHA-256.
constexpr unsigned char kSuite[] = {0x13, 0x01};  // TLS_AES_128_GCM_SHA256

// --------------------------------------------------------------------------------------------------- the socket
// OpenSSL's own socket BIO writes without MSG_NOSIGNAL: a lost peer would raise SIGPIPE in the host process.

int fd_of(BIO* bio) { return static_cast<int>(reinterpret_cast<std::intptr_t>(BIO_get_data(bio))); }

int bio_result(BIO* bio, ssize_t n, bool reads) {
  BIO_clear_retry_flags(bio);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) reads ? BIO_set_retry_read(bio) : BIO_set_retry_write(bio);
  return static_cast<int>(n);
}
int bio_read(BIO* bio, char* to, int size) {
  return bio_result(bio, ::recv(fd_of(bio), to, static_cast<std::size_t>(size), 0), true);
}
int bio_write(BIO* bio, const char* from, int size) {
  return bio_result(bio, ::send(fd_of(bio), from, static_cast<std::size_t>(size), MSG_NOSIGNAL), false);
}
long bio_ctrl(BIO*, int command, long, void*) { return command == BIO_CTRL_FLUSH ? 1 : 0; }

const BIO_METHOD* socket_method() {
  static const BIO_METHOD* const method = [] {
    BIO_METHOD* made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "spectrumkv socket");
    if (made == nullptr) return made;
    BIO_meth_set_read(made, bio_read);
    BIO_meth_set_write(made, bio_write);
    BIO_meth_set_ctrl(made, bio_ctrl);
    return made;
  }();
  return method;
}

std::string reason() {
  const unsigned long code = ERR_peek_last_error();
  const char* text = code == 0 ? nullptr : ERR_reason_error_string(code);
  return text == nullptr ? "unknown reason" : text;
}

[[noreturn]] void out_of(const char* what) { fail(SKV_E_NO_RESOURCE, "OpenSSL: %s: %s", what, reason().c_str()); }

skv_status status_of(unsigned long code) {
  switch (ERR_GET_REASON(code)) {
    case SSL_R_WRONG_VERSION_NUMBER:
    case SSL_R_HTTP_REQUEST:
    case SSL_R_HTTPS_PROXY_REQUEST:
    case SSL_R_PACKET_LENGTH_TOO_LONG:
    case SSL_R_BAD_RECORD_TYPE:
    case SSL_R_UNEXPECTED_MESSAGE:
    case SSL_R_BAD_PACKET_LENGTH:
    case SSL_R_LENGTH_MISMATCH:
      return SKV_E_PROTOCOL;
    case SSL_R_UNSUPPORTED_PROTOCOL:
    case SSL_R_TLSV1_ALERT_PROTOCOL_VERSION:
    case SSL_R_VERSION_TOO_LOW:
      return SKV_E_VERSION;
    default:
      return SKV_E_AUTH;
  }
}

class Stream final : public TlsStream {
 public:
  Stream(Ssl ssl, bool psk) : ssl_(std::move(ssl)), psk_(psk) {}

  Result read(std::span<std::byte> target) override {
    ERR_clear_error();
    std::size_t n = 0;
    const int good = SSL_read_ex(ssl_.get(), target.data(), target.size(), &n);
    check_peer();
    return good == 1 ? Result{Step::kDone, n} : failed(good);
  }

  Result write(std::span<const std::byte> bytes) override {
    ERR_clear_error();
    std::size_t n = 0;
    const int good = SSL_write_ex(ssl_.get(), bytes.data(), bytes.size(), &n);
    check_peer();
    return good == 1 ? Result{Step::kDone, n} : failed(good);
  }

  bool established() const noexcept override { return checked_; }

  void say_goodbye() noexcept override {
    ERR_clear_error();
    if (checked_ && !broken_) SSL_shutdown(ssl_.get());
    ERR_clear_error();
  }

 private:
  // The handshake itself fails for a peer without a certificate or key; this is the belt to those braces.
  void check_peer() {
    if (checked_ || SSL_is_init_finished(ssl_.get()) == 0) return;
    const bool proven =
        psk_ ? SSL_session_reused(ssl_.get()) == 1
             : SSL_get0_peer_certificate(ssl_.get()) != nullptr && SSL_get_verify_result(ssl_.get()) == X509_V_OK;
    if (!proven) fail(SKV_E_AUTH, "the peer proved no identity in the TLS handshake");
    checked_ = true;
  }

  Result failed(int good) {
    const int saved = errno;
    switch (SSL_get_error(ssl_.get(), good)) {
      case SSL_ERROR_WANT_READ:
        return {Step::kWantRead, 0};
      case SSL_ERROR_WANT_WRITE:
        return {Step::kWantWrite, 0};
      case SSL_ERROR_ZERO_RETURN:
        return {Step::kEnd, 0};
      case SSL_ERROR_SYSCALL:
        broken_ = true;
        if (!checked_) fail(SKV_E_PEER_LOST, "the peer closed the connection in the TLS handshake");
        fail(SKV_E_PEER_LOST, "the connection broke: %s", std::strerror(saved));
      default:
        break;
    }
    broken_ = true;
    const unsigned long code = ERR_peek_error();
    const std::string why = reason();
    ERR_clear_error();
    if (ERR_GET_REASON(code) == SSL_R_UNEXPECTED_EOF_WHILE_READING) {
      if (checked_) return {Step::kEnd, 0};  // without goodbye; what was not committed does not count anyway
      fail(SKV_E_PEER_LOST, "the peer closed the connection in the TLS handshake");
    }
    const long verified = SSL_get_verify_result(ssl_.get());
    if (verified != X509_V_OK) {
      fail(SKV_E_AUTH, "the peer's certificate: %s", X509_verify_cert_error_string(verified));
    }
    const skv_status status = status_of(code);
    // An end that gets no answer to its certificate has finished its handshake by the time it hears why.
    if (checked_ && status == SKV_E_AUTH && !heard_alert(code)) fail(SKV_E_PROTOCOL, "TLS record: %s", why.c_str());
    fail(status, "TLS: %s", why.c_str());
  }

  static bool heard_alert(unsigned long code) { return ERR_GET_REASON(code) >= SSL_AD_REASON_OFFSET; }

  Ssl ssl_;
  const bool psk_;
  bool checked_ = false, broken_ = false;
};

Context make_context() {
  Context context(SSL_CTX_new(TLS_method()));
  if (!context) out_of("SSL_CTX_new");
  SSL_CTX* c = context.get();
  const bool good =
      SSL_CTX_set_min_proto_version(c, TLS1_3_VERSION) == 1 && SSL_CTX_set_max_proto_version(c, TLS1_3_VERSION) == 1 &&
      SSL_CTX_set_num_tickets(c, 0) == 1 &&
      // Without one, an end that verifies its peer takes no PSK.
      SSL_CTX_set_session_id_context(c, reinterpret_cast<const unsigned char*>(kIdentity), sizeof kIdentity - 1) == 1;
  if (!good) out_of("TLS 1.3");
  SSL_CTX_set_session_cache_mode(c, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_mode(c, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  SSL_CTX_set_read_ahead(c, 1);
  SSL_CTX_set_default_read_buffer_len(c, kReadBytes);
  SSL_CTX_set_verify(c, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  return context;
}

class Identity : public TlsIdentity {
 public:
  Identity(Context context, std::string peer_name) : context_(std::move(context)), peer_name_(std::move(peer_name)) {}

  std::unique_ptr<TlsStream> start(int socket, bool connecting, const std::string& host) const override {
    ERR_clear_error();
    Ssl ssl(SSL_new(context_.get()));
    if (!ssl) out_of("SSL_new");
    BIO* bio = socket_method() == nullptr ? nullptr : BIO_new(socket_method());
    if (bio == nullptr) out_of("BIO_new");
    BIO_set_data(bio, reinterpret_cast<void*>(static_cast<std::intptr_t>(socket)));
    BIO_set_init(bio, 1);
    SSL_set_bio(ssl.get(), bio, bio);
    connecting ? SSL_set_connect_state(ssl.get()) : SSL_set_accept_state(ssl.get());
    const std::string& name = peer_name_.empty() && connecting ? host : peer_name_;
    if (!name.empty() && !is_psk()) expect_name(ssl.get(), name, connecting);
    return std::make_unique<Stream>(std::move(ssl), is_psk());
  }

 protected:
  virtual bool is_psk() const noexcept { return false; }
  SSL_CTX* context() const noexcept { return context_.get(); }

 private:
  static void expect_name(SSL* ssl, const std::string& name, bool connecting) {
    X509_VERIFY_PARAM* expected = SSL_get0_param(ssl);
    if (X509_VERIFY_PARAM_set1_ip_asc(expected, name.c_str()) == 1) return;
    ERR_clear_error();
    X509_VERIFY_PARAM_set_hostflags(expected, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    if (X509_VERIFY_PARAM_set1_host(expected, name.c_str(), name.size()) != 1) out_of("the peer's name");
    if (connecting) SSL_set_tlsext_host_name(ssl, name.c_str());
  }

  Context context_;
  std::string peer_name_;
};

// The key lives in the context's application data, which OpenSSL hands to the callbacks below.
class PskIdentity final : public Identity {
 public:
  PskIdentity(Context made, const Proof& key) : Identity(std::move(made), ""), key_(key) {
    SSL_CTX_set_app_data(context(), this);
    SSL_CTX_set_psk_use_session_callback(context(), use);
    SSL_CTX_set_psk_find_session_callback(context(), find);
  }
  ~PskIdentity() override { OPENSSL_cleanse(key_.data(), key_.size()); }

 private:
  bool is_psk() const noexcept override { return true; }

  Session session(SSL* ssl) const {
    const SSL_CIPHER* cipher = SSL_CIPHER_find(ssl, kSuite);
    Session made(SSL_SESSION_new());
    const auto* bytes = reinterpret_cast<const unsigned char*>(key_.data());
    if (cipher == nullptr || !made || SSL_SESSION_set1_master_key(made.get(), bytes, key_.size()) != 1 ||
        SSL_SESSION_set_cipher(made.get(), cipher) != 1 ||
        SSL_SESSION_set_protocol_version(made.get(), TLS1_3_VERSION) != 1 ||
        SSL_SESSION_set1_id_context(made.get(), reinterpret_cast<const unsigned char*>(kIdentity),
                                    sizeof kIdentity - 1) != 1) {
      return nullptr;
    }
    return made;
  }
  static const PskIdentity& of(SSL* ssl) {
    return *static_cast<const PskIdentity*>(SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl)));
  }
  static int use(SSL* ssl, const EVP_MD* digest, const unsigned char** id, std::size_t* size, SSL_SESSION** out) {
    *out = nullptr;
    if (digest != nullptr && EVP_MD_get_type(digest) != NID_sha256) return 1;  // no other key to offer
    Session made = of(ssl).session(ssl);
    if (!made) return 0;
    *id = reinterpret_cast<const unsigned char*>(kIdentity);
    *size = sizeof kIdentity - 1;
    *out = made.release();
    return 1;
  }
  static int find(SSL* ssl, const unsigned char* id, std::size_t size, SSL_SESSION** out) {
    *out = nullptr;
    if (size != sizeof kIdentity - 1 || std::memcmp(id, kIdentity, size) != 0) return 1;  // unknown: no session
    Session made = of(ssl).session(ssl);
    if (!made) return 0;
    *out = made.release();
    return 1;
  }

  Proof key_;
};

[[noreturn]] void unusable(const char* what, const std::string& path) {
  fail(SKV_E_AUTH, "cannot use the %s in %s: %s", what, path.c_str(), reason().c_str());
}

}  // namespace

std::shared_ptr<const TlsIdentity> tls_certificates(const std::string& certificate, const std::string& key,
                                                    const std::string& authority, const std::string& peer_name) {
  ERR_clear_error();
  Context context = make_context();
  SSL_CTX* c = context.get();
  if (SSL_CTX_use_certificate_chain_file(c, certificate.c_str()) != 1) unusable("certificate", certificate);
  if (SSL_CTX_use_PrivateKey_file(c, key.c_str(), SSL_FILETYPE_PEM) != 1) unusable("private key", key);
  if (SSL_CTX_load_verify_file(c, authority.c_str()) != 1) unusable("authority", authority);
  return std::make_shared<Identity>(std::move(context), peer_name);
}

std::shared_ptr<const TlsIdentity> tls_psk(const SecretKey& key) {
  ERR_clear_error();
  Context context = make_context();
  if (SSL_CTX_set_ciphersuites(context.get(), "TLS_AES_128_GCM_SHA256") != 1) out_of("TLS_AES_128_GCM_SHA256");
  return std::make_shared<PskIdentity>(std::move(context), derive_key(key, "spectrumkv 1 tls 1.3 external psk"));
}

}  // namespace skv::transport
