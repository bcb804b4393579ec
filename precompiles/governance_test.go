package precompiles

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

var (
	governCalls = flag.Int("govern", 10_000, "random calls of TestGovernanceHolds")
	governSeed  = flag.Uint64("govern-seed", 1, "what they are drawn from")
)

// parliament is an assembly with a regulator and accounts that may get roles.
type parliament struct {
	*assembly
	rng      *rand.Rand
	accounts []ledger.Address // those of the committees come first
	done     map[string]int   // calls that had an effect, by method
	spare    []ledger.Key     // that accounts rotate to
	quit     map[string]bool  // institutions whose last voice reported a leak of itself
}

func newParliament(t *testing.T, members int, seed uint64) *parliament {
	t.Helper()
	p := &parliament{assembly: newAssembly(t, members), rng: rand.New(rand.NewPCG(seed, 2)), done: map[string]int{}, quit: map[string]bool{}}
	for i := range 64 {
		p.spare = append(p.spare, newKey(t, uint64(3_000+i)))
	}
	for i := range members {
		p.accounts = append(p.accounts, name(fmt.Sprintf("bank-%d", i)))
	}
	for i := range members {
		p.caller = p.accounts[i]
		account := func(n int) NewAccount {
			return NewAccount{Threshold: 1, Roles: []string{}, Keys: []AccountKey{bound(newKey(t, uint64(2_000+10*i+n)))}}
		}
		out, err := p.call(newAccounts(), "register", RegisterArgs{Institution: fmt.Sprintf("bank-%d", i), Accounts: []NewAccount{account(0), account(1)}})
		wantError(t, err, ledger.OK, 0)
		var made []ledger.Address
		if err := ledger.Unmarshal(out, &made); err != nil {
			t.Fatal(err)
		}
		p.accounts = append(p.accounts, made...)
	}
	p.caller = GovernanceAddress
	_, err := p.call(newAccess(), "grant", RoleArgs{Account: p.accounts[members], Role: string(identity.Regulator)})
	wantError(t, err, ledger.OK, 0)
	return p
}

// does calls a method as an account, and counts it if it had an effect.
func (p *parliament) does(by ledger.Address, c Contract, method string, args any) error {
	p.caller = by
	_, err := p.call(c, method, args)
	if err == nil {
		p.done[method]++
	} else if _, ok := errors.AsType[*Error](err); !ok {
		p.t.Fatalf("%s: %v is no *Error", method, err)
	}
	return err
}

func pick[T any](r *rand.Rand, all []T) T { return all[r.IntN(len(all))] }

func (p *parliament) policy() *Policy {
	r := p.rng
	if r.IntN(6) == 0 {
		return nil
	}
	q := &Policy{Rule: Rule(r.IntN(8)), Regulator: r.IntN(2) == 0, Keys: pick(r, []uint32{0, 0, 1, 2})}
	switch q.Rule {
	case RuleCount:
		q.N = uint32(r.IntN(8))
	case RuleShare:
		q.N, q.Of = uint32(r.IntN(5)), uint32(r.IntN(6))
	case RuleAny:
		q.Roles = pick(r, [][]string{nil, {"committee"}, {"operator"}, {"regulator"}})
	default:
	}
	if r.IntN(3) == 0 {
		q.Institutions = []string{fmt.Sprintf("bank-%d", r.IntN(8))}
	}
	if r.IntN(3) == 0 {
		q.Lock, q.Blocks = r.Int64N(2*MaxLock), r.Uint64N(2_000)
	}
	return q
}

