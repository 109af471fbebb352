// SPDX-License-Identifier: Apache-2.0
//! Statuses as errors, and the one way to call the library.

use crate::Status;
use core::ffi::CStr;
use core::fmt;
use spectrumkv_sys as sys;
use std::sync::OnceLock;

/// What the library said no with.
#[derive(Clone, PartialEq, Eq)]
pub struct Error {
    status: Status,
    native: i32,
    message: Box<str>,
}

/// A result whose error is [`Error`].
pub type Result<T, E = Error> = core::result::Result<T, E>;

impl Error {
    pub(crate) fn new(status: Status, message: impl Into<Box<str>>) -> Self {
        Self { status, native: 0, message: message.into() }
    }

    /// Which error it is.
    pub fn status(&self) -> Status {
        self.status
    }

    /// `errno`, CUDA or NCCL code behind it, else 0.
    pub fn native(&self) -> i32 {
        self.native
    }

    /// What was got and what is wanted.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.status, self.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("status", &self.status)
            .field("native", &self.native)
            .field("message", &self.message)
            .finish()
    }
}

impl std::error::Error for Error {}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // An error exists only where the library could be called, or says that it cannot.
        match ready() {
            // SAFETY: any value may be asked for; static storage, NUL-terminated.
            Ok(()) => f.write_str(unsafe { CStr::from_ptr(sys::skv_status_name(self.0)) }.to_str().unwrap_or("?")),
            Err(_) => write!(f, "{self:?}"),
        }
    }
}

/// Whether the library can be called: loaded, and of this ABI version. Asked by everything that makes a handle.
pub(crate) fn ready() -> Result<()> {
    static READY: OnceLock<()> = OnceLock::new();
    if READY.get().is_some() {
        return Ok(());
    }
    #[cfg(feature = "dlopen")]
    sys::load_default().map_err(|e| Error::new(Status::UNAVAILABLE, e.to_string()))?;
    // SAFETY: takes nothing.
    let found = unsafe { sys::skv_abi_version() };
    if i64::from(found) != i64::from(sys::SKV_ABI_VERSION) {
        return Err(Error::new(
            Status::UNAVAILABLE,
            format!("libspectrumkv of ABI version {found}, this crate needs {}", sys::SKV_ABI_VERSION),
        ));
    }
    let _ = READY.set(());
    Ok(())
}

/// Calls a fallible function with a place for its error. Returns `OK` or `IN_PROGRESS`.
pub(crate) fn call(f: impl FnOnce(*mut sys::skv_error) -> sys::skv_status) -> Result<Status> {
    let mut raw = sys::skv_error { status: 0, native: 0, message: [0; 248] };
    let status = f(&mut raw);
    if status >= 0 {
        return Ok(Status(status));
    }
    // SAFETY: the library ends its message with a NUL, and it was all zero before.
    let message = unsafe { CStr::from_ptr(raw.message.as_ptr()) };
    Err(Error { status: Status(status), native: raw.native, message: message.to_string_lossy().into() })
}

/// A text for C.
pub(crate) fn c_text(text: &str, what: &str) -> Result<std::ffi::CString> {
    std::ffi::CString::new(text).map_err(|_| Error::new(Status::ARGUMENT, format!("{what} {text:?}: a NUL in it")))
}

/// A count or index for a C parameter of 32 bits. What does not fit is out of every range the library accepts.
pub(crate) fn c_i32(value: usize) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

/// The same for 64 bits.
pub(crate) fn c_i64(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
