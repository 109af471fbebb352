// SPDX-License-Identifier: Apache-2.0
// Made from include/spectrumkv.h by generate.sh. Do not edit.

use crate::types::*;

/// Every function of the header, as found in a loaded library.
pub(crate) struct Table {
    skv_abi_version: unsafe extern "C" fn() -> u32,
    skv_accept: unsafe extern "C" fn(*mut skv_endpoint, u64, *mut *mut skv_conn, *mut skv_error) -> skv_status,
    skv_cache_check: unsafe extern "C" fn(*const skv_cache, *mut skv_error) -> skv_status,
    skv_cache_create: unsafe extern "C" fn(i32, *mut *mut skv_cache, *mut skv_error) -> skv_status,
    skv_cache_destroy: unsafe extern "C" fn(*mut skv_cache),
    skv_cache_from_llama: unsafe extern "C" fn(*const ::core::ffi::c_void, usize, *const i32, i32, *mut *mut skv_cache, *mut skv_error) -> skv_status,
    skv_cache_raw_bytes: unsafe extern "C" fn(*const skv_cache, *mut u64, *mut skv_error) -> skv_status,
    skv_cache_set: unsafe extern "C" fn(*mut skv_cache, i32, i64, *mut skv_error) -> skv_status,
    skv_cache_set_blocks: unsafe extern "C" fn(*mut skv_cache, i32, *const i32, usize, i32, *mut skv_error) -> skv_status,
    skv_cache_set_first_head: unsafe extern "C" fn(*mut skv_cache, i32, i32, *mut skv_error) -> skv_status,
    skv_cache_set_group: unsafe extern "C" fn(*mut skv_cache, i32, i32, *mut skv_error) -> skv_status,
    skv_cache_set_identity: unsafe extern "C" fn(*mut skv_cache, *const u8, *const u8, *mut skv_error) -> skv_status,
    skv_cache_set_layer: unsafe extern "C" fn(*mut skv_cache, i32, i32, i32, i32, i32, *mut skv_error) -> skv_status,
    skv_cache_set_plane: unsafe extern "C" fn(*mut skv_cache, i32, i32, *mut ::core::ffi::c_void, usize, i64, i64, i64, i64, *mut skv_error) -> skv_status,
    skv_cache_set_tokens: unsafe extern "C" fn(*mut skv_cache, i32, i64, i64, *mut skv_error) -> skv_status,
    skv_cache_to_llama: unsafe extern "C" fn(*const skv_payload, i32, i32, *const u8, *mut ::core::ffi::c_void, usize, *mut *mut skv_cache, *mut skv_error) -> skv_status,
    skv_conn_destroy: unsafe extern "C" fn(*mut skv_conn),
    skv_conn_get: unsafe extern "C" fn(*const skv_conn, i32, *mut i64, *mut skv_error) -> skv_status,
    skv_conn_set_communicator: unsafe extern "C" fn(*mut skv_conn, *mut ::core::ffi::c_void, i32, *mut skv_error) -> skv_status,
    skv_connect: unsafe extern "C" fn(*mut skv_endpoint, *const ::core::ffi::c_char, u64, *mut *mut skv_conn, *mut skv_error) -> skv_status,
    skv_deadline_ms: unsafe extern "C" fn(u64) -> u64,
    skv_decode: unsafe extern "C" fn(*mut skv_engine, *mut skv_payload, *const skv_cache, *mut ::core::ffi::c_void, *mut skv_error) -> skv_status,
    skv_decode_layer: unsafe extern "C" fn(*mut skv_engine, *mut skv_payload, *const skv_cache, i32, *mut ::core::ffi::c_void, *mut skv_error) -> skv_status,
    skv_encode: unsafe extern "C" fn(*mut skv_engine, *const skv_cache, *const skv_plan, *mut ::core::ffi::c_void, *mut *mut skv_payload, *mut skv_error) -> skv_status,
    skv_encode_into: unsafe extern "C" fn(*mut skv_engine, *const skv_cache, *const skv_plan, *mut ::core::ffi::c_void, *mut ::core::ffi::c_void, usize, *mut *mut skv_payload, *mut skv_error) -> skv_status,
    skv_encode_layer: unsafe extern "C" fn(*mut skv_engine, *const skv_cache, *const skv_plan, i32, *mut ::core::ffi::c_void, *mut skv_payload, *mut skv_error) -> skv_status,
    skv_encode_upgrade: unsafe extern "C" fn(*mut skv_engine, *const skv_cache, *mut skv_payload, *const skv_plan, *mut *mut skv_payload, *mut skv_error) -> skv_status,
    skv_endpoint_create: unsafe extern "C" fn(*mut *mut skv_endpoint, *mut skv_error) -> skv_status,
    skv_endpoint_destroy: unsafe extern "C" fn(*mut skv_endpoint),
    skv_endpoint_drain: unsafe extern "C" fn(*mut skv_endpoint, u64, *mut skv_error) -> skv_status,
    skv_endpoint_events: unsafe extern "C" fn(*mut skv_endpoint, *mut skv_event, usize, *mut usize, *mut skv_error) -> skv_status,
    skv_endpoint_fd: unsafe extern "C" fn(*mut skv_endpoint, *mut i32, *mut skv_error) -> skv_status,
    skv_endpoint_get_stats: unsafe extern "C" fn(*mut skv_endpoint, *mut skv_endpoint_stats, *mut skv_error) -> skv_status,
    skv_endpoint_poll: unsafe extern "C" fn(*mut skv_endpoint, *mut *mut skv_request, usize, *mut usize, *mut skv_error) -> skv_status,
    skv_endpoint_progress: unsafe extern "C" fn(*mut skv_endpoint, u64, *mut skv_error) -> skv_status,
    skv_endpoint_set: unsafe extern "C" fn(*mut skv_endpoint, i32, i64, *mut skv_error) -> skv_status,
    skv_endpoint_set_library: unsafe extern "C" fn(*mut skv_endpoint, i32, *const ::core::ffi::c_char, *mut skv_error) -> skv_status,
    skv_endpoint_set_model: unsafe extern "C" fn(*mut skv_endpoint, *const u8, *mut skv_error) -> skv_status,
    skv_endpoint_set_psk: unsafe extern "C" fn(*mut skv_endpoint, i32, *const u8, usize, *mut skv_error) -> skv_status,
    skv_endpoint_set_tls: unsafe extern "C" fn(*mut skv_endpoint, *const ::core::ffi::c_char, *const ::core::ffi::c_char, *const ::core::ffi::c_char, *const ::core::ffi::c_char, *mut skv_error) -> skv_status,
    skv_engine_create: unsafe extern "C" fn(i32, *mut *mut skv_engine, *mut skv_error) -> skv_status,
    skv_engine_describe: unsafe extern "C" fn(*const skv_engine, *mut ::core::ffi::c_char, usize, *mut skv_error) -> skv_status,
    skv_engine_destroy: unsafe extern "C" fn(*mut skv_engine),
    skv_engine_get: unsafe extern "C" fn(*const skv_engine, i32, *mut i64, *mut skv_error) -> skv_status,
    skv_engine_set: unsafe extern "C" fn(*mut skv_engine, i32, i64, *mut skv_error) -> skv_status,
    skv_engine_set_executor: unsafe extern "C" fn(*mut skv_engine, skv_executor, *mut ::core::ffi::c_void, i32, *mut skv_error) -> skv_status,
    skv_listen: unsafe extern "C" fn(*mut skv_endpoint, *const ::core::ffi::c_char, *mut ::core::ffi::c_char, usize, *mut skv_error) -> skv_status,
    skv_llama_blob_bytes: unsafe extern "C" fn(*const skv_payload, i32, i32, *mut u64, *mut skv_error) -> skv_status,
    skv_needle_probe_answer: unsafe extern "C" fn(*mut skv_needle_probe, i32, *const ::core::ffi::c_char, usize, *mut i32, *mut skv_error) -> skv_status,
    skv_needle_probe_create: unsafe extern "C" fn(u32, *mut *mut skv_needle_probe, *mut skv_error) -> skv_status,
    skv_needle_probe_destroy: unsafe extern "C" fn(*mut skv_needle_probe),
    skv_needle_probe_prompt: unsafe extern "C" fn(*const skv_needle_probe, i32, *mut *const ::core::ffi::c_char, *mut skv_error) -> skv_status,
    skv_needle_probe_verdict: unsafe extern "C" fn(*const skv_needle_probe, *mut skv_profile, *mut skv_error) -> skv_status,
    skv_now_ns: unsafe extern "C" fn() -> u64,
    skv_offer_accept: unsafe extern "C" fn(*mut skv_request, *mut ::core::ffi::c_void, usize, u64, *mut skv_error) -> skv_status,
    skv_offer_reject: unsafe extern "C" fn(*mut skv_request, *const ::core::ffi::c_char, *mut skv_error) -> skv_status,
    skv_payload_apply: unsafe extern "C" fn(*mut skv_payload, *mut skv_payload, *mut *mut skv_payload, *mut skv_error) -> skv_status,
    skv_payload_copy: unsafe extern "C" fn(*const skv_payload, *mut ::core::ffi::c_void, usize, *mut skv_error) -> skv_status,
    skv_payload_create: unsafe extern "C" fn(*const skv_cache, *const skv_plan, *mut ::core::ffi::c_void, usize, *mut *mut skv_payload, *mut skv_error) -> skv_status,
    skv_payload_data: unsafe extern "C" fn(*const skv_payload, *mut *const ::core::ffi::c_void, *mut usize, *mut skv_error) -> skv_status,
    skv_payload_destroy: unsafe extern "C" fn(*mut skv_payload),
    skv_payload_get: unsafe extern "C" fn(*const skv_payload, i32, i32, *mut i64, *mut skv_error) -> skv_status,
    skv_payload_get_tiers: unsafe extern "C" fn(*const skv_payload, i32, i32, *mut u8, usize, *mut skv_error) -> skv_status,
    skv_payload_identity: unsafe extern "C" fn(*const skv_payload, *mut u8, *mut u8, *mut skv_error) -> skv_status,
    skv_payload_open: unsafe extern "C" fn(*const ::core::ffi::c_void, usize, *mut *mut skv_payload, *mut skv_error) -> skv_status,
    skv_payload_open_on: unsafe extern "C" fn(*mut skv_engine, *const ::core::ffi::c_void, usize, *mut *mut skv_payload, *mut skv_error) -> skv_status,
    skv_payload_pack: unsafe extern "C" fn(*mut skv_engine, *mut skv_payload, *mut *mut skv_payload, *mut skv_error) -> skv_status,
    skv_payload_receipt: unsafe extern "C" fn(*const skv_payload, *mut skv_receipt, *mut skv_error) -> skv_status,
    skv_payload_truncate: unsafe extern "C" fn(*mut skv_payload, *const skv_plan, *mut *mut skv_payload, *mut skv_error) -> skv_status,
    skv_payload_verify: unsafe extern "C" fn(*mut skv_payload, *mut skv_error) -> skv_status,
    skv_plan_bytes: unsafe extern "C" fn(*const skv_plan, *mut u64, *mut skv_error) -> skv_status,
    skv_plan_cost: unsafe extern "C" fn(*const skv_plan, i32, i32, *mut f64, *mut skv_error) -> skv_status,
    skv_plan_create: unsafe extern "C" fn(*mut skv_engine, *mut *mut skv_plan, *mut skv_error) -> skv_status,
    skv_plan_destroy: unsafe extern "C" fn(*mut skv_plan),
    skv_plan_get_tiers: unsafe extern "C" fn(*const skv_plan, i32, i32, *mut u8, usize, *mut skv_error) -> skv_status,
    skv_plan_set: unsafe extern "C" fn(*mut skv_plan, i32, i64, *mut skv_error) -> skv_status,
    skv_plan_set_budget: unsafe extern "C" fn(*mut skv_plan, f64, *mut skv_error) -> skv_status,
    skv_plan_set_budget_bytes: unsafe extern "C" fn(*mut skv_plan, u64, *mut skv_error) -> skv_status,
    skv_plan_set_profile: unsafe extern "C" fn(*mut skv_plan, *const skv_profile, *mut skv_error) -> skv_status,
    skv_plan_set_strategy: unsafe extern "C" fn(*mut skv_plan, *const ::core::ffi::c_char, *mut skv_error) -> skv_status,
    skv_plan_set_tiers: unsafe extern "C" fn(*mut skv_plan, i32, i32, *const u8, usize, *mut skv_error) -> skv_status,
    skv_plan_solve: unsafe extern "C" fn(*mut skv_plan, *const skv_cache, *const skv_scores, *mut skv_error) -> skv_status,
    skv_plan_truncate: unsafe extern "C" fn(*mut skv_plan, *mut skv_payload, *const skv_scores, *mut skv_error) -> skv_status,
    skv_plan_upgrade: unsafe extern "C" fn(*mut skv_plan, *mut skv_payload, *const skv_cache, *const skv_scores, *mut skv_error) -> skv_status,
    skv_profile_calibrate: unsafe extern "C" fn(*mut skv_profile, i32, i32, i32, f64, f64, *mut skv_error) -> skv_status,
    skv_profile_create: unsafe extern "C" fn(*const u8, i32, i32, *mut *mut skv_profile, *mut skv_error) -> skv_status,
    skv_profile_destroy: unsafe extern "C" fn(*mut skv_profile),
    skv_profile_get_verdict: unsafe extern "C" fn(*const skv_profile, i32, *mut i32, *mut i32, *mut i32, *mut skv_error) -> skv_status,
    skv_profile_open: unsafe extern "C" fn(*const ::core::ffi::c_char, usize, *mut *mut skv_profile, *mut skv_error) -> skv_status,
    skv_profile_save: unsafe extern "C" fn(*const skv_profile, *mut ::core::ffi::c_char, usize, *mut usize, *mut skv_error) -> skv_status,
    skv_profile_set_verdict: unsafe extern "C" fn(*mut skv_profile, i32, i32, i32, i32, *mut skv_error) -> skv_status,
    skv_recv_offer: unsafe extern "C" fn(*mut skv_conn, u64, *mut *mut skv_request, *mut skv_error) -> skv_status,
    skv_request_cancel: unsafe extern "C" fn(*mut skv_request, *mut skv_error) -> skv_status,
    skv_request_destroy: unsafe extern "C" fn(*mut skv_request, *mut skv_error) -> skv_status,
    skv_request_get: unsafe extern "C" fn(*const skv_request, i32, *mut i64, *mut skv_error) -> skv_status,
    skv_request_identity: unsafe extern "C" fn(*const skv_request, *mut u8, *mut u8, *mut skv_error) -> skv_status,
    skv_request_payload: unsafe extern "C" fn(*mut skv_request, *mut *mut skv_payload, *mut skv_error) -> skv_status,
    skv_request_set: unsafe extern "C" fn(*mut skv_request, i32, i64, *mut skv_error) -> skv_status,
    skv_request_stream_wait: unsafe extern "C" fn(*mut skv_request, i32, *mut ::core::ffi::c_void, *mut skv_error) -> skv_status,
    skv_request_test: unsafe extern "C" fn(*mut skv_request, *mut skv_error) -> skv_status,
    skv_request_wait: unsafe extern "C" fn(*mut skv_request, u64, *mut skv_error) -> skv_status,
    skv_request_wait_layer: unsafe extern "C" fn(*mut skv_request, i32, u64, *mut skv_error) -> skv_status,
    skv_score: unsafe extern "C" fn(*mut skv_engine, *const skv_cache, *mut skv_scores, *mut skv_error) -> skv_status,
    skv_scores_create: unsafe extern "C" fn(*mut *mut skv_scores, *mut skv_error) -> skv_status,
    skv_scores_destroy: unsafe extern "C" fn(*mut skv_scores),
    skv_scores_get: unsafe extern "C" fn(*const skv_scores, i32, i32, *mut f32, usize, *mut skv_error) -> skv_status,
    skv_scores_set_queries: unsafe extern "C" fn(*mut skv_scores, i32, *const ::core::ffi::c_void, usize, i32, i32, i32, i64, i64, i64, f32, i32, *mut skv_error) -> skv_status,
    skv_scores_set_weights: unsafe extern "C" fn(*mut skv_scores, i32, i32, *const f32, usize, *mut skv_error) -> skv_status,
    skv_send: unsafe extern "C" fn(*mut skv_conn, u64, *const skv_payload, u64, *mut *mut skv_request, *mut skv_error) -> skv_status,
    skv_send_layers: unsafe extern "C" fn(*mut skv_conn, u64, *mut skv_payload, u64, *mut *mut skv_request, *mut skv_error) -> skv_status,
    skv_status_name: unsafe extern "C" fn(skv_status) -> *const ::core::ffi::c_char,
    skv_version: unsafe extern "C" fn() -> u32,
    skv_version_string: unsafe extern "C" fn() -> *const ::core::ffi::c_char,
    skv_wire_version: unsafe extern "C" fn() -> u32,
}

