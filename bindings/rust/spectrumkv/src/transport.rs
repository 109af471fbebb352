// SPDX-License-Identifier: Apache-2.0
//! Endpoint and conn: a local end, and one peer.

use crate::error::{Error, c_text, call, ready};
use crate::reactor::Hub;
use crate::request::{Request, RequestHandle};
use crate::{ConnKey, EndpointKey, Fingerprint, Payload, Plane, Result, Security, Status};
use core::ffi::CStr;
use core::ptr::{NonNull, null, null_mut};
use spectrumkv_sys as sys;
use std::ffi::CString;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// An absolute point of CLOCK_MONOTONIC until which a call may wait. A [`Duration`] counts from now.
///
/// ```
/// use spectrumkv::Deadline;
/// use std::time::Duration;
/// let deadline = Deadline::after(Duration::from_secs(2))?;
/// assert!(deadline.remaining()? > Duration::from_secs(1));
/// # Ok::<(), spectrumkv::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(u64);

impl Deadline {
    /// So long from now. Rounded up to milliseconds.
    ///
    /// # Errors
    /// `UNAVAILABLE`: the library, whose clock it is, is not there.
    pub fn after(duration: Duration) -> Result<Self> {
        ready()?;
        Ok(Self::soon(duration))
    }

    /// The same where a handle exists, so that the library is known to be there.
    pub(crate) fn soon(duration: Duration) -> Self {
        let milliseconds = u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
        // SAFETY: takes a number; saturates.
        Self(unsafe { sys::skv_deadline_ms(milliseconds) })
    }

    /// From absolute nanoseconds of CLOCK_MONOTONIC.
    pub const fn at_nanos(nanoseconds: u64) -> Self {
        Self(nanoseconds)
    }

    /// In absolute nanoseconds of CLOCK_MONOTONIC.
    pub const fn nanos(self) -> u64 {
        self.0
    }

    /// What is left of it; zero when it has passed.
    ///
    /// # Errors
    /// As [`after`](Self::after).
    pub fn remaining(self) -> Result<Duration> {
        ready()?;
        // SAFETY: takes nothing.
        Ok(Duration::from_nanos(self.0.saturating_sub(unsafe { sys::skv_now_ns() })))
    }
}

impl From<Duration> for Until {
    fn from(duration: Duration) -> Self {
        Self::In(duration)
    }
}

impl From<Deadline> for Until {
    fn from(deadline: Deadline) -> Self {
        Self::At(deadline)
    }
}

impl From<Instant> for Until {
    fn from(instant: Instant) -> Self {
        Self::In(instant.saturating_duration_since(Instant::now()))
    }
}

/// What waits take: a [`Deadline`], a [`Duration`] from now, or an [`Instant`].
#[derive(Clone, Copy, Debug)]
pub enum Until {
    /// From now.
    In(Duration),
    /// Absolute.
    At(Deadline),
}

impl Until {
    pub(crate) fn nanos(self) -> u64 {
        match self {
            Self::In(duration) => Deadline::soon(duration).0,
            Self::At(deadline) => deadline.0,
        }
    }
}

/// A local end: listens, connects, and carries requests. Threads may share it.
///
/// It lives until it and the last of its conns and requests are dropped.
///
/// ```
/// use spectrumkv::{Endpoint, Status};
/// use std::time::Duration;
/// let endpoint = Endpoint::new()?;
/// let uri = endpoint.listen("tcp://127.0.0.1:0")?;
/// assert!(uri.starts_with("tcp://127.0.0.1:"));
/// let nobody = endpoint.accept(Duration::from_millis(1)).unwrap_err();
/// assert_eq!(nobody.status(), Status::TIMED_OUT);
/// # Ok::<(), spectrumkv::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Endpoint {
    hub: Arc<Hub>,
}

