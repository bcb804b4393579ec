package backup

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// Assembly makes a group's data of the parts that a backup has, whoever brings them: all blocks from genesis on in their
// order, each that ends an epoch followed by the epoch that begins, and the chunks of the state in theirs. All are checked; a
// part that was refused changes nothing, and another may be given in its place. It is for one goroutine.
type Assembly struct {
	trust   *Trust
	start   Start
	to      *state.Importer
	epoch   ledger.Epoch
	members []keys.PublicKey // of the epoch
	history ledger.History
	last    *ledger.Block
	turn    bool  // the last block ended its epoch, and the next epoch has not come
	expiry  int64 // latest that a transaction in a block that is not there in full can have, Unix ms
	keys    uint64
}

// Assemble begins in a folder, or goes on there, see state.Import.
func Assemble(trust *Trust, start *Start, dir string, o *state.Options) (*Assembly, error) {
	if err := start.check(); err != nil {
		return nil, err
	}
	a := &Assembly{trust: trust, start: *start, history: ledger.History{Finality: trust.Genesis.Finality(), Accepted: trust.Accepted}}
	if err := a.enter(*trust.Genesis.Epoch()); err != nil {
		return nil, err
	}
	var err error
	a.to, err = state.Import(dir, trust.Suite, &start.Header, start.Kept, o)
	if err != nil {
		return nil, err
	}
	return a, nil
}

func (a *Assembly) enter(epoch ledger.Epoch) (err error) {
	a.epoch, a.turn = epoch, false
	a.members, err = epoch.PublicKeys(a.trust.Suite)
	return err
}

// invalid marks what a part says as wrong, and leaves the failures of this machine as they are.
func invalid(err error) error {
	for _, wrong := range []error{state.ErrFault, state.ErrNotFound, ledger.ErrProof, ledger.ErrEncoding, ledger.ErrCertificate} {
		if errors.Is(err, wrong) {
			return fmt.Errorf("%w: %w", ErrInvalid, err)
		}
	}
	return err
}

// Next returns the height of the block that Block takes next.
func (a *Assembly) Next() ledger.Height {
	if a.last == nil {
		return 0
	}
	return a.last.Header.Order.Height + 1
}

// There returns what an assembly that was cut short has left of the next block, for Block; nil: nothing.
func (a *Assembly) There() ([]byte, error) { return a.to.There() }

// Turn reports whether Epoch must be called next.
func (a *Assembly) Turn() bool { return a.turn }

// Chunk takes the next chunk of the state. It fails with ErrInvalid if that does not hold.
func (a *Assembly) Chunk(c *ledger.StateChunk) error {
	if err := a.to.Chunk(c); err != nil {
		return invalid(err)
	}
	a.keys += uint64(len(c.Entries))
	return nil
}

// Block takes the next block, see state.Store.Payload. It fails with ErrInvalid if that does not hold.
func (a *Assembly) Block(payload []byte) error {
	if a.turn {
		return fmt.Errorf("%w: behind block %d the next epoch is missing", ErrInvalid, a.last.Header.Order.Height)
	}
	b, err := a.to.Block(payload, a.valid)
	if err != nil {
		return invalid(err)
	}
	order := &b.Header.Order
	a.last, a.turn = b, order.Barrier
	if order.Height < a.start.Kept {
		a.expiry = max(a.expiry, order.UnixMilli+a.epoch.Params.MaxLifetime)
	}
	return nil
}

// valid checks what no header commits to.
func (a *Assembly) valid(b *ledger.Block) error {
	order := &b.Header.Order
	if order.Height == 0 {
		if err := a.genesis(b); err != nil {
			return err
		}
	}
	if order.Epoch != a.epoch.Number {
		return fmt.Errorf("%w: block %d is of epoch %d, and that is epoch %d", ErrInvalid, order.Height, order.Epoch, a.epoch.Number)
	}
	if last := &a.start.Header.Order; a.start.Last == last.Height && order.Height < a.start.Kept {
		if err := a.repeats(order.UnixMilli+a.epoch.Params.MaxLifetime, last.UnixMilli); err != nil {
			return err
		}
	}
	if order.Height > 0 {
		if err := a.history.Finalizes(a.trust.Suite, &b.Certificate, &b.Header, a.members); err != nil {
			return fmt.Errorf("block %d: %w", order.Height, err)
		}
	}
	return nil
}

// repeats fails if a transaction that is not there in full can come again after the last block.
func (a *Assembly) repeats(expiry, last int64) error {
	if expiry <= last {
		return nil
	}
	return fmt.Errorf("%w: transactions of blocks below %d, which it does not have in full, can come again for %d ms: a node made of it would execute them twice",
		ErrInvalid, a.start.Kept, expiry-last)
}

// genesis checks block 0, all of it: nobody certified it.
func (a *Assembly) genesis(b *ledger.Block) error {
	got, err := ledger.Marshal(b)
	if err != nil {
		return err
	}
	want, err := ledger.Marshal(a.trust.First)
	if err == nil && !bytes.Equal(got, want) {
		err = fmt.Errorf("%w: block 0 is not the one that the genesis gives", ErrInvalid)
	}
	return err
}

// Epoch takes the epoch that begins after the last block.
func (a *Assembly) Epoch(epoch *ledger.Epoch) error {
	if !a.turn || epoch.Number != a.epoch.Number+1 || epoch.Hash(a.trust.Suite) != a.last.Header.NextEpoch {
		return fmt.Errorf("%w: epoch %d is not the one that the block before begins", ErrInvalid, epoch.Number)
	}
	return a.enter(*epoch)
}

// Finish makes the folder a store, and ends the assembly as Close does. Everything must have been given.
func (a *Assembly) Finish() (*Contents, error) {
	err := a.end()
	if err == nil {
		err = invalid(a.to.Finish())
	}
	if err != nil {
		return nil, errors.Join(err, a.Close())
	}
	header := &a.last.Header
	return &Contents{
		Chain: header.Order.Chain, Group: header.Order.Group, Height: header.Order.Height, Block: header.Hash(a.trust.Suite), Kept: a.start.Kept,
		State: a.start.Header.Order.Height, Root: a.start.Header.StateRoot, Keys: a.keys, Epoch: header.Order.Epoch,
	}, nil
}

func (a *Assembly) end() error {
	if a.last == nil || a.last.Header.Order.Height != a.start.Last || a.turn {
		return fmt.Errorf("%w: it does not end with block %d", ErrInvalid, a.start.Last)
	}
	if err := a.repeats(a.expiry, a.last.Header.Order.UnixMilli); err != nil {
		return err
	}
	return a.history.End()
}

// Close gives the folder free. What was given stays there for the next Assemble.
func (a *Assembly) Close() error { return a.to.Close() }