impl Table {
    /// # Safety
    /// `library` must be libspectrumkv of this ABI version.
    pub(crate) unsafe fn find(library: &libloading::Library) -> Result<Self, libloading::Error> {
        // SAFETY: the caller vouches for the library, and these are its prototypes.
        unsafe {
            Ok(Self {
                skv_abi_version: *library.get(c"skv_abi_version")?,
                skv_accept: *library.get(c"skv_accept")?,
                skv_cache_check: *library.get(c"skv_cache_check")?,
                skv_cache_create: *library.get(c"skv_cache_create")?,
                skv_cache_destroy: *library.get(c"skv_cache_destroy")?,
                skv_cache_from_llama: *library.get(c"skv_cache_from_llama")?,
                skv_cache_raw_bytes: *library.get(c"skv_cache_raw_bytes")?,
                skv_cache_set: *library.get(c"skv_cache_set")?,
                skv_cache_set_blocks: *library.get(c"skv_cache_set_blocks")?,
                skv_cache_set_first_head: *library.get(c"skv_cache_set_first_head")?,
                skv_cache_set_group: *library.get(c"skv_cache_set_group")?,
                skv_cache_set_identity: *library.get(c"skv_cache_set_identity")?,
                skv_cache_set_layer: *library.get(c"skv_cache_set_layer")?,
                skv_cache_set_plane: *library.get(c"skv_cache_set_plane")?,
                skv_cache_set_tokens: *library.get(c"skv_cache_set_tokens")?,
                skv_cache_to_llama: *library.get(c"skv_cache_to_llama")?,
                skv_conn_destroy: *library.get(c"skv_conn_destroy")?,
                skv_conn_get: *library.get(c"skv_conn_get")?,
                skv_conn_set_communicator: *library.get(c"skv_conn_set_communicator")?,
                skv_connect: *library.get(c"skv_connect")?,
                skv_deadline_ms: *library.get(c"skv_deadline_ms")?,
                skv_decode: *library.get(c"skv_decode")?,
                skv_decode_layer: *library.get(c"skv_decode_layer")?,
                skv_encode: *library.get(c"skv_encode")?,
                skv_encode_into: *library.get(c"skv_encode_into")?,
                skv_encode_layer: *library.get(c"skv_encode_layer")?,
                skv_encode_upgrade: *library.get(c"skv_encode_upgrade")?,
                skv_endpoint_create: *library.get(c"skv_endpoint_create")?,
                skv_endpoint_destroy: *library.get(c"skv_endpoint_destroy")?,
                skv_endpoint_drain: *library.get(c"skv_endpoint_drain")?,
                skv_endpoint_events: *library.get(c"skv_endpoint_events")?,
                skv_endpoint_fd: *library.get(c"skv_endpoint_fd")?,
                skv_endpoint_get_stats: *library.get(c"skv_endpoint_get_stats")?,
                skv_endpoint_poll: *library.get(c"skv_endpoint_poll")?,
                skv_endpoint_progress: *library.get(c"skv_endpoint_progress")?,
                skv_endpoint_set: *library.get(c"skv_endpoint_set")?,
                skv_endpoint_set_library: *library.get(c"skv_endpoint_set_library")?,
                skv_endpoint_set_model: *library.get(c"skv_endpoint_set_model")?,
                skv_endpoint_set_psk: *library.get(c"skv_endpoint_set_psk")?,
                skv_endpoint_set_tls: *library.get(c"skv_endpoint_set_tls")?,
                skv_engine_create: *library.get(c"skv_engine_create")?,
                skv_engine_describe: *library.get(c"skv_engine_describe")?,
                skv_engine_destroy: *library.get(c"skv_engine_destroy")?,
                skv_engine_get: *library.get(c"skv_engine_get")?,
                skv_engine_set: *library.get(c"skv_engine_set")?,
                skv_engine_set_executor: *library.get(c"skv_engine_set_executor")?,
                skv_listen: *library.get(c"skv_listen")?,
                skv_llama_blob_bytes: *library.get(c"skv_llama_blob_bytes")?,
                skv_needle_probe_answer: *library.get(c"skv_needle_probe_answer")?,
                skv_needle_probe_create: *library.get(c"skv_needle_probe_create")?,
                skv_needle_probe_destroy: *library.get(c"skv_needle_probe_destroy")?,
                skv_needle_probe_prompt: *library.get(c"skv_needle_probe_prompt")?,
                skv_needle_probe_verdict: *library.get(c"skv_needle_probe_verdict")?,
                skv_now_ns: *library.get(c"skv_now_ns")?,
                skv_offer_accept: *library.get(c"skv_offer_accept")?,
                skv_offer_reject: *library.get(c"skv_offer_reject")?,
                skv_payload_apply: *library.get(c"skv_payload_apply")?,
                skv_payload_copy: *library.get(c"skv_payload_copy")?,
                skv_payload_create: *library.get(c"skv_payload_create")?,
                skv_payload_data: *library.get(c"skv_payload_data")?,
                skv_payload_destroy: *library.get(c"skv_payload_destroy")?,
                skv_payload_get: *library.get(c"skv_payload_get")?,
                skv_payload_get_tiers: *library.get(c"skv_payload_get_tiers")?,
                skv_payload_identity: *library.get(c"skv_payload_identity")?,
                skv_payload_open: *library.get(c"skv_payload_open")?,
                skv_payload_open_on: *library.get(c"skv_payload_open_on")?,
                skv_payload_pack: *library.get(c"skv_payload_pack")?,
                skv_payload_receipt: *library.get(c"skv_payload_receipt")?,
                skv_payload_truncate: *library.get(c"skv_payload_truncate")?,
                skv_payload_verify: *library.get(c"skv_payload_verify")?,
                skv_plan_bytes: *library.get(c"skv_plan_bytes")?,
                skv_plan_cost: *library.get(c"skv_plan_cost")?,
                skv_plan_create: *library.get(c"skv_plan_create")?,
                skv_plan_destroy: *library.get(c"skv_plan_destroy")?,
                skv_plan_get_tiers: *library.get(c"skv_plan_get_tiers")?,
                skv_plan_set: *library.get(c"skv_plan_set")?,
                skv_plan_set_budget: *library.get(c"skv_plan_set_budget")?,
                skv_plan_set_budget_bytes: *library.get(c"skv_plan_set_budget_bytes")?,
                skv_plan_set_profile: *library.get(c"skv_plan_set_profile")?,
                skv_plan_set_strategy: *library.get(c"skv_plan_set_strategy")?,
                skv_plan_set_tiers: *library.get(c"skv_plan_set_tiers")?,
                skv_plan_solve: *library.get(c"skv_plan_solve")?,
                skv_plan_truncate: *library.get(c"skv_plan_truncate")?,
                skv_plan_upgrade: *library.get(c"skv_plan_upgrade")?,
                skv_profile_calibrate: *library.get(c"skv_profile_calibrate")?,
                skv_profile_create: *library.get(c"skv_profile_create")?,
                skv_profile_destroy: *library.get(c"skv_profile_destroy")?,
                skv_profile_get_verdict: *library.get(c"skv_profile_get_verdict")?,
                skv_profile_open: *library.get(c"skv_profile_open")?,
                skv_profile_save: *library.get(c"skv_profile_save")?,
                skv_profile_set_verdict: *library.get(c"skv_profile_set_verdict")?,
                skv_recv_offer: *library.get(c"skv_recv_offer")?,
                skv_request_cancel: *library.get(c"skv_request_cancel")?,
                skv_request_destroy: *library.get(c"skv_request_destroy")?,
                skv_request_get: *library.get(c"skv_request_get")?,
                skv_request_identity: *library.get(c"skv_request_identity")?,
                skv_request_payload: *library.get(c"skv_request_payload")?,
                skv_request_set: *library.get(c"skv_request_set")?,
                skv_request_stream_wait: *library.get(c"skv_request_stream_wait")?,
                skv_request_test: *library.get(c"skv_request_test")?,
                skv_request_wait: *library.get(c"skv_request_wait")?,
                skv_request_wait_layer: *library.get(c"skv_request_wait_layer")?,
                skv_score: *library.get(c"skv_score")?,
                skv_scores_create: *library.get(c"skv_scores_create")?,
                skv_scores_destroy: *library.get(c"skv_scores_destroy")?,
                skv_scores_get: *library.get(c"skv_scores_get")?,
                skv_scores_set_queries: *library.get(c"skv_scores_set_queries")?,
                skv_scores_set_weights: *library.get(c"skv_scores_set_weights")?,
                skv_send: *library.get(c"skv_send")?,
                skv_send_layers: *library.get(c"skv_send_layers")?,
                skv_status_name: *library.get(c"skv_status_name")?,
                skv_version: *library.get(c"skv_version")?,
                skv_version_string: *library.get(c"skv_version_string")?,
                skv_wire_version: *library.get(c"skv_wire_version")?,
            })
        }
    }
}

