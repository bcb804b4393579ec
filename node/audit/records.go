package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"

	"github.com/fondaco/fondaco/node/bundle"
	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// A package of audit records is a bundle (package bundle). First comes the start; then the claim, of the state after the source's last
// block: what the audit contract's head says there, and that members made the block final. Then comes the link before the range, unless there
// is none, and all links from there to the head, each of a block in the range followed by the block's records, each as the
// state has it. Every link holds the digest of the one before and of its records, and the head that of the last: the claim stands for all
// of them, in the range and behind it.
const (
	recordsMark = "fondaco audit 1\n"
	// maxRecordItem bounds an item. The largest is the claim, which has all epochs so far.
	maxRecordItem = ledger.MaxClaimSize

	// maxBlockRecords bounds the records of a block, which the verifier holds until it has seen them all. A block of the largest gas
	// limit pays for a tenth.
	maxBlockRecords = 1 << 17

	itemRecords = 1 // recordsStart
	itemClaim   = 2 // ledger.Claim
	itemBefore  = 3 // precompiles.AuditLink
	itemLink    = 4 // precompiles.AuditLink
	itemRecord  = 5 // precompiles.AuditRecord
)

// recordsStart says what a package holds.
type recordsStart struct {
	_       struct{} `cbor:",toarray"`
	Version uint16
	Chain   keys.Digest
	Group   ledger.GroupID
	From    ledger.Height
	To      ledger.Height
}

// RecordSource is where a package of audit records comes from. All fields are required.
type RecordSource struct {
	Suite keys.Suite
	Chain keys.Digest
	Group ledger.GroupID
	// Head returns the newest state. Rows of records never change, so each part is read from the state that is the newest then.
	Head func() *state.Snapshot
	// Claim returns the canonical encoding of a claim of the state after a block, and proves it.
	Claim func(h ledger.Height, key []byte) ([]byte, error)
}

// recordsAtOnce is how many links, or records, are read from one state.
const recordsAtOnce = 256

// ExportRecords writes the package of the audit records from one height to another, both included. It holds a block's records in memory
// at most. ErrRange says that there are no such blocks.
func ExportRecords(ctx context.Context, to io.Writer, s *RecordSource, from, until ledger.Height) error {
	head := s.Head()
	if from > until || until > head.Height() {
		return fmt.Errorf("%w: %d to %d, the last block is %d", ErrRange, from, until, head.Height())
	}
	claim, err := s.Claim(head.Height(), precompiles.AuditHeadKey())
	if err != nil {
		return err
	}
	w := bundle.NewWriter(to, s.Suite, recordsMark)
	if err := w.Item(itemRecords, &recordsStart{Version: 1, Chain: s.Chain, Group: s.Group, From: from, To: until}); err != nil {
		return err
	}
	if err := w.Raw(itemClaim, claim); err != nil {
		return err
	}
	links := precompiles.AuditLinkKeys()
	for e, err := range head.Range(links, precompiles.AuditLinkKey(from), true) { // the last below from
		if err == nil {
			err = w.Raw(itemBefore, e.Value)
		}
		if err != nil {
			return err
		}
		break
	}
	for e, err := range s.rows(ctx, precompiles.AuditLinkKey(from), precompiles.AuditLinkKey(head.Height()+1)) {
		if err != nil {
			return err
		}
		if err := w.Raw(itemLink, e.Value); err != nil {
			return err
		}
		var link precompiles.AuditLink
		if err := ledger.Unmarshal(e.Value, &link); err != nil {
			return fmt.Errorf("state under %x: %w", e.Key, err)
		}
		if link.Height > until {
			continue
		}
		for r, err := range s.rows(ctx, precompiles.AuditRecordKey(link.Height, 0, 0), precompiles.AuditRecordKey(link.Height+1, 0, 0)) {
			if err == nil {
				err = w.Raw(itemRecord, r.Value)
			}
			if err != nil {
				return err
			}
		}
	}
	return w.Close()
}

// rows yields a range of rows that never change, some from each state.
func (s *RecordSource) rows(ctx context.Context, start, end []byte) iter.Seq2[state.Entry, error] {
	return func(yield func(state.Entry, error) bool) {
		for start != nil {
			page := make([]state.Entry, 0, recordsAtOnce)
			for e, err := range s.Head().Range(start, end, false) {
				if err == nil {
					err = ctx.Err()
				}
				if err != nil {
					yield(state.Entry{}, err)
					return
				}
				if page = append(page, state.Entry{Key: bytes.Clone(e.Key), Value: bytes.Clone(e.Value)}); len(page) == recordsAtOnce {
					break
				}
			}
			start = nil
			if len(page) == recordsAtOnce {
				start = append(slices.Clone(page[len(page)-1].Key), 0)
			}
			for _, e := range page {
				if !yield(e, nil) {
					return
				}
			}
		}
	}
}

