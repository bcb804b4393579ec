package login

import (
	"net/http"
	"slices"
	"sync"

	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/ledger"
)

// Bounds on the nonces of queries that are remembered, each for twice client.QueryWindow. Only a query that an account signed takes one, and nobody takes up
// another's: there is no bound on all of them together, which a few could reach for everybody, but one for each institution, of which there are those that the
// group admitted. One that takes all of its share costs 3 MB.
const (
	maxAccountNonces     = 20_000
	maxInstitutionNonces = 50_000 // of all accounts of an institution
)

// nonces are those of queries that were there. The zero value is ready.
type nonces struct {
	mu      sync.Mutex // guards what follows
	current turn
	last    turn
	turned  int64 // Unix ms when current was begun
}

// turn is what came for a while.
type turn struct {
	seen        map[nonce]struct{} // nil: nothing came yet, ever
	account     map[ledger.Address]int
	institution map[string]int
}

func newTurn() turn {
	return turn{seen: map[nonce]struct{}{}, account: map[ledger.Address]int{}, institution: map[string]int{}}
}

type nonce struct {
	account ledger.Address
	value   [16]byte
}

// take notes a nonce of an account of an institution at a time in Unix ms. fresh: it was not there. full says in words whose share is used up: then nothing is
// noted, and it may have been there.
func (n *nonces) take(account ledger.Address, institution string, value [16]byte, now int64) (fresh bool, full string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	// A nonce must be known for as long as its query counts: from a window before its time to a window after, so twice the window from when it was
	// noted at the most. What is in last was noted in the turn before, or earlier.
	if length := 2 * client.QueryWindow.Milliseconds(); n.current.seen == nil || now-n.turned >= length {
		if now-n.turned >= 2*length {
			n.current = turn{}
		}
		n.last, n.current, n.turned = n.current, newTurn(), now
	}
	one := nonce{account, value}
	_, now1 := n.current.seen[one]
	_, before := n.last.seen[one]
	switch {
	case now1 || before:
		return false, ""
	case n.current.account[account]+n.last.account[account] >= maxAccountNonces:
		return false, "account " + account.String()
	case n.current.institution[institution]+n.last.institution[institution] >= maxInstitutionNonces:
		return false, "the accounts of " + institution
	}
	n.current.seen[one] = struct{}{}
	n.current.account[account]++
	n.current.institution[institution]++
	return true, ""
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
	if err := q.Verify(g.config.Suite, g.config.Chain, g.config.Group, r.Method, client.QueryURI(g.config.Suite, r.URL.RequestURI())); err != nil {
		return badQuery("%v; it must be over this request, and made for chain %s and group %s", err, g.config.Chain, g.config.Group)
	}
	fresh, full := g.asked.take(q.Account, s.Institution, q.Nonce, now)
	switch {
	case full != "":
		return unable("this node has answered as many signed queries of %s in the last minutes as it remembers of them: ask again in two minutes, or another node", full)
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
