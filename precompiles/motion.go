package precompiles

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"unicode/utf8"

	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// Bounds on motions.
const (
	MaxActions     = 16
	MaxActionBytes = 48 << 10 // arguments of all actions of a motion
	MaxTitle       = 256      // bytes
)

// Action is a call that a motion makes, with the governance contract as the caller.
type Action struct {
	_      struct{} `cbor:",toarray"`
	To     ledger.Address
	Method string
	Args   []byte // canonical CBOR array
}

// Motion is a row of the table of motions, keyed by its id. What is not on the chain any more was carried out, lost, vetoed
// or withdrawn, as the events say.
//
// The institutions that have members vote, each with the weight of the settings, both as they are when the motion is made.
// It is carried once all that the policies of its actions take is there (Needs), and the settings' participation: from
// then on no vote changes it. It is lost once that cannot come any more. Between that and its execution are the longest
// lock of the policies, and the window in which a regulator may object.
type Motion struct {
	_             struct{} `cbor:",toarray"`
	Version       uint16   // ledger.Version
	Epoch         uint64
	Height        ledger.Height // of the block below the one that it was made in
	Block         keys.Digest   // that block's hash
	Title         string
	Proposer      string // institution
	Actions       []Action
	Reform        *Reform  // nil: none, and the motion ends no epoch
	Expires       int64    // last block time, Unix ms, at which it can be voted on and carried out
	Voters        []Weight // sorted by institution
	Needs         []Policy // of what it does, all of which it takes; the rules are count, majority, share or all
	Approval      uint32   // as in Settings
	Participation uint32   // as in Settings
	Window        int64    // as in Settings; 0 where the chain had no regulator, and of a motion that takes features back
	Votes         []Vote   // one for each institution at most, in order of time
	Consent       *ledger.Address
	Ready         []Readiness   // of the nodes that the reform adds, in order of time
	Decided       int64         // block time, Unix ms, at which it was carried; 0: it is not
	DecidedAt     ledger.Height // of that block
	Number        uint64        // of the last change of settings or policies when it was made: what it does must have the same policies when it is carried out
}

// Vote is what an account voted for its institution.
type Vote struct {
	_           struct{} `cbor:",toarray"`
	Institution string
	Account     ledger.Address
	For         bool
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

func counterKey() []byte { return key(GovernanceAddress, []byte("c")) }

func motionKey(id uint64) []byte {
	return key(GovernanceAddress, []byte("m"), binary.BigEndian.AppendUint64(nil, id))
}

// proposedKey is that of the ids of the motions that an institution proposed, among them those that are still open.
func proposedKey(institution string) []byte {
	return key(GovernanceAddress, []byte("p"), []byte(institution))
}

// MotionArgs are the arguments of methods that take a motion's id.
type MotionArgs struct {
	_  struct{} `cbor:",toarray"`
	ID uint64
}

// MotionsArgs are the arguments of the governance method motions.
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
	return page(env, key(GovernanceAddress, []byte("m")), motionKey(a.After), maxFound, func(id, value []byte) (m ListedMotion, err error) {
		if err := ofSize(id, 8); err != nil {
			return m, err
		}
		m.ID = binary.BigEndian.Uint64(id)
		err = ledger.Unmarshal(value, &m.Row)
		return m, err
	})
}

// ProposeArgs are the arguments of the governance method propose.
type ProposeArgs struct {
	_       struct{} `cbor:",toarray"`
	Title   string   // for people; at most MaxTitle bytes
	Actions []Action // in the order in which they are made, after the reform
	Reform  *Reform  // nil: none
	Expires int64    // last block time, Unix ms, at which the motion can be carried out; 0: as late as the settings allow
}