pub unsafe fn skv_abi_version() -> u32 {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_abi_version)() }
}

pub unsafe fn skv_accept(endpoint: *mut skv_endpoint, deadline: u64, out: *mut *mut skv_conn, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_accept)(endpoint, deadline, out, err) }
}

pub unsafe fn skv_cache_check(cache: *const skv_cache, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_cache_check)(cache, err) }
}

pub unsafe fn skv_cache_create(layers: i32, out: *mut *mut skv_cache, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_cache_create)(layers, out, err) }
}

pub unsafe fn skv_cache_destroy(cache: *mut skv_cache) {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_cache_destroy)(cache) }
}

pub unsafe fn skv_cache_from_llama(blob: *const ::core::ffi::c_void, bytes: usize, heads: *const i32, layers: i32, out: *mut *mut skv_cache, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_cache_from_llama)(blob, bytes, heads, layers, out, err) }
}

pub unsafe fn skv_cache_raw_bytes(cache: *const skv_cache, out: *mut u64, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_cache_raw_bytes)(cache, out, err) }
}

pub unsafe fn skv_cache_set(cache: *mut skv_cache, key: i32, value: i64, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_cache_set)(cache, key, value, err) }
}

pub unsafe fn skv_cache_set_blocks(cache: *mut skv_cache, layer: i32, block_ids: *const i32, count: usize, block_tokens: i32, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_cache_set_blocks)(cache, layer, block_ids, count, block_tokens, err) }
}

