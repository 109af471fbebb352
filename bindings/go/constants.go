// SPDX-License-Identifier: Apache-2.0
// Code generated from include/spectrumkv.h by scripts/generate.sh. DO NOT EDIT.

package spectrumkv

// Versions, sizes and special values.
const (
	VersionMajor     = 0
	VersionMinor     = 1
	VersionPatch     = 0
	ABIVersion       = 0
	WireMajor        = 1
	WireMinor        = 0
	All              = -1 // "every layer" where a layer index is taken and the comment allows it
	FingerprintBytes = 32
	RequestIDBytes   = 16
	DeviceCPU        = -1 // >= 0: CUDA device ordinal
	NeedleTrials     = 3
)

// Status: what a call returned: 0 is success, 1 is not finished, negative is an error.
type Status int32

const (
	OK             Status = 0
	InProgress     Status = 1   // not an error: the request has not ended yet
	ErrArgument    Status = -10 // an argument makes no sense, or the handle is not of this kind
	ErrNull        Status = -11 // a required pointer is NULL
	ErrRange       Status = -12 // an index, count or value is out of its range
	ErrDType       Status = -13 // the element type is not supported here
	ErrStride      Status = -14 // a stride is negative, too small, misaligned or leaves the plane
	ErrOverlap     Status = -15 // two elements of a view share memory
	ErrBlockID     Status = -16 // a block id is negative, out of the plane, used twice, or there are too few of them
	ErrKey         Status = -17 // no such option key, or no such name
	ErrGeometry    Status = -18 // heads or dims that the codec cannot express
	ErrEmpty       Status = -19 // zero tokens, zero layers, or a layer or plane that was never set
	ErrState       Status = -20 // the handle is not in the state this call needs
	ErrBusy        Status = -21 // the request is still live
	ErrClosed      Status = -22 // the endpoint or conn was destroyed or shut down
	ErrNoMemory    Status = -30
	ErrNoResource  Status = -31 // threads, sockets, a cap of the endpoint
	ErrUnavailable Status = -32 // this build or machine lacks it (CUDA, NCCL, a plane)
	ErrTooSmall    Status = -33 // the caller's buffer is too small
	ErrIO          Status = -34 // the operating system said no; native holds errno
	ErrBudget      Status = -40 // below the floor; the message names the floor
	ErrPermitted   Status = -41 // the plan or payload needs something that was not permitted (e.g. dropped tokens)
	ErrMalformed   Status = -50 // a field, map or size contradicts another
	ErrTruncated   Status = -51 // ends early
	ErrTrailing    Status = -52 // bytes after the end
	ErrVersion     Status = -60 // another wire major
	ErrFeature     Status = -61 // a flag, code or dtype this version does not know
	ErrModel       Status = -70 // payload of another model (fingerprint differs)
	ErrRequest     Status = -71 // payload of another request
	ErrLayout      Status = -72 // other layers, heads, dims or tokens than the destination
	ErrBase        Status = -73 // an upgrade or plan of another payload, or a cache that changed since its payload
	ErrChecksum    Status = -80
	ErrNonFinite   Status = -90  // Inf or NaN in a row that would be quantized
	ErrOverflow    Status = -91  // a value too large for the quantizer's 16-bit scale
	ErrCUDA        Status = -100 // native holds the CUDA error
	ErrNCCL        Status = -110 // native holds the NCCL result
	ErrNCCLVersion Status = -111 // the peer runs another version of NCCL, or one that is too old was found
	ErrTimedOut    Status = -120
	ErrCancelled   Status = -121
	ErrPeerLost    Status = -122
	ErrRejected    Status = -123 // the receiver said no; its reason is in the message
	ErrProtocol    Status = -124 // the peer broke the protocol, or is no spectrumkv
	ErrPoisoned    Status = -125 // a device operation could not be ended; its buffers are lost on purpose
	ErrAddress     Status = -126 // a URI that cannot be parsed, bound or reached
	ErrAuth        Status = -127 // the peer is not who it must be, or says so of this end; or unusable keys or certificates
	ErrInternal    Status = -130 // a defect of this library: please report it
)

