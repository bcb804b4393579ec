package audit

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/fondaco/fondaco/node/bundle"
	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// recorded is a chain of the members of a history, whose blocks write nothing but audit records: 3 in block 2, one in block 4, 300 in
// block 5, and one in block 7 of 8.
type recorded struct {
	*history
	states []*state.Snapshot
}

func newRecorded(tb testing.TB) *recorded {
	tb.Helper()
	r := &recorded{history: newHistory(tb)}
	last := state.Empty(r.suite)
	for height := range ledger.Height(9) {
		order := ledger.Order{Version: 1, Chain: r.chain, Group: "main", Height: height, UnixMilli: 1_000 + int64(height), TxRoot: ledger.Root(r.suite, nil)}
		if height > 0 {
			order.Parent = last.OrderHash()
		}
		var changes []ledger.Change
		var digests []keys.Digest
		for i := range map[ledger.Height]uint32{2: 3, 4: 1, 5: 300, 7: 1}[height] {
			record := precompiles.AuditRecord{Version: 1, Height: height, Index: i / 2, Number: i % 2, Method: "freeze", Institution: "bank-1"}
			raw, digest, err := record.Encode(r.suite)
			if err != nil {
				tb.Fatal(err)
			}
			changes, digests = append(changes, ledger.Change{Key: precompiles.AuditRecordKey(height, i/2, i%2), Value: raw}), append(digests, digest)
		}
		changes = append(changes, must(precompiles.LinkAudit(last, r.suite, height, digests))...)
		slices.SortFunc(changes, func(a, b ledger.Change) int { return bytes.Compare(a.Key, b.Key) })
		last = must(last.Extend(&order, state.Result{Changes: changes}))
		r.states = append(r.states, last)
	}
	return r
}

// claim returns the claim of a key after a block, signed by some of the members.
func (r *recorded) claim(h ledger.Height, key []byte, members ...uint32) []byte {
	s := r.states[h]
	c := ledger.Claim{Version: 1, Header: *s.Header(), State: &ledger.StateClaim{Key: key}}
	var err error
	if c.State.Value, c.State.Present, err = s.Get(key); err != nil {
		panic(err)
	}
	c.State.Proof = must(s.Prove(key))
	var votes []ledger.Vote
	for _, m := range members {
		votes = append(votes, r.vote(0, m, ledger.Statement{Kind: ledger.Commit, Height: h, Order: s.OrderHash(), Block: s.Hash()}))
	}
	c.Certificate = ledger.NewCertificate(votes)
	return must(ledger.Marshal(&c))
}

func (r *recorded) records(tb testing.TB, head, from, to ledger.Height) []byte {
	tb.Helper()
	var out bytes.Buffer
	source := &RecordSource{
		Suite: r.suite, Chain: r.chain, Group: "main", Head: func() *state.Snapshot { return r.states[head] },
		Claim: func(h ledger.Height, key []byte) ([]byte, error) { return r.claim(h, key, 0, 1, 3), nil },
	}
	if err := ExportRecords(tb.Context(), &out, source, from, to); err != nil {
		tb.Fatal(err)
	}
	return out.Bytes()
}

func (r *recorded) verifyRecords(data []byte) (v *RecordVerdict, got []precompiles.AuditRecord, err error) {
	v, err = VerifyRecords(bytes.NewReader(data), Trust{Suite: r.suite, Genesis: &r.genesis}, func(a *precompiles.AuditRecord) error {
		got = append(got, *a)
		return nil
	})
	return v, got, err
}

type piece struct {
	kind uint8
	body []byte
}

// pieces takes a package of records apart, and pack makes one of pieces.
func (r *recorded) pieces(tb testing.TB, data []byte) []piece {
	tb.Helper()
	reader := must(bundle.NewReader(bytes.NewReader(data), r.suite, recordsMark, maxRecordItem))
	var all []piece
	for {
		kind, body, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			tb.Fatal(err)
		}
		all = append(all, piece{kind, body})
	}
}

