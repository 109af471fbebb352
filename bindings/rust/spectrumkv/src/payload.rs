// SPDX-License-Identifier: Apache-2.0
//! The payload: the encoded bytes, one self-contained segment a layer.

use crate::error::{Error, c_i32, call, ready};
use crate::{
    Cache, Code, DType, Fingerprint, Half, PayloadKey, Plan, Plane, Proof, RequestId, Result, Scored, Status, Tier,
    Transforms, Verdict,
};
use core::fmt;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};
use core::ptr::{NonNull, null_mut};
use spectrumkv_sys as sys;
use std::sync::Arc;

/// Memory that a payload or a live request reads or fills. Never looked into, only kept alive.
pub(crate) type Keep = Arc<dyn Send + Sync>;

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Block([u8; 64]);

/// Bytes at an address that is a multiple of 64, for [`crate::Engine::encode_into`] and [`crate::Request::accept_into`].
pub struct AlignedBytes {
    blocks: Vec<Block>,
    length: usize,
}

impl AlignedBytes {
    /// So many zero bytes.
    pub fn zeroed(length: usize) -> Self {
        Self { blocks: vec![Block([0; 64]); length.div_ceil(64)], length }
    }
}

impl Deref for AlignedBytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: the blocks are contiguous bytes, at least `length` of them.
        unsafe { core::slice::from_raw_parts(self.blocks.as_ptr().cast(), self.length) }
    }
}

impl DerefMut for AlignedBytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in deref; borrowed alone.
        unsafe { core::slice::from_raw_parts_mut(self.blocks.as_mut_ptr().cast(), self.length) }
    }
}

impl fmt::Debug for AlignedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AlignedBytes({})", self.length)
    }
}

/// What was done. Times are nanoseconds, 0 where the step did not happen in this process.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Receipt {
    /// Origin of the plan's scores.
    pub scored: Scored,
    /// At 16 bits an element.
    pub raw_bytes: u64,
    /// Asked for; 0 when the strategy takes none.
    pub budget_bytes: u64,
    /// Achieved, everything counted.
    pub payload_bytes: u64,
    /// payload_bytes / raw_bytes.
    pub ratio: f64,
    /// K rows (tokens x layers) by tier.
    pub k_rows: [u64; 8],
    /// V rows by tier.
    pub v_rows: [u64; 8],
    /// Scoring.
    pub score_ns: u64,
    /// Allocation.
    pub plan_ns: u64,
    /// Encoding.
    pub encode_ns: u64,
    /// Decoding.
    pub decode_ns: u64,
    /// From acceptance to the end, of the request that moved the payload.
    pub wire_ns: u64,
    /// What moved it.
    pub plane: Plane,
    /// The quantizer.
    pub code: Code,
    /// Link speed above which raw is faster; 0 when unknown.
    pub break_even_bits_per_s: f64,
    /// On tiers below 8 bits, of the profile or logit probe that was asked.
    pub int4: Verdict,
    /// Who allowed them.
    pub proof: Proof,
    /// Nats, with a calibrated profile; else 0.
    pub predicted_kl: f64,
    /// Logit probe: the worst head's signal-to-noise ratio at 4 bits; 0 when not probed.
    pub worst_snr_db: f64,
    /// ... and where: (layer, head).
    pub worst: Option<(usize, usize)>,
    /// Layers whose keys the probe raised to 8 bits.
    pub escalated_layers: u32,
    /// Whether the link measured was faster than break-even.
    pub raw_is_faster: Option<bool>,
    /// K and V rows not sent.
    pub dropped_rows: u64,
    /// Attention of the queries on tokens, by tier of their K row; 0 without queries.
    pub k_mass: [f64; 8],
    /// The same by tier of their V row.
    pub v_mass: [f64; 8],
    /// Payload bits over wire time; 0 when not sent here.
    pub link_bits_per_s: f64,
    /// Of the payload before it was packed; 0: not packed.
    pub unpacked_bytes: u64,
    /// Layers cut because they would have been late.
    pub cut_layers: u32,
}

