// SPDX-License-Identifier: Apache-2.0

package spectrumkv

import (
	"io"
	"runtime"
	"unsafe"

	"github.com/spectrumkv/libspectrumkv/bindings/go/internal/abi"
)

// Payload is the encoded bytes, self-describing, one segment a layer.
type Payload struct{ o *owned }

func newPayload(handle unsafe.Pointer, keep ...*memory) *Payload {
	p := new(Payload)
	p.o = own(p, "payload", handle, false, infallible(abi.Lib.PayloadDestroy))
	p.o.keep = keep
	return p
}

// Open opens bytes as a payload, without a copy: they are pinned until the payload is closed and no live request needs them,
// and must not change. Safe on untrusted bytes: header, lengths, maps and fields are checked here, digests when decoding or by
// [Payload.Verify].
//
// Errors: ErrNull, ErrTruncated, ErrTrailing, ErrMalformed, ErrVersion, ErrFeature, ErrChecksum (of the header),
// ErrUnavailable (no library).
func Open(bytes []byte) (p *Payload, err error) {
	if err := ready(); err != nil {
		return nil, err
	}
	if bytes == nil {
		bytes = []byte{}
	}
	m := pinned(bytes)
	err = do(func(at *frame) int32 {
		status := abi.Lib.PayloadOpen(unsafe.Pointer(unsafe.SliceData(bytes)), uintptr(len(bytes)), &at.handle, &at.err)
		if status == 0 {
			p = newPayload(at.handle, m)
		}
		return status
	})
	if err != nil {
		m.release()
	}
	return p, err
}

// NewPayload makes an empty payload for a solved plan, to be filled by [Engine.EncodeLayer], readable once every layer is in.
//
// Errors: those of the view, ErrState (plan not solved), ErrLayout, ErrNoMemory.
func NewPayload(cache *Cache, plan *Plan) (p *Payload, err error) {
	err = use([]holder{cache, plan}, func(h []unsafe.Pointer) error {
		return do(func(at *frame) int32 {
			status := abi.Lib.PayloadCreate(h[0], h[1], nil, 0, &at.handle, &at.err)
			if status == 0 {
				p = newPayload(at.handle)
			}
			return status
		})
	})
	return p, err
}

func (p *Payload) owner() *owned { return p.o }

// Close releases the payload. Calling it again does nothing.
func (p *Payload) Close() error { return p.o.close() }

func (p *Payload) do(f func(payload unsafe.Pointer, at *frame) int32) error {
	return with(p, func(payload unsafe.Pointer) error {
		return do(func(at *frame) int32 { return f(payload, at) })
	})
}

// Verify checks every segment's digest. Errors: ErrChecksum, ErrState (under construction).
func (p *Payload) Verify() error {
	return p.do(func(payload unsafe.Pointer, at *frame) int32 { return abi.Lib.PayloadVerify(payload, &at.err) })
}

// Apply joins the payload and an upgrade of it into a new payload, which may be upgraded again.
//
// Errors: ErrBase (an upgrade of another payload), ErrModel, ErrRequest, ErrState (not a payload and an upgrade), ErrChecksum,
// ErrMalformed, ErrNoMemory.
func (p *Payload) Apply(upgrade *Payload) (result *Payload, err error) {
	err = use([]holder{p, upgrade}, func(h []unsafe.Pointer) error {
		return do(func(at *frame) int32 {
			status := abi.Lib.PayloadApply(h[0], h[1], &at.handle, &at.err)
			if status == 0 {
				result = newPayload(at.handle)
			}
			return status
		})
	})
	return result, err
}

// Truncate makes a new payload at the tiers of a plan that [Plan.Truncate] solved for this one.
//
// Errors: ErrState (plan not solved by Truncate), ErrBase (solved for another payload), ErrChecksum, ErrNoMemory.
func (p *Payload) Truncate(plan *Plan) (result *Payload, err error) {
	err = use([]holder{p, plan}, func(h []unsafe.Pointer) error {
		return do(func(at *frame) int32 {
			status := abi.Lib.PayloadTruncate(h[0], h[1], &at.handle, &at.err)
			if status == 0 {
				result = newPayload(at.handle)
			}
			return status
		})
	})
	return result, err
}

// View calls f with the bytes, without a copy. They must not be kept or changed. f may call methods of the payload, and even close
// it: the bytes stay until f returns. Errors: ErrState (layers missing), f's.
func (p *Payload) View(f func(bytes []byte) error) error {
	defer runtime.KeepAlive(p)
	payload, err := p.o.acquire()
	if err != nil {
		return err
	}
	defer p.o.leave() // also when f panics
	var bytes []byte
	err = do(func(at *frame) int32 {
		at.pointer, at.size = nil, 0
		status := abi.Lib.PayloadData(payload, &at.pointer, &at.size, &at.err)
		if status == 0 {
			bytes = unsafe.Slice((*byte)(at.pointer), at.size)
		}
		return status
	})
	p.o.turn.Unlock() // what a complete payload holds does not change; f would wait for itself
	if err != nil {
		return err
	}
	return f(bytes)
}

// Bytes is a copy of the bytes. Errors: ErrState (layers missing).
func (p *Payload) Bytes() (out []byte, err error) {
	err = p.View(func(bytes []byte) error {
		out = append([]byte(nil), bytes...)
		return nil
	})
	return out, err
}