// ErrRecords says that a package of audit records does not hold: it is not whole, or was changed, or is no word of the chain's members.
var ErrRecords = errors.New("audit: the records do not hold")

// RecordVerdict is what a package of audit records shows.
type RecordVerdict struct {
	Chain   keys.Digest    `json:"chain"`
	Group   ledger.GroupID `json:"group"`
	From    ledger.Height  `json:"from"`
	To      ledger.Height  `json:"to"`
	Records uint64         `json:"records"` // in the range: all that there are
	First   uint64         `json:"first"`   // records before the range
	Total   uint64         `json:"total"`   // records up to Height
	Height  ledger.Height  `json:"height"`  // of the block whose certificate all rests on
	Block   keys.Digest    `json:"block"`
	Epoch   uint64         `json:"epoch"`
	Signers []uint32       `json:"signers"`
}

// VerifyRecords checks a package of audit records against a genesis and nothing else:
//
//   - a quorum of members, whose epochs lead from those of the genesis, made a block final, and its state root stands for the head
//     of the audit contract; recoveries on the way are among those that the verifier accepts;
//   - the links lead from the one before the range, or the first there is, to that head without a gap;
//   - the records of each block in the range are those that its link stands for: none is missing, changed, moved or added.
//
// take gets each record in order, and none of them counts unless VerifyRecords returns without an error; what take returns ends the
// check. A package that does not hold is ErrRecords. The memory that it takes is that of the records of a block.
func VerifyRecords(from io.Reader, t Trust, take func(*precompiles.AuditRecord) error) (*RecordVerdict, error) {
	v := &recordVerifier{Trust: t, take: take}
	r, err := bundle.NewReader(from, t.Suite, recordsMark, maxRecordItem)
	for err == nil {
		var kind uint8
		var body []byte
		if kind, body, err = r.Next(); err == nil {
			err = v.item(kind, body)
		}
	}
	if errors.Is(err, io.EOF) {
		err = v.end()
	}
	switch {
	case err == nil:
		return &v.verdict, nil
	case errors.Is(err, errTake):
		return nil, errors.Unwrap(err)
	case errors.Is(err, bundle.ErrBroken), errors.Is(err, ledger.ErrEncoding), errors.Is(err, ledger.ErrClaim):
		return nil, fmt.Errorf("%w: %w", ErrRecords, err)
	}
	return nil, err
}

// errTake marks what take returned.
var errTake = errors.New("audit: taking a record")

type taken struct{ error }

func (taken) Is(target error) bool { return target == errTake }
func (t taken) Unwrap() error      { return t.error }

type recordVerifier struct {
	Trust
	take    func(*precompiles.AuditRecord) error
	verdict RecordVerdict

	begun, claimed bool
	head           *precompiles.AuditHead // nil: there are no records
	last           precompiles.AuditLink  // the link read last, zero before the first
	hash           keys.Digest            // of it
	due            uint32                 // records of it that are to come
	block          []precompiles.AuditRecord
	digests        []keys.Digest
}

func (v *recordVerifier) fault(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrRecords}, args...)...)
}

func (v *recordVerifier) item(kind uint8, body []byte) error {
	switch {
	case kind == itemRecords && !v.begun:
		return v.start(body)
	case kind == itemClaim && v.begun && !v.claimed:
		return v.claim(body)
	case kind == itemBefore && v.claimed && v.last.Count == 0:
		return v.link(body, true)
	case kind == itemLink && v.claimed && v.due == 0:
		return v.link(body, false)
	case kind == itemRecord && v.due > 0:
		return v.record(body)
	case v.due > 0:
		return v.fault("%d records of block %d are missing", v.due, v.last.Height)
	}
	return v.fault("an item of kind %d behind block %d is out of order", kind, v.last.Height)
}

func (v *recordVerifier) start(body []byte) error {
	var s recordsStart
	if err := ledger.Unmarshal(body, &s); err != nil {
		return err
	}
	chain := v.Genesis.Hash(v.Suite)
	switch {
	case s.Version != 1:
		return v.fault("a package of version %d, want 1: it takes another release", s.Version)
	case s.Chain != chain || s.Group != v.Genesis.Group:
		return v.fault("it is of chain %s, group %q; the genesis is of chain %s, group %q", s.Chain, s.Group, chain, v.Genesis.Group)
	case s.From > s.To:
		return v.fault("it is of blocks %d to %d", s.From, s.To)
	}
	v.begun, v.verdict = true, RecordVerdict{Chain: s.Chain, Group: s.Group, From: s.From, To: s.To}
	return nil
}