func (p *parliament) action() Action {
	r := p.rng
	raw := func(v any) []byte { return mustMarshal(p.t, v) }
	switch r.IntN(5) {
	case 4: // features are decided on by name, known or not, and taken back
		a := ActivateArgs{Feature: pick(r, []string{"visibility", "visibilty", "later"})}
		if r.IntN(2) == 0 {
			a.Height, a.Release = uint64(p.order.Height)+r.Uint64N(3_000), "9"
		}
		return Action{To: ConfigAddress, Method: "activate_feature", Args: raw(a)}
	case 0:
		c := pick(r, All())
		m := pick(r, c.Schema().Methods).Name
		if r.IntN(2) == 0 {
			v := pick(r, vital())
			return Action{To: GovernanceAddress, Method: "set_policy", Args: raw(SetPolicyArgs{Contract: v.contract, Method: v.method, Policy: p.policy()})}
		}
		return Action{To: GovernanceAddress, Method: "set_policy", Args: raw(SetPolicyArgs{Contract: c.Address(), Method: m, Policy: p.policy()})}
	case 1:
		a := SetSettingsArgs{
			Approval: 48 + uint32(r.IntN(30)), Participation: uint32(r.IntN(80)), Motions: uint32(r.IntN(18)), Lifetime: r.Int64N(MaxMotionLife / 2), Window: pick(r, []int64{0, 3_600_000, r.Int64N(MaxLock)}),
			Weights: []Weight{},
		}
		for i := range 6 {
			if r.IntN(3) == 0 {
				a.Weights = append(a.Weights, Weight{Institution: fmt.Sprintf("bank-%d", i), Weight: 1 + uint32(r.IntN(4))})
			}
		}
		return Action{To: GovernanceAddress, Method: "set_settings", Args: raw(a)}
	default:
		return Action{To: AccessAddress, Method: pick(r, []string{"grant", "revoke"}), Args: raw(RoleArgs{
			Account: pick(r, p.accounts), Role: pick(r, []string{"committee", "regulator", "institution-admin", "auditor", "operator"}),
		})}
	}
}

// lifelineAction is one about the keys of an account, or its freezes.
func (p *parliament) lifelineAction() Action {
	r := p.rng
	who := pick(r, p.accounts)
	if leaked := slices.DeleteFunc(slices.Clone(p.accounts), func(a ledger.Address) bool { account := p.account(p.t, a); return !account.Leaked() }); len(leaked) > 0 && r.IntN(2) == 0 {
		who = pick(r, leaked)
	}
	account := p.account(p.t, who)
	on := func(contract ledger.Address, method string, args any) Action {
		return Action{To: contract, Method: method, Args: mustMarshal(p.t, args)}
	}
	switch r.IntN(8) {
	case 0, 1:
		return on(AccountsAddress, "report_leak", AddressArgs{Address: who})
	case 2, 7:
		return on(AccountsAddress, "clear_leak", AddressArgs{Address: who})
	case 3:
		return on(AccessAddress, "freeze", FreezeArgs{Account: who, Reason: "suspicion"})
	case 4:
		return on(AccessAddress, "unfreeze", UnfreezeArgs{Account: who, Reason: "error"})
	case 5:
		account.Keys[0].Until = p.end()
		return on(AccountsAddress, "recover", RecoverAccountArgs{Account: who, Keys: account.Keys, Threshold: account.Threshold, Reason: "lost", Evidence: keys.Digest{1}})
	default:
		return on(AccountsAddress, "set_window", WindowArgs{Window: MinWindow.Milliseconds() + r.Int64N(MaxWindow.Milliseconds())})
	}
}

// end is that of a key: none, or a block time that comes soon.
func (p *parliament) end() int64 {
	if p.rng.IntN(2) == 0 {
		return 0
	}
	return p.order.UnixMilli + 1 + p.rng.Int64N(MaxOverlap.Milliseconds())
}

