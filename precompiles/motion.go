package precompiles

import (
	"encoding/binary"
	"fmt"
	"net"
	"reflect"
	"slices"

	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// Bounds on motions.
const (
	MaxMotions     = 2  // open ones that an institution proposed
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

// Motion is a row of the table of motions, keyed by its id. It is void once another was carried out: what it
// would change is not what its supporters looked at any more.
type Motion struct {
	_         struct{} `cbor:",toarray"`
	Version   uint16   // ledger.Version
	Epoch     uint64
	Height    ledger.Height // of the block below the one that it was made in
	Block     keys.Digest   // that block's hash
	Reform    Reform
	Approvals []Approval  // one for each institution, in order of time; the first is the proposer's
	Ready     []Readiness // of the nodes in Reform.Add, in order of time
}

// Approval says that an account approved for its institution.
type Approval struct {
	_           struct{} `cbor:",toarray"`
	Institution string
	Account     ledger.Address
}

// Readiness is a node's signature over ReadyDigest.
type Readiness struct {
	_         struct{} `cbor:",toarray"`
	Node      identity.NodeID
	Signature []byte
}

// ReadyDigest is what a node that a motion adds signs once it has executed the block that the motion names, and so is
// synced. The block is newer than the motion's proposer could have told anybody, so the statement cannot have been
// made before; it is bound to the node's key, so its operator has that; and it names the block hash, so a node that
// followed another history cannot make it honestly. That hash is public: the statement is a promise of the node's
// operator, on record, and no proof that the node stays up.
func ReadyDigest(s keys.Suite, chain keys.Digest, group ledger.GroupID, id uint64, m *Motion, node identity.NodeID) keys.Digest {
	return keys.Hash(s, readyThing, readyMessage(chain, group, id, m, node)...)
}

// SignReady returns the signature over what ReadyDigest returns.
func SignReady(s keys.Suite, signer keys.Signer, chain keys.Digest, group ledger.GroupID, id uint64, m *Motion, node identity.NodeID) ([]byte, error) {
	return keys.SignHash(s, signer, readyThing, readyMessage(chain, group, id, m, node)...)
}

// readyThing is what keys.Hash takes the statement for that a node is ready.
const readyThing = "ready"

func readyMessage(chain keys.Digest, group ledger.GroupID, id uint64, m *Motion, node identity.NodeID) [][]byte {
	return [][]byte{
		chain[:],
		{byte(len(group))},
		[]byte(group), binary.BigEndian.AppendUint64(nil, id),
		binary.BigEndian.AppendUint64(nil, m.Epoch), binary.BigEndian.AppendUint64(nil, uint64(m.Height)), m.Block[:], node[:],
	}
}

// MotionArgs are the arguments of methods that take a motion's id.
type MotionArgs struct {
	_  struct{} `cbor:",toarray"`
	ID uint64
}

// MotionsArgs are the arguments of the members method motions.
type MotionsArgs struct {
	_     struct{} `cbor:",toarray"`
	After uint64
}

// ListedMotion is a motion with its id.
type ListedMotion struct {
	_   struct{} `cbor:",toarray"`
	ID  uint64
	Row Motion
}

func motions(env Env, a MotionsArgs) ([]ListedMotion, error) {
	return page(env, key(MembersAddress, []byte("m")), motionKey(a.After), maxFound, func(id, value []byte) (m ListedMotion, err error) {
		if err := ofSize(id, 8); err != nil {
			return m, err
		}
		m.ID = binary.BigEndian.Uint64(id)
		err = ledger.Unmarshal(value, &m.Row)
		return m, err
	})
}

// ProposeArgs are the arguments of the members method propose.
type ProposeArgs struct {
	_      struct{} `cbor:",toarray"`
	Reform Reform
}

func propose(env Env, a ProposeArgs) (uint64, error) {
	account, err := callerAccount(env, MembersAddress)
	if err != nil {
		return 0, err
	}
	record, err := readRecord(env)
	if err != nil {
		return 0, err
	}
	if err := mayApprove(&record, &account); err != nil {
		return 0, err
	}
	keysToCheck := min(len(a.Reform.Observe), MaxReform) + min(len(a.Reform.Found), MaxReform)
	if err := env.Charge(gasPerKey * ledger.Gas(keysToCheck)); err != nil {
		return 0, err
	}
	if _, err := after(env, env.Suite(), &record, &a.Reform, env.Order().UnixMilli); err != nil {
		return 0, err
	}
	open, err := makeRoom(env, &record, account.Institution)
	if err != nil {
		return 0, err
	}
	id, _, err := read[uint64](env, counterKey())
	if err != nil {
		return 0, err
	}
	id++
	if err := write(env, counterKey(), id); err != nil {
		return 0, err
	}
	m := &Motion{
		Version: ledger.Version, Epoch: record.Number, Height: env.Order().Height - 1, Block: env.Parent(), Reform: a.Reform,
		Approvals: []Approval{{Institution: account.Institution, Account: env.Caller()}},
	}
	if err := write(env, motionKey(id), m); err != nil {
		return 0, err
	}
	if err := write(env, proposedKey(account.Institution), append(open, id)); err != nil {
		return 0, err
	}
	return id, emit(env, "proposed", id, account.Institution)
}

// makeRoom returns the open motions that an institution proposed, deletes its void ones, and fails when it may not have
// another. The bound is each institution's own, and only its own motions are read, so that none can keep others from
// proposing.
func makeRoom(env Env, record *Record, institution string) ([]uint64, error) {
	ids, _, err := read[[]uint64](env, proposedKey(institution))
	if err != nil {
		return nil, err
	}
	open := []uint64{}
	for _, id := range ids {
		m, found, err := read[Motion](env, motionKey(id))
		if err == nil && found && m.Void(record) {
			err = env.Delete(motionKey(id))
		} else if found {
			open = append(open, id)
		}
		if err != nil {
			return nil, err
		}
	}
	if len(open) >= MaxMotions {
		return nil, aborted(AbortMotion, []any{uint64(0)}, "%s has proposed the motions %d, which are open: activate or withdraw one", institution, open)
	}
	return open, nil
}

func approve(env Env, a MotionArgs) error {
	account, record, m, err := openMotion(env, a.ID)
	if err != nil {
		return err
	}
	if err := mayApprove(record, account); err != nil {
		return err
	}
	if m.approvedBy(account.Institution) {
		return aborted(AbortUnchanged, nil, "%s approved motion %d already: `fondaco member show %d` tells what it lacks", account.Institution, a.ID, a.ID)
	}
	m.Approvals = append(m.Approvals, Approval{Institution: account.Institution, Account: env.Caller()})
	if err := write(env, motionKey(a.ID), m); err != nil {
		return err
	}
	return emit(env, "approved", a.ID, account.Institution)
}

func withdraw(env Env, a MotionArgs) error {
	account, record, m, err := openMotion(env, a.ID)
	if err != nil {
		return err
	}
	if err := mayApprove(record, account); err != nil {
		return err
	}
	if !m.approvedBy(account.Institution) {
		return aborted(AbortUnchanged, nil, "%s has not approved motion %d, so there is nothing to take back", account.Institution, a.ID)
	}
	if m.Proposer() == account.Institution {
		// Whatever others think of it: what they approve could else take the proposer's room for ever.
		err = env.Delete(motionKey(a.ID))
	} else {
		m.Approvals = slices.DeleteFunc(m.Approvals, func(p Approval) bool { return p.Institution == account.Institution })
		err = write(env, motionKey(a.ID), m)
	}
	if err != nil {
		return err
	}
	return emit(env, "withdrawn", a.ID, account.Institution)
}

// ReadyArgs are the arguments of the members method ready.
type ReadyArgs struct {
	_         struct{} `cbor:",toarray"`
	ID        uint64
	Node      []byte
	Signature []byte
}

func ready(env Env, a ReadyArgs) error {
	_, _, m, err := openMotion(env, a.ID)
	if err != nil {
		return err
	}
	if len(a.Node) != len(identity.NodeID{}) || !slices.Contains(m.Reform.Add, identity.NodeID(a.Node)) {
		return aborted(AbortArguments, nil, "motion %d does not add the node 0x%x: `fondaco member show %d` lists those that it adds", a.ID, a.Node, a.ID)
	}
	id := identity.NodeID(a.Node)
	if m.isReady(id) {
		return aborted(AbortUnchanged, nil, "the node %s stated already that it is synced", id)
	}
	node, _, err := ReadNode(env, id) // there is one, as the motion was accepted
	if err != nil {
		return err
	}
	if err := env.Charge(gasPerCheck); err != nil {
		return err
	}
	public, err := env.Suite().ParsePublic(node.Key.Algorithm, node.Key.Bytes)
	if err != nil {
		return fmt.Errorf("key of node %s: %w", id, err)
	}
	order := env.Order()
	if err := public.Verify(ReadyDigest(env.Suite(), order.Chain, order.Group, a.ID, m, id), a.Signature); err != nil {
		return aborted(AbortKey, []any{uint32(0)}, "the statement of node %s: %v", id, err)
	}
	m.Ready = append(m.Ready, Readiness{Node: id, Signature: a.Signature})
	if err := write(env, motionKey(a.ID), m); err != nil {
		return err
	}
	return emit(env, "ready", a.ID, id[:])
}

// openMotion returns the caller's account, the members in force and a motion that is not void.
func openMotion(env Env, id uint64) (*Account, *Record, *Motion, error) {
	account, err := callerAccount(env, MembersAddress)
	if err != nil {
		return nil, nil, nil, err
	}
	record, err := readRecord(env)
	if err != nil {
		return nil, nil, nil, err
	}
	m, err := findMotion(env, &record, id)
	return &account, &record, m, err
}

func findMotion(r Reader, record *Record, id uint64) (*Motion, error) {
	m, found, err := read[Motion](r, motionKey(id))
	switch {
	case err != nil:
		return nil, err
	case !found:
		return nil, aborted(AbortMotion, []any{id}, "there is no motion %d, or no more: `fondaco member show` lists the open ones", id)
	case m.Void(record):
		return nil, aborted(AbortMotion, []any{id}, "motion %d was made in epoch %d, and another was carried out since: propose it again", id, m.Epoch)
	}
	return &m, nil
}

// Void reports whether another motion was carried out since this one was made.
func (m *Motion) Void(record *Record) bool { return m.Epoch < record.Reformed }

// Proposer returns the institution that made the motion. It approves of it as long as there is the motion.
func (m *Motion) Proposer() string {
	if len(m.Approvals) == 0 {
		return "" // not in a state, but a node may tell a client anything
	}
	return m.Approvals[0].Institution
}

func (m *Motion) approvedBy(institution string) bool {
	return slices.ContainsFunc(m.Approvals, func(a Approval) bool { return a.Institution == institution })
}

func (m *Motion) isReady(node identity.NodeID) bool {
	return slices.ContainsFunc(m.Ready, func(r Readiness) bool { return r.Node == node })
}

// mayApprove checks that an account speaks for an institution that has a member.
func mayApprove(record *Record, account *Account) error {
	if !account.Has(identity.Committee) {
		return denied(DeniedRole, "only an account with the role committee takes part in motions: send it from one of its institution")
	}
	if !slices.Contains(MemberInstitutions(record.Members), account.Institution) {
		return denied(DeniedInstitution, "%s has no member in the group, and so no say in motions", account.Institution)
	}
	return nil
}

// MemberInstitutions returns the institutions that have a member, sorted.
func MemberInstitutions(members []ledger.Member) []string {
	var names []string
	for _, m := range members {
		names = append(names, m.Institution)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// MayActivate says why a call of activate with these arguments by an account would change nothing at a state and a block
// time in Unix ms, or returns nil. Nobody puts a transaction that it refuses into a block, so that only what institutions agreed on ends
// an epoch.
func MayActivate(r Reader, s keys.Suite, account *Account, args []byte, unixMilli int64) error {
	var a MotionArgs
	if err := ledger.Unmarshal(args, &a); err != nil {
		return aborted(AbortArguments, nil, "%v", err)
	}
	record, err := readRecord(r)
	if err != nil {
		return err
	}
	_, _, err = carried(r, s, &record, account, a.ID, unixMilli)
	return err
}

// carried returns a motion that has all that it takes, and the epoch that it leads to, whose number is still that
// of the present one.
func carried(r Reader, s keys.Suite, record *Record, account *Account, id uint64, unixMilli int64) (*Motion, *ledger.Epoch, error) {
	if err := mayApprove(record, account); err != nil {
		return nil, nil, err
	}
	m, err := findMotion(r, record, id)
	if err != nil {
		return nil, nil, err
	}
	if all := len(MemberInstitutions(record.Members)); 2*len(m.Approvals) <= all {
		return nil, nil, aborted(AbortSupport, []any{uint32(len(m.Approvals)), uint32(all/2 + 1)},
			"motion %d has the approval of %d institutions, and %d of %d are needed: `fondaco member show %d` names them", id, len(m.Approvals), all/2+1, all, id)
	}
	for _, node := range m.Reform.Add {
		if !m.isReady(node) {
			return nil, nil, aborted(AbortSupport, []any{uint32(len(m.Ready)), uint32(len(m.Reform.Add))},
				"node %s has not stated that it is synced: its operator runs `fondaco member ready %d -d DIR --from ACCOUNT --key FILE`, of any account, on its machine", node, id)
		}
	}
	next, err := after(r, s, record, &m.Reform, unixMilli)
	return m, next, err
}

func refused(format string, args ...any) error {
	reason := fmt.Sprintf(format, args...)
	return aborted(AbortReform, []any{reason}, "%s", reason)
}

// after returns the members and parameters after a reform at a block time, or why the group refuses it.
func after(r Reader, s keys.Suite, record *Record, f *Reform, unixMilli int64) (*ledger.Epoch, error) {
	for _, n := range []int{len(f.Found), len(f.Observe), len(f.Dismiss), len(f.Add), len(f.Remove), len(f.Trust), len(f.Distrust), len(f.Policies), len(f.RealNames)} {
		if n > MaxReform {
			return nil, refused("a list of %d entries, at most %d", n, MaxReform)
		}
	}
	if len(f.Override) > MaxOverride {
		return nil, refused("a reason of %d bytes, at most %d", len(f.Override), MaxOverride)
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
		return nil, refused("%d members join and %d leave at once; a group of %d changes at most %d of each", len(f.Add), len(f.Remove), len(record.Members), limit)
	}
	if next.Members, err = membersAfter(r, record, f); err != nil {
		return nil, err
	}
	if f.Params != nil {
		if err := checkParams(&before, f.Params); err != nil {
			return nil, err
		}
	}
	_, err = trustsAfter(r, f, unixMilli)
	return next, err
}

func checkFound(r Reader, s keys.Suite, f *Reform) error {
	for i, n := range f.Found {
		if n.Name == "" || len(n.Name) > MaxInstitutionName {
			return refused("an institution's name of %d bytes, want 1 to %d", len(n.Name), MaxInstitutionName)
		}
		_, found, err := ReadInstitution(r, n.Name)
		if err != nil {
			return err
		}
		if found || slices.ContainsFunc(f.Found[:i], func(o Founding) bool { return o.Name == n.Name }) {
			return refused("there is an institution %q already", n.Name)
		}
		if _, err := s.ParsePublic(n.Key.Algorithm, n.Key.Bytes); err != nil {
			return refused("the key of the first account of %s: %v", n.Name, err)
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
			return refused("a node's key of algorithm %s, want %s", n.Key.Algorithm, s.Vote())
		}
		public, err := s.ParsePublic(n.Key.Algorithm, n.Key.Bytes)
		if err != nil {
			return refused("the key of a node of %s: %v", n.Institution, err)
		}
		id := identity.NodeIDOf(s, public)
		old, found, err := ReadNode(r, id)
		if err != nil {
			return err
		}
		if found {
			return refused("the node %s cannot be admitted again: it %s", id, old.Status.meaning())
		}
		if slices.ContainsFunc(f.Observe[:i], func(o Candidate) bool { return slices.Equal(o.Key.Bytes, n.Key.Bytes) }) {
			return refused("the node %s is listed twice", id)
		}
		if host, port, err := net.SplitHostPort(n.Address); err != nil || host == "" || port == "" || len(n.Address) > MaxNodeAddress {
			return refused("the node %s has the address %q, want HOST:PORT of at most %d bytes", id, n.Address, MaxNodeAddress)
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
				return refused("the node %s cannot be %s: the group does not know it; admit it as an observer first", id, what)
			case !slices.Contains(fits, node.Status):
				return refused("the node %s cannot be %s: it %s", id, what, node.Status.meaning())
			case slices.Contains(named, id):
				return refused("the node %s is named twice", id)
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
		return nil, refused("%d members, want 1 to %d", n, ledger.MaxMembers)
	case n < int(record.Minimum) && n < len(record.Members) && f.Override == "":
		return nil, refused("%d members would be left, and the group keeps at least %d: give a reason to override", n, record.Minimum)
	}
	names := MemberInstitutions(members)
	able := 0
	for _, name := range names {
		institution, _, err := ReadInstitution(r, name)
		if err != nil {
			return nil, err
		}
		if institution.Committee {
			able++
		}
	}
	if 2*able <= len(names) {
		return nil, refused("%d of %d institutions of the members have an account with the role committee: no motion could be carried out any more", able, len(names))
	}
	return members, nil
}

// checkParams refuses parameters that the group could not go on with, or not be governed with any more.
func checkParams(before, p *ledger.Params) error {
	if err := p.Check(); err != nil {
		return refused("%v", err)
	}
	switch {
	case p.Rewrite != before.Rewrite || p.Costs != before.Costs:
		return refused("rewrite %d and costs %d: a motion does not change versions of the rules, which every node's release must have", p.Rewrite, p.Costs)
	case p.TxGas < minTxGas:
		return refused("tx_gas is %d, want at least %d, or no motion could be carried out", p.TxGas, minTxGas)
	case p.MaxLifetime < minLifetime:
		return refused("max_lifetime is %d ms, want at least %d, or transactions would expire on their way", p.MaxLifetime, minLifetime)
	case p.ClockSkew < minClockSkew:
		return refused("clock_skew is %d ms, want at least %d, or members would refuse one another's blocks", p.ClockSkew, minClockSkew)
	case p.HeartbeatTime >= p.ViewTimeout:
		return refused("heartbeat_time is %d ms and view_timeout %d: members would change the view without end", p.HeartbeatTime, p.ViewTimeout)
	}
	return nil
}

func activate(env Env, a MotionArgs) error {
	if env.Caller() != env.Origin() {
		return denied(DeniedDirect, "activate is called by a transaction only, and not by contract %s", env.Caller())
	}
	account, err := callerAccount(env, MembersAddress)
	if err != nil {
		return err
	}
	record, err := readRecord(env)
	if err != nil {
		return err
	}
	m, next, err := carried(env, env.Suite(), &record, &account, a.ID, env.Order().UnixMilli)
	if err != nil {
		return err
	}
	founded := []ledger.Address{}
	for _, f := range m.Reform.Found {
		address, err := foundInstitution(env, &f)
		if err != nil {
			return err
		}
		founded = append(founded, address)
	}
	if err := enroll(env, &m.Reform); err != nil {
		return err
	}
	trusts, err := trustsAfter(env, &m.Reform, env.Order().UnixMilli)
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
	if m.Reform.Params != nil {
		if err := write(env, paramsKey(), m.Reform.Params); err != nil {
			return err
		}
	}
	if err := env.Delete(motionKey(a.ID)); err != nil {
		return err
	}
	return emit(env, "activated", a.ID, founded, m.Reform.Override)
}

// foundInstitution writes a new institution and returns the address of its first account.
func foundInstitution(env Env, f *Founding) (ledger.Address, error) {
	if err := write(env, institutionKey(f.Name), &Institution{Version: ledger.Version, Height: env.Order().Height, Committee: true}); err != nil {
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
