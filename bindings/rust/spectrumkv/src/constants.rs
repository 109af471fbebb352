// SPDX-License-Identifier: Apache-2.0
// Made from include/spectrumkv.h by scripts/generate.sh. Do not edit.

use spectrumkv_sys as sys;

macro_rules! constants {
    ($(#[$text:meta])* $name:ident { $($(#[$about:meta])* $member:ident = $c:ident,)* }) => {
        $(#[$text])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub i32);

        impl $name {
            $($(#[$about])* pub const $member: Self = Self(sys::$c);)*

            /// Every value that this version knows, with its C name.
            pub const ALL: &'static [(Self, &'static str)] = &[$((Self::$member, stringify!($c)),)*];
        }

        impl core::fmt::Debug for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                match Self::ALL.iter().find(|(value, _)| value == self) {
                    Some((_, name)) => f.write_str(name),
                    None => write!(f, concat!(stringify!($name), "({})"), self.0),
                }
            }
        }
    };
}

constants! {
    /// What a call returned: 0 is success, 1 is not finished, negative is an error.
    Status {
        /// `SKV_OK`.
        OK = SKV_OK,
        /// Not an error: the request has not ended yet.
        IN_PROGRESS = SKV_IN_PROGRESS,
        /// An argument makes no sense, or the handle is not of this kind.
        ARGUMENT = SKV_E_ARGUMENT,
        /// A required pointer is NULL.
        NULL = SKV_E_NULL,
        /// An index, count or value is out of its range.
        RANGE = SKV_E_RANGE,
        /// The element type is not supported here.
        DTYPE = SKV_E_DTYPE,
        /// A stride is negative, too small, misaligned or leaves the plane.
        STRIDE = SKV_E_STRIDE,
        /// Two elements of a view share memory.
        OVERLAP = SKV_E_OVERLAP,
        /// A block id is negative, out of the plane, used twice, or there are too few of them.
        BLOCK_ID = SKV_E_BLOCK_ID,
        /// No such option key, or no such name.
        KEY = SKV_E_KEY,
        /// Heads or dims that the codec cannot express.
        GEOMETRY = SKV_E_GEOMETRY,
        /// Zero tokens, zero layers, or a layer or plane that was never set.
        EMPTY = SKV_E_EMPTY,
        /// The handle is not in the state this call needs.
        STATE = SKV_E_STATE,
        /// The request is still live.
        BUSY = SKV_E_BUSY,
        /// The endpoint or conn was destroyed or shut down.
        CLOSED = SKV_E_CLOSED,
        /// `SKV_E_NO_MEMORY`.
        NO_MEMORY = SKV_E_NO_MEMORY,
        /// Threads, sockets, a cap of the endpoint.
        NO_RESOURCE = SKV_E_NO_RESOURCE,
        /// This build or machine lacks it (CUDA, NCCL, a plane).
        UNAVAILABLE = SKV_E_UNAVAILABLE,
        /// The caller's buffer is too small.
        TOO_SMALL = SKV_E_TOO_SMALL,
        /// The operating system said no; native holds errno.
        IO = SKV_E_IO,
        /// Below the floor; the message names the floor.
        BUDGET = SKV_E_BUDGET,
        /// The plan or payload needs something that was not permitted (e.g. dropped tokens).
        PERMITTED = SKV_E_PERMITTED,
        /// A field, map or size contradicts another.
        MALFORMED = SKV_E_MALFORMED,
        /// Ends early.
        TRUNCATED = SKV_E_TRUNCATED,
        /// Bytes after the end.
        TRAILING = SKV_E_TRAILING,
        /// Another wire major.
        VERSION = SKV_E_VERSION,
        /// A flag, code or dtype this version does not know.
        FEATURE = SKV_E_FEATURE,
        /// Payload of another model (fingerprint differs).
        MODEL = SKV_E_MODEL,
        /// Payload of another request.
        REQUEST = SKV_E_REQUEST,
        /// Other layers, heads, dims or tokens than the destination.
        LAYOUT = SKV_E_LAYOUT,
        /// An upgrade or plan of another payload, or a cache that changed since its payload.
        BASE = SKV_E_BASE,
        /// `SKV_E_CHECKSUM`.
        CHECKSUM = SKV_E_CHECKSUM,
        /// Inf or NaN in a row that would be quantized.
        NON_FINITE = SKV_E_NON_FINITE,
        /// A value too large for the quantizer's 16-bit scale.
        OVERFLOW = SKV_E_OVERFLOW,
        /// Native holds the CUDA error.
        CUDA = SKV_E_CUDA,
        /// Native holds the NCCL result.
        NCCL = SKV_E_NCCL,
        /// The peer runs another version of NCCL, or one that is too old was found.
        NCCL_VERSION = SKV_E_NCCL_VERSION,
        /// `SKV_E_TIMED_OUT`.
        TIMED_OUT = SKV_E_TIMED_OUT,
        /// `SKV_E_CANCELLED`.
        CANCELLED = SKV_E_CANCELLED,
        /// `SKV_E_PEER_LOST`.
        PEER_LOST = SKV_E_PEER_LOST,
        /// The receiver said no; its reason is in the message.
        REJECTED = SKV_E_REJECTED,
        /// The peer broke the protocol, or is no spectrumkv.
        PROTOCOL = SKV_E_PROTOCOL,
        /// A device operation could not be ended; its buffers are lost on purpose.
        POISONED = SKV_E_POISONED,
        /// A URI that cannot be parsed, bound or reached.
        ADDRESS = SKV_E_ADDRESS,
        /// The peer is not who it must be, or says so of this end; or unusable keys or certificates.
        AUTH = SKV_E_AUTH,
        /// A defect of this library: please report it.
        INTERNAL = SKV_E_INTERNAL,
    }
}