pub unsafe fn skv_cache_set_first_head(cache: *mut skv_cache, layer: i32, first_head: i32, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_cache_set_first_head)(cache, layer, first_head, err) }
}

pub unsafe fn skv_cache_set_group(cache: *mut skv_cache, layer: i32, group: i32, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_cache_set_group)(cache, layer, group, err) }
}

pub unsafe fn skv_cache_set_identity(cache: *mut skv_cache, fingerprint: *const u8, request_id: *const u8, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_cache_set_identity)(cache, fingerprint, request_id, err) }
}

pub unsafe fn skv_cache_set_layer(cache: *mut skv_cache, layer: i32, kv_heads: i32, k_dim: i32, v_dim: i32, dtype: i32, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_cache_set_layer)(cache, layer, kv_heads, k_dim, v_dim, dtype, err) }
}

pub unsafe fn skv_cache_set_plane(cache: *mut skv_cache, layer: i32, half: i32, base: *mut ::core::ffi::c_void, bytes: usize, stride_block: i64, stride_token: i64, stride_head: i64, stride_elem: i64, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_cache_set_plane)(cache, layer, half, base, bytes, stride_block, stride_token, stride_head, stride_elem, err) }
}

pub unsafe fn skv_cache_set_tokens(cache: *mut skv_cache, layer: i32, first_position: i64, tokens: i64, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_cache_set_tokens)(cache, layer, first_position, tokens, err) }
}

