// SPDX-License-Identifier: Apache-2.0

package spectrumkv

import (
	"unsafe"

	"github.com/spectrumkv/libspectrumkv/bindings/go/internal/abi"
)

// EndpointStats are counters and histograms; item i of a histogram counts 2^i <= value < 2^(i+1).
type EndpointStats struct {
	Conns             uint32 // open now
	HandshakesOK      uint64
	HandshakesFailed  uint64 // garbage, scanners, other versions or models, too slow
	SentOK            uint64
	ReceivedOK        uint64
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
	EventsLost        uint64     // records overwritten before they were taken
	TimeLog2          [32]uint64 // transfers that ended well: accepted to ended, in microseconds
	QueueLog2         [32]uint64 // offers taken here: offered to accepted, in microseconds
	BytesLog2         [40]uint64 // transfers that ended well: payload bytes
}

// Stats are the counters so far.
func (e *Endpoint) Stats() (EndpointStats, error) {
	raw := new(abi.EndpointStats)
	raw.StructSize = uint32(unsafe.Sizeof(*raw))
	err := e.do(func(endpoint unsafe.Pointer, at *frame) int32 {
		return abi.Lib.EndpointGetStats(endpoint, raw, &at.err)
	})
	return EndpointStats{
		Conns:             raw.Conns,
		HandshakesOK:      raw.HandshakesOk,
		HandshakesFailed:  raw.HandshakesFailed,
		SentOK:            raw.SentOk,
		ReceivedOK:        raw.ReceivedOk,
		Failed:            raw.Failed,
		BytesSent:         raw.BytesSent,
		BytesReceived:     raw.BytesReceived,
		ProtocolErrors:    raw.ProtocolErrors,
		ChecksumErrors:    raw.ChecksumErrors,
		AuthErrors:        raw.AuthErrors,
		HandshakesRefused: raw.HandshakesRefused,
		HandshakesPending: raw.HandshakesPending,
		Cancelled:         raw.Cancelled,
		TimedOut:          raw.TimedOut,
		PeerLost:          raw.PeerLost,
		Rejected:          raw.Rejected,
		NoResource:        raw.NoResource,
		Sending:           raw.Sending,
		Receiving:         raw.Receiving,
		OffersWaiting:     raw.OffersWaiting,
		CreditHeld:        raw.CreditHeld,
		CreditStalls:      raw.CreditStalls,
		EventsLost:        raw.EventsLost,
		TimeLog2:          raw.TimeLog2,
		QueueLog2:         raw.QueueLog2,
		BytesLog2:         raw.BytesLog2,
	}, err
}

// Event is what happened at an endpoint.
type Event struct {
	TimeNS     uint64 // CLOCK_MONOTONIC
	Kind       EventKind
	Status     Status
	Conn       uint64 // conns of an endpoint count from 1
	Transfer   uint64 // its id on the wire, 0 for a conn's event
	Key        uint64 // the sender's
	Bytes      uint64 // of the payload, or moved
	DurationNS uint64
	Sending    bool // from here
}

// Events is what happened since the last call, oldest first. EndpointStats.EventsLost counts what came too late.
func (e *Endpoint) Events() (all []Event, err error) {
	found := make([]abi.Event, 64)
	for {
		count := 0
		err := e.do(func(endpoint unsafe.Pointer, at *frame) int32 {
			at.size = 0
			status := abi.Lib.EndpointEvents(endpoint, &found[0], uintptr(len(found)), &at.size, &at.err)
			count = int(at.size)
			return status
		})
		if err != nil {
			return all, err
		}
		for _, raw := range found[:count] {
			all = append(all, Event{
				TimeNS: raw.TimeNs, Kind: EventKind(raw.Kind), Status: Status(raw.Status), Conn: raw.Conn, Transfer: raw.Transfer,
				Key: raw.Key, Bytes: raw.Bytes, DurationNS: raw.DurationNs, Sending: raw.Sending != 0,
			})
		}
		if count < len(found) {
			return all, nil
		}
	}
}