constants! {
    /// Which half of a layer.
    Half {
        /// `SKV_K`.
        K = SKV_K,
        /// `SKV_V`.
        V = SKV_V,
    }
}

constants! {
    /// Element types.
    DType {
        /// `SKV_F16`.
        F16 = SKV_F16,
        /// `SKV_BF16`.
        BF16 = SKV_BF16,
        /// `SKV_F32`.
        F32 = SKV_F32,
    }
}

constants! {
    /// How many bits a token's row is sent with.
    Tier {
        /// `SKV_TIER_DROP`.
        DROP = SKV_TIER_DROP,
        /// `SKV_TIER_2BIT`.
        TWO_BIT = SKV_TIER_2BIT,
        /// `SKV_TIER_4BIT`.
        FOUR_BIT = SKV_TIER_4BIT,
        /// `SKV_TIER_6BIT`.
        SIX_BIT = SKV_TIER_6BIT,
        /// `SKV_TIER_8BIT`.
        EIGHT_BIT = SKV_TIER_8BIT,
        /// `SKV_TIER_RAW`.
        RAW = SKV_TIER_RAW,
    }
}

constants! {
    /// A set of transforms, one bit each, per layer and half.
    Transforms {
        /// `SKV_TRANSFORM_NONE`.
        NONE = SKV_TRANSFORM_NONE,
        /// Subtract each channel's mean over the chunk.
        MEAN = SKV_TRANSFORM_MEAN,
        /// Divide each channel by the normalised root of its range.
        BALANCE = SKV_TRANSFORM_BALANCE,
        /// N = 8.
        HADAMARD8 = SKV_TRANSFORM_HADAMARD8,
        /// N = 16; not together with HADAMARD8.
        HADAMARD16 = SKV_TRANSFORM_HADAMARD16,
    }
}

constants! {
    /// Quantizers.
    Code {
        /// Four nested 2-bit planes of one 8-bit code (docs/wire-format.md).
        EMBEDDED = SKV_CODE_EMBEDDED,
        /// ArXiv 2606.08635: symmetric absmax/127 and absmax/7 per token and head.
        PAPER = SKV_CODE_PAPER,
    }
}

constants! {
    /// Where a plan's scores came from.
    Scored {
        /// None needed: the strategy ignores them.
        NONE = SKV_SCORED_NONE,
        /// Keys and values only.
        KV = SKV_SCORED_KV,
        /// The last queries.
        QUERIES = SKV_SCORED_QUERIES,
        /// The caller's weights.
        CALLER = SKV_SCORED_CALLER,
    }
}

constants! {
    /// What carries bytes between peers.
    Plane {
        /// `SKV_PLANE_NONE`.
        NONE = SKV_PLANE_NONE,
        /// `SKV_PLANE_INPROC`.
        INPROC = SKV_PLANE_INPROC,
        /// Data frames on the TCP or Unix stream.
        INLINE = SKV_PLANE_INLINE,
        /// GPU to GPU, control on the stream; libnccl.so.2 is loaded when asked for.
        NCCL = SKV_PLANE_NCCL,
        /// UCX active messages, control on the stream; libucp.so.0 is loaded when asked for.
        UCX = SKV_PLANE_UCX,
    }
}

