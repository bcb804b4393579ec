package rpc

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"

	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/node/group"
	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/ledger"
)

// Bounds on what one answer tells of corrections.
const (
	maxCorrections = 64 // in a list
	maxLinks       = 64 // corrections of a transaction
)

// corrections lists corrections in order of their numbers.
func (s *Server) corrections(_ http.ResponseWriter, r *http.Request) (any, error) {
	after, err := number(r, "after", 0, 1<<63)
	if err != nil {
		return nil, err
	}
	may := s.reads(r)
	all := []client.Correction{}
	for number := after + 1; len(all) < maxCorrections; number++ {
		c, found, err := precompiles.ReadCorrection(may.head, number)
		if err != nil {
			return nil, err
		}
		if !found { // none is ever deleted
			break
		}
		doc, err := may.correction(number, &c)
		if err != nil {
			return nil, err
		}
		all = append(all, *doc)
	}
	return all, nil
}

// correction returns a correction, and says of each transaction that it names whether this node has it where it is said to be.
func (s *Server) correction(_ http.ResponseWriter, r *http.Request) (any, error) {
	number, err := strconv.ParseUint(r.PathValue("number"), 10, 64)
	if err != nil {
		return nil, badRequest("correction %q: want its number", r.PathValue("number"))
	}
	may := s.reads(r)
	c, found, err := precompiles.ReadCorrection(may.head, number)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, notFound("there is no correction %d", number)
	}
	doc, err := may.correction(number, &c)
	if err != nil {
		return nil, err
	}
	for i := range doc.Transactions {
		t := &doc.Transactions[i]
		at, err := s.group.Find(t.ID)
		if err != nil {
			return nil, err
		}
		there := at.Progress == group.Committed && at.Height == t.Height
		if t.Found = &there; !there {
			continue
		}
		b, err := s.full(at.Height)
		if err != nil {
			return nil, err
		}
		if int(at.Index) >= len(b.receipts) {
			return nil, fmt.Errorf("the index names transaction %d of block %d, which has %d", at.Index, at.Height, len(b.receipts))
		}
		tx, err := ledger.DecodeTx(s.config.Suite, b.block.Txs[at.Index])
		if err != nil {
			return nil, fmt.Errorf("transaction %d of block %d: %w", at.Index, at.Height, err)
		}
		err = may.transaction(tx.Sender, tx.Args, &b.receipts[at.Index])
		if p, ok := errors.AsType[*client.Problem](err); ok && p.Code == client.CodeForbidden {
			continue
		}
		if err != nil {
			return nil, err
		}
		t.Status = b.receipts[at.Index].Status.String()
	}
	return doc, nil
}

// correction returns the document of a correction without the entries that may not be read. Who proposed it reads all of it.
func (v *reads) correction(number uint64, c *precompiles.Correction) (*client.Correction, error) {
	shown := c.Entries
	if v.account != c.By || v.account.IsZero() {
		var err error
		if shown, err = v.entries(c.Entries); err != nil {
			return nil, err
		}
	}
	missing, count, err := c.Missing(v.head)
	if err != nil {
		return nil, err
	}
	doc := &client.Correction{
		Number: number, Status: c.Status.String(), Height: c.Height, By: c.By, Institution: c.Institution, Reason: c.Reason, Evidence: c.Evidence,
		Debited: c.Debited, Motion: c.Motion, Expiry: c.Expiry, Applied: c.Applied, AppliedAt: c.AppliedAt,
		Transactions: []client.Corrected{}, Entries: []client.CorrectionEntry{}, Approvals: []client.Approval{}, Withheld: len(c.Entries) - len(shown),
	}
	if doc.Withheld > 0 { // whose they are is as private
		doc.Debited, missing = nil, nil
	}
	if doc.Debited == nil {
		doc.Debited = []string{}
	}
	if c.Status == precompiles.CorrectionOpen && !c.Motion {
		doc.Lacks, doc.Missing = max(count, 0), missing
	}
	for _, t := range c.Transactions {
		doc.Transactions = append(doc.Transactions, client.Corrected{ID: t.Tx, Height: t.Height})
	}
	for i := range shown {
		e := &shown[i]
		doc.Entries = append(doc.Entries, client.CorrectionEntry{Contract: e.Contract, Account: e.Account, Amount: e.Amount.String(), Credit: e.Credit})
	}
	for _, a := range c.Approvals {
		doc.Approvals = append(doc.Approvals, client.Approval{Institution: a.Institution, Account: a.Account})
	}
	return doc, nil
}

// linked adds to a transaction's document which corrections name it, and which it applied.
func linked(head *state.Snapshot, doc *client.Transaction) error {
	prefix := precompiles.CorrectionLinkKeys(doc.ID)
	n := 0
	for entry, err := range head.Range(prefix, nextPrefix(prefix), false) {
		if err != nil {
			return err
		}
		if n++; n > maxLinks {
			return nil
		}
		link, err := precompiles.DecodeCorrectionLink(entry.Key[len(prefix):], entry.Value)
		if err != nil {
			return fmt.Errorf("state under %x: %w", entry.Key, err)
		}
		c, found, err := precompiles.ReadCorrection(head, link.Number)
		switch {
		case err != nil:
			return err
		case !found:
			return fmt.Errorf("the index names correction %d, which is not there", link.Number)
		}
		short := client.CorrectionLink{Number: link.Number, Status: c.Status.String(), Reason: c.Reason, Applied: c.Applied}
		if !link.Applies {
			doc.CorrectedBy = append(doc.CorrectedBy, short)
			continue
		}
		for _, t := range c.Transactions {
			short.Transactions = append(short.Transactions, t.Tx)
		}
		doc.Corrects = append(doc.Corrects, short)
	}
	return nil
}

// nextPrefix returns the least key above all that begin with a prefix, which is not of bytes 255 alone.
func nextPrefix(prefix []byte) []byte {
	end := slices.Clone(prefix)
	for i := len(end) - 1; ; i-- {
		if end[i]++; end[i] != 0 {
			return end[:i+1]
		}
	}
}
