// SPDX-License-Identifier: Apache-2.0
//! The cache: a view of KV memory that somebody else owns.

use crate::error::{Error, c_i32, c_i64, call, ready};
use crate::{CacheKey, DType, Half, Payload, Result, Status};
use core::marker::PhantomData;
use core::ops::Deref;
use core::ptr::{NonNull, null, null_mut};
use half::{bf16, f16};
use spectrumkv_sys as sys;

/// Identity of a model: weights, tokenizer, RoPE, in the caller's scheme.
pub type Fingerprint = [u8; sys::SKV_FINGERPRINT_BYTES as usize];
/// Identity of a request.
pub type RequestId = [u8; sys::SKV_REQUEST_ID_BYTES as usize];

mod sealed {
    pub trait Sealed {}
    impl Sealed for half::f16 {}
    impl Sealed for half::bf16 {}
    impl Sealed for f32 {}
}

/// An element of KV memory: [`half::f16`], [`half::bf16`] or `f32`.
pub trait Element: sealed::Sealed + Copy + Send + Sync + 'static {
    /// Its type in the header.
    const DTYPE: DType;
}

impl Element for f16 {
    const DTYPE: DType = DType::F16;
}
impl Element for bf16 {
    const DTYPE: DType = DType::BF16;
}
impl Element for f32 {
    const DTYPE: DType = DType::F32;
}

/// Which layer: an index, or [`Layer::ALL`] where the documentation allows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layer(pub(crate) i32);

impl Layer {
    /// Every layer.
    pub const ALL: Self = Self(sys::SKV_ALL);
}

impl From<usize> for Layer {
    fn from(index: usize) -> Self {
        Self(c_i32(index))
    }
}

/// How far apart neighbours lie in a plane, in elements: element (token t, head h, channel c) is at
/// `block * b + (t % block_tokens) * token + h * head + c * elem`, b the block that the block table names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strides {
    /// From one block to the next; not used without a block table.
    pub block: usize,
    /// From one token to the next.
    pub token: usize,
    /// From one kv-head to the next.
    pub head: usize,
    /// From one channel to the next.
    pub elem: usize,
}

impl Strides {
    /// Of `[tokens, heads, dim]`.
    pub const fn token_major(heads: usize, dim: usize) -> Self {
        Self { block: 0, token: heads * dim, head: dim, elem: 1 }
    }

    /// Of `[heads, tokens, dim]`.
    pub const fn head_major(tokens: usize, dim: usize) -> Self {
        Self { block: 0, token: dim, head: tokens * dim, elem: 1 }
    }

    /// The same with blocks so far apart.
    pub const fn with_block(self, block: usize) -> Self {
        Self { block, ..self }
    }
}

/// The handle of a view, whatever it may be used for.
#[derive(Debug)]
struct Raw(NonNull<sys::skv_cache>);

impl Drop for Raw {
    fn drop(&mut self) {
        // SAFETY: the handle is ours and used no more.
        unsafe { sys::skv_cache_destroy(self.0.as_ptr()) }
    }
}

/// Builds a view of KV memory. The setters may be called in any order; [`build`](Self::build) checks the whole.
#[derive(Debug)]
pub struct CacheBuilder<'m> {
    raw: Raw,
    read_only: Option<(i32, i32)>,
    memory: PhantomData<&'m mut [u8]>,
}

// SAFETY: any thread may use any handle, one call at a time; the memory behind it is of Send + Sync elements.
unsafe impl Send for CacheBuilder<'_> {}

impl<'m> CacheBuilder<'m> {
    /// A view of 1 … 4096 layers.
    ///
    /// # Errors
    /// `RANGE`, `NO_MEMORY`, `UNAVAILABLE` (no library).
    pub fn new(layers: usize) -> Result<Self> {
        ready()?;
        let mut raw = null_mut();
        // SAFETY: `raw` and the error outlive the call.
        call(|err| unsafe { sys::skv_cache_create(c_i32(layers), &mut raw, err) })?;
        Ok(Self::adopt(raw))
    }