impl Endpoint {
    /// An endpoint with default options and a thread that moves the bytes.
    ///
    /// # Errors
    /// `NO_MEMORY`, `NO_RESOURCE`, `UNAVAILABLE` (no library).
    pub fn new() -> Result<Self> {
        ready()?;
        let mut raw = null_mut();
        // SAFETY: `raw` and the error outlive the call.
        call(|err| unsafe { sys::skv_endpoint_create(&mut raw, err) })?;
        Ok(Self { hub: Arc::new(Hub::new(NonNull::new(raw).expect("OK gives a handle"))) })
    }

    pub(crate) fn as_ptr(&self) -> *mut sys::skv_endpoint {
        self.hub.as_ptr()
    }

    /// Sets an option, before the first [`listen`](Self::listen) or [`connect`](Self::connect).
    ///
    /// # Errors
    /// `KEY`, `RANGE`, `STATE`.
    pub fn set(&self, key: EndpointKey, value: i64) -> Result<()> {
        // SAFETY: the handle lives.
        call(|err| unsafe { sys::skv_endpoint_set(self.as_ptr(), key.0, value, err) })?;
        if key == EndpointKey::PROGRESS_THREAD {
            self.hub.set_driven(value == 0);
        }
        Ok(())
    }

    /// The model served here. Two ends whose fingerprints differ refuse each other with `MODEL`.
    ///
    /// # Errors
    /// `STATE`.
    pub fn set_model(&self, fingerprint: &Fingerprint) -> Result<()> {
        // SAFETY: an array of the length that the function reads.
        call(|err| unsafe { sys::skv_endpoint_set_model(self.as_ptr(), fingerprint.as_ptr(), err) }).map(drop)
    }

    /// A shared key of 16 … 1024 random bytes for every TCP and Unix conn, with `Security::PSK` (both ends prove it, bytes
    /// travel in the clear) or `Security::TLS_PSK` (TLS 1.3 on TCP). Copied.
    ///
    /// # Errors
    /// `RANGE`, `STATE`.
    pub fn set_psk(&self, security: Security, key: &[u8]) -> Result<()> {
        // SAFETY: the slice is as long as said.
        call(|err| unsafe { sys::skv_endpoint_set_psk(self.as_ptr(), security.0, key.as_ptr(), key.len(), err) })
            .map(drop)
    }

    /// Certificates for the TCP conns, as PEM files that are read now: this end's chain and key, and the authority that must
    /// have signed the peer's. `peer_name`: what the peer's certificate must be for; by default the host of the URI when
    /// connecting, anything the authority signed when accepting.
    ///
    /// # Errors
    /// `STATE`, `AUTH` (names the file that cannot be used), `ARGUMENT` (a NUL in a path).
    pub fn set_tls(
        &self,
        certificate: impl AsRef<Path>,
        key: impl AsRef<Path>,
        authority: impl AsRef<Path>,
        peer_name: Option<&str>,
    ) -> Result<()> {
        let path = |path: &Path| {
            CString::new(path.as_os_str().as_bytes())
                .map_err(|_| Error::new(Status::ARGUMENT, format!("{}: a NUL in it", path.display())))
        };
        let (certificate, key, authority) =
            (path(certificate.as_ref())?, path(key.as_ref())?, path(authority.as_ref())?);
        let peer_name = peer_name.map(|name| c_text(name, "peer name")).transpose()?;
        let name = peer_name.as_ref().map_or(null(), |name| name.as_ptr());
        // SAFETY: NUL-terminated, or NULL where that is allowed.
        call(|err| unsafe {
            sys::skv_endpoint_set_tls(self.as_ptr(), certificate.as_ptr(), key.as_ptr(), authority.as_ptr(), name, err)
        })
        .map(drop)
    }

    /// Says goodbye to every peer and stops listening; what is under way goes on. True once every transfer has ended, false:
    /// not before the deadline.
    ///
    /// # Errors
    /// `CLOSED`.
    pub fn drain(&self, until: impl Into<Until>) -> Result<bool> {
        let deadline = until.into().nanos();
        // SAFETY: the handle lives.
        call(|err| unsafe { sys::skv_endpoint_drain(self.as_ptr(), deadline, err) }).map(|status| status == Status::OK)
    }

