// SPDX-License-Identifier: Apache-2.0

package spectrumkv

import (
	"unsafe"

	"github.com/spectrumkv/libspectrumkv/bindings/go/internal/abi"
)

// Profile is what is known of one model: how much an error in each layer costs, and whether tiers below 8 bits are safe for it.
type Profile struct{ o *owned }

func newProfile(handle unsafe.Pointer) *Profile {
	p := new(Profile)
	p.o = own(p, "profile", handle, false, infallible(abi.Lib.ProfileDestroy))
	return p
}

// NewProfile makes an empty profile of a model, its layers as in its caches, and the code that verdicts are about.
//
// Errors: ErrRange, ErrUnavailable (no library).
func NewProfile(fingerprint Fingerprint, layers int, code Code) (p *Profile, err error) {
	if err := ready(); err != nil {
		return nil, err
	}
	copied := &fingerprint
	err = do(func(at *frame) int32 {
		status := abi.Lib.ProfileCreate(&copied[0], c32(layers), int32(code), &at.handle, &at.err)
		if status == 0 {
			p = newProfile(at.handle)
		}
		return status
	})
	return p, err
}

// OpenProfile reads JSON. Safe on untrusted bytes.
//
// Errors: ErrNull, ErrMalformed, ErrVersion (another format or codec: probe again), ErrChecksum (edited or damaged).
func OpenProfile(json []byte) (p *Profile, err error) {
	if err := ready(); err != nil {
		return nil, err
	}
	err = do(func(at *frame) int32 {
		status := abi.Lib.ProfileOpen(unsafe.SliceData(json), uintptr(len(json)), &at.handle, &at.err)
		if status == 0 {
			p = newProfile(at.handle)
		}
		return status
	})
	return p, err
}

func (p *Profile) owner() *owned { return p.o }

// Close releases the profile. Calling it again does nothing.
func (p *Profile) Close() error { return p.o.close() }

func (p *Profile) do(f func(profile unsafe.Pointer, at *frame) int32) error {
	return with(p, func(profile unsafe.Pointer) error {
		return do(func(at *frame) int32 { return f(profile, at) })
	})
}

// JSON writes it.
func (p *Profile) JSON() (json []byte, err error) {
	err = p.do(func(profile unsafe.Pointer, at *frame) int32 {
		status := abi.Lib.ProfileSave(profile, nil, 0, &at.size, &at.err)
		if status != 0 {
			return status
		}
		json = make([]byte, at.size)
		return abi.Lib.ProfileSave(profile, unsafe.SliceData(json), uintptr(len(json)), &at.size, &at.err)
	})
	return json, err
}

// Calibrate adds a calibration trial: with only this layer's half at a low tier the model's mean KL was kl nats, where
// [Plan.Cost] with this profile and scores of this kind was cost. Errors: ErrRange, ErrNonFinite.
func (p *Profile) Calibrate(layer int, half Half, scored Scored, cost, kl float64) error {
	return p.do(func(profile unsafe.Pointer, at *frame) int32 {
		return abi.Lib.ProfileCalibrate(profile, c32(layer), int32(half), int32(scored), cost, kl, &at.err)
	})
}

// SetVerdict records what a probe said. Errors: ErrRange.
func (p *Profile) SetVerdict(probe Probe, verdict Verdict, passed, trials int) error {
	return p.do(func(profile unsafe.Pointer, at *frame) int32 {
		return abi.Lib.ProfileSetVerdict(profile, int32(probe), int32(verdict), c32(passed), c32(trials), &at.err)
	})
}

// Verdict is what a probe said; probe All: the word that counts. Errors: ErrRange.
func (p *Profile) Verdict(probe Probe) (verdict Verdict, passed, trials int, err error) {
	err = p.do(func(profile unsafe.Pointer, at *frame) int32 {
		status := abi.Lib.ProfileGetVerdict(profile, int32(probe), &at.three[0], &at.three[1], &at.three[2], &at.err)
		verdict, passed, trials = Verdict(at.three[0]), int(at.three[1]), int(at.three[2])
		return status
	})
	return verdict, passed, trials, err
}

// NeedleProbe is the paper's probe: NeedleTrials prompts with a number hidden in filler text and asked for at their end. Evaluate
// each, move its cache through this library at the budget to be proven, let the model go on for a dozen tokens, hand the text back.
type NeedleProbe struct{ o *owned }

// NewNeedleProbe makes prompts of about so many words, 64 to 1,000,000. Errors: ErrRange, ErrUnavailable (no library).
func NewNeedleProbe(words int) (n *NeedleProbe, err error) {
	if err := ready(); err != nil {
		return nil, err
	}
	err = do(func(at *frame) int32 {
		status := abi.Lib.NeedleProbeCreate(uint32(max(c32(words), 0)), &at.handle, &at.err)
		if status == 0 {
			n = new(NeedleProbe)
			n.o = own(n, "needle probe", at.handle, false, infallible(abi.Lib.NeedleProbeDestroy))
		}
		return status
	})
	return n, err
}

func (n *NeedleProbe) owner() *owned { return n.o }

// Close releases the probe. Calling it again does nothing.
func (n *NeedleProbe) Close() error { return n.o.close() }

// Prompt is a trial's prompt. Errors: ErrRange.
func (n *NeedleProbe) Prompt(trial int) (prompt string, err error) {
	err = with(n, func(probe unsafe.Pointer) error {
		return do(func(at *frame) int32 {
			out := new(*byte)
			status := abi.Lib.NeedleProbePrompt(probe, c32(trial), out, &at.err)
			if status == 0 {
				prompt = text(*out)
			}
			return status
		})
	})
	return prompt, err
}

// Answer takes the model's answer and says whether it holds the number. Errors: ErrRange, ErrState (already answered).
func (n *NeedleProbe) Answer(trial int, answer string) (found bool, err error) {
	bytes := append([]byte(answer), 0)
	err = with(n, func(probe unsafe.Pointer) error {
		return do(func(at *frame) int32 {
			status := abi.Lib.NeedleProbeAnswer(probe, c32(trial), &bytes[0], uintptr(len(answer)), &at.i32, &at.err)
			found = at.i32 != 0
			return status
		})
	})
	return found, err
}

// Verdict records the verdict in a profile. Errors: ErrState (an answer is missing).
func (n *NeedleProbe) Verdict(profile *Profile) error {
	return use([]holder{n, profile}, func(h []unsafe.Pointer) error {
		return do(func(at *frame) int32 { return abi.Lib.NeedleProbeVerdict(h[0], h[1], &at.err) })
	})
}
