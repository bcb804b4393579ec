package network

import (
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
	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// Add makes a node of a new institution, has it admitted as an observer, starts it, waits until it has all blocks, and
// has it made a member, in the place of another one if replaced is not nil. The institutions' accounts make, approve
// and activate the motions. tell is told of each step.
func (n *Network) Add(ctx context.Context, replaced *Node, tell func(format string, args ...any)) (*Node, error) {
	api, err := n.voter(ctx, replaced)
	if err != nil {
		return nil, err
	}
	node, reform, err := n.makeJoiner()
	if err != nil {
		return nil, err
	}
	tell("%s of %s asks to observe", node.Name, node.Institution)
	activated, err := n.Pass(ctx, api, reform, nil)
	if err != nil {
		return nil, fmt.Errorf("admit %s as an observer: %w", node.Name, err)
	}
	if err := n.keepFirstAccount(activated, node.Institution); err != nil {
		return nil, err
	}
	tell("admitted in block %d; %s starts and fetches the blocks", activated.Height, node.Name)
	if _, err := n.Start(node); err != nil {
		return nil, err
	}
	if err := n.WaitReady(ctx, node); err != nil {
		return nil, err
	}
	own, err := client.New(node.API, nil)
	if err != nil {
		return nil, err
	}
	if err := until(ctx, func() (bool, error) {
		s, err := own.Status(ctx)
		return err == nil && s.Height >= activated.Height, nil
	}); err != nil {
		return nil, fmt.Errorf("%s did not fetch block %d: %w", node.Name, activated.Height, err)
	}
	reform = &precompiles.Reform{Add: []identity.NodeID{node.ID}}
	what := "a member"
	if replaced != nil {
		reform.Remove = []identity.NodeID{replaced.ID}
		what = "a member in the place of " + replaced.Name
	}
	tell("%s is synced and asks to be %s", node.Name, what)
	activated, err = n.Pass(ctx, api, reform, node)
	if err != nil {
		return nil, fmt.Errorf("make %s %s: %w", node.Name, what, err)
	}
	tell("activated in block %d", activated.Height)
	return node, until(ctx, func() (bool, error) {
		s, err := own.Status(ctx)
		return err == nil && s.Number >= 0, nil
	})
}

// Remove takes the vote from a member. It goes on as an observer. override is the reason for having fewer members than
// the group must keep, or empty.
func (n *Network) Remove(ctx context.Context, node *Node, override string) (*client.Transaction, error) {
	api, err := n.voter(ctx, node)
	if err != nil {
		return nil, err
	}
	return n.Pass(ctx, api, &precompiles.Reform{Remove: []identity.NodeID{node.ID}, Override: override}, nil)
}

// Pass has the institutions propose, approve and activate a reform by way of one node, and returns the activation. The
// node that the reform adds, if it does, states that it is ready.
func (n *Network) Pass(ctx context.Context, api *client.Client, f *precompiles.Reform, joiner *Node) (*client.Transaction, error) {
	fresh, err := client.New(api.Base(), nil) // a client remembers what the chain was
	if err != nil {
		return nil, err
	}
	chain, err := fresh.Chain(ctx)
	if err != nil {
		return nil, err
	}
	var members []ledger.Member
	for _, m := range chain.Members {
		members = append(members, ledger.Member{Institution: m.Institution})
	}
	names := precompiles.MemberInstitutions(members)
	proposed, err := n.reforms(ctx, api, names[0], "propose", &precompiles.ProposeArgs{Reform: *f})
	if err != nil {
		return nil, err
	}
	var id uint64
	if err := ledger.Unmarshal(proposed.Receipt.Data, &id); err != nil {
		return nil, fmt.Errorf("the motion's id: %w", err)
	}
	if joiner != nil {
		if err := n.stateReady(ctx, api, chain, names[0], id, joiner); err != nil {
			return nil, err
		}
	}
	for _, name := range names[1 : len(names)/2+1] {
		if _, err := n.reforms(ctx, api, name, "approve", &precompiles.MotionArgs{ID: id}); err != nil {
			return nil, err
		}
	}
	return n.reforms(ctx, api, names[0], "activate", &precompiles.MotionArgs{ID: id})
}

// reforms calls a method of the members contract as an institution's account and checks that it did what it should.
func (n *Network) reforms(ctx context.Context, api *client.Client, institution, method string, args any) (*client.Transaction, error) {
	encoded, err := ledger.Marshal(args)
	if err != nil {
		return nil, err
	}
	tx, err := n.Send(ctx, api, institution, precompiles.MembersAddress, method, encoded)
	if err != nil {
		return nil, fmt.Errorf("%s of %s: %w", method, institution, err)
	}
	if tx.Receipt.Status != ledger.OK.String() {
		return nil, fmt.Errorf("%s of %s ended as %s %s %s", method, institution, tx.Receipt.Status, tx.Receipt.Error, tx.Receipt.Decoded)
	}
	return tx, nil
}

// stateReady brings the statement of a node that it has the block which a motion names, once it has it.
func (n *Network) stateReady(ctx context.Context, api *client.Client, chain *client.Chain, by string, id uint64, joiner *Node) error {
	suite, err := keys.SuiteByName(n.Suite)
	if err != nil {
		return err
	}
	args, err := ledger.Marshal(&precompiles.MotionsArgs{After: id - 1})
	if err != nil {
		return err
	}
	answer, err := api.Call(ctx, precompiles.MembersAddress, client.Call{Method: "motions", Args: args})
	if err != nil {
		return err
	}
	var motions []precompiles.ListedMotion
	if err := ledger.Unmarshal(answer.Data, &motions); err != nil || len(motions) == 0 || motions[0].ID != id {
		return fmt.Errorf("motion %d is not among %d: %w", id, len(motions), err)
	}
	m := &motions[0].Row
	own, err := client.New(joiner.API, nil)
	if err != nil {
		return err
	}
	if err := until(ctx, func() (bool, error) {
		b, err := own.Block(ctx, m.Height)
		if err == nil && b.Hash != m.Block {
			return false, fmt.Errorf("%s has another block %d than the motion names", joiner.Name, m.Height)
		}
		return err == nil, nil
	}); err != nil {
		return err
	}
	key, err := cli.ReadKey(filepath.Join(joiner.Dir, cli.KeyFile), suite, nil)
	if err != nil {
		return err
	}
	signature, err := key.Sign(precompiles.ReadyDigest(suite, chain.Chain, chain.Group, id, m, joiner.ID))
	if err != nil {
		return err
	}
	_, err = n.reforms(ctx, api, by, "ready", &precompiles.ReadyArgs{ID: id, Node: joiner.ID[:], Signature: signature})
	return err
}

// makeJoiner makes the folder of a node of a new institution and the key of that institution's first account, and
// returns the reform that admits them.
func (n *Network) makeJoiner() (*Node, *precompiles.Reform, error) {
	if n.HasRelay() {
		return nil, nil, errors.New("a network with a relay has no door for another node: make one without")
	}
	if len(n.Nodes) >= MaxNodes {
		return nil, nil, fmt.Errorf("the network has %d nodes, and one on this machine at most %d", len(n.Nodes), MaxNodes)
	}
	suite, err := keys.SuiteByName(n.Suite)
	if err != nil {
		return nil, nil, err
	}
	genesis, err := cli.ReadGenesis(filepath.Join(n.Nodes[0].Dir, cli.GenesisFile))
	if err != nil {
		return nil, nil, err
	}
	config, err := cli.ReadConfig(n.Nodes[0].Dir)
	if err != nil {
		return nil, nil, err
	}
	_, digits, err := net.SplitHostPort(n.Nodes[0].Listen)
	if err != nil {
		return nil, nil, err
	}
	first, err := strconv.Atoi(digits)
	if err != nil {
		return nil, nil, err
	}
	i := len(n.Nodes)
	port := first + portsEach*i
	if err := CheckPorts(port, 1); err != nil {
		return nil, nil, err
	}
	key, err := suite.Generate(suite.Vote(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	name := "node" + strconv.Itoa(i)
	node := Node{
		Name: name, Institution: institution(i), ID: identity.NodeIDOf(suite, key.Public()), Dir: filepath.Join(n.Dir, name),
		Listen: loopback(port), API: "http://" + loopback(port+1), Admin: "http://" + loopback(port+2),
	}
	account, err := suite.Generate(suite.Vote(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	if err := cli.WriteKey(n.keyPath(node.Institution), account, ""); err != nil {
		return nil, nil, err
	}
	c := Config{LogLevel: config.Log.Level}
	if err := n.writeNode(node, key, genesis, config.Consensus, c); err != nil {
		return nil, nil, errors.Join(err, os.RemoveAll(node.Dir))
	}
	n.Nodes = append(n.Nodes, node)
	return &n.Nodes[i], &precompiles.Reform{
		Found:   []precompiles.Founding{{Name: node.Institution, Key: ledger.KeyOf(account.Public())}},
		Observe: []precompiles.Candidate{{Institution: node.Institution, Key: ledger.KeyOf(key.Public()), Address: node.Listen}},
	}, n.Save()
}

// keepFirstAccount notes the account that founding an institution made.
func (n *Network) keepFirstAccount(activated *client.Transaction, institution string) error {
	for _, e := range activated.Receipt.Events {
		if e.Topic != "activated" {
			continue
		}
		var fields struct {
			_        struct{} `cbor:",toarray"`
			ID       uint64
			Founded  []ledger.Address
			Override string
		}
		if err := ledger.Unmarshal(e.Data, &fields); err != nil || len(fields.Founded) != 1 {
			return fmt.Errorf("the activation founded %d institutions: %w", len(fields.Founded), err)
		}
		n.Accounts = append(n.Accounts, Account{Name: institution, Address: fields.Founded[0], Key: n.keyPath(institution)})
		return n.Save()
	}
	return errors.New("the activation tells of no account that it made")
}

// voter returns a client of a member that runs, other than the one that leaves.
func (n *Network) voter(ctx context.Context, leaves *Node) (*client.Client, error) {
	for i := range n.Nodes {
		node := &n.Nodes[i]
		if node == leaves || n.Pid(node) == 0 {
			continue
		}
		api, err := client.New(node.API, nil)
		if err != nil {
			return nil, err
		}
		if s, err := api.Status(ctx); err == nil && s.Number >= 0 {
			return api, nil
		}
	}
	return nil, errors.New("no other member runs: start the network with `up`")
}

// Members returns the nodes that vote, by number, as a node says.
func (n *Network) Members(ctx context.Context, api *client.Client) ([]*Node, error) {
	fresh, err := client.New(api.Base(), nil)
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
