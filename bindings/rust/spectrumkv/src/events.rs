// SPDX-License-Identifier: Apache-2.0
//! What an endpoint counts, and the record of what happened at it.

use crate::error::call;
use crate::{Endpoint, EventKind, Result, Status};
use spectrumkv_sys as sys;

macro_rules! stats {
    ($($(#[$about:meta])* $name:ident: $kind:ty,)*) => {
        /// Counters and histograms of an endpoint. Item i of a histogram counts 2^i <= value < 2^(i+1).
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct EndpointStats {
            $($(#[$about])* pub $name: $kind,)*
        }

        impl From<sys::skv_endpoint_stats> for EndpointStats {
            fn from(raw: sys::skv_endpoint_stats) -> Self {
                Self { $($name: raw.$name,)* }
            }
        }
    };
}

stats! {
    /// Open now.
    conns: u32,
    /// Peers that were accepted or connected to.
    handshakes_ok: u64,
    /// Garbage, scanners, other versions or models, too slow.
    handshakes_failed: u64,
    /// Transfers sent.
    sent_ok: u64,
    /// Transfers received.
    received_ok: u64,
    /// Transfers that ended otherwise.
    failed: u64,
    /// Payload bytes.
    bytes_sent: u64,
    /// Payload bytes.
    bytes_received: u64,
    /// Peers that broke the protocol.
    protocol_errors: u64,
    /// Transfers with damaged bytes.
    checksum_errors: u64,
    /// Peers that were not who they must be, or took us for that.
    auth_errors: u64,
    /// Of the failed handshakes: too many at once or a second.
    handshakes_refused: u64,
    /// Now.
    handshakes_pending: u64,
    /// Of the failed transfers.
    cancelled: u64,
    /// Of the failed transfers.
    timed_out: u64,
    /// Of the failed transfers.
    peer_lost: u64,
    /// Of the failed transfers.
    rejected: u64,
    /// Of the failed transfers.
    no_resource: u64,
    /// Now: offered or moving from here.
    sending: u64,
    /// Now: moving to here.
    receiving: u64,
    /// Now: offers of peers that are not decided on.
    offers_waiting: u64,
    /// Now: bytes granted to senders that have not arrived.
    credit_held: u64,
    /// Times a sender here had bytes and no credit.
    credit_stalls: u64,
    /// Records overwritten before they were taken.
    events_lost: u64,
    /// Transfers that ended well: accepted to ended, in microseconds.
    time_log2: [u64; 32],
    /// Offers taken here: offered to accepted, in microseconds.
    queue_log2: [u64; 32],
    /// Transfers that ended well: payload bytes.
    bytes_log2: [u64; 40],
}

/// What happened at an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// CLOCK_MONOTONIC.
    pub time_ns: u64,
    /// What.
    pub kind: EventKind,
    /// With what result.
    pub status: Status,
    /// Conns of an endpoint count from 1.
    pub conn: u64,
    /// Its id on the wire, 0 for a conn's event.
    pub transfer: u64,
    /// The sender's.
    pub key: u64,
    /// Of the payload, or moved.
    pub bytes: u64,
    /// How long it took.
    pub duration_ns: u64,
    /// Whether from here.
    pub sending: bool,
}

impl Endpoint {
    /// Counters so far.
    ///
    /// # Errors
    /// None in practice.
    pub fn stats(&self) -> Result<EndpointStats> {
        // SAFETY: numbers only, all of which may be zero.
        let mut raw: sys::skv_endpoint_stats = unsafe { core::mem::zeroed() };
        raw.struct_size = size_of_val(&raw) as u32;
        // SAFETY: the struct is as large as it says.
        call(|err| unsafe { sys::skv_endpoint_get_stats(self.as_ptr(), &mut raw, err) })?;
        Ok(raw.into())
    }

    /// What happened since the last call, oldest first. `EndpointStats::events_lost` counts what came too late.
    ///
    /// # Errors
    /// None in practice.
    pub fn events(&self) -> Result<Vec<Event>> {
        let mut all = Vec::new();
        loop {
            // SAFETY: numbers only, all of which may be zero.
            let mut found: [sys::skv_event; 64] = unsafe { core::mem::zeroed() };
            let mut count = 0;
            // SAFETY: the array is as long as said.
            call(|err| unsafe {
                sys::skv_endpoint_events(self.as_ptr(), found.as_mut_ptr(), found.len(), &mut count, err)
            })?;
            all.extend(found[..count].iter().map(|raw| Event {
                time_ns: raw.time_ns,
                kind: EventKind(raw.kind),
                status: Status(raw.status),
                conn: raw.conn,
                transfer: raw.transfer,
                key: raw.key,
                bytes: raw.bytes,
                duration_ns: raw.duration_ns,
                sending: raw.sending != 0,
            }));
            if count < found.len() {
                return Ok(all);
            }
        }
    }
}