var namesStatus = map[Status]string{
	OK:             "SKV_OK",
	InProgress:     "SKV_IN_PROGRESS",
	ErrArgument:    "SKV_E_ARGUMENT",
	ErrNull:        "SKV_E_NULL",
	ErrRange:       "SKV_E_RANGE",
	ErrDType:       "SKV_E_DTYPE",
	ErrStride:      "SKV_E_STRIDE",
	ErrOverlap:     "SKV_E_OVERLAP",
	ErrBlockID:     "SKV_E_BLOCK_ID",
	ErrKey:         "SKV_E_KEY",
	ErrGeometry:    "SKV_E_GEOMETRY",
	ErrEmpty:       "SKV_E_EMPTY",
	ErrState:       "SKV_E_STATE",
	ErrBusy:        "SKV_E_BUSY",
	ErrClosed:      "SKV_E_CLOSED",
	ErrNoMemory:    "SKV_E_NO_MEMORY",
	ErrNoResource:  "SKV_E_NO_RESOURCE",
	ErrUnavailable: "SKV_E_UNAVAILABLE",
	ErrTooSmall:    "SKV_E_TOO_SMALL",
	ErrIO:          "SKV_E_IO",
	ErrBudget:      "SKV_E_BUDGET",
	ErrPermitted:   "SKV_E_PERMITTED",
	ErrMalformed:   "SKV_E_MALFORMED",
	ErrTruncated:   "SKV_E_TRUNCATED",
	ErrTrailing:    "SKV_E_TRAILING",
	ErrVersion:     "SKV_E_VERSION",
	ErrFeature:     "SKV_E_FEATURE",
	ErrModel:       "SKV_E_MODEL",
	ErrRequest:     "SKV_E_REQUEST",
	ErrLayout:      "SKV_E_LAYOUT",
	ErrBase:        "SKV_E_BASE",
	ErrChecksum:    "SKV_E_CHECKSUM",
	ErrNonFinite:   "SKV_E_NON_FINITE",
	ErrOverflow:    "SKV_E_OVERFLOW",
	ErrCUDA:        "SKV_E_CUDA",
	ErrNCCL:        "SKV_E_NCCL",
	ErrNCCLVersion: "SKV_E_NCCL_VERSION",
	ErrTimedOut:    "SKV_E_TIMED_OUT",
	ErrCancelled:   "SKV_E_CANCELLED",
	ErrPeerLost:    "SKV_E_PEER_LOST",
	ErrRejected:    "SKV_E_REJECTED",
	ErrProtocol:    "SKV_E_PROTOCOL",
	ErrPoisoned:    "SKV_E_POISONED",
	ErrAddress:     "SKV_E_ADDRESS",
	ErrAuth:        "SKV_E_AUTH",
	ErrInternal:    "SKV_E_INTERNAL",
}

// String is the C name, or the number of a value that this version does not know.
func (x Status) String() string { return nameOf(x, namesStatus) }

// Half: which half of a layer.
type Half int32

const (
	K Half = 0
	V Half = 1
)

var namesHalf = map[Half]string{
	K: "SKV_K",
	V: "SKV_V",
}

// String is the C name, or the number of a value that this version does not know.
func (x Half) String() string { return nameOf(x, namesHalf) }

// DType: element types.
type DType int32

const (
	F16  DType = 1
	BF16 DType = 2
	F32  DType = 3
)

var namesDType = map[DType]string{
	F16:  "SKV_F16",
	BF16: "SKV_BF16",
	F32:  "SKV_F32",
}

// String is the C name, or the number of a value that this version does not know.
func (x DType) String() string { return nameOf(x, namesDType) }

// Tier: how many bits a token's row is sent with.
type Tier int32

