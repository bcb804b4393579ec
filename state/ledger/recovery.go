package ledger

import (
	"errors"

	"github.com/fondaco/fondaco/state/keys"
)

// History checks the certificates of blocks that follow one another, lowest first. Below a block that the verifier accepts
// from survivors of a disaster (see [Certificate.Recovers]), others may stand that they signed with it: they are final as
// its ancestors, so nothing but that block need be accepted.
type History struct {
	Finality StatementKind // Genesis.Finality
	Accepted []keys.Digest // as for Certificate.Finalizes
	open     error         // why the last block is not final unless an accepted one follows
}

// Finalizes is Certificate.Finalizes for the next block.
func (y *History) Finalizes(s keys.Suite, c *Certificate, h *Header, members []keys.PublicKey) error {
	err := c.Finalizes(s, h, y.Finality, members, y.Accepted...)
	switch {
	case errors.Is(err, ErrRecovery):
		y.open = err
		return c.Recovers(s, h, members)
	case err == nil && c.Statement.Kind != Recover && y.open != nil:
		return y.open
	case err == nil:
		y.open = nil
	}
	return err
}

// End fails with ErrRecovery if the history ends, or leads to where the caller is, by a recovery that is not accepted.
func (y *History) End() error { return y.open }
