// Package members reads a group's nodes, motions, authorities and certificates from a node's API, and makes what a node states of itself. Like
// every client it believes the node that it asks. The package is public by path but promised nothing.
package members

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// Errors of Ready.
var (
	// ErrBehind says that the node has not fetched all that it needs yet. Ask again.
	ErrBehind = errors.New("members: the node is behind")
	// ErrFork says that the node follows another history than the members.
	ErrFork = errors.New("members: the node follows another history: keep its data for the inquiry")
	// ErrNode says that the key is not that of the node which was asked.
	ErrNode = errors.New("members: the key is another node's")
)

// Record returns the members' part of the epoch in force.
func Record(ctx context.Context, api *client.Client) (precompiles.Record, error) {
	return view[precompiles.Record](ctx, api, precompiles.MembersAddress, "epoch", &struct {
		_ struct{} `cbor:",toarray"`
	}{})
}

// Nodes returns all nodes that have, or had, to do with the group, in order of their ids.
func Nodes(ctx context.Context, api *client.Client) ([]precompiles.ListedNode, error) {
	return pages(ctx, api, precompiles.MembersAddress, "nodes", &precompiles.NodesArgs{}, func(n precompiles.ListedNode) any { return &precompiles.NodesArgs{After: n.Node[:]} })
}

// Institutions returns the names of all institutions of the chain, in order.
func Institutions(ctx context.Context, api *client.Client) ([]string, error) {
	return pages(ctx, api, precompiles.MembersAddress, "institutions", &precompiles.InstitutionsArgs{}, func(name string) any { return &precompiles.InstitutionsArgs{After: name} })
}

// Motions returns all motions that are on the chain, those of which nothing can come any more among them, in order.
func Motions(ctx context.Context, api *client.Client) ([]precompiles.ListedMotion, error) {
	return pages(ctx, api, precompiles.GovernanceAddress, "motions", &precompiles.MotionsArgs{}, func(m precompiles.ListedMotion) any { return &precompiles.MotionsArgs{After: m.ID} })
}

// OpenMotions returns the motions of which something can come, at the time of the last block, in order.
func OpenMotions(ctx context.Context, api *client.Client) ([]precompiles.ListedMotion, error) {
	record, err := Record(ctx, api)
	if err != nil {
		return nil, err
	}
	status, err := api.Status(ctx)
	if err != nil {
		return nil, err
	}
	motions, err := Motions(ctx, api)
	return slices.DeleteFunc(motions, func(m precompiles.ListedMotion) bool { return m.Row.Over(&record, status.BlockTime) != "" }), err
}

// Settings returns how motions are decided.
func Settings(ctx context.Context, api *client.Client) (precompiles.Settings, error) {
	return view[precompiles.Settings](ctx, api, precompiles.GovernanceAddress, "settings", &struct {
		_ struct{} `cbor:",toarray"`
	}{})
}

// Regulators returns the accounts with the role regulator.
func Regulators(ctx context.Context, api *client.Client) ([]precompiles.Account, error) {
	addresses, err := view[[]ledger.Address](ctx, api, precompiles.GovernanceAddress, "regulators", &struct {
		_ struct{} `cbor:",toarray"`
	}{})
	if err != nil {
		return nil, err
	}
	var all []precompiles.Account
	for _, address := range addresses {
		account, err := view[*precompiles.Account](ctx, api, precompiles.AccountsAddress, "get", &precompiles.AddressArgs{Address: address})
		if err != nil {
			return nil, err
		}
		if account != nil { // it had the role a moment ago
			all = append(all, *account)
		}
	}
	return all, nil
}

// Policies returns all policies that were set, in order of contract and method.
func Policies(ctx context.Context, api *client.Client) ([]precompiles.ListedPolicy, error) {
	return pages(ctx, api, precompiles.GovernanceAddress, "policies", &precompiles.MethodArgs{}, func(p precompiles.ListedPolicy) any {
		return &precompiles.MethodArgs{Contract: p.Contract, Method: p.Method}
	})
}

// Policy returns what a call of a method takes; nil: its contract alone decides.
func Policy(ctx context.Context, api *client.Client, contract ledger.Address, method string) (*precompiles.Policy, error) {
	return view[*precompiles.Policy](ctx, api, precompiles.GovernanceAddress, "policy", &precompiles.MethodArgs{Contract: contract, Method: method})
}

// Trusts returns all institutions of which the group names authorities, in order of their names.
func Trusts(ctx context.Context, api *client.Client) ([]precompiles.InstitutionTrust, error) {
	return pages(ctx, api, precompiles.CertificatesAddress, "trusts", &precompiles.TrustsArgs{}, func(t precompiles.InstitutionTrust) any {
		return &precompiles.TrustsArgs{After: t.Institution}
	})
}

// Trust returns the authorities of an institution, or nil when the group names none.
func Trust(ctx context.Context, api *client.Client, institution string) (*precompiles.Trust, error) {
	return view[*precompiles.Trust](ctx, api, precompiles.CertificatesAddress, "trust", &precompiles.TrustArgs{Institution: institution})
}

