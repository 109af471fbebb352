// SPDX-License-Identifier: Apache-2.0
//! The request: one asynchronous operation.

use crate::error::{Error, c_i32, c_text, call};
use crate::payload::Keep;
use crate::reactor::Hub;
use crate::transport::{Deadline, Until};
use crate::{AlignedBytes, Fingerprint, Payload, RequestId, RequestKey, RequestState, Result, Status};
use core::future::Future;
use core::pin::Pin;
use core::ptr::{NonNull, null_mut};
use core::task::{Context, Poll};
use core::time::Duration;
use spectrumkv_sys as sys;
use std::sync::{Arc, Mutex, PoisonError};

/// How long dropping a live request may wait for it to let go of its memory, as in the Python binding.
const LET_GO: Duration = Duration::from_secs(2);

/// Tells one live request of an endpoint from another, as reported by [`crate::Endpoint::poll`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestHandle(pub(crate) usize);

/// What a peer offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Offer {
    /// The sender's key.
    pub key: u64,
    /// Payload bytes.
    pub bytes: usize,
    /// Segments.
    pub layers: usize,
    /// Model that it belongs to.
    pub fingerprint: Fingerprint,
    /// Request that it belongs to.
    pub request_id: RequestId,
}

/// One asynchronous operation: a payload on its way out, or the wait for an offer and what follows. It reaches exactly one
/// terminal status, and until then keeps the memory that it reads or fills alive. Threads may share it.
///
/// As a `Future` it is ready when there is an offer to decide on or the operation ended; `(&mut request).await` leaves
/// it usable. Dropping it early cancels it and, when bytes are moving, waits at most two seconds until nothing touches
/// its memory any more (memory that could not be freed safely even then is leaked on purpose).
#[derive(Debug)]
#[must_use = "a request that is dropped while live is cancelled"]
pub struct Request {
    raw: NonNull<sys::skv_request>,
    hub: Arc<Hub>,
    keep: Mutex<Kept>,
}

#[derive(Default)]
struct Kept(Vec<Keep>);

impl core::fmt::Debug for Kept {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} buffers", self.0.len())
    }
}

// SAFETY: endpoint, conn and request handles are fully thread-safe (header, "Threads").
unsafe impl Send for Request {}
// SAFETY: as above.
unsafe impl Sync for Request {}

impl Request {
    pub(crate) fn adopt(raw: *mut sys::skv_request, hub: &Arc<Hub>, keep: Option<Keep>) -> Self {
        let raw = NonNull::new(raw).expect("OK gives a handle");
        Self { raw, hub: Arc::clone(hub), keep: Mutex::new(Kept(keep.into_iter().collect())) }
    }