const (
	TierDrop Tier = 0
	Tier2Bit Tier = 1
	Tier4Bit Tier = 2
	Tier6Bit Tier = 3
	Tier8Bit Tier = 4
	TierRaw  Tier = 5
)

var namesTier = map[Tier]string{
	TierDrop: "SKV_TIER_DROP",
	Tier2Bit: "SKV_TIER_2BIT",
	Tier4Bit: "SKV_TIER_4BIT",
	Tier6Bit: "SKV_TIER_6BIT",
	Tier8Bit: "SKV_TIER_8BIT",
	TierRaw:  "SKV_TIER_RAW",
}

// String is the C name, or the number of a value that this version does not know.
func (x Tier) String() string { return nameOf(x, namesTier) }

// Transforms: a set of transforms, one bit each, per layer and half.
type Transforms int32

const (
	TransformNone       Transforms = 0
	TransformMean       Transforms = 1 // subtract each channel's mean over the chunk
	TransformBalance    Transforms = 2 // divide each channel by the normalised root of its range
	TransformHadamard8  Transforms = 4 // n = 8
	TransformHadamard16 Transforms = 8 // n = 16; not together with HADAMARD8
)

var namesTransforms = map[Transforms]string{
	TransformNone:       "SKV_TRANSFORM_NONE",
	TransformMean:       "SKV_TRANSFORM_MEAN",
	TransformBalance:    "SKV_TRANSFORM_BALANCE",
	TransformHadamard8:  "SKV_TRANSFORM_HADAMARD8",
	TransformHadamard16: "SKV_TRANSFORM_HADAMARD16",
}

// String is the C name, or the number of a value that this version does not know.
func (x Transforms) String() string { return nameOf(x, namesTransforms) }

// Code: quantizers.
type Code int32

const (
	CodeEmbedded Code = 0 // four nested 2-bit planes of one 8-bit code (docs/wire-format.md)
	CodePaper    Code = 1 // arXiv 2606.08635: symmetric absmax/127 and absmax/7 per token and head
)

var namesCode = map[Code]string{
	CodeEmbedded: "SKV_CODE_EMBEDDED",
	CodePaper:    "SKV_CODE_PAPER",
}

// String is the C name, or the number of a value that this version does not know.
func (x Code) String() string { return nameOf(x, namesCode) }

// Scored: where a plan's scores came from.
type Scored int32

const (
	ScoredNone    Scored = 0 // none needed: the strategy ignores them
	ScoredKV      Scored = 1 // keys and values only
	ScoredQueries Scored = 2 // the last queries
	ScoredCaller  Scored = 3 // the caller's weights
)

var namesScored = map[Scored]string{
	ScoredNone:    "SKV_SCORED_NONE",
	ScoredKV:      "SKV_SCORED_KV",
	ScoredQueries: "SKV_SCORED_QUERIES",
	ScoredCaller:  "SKV_SCORED_CALLER",
}

// String is the C name, or the number of a value that this version does not know.
func (x Scored) String() string { return nameOf(x, namesScored) }

// Plane: what carries bytes between peers.
type Plane int32

const (
	PlaneNone   Plane = 0
	PlaneInproc Plane = 1
	PlaneInline Plane = 2 // data frames on the TCP or Unix stream
	PlaneNCCL   Plane = 3 // GPU to GPU, control on the stream; libnccl.so.2 is loaded when asked for
	PlaneUcx    Plane = 4 // UCX active messages, control on the stream; libucp.so.0 is loaded when asked for
)

var namesPlane = map[Plane]string{
	PlaneNone:   "SKV_PLANE_NONE",
	PlaneInproc: "SKV_PLANE_INPROC",
	PlaneInline: "SKV_PLANE_INLINE",
	PlaneNCCL:   "SKV_PLANE_NCCL",
	PlaneUcx:    "SKV_PLANE_UCX",
}

// String is the C name, or the number of a value that this version does not know.
func (x Plane) String() string { return nameOf(x, namesPlane) }