pub unsafe fn skv_cache_to_llama(payload: *const skv_payload, v_trans: i32, dtype: i32, fingerprint: *const u8, blob: *mut ::core::ffi::c_void, bytes: usize, out: *mut *mut skv_cache, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_cache_to_llama)(payload, v_trans, dtype, fingerprint, blob, bytes, out, err) }
}

pub unsafe fn skv_conn_destroy(conn: *mut skv_conn) {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_conn_destroy)(conn) }
}

pub unsafe fn skv_conn_get(conn: *const skv_conn, key: i32, out: *mut i64, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_conn_get)(conn, key, out, err) }
}

pub unsafe fn skv_conn_set_communicator(conn: *mut skv_conn, communicator: *mut ::core::ffi::c_void, sending: i32, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_conn_set_communicator)(conn, communicator, sending, err) }
}

pub unsafe fn skv_connect(endpoint: *mut skv_endpoint, uri: *const ::core::ffi::c_char, deadline: u64, out: *mut *mut skv_conn, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_connect)(endpoint, uri, deadline, out, err) }
}

pub unsafe fn skv_deadline_ms(milliseconds: u64) -> u64 {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_deadline_ms)(milliseconds) }
}

pub unsafe fn skv_decode(engine: *mut skv_engine, payload: *mut skv_payload, cache: *const skv_cache, stream: *mut ::core::ffi::c_void, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_decode)(engine, payload, cache, stream, err) }
}