// Certificate returns what institutions say of a certificate.
func Certificate(ctx context.Context, api *client.Client, fingerprint keys.Digest) ([]precompiles.ListedCertificate, error) {
	return view[[]precompiles.ListedCertificate](ctx, api, precompiles.CertificatesAddress, "status", &precompiles.CertificateArgs{Fingerprint: fingerprint})
}

// CheckCredential is precompiles.CheckCredential over the rows that a node has now.
func CheckCredential(ctx context.Context, api *client.Client, c *precompiles.Credential, unixMilli int64) error {
	return precompiles.CheckCredential(reader(func(key []byte) ([]byte, bool, error) {
		var contract ledger.Address
		row, err := api.State(ctx, contract, key[copy(contract[:], key):], false)
		if err != nil {
			return nil, false, err
		}
		return row.Value, row.Found, nil
	}), c, unixMilli)
}

// reader is a precompiles.Reader.
type reader func(key []byte) (value []byte, found bool, err error)

func (r reader) Get(key []byte) (value []byte, found bool, err error) { return r(key) }

// Bound returns the accounts of an institution that go by a certificate.
func Bound(ctx context.Context, api *client.Client, fingerprint keys.Digest, institution string) ([]ledger.Address, error) {
	args := precompiles.BoundArgs{Fingerprint: fingerprint, Institution: institution}
	return pages(ctx, api, precompiles.CertificatesAddress, "bound", &args, func(last ledger.Address) any {
		next := args
		next.After = &last
		return &next
	})
}

// Ready returns the statement of the node that api leads to, signed with its key, that it has the block which a motion
// names. It returns ErrBehind while the node does not have it.
func Ready(ctx context.Context, api *client.Client, key keys.Signer, id uint64) (*precompiles.ReadyArgs, error) {
	chain, err := api.Chain(ctx)
	if err != nil {
		return nil, err
	}
	suite, err := api.Suite(ctx)
	if err != nil {
		return nil, err
	}
	status, err := api.Status(ctx)
	if err != nil {
		return nil, err
	}
	node := identity.NodeIDOf(suite, key.Public())
	switch {
	case status.Node != node:
		return nil, fmt.Errorf("%w: %s is node %s, and the key is that of %s", ErrNode, api.Base(), status.Node.Short(), node.Short())
	case status.Stopped != "":
		return nil, fmt.Errorf("the node has stopped: %s", status.Stopped)
	case status.Joining != nil:
		return nil, fmt.Errorf("%w: it fetches a state to begin with", ErrBehind)
	case status.Syncing > 0:
		return nil, fmt.Errorf("%w: it fetches blocks, at %d of %d", ErrBehind, status.Height, status.Syncing)
	}
	open, err := OpenMotions(ctx, api)
	if err != nil {
		return nil, err
	}
	at := slices.IndexFunc(open, func(m precompiles.ListedMotion) bool { return m.ID == id })
	if at < 0 {
		return nil, fmt.Errorf("%w: at height %d it knows no open motion %d", ErrBehind, status.Height, id)
	}
	m := &open[at].Row
	if !slices.Contains(m.Adds(), node) {
		return nil, fmt.Errorf("%w: motion %d does not add node %s", ErrNode, id, node.Short())
	}
	block, err := api.Block(ctx, m.Height)
	if err != nil {
		return nil, err
	}
	if block.Hash != m.Block {
		return nil, fmt.Errorf("%w: motion %d names another block %d", ErrFork, id, m.Height)
	}
	signature, err := precompiles.SignReady(suite, key, chain.Chain, chain.Group, id, m, node)
	if err != nil {
		return nil, err
	}
	return &precompiles.ReadyArgs{ID: id, Node: node[:], Signature: signature}, nil
}

// view calls a view of a system contract.
func view[T any](ctx context.Context, api *client.Client, contract ledger.Address, method string, args any) (result T, err error) {
	encoded, err := ledger.Marshal(args)
	if err != nil {
		return result, err
	}
	answer, err := api.Call(ctx, contract, client.Call{Method: method, Args: encoded})
	if err != nil {
		return result, err
	}
	if answer.Status != ledger.OK.String() {
		return result, fmt.Errorf("%s.%s ended as %s %s: %s", contract, method, answer.Status, answer.Error, answer.Trace)
	}
	return result, ledger.Unmarshal(answer.Data, &result)
}

// pages collects the pages of a view. next returns the arguments for what comes after an entry.
func pages[T any](ctx context.Context, api *client.Client, contract ledger.Address, method string, first any, next func(T) any) (all []T, err error) {
	for args := first; ; {
		page, err := view[[]T](ctx, api, contract, method, args)
		if err != nil {
			return nil, err
		}
		all = append(all, page...)
		if len(page) == 0 {
			return all, nil
		}
		args = next(page[len(page)-1])
	}
}

// Anchored returns up to where a log of an institution was anchored; nil if it never was.
func Anchored(ctx context.Context, api *client.Client, institution, log string) (*precompiles.Anchor, error) {
	return view[*precompiles.Anchor](ctx, api, precompiles.AuditAddress, "anchored", &precompiles.AnchorOf{Institution: institution, Log: log})
}
