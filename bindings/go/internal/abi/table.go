// SPDX-License-Identifier: Apache-2.0
// Code generated from include/spectrumkv.h by scripts/generate.sh. DO NOT EDIT.

// Package abi is the C ABI as Go functions. Either cgo fills the table, or the module purego does.
package abi

import "unsafe"

// Error is skv_error.
type Error struct {
	Status  int32
	Native  int32
	Message [248]byte
}

// Receipt is skv_receipt.
type Receipt struct {
	StructSize        uint32
	Scored            int32     // SKV_SCORED_* the plan was made with
	RawBytes          uint64    // at 16 bits an element
	BudgetBytes       uint64    // asked for; 0 when the strategy takes none
	PayloadBytes      uint64    // achieved, everything counted
	Ratio             float64   // payload_bytes / raw_bytes
	KRows             [8]uint64 // K rows (tokens x layers) by tier
	VRows             [8]uint64 // V rows by tier
	ScoreNs           uint64    // scoring
	PlanNs            uint64    // allocation
	EncodeNs          uint64    // encoding
	DecodeNs          uint64    // decoding
	WireNs            uint64    // offer accepted -> DONE, of the request that moved the payload
	Plane             int32     // SKV_PLANE_* that moved it
	Code              int32     // SKV_CODE_*
	BreakEvenBitsPerS float64   // link speed above which raw is faster: 8 x saved bytes / (encode + decode time); with only one of the two times known, that one; 0 when unknown
	Int4              int32     // SKV_VERDICT_* on tiers below 8 bits, of the probe or profile that was asked
	Proof             int32     // SKV_PROOF_*: who allowed them
	PredictedKl       float64   // nats, with a calibrated profile; else 0
	WorstSnrDb        float64   // logit probe: the worst head's signal-to-noise ratio at 4 bits; 0 when not probed
	WorstLayer        int32     // ... and where; -1 when not probed
	WorstHead         int32
	EscalatedLayers   uint32     // layers whose keys the probe raised to 8 bits
	RawIsFaster       int32      // the link measured was faster than break-even: 1 yes, 0 no, -1 unknown
	DroppedRows       uint64     // K and V rows not sent
	KMass             [8]float64 // attention of the queries on tokens, by tier of their K row; sums to 1; 0 without queries
	VMass             [8]float64 // the same by tier of their V row
	LinkBitsPerS      float64    // payload bits / wire_ns; 0 when not sent here
	UnpackedBytes     uint64     // of the payload before it was packed (payload_bytes is what is sent); 0: not packed
	CutLayers         uint32     // layers cut because they would have been late (SKV_PAYLOAD_CUT says to what)
	Reserved          uint32     // 0
}

// EndpointStats is skv_endpoint_stats.
type EndpointStats struct {
	StructSize        uint32
	Conns             uint32 // open now
	HandshakesOk      uint64
	HandshakesFailed  uint64 // garbage, scanners, other versions or models, too slow
	SentOk            uint64
	ReceivedOk        uint64
	Failed            uint64 // transfers that ended otherwise
	BytesSent         uint64 // payload bytes
	BytesReceived     uint64
	ProtocolErrors    uint64
	ChecksumErrors    uint64
	AuthErrors        uint64 // peers that were not who they must be, or took us for that
	HandshakesRefused uint64 // of the failed ones: too many at once or a second
	HandshakesPending uint64 // now
	Cancelled         uint64 // of the failed transfers
	TimedOut          uint64
	PeerLost          uint64
	Rejected          uint64
	NoResource        uint64
	Sending           uint64     // now: offered or moving from here
	Receiving         uint64     // now: moving to here
	OffersWaiting     uint64     // now: offers of peers that are not decided on
	CreditHeld        uint64     // now: bytes granted to senders that have not arrived
	CreditStalls      uint64     // times a sender here had bytes and no credit
	EventsLost        uint64     // records overwritten before skv_endpoint_events took them
	TimeLog2          [32]uint64 // transfers that ended OK: accepted -> ended, in us
	QueueLog2         [32]uint64 // offers taken here: offered -> accepted, in us
	BytesLog2         [40]uint64 // transfers that ended OK: payload bytes
}

