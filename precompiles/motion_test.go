package precompiles

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/keys/keystest"
	"github.com/fondaco/fondaco/state/ledger"
)

// assembly is a world of n members, each of an institution bank-0, bank-1… with an account of the role committee.
type assembly struct {
	*world
	t       *testing.T
	members []identity.NodeID
}

func newAssembly(t *testing.T, n int) *assembly {
	t.Helper()
	g := &ledger.Genesis{
		Version: ledger.Version, Name: "test", Suite: keystest.Suite().Name(), Group: "main", Engine: "pbft", UnixMilli: 1_000, Params: ledger.DefaultParams(),
		Accounts: []ledger.GenesisAccount{{Name: "user", Institution: "bank-0", Keys: []ledger.Key{newKey(t, 900)}}},
	}
	a := &assembly{t: t}
	for i := range n {
		key := newKey(t, uint64(100+i))
		name := fmt.Sprintf("bank-%d", i)
		g.Members = append(g.Members, ledger.Member{Node: nodeOf(t, key), Institution: name, Key: key})
		a.members = append(a.members, nodeOf(t, key))
		g.Accounts = append(g.Accounts, ledger.GenesisAccount{Name: name, Institution: name, Roles: []string{"committee", "institution-admin"}, Keys: []ledger.Key{newKey(t, uint64(i))}})
	}
	changes, err := Genesis(keystest.Suite(), g)
	if err != nil {
		t.Fatal(err)
	}
	a.world = &world{state: map[string][]byte{}, order: ledger.Order{Chain: keys.Digest{9}, Group: "main", Height: 7, UnixMilli: 5_000}}
	for _, c := range changes {
		a.state[string(c.Key)] = c.Value
	}
	return a
}