constants! {
    /// How the ends of a conn prove who they are.
    Security {
        /// Not at all; on Unix sockets the kernel vouches for the peer's user.
        NONE = SKV_SECURITY_NONE,
        /// HMAC-SHA256 of the handshake with a shared key; bytes travel in the clear.
        PSK = SKV_SECURITY_PSK,
        /// TLS 1.3, certificates of one authority at both ends.
        TLS = SKV_SECURITY_TLS,
        /// TLS 1.3, a shared key at both ends.
        TLS_PSK = SKV_SECURITY_TLS_PSK,
    }
}

constants! {
    /// Options of an engine.
    EngineKey {
        /// Worker threads including the caller's, 1..256; 0 (default): one a core, at most 8.
        THREADS = SKV_ENGINE_THREADS,
        /// Pin the kernels: one of SKV_TARGET_*; default AUTO, or environment SPECTRUMKV_TARGET.
        TARGET = SKV_ENGINE_TARGET,
    }
}

constants! {
    /// Instruction sets of an engine's kernels.
    Target {
        /// `SKV_TARGET_AUTO`.
        AUTO = SKV_TARGET_AUTO,
        /// `SKV_TARGET_SCALAR`.
        SCALAR = SKV_TARGET_SCALAR,
        /// `SKV_TARGET_AVX2`.
        AVX2 = SKV_TARGET_AVX2,
        /// `SKV_TARGET_AVX512`.
        AVX512 = SKV_TARGET_AVX512,
        /// `SKV_TARGET_NEON`.
        NEON = SKV_TARGET_NEON,
    }
}

constants! {
    /// Options of a cache.
    CacheKey {
        /// 1: the engine behind this cache masks dropped tokens; default 0.
        CAN_MASK = SKV_CACHE_CAN_MASK,
    }
}

constants! {
    /// Whether tiers below 8 bits are safe for a model.
    Verdict {
        /// `SKV_VERDICT_NONE`.
        NONE = SKV_VERDICT_NONE,
        /// `SKV_VERDICT_YES`.
        YES = SKV_VERDICT_YES,
        /// `SKV_VERDICT_NO`.
        NO = SKV_VERDICT_NO,
    }
}

constants! {
    /// What can find that out.
    Probe {
        /// Attention logits of sampled keys under real queries.
        LOGITS = SKV_PROBE_LOGITS,
        /// The paper's needle prompts.
        NEEDLE = SKV_PROBE_NEEDLE,
    }
}

constants! {
    /// Options of a plan, set before it is solved.
    PlanKey {
        /// Leading tokens (of the sequence) kept RAW; default 4, with queries 1.
        SINKS = SKV_PLAN_SINKS,
        /// Tokens that share means and balances, 32..256 in steps of 32; default 256.
        CHUNK = SKV_PLAN_CHUNK,
        /// Default MEAN|BALANCE|HADAMARD8 (HADAMARD16 when k_dim >= 256).
        K_TRANSFORMS = SKV_PLAN_K_TRANSFORMS,
        /// Default HADAMARD8 (HADAMARD16 when v_dim >= 256).
        V_TRANSFORMS = SKV_PLAN_V_TRANSFORMS,
        /// SKV_CODE_*; default EMBEDDED.
        CODE = SKV_PLAN_CODE,
        /// Bit set of 1 \<\< tier the plan may use; default {4,6,8,RAW}.
        K_TIERS = SKV_PLAN_K_TIERS,
        /// Default {2,4,6,8,RAW}.
        V_TIERS = SKV_PLAN_V_TIERS,
        /// How RAW rows of an F32 cache are sent: SKV_F32 (default), SKV_F16 or SKV_BF16.
        RAW_DTYPE = SKV_PLAN_RAW_DTYPE,
        /// 1: tiers below 8 bits without a verdict, see skv_plan_solve; default 0.
        UNPROVEN = SKV_PLAN_UNPROVEN,
        /// SKV_PACK_*: skv_encode packs (skv_payload_pack); "error-aware" then spends what that saves, and the budget counts packed bytes. Such plans are encoded whole. Default NEVER.
        PACK = SKV_PLAN_PACK,
        /// Expected link speed in Mb/s (a receipt's link_bits_per_s / 1e6), for PACK AUTO; default 0: unknown.
        LINK_MBPS = SKV_PLAN_LINK_MBPS,
        /// How low layers of skv_send_layers may be cut that would miss the deadline: SKV_TIER_6BIT or _4BIT; 0 (default): never. Set at any time.
        LATE_TIER = SKV_PLAN_LATE_TIER,
    }
}

