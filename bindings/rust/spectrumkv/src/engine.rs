// SPDX-License-Identifier: Apache-2.0
//! The engine: a device with its threads, which scores, encodes and decodes.

use crate::error::{c_i32, call, ready};
use crate::{Cache, CacheMut, EngineKey, Payload, Plan, Result, Scores};
use core::ffi::CStr;
use core::ptr::{NonNull, null_mut};
use spectrumkv_sys as sys;

/// A device with its threads and scratch. Its kernels are chosen once; threads start on first use.
///
/// One call at a time, which the type enforces: an engine can move between threads but not be shared.
#[derive(Debug)]
pub struct Engine {
    raw: NonNull<sys::skv_engine>,
}

// SAFETY: any thread may use any handle, one call at a time (header, "Threads"). Not Sync.
unsafe impl Send for Engine {}

impl Engine {
    /// An engine on this machine's CPU.
    ///
    /// # Errors
    /// `UNAVAILABLE` (no library), `NO_MEMORY`.
    pub fn cpu() -> Result<Self> {
        Self::new(sys::SKV_DEVICE_CPU)
    }

    /// An engine on a device: a CUDA ordinal, or `sys::SKV_DEVICE_CPU`.
    ///
    /// # Errors
    /// `RANGE`, `UNAVAILABLE` (no library, no CUDA in this build, no such device), `NO_MEMORY`.
    pub fn new(device: i32) -> Result<Self> {
        ready()?;
        let mut raw = null_mut();
        // SAFETY: `raw` and the error outlive the call.
        call(|err| unsafe { sys::skv_engine_create(device, &mut raw, err) })?;
        Ok(Self { raw: NonNull::new(raw).expect("OK gives a handle") })
    }

    pub(crate) fn as_ptr(&self) -> *mut sys::skv_engine {
        self.raw.as_ptr()
    }

    /// Sets an option, before or between calls.
    ///
    /// # Errors
    /// `KEY`, `RANGE`, `UNAVAILABLE` (a target that this CPU lacks).
    pub fn set(&mut self, key: EngineKey, value: i64) -> Result<()> {
        // SAFETY: the handle lives.
        call(|err| unsafe { sys::skv_engine_set(self.as_ptr(), key.0, value, err) }).map(drop)
    }

    /// An option's value in force.
    ///
    /// # Errors
    /// `KEY`.
    pub fn get(&self, key: EngineKey) -> Result<i64> {
        let mut out = 0;
        // SAFETY: the handle lives.
        call(|err| unsafe { sys::skv_engine_get(self.as_ptr(), key.0, &mut out, err) })?;
        Ok(out)
    }

    /// A line such as `"cpu avx512 2 threads"`.
    ///
    /// # Errors
    /// None in practice.
    pub fn describe(&self) -> Result<String> {
        let mut text = [0; 256];
        // SAFETY: the buffer is as large as said.
        call(|err| unsafe { sys::skv_engine_describe(self.as_ptr(), text.as_mut_ptr(), text.len(), err) })?;
        // SAFETY: NUL-terminated on success.
        Ok(unsafe { CStr::from_ptr(text.as_ptr()) }.to_string_lossy().into_owned())
    }

    /// Computes every weight that the caller did not give, from the queries set, else from keys and values.
    ///
    /// # Errors
    /// Those of the view, `GEOMETRY` (queries that do not fit the cache), `NON_FINITE`.
    pub fn score(&self, cache: &Cache<'_>, scores: &mut Scores<'_>) -> Result<()> {
        // SAFETY: the handles live, and so does the memory behind them, by their lifetimes.
        call(|err| unsafe { sys::skv_score(self.as_ptr(), cache.as_ptr(), scores.as_ptr(), err) }).map(drop)
    }

