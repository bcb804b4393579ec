package node

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/fondaco/fondaco/consensus/pbft"
	"github.com/fondaco/fondaco/node/mempool"
	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/keys/keystest"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/transport"
	"github.com/fondaco/fondaco/transport/simnet"
)

var figures = flag.Bool("links", false, "measure groups on all kinds of links, in virtual time; the others are skipped")

// links is a group of whole nodes on a bad network in memory, in virtual time: what processors take does not count, so
// that what is measured is what the links do.
type links struct {
	t       *testing.T
	suite   keys.Suite
	genesis ledger.Genesis
	network *simnet.Network
	user    keys.Signer
	nodes   []*Node

	mu      sync.Mutex // guards what follows
	waiting map[ledger.TxID]submitted
	latency []time.Duration
}

// submitted is a transaction that waits for a block.
type submitted struct {
	node int
	at   time.Time
}

// newLinks returns a group of n whole nodes. More accounts than user have its key.
func newLinks(t *testing.T, n int, conditions simnet.Conditions, more ...ledger.GenesisAccount) *links {
	l := &links{t: t, suite: keystest.Suite(), network: simnet.New(1), waiting: map[ledger.TxID]submitted{}}
	l.network.SetConditions(conditions)
	rng := rand.NewChaCha8([32]byte{7})
	generate := func() keys.Signer {
		key, err := l.suite.Generate(l.suite.Vote(), rng)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	l.user = generate()
	l.genesis = ledger.Genesis{
		Version: ledger.Version, Name: "links", Suite: keystest.Suite().Name(), Group: "main", Engine: "pbft", UnixMilli: time.Now().UnixMilli(), Params: ledger.DefaultParams(),
		Accounts: []ledger.GenesisAccount{{Name: "user", Institution: "bank", Roles: []string{string(identity.Deployer)}, Keys: []ledger.Key{ledger.KeyOf(l.user.Public())}}},
	}
	for _, account := range more {
		account.Keys = []ledger.Key{ledger.KeyOf(l.user.Public())}
		l.genesis.Accounts = append(l.genesis.Accounts, account)
	}
	var signers []keys.Signer
	var peers []transport.Address
	for i := range n {
		key := generate()
		node := identity.NodeIDOf(l.suite, key.Public())
		signers = append(signers, key)
		l.genesis.Members = append(l.genesis.Members, ledger.Member{Node: node, Institution: "bank", Key: ledger.KeyOf(key.Public())})
		peers = append(peers, transport.Address{Node: node, Addr: fmt.Sprintf("10.0.0.%d:4000", i+1)})
	}
	for i, key := range signers {
		conn, err := l.network.Listen(peers[i].Addr)
		if err != nil {
			t.Fatal(err)
		}
		node, err := New(t.Context(), Config{
			Dir: t.TempDir(), Genesis: l.genesis, Signer: key, Listen: peers[i].Addr, Conn: conn, Peers: peers, EngineFactory: pbft.New, Log: zerolog.Nop(), Statements: -1,
			Pool: mempool.Limits{MaxWait: -1}, // the links get all of the load
		})
		if err != nil {
			t.Fatal(err)
		}
		l.nodes = append(l.nodes, node)
	}
	return l
}

// watch notes when the transactions that were sent to a node are final there.
func (l *links) watch(ctx context.Context, i int) {
	g := l.nodes[i].group
	for next := ledger.Height(1); ; {
		changed := g.Changed()
		for ; next <= g.Status().Head.Order.Height; next++ {
			block, err := g.Store().Block(next)
			if err != nil {
				l.t.Error(err)
				return
			}
			l.note(i, block)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

func (l *links) note(node int, block *ledger.Block) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, raw := range block.Txs {
		tx, err := ledger.DecodeTx(l.suite, raw)
		if err != nil {
			l.t.Error(err)
			continue
		}
		if s, ok := l.waiting[tx.ID]; ok && s.node == node {
			delete(l.waiting, tx.ID)
			l.latency = append(l.latency, time.Since(s.at))
		}
	}
}

// tx returns a transaction of about the size of a transfer.
func (l *links) tx(number int) *ledger.SignedTx {
	tx := ledger.Tx{
		Version: ledger.Version, Chain: l.genesis.Hash(l.suite), Group: "main", Sender: ledger.NamedAddress(l.suite, "account", "user"),
		Expiry: time.Now().Add(5 * time.Minute).UnixMilli(), GasLimit: 2_000_000, To: ledger.Target{Address: precompiles.AccountsAddress},
		Method: "nothing", Args: make([]byte, 64),
	}
	binary.BigEndian.PutUint64(tx.Nonce[:], uint64(number))
	signed, err := tx.Sign(l.suite, l.user)
	if err != nil {
		l.t.Fatal(err)
	}
	return signed
}

// load sends transactions to all nodes in turn, as many in a second as rate says.
func (l *links) load(ctx context.Context, rate int, d time.Duration) {
	var sending sync.WaitGroup
	defer sending.Wait()
	count := 0
	for began := time.Now(); time.Since(began) < d; time.Sleep(10 * time.Millisecond) {
		batches := make([][][]byte, len(l.nodes))
		for ; count < int(time.Since(began).Seconds()*float64(rate)); count++ {
			tx, node := l.tx(count), count%len(l.nodes)
			batches[node] = append(batches[node], tx.Raw)
			l.mu.Lock()
			l.waiting[tx.ID] = submitted{node, time.Now()}
			l.mu.Unlock()
		}
		for i, batch := range batches {
			if len(batch) == 0 {
				continue
			}
			sending.Go(func() {
				results, err := l.nodes[i].group.Submit(ctx, batch)
				for _, r := range results {
					err = errors.Join(err, r.Err)
				}
				if err != nil {
					l.t.Error(err)
				}
			})
		}
	}
}

// left returns how many transactions are in no block.
func (l *links) left() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.waiting)
}

// outcome is what a group on links did.
type outcome struct {
	inTime, left  int    // transactions: in a block when the load ended, and in none a minute later
	views, blocks uint64 // view changes
	latency       []time.Duration
}

func (o *outcome) percentile(p float64) time.Duration {
	if len(o.latency) == 0 {
		return 0
	}
	return o.latency[min(int(p*float64(len(o.latency))), len(o.latency)-1)].Round(time.Millisecond)
}

// onLinks loads a group of four for a while and waits until all is in blocks, for a minute at most.
func onLinks(t *testing.T, conditions simnet.Conditions, rate int, d time.Duration) (o outcome) {
	synctest.Test(t, func(t *testing.T) {
		l := newLinks(t, 4, conditions)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var running sync.WaitGroup
		for i, n := range l.nodes {
			running.Go(func() {
				if err := n.Run(ctx); err != nil {
					t.Error(err)
				}
			})
			running.Go(func() { l.watch(ctx, i) })
		}
		time.Sleep(2 * time.Second) // they connect
		l.load(ctx, rate, d)
		o.left = l.left()
		l.mu.Lock()
		o.inTime = len(l.latency)
		l.mu.Unlock()
		for range 600 {
			if o.left = l.left(); o.left == 0 {
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
		status := l.nodes[0].group.Status()
		o.views, o.blocks = status.Consensus.View, uint64(status.Head.Order.Height)
		cancel()
		running.Wait()
		slices.Sort(l.latency)
		o.latency = l.latency
	})
	return o
}

// TestBadLinks holds that links which lose packets and carry less than they are given cost time, and not view after view.
// A bound of 8 view changes is generous: 0 to 4 are usual, for goroutines are not in order. With -links it prints a table of what groups do on links of all kinds.
func TestBadLinks(t *testing.T) {
	t.Run("more than links between continents with 5 % loss carry: all becomes final, in a view or a few", func(t *testing.T) {
		if testing.Short() || *figures {
			t.Skip("takes seconds")
		}
		o := onLinks(t, simnet.Conditions{Latency: 100 * time.Millisecond, Loss: 0.05}, 400, 8*time.Second)
		if o.left > 0 || o.views > 8 {
			t.Errorf("%d transactions are in no block, after %d view changes; want none, and at most 8", o.left, o.views)
		}
		t.Logf("%+v", o.summary())
	})
	if !*figures {
		return
	}
	for _, rate := range []int{300, 1500} {
		for _, c := range []simnet.Conditions{
			{Latency: time.Millisecond},
			{Latency: time.Millisecond, Loss: 0.01},
			{Latency: time.Millisecond, Loss: 0.05},
			{Latency: 25 * time.Millisecond, Loss: 0.01},
			{Latency: 25 * time.Millisecond, Loss: 0.05},
			{Latency: 50 * time.Millisecond, Jitter: 20 * time.Millisecond},
			{Latency: 50 * time.Millisecond, Jitter: 20 * time.Millisecond, Loss: 0.01},
			{Latency: 50 * time.Millisecond, Jitter: 20 * time.Millisecond, Loss: 0.05},
			{Latency: 100 * time.Millisecond, Loss: 0.05},
		} {
			t.Run(fmt.Sprintf("delay=%v,jitter=%v,loss=%v%% at %d a second", c.Latency, c.Jitter, 100*c.Loss, rate), func(t *testing.T) {
				o := onLinks(t, c, rate, 10*time.Second)
				t.Log(o.summary())
			})
		}
	}
}

func (o *outcome) summary() string {
	return fmt.Sprintf("%d in time, %d never; p50 %v, p99 %v; %d blocks, %d view changes", o.inTime, o.left, o.percentile(0.5), o.percentile(0.99), o.blocks, o.views)
}