constants! {
    /// Whether encoding packs.
    Pack {
        /// Payloads are not packed.
        NEVER = SKV_PACK_NEVER,
        /// Payloads are packed.
        ALWAYS = SKV_PACK_ALWAYS,
        /// If packing and unpacking take less time than the bytes saved on the link.
        AUTO = SKV_PACK_AUTO,
    }
}

constants! {
    /// Facts about a payload or one of its segments.
    PayloadKey {
        /// Of the payload, or of the segment; in bytes.
        BYTES = SKV_PAYLOAD_BYTES,
        /// Payload only.
        LAYERS = SKV_PAYLOAD_LAYERS,
        /// At 16 bits an element.
        RAW_BYTES = SKV_PAYLOAD_RAW_BYTES,
        /// Payload only: major * 256 + minor.
        WIRE = SKV_PAYLOAD_WIRE,
        /// Segment, or the most tokens of any segment.
        TOKENS = SKV_PAYLOAD_TOKENS,
        /// Segment only, as all below: first position.
        POSITION = SKV_PAYLOAD_POSITION,
        /// `SKV_PAYLOAD_HEADS`.
        HEADS = SKV_PAYLOAD_HEADS,
        /// `SKV_PAYLOAD_K_DIM`.
        K_DIM = SKV_PAYLOAD_K_DIM,
        /// `SKV_PAYLOAD_V_DIM`.
        V_DIM = SKV_PAYLOAD_V_DIM,
        /// `SKV_PAYLOAD_DTYPE`.
        DTYPE = SKV_PAYLOAD_DTYPE,
        /// `SKV_PAYLOAD_RAW_DTYPE`.
        RAW_DTYPE = SKV_PAYLOAD_RAW_DTYPE,
        /// `SKV_PAYLOAD_CHUNK`.
        CHUNK = SKV_PAYLOAD_CHUNK,
        /// `SKV_PAYLOAD_CODE`.
        CODE = SKV_PAYLOAD_CODE,
        /// `SKV_PAYLOAD_K_TRANSFORMS`.
        K_TRANSFORMS = SKV_PAYLOAD_K_TRANSFORMS,
        /// `SKV_PAYLOAD_V_TRANSFORMS`.
        V_TRANSFORMS = SKV_PAYLOAD_V_TRANSFORMS,
        /// `SKV_PAYLOAD_GROUP`.
        GROUP = SKV_PAYLOAD_GROUP,
        /// `SKV_PAYLOAD_FIRST_HEAD`.
        FIRST_HEAD = SKV_PAYLOAD_FIRST_HEAD,
        /// Of the segment, from the payload's first byte.
        OFFSET = SKV_PAYLOAD_OFFSET,
        /// Segment: SKV_TIER_* it was cut to because it would have been late, 0: it was not.
        CUT = SKV_PAYLOAD_CUT,
        /// Payload only: CUDA ordinal of the memory that holds it, -1 (SKV_DEVICE_CPU): host.
        DEVICE = SKV_PAYLOAD_DEVICE,
        /// Payload only: 1 for an upgrade, which skv_payload_apply takes and nothing decodes.
        UPGRADE = SKV_PAYLOAD_UPGRADE,
    }
}

constants! {
    /// Who allowed tiers below 8 bits.
    Proof {
        /// None used.
        NONE = SKV_PROOF_NONE,
        /// SKV_PLAN_UNPROVEN.
        CALLER = SKV_PROOF_CALLER,
        /// The profile.
        PROFILE = SKV_PROOF_PROFILE,
        /// The logit probe on this cache.
        LOGITS = SKV_PROOF_LOGITS,
    }
}

