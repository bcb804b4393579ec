package network

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/fondaco/fondaco/node/cli"
	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/node/members"
	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/keys/keyfile"
	"github.com/fondaco/fondaco/state/ledger"
)

// Add makes a node of a new institution, has it admitted as an observer, starts it, waits until it has all blocks, and
// has it made a member, in the place of another one if replaced is not nil. sync is Config.Sync for the node. The institutions' accounts make, approve
// and activate the motions. tell is told of each step.
//
// What stands in the way is found before anything is done. An Add that was interrupted is finished by the next one: the
// manifest names the node, and the chain tells how far it came.
func (n *Network) Add(ctx context.Context, replaced *Node, sync string, tell func(format string, args ...any)) (*Node, error) {
	if _, err := n.Binary(); err != nil {
		return nil, err
	}
	if n.CA {
		return nil, errFounders
	}
	api, err := n.voter(ctx, replaced)
	if err != nil {
		return nil, err
	}
	known, err := members.Nodes(ctx, api)
	if err != nil {
		return nil, err
	}
	node, row := n.joiner(known)
	joined := row != nil && row.Status == precompiles.NodeMember
	switch {
	case joined && (replaced == nil || checkVotes(known, replaced) != nil): // the last time, all but the end was done
		tell("%s is a member since block %d", node.Name, row.Height)
		return node, n.endJoining()
	case joined:
		node, row = nil, nil
	}
	if replaced != nil {
		if err := checkVotes(known, replaced); err != nil {
			return nil, err
		}
	}
	if node == nil {
		if node, err = n.makeJoiner(sync); err != nil {
			return nil, err
		}
	} else {
		tell("going on with %s, which was not added to the end", node.Name)
	}
	if row == nil {
		if row, err = n.admit(ctx, api, node, tell); err != nil {
			return nil, err
		}
	}
	if err := n.keepFirstAccount(ctx, api, node.Institution, row.Height); err != nil {
		return nil, err
	}
	tell("admitted in block %d; %s starts and fetches the blocks", row.Height, node.Name)
	if _, err := n.Start(node); err != nil {
		return nil, err
	}
	if err := n.WaitReady(ctx, node); err != nil {
		return nil, err
	}
	own, err := n.Client(node.API)
	if err != nil {
		return nil, err
	}
	if err := until(ctx, func() (bool, error) {
		s, err := own.Status(ctx)
		return err == nil && s.Height >= row.Height, nil
	}); err != nil {
		return nil, fmt.Errorf("%s did not fetch block %d: %w", node.Name, row.Height, err)
	}
	reform := &precompiles.Reform{Add: []identity.NodeID{node.ID}}
	what := "a member"
	if replaced != nil {
		reform.Remove = []identity.NodeID{replaced.ID}
		what = "a member in the place of " + replaced.Name
	}
	tell("%s is synced and asks to be %s", node.Name, what)
	activated, err := n.Pass(ctx, api, reform, node)
	if err != nil {
		return nil, fmt.Errorf("make %s %s: %w", node.Name, what, err)
	}
	tell("activated in block %d", activated.Height)
	if err := until(ctx, func() (bool, error) {
		s, err := own.Status(ctx)
		return err == nil && s.Number >= 0, nil
	}); err != nil {
		return nil, err
	}
	return node, n.endJoining()
}

// Remove takes the vote from a member. It goes on as an observer. override is the reason for having fewer members than
// the group must keep, or empty.
func (n *Network) Remove(ctx context.Context, node *Node, override string) (*client.Transaction, error) {
	api, err := n.voter(ctx, node)
	if err != nil {
		return nil, err
	}
	known, err := members.Nodes(ctx, api)
	if err != nil {
		return nil, err
	}
	if err := checkVotes(known, node); err != nil {
		return nil, err
	}
	return n.Pass(ctx, api, &precompiles.Reform{Remove: []identity.NodeID{node.ID}, Override: override}, nil)
}

// rowOf returns what the group knows of a node; nil for nothing.
func rowOf(known []precompiles.ListedNode, id identity.NodeID) *precompiles.Node {
	for i := range known {
		if known[i].Node == id {
			return &known[i].Row
		}
	}
	return nil
}

