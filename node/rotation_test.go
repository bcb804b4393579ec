package node

import (
	"context"
	"encoding/binary"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/transport/simnet"
)

// bank is the institution of a group, at work on its certificates.
type bank struct {
	*links
	nonce uint64
}

// send has an account call something, at each node in turn, and returns the receipt, the same at all nodes, or why the
// node did not take the transaction.
func (b *bank) send(from string, to ledger.Address, method string, args any) (*ledger.Receipt, error) {
	b.t.Helper()
	raw, err := ledger.Marshal(args)
	if err != nil {
		b.t.Fatal(err)
	}
	b.nonce++
	tx := ledger.Tx{
		Version: ledger.Version, Chain: b.genesis.Hash(b.suite), Group: "main", Sender: ledger.NamedAddress(b.suite, "account", from),
		Expiry: time.Now().Add(time.Minute).UnixMilli(), GasLimit: 5_000_000, To: ledger.Target{Address: to}, Method: method, Args: raw,
	}
	binary.BigEndian.PutUint64(tx.Nonce[:], b.nonce)
	signed, err := tx.Sign(b.suite, b.user)
	if err != nil {
		b.t.Fatal(err)
	}
	before := b.nodes[0].group.Store().Head().Height()
	results, err := b.nodes[b.nonce%uint64(len(b.nodes))].group.Submit(b.t.Context(), [][]byte{signed.Raw})
	if err != nil {
		b.t.Fatal(err)
	}
	if results[0].Err != nil {
		return nil, results[0].Err
	}
	var found *ledger.Receipt
	for _, n := range b.nodes {
		r := b.receipt(n, signed.ID, before)
		if found == nil {
			found = &r
		} else if r.Status != found.Status || r.Code != found.Code {
			b.t.Fatalf("one node says %s with code %d, another %s with code %d", found.Status, found.Code, r.Status, r.Code)
		}
	}
	return found, nil
}

// receipt waits for a transaction to be in a block of a node above a height.
func (b *bank) receipt(n *Node, id ledger.TxID, above ledger.Height) ledger.Receipt {
	b.t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		for ; above < n.group.Store().Head().Height(); above++ {
			receipts, err := n.group.Store().Receipts(above + 1)
			if err != nil {
				b.t.Fatal(err)
			}
			for _, r := range receipts {
				if r.Tx == id {
					return r
				}
			}
		}
	}
	b.t.Fatal("a transaction is in no block after a minute")
	return ledger.Receipt{}
}

// does is send for what must work.
func (b *bank) does(from string, to ledger.Address, method string, args any) []byte {
	b.t.Helper()
	r, err := b.send(from, to, method, args)
	if err != nil || r.Status != ledger.OK {
		b.t.Fatalf("%s %+v: %+v, %v", method, args, r, err)
	}
	return r.Data
}

// pass has a motion carried out.
func (b *bank) pass(f precompiles.Reform) {
	b.t.Helper()
	var id uint64
	if err := ledger.Unmarshal(b.does("admin", precompiles.GovernanceAddress, "propose", precompiles.ProposeArgs{Reform: &f}), &id); err != nil {
		b.t.Fatal(err)
	}
	b.does("admin", precompiles.GovernanceAddress, "activate", precompiles.MotionArgs{ID: id})
}

// carry has a motion carried out that makes one call.
func (b *bank) carry(to ledger.Address, method string, args any) {
	b.t.Helper()
	raw, err := ledger.Marshal(args)
	if err != nil {
		b.t.Fatal(err)
	}
	var id uint64
	if err := ledger.Unmarshal(b.does("admin", precompiles.GovernanceAddress, "propose", precompiles.ProposeArgs{
		Title: method, Actions: []precompiles.Action{{To: to, Method: method, Args: raw}},
	}), &id); err != nil {
		b.t.Fatal(err)
	}
	b.does("admin", precompiles.GovernanceAddress, "execute", precompiles.MotionArgs{ID: id})
}

// calls checks whether an account may call contracts; words are those of the refusal, empty where it may. Only the first
// node that is asked refuses: the transaction never comes to a block.
func (b *bank) calls(account, words string) {
	b.t.Helper()
	r, err := b.send(account, ledger.Address{1}, "anything", none{})
	refused, ok := errors.AsType[*precompiles.Error](err)
	switch {
	case words == "" && (err != nil || r.Status != ledger.NotFound): // there is no contract
		b.t.Errorf("%s calls a contract: %+v, %v", account, r, err)
	case words != "" && (!ok || refused.Code != precompiles.DeniedCertificate || !strings.Contains(refused.Reason, words)):
		b.t.Errorf("%s calls a contract: %+v, %v; want a refusal for the certificate that says %q", account, r, err, words)
	}
}

type none struct {
	_ struct{} `cbor:",toarray"`
}

