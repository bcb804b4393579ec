package network

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

const (
	fundAtOnce  = 500       // transactions in a request
	fundAhead   = 4         // times as many may wait at once
	fundNoted   = 20        // times as many after which the file is written
	fundReaders = 8         // that ask for receipts
	fundPause   = time.Hour // that a node may have it wait, at most
)

// issuance is a signed transaction that issues units to an account.
type issuance struct {
	account int
	raw     []byte
	id      ledger.TxID
}

// Fund issues units of the token to those of the load accounts, by their numbers, that it did not issue any to
// before: one transaction each. A file in the network's folder says which have theirs, as their receipts tell. progress is told
// for how many of how many a transaction was taken.
func (t *Token) Fund(ctx context.Context, accounts []LoadAccount, which []int, units int, progress func(done, of int)) error {
	path := filepath.Join(t.net.Dir, "load-funded-"+t.Address.String())
	funded, err := os.ReadFile(path) // a bit for each account
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the accounts that have units: %w", err)
	}
	if short := (len(accounts)+7)/8 - len(funded); short > 0 {
		funded = append(funded, make([]byte, short)...)
	}
	var lacking []int
	for _, i := range which {
		if funded[i/8]&(1<<(i%8)) == 0 {
			lacking = append(lacking, i)
		}
	}
	if len(lacking) == 0 {
		return nil
	}
	admin, sender, err := t.net.Signer("admin")
	if err != nil {
		return err
	}
	note := func() error { return os.WriteFile(path, funded, 0o600) }
	var signed, taken []issuance // of these, no more than wait at once
	for next, noted := 0, 0; next < len(lacking) || len(signed) > 0 || len(taken) > 0; {
		for ; next < len(lacking) && len(signed) < fundAtOnce; next++ {
			one, err := t.issuance(ctx, admin, sender, lacking[next], accounts[lacking[next]].Address, units)
			if err != nil {
				return fmt.Errorf("issue units: %w", err)
			}
			signed = append(signed, one)
		}
		if len(signed) > 0 && len(taken) < fundAhead*fundAtOnce {
			var some []issuance
			if some, signed, err = t.issue(ctx, signed); err != nil {
				return fmt.Errorf("issue units: %w", err)
			}
			taken = append(taken, some...)
			progress(next-len(signed), len(lacking))
			continue
		}
		some := taken[:min(len(taken), fundAtOnce)]
		taken = taken[len(some):]
		issued, err := t.issued(ctx, some)
		for _, i := range issued {
			funded[i/8] |= 1 << (i % 8)
		}
		if err != nil {
			return errors.Join(fmt.Errorf("issue units: %w", err), note())
		}
		if noted += len(issued); noted >= fundNoted*fundAtOnce {
			noted = 0
			if err := note(); err != nil {
				return err
			}
		}
	}
	return note()
}

// issuance signs a transaction that issues units.
func (t *Token) issuance(ctx context.Context, admin keys.Signer, sender ledger.Address, account int, to ledger.Address, units int) (issuance, error) {
	suite, err := t.api.Suite(ctx)
	if err != nil {
		return issuance{}, err
	}
	args, err := t.Schema.EncodeText("issue", []string{to.String(), fmt.Sprint(units)})
	if err != nil {
		return issuance{}, err
	}
	tx, err := t.api.Transaction(ctx, sender, ledger.Target{Address: t.Address}, "issue", args)
	if err != nil {
		return issuance{}, err
	}
	signed, err := tx.Sign(suite, admin)
	if err != nil {
		return issuance{}, err
	}
	return issuance{account, signed.Raw, signed.ID}, nil
}

// issue sends what is signed, and returns which of it the node took, and which is to be sent again: it was too busy, or does not know. When it is all, it
// waits for as long as the node says.
func (t *Token) issue(ctx context.Context, signed []issuance) (taken, refused []issuance, err error) {
	raws := make([][]byte, len(signed))
	for i := range signed {
		raws[i] = signed[i].raw
	}
	results, err := t.api.SendBatch(ctx, raws)
	if err != nil {
		return nil, nil, err
	}
	var wait time.Duration
	for i, r := range results {
		switch {
		case r.Problem == nil, r.Problem.Code == client.CodeKnown, r.Problem.Code == client.CodeCommitted:
			taken = append(taken, signed[i])
		case r.Problem.Code == client.CodeBusy, r.Problem.Code == client.CodeUncertain: // the same bytes again, which is safe
			refused = append(refused, signed[i])
			wait = time.Duration(max(min(r.Problem.RetryAfter, int(fundPause/time.Second)), 1)) * time.Second
		default:
			return nil, nil, r.Problem
		}
	}
	if len(taken) > 0 {
		return taken, refused, nil
	}
	select {
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	case <-time.After(wait):
		return nil, refused, nil
	}
}

// issued waits for the receipts, and returns the accounts whose units were issued. An error is about one of the others.
func (t *Token) issued(ctx context.Context, some []issuance) (accounts []int, err error) {
	errs := make([]error, len(some))
	var wait sync.WaitGroup
	for reader := range fundReaders {
		wait.Go(func() {
			for i := reader; i < len(some); i += fundReaders {
				tx, err := t.net.wait(ctx, t.api, some[i].id)
				if err == nil && tx.Receipt.Status != ledger.OK.String() {
					err = fmt.Errorf("transaction %s ended as %s %s (code %d)", some[i].id, tx.Receipt.Status, tx.Receipt.Error, tx.Receipt.Code)
				}
				errs[i] = err
			}
		})
	}
	wait.Wait()
	for i, e := range errs {
		if e == nil {
			accounts = append(accounts, some[i].account)
		} else if err == nil {
			err = e
		}
	}
	return accounts, err
}