// checkVotes makes sure that a node is a member.
func checkVotes(known []precompiles.ListedNode, node *Node) error {
	switch row := rowOf(known, node.ID); {
	case row == nil:
		return fmt.Errorf("%s has no vote to take: the group has not admitted it", node.Name)
	case row.Status == precompiles.NodeObserver:
		return fmt.Errorf("%s has no vote to take: it is an observer", node.Name)
	case row.Status != precompiles.NodeMember:
		return fmt.Errorf("%s has no vote to take: it is %s since block %d", node.Name, row.Status, row.Height)
	}
	return nil
}

// joiner returns the node that an interrupted Add left behind, with what the group knows of it; nil for nothing. One
// that was a member once, or may not connect any more, is left behind for good: the group never makes it a member again.
func (n *Network) joiner(known []precompiles.ListedNode) (*Node, *precompiles.Node) {
	for i := range n.Nodes {
		if n.Nodes[i].Name != n.Joining {
			continue
		}
		row := rowOf(known, n.Nodes[i].ID)
		if row != nil && row.Status != precompiles.NodeObserver && row.Status != precompiles.NodeMember {
			return nil, nil
		}
		return &n.Nodes[i], row
	}
	return nil, nil
}

func (n *Network) endJoining() error {
	n.Joining = ""
	return n.Save()
}

// admit has a node of a new institution admitted as an observer.
func (n *Network) admit(ctx context.Context, api *client.Client, node *Node, tell func(format string, args ...any)) (*precompiles.Node, error) {
	suite, err := keys.SuiteByName(n.Suite)
	if err != nil {
		return nil, err
	}
	account, err := keyfile.Read(n.keyPath(node.Institution), suite, nil)
	if err != nil {
		return nil, err
	}
	key, err := keyfile.Read(n.nodeKeyPath(node), suite, nil)
	if err != nil {
		return nil, err
	}
	tell("%s of %s asks to observe", node.Name, node.Institution)
	activated, err := n.Pass(ctx, api, &precompiles.Reform{
		Found:   []precompiles.Founding{{Name: node.Institution, Key: ledger.KeyOf(account.Public())}},
		Observe: []precompiles.Candidate{{Institution: node.Institution, Key: ledger.KeyOf(key.Public()), Address: node.Listen}},
	}, nil)
	if err != nil {
		return nil, fmt.Errorf("admit %s as an observer: %w", node.Name, err)
	}
	return &precompiles.Node{Status: precompiles.NodeObserver, Institution: node.Institution, Height: activated.Height}, nil
}

// Pass has the institutions propose, vote for and activate a reform by way of one node, and returns the activation. The
// node that the reform adds, if it does, states that it is ready. A motion for the same reform that is open is taken up
// as it is.
func (n *Network) Pass(ctx context.Context, api *client.Client, f *precompiles.Reform, joiner *Node) (*client.Transaction, error) {
	fresh, err := n.Client(api.Base()) // a client remembers what the chain was
	if err != nil {
		return nil, err
	}
	chain, err := fresh.Chain(ctx)
	if err != nil {
		return nil, err
	}
	var voting []ledger.Member
	for _, m := range chain.Members {
		voting = append(voting, ledger.Member{Institution: m.Institution})
	}
	names := precompiles.MemberInstitutions(voting)
	needed := len(names)/2 + 1
	names = slices.DeleteFunc(names, func(name string) bool { return n.Address(name).IsZero() })
	if len(names) < needed {
		return nil, fmt.Errorf("a motion needs the votes of %d institutions, and %s has accounts of %d: use `fondaco motion`", needed, ManifestFile, len(names))
	}
	m, err := n.motion(ctx, fresh, names[0], f)
	if err != nil {
		return nil, err
	}
	if joiner != nil && len(m.Row.Ready) == 0 {
		if err := n.stateReady(ctx, fresh, names[0], m.ID, joiner); err != nil {
			return nil, err
		}
	}
	votes := m.Row.Count(0)
	missing := needed - votes.InstitutionsFor
	for _, name := range names {
		if missing <= 0 {
			break
		}
		if slices.ContainsFunc(m.Row.Votes, func(v precompiles.Vote) bool { return v.Institution == name }) {
			continue
		}
		if _, err := n.reforms(ctx, fresh, name, "vote", &precompiles.VoteArgs{ID: m.ID, For: true}); err != nil {
			return nil, err
		}
		missing--
	}
	return n.reforms(ctx, fresh, names[0], "activate", &precompiles.MotionArgs{ID: m.ID})
}