pub unsafe fn skv_decode_layer(engine: *mut skv_engine, payload: *mut skv_payload, cache: *const skv_cache, layer: i32, stream: *mut ::core::ffi::c_void, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_decode_layer)(engine, payload, cache, layer, stream, err) }
}

pub unsafe fn skv_encode(engine: *mut skv_engine, cache: *const skv_cache, plan: *const skv_plan, stream: *mut ::core::ffi::c_void, out: *mut *mut skv_payload, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_encode)(engine, cache, plan, stream, out, err) }
}

pub unsafe fn skv_encode_into(engine: *mut skv_engine, cache: *const skv_cache, plan: *const skv_plan, stream: *mut ::core::ffi::c_void, buffer: *mut ::core::ffi::c_void, bytes: usize, out: *mut *mut skv_payload, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_encode_into)(engine, cache, plan, stream, buffer, bytes, out, err) }
}

pub unsafe fn skv_encode_layer(engine: *mut skv_engine, cache: *const skv_cache, plan: *const skv_plan, layer: i32, stream: *mut ::core::ffi::c_void, payload: *mut skv_payload, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_encode_layer)(engine, cache, plan, layer, stream, payload, err) }
}

pub unsafe fn skv_encode_upgrade(engine: *mut skv_engine, cache: *const skv_cache, base: *mut skv_payload, plan: *const skv_plan, out: *mut *mut skv_payload, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_encode_upgrade)(engine, cache, base, plan, out, err) }
}

pub unsafe fn skv_endpoint_create(out: *mut *mut skv_endpoint, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_endpoint_create)(out, err) }
}

pub unsafe fn skv_endpoint_destroy(endpoint: *mut skv_endpoint) {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_endpoint_destroy)(endpoint) }
}

pub unsafe fn skv_endpoint_drain(endpoint: *mut skv_endpoint, deadline: u64, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_endpoint_drain)(endpoint, deadline, err) }
}

pub unsafe fn skv_endpoint_events(endpoint: *mut skv_endpoint, out: *mut skv_event, capacity: usize, count: *mut usize, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_endpoint_events)(endpoint, out, capacity, count, err) }
}

pub unsafe fn skv_endpoint_fd(endpoint: *mut skv_endpoint, out: *mut i32, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_endpoint_fd)(endpoint, out, err) }
}

pub unsafe fn skv_endpoint_get_stats(endpoint: *mut skv_endpoint, out: *mut skv_endpoint_stats, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_endpoint_get_stats)(endpoint, out, err) }
}

pub unsafe fn skv_endpoint_poll(endpoint: *mut skv_endpoint, out: *mut *mut skv_request, capacity: usize, count: *mut usize, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_endpoint_poll)(endpoint, out, capacity, count, err) }
}

pub unsafe fn skv_endpoint_progress(endpoint: *mut skv_endpoint, deadline: u64, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_endpoint_progress)(endpoint, deadline, err) }
}

pub unsafe fn skv_endpoint_set(endpoint: *mut skv_endpoint, key: i32, value: i64, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_endpoint_set)(endpoint, key, value, err) }
}

pub unsafe fn skv_endpoint_set_library(endpoint: *mut skv_endpoint, plane: i32, path: *const ::core::ffi::c_char, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_endpoint_set_library)(endpoint, plane, path, err) }
}

pub unsafe fn skv_endpoint_set_model(endpoint: *mut skv_endpoint, fingerprint: *const u8, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_endpoint_set_model)(endpoint, fingerprint, err) }
}

pub unsafe fn skv_endpoint_set_psk(endpoint: *mut skv_endpoint, security: i32, key: *const u8, bytes: usize, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_endpoint_set_psk)(endpoint, security, key, bytes, err) }
}

pub unsafe fn skv_endpoint_set_tls(endpoint: *mut skv_endpoint, certificate: *const ::core::ffi::c_char, key: *const ::core::ffi::c_char, authority: *const ::core::ffi::c_char, peer_name: *const ::core::ffi::c_char, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_endpoint_set_tls)(endpoint, certificate, key, authority, peer_name, err) }
}

pub unsafe fn skv_engine_create(device: i32, out: *mut *mut skv_engine, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_engine_create)(device, out, err) }
}

pub unsafe fn skv_engine_describe(engine: *const skv_engine, buffer: *mut ::core::ffi::c_char, capacity: usize, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_engine_describe)(engine, buffer, capacity, err) }
}

pub unsafe fn skv_engine_destroy(engine: *mut skv_engine) {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_engine_destroy)(engine) }
}

pub unsafe fn skv_engine_get(engine: *const skv_engine, key: i32, out: *mut i64, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_engine_get)(engine, key, out, err) }
}

pub unsafe fn skv_engine_set(engine: *mut skv_engine, key: i32, value: i64, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_engine_set)(engine, key, value, err) }
}

pub unsafe fn skv_engine_set_executor(engine: *mut skv_engine, run: skv_executor, user: *mut ::core::ffi::c_void, width: i32, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_engine_set_executor)(engine, run, user, width, err) }
}

pub unsafe fn skv_listen(endpoint: *mut skv_endpoint, uri: *const ::core::ffi::c_char, bound: *mut ::core::ffi::c_char, capacity: usize, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_listen)(endpoint, uri, bound, capacity, err) }
}

