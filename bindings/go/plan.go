// SPDX-License-Identifier: Apache-2.0

package spectrumkv

import (
	"unsafe"

	"github.com/spectrumkv/libspectrumkv/bindings/go/internal/abi"
)

// Scores says how much an error in each token's K or V row costs. The first source given wins: the caller's weights, the last
// queries, else keys and values.
type Scores struct{ o *owned }

// NewScores makes empty scores. Errors: ErrNoMemory, ErrUnavailable (no library).
func NewScores() (s *Scores, err error) {
	if err := ready(); err != nil {
		return nil, err
	}
	err = do(func(at *frame) int32 {
		status := abi.Lib.ScoresCreate(&at.handle, &at.err)
		if status == 0 {
			s = new(Scores)
			s.o = own(s, "scores", at.handle, false, infallible(abi.Lib.ScoresDestroy))
		}
		return status
	})
	return s, err
}

func (s *Scores) owner() *owned { return s.o }

// Close releases the scores and unpins the queries. Calling it again does nothing.
func (s *Scores) Close() error { return s.o.close() }

// SetWeights sets the caller's weights for one half of a layer (or All), one a token, finite and not negative. Copied.
//
// Errors: ErrNull, ErrRange, ErrNonFinite.
func (s *Scores) SetWeights(layer int, half Half, weights []float32) error {
	return with(s, func(scores unsafe.Pointer) error {
		return do(func(at *frame) int32 {
			return abi.Lib.ScoresSetWeights(scores, c32(layer), int32(half), unsafe.SliceData(weights), uintptr(len(weights)), &at.err)
		})
	})
}

// Queries says what the memory of [Scores.SetQueries] holds: element (query i, head h, channel c) is at
// i * QueryStride + h * HeadStride + c * ElemStride bytes.
type Queries struct {
	DType       DType
	Count       int // of the last tokens, 1 to 4096
	Heads       int // a multiple of the layer's kv-heads
	QueryStride int64
	HeadStride  int64
	ElemStride  int64
	Scale       float32 // softmax scale; 0: 1 / sqrt(kDim)
	Window      int     // sliding-window length; 0: none
}

// SetQueries gives the queries (after RoPE) of the last tokens of a layer. They are read by [Engine.Score], and pinned until the
// scores are closed.
//
// Errors: ErrNull, ErrRange, ErrDType, ErrStride.
func (s *Scores) SetQueries(layer int, plane []byte, q Queries) error {
	m := pinned(plane)
	err := with(s, func(scores unsafe.Pointer) error {
		return do(func(at *frame) int32 {
			status := abi.Lib.ScoresSetQueries(scores, c32(layer), unsafe.Pointer(unsafe.SliceData(plane)), uintptr(len(plane)),
				int32(q.DType), c32(q.Count), c32(q.Heads), q.QueryStride, q.HeadStride, q.ElemStride, q.Scale, c32(q.Window), &at.err)
			if status == 0 {
				s.o.keeping(m)
			}
			return status
		})
	})
	if err != nil {
		m.release()
	}
	return err
}