// keep makes a call by which an account changes what becomes of its own keys.
func (p *parliament) keep(who ledger.Address) {
	r := p.rng
	account := p.account(p.t, who)
	switch r.IntN(5) {
	case 0: // A regulator that does is silent until a motion recovers it, which takes no consent.
		if account.Has(identity.Regulator) {
			return
		}
		voices, err := Voices(p, account.Institution)
		if err != nil {
			p.t.Fatal(err)
		}
		if p.does(who, newAccounts(), "report_leak", AddressArgs{Address: who}) == nil && account.Has(identity.Committee) && voices == 1 {
			p.quit[account.Institution] = true
		}
	case 1:
		if l := account.Lifeline; l != nil && l.Recovery != nil {
			_ = p.does(who, newAccounts(), "object", NumberArgs{Number: l.Recovery.Number})
		}
	case 2:
		for _, a := range p.accounts {
			if l := p.account(p.t, a).Lifeline; l != nil && l.Recovery != nil {
				_ = p.does(who, newAccounts(), "settle", RecoveryArgs{Account: a, Number: l.Recovery.Number})
			}
		}
	default:
		fresh := bound(pick(r, p.spare))
		fresh.Until = p.end()
		_ = p.does(who, newAccounts(), "rotate", RotateArgs{Old: account.Keys[0].public(), New: fresh, Until: p.end()})
	}
}

// follow takes a motion through: an institution proposes it, all vote for it, a regulator consents, its locks pass, and it is carried out.
func (p *parliament) follow(action Action) {
	r := p.rng
	by := p.accounts[r.IntN(len(p.members))]
	open, _, err := read[[]uint64](p, proposedKey(p.account(p.t, by).Institution))
	if err != nil {
		p.t.Fatal(err)
	}
	for _, id := range open { // room for this one
		_ = p.does(by, newGovernance(), "withdraw", MotionArgs{ID: id})
	}
	p.caller = by
	out, err := p.call(newGovernance(), "propose", ProposeArgs{Actions: []Action{action}})
	if err != nil {
		return
	}
	p.done["propose"]++
	var id uint64
	if err := ledger.Unmarshal(out, &id); err != nil {
		p.t.Fatal(err)
	}
	if regulators, err := ReadRegulators(p); err == nil && len(regulators) > 0 {
		_ = p.does(pick(r, regulators), newGovernance(), "consent", MotionArgs{ID: id})
	}
	for _, voter := range p.accounts {
		if account := p.account(p.t, voter); account.Has(identity.Committee) && voter != by {
			_ = p.does(voter, newGovernance(), "vote", VoteArgs{ID: id, For: true})
		}
	}
	m, found, err := read[Motion](p, motionKey(id))
	if err != nil {
		p.t.Fatal(err)
	}
	if !found || m.Decided == 0 {
		return
	}
	p.wait(id)
	if p.does(by, newGovernance(), "execute", MotionArgs{ID: id}) == nil {
		p.done["motion "+action.Method]++
		return
	}
	_ = p.does(by, newGovernance(), "withdraw", MotionArgs{ID: id})
}