    fn adopt(raw: *mut sys::skv_cache) -> Self {
        Self { raw: Raw(NonNull::new(raw).expect("OK gives a handle")), read_only: None, memory: PhantomData }
    }

    fn with(self, f: impl FnOnce(*mut sys::skv_cache, *mut sys::skv_error) -> sys::skv_status) -> Result<Self> {
        call(|err| f(self.raw.0.as_ptr(), err))?;
        Ok(self)
    }

    /// Token range of a layer (or [`Layer::ALL`]). Layers may differ (sliding windows).
    ///
    /// # Errors
    /// `RANGE`, `EMPTY`.
    pub fn tokens(self, layer: impl Into<Layer>, first_position: usize, tokens: usize) -> Result<Self> {
        let layer = layer.into().0;
        // SAFETY: the handle lives.
        self.with(|cache, err| unsafe {
            sys::skv_cache_set_tokens(cache, layer, c_i64(first_position), c_i64(tokens), err)
        })
    }

    /// Geometry of a layer (or [`Layer::ALL`]): dims are channels of one head, multiples of 8; `v_dim` 0 means no V.
    ///
    /// # Errors
    /// `RANGE`, `GEOMETRY`, `DTYPE`.
    pub fn layer(
        self,
        layer: impl Into<Layer>,
        kv_heads: usize,
        k_dim: usize,
        v_dim: usize,
        dtype: DType,
    ) -> Result<Self> {
        let layer = layer.into().0;
        // SAFETY: the handle lives.
        self.with(|cache, err| unsafe {
            sys::skv_cache_set_layer(cache, layer, c_i32(kv_heads), c_i32(k_dim), c_i32(v_dim), dtype.0, err)
        })
    }

    /// This view's head 0 is the layer's head `first_head` (tensor-parallel slices).
    ///
    /// # Errors
    /// `RANGE`.
    pub fn first_head(self, layer: impl Into<Layer>, first_head: usize) -> Result<Self> {
        let layer = layer.into().0;
        // SAFETY: the handle lives.
        self.with(|cache, err| unsafe { sys::skv_cache_set_first_head(cache, layer, c_i32(first_head), err) })
    }

    /// KV-cache group of a layer (or [`Layer::ALL`]), 0 … 255. Travels with the payload.
    ///
    /// # Errors
    /// `RANGE`.
    pub fn group(self, layer: impl Into<Layer>, group: usize) -> Result<Self> {
        let layer = layer.into().0;
        // SAFETY: the handle lives.
        self.with(|cache, err| unsafe { sys::skv_cache_set_group(cache, layer, c_i32(group), err) })
    }

    /// Memory of a layer's K or V, for reading.
    ///
    /// # Errors
    /// `RANGE`, `STRIDE`.
    pub fn plane<T: Element>(
        self,
        layer: impl Into<Layer>,
        half: Half,
        memory: &'m [T],
        strides: Strides,
    ) -> Result<Self> {
        self.planes(layer, memory, &[(half, 0, strides)])
    }

    /// Memory of a layer's K or V, for reading and writing.
    ///
    /// # Errors
    /// `RANGE`, `STRIDE`.
    pub fn plane_mut<T: Element>(
        self,
        layer: impl Into<Layer>,
        half: Half,
        memory: &'m mut [T],
        strides: Strides,
    ) -> Result<Self> {
        self.planes_mut(layer, memory, &[(half, 0, strides)])
    }

    /// K and V in one piece of memory, for reading: (half, first element, strides) of each.
    ///
    /// # Errors
    /// `RANGE` (a first element that is not in the memory), `STRIDE`.
    pub fn planes<T: Element>(
        mut self,
        layer: impl Into<Layer>,
        memory: &'m [T],
        halves: &[(Half, usize, Strides)],
    ) -> Result<Self> {
        let layer = layer.into().0;
        for &(half, first, strides) in halves {
            self = self.set_plane(layer, half, memory.as_ptr().cast_mut(), memory.len(), first, strides)?;
            self.read_only = self.read_only.or(Some((layer, half.0)));
        }
        Ok(self)
    }

