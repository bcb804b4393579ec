package simnet

import (
	"hash/fnv"
	"math/rand/v2"
	"time"
)

// Link is one direction between two addresses: it decides what happens to each packet. What happens to one depends
// on the seed, the addresses and the packets before it on the same link, not on other traffic. A Link may be used
// by one goroutine at a time.
type Link struct {
	random *rand.Rand
	free   time.Time // when the bandwidth is free again
	last   time.Time // when the last packet in order arrives
}

// NewLink returns the link from one address to another. Links with other addresses draw from other streams.
func NewLink(seed uint64, from, to string) *Link {
	h := fnv.New64a()
	h.Write([]byte(from + ">" + to)) //nolint:errcheck // never fails
	return &Link{random: rand.New(rand.NewPCG(seed, h.Sum64()))}
}

// Fate is what happens to a packet. The zero value is a packet that never arrives.
type Fate struct {
	Lost       bool
	Overflowed bool // it would have waited too long for Bandwidth
	Reordered  bool // others may overtake it
	Duplicated bool

	arrivals [2]time.Time
	count    int
}

// Arrivals returns when the packet arrives: not at all, once or twice.
func (f *Fate) Arrivals() []time.Time { return f.arrivals[:f.count] }

// Packet decides what happens to a packet of a number of bytes that is sent now. A packet on a link that is cut does
// not arrive, and has the same luck drawn for it as others.
func (l *Link) Packet(c Conditions, cut bool, size int, now time.Time) (f Fate) {
	// Every packet draws the same numbers, so that one condition does not change the luck of another.
	loss, twice, late := l.random.Float64(), l.random.Float64(), l.random.Float64()
	jitter, hold := l.random.Float64(), l.random.Float64()
	switch {
	case cut:
		return f
	case loss < c.Loss:
		f.Lost = true
		return f
	}
	at := now
	if c.Bandwidth > 0 {
		if l.free.Before(now) {
			l.free = now
		}
		if l.free.Sub(now) > backlog {
			f.Overflowed = true
			return f
		}
		l.free = l.free.Add(time.Duration(size) * time.Second / time.Duration(c.Bandwidth))
		at = l.free
	}
	at = at.Add(c.Latency + time.Duration(jitter*float64(c.Jitter)))
	if late < c.Reorder {
		f.Reordered = true
		at = at.Add(time.Duration(hold * float64(c.Latency+c.Jitter)))
	} else {
		// Timers of one instant fire in any order, so packets in order arrive at different ones.
		if !at.After(l.last) && l.last.After(now) {
			at = l.last.Add(1)
		}
		l.last = at
	}
	f.arrivals[0], f.count = at, 1
	if twice < c.Duplicate {
		f.Duplicated = true
		f.arrivals[1], f.count = at.Add(time.Duration(hold*float64(c.Latency+c.Jitter))), 2
	}
	return f
}

// Count adds what happened to a packet, but for its being sent and delivered.
func (s *Stats) Count(f Fate, cut bool) {
	switch {
	case cut:
		s.Cut++
	case f.Lost:
		s.Lost++
	case f.Overflowed:
		s.Overflowed++
	}
	if f.Reordered {
		s.Reordered++
	}
	if f.Duplicated {
		s.Duplicated++
	}
}