// Security: how the ends of a conn prove who they are.
type Security int32

const (
	SecurityNone   Security = 0 // not at all; on Unix sockets the kernel vouches for the peer's user
	SecurityPsk    Security = 1 // HMAC-SHA256 of the handshake with a shared key; bytes travel in the clear
	SecurityTls    Security = 2 // TLS 1.3, certificates of one authority at both ends
	SecurityTlsPsk Security = 3 // TLS 1.3, a shared key at both ends
)

var namesSecurity = map[Security]string{
	SecurityNone:   "SKV_SECURITY_NONE",
	SecurityPsk:    "SKV_SECURITY_PSK",
	SecurityTls:    "SKV_SECURITY_TLS",
	SecurityTlsPsk: "SKV_SECURITY_TLS_PSK",
}

// String is the C name, or the number of a value that this version does not know.
func (x Security) String() string { return nameOf(x, namesSecurity) }

// EngineKey: options of an engine.
type EngineKey int32

const (
	EngineThreads EngineKey = 1 // worker threads including the caller's, 1..256; 0 (default): one a core, at most 8
	EngineTarget  EngineKey = 2 // pin the kernels: one of SKV_TARGET_*; default AUTO, or environment SPECTRUMKV_TARGET
)

var namesEngineKey = map[EngineKey]string{
	EngineThreads: "SKV_ENGINE_THREADS",
	EngineTarget:  "SKV_ENGINE_TARGET",
}

// String is the C name, or the number of a value that this version does not know.
func (x EngineKey) String() string { return nameOf(x, namesEngineKey) }

// Target: instruction sets of an engine's kernels.
type Target int32

const (
	TargetAuto   Target = 0
	TargetScalar Target = 1
	TargetAVX2   Target = 2
	TargetAVX512 Target = 3
	TargetNeon   Target = 4
)

var namesTarget = map[Target]string{
	TargetAuto:   "SKV_TARGET_AUTO",
	TargetScalar: "SKV_TARGET_SCALAR",
	TargetAVX2:   "SKV_TARGET_AVX2",
	TargetAVX512: "SKV_TARGET_AVX512",
	TargetNeon:   "SKV_TARGET_NEON",
}

// String is the C name, or the number of a value that this version does not know.
func (x Target) String() string { return nameOf(x, namesTarget) }

// CacheKey: options of a cache.
type CacheKey int32

const (
	CacheCanMask CacheKey = 1 // 1: the engine behind this cache masks dropped tokens; default 0
)

var namesCacheKey = map[CacheKey]string{
	CacheCanMask: "SKV_CACHE_CAN_MASK",
}

// String is the C name, or the number of a value that this version does not know.
func (x CacheKey) String() string { return nameOf(x, namesCacheKey) }

// Verdict: whether tiers below 8 bits are safe for a model.
type Verdict int32

const (
	VerdictNone Verdict = 0
	VerdictYes  Verdict = 1
	VerdictNo   Verdict = 2
)

var namesVerdict = map[Verdict]string{
	VerdictNone: "SKV_VERDICT_NONE",
	VerdictYes:  "SKV_VERDICT_YES",
	VerdictNo:   "SKV_VERDICT_NO",
}

// String is the C name, or the number of a value that this version does not know.
func (x Verdict) String() string { return nameOf(x, namesVerdict) }

// Probe: what can find that out.
type Probe int32

const (
	ProbeLogits Probe = 0 // attention logits of sampled keys under real queries
	ProbeNeedle Probe = 1 // the paper's needle prompts
)

var namesProbe = map[Probe]string{
	ProbeLogits: "SKV_PROBE_LOGITS",
	ProbeNeedle: "SKV_PROBE_NEEDLE",
}

// String is the C name, or the number of a value that this version does not know.
func (x Probe) String() string { return nameOf(x, namesProbe) }