// TestRotation rotates the root of a certificate authority on a group that runs, over block time, and has several agencies
// vouch by each kind of policy.
func TestRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		account := func(name string, roles ...string) ledger.GenesisAccount {
			return ledger.GenesisAccount{Name: name, Institution: "bank", Roles: roles}
		}
		b := &bank{links: newLinks(t, 4, simnet.Conditions{Latency: time.Millisecond}, account("admin", "committee", "institution-admin"), account("registrar", "registrar"), account("ann"), account("ben"))}
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		defer running.Wait()
		defer cancel()
		for _, n := range b.nodes {
			running.Go(func() {
				if err := n.Run(ctx); err != nil {
					t.Error(err)
				}
			})
		}
		time.Sleep(2 * time.Second) // they connect

		began := time.Now()
		in := func(d time.Duration) int64 { return began.Add(d).UnixMilli() }
		root := func(agency string, n byte, from, until time.Duration) precompiles.TrustedRoot {
			return precompiles.TrustedRoot{Institution: "bank", Authority: precompiles.Authority{
				Agency: agency, Root: keys.Digest{n}, From: in(from), Until: in(until), Roles: []string{"node", "user"},
			}}
		}
		policy := func(need uint32) precompiles.Reform {
			return precompiles.Reform{Policies: []precompiles.InstitutionPolicy{{Institution: "bank", Policy: precompiles.VouchPolicy{Role: "user", Need: need}}}}
		}
		certify := func(account string, roots ...byte) (*ledger.Receipt, error) {
			binding := &precompiles.Binding{Until: in(time.Hour)}
			for _, r := range roots {
				binding.Paths = append(binding.Paths, identity.Path{Leaf: keys.Digest{100 + r}, Root: keys.Digest{r}})
			}
			return b.send("registrar", precompiles.AccountsAddress, "certify", precompiles.CertifyArgs{Account: ledger.NamedAddress(b.suite, "account", account), Certificate: binding})
		}
		bound := func(want ledger.Status, account string, roots ...byte) {
			t.Helper()
			if r, err := certify(account, roots...); err != nil || r.Status != want {
				t.Fatalf("bind %s under the roots %d: %+v, %v; want %s", account, roots, r, err, want)
			}
		}
		at := func(d time.Duration) { // the time, and a block that has it
			time.Sleep(time.Until(began.Add(d)))
			b.does("registrar", precompiles.ConfigAddress, "params", none{})
		}

		for _, n := range b.nodes {
			if institution := n.unheeded(); institution != "" {
				t.Errorf("a node does not heed the authorities of %q, and there are none", institution)
			}
		}
		b.pass(precompiles.Reform{Trust: []precompiles.TrustedRoot{root("one", 1, 0, 2*time.Minute)}})
		for _, n := range b.nodes { // none of which has a CA provider
			if institution := n.unheeded(); institution != "bank" {
				t.Errorf("a node does not heed the authorities of %q, want bank", institution)
			}
		}
		bound(ledger.OK, "ann", 1)
		b.calls("ann", "")

		// The next root is named before it counts. While both do, old and new certificates are as good.
		b.pass(precompiles.Reform{Trust: []precompiles.TrustedRoot{root("one", 2, time.Minute, time.Hour)}})
		bound(ledger.Aborted, "ben", 2)
		b.calls("ann", "")
		at(61 * time.Second)
		bound(ledger.OK, "ben", 2)
		b.calls("ann", "")
		b.calls("ben", "")
		at(119 * time.Second)
		b.calls("ann", "")

		// Then the old one ends, by block time, and no node was started again.
		at(121 * time.Second)
		b.calls("ann", "CA one, root "+keys.Digest{1}.String()+", counts from")
		b.calls("ben", "")
		b.pass(precompiles.Reform{Distrust: []precompiles.DistrustedRoot{{Institution: "bank", Root: keys.Digest{1}}}})
		b.calls("ann", "CA root "+keys.Digest{1}.String()+" is not trusted for institution bank")
		bound(ledger.OK, "ann", 2)
		b.calls("ann", "")

		// Two agencies more. Any of them is enough, until two must vouch, or all.
		b.pass(precompiles.Reform{Trust: []precompiles.TrustedRoot{root("two", 3, 0, time.Hour), root("three", 4, 0, 4*time.Minute)}})
		bound(ledger.OK, "ann", 3, 4)
		b.calls("ann", "")
		b.calls("ben", "")
		b.pass(policy(2))
		b.calls("ann", "")
		b.calls("ben", "2 of the agencies one, three, two must vouch for role user of institution bank, and 1 did")
		b.pass(policy(0))
		b.calls("ann", "3 of the agencies one, three, two must vouch")
		bound(ledger.Aborted, "ben", 2, 3)
		bound(ledger.OK, "ben", 2, 3, 4)
		b.calls("ben", "")
		at(241 * time.Second) // agency three has ended, and all are three as before, until a motion takes its root away
		bound(ledger.Aborted, "ann", 2, 3)
		b.calls("ann", "the last root of three ended")
		b.calls("ben", "the last root of three ended")
		b.pass(precompiles.Reform{Distrust: []precompiles.DistrustedRoot{{Institution: "bank", Root: keys.Digest{4}}}})
		b.calls("ben", "")
		bound(ledger.OK, "ann", 2, 3)
		b.calls("ann", "")
		b.pass(policy(1))
		bound(ledger.OK, "ann", 3)
		b.calls("ann", "")
	})
}