    /// Starts listening and returns the URI with the real port. `inproc://NAME`, `unix:///PATH`, `unix://@NAME`,
    /// `tcp://HOST:PORT` (port 0: any).
    ///
    /// # Errors
    /// `ADDRESS`, `PERMITTED` (non-loopback TCP without `ALLOW_OPEN_TCP`), `IO`.
    pub fn listen(&self, uri: &str) -> Result<String> {
        let uri = c_text(uri, "URI")?;
        let mut bound = [0; 512];
        // SAFETY: the buffer is as large as said.
        call(|err| unsafe { sys::skv_listen(self.as_ptr(), uri.as_ptr(), bound.as_mut_ptr(), bound.len(), err) })?;
        // SAFETY: NUL-terminated on success.
        Ok(unsafe { CStr::from_ptr(bound.as_ptr()) }.to_string_lossy().into_owned())
    }

    /// Waits for the next peer that finished its handshake.
    ///
    /// # Errors
    /// `TIMED_OUT`, `CLOSED`, `STATE` (not listening).
    pub fn accept(&self, until: impl Into<Until>) -> Result<Conn> {
        let (deadline, mut out) = (until.into().nanos(), null_mut());
        // SAFETY: the handle lives.
        call(|err| unsafe { sys::skv_accept(self.as_ptr(), deadline, &mut out, err) })?;
        Ok(Conn::adopt(out, &self.hub))
    }

    /// Connects and shakes hands.
    ///
    /// # Errors
    /// `ADDRESS`, `TIMED_OUT`, `PEER_LOST`, `PROTOCOL`, `VERSION`, `MODEL`, `NO_RESOURCE`.
    pub fn connect(&self, uri: &str, until: impl Into<Until>) -> Result<Conn> {
        let uri = c_text(uri, "URI")?;
        let (deadline, mut out) = (until.into().nanos(), null_mut());
        // SAFETY: NUL-terminated; the handle lives.
        call(|err| unsafe { sys::skv_connect(self.as_ptr(), uri.as_ptr(), deadline, &mut out, err) })?;
        Ok(Conn::adopt(out, &self.hub))
    }

    /// A descriptor that becomes readable when [`poll`](Self::poll) has something, or, without a progress thread, when
    /// [`progress`](Self::progress) has work.
    ///
    /// # Errors
    /// None in practice.
    pub fn fd(&self) -> Result<BorrowedFd<'_>> {
        self.hub.fd()
    }

    /// Runs I/O until something completed (true) or the deadline passed (false). Without a progress thread only
    /// (`PROGRESS_THREAD` 0).
    ///
    /// # Errors
    /// `STATE`.
    pub fn progress(&self, until: impl Into<Until>) -> Result<bool> {
        let deadline = until.into().nanos();
        // SAFETY: the handle lives.
        let status = call(|err| unsafe { sys::skv_endpoint_progress(self.as_ptr(), deadline, err) })?;
        self.hub.collect()?;
        Ok(status == Status::OK)
    }

    /// Requests that ended, or have an offer to decide on, since they were last reported. Compare with
    /// [`Request::handle`]. Never waits.
    ///
    /// # Errors
    /// None in practice.
    pub fn poll(&self) -> Result<Vec<RequestHandle>> {
        self.hub.collect()?;
        Ok(self.hub.take_reported())
    }
}

/// One peer. Threads may share it. Dropping it says goodbye; its live requests end as cancelled here, and as peer lost or
/// cancelled there.
#[derive(Debug)]
pub struct Conn {
    raw: NonNull<sys::skv_conn>,
    hub: Arc<Hub>,
}

// SAFETY: endpoint, conn and request handles are fully thread-safe (header, "Threads").
unsafe impl Send for Conn {}
// SAFETY: as above.
unsafe impl Sync for Conn {}

impl Conn {
    fn adopt(raw: *mut sys::skv_conn, hub: &Arc<Hub>) -> Self {
        Self { raw: NonNull::new(raw).expect("OK gives a handle"), hub: Arc::clone(hub) }
    }

