package precompiles

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/ledger"
)

// Institution is a row of the table of institutions, keyed by name.
type Institution struct {
	_       struct{} `cbor:",toarray"`
	Version uint16   // ledger.Version
	Height  ledger.Height
}

// MaxInstitutionName bounds the name of an institution, in bytes.
const MaxInstitutionName = 64

// NodeStatus says what a node may do in the group.
type NodeStatus uint8

// The statuses of a node. A node becomes a member once: what it signed as a member is never to be confused with
// what a successor of the same id would sign.
const (
	NodeObserver  NodeStatus = 0 // follows, does not vote, may become a member
	NodeMember    NodeStatus = 1 // votes
	NodeRetired   NodeStatus = 2 // was a member; follows, and never votes again
	NodeDismissed NodeStatus = 3 // may not connect any more
)

// String returns the status in the words of the schema.
func (s NodeStatus) String() string {
	if names := nodeStatuses(); int(s) < len(names) {
		return names[s]
	}
	return fmt.Sprintf("status(%d)", uint8(s))
}

// meaning is a status, as in the data of an abort, that goes in words by what a node of it is, and what can be done with it.
type meaning NodeStatus

// String returns the words.
func (m meaning) String() string {
	switch s := NodeStatus(m); s {
	case NodeObserver:
		return "is an observer, which has no vote"
	case NodeMember:
		return "is a member, which has a vote until it is removed"
	case NodeRetired:
		return "was a member, and no node becomes one twice: admit a node with a new key"
	case NodeDismissed:
		return "was dismissed for good: admit a node with a new key"
	}
	return "is " + NodeStatus(m).String()
}

func nodeStatuses() []string { return []string{"observer", "member", "retired", "dismissed"} }

// Node is a row of the table of nodes, keyed by id. Rows are never deleted, so that no id is used again.
type Node struct {
	_           struct{} `cbor:",toarray"`
	Version     uint16   // ledger.Version
	Status      NodeStatus
	Institution string
	Key         ledger.Key
	Address     string        // host:port, UDP; empty for founding members, whose addresses are in the configurations
	Height      ledger.Height // at which the status last changed
}

// Record is the members' part of the epoch in force as it is in state.
type Record struct {
	_        struct{} `cbor:",toarray"`
	Version  uint16   // ledger.Version
	Number   uint64
	Height   ledger.Height // of the barrier block that the epoch follows; 0 for epoch 0
	Minimum  uint32        // members that the group must keep: as many as it began with, at most 4, which bear one fault
	Reformed uint64        // the last epoch that began because a motion was carried out, as all should
	Members  []ledger.Member
}

// minMembers is how many members a group that began with so many must keep.
const minMembers = 4

// Beginning is a row of the table of epochs, keyed by number: how each began. Epoch 0 began with genesis.
type Beginning struct {
	_       struct{} `cbor:",toarray"`
	Version uint16   // ledger.Version
	Height  ledger.Height
	Epoch   ledger.Epoch
}

var errNoGenesis = errors.New("precompiles: the state holds no genesis")

func readRecord(r Reader) (Record, error) {
	e, found, err := read[Record](r, epochKey())
	if err == nil && !found {
		err = errNoGenesis
	}
	return e, err
}

// ReadEpoch returns the epoch in force.
func ReadEpoch(r Reader) (ledger.Epoch, error) {
	e, err := readRecord(r)
	if err != nil {
		return ledger.Epoch{}, err
	}
	params, err := ReadParams(r)
	return ledger.Epoch{Number: e.Number, Members: e.Members, Params: params}, err
}

// ReadBeginning returns how an epoch began.
func ReadBeginning(r Reader, epoch uint64) (b Beginning, found bool, err error) {
	return read[Beginning](r, beginningKey(epoch))
}

// ReadInstitution returns an institution by its name.
func ReadInstitution(r Reader, name string) (institution Institution, found bool, err error) {
	return read[Institution](r, institutionKey(name))
}

// ReadNode returns a node by its id.
func ReadNode(r Reader, id identity.NodeID) (node Node, found bool, err error) {
	return read[Node](r, nodeKey(id))
}

// NodeKeys returns the prefix of the state keys of nodes. A node's key is the prefix and its id.
func NodeKeys() []byte { return key(MembersAddress, []byte("n")) }

func epochKey() []byte                  { return key(MembersAddress, []byte("e")) }
func institutionKey(name string) []byte { return key(MembersAddress, []byte("i"), []byte(name)) }
func nodeKey(id identity.NodeID) []byte { return key(MembersAddress, []byte("n"), id[:]) }
func beginningKey(epoch uint64) []byte {
	return key(MembersAddress, []byte("b"), binary.BigEndian.AppendUint64(nil, epoch))
}