// Get copies the weights of one layer and half, one a token. Errors: ErrState (not scored yet), ErrRange.
func (s *Scores) Get(layer int, half Half, tokens int) ([]float32, error) {
	out := make([]float32, max(tokens, 0))
	err := with(s, func(scores unsafe.Pointer) error {
		return do(func(at *frame) int32 {
			return abi.Lib.ScoresGet(scores, c32(layer), int32(half), unsafe.SliceData(out), uintptr(len(out)), &at.err)
		})
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Plan is a tier for every (layer, K or V, token), and the exact byte count it implies.
type Plan struct{ o *owned }

// NewPlan makes a plan for the engine's device, with default options and the strategy "error-aware". Errors: ErrNoMemory.
func NewPlan(engine *Engine) (p *Plan, err error) {
	err = with(engine, func(e unsafe.Pointer) error {
		return do(func(at *frame) int32 {
			status := abi.Lib.PlanCreate(e, &at.handle, &at.err)
			if status == 0 {
				p = new(Plan)
				p.o = own(p, "plan", at.handle, false, infallible(abi.Lib.PlanDestroy))
			}
			return status
		})
	})
	return p, err
}

func (p *Plan) owner() *owned { return p.o }

// Close releases the plan. Calling it again does nothing.
func (p *Plan) Close() error { return p.o.close() }

func (p *Plan) do(f func(plan unsafe.Pointer, at *frame) int32) error {
	return with(p, func(plan unsafe.Pointer) error {
		return do(func(at *frame) int32 { return f(plan, at) })
	})
}

// Set sets an option, before solving. Errors: ErrKey, ErrRange.
func (p *Plan) Set(key PlanKey, value int64) error {
	return p.do(func(plan unsafe.Pointer, at *frame) int32 { return abi.Lib.PlanSet(plan, int32(key), value, &at.err) })
}

// SetBudget sets the budget as a fraction of [Cache.RawBytes]; headers, maps, scales, channel vectors and digests count.
//
// Errors: ErrRange.
func (p *Plan) SetBudget(fraction float64) error {
	return p.do(func(plan unsafe.Pointer, at *frame) int32 { return abi.Lib.PlanSetBudget(plan, fraction, &at.err) })
}

// SetBudgetBytes sets the budget in bytes. Errors: ErrRange.
func (p *Plan) SetBudgetBytes(bytes uint64) error {
	return p.do(func(plan unsafe.Pointer, at *frame) int32 { return abi.Lib.PlanSetBudgetBytes(plan, bytes, &at.err) })
}

// SetStrategy sets the strategy by name: "error-aware", "raw", "uniform-2" to "uniform-8", "greedy". Errors: ErrKey.
func (p *Plan) SetStrategy(name string) error {
	c, err := cText(name, "strategy")
	if err != nil {
		return err
	}
	return p.do(func(plan unsafe.Pointer, at *frame) int32 { return abi.Lib.PlanSetStrategy(plan, c, &at.err) })
}

// SetProfile says what is known of the model: multipliers for the costs, and the verdict on low tiers. Copied; nil forgets it.
func (p *Plan) SetProfile(profile *Profile) error {
	if profile == nil {
		return p.do(func(plan unsafe.Pointer, at *frame) int32 { return abi.Lib.PlanSetProfile(plan, nil, &at.err) })
	}
	return use([]holder{p, profile}, func(h []unsafe.Pointer) error {
		return do(func(at *frame) int32 { return abi.Lib.PlanSetProfile(h[0], h[1], &at.err) })
	})
}

// Cost is the sum of weight x squared error over a layer's K or V rows under the present tiers: what "error-aware" minimises. In
// nats of KL with a calibrated profile. Errors: ErrState (not solved, or another strategy), ErrRange.
func (p *Plan) Cost(layer int, half Half) (cost float64, err error) {
	err = p.do(func(plan unsafe.Pointer, at *frame) int32 {
		status := abi.Lib.PlanCost(plan, c32(layer), int32(half), &at.f64, &at.err)
		cost = at.f64
		return status
	})
	return cost, err
}

// Solve chooses a tier for every row of the cache. It never exceeds the budget. scores may be nil: keys and values are scored
// here when the strategy needs it. Tiers below 8 bits need a verdict: a profile's, a logit probe's on the queries in the scores,
// or PlanUnproven 1.
//
// Errors: those of the view and of scoring, ErrBudget (names the floor), ErrState (no budget set), ErrGeometry, ErrLayout,
// ErrModel (profile of another model), ErrPermitted (no verdict, or a no; or tokens would be dropped that cannot be masked).
func (p *Plan) Solve(cache *Cache, scores *Scores) error {
	objects := []holder{cache, p}
	if scores != nil {
		objects = append(objects, scores)
	}
	return use(objects, func(h []unsafe.Pointer) error {
		var s unsafe.Pointer
		if scores != nil {
			s = h[2]
		}
		return do(func(at *frame) int32 { return abi.Lib.PlanSolve(h[1], h[0], s, &at.err) })
	})
}

// Upgrade chooses which rows of a payload of this cache to raise, and how far, for [Engine.EncodeUpgrade]. The budget is that of the
// upgrade alone; without one no row is raised, to be followed by [Plan.SetTiers]. Strategies "raw" and "uniform-N" raise every row to
// that tier. scores may be nil.
//
// Errors: those of the view and of scoring, ErrBudget, ErrArgument (another strategy), ErrState (payload incomplete, or an
// upgrade), ErrLayout, ErrModel, ErrRequest (not this cache's payload), ErrPermitted (the paper's code), ErrChecksum.
func (p *Plan) Upgrade(base *Payload, cache *Cache, scores *Scores) error {
	objects := []holder{p, base, cache}
	if scores != nil {
		objects = append(objects, scores)
	}
	return use(objects, func(h []unsafe.Pointer) error {
		var s unsafe.Pointer
		if scores != nil {
			s = h[3]
		}
		return do(func(at *frame) int32 { return abi.Lib.PlanUpgrade(h[0], h[1], h[2], s, &at.err) })
	})
}

// Truncate chooses which rows of a payload to cut, without its cache, for [Payload.Truncate]: to the permitted tiers (PlanKTiers,
// PlanVTiers; keys never below 4 bits), and to the budget if there is one, least costly planes first. Tiers below 8 bits need a
// verdict: a profile's, the payload's own rows there, or PlanUnproven 1. scores may be nil.
//
// Errors: ErrBudget (names the floor), ErrArgument (another strategy), ErrPermitted (no verdict, or the paper's code), ErrState,
// ErrLayout (scores), ErrModel (profile), ErrChecksum.
func (p *Plan) Truncate(payload *Payload, scores *Scores) error {
	objects := []holder{p, payload}
	if scores != nil {
		objects = append(objects, scores)
	}
	return use(objects, func(h []unsafe.Pointer) error {
		var s unsafe.Pointer
		if scores != nil {
			s = h[2]
		}
		return do(func(at *frame) int32 { return abi.Lib.PlanTruncate(h[0], h[1], s, &at.err) })
	})
}

// Bytes is the exact size of what the solved plan gives: a payload, or an upgrade. Errors: ErrState.
func (p *Plan) Bytes() (bytes int, err error) {
	err = p.do(func(plan unsafe.Pointer, at *frame) int32 {
		status := abi.Lib.PlanBytes(plan, &at.u64, &at.err)
		bytes = int(at.u64)
		return status
	})
	return bytes, err
}

// Tiers copies the tiers of a layer's K or V, one a token. Errors: ErrState, ErrRange.
func (p *Plan) Tiers(layer int, half Half, tokens int) ([]Tier, error) {
	out := make([]byte, max(tokens, 0))
	err := p.do(func(plan unsafe.Pointer, at *frame) int32 {
		return abi.Lib.PlanGetTiers(plan, c32(layer), int32(half), unsafe.SliceData(out), uintptr(len(out)), &at.err)
	})
	if err != nil {
		return nil, err
	}
	return toTiers(out), nil
}

// SetTiers replaces the tiers of a layer's K or V of a solved plan. The byte count follows; the budget is not checked.
//
// Errors: ErrState, ErrRange, ErrPermitted (TierDrop for a cache that cannot mask).
func (p *Plan) SetTiers(layer int, half Half, tiers []Tier) error {
	in := make([]byte, len(tiers))
	for i, tier := range tiers {
		in[i] = byte(min(max(tier, 0), 255))
		if tier < 0 {
			in[i] = 255
		}
	}
	return p.do(func(plan unsafe.Pointer, at *frame) int32 {
		return abi.Lib.PlanSetTiers(plan, c32(layer), int32(half), unsafe.SliceData(in), uintptr(len(in)), &at.err)
	})
}

func toTiers(bytes []byte) []Tier {
	out := make([]Tier, len(bytes))
	for i, b := range bytes {
		out[i] = Tier(b)
	}
	return out
}
