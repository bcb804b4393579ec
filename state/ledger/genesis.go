package ledger

import (
	"errors"
	"fmt"

	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
)

// Key is a public key as an encoding holds it.
type Key struct {
	_         struct{}       `cbor:",toarray"`
	Algorithm keys.Algorithm `json:"algorithm"`
	Bytes     []byte         `json:"bytes"` // canonical form
}

// KeyOf returns the encoded form of a public key.
func KeyOf(k keys.PublicKey) Key { return Key{Algorithm: k.Algorithm(), Bytes: k.Bytes()} }

// Member is a node that votes in a group. Its number is its place in the epoch's list.
type Member struct {
	_           struct{}        `cbor:",toarray"`
	Node        identity.NodeID `json:"node"`
	Institution string          `json:"institution"`
	Key         Key             `json:"key"` // the node's long-term key, which also signs its votes
}

// Params are the parameters of a chain that every node applies alike. They are chain state.
type Params struct {
	_             struct{} `cbor:",toarray"`
	BlockTxs      uint32   `json:"block_txs"`      // most transactions in a block
	BlockBytes    uint64   `json:"block_bytes"`    // most bytes of transactions in a block
	BlockGas      Gas      `json:"block_gas"`      // most gas limits summed in a block; by default about a second of work
	TxGas         Gas      `json:"tx_gas"`         // highest gas limit of a transaction; by default the largest module can be deployed
	MaxLifetime   int64    `json:"max_lifetime"`   // ms that a transaction's expiry may lie ahead of block time
	Window        uint32   `json:"window"`         // uncommitted blocks that the engine may have in flight
	ClockSkew     int64    `json:"clock_skew"`     // ms that a proposed block time may differ from a voter's clock
	Rewrite       uint16   `json:"rewrite"`        // version of the module rewriter
	Costs         uint16   `json:"costs"`          // version of the gas table
	MemoryPages   uint32   `json:"memory_pages"`   // most 64 KiB pages of a contract's memory
	DeployRoles   []string `json:"deploy_roles"`   // roles that may deploy contracts; none: everybody with an active account
	ViewTimeout   int64    `json:"view_timeout"`   // ms without progress after which members change the view
	HeartbeatTime int64    `json:"heartbeat_time"` // ms between heartbeats of an idle leader
	BatchDelay    int64    `json:"batch_delay"`    // ms that a leader waits for more transactions before it proposes; see BatchWait
}

// Bounds on the blocks that a group may have in flight: members keep their transactions on disk and in memory.
const (
	MaxWindow   = 16
	MaxInFlight = 48 << 20 // bytes of transactions
)

// DefaultParams are the parameters of a group on one local network.
func DefaultParams() Params {
	return Params{
		BlockTxs: 2_000, BlockBytes: 8 << 20, BlockGas: 4_000_000_000, TxGas: 320_000_000, MaxLifetime: 600_000,
		Window: 4, ClockSkew: 5_000, Rewrite: 1, Costs: 1, MemoryPages: 512, DeployRoles: []string{string(identity.Deployer)},
		ViewTimeout: 1_000, HeartbeatTime: 200, BatchDelay: 20,
	}
}

// BatchWait returns for how many ms a leader waits for more transactions once it has the first of a block. While
// others are under way a larger block costs nobody time, and that is BatchDelay. Where none is, all of the wait is latency:
// it is a quarter, which is enough for what clients sent at the same time, and 1 at least unless BatchDelay is 0.
func (p *Params) BatchWait(underWay bool) int64 {
	if underWay {
		return p.BatchDelay
	}
	return max(p.BatchDelay/4, min(p.BatchDelay, 1))
}

// ParamError says that no group could run with a parameter.
type ParamError struct {
	Name   string // as in JSON
	Reason string // for people
}

// Error returns the reason.
func (e *ParamError) Error() string { return e.Reason }