pub unsafe fn skv_llama_blob_bytes(payload: *const skv_payload, v_trans: i32, dtype: i32, out: *mut u64, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_llama_blob_bytes)(payload, v_trans, dtype, out, err) }
}

pub unsafe fn skv_needle_probe_answer(probe: *mut skv_needle_probe, trial: i32, text: *const ::core::ffi::c_char, bytes: usize, found: *mut i32, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_needle_probe_answer)(probe, trial, text, bytes, found, err) }
}

pub unsafe fn skv_needle_probe_create(words: u32, out: *mut *mut skv_needle_probe, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_needle_probe_create)(words, out, err) }
}

pub unsafe fn skv_needle_probe_destroy(probe: *mut skv_needle_probe) {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_needle_probe_destroy)(probe) }
}

pub unsafe fn skv_needle_probe_prompt(probe: *const skv_needle_probe, trial: i32, out: *mut *const ::core::ffi::c_char, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_needle_probe_prompt)(probe, trial, out, err) }
}

pub unsafe fn skv_needle_probe_verdict(probe: *const skv_needle_probe, profile: *mut skv_profile, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_needle_probe_verdict)(probe, profile, err) }
}

pub unsafe fn skv_now_ns() -> u64 {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_now_ns)() }
}

pub unsafe fn skv_offer_accept(request: *mut skv_request, buffer: *mut ::core::ffi::c_void, bytes: usize, deadline: u64, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_offer_accept)(request, buffer, bytes, deadline, err) }
}

pub unsafe fn skv_offer_reject(request: *mut skv_request, reason: *const ::core::ffi::c_char, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_offer_reject)(request, reason, err) }
}

pub unsafe fn skv_payload_apply(base: *mut skv_payload, upgrade: *mut skv_payload, out: *mut *mut skv_payload, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_payload_apply)(base, upgrade, out, err) }
}

pub unsafe fn skv_payload_copy(payload: *const skv_payload, buffer: *mut ::core::ffi::c_void, bytes: usize, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_payload_copy)(payload, buffer, bytes, err) }
}

pub unsafe fn skv_payload_create(cache: *const skv_cache, plan: *const skv_plan, buffer: *mut ::core::ffi::c_void, bytes: usize, out: *mut *mut skv_payload, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_payload_create)(cache, plan, buffer, bytes, out, err) }
}

pub unsafe fn skv_payload_data(payload: *const skv_payload, data: *mut *const ::core::ffi::c_void, size: *mut usize, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_payload_data)(payload, data, size, err) }
}

pub unsafe fn skv_payload_destroy(payload: *mut skv_payload) {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_payload_destroy)(payload) }
}

pub unsafe fn skv_payload_get(payload: *const skv_payload, layer: i32, key: i32, out: *mut i64, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_payload_get)(payload, layer, key, out, err) }
}

pub unsafe fn skv_payload_get_tiers(payload: *const skv_payload, layer: i32, half: i32, out: *mut u8, tokens: usize, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_payload_get_tiers)(payload, layer, half, out, tokens, err) }
}

pub unsafe fn skv_payload_identity(payload: *const skv_payload, fingerprint: *mut u8, request_id: *mut u8, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_payload_identity)(payload, fingerprint, request_id, err) }
}

pub unsafe fn skv_payload_open(bytes: *const ::core::ffi::c_void, size: usize, out: *mut *mut skv_payload, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_payload_open)(bytes, size, out, err) }
}

pub unsafe fn skv_payload_open_on(engine: *mut skv_engine, bytes: *const ::core::ffi::c_void, size: usize, out: *mut *mut skv_payload, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_payload_open_on)(engine, bytes, size, out, err) }
}

pub unsafe fn skv_payload_pack(engine: *mut skv_engine, payload: *mut skv_payload, out: *mut *mut skv_payload, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_payload_pack)(engine, payload, out, err) }
}

pub unsafe fn skv_payload_receipt(payload: *const skv_payload, out: *mut skv_receipt, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_payload_receipt)(payload, out, err) }
}

pub unsafe fn skv_payload_truncate(payload: *mut skv_payload, plan: *const skv_plan, out: *mut *mut skv_payload, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_payload_truncate)(payload, plan, out, err) }
}

pub unsafe fn skv_payload_verify(payload: *mut skv_payload, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_payload_verify)(payload, err) }
}

pub unsafe fn skv_plan_bytes(plan: *const skv_plan, out: *mut u64, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_plan_bytes)(plan, out, err) }
}

pub unsafe fn skv_plan_cost(plan: *const skv_plan, layer: i32, half: i32, out: *mut f64, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_plan_cost)(plan, layer, half, out, err) }
}

pub unsafe fn skv_plan_create(engine: *mut skv_engine, out: *mut *mut skv_plan, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_plan_create)(engine, out, err) }
}

pub unsafe fn skv_plan_destroy(plan: *mut skv_plan) {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_plan_destroy)(plan) }
}

pub unsafe fn skv_plan_get_tiers(plan: *const skv_plan, layer: i32, half: i32, out: *mut u8, tokens: usize, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_plan_get_tiers)(plan, layer, half, out, tokens, err) }
}

pub unsafe fn skv_plan_set(plan: *mut skv_plan, key: i32, value: i64, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_plan_set)(plan, key, value, err) }
}

pub unsafe fn skv_plan_set_budget(plan: *mut skv_plan, fraction: f64, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_plan_set_budget)(plan, fraction, err) }
}

pub unsafe fn skv_plan_set_budget_bytes(plan: *mut skv_plan, bytes: u64, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_plan_set_budget_bytes)(plan, bytes, err) }
}

pub unsafe fn skv_plan_set_profile(plan: *mut skv_plan, profile: *const skv_profile, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_plan_set_profile)(plan, profile, err) }
}

pub unsafe fn skv_plan_set_strategy(plan: *mut skv_plan, name: *const ::core::ffi::c_char, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_plan_set_strategy)(plan, name, err) }
}

