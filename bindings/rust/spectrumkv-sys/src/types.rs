// SPDX-License-Identifier: Apache-2.0
// Made from include/spectrumkv.h by generate.sh. Do not edit.

pub const SKV_VERSION_MAJOR: i32 = 0;
pub const SKV_VERSION_MINOR: i32 = 1;
pub const SKV_VERSION_PATCH: i32 = 0;
pub const SKV_ABI_VERSION: i32 = 0;
pub const SKV_WIRE_MAJOR: i32 = 1;
pub const SKV_WIRE_MINOR: i32 = 0;
pub const SKV_OK: i32 = 0;
pub const SKV_IN_PROGRESS: i32 = 1;
pub const SKV_E_ARGUMENT: i32 = -10;
pub const SKV_E_NULL: i32 = -11;
pub const SKV_E_RANGE: i32 = -12;
pub const SKV_E_DTYPE: i32 = -13;
pub const SKV_E_STRIDE: i32 = -14;
pub const SKV_E_OVERLAP: i32 = -15;
pub const SKV_E_BLOCK_ID: i32 = -16;
pub const SKV_E_KEY: i32 = -17;
pub const SKV_E_GEOMETRY: i32 = -18;
pub const SKV_E_EMPTY: i32 = -19;
pub const SKV_E_STATE: i32 = -20;
pub const SKV_E_BUSY: i32 = -21;
pub const SKV_E_CLOSED: i32 = -22;
pub const SKV_E_NO_MEMORY: i32 = -30;
pub const SKV_E_NO_RESOURCE: i32 = -31;
pub const SKV_E_UNAVAILABLE: i32 = -32;
pub const SKV_E_TOO_SMALL: i32 = -33;
pub const SKV_E_IO: i32 = -34;
pub const SKV_E_BUDGET: i32 = -40;
pub const SKV_E_PERMITTED: i32 = -41;
pub const SKV_E_MALFORMED: i32 = -50;
pub const SKV_E_TRUNCATED: i32 = -51;
pub const SKV_E_TRAILING: i32 = -52;
pub const SKV_E_VERSION: i32 = -60;
pub const SKV_E_FEATURE: i32 = -61;
pub const SKV_E_MODEL: i32 = -70;
pub const SKV_E_REQUEST: i32 = -71;
pub const SKV_E_LAYOUT: i32 = -72;
pub const SKV_E_BASE: i32 = -73;
pub const SKV_E_CHECKSUM: i32 = -80;
pub const SKV_E_NON_FINITE: i32 = -90;
pub const SKV_E_OVERFLOW: i32 = -91;
pub const SKV_E_CUDA: i32 = -100;
pub const SKV_E_NCCL: i32 = -110;
pub const SKV_E_NCCL_VERSION: i32 = -111;
pub const SKV_E_TIMED_OUT: i32 = -120;
pub const SKV_E_CANCELLED: i32 = -121;
pub const SKV_E_PEER_LOST: i32 = -122;
pub const SKV_E_REJECTED: i32 = -123;
pub const SKV_E_PROTOCOL: i32 = -124;
pub const SKV_E_POISONED: i32 = -125;
pub const SKV_E_ADDRESS: i32 = -126;
pub const SKV_E_AUTH: i32 = -127;
pub const SKV_E_INTERNAL: i32 = -130;
pub const SKV_ALL: i32 = -1;
pub const SKV_K: i32 = 0;
pub const SKV_V: i32 = 1;
pub const SKV_F16: i32 = 1;
pub const SKV_BF16: i32 = 2;
pub const SKV_F32: i32 = 3;
pub const SKV_TIER_DROP: i32 = 0;
pub const SKV_TIER_2BIT: i32 = 1;
pub const SKV_TIER_4BIT: i32 = 2;
pub const SKV_TIER_6BIT: i32 = 3;
pub const SKV_TIER_8BIT: i32 = 4;
pub const SKV_TIER_RAW: i32 = 5;
pub const SKV_TRANSFORM_NONE: i32 = 0;
pub const SKV_TRANSFORM_MEAN: i32 = 1;
pub const SKV_TRANSFORM_BALANCE: i32 = 2;
pub const SKV_TRANSFORM_HADAMARD8: i32 = 4;
pub const SKV_TRANSFORM_HADAMARD16: i32 = 8;
pub const SKV_CODE_EMBEDDED: i32 = 0;
pub const SKV_CODE_PAPER: i32 = 1;
pub const SKV_SCORED_NONE: i32 = 0;
pub const SKV_SCORED_KV: i32 = 1;
pub const SKV_SCORED_QUERIES: i32 = 2;
pub const SKV_SCORED_CALLER: i32 = 3;
pub const SKV_PLANE_NONE: i32 = 0;
pub const SKV_PLANE_INPROC: i32 = 1;
pub const SKV_PLANE_INLINE: i32 = 2;
pub const SKV_PLANE_NCCL: i32 = 3;
pub const SKV_PLANE_UCX: i32 = 4;
pub const SKV_SECURITY_NONE: i32 = 0;
pub const SKV_SECURITY_PSK: i32 = 1;
pub const SKV_SECURITY_TLS: i32 = 2;
pub const SKV_SECURITY_TLS_PSK: i32 = 3;
pub const SKV_FINGERPRINT_BYTES: i32 = 32;
pub const SKV_REQUEST_ID_BYTES: i32 = 16;
pub const SKV_DEVICE_CPU: i32 = -1;
pub const SKV_ENGINE_THREADS: i32 = 1;
pub const SKV_ENGINE_TARGET: i32 = 2;
pub const SKV_TARGET_AUTO: i32 = 0;
pub const SKV_TARGET_SCALAR: i32 = 1;
pub const SKV_TARGET_AVX2: i32 = 2;
pub const SKV_TARGET_AVX512: i32 = 3;
pub const SKV_TARGET_NEON: i32 = 4;
pub const SKV_CACHE_CAN_MASK: i32 = 1;
pub const SKV_VERDICT_NONE: i32 = 0;
pub const SKV_VERDICT_YES: i32 = 1;
pub const SKV_VERDICT_NO: i32 = 2;
pub const SKV_PROBE_LOGITS: i32 = 0;
pub const SKV_PROBE_NEEDLE: i32 = 1;
pub const SKV_NEEDLE_TRIALS: i32 = 3;
pub const SKV_PLAN_SINKS: i32 = 1;
pub const SKV_PLAN_CHUNK: i32 = 2;
pub const SKV_PLAN_K_TRANSFORMS: i32 = 3;
pub const SKV_PLAN_V_TRANSFORMS: i32 = 4;
pub const SKV_PLAN_CODE: i32 = 5;
pub const SKV_PLAN_K_TIERS: i32 = 6;
pub const SKV_PLAN_V_TIERS: i32 = 7;
pub const SKV_PLAN_RAW_DTYPE: i32 = 8;
pub const SKV_PLAN_UNPROVEN: i32 = 9;
pub const SKV_PLAN_PACK: i32 = 10;
pub const SKV_PLAN_LINK_MBPS: i32 = 11;
pub const SKV_PACK_NEVER: i32 = 0;
pub const SKV_PACK_ALWAYS: i32 = 1;
pub const SKV_PACK_AUTO: i32 = 2;
pub const SKV_PLAN_LATE_TIER: i32 = 12;
pub const SKV_PAYLOAD_BYTES: i32 = 1;
pub const SKV_PAYLOAD_LAYERS: i32 = 2;
pub const SKV_PAYLOAD_RAW_BYTES: i32 = 3;
pub const SKV_PAYLOAD_WIRE: i32 = 4;
pub const SKV_PAYLOAD_TOKENS: i32 = 5;
pub const SKV_PAYLOAD_POSITION: i32 = 6;
pub const SKV_PAYLOAD_HEADS: i32 = 7;
pub const SKV_PAYLOAD_K_DIM: i32 = 8;
pub const SKV_PAYLOAD_V_DIM: i32 = 9;
pub const SKV_PAYLOAD_DTYPE: i32 = 10;
pub const SKV_PAYLOAD_RAW_DTYPE: i32 = 11;
pub const SKV_PAYLOAD_CHUNK: i32 = 12;
pub const SKV_PAYLOAD_CODE: i32 = 13;
pub const SKV_PAYLOAD_K_TRANSFORMS: i32 = 14;
pub const SKV_PAYLOAD_V_TRANSFORMS: i32 = 15;
pub const SKV_PAYLOAD_GROUP: i32 = 16;
pub const SKV_PAYLOAD_FIRST_HEAD: i32 = 17;
pub const SKV_PAYLOAD_OFFSET: i32 = 18;
pub const SKV_PAYLOAD_CUT: i32 = 21;
pub const SKV_PAYLOAD_DEVICE: i32 = 19;
pub const SKV_PAYLOAD_UPGRADE: i32 = 20;
pub const SKV_PROOF_NONE: i32 = 0;
pub const SKV_PROOF_CALLER: i32 = 1;
pub const SKV_PROOF_PROFILE: i32 = 2;
pub const SKV_PROOF_LOGITS: i32 = 3;
pub const SKV_ENDPOINT_PROGRESS_THREAD: i32 = 1;
pub const SKV_ENDPOINT_MAX_PAYLOAD: i32 = 2;
pub const SKV_ENDPOINT_MAX_CONNS: i32 = 3;
pub const SKV_ENDPOINT_HANDSHAKE_MS: i32 = 4;
pub const SKV_ENDPOINT_HEARTBEAT_MS: i32 = 5;
pub const SKV_ENDPOINT_CHUNK: i32 = 6;
pub const SKV_ENDPOINT_ALLOW_OPEN_TCP: i32 = 7;
pub const SKV_ENDPOINT_TRANSFER_CREDIT: i32 = 8;
pub const SKV_ENDPOINT_CREDIT: i32 = 9;
pub const SKV_ENDPOINT_PEER_UID: i32 = 10;
pub const SKV_ENDPOINT_MAX_HANDSHAKES: i32 = 11;
pub const SKV_ENDPOINT_HANDSHAKE_RATE: i32 = 12;
pub const SKV_ENDPOINT_EVENTS: i32 = 13;
pub const SKV_ENDPOINT_PLANES: i32 = 14;
pub const SKV_ENDPOINT_DEVICE: i32 = 15;
pub const SKV_ENDPOINT_ABORT_MS: i32 = 16;
pub const SKV_EVENT_CONN_OPEN: i32 = 1;
pub const SKV_EVENT_CONN_CLOSED: i32 = 2;
pub const SKV_EVENT_HANDSHAKE_FAILED: i32 = 3;
pub const SKV_EVENT_OFFERED: i32 = 4;
pub const SKV_EVENT_ACCEPTED: i32 = 5;
pub const SKV_EVENT_ENDED: i32 = 6;
pub const SKV_CONN_PLANE: i32 = 1;
pub const SKV_CONN_OPEN: i32 = 2;
pub const SKV_CONN_PEER_VERSION: i32 = 3;
pub const SKV_CONN_SECURITY: i32 = 4;
pub const SKV_REQUEST_PENDING: i32 = 0;
pub const SKV_REQUEST_OFFERED: i32 = 1;
pub const SKV_REQUEST_MOVING: i32 = 2;
pub const SKV_REQUEST_ENDED: i32 = 3;
pub const SKV_REQUEST_STATE: i32 = 1;
pub const SKV_REQUEST_KEY: i32 = 2;
pub const SKV_REQUEST_BYTES: i32 = 3;
pub const SKV_REQUEST_LAYERS: i32 = 4;
pub const SKV_REQUEST_MOVED: i32 = 5;
pub const SKV_REQUEST_LAYERS_READY: i32 = 6;
pub const SKV_REQUEST_WIRE_NS: i32 = 7;
pub const SKV_REQUEST_EARLY_LAYERS: i32 = 8;
pub type skv_status = i32;
#[repr(C)]
#[derive(Copy, Clone)]
pub struct skv_error {
    pub status: i32,
    pub native: i32,
    pub message: [::core::ffi::c_char; 248usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of skv_error"][::core::mem::size_of::<skv_error>() - 256usize];
    ["Alignment of skv_error"][::core::mem::align_of::<skv_error>() - 4usize];
    [
        "Offset of field: skv_error::status",
    ][::core::mem::offset_of!(skv_error, status) - 0usize];
    [
        "Offset of field: skv_error::native",
    ][::core::mem::offset_of!(skv_error, native) - 4usize];
    [
        "Offset of field: skv_error::message",
    ][::core::mem::offset_of!(skv_error, message) - 8usize];
};
#[repr(C)]
#[derive(Debug)]
pub struct skv_engine {
    _unused: [u8; 0],
}
#[repr(C)]
#[derive(Debug)]
pub struct skv_cache {
    _unused: [u8; 0],
}
#[repr(C)]
#[derive(Debug)]
pub struct skv_scores {
    _unused: [u8; 0],
}
#[repr(C)]
#[derive(Debug)]
pub struct skv_profile {
    _unused: [u8; 0],
}
#[repr(C)]
#[derive(Debug)]
pub struct skv_needle_probe {
    _unused: [u8; 0],
}
#[repr(C)]
#[derive(Debug)]
pub struct skv_plan {
    _unused: [u8; 0],
}
#[repr(C)]
#[derive(Debug)]
pub struct skv_payload {
    _unused: [u8; 0],
}
#[repr(C)]
#[derive(Debug)]
pub struct skv_endpoint {
    _unused: [u8; 0],
}
#[repr(C)]
#[derive(Debug)]
pub struct skv_conn {
    _unused: [u8; 0],
}
#[repr(C)]
#[derive(Debug)]
pub struct skv_request {
    _unused: [u8; 0],
}
pub type skv_task = ::core::option::Option<
    unsafe extern "C" fn(arg: *mut ::core::ffi::c_void, index: usize),
>;
pub type skv_executor = ::core::option::Option<
    unsafe extern "C" fn(
        user: *mut ::core::ffi::c_void,
        width: usize,
        task: skv_task,
        arg: *mut ::core::ffi::c_void,
    ),
>;
#[repr(C)]
#[derive(Copy, Clone)]
pub struct skv_receipt {
    pub struct_size: u32,
    pub scored: i32,
    pub raw_bytes: u64,
    pub budget_bytes: u64,
    pub payload_bytes: u64,
    pub ratio: f64,
    pub k_rows: [u64; 8usize],
    pub v_rows: [u64; 8usize],
    pub score_ns: u64,
    pub plan_ns: u64,
    pub encode_ns: u64,
    pub decode_ns: u64,
    pub wire_ns: u64,
    pub plane: i32,
    pub code: i32,
    pub break_even_bits_per_s: f64,
    pub int4: i32,
    pub proof: i32,
    pub predicted_kl: f64,
    pub worst_snr_db: f64,
    pub worst_layer: i32,
    pub worst_head: i32,
    pub escalated_layers: u32,
    pub raw_is_faster: i32,
    pub dropped_rows: u64,
    pub k_mass: [f64; 8usize],
    pub v_mass: [f64; 8usize],
    pub link_bits_per_s: f64,
    pub unpacked_bytes: u64,
    pub cut_layers: u32,
    pub reserved: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of skv_receipt"][::core::mem::size_of::<skv_receipt>() - 424usize];
    ["Alignment of skv_receipt"][::core::mem::align_of::<skv_receipt>() - 8usize];
    [
        "Offset of field: skv_receipt::struct_size",
    ][::core::mem::offset_of!(skv_receipt, struct_size) - 0usize];
    [
        "Offset of field: skv_receipt::scored",
    ][::core::mem::offset_of!(skv_receipt, scored) - 4usize];
    [
        "Offset of field: skv_receipt::raw_bytes",
    ][::core::mem::offset_of!(skv_receipt, raw_bytes) - 8usize];
    [
        "Offset of field: skv_receipt::budget_bytes",
    ][::core::mem::offset_of!(skv_receipt, budget_bytes) - 16usize];
    [
        "Offset of field: skv_receipt::payload_bytes",
    ][::core::mem::offset_of!(skv_receipt, payload_bytes) - 24usize];
    [
        "Offset of field: skv_receipt::ratio",
    ][::core::mem::offset_of!(skv_receipt, ratio) - 32usize];
    [
        "Offset of field: skv_receipt::k_rows",
    ][::core::mem::offset_of!(skv_receipt, k_rows) - 40usize];
    [
        "Offset of field: skv_receipt::v_rows",
    ][::core::mem::offset_of!(skv_receipt, v_rows) - 104usize];
    [
        "Offset of field: skv_receipt::score_ns",
    ][::core::mem::offset_of!(skv_receipt, score_ns) - 168usize];
    [
        "Offset of field: skv_receipt::plan_ns",
    ][::core::mem::offset_of!(skv_receipt, plan_ns) - 176usize];
    [
        "Offset of field: skv_receipt::encode_ns",
    ][::core::mem::offset_of!(skv_receipt, encode_ns) - 184usize];
    [
        "Offset of field: skv_receipt::decode_ns",
    ][::core::mem::offset_of!(skv_receipt, decode_ns) - 192usize];
    [
        "Offset of field: skv_receipt::wire_ns",
    ][::core::mem::offset_of!(skv_receipt, wire_ns) - 200usize];
    [
        "Offset of field: skv_receipt::plane",
    ][::core::mem::offset_of!(skv_receipt, plane) - 208usize];
    [
        "Offset of field: skv_receipt::code",
    ][::core::mem::offset_of!(skv_receipt, code) - 212usize];
    [
        "Offset of field: skv_receipt::break_even_bits_per_s",
    ][::core::mem::offset_of!(skv_receipt, break_even_bits_per_s) - 216usize];
    [
        "Offset of field: skv_receipt::int4",
    ][::core::mem::offset_of!(skv_receipt, int4) - 224usize];
    [
        "Offset of field: skv_receipt::proof",
    ][::core::mem::offset_of!(skv_receipt, proof) - 228usize];
    [
        "Offset of field: skv_receipt::predicted_kl",
    ][::core::mem::offset_of!(skv_receipt, predicted_kl) - 232usize];
    [
        "Offset of field: skv_receipt::worst_snr_db",
    ][::core::mem::offset_of!(skv_receipt, worst_snr_db) - 240usize];
    [
        "Offset of field: skv_receipt::worst_layer",
    ][::core::mem::offset_of!(skv_receipt, worst_layer) - 248usize];
    [
        "Offset of field: skv_receipt::worst_head",
    ][::core::mem::offset_of!(skv_receipt, worst_head) - 252usize];
    [
        "Offset of field: skv_receipt::escalated_layers",
    ][::core::mem::offset_of!(skv_receipt, escalated_layers) - 256usize];
    [
        "Offset of field: skv_receipt::raw_is_faster",
    ][::core::mem::offset_of!(skv_receipt, raw_is_faster) - 260usize];
    [
        "Offset of field: skv_receipt::dropped_rows",
    ][::core::mem::offset_of!(skv_receipt, dropped_rows) - 264usize];
    [
        "Offset of field: skv_receipt::k_mass",
    ][::core::mem::offset_of!(skv_receipt, k_mass) - 272usize];
    [
        "Offset of field: skv_receipt::v_mass",
    ][::core::mem::offset_of!(skv_receipt, v_mass) - 336usize];
    [
        "Offset of field: skv_receipt::link_bits_per_s",
    ][::core::mem::offset_of!(skv_receipt, link_bits_per_s) - 400usize];
    [
        "Offset of field: skv_receipt::unpacked_bytes",
    ][::core::mem::offset_of!(skv_receipt, unpacked_bytes) - 408usize];
    [
        "Offset of field: skv_receipt::cut_layers",
    ][::core::mem::offset_of!(skv_receipt, cut_layers) - 416usize];
    [
        "Offset of field: skv_receipt::reserved",
    ][::core::mem::offset_of!(skv_receipt, reserved) - 420usize];
};
#[repr(C)]
#[derive(Copy, Clone)]
pub struct skv_endpoint_stats {
    pub struct_size: u32,
    pub conns: u32,
    pub handshakes_ok: u64,
    pub handshakes_failed: u64,
    pub sent_ok: u64,
    pub received_ok: u64,
    pub failed: u64,
    pub bytes_sent: u64,
    pub bytes_received: u64,
    pub protocol_errors: u64,
    pub checksum_errors: u64,
    pub auth_errors: u64,
    pub handshakes_refused: u64,
    pub handshakes_pending: u64,
    pub cancelled: u64,
    pub timed_out: u64,
    pub peer_lost: u64,
    pub rejected: u64,
    pub no_resource: u64,
    pub sending: u64,
    pub receiving: u64,
    pub offers_waiting: u64,
    pub credit_held: u64,
    pub credit_stalls: u64,
    pub events_lost: u64,
    pub time_log2: [u64; 32usize],
    pub queue_log2: [u64; 32usize],
    pub bytes_log2: [u64; 40usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    [
        "Size of skv_endpoint_stats",
    ][::core::mem::size_of::<skv_endpoint_stats>() - 1024usize];
    [
        "Alignment of skv_endpoint_stats",
    ][::core::mem::align_of::<skv_endpoint_stats>() - 8usize];
    [
        "Offset of field: skv_endpoint_stats::struct_size",
    ][::core::mem::offset_of!(skv_endpoint_stats, struct_size) - 0usize];
    [
        "Offset of field: skv_endpoint_stats::conns",
    ][::core::mem::offset_of!(skv_endpoint_stats, conns) - 4usize];
    [
        "Offset of field: skv_endpoint_stats::handshakes_ok",
    ][::core::mem::offset_of!(skv_endpoint_stats, handshakes_ok) - 8usize];
    [
        "Offset of field: skv_endpoint_stats::handshakes_failed",
    ][::core::mem::offset_of!(skv_endpoint_stats, handshakes_failed) - 16usize];
    [
        "Offset of field: skv_endpoint_stats::sent_ok",
    ][::core::mem::offset_of!(skv_endpoint_stats, sent_ok) - 24usize];
    [
        "Offset of field: skv_endpoint_stats::received_ok",
    ][::core::mem::offset_of!(skv_endpoint_stats, received_ok) - 32usize];
    [
        "Offset of field: skv_endpoint_stats::failed",
    ][::core::mem::offset_of!(skv_endpoint_stats, failed) - 40usize];
    [
        "Offset of field: skv_endpoint_stats::bytes_sent",
    ][::core::mem::offset_of!(skv_endpoint_stats, bytes_sent) - 48usize];
    [
        "Offset of field: skv_endpoint_stats::bytes_received",
    ][::core::mem::offset_of!(skv_endpoint_stats, bytes_received) - 56usize];
    [
        "Offset of field: skv_endpoint_stats::protocol_errors",
    ][::core::mem::offset_of!(skv_endpoint_stats, protocol_errors) - 64usize];
    [
        "Offset of field: skv_endpoint_stats::checksum_errors",
    ][::core::mem::offset_of!(skv_endpoint_stats, checksum_errors) - 72usize];
    [
        "Offset of field: skv_endpoint_stats::auth_errors",
    ][::core::mem::offset_of!(skv_endpoint_stats, auth_errors) - 80usize];
    [
        "Offset of field: skv_endpoint_stats::handshakes_refused",
    ][::core::mem::offset_of!(skv_endpoint_stats, handshakes_refused) - 88usize];
    [
        "Offset of field: skv_endpoint_stats::handshakes_pending",
    ][::core::mem::offset_of!(skv_endpoint_stats, handshakes_pending) - 96usize];
    [
        "Offset of field: skv_endpoint_stats::cancelled",
    ][::core::mem::offset_of!(skv_endpoint_stats, cancelled) - 104usize];
    [
        "Offset of field: skv_endpoint_stats::timed_out",
    ][::core::mem::offset_of!(skv_endpoint_stats, timed_out) - 112usize];
    [
        "Offset of field: skv_endpoint_stats::peer_lost",
    ][::core::mem::offset_of!(skv_endpoint_stats, peer_lost) - 120usize];
    [
        "Offset of field: skv_endpoint_stats::rejected",
    ][::core::mem::offset_of!(skv_endpoint_stats, rejected) - 128usize];
    [
        "Offset of field: skv_endpoint_stats::no_resource",
    ][::core::mem::offset_of!(skv_endpoint_stats, no_resource) - 136usize];
    [
        "Offset of field: skv_endpoint_stats::sending",
    ][::core::mem::offset_of!(skv_endpoint_stats, sending) - 144usize];
    [
        "Offset of field: skv_endpoint_stats::receiving",
    ][::core::mem::offset_of!(skv_endpoint_stats, receiving) - 152usize];
    [
        "Offset of field: skv_endpoint_stats::offers_waiting",
    ][::core::mem::offset_of!(skv_endpoint_stats, offers_waiting) - 160usize];
    [
        "Offset of field: skv_endpoint_stats::credit_held",
    ][::core::mem::offset_of!(skv_endpoint_stats, credit_held) - 168usize];
    [
        "Offset of field: skv_endpoint_stats::credit_stalls",
    ][::core::mem::offset_of!(skv_endpoint_stats, credit_stalls) - 176usize];
    [
        "Offset of field: skv_endpoint_stats::events_lost",
    ][::core::mem::offset_of!(skv_endpoint_stats, events_lost) - 184usize];
    [
        "Offset of field: skv_endpoint_stats::time_log2",
    ][::core::mem::offset_of!(skv_endpoint_stats, time_log2) - 192usize];
    [
        "Offset of field: skv_endpoint_stats::queue_log2",
    ][::core::mem::offset_of!(skv_endpoint_stats, queue_log2) - 448usize];
    [
        "Offset of field: skv_endpoint_stats::bytes_log2",
    ][::core::mem::offset_of!(skv_endpoint_stats, bytes_log2) - 704usize];
};
#[repr(C)]
#[derive(Copy, Clone)]
pub struct skv_event {
    pub time_ns: u64,
    pub kind: i32,
    pub status: i32,
    pub conn: u64,
    pub transfer: u64,
    pub key: u64,
    pub bytes: u64,
    pub duration_ns: u64,
    pub sending: i32,
    pub reserved: i32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of skv_event"][::core::mem::size_of::<skv_event>() - 64usize];
    ["Alignment of skv_event"][::core::mem::align_of::<skv_event>() - 8usize];
    [
        "Offset of field: skv_event::time_ns",
    ][::core::mem::offset_of!(skv_event, time_ns) - 0usize];
    [
        "Offset of field: skv_event::kind",
    ][::core::mem::offset_of!(skv_event, kind) - 8usize];
    [
        "Offset of field: skv_event::status",
    ][::core::mem::offset_of!(skv_event, status) - 12usize];
    [
        "Offset of field: skv_event::conn",
    ][::core::mem::offset_of!(skv_event, conn) - 16usize];
    [
        "Offset of field: skv_event::transfer",
    ][::core::mem::offset_of!(skv_event, transfer) - 24usize];
    [
        "Offset of field: skv_event::key",
    ][::core::mem::offset_of!(skv_event, key) - 32usize];
    [
        "Offset of field: skv_event::bytes",
    ][::core::mem::offset_of!(skv_event, bytes) - 40usize];
    [
        "Offset of field: skv_event::duration_ns",
    ][::core::mem::offset_of!(skv_event, duration_ns) - 48usize];
    [
        "Offset of field: skv_event::sending",
    ][::core::mem::offset_of!(skv_event, sending) - 56usize];
    [
        "Offset of field: skv_event::reserved",
    ][::core::mem::offset_of!(skv_event, reserved) - 60usize];
};
