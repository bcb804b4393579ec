package network

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// LoadAccount is one of many accounts for load. Its key follows from its number and the chain, so it protects
// nothing.
type LoadAccount struct {
	Address ledger.Address
	number  int
	net     *Network
}

// Key makes the account's key, which costs about as much as a signature.
func (a *LoadAccount) Key() (keys.Signer, error) {
	suite, err := keys.SuiteByName(a.net.Suite)
	if err != nil {
		return nil, err
	}
	return suite.ParsePrivate(suite.Vote(), a.net.loadSeed(suite, a.number))
}

const (
	loadFile       = "load-accounts" // addresses, one after the other
	registerAtOnce = 500             // accounts in a transaction
	// registerAhead is how many such transactions wait at once: more would make blocks that take a second to execute.
	registerAhead = 4
)

// LoadAccounts returns count accounts of the network, registering those that do not exist yet, some thousand a
// second. progress is told how many there are.
func (n *Network) LoadAccounts(ctx context.Context, api *client.Client, count int, progress func(have int)) ([]LoadAccount, error) {
	path := filepath.Join(n.Dir, loadFile)
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the accounts for load: %w", err)
	}
	accounts := make([]LoadAccount, count)
	for i := range accounts {
		accounts[i].number, accounts[i].net = i, n
	}
	have := min(len(data)/ledger.AddressSize, count)
	for i := range have {
		accounts[i].Address = ledger.Address(data[i*ledger.AddressSize:])
	}
	if have == count {
		return accounts, nil
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		err = n.register(ctx, api, accounts, have, func(upto int, fresh []ledger.Address) error {
			data := make([]byte, 0, len(fresh)*ledger.AddressSize)
			for _, a := range fresh {
				data = append(data, a[:]...)
			}
			progress(upto)
			_, err := file.WriteAt(data, int64(upto-len(fresh))*ledger.AddressSize)
			return err
		})
		err = errors.Join(err, file.Close())
	}
	if err != nil {
		return nil, fmt.Errorf("register accounts: %w", err)
	}
	return accounts, nil
}

// register registers the accounts from a number on, in order, and tells done of each transaction's.
func (n *Network) register(ctx context.Context, api *client.Client, accounts []LoadAccount, from int, done func(upto int, fresh []ledger.Address) error) error {
	var waiting []ledger.TxID
	for next := from; from < len(accounts); {
		if next < len(accounts) && len(waiting) < registerAhead {
			end := min(next+registerAtOnce, len(accounts))
			id, err := n.sendRegister(ctx, api, accounts[next:end])
			if err != nil {
				return err
			}
			waiting, next = append(waiting, id), end
			continue
		}
		tx, err := n.wait(ctx, api, waiting[0])
		if err != nil {
			return err
		}
		var fresh []ledger.Address
		if tx.Receipt.Status != ledger.OK.String() {
			return fmt.Errorf("it ended as %s %s (code %d)", tx.Receipt.Status, tx.Receipt.Error, tx.Receipt.Code)
		}
		want := min(registerAtOnce, len(accounts)-from)
		if err := ledger.Unmarshal(tx.Receipt.Data, &fresh); err != nil {
			return err
		}
		if len(fresh) != want {
			return fmt.Errorf("%d of %d were made", len(fresh), want)
		}
		for i, a := range fresh {
			accounts[from+i].Address = a
		}
		waiting, from = waiting[1:], from+len(fresh)
		if err := done(from, fresh); err != nil {
			return err
		}
	}
	return nil
}

func (n *Network) sendRegister(ctx context.Context, api *client.Client, accounts []LoadAccount) (ledger.TxID, error) {
	args := precompiles.RegisterArgs{Institution: n.Nodes[0].Institution}
	for i := range accounts {
		key, err := accounts[i].Key()
		if err != nil {
			return ledger.TxID{}, err
		}
		public := key.Public()
		args.Accounts = append(args.Accounts, precompiles.NewAccount{
			Threshold: 1, Roles: []string{}, Keys: []precompiles.AccountKey{{Algorithm: public.Algorithm(), Key: public.Bytes(), Weight: 1}},
		})
	}
	encoded, err := ledger.Marshal(&args)
	if err != nil {
		return ledger.TxID{}, err
	}
	signed, err := n.Sign(ctx, api, "admin", precompiles.AccountsAddress, "register", encoded)
	if err != nil {
		return ledger.TxID{}, err
	}
	return signed.ID, api.Send(ctx, signed)
}

func (n *Network) loadSeed(suite keys.Suite, i int) []byte {
	seed := suite.Sum([]byte("fondaco testnet load account"), n.Chain[:], binary.BigEndian.AppendUint64(nil, uint64(i)))
	return seed[:]
}
