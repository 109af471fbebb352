// SPDX-License-Identifier: Apache-2.0
//! Loads the library when the program runs.

use crate::{SKV_ABI_VERSION, dlopen::Table};
use std::ffi::{OsStr, OsString};
use std::format;
use std::string::{String, ToString};
use std::sync::{Mutex, OnceLock};

static LOADED: OnceLock<Table> = OnceLock::new();
static LOADING: Mutex<()> = Mutex::new(());

/// The library was not found, is of another ABI version or lacks a function. The text says which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadError(String);

impl core::fmt::Display for LoadError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for LoadError {}

/// Loads the library at `path`, a file or a name for the loader. Once loaded it stays, and further calls do nothing.
///
/// # Errors
/// [`LoadError`]; nothing is loaded then, and another path may be tried.
///
/// # Safety
/// Loading runs the file's initialisers, and its functions are called by the prototypes of this crate: it must be
/// libspectrumkv.
pub unsafe fn load(path: impl AsRef<OsStr>) -> Result<(), LoadError> {
    let _one_at_a_time = LOADING.lock().unwrap_or_else(|e| e.into_inner());
    if LOADED.get().is_some() {
        return Ok(());
    }
    let path = path.as_ref();
    let say = |what: String| LoadError(format!("{}: {what}", path.display()));
    // SAFETY: the caller vouches for the file.
    let library = unsafe { libloading::Library::new(path) }.map_err(|e| say(e.to_string()))?;
    // SAFETY: every version of libspectrumkv has this function with this prototype.
    let version = unsafe { library.get::<unsafe extern "C" fn() -> u32>(c"skv_abi_version").map(|version| version()) }
        .map_err(|e| say(e.to_string()))?;
    if i64::from(version) != i64::from(SKV_ABI_VERSION) {
        return Err(say(format!("ABI version {version}, this crate needs {SKV_ABI_VERSION}")));
    }
    // SAFETY: it is libspectrumkv of this ABI version.
    let table = unsafe { Table::find(&library) }.map_err(|e| say(e.to_string()))?;
    core::mem::forget(library); // its functions are called until the process ends
    let _ = LOADED.set(table);
    Ok(())
}

/// Loads the library from the file in the environment variable `SPECTRUMKV_LIBRARY`, else from the loader's path under
/// the SONAME (`libspectrumkv.so.0`). Once loaded it stays.
///
/// # Errors
/// [`LoadError`].
pub fn load_default() -> Result<(), LoadError> {
    if LOADED.get().is_some() {
        return Ok(());
    }
    let path = std::env::var_os("SPECTRUMKV_LIBRARY")
        .filter(|path| !path.is_empty())
        .unwrap_or_else(|| OsString::from(format!("libspectrumkv.so.{SKV_ABI_VERSION}")));
    // SAFETY: the variable and the SONAME name libspectrumkv; whoever sets them chooses what this process runs.
    unsafe { load(path) }
}

/// The functions; loads the library when that was not done yet.
pub(crate) fn table() -> &'static Table {
    if let Some(table) = LOADED.get() {
        return table;
    }
    match load_default() {
        Ok(()) => LOADED.get().expect("loaded"),
        Err(error) => panic!("{error} (call spectrumkv_sys::load_default first to handle this)"),
    }
}