// PlanKey: options of a plan, set before it is solved.
type PlanKey int32

const (
	PlanSinks       PlanKey = 1  // leading tokens (of the sequence) kept RAW; default 4, with queries 1
	PlanChunk       PlanKey = 2  // tokens that share means and balances, 32..256 in steps of 32; default 256
	PlanKTransforms PlanKey = 3  // default MEAN|BALANCE|HADAMARD8 (HADAMARD16 when k_dim >= 256)
	PlanVTransforms PlanKey = 4  // default HADAMARD8 (HADAMARD16 when v_dim >= 256)
	PlanCode        PlanKey = 5  // SKV_CODE_*; default EMBEDDED
	PlanKTiers      PlanKey = 6  // bit set of 1 << tier the plan may use; default {4,6,8,RAW}
	PlanVTiers      PlanKey = 7  // default {2,4,6,8,RAW}
	PlanRawDType    PlanKey = 8  // how RAW rows of an F32 cache are sent: SKV_F32 (default), SKV_F16 or SKV_BF16
	PlanUnproven    PlanKey = 9  // 1: tiers below 8 bits without a verdict, see skv_plan_solve; default 0
	PlanPack        PlanKey = 10 // SKV_PACK_*: skv_encode packs (skv_payload_pack); "error-aware" then spends what that saves, and the budget counts packed bytes. Such plans are encoded whole. Default NEVER
	PlanLinkMbps    PlanKey = 11 // expected link speed in Mb/s (a receipt's link_bits_per_s / 1e6), for PACK AUTO; default 0: unknown
	PlanLateTier    PlanKey = 12 // how low layers of skv_send_layers may be cut that would miss the deadline: SKV_TIER_6BIT or _4BIT; 0 (default): never. Set at any time
)

var namesPlanKey = map[PlanKey]string{
	PlanSinks:       "SKV_PLAN_SINKS",
	PlanChunk:       "SKV_PLAN_CHUNK",
	PlanKTransforms: "SKV_PLAN_K_TRANSFORMS",
	PlanVTransforms: "SKV_PLAN_V_TRANSFORMS",
	PlanCode:        "SKV_PLAN_CODE",
	PlanKTiers:      "SKV_PLAN_K_TIERS",
	PlanVTiers:      "SKV_PLAN_V_TIERS",
	PlanRawDType:    "SKV_PLAN_RAW_DTYPE",
	PlanUnproven:    "SKV_PLAN_UNPROVEN",
	PlanPack:        "SKV_PLAN_PACK",
	PlanLinkMbps:    "SKV_PLAN_LINK_MBPS",
	PlanLateTier:    "SKV_PLAN_LATE_TIER",
}

// String is the C name, or the number of a value that this version does not know.
func (x PlanKey) String() string { return nameOf(x, namesPlanKey) }

// Pack: whether encoding packs.
type Pack int32

const (
	PackNever  Pack = 0 // payloads are not packed
	PackAlways Pack = 1 // payloads are packed
	PackAuto   Pack = 2 // if packing and unpacking take less time than the bytes saved on the link
)

var namesPack = map[Pack]string{
	PackNever:  "SKV_PACK_NEVER",
	PackAlways: "SKV_PACK_ALWAYS",
	PackAuto:   "SKV_PACK_AUTO",
}

// String is the C name, or the number of a value that this version does not know.
func (x Pack) String() string { return nameOf(x, namesPack) }

// PayloadKey: facts about a payload or one of its segments.
type PayloadKey int32