// Event is skv_event.
type Event struct {
	TimeNs     uint64 // CLOCK_MONOTONIC
	Kind       int32  // SKV_EVENT_*
	Status     int32
	Conn       uint64 // conns of an endpoint count from 1
	Transfer   uint64 // its id on the wire, 0 for a conn's event
	Key        uint64 // the sender's
	Bytes      uint64
	DurationNs uint64
	Sending    int32 // 1: from here
	Reserved   int32
}

// Table holds every function of the header.
type Table struct {
	Version             func() uint32                                                                                                                                                                                                                // skv_version
	VersionString       func() *byte                                                                                                                                                                                                                 // skv_version_string
	AbiVersion          func() uint32                                                                                                                                                                                                                // skv_abi_version
	WireVersion         func() uint32                                                                                                                                                                                                                // skv_wire_version
	StatusName          func(status int32) *byte                                                                                                                                                                                                     // skv_status_name
	EngineCreate        func(device int32, out *unsafe.Pointer, err *Error) int32                                                                                                                                                                    // skv_engine_create
	EngineSet           func(engine unsafe.Pointer, key int32, value int64, err *Error) int32                                                                                                                                                        // skv_engine_set
	EngineSetExecutor   func(engine unsafe.Pointer, run unsafe.Pointer, user unsafe.Pointer, width int32, err *Error) int32                                                                                                                          // skv_engine_set_executor
	EngineGet           func(engine unsafe.Pointer, key int32, out *int64, err *Error) int32                                                                                                                                                         // skv_engine_get
	EngineDescribe      func(engine unsafe.Pointer, buffer *byte, capacity uintptr, err *Error) int32                                                                                                                                                // skv_engine_describe
	EngineDestroy       func(engine unsafe.Pointer)                                                                                                                                                                                                  // skv_engine_destroy
	CacheCreate         func(layers int32, out *unsafe.Pointer, err *Error) int32                                                                                                                                                                    // skv_cache_create
	CacheSetTokens      func(cache unsafe.Pointer, layer int32, first_position int64, tokens int64, err *Error) int32                                                                                                                                // skv_cache_set_tokens
	CacheSetLayer       func(cache unsafe.Pointer, layer int32, kv_heads int32, k_dim int32, v_dim int32, dtype int32, err *Error) int32                                                                                                             // skv_cache_set_layer
	CacheSetFirstHead   func(cache unsafe.Pointer, layer int32, first_head int32, err *Error) int32                                                                                                                                                  // skv_cache_set_first_head
	CacheSetGroup       func(cache unsafe.Pointer, layer int32, group int32, err *Error) int32                                                                                                                                                       // skv_cache_set_group
	CacheSetPlane       func(cache unsafe.Pointer, layer int32, half int32, base unsafe.Pointer, bytes uintptr, stride_block int64, stride_token int64, stride_head int64, stride_elem int64, err *Error) int32                                      // skv_cache_set_plane
	CacheSetBlocks      func(cache unsafe.Pointer, layer int32, block_ids *int32, count uintptr, block_tokens int32, err *Error) int32                                                                                                               // skv_cache_set_blocks
	CacheSetIdentity    func(cache unsafe.Pointer, fingerprint *byte, request_id *byte, err *Error) int32                                                                                                                                            // skv_cache_set_identity
	CacheSet            func(cache unsafe.Pointer, key int32, value int64, err *Error) int32                                                                                                                                                         // skv_cache_set
	CacheCheck          func(cache unsafe.Pointer, err *Error) int32                                                                                                                                                                                 // skv_cache_check
	CacheRawBytes       func(cache unsafe.Pointer, out *uint64, err *Error) int32                                                                                                                                                                    // skv_cache_raw_bytes
	CacheDestroy        func(cache unsafe.Pointer)                                                                                                                                                                                                   // skv_cache_destroy
	CacheFromLlama      func(blob unsafe.Pointer, bytes uintptr, heads *int32, layers int32, out *unsafe.Pointer, err *Error) int32                                                                                                                  // skv_cache_from_llama
	LlamaBlobBytes      func(payload unsafe.Pointer, v_trans int32, dtype int32, out *uint64, err *Error) int32                                                                                                                                      // skv_llama_blob_bytes
	CacheToLlama        func(payload unsafe.Pointer, v_trans int32, dtype int32, fingerprint *byte, blob unsafe.Pointer, bytes uintptr, out *unsafe.Pointer, err *Error) int32                                                                       // skv_cache_to_llama
	ScoresCreate        func(out *unsafe.Pointer, err *Error) int32                                                                                                                                                                                  // skv_scores_create
	ScoresSetWeights    func(scores unsafe.Pointer, layer int32, half int32, weights *float32, tokens uintptr, err *Error) int32                                                                                                                     // skv_scores_set_weights
	ScoresSetQueries    func(scores unsafe.Pointer, layer int32, base unsafe.Pointer, bytes uintptr, dtype int32, count int32, heads int32, stride_query int64, stride_head int64, stride_elem int64, scale float32, window int32, err *Error) int32 // skv_scores_set_queries
	Score               func(engine unsafe.Pointer, cache unsafe.Pointer, scores unsafe.Pointer, err *Error) int32                                                                                                                                   // skv_score
	ScoresGet           func(scores unsafe.Pointer, layer int32, half int32, out *float32, tokens uintptr, err *Error) int32                                                                                                                         // skv_scores_get
	ScoresDestroy       func(scores unsafe.Pointer)                                                                                                                                                                                                  // skv_scores_destroy
	ProfileCreate       func(fingerprint *byte, layers int32, code int32, out *unsafe.Pointer, err *Error) int32                                                                                                                                     // skv_profile_create
	ProfileOpen         func(text *byte, bytes uintptr, out *unsafe.Pointer, err *Error) int32                                                                                                                                                       // skv_profile_open
	ProfileSave         func(profile unsafe.Pointer, buffer *byte, capacity uintptr, bytes *uintptr, err *Error) int32                                                                                                                               // skv_profile_save
	ProfileCalibrate    func(profile unsafe.Pointer, layer int32, half int32, scored int32, cost float64, kl float64, err *Error) int32                                                                                                              // skv_profile_calibrate
	ProfileSetVerdict   func(profile unsafe.Pointer, probe int32, verdict int32, passed int32, trials int32, err *Error) int32                                                                                                                       // skv_profile_set_verdict
	ProfileGetVerdict   func(profile unsafe.Pointer, probe int32, verdict *int32, passed *int32, trials *int32, err *Error) int32                                                                                                                    // skv_profile_get_verdict
	ProfileDestroy      func(profile unsafe.Pointer)                                                                                                                                                                                                 // skv_profile_destroy
	NeedleProbeCreate   func(words uint32, out *unsafe.Pointer, err *Error) int32                                                                                                                                                                    // skv_needle_probe_create
	NeedleProbePrompt   func(probe unsafe.Pointer, trial int32, out **byte, err *Error) int32                                                                                                                                                        // skv_needle_probe_prompt
	NeedleProbeAnswer   func(probe unsafe.Pointer, trial int32, text *byte, bytes uintptr, found *int32, err *Error) int32                                                                                                                           // skv_needle_probe_answer
	NeedleProbeVerdict  func(probe unsafe.Pointer, profile unsafe.Pointer, err *Error) int32                                                                                                                                                         // skv_needle_probe_verdict
	NeedleProbeDestroy  func(probe unsafe.Pointer)                                                                                                                                                                                                   // skv_needle_probe_destroy
	PlanCreate          func(engine unsafe.Pointer, out *unsafe.Pointer, err *Error) int32                                                                                                                                                           // skv_plan_create
	PlanSet             func(plan unsafe.Pointer, key int32, value int64, err *Error) int32                                                                                                                                                          // skv_plan_set
	PlanSetBudget       func(plan unsafe.Pointer, fraction float64, err *Error) int32                                                                                                                                                                // skv_plan_set_budget
	PlanSetBudgetBytes  func(plan unsafe.Pointer, bytes uint64, err *Error) int32                                                                                                                                                                    // skv_plan_set_budget_bytes
	PlanSetStrategy     func(plan unsafe.Pointer, name *byte, err *Error) int32                                                                                                                                                                      // skv_plan_set_strategy
	PlanSetProfile      func(plan unsafe.Pointer, profile unsafe.Pointer, err *Error) int32                                                                                                                                                          // skv_plan_set_profile
	PlanSolve           func(plan unsafe.Pointer, cache unsafe.Pointer, scores unsafe.Pointer, err *Error) int32                                                                                                                                     // skv_plan_solve
	PlanBytes           func(plan unsafe.Pointer, out *uint64, err *Error) int32                                                                                                                                                                     // skv_plan_bytes
	PlanGetTiers        func(plan unsafe.Pointer, layer int32, half int32, out *byte, tokens uintptr, err *Error) int32                                                                                                                              // skv_plan_get_tiers
	PlanCost            func(plan unsafe.Pointer, layer int32, half int32, out *float64, err *Error) int32                                                                                                                                           // skv_plan_cost
	PlanSetTiers        func(plan unsafe.Pointer, layer int32, half int32, tiers *byte, tokens uintptr, err *Error) int32                                                                                                                            // skv_plan_set_tiers
	PlanDestroy         func(plan unsafe.Pointer)                                                                                                                                                                                                    // skv_plan_destroy
	Encode              func(engine unsafe.Pointer, cache unsafe.Pointer, plan unsafe.Pointer, stream unsafe.Pointer, out *unsafe.Pointer, err *Error) int32                                                                                         // skv_encode
	EncodeInto          func(engine unsafe.Pointer, cache unsafe.Pointer, plan unsafe.Pointer, stream unsafe.Pointer, buffer unsafe.Pointer, bytes uintptr, out *unsafe.Pointer, err *Error) int32                                                   // skv_encode_into
	PayloadCreate       func(cache unsafe.Pointer, plan unsafe.Pointer, buffer unsafe.Pointer, bytes uintptr, out *unsafe.Pointer, err *Error) int32                                                                                                 // skv_payload_create
	EncodeLayer         func(engine unsafe.Pointer, cache unsafe.Pointer, plan unsafe.Pointer, layer int32, stream unsafe.Pointer, payload unsafe.Pointer, err *Error) int32                                                                         // skv_encode_layer
	PayloadPack         func(engine unsafe.Pointer, payload unsafe.Pointer, out *unsafe.Pointer, err *Error) int32                                                                                                                                   // skv_payload_pack
	PayloadOpen         func(bytes unsafe.Pointer, size uintptr, out *unsafe.Pointer, err *Error) int32                                                                                                                                              // skv_payload_open
	PayloadOpenOn       func(engine unsafe.Pointer, bytes unsafe.Pointer, size uintptr, out *unsafe.Pointer, err *Error) int32                                                                                                                       // skv_payload_open_on
	PayloadVerify       func(payload unsafe.Pointer, err *Error) int32                                                                                                                                                                               // skv_payload_verify
	PayloadData         func(payload unsafe.Pointer, data *unsafe.Pointer, size *uintptr, err *Error) int32                                                                                                                                          // skv_payload_data
	PayloadCopy         func(payload unsafe.Pointer, buffer unsafe.Pointer, bytes uintptr, err *Error) int32                                                                                                                                         // skv_payload_copy
	PayloadIdentity     func(payload unsafe.Pointer, fingerprint *byte, request_id *byte, err *Error) int32                                                                                                                                          // skv_payload_identity
	PayloadGet          func(payload unsafe.Pointer, layer int32, key int32, out *int64, err *Error) int32                                                                                                                                           // skv_payload_get
	PayloadGetTiers     func(payload unsafe.Pointer, layer int32, half int32, out *byte, tokens uintptr, err *Error) int32                                                                                                                           // skv_payload_get_tiers
	Decode              func(engine unsafe.Pointer, payload unsafe.Pointer, cache unsafe.Pointer, stream unsafe.Pointer, err *Error) int32                                                                                                           // skv_decode
	DecodeLayer         func(engine unsafe.Pointer, payload unsafe.Pointer, cache unsafe.Pointer, layer int32, stream unsafe.Pointer, err *Error) int32                                                                                              // skv_decode_layer
	PayloadDestroy      func(payload unsafe.Pointer)                                                                                                                                                                                                 // skv_payload_destroy
	PlanUpgrade         func(plan unsafe.Pointer, base unsafe.Pointer, cache unsafe.Pointer, scores unsafe.Pointer, err *Error) int32                                                                                                                // skv_plan_upgrade
	EncodeUpgrade       func(engine unsafe.Pointer, cache unsafe.Pointer, base unsafe.Pointer, plan unsafe.Pointer, out *unsafe.Pointer, err *Error) int32                                                                                           // skv_encode_upgrade
	PayloadApply        func(base unsafe.Pointer, upgrade unsafe.Pointer, out *unsafe.Pointer, err *Error) int32                                                                                                                                     // skv_payload_apply
	PlanTruncate        func(plan unsafe.Pointer, payload unsafe.Pointer, scores unsafe.Pointer, err *Error) int32                                                                                                                                   // skv_plan_truncate
	PayloadTruncate     func(payload unsafe.Pointer, plan unsafe.Pointer, out *unsafe.Pointer, err *Error) int32                                                                                                                                     // skv_payload_truncate
	PayloadReceipt      func(payload unsafe.Pointer, out *Receipt, err *Error) int32                                                                                                                                                                 // skv_payload_receipt
	NowNs               func() uint64                                                                                                                                                                                                                // skv_now_ns
	DeadlineMs          func(milliseconds uint64) uint64                                                                                                                                                                                             // skv_deadline_ms
	EndpointCreate      func(out *unsafe.Pointer, err *Error) int32                                                                                                                                                                                  // skv_endpoint_create
	EndpointSet         func(endpoint unsafe.Pointer, key int32, value int64, err *Error) int32                                                                                                                                                      // skv_endpoint_set
	EndpointSetModel    func(endpoint unsafe.Pointer, fingerprint *byte, err *Error) int32                                                                                                                                                           // skv_endpoint_set_model
	EndpointSetPsk      func(endpoint unsafe.Pointer, security int32, key *byte, bytes uintptr, err *Error) int32                                                                                                                                    // skv_endpoint_set_psk
	EndpointSetTls      func(endpoint unsafe.Pointer, certificate *byte, key *byte, authority *byte, peer_name *byte, err *Error) int32                                                                                                              // skv_endpoint_set_tls
	EndpointSetLibrary  func(endpoint unsafe.Pointer, plane int32, path *byte, err *Error) int32                                                                                                                                                     // skv_endpoint_set_library
	Listen              func(endpoint unsafe.Pointer, uri *byte, bound *byte, capacity uintptr, err *Error) int32                                                                                                                                    // skv_listen
	Accept              func(endpoint unsafe.Pointer, deadline uint64, out *unsafe.Pointer, err *Error) int32                                                                                                                                        // skv_accept
	Connect             func(endpoint unsafe.Pointer, uri *byte, deadline uint64, out *unsafe.Pointer, err *Error) int32                                                                                                                             // skv_connect
	EndpointFd          func(endpoint unsafe.Pointer, out *int32, err *Error) int32                                                                                                                                                                  // skv_endpoint_fd
	EndpointProgress    func(endpoint unsafe.Pointer, deadline uint64, err *Error) int32                                                                                                                                                             // skv_endpoint_progress
	EndpointDrain       func(endpoint unsafe.Pointer, deadline uint64, err *Error) int32                                                                                                                                                             // skv_endpoint_drain
	EndpointPoll        func(endpoint unsafe.Pointer, out *unsafe.Pointer, capacity uintptr, count *uintptr, err *Error) int32                                                                                                                       // skv_endpoint_poll
	EndpointGetStats    func(endpoint unsafe.Pointer, out *EndpointStats, err *Error) int32                                                                                                                                                          // skv_endpoint_get_stats
	EndpointEvents      func(endpoint unsafe.Pointer, out *Event, capacity uintptr, count *uintptr, err *Error) int32                                                                                                                                // skv_endpoint_events
	EndpointDestroy     func(endpoint unsafe.Pointer)                                                                                                                                                                                                // skv_endpoint_destroy
	ConnGet             func(conn unsafe.Pointer, key int32, out *int64, err *Error) int32                                                                                                                                                           // skv_conn_get
	ConnSetCommunicator func(conn unsafe.Pointer, communicator unsafe.Pointer, sending int32, err *Error) int32                                                                                                                                      // skv_conn_set_communicator
	ConnDestroy         func(conn unsafe.Pointer)                                                                                                                                                                                                    // skv_conn_destroy
	Send                func(conn unsafe.Pointer, key uint64, payload unsafe.Pointer, deadline uint64, out *unsafe.Pointer, err *Error) int32                                                                                                        // skv_send
	SendLayers          func(conn unsafe.Pointer, key uint64, payload unsafe.Pointer, deadline uint64, out *unsafe.Pointer, err *Error) int32                                                                                                        // skv_send_layers
	RecvOffer           func(conn unsafe.Pointer, deadline uint64, out *unsafe.Pointer, err *Error) int32                                                                                                                                            // skv_recv_offer
	OfferAccept         func(request unsafe.Pointer, buffer unsafe.Pointer, bytes uintptr, deadline uint64, err *Error) int32                                                                                                                        // skv_offer_accept
	OfferReject         func(request unsafe.Pointer, reason *byte, err *Error) int32                                                                                                                                                                 // skv_offer_reject
	RequestGet          func(request unsafe.Pointer, key int32, out *int64, err *Error) int32                                                                                                                                                        // skv_request_get
	RequestSet          func(request unsafe.Pointer, key int32, value int64, err *Error) int32                                                                                                                                                       // skv_request_set
	RequestIdentity     func(request unsafe.Pointer, fingerprint *byte, request_id *byte, err *Error) int32                                                                                                                                          // skv_request_identity
	RequestTest         func(request unsafe.Pointer, err *Error) int32                                                                                                                                                                               // skv_request_test
	RequestWait         func(request unsafe.Pointer, deadline uint64, err *Error) int32                                                                                                                                                              // skv_request_wait
	RequestWaitLayer    func(request unsafe.Pointer, layer int32, deadline uint64, err *Error) int32                                                                                                                                                 // skv_request_wait_layer
	RequestStreamWait   func(request unsafe.Pointer, layer int32, stream unsafe.Pointer, err *Error) int32                                                                                                                                           // skv_request_stream_wait
	RequestCancel       func(request unsafe.Pointer, err *Error) int32                                                                                                                                                                               // skv_request_cancel
	RequestPayload      func(request unsafe.Pointer, out *unsafe.Pointer, err *Error) int32                                                                                                                                                          // skv_request_payload
	RequestDestroy      func(request unsafe.Pointer, err *Error) int32                                                                                                                                                                               // skv_request_destroy
}

// Handles are pointers to memory of the library's, never of Go's.
var _ unsafe.Pointer

// ABIVersion is what the loaded library must report.
const ABIVersion = 0