    /// K and V in one piece of memory (fused rows, pools of pages), for reading and writing.
    ///
    /// # Errors
    /// As [`planes`](Self::planes).
    pub fn planes_mut<T: Element>(
        mut self,
        layer: impl Into<Layer>,
        memory: &'m mut [T],
        halves: &[(Half, usize, Strides)],
    ) -> Result<Self> {
        let layer = layer.into().0;
        for &(half, first, strides) in halves {
            self = self.set_plane(layer, half, memory.as_mut_ptr(), memory.len(), first, strides)?;
        }
        Ok(self)
    }

    fn set_plane<T: Element>(
        self,
        layer: i32,
        half: Half,
        base: *mut T,
        length: usize,
        first: usize,
        strides: Strides,
    ) -> Result<Self> {
        if first > length {
            return Err(Error::new(Status::RANGE, format!("first element {first}, the memory has {length}")));
        }
        let stride = |elements: usize| c_i64(elements.saturating_mul(size_of::<T>()));
        // SAFETY: base + first .. base + length lies in the memory borrowed for 'm.
        self.with(|cache, err| unsafe {
            sys::skv_cache_set_plane(
                cache,
                layer,
                half.0,
                base.add(first).cast(),
                (length - first) * size_of::<T>(),
                stride(strides.block),
                stride(strides.token),
                stride(strides.head),
                stride(strides.elem),
                err,
            )
        })
    }

    /// Block table of a layer (or [`Layer::ALL`]), copied: token t is slot `t % block_tokens` of block
    /// `block_ids[t / block_tokens]`.
    ///
    /// # Errors
    /// `RANGE`, `BLOCK_ID`.
    pub fn blocks(self, layer: impl Into<Layer>, block_ids: &[i32], block_tokens: usize) -> Result<Self> {
        let layer = layer.into().0;
        // SAFETY: the table is as long as said.
        self.with(|cache, err| unsafe {
            sys::skv_cache_set_blocks(cache, layer, block_ids.as_ptr(), block_ids.len(), c_i32(block_tokens), err)
        })
    }

    /// What this cache belongs to; `None` is all zero. A destination accepts only a payload of an equal fingerprint, and of
    /// an equal request id unless its own is all zero.
    ///
    /// # Errors
    /// None in practice.
    pub fn identity(self, fingerprint: Option<&Fingerprint>, request_id: Option<&RequestId>) -> Result<Self> {
        let (f, r) = (fingerprint.map_or(null(), |x| x.as_ptr()), request_id.map_or(null(), |x| x.as_ptr()));
        // SAFETY: NULL or arrays of the lengths that the function reads.
        self.with(|cache, err| unsafe { sys::skv_cache_set_identity(cache, f, r, err) })
    }

    /// Sets an option.
    ///
    /// # Errors
    /// `KEY`, `RANGE`.
    pub fn set(self, key: CacheKey, value: i64) -> Result<Self> {
        // SAFETY: the handle lives.
        self.with(|cache, err| unsafe { sys::skv_cache_set(cache, key.0, value, err) })
    }

    /// The finished view, for scoring and encoding.
    ///
    /// # Errors
    /// `EMPTY` (something was never set), `STRIDE`, `BLOCK_ID`, `OVERLAP`, `RANGE`.
    pub fn build(self) -> Result<Cache<'m>> {
        // SAFETY: the handle lives.
        call(|err| unsafe { sys::skv_cache_check(self.raw.0.as_ptr(), err) })?;
        Ok(Cache { raw: self.raw, memory: PhantomData })
    }

    /// The finished view, also for decoding.
    ///
    /// # Errors
    /// As [`build`](Self::build), and `ARGUMENT` when any of its memory was given for reading only.
    pub fn build_mut(self) -> Result<CacheMut<'m>> {
        if let Some((layer, half)) = self.read_only {
            let half = Half(half);
            return Err(Error::new(
                Status::ARGUMENT,
                format!("layer {layer} {half:?} was given for reading: wanted memory given with plane_mut"),
            ));
        }
        Ok(CacheMut(self.build()?))
    }
}

/// A view of KV memory that is borrowed for `'m`: the source of scoring and encoding.
#[derive(Debug)]
pub struct Cache<'m> {
    raw: Raw,
    memory: PhantomData<&'m [u8]>,
}