// step makes one random call.
func (p *parliament) step(joiner identity.NodeID) {
	r := p.rng
	p.order.Height += ledger.Height(r.IntN(30))
	p.order.UnixMilli += r.Int64N(3 * 3_600_000)
	by := pick(r, p.accounts)
	if r.IntN(2) == 0 {
		by = p.accounts[r.IntN(len(p.members))] // of a committee, at least at first
	}
	all, err := motions(p, MotionsArgs{})
	if err != nil {
		p.t.Fatal(err)
	}
	var id uint64
	if len(all) > 0 {
		id = pick(r, all).ID
	}
	switch r.IntN(18) {
	case 17:
		p.keep(pick(r, p.accounts))
	case 12, 13:
		p.follow(pick(r, []func() Action{p.action, p.lifelineAction})())
	case 0, 1:
		a := ProposeArgs{Actions: []Action{}}
		for range pick(r, []int{0, 1, 1, 1, 2}) {
			a.Actions = append(a.Actions, p.action())
		}
		if r.IntN(3) == 0 {
			a.Reform = pick(r, []*Reform{{Remove: []identity.NodeID{pick(r, p.members)}}, {Add: []identity.NodeID{joiner}}, {Remove: []identity.NodeID{joiner}}})
		}
		_ = p.does(by, newGovernance(), "propose", a)
	case 2, 3, 4, 5:
		_ = p.does(by, newGovernance(), "vote", VoteArgs{ID: id, For: r.IntN(5) > 0})
	case 6:
		if regulators, err := ReadRegulators(p); err == nil && len(regulators) > 0 {
			by = pick(r, regulators)
		}
		_ = p.does(by, newGovernance(), pick(r, []string{"consent", "consent", "consent", "consent", "consent", "consent", "consent", "consent", "veto"}), MotionArgs{ID: id})
	case 7:
		if r.IntN(3) > 0 {
			by = ledger.Address{}
		}
		_ = p.does(by, newGovernance(), "withdraw", MotionArgs{ID: id})
	case 8, 9:
		for _, m := range all { // one that is carried, if there is one
			if m.Row.Decided != 0 && r.IntN(2) == 0 {
				id = m.ID
			}
		}
		by = p.accounts[r.IntN(len(p.members))]
		if err := p.does(by, newGovernance(), "execute", MotionArgs{ID: id}); err == nil {
			return
		}
		if m, found, _ := read[Motion](p, motionKey(id)); found && slices.Contains(m.Adds(), joiner) {
			_ = p.stateReady(id, joiner)
		}
		if p.does(by, newGovernance(), "activate", MotionArgs{ID: id}) == nil {
			p.endEpoch()
		}
	case 10, 14, 15, 16:
		_ = p.does(by, newAccess(), pick(r, []string{"grant", "revoke"}), RoleArgs{Account: pick(r, p.accounts), Role: pick(r, []string{"committee", "regulator", "institution-admin", "operator"})})
	default:
		// A voter in a hurry: all of what is open is voted for, as institutions that agree do.
		for _, m := range all[:min(len(all), 3)] {
			for i := range p.members {
				_ = p.does(p.accounts[i], newGovernance(), "vote", VoteArgs{ID: m.ID, For: true})
			}
		}
	}
}

// powers counts the calls that changed more than motions.
func (p *parliament) powers() int {
	n := 0
	for _, method := range []string{"execute", "activate", "grant", "revoke", "report_leak", "rotate", "settle"} {
		n += p.done[method]
	}
	return n
}

// holds checks what no sequence of calls may take away.
func (p *parliament) holds(step int) {
	p.t.Helper()
	if step%50 == 0 {
		checkMarks(p.t, p.world, -1)
	}
	record, err := readRecord(p)
	if err != nil {
		p.t.Fatal(err)
	}
	if len(record.Members) < int(record.Minimum) {
		p.t.Fatalf("step %d: %d members are left of at least %d", step, len(record.Members), record.Minimum)
	}
	if err := governable(p, MemberInstitutions(record.Members)); err != nil {
		p.t.Fatalf("step %d: %v", step, err)
	}
	regulators, speaking := 0, 0
	voices := map[string]uint32{}
	listed, err := ReadRegulators(p)
	if err != nil {
		p.t.Fatal(err)
	}
	for _, address := range p.accounts {
		account := p.account(p.t, address)
		if account.Has(identity.Regulator) {
			regulators++
			if !slices.Contains(listed, address) {
				p.t.Fatalf("step %d: the regulator %s is not on the list", step, address)
			}
		}
		to := ledger.Target{Address: GovernanceAddress}
		signatures := []ledger.Signature{}
		for _, k := range account.Keys {
			if k.validAt(p.order.UnixMilli) {
				signatures = append(signatures, ledger.Signature{Algorithm: k.Algorithm, Key: k.Key})
			}
		}
		if err := account.Authorize(p, address, to, "vote", signatures, p.order.UnixMilli); err != nil {
			continue
		}
		if account.Has(identity.Committee) {
			voices[account.Institution]++
		}
		if account.Has(identity.Regulator) {
			speaking++
		}
	}
	if speaking == 0 || regulators != len(listed) {
		p.t.Fatalf("step %d: %d regulators, of whom %d may consent, and %d on the list", step, regulators, speaking, len(listed))
	}
	for _, institution := range MemberInstitutions(record.Members) {
		n, err := Voices(p, institution)
		if err != nil {
			p.t.Fatal(err)
		}
		if voices[institution] != n || n == 0 && !p.quit[institution] {
			p.t.Fatalf("step %d: %d accounts vote for %s, and %d are counted", step, voices[institution], institution, n)
		}
		if n > 0 {
			delete(p.quit, institution)
		}
	}
}