// motion returns the open motion for a reform, which an institution proposes if there is none.
func (n *Network) motion(ctx context.Context, api *client.Client, by string, f *precompiles.Reform) (*precompiles.ListedMotion, error) {
	want, err := ledger.Marshal(f)
	if err != nil {
		return nil, err
	}
	find := func() (*precompiles.ListedMotion, error) {
		open, err := members.OpenMotions(ctx, api)
		if err != nil {
			return nil, err
		}
		for i := range open {
			if have, err := ledger.Marshal(open[i].Row.Reform); err != nil || bytes.Equal(have, want) && len(open[i].Row.Actions) == 0 {
				return &open[i], err
			}
		}
		return nil, nil
	}
	if m, err := find(); m != nil || err != nil {
		return m, err
	}
	if _, err := n.reforms(ctx, api, by, "propose", &precompiles.ProposeArgs{Reform: f}); err != nil {
		return nil, err
	}
	m, err := find()
	if m == nil && err == nil {
		err = fmt.Errorf("the motion that %s proposed is gone: somebody withdrew it, or carried another out", by)
	}
	return m, err
}

// reforms calls a method of the governance contract as an institution's account and checks that it did what it should.
func (n *Network) reforms(ctx context.Context, api *client.Client, institution, method string, args any) (*client.Transaction, error) {
	encoded, err := ledger.Marshal(args)
	if err != nil {
		return nil, err
	}
	tx, err := n.Send(ctx, api, institution, precompiles.GovernanceAddress, method, encoded)
	if err != nil {
		return nil, fmt.Errorf("%s of %s: %w", method, institution, err)
	}
	if tx.Receipt.Status != ledger.OK.String() {
		reason := string(tx.Receipt.Decoded)
		if trace, err := api.Trace(ctx, tx.ID); err == nil && trace.Reason != "" {
			reason = trace.Reason
		}
		return nil, fmt.Errorf("%s of %s ended as %s %s: %s", method, institution, tx.Receipt.Status, tx.Receipt.Error, reason)
	}
	return tx, nil
}

// stateReady brings the statement of a node that it has the block which a motion names, once it has it.
func (n *Network) stateReady(ctx context.Context, api *client.Client, by string, id uint64, joiner *Node) error {
	suite, err := keys.SuiteByName(n.Suite)
	if err != nil {
		return err
	}
	key, err := keyfile.Read(n.nodeKeyPath(joiner), suite, nil)
	if err != nil {
		return err
	}
	own, err := n.Client(joiner.API)
	if err != nil {
		return err
	}
	var statement *precompiles.ReadyArgs
	if err := until(ctx, func() (bool, error) {
		statement, err = members.Ready(ctx, own, key, id)
		if errors.Is(err, members.ErrBehind) {
			return false, nil
		}
		return err == nil, err
	}); err != nil {
		return err
	}
	_, err = n.reforms(ctx, api, by, "ready", statement)
	return err
}

// makeJoiner makes the folder of a node of a new institution and the key of that institution's first account. The node
// is in the network when all of it is there; what an interrupted call left is made anew.
func (n *Network) makeJoiner(sync string) (*Node, error) {
	if n.HasRelay() {
		return nil, fmt.Errorf("the network in %s has a relay, and each of its nodes a door that was made with it: make a network without --relay, in another folder, to add nodes to", n.Dir)
	}
	if len(n.Nodes) >= MaxNodes {
		return nil, fmt.Errorf("the network has %d nodes, and one on this machine at most %d", len(n.Nodes), MaxNodes)
	}
	suite, err := keys.SuiteByName(n.Suite)
	if err != nil {
		return nil, err
	}
	genesis, err := cli.ReadGenesis(filepath.Join(n.Nodes[0].Dir, cli.GenesisFile))
	if err != nil {
		return nil, err
	}
	config, err := cli.ReadConfig(n.Nodes[0].Dir)
	if err != nil {
		return nil, err
	}
	_, digits, err := net.SplitHostPort(n.Nodes[0].Listen)
	if err != nil {
		return nil, err
	}
	first, err := strconv.Atoi(digits)
	if err != nil {
		return nil, err
	}
	i := len(n.Nodes)
	port := first + portsEach*i
	if err := CheckPorts(port, 1); err != nil {
		return nil, err
	}
	key, err := suite.Generate(suite.Vote(), rand.Reader)
	if err != nil {
		return nil, err
	}
	name := "node" + strconv.Itoa(i)
	node := Node{
		Name: name, Institution: institution(i), ID: identity.NodeIDOf(suite, key.Public()), Dir: filepath.Join(n.Dir, name),
		Listen: loopback(port), API: n.scheme() + loopback(port+1), Admin: n.scheme() + loopback(port+2),
	}
	account, err := suite.Generate(suite.Vote(), rand.Reader)
	if err != nil {
		return nil, err
	}
	voice := n.keyPath(node.Institution)
	if err := errors.Join(os.RemoveAll(node.Dir), os.RemoveAll(n.signerDir(&node)), os.RemoveAll(voice)); err != nil {
		return nil, err
	}
	if err := keyfile.Write(voice, account, ""); err != nil {
		return nil, err
	}
	c := Config{LogLevel: config.Log.Level, Sync: sync, Inner: config.Network.Inner}
	if err := n.writeNode(node, key, genesis, config.Consensus, c); err != nil {
		return nil, err
	}
	n.Nodes, n.Joining = append(n.Nodes, node), name
	return &n.Nodes[i], n.Save()
}