// Activates reports whether a transaction ends the epoch of the block that it is in, where it is alone: it calls the
// method activate of the governance contract, and by no other way is that method reached. It depends on the transaction
// alone, so that everybody can tell from a block where an epoch ends.
func Activates(tx *ledger.Tx) bool {
	return tx.To == ledger.Target{Address: GovernanceAddress} && tx.Method == "activate"
}

// EndEpoch returns the epoch that follows the barrier block at a height, and what it writes, on the state after the
// block's transactions. Members and parameters are those that the activation left, changed or not.
func EndEpoch(r Reader, height ledger.Height) (ledger.Epoch, []ledger.Change, error) {
	record, err := readRecord(r)
	if err != nil {
		return ledger.Epoch{}, nil, err
	}
	record.Number++
	record.Height = height
	params, err := ReadParams(r)
	if err != nil {
		return ledger.Epoch{}, nil, err
	}
	epoch := ledger.Epoch{Number: record.Number, Members: record.Members, Params: params}
	w := &genesisWriter{}
	w.put(epochKey(), &record)
	w.put(beginningKey(epoch.Number), &Beginning{Version: ledger.Version, Height: height, Epoch: epoch})
	return epoch, w.changes, w.err
}

// variants returns those of a type whose values are numbered names.
func variants(names []string) []ledger.Variant {
	var all []ledger.Variant
	for _, name := range names {
		all = append(all, ledger.Variant{Name: name})
	}
	return all
}

func newMembers() Contract {
	list := func(name string, t ledger.Type) ledger.Field {
		return ledger.Field{Name: name, Type: "list<" + t + ">"}
	}
	version, height := ledger.Field{Name: "version", Type: "u16"}, ledger.Field{Name: "height", Type: "u64"}
	institution := ledger.Field{Name: "institution", Type: "str"}
	publicKey, node, address := ledger.Field{Name: "key", Type: "PublicKey"}, ledger.Field{Name: "node", Type: "bytes"}, ledger.Field{Name: "address", Type: "str"}
	return withEvidence(&system{
		address: MembersAddress,
		methods: map[string]func(Env, []byte) ([]byte, error){
			"epoch":        query(func(env Env, _ none) (Record, error) { return readRecord(env) }),
			"institutions": query(institutions),
			"nodes":        query(nodes),
			"reform":       command(reform),
			"recover":      command(recovery),
		},
		policies: map[string]Policy{
			"reform":  byMajority(),
			"recover": bySelf(),
			"accuse":  bySelf(),
		},
		own: []string{"accuse"},
		schema: &ledger.Schema{
			ABI: ledger.ContractABI, Name: "members", Version: "1", Profile: "strict",
			Doc: "Institutions of the chain and nodes of the group. A member's number is its place in the epoch's list. Motions of the governance contract change them.",
			Types: append(reformTypes(), []ledger.TypeDef{
				{Name: "Member", Fields: []ledger.Field{node, institution, publicKey}},
				{Name: "Record", Fields: []ledger.Field{
					version, {Name: "number", Type: "u64"}, height, {Name: "minimum", Type: "u32"}, {Name: "reformed", Type: "u64"}, list("members", "Member"),
				}},
				{Name: "Epoch", Fields: []ledger.Field{{Name: "number", Type: "u64"}, list("members", "Member"), {Name: "params", Type: "Params"}}},
				{Name: "Beginning", Fields: []ledger.Field{version, height, {Name: "epoch", Type: "Epoch"}}},
				{Name: "Institution", Fields: []ledger.Field{version, height}},
				{Name: "Status", Variants: variants(nodeStatuses())},
				{Name: "Node", Fields: []ledger.Field{version, {Name: "status", Type: "Status"}, institution, publicKey, address, height}},
				{Name: "ListedNode", Fields: []ledger.Field{node, {Name: "row", Type: "Node"}}},
			}...),
			Methods: []ledger.Method{
				{Name: "epoch", Kind: ledger.MethodView, Return: "Record"},
				{
					Name: "institutions", Kind: ledger.MethodView, Args: []ledger.Field{{Name: "after", Type: "str"}}, Return: "list<str>",
					Doc: "Returns up to 64 names in order, beginning after one.",
				},
				{
					Name: "nodes", Kind: ledger.MethodView, Args: []ledger.Field{{Name: "after", Type: "bytes"}}, Return: "list<ListedNode>",
					Doc: "Returns up to 64 nodes in order of their ids, beginning after one.",
				},
				{
					Name: "reform", Kind: ledger.MethodTx, Args: []ledger.Field{{Name: "reform", Type: "Reform"}},
					Doc: "Changes institutions, nodes, parameters and authorities, all of it or nothing. The activation of a motion calls it, and nobody else.",
				},
				{
					Name: "recover", Kind: ledger.MethodTx, Args: []ledger.Field{{Name: "epoch", Type: "u64"}, {Name: "reform", Type: "Reform"}},
					Doc: "Begins an epoch without members that are gone for good. Nobody may call it: it is in blocks that survivors of a disaster sign offline.",
				},
			},
			Events: []ledger.EventDef{
				{Topic: "recovered", Fields: []ledger.Field{{Name: "epoch", Type: "u64"}, list("founded", "addr"), {Name: "reason", Type: "str"}}},
				{Topic: "reformed", Fields: []ledger.Field{list("founded", "addr"), {Name: "override", Type: "str"}}},
			},
			Errors: abortDefs(AbortArguments, AbortKey, AbortInstitution, AbortUnchanged, AbortReform),
			State: []ledger.StateDef{
				{Prefix: "b", Key: []ledger.Type{"u64"}, Value: "Beginning"},
				{Prefix: "e", Value: "Record"},
				{Prefix: "i", Key: []ledger.Type{"str"}, Value: "Institution"},
				{Prefix: "n", Key: []ledger.Type{"bytes"}, Value: "Node"},
			},
		},
	})
}