const (
	PayloadBytes       PayloadKey = 1 // of the payload, or of the segment; in bytes
	PayloadLayers      PayloadKey = 2 // payload only
	PayloadRawBytes    PayloadKey = 3 // at 16 bits an element
	PayloadWire        PayloadKey = 4 // payload only: major * 256 + minor
	PayloadTokens      PayloadKey = 5 // segment, or the most tokens of any segment
	PayloadPosition    PayloadKey = 6 // segment only, as all below: first position
	PayloadHeads       PayloadKey = 7
	PayloadKDim        PayloadKey = 8
	PayloadVDim        PayloadKey = 9
	PayloadDType       PayloadKey = 10
	PayloadRawDType    PayloadKey = 11
	PayloadChunk       PayloadKey = 12
	PayloadCode        PayloadKey = 13
	PayloadKTransforms PayloadKey = 14
	PayloadVTransforms PayloadKey = 15
	PayloadGroup       PayloadKey = 16
	PayloadFirstHead   PayloadKey = 17
	PayloadOffset      PayloadKey = 18 // of the segment, from the payload's first byte
	PayloadCut         PayloadKey = 21 // segment: SKV_TIER_* it was cut to because it would have been late, 0: it was not
	PayloadDevice      PayloadKey = 19 // payload only: CUDA ordinal of the memory that holds it, -1 (SKV_DEVICE_CPU): host
	PayloadUpgrade     PayloadKey = 20 // payload only: 1 for an upgrade, which skv_payload_apply takes and nothing decodes
)

var namesPayloadKey = map[PayloadKey]string{
	PayloadBytes:       "SKV_PAYLOAD_BYTES",
	PayloadLayers:      "SKV_PAYLOAD_LAYERS",
	PayloadRawBytes:    "SKV_PAYLOAD_RAW_BYTES",
	PayloadWire:        "SKV_PAYLOAD_WIRE",
	PayloadTokens:      "SKV_PAYLOAD_TOKENS",
	PayloadPosition:    "SKV_PAYLOAD_POSITION",
	PayloadHeads:       "SKV_PAYLOAD_HEADS",
	PayloadKDim:        "SKV_PAYLOAD_K_DIM",
	PayloadVDim:        "SKV_PAYLOAD_V_DIM",
	PayloadDType:       "SKV_PAYLOAD_DTYPE",
	PayloadRawDType:    "SKV_PAYLOAD_RAW_DTYPE",
	PayloadChunk:       "SKV_PAYLOAD_CHUNK",
	PayloadCode:        "SKV_PAYLOAD_CODE",
	PayloadKTransforms: "SKV_PAYLOAD_K_TRANSFORMS",
	PayloadVTransforms: "SKV_PAYLOAD_V_TRANSFORMS",
	PayloadGroup:       "SKV_PAYLOAD_GROUP",
	PayloadFirstHead:   "SKV_PAYLOAD_FIRST_HEAD",
	PayloadOffset:      "SKV_PAYLOAD_OFFSET",
	PayloadCut:         "SKV_PAYLOAD_CUT",
	PayloadDevice:      "SKV_PAYLOAD_DEVICE",
	PayloadUpgrade:     "SKV_PAYLOAD_UPGRADE",
}

// String is the C name, or the number of a value that this version does not know.
func (x PayloadKey) String() string { return nameOf(x, namesPayloadKey) }

// Proof: who allowed tiers below 8 bits.
type Proof int32

const (
	ProofNone    Proof = 0 // none used
	ProofCaller  Proof = 1 // SKV_PLAN_UNPROVEN
	ProofProfile Proof = 2 // the profile
	ProofLogits  Proof = 3 // the logit probe on this cache
)

var namesProof = map[Proof]string{
	ProofNone:    "SKV_PROOF_NONE",
	ProofCaller:  "SKV_PROOF_CALLER",
	ProofProfile: "SKV_PROOF_PROFILE",
	ProofLogits:  "SKV_PROOF_LOGITS",
}

// String is the C name, or the number of a value that this version does not know.
func (x Proof) String() string { return nameOf(x, namesProof) }

// EndpointKey: options of an endpoint, set before it listens or connects.
type EndpointKey int32

