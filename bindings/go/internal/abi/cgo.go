// SPDX-License-Identifier: Apache-2.0
// Code generated from include/spectrumkv.h by scripts/generate.sh. DO NOT EDIT.

//go:build cgo && !spectrumkv_purego

package abi

/*
#cgo !spectrumkv_flags pkg-config: spectrumkv
#cgo spectrumkv_flags LDFLAGS: -lspectrumkv
#cgo nocallback skv_version
#cgo nocallback skv_version_string
#cgo nocallback skv_abi_version
#cgo nocallback skv_wire_version
#cgo nocallback skv_status_name
#cgo nocallback skv_engine_create
#cgo nocallback skv_engine_set
#cgo nocallback skv_engine_set_executor
#cgo nocallback skv_engine_get
#cgo nocallback skv_engine_describe
#cgo nocallback skv_engine_destroy
#cgo nocallback skv_cache_create
#cgo nocallback skv_cache_set_tokens
#cgo nocallback skv_cache_set_layer
#cgo nocallback skv_cache_set_first_head
#cgo nocallback skv_cache_set_group
#cgo nocallback skv_cache_set_plane
#cgo nocallback skv_cache_set_blocks
#cgo nocallback skv_cache_set_identity
#cgo nocallback skv_cache_set
#cgo nocallback skv_cache_check
#cgo nocallback skv_cache_raw_bytes
#cgo nocallback skv_cache_destroy
#cgo nocallback skv_cache_from_llama
#cgo nocallback skv_llama_blob_bytes
#cgo nocallback skv_cache_to_llama
#cgo nocallback skv_scores_create
#cgo nocallback skv_scores_set_weights
#cgo nocallback skv_scores_set_queries
#cgo nocallback skv_score
#cgo nocallback skv_scores_get
#cgo nocallback skv_scores_destroy
#cgo nocallback skv_profile_create
#cgo nocallback skv_profile_open
#cgo nocallback skv_profile_save
#cgo nocallback skv_profile_calibrate
#cgo nocallback skv_profile_set_verdict
#cgo nocallback skv_profile_get_verdict
#cgo nocallback skv_profile_destroy
#cgo nocallback skv_needle_probe_create
#cgo nocallback skv_needle_probe_prompt
#cgo nocallback skv_needle_probe_answer
#cgo nocallback skv_needle_probe_verdict
#cgo nocallback skv_needle_probe_destroy
#cgo nocallback skv_plan_create
#cgo nocallback skv_plan_set
#cgo nocallback skv_plan_set_budget
#cgo nocallback skv_plan_set_budget_bytes
#cgo nocallback skv_plan_set_strategy
#cgo nocallback skv_plan_set_profile
#cgo nocallback skv_plan_solve
#cgo nocallback skv_plan_bytes
#cgo nocallback skv_plan_get_tiers
#cgo nocallback skv_plan_cost
#cgo nocallback skv_plan_set_tiers
#cgo nocallback skv_plan_destroy
#cgo nocallback skv_encode
#cgo nocallback skv_encode_into
#cgo nocallback skv_payload_create
#cgo nocallback skv_encode_layer
#cgo nocallback skv_payload_pack
#cgo nocallback skv_payload_open
#cgo nocallback skv_payload_open_on
#cgo nocallback skv_payload_verify
#cgo nocallback skv_payload_data
#cgo nocallback skv_payload_copy
#cgo nocallback skv_payload_identity
#cgo nocallback skv_payload_get
#cgo nocallback skv_payload_get_tiers
#cgo nocallback skv_decode
#cgo nocallback skv_decode_layer
#cgo nocallback skv_payload_destroy
#cgo nocallback skv_plan_upgrade
#cgo nocallback skv_encode_upgrade
#cgo nocallback skv_payload_apply
#cgo nocallback skv_plan_truncate
#cgo nocallback skv_payload_truncate
#cgo nocallback skv_payload_receipt
#cgo nocallback skv_now_ns
#cgo nocallback skv_deadline_ms
#cgo nocallback skv_endpoint_create
#cgo nocallback skv_endpoint_set
#cgo nocallback skv_endpoint_set_model
#cgo nocallback skv_endpoint_set_psk
#cgo nocallback skv_endpoint_set_tls
#cgo nocallback skv_endpoint_set_library
#cgo nocallback skv_listen
#cgo nocallback skv_accept
#cgo nocallback skv_connect
#cgo nocallback skv_endpoint_fd
#cgo nocallback skv_endpoint_progress
#cgo nocallback skv_endpoint_drain
#cgo nocallback skv_endpoint_poll
#cgo nocallback skv_endpoint_get_stats
#cgo nocallback skv_endpoint_events
#cgo nocallback skv_endpoint_destroy
#cgo nocallback skv_conn_get
#cgo nocallback skv_conn_set_communicator
#cgo nocallback skv_conn_destroy
#cgo nocallback skv_send
#cgo nocallback skv_send_layers
#cgo nocallback skv_recv_offer
#cgo nocallback skv_offer_accept
#cgo nocallback skv_offer_reject
#cgo nocallback skv_request_get
#cgo nocallback skv_request_set
#cgo nocallback skv_request_identity
#cgo nocallback skv_request_test
#cgo nocallback skv_request_wait
#cgo nocallback skv_request_wait_layer
#cgo nocallback skv_request_stream_wait
#cgo nocallback skv_request_cancel
#cgo nocallback skv_request_payload
#cgo nocallback skv_request_destroy
#include <spectrumkv.h>
*/
import "C"

import "unsafe"