// Check reports the first parameter that no group could run with, by a [*ParamError].
func (p *Params) Check() error {
	const hour = 3_600_000
	wrong := func(name, format string, args ...any) error { return &ParamError{name, fmt.Sprintf(format, args...)} }
	switch {
	case p.BlockTxs == 0 || p.BlockTxs > MaxElements:
		return wrong("block_txs", "block_txs is %d, want 1 to %d", p.BlockTxs, MaxElements)
	case p.BlockBytes < MaxTxSize || p.BlockBytes > 32<<20:
		return wrong("block_bytes", "block_bytes is %d, want %d to %d", p.BlockBytes, MaxTxSize, 32<<20)
	case p.TxGas == 0 || p.TxGas > p.BlockGas || p.BlockGas > 1<<48:
		return wrong("tx_gas", "tx_gas is %d and block_gas %d, want 1 or more, no more than block_gas, and that at most %d", p.TxGas, p.BlockGas, uint64(1)<<48)
	case p.Rewrite == 0 || p.Costs == 0:
		return wrong("rewrite", "rewrite is %d and costs %d, want versions from 1", p.Rewrite, p.Costs)
	case p.MemoryPages == 0 || p.MemoryPages > 65_536:
		return wrong("memory_pages", "memory_pages is %d, want 1 to 65,536", p.MemoryPages)
	case p.MaxLifetime <= 0 || p.MaxLifetime > 24*hour:
		return wrong("max_lifetime", "max_lifetime is %d ms, want 1 to %d", p.MaxLifetime, 24*hour)
	case p.Window == 0 || p.Window > MaxWindow || uint64(p.Window)*p.BlockBytes > MaxInFlight:
		return wrong("window", "window is %d and block_bytes %d, want a window of 1 to %d and no more than %d bytes in flight", p.Window, p.BlockBytes, MaxWindow, MaxInFlight)
	case p.ClockSkew <= 0 || p.ClockSkew > hour:
		return wrong("clock_skew", "clock_skew is %d ms, want 1 to %d", p.ClockSkew, hour)
	case p.ViewTimeout < 10 || p.ViewTimeout > hour:
		return wrong("view_timeout", "view_timeout is %d ms, want 10 to %d", p.ViewTimeout, hour)
	case p.HeartbeatTime <= 0 || p.HeartbeatTime > hour:
		return wrong("heartbeat_time", "heartbeat_time is %d ms, want 1 to %d", p.HeartbeatTime, hour)
	case p.BatchDelay < 0 || p.BatchDelay > p.ViewTimeout:
		return wrong("batch_delay", "batch_delay is %d ms, want 0 to the view_timeout of %d", p.BatchDelay, p.ViewTimeout)
	}
	return nil
}

// GenesisAccount is an account that exists from the start. Its address is NamedAddress("account", Name).
type GenesisAccount struct {
	_           struct{} `cbor:",toarray"`
	Name        string   `json:"name"`
	Institution string   `json:"institution"`
	Roles       []string `json:"roles"` // sorted
	Keys        []Key    `json:"keys"`
}

// Genesis is what the founders of a chain agree on before its first block. Its digest is the chain's id.
type Genesis struct {
	_         struct{}         `cbor:",toarray"`
	Version   uint16           `json:"version"`
	Name      string           `json:"name"`  // of the chain, for people
	Suite     string           `json:"suite"` // "std" or "gm"
	Group     GroupID          `json:"group"`
	Engine    string           `json:"engine"`        // consensus algorithm, such as "pbft"
	Trust     bool             `json:"trust_members"` // the founders trust all members not to lie, which RaftEngine needs
	UnixMilli int64            `json:"time_ms"`       // time of block 0
	Members   []Member         `json:"members"`
	Params    Params           `json:"params"`
	Accounts  []GenesisAccount `json:"accounts"`
	// VetoWindow is how long a regulator may object between the decision on a motion and its execution until a motion changes that, in ms and where
	// the chain has a regulator; nil: a day. The zero is for chains that are tried out.
	VetoWindow *int64 `json:"veto_window,omitempty"`
}