const (
	EndpointProgressThread EndpointKey = 1  // 1 (default): own thread; 0: the caller drives skv_endpoint_progress
	EndpointMaxPayload     EndpointKey = 2  // bytes; larger offers are rejected; default 8 GiB
	EndpointMaxConns       EndpointKey = 3  // default 1024
	EndpointHandshakeMS    EndpointKey = 4  // default 5000
	EndpointHeartbeatMS    EndpointKey = 5  // PING interval; a peer silent for three of them is lost; default 1000
	EndpointChunk          EndpointKey = 6  // bytes of a DATA frame, 4 KiB..1 MiB; default 256 KiB
	EndpointAllowOpenTCP   EndpointKey = 7  // 1: permit listening on a non-loopback address although no security is set; default 0
	EndpointTransferCredit EndpointKey = 8  // bytes a sender may have under way in a transfer, from 64 KiB; default 32 MiB
	EndpointCredit         EndpointKey = 9  // the same for all transfers to this endpoint together, from 1 MiB; default 256 MiB
	EndpointPeerUid        EndpointKey = 10 // user id that Unix peers may have besides this process's own and root; -1 (default): none
	EndpointMaxHandshakes  EndpointKey = 11 // peers that came and are not through their handshake yet, 1..65536; default 128
	EndpointHandshakeRate  EndpointKey = 12 // peers a second that may begin a handshake, 1..1000000; default 1000
	EndpointEvents         EndpointKey = 13 // records kept for skv_endpoint_events, 0..65536; default 1024
	EndpointPlanes         EndpointKey = 14 // what conns may move payloads on: a set of 1 << SKV_PLANE_*. INLINE stands for the control stream's own (INPROC on inproc conns). Two ends take the first of NCCL, UCX, INLINE that both have (SKV_CONN_PLANE tells) and stay with it; with none in common they refuse each other with UNAVAILABLE. One plane alone forces it. Libraries are loaded by the first skv_listen or skv_connect, which fails with UNAVAILABLE if one cannot be. Default 1 << SKV_PLANE_INLINE
	EndpointDevice         EndpointKey = 15 // plane NCCL: the CUDA device that payloads are in and go to; default 0
	EndpointAbortMS        EndpointKey = 16 // plane NCCL: what ending an operation may take before its request ends in POISONED; default 5000
)

var namesEndpointKey = map[EndpointKey]string{
	EndpointProgressThread: "SKV_ENDPOINT_PROGRESS_THREAD",
	EndpointMaxPayload:     "SKV_ENDPOINT_MAX_PAYLOAD",
	EndpointMaxConns:       "SKV_ENDPOINT_MAX_CONNS",
	EndpointHandshakeMS:    "SKV_ENDPOINT_HANDSHAKE_MS",
	EndpointHeartbeatMS:    "SKV_ENDPOINT_HEARTBEAT_MS",
	EndpointChunk:          "SKV_ENDPOINT_CHUNK",
	EndpointAllowOpenTCP:   "SKV_ENDPOINT_ALLOW_OPEN_TCP",
	EndpointTransferCredit: "SKV_ENDPOINT_TRANSFER_CREDIT",
	EndpointCredit:         "SKV_ENDPOINT_CREDIT",
	EndpointPeerUid:        "SKV_ENDPOINT_PEER_UID",
	EndpointMaxHandshakes:  "SKV_ENDPOINT_MAX_HANDSHAKES",
	EndpointHandshakeRate:  "SKV_ENDPOINT_HANDSHAKE_RATE",
	EndpointEvents:         "SKV_ENDPOINT_EVENTS",
	EndpointPlanes:         "SKV_ENDPOINT_PLANES",
	EndpointDevice:         "SKV_ENDPOINT_DEVICE",
	EndpointAbortMS:        "SKV_ENDPOINT_ABORT_MS",
}

// String is the C name, or the number of a value that this version does not know.
func (x EndpointKey) String() string { return nameOf(x, namesEndpointKey) }

// EventKind: what happened at an endpoint.
type EventKind int32

