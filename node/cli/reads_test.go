package cli

import (
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/fondaco/fondaco/node/audit"
	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/keys/keystest"
	"github.com/fondaco/fondaco/state/ledger"
)

// TestCompareAnchors compares a log, of which reads 1 to 10 are gone, with what nodes tell of its anchors, a record in an answer. One that was pruned has the
// digests alone of the transactions in block 1.
func TestCompareAnchors(t *testing.T) {
	suite := keystest.Suite()
	l := &readsFolder{suite: suite, node: identity.NodeID{7}}
	report := &audit.ReadsReport{Node: l.node, Gone: 10, Base: keys.Digest{10}, First: 11, Count: 20}
	digests := map[uint64]keys.Digest{}
	for n := report.Gone; n <= report.Count; n++ {
		digests[n] = keys.Digest{byte(n)}
	}
	right := func(n uint64) precompiles.AnchorArgs {
		return precompiles.AnchorArgs{Log: audit.ReadsName(report.Node), Count: n, Digest: keys.Digest{byte(n)}}
	}
	other := func(n uint64) precompiles.AnchorArgs {
		a := right(n)
		a.Digest[1] = 1
		return a
	}
	for what, c := range map[string]struct {
		anchors  []precompiles.AnchorArgs // that of block 1 first
		pruned   bool
		imported bool // it has not even the digests
		whole    bool // no read is gone
		failed   int  // the anchor that had no effect; -1: none
		while    int  // so many of the anchors are from while the log was read
		unseen   ledger.Height
		word     string // of the error
	}{
		"all are of this log":                                {anchors: []precompiles.AnchorArgs{right(12), right(15), right(20)}, failed: -1},
		"one is from while the log was read":                 {anchors: []precompiles.AnchorArgs{right(12), right(20), right(30)}, while: 1, failed: -1},
		"what changed is from before the log was read":       {anchors: []precompiles.AnchorArgs{other(15), right(20), right(30)}, while: 1, failed: -1, word: "block 1 anchors another log up to read 15"},
		"one is of more reads than there are":                {anchors: []precompiles.AnchorArgs{right(12), right(30), right(20)}, failed: -1, word: "block 2 anchors 30 reads, and the log has 20: its end was cut off"},
		"one was of another log":                             {anchors: []precompiles.AnchorArgs{right(12), other(15), right(20)}, failed: -1, word: "block 2 anchors another log up to read 15"},
		"one of another log was refused":                     {anchors: []precompiles.AnchorArgs{right(12), other(15), right(20)}, failed: 1},
		"one is of the last read that is gone":               {anchors: []precompiles.AnchorArgs{other(9), right(10), right(20)}, failed: -1},
		"one is of another one in its place":                 {anchors: []precompiles.AnchorArgs{other(10), right(20)}, failed: -1, word: "block 1 anchors another log up to read 10"},
		"one is of reads that are gone":                      {anchors: []precompiles.AnchorArgs{other(9), right(20)}, failed: -1},
		"a pruned node does not tell of what one is":         {anchors: []precompiles.AnchorArgs{other(9), right(20)}, pruned: true, failed: -1, unseen: 1},
		"a node that began with the state of others neither": {anchors: []precompiles.AnchorArgs{other(9), right(20)}, pruned: true, imported: true, failed: -1, unseen: 1},
		"a pruned node, of a log that has all its reads":     {anchors: []precompiles.AnchorArgs{other(12), right(20)}, pruned: true, whole: true, failed: -1, word: "block 1 anchors another log"},
		"a pruned node tells by their digests that all are":  {anchors: []precompiles.AnchorArgs{right(12), right(20)}, pruned: true, failed: -1},
	} {
		t.Run(what, func(t *testing.T) {
			var txs []client.Transaction
			var records []client.AuditRecord
			for i, a := range c.anchors {
				args, err := ledger.Marshal(&a)
				if err != nil {
					t.Fatal(err)
				}
				status := ledger.OK
				if i == c.failed {
					status = ledger.Aborted
				}
				txs = append(txs, client.Transaction{ID: ledger.TxID{byte(i)}, Args: args})
				records = append(records, client.AuditRecord{Height: ledger.Height(i + 1), Tx: ledger.TxID{byte(i)}, Args: precompiles.AuditArgs(suite, args), Status: status.String()})
			}
			node := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				text, isTx := strings.CutPrefix(r.URL.Path, "/v1/transactions/")
				if !isTx {
					query := r.URL.Query()
					if query.Get("object") != audit.ReadsName(report.Node) || query.Get("institution") != "bank-a" || query.Get("method") != "anchor" {
						t.Errorf("it asks for the records of %s", r.URL.RawQuery)
					}
					page := client.AuditRecords{}
					to, err := strconv.Atoi(query.Get("to"))
					if err != nil {
						t.Errorf("it asks for the records up to %q", query.Get("to"))
					}
					at := to - 1 - len(query.Get("before"))
					if at >= 0 {
						page = client.AuditRecords{Records: records[at : at+1], More: at > 0, Before: query.Get("before") + "x"}
					}
					json.NewEncoder(w).Encode(page) //nolint:errcheck // the client tells
					return
				}
				for i := range txs {
					if txs[i].ID.String() == text && (i > 0 || !c.pruned) {
						json.NewEncoder(w).Encode(txs[i]) //nolint:errcheck // the client tells
						return
					}
				}
				missing := client.Problem{Status: http.StatusGone, Code: client.CodeUnavailable}
				if c.imported {
					missing = client.Problem{Status: http.StatusNotFound, Code: client.CodeNotFound}
				}
				w.WriteHeader(missing.Status)
				json.NewEncoder(w).Encode(missing) //nolint:errcheck // the client tells
			}))
			defer node.Close()
			api, err := client.New(node.URL, nil)
			if err != nil {
				t.Fatal(err)
			}
			report, digests := *report, digests
			if c.whole {
				report.Gone, digests = 0, maps.Clone(digests)
				for n := range uint64(10) {
					digests[n] = keys.Digest{byte(n)}
				}
			}
			known := knownReads{}
			for n, digest := range digests {
				args, err := l.anchorArgs(n, digest)
				if err != nil {
					t.Fatal(err)
				}
				known[args] = n
			}
			on := &anchoredLog{institution: "bank-a", anchor: &precompiles.Anchor{Count: 20, Height: ledger.Height(len(c.anchors) - c.while)}}
			unseen, err := (&remote{Client: api, ctx: t.Context()}).compareAnchors(l, &report, on, known)
			if unseen != c.unseen || (err != nil) != (c.word != "") || err != nil && !strings.Contains(err.Error(), c.word) {
				t.Errorf("compareAnchors = %d, %v; want %d and %q", unseen, err, c.unseen, c.word)
			}
		})
	}
}

