// SPDX-License-Identifier: Apache-2.0
//! Scores: how much an error in each token's K or V row costs.

use crate::error::{c_i32, c_i64, call, ready};
use crate::{Element, Half, Layer, Result};
use core::marker::PhantomData;
use core::ptr::{NonNull, null_mut};
use spectrumkv_sys as sys;

/// Where the queries of [`Scores::set_queries`] lie: element (query i, head h, channel c) at
/// `i * query_stride + h * head_stride + c * elem_stride`, in elements.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Queries {
    /// How many of the last tokens, 1 … 4096.
    pub count: usize,
    /// Query heads, a multiple of the layer's kv-heads.
    pub heads: usize,
    /// From one query to the next.
    pub query_stride: usize,
    /// From one head to the next.
    pub head_stride: usize,
    /// From one channel to the next.
    pub elem_stride: usize,
    /// Softmax scale; 0: 1 / sqrt(k_dim).
    pub scale: f32,
    /// Sliding-window length; 0: none.
    pub window: usize,
}

impl Queries {
    /// Of `[count, heads, dim]`, with the usual scale and no window.
    pub const fn query_major(count: usize, heads: usize, dim: usize) -> Self {
        Self { count, heads, query_stride: heads * dim, head_stride: dim, elem_stride: 1, scale: 0.0, window: 0 }
    }
}

/// How much each row matters. The first source given wins: the caller's weights, the last queries, else keys and values.
#[derive(Debug)]
pub struct Scores<'q> {
    raw: NonNull<sys::skv_scores>,
    queries: PhantomData<&'q [u8]>,
}

// SAFETY: any thread may use any handle, one call at a time. Not Sync.
unsafe impl Send for Scores<'_> {}

impl<'q> Scores<'q> {
    /// Empty scores.
    ///
    /// # Errors
    /// `NO_MEMORY`, `UNAVAILABLE` (no library).
    pub fn new() -> Result<Self> {
        ready()?;
        let mut raw = null_mut();
        // SAFETY: `raw` and the error outlive the call.
        call(|err| unsafe { sys::skv_scores_create(&mut raw, err) })?;
        Ok(Self { raw: NonNull::new(raw).expect("OK gives a handle"), queries: PhantomData })
    }

    pub(crate) fn as_ptr(&self) -> *mut sys::skv_scores {
        self.raw.as_ptr()
    }

    /// The caller's weights for one half of a layer (or [`Layer::ALL`]), one a token, finite and not negative. Copied.
    ///
    /// # Errors
    /// `RANGE`, `NON_FINITE`.
    pub fn set_weights(&mut self, layer: impl Into<Layer>, half: Half, weights: &[f32]) -> Result<()> {
        let layer = layer.into().0;
        // SAFETY: the slice is as long as said.
        call(|err| unsafe {
            sys::skv_scores_set_weights(self.as_ptr(), layer, half.0, weights.as_ptr(), weights.len(), err)
        })
        .map(drop)
    }

    /// The queries (after RoPE) of the last tokens of a layer. Read by [`crate::Engine::score`].
    ///
    /// # Errors
    /// `RANGE`, `STRIDE`.
    pub fn set_queries<T: Element>(&mut self, layer: usize, memory: &'q [T], queries: Queries) -> Result<()> {
        let stride = |elements: usize| c_i64(elements.saturating_mul(size_of::<T>()));
        // SAFETY: the memory is borrowed for as long as these scores live.
        call(|err| unsafe {
            sys::skv_scores_set_queries(
                self.as_ptr(),
                c_i32(layer),
                memory.as_ptr().cast(),
                size_of_val(memory),
                T::DTYPE.0,
                c_i32(queries.count),
                c_i32(queries.heads),
                stride(queries.query_stride),
                stride(queries.head_stride),
                stride(queries.elem_stride),
                queries.scale,
                c_i32(queries.window),
                err,
            )
        })
        .map(drop)
    }

    /// The weights of one layer and half, one a token.
    ///
    /// # Errors
    /// `STATE` (not scored yet), `RANGE` (other than the layer's tokens).
    pub fn get(&self, layer: usize, half: Half, tokens: usize) -> Result<Vec<f32>> {
        let mut out = vec![0.0; tokens];
        // SAFETY: the vector is as long as said.
        call(|err| unsafe {
            sys::skv_scores_get(self.as_ptr(), c_i32(layer), half.0, out.as_mut_ptr(), out.len(), err)
        })?;
        Ok(out)
    }
}

impl Drop for Scores<'_> {
    fn drop(&mut self) {
        // SAFETY: the handle is ours and used no more.
        unsafe { sys::skv_scores_destroy(self.as_ptr()) }
    }
}