func propose(env Env, a ProposeArgs) (uint64, error) {
	account, record, err := speaker(env)
	if err != nil {
		return 0, err
	}
	if err := checkTitle(a.Title); err != nil {
		return 0, err
	}
	if len(a.Actions) == 0 && a.Reform == nil {
		return 0, aborted(AbortArguments, nil, "a motion does something: give a reform, or calls")
	}
	if a.Reform != nil {
		if err := env.Charge(a.Reform.gas()); err != nil {
			return 0, err
		}
		if _, err := after(env, env.Suite(), record, a.Reform, env.Order().UnixMilli); err != nil {
			return 0, err
		}
	}
	settings, err := ReadSettings(env)
	if err != nil {
		return 0, err
	}
	needs, regulated, err := needsOf(env, &a)
	if err != nil {
		return 0, err
	}
	open, err := makeRoom(env, record, &settings, account.Institution)
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
	order := env.Order()
	m := &Motion{
		Version: ledger.Version, Epoch: record.Number, Height: order.Height - 1, Block: env.Parent(), Title: a.Title, Proposer: account.Institution,
		Actions: a.Actions, Reform: a.Reform, Expires: a.Expires, Voters: settings.weigh(MemberInstitutions(record.Members)), Needs: needs,
		Approval: settings.Approval, Participation: settings.Participation, Number: settings.Number,
	}
	if regulated && !m.takesBack() {
		m.Window = settings.Window
	}
	last := order.UnixMilli + settings.Lifetime
	if m.Expires == 0 {
		m.Expires = last
	}
	if first, _ := m.lock(); m.Expires > last || m.Expires <= order.UnixMilli+first {
		return 0, aborted(AbortArguments, nil, "a motion that expires at block time %d: it can be carried out from %d at the earliest, and the settings allow %d at the latest", m.Expires, order.UnixMilli+first, last)
	}
	if err := write(env, proposedKey(account.Institution), append(open, id)); err != nil {
		return 0, err
	}
	if err := emit(env, "proposed", id, account.Institution, a.Title); err != nil {
		return 0, err
	}
	return id, cast(env, id, m, account, true)
}

func checkTitle(title string) error {
	if len(title) > MaxTitle || !utf8.ValidString(title) {
		return aborted(AbortArguments, nil, "a title of %d bytes, want at most %d of UTF-8", len(title), MaxTitle)
	}
	return nil
}

// needsOf checks the actions of a motion and returns what their policies take together. Motions about the chain itself, and
// about methods without a policy, take a majority in any case. regulated says that the chain has a regulator, who must consent
// where a policy wants it or the motion is about a regulator or its institution.
func needsOf(env Env, a *ProposeArgs) (needs []Policy, regulated bool, err error) {
	regulators, err := ReadRegulators(env)
	if err != nil {
		return nil, false, err
	}
	regulated = len(regulators) > 0
	add := func(p Policy) {
		p.Regulator = p.Regulator && regulated
		if !slices.ContainsFunc(needs, func(o Policy) bool { return equalPolicy(&o, &p) }) {
			needs = append(needs, p)
		}
	}
	resource := func(contract ledger.Address, method string) error {
		p, found, err := policyInForce(env, contract, method)
		if err != nil {
			return err
		}
		if found && p.Rule == RuleForbidden {
			return unsound(policyForbids, method, contract)
		}
		if add(p.ofMotions()); IsSystem(contract) {
			add(byMajority())
		}
		return nil
	}
	if a.Reform != nil {
		if err := resource(MembersAddress, "reform"); err != nil {
			return nil, false, err
		}
		if about, err := a.Reform.about(env, regulators); err != nil {
			return nil, false, err
		} else if about {
			add(Policy{Rule: RuleMajority, Regulator: true})
		}
	}
	size := 0
	for _, action := range a.Actions {
		size += len(action.Args)
	}
	if len(a.Actions) > MaxActions || size > MaxActionBytes {
		return nil, false, aborted(AbortArguments, nil, "%d calls with arguments of %d bytes, at most %d and %d", len(a.Actions), size, MaxActions, MaxActionBytes)
	}
	for i := range a.Actions {
		action := &a.Actions[i]
		if err := action.check(env); err != nil {
			return nil, false, fmt.Errorf("call %d: %w", i, err)
		}
		if err := resource(action.To, action.Method); err != nil {
			return nil, false, err
		}
		if touches, err := action.touches(env, regulators); err != nil {
			return nil, false, err
		} else if touches {
			add(Policy{Rule: RuleMajority, Regulator: true})
		}
	}
	return needs, regulated, nil
}

// ofMotions returns what a motion takes that calls what the policy is of: what accounts may do alone, most of all together may.
func (p Policy) ofMotions() Policy {
	if p.Rule < RuleCount {
		p.Rule, p.Roles, p.Institutions = RuleMajority, nil, nil
	}
	return p
}

