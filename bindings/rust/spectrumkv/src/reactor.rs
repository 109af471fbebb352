// SPDX-License-Identifier: Apache-2.0
//! What an endpoint's conns and requests share, and how futures learn that a request can go on.
//!
//! The library has no callbacks; it reports requests through a descriptor. The first future that has to wait starts one
//! thread for its endpoint, which sleeps on that descriptor. An endpoint without a progress thread has none here either:
//! its futures are woken by `Endpoint::progress` and `Endpoint::poll`.

use crate::Result;
use crate::error::{Error, call};
use crate::request::RequestHandle;
use core::ptr::{NonNull, null_mut};
use core::task::Waker;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use spectrumkv_sys as sys;
use std::any::Any;
use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// The thread wakes at least so often, in case a wake-up was lost. Seconds.
const AT_LEAST_EVERY: i64 = 1;

/// Wakes all of them, whatever an executor's waker does: a panic in one must not leave the others asleep. Returns the first panic.
fn wake_all(wakers: Vec<Waker>) -> Option<Box<dyn Any + Send>> {
    let results = wakers.into_iter().map(|waker| catch_unwind(AssertUnwindSafe(|| waker.wake())));
    results.fold(None, |first, result| first.or(result.err()))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Who waits for which request, and which were reported to nobody yet.
#[derive(Debug, Default)]
struct Board {
    wakers: HashMap<RequestHandle, Waker>,
    reported: HashSet<RequestHandle>,
}

#[derive(Debug)]
struct Shared {
    endpoint: NonNull<sys::skv_endpoint>,
    board: Mutex<Board>,
    stop: AtomicBool,
}

// SAFETY: endpoint handles are fully thread-safe (header, "Threads").
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    /// Takes what the library reports and returns whom to wake.
    fn collect(&self) -> Result<Vec<Waker>> {
        let mut wake = Vec::new();
        loop {
            let mut found = [null_mut(); 64];
            let mut count = 0;
            // The library forgets what it has reported: the board must learn of it before another thread asks.
            let mut board = lock(&self.board);
            // SAFETY: the array is as long as said; whoever calls this keeps the endpoint.
            call(|err| unsafe {
                sys::skv_endpoint_poll(self.endpoint.as_ptr(), found.as_mut_ptr(), found.len(), &mut count, err)
            })?;
            for request in &found[..count] {
                let handle = RequestHandle(request.addr());
                wake.extend(board.wakers.remove(&handle));
                board.reported.insert(handle);
            }
            if count < found.len() {
                return Ok(wake);
            }
        }
    }
}

#[derive(Debug)]
struct Reactor {
    bell: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

/// An endpoint's handle, and what its requests wait with. Conns and requests keep it alive.
#[derive(Debug)]
pub(crate) struct Hub {
    shared: Arc<Shared>,
    reactor: Mutex<Option<Reactor>>,
    driven: AtomicBool,
}

impl Hub {
    pub(crate) fn new(endpoint: NonNull<sys::skv_endpoint>) -> Self {
        let shared = Shared { endpoint, board: Mutex::default(), stop: AtomicBool::new(false) };
        Self { shared: Arc::new(shared), reactor: Mutex::new(None), driven: AtomicBool::new(false) }
    }

    pub(crate) fn as_ptr(&self) -> *mut sys::skv_endpoint {
        self.shared.endpoint.as_ptr()
    }

    /// Whether the caller moves the bytes.
    pub(crate) fn set_driven(&self, driven: bool) {
        self.driven.store(driven, Ordering::Relaxed);
    }

    pub(crate) fn fd(&self) -> Result<BorrowedFd<'_>> {
        let mut out = -1;
        // SAFETY: the handle lives.
        call(|err| unsafe { sys::skv_endpoint_fd(self.as_ptr(), &mut out, err) })?;
        // SAFETY: owned by the endpoint, which outlives the borrow.
        Ok(unsafe { BorrowedFd::borrow_raw(out) })
    }

    pub(crate) fn collect(&self) -> Result<()> {
        match wake_all(self.shared.collect()?) {
            Some(panic) => resume_unwind(panic), // the caller's own thread, the caller's own waker
            None => Ok(()),
        }
    }

    pub(crate) fn take_reported(&self) -> Vec<RequestHandle> {
        lock(&self.shared.board).reported.drain().collect()
    }

    pub(crate) fn wake_when_reported(&self, request: RequestHandle, waker: &Waker) -> Result<()> {
        let mut board = lock(&self.shared.board);
        board.wakers.insert(request, waker.clone());
        drop(board);
        if self.driven.load(Ordering::Relaxed) { Ok(()) } else { self.start() }
    }

    /// A request that is about to be destroyed: its address may become another's.
    pub(crate) fn forget(&self, request: RequestHandle) {
        let mut board = lock(&self.shared.board);
        board.reported.remove(&request);
        let waker = board.wakers.remove(&request);
        drop(board);
        drop(waker); // may run code of the executor's
    }

    fn start(&self) -> Result<()> {
        let mut reactor = lock(&self.reactor);
        if reactor.is_some() {
            return Ok(());
        }
        let no = |what: &str, errno: i32| Error::new(crate::Status::NO_RESOURCE, format!("{what}: errno {errno}"));
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map(Arc::new)
            .map_err(|e| no("eventfd", e.raw_os_error()))?;
        let ready = self.fd()?.try_clone_to_owned().map_err(|e| no("dup", e.raw_os_error().unwrap_or(0)))?;
        let (shared, heard) = (Arc::clone(&self.shared), Arc::clone(&bell));
        let thread = std::thread::Builder::new()
            .name("spectrumkv".into())
            .spawn(move || run(&shared, &ready, &heard))
            .map_err(|e| no("thread", e.raw_os_error().unwrap_or(0)))?;
        *reactor = Some(Reactor { bell, thread: Some(thread) });
        Ok(())
    }
}

fn run(shared: &Shared, ready: &OwnedFd, bell: &OwnedFd) {
    while !shared.stop.load(Ordering::Acquire) {
        let mut fds = [PollFd::new(ready, PollFlags::IN), PollFd::new(bell, PollFlags::IN)];
        let _ = poll(&mut fds, Some(&Timespec { tv_sec: AT_LEAST_EVERY, tv_nsec: 0 }));
        if shared.stop.load(Ordering::Acquire) {
            return;
        }
        // Waking may drop the last owner of the endpoint, on this very thread: after it the handle is not touched
        // before `stop` was read again. A panic has been reported by its hook; this thread goes on for the other futures.
        drop(wake_all(shared.collect().unwrap_or_default()));
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(mut reactor) = lock(&self.reactor).take() {
            let _ = rustix::io::write(reactor.bell.as_fd(), &1u64.to_ne_bytes());
            if let Some(thread) = reactor.thread.take()
                && thread.thread().id() != std::thread::current().id()
            {
                let _ = thread.join();
            }
        }
        // SAFETY: the handle is ours; its thread has ended, or is this one and will not touch it again.
        unsafe { sys::skv_endpoint_destroy(self.as_ptr()) }
    }
}