// RaftEngine is the engine that bears members which stop and none that lies.
const RaftEngine = "raft"

// Finality returns the kind of statement whose certificate makes blocks of the group final: Attest of a majority with
// RaftEngine, and Commit of a quorum with every other engine. A certificate of the other kind proves nothing.
func (g *Genesis) Finality() StatementKind { return Finality(g.Engine) }

// Finality returns the same by the engine's name.
func Finality(engine string) StatementKind {
	if engine == RaftEngine {
		return Attest
	}
	return Commit
}

// Epoch returns epoch 0: the founding members and parameters.
func (g *Genesis) Epoch() *Epoch { return &Epoch{Members: g.Members, Params: g.Params} }

// Check reports the first thing that keeps the genesis from founding a chain, naming the field.
func (g *Genesis) Check(s keys.Suite) error {
	switch {
	case g.Version != Version:
		return fmt.Errorf("genesis version %d, want %d", g.Version, Version)
	case g.Suite != s.Name():
		return fmt.Errorf("genesis suite %q, and %q is in use", g.Suite, s.Name())
	case g.Engine == "":
		return errors.New("genesis names no engine")
	case g.Engine == RaftEngine && !g.Trust:
		return errors.New("genesis names the engine raft, with which one member that lies can fork the chain: " +
			"state that the institutions trust one another with trust_members (--trust-members), or choose the engine pbft")
	case g.Engine == "pbft" && g.Trust:
		return errors.New("genesis trusts members not to lie, and the engine pbft does not: leave out trust_members, or choose the engine raft")
	case g.UnixMilli <= 0:
		return fmt.Errorf("genesis time %d ms, want a time after 1970", g.UnixMilli)
	case len(g.Members) == 0 || len(g.Members) > MaxMembers:
		return fmt.Errorf("genesis has %d members, want 1 to %d", len(g.Members), MaxMembers)
	}
	if err := g.Group.Check(); err != nil {
		return fmt.Errorf("genesis: %w", err)
	}
	if err := g.Params.Check(); err != nil {
		return fmt.Errorf("genesis parameter %w", err)
	}
	parsed, err := g.Epoch().PublicKeys(s)
	if err != nil {
		return fmt.Errorf("genesis: %w", err)
	}
	seen := make(map[identity.NodeID]int, len(parsed))
	for i, key := range parsed {
		node := g.Members[i].Node
		if want := identity.NodeIDOf(s, key); node != want {
			return fmt.Errorf("genesis member %d: node id %s, and its key gives %s", i, node, want)
		}
		if first, twice := seen[node]; twice {
			return fmt.Errorf("genesis members %d and %d are one node, %s", first, i, node)
		}
		seen[node] = i
	}
	return nil
}

// MaxMembers bounds the members of a group, because each of them sends to all others.
const MaxMembers = 256

// Hash returns the chain's id.
func (g *Genesis) Hash(s keys.Suite) keys.Digest { return keys.Hash(s, "genesis", mustMarshal(g)) }

// Epoch is a fixed set of members and parameters.
type Epoch struct {
	_       struct{} `cbor:",toarray"`
	Number  uint64   `json:"number"`
	Members []Member `json:"members"`
	Params  Params   `json:"params"`
}

// Hash returns the epoch's digest, as Header.NextEpoch holds it.
func (e *Epoch) Hash(s keys.Suite) keys.Digest { return keys.Hash(s, "epoch", mustMarshal(e)) }

// PublicKeys parses the members' keys, in order of their numbers.
func (e *Epoch) PublicKeys(s keys.Suite) ([]keys.PublicKey, error) {
	parsed := make([]keys.PublicKey, len(e.Members))
	for i, m := range e.Members {
		key, err := s.ParsePublic(m.Key.Algorithm, m.Key.Bytes)
		if err != nil {
			return nil, fmt.Errorf("key of member %d (%s): %w", i, m.Institution, err)
		}
		parsed[i] = key
	}
	return parsed, nil
}
