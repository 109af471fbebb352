// SPDX-License-Identifier: Apache-2.0
// Certificates made on the spot: an authority, leaves it signed, and ones that must not be believed.
#pragma once

#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <memory>
#include <stdexcept>
#include <string>

namespace skv::transport {

class CertificateFolder {
 public:
  CertificateFolder() {
    char name[] = "/tmp/skv-certificates-XXXXXX";
    if (::mkdtemp(name) == nullptr) throw std::runtime_error("mkdtemp");
    folder_ = name;
  }
  ~CertificateFolder() { std::filesystem::remove_all(folder_); }
  CertificateFolder(const CertificateFolder&) = delete;
  CertificateFolder& operator=(const CertificateFolder&) = delete;

  std::string path(const std::string& name, const char* what) const { return folder_ + "/" + name + "." + what; }

  // NAME.crt and NAME.key, signed by ISSUER's (its own when empty: an authority). names: e.g. "IP:127.0.0.1". Valid for
  // an hour from `from` seconds away.
  void make(const std::string& name, const std::string& issuer, const std::string& names, long from = -60) {
    Key key(EVP_EC_gen("P-256"));
    Cert cert(X509_new());
    check(key && cert);
    X509_set_version(cert.get(), 2);
    ASN1_INTEGER_set(X509_get_serialNumber(cert.get()), ++serial_);
    X509_gmtime_adj(X509_getm_notBefore(cert.get()), from);
    X509_gmtime_adj(X509_getm_notAfter(cert.get()), from + 3600);
    X509_set_pubkey(cert.get(), key.get());
    const auto* text = reinterpret_cast<const unsigned char*>(name.c_str());
    X509_NAME_add_entry_by_txt(X509_get_subject_name(cert.get()), "CN", MBSTRING_UTF8, text, -1, -1, 0);
    Cert issued;
    Key signer;
    if (!issuer.empty()) {
      issued = read_certificate(issuer);
      signer = read_key(issuer);
    }
    X509_set_issuer_name(cert.get(), X509_get_subject_name(issuer.empty() ? cert.get() : issued.get()));
    X509V3_CTX context;
    X509V3_set_ctx_nodb(&context);
    X509V3_set_ctx(&context, issuer.empty() ? cert.get() : issued.get(), cert.get(), nullptr, nullptr, 0);
    add(cert.get(), &context, NID_basic_constraints, issuer.empty() ? "critical,CA:TRUE" : "critical,CA:FALSE");
    if (!names.empty()) add(cert.get(), &context, NID_subject_alt_name, names.c_str());
    check(X509_sign(cert.get(), issuer.empty() ? key.get() : signer.get(), EVP_sha256()) > 0);
    File crt(path(name, "crt"), "w"), pem(path(name, "key"), "w");
    check(PEM_write_X509(crt.get(), cert.get()) == 1);
    check(PEM_write_PrivateKey(pem.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr) == 1);
  }

 private:
  template <auto Free>
  struct Freed {
    template <typename T>
    void operator()(T* p) const {
      Free(p);
    }
  };
  using Key = std::unique_ptr<EVP_PKEY, Freed<EVP_PKEY_free>>;
  using Cert = std::unique_ptr<X509, Freed<X509_free>>;
  struct File {
    File(const std::string& path, const char* mode) : file(std::fopen(path.c_str(), mode)) { check(file != nullptr); }
    ~File() { std::fclose(file); }
    std::FILE* get() { return file; }
    std::FILE* file;
  };
  static void check(bool good) {
    if (!good) throw std::runtime_error("certificate");
  }
  static void add(X509* cert, X509V3_CTX* context, int nid, const char* value) {
    X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, context, nid, value);
    check(extension != nullptr);
    X509_add_ext(cert, extension, -1);
    X509_EXTENSION_free(extension);
  }
  Cert read_certificate(const std::string& name) const {
    File file(path(name, "crt"), "r");
    return Cert(PEM_read_X509(file.get(), nullptr, nullptr, nullptr));
  }
  Key read_key(const std::string& name) const {
    File file(path(name, "key"), "r");
    return Key(PEM_read_PrivateKey(file.get(), nullptr, nullptr, nullptr));
  }

  std::string folder_;
  long serial_ = 0;
};

}  // namespace skv::transport