    /// A fact about the conn.
    ///
    /// # Errors
    /// `KEY`.
    pub fn get(&self, key: ConnKey) -> Result<i64> {
        let mut out = 0;
        // SAFETY: the handle lives.
        call(|err| unsafe { sys::skv_conn_get(self.raw.as_ptr(), key.0, &mut out, err) })?;
        Ok(out)
    }

    /// What carries the bytes.
    ///
    /// # Errors
    /// None in practice.
    pub fn plane(&self) -> Result<Plane> {
        self.get(ConnKey::PLANE).map(|plane| Plane(i32::try_from(plane).unwrap_or(-1)))
    }

    /// Whether it is usable.
    ///
    /// # Errors
    /// None in practice.
    pub fn is_open(&self) -> Result<bool> {
        self.get(ConnKey::OPEN).map(|open| open != 0)
    }

    /// Offers a payload under a key of the caller's choice, and sends it once the peer accepts. The payload may be dropped
    /// at once; the request keeps its bytes alive. Hence `'static`: one that borrows its bytes is sent as
    /// [`Payload::to_owned`].
    ///
    /// # Errors
    /// `CLOSED`, `STATE` (payload incomplete), `TIMED_OUT` (deadline already past), `NO_RESOURCE`.
    pub fn send(&self, key: u64, payload: &Payload<'static>, until: impl Into<Until>) -> Result<Request> {
        let (deadline, mut out) = (until.into().nanos(), null_mut());
        // SAFETY: the bytes are the payload's own (then the request shares them) or kept by the request.
        call(|err| unsafe { sys::skv_send(self.raw.as_ptr(), key, payload.as_ptr(), deadline, &mut out, err) })?;
        Ok(Request::adopt(out, &self.hub, payload.keep()))
    }

    /// [`send`](Self::send) for a payload under construction ([`Payload::create`]): each layer leaves once
    /// [`crate::Engine::encode_layer`] made it. Dropping the payload before its last layer is encoded ends the request in
    /// `CANCELLED`.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn send_layers(&self, key: u64, payload: &mut Payload<'static>, until: impl Into<Until>) -> Result<Request> {
        let (deadline, mut out) = (until.into().nanos(), null_mut());
        // SAFETY: as in send; the library coordinates encoding and sending.
        call(|err| unsafe { sys::skv_send_layers(self.raw.as_ptr(), key, payload.as_ptr(), deadline, &mut out, err) })?;
        Ok(Request::adopt(out, &self.hub, payload.keep()))
    }

    /// How the peer proved who it is.
    ///
    /// # Errors
    /// None in practice.
    pub fn security(&self) -> Result<Security> {
        self.get(ConnKey::SECURITY).map(|security| Security(i32::try_from(security).unwrap_or(-1)))
    }

    /// Starts waiting for the peer's next offer. Wait for the request, look at it, then accept or reject it.
    ///
    /// # Errors
    /// `CLOSED`, `TIMED_OUT` (deadline already past).
    pub fn recv_offer(&self, until: impl Into<Until>) -> Result<Request> {
        let (deadline, mut out) = (until.into().nanos(), null_mut());
        // SAFETY: the handle lives.
        call(|err| unsafe { sys::skv_recv_offer(self.raw.as_ptr(), deadline, &mut out, err) })?;
        Ok(Request::adopt(out, &self.hub, None))
    }

    /// Accepts the peer's next offer and waits for it: the simple way.
    ///
    /// # Errors
    /// `CLOSED`, and every terminal status of a request.
    pub fn receive(&self, until: impl Into<Until>) -> Result<Payload<'static>> {
        let deadline = Deadline(until.into().nanos());
        let request = self.recv_offer(deadline)?;
        request.result(deadline)?;
        request.accept(deadline)?;
        request.result(deadline)?;
        request.payload()
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        // SAFETY: the handle is ours and used no more.
        unsafe { sys::skv_conn_destroy(self.raw.as_ptr()) }
    }
}