// reformTypes are the types of the schemas that have to do with reforms.
func reformTypes() []ledger.TypeDef {
	list := func(name string, t ledger.Type) ledger.Field {
		return ledger.Field{Name: name, Type: "list<" + t + ">"}
	}
	institution := ledger.Field{Name: "institution", Type: "str"}
	publicKey := ledger.Field{Name: "key", Type: "PublicKey"}
	return append(trustTypes(), []ledger.TypeDef{
		reformFaultType(),
		{Name: "PublicKey", Fields: []ledger.Field{{Name: "algorithm", Type: "u8"}, {Name: "key", Type: "bytes"}}},
		{Name: "Params", Fields: paramFields()},
		{Name: "Founding", Fields: []ledger.Field{{Name: "name", Type: "str"}, publicKey}},
		{Name: "Candidate", Fields: []ledger.Field{institution, publicKey, {Name: "address", Type: "str"}}},
		{Name: "TrustedRoot", Fields: []ledger.Field{institution, {Name: "authority", Type: "Authority"}}},
		{Name: "DistrustedRoot", Fields: []ledger.Field{institution, {Name: "root", Type: "bytes"}}},
		{Name: "InstitutionPolicy", Fields: []ledger.Field{institution, {Name: "policy", Type: "VouchPolicy"}}},
		{Name: "InstitutionNames", Fields: []ledger.Field{institution, {Name: "required", Type: "bool"}}},
		{Name: "Reform", Fields: []ledger.Field{
			list("found", "Founding"), list("observe", "Candidate"), list("dismiss", "bytes"), list("add", "bytes"),
			list("remove", "bytes"),
			{Name: "params", Type: "opt<Params>"},
			list("trust", "TrustedRoot"), list("distrust", "DistrustedRoot"), list("policies", "InstitutionPolicy"), list("real_names", "InstitutionNames"),
			{Name: "override", Type: "str"},
		}},
	}...)
}

// InstitutionsArgs are the arguments of the members method institutions.
type InstitutionsArgs struct {
	_     struct{} `cbor:",toarray"`
	After string
}

func institutions(env Env, a InstitutionsArgs) ([]string, error) {
	if err := checkInstitutionName(a.After); err != nil {
		return nil, err
	}
	return page(env, institutionKey(""), institutionKey(a.After), maxFound, func(id, _ []byte) (string, error) { return string(id), nil })
}

// NodesArgs are the arguments of the members method nodes. After is a node id, or empty.
type NodesArgs struct {
	_     struct{} `cbor:",toarray"`
	After []byte
}

// ListedNode is a node with its id.
type ListedNode struct {
	_    struct{} `cbor:",toarray"`
	Node identity.NodeID
	Row  Node
}

func nodes(env Env, a NodesArgs) ([]ListedNode, error) {
	if len(a.After) != 0 && len(a.After) != len(identity.NodeID{}) {
		return nil, aborted(AbortArguments, nil, "a node id of %d bytes", len(a.After))
	}
	prefix := NodeKeys()
	return page(env, prefix, append(slices.Clip(prefix), a.After...), maxFound, listedNode)
}

// DecodeNode reads an entry of the table of nodes: a key that NodeKeys begins, and its value.
func DecodeNode(key, value []byte) (ListedNode, error) {
	n, err := listedNode(key[min(len(key), len(NodeKeys())):], value)
	if err != nil {
		err = fmt.Errorf("state under %x: %w", key, err)
	}
	return n, err
}

func listedNode(id, value []byte) (n ListedNode, err error) {
	if err := ofSize(id, len(n.Node)); err != nil {
		return n, err
	}
	n.Node = identity.NodeID(id)
	err = ledger.Unmarshal(value, &n.Row)
	return n, err
}