// current refuses a motion whose policies are others than those that it was decided under. One that was set since counts as another, whatever it says;
// of one that was taken back the motion must have had what is in force now, and also the consent of a regulator where the chain has its first one since. Nor is a reform
// that is about a regulator's institution today, if none consented to it: it may have got its regulator since.
func (m *Motion) current(r Reader) error {
	regulators, err := ReadRegulators(r)
	if err != nil {
		return err
	}
	resources := make([]MethodArgs, 0, len(m.Actions)+1)
	if m.Reform != nil {
		resources = append(resources, MethodArgs{Contract: MembersAddress, Method: "reform"})
	}
	for _, a := range m.Actions {
		resources = append(resources, MethodArgs{Contract: a.To, Method: a.Method})
	}
	for _, c := range resources {
		row, set, err := ReadPolicy(r, c.Contract, c.Method)
		if err != nil {
			return err
		}
		p := row.Policy
		if !set {
			p, _ = DefaultPolicy(c.Contract, c.Method)
		}
		need := p.ofMotions()
		need.Regulator = need.Regulator && len(regulators) > 0
		if set && (row.Number > m.Number || p.Rule == RuleForbidden) || !slices.ContainsFunc(m.Needs, func(o Policy) bool { return equalPolicy(&o, &need) }) {
			return aborted(AbortStale, []any{c.Contract, c.Method}, "the policy of %s of %s is another than when the motion was made: propose again what is still wanted", c.Method, c.Contract)
		}
	}
	if m.Reform == nil || m.Consent != nil {
		return nil
	}
	about, err := m.Reform.about(r, regulators)
	if err != nil || !about {
		return err
	}
	return unasked(MembersAddress, "reform")
}

// unasked refuses a motion that takes the consent of a regulator by now, because of a call or a reform.
func unasked(contract ledger.Address, method string) error {
	return aborted(AbortStale, []any{contract, method}, "%s of %s takes a regulator's consent now, and did not when the motion was made: propose again what is still wanted", method, contract)
}

// about reports whether a reform changes something of an institution that has a regulator: its nodes, or who vouches for its people.
func (f *Reform) about(r Reader, regulators []ledger.Address) (bool, error) {
	var named []string
	for _, nodes := range [][]identity.NodeID{f.Dismiss, f.Add, f.Remove} {
		for _, id := range nodes {
			node, _, err := ReadNode(r, id)
			if err != nil {
				return false, err
			}
			named = append(named, node.Institution)
		}
	}
	for _, c := range f.Observe {
		named = append(named, c.Institution)
	}
	for _, t := range f.Trust {
		named = append(named, t.Institution)
	}
	for _, d := range f.Distrust {
		named = append(named, d.Institution)
	}
	for _, p := range f.Policies {
		named = append(named, p.Institution)
	}
	for _, n := range f.RealNames {
		named = append(named, n.Institution)
	}
	return ofRegulator(r, regulators, named)
}

// ofRegulator reports whether one of the institutions is that of a regulator.
func ofRegulator(r Reader, regulators []ledger.Address, institutions []string) (bool, error) {
	for _, address := range regulators {
		account, _, err := ReadAccount(r, address)
		if err != nil || slices.Contains(institutions, account.Institution) {
			return err == nil, err
		}
	}
	return false, nil
}

// touches reports whether an action is about a regulator, makes one, has a node of a regulator's institution frozen or let in again, or undoes what a
// regulator froze, or puts other code there.
func (a *Action) touches(env Env, regulators []ledger.Address) (bool, error) {
	// A regulator whose keys are lost or leaked could not consent to its own recovery. It may object to it as often as it wants.
	if !IsSystem(a.To) || a.To == AccountsAddress && slices.Contains([]string{"recover", "settle", "clear_leak"}, a.Method) {
		return false, nil
	}
	var touches bool
	var err error
	switch a.To {
	case AccessAddress:
		touches, err = a.touchesFreeze(env, regulators)
	case ContractsAddress:
		touches, err = a.touchesCode(env, regulators)
	}
	if touches || err != nil {
		return touches, err
	}
	return slices.ContainsFunc(regulators, func(r ledger.Address) bool { return bytes.Contains(a.Args, r[:]) }) ||
		a.To == AccessAddress && bytes.Contains(a.Args, []byte(identity.Regulator)), nil
}