func nodeOf(t *testing.T, key ledger.Key) identity.NodeID {
	t.Helper()
	public, err := keystest.Suite().ParsePublic(key.Algorithm, key.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return identity.NodeIDOf(keystest.Suite(), public)
}

// by calls a method as an institution's account, or as the account of another name.
func (a *assembly) by(caller, method string, args any) error {
	a.caller = name(caller)
	_, err := a.call(newGovernance(), method, args)
	return err
}

// propose makes a motion as bank-0 and returns its id.
func (a *assembly) propose(f Reform) (uint64, error) {
	a.caller = name("bank-0")
	out, err := a.call(newGovernance(), "propose", ProposeArgs{Reform: &f})
	if err != nil {
		return 0, err
	}
	var id uint64
	return id, ledger.Unmarshal(out, &id)
}

// motion returns one that is on the chain.
func (a *assembly) motion(id uint64) Motion {
	a.t.Helper()
	m, found, err := read[Motion](a, motionKey(id))
	if err != nil || !found {
		a.t.Fatalf("motion %d: found %t, %v", id, found, err)
	}
	return m
}

// voteFor has institutions vote for a motion, in the order of their numbers, until it is carried.
func (a *assembly) voteFor(id uint64) {
	a.t.Helper()
	for i := 1; i < len(a.members); i++ {
		if m := a.motion(id); m.Decided != 0 {
			return
		}
		if err := a.by(fmt.Sprintf("bank-%d", i), "vote", VoteArgs{ID: id, For: true}); err != nil {
			a.t.Fatal(err)
		}
	}
}

// pass proposes, has as many vote for it as it takes, activates and begins the next epoch.
func (a *assembly) pass(f Reform) {
	a.t.Helper()
	id, err := a.propose(f)
	if err != nil {
		a.t.Fatal(err)
	}
	a.voteFor(id)
	for _, node := range f.Add {
		if err := a.stateReady(id, node); err != nil {
			a.t.Fatal(err)
		}
	}
	a.wait(id)
	if err := a.by("bank-0", "activate", MotionArgs{ID: id}); err != nil {
		a.t.Fatal(err)
	}
	a.endEpoch()
}

// wait has time and blocks pass until a motion that is carried can be carried out.
func (a *assembly) wait(id uint64) {
	a.t.Helper()
	m := a.motion(id)
	until, height := m.Due()
	a.order.UnixMilli, a.order.Height = max(a.order.UnixMilli, until), max(a.order.Height, height)
}

func (a *assembly) endEpoch() {
	a.t.Helper()
	_, writes, err := EndEpoch(a, a.order.Height)
	if err != nil {
		a.t.Fatal(err)
	}
	for _, w := range writes {
		a.state[string(w.Key)] = w.Value
	}
}

// joiner is the key of the observer that tests admit.
func joiner(t *testing.T) keys.Signer {
	t.Helper()
	signer, err := keystest.Suite().Generate(keystest.Suite().Vote(), rand.NewChaCha8([32]byte{77}))
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

// admission founds bank-new and admits its node.
func admission(t *testing.T) (Reform, identity.NodeID) {
	t.Helper()
	key := ledger.KeyOf(joiner(t).Public())
	return Reform{
		Found:   []Founding{{Name: "bank-new", Key: newKey(t, 500)}},
		Observe: []Candidate{{Institution: "bank-new", Key: key, Address: "127.0.0.1:9540"}},
	}, nodeOf(t, key)
}

// stateReady brings the joiner's statement for a node.
func (a *assembly) stateReady(id uint64, node identity.NodeID) error {
	record, err := readRecord(a)
	if err != nil {
		return err
	}
	m, err := findMotion(a, &record, id, a.order.UnixMilli)
	if err != nil {
		return err
	}
	signature, err := joiner(a.t).Sign(ReadyDigest(keystest.Suite(), a.order.Chain, a.order.Group, id, m, node))
	if err != nil {
		return err
	}
	return a.by("user", "ready", ReadyArgs{ID: id, Node: node[:], Signature: signature})
}

func (a *assembly) epoch() ledger.Epoch {
	a.t.Helper()
	e, err := ReadEpoch(a)
	if err != nil {
		a.t.Fatal(err)
	}
	return e
}

func (a *assembly) status(id identity.NodeID) NodeStatus {
	a.t.Helper()
	n, found, err := ReadNode(a, id)
	if err != nil || !found {
		a.t.Fatalf("node %s: found %t, %v", id, found, err)
	}
	return n.Status
}

func TestReplaceMember(t *testing.T) {
	a := newAssembly(t, 4)
	admit, node := admission(t)
	a.pass(admit)
	if e := a.epoch(); e.Number != 1 || len(e.Members) != 4 || a.status(node) != NodeObserver {
		t.Fatalf("after admission: epoch %d of %d members, node is %s", e.Number, len(e.Members), a.status(node))
	}
	account := ledger.AssignedAddress(keystest.Suite(), ledger.TxID{1}, 1)
	if first := a.account(t, account); first.Institution != "bank-new" || !first.HasAny("committee") {
		t.Errorf("the first account of the institution: %+v", first)
	}
	a.pass(Reform{Add: []identity.NodeID{node}, Remove: []identity.NodeID{a.members[1]}})
	e := a.epoch()
	if e.Number != 2 || len(e.Members) != 4 || e.Members[3].Node != node || e.Members[1].Node != a.members[2] {
		t.Fatalf("after the replacement: %+v", e)
	}
	if a.status(node) != NodeMember || a.status(a.members[1]) != NodeRetired {
		t.Errorf("joiner is %s, the other %s", a.status(node), a.status(a.members[1]))
	}
	if b, found, err := ReadBeginning(a, 2); err != nil || !found || b.Epoch.Hash(keystest.Suite()) != e.Hash(keystest.Suite()) || b.Height != a.order.Height {
		t.Errorf("beginning of epoch 2: %+v, %t, %v", b, found, err)
	}
	// A retired member is never a member again; it may be sent away.
	_, err := a.propose(Reform{Add: []identity.NodeID{a.members[1]}})
	wantError(t, err, ledger.Aborted, AbortReform)
	// The institution that left has no say, the one that came has.
	wantError(t, a.by("bank-1", "vote", VoteArgs{ID: 9, For: true}), ledger.Denied, DeniedInstitution)
	id, err := a.propose(Reform{Dismiss: []identity.NodeID{a.members[1]}})
	wantError(t, err, ledger.OK, 0)
	wantError(t, a.by("bank-1", "vote", VoteArgs{ID: id, For: true}), ledger.Denied, DeniedInstitution)
	a.caller = account
	_, err = a.call(newGovernance(), "vote", VoteArgs{ID: id, For: true})
	wantError(t, err, ledger.OK, 0)
}

func TestMotionSupport(t *testing.T) {
	a := newAssembly(t, 4)
	params := ledger.DefaultParams()
	params.BatchDelay = 5
	_, err := a.call(newGovernance(), "propose", ProposeArgs{})
	wantError(t, err, ledger.Denied, DeniedAccount)
	wantError(t, a.by("user", "propose", ProposeArgs{Reform: &Reform{Params: &params}}), ledger.Denied, DeniedRole)
	id, err := a.propose(Reform{Params: &params})
	wantError(t, err, ledger.OK, 0)
	wantError(t, a.by("bank-0", "vote", VoteArgs{ID: id, For: true}), ledger.Aborted, AbortUnchanged)
	wantError(t, a.by("bank-1", "vote", VoteArgs{ID: id, For: true}), ledger.OK, 0)
	wantError(t, a.by("bank-1", "activate", MotionArgs{ID: id}), ledger.Aborted, AbortSupport) // two of four are not more than half
	account := a.account(t, name("bank-1"))
	args := mustMarshal(t, MotionArgs{ID: id})
	wantError(t, MayActivate(a, keystest.Suite(), &account, args, a.order.UnixMilli, a.order.Height), ledger.Aborted, AbortSupport)
	wantError(t, a.by("bank-1", "withdraw", MotionArgs{ID: id}), ledger.OK, 0)
	wantError(t, a.by("bank-1", "withdraw", MotionArgs{ID: id}), ledger.Aborted, AbortUnchanged)
	wantError(t, a.by("bank-1", "vote", VoteArgs{ID: id}), ledger.OK, 0)
	wantError(t, a.by("bank-2", "vote", VoteArgs{ID: id, For: true}), ledger.OK, 0)
	wantError(t, MayActivate(a, keystest.Suite(), &account, args, a.order.UnixMilli, a.order.Height), ledger.Aborted, AbortSupport)
	wantError(t, a.by("bank-3", "vote", VoteArgs{ID: id, For: true}), ledger.OK, 0)
	wantError(t, MayActivate(a, keystest.Suite(), &account, args, a.order.UnixMilli, a.order.Height), ledger.OK, 0)
	wantError(t, a.by("bank-1", "vote", VoteArgs{ID: id, For: true}), ledger.Aborted, AbortUnchanged) // it is decided
	wantError(t, a.by("bank-2", "withdraw", MotionArgs{ID: id}), ledger.Aborted, AbortUnchanged)
	wantError(t, a.by("user", "activate", MotionArgs{ID: id}), ledger.Denied, DeniedRole)
	wantError(t, a.by("bank-3", "activate", MotionArgs{ID: id}), ledger.OK, 0)
	if e := a.epoch(); e.Number != 0 || e.Params.BatchDelay != 5 {
		t.Errorf("activate left epoch %d with a delay of %d: only the end of the block counts epochs", e.Number, e.Params.BatchDelay)
	}
	wantError(t, a.by("bank-3", "activate", MotionArgs{ID: id}), ledger.Aborted, AbortMotion)

	a.endEpoch()

	// A motion outlives an epoch that ends for nothing. It is void when another is carried out, and makes room for others.
	for i := range int(DefaultSettings().Motions) {
		params.BatchDelay = int64(6 + i)
		id, err = a.propose(Reform{Params: &params})
		wantError(t, err, ledger.OK, 0)
	}
	_, err = a.propose(Reform{Params: &params})
	wantError(t, err, ledger.Aborted, AbortMotion)
	wantError(t, a.by("bank-1", "vote", VoteArgs{ID: id, For: true}), ledger.OK, 0)
	a.endEpoch()
	wantError(t, MayActivate(a, keystest.Suite(), &account, mustMarshal(t, MotionArgs{ID: id}), a.order.UnixMilli, a.order.Height), ledger.Aborted, AbortSupport)
	wantError(t, a.by("bank-2", "vote", VoteArgs{ID: id, For: true}), ledger.OK, 0)
	_, err = a.propose(Reform{Params: &params})
	wantError(t, err, ledger.Aborted, AbortMotion)
	wantError(t, a.by("bank-0", "activate", MotionArgs{ID: id}), ledger.OK, 0)
	a.endEpoch()
	wantError(t, a.by("bank-1", "vote", VoteArgs{ID: id - 1, For: true}), ledger.Aborted, AbortMotion)
	params.BatchDelay = 99
	_, err = a.propose(Reform{Params: &params})
	wantError(t, err, ledger.OK, 0)
	if all, err := motions(a, MotionsArgs{}); err != nil || len(all) != 1 {
		t.Errorf("%d motions are kept, %v", len(all), err)
	}
}

// An institution fills its own room only, and can empty it, whoever approves of what is in it.
func TestMotionRoom(t *testing.T) {
	a := newAssembly(t, 4)
	params := ledger.DefaultParams()
	params.BatchDelay = 5
	reform := Reform{Params: &params}
	for bank := range a.members {
		for range int(DefaultSettings().Motions) {
			wantError(t, a.by(fmt.Sprintf("bank-%d", bank), "propose", ProposeArgs{Reform: &reform}), ledger.OK, 0)
		}
		wantError(t, a.by(fmt.Sprintf("bank-%d", bank), "propose", ProposeArgs{Reform: &reform}), ledger.Aborted, AbortMotion)
	}
	wantError(t, a.by("bank-1", "vote", VoteArgs{ID: 1, For: true}), ledger.OK, 0)
	wantError(t, a.by("bank-1", "vote", VoteArgs{ID: 2, For: true}), ledger.OK, 0)
	wantError(t, a.by("bank-1", "withdraw", MotionArgs{ID: 2}), ledger.OK, 0)
	wantError(t, a.by("bank-2", "vote", VoteArgs{ID: 2, For: true}), ledger.OK, 0)
	wantError(t, a.by("bank-0", "withdraw", MotionArgs{ID: 1}), ledger.OK, 0)
	wantError(t, a.by("bank-1", "vote", VoteArgs{ID: 1, For: true}), ledger.Aborted, AbortMotion)
	_, err := a.propose(reform)
	wantError(t, err, ledger.OK, 0)
	_, err = a.propose(reform)
	wantError(t, err, ledger.Aborted, AbortMotion)

	// One that was carried out takes no room either.
	wantError(t, a.by("bank-1", "vote", VoteArgs{ID: 2, For: true}), ledger.OK, 0)
	wantError(t, a.by("bank-1", "activate", MotionArgs{ID: 2}), ledger.OK, 0)
	a.endEpoch()
	params.BatchDelay = 6
	for range int(DefaultSettings().Motions) {
		_, err = a.propose(reform)
		wantError(t, err, ledger.OK, 0)
	}
}

func TestReadiness(t *testing.T) {
	a := newAssembly(t, 4)
	admit, node := admission(t)
	a.pass(admit)
	id, err := a.propose(Reform{Add: []identity.NodeID{node}})
	wantError(t, err, ledger.OK, 0)
	for _, by := range []string{"bank-1", "bank-2"} {
		wantError(t, a.by(by, "vote", VoteArgs{ID: id, For: true}), ledger.OK, 0)
	}
	wantError(t, a.by("bank-0", "activate", MotionArgs{ID: id}), ledger.Aborted, AbortSupport)
	wantError(t, a.by("user", "ready", ReadyArgs{ID: id, Node: node[:], Signature: make([]byte, 64)}), ledger.Aborted, AbortKey)
	wantError(t, a.by("user", "ready", ReadyArgs{ID: id, Node: a.members[1][:]}), ledger.Aborted, AbortArguments)
	wantError(t, a.stateReady(id, node), ledger.OK, 0)
	wantError(t, a.stateReady(id, node), ledger.Aborted, AbortUnchanged)
	// The statement is bound to its motion.
	other, err := a.propose(Reform{Add: []identity.NodeID{node}})
	wantError(t, err, ledger.OK, 0)
	record, _ := readRecord(a)
	m, _ := findMotion(a, &record, id, a.order.UnixMilli)
	wantError(t, a.by("user", "ready", ReadyArgs{ID: other, Node: node[:], Signature: m.Ready[0].Signature}), ledger.Aborted, AbortKey)
	wantError(t, a.by("bank-0", "activate", MotionArgs{ID: id}), ledger.OK, 0)
	if e := a.epoch(); len(e.Members) != 5 {
		t.Errorf("%d members", len(e.Members))
	}
}

func TestRefusedReforms(t *testing.T) {
	a := newAssembly(t, 4)
	admit, node := admission(t)
	with := func(change func(*ledger.Params)) Reform {
		p := ledger.DefaultParams()
		change(&p)
		return Reform{Params: &p}
	}
	refused := []struct {
		story  string
		reform Reform
		code   uint32
	}{
		{"nothing", Reform{}, AbortUnchanged},
		{"the parameters that are", with(func(*ledger.Params) {}), AbortUnchanged},
		{"fewer than four members", Reform{Remove: a.members[:1]}, AbortReform},
		{"two members of four at once", Reform{Remove: a.members[:2], Override: "why not"}, AbortReform},
		{"a member twice", Reform{Remove: []identity.NodeID{a.members[0], a.members[0]}, Override: "why not"}, AbortReform},
		{"a stranger becomes a member", Reform{Add: []identity.NodeID{node}}, AbortReform},
		{"a member becomes a member", Reform{Add: a.members[:1]}, AbortReform},
		{"a member is dismissed", Reform{Dismiss: a.members[:1]}, AbortReform},
		{"an observer of an unknown institution", Reform{Observe: admit.Observe}, AbortInstitution},
		{"an institution again", Reform{Found: []Founding{{Name: "bank-1", Key: newKey(t, 1)}}}, AbortReform},
		{"a member's key again", Reform{Observe: []Candidate{{Institution: "bank-1", Key: newKey(t, 101), Address: "h:1"}}}, AbortReform},
		{"no address", Reform{Observe: []Candidate{{Institution: "bank-1", Key: newKey(t, 300), Address: "nowhere"}}}, AbortReform},
		{"too long a list", Reform{Dismiss: slices.Repeat(a.members[:1], MaxReform+1)}, AbortReform},
		{"window 0", with(func(p *ledger.Params) { p.Window = 0 }), AbortReform},
		{"window 17", with(func(p *ledger.Params) { p.Window = 17 }), AbortReform},
		{"no gas for motions", with(func(p *ledger.Params) { p.TxGas = 1_000 }), AbortReform},
		{"another gas table", with(func(p *ledger.Params) { p.Costs = 2 }), AbortReform},
		{"transactions expire at once", with(func(p *ledger.Params) { p.MaxLifetime = 1 }), AbortReform},
		{"clocks to the millisecond", with(func(p *ledger.Params) { p.ClockSkew = 1 }), AbortReform},
		{"heartbeats slower than patience", with(func(p *ledger.Params) { p.HeartbeatTime = 2_000 }), AbortReform},
	}
	for _, c := range refused {
		if _, err := a.propose(c.reform); err == nil {
			t.Errorf("%s: accepted", c.story)
		} else if e, ok := errors.AsType[*Error](err); !ok || e.Code != c.code {
			t.Errorf("%s: %v, want code %d", c.story, err, c.code)
		}
	}
	if _, err := a.propose(Reform{Remove: a.members[:1], Override: "the bank was wound up"}); err != nil {
		t.Errorf("with a reason: %v", err)
	}
	small := newAssembly(t, 2)
	if _, err := small.propose(Reform{Remove: small.members[:1]}); err == nil {
		t.Error("a group of two shrank")
	}
	// Institutions without the role must not outnumber those with it.
	deaf := newAssembly(t, 5)
	leave := Reform{Remove: deaf.members[:1], Override: "why not"}
	_, err := deaf.propose(leave)
	wantError(t, err, ledger.OK, 0)
	for _, bank := range []string{"bank-1", "bank-2"} {
		deaf.caller = name(bank)
		_, err := deaf.call(newAccounts(), "report_leak", AddressArgs{Address: name(bank)})
		wantError(t, err, ledger.OK, 0)
	}
	_, err = deaf.propose(leave)
	wantError(t, err, ledger.Aborted, AbortReform)
}

// relayed is a world in which a contract calls: the caller is not who sent the transaction.
type relayed struct{ *assembly }

func (relayed) Origin() ledger.Address { return name("somebody") }

func TestActivateDirect(t *testing.T) {
	a := newAssembly(t, 4)
	params := ledger.DefaultParams()
	params.BatchDelay = 5
	id, err := a.propose(Reform{Params: &params})
	wantError(t, err, ledger.OK, 0)
	for _, by := range []string{"bank-1", "bank-2"} {
		wantError(t, a.by(by, "vote", VoteArgs{ID: id, For: true}), ledger.OK, 0)
	}
	_, err = newGovernance().Invoke(relayed{a}, "activate", mustMarshal(t, MotionArgs{ID: id}))
	wantError(t, err, ledger.Denied, DeniedDirect)
	tx := ledger.Tx{To: ledger.Target{Address: GovernanceAddress}, Method: "activate"}
	if !Activates(&tx) {
		t.Error("a direct call of activate is not seen")
	}
	tx.Method = "execute"
	if Activates(&tx) {
		t.Error("execute ends epochs")
	}
}