const (
	EventConnOpen        EventKind = 1 // handshake done; duration_ns: what it took
	EventConnClosed      EventKind = 2 // status: why
	EventHandshakeFailed EventKind = 3 // status: why
	EventOffered         EventKind = 4 // bytes: of the payload
	EventAccepted        EventKind = 5 // duration_ns: since offered
	EventEnded           EventKind = 6 // status; bytes: moved; duration_ns: since accepted, 0 if it was not
)

var namesEventKind = map[EventKind]string{
	EventConnOpen:        "SKV_EVENT_CONN_OPEN",
	EventConnClosed:      "SKV_EVENT_CONN_CLOSED",
	EventHandshakeFailed: "SKV_EVENT_HANDSHAKE_FAILED",
	EventOffered:         "SKV_EVENT_OFFERED",
	EventAccepted:        "SKV_EVENT_ACCEPTED",
	EventEnded:           "SKV_EVENT_ENDED",
}

// String is the C name, or the number of a value that this version does not know.
func (x EventKind) String() string { return nameOf(x, namesEventKind) }

// ConnKey: facts about a conn.
type ConnKey int32

const (
	ConnPlane       ConnKey = 1 // SKV_PLANE_*
	ConnOpen        ConnKey = 2 // 1 while usable
	ConnPeerVersion ConnKey = 3
	ConnSecurity    ConnKey = 4 // SKV_SECURITY_*
)

var namesConnKey = map[ConnKey]string{
	ConnPlane:       "SKV_CONN_PLANE",
	ConnOpen:        "SKV_CONN_OPEN",
	ConnPeerVersion: "SKV_CONN_PEER_VERSION",
	ConnSecurity:    "SKV_CONN_SECURITY",
}

// String is the C name, or the number of a value that this version does not know.
func (x ConnKey) String() string { return nameOf(x, namesConnKey) }

// RequestState: states of a request.
type RequestState int32

const (
	RequestPending RequestState = 0 // waiting for the peer
	RequestOffered RequestState = 1 // receive side: decide
	RequestMoving  RequestState = 2 // accepted, bytes under way
	RequestEnded   RequestState = 3 // terminal
)

var namesRequestState = map[RequestState]string{
	RequestPending: "SKV_REQUEST_PENDING",
	RequestOffered: "SKV_REQUEST_OFFERED",
	RequestMoving:  "SKV_REQUEST_MOVING",
	RequestEnded:   "SKV_REQUEST_ENDED",
}

// String is the C name, or the number of a value that this version does not know.
func (x RequestState) String() string { return nameOf(x, namesRequestState) }

// RequestKey: facts about a request.
type RequestKey int32

const (
	RequestStateKey    RequestKey = 1
	RequestKeyKey      RequestKey = 2 // the sender's key
	RequestBytes       RequestKey = 3 // payload bytes offered
	RequestLayers      RequestKey = 4 // segments offered
	RequestMoved       RequestKey = 5 // payload bytes moved so far
	RequestLayersReady RequestKey = 6 // leading layers that arrived and verified
	RequestWireNS      RequestKey = 7 // accepted -> ended
	RequestEarlyLayers RequestKey = 8 // 1: skv_request_payload may be called before the end; see skv_request_set
)

var namesRequestKey = map[RequestKey]string{
	RequestStateKey:    "SKV_REQUEST_STATE",
	RequestKeyKey:      "SKV_REQUEST_KEY",
	RequestBytes:       "SKV_REQUEST_BYTES",
	RequestLayers:      "SKV_REQUEST_LAYERS",
	RequestMoved:       "SKV_REQUEST_MOVED",
	RequestLayersReady: "SKV_REQUEST_LAYERS_READY",
	RequestWireNS:      "SKV_REQUEST_WIRE_NS",
	RequestEarlyLayers: "SKV_REQUEST_EARLY_LAYERS",
}

// String is the C name, or the number of a value that this version does not know.
func (x RequestKey) String() string { return nameOf(x, namesRequestKey) }
