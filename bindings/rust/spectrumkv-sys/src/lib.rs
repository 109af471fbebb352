// SPDX-License-Identifier: Apache-2.0
//! Raw bindings to libspectrumkv: every function, constant and struct of `spectrumkv.h` under its C name.
//!
//! The header is the manual. The `spectrumkv` crate is the safe interface.
//!
//! With the feature `link` (default) the linker resolves the functions; with `dlopen` they are looked up when the
//! program runs, by `load` or on the first call.
#![no_std]
#![allow(non_camel_case_types, non_upper_case_globals)]

#[cfg(feature = "dlopen")]
extern crate std;

#[allow(clippy::all)]
#[rustfmt::skip]
mod types;
pub use types::*;

#[cfg(not(feature = "dlopen"))]
#[allow(clippy::missing_safety_doc)]
#[rustfmt::skip]
mod link;
#[cfg(not(feature = "dlopen"))]
pub use link::*;

#[cfg(feature = "dlopen")]
#[allow(clippy::missing_safety_doc, clippy::too_many_arguments)]
#[rustfmt::skip]
mod dlopen;
#[cfg(feature = "dlopen")]
mod loader;
#[cfg(feature = "dlopen")]
pub use dlopen::*;
#[cfg(feature = "dlopen")]
pub(crate) use loader::table;
#[cfg(feature = "dlopen")]
pub use loader::{LoadError, load, load_default};