// WriteTo writes the bytes, without a copy. Errors: ErrState (layers missing), w's.
func (p *Payload) WriteTo(w io.Writer) (n int64, err error) {
	err = p.View(func(bytes []byte) error {
		written, err := w.Write(bytes)
		n = int64(written)
		return err
	})
	return n, err
}

// Identity is who it belongs to.
func (p *Payload) Identity() (f Fingerprint, r RequestID, err error) {
	ids := new(struct {
		f Fingerprint
		r RequestID
	})
	err = p.do(func(payload unsafe.Pointer, at *frame) int32 {
		return abi.Lib.PayloadIdentity(payload, &ids.f[0], &ids.r[0], &at.err)
	})
	return ids.f, ids.r, err
}

// Get is a fact about the payload (layer All) or one segment. Errors: ErrKey, ErrRange.
func (p *Payload) Get(layer int, key PayloadKey) (value int64, err error) {
	err = p.do(func(payload unsafe.Pointer, at *frame) int32 {
		status := abi.Lib.PayloadGet(payload, c32(layer), int32(key), &at.i64, &at.err)
		value = at.i64
		return status
	})
	return value, err
}

// Tiers copies the tiers of a segment's K or V, one a token. Errors: ErrRange.
func (p *Payload) Tiers(layer int, half Half) ([]Tier, error) {
	tokens, err := p.Get(layer, PayloadTokens)
	if err != nil {
		return nil, err
	}
	out := make([]byte, tokens)
	err = p.do(func(payload unsafe.Pointer, at *frame) int32 {
		return abi.Lib.PayloadGetTiers(payload, c32(layer), int32(half), unsafe.SliceData(out), uintptr(len(out)), &at.err)
	})
	if err != nil {
		return nil, err
	}
	return toTiers(out), nil
}

// Receipt is what was done. Times are nanoseconds, 0 where the step did not happen in this process.
type Receipt struct {
	Scored            Scored    // origin of the plan's scores
	RawBytes          uint64    // at 16 bits an element
	BudgetBytes       uint64    // asked for; 0 when the strategy takes none
	PayloadBytes      uint64    // achieved, everything counted
	Ratio             float64   // PayloadBytes / RawBytes
	KRows             [8]uint64 // K rows (tokens x layers) by tier
	VRows             [8]uint64 // V rows by tier
	ScoreNS           uint64
	PlanNS            uint64
	EncodeNS          uint64
	DecodeNS          uint64
	WireNS            uint64 // from acceptance to the end, of the request that moved the payload
	Plane             Plane  // what moved it
	Code              Code
	BreakEvenBitsPerS float64 // link speed above which raw is faster; 0 when unknown
	Int4              Verdict // on tiers below 8 bits, of the profile or logit probe that was asked
	Proof             Proof   // who allowed them
	PredictedKL       float64 // nats, with a calibrated profile; else 0
	WorstSNRDB        float64 // logit probe: the worst head's signal-to-noise ratio at 4 bits; 0 when not probed
	WorstLayer        int     // and where; -1 when not probed
	WorstHead         int
	EscalatedLayers   uint32     // layers whose keys the probe raised to 8 bits
	RawIsFaster       int        // the link measured was faster than break-even: 1 yes, 0 no, -1 unknown
	DroppedRows       uint64     // K and V rows not sent
	KMass             [8]float64 // attention of the queries by tier of the tokens' K rows; 0 without queries
	VMass             [8]float64 // the same by tier of their V rows
	LinkBitsPerS      float64    // payload bits over wire time; 0 when not sent here
	UnpackedBytes     uint64     // of the payload before it was packed; 0: not packed
	CutLayers         uint32     // layers cut because they would have been late
}

// Receipt is what was done so far: after encoding, after a transfer, after decoding.
func (p *Payload) Receipt() (Receipt, error) {
	raw := new(abi.Receipt)
	raw.StructSize = uint32(unsafe.Sizeof(*raw))
	err := p.do(func(payload unsafe.Pointer, at *frame) int32 { return abi.Lib.PayloadReceipt(payload, raw, &at.err) })
	return Receipt{
		Scored: Scored(raw.Scored), RawBytes: raw.RawBytes, BudgetBytes: raw.BudgetBytes, PayloadBytes: raw.PayloadBytes,
		Ratio: raw.Ratio, KRows: raw.KRows, VRows: raw.VRows, ScoreNS: raw.ScoreNs, PlanNS: raw.PlanNs, EncodeNS: raw.EncodeNs,
		DecodeNS: raw.DecodeNs, WireNS: raw.WireNs, Plane: Plane(raw.Plane), Code: Code(raw.Code),
		BreakEvenBitsPerS: raw.BreakEvenBitsPerS, Int4: Verdict(raw.Int4), Proof: Proof(raw.Proof), PredictedKL: raw.PredictedKl,
		WorstSNRDB: raw.WorstSnrDb, WorstLayer: int(raw.WorstLayer), WorstHead: int(raw.WorstHead),
		EscalatedLayers: raw.EscalatedLayers, RawIsFaster: int(raw.RawIsFaster), DroppedRows: raw.DroppedRows, KMass: raw.KMass,
		VMass: raw.VMass, LinkBitsPerS: raw.LinkBitsPerS, UnpackedBytes: raw.UnpackedBytes, CutLayers: raw.CutLayers,
	}, err
}