/// One layer of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Segment {
    /// From the payload's first byte.
    pub offset: usize,
    /// Of the segment.
    pub bytes: usize,
    /// Of the same elements at 16 bits each.
    pub raw_bytes: usize,
    /// Tokens.
    pub tokens: usize,
    /// Position of the first token in the sequence.
    pub first_position: usize,
    /// kv-heads.
    pub heads: usize,
    /// Index of the first one in the model's layer.
    pub first_head: usize,
    /// Channels of a K head.
    pub k_dim: usize,
    /// Channels of a V head; 0: no V.
    pub v_dim: usize,
    /// Of the source.
    pub dtype: DType,
    /// Of rows sent as they are.
    pub raw_dtype: DType,
    /// Tokens that share means and balances.
    pub chunk: usize,
    /// The quantizer.
    pub code: Code,
    /// Of K.
    pub k_transforms: Transforms,
    /// Of V.
    pub v_transforms: Transforms,
    /// KV-cache group.
    pub group: usize,
}

/// The encoded bytes, self-describing. A payload that borrows its bytes does so for `'b`.
pub struct Payload<'b> {
    raw: NonNull<sys::skv_payload>,
    keep: Option<Keep>,
    bytes: PhantomData<&'b [u8]>,
}

// SAFETY: any thread may use any handle, one call at a time; the bytes behind it are Send + Sync. Not Sync.
unsafe impl Send for Payload<'_> {}

impl fmt::Debug for Payload<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Payload").field("size", &self.size().ok()).finish_non_exhaustive()
    }
}

impl<'b> Payload<'b> {
    /// # Safety
    /// A handle of the caller's, whose bytes live for `'b`, or as long as `keep`, or are its own.
    pub(crate) unsafe fn from_raw(raw: *mut sys::skv_payload, keep: Option<Keep>) -> Self {
        Self { raw: NonNull::new(raw).expect("OK gives a handle"), keep, bytes: PhantomData }
    }

    pub(crate) fn as_ptr(&self) -> *mut sys::skv_payload {
        self.raw.as_ptr()
    }

    pub(crate) fn keep(&self) -> Option<Keep> {
        self.keep.clone()
    }

    fn open_at(bytes: *const u8, size: usize, keep: Option<Keep>) -> Result<Self> {
        ready()?;
        let mut out = null_mut();
        // SAFETY: the callers give memory that lives for 'b or is kept.
        call(|err| unsafe { sys::skv_payload_open(bytes.cast(), size, &mut out, err) })?;
        // SAFETY: as above.
        Ok(unsafe { Self::from_raw(out, keep) })
    }

    /// Opens bytes as a payload, without a copy. Safe on untrusted bytes: header, lengths, maps and fields are checked
    /// here, digests when decoding or by [`verify`](Self::verify).
    ///
    /// # Errors
    /// `TRUNCATED`, `TRAILING`, `MALFORMED`, `VERSION`, `FEATURE`, `CHECKSUM` (of the header), `UNAVAILABLE` (no library).
    ///
    /// ```
    /// use spectrumkv::{Payload, Status};
    /// assert_eq!(Payload::open(b"not a payload").unwrap_err().status(), Status::TRUNCATED);
    /// ```
    pub fn open(bytes: &'b [u8]) -> Result<Self> {
        Self::open_at(bytes.as_ptr(), bytes.len(), None)
    }