// TestUntiedReads: of a log more reads are gone than were anchored before it was read. A node that had it anchored meanwhile may have deleted them, and else somebody else did.
func TestUntiedReads(t *testing.T) {
	l := &readsFolder{suite: keystest.Suite(), node: identity.NodeID{7}, begun: true}
	report := &audit.ReadsReport{Node: l.node, Gone: 10, First: 11, Count: 20}
	for what, c := range map[string]struct {
		now  *precompiles.Anchor
		code int
		word string
	}{
		"it was anchored meanwhile":       {now: &precompiles.Anchor{Count: 12}, code: ExitError, word: "run the command again"},
		"what is gone never was anchored": {now: &precompiles.Anchor{Count: 9}, code: ExitInvalid, word: "the chain anchors the log up to read 9, and the files begin with read 11"},
		"nothing ever was anchored":       {code: ExitInvalid, word: "the chain anchors the log up to read 0, and the files begin with read 11"},
	} {
		t.Run(what, func(t *testing.T) {
			answers := map[string][]any{"nodes": {[]precompiles.ListedNode{{Node: l.node, Row: precompiles.Node{Institution: "bank-a"}}}, []precompiles.ListedNode{}}, "anchored": {c.now}}
			node := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				var call client.Call
				if err := json.NewDecoder(r.Body).Decode(&call); err != nil || len(answers[call.Method]) == 0 {
					t.Errorf("it calls %s: %v", call.Method, err)
					return
				}
				data, err := ledger.Marshal(answers[call.Method][0])
				if err != nil {
					t.Error(err)
				}
				answers[call.Method] = answers[call.Method][1:]
				json.NewEncoder(w).Encode(client.CallResult{Status: ledger.OK.String(), Data: data}) //nolint:errcheck // the client tells
			}))
			defer node.Close()
			api, err := client.New(node.URL, nil)
			if err != nil {
				t.Fatal(err)
			}
			before := &anchoredLog{institution: "bank-a", anchor: c.now}
			if c.code == ExitError {
				before.anchor = &precompiles.Anchor{Count: 9}
			}
			_, err = (&remote{Client: api, ctx: t.Context()}).compareAnchor(l, report, &readsVerdict{}, before, knownReads{})
			code := ExitError
			if e, ok := errors.AsType[*exitError](err); ok {
				code = e.code
			}
			if err == nil || !strings.Contains(err.Error(), c.word) || code != c.code {
				t.Errorf("compareAnchor = %v; want %q and exit code %d", err, c.word, c.code)
			}
		})
	}
}