func (v *recordVerifier) claim(body []byte) error {
	c, err := ledger.DecodeClaim(body)
	if err != nil {
		return err
	}
	if err := c.Verify(v.Suite, v.verdict.Chain, v.verdict.Group, v.Genesis.Finality(), v.Genesis.Epoch(), v.Recoveries...); err != nil {
		return err
	}
	height := c.Header.Order.Height
	switch {
	case c.State == nil || !bytes.Equal(c.State.Key, precompiles.AuditHeadKey()):
		return v.fault("its proof is not of the head of the audit contract")
	case height < v.verdict.To:
		return v.fault("its proof is of block %d and cannot tell what blocks up to %d recorded", height, v.verdict.To)
	}
	if c.State.Present {
		v.head = &precompiles.AuditHead{}
		if err := ledger.Unmarshal(c.State.Value, v.head); err != nil {
			return err
		}
		v.verdict.Total = v.head.Total
	}
	v.claimed = true
	v.verdict.Height, v.verdict.Block, v.verdict.Epoch, v.verdict.Signers = height, c.Header.Hash(v.Suite), c.Certified().Order.Epoch, c.Certificate.Members()
	return nil
}

func (v *recordVerifier) link(body []byte, before bool) error {
	var l precompiles.AuditLink
	if err := ledger.Unmarshal(body, &l); err != nil {
		return err
	}
	hash, err := l.Hash(v.Suite)
	if err != nil {
		return err
	}
	switch {
	case v.head == nil:
		return v.fault("it has a link of block %d, and the chain has no records up to block %d", l.Height, v.verdict.Height)
	case l.Count == 0 || l.Count > maxBlockRecords:
		return v.fault("the link of block %d is of %d records, want 1 to %d", l.Height, l.Count, maxBlockRecords)
	case before && l.Height >= v.verdict.From:
		return v.fault("the link before the range is of block %d, and the range begins at block %d", l.Height, v.verdict.From)
	case !before && l.Height < v.verdict.From:
		return v.fault("the link of block %d is before the range, which begins at block %d", l.Height, v.verdict.From)
	case !before && (l.Before != v.hash || l.First != v.last.First+uint64(v.last.Count)):
		return v.fault("the link of block %d does not follow that of block %d: links between them were left out, or moved", l.Height, v.last.Height)
	case !before && v.last.Count > 0 && l.Height <= v.last.Height:
		return v.fault("the link of block %d follows that of block %d", l.Height, v.last.Height)
	}
	v.last, v.hash = l, hash
	switch {
	case before:
		v.verdict.First = l.First + uint64(l.Count)
	case l.Height <= v.verdict.To:
		v.due, v.block, v.digests = l.Count, nil, nil
	}
	return nil
}

func (v *recordVerifier) record(body []byte) error {
	var r precompiles.AuditRecord
	if err := ledger.Unmarshal(body, &r); err != nil {
		return err
	}
	if n := len(v.block); r.Height != v.last.Height || n > 0 && r.Compare(&v.block[n-1]) <= 0 {
		return v.fault("record %d of transaction %d of block %d is out of order, among those of block %d", r.Number, r.Index, r.Height, v.last.Height)
	}
	_, digest, err := r.Encode(v.Suite)
	if err != nil {
		return err
	}
	v.block, v.digests = append(v.block, r), append(v.digests, digest)
	if v.due--; v.due > 0 {
		return nil
	}
	if ledger.Root(v.Suite, v.digests) != v.last.Root {
		return v.fault("the records of block %d are not those that the block made: one was changed, left out or put in", v.last.Height)
	}
	v.verdict.Records += uint64(len(v.block))
	for i := range v.block {
		if err := v.take(&v.block[i]); err != nil {
			return taken{err}
		}
	}
	return nil
}

func (v *recordVerifier) end() error {
	switch {
	case v.due > 0:
		return v.fault("%d records of block %d are missing", v.due, v.last.Height)
	case !v.claimed:
		return v.fault("it has no proof")
	case v.head != nil && (v.head.Link != v.hash || v.head.Height != v.last.Height || v.head.Total != v.last.First+uint64(v.last.Count)):
		return v.fault("it ends with the link of block %d, and the chain's last records are those of block %d: what is between was left out", v.last.Height, v.head.Height)
	}
	return nil
}