// SAFETY: any thread may use any handle, one call at a time; the memory behind it is of Send + Sync elements. Not Sync.
unsafe impl Send for Cache<'_> {}

impl<'m> Cache<'m> {
    /// See [`CacheBuilder::new`].
    ///
    /// # Errors
    /// As there.
    pub fn builder(layers: usize) -> Result<CacheBuilder<'m>> {
        CacheBuilder::new(layers)
    }

    /// A view of a llama.cpp sequence state (`llama_state_seq_get_data`). `heads`: kv-heads of each layer in the blob's order
    /// (full-attention cache first, then the sliding-window one).
    ///
    /// # Errors
    /// `MALFORMED`, `TRUNCATED`, `TRAILING`, `FEATURE`, `GEOMETRY`, `RANGE`, `EMPTY`.
    pub fn from_llama(blob: &'m [u8], heads: &[i32]) -> Result<Self> {
        ready()?;
        let mut raw = null_mut();
        let (memory, size) = (blob.as_ptr().cast(), blob.len());
        // SAFETY: the blob is borrowed for as long as the view lives.
        call(|err| unsafe {
            sys::skv_cache_from_llama(memory, size, heads.as_ptr(), c_i32(heads.len()), &mut raw, err)
        })?;
        Ok(Self { raw: CacheBuilder::adopt(raw).raw, memory: PhantomData })
    }

    pub(crate) fn as_ptr(&self) -> *mut sys::skv_cache {
        self.raw.0.as_ptr()
    }

    /// Bytes of the same elements at 16 bits each: what ratios and budget fractions refer to.
    ///
    /// # Errors
    /// `EMPTY`.
    pub fn raw_bytes(&self) -> Result<u64> {
        let mut out = 0;
        // SAFETY: the handle lives.
        call(|err| unsafe { sys::skv_cache_raw_bytes(self.as_ptr(), &mut out, err) })?;
        Ok(out)
    }
}

/// A view of KV memory that is borrowed mutably for `'m`: also a destination of decoding.
#[derive(Debug)]
pub struct CacheMut<'m>(Cache<'m>);

impl<'m> Deref for CacheMut<'m> {
    type Target = Cache<'m>;
    fn deref(&self) -> &Cache<'m> {
        &self.0
    }
}

impl<'m> CacheMut<'m> {
    /// Frames a llama.cpp blob for a payload (everything but the tensors) and returns the view whose decoding completes it.
    /// `v_trans`: false for a context with flash attention. The view refuses a payload of another `fingerprint`.
    ///
    /// # Errors
    /// `DTYPE`, `LAYOUT` (not the shape of a llama.cpp cache), `TOO_SMALL`.
    pub fn to_llama(
        payload: &Payload<'_>,
        v_trans: bool,
        dtype: DType,
        fingerprint: Option<&Fingerprint>,
        blob: &'m mut [u8],
    ) -> Result<Self> {
        let mut raw = null_mut();
        let fingerprint = fingerprint.map_or(null(), |x| x.as_ptr());
        let (memory, size) = (blob.as_mut_ptr().cast(), blob.len());
        // SAFETY: the blob is borrowed mutably for as long as the view lives.
        call(|err| unsafe {
            let payload = payload.as_ptr();
            sys::skv_cache_to_llama(payload, i32::from(v_trans), dtype.0, fingerprint, memory, size, &mut raw, err)
        })?;
        Ok(Self(Cache { raw: CacheBuilder::adopt(raw).raw, memory: PhantomData }))
    }
}

/// Bytes of the llama.cpp blob that holds a payload's cells.
///
/// # Errors
/// `DTYPE`, `LAYOUT`.
pub fn llama_blob_bytes(payload: &Payload<'_>, v_trans: bool, dtype: DType) -> Result<u64> {
    let mut out = 0;
    // SAFETY: the handle lives.
    call(|err| unsafe { sys::skv_llama_blob_bytes(payload.as_ptr(), i32::from(v_trans), dtype.0, &mut out, err) })?;
    Ok(out)
}