// touchesFreeze is touches of a call of the access contract, as far as freezes go.
func (a *Action) touchesFreeze(env Env, regulators []ledger.Address) (bool, error) {
	var place FreezePlace // of whatever layer
	var ends int64        // block time at which the call ends a freeze that is there
	switch a.Method {
	case "freeze_node":
		var args FreezeNodeArgs
		if err := a.decode(&args); err != nil {
			return false, err
		}
		place, ends = NodePlace(args.Node), math.MaxInt64
	case "unfreeze_node":
		var args UnfreezeNodeArgs
		if err := a.decode(&args); err != nil {
			return false, err
		}
		place = NodePlace(args.Node)
	case "unfreeze":
		var args UnfreezeArgs
		if err := a.decode(&args); err != nil {
			return false, err
		}
		place.Address = args.Account
	case "unfreeze_contract":
		var args UnfreezeContractArgs
		if err := a.decode(&args); err != nil {
			return false, err
		}
		place.Address, place.Method = args.Contract, args.Method
	case "ratify":
		var args RatifyArgs
		if err := a.decode(&args); err != nil {
			return false, err
		}
		place.Address, place.Method, ends = args.Address, args.Method, args.Until
		if ends == 0 {
			ends = math.MaxInt64
		}
	default:
		return false, nil
	}
	if place.Method == nodeMethod {
		id, err := nodeAt(env, place)
		if err != nil {
			return false, err
		}
		if id != nil {
			node, _, err := ReadNode(env, *id)
			if err != nil {
				return false, err
			}
			if touches, err := ofRegulator(env, regulators, []string{node.Institution}); touches || err != nil {
				return touches, err
			}
		}
	}
	now := env.Order().UnixMilli
	for _, place.Layer = range []AccountStatus{FrozenByAuthority, FrozenByMotion} {
		f, holds, err := held(env, place, now)
		if err != nil {
			return false, err
		}
		if until := f.regulated(regulators); holds && now < until && ends < until {
			return true, nil
		}
	}
	return false, nil
}

// touchesCode is touches of a call of the contracts contract: code in place of what a regulator froze goes round the freeze.
func (a *Action) touchesCode(env Env, regulators []ledger.Address) (touches bool, err error) {
	var contract ledger.Address
	switch a.Method {
	case "replace":
		var args ReplaceArgs
		if err := a.decode(&args); err != nil {
			return false, err
		}
		contract = args.Address
	case "release":
		var args ReleaseArgs
		if err := a.decode(&args); err != nil {
			return false, err
		}
		release, _, err := ReadRelease(env, args.ID)
		if err != nil {
			return false, err
		}
		contract = release.Content.Contract
	}
	if contract == (ledger.Address{}) {
		return false, nil
	}
	now := env.Order().UnixMilli
	err = env.Range(FreezePlace{Address: contract, Layer: FrozenByAuthority}.key(), nil, 1+MaxFrozenMethods, func(_, value []byte) error {
		f, err := entryOf[Freeze](nil, value)
		touches = touches || err == nil && f.Holds(now) && now < f.regulated(regulators)
		return err
	})
	return touches, err
}

func (a *Action) decode(args any) error {
	if err := ledger.Unmarshal(a.Args, args); err != nil {
		return aborted(AbortArguments, nil, "arguments of %s: %v", a.Method, err)
	}
	return nil
}

// check refuses a call that could not be made.
func (a *Action) check(env Env) error {
	if a.Method == "" || len(a.Method) > maxMethodName {
		return aborted(AbortArguments, nil, "a method of %d bytes, want 1 to %d", len(a.Method), maxMethodName)
	}
	if !IsSystem(a.To) {
		d, found, err := ReadContract(env, a.To)
		if err != nil {
			return err
		}
		if !found {
			return aborted(AbortMissing, []any{a.To}, "no contract %s", a.To)
		}
		schema, err := chargedSchema(env, d.Code)
		if err != nil || schema == nil {
			return err
		}
		return a.fits(schema)
	}
	if a.To == GovernanceAddress && a.Method != "set_policy" && a.Method != "set_settings" {
		return aborted(AbortArguments, nil, "a motion does not call %s of the governance contract", a.Method)
	}
	if a.To == MembersAddress {
		return aborted(AbortArguments, nil, "a motion does not call %s of the members contract: what it changes of members is its reform", a.Method)
	}
	s := systemAt(a.To)
	if s == nil {
		return aborted(AbortMissing, []any{a.To}, "no contract %s", a.To)
	}
	if holds, err := methodHolds(env, a.To, a.Method); err != nil {
		return err
	} else if !holds {
		return noMethod(s.schema, a.Method)
	}
	if slices.Contains(s.own, a.Method) {
		return aborted(AbortArguments, nil, "%s of %s acts for the account that calls it, and a motion has none: have an account call it", a.Method, s.schema.Name)
	}
	return a.fits(s.schema)
}

func noMethod(s *ledger.Schema, method string) error {
	return aborted(AbortArguments, nil, "%s has no method %q that a transaction may call", s.Name, method)
}

func (a *Action) fits(s *ledger.Schema) error {
	m := s.Method(a.Method)
	if m == nil || m.Kind != ledger.MethodTx {
		return noMethod(s, a.Method)
	}
	if _, err := s.DecodeArgs(a.Method, a.Args); err != nil {
		return aborted(AbortArguments, nil, "arguments of %s: %v", a.Method, err)
	}
	return nil
}