    /// Encodes the whole cache by a solved plan, into a payload that owns its bytes.
    ///
    /// # Errors
    /// Those of the view, `STATE` (plan not solved), `LAYOUT` (not the cache that was planned for), `NON_FINITE`, `OVERFLOW`,
    /// `NO_MEMORY`.
    pub fn encode(&self, cache: &Cache<'_>, plan: &Plan) -> Result<Payload<'static>> {
        let mut out = null_mut();
        // SAFETY: as in score.
        call(|err| unsafe {
            sys::skv_encode(self.as_ptr(), cache.as_ptr(), plan.as_ptr(), null_mut(), &mut out, err)
        })?;
        // SAFETY: a new handle that owns its bytes.
        Ok(unsafe { Payload::from_raw(out, None) })
    }

    /// The same into the caller's memory of [`Plan::bytes`] bytes, 16-byte aligned (see [`crate::AlignedBytes`]).
    ///
    /// # Errors
    /// As [`Engine::encode`], `TOO_SMALL`, `ARGUMENT` (alignment).
    pub fn encode_into<'b>(&self, cache: &Cache<'_>, plan: &Plan, buffer: &'b mut [u8]) -> Result<Payload<'b>> {
        let mut out = null_mut();
        let (memory, size) = (buffer.as_mut_ptr().cast(), buffer.len());
        // SAFETY: the payload borrows the buffer for as long as it lives.
        call(|err| unsafe {
            sys::skv_encode_into(self.as_ptr(), cache.as_ptr(), plan.as_ptr(), null_mut(), memory, size, &mut out, err)
        })?;
        // SAFETY: a new handle, which reads `buffer` for 'b.
        Ok(unsafe { Payload::from_raw(out, None) })
    }

    /// The same payload packed: without loss 6 to 16 % fewer bytes, for slow links. Used like any other.
    ///
    /// # Errors
    /// `STATE` (layers missing, or packed already).
    pub fn pack(&self, payload: &Payload<'_>) -> Result<Payload<'static>> {
        let mut out = null_mut();
        // SAFETY: both handles live.
        call(|err| unsafe { sys::skv_payload_pack(self.as_ptr(), payload.as_ptr(), &mut out, err) })?;
        // SAFETY: a new handle that owns its bytes.
        Ok(unsafe { Payload::from_raw(out, None) })
    }

    /// Encodes one layer into its place in a payload of [`Payload::create`], while others are still being computed.
    ///
    /// # Errors
    /// As [`Engine::encode`], `STATE` (already encoded, or not under construction).
    pub fn encode_layer(&self, cache: &Cache<'_>, plan: &Plan, layer: usize, payload: &mut Payload<'_>) -> Result<()> {
        let (cache, plan, layer) = (cache.as_ptr(), plan.as_ptr(), c_i32(layer));
        // SAFETY: as in encode; the payload is borrowed alone.
        call(|err| unsafe {
            sys::skv_encode_layer(self.as_ptr(), cache, plan, layer, null_mut(), payload.as_ptr(), err)
        })
        .map(drop)
    }

    /// What a plan solved by [`Plan::upgrade`] adds to the base: a payload of the raised rows' new planes. The cache must still
    /// hold what the base was encoded from: every raised row is compared with the base's.
    ///
    /// # Errors
    /// Those of the view, `STATE` (plan not solved by `upgrade`), `BASE` (solved for another payload, or a row changed),
    /// `LAYOUT`, `MODEL`, `REQUEST`, `NON_FINITE`, `OVERFLOW`, `CHECKSUM`, `NO_MEMORY`.
    pub fn encode_upgrade(&self, cache: &Cache<'_>, base: &Payload<'_>, plan: &Plan) -> Result<Payload<'static>> {
        let mut out = null_mut();
        let (cache, base, plan) = (cache.as_ptr(), base.as_ptr(), plan.as_ptr());
        // SAFETY: as in encode.
        call(|err| unsafe { sys::skv_encode_upgrade(self.as_ptr(), cache, base, plan, &mut out, err) })?;
        // SAFETY: a new handle that owns its bytes.
        Ok(unsafe { Payload::from_raw(out, None) })
    }

    /// Decodes every layer into the cache, whose layout, block size, dtype and head range may differ from the source's.
    /// Digests, identity, geometry and view are checked before the first byte is written; on any error the destination
    /// is untouched.
    ///
    /// # Errors
    /// Those of the view, `MODEL`, `REQUEST`, `LAYOUT`, `CHECKSUM`, `PERMITTED` (dropped tokens and the cache cannot mask),
    /// `STATE`, `MALFORMED`.
    pub fn decode(&self, payload: &Payload<'_>, cache: &mut CacheMut<'_>) -> Result<()> {
        let (payload, cache) = (payload.as_ptr(), cache.as_ptr());
        // SAFETY: the view borrows its memory mutably, and is borrowed alone.
        call(|err| unsafe { sys::skv_decode(self.as_ptr(), payload, cache, null_mut(), err) }).map(drop)
    }

    /// [`Engine::decode`] for one layer.
    ///
    /// # Errors
    /// As [`Engine::decode`].
    pub fn decode_layer(&self, payload: &Payload<'_>, cache: &mut CacheMut<'_>, layer: usize) -> Result<()> {
        let (payload, cache, layer) = (payload.as_ptr(), cache.as_ptr(), c_i32(layer));
        // SAFETY: as in decode.
        call(|err| unsafe { sys::skv_decode_layer(self.as_ptr(), payload, cache, layer, null_mut(), err) }).map(drop)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // SAFETY: the handle is ours and used no more.
        unsafe { sys::skv_engine_destroy(self.as_ptr()) }
    }
}