// decides checks, in a copy of the state, that the institutions can still change their rules when all of them and a regulator want to.
func (p *parliament) decides(step int) {
	p.t.Helper()
	state, order := p.state, p.order
	defer func() { p.state, p.order = state, order }()
	p.state = maps.Clone(state)
	s, err := ReadSettings(p)
	if err != nil {
		p.t.Fatal(err)
	}
	s.Motions = s.Motions%maxOpenMotions + 1
	action := Action{To: GovernanceAddress, Method: "set_settings", Args: mustMarshal(p.t, SetSettingsArgs{Approval: s.Approval, Participation: s.Participation, Motions: s.Motions, Lifetime: s.Lifetime, Window: s.Window, Weights: s.Weights})}
	all, _ := motions(p, MotionsArgs{})
	for _, m := range all { // room for one more
		for _, by := range p.accounts {
			p.caller = by
			_, _ = p.call(newGovernance(), "withdraw", MotionArgs{ID: m.ID})
		}
	}
	var out []byte
	for _, by := range p.accounts {
		p.caller = by
		if out, err = p.call(newGovernance(), "propose", ProposeArgs{Actions: []Action{action}}); err == nil {
			break
		}
	}
	wantError(p.t, err, ledger.OK, 0)
	var id uint64
	if err := ledger.Unmarshal(out, &id); err != nil {
		p.t.Fatal(err)
	}
	for _, by := range p.accounts {
		p.caller = by
		_, _ = p.call(newGovernance(), "vote", VoteArgs{ID: id, For: true})
		_, _ = p.call(newGovernance(), "consent", MotionArgs{ID: id})
	}
	m := p.motion(id)
	if m.Decided == 0 {
		p.t.Fatalf("step %d: all want it, and it is not carried: %+v", step, m)
	}
	p.order.UnixMilli, p.order.Height = m.Due()
	for _, by := range p.accounts {
		p.caller = by
		if _, err = p.call(newGovernance(), "execute", MotionArgs{ID: id}); err == nil {
			return
		}
	}
	p.t.Fatalf("step %d: nobody can execute what is carried: %v", step, err)
}

// No sequence of calls leaves a group without a committee that decides, without a regulator, or with too few members.
func TestGovernanceHolds(t *testing.T) {
	p := newParliament(t, 6, *governSeed)
	admit, joiner := admission(t)
	p.pass(admit)
	prefix := string(AccountStateKey(ledger.Address{})[:ledger.AddressSize+1])
	for _, k := range slices.Sorted(maps.Keys(p.state)) {
		if address, ok := strings.CutPrefix(k, prefix); ok && p.account(t, ledger.Address([]byte(address))).Institution == "bank-new" {
			p.accounts = append(p.accounts, ledger.Address([]byte(address))) // which votes once it has a member
		}
	}
	for step := range *governCalls {
		before := p.powers()
		if p.step(joiner); p.powers() != before {
			p.holds(step)
		}
		if step%1_000 == 0 {
			p.decides(step)
		}
	}
	p.decides(*governCalls)
	for _, method := range []string{"set_policy", "set_settings", "activate_feature", "grant", "revoke", "report_leak", "clear_leak", "freeze", "unfreeze", "recover", "set_window"} {
		if n := p.done["motion "+method]; *governCalls >= 10_000 && n < 3 {
			t.Errorf("motions carried %s out %d times: the test shows little", method, n)
		}
	}
	t.Logf("calls with an effect, seed %d: %v", *governSeed, p.done)
	for _, method := range []string{"propose", "vote", "consent", "veto", "withdraw", "execute", "activate", "grant", "revoke", "report_leak", "rotate", "settle"} {
		if *governCalls >= 10_000 && p.done[method] == 0 {
			t.Errorf("%s never had an effect", method)
		}
	}
}
