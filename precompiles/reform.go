package precompiles

import (
	"errors"
	"fmt"
	"net"
	"reflect"
	"slices"

	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// Bounds on reforms.
const (
	MaxReform      = 16 // entries in each list of a reform
	MaxNodeAddress = 255
	MaxOverride    = 512                   // bytes of a reason
	minTxGas       = ledger.Gas(5_000_000) // with less, no motion could be carried out any more
	minLifetime    = int64(10_000)         // ms; with less, transactions would expire on the way
	minClockSkew   = int64(500)            // ms; with less, honest clocks would refuse one another's blocks
	gasPerCheck    = ledger.Gas(100_000)   // a signature check: about 25 µs
)

// Reform is what a motion changes, all of it or nothing. Lists may be empty.
type Reform struct {
	_ struct{} `cbor:",toarray"`
	// Found names new institutions.
	Found []Founding
	// Observe admits nodes as observers.
	Observe []Candidate
	// Dismiss sends observers and retired members away.
	Dismiss []identity.NodeID
	// Add makes observers members. They take the last numbers.
	Add []identity.NodeID
	// Remove retires members. They go on as observers, without a vote for ever.
	Remove []identity.NodeID
	// Params replaces the parameters; nil leaves them.
	Params *ledger.Params
	// Trust names authorities that may vouch for an institution, Distrust those that may not any more, and Policies how
	// many agencies must. What they say of certificates is checked by who approves, not by the group.
	Trust    []TrustedRoot
	Distrust []DistrustedRoot
	Policies []InstitutionPolicy
	// RealNames says of which institutions the accounts call contracts under certificates only.
	RealNames []InstitutionNames
	// Override is the reason for going below the least number of members, or empty.
	Override string
}

// gas is the price of the keys that a reform brings.
func (f *Reform) gas() ledger.Gas {
	return gasPerKey * ledger.Gas(min(len(f.Observe), MaxReform)+min(len(f.Found), MaxReform))
}

// Founding is a new institution and the key of its first account, which has the roles committee and
// institution-admin.
type Founding struct {
	_    struct{} `cbor:",toarray"`
	Name string
	Key  ledger.Key
}

// Candidate is a node that is to be an observer.
type Candidate struct {
	_           struct{} `cbor:",toarray"`
	Institution string
	Key         ledger.Key
	Address     string // host:port, UDP, at which the others reach it
}

// after returns the members and parameters after a reform at a block time, or why the group refuses it.
func after(r Reader, s keys.Suite, record *Record, f *Reform, unixMilli int64) (*ledger.Epoch, error) {
	for _, n := range []int{len(f.Found), len(f.Observe), len(f.Dismiss), len(f.Add), len(f.Remove), len(f.Trust), len(f.Distrust), len(f.Policies), len(f.RealNames)} {
		if n > MaxReform {
			return nil, refused(reformListLength, n, MaxReform)
		}
	}
	if len(f.Override) > MaxOverride {
		return nil, refused(reformReasonLength, len(f.Override), MaxOverride)
	}
	before, err := ReadParams(r)
	if err != nil {
		return nil, err
	}
	next := &ledger.Epoch{Number: record.Number, Params: before}
	if f.Params != nil {
		next.Params = *f.Params
	}
	if len(f.Found)+len(f.Observe)+len(f.Dismiss)+len(f.Add)+len(f.Remove)+len(f.Trust)+len(f.Distrust)+len(f.Policies)+len(f.RealNames) == 0 && reflect.DeepEqual(next.Params, before) {
		return nil, aborted(AbortUnchanged, nil, "the reform changes nothing: the parameters are what it sets")
	}
	if err := checkFound(r, s, f); err != nil {
		return nil, err
	}
	if err := checkObserve(r, s, f); err != nil {
		return nil, err
	}
	if err := checkStatuses(r, f); err != nil {
		return nil, err
	}
	// One epoch's quorum vouches for the next, and the next must know where the chain is: at most as many members as
	// may be faulty change at once.
	if limit := max(1, ledger.Faulty(len(record.Members))); len(f.Add) > limit || len(f.Remove) > limit {
		return nil, refused(reformTooManyAtOnce, len(f.Add), len(f.Remove), len(record.Members), limit)
	}
	if next.Members, err = membersAfter(r, record, f); err != nil {
		return nil, err
	}
	if err := checkFrozenMembers(r, record, next.Members, unixMilli); err != nil {
		return nil, err
	}
	if f.Params != nil {
		if err := checkParams(&before, f.Params); err != nil {
			return nil, err
		}
		settings, err := ReadSettings(r)
		if err != nil {
			return nil, err
		}
		if err := inTime(r, &settings, f.Params); err != nil {
			return nil, err
		}
	}
	_, err = trustsAfter(r, f, unixMilli)
	return next, err
}

func checkFound(r Reader, s keys.Suite, f *Reform) error {
	for i, n := range f.Found {
		if n.Name == "" || len(n.Name) > MaxInstitutionName {
			return refused(reformInstitutionName, len(n.Name), MaxInstitutionName)
		}
		_, found, err := ReadInstitution(r, n.Name)
		if err != nil {
			return err
		}
		if found || slices.ContainsFunc(f.Found[:i], func(o Founding) bool { return o.Name == n.Name }) {
			return refused(reformInstitutionTaken, n.Name)
		}
		if _, err := s.ParsePublic(n.Key.Algorithm, n.Key.Bytes); err != nil {
			return refusedAs(err, reformInstitutionKey, n.Name)
		}
	}
	return nil
}

func checkObserve(r Reader, s keys.Suite, f *Reform) error {
	for i, n := range f.Observe {
		_, found, err := ReadInstitution(r, n.Institution)
		if err != nil {
			return err
		}
		if !found && !slices.ContainsFunc(f.Found, func(o Founding) bool { return o.Name == n.Institution }) {
			return aborted(AbortInstitution, []any{n.Institution}, "there is no institution %q: found it in the same motion", n.Institution)
		}
		if n.Key.Algorithm != s.Vote() {
			return refused(reformNodeAlgorithm, n.Key.Algorithm, s.Vote())
		}
		public, err := s.ParsePublic(n.Key.Algorithm, n.Key.Bytes)
		if err != nil {
			return refusedAs(err, reformNodeKey, n.Institution)
		}
		id := identity.NodeIDOf(s, public)
		old, found, err := ReadNode(r, id)
		if err != nil {
			return err
		}
		if found {
			return refused(reformNodeKnown, id, meaning(old.Status))
		}
		if slices.ContainsFunc(f.Observe[:i], func(o Candidate) bool { return slices.Equal(o.Key.Bytes, n.Key.Bytes) }) {
			return refused(reformNodeTwice, id)
		}
		if host, port, err := net.SplitHostPort(n.Address); err != nil || host == "" || port == "" || len(n.Address) > MaxNodeAddress {
			return refused(reformNodeAddress, id, MaxNodeAddress)
		}
	}
	return nil
}

// checkStatuses checks that nodes to be dismissed, added and removed are what they must be, and named once.
func checkStatuses(r Reader, f *Reform) error {
	var named []identity.NodeID
	check := func(list []identity.NodeID, what string, fits ...NodeStatus) error {
		for _, id := range list {
			node, found, err := ReadNode(r, id)
			switch {
			case err != nil:
				return err
			case !found:
				return refused(reformNodeUnknown, id, what)
			case !slices.Contains(fits, node.Status):
				return refused(reformNodeStatus, id, what, meaning(node.Status))
			case slices.Contains(named, id):
				return refused(reformNodeTwice, id)
			}
			named = append(named, id)
		}
		return nil
	}
	if err := check(f.Dismiss, "dismissed", NodeObserver, NodeRetired); err != nil {
		return err
	}
	if err := check(f.Add, "added", NodeObserver); err != nil {
		return err
	}
	return check(f.Remove, "removed", NodeMember)
}

// membersAfter returns the members after a reform: those that stay in their order, then those that join.
func membersAfter(r Reader, record *Record, f *Reform) ([]ledger.Member, error) {
	if len(f.Add)+len(f.Remove) == 0 {
		return record.Members, nil
	}
	members := slices.DeleteFunc(slices.Clone(record.Members), func(m ledger.Member) bool { return slices.Contains(f.Remove, m.Node) })
	for _, id := range f.Add {
		node, _, err := ReadNode(r, id) // there is one, by checkStatuses
		if err != nil {
			return nil, err
		}
		members = append(members, ledger.Member{Node: id, Institution: node.Institution, Key: node.Key})
	}
	switch n := len(members); {
	case n == 0 || n > ledger.MaxMembers:
		return nil, refused(reformMemberCount, n, ledger.MaxMembers)
	case n < int(record.Minimum) && n < len(record.Members) && f.Override == "":
		return nil, refused(reformFewMembers, n, record.Minimum)
	}
	return members, governable(r, MemberInstitutions(members))
}

// checkFrozenMembers refuses members of whom more are frozen than the group goes on without.
func checkFrozenMembers(r Reader, record *Record, members []ledger.Member, unixMilli int64) error {
	if slices.Equal(nodesOf(members), nodesOf(record.Members)) {
		return nil
	}
	frozen, err := frozenMembers(r, members, unixMilli)
	if err == nil && len(frozen) > ledger.Faulty(len(members)) {
		err = refusedAs(errors.New(tellFrozen(frozen)), reformFrozenMembers, len(frozen), len(members), ledger.Faulty(len(members)))
	}
	return err
}

func nodesOf(members []ledger.Member) (nodes []identity.NodeID) {
	for _, m := range members {
		nodes = append(nodes, m.Node)
	}
	return nodes
}

// checkParams refuses parameters that the group could not go on with, or not be governed with any more.
func checkParams(before, p *ledger.Params) error {
	if err := p.Check(); err != nil {
		name := ""
		if e, ok := errors.AsType[*ledger.ParamError](err); ok {
			name = e.Name
		}
		return refusedAs(err, reformParam, name)
	}
	switch {
	case p.Rewrite != before.Rewrite || p.Costs != before.Costs:
		return refused(reformParamVersions, p.Rewrite, p.Costs)
	case p.TxGas < minTxGas:
		return refused(reformTxGas, p.TxGas, minTxGas)
	case p.MaxLifetime < minLifetime:
		return refused(reformMaxLifetime, p.MaxLifetime, minLifetime)
	case p.ClockSkew < minClockSkew:
		return refused(reformClockSkew, p.ClockSkew, minClockSkew)
	case p.HeartbeatTime >= p.ViewTimeout:
		return refused(reformHeartbeatTime, p.HeartbeatTime, p.ViewTimeout)
	}
	return nil
}

// ReformArgs are the arguments of the members method reform.
type ReformArgs struct {
	_      struct{} `cbor:",toarray"`
	Reform Reform
}

// reform carries a reform out. It is called by the activation of a motion, with whose block the epoch ends.
func reform(env Env, a ReformArgs) error {
	if !byMotion(env) {
		return denied(DeniedMotion, "a reform takes a motion: `fondaco member propose` makes one")
	}
	record, err := readRecord(env)
	if err != nil {
		return err
	}
	if err := env.Charge(a.Reform.gas()); err != nil {
		return err
	}
	f := &a.Reform
	next, err := after(env, env.Suite(), &record, f, env.Order().UnixMilli)
	if err != nil {
		return err
	}
	founded := []ledger.Address{}
	for _, n := range f.Found {
		address, err := foundInstitution(env, &n)
		if err != nil {
			return err
		}
		founded = append(founded, address)
	}
	if err := enroll(env, f); err != nil {
		return err
	}
	trusts, err := trustsAfter(env, f, env.Order().UnixMilli)
	if err != nil {
		return err
	}
	if err := writeTrusts(env, trusts); err != nil {
		return err
	}
	record.Members = next.Members
	record.Reformed = record.Number + 1
	if err := write(env, epochKey(), &record); err != nil {
		return err
	}
	if f.Params != nil {
		if err := write(env, paramsKey(), f.Params); err != nil {
			return err
		}
	}
	return emit(env, "reformed", founded, f.Override)
}

// foundInstitution writes a new institution and returns the address of its first account.
func foundInstitution(env Env, f *Founding) (ledger.Address, error) {
	if err := write(env, institutionKey(f.Name), &Institution{Version: ledger.Version, Height: env.Order().Height}); err != nil {
		return ledger.Address{}, err
	}
	address, err := env.NewAddress()
	if err != nil {
		return address, err
	}
	return address, putAccount(env, address, &Account{
		Version: ledger.Version, Institution: f.Name, Threshold: 1, Roles: []string{string(identity.Committee), string(identity.InstitutionAdmin)},
		Keys: []AccountKey{{Algorithm: f.Key.Algorithm, Key: f.Key.Bytes, Weight: 1}},
	}, nil)
}

// enroll writes what a reform makes of nodes.
func enroll(env Env, f *Reform) error {
	for _, c := range f.Observe {
		public, err := env.Suite().ParsePublic(c.Key.Algorithm, c.Key.Bytes)
		if err != nil {
			return fmt.Errorf("key of an observer of an open motion: %w", err)
		}
		node := &Node{Version: ledger.Version, Status: NodeObserver, Institution: c.Institution, Key: c.Key, Address: c.Address, Height: env.Order().Height}
		if err := write(env, nodeKey(identity.NodeIDOf(env.Suite(), public)), node); err != nil {
			return err
		}
	}
	for _, to := range []struct {
		list   []identity.NodeID
		status NodeStatus
	}{{f.Dismiss, NodeDismissed}, {f.Add, NodeMember}, {f.Remove, NodeRetired}} {
		for _, id := range to.list {
			node, _, err := ReadNode(env, id)
			if err != nil {
				return err
			}
			node.Status, node.Height = to.status, env.Order().Height
			if err := write(env, nodeKey(id), &node); err != nil {
				return err
			}
		}
	}
	return nil
}