constants! {
    /// Options of an endpoint, set before it listens or connects.
    EndpointKey {
        /// 1 (default): own thread; 0: the caller drives skv_endpoint_progress.
        PROGRESS_THREAD = SKV_ENDPOINT_PROGRESS_THREAD,
        /// Bytes; larger offers are rejected; default 8 GiB.
        MAX_PAYLOAD = SKV_ENDPOINT_MAX_PAYLOAD,
        /// Default 1024.
        MAX_CONNS = SKV_ENDPOINT_MAX_CONNS,
        /// Default 5000.
        HANDSHAKE_MS = SKV_ENDPOINT_HANDSHAKE_MS,
        /// PING interval; a peer silent for three of them is lost; default 1000.
        HEARTBEAT_MS = SKV_ENDPOINT_HEARTBEAT_MS,
        /// Bytes of a DATA frame, 4 KiB..1 MiB; default 256 KiB.
        CHUNK = SKV_ENDPOINT_CHUNK,
        /// 1: permit listening on a non-loopback address although no security is set; default 0.
        ALLOW_OPEN_TCP = SKV_ENDPOINT_ALLOW_OPEN_TCP,
        /// Bytes a sender may have under way in a transfer, from 64 KiB; default 32 MiB.
        TRANSFER_CREDIT = SKV_ENDPOINT_TRANSFER_CREDIT,
        /// The same for all transfers to this endpoint together, from 1 MiB; default 256 MiB.
        CREDIT = SKV_ENDPOINT_CREDIT,
        /// User id that Unix peers may have besides this process's own and root; -1 (default): none.
        PEER_UID = SKV_ENDPOINT_PEER_UID,
        /// Peers that came and are not through their handshake yet, 1..65536; default 128.
        MAX_HANDSHAKES = SKV_ENDPOINT_MAX_HANDSHAKES,
        /// Peers a second that may begin a handshake, 1..1000000; default 1000.
        HANDSHAKE_RATE = SKV_ENDPOINT_HANDSHAKE_RATE,
        /// Records kept for skv_endpoint_events, 0..65536; default 1024.
        EVENTS = SKV_ENDPOINT_EVENTS,
        /// What conns may move payloads on: a set of 1 \<\< SKV_PLANE_*. INLINE stands for the control stream's own (INPROC on inproc conns). Two ends take the first of NCCL, UCX, INLINE that both have (SKV_CONN_PLANE tells) and stay with it; with none in common they refuse each other with UNAVAILABLE. One plane alone forces it. Libraries are loaded by the first skv_listen or skv_connect, which fails with UNAVAILABLE if one cannot be. Default 1 \<\< SKV_PLANE_INLINE.
        PLANES = SKV_ENDPOINT_PLANES,
        /// Plane NCCL: the CUDA device that payloads are in and go to; default 0.
        DEVICE = SKV_ENDPOINT_DEVICE,
        /// Plane NCCL: what ending an operation may take before its request ends in POISONED; default 5000.
        ABORT_MS = SKV_ENDPOINT_ABORT_MS,
    }
}

constants! {
    /// What happened at an endpoint.
    EventKind {
        /// Handshake done; duration_ns: what it took.
        CONN_OPEN = SKV_EVENT_CONN_OPEN,
        /// Status: why.
        CONN_CLOSED = SKV_EVENT_CONN_CLOSED,
        /// Status: why.
        HANDSHAKE_FAILED = SKV_EVENT_HANDSHAKE_FAILED,
        /// Bytes: of the payload.
        OFFERED = SKV_EVENT_OFFERED,
        /// Duration_ns: since offered.
        ACCEPTED = SKV_EVENT_ACCEPTED,
        /// Status; bytes: moved; duration_ns: since accepted, 0 if it was not.
        ENDED = SKV_EVENT_ENDED,
    }
}

constants! {
    /// Facts about a conn.
    ConnKey {
        /// SKV_PLANE_*.
        PLANE = SKV_CONN_PLANE,
        /// 1 while usable.
        OPEN = SKV_CONN_OPEN,
        /// `SKV_CONN_PEER_VERSION`.
        PEER_VERSION = SKV_CONN_PEER_VERSION,
        /// SKV_SECURITY_*.
        SECURITY = SKV_CONN_SECURITY,
    }
}

constants! {
    /// States of a request.
    RequestState {
        /// Waiting for the peer.
        PENDING = SKV_REQUEST_PENDING,
        /// Receive side: decide.
        OFFERED = SKV_REQUEST_OFFERED,
        /// Accepted, bytes under way.
        MOVING = SKV_REQUEST_MOVING,
        /// Terminal.
        ENDED = SKV_REQUEST_ENDED,
    }
}

constants! {
    /// Facts about a request.
    RequestKey {
        /// `SKV_REQUEST_STATE`.
        STATE = SKV_REQUEST_STATE,
        /// The sender's key.
        KEY = SKV_REQUEST_KEY,
        /// Payload bytes offered.
        BYTES = SKV_REQUEST_BYTES,
        /// Segments offered.
        LAYERS = SKV_REQUEST_LAYERS,
        /// Payload bytes moved so far.
        MOVED = SKV_REQUEST_MOVED,
        /// Leading layers that arrived and verified.
        LAYERS_READY = SKV_REQUEST_LAYERS_READY,
        /// Accepted -> ended.
        WIRE_NS = SKV_REQUEST_WIRE_NS,
        /// 1: skv_request_payload may be called before the end; see skv_request_set.
        EARLY_LAYERS = SKV_REQUEST_EARLY_LAYERS,
    }
}
