// Package engine carries a consensus engine across a process boundary: [Serve] is all that the author of an
// engine program calls, and [Client] is the engine as the node sees it.
//
// # What crosses
//
// The wire is a gRPC service of two methods over the connection that hashicorp/go-plugin sets up (a unix
// socket with mutual TLS and certificates made for this one run). Describe returns the [Manifest]. Run is one
// stream per group in strict lock-step: the host sends a frame with everything that happened meanwhile, the
// program answers it once with all effects and the engine's status. The frames are in plugins/README.md.
//
// Digests, votes and certificates cross; transaction bodies and private keys never do.
//
// # When the program fails
//
// Each call has a deadline. A program that misses it, ends its stream, or sends a frame that does not decode
// is killed, and the call returns an error for which errors.Is(err, [consensus.ErrEngineDown]) holds. Nothing is
// retried here: the engine's memory is gone, so the group makes a new engine and calls Init with its journal,
// exactly as after a crash of the node. Init waits for the host to start the program again.
//
// It is one of the packages with a compatibility promise.
package engine

import (
	"fmt"

	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/fondaco/fondaco/consensus"
	"github.com/fondaco/fondaco/plugins/internal/wire"
	"github.com/fondaco/fondaco/state/ledger"
)

// MinWire and MaxWire bound the wire versions that this release speaks. Host and program agree on the highest
// that both know, so either can be upgraded first.
const (
	MinWire = 1
	MaxWire = 1
)

// MaxFrame is the size in bytes of the largest frame either side accepts: it bounds what a faulty program can
// make the node hold, and holds a full batch besides what a reply has gathered before.
const MaxFrame = 2*consensus.MaxBatchSize - frameOverhead

// frameOverhead is more than a frame needs besides its batches.
const frameOverhead = 64 << 10

// enough is how many bytes of effects a program gathers before it answers, with events left over if need be.
const enough = consensus.MaxBatchSize / 2

// FaultModel says what the faulty members may do without breaking the engine's safety.
type FaultModel string

// The fault models.
const (
	BFT FaultModel = "BFT" // anything: up to a third of them may lie
	CFT FaultModel = "CFT" // stop and restart: up to half of them may be down, none may lie
)

// Manifest describes an engine program.
type Manifest struct {
	_          struct{} `cbor:",toarray"`
	Name       string   // such as "pbft"; genesis names the engine by it
	Version    string   // the program's, for people; empty: Serve fills in what the program was built from
	Fault      FaultModel
	MinMembers uint32 // fewest members of an epoch that the engine runs with; at least 1
	Wire       uint16 // wire version spoken; Serve fills it in
}

func (m *Manifest) validate() error {
	if err := wire.CheckName(m.Name, m.Version); err != nil {
		return err
	}
	switch {
	case m.Fault != BFT && m.Fault != CFT:
		return fmt.Errorf("manifest: Fault %q must be %s or %s", m.Fault, BFT, CFT)
	case m.MinMembers < 1:
		return fmt.Errorf("manifest: MinMembers must be at least 1")
	}
	return nil
}

// Suits says why a chain must not run on the program that the manifest is of, or returns nil.
func (m *Manifest) Suits(g *ledger.Genesis) error {
	switch {
	case m.Name != g.Engine:
		return fmt.Errorf("the engine program is %q, and the genesis names %q: configure the program that all members run", m.Name, g.Engine)
	case m.Fault == CFT && !g.Trust:
		return fmt.Errorf("engine %s bears no member that lies, and the genesis does not say that none does: make the genesis with `fondaco genesis new --trust-members`, or on a testnet `up --trust-members`", m.Name)
	}
	return nil
}

// Configurer is an engine that takes settings of its own. Configure is called before Init with the bytes of the
// plugin's configuration, which may be empty. An engine without it refuses settings that are not empty.
type Configurer interface {
	Configure(settings []byte) error
}

// request is a frame to the program. The first of a stream has Init and no Events, all others the reverse.
type request struct {
	_      struct{} `cbor:",toarray"`
	Seq    uint64   // 1, 2, 3, … on each stream
	Init   *start
	Events []byte // consensus.EncodeEvents
}

// start is what an engine starts from.
type start struct {
	_        struct{} `cbor:",toarray"`
	Settings []byte
	Config   consensus.Config
	Journal  []consensus.Record
}

// reply is the frame that answers the request with the same Seq.
type reply struct {
	_      struct{} `cbor:",toarray"`
	Seq    uint64
	Error  string // not empty: Init or Step returned it, and Effects is empty
	Status consensus.Status
	// Effects has an entry by consensus.EncodeEffects for each event, in order, or for Init. When there are fewer
	// entries than events, the answer was becoming large: the host sends the events left over again.
	Effects [][]byte
}

const (
	serviceName    = "fondaco.plugin.v1.Engine"
	describeMethod = "/" + serviceName + "/Describe"
	runMethod      = "/" + serviceName + "/Run"
)

// frame is what both sides send.
type frame = wire.Frame

// kind is what the host and the program agree on before anything else.
func kind() wire.Kind {
	return wire.Kind{Name: "engine", MinWire: MinWire, MaxWire: MaxWire, MaxFrame: MaxFrame}
}

// Handshake is the cookie by which go-plugin tells that a program was started by a host of this kind. It keeps
// people from starting it by hand; it is no security measure.
func Handshake() plugin.HandshakeConfig { return kind().Handshake() }

// Versions returns the versions of the wire that the host offers, for go-plugin.
func Versions() map[int]plugin.PluginSet { return kind().Versions() }

// DialOptions returns the options of the host's connection: they bound what the program may send.
func DialOptions() []grpc.DialOption { return kind().DialOptions() }