func (r *recorded) pack(pieces []piece) []byte {
	var out bytes.Buffer
	w := bundle.NewWriter(&out, r.suite, recordsMark)
	for _, p := range pieces {
		if err := w.Raw(p.kind, p.body); err != nil {
			panic(err)
		}
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return out.Bytes()
}

func TestVerifyRecords(t *testing.T) {
	r := newRecorded(t)
	before := map[ledger.Height]uint64{}
	counts := []uint64{0, 0, 3, 0, 1, 300, 0, 1, 0}
	for h := range counts {
		for _, n := range counts[:h] {
			before[ledger.Height(h)] += n
		}
	}
	for head := range ledger.Height(len(r.states)) {
		for from := range head + 1 {
			for to := from; to <= head; to++ {
				v, got, err := r.verifyRecords(r.records(t, head, from, to))
				if err != nil {
					t.Fatalf("blocks %d to %d of %d: %v", from, to, head, err)
				}
				want := before[to] + counts[to] - before[from]
				// The link before the range may be that of a block well below it.
				if v.Records != want || uint64(len(got)) != want || v.First != before[from] || v.Total != before[head]+counts[head] || v.Height != head {
					t.Errorf("blocks %d to %d of %d: %d records, verdict %+v; want %d", from, to, head, len(got), v, want)
				}
				for _, a := range got {
					if a.Height < from || a.Height > to {
						t.Errorf("blocks %d to %d: a record of block %d", from, to, a.Height)
					}
				}
			}
		}
	}
	source := &RecordSource{Suite: r.suite, Head: func() *state.Snapshot { return r.states[3] }}
	if err := ExportRecords(t.Context(), io.Discard, source, 2, 4); !errors.Is(err, ErrRange) {
		t.Errorf("blocks that are not there: %v", err)
	}
	full := errors.New("the disk is full")
	_, err := VerifyRecords(bytes.NewReader(r.records(t, 8, 0, 8)), Trust{Suite: r.suite, Genesis: &r.genesis}, func(*precompiles.AuditRecord) error { return full })
	if !errors.Is(err, full) || errors.Is(err, ErrRecords) {
		t.Errorf("who takes the records fails: %v", err)
	}
}

// TestVerifyRecordsRefuses changes a package in each way in which somebody could hide, invent or alter a record, and closes it anew.
func TestVerifyRecordsRefuses(t *testing.T) {
	r := newRecorded(t)
	whole := func() []piece { return r.pieces(t, r.records(t, 8, 3, 6)) } // start, claim, before, link 4, record, link 5, 300 records, link 7
	if kinds := whole(); len(kinds) != 307 || kinds[2].kind != itemBefore || kinds[3].kind != itemLink || kinds[5].kind != itemLink || kinds[306].kind != itemLink {
		t.Fatal("the package has another form")
	}
	start := func(change func(*recordsStart)) func([]piece) []piece {
		return func(p []piece) []piece {
			var s recordsStart
			if err := ledger.Unmarshal(p[0].body, &s); err != nil {
				t.Fatal(err)
			}
			change(&s)
			p[0].body = must(ledger.Marshal(&s))
			return p
		}
	}
	link := func(i int, change func(*precompiles.AuditLink)) func([]piece) []piece {
		return func(p []piece) []piece {
			var l precompiles.AuditLink
			if err := ledger.Unmarshal(p[i].body, &l); err != nil {
				t.Fatal(err)
			}
			change(&l)
			p[i].body = must(ledger.Marshal(&l))
			return p
		}
	}
	claim := func(raw []byte) func([]piece) []piece {
		return func(p []piece) []piece {
			p[1].body = raw
			return p
		}
	}
	without := func(from, to int) func([]piece) []piece {
		return func(p []piece) []piece { return slices.Delete(p, from, to) }
	}
	for _, c := range []struct {
		story  string
		change func([]piece) []piece
		want   string
	}{
		{"nothing", func(p []piece) []piece { return p }, ""},
		{"a record is altered", func(p []piece) []piece {
			var a precompiles.AuditRecord
			if err := ledger.Unmarshal(p[10].body, &a); err != nil {
				t.Fatal(err)
			}
			a.Institution = "bank-2"
			p[10].body = must(ledger.Marshal(&a))
			return p
		}, "the records of block 5 are not those that the block made"},
		{"a record is left out", without(10, 11), "1 records of block 5 are missing"},
		{"a record is left out, and its link says so", func(p []piece) []piece {
			return slices.Delete(link(5, func(l *precompiles.AuditLink) { l.Count-- })(p), 10, 11)
		}, "the records of block 5 are not those"},
		{"the last record is left out", without(305, 306), "1 records of block 5 are missing"},
		{"two records change places", func(p []piece) []piece {
			p[10], p[11] = p[11], p[10]
			return p
		}, "is out of order"},
		{"a record is told twice", func(p []piece) []piece { return slices.Insert(p, 11, p[10]) }, "is out of order"},
		{"a record of another block", func(p []piece) []piece {
			p[10] = p[4]
			return p
		}, "record 0 of transaction 0 of block 4 is out of order, among those of block 5"},
		{"one record too many", func(p []piece) []piece { return slices.Insert(p, 5, p[4]) }, "an item of kind 5 behind block 4 is out of order"},
		{"a block is left out", without(3, 5), "the link of block 5 does not follow that of block 2"},
		{"the last block of the range is left out", without(5, 306), "the link of block 7 does not follow that of block 4"},
		{"the last link is left out", without(306, 307), "the chain's last records are those of block 7"},
		{"all links are left out", without(2, 307), "it ends with the link of block 0"},
		{"the link before the range is left out", without(2, 3), "the link of block 4 does not follow that of block 0"},
		{"the link before the range is another", link(2, func(l *precompiles.AuditLink) { l.Root[0]++ }), "the link of block 4 does not follow that of block 2"},
		{"blocks change places", func(p []piece) []piece { return slices.Concat(p[:3], p[5:306], p[3:5], p[306:]) }, "the link of block 5 does not follow"},
		{"a link without records", link(3, func(l *precompiles.AuditLink) { l.Count = 0 }), "want 1 to"},
		{"a link of very many records", link(3, func(l *precompiles.AuditLink) { l.Count = 1 << 31 }), "want 1 to"},
		{"a smaller range is claimed", start(func(s *recordsStart) { s.From = 5 }), "the link of block 4 is before the range"},
		{"a larger range is claimed, in front", start(func(s *recordsStart) { s.From = 2 }), "the link before the range is of block 2"},
		{"a larger range is claimed, behind", start(func(s *recordsStart) { s.To = 7 }), "1 records of block 7 are missing"},
		{"a range that the proof does not reach", start(func(s *recordsStart) { s.To = 9 }), "its proof is of block 8 and cannot tell what blocks up to 9 recorded"},
		{"another chain", start(func(s *recordsStart) { s.Chain[0]++ }), "it is of chain"},
		{"another group", start(func(s *recordsStart) { s.Group = "other" }), `group "other"`},
		{"a range that ends before it begins", start(func(s *recordsStart) { s.From = 7 }), "it is of blocks 7 to 6"},
		{"a later form", start(func(s *recordsStart) { s.Version = 2 }), "it takes another release"},
		{"no proof", without(1, 2), "out of order"},
		{"nothing at all", func([]piece) []piece { return nil }, "it has no proof"},
		{"a proof of an earlier head", claim(r.claim(6, precompiles.AuditHeadKey(), 0, 1, 3)), "the chain's last records are those of block 5"},
		{"a proof of another key", claim(r.claim(8, precompiles.AuditLinkKey(7), 0, 1, 3)), "not of the head of the audit contract"},
		{"a proof before there were records", claim(r.claim(1, precompiles.AuditHeadKey(), 0, 1, 3)), "its proof is of block 1"},
		{"a proof that too few signed", claim(r.claim(8, precompiles.AuditHeadKey(), 0, 1)), "certificate"},
		{"an unknown item", func(p []piece) []piece { return append(p, piece{9, nil}) }, "an item of kind 9"},
		{"an item that is no CBOR", func(p []piece) []piece {
			p[3].body = []byte{0xff}
			return p
		}, "canonical"},
	} {
		t.Run(c.story, func(t *testing.T) {
			_, _, err := r.verifyRecords(r.pack(c.change(whole())))
			switch {
			case c.want == "" && err != nil:
				t.Error(err)
			case c.want != "" && (!errors.Is(err, ErrRecords) || !strings.Contains(err.Error(), c.want)):
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
	t.Run("bytes are cut off or changed", func(t *testing.T) {
		data := r.records(t, 8, 3, 4)
		for i := range data {
			if _, _, err := r.verifyRecords(data[:i]); !errors.Is(err, ErrRecords) {
				t.Fatalf("%d of %d bytes: %v", i, len(data), err)
			}
			other := bytes.Clone(data)
			other[i] ^= 0x10
			if _, _, err := r.verifyRecords(other); !errors.Is(err, ErrRecords) {
				t.Fatalf("byte %d is another: %v", i, err)
			}
		}
		if _, _, err := r.verifyRecords(append(data, 0)); !errors.Is(err, ErrRecords) {
			t.Errorf("a byte more: %v", err)
		}
	})
}

func FuzzVerifyRecords(f *testing.F) {
	r := newRecorded(f)
	good := r.records(f, 8, 3, 4)
	all := r.pieces(f, good)
	for _, p := range all {
		f.Add(p.kind, p.body, uint8(len(all)))
	}
	f.Add(uint8(0), good, uint8(255))
	f.Fuzz(func(t *testing.T, kind uint8, body []byte, at uint8) {
		data := body // as a file, or in the place of an item of a package that holds
		if kind != 0 {
			if int(at) < len(all) {
				pieces := slices.Clone(all)
				pieces[at] = piece{kind, body}
				data = r.pack(pieces)
			} else {
				data = r.pack(append(slices.Clone(all), piece{kind, body}))
			}
		}
		v, got, err := r.verifyRecords(data)
		if err != nil && !errors.Is(err, ErrRecords) {
			t.Errorf("%v is no ErrRecords", err)
		}
		if err == nil && (v.Height != 8 || v.Total != 305) {
			t.Errorf("a package proves %+v", v)
		}
		for _, a := range got {
			want, found, failed := precompiles.ReadAuditRecord(r.states[8], a.Height, a.Index, a.Number)
			if err == nil && (failed != nil || !found || !reflect.DeepEqual(want, a)) {
				t.Errorf("a package that holds has the record %+v, the chain %+v", a, want)
			}
		}
	})
}