// makeRoom returns the open motions that an institution proposed, deletes its void ones, and fails when it may not have
// another. The bound is each institution's own, and only its own motions are read, so that none can keep others from
// proposing.
func makeRoom(env Env, record *Record, s *Settings, institution string) ([]uint64, error) {
	ids, _, err := read[[]uint64](env, proposedKey(institution))
	if err != nil {
		return nil, err
	}
	open := []uint64{}
	for _, id := range ids {
		m, found, err := read[Motion](env, motionKey(id))
		if err == nil && found && m.Over(record, env.Order().UnixMilli) != "" {
			err = env.Delete(motionKey(id))
		} else if found {
			open = append(open, id)
		}
		if err != nil {
			return nil, err
		}
	}
	if len(open) >= int(s.Motions) {
		return nil, aborted(AbortMotion, []any{uint64(0)}, "%s has proposed the motions %d, which are open: carry one out or withdraw it", institution, open)
	}
	return open, nil
}

// VoteArgs are the arguments of the governance method vote.
type VoteArgs struct {
	_   struct{} `cbor:",toarray"`
	ID  uint64
	For bool
}

func vote(env Env, a VoteArgs) error {
	account, m, err := openMotion(env, a.ID)
	if err != nil {
		return err
	}
	if err := env.Approved([]AuditApproval{{Institution: account.Institution, Account: env.Caller(), For: a.For}}); err != nil {
		return err
	}
	at := m.voteOf(account.Institution)
	switch {
	case m.Decided != 0:
		return aborted(AbortUnchanged, nil, "motion %d is carried: `fondaco motion show %d` tells what it lacks", a.ID, a.ID)
	case at >= 0 && m.Votes[at].For == a.For:
		return aborted(AbortUnchanged, nil, "%s has voted so on motion %d already: `fondaco motion show %d` tells what it lacks", account.Institution, a.ID, a.ID)
	case at >= 0 && account.Institution == m.Proposer:
		return aborted(AbortUnchanged, nil, "%s proposed motion %d: it withdraws it, instead of voting against it", account.Institution, a.ID)
	case at >= 0:
		m.Votes = slices.Delete(m.Votes, at, at+1)
	}
	return cast(env, a.ID, m, account, a.For)
}

// cast adds a vote to a motion, writes it, and says what became of it.
func cast(env Env, id uint64, m *Motion, account *Account, yes bool) error {
	for i := range m.Needs {
		if k := m.Needs[i].Keys; k > 0 {
			if err := account.checkKeys(env, fmt.Sprintf("a vote on motion %d", id), k, env.Caller() == env.Origin(), env.Signers(), env.Order().UnixMilli); err != nil {
				return err
			}
		}
	}
	m.Votes = append(m.Votes, Vote{Institution: account.Institution, Account: env.Caller(), For: yes})
	if err := emit(env, "voted", id, account.Institution, yes); err != nil {
		return err
	}
	return decide(env, id, m)
}

// decide writes a motion, with the time if it is carried now, or deletes it if it is lost.
func decide(env Env, id uint64, m *Motion) error {
	carried, lost := m.Tally()
	topic := ""
	switch {
	case lost:
		if err := env.Delete(motionKey(id)); err != nil {
			return err
		}
		return emit(env, "lost", id)
	case carried && m.Decided == 0:
		topic = "carried"
		m.Decided, m.DecidedAt = env.Order().UnixMilli, env.Order().Height
	}
	if err := write(env, motionKey(id), m); err != nil || topic == "" {
		return err
	}
	return emit(env, topic, id)
}

// Tally reports whether a motion has the votes and the consent that it takes, and whether it can never have them.
func (m *Motion) Tally() (carried, lost bool) {
	carried = true
	for i := range m.Needs {
		enough, hopeless := m.Count(i).outcome(&m.Needs[i], m.Approval)
		carried = carried && enough && (m.Consent != nil || !m.Needs[i].Regulator)
		lost = lost || hopeless
	}
	all := m.count(nil)
	return carried && !lost && 100*(all.For+all.Against) >= uint64(m.Participation)*all.All, lost
}

// Count is how institutions voted. Weights, but for the last three.
type Count struct {
	For, Against, All                                uint64
	InstitutionsFor, InstitutionsAgainst, Electorate int
}

// Count returns how the institutions voted that count for one of the needs.
func (m *Motion) Count(need int) Count { return m.count(m.Needs[need].Institutions) }

func (m *Motion) count(among []string) (c Count) {
	for _, w := range m.Voters {
		if len(among) > 0 && !slices.Contains(among, w.Institution) {
			continue
		}
		c.All += uint64(w.Weight)
		c.Electorate++
		switch at := m.voteOf(w.Institution); {
		case at < 0:
		case m.Votes[at].For:
			c.For += uint64(w.Weight)
			c.InstitutionsFor++
		default:
			c.Against += uint64(w.Weight)
			c.InstitutionsAgainst++
		}
	}
	return c
}