// keepFirstAccount notes the account that founding an institution made, in the block of a height, whose last transaction
// carries the motion out.
func (n *Network) keepFirstAccount(ctx context.Context, api *client.Client, institution string, height ledger.Height) error {
	if slices.ContainsFunc(n.Accounts, func(a Account) bool { return a.Name == institution }) {
		return nil
	}
	block, err := api.Block(ctx, height)
	if err != nil {
		return fmt.Errorf("block %d, which admitted %s: %w", height, institution, err)
	}
	if len(block.Txs) == 0 {
		return fmt.Errorf("block %d, which admitted %s, holds no transaction, says %s: ask another node", height, institution, api.Base())
	}
	executed, err := api.Lookup(ctx, block.Txs[len(block.Txs)-1], 0, false)
	if err != nil {
		return err
	}
	for _, e := range executed.Receipt.Events {
		if e.Topic != "reformed" {
			continue
		}
		var fields struct {
			_        struct{} `cbor:",toarray"`
			Founded  []ledger.Address
			Override string
		}
		if err := ledger.Unmarshal(e.Data, &fields); err != nil {
			return fmt.Errorf("what the motion that admitted %s tells: %w", institution, err)
		}
		if len(fields.Founded) != 1 {
			return fmt.Errorf("the motion founded %d institutions, and %s alone was proposed", len(fields.Founded), institution)
		}
		n.Accounts = append(n.Accounts, Account{Name: institution, Address: fields.Founded[0], Key: n.keyPath(institution)})
		if err := n.writeProfile(&n.Accounts[len(n.Accounts)-1], institution); err != nil {
			return err
		}
		return n.Save()
	}
	return errors.New("the motion tells of no account that it made")
}

// voter returns a client of a member that runs, other than the one that leaves: of the one that has most blocks, as a node behind
// may still count itself, or others, among members that are none any more.
func (n *Network) voter(ctx context.Context, leaves *Node) (*client.Client, error) {
	var best *client.Client
	var height ledger.Height
	for i := range n.Nodes {
		node := &n.Nodes[i]
		if node == leaves || n.Pid(node) == 0 {
			continue
		}
		api, err := n.Client(node.API)
		if err != nil {
			return nil, err
		}
		if s, err := api.Status(ctx); err == nil && s.Number >= 0 && (best == nil || s.Height > height) {
			best, height = api, s.Height
		}
	}
	if best == nil {
		return nil, errors.New("no other member runs: start the network with `up`")
	}
	return best, nil
}

// Members returns the nodes that vote, by number, as a node says.
func (n *Network) Members(ctx context.Context, api *client.Client) ([]*Node, error) {
	fresh, err := n.Client(api.Base())
	if err != nil {
		return nil, err
	}
	chain, err := fresh.Chain(ctx)
	if err != nil {
		return nil, err
	}
	members := make([]*Node, len(chain.Members))
	for i, m := range chain.Members {
		at := slices.IndexFunc(n.Nodes, func(node Node) bool { return node.ID == m.Node })
		if at < 0 {
			return nil, fmt.Errorf("member %d, %s, is no node of this network", i, m.Node)
		}
		members[i] = &n.Nodes[at]
	}
	return members, nil
}

// until asks again and again, until the answer is yes, an error, or ctx ends.
func until(ctx context.Context, done func() (bool, error)) error {
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}
