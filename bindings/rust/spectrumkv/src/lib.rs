// SPDX-License-Identifier: Apache-2.0
#![doc = include_str!("../README.md")]

mod cache;
#[rustfmt::skip]
mod constants;
mod engine;
mod error;
mod events;
mod payload;
mod plan;
mod profile;
mod reactor;
mod request;
mod scores;
mod transport;

pub use cache::{Cache, CacheBuilder, CacheMut, Element, Fingerprint, Layer, RequestId, Strides, llama_blob_bytes};
pub use constants::*;
pub use engine::Engine;
pub use error::{Error, Result};
pub use events::{EndpointStats, Event};
pub use half::{bf16, f16};
pub use payload::{AlignedBytes, Payload, Receipt, Segment};
pub use plan::Plan;
pub use profile::{NEEDLE_TRIALS, NeedleProbe, Profile, Said};
pub use request::{Offer, Request, RequestHandle};
pub use scores::{Queries, Scores};
pub use spectrumkv_sys as sys;
pub use transport::{Conn, Deadline, Endpoint, Until};

/// The loaded library's version, e.g. `"0.1.0"`.
///
/// # Errors
/// `UNAVAILABLE`: the library is not there or of another ABI version.
pub fn version() -> Result<&'static str> {
    error::ready()?;
    // SAFETY: static storage, NUL-terminated.
    Ok(unsafe { core::ffi::CStr::from_ptr(sys::skv_version_string()) }.to_str().unwrap_or("?"))
}

/// The loaded library's version as major * 10000 + minor * 100 + patch.
///
/// # Errors
/// As [`version`].
pub fn version_number() -> Result<u32> {
    error::ready()?;
    // SAFETY: takes nothing.
    Ok(unsafe { sys::skv_version() })
}

/// Payload format that the loaded library writes, (major, minor).
///
/// # Errors
/// As [`version`].
pub fn wire_version() -> Result<(u32, u32)> {
    error::ready()?;
    // SAFETY: takes nothing.
    let value = unsafe { sys::skv_wire_version() };
    Ok((value >> 8, value & 255))
}

/// What the types forbid. Each of these would be a use after free or a race, and does not compile.
///
/// Reading memory while a view may write it:
/// ```compile_fail,E0502
/// # use spectrumkv::*;
/// let mut k = vec![0f32; 4096];
/// let builder = CacheBuilder::new(1)?.plane_mut(0, Half::K, &mut k, Strides::token_major(1, 64))?;
/// println!("{}", k[0]);
/// builder.build_mut()?;
/// # Ok::<(), Error>(())
/// ```
/// Memory that ends before the view of it:
/// ```compile_fail,E0597
/// # use spectrumkv::*;
/// let view = {
///     let k = vec![0f32; 4096];
///     CacheBuilder::new(1)?.plane(0, Half::K, &k, Strides::token_major(1, 64))?
/// };
/// view.build()?;
/// # Ok::<(), Error>(())
/// ```
/// A payload used after it was dropped, or its bytes:
/// ```compile_fail,E0505
/// # use spectrumkv::*;
/// let payload = Payload::open(b"")?;
/// let bytes = payload.bytes()?;
/// drop(payload);
/// println!("{}", bytes.len());
/// # Ok::<(), Error>(())
/// ```
/// Sending a payload whose bytes somebody else may free:
/// ```compile_fail,E0597
/// # use spectrumkv::*;
/// fn send(conn: &Conn) -> Result<Request> {
///     let bytes = vec![0; 100];
///     conn.send(1, &Payload::open(&bytes)?, std::time::Duration::from_secs(1))
/// }
/// ```
/// Decoding into memory that was given for reading:
/// ```compile_fail,E0308
/// # use spectrumkv::*;
/// fn decode(engine: &Engine, payload: &Payload<'_>, mut cache: Cache<'_>) -> Result<()> {
///     engine.decode(payload, &mut cache)
/// }
/// ```
/// One engine called by two threads at once:
/// ```compile_fail,E0277
/// # use spectrumkv::*;
/// let engine = Engine::cpu()?;
/// std::thread::scope(|scope| scope.spawn(|| engine.describe()).join()).unwrap()?;
/// # Ok::<(), Error>(())
/// ```
#[cfg(doctest)]
pub struct Forbidden;
