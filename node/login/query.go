package login

import (
	"net/http"
	"slices"
	"sync"

	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/ledger"
)

// Bounds on the nonces of queries that are remembered, each for twice client.QueryWindow. Only a query that an account signed takes one.
const (
	maxNonces        = 200_000
	maxAccountNonces = 20_000 // of one account, so that none keeps others from asking
)

// nonces are those of queries that were there. The zero value is ready.
type nonces struct {
	mu      sync.Mutex                // guards what follows
	of      map[ledger.Address]uint32 // how many each account has in the two maps
	current map[nonce]struct{}
	last    map[nonce]struct{}
	turned  int64 // Unix ms when current was begun
}

type nonce struct {
	account ledger.Address
	value   [16]byte
}

// take notes a nonce at a time in Unix ms. fresh: it was not there; room: nothing more is noted now, so that it may have been.
func (n *nonces) take(account ledger.Address, value [16]byte, now int64) (fresh, room bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	// A nonce must be known for as long as its query counts: from a window before its time to a window after, so twice the window from when it was
	// noted at the most. What is in last was noted in the turn before, or earlier.
	if turn := 2 * client.QueryWindow.Milliseconds(); n.current == nil || now-n.turned >= turn {
		if now-n.turned >= 2*turn {
			n.current = nil
		}
		n.last, n.current, n.turned = n.current, map[nonce]struct{}{}, now
		n.of = map[ledger.Address]uint32{}
		for old := range n.last {
			n.of[old.account]++
		}
	}
	one := nonce{account, value}
	_, now1 := n.current[one]
	_, before := n.last[one]
	if now1 || before {
		return false, true
	}
	if len(n.current)+len(n.last) >= maxNonces || n.of[account] >= maxAccountNonces {
		return false, false
	}
	n.current[one] = struct{}{}
	n.of[account]++
	return true, true
}

func badQuery(format string, args ...any) (Subject, Reason, error) {
	return Subject{}, BadQuery, unauthenticated("the signed query does not count: "+format, args...)
}

// byQuery says for whom the signed query of a request stands.
func (g *Gate) byQuery(r *http.Request, shown string) (Subject, Reason, error) {
	if g.config.Account == nil {
		return badQuery("this listener takes none")
	}
	q, err := client.ParseQuery(shown)
	if err != nil {
		return badQuery("it is not understood: %v", err)
	}
	now := g.config.Now().UnixMilli()
	if window := client.QueryWindow.Milliseconds(); q.UnixMilli < now-window || q.UnixMilli > now+window {
		return badQuery("its time is %d and that of this node %d, in Unix milliseconds, and they may differ by %d: set your clock, or sign again", q.UnixMilli, now, window)
	}
	if q.UnixMilli < g.opened { // it may have been answered by the program that ran before, which alone knew its nonce
		return badQuery("its time is from before this node was started: sign it again")
	}
	s, err := g.config.Account(q)
	if err != nil {
		return Subject{}, BadQuery, err
	}
	if err := q.Verify(g.config.Suite, g.config.Chain, g.config.Group, r.Method, r.URL.RequestURI()); err != nil {
		return badQuery("%v; it must be over this request, and made for chain %s and group %s", err, g.config.Chain, g.config.Group)
	}
	fresh, room := g.asked.take(q.Account, q.Nonce, now)
	switch {
	case !room:
		return unable("this node has answered as many signed queries in the last minute as it remembers: ask again in a minute, or another node")
	case !fresh:
		return badQuery("it was there before: sign each request anew")
	}
	s.Query, s.Means = q, "query"
	if s.Roles = g.conferred(s); !Allows(s.Roles, Read) { // an account without a role is a user's
		s.Roles = append(slices.Clone(s.Roles), identity.User)
	}
	first := s
	s.again = func() error {
		now, err := g.config.Account(q)
		if err == nil {
			now.Roles = g.conferred(now)
			if !Allows(now.Roles, Read) {
				now.Roles = append(slices.Clone(now.Roles), identity.User)
			}
			err = first.unchanged(&now)
		}
		return err
	}
	return s, "", nil
}