    /// An empty payload for a solved plan, to be filled by [`crate::Engine::encode_layer`], readable once every layer is in.
    ///
    /// # Errors
    /// Those of the view, `STATE` (plan not solved), `LAYOUT`, `NO_MEMORY`.
    pub fn create(cache: &Cache<'_>, plan: &Plan) -> Result<Payload<'static>> {
        let mut out = null_mut();
        // SAFETY: the handles live; without a buffer the payload owns its bytes.
        call(|err| unsafe { sys::skv_payload_create(cache.as_ptr(), plan.as_ptr(), null_mut(), 0, &mut out, err) })?;
        // SAFETY: a new handle that owns its bytes.
        Ok(unsafe { Payload::from_raw(out, None) })
    }

    /// This payload with an upgrade of it: a new one, which may be upgraded again.
    ///
    /// # Errors
    /// `BASE` (an upgrade of another payload), `MODEL`, `REQUEST`, `STATE` (not a payload and an upgrade), `CHECKSUM`, `MALFORMED`,
    /// `NO_MEMORY`.
    pub fn apply(&self, upgrade: &Payload<'_>) -> Result<Payload<'static>> {
        let mut out = null_mut();
        // SAFETY: the handles live, and so do their bytes.
        call(|err| unsafe { sys::skv_payload_apply(self.as_ptr(), upgrade.as_ptr(), &mut out, err) })?;
        // SAFETY: a new handle that owns its bytes.
        Ok(unsafe { Payload::from_raw(out, None) })
    }

    /// This payload at the tiers of a plan that [`Plan::truncate`] solved for it: a new one.
    ///
    /// # Errors
    /// `STATE` (plan not solved by `truncate`), `BASE` (solved for another payload), `CHECKSUM`, `NO_MEMORY`.
    pub fn truncate(&self, plan: &Plan) -> Result<Payload<'static>> {
        let mut out = null_mut();
        // SAFETY: as in apply.
        call(|err| unsafe { sys::skv_payload_truncate(self.as_ptr(), plan.as_ptr(), &mut out, err) })?;
        // SAFETY: a new handle that owns its bytes.
        Ok(unsafe { Payload::from_raw(out, None) })
    }

    /// Checks every segment's digest.
    ///
    /// # Errors
    /// `CHECKSUM`, `STATE` (under construction).
    pub fn verify(&self) -> Result<()> {
        // SAFETY: the handle lives.
        call(|err| unsafe { sys::skv_payload_verify(self.as_ptr(), err) }).map(drop)
    }

    /// The bytes.
    ///
    /// # Errors
    /// `STATE` (layers missing).
    pub fn bytes(&self) -> Result<&[u8]> {
        let (mut data, mut size) = (core::ptr::null(), 0);
        // SAFETY: the handle lives.
        call(|err| unsafe { sys::skv_payload_data(self.as_ptr(), &mut data, &mut size, err) })?;
        // SAFETY: valid while the payload lives; a complete payload does not change.
        Ok(unsafe { core::slice::from_raw_parts(data.cast(), size) })
    }

    /// The same payload with bytes of its own, so that it can be sent whatever becomes of `'b`.
    ///
    /// # Errors
    /// `STATE` (layers missing), and those of [`open`](Self::open).
    pub fn to_owned(&self) -> Result<Payload<'static>> {
        Payload::from_vec(self.bytes()?.to_vec())
    }

    /// Who it belongs to.
    ///
    /// # Errors
    /// None in practice.
    pub fn identity(&self) -> Result<(Fingerprint, RequestId)> {
        let (mut fingerprint, mut request_id) = (Fingerprint::default(), RequestId::default());
        let (f, r) = (fingerprint.as_mut_ptr(), request_id.as_mut_ptr());
        // SAFETY: arrays of the lengths that the function writes.
        call(|err| unsafe { sys::skv_payload_identity(self.as_ptr(), f, r, err) })?;
        Ok((fingerprint, request_id))
    }

    /// A fact about the payload (`layer` None) or one segment.
    ///
    /// # Errors
    /// `KEY`, `RANGE`.
    pub fn get(&self, layer: Option<usize>, key: PayloadKey) -> Result<i64> {
        let mut out = 0;
        let layer = layer.map_or(sys::SKV_ALL, c_i32);
        // SAFETY: the handle lives.
        call(|err| unsafe { sys::skv_payload_get(self.as_ptr(), layer, key.0, &mut out, err) })?;
        Ok(out)
    }

    /// Size in bytes.
    ///
    /// # Errors
    /// None in practice.
    pub fn size(&self) -> Result<usize> {
        self.get(None, PayloadKey::BYTES).map(count)
    }

    /// Number of segments.
    ///
    /// # Errors
    /// None in practice.
    pub fn layers(&self) -> Result<usize> {
        self.get(None, PayloadKey::LAYERS).map(count)
    }

    /// Facts about one layer.
    ///
    /// # Errors
    /// `RANGE`.
    pub fn segment(&self, layer: usize) -> Result<Segment> {
        let get = |key| self.get(Some(layer), key);
        let code = |key| get(key).map(small);
        Ok(Segment {
            offset: get(PayloadKey::OFFSET).map(count)?,
            bytes: get(PayloadKey::BYTES).map(count)?,
            raw_bytes: get(PayloadKey::RAW_BYTES).map(count)?,
            tokens: get(PayloadKey::TOKENS).map(count)?,
            first_position: get(PayloadKey::POSITION).map(count)?,
            heads: get(PayloadKey::HEADS).map(count)?,
            first_head: get(PayloadKey::FIRST_HEAD).map(count)?,
            k_dim: get(PayloadKey::K_DIM).map(count)?,
            v_dim: get(PayloadKey::V_DIM).map(count)?,
            dtype: DType(code(PayloadKey::DTYPE)?),
            raw_dtype: DType(code(PayloadKey::RAW_DTYPE)?),
            chunk: get(PayloadKey::CHUNK).map(count)?,
            code: Code(code(PayloadKey::CODE)?),
            k_transforms: Transforms(code(PayloadKey::K_TRANSFORMS)?),
            v_transforms: Transforms(code(PayloadKey::V_TRANSFORMS)?),
            group: get(PayloadKey::GROUP).map(count)?,
        })
    }

