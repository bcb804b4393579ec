package network

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/node/contract"
	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state/ledger"
)

const (
	// txPatience is how long a transaction of the network's own may take: all nodes compile what is deployed, on the same few
	// processors, and change views meanwhile.
	txPatience = 2 * time.Minute
	// storePatience is how long a node may be behind the one that answered before.
	storePatience = 30 * time.Second
)

// Token is the example token as one node shows it.
type Token struct {
	Address ledger.Address
	Schema  *ledger.Schema
	net     *Network
	api     *client.Client
}

// Address returns the address of one of the network's accounts, or the zero address.
func (n *Network) Address(account string) ledger.Address {
	for _, a := range n.Accounts {
		if a.Name == account {
			return a.Address
		}
	}
	return ledger.Address{}
}

// OpenToken returns the token that was deployed before, or nil. It waits for a node that has not stored that block yet.
func (n *Network) OpenToken(ctx context.Context, api *client.Client) (*Token, error) {
	if n.Token.IsZero() {
		return nil, nil
	}
	return n.TokenAt(ctx, api, n.Token)
}

// TokenAt returns the token at an address. It waits for a node that has not stored the block yet in which it was deployed.
func (n *Network) TokenAt(ctx context.Context, api *client.Client, address ledger.Address) (*Token, error) {
	waits, cancel := context.WithTimeout(ctx, storePatience)
	defer cancel()
	found, err := api.Contract(waits, address)
	for problem := new(client.Problem); errors.As(err, &problem) && problem.Code == client.CodeNotFound && waits.Err() == nil; {
		select {
		case <-time.After(50 * time.Millisecond):
			found, err = api.Contract(waits, address)
		case <-waits.Done(): // the node's answer says more
		}
	}
	if err != nil {
		return nil, fmt.Errorf("the token %s: %w", address, err)
	}
	t := &Token{Address: address, Schema: new(ledger.Schema), net: n, api: api}
	if err := json.Unmarshal(found.Schema, t.Schema); err != nil {
		return nil, fmt.Errorf("the schema of the token %s: %w", address, err)
	}
	return t, nil
}

// tokenFolders has the sources of the token, which are one contract in several languages.
var tokenFolders = map[string]string{
	"go": "examples/token", "rust": "sdk-contracts/rust/contracts/token", "c": "sdk-contracts/c/contracts/token", "as": "sdk-contracts/as/contracts/token",
}

// TokenLanguages are the languages that there is a token in.
func TokenLanguages() []string { return slices.Sorted(maps.Keys(tokenFolders)) }

// DeployToken builds examples/token from the module in folder source, deploys it as admin, and notes it in the
// manifest.
func (n *Network) DeployToken(ctx context.Context, api *client.Client, source string) (*Token, error) {
	t, err := n.deployToken(ctx, api, source, "go")
	if err != nil {
		return nil, err
	}
	n.Token = t.Address
	return t, n.Save()
}

// TokenIn returns the token in one of TokenLanguages. The first time, it is built from the module in folder source, deployed
// as admin, and noted in the manifest.
func (n *Network) TokenIn(ctx context.Context, api *client.Client, source, language string) (*Token, error) {
	if address, ok := n.Tokens[language]; ok {
		return n.TokenAt(ctx, api, address)
	}
	if language == "go" && !n.Token.IsZero() {
		return n.OpenToken(ctx, api)
	}
	t, err := n.deployToken(ctx, api, source, language)
	if err != nil {
		return nil, err
	}
	if n.Tokens == nil {
		n.Tokens = map[string]ledger.Address{}
	}
	n.Tokens[language] = t.Address
	return t, n.Save()
}

func (n *Network) deployToken(ctx context.Context, api *client.Client, source, language string) (*Token, error) {
	built, err := contract.Build(ctx, filepath.Join(source, filepath.FromSlash(tokenFolders[language])), "")
	if err != nil {
		return nil, err
	}
	init, err := built.Schema.EncodeText("init", []string{"Fondaco coin", "FDC", n.Address("admin").String()})
	if err != nil {
		return nil, err
	}
	args, err := ledger.Marshal(&precompiles.DeployArgs{Code: built.Code, Args: init})
	if err != nil {
		return nil, err
	}
	tx, err := n.Send(ctx, api, "admin", precompiles.ContractsAddress, "deploy", args)
	if err != nil {
		return nil, fmt.Errorf("deploy the token: %w", err)
	}
	if tx.Receipt.Status != ledger.OK.String() {
		return nil, fmt.Errorf("deploying the token ended as %s %s (code %d)", tx.Receipt.Status, tx.Receipt.Error, tx.Receipt.Code)
	}
	t := &Token{Schema: built.Schema, net: n, api: api}
	if err := ledger.Unmarshal(tx.Receipt.Data, &t.Address); err != nil {
		return nil, fmt.Errorf("the address of the deployed token: %w", err)
	}
	return t, nil
}

// Sign signs a transaction with the key of one of the network's accounts.
func (n *Network) Sign(ctx context.Context, api *client.Client, account string, to ledger.Address, method string, args []byte) (*ledger.SignedTx, error) {
	signer, address, err := n.Signer(account)
	if err != nil {
		return nil, err
	}
	suite, err := api.Suite(ctx)
	if err != nil {
		return nil, err
	}
	tx, err := api.Transaction(ctx, address, ledger.Target{Address: to}, method, args)
	if err != nil {
		return nil, err
	}
	return tx.Sign(suite, signer)
}

// Send signs a transaction with the key of one of the network's accounts, sends it and waits until it is in a
// block. What its receipt says is the caller's to look at.
func (n *Network) Send(ctx context.Context, api *client.Client, account string, to ledger.Address, method string, args []byte) (*client.Transaction, error) {
	signed, err := n.Sign(ctx, api, account, to, method, args)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, txPatience)
	defer cancel()
	if err := api.Send(ctx, signed); err != nil {
		return nil, err
	}
	return api.Wait(ctx, signed.ID)
}

// wait waits until a transaction is in a block.
func (n *Network) wait(ctx context.Context, api *client.Client, id ledger.TxID) (*client.Transaction, error) {
	ctx, cancel := context.WithTimeout(ctx, txPatience)
	defer cancel()
	return api.Wait(ctx, id)
}

// Send calls a method of the token in a transaction of one of the network's accounts. args are as a person
// types them.
func (t *Token) Send(ctx context.Context, account, method string, args ...string) (*client.Transaction, error) {
	encoded, err := t.Schema.EncodeText(method, args)
	if err != nil {
		return nil, err
	}
	tx, err := t.net.Send(ctx, t.api, account, t.Address, method, encoded)
	if err != nil {
		return nil, fmt.Errorf("token %s: %w", method, err)
	}
	return tx, nil
}

// Balance returns an account's units as a decimal number.
func (t *Token) Balance(ctx context.Context, who ledger.Address) (string, error) {
	args, err := t.Schema.EncodeText("balance_of", []string{who.String()})
	if err != nil {
		return "", err
	}
	result, err := t.api.Call(ctx, t.Address, client.Call{Method: "balance_of", Args: args})
	if err != nil {
		return "", err
	}
	var units string
	if result.Status != ledger.OK.String() || json.Unmarshal(result.Decoded, &units) != nil {
		return "", fmt.Errorf("balance of %s: %s %s", who, result.Status, result.Decoded)
	}
	return units, nil
}