    fn as_ptr(&self) -> *mut sys::skv_request {
        self.raw.as_ptr()
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.keep.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What [`crate::Endpoint::poll`] reports this request as.
    pub fn handle(&self) -> RequestHandle {
        RequestHandle(self.raw.as_ptr().addr())
    }

    /// A fact about it.
    ///
    /// # Errors
    /// `KEY`.
    pub fn get(&self, key: RequestKey) -> Result<i64> {
        let mut out = 0;
        // SAFETY: the handle lives.
        call(|err| unsafe { sys::skv_request_get(self.as_ptr(), key.0, &mut out, err) })?;
        Ok(out)
    }

    /// Where it stands.
    ///
    /// # Errors
    /// None in practice.
    pub fn state(&self) -> Result<RequestState> {
        self.get(RequestKey::STATE).map(|state| RequestState(i32::try_from(state).unwrap_or(-1)))
    }

    /// What is on offer.
    ///
    /// # Errors
    /// `STATE` (no offer yet).
    pub fn offer(&self) -> Result<Offer> {
        let (mut fingerprint, mut request_id) = (Fingerprint::default(), RequestId::default());
        let (f, r) = (fingerprint.as_mut_ptr(), request_id.as_mut_ptr());
        // SAFETY: arrays of the lengths that the function writes.
        call(|err| unsafe { sys::skv_request_identity(self.as_ptr(), f, r, err) })?;
        let size = |key| self.get(key).map(|value| usize::try_from(value).unwrap_or(0));
        Ok(Offer {
            key: self.get(RequestKey::KEY)?.cast_unsigned(),
            bytes: size(RequestKey::BYTES)?,
            layers: size(RequestKey::LAYERS)?,
            fingerprint,
            request_id,
        })
    }

    /// Sets an option, before the offer is accepted: `RequestKey::EARLY_LAYERS` 1 lets [`payload`](Self::payload) be taken once
    /// the first layer arrived, and each layer be decoded once [`wait_layer`](Self::wait_layer) said so. If the transfer fails
    /// later, what was decoded is the caller's to discard.
    ///
    /// # Errors
    /// `KEY`, `RANGE`, `STATE` (a send, or already accepted).
    pub fn set(&self, key: RequestKey, value: i64) -> Result<()> {
        // SAFETY: the handle lives.
        call(|err| unsafe { sys::skv_request_set(self.as_ptr(), key.0, value, err) }).map(drop)
    }

    /// Takes the offer; the library allocates.
    ///
    /// # Errors
    /// `STATE` (no offer), `NO_MEMORY`, `CLOSED`.
    pub fn accept(&self, until: impl Into<Until>) -> Result<()> {
        let deadline = until.into().nanos();
        // SAFETY: NULL makes the library allocate.
        call(|err| unsafe { sys::skv_offer_accept(self.as_ptr(), null_mut(), 0, deadline, err) }).map(drop)
    }

    /// Takes the offer into this memory, which the request keeps and [`payload`](Self::payload) reads.
    ///
    /// # Errors
    /// `STATE` (no offer), `TOO_SMALL`, `CLOSED`.
    pub fn accept_into(&self, mut buffer: AlignedBytes, until: impl Into<Until>) -> Result<()> {
        let deadline = until.into().nanos();
        let (memory, size) = (buffer.as_mut_ptr(), buffer.len());
        // SAFETY: the blocks of the buffer do not move with it, and are kept until the request ended.
        call(|err| unsafe { sys::skv_offer_accept(self.as_ptr(), memory.cast(), size, deadline, err) })?;
        self.kept().0.push(Arc::new(buffer));
        Ok(())
    }

    /// Declines the offer. The sender ends in `REJECTED` with the reason (at most 200 bytes), and so does this request.
    ///
    /// # Errors
    /// `STATE` (no offer), `ARGUMENT` (a NUL in the reason).
    pub fn reject(&self, reason: &str) -> Result<()> {
        let reason = c_text(reason, "reason")?;
        // SAFETY: NUL-terminated.
        call(|err| unsafe { sys::skv_offer_reject(self.as_ptr(), reason.as_ptr(), err) }).map(drop)
    }

    /// Whether it has an offer to decide on, or ended well. Never waits.
    ///
    /// # Errors
    /// Its terminal status.
    pub fn test(&self) -> Result<bool> {
        // SAFETY: the handle lives.
        call(|err| unsafe { sys::skv_request_test(self.as_ptr(), err) }).map(|status| status == Status::OK)
    }

    /// [`test`](Self::test), waiting until the deadline. False: still in progress; the request goes on.
    ///
    /// # Errors
    /// Its terminal status.
    pub fn wait(&self, until: impl Into<Until>) -> Result<bool> {
        let deadline = until.into().nanos();
        // SAFETY: the handle lives.
        call(|err| unsafe { sys::skv_request_wait(self.as_ptr(), deadline, err) }).map(|status| status == Status::OK)
    }

    /// [`wait`](Self::wait), but still being in progress is the error `TIMED_OUT` (the request goes on).
    ///
    /// # Errors
    /// Its terminal status, `TIMED_OUT`.
    pub fn result(&self, until: impl Into<Until>) -> Result<()> {
        if self.wait(until)? {
            return Ok(());
        }
        Err(Error::new(Status::TIMED_OUT, "the request is still in progress at the deadline"))
    }

    /// Waits until the leading `layer + 1` layers arrived and verified. False: not yet.
    ///
    /// # Errors
    /// Its terminal status, `STATE`, `RANGE`.
    pub fn wait_layer(&self, layer: usize, until: impl Into<Until>) -> Result<bool> {
        let deadline = until.into().nanos();
        // SAFETY: the handle lives.
        call(|err| unsafe { sys::skv_request_wait_layer(self.as_ptr(), c_i32(layer), deadline, err) })
            .map(|status| status == Status::OK)
    }

    /// Asks for an early end. It still reaches one terminal status: `CANCELLED`, unless it had ended.
    ///
    /// # Errors
    /// None in practice.
    pub fn cancel(&self) -> Result<()> {
        // SAFETY: the handle lives.
        call(|err| unsafe { sys::skv_request_cancel(self.as_ptr(), err) }).map(drop)
    }

    /// The received payload of a request that ended well, opened and validated. Once.
    ///
    /// # Errors
    /// `STATE` (not ended, or taken already), and those of [`Payload::open`].
    pub fn payload(&self) -> Result<Payload<'static>> {
        let mut out = null_mut();
        // SAFETY: the handle lives.
        call(|err| unsafe { sys::skv_request_payload(self.as_ptr(), &mut out, err) })?;
        let keep = self.kept().0.last().cloned();
        // SAFETY: it owns its bytes or reads the buffer that was accepted into, which it keeps.
        Ok(unsafe { Payload::from_raw(out, keep) })
    }
}

impl Future for Request {
    type Output = Result<()>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let done = |request: &Self| match request.test() {
            Ok(true) => Some(Ok(())),
            Ok(false) => None,
            Err(error) => Some(Err(error)),
        };
        if let Some(result) = done(&self) {
            return Poll::Ready(result);
        }
        if let Err(error) = self.hub.wake_when_reported(self.handle(), context.waker()) {
            return Poll::Ready(Err(error));
        }
        // It may have ended before the waker was there.
        done(&self).map_or(Poll::Pending, Poll::Ready)
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.hub.forget(self.handle());
        let raw = self.as_ptr();
        // SAFETY: the handle is ours; it is used no more once destroyed.
        let destroy = || call(|err| unsafe { sys::skv_request_destroy(raw, err) });
        if destroy().is_ok() {
            return;
        }
        // It moves bytes.
        let _ = self.cancel();
        let _ = self.wait(Deadline::soon(LET_GO));
        if destroy().is_err() {
            // Something may still touch the memory: better lost than reused.
            core::mem::forget(core::mem::take(&mut *self.kept()));
        }
    }
}