// outcome reports whether votes are enough for a policy, and whether those that are missing cannot make them enough.
func (c Count) outcome(p *Policy, approval uint32) (enough, hopeless bool) {
	reached := func(weight uint64, institutions int) bool {
		switch p.Rule {
		case RuleCount:
			return institutions >= int(p.N)
		case RuleMajority:
			return 100*weight > uint64(approval)*c.All
		case RuleShare:
			return c.All > 0 && weight*uint64(p.Of) >= uint64(p.N)*c.All
		case RuleAll:
			return c.All > 0 && weight == c.All
		default:
			return false
		}
	}
	return reached(c.For, c.InstitutionsFor), !reached(c.All-c.Against, c.Electorate-c.InstitutionsAgainst)
}

// lock returns how long after the decision, in ms of block time and in blocks, a motion can be carried out at the earliest.
func (m *Motion) lock() (unixMilli int64, blocks uint64) {
	if m.takesBack() {
		return 0, 0
	}
	unixMilli = m.Window
	for i := range m.Needs {
		unixMilli, blocks = max(unixMilli, m.Needs[i].Lock), max(blocks, m.Needs[i].Blocks)
	}
	return unixMilli, blocks
}

// takesBack reports whether a motion does nothing but take features back that do not hold yet. It waits for no window and no lock: what the chain
// would stop for, because no release has it, is misspelt or comes too early, must be gone before its block.
func (m *Motion) takesBack() bool {
	return m.Reform == nil && !slices.ContainsFunc(m.Actions, func(a Action) bool {
		var args ActivateArgs
		return a.To != ConfigAddress || a.Method != "activate_feature" || ledger.Unmarshal(a.Args, &args) != nil || args.Height != 0
	})
}

// Due returns the block time, Unix ms, and the height from which on a motion that is carried can be carried out.
func (m *Motion) Due() (unixMilli int64, height ledger.Height) {
	after, blocks := m.lock()
	return m.Decided + after, m.DecidedAt + ledger.Height(blocks)
}

func consent(env Env, a MotionArgs) error {
	m, err := regulate(env, a.ID)
	if err != nil {
		return err
	}
	if m.Consent != nil {
		return aborted(AbortUnchanged, nil, "the regulator %s has consented to motion %d", m.Consent, a.ID)
	}
	by := env.Caller()
	m.Consent = &by
	if err := emit(env, "consented", a.ID, by); err != nil {
		return err
	}
	return decide(env, a.ID, m)
}

func veto(env Env, a MotionArgs) error {
	if _, err := regulate(env, a.ID); err != nil {
		return err
	}
	if err := env.Delete(motionKey(a.ID)); err != nil {
		return err
	}
	return emit(env, "vetoed", a.ID, env.Caller())
}

// regulate returns an open motion, about which the caller may say something as a regulator.
func regulate(env Env, id uint64) (*Motion, error) {
	account, err := callerAccount(env, GovernanceAddress)
	if err != nil {
		return nil, err
	}
	if !account.Has(identity.Regulator) {
		return nil, denied(DeniedRole, "only an account with the role regulator consents to motions, or objects to them")
	}
	record, err := readRecord(env)
	if err != nil {
		return nil, err
	}
	return findMotion(env, &record, id, env.Order().UnixMilli)
}

func withdraw(env Env, a MotionArgs) error {
	account, m, err := openMotion(env, a.ID)
	if err != nil {
		return err
	}
	at := m.voteOf(account.Institution)
	switch {
	case m.Proposer == account.Institution:
		// Whatever others think of it: what they are for could else take the proposer's room for ever.
		err = env.Delete(motionKey(a.ID))
	case at < 0:
		return aborted(AbortUnchanged, nil, "%s has not voted on motion %d, so there is nothing to take back", account.Institution, a.ID)
	case m.Decided != 0:
		return aborted(AbortUnchanged, nil, "motion %d is carried, and no vote on it is taken back", a.ID)
	default:
		m.Votes = slices.Delete(m.Votes, at, at+1)
		err = write(env, motionKey(a.ID), m)
	}
	if err != nil {
		return err
	}
	return emit(env, "withdrawn", a.ID, account.Institution)
}

// ReadyArgs are the arguments of the governance method ready.
type ReadyArgs struct {
	_         struct{} `cbor:",toarray"`
	ID        uint64
	Node      []byte
	Signature []byte
}

