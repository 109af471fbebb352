// SPDX-License-Identifier: Apache-2.0

// Package spectrumkv moves an LLM's KV cache from a prefill worker to a decode worker in a fraction of its bytes: Go's
// interface to libspectrumkv, a shared library with a C ABI.
//
// The flow: cache -> score -> plan -> encode -> payload -> send | receive -> payload -> decode -> cache.
//
// # Finding the library
//
// With cgo the linker resolves it, through pkg-config, or through CGO_CFLAGS and CGO_LDFLAGS with the build tag
// spectrumkv_flags. Without cgo (CGO_ENABLED=0, or the build tag spectrumkv_purego) import the module purego of this
// one for its effect; it loads the library when the program runs.
//
// # Memory
//
// Slices given to [Cache.SetPlane], [Open], [Engine.EncodeInto], [Scores.SetQueries] and [Request.AcceptInto] are pinned, not
// copied, until what uses them is closed and no live request needs them. Do not change bytes given to Open.
//
// Every object has an idempotent Close. One that is forgotten is closed by the garbage collector, at a time of its choosing.
//
// # Goroutines
//
// Every method may be called from any goroutine. Calls on one engine, cache, scores, plan or payload take turns; those on
// endpoints, conns and requests do not. A call that waits occupies a thread of the operating system.
//
// # Waiting
//
// Every call that waits takes a context. Its deadline is the operation's; a context without one gets [DefaultTimeout]. A
// context that ends cancels the request.
//
// # Errors
//
// Every failure is an [*Error] with a [Status]; errors.Is(err, spectrumkv.ErrBudget) asks for one.
package spectrumkv
