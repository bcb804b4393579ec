package network

import (
	"context"
	"encoding/binary"
	"encoding/json"
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
	Key     keys.Signer
}

const (
	loadFile       = "load-accounts.json"
	registerAtOnce = 500
)

// LoadAccounts returns count accounts of the network, registering those that do not exist yet. progress is told
// how many there are.
func (n *Network) LoadAccounts(ctx context.Context, api *client.Client, count int, progress func(have int)) ([]LoadAccount, error) {
	suite, err := keys.SuiteByName(n.Suite)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(n.Dir, loadFile)
	var addresses []ledger.Address
	data, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(data, &addresses)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	accounts := make([]LoadAccount, count)
	for i := range accounts {
		if accounts[i].Key, err = suite.ParsePrivate(suite.Vote(), n.loadSeed(suite, i)); err != nil {
			return nil, err
		}
	}
	for len(addresses) < count {
		have := len(addresses)
		args := precompiles.RegisterArgs{Institution: n.Nodes[0].Institution}
		for _, a := range accounts[have:min(have+registerAtOnce, count)] {
			public := a.Key.Public()
			args.Accounts = append(args.Accounts, precompiles.NewAccount{
				Threshold: 1, Roles: []string{}, Keys: []precompiles.AccountKey{{Algorithm: public.Algorithm(), Key: public.Bytes(), Weight: 1}},
			})
		}
		encoded, err := ledger.Marshal(&args)
		if err != nil {
			return nil, err
		}
		tx, err := n.Send(ctx, api, "admin", precompiles.AccountsAddress, "register", encoded)
		if err != nil {
			return nil, fmt.Errorf("register accounts: %w", err)
		}
		var fresh []ledger.Address
		if tx.Receipt.Status != ledger.OK.String() {
			return nil, fmt.Errorf("registering accounts ended as %s %s (code %d)", tx.Receipt.Status, tx.Receipt.Error, tx.Receipt.Code)
		}
		if err := ledger.Unmarshal(tx.Receipt.Data, &fresh); err != nil || len(fresh) != len(args.Accounts) {
			return nil, fmt.Errorf("registered %d of %d accounts: %w", len(fresh), len(args.Accounts), err)
		}
		addresses = append(addresses, fresh...)
		if data, err = json.Marshal(addresses); err != nil {
			return nil, err
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			return nil, err
		}
		progress(len(addresses))
	}
	for i := range accounts {
		accounts[i].Address = addresses[i]
	}
	return accounts, nil
}

func (n *Network) loadSeed(suite keys.Suite, i int) []byte {
	seed := suite.Sum([]byte("fondaco testnet load account"), n.Chain[:], binary.BigEndian.AppendUint64(nil, uint64(i)))
	return seed[:]
}