func ready(env Env, a ReadyArgs) error {
	if _, err := callerAccount(env, GovernanceAddress); err != nil {
		return err
	}
	record, err := readRecord(env)
	if err != nil {
		return err
	}
	m, err := findMotion(env, &record, a.ID, env.Order().UnixMilli)
	if err != nil {
		return err
	}
	if len(a.Node) != len(identity.NodeID{}) || !slices.Contains(m.Adds(), identity.NodeID(a.Node)) {
		return aborted(AbortArguments, nil, "motion %d does not add the node 0x%x: `fondaco motion show %d` lists those that it adds", a.ID, a.Node, a.ID)
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

// Adds returns the nodes that a motion makes members.
func (m *Motion) Adds() []identity.NodeID {
	if m.Reform == nil {
		return nil
	}
	return m.Reform.Add
}

// speaker returns the caller's account, which speaks for an institution that has a member, and the members in force.
func speaker(env Env) (*Account, *Record, error) {
	account, err := callerAccount(env, GovernanceAddress)
	if err != nil {
		return nil, nil, err
	}
	record, err := readRecord(env)
	if err != nil {
		return nil, nil, err
	}
	return &account, &record, mayVote(&record, &account)
}

// openMotion returns what speaker does, and a motion that is open, which its institution votes on.
func openMotion(env Env, id uint64) (*Account, *Motion, error) {
	account, record, err := speaker(env)
	if err != nil {
		return nil, nil, err
	}
	m, err := findMotion(env, record, id, env.Order().UnixMilli)
	return account, m, err
}

func findMotion(r Reader, record *Record, id uint64, unixMilli int64) (*Motion, error) {
	m, found, err := read[Motion](r, motionKey(id))
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, aborted(AbortMotion, []any{id}, "there is no motion %d, or no more: `fondaco motion list` prints the open ones", id)
	}
	if why := m.Over(record, unixMilli); why != "" {
		return nil, aborted(AbortMotion, []any{id}, "motion %d %s", id, why)
	}
	return &m, nil
}

// Over says why nothing can come of a motion any more at a block time, in words that follow its number, or returns nothing.
// What a reform would change is not what was voted on once another reform was carried out. Other motions are over once other
// institutions have members than when they were made.
func (m *Motion) Over(record *Record, unixMilli int64) string {
	switch {
	case unixMilli > m.Expires:
		return fmt.Sprintf("expired at block time %d: propose it again", m.Expires)
	case m.Reform != nil && m.Epoch < record.Reformed:
		return fmt.Sprintf("was made in epoch %d, and another was carried out since: propose it again", m.Epoch)
	case !slices.EqualFunc(m.Voters, MemberInstitutions(record.Members), func(w Weight, name string) bool { return w.Institution == name }):
		return fmt.Sprintf("was made in epoch %d, and other institutions have members since: propose it again", m.Epoch)
	}
	return ""
}

func (m *Motion) voteOf(institution string) int {
	return slices.IndexFunc(m.Votes, func(v Vote) bool { return v.Institution == institution })
}

func (m *Motion) isReady(node identity.NodeID) bool {
	return slices.ContainsFunc(m.Ready, func(r Readiness) bool { return r.Node == node })
}

// mayVote checks that an account speaks for an institution that has a member.
func mayVote(record *Record, account *Account) error {
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

// MayActivate says why a call of activate with these arguments by an account would change nothing in a block of a
// time in Unix ms and a height, on a state, or returns nil. Nobody puts a transaction that it refuses into a block, so that only
// what institutions agreed on ends an epoch. What the motion calls besides its reform is not looked at.
func MayActivate(r Reader, s keys.Suite, account *Account, args []byte, unixMilli int64, height ledger.Height) error {
	var a MotionArgs
	if err := ledger.Unmarshal(args, &a); err != nil {
		return aborted(AbortArguments, nil, "%v", err)
	}
	record, err := readRecord(r)
	if err != nil {
		return err
	}
	if err := mayVote(&record, account); err != nil {
		return err
	}
	m, err := findMotion(r, &record, a.ID, unixMilli)
	if err != nil {
		return err
	}
	if err := m.due(r, a.ID, unixMilli, height); err != nil {
		return err
	}
	if m.Reform == nil {
		return aborted(AbortArguments, nil, "motion %d reforms nothing: it is carried out with execute", a.ID)
	}
	_, err = after(r, s, &record, m.Reform, unixMilli)
	return err
}

// due says what a motion lacks to be carried out in a block of a time and height, or returns nil.
func (m *Motion) due(r Reader, id uint64, unixMilli int64, height ledger.Height) error {
	if m.Decided == 0 {
		c := m.count(nil)
		return aborted(AbortSupport, []any{uint32(c.InstitutionsFor), uint32(c.Electorate)},
			"motion %d is not carried: %d of %d institutions are for it; `fondaco motion show %d` tells what it lacks", id, c.InstitutionsFor, c.Electorate, id)
	}
	if err := m.current(r); err != nil {
		return err
	}
	for _, node := range m.Adds() {
		if !m.isReady(node) {
			return aborted(AbortSupport, []any{uint32(len(m.Ready)), uint32(len(m.Adds()))},
				"node %s has not stated that it is synced: its operator runs `fondaco motion ready %d -d DIR --from ACCOUNT --key FILE`, of any account, on its machine", node, id)
		}
	}
	if until, from := m.Due(); unixMilli < until || height < from {
		return aborted(AbortLocked, []any{until, from}, "motion %d is carried, and not to be carried out before block time %s and block %d", id, timeText(until), from)
	}
	return nil
}

// tellVotes keeps the votes on a motion, and the regulator's consent, in the record of a call.
func (m *Motion) tellVotes(env Env) error {
	by := make([]AuditApproval, 0, len(m.Votes)+1)
	for _, v := range m.Votes {
		by = append(by, AuditApproval{Institution: v.Institution, Account: v.Account, For: v.For})
	}
	if m.Consent != nil {
		a, err := approvalOf(env, *m.Consent)
		if err != nil {
			return err
		}
		by = append(by, a)
	}
	return env.Approved(by)
}

// approvalOf returns that an account was for something, for the institution that it has now.
func approvalOf(env Env, account ledger.Address) (AuditApproval, error) {
	row, _, err := ReadAccount(env, account)
	return AuditApproval{Institution: row.Institution, Account: account, For: true}, err
}

// checkConsent refuses a motion without a regulator's consent one of whose calls takes one by now, since a regulator froze what it would set free, or whom it is about
// has become a regulator; as current does of its reform.
func (m *Motion) checkConsent(env Env) error {
	if m.Consent != nil {
		return nil
	}
	regulators, err := ReadRegulators(env)
	if err != nil || len(regulators) == 0 {
		return err
	}
	for _, a := range m.Actions {
		if touches, err := a.touches(env, regulators); err != nil {
			return err
		} else if touches {
			return unasked(a.To, a.Method)
		}
	}
	return nil
}

// execute and activate differ in that the block in which activate is called ends its epoch, which everybody must be able to tell
// from the transaction alone.
func execute(env Env, a MotionArgs) error { return carryOut(env, a.ID, false) }

func activate(env Env, a MotionArgs) error {
	if env.Caller() != env.Origin() {
		return denied(DeniedDirect, "activate is called by a transaction only, and not by contract %s", env.Caller())
	}
	return carryOut(env, a.ID, true)
}

func carryOut(env Env, id uint64, reforms bool) error {
	account, err := callerAccount(env, GovernanceAddress)
	if err != nil {
		return err
	}
	record, err := readRecord(env)
	if err != nil {
		return err
	}
	if err := mayVote(&record, &account); err != nil {
		return err
	}
	m, err := findMotion(env, &record, id, env.Order().UnixMilli)
	if err != nil {
		return err
	}
	if err := m.tellVotes(env); err != nil {
		return err
	}
	if err := m.due(env, id, env.Order().UnixMilli, env.Order().Height); err != nil {
		return err
	}
	if has := m.Reform != nil; has != reforms {
		want := "execute"
		if has {
			want = "activate"
		}
		return aborted(AbortArguments, nil, "motion %d is carried out with %s", id, want)
	}
	if err := m.checkConsent(env); err != nil {
		return err
	}
	if err := env.Delete(motionKey(id)); err != nil { // so that nothing that it calls finds it open
		return err
	}
	if reforms {
		args, err := ledger.Marshal(&ReformArgs{Reform: *m.Reform})
		if err != nil {
			return fmt.Errorf("encode a reform: %w", err)
		}
		if _, err := env.Invoke(MembersAddress, "reform", args); err != nil {
			return err // one of the codes that propose gives, too
		}
	}
	for i, action := range m.Actions {
		_, err := env.Invoke(action.To, action.Method, action.Args)
		if e, ok := refusal(err); ok {
			return aborted(AbortAction, []any{uint32(i), action.To, action.Method, uint8(e.Status), e.Code}, "call %d of motion %d, %s of %s: %v", i, id, action.Method, action.To, e)
		}
		if err != nil {
			return err
		}
	}
	return emit(env, "executed", id, env.Caller())
}