func init() {
	Lib = &Table{
		Version:       func() uint32 { return uint32(C.skv_version()) },
		VersionString: func() *byte { return (*byte)(unsafe.Pointer(C.skv_version_string())) },
		AbiVersion:    func() uint32 { return uint32(C.skv_abi_version()) },
		WireVersion:   func() uint32 { return uint32(C.skv_wire_version()) },
		StatusName:    func(status int32) *byte { return (*byte)(unsafe.Pointer(C.skv_status_name(C.skv_status(status)))) },
		EngineCreate: func(device int32, out *unsafe.Pointer, err *Error) int32 {
			return int32(C.skv_engine_create(C.int32_t(device), (**C.skv_engine)(unsafe.Pointer(out)), (*C.skv_error)(unsafe.Pointer(err))))
		},
		EngineSet: func(engine unsafe.Pointer, key int32, value int64, err *Error) int32 {
			return int32(C.skv_engine_set((*C.skv_engine)(unsafe.Pointer(engine)), C.int32_t(key), C.int64_t(value), (*C.skv_error)(unsafe.Pointer(err))))
		},
		EngineSetExecutor: func(engine unsafe.Pointer, run unsafe.Pointer, user unsafe.Pointer, width int32, err *Error) int32 {
			return int32(C.skv_engine_set_executor((*C.skv_engine)(unsafe.Pointer(engine)), C.skv_executor(run), user, C.int32_t(width), (*C.skv_error)(unsafe.Pointer(err))))
		},
		EngineGet: func(engine unsafe.Pointer, key int32, out *int64, err *Error) int32 {
			return int32(C.skv_engine_get((*C.skv_engine)(unsafe.Pointer(engine)), C.int32_t(key), (*C.int64_t)(unsafe.Pointer(out)), (*C.skv_error)(unsafe.Pointer(err))))
		},
		EngineDescribe: func(engine unsafe.Pointer, buffer *byte, capacity uintptr, err *Error) int32 {
			return int32(C.skv_engine_describe((*C.skv_engine)(unsafe.Pointer(engine)), (*C.char)(unsafe.Pointer(buffer)), C.size_t(capacity), (*C.skv_error)(unsafe.Pointer(err))))
		},
		EngineDestroy: func(engine unsafe.Pointer) { C.skv_engine_destroy((*C.skv_engine)(unsafe.Pointer(engine))) },
		CacheCreate: func(layers int32, out *unsafe.Pointer, err *Error) int32 {
			return int32(C.skv_cache_create(C.int32_t(layers), (**C.skv_cache)(unsafe.Pointer(out)), (*C.skv_error)(unsafe.Pointer(err))))
		},
		CacheSetTokens: func(cache unsafe.Pointer, layer int32, first_position int64, tokens int64, err *Error) int32 {
			return int32(C.skv_cache_set_tokens((*C.skv_cache)(unsafe.Pointer(cache)), C.int32_t(layer), C.int64_t(first_position), C.int64_t(tokens), (*C.skv_error)(unsafe.Pointer(err))))
		},
		CacheSetLayer: func(cache unsafe.Pointer, layer int32, kv_heads int32, k_dim int32, v_dim int32, dtype int32, err *Error) int32 {
			return int32(C.skv_cache_set_layer((*C.skv_cache)(unsafe.Pointer(cache)), C.int32_t(layer), C.int32_t(kv_heads), C.int32_t(k_dim), C.int32_t(v_dim), C.int32_t(dtype), (*C.skv_error)(unsafe.Pointer(err))))
		},
		CacheSetFirstHead: func(cache unsafe.Pointer, layer int32, first_head int32, err *Error) int32 {
			return int32(C.skv_cache_set_first_head((*C.skv_cache)(unsafe.Pointer(cache)), C.int32_t(layer), C.int32_t(first_head), (*C.skv_error)(unsafe.Pointer(err))))
		},
		CacheSetGroup: func(cache unsafe.Pointer, layer int32, group int32, err *Error) int32 {
			return int32(C.skv_cache_set_group((*C.skv_cache)(unsafe.Pointer(cache)), C.int32_t(layer), C.int32_t(group), (*C.skv_error)(unsafe.Pointer(err))))
		},
		CacheSetPlane: func(cache unsafe.Pointer, layer int32, half int32, base unsafe.Pointer, bytes uintptr, stride_block int64, stride_token int64, stride_head int64, stride_elem int64, err *Error) int32 {
			return int32(C.skv_cache_set_plane((*C.skv_cache)(unsafe.Pointer(cache)), C.int32_t(layer), C.int32_t(half), base, C.size_t(bytes), C.int64_t(stride_block), C.int64_t(stride_token), C.int64_t(stride_head), C.int64_t(stride_elem), (*C.skv_error)(unsafe.Pointer(err))))
		},
		CacheSetBlocks: func(cache unsafe.Pointer, layer int32, block_ids *int32, count uintptr, block_tokens int32, err *Error) int32 {
			return int32(C.skv_cache_set_blocks((*C.skv_cache)(unsafe.Pointer(cache)), C.int32_t(layer), (*C.int32_t)(unsafe.Pointer(block_ids)), C.size_t(count), C.int32_t(block_tokens), (*C.skv_error)(unsafe.Pointer(err))))
		},
		CacheSetIdentity: func(cache unsafe.Pointer, fingerprint *byte, request_id *byte, err *Error) int32 {
			return int32(C.skv_cache_set_identity((*C.skv_cache)(unsafe.Pointer(cache)), (*C.uint8_t)(unsafe.Pointer(fingerprint)), (*C.uint8_t)(unsafe.Pointer(request_id)), (*C.skv_error)(unsafe.Pointer(err))))
		},
		CacheSet: func(cache unsafe.Pointer, key int32, value int64, err *Error) int32 {
			return int32(C.skv_cache_set((*C.skv_cache)(unsafe.Pointer(cache)), C.int32_t(key), C.int64_t(value), (*C.skv_error)(unsafe.Pointer(err))))
		},
		CacheCheck: func(cache unsafe.Pointer, err *Error) int32 {
			return int32(C.skv_cache_check((*C.skv_cache)(unsafe.Pointer(cache)), (*C.skv_error)(unsafe.Pointer(err))))
		},
		CacheRawBytes: func(cache unsafe.Pointer, out *uint64, err *Error) int32 {
			return int32(C.skv_cache_raw_bytes((*C.skv_cache)(unsafe.Pointer(cache)), (*C.uint64_t)(unsafe.Pointer(out)), (*C.skv_error)(unsafe.Pointer(err))))
		},
		CacheDestroy: func(cache unsafe.Pointer) { C.skv_cache_destroy((*C.skv_cache)(unsafe.Pointer(cache))) },
		CacheFromLlama: func(blob unsafe.Pointer, bytes uintptr, heads *int32, layers int32, out *unsafe.Pointer, err *Error) int32 {
			return int32(C.skv_cache_from_llama(blob, C.size_t(bytes), (*C.int32_t)(unsafe.Pointer(heads)), C.int32_t(layers), (**C.skv_cache)(unsafe.Pointer(out)), (*C.skv_error)(unsafe.Pointer(err))))
		},
		LlamaBlobBytes: func(payload unsafe.Pointer, v_trans int32, dtype int32, out *uint64, err *Error) int32 {
			return int32(C.skv_llama_blob_bytes((*C.skv_payload)(unsafe.Pointer(payload)), C.int32_t(v_trans), C.int32_t(dtype), (*C.uint64_t)(unsafe.Pointer(out)), (*C.skv_error)(unsafe.Pointer(err))))
		},
		CacheToLlama: func(payload unsafe.Pointer, v_trans int32, dtype int32, fingerprint *byte, blob unsafe.Pointer, bytes uintptr, out *unsafe.Pointer, err *Error) int32 {
			return int32(C.skv_cache_to_llama((*C.skv_payload)(unsafe.Pointer(payload)), C.int32_t(v_trans), C.int32_t(dtype), (*C.uint8_t)(unsafe.Pointer(fingerprint)), blob, C.size_t(bytes), (**C.skv_cache)(unsafe.Pointer(out)), (*C.skv_error)(unsafe.Pointer(err))))
		},
		ScoresCreate: func(out *unsafe.Pointer, err *Error) int32 {
			return int32(C.skv_scores_create((**C.skv_scores)(unsafe.Pointer(out)), (*C.skv_error)(unsafe.Pointer(err))))
		},
		ScoresSetWeights: func(scores unsafe.Pointer, layer int32, half int32, weights *float32, tokens uintptr, err *Error) int32 {
			return int32(C.skv_scores_set_weights((*C.skv_scores)(unsafe.Pointer(scores)), C.int32_t(layer), C.int32_t(half), (*C.float)(unsafe.Pointer(weights)), C.size_t(tokens), (*C.skv_error)(unsafe.Pointer(err))))
		},
		ScoresSetQueries: func(scores unsafe.Pointer, layer int32, base unsafe.Pointer, bytes uintptr, dtype int32, count int32, heads int32, stride_query int64, stride_head int64, stride_elem int64, scale float32, window int32, err *Error) int32 {
			return int32(C.skv_scores_set_queries((*C.skv_scores)(unsafe.Pointer(scores)), C.int32_t(layer), base, C.size_t(bytes), C.int32_t(dtype), C.int32_t(count), C.int32_t(heads), C.int64_t(stride_query), C.int64_t(stride_head), C.int64_t(stride_elem), C.float(scale), C.int32_t(window), (*C.skv_error)(unsafe.Pointer(err))))
		},
		Score: func(engine unsafe.Pointer, cache unsafe.Pointer, scores unsafe.Pointer, err *Error) int32 {
			return int32(C.skv_score((*C.skv_engine)(unsafe.Pointer(engine)), (*C.skv_cache)(unsafe.Pointer(cache)), (*C.skv_scores)(unsafe.Pointer(scores)), (*C.skv_error)(unsafe.Pointer(err))))
		},
		ScoresGet: func(scores unsafe.Pointer, layer int32, half int32, out *float32, tokens uintptr, err *Error) int32 {
			return int32(C.skv_scores_get((*C.skv_scores)(unsafe.Pointer(scores)), C.int32_t(layer), C.int32_t(half), (*C.float)(unsafe.Pointer(out)), C.size_t(tokens), (*C.skv_error)(unsafe.Pointer(err))))
		},
		ScoresDestroy: func(scores unsafe.Pointer) { C.skv_scores_destroy((*C.skv_scores)(unsafe.Pointer(scores))) },
		ProfileCreate: func(fingerprint *byte, layers int32, code int32, out *unsafe.Pointer, err *Error) int32 {
			return int32(C.skv_profile_create((*C.uint8_t)(unsafe.Pointer(fingerprint)), C.int32_t(layers), C.int32_t(code), (**C.skv_profile)(unsafe.Pointer(out)), (*C.skv_error)(unsafe.Pointer(err))))
		},
		ProfileOpen: func(text *byte, bytes uintptr, out *unsafe.Pointer, err *Error) int32 {
			return int32(C.skv_profile_open((*C.char)(unsafe.Pointer(text)), C.size_t(bytes), (**C.skv_profile)(unsafe.Pointer(out)), (*C.skv_error)(unsafe.Pointer(err))))
		},
		ProfileSave: func(profile unsafe.Pointer, buffer *byte, capacity uintptr, bytes *uintptr, err *Error) int32 {
			return int32(C.skv_profile_save((*C.skv_profile)(unsafe.Pointer(profile)), (*C.char)(unsafe.Pointer(buffer)), C.size_t(capacity), (*C.size_t)(unsafe.Pointer(bytes)), (*C.skv_error)(unsafe.Pointer(err))))
		},
		ProfileCalibrate: func(profile unsafe.Pointer, layer int32, half int32, scored int32, cost float64, kl float64, err *Error) int32 {
			return int32(C.skv_profile_calibrate((*C.skv_profile)(unsafe.Pointer(profile)), C.int32_t(layer), C.int32_t(half), C.int32_t(scored), C.double(cost), C.double(kl), (*C.skv_error)(unsafe.Pointer(err))))
		},
		ProfileSetVerdict: func(profile unsafe.Pointer, probe int32, verdict int32, passed int32, trials int32, err *Error) int32 {
			return int32(C.skv_profile_set_verdict((*C.skv_profile)(unsafe.Pointer(profile)), C.int32_t(probe), C.int32_t(verdict), C.int32_t(passed), C.int32_t(trials), (*C.skv_error)(unsafe.Pointer(err))))
		},
		ProfileGetVerdict: func(profile unsafe.Pointer, probe int32, verdict *int32, passed *int32, trials *int32, err *Error) int32 {
			return int32(C.skv_profile_get_verdict((*C.skv_profile)(unsafe.Pointer(profile)), C.int32_t(probe), (*C.int32_t)(unsafe.Pointer(verdict)), (*C.int32_t)(unsafe.Pointer(passed)), (*C.int32_t)(unsafe.Pointer(trials)), (*C.skv_error)(unsafe.Pointer(err))))
		},
		ProfileDestroy: func(profile unsafe.Pointer) { C.skv_profile_destroy((*C.skv_profile)(unsafe.Pointer(profile))) },
		NeedleProbeCreate: func(words uint32, out *unsafe.Pointer, err *Error) int32 {
			return int32(C.skv_needle_probe_create(C.uint32_t(words), (**C.skv_needle_probe)(unsafe.Pointer(out)), (*C.skv_error)(unsafe.Pointer(err))))
		},
		NeedleProbePrompt: func(probe unsafe.Pointer, trial int32, out **byte, err *Error) int32 {
			return int32(C.skv_needle_probe_prompt((*C.skv_needle_probe)(unsafe.Pointer(probe)), C.int32_t(trial), (**C.char)(unsafe.Pointer(out)), (*C.skv_error)(unsafe.Pointer(err))))
		},
		NeedleProbeAnswer: func(probe unsafe.Pointer, trial int32, text *byte, bytes uintptr, found *int32, err *Error) int32 {
			return int32(C.skv_needle_probe_answer((*C.skv_needle_probe)(unsafe.Pointer(probe)), C.int32_t(trial), (*C.char)(unsafe.Pointer(text)), C.size_t(bytes), (*C.int32_t)(unsafe.Pointer(found)), (*C.skv_error)(unsafe.Pointer(err))))
		},
		NeedleProbeVerdict: func(probe unsafe.Pointer, profile unsafe.Pointer, err *Error) int32 {
			return int32(C.skv_needle_probe_verdict((*C.skv_needle_probe)(unsafe.Pointer(probe)), (*C.skv_profile)(unsafe.Pointer(profile)), (*C.skv_error)(unsafe.Pointer(err))))
		},
		NeedleProbeDestroy: func(probe unsafe.Pointer) { C.skv_needle_probe_destroy((*C.skv_needle_probe)(unsafe.Pointer(probe))) },
		PlanCreate: func(engine unsafe.Pointer, out *unsafe.Pointer, err *Error) int32 {
			return int32(C.skv_plan_create((*C.skv_engine)(unsafe.Pointer(engine)), (**C.skv_plan)(unsafe.Pointer(out)), (*C.skv_error)(unsafe.Pointer(err))))
		},
		PlanSet: func(plan unsafe.Pointer, key int32, value int64, err *Error) int32 {
			return int32(C.skv_plan_set((*C.skv_plan)(unsafe.Pointer(plan)), C.int32_t(key), C.int64_t(value), (*C.skv_error)(unsafe.Pointer(err))))
		},
		PlanSetBudget: func(plan unsafe.Pointer, fraction float64, err *Error) int32 {
			return int32(C.skv_plan_set_budget((*C.skv_plan)(unsafe.Pointer(plan)), C.double(fraction), (*C.skv_error)(unsafe.Pointer(err))))
		},
		PlanSetBudgetBytes: func(plan unsafe.Pointer, bytes uint64, err *Error) int32 {
			return int32(C.skv_plan_set_budget_bytes((*C.skv_plan)(unsafe.Pointer(plan)), C.uint64_t(bytes), (*C.skv_error)(unsafe.Pointer(err))))
		},
		PlanSetStrategy: func(plan unsafe.Pointer, name *byte, err *Error) int32 {
			return int32(C.skv_plan_set_strategy((*C.skv_plan)(unsafe.Pointer(plan)), (*C.char)(unsafe.Pointer(name)), (*C.skv_error)(unsafe.Pointer(err))))
		},
		PlanSetProfile: func(plan unsafe.Pointer, profile unsafe.Pointer, err *Error) int32 {
			return int32(C.skv_plan_set_profile((*C.skv_plan)(unsafe.Pointer(plan)), (*C.skv_profile)(unsafe.Pointer(profile)), (*C.skv_error)(unsafe.Pointer(err))))
		},
		PlanSolve: func(plan unsafe.Pointer, cache unsafe.Pointer, scores unsafe.Pointer, err *Error) int32 {
			return int32(C.skv_plan_solve((*C.skv_plan)(unsafe.Pointer(plan)), (*C.skv_cache)(unsafe.Pointer(cache)), (*C.skv_scores)(unsafe.Pointer(scores)), (*C.skv_error)(unsafe.Pointer(err))))
		},
		PlanBytes: func(plan unsafe.Pointer, out *uint64, err *Error) int32 {
			return int32(C.skv_plan_bytes((*C.skv_plan)(unsafe.Pointer(plan)), (*C.uint64_t)(unsafe.Pointer(out)), (*C.skv_error)(unsafe.Pointer(err))))
		},
		PlanGetTiers: func(plan unsafe.Pointer, layer int32, half int32, out *byte, tokens uintptr, err *Error) int32 {
			return int32(C.skv_plan_get_tiers((*C.skv_plan)(unsafe.Pointer(plan)), C.int32_t(layer), C.int32_t(half), (*C.uint8_t)(unsafe.Pointer(out)), C.size_t(tokens), (*C.skv_error)(unsafe.Pointer(err))))
		},
		PlanCost: func(plan unsafe.Pointer, layer int32, half int32, out *float64, err *Error) int32 {
			return int32(C.skv_plan_cost((*C.skv_plan)(unsafe.Pointer(plan)), C.int32_t(layer), C.int32_t(half), (*C.double)(unsafe.Pointer(out)), (*C.skv_error)(unsafe.Pointer(err))))
		},
		PlanSetTiers: func(plan unsafe.Pointer, layer int32, half int32, tiers *byte, tokens uintptr, err *Error) int32 {
			return int32(C.skv_plan_set_tiers((*C.skv_plan)(unsafe.Pointer(plan)), C.int32_t(layer), C.int32_t(half), (*C.uint8_t)(unsafe.Pointer(tiers)), C.size_t(tokens), (*C.skv_error)(unsafe.Pointer(err))))
		},
		PlanDestroy: func(plan unsafe.Pointer) { C.skv_plan_destroy((*C.skv_plan)(unsafe.Pointer(plan))) },
		Encode: func(engine unsafe.Pointer, cache unsafe.Pointer, plan unsafe.Pointer, stream unsafe.Pointer, out *unsafe.Pointer, err *Error) int32 {
			return int32(C.skv_encode((*C.skv_engine)(unsafe.Pointer(engine)), (*C.skv_cache)(unsafe.Pointer(cache)), (*C.skv_plan)(unsafe.Pointer(plan)), stream, (**C.skv_payload)(unsafe.Pointer(out)), (*C.skv_error)(unsafe.Pointer(err))))
		},
		EncodeInto: func(engine unsafe.Pointer, cache unsafe.Pointer, plan unsafe.Pointer, stream unsafe.Pointer, buffer unsafe.Pointer, bytes uintptr, out *unsafe.Pointer, err *Error) int32 {
			return int32(C.skv_encode_into((*C.skv_engine)(unsafe.Pointer(engine)), (*C.skv_cache)(unsafe.Pointer(cache)), (*C.skv_plan)(unsafe.Pointer(plan)), stream, buffer, C.size_t(bytes), (**C.skv_payload)(unsafe.Pointer(out)), (*C.skv_error)(unsafe.Pointer(err))))
		},
		PayloadCreate: func(cache unsafe.Pointer, plan unsafe.Pointer, buffer unsafe.Pointer, bytes uintptr, out *unsafe.Pointer, err *Error) int32 {
			return int32(C.skv_payload_create((*C.skv_cache)(unsafe.Pointer(cache)), (*C.skv_plan)(unsafe.Pointer(plan)), buffer, C.size_t(bytes), (**C.skv_payload)(unsafe.Pointer(out)), (*C.skv_error)(unsafe.Pointer(err))))
		},
		EncodeLayer: func(engine unsafe.Pointer, cache unsafe.Pointer, plan unsafe.Pointer, layer int32, stream unsafe.Pointer, payload unsafe.Pointer, err *Error) int32 {
			return int32(C.skv_encode_layer((*C.skv_engine)(unsafe.Pointer(engine)), (*C.skv_cache)(unsafe.Pointer(cache)), (*C.skv_plan)(unsafe.Pointer(plan)), C.int32_t(layer), stream, (*C.skv_payload)(unsafe.Pointer(payload)), (*C.skv_error)(unsafe.Pointer(err))))
		},
		PayloadPack: func(engine unsafe.Pointer, payload unsafe.Pointer, out *unsafe.Pointer, err *Error) int32 {
			return int32(C.skv_payload_pack((*C.skv_engine)(unsafe.Pointer(engine)), (*C.skv_payload)(unsafe.Pointer(payload)), (**C.skv_payload)(unsafe.Pointer(out)), (*C.skv_error)(unsafe.Pointer(err))))
		},
		PayloadOpen: func(bytes unsafe.Pointer, size uintptr, out *unsafe.Pointer, err *Error) int32 {
			return int32(C.skv_payload_open(bytes, C.size_t(size), (**C.skv_payload)(unsafe.Pointer(out)), (*C.skv_error)(unsafe.Pointer(err))))
		},
		PayloadOpenOn: func(engine unsafe.Pointer, bytes unsafe.Pointer, size uintptr, out *unsafe.Pointer, err *Error) int32 {
			return int32(C.skv_payload_open_on((*C.skv_engine)(unsafe.Pointer(engine)), bytes, C.size_t(size), (**C.skv_payload)(unsafe.Pointer(out)), (*C.skv_error)(unsafe.Pointer(err))))
		},
		PayloadVerify: func(payload unsafe.Pointer, err *Error) int32 {
			return int32(C.skv_payload_verify((*C.skv_payload)(unsafe.Pointer(payload)), (*C.skv_error)(unsafe.Pointer(err))))
		},
		PayloadData: func(payload unsafe.Pointer, data *unsafe.Pointer, size *uintptr, err *Error) int32 {
			return int32(C.skv_payload_data((*C.skv_payload)(unsafe.Pointer(payload)), (*unsafe.Pointer)(unsafe.Pointer(data)), (*C.size_t)(unsafe.Pointer(size)), (*C.skv_error)(unsafe.Pointer(err))))
		},
		PayloadCopy: func(payload unsafe.Pointer, buffer unsafe.Pointer, bytes uintptr, err *Error) int32 {
			return int32(C.skv_payload_copy((*C.skv_payload)(unsafe.Pointer(payload)), buffer, C.size_t(bytes), (*C.skv_error)(unsafe.Pointer(err))))
		},
		PayloadIdentity: func(payload unsafe.Pointer, fingerprint *byte, request_id *byte, err *Error) int32 {
			return int32(C.skv_payload_identity((*C.skv_payload)(unsafe.Pointer(payload)), (*C.uint8_t)(unsafe.Pointer(fingerprint)), (*C.uint8_t)(unsafe.Pointer(request_id)), (*C.skv_error)(unsafe.Pointer(err))))
		},
		PayloadGet: func(payload unsafe.Pointer, layer int32, key int32, out *int64, err *Error) int32 {
			return int32(C.skv_payload_get((*C.skv_payload)(unsafe.Pointer(payload)), C.int32_t(layer), C.int32_t(key), (*C.int64_t)(unsafe.Pointer(out)), (*C.skv_error)(unsafe.Pointer(err))))
		},
		PayloadGetTiers: func(payload unsafe.Pointer, layer int32, half int32, out *byte, tokens uintptr, err *Error) int32 {
			return int32(C.skv_payload_get_tiers((*C.skv_payload)(unsafe.Pointer(payload)), C.int32_t(layer), C.int32_t(half), (*C.uint8_t)(unsafe.Pointer(out)), C.size_t(tokens), (*C.skv_error)(unsafe.Pointer(err))))
		},
		Decode: func(engine unsafe.Pointer, payload unsafe.Pointer, cache unsafe.Pointer, stream unsafe.Pointer, err *Error) int32 {
			return int32(C.skv_decode((*C.skv_engine)(unsafe.Pointer(engine)), (*C.skv_payload)(unsafe.Pointer(payload)), (*C.skv_cache)(unsafe.Pointer(cache)), stream, (*C.skv_error)(unsafe.Pointer(err))))
		},
		DecodeLayer: func(engine unsafe.Pointer, payload unsafe.Pointer, cache unsafe.Pointer, layer int32, stream unsafe.Pointer, err *Error) int32 {
			return int32(C.skv_decode_layer((*C.skv_engine)(unsafe.Pointer(engine)), (*C.skv_payload)(unsafe.Pointer(payload)), (*C.skv_cache)(unsafe.Pointer(cache)), C.int32_t(layer), stream, (*C.skv_error)(unsafe.Pointer(err))))
		},
		PayloadDestroy: func(payload unsafe.Pointer) { C.skv_payload_destroy((*C.skv_payload)(unsafe.Pointer(payload))) },
		PlanUpgrade: func(plan unsafe.Pointer, base unsafe.Pointer, cache unsafe.Pointer, scores unsafe.Pointer, err *Error) int32 {
			return int32(C.skv_plan_upgrade((*C.skv_plan)(unsafe.Pointer(plan)), (*C.skv_payload)(unsafe.Pointer(base)), (*C.skv_cache)(unsafe.Pointer(cache)), (*C.skv_scores)(unsafe.Pointer(scores)), (*C.skv_error)(unsafe.Pointer(err))))
		},
		EncodeUpgrade: func(engine unsafe.Pointer, cache unsafe.Pointer, base unsafe.Pointer, plan unsafe.Pointer, out *unsafe.Pointer, err *Error) int32 {
			return int32(C.skv_encode_upgrade((*C.skv_engine)(unsafe.Pointer(engine)), (*C.skv_cache)(unsafe.Pointer(cache)), (*C.skv_payload)(unsafe.Pointer(base)), (*C.skv_plan)(unsafe.Pointer(plan)), (**C.skv_payload)(unsafe.Pointer(out)), (*C.skv_error)(unsafe.Pointer(err))))
		},
		PayloadApply: func(base unsafe.Pointer, upgrade unsafe.Pointer, out *unsafe.Pointer, err *Error) int32 {
			return int32(C.skv_payload_apply((*C.skv_payload)(unsafe.Pointer(base)), (*C.skv_payload)(unsafe.Pointer(upgrade)), (**C.skv_payload)(unsafe.Pointer(out)), (*C.skv_error)(unsafe.Pointer(err))))
		},
		PlanTruncate: func(plan unsafe.Pointer, payload unsafe.Pointer, scores unsafe.Pointer, err *Error) int32 {
			return int32(C.skv_plan_truncate((*C.skv_plan)(unsafe.Pointer(plan)), (*C.skv_payload)(unsafe.Pointer(payload)), (*C.skv_scores)(unsafe.Pointer(scores)), (*C.skv_error)(unsafe.Pointer(err))))
		},
		PayloadTruncate: func(payload unsafe.Pointer, plan unsafe.Pointer, out *unsafe.Pointer, err *Error) int32 {
			return int32(C.skv_payload_truncate((*C.skv_payload)(unsafe.Pointer(payload)), (*C.skv_plan)(unsafe.Pointer(plan)), (**C.skv_payload)(unsafe.Pointer(out)), (*C.skv_error)(unsafe.Pointer(err))))
		},
		PayloadReceipt: func(payload unsafe.Pointer, out *Receipt, err *Error) int32 {
			return int32(C.skv_payload_receipt((*C.skv_payload)(unsafe.Pointer(payload)), (*C.skv_receipt)(unsafe.Pointer(out)), (*C.skv_error)(unsafe.Pointer(err))))
		},
		NowNs:      func() uint64 { return uint64(C.skv_now_ns()) },
		DeadlineMs: func(milliseconds uint64) uint64 { return uint64(C.skv_deadline_ms(C.uint64_t(milliseconds))) },
		EndpointCreate: func(out *unsafe.Pointer, err *Error) int32 {
			return int32(C.skv_endpoint_create((**C.skv_endpoint)(unsafe.Pointer(out)), (*C.skv_error)(unsafe.Pointer(err))))
		},
		EndpointSet: func(endpoint unsafe.Pointer, key int32, value int64, err *Error) int32 {
			return int32(C.skv_endpoint_set((*C.skv_endpoint)(unsafe.Pointer(endpoint)), C.int32_t(key), C.int64_t(value), (*C.skv_error)(unsafe.Pointer(err))))
		},
		EndpointSetModel: func(endpoint unsafe.Pointer, fingerprint *byte, err *Error) int32 {
			return int32(C.skv_endpoint_set_model((*C.skv_endpoint)(unsafe.Pointer(endpoint)), (*C.uint8_t)(unsafe.Pointer(fingerprint)), (*C.skv_error)(unsafe.Pointer(err))))
		},
		EndpointSetPsk: func(endpoint unsafe.Pointer, security int32, key *byte, bytes uintptr, err *Error) int32 {
			return int32(C.skv_endpoint_set_psk((*C.skv_endpoint)(unsafe.Pointer(endpoint)), C.int32_t(security), (*C.uint8_t)(unsafe.Pointer(key)), C.size_t(bytes), (*C.skv_error)(unsafe.Pointer(err))))
		},
		EndpointSetTls: func(endpoint unsafe.Pointer, certificate *byte, key *byte, authority *byte, peer_name *byte, err *Error) int32 {
			return int32(C.skv_endpoint_set_tls((*C.skv_endpoint)(unsafe.Pointer(endpoint)), (*C.char)(unsafe.Pointer(certificate)), (*C.char)(unsafe.Pointer(key)), (*C.char)(unsafe.Pointer(authority)), (*C.char)(unsafe.Pointer(peer_name)), (*C.skv_error)(unsafe.Pointer(err))))
		},
		EndpointSetLibrary: func(endpoint unsafe.Pointer, plane int32, path *byte, err *Error) int32 {
			return int32(C.skv_endpoint_set_library((*C.skv_endpoint)(unsafe.Pointer(endpoint)), C.int32_t(plane), (*C.char)(unsafe.Pointer(path)), (*C.skv_error)(unsafe.Pointer(err))))
		},
		Listen: func(endpoint unsafe.Pointer, uri *byte, bound *byte, capacity uintptr, err *Error) int32 {
			return int32(C.skv_listen((*C.skv_endpoint)(unsafe.Pointer(endpoint)), (*C.char)(unsafe.Pointer(uri)), (*C.char)(unsafe.Pointer(bound)), C.size_t(capacity), (*C.skv_error)(unsafe.Pointer(err))))
		},
		Accept: func(endpoint unsafe.Pointer, deadline uint64, out *unsafe.Pointer, err *Error) int32 {
			return int32(C.skv_accept((*C.skv_endpoint)(unsafe.Pointer(endpoint)), C.uint64_t(deadline), (**C.skv_conn)(unsafe.Pointer(out)), (*C.skv_error)(unsafe.Pointer(err))))
		},
		Connect: func(endpoint unsafe.Pointer, uri *byte, deadline uint64, out *unsafe.Pointer, err *Error) int32 {
			return int32(C.skv_connect((*C.skv_endpoint)(unsafe.Pointer(endpoint)), (*C.char)(unsafe.Pointer(uri)), C.uint64_t(deadline), (**C.skv_conn)(unsafe.Pointer(out)), (*C.skv_error)(unsafe.Pointer(err))))
		},
		EndpointFd: func(endpoint unsafe.Pointer, out *int32, err *Error) int32 {
			return int32(C.skv_endpoint_fd((*C.skv_endpoint)(unsafe.Pointer(endpoint)), (*C.int32_t)(unsafe.Pointer(out)), (*C.skv_error)(unsafe.Pointer(err))))
		},
		EndpointProgress: func(endpoint unsafe.Pointer, deadline uint64, err *Error) int32 {
			return int32(C.skv_endpoint_progress((*C.skv_endpoint)(unsafe.Pointer(endpoint)), C.uint64_t(deadline), (*C.skv_error)(unsafe.Pointer(err))))
		},
		EndpointDrain: func(endpoint unsafe.Pointer, deadline uint64, err *Error) int32 {
			return int32(C.skv_endpoint_drain((*C.skv_endpoint)(unsafe.Pointer(endpoint)), C.uint64_t(deadline), (*C.skv_error)(unsafe.Pointer(err))))
		},
		EndpointPoll: func(endpoint unsafe.Pointer, out *unsafe.Pointer, capacity uintptr, count *uintptr, err *Error) int32 {
			return int32(C.skv_endpoint_poll((*C.skv_endpoint)(unsafe.Pointer(endpoint)), (**C.skv_request)(unsafe.Pointer(out)), C.size_t(capacity), (*C.size_t)(unsafe.Pointer(count)), (*C.skv_error)(unsafe.Pointer(err))))
		},
		EndpointGetStats: func(endpoint unsafe.Pointer, out *EndpointStats, err *Error) int32 {
			return int32(C.skv_endpoint_get_stats((*C.skv_endpoint)(unsafe.Pointer(endpoint)), (*C.skv_endpoint_stats)(unsafe.Pointer(out)), (*C.skv_error)(unsafe.Pointer(err))))
		},
		EndpointEvents: func(endpoint unsafe.Pointer, out *Event, capacity uintptr, count *uintptr, err *Error) int32 {
			return int32(C.skv_endpoint_events((*C.skv_endpoint)(unsafe.Pointer(endpoint)), (*C.skv_event)(unsafe.Pointer(out)), C.size_t(capacity), (*C.size_t)(unsafe.Pointer(count)), (*C.skv_error)(unsafe.Pointer(err))))
		},
		EndpointDestroy: func(endpoint unsafe.Pointer) { C.skv_endpoint_destroy((*C.skv_endpoint)(unsafe.Pointer(endpoint))) },
		ConnGet: func(conn unsafe.Pointer, key int32, out *int64, err *Error) int32 {
			return int32(C.skv_conn_get((*C.skv_conn)(unsafe.Pointer(conn)), C.int32_t(key), (*C.int64_t)(unsafe.Pointer(out)), (*C.skv_error)(unsafe.Pointer(err))))
		},
		ConnSetCommunicator: func(conn unsafe.Pointer, communicator unsafe.Pointer, sending int32, err *Error) int32 {
			return int32(C.skv_conn_set_communicator((*C.skv_conn)(unsafe.Pointer(conn)), communicator, C.int32_t(sending), (*C.skv_error)(unsafe.Pointer(err))))
		},
		ConnDestroy: func(conn unsafe.Pointer) { C.skv_conn_destroy((*C.skv_conn)(unsafe.Pointer(conn))) },
		Send: func(conn unsafe.Pointer, key uint64, payload unsafe.Pointer, deadline uint64, out *unsafe.Pointer, err *Error) int32 {
			return int32(C.skv_send((*C.skv_conn)(unsafe.Pointer(conn)), C.uint64_t(key), (*C.skv_payload)(unsafe.Pointer(payload)), C.uint64_t(deadline), (**C.skv_request)(unsafe.Pointer(out)), (*C.skv_error)(unsafe.Pointer(err))))
		},
		SendLayers: func(conn unsafe.Pointer, key uint64, payload unsafe.Pointer, deadline uint64, out *unsafe.Pointer, err *Error) int32 {
			return int32(C.skv_send_layers((*C.skv_conn)(unsafe.Pointer(conn)), C.uint64_t(key), (*C.skv_payload)(unsafe.Pointer(payload)), C.uint64_t(deadline), (**C.skv_request)(unsafe.Pointer(out)), (*C.skv_error)(unsafe.Pointer(err))))
		},
		RecvOffer: func(conn unsafe.Pointer, deadline uint64, out *unsafe.Pointer, err *Error) int32 {
			return int32(C.skv_recv_offer((*C.skv_conn)(unsafe.Pointer(conn)), C.uint64_t(deadline), (**C.skv_request)(unsafe.Pointer(out)), (*C.skv_error)(unsafe.Pointer(err))))
		},
		OfferAccept: func(request unsafe.Pointer, buffer unsafe.Pointer, bytes uintptr, deadline uint64, err *Error) int32 {
			return int32(C.skv_offer_accept((*C.skv_request)(unsafe.Pointer(request)), buffer, C.size_t(bytes), C.uint64_t(deadline), (*C.skv_error)(unsafe.Pointer(err))))
		},
		OfferReject: func(request unsafe.Pointer, reason *byte, err *Error) int32 {
			return int32(C.skv_offer_reject((*C.skv_request)(unsafe.Pointer(request)), (*C.char)(unsafe.Pointer(reason)), (*C.skv_error)(unsafe.Pointer(err))))
		},
		RequestGet: func(request unsafe.Pointer, key int32, out *int64, err *Error) int32 {
			return int32(C.skv_request_get((*C.skv_request)(unsafe.Pointer(request)), C.int32_t(key), (*C.int64_t)(unsafe.Pointer(out)), (*C.skv_error)(unsafe.Pointer(err))))
		},
		RequestSet: func(request unsafe.Pointer, key int32, value int64, err *Error) int32 {
			return int32(C.skv_request_set((*C.skv_request)(unsafe.Pointer(request)), C.int32_t(key), C.int64_t(value), (*C.skv_error)(unsafe.Pointer(err))))
		},
		RequestIdentity: func(request unsafe.Pointer, fingerprint *byte, request_id *byte, err *Error) int32 {
			return int32(C.skv_request_identity((*C.skv_request)(unsafe.Pointer(request)), (*C.uint8_t)(unsafe.Pointer(fingerprint)), (*C.uint8_t)(unsafe.Pointer(request_id)), (*C.skv_error)(unsafe.Pointer(err))))
		},
		RequestTest: func(request unsafe.Pointer, err *Error) int32 {
			return int32(C.skv_request_test((*C.skv_request)(unsafe.Pointer(request)), (*C.skv_error)(unsafe.Pointer(err))))
		},
		RequestWait: func(request unsafe.Pointer, deadline uint64, err *Error) int32 {
			return int32(C.skv_request_wait((*C.skv_request)(unsafe.Pointer(request)), C.uint64_t(deadline), (*C.skv_error)(unsafe.Pointer(err))))
		},
		RequestWaitLayer: func(request unsafe.Pointer, layer int32, deadline uint64, err *Error) int32 {
			return int32(C.skv_request_wait_layer((*C.skv_request)(unsafe.Pointer(request)), C.int32_t(layer), C.uint64_t(deadline), (*C.skv_error)(unsafe.Pointer(err))))
		},
		RequestStreamWait: func(request unsafe.Pointer, layer int32, stream unsafe.Pointer, err *Error) int32 {
			return int32(C.skv_request_stream_wait((*C.skv_request)(unsafe.Pointer(request)), C.int32_t(layer), stream, (*C.skv_error)(unsafe.Pointer(err))))
		},
		RequestCancel: func(request unsafe.Pointer, err *Error) int32 {
			return int32(C.skv_request_cancel((*C.skv_request)(unsafe.Pointer(request)), (*C.skv_error)(unsafe.Pointer(err))))
		},
		RequestPayload: func(request unsafe.Pointer, out *unsafe.Pointer, err *Error) int32 {
			return int32(C.skv_request_payload((*C.skv_request)(unsafe.Pointer(request)), (**C.skv_payload)(unsafe.Pointer(out)), (*C.skv_error)(unsafe.Pointer(err))))
		},
		RequestDestroy: func(request unsafe.Pointer, err *Error) int32 {
			return int32(C.skv_request_destroy((*C.skv_request)(unsafe.Pointer(request)), (*C.skv_error)(unsafe.Pointer(err))))
		},
	}
}

// Sizes that must agree.
var (
	_ [unsafe.Sizeof(Error{})]byte         = [C.sizeof_skv_error]byte{}
	_ [unsafe.Sizeof(Receipt{})]byte       = [C.sizeof_skv_receipt]byte{}
	_ [unsafe.Sizeof(EndpointStats{})]byte = [C.sizeof_skv_endpoint_stats]byte{}
	_ [unsafe.Sizeof(Event{})]byte         = [C.sizeof_skv_event]byte{}
)