    /// The tiers of a segment's K or V, one a token.
    ///
    /// # Errors
    /// `RANGE`.
    pub fn tiers(&self, layer: usize, half: Half) -> Result<Vec<Tier>> {
        let mut out = vec![0; self.get(Some(layer), PayloadKey::TOKENS).map(count)?];
        // SAFETY: the vector is as long as said.
        call(|err| unsafe {
            sys::skv_payload_get_tiers(self.as_ptr(), c_i32(layer), half.0, out.as_mut_ptr(), out.len(), err)
        })?;
        Ok(out.into_iter().map(|tier| Tier(i32::from(tier))).collect())
    }

    /// What was done so far: after encoding, after a transfer, after decoding.
    ///
    /// # Errors
    /// `STATE`.
    pub fn receipt(&self) -> Result<Receipt> {
        // SAFETY: numbers only, all of which may be zero.
        let mut raw: sys::skv_receipt = unsafe { core::mem::zeroed() };
        raw.struct_size = size_of_val(&raw) as u32;
        // SAFETY: the struct is as large as it says.
        call(|err| unsafe { sys::skv_payload_receipt(self.as_ptr(), &mut raw, err) })?;
        Ok(Receipt {
            scored: Scored(raw.scored),
            raw_bytes: raw.raw_bytes,
            budget_bytes: raw.budget_bytes,
            payload_bytes: raw.payload_bytes,
            ratio: raw.ratio,
            k_rows: raw.k_rows,
            v_rows: raw.v_rows,
            score_ns: raw.score_ns,
            plan_ns: raw.plan_ns,
            encode_ns: raw.encode_ns,
            decode_ns: raw.decode_ns,
            wire_ns: raw.wire_ns,
            plane: Plane(raw.plane),
            code: Code(raw.code),
            break_even_bits_per_s: raw.break_even_bits_per_s,
            int4: Verdict(raw.int4),
            proof: Proof(raw.proof),
            predicted_kl: raw.predicted_kl,
            worst_snr_db: raw.worst_snr_db,
            worst: usize::try_from(raw.worst_layer).ok().zip(usize::try_from(raw.worst_head).ok()),
            escalated_layers: raw.escalated_layers,
            raw_is_faster: (raw.raw_is_faster >= 0).then_some(raw.raw_is_faster != 0),
            dropped_rows: raw.dropped_rows,
            k_mass: raw.k_mass,
            v_mass: raw.v_mass,
            link_bits_per_s: raw.link_bits_per_s,
            unpacked_bytes: raw.unpacked_bytes,
            cut_layers: raw.cut_layers,
        })
    }
}

impl Payload<'static> {
    /// Opens bytes as a payload that owns them. See [`open`](Payload::open).
    ///
    /// # Errors
    /// As there.
    pub fn from_vec(bytes: Vec<u8>) -> Result<Self> {
        let keep = Arc::new(bytes);
        Self::open_at(keep.as_ptr(), keep.len(), Some(keep))
    }

    /// Opens shared bytes as a payload that keeps them alive. See [`open`](Payload::open).
    ///
    /// # Errors
    /// As there.
    pub fn from_shared(bytes: Arc<[u8]>) -> Result<Self> {
        Self::open_at(bytes.as_ptr(), bytes.len(), Some(Arc::new(bytes)))
    }

    /// Reads a file as a payload.
    ///
    /// # Errors
    /// `IO` (native holds errno), and those of [`open`](Payload::open).
    pub fn load(path: impl AsRef<std::path::Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::from_vec(std::fs::read(path).map_err(|e| Error::new(Status::IO, format!("{}: {e}", path.display())))?)
    }
}

impl Drop for Payload<'_> {
    fn drop(&mut self) {
        // SAFETY: the handle is ours and used no more. Its bytes go after it.
        unsafe { sys::skv_payload_destroy(self.as_ptr()) }
    }
}

fn count(value: i64) -> usize {
    usize::try_from(value).unwrap_or(0)
}

fn small(value: i64) -> i32 {
    i32::try_from(value).unwrap_or(-1)
}