pub unsafe fn skv_plan_set_tiers(plan: *mut skv_plan, layer: i32, half: i32, tiers: *const u8, tokens: usize, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_plan_set_tiers)(plan, layer, half, tiers, tokens, err) }
}

pub unsafe fn skv_plan_solve(plan: *mut skv_plan, cache: *const skv_cache, scores: *const skv_scores, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_plan_solve)(plan, cache, scores, err) }
}

pub unsafe fn skv_plan_truncate(plan: *mut skv_plan, payload: *mut skv_payload, scores: *const skv_scores, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_plan_truncate)(plan, payload, scores, err) }
}

pub unsafe fn skv_plan_upgrade(plan: *mut skv_plan, base: *mut skv_payload, cache: *const skv_cache, scores: *const skv_scores, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_plan_upgrade)(plan, base, cache, scores, err) }
}

pub unsafe fn skv_profile_calibrate(profile: *mut skv_profile, layer: i32, half: i32, scored: i32, cost: f64, kl: f64, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_profile_calibrate)(profile, layer, half, scored, cost, kl, err) }
}

pub unsafe fn skv_profile_create(fingerprint: *const u8, layers: i32, code: i32, out: *mut *mut skv_profile, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_profile_create)(fingerprint, layers, code, out, err) }
}

pub unsafe fn skv_profile_destroy(profile: *mut skv_profile) {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_profile_destroy)(profile) }
}

pub unsafe fn skv_profile_get_verdict(profile: *const skv_profile, probe: i32, verdict: *mut i32, passed: *mut i32, trials: *mut i32, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_profile_get_verdict)(profile, probe, verdict, passed, trials, err) }
}

pub unsafe fn skv_profile_open(text: *const ::core::ffi::c_char, bytes: usize, out: *mut *mut skv_profile, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_profile_open)(text, bytes, out, err) }
}

pub unsafe fn skv_profile_save(profile: *const skv_profile, buffer: *mut ::core::ffi::c_char, capacity: usize, bytes: *mut usize, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_profile_save)(profile, buffer, capacity, bytes, err) }
}

pub unsafe fn skv_profile_set_verdict(profile: *mut skv_profile, probe: i32, verdict: i32, passed: i32, trials: i32, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_profile_set_verdict)(profile, probe, verdict, passed, trials, err) }
}

pub unsafe fn skv_recv_offer(conn: *mut skv_conn, deadline: u64, out: *mut *mut skv_request, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_recv_offer)(conn, deadline, out, err) }
}

pub unsafe fn skv_request_cancel(request: *mut skv_request, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_request_cancel)(request, err) }
}

pub unsafe fn skv_request_destroy(request: *mut skv_request, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_request_destroy)(request, err) }
}

pub unsafe fn skv_request_get(request: *const skv_request, key: i32, out: *mut i64, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_request_get)(request, key, out, err) }
}

pub unsafe fn skv_request_identity(request: *const skv_request, fingerprint: *mut u8, request_id: *mut u8, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_request_identity)(request, fingerprint, request_id, err) }
}

pub unsafe fn skv_request_payload(request: *mut skv_request, out: *mut *mut skv_payload, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_request_payload)(request, out, err) }
}

pub unsafe fn skv_request_set(request: *mut skv_request, key: i32, value: i64, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_request_set)(request, key, value, err) }
}

pub unsafe fn skv_request_stream_wait(request: *mut skv_request, layer: i32, stream: *mut ::core::ffi::c_void, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_request_stream_wait)(request, layer, stream, err) }
}

pub unsafe fn skv_request_test(request: *mut skv_request, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_request_test)(request, err) }
}

pub unsafe fn skv_request_wait(request: *mut skv_request, deadline: u64, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_request_wait)(request, deadline, err) }
}

pub unsafe fn skv_request_wait_layer(request: *mut skv_request, layer: i32, deadline: u64, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_request_wait_layer)(request, layer, deadline, err) }
}

pub unsafe fn skv_score(engine: *mut skv_engine, cache: *const skv_cache, scores: *mut skv_scores, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_score)(engine, cache, scores, err) }
}

pub unsafe fn skv_scores_create(out: *mut *mut skv_scores, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_scores_create)(out, err) }
}

pub unsafe fn skv_scores_destroy(scores: *mut skv_scores) {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_scores_destroy)(scores) }
}

pub unsafe fn skv_scores_get(scores: *const skv_scores, layer: i32, half: i32, out: *mut f32, tokens: usize, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_scores_get)(scores, layer, half, out, tokens, err) }
}

pub unsafe fn skv_scores_set_queries(scores: *mut skv_scores, layer: i32, base: *const ::core::ffi::c_void, bytes: usize, dtype: i32, count: i32, heads: i32, stride_query: i64, stride_head: i64, stride_elem: i64, scale: f32, window: i32, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_scores_set_queries)(scores, layer, base, bytes, dtype, count, heads, stride_query, stride_head, stride_elem, scale, window, err) }
}

pub unsafe fn skv_scores_set_weights(scores: *mut skv_scores, layer: i32, half: i32, weights: *const f32, tokens: usize, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_scores_set_weights)(scores, layer, half, weights, tokens, err) }
}

pub unsafe fn skv_send(conn: *mut skv_conn, key: u64, payload: *const skv_payload, deadline: u64, out: *mut *mut skv_request, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_send)(conn, key, payload, deadline, out, err) }
}

pub unsafe fn skv_send_layers(conn: *mut skv_conn, key: u64, payload: *mut skv_payload, deadline: u64, out: *mut *mut skv_request, err: *mut skv_error) -> skv_status {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_send_layers)(conn, key, payload, deadline, out, err) }
}

pub unsafe fn skv_status_name(status: skv_status) -> *const ::core::ffi::c_char {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_status_name)(status) }
}

pub unsafe fn skv_version() -> u32 {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_version)() }
}

pub unsafe fn skv_version_string() -> *const ::core::ffi::c_char {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_version_string)() }
}

pub unsafe fn skv_wire_version() -> u32 {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { (crate::table().skv_wire_version)() }
}
