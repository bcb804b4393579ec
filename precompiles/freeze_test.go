package precompiles

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

const hour = int64(3_600_000)

// newGuarded returns a world whose institution alpha also has two compliance officers and a second admin, beta an officer and a
// second regulator, and alpha a contract that its admin owns.
func newGuarded(t *testing.T) (w *world, contract ledger.Address) {
	t.Helper()
	w = newWorld(t)
	for i, a := range []struct{ name, institution, role string }{
		{"officer", "alpha", "compliance"},
		{"officer 2", "alpha", "compliance"},
		{"beta officer", "beta", "compliance"},
		{"deputy", "alpha", "institution-admin"},
		{"chair", "alpha", "committee"},
		{"regulator 2", "alpha", "regulator"},
	} {
		account := &Account{Version: ledger.Version, Institution: a.institution, Threshold: 1, Roles: []string{a.role}}
		account.Keys = []AccountKey{bound(newKey(t, uint64(200+i)))}
		if err := putAccount(w, name(a.name), account, nil); err != nil {
			t.Fatal(err)
		}
	}
	w.founded()
	schema := &ledger.Schema{ABI: ledger.ContractABI, Name: "till", Version: "1", Profile: "strict", Methods: []ledger.Method{{Name: "pay", Kind: ledger.MethodTx}, {Name: "look", Kind: ledger.MethodView}}}
	out, err := w.as("admin").call(newContracts(), "deploy", DeployArgs{Code: module(t, schema)})
	wantError(t, err, ledger.OK, 0)
	if err := ledger.Unmarshal(out, &contract); err != nil {
		t.Fatal(err)
	}
	return w, contract
}

func TestFreeze(t *testing.T) {
	type step struct {
		caller, method, account string
		duration                int64 // of a freeze, in ms
		direction               Direction
		status                  ledger.Status
		code                    uint32
		later                   int64  // ms that pass before
		frozen                  Frozen // of ways
	}
	freeze := func(caller, account string, status ledger.Status, code uint32) step {
		return step{caller: caller, method: "freeze", account: account, status: status, code: code}
	}
	lift := func(caller, account string, status ledger.Status, code uint32) step {
		return step{caller: caller, method: "unfreeze", account: account, status: status, code: code}
	}
	after := func(ms int64, s step) step { s.later = ms; return s }
	sends := func(account string, code uint32) step { return step{method: "sends", account: account, code: code} }
	ways := func(account string, in, out bool) step {
		return step{method: "ways", account: account, frozen: Frozen{In: in, Out: out}}
	}
	ratify := func(caller string, until int64, status ledger.Status, code uint32) step {
		return step{caller: caller, method: "ratify", account: "user", duration: until, status: status, code: code}
	}
	for _, c := range []struct {
		story string
		steps []step
	}{
		{"an admin freezes, and another one lifts", []step{
			freeze("admin", "user", ledger.OK, 0),
			sends("user", DeniedFrozen),
			freeze("admin", "user", ledger.Aborted, AbortUnchanged),
			lift("admin", "user", ledger.Denied, DeniedRole),
			after(1000*hour, sends("user", DeniedFrozen)),
			lift("deputy", "user", ledger.OK, 0),
			sends("user", 0),
			lift("deputy", "user", ledger.Aborted, AbortUnchanged),
		}},
		{"what an admin froze its compliance officer lifts, and a regulator", []step{
			freeze("admin", "user", ledger.OK, 0),
			lift("officer", "user", ledger.OK, 0),
			freeze("admin", "user", ledger.OK, 0),
			lift("beta officer", "user", ledger.Denied, DeniedInstitution),
			lift("registrar", "user", ledger.Denied, DeniedRole),
			lift("regulator", "user", ledger.OK, 0),
			sends("user", 0),
		}},
		{"a regulator's freeze is above that of the institution, which stays when it is lifted", []step{
			freeze("admin", "user", ledger.OK, 0),
			freeze("regulator", "user", ledger.OK, 0),
			lift("deputy", "user", ledger.OK, 0), // its own institution's
			sends("user", DeniedFrozen),
			lift("deputy", "user", ledger.Denied, DeniedRole),
			freeze("admin", "user", ledger.OK, 0),
			lift("regulator", "user", ledger.OK, 0), // the institution's, not what it froze itself
			sends("user", DeniedFrozen),
			lift("regulator", "user", ledger.Denied, DeniedRole),
			lift("officer", "user", ledger.Denied, DeniedRole),
			lift("committee", "user", ledger.Denied, DeniedRole),
			lift("regulator 2", "user", ledger.OK, 0),
			sends("user", 0),
		}},
		{"a freeze of one alone lapses", []step{
			freeze("regulator", "user", ledger.OK, 0),
			after(72*hour-1, sends("user", DeniedFrozen)),
			after(1, sends("user", 0)),
			lift("regulator 2", "user", ledger.Aborted, AbortUnchanged),
		}},
		{"and is not begun anew before as much time has passed, by whomever of the same authority", []step{
			{caller: "officer", method: "freeze", account: "user", duration: 10 * hour},
			after(10*hour, sends("user", 0)),
			freeze("officer", "user", ledger.Denied, DeniedMotion),
			freeze("officer 2", "user", ledger.Denied, DeniedMotion),
			after(10*hour-1, freeze("officer 2", "user", ledger.Denied, DeniedMotion)),
			after(1, freeze("officer 2", "user", ledger.OK, 0)),
		}},
		{"nor lengthened by turns", []step{
			freeze("officer", "user", ledger.OK, 0),
			after(71*hour, freeze("officer 2", "user", ledger.Aborted, AbortUnchanged)),
			after(hour, sends("user", 0)),
		}},
		{"but a regulator freezes whatever a compliance officer began, so that nobody is warned by a short freeze", []step{
			{caller: "officer", method: "freeze", account: "user", duration: 1},
			freeze("regulator", "user", ledger.OK, 0),
			after(hour, sends("user", DeniedFrozen)),
			lift("officer 2", "user", ledger.Denied, DeniedRole),
			after(71*hour, sends("user", 0)),
			freeze("regulator", "user", ledger.Denied, DeniedMotion),
			{caller: "motion", method: "freeze", account: "user"},
			after(10_000*hour, sends("user", DeniedFrozen)),
			lift("regulator", "user", ledger.Denied, DeniedMotion),
			lift("motion", "user", ledger.OK, 0),
			sends("user", 0),
		}},
		{"who joins a freeze widens it and does not lift it either", []step{
			{caller: "officer", method: "freeze", account: "user", direction: FreezeIn, duration: hour},
			sends("user", 0),
			{caller: "officer 2", method: "freeze", account: "user", direction: FreezeOut},
			sends("user", DeniedFrozen),
			lift("officer", "user", ledger.Denied, DeniedRole),
			lift("officer 2", "user", ledger.Denied, DeniedRole),
			after(hour, sends("user", 0)),
		}},
		{"what one alone adds to the freeze of a motion lapses, and the motion's lasts", []step{
			{caller: "motion", method: "freeze", account: "user", direction: FreezeIn},
			{caller: "officer", method: "freeze", account: "user", direction: FreezeOut, duration: hour},
			ways("user", true, true),
			after(hour-1, sends("user", DeniedFrozen)),
			after(1, sends("user", 0)),
			ways("user", true, false),
			{caller: "officer 2", method: "freeze", account: "user", direction: FreezeOut, status: ledger.Denied, code: DeniedMotion},
			{caller: "regulator", method: "freeze", account: "user", direction: FreezeOut, duration: hour},
			after(hour, ways("user", true, false)),
			lift("regulator 2", "user", ledger.Denied, DeniedMotion),
			lift("motion", "user", ledger.OK, 0),
			ways("user", false, false),
		}},
		{"nor does a motion make last what it does not name", []step{
			{caller: "officer", method: "freeze", account: "user", direction: FreezeOut, duration: hour},
			{caller: "motion", method: "freeze", account: "user", direction: FreezeIn},
			ways("user", true, true),
			after(hour, sends("user", 0)),
			after(1000*hour, ways("user", true, false)),
		}},
		{"what one alone adds is lifted by another one, and by a motion with its own", []step{
			{caller: "motion", method: "freeze", account: "user", direction: FreezeIn},
			{caller: "officer", method: "freeze", account: "user", direction: FreezeOut},
			lift("officer", "user", ledger.Denied, DeniedMotion),
			lift("officer 2", "user", ledger.OK, 0),
			ways("user", true, false),
			{caller: "regulator", method: "freeze", account: "user"},
			lift("motion", "user", ledger.OK, 0),
			ways("user", false, false),
			after(hour, freeze("regulator 2", "user", ledger.OK, 0)),
		}},
		{"nobody freezes alone soon after a motion lifted what it had frozen", []step{
			{caller: "motion", method: "freeze", account: "user"},
			after(hour, lift("motion", "user", ledger.OK, 0)),
			freeze("regulator", "user", ledger.Denied, DeniedMotion),
			after(hour, freeze("regulator", "user", ledger.OK, 0)),
		}},
		{"a motion that ratifies makes one of both, with its end", []step{
			{caller: "motion", method: "freeze", account: "user", direction: FreezeIn},
			{caller: "officer", method: "freeze", account: "user", direction: FreezeOut, duration: hour},
			ratify("motion", 0, ledger.OK, 0),
			ratify("motion", 0, ledger.Aborted, AbortUnchanged),
			after(1000*hour, ways("user", true, true)),
			lift("regulator", "user", ledger.Denied, DeniedMotion),
			{caller: "motion", method: "freeze", account: "user", direction: FreezeOut, duration: hour, status: ledger.Aborted, code: AbortUnchanged},
			lift("motion", "user", ledger.OK, 0),
			ways("user", false, false),
		}},
		{"a motion does not make a direction last with another one's end", []step{
			{caller: "motion", method: "freeze", account: "user", direction: FreezeIn},
			{caller: "motion", method: "freeze", account: "user", direction: FreezeOut, duration: hour, status: ledger.Aborted, code: AbortUnchanged},
			ways("user", true, false),
		}},
		{"a motion ratifies, and lifts", []step{
			ratify("motion", 0, ledger.Aborted, AbortUnchanged),
			freeze("regulator", "user", ledger.OK, 0),
			ratify("regulator", 0, ledger.Denied, DeniedMotion),
			ratify("committee", 0, ledger.Denied, DeniedMotion),
			ratify("motion", 1, ledger.Aborted, AbortArguments),
			ratify("motion", 0, ledger.OK, 0),
			ratify("motion", 0, ledger.Aborted, AbortUnchanged),
			after(1000*hour, sends("user", DeniedFrozen)),
			lift("regulator 2", "user", ledger.Denied, DeniedMotion),
			lift("motion", "user", ledger.OK, 0),
			sends("user", 0),
		}},
		{"what has lapsed is not ratified", []step{
			freeze("regulator", "user", ledger.OK, 0),
			after(72*hour, ratify("motion", 0, ledger.Aborted, AbortUnchanged)),
		}},
		{"no single account stops the last admin for ever", []step{
			freeze("officer", "admin", ledger.OK, 0),
			freeze("regulator", "admin", ledger.OK, 0),
			sends("admin", DeniedFrozen),
			after(72*hour, sends("admin", 0)),
		}},
		{"an admin does not freeze itself, the committee, or another institution's accounts", []step{
			freeze("admin", "admin", ledger.Denied, DeniedRole),
			freeze("admin", "chair", ledger.Denied, DeniedRole),
			freeze("stranger", "user", ledger.Denied, DeniedInstitution),
			freeze("beta officer", "user", ledger.Denied, DeniedInstitution),
			freeze("user", "stranger", ledger.Denied, DeniedRole),
			freeze("committee", "user", ledger.Denied, DeniedRole),
			freeze("nobody", "user", ledger.Denied, DeniedAccount),
			freeze("admin", "nobody", ledger.Aborted, AbortMissing),
		}},
		{"the committee takes part in motions all the same", []step{
			freeze("regulator", "chair", ledger.OK, 0),
			sends("chair", DeniedFrozen),
			{method: "governs", account: "chair"},
		}},
		{"only another regulator freezes a regulator", []step{
			freeze("motion", "regulator", ledger.Denied, DeniedRole),
			freeze("officer", "regulator 2", ledger.Denied, DeniedRole),
			freeze("regulator", "regulator", ledger.Denied, DeniedRole),
			freeze("regulator 2", "regulator", ledger.OK, 0),
			{caller: "motion", method: "ratify", account: "regulator"},
			after(1000*hour, sends("regulator", DeniedFrozen)),
		}},
		{"out of bounds", []step{
			{caller: "regulator", method: "freeze", account: "user", duration: MaxFreeze + 1, status: ledger.Aborted, code: AbortArguments},
			{caller: "regulator", method: "freeze", account: "user", duration: -1, status: ledger.Aborted, code: AbortArguments},
			{caller: "admin", method: "freeze", account: "user", duration: maxLasting + 1, status: ledger.Aborted, code: AbortArguments},
			{caller: "admin", method: "freeze", account: "user", direction: 3, status: ledger.Aborted, code: AbortArguments},
		}},
	} {
		t.Run(c.story, func(t *testing.T) {
			w, _ := newGuarded(t)
			for i, s := range c.steps {
				w.order.UnixMilli += s.later
				var err error
				account := w.as(s.caller).account
				switch s.method {
				case "sends", "governs":
					a, to := account(t, name(s.account)), contract
					if s.method == "governs" {
						to = ledger.Target{Address: GovernanceAddress}
					}
					if s.status = ledger.OK; s.code != 0 {
						s.status = ledger.Denied
					}
					err = a.MaySend(w, name(s.account), to, "pay", w.order.UnixMilli)
				case "ways":
					var f Frozen
					if f, err = frozenWays(w, name(s.account)); f != s.frozen {
						t.Errorf("step %d: frozen %+v, want %+v", i, f, s.frozen)
					}
				case "freeze":
					_, err = w.call(newAccess(), "freeze", FreezeArgs{Account: name(s.account), Direction: s.direction, Duration: s.duration, Reason: "suspicion"})
				case "unfreeze":
					_, err = w.call(newAccess(), "unfreeze", UnfreezeArgs{Account: name(s.account), Reason: "error"})
				case "ratify":
					_, err = w.call(newAccess(), "ratify", RatifyArgs{Address: name(s.account), Until: s.duration})
				}
				t.Logf("step %d: %s %s %s: %v", i, s.caller, s.method, s.account, err)
				wantError(t, err, s.status, s.code)
			}
		})
	}
}

// TestFrozen asks what contracts ask.
func TestFrozen(t *testing.T) {
	w, till := newGuarded(t)
	ask := func(account ledger.Address) (f Frozen) {
		t.Helper()
		out, err := w.as("nobody").call(newAccess(), "frozen", AddressArgs{Address: account})
		wantError(t, err, ledger.OK, 0)
		if err := ledger.Unmarshal(out, &f); err != nil {
			t.Fatal(err)
		}
		return f
	}
	want := func(account ledger.Address, in, out bool) {
		t.Helper()
		if f := ask(account); f.In != in || f.Out != out {
			t.Fatalf("frozen says in %v, out %v, want %v and %v", f.In, f.Out, in, out)
		}
	}
	user := name("user")
	want(user, false, false)
	want(name("nobody"), false, false)
	_, err := w.as("admin").call(newAccess(), "freeze", FreezeArgs{Account: user, Direction: FreezeIn, Reason: "suspicion"})
	wantError(t, err, ledger.OK, 0)
	want(user, true, false)
	_, err = w.as("regulator").call(newAccess(), "freeze", FreezeArgs{Account: user, Direction: FreezeOut, Reason: "suspicion", Duration: hour})
	wantError(t, err, ledger.OK, 0)
	want(user, true, true)
	check := func(from, to ledger.Address, want *ledger.Address) {
		t.Helper()
		out, err := w.as("nobody").call(newAccess(), "stopped", MoveArgs{From: from, To: to})
		wantError(t, err, ledger.OK, 0)
		var got *ledger.Address
		if err := ledger.Unmarshal(out, &got); err != nil || (got == nil) != (want == nil) || got != nil && *got != *want {
			t.Fatalf("stopped(%s, %s) = %v, %v; want %v", from, to, got, err, want)
		}
		raw := mustMarshal(t, MoveArgs{From: from, To: to})
		if decoded, err := query(stopped)(w, raw); err != nil || !bytes.Equal(decoded, out) {
			t.Fatalf("stopped(%s, %s) = %x, and with decoded arguments %x, %v", from, to, out, decoded, err)
		}
		for i, args := range [][]byte{nil, raw[:42], append(bytes.Clone(raw), 0), append([]byte{0x83}, raw[1:]...), append([]byte{0x82, 0x53}, raw[2:]...), append([]byte{0x82, 0x58, 20}, raw[2:]...), bytes.Replace(raw, to[:], make([]byte, 21), 1)} {
			if out, err := newAccess().Invoke(w, "stopped", args); err == nil {
				t.Errorf("arguments %d: %x gives %x", i, args, out)
			}
		}
	}
	nobody, other := ledger.Address{}, name("other")
	check(user, other, &user)
	check(nobody, other, nil)
	w.order.UnixMilli += hour
	want(user, true, false)
	check(user, other, nil)
	check(other, user, &user)
	check(nobody, user, &user)

	_, err = w.as("regulator").call(newAccess(), "freeze_contract", FreezeContractArgs{Contract: till, Method: "pay", Reason: "fault"})
	wantError(t, err, ledger.OK, 0)
	want(till, false, false)
	_, err = w.as("regulator").call(newAccess(), "freeze_contract", FreezeContractArgs{Contract: till, Reason: "fault"})
	wantError(t, err, ledger.OK, 0)
	want(till, true, true)

	var listed []ListedFreeze
	list := func(a FreezesArgs) []ListedFreeze {
		t.Helper()
		out, err := w.call(newAccess(), "freezes", a)
		wantError(t, err, ledger.OK, 0)
		if err := ledger.Unmarshal(out, &listed); err != nil {
			t.Fatal(err)
		}
		return listed
	}
	all := slices.Clone(list(FreezesArgs{}))
	if len(all) != 4 {
		t.Fatalf("%d freezes are listed, want 4", len(all))
	}
	if mine := list(FreezesArgs{Address: &user}); len(mine) != 2 || mine[0].Place.Layer != FrozenByInstitution || mine[0].Row.By[0] != name("admin") || mine[1].Row.Reason != "suspicion" {
		t.Errorf("freezes of the account: %+v", mine)
	}
	if rest := list(FreezesArgs{After: &all[2].Place}); len(rest) != 1 || rest[0].Place != all[3].Place {
		t.Errorf("freezes after the third: %+v", rest)
	}
}

func TestFreezeContract(t *testing.T) {
	w, till := newGuarded(t)
	evidence := keys.Digest{7}
	do := func(caller, verb, method string) error {
		t.Helper()
		var args any = FreezeContractArgs{Contract: till, Method: method, Reason: "fault", Evidence: &evidence}
		switch verb {
		case "unfreeze_contract":
			args = UnfreezeContractArgs{Contract: till, Method: method, Reason: "mended"}
		case "ratify":
			args = RatifyArgs{Address: till, Method: method}
		}
		_, err := w.as(caller).call(newAccess(), verb, args)
		return err
	}
	flags := func() uint8 {
		t.Helper()
		d, _, err := ReadContract(w, till)
		if err != nil {
			t.Fatal(err)
		}
		return d.Flags
	}
	stopped := func(method string) bool {
		t.Helper()
		err := CheckContract(w, till, method, w.order.UnixMilli)
		if err != nil {
			wantError(t, err, ledger.Denied, DeniedFrozen)
		}
		return err != nil
	}
	for _, s := range []struct {
		caller string
		code   uint32
	}{{"admin", DeniedRole}, {"user", DeniedRole}, {"beta officer", DeniedInstitution}, {"committee", DeniedRole}} {
		wantError(t, do(s.caller, "freeze_contract", ""), ledger.Denied, s.code)
	}
	wantError(t, do("officer", "freeze_contract", "nosuch"), ledger.Aborted, AbortArguments)
	wantError(t, do("officer", "unfreeze_contract", ""), ledger.Aborted, AbortUnchanged)
	if flags() != 0 {
		t.Fatalf("flags %d of a contract that nobody froze", flags())
	}
	wantError(t, do("officer", "freeze_contract", "pay"), ledger.OK, 0)
	if flags() != ContractFrozen || !stopped("pay") || stopped("look") {
		t.Fatalf("flags %d; pay is stopped: %v, look: %v", flags(), stopped("pay"), stopped("look"))
	}
	wantError(t, do("regulator", "freeze_contract", ""), ledger.OK, 0)
	if !stopped("look") {
		t.Fatal("a method of a frozen contract goes on")
	}
	wantError(t, do("officer 2", "unfreeze_contract", "pay"), ledger.OK, 0)
	if flags() != ContractFrozen || !stopped("pay") {
		t.Fatal("lifting the freeze of a method lifted that of the contract")
	}
	wantError(t, do("motion", "ratify", ""), ledger.OK, 0)
	w.order.UnixMilli += 1000 * hour
	if !stopped("look") {
		t.Fatal("what a motion ratified has lapsed")
	}
	wantError(t, do("regulator 2", "unfreeze_contract", ""), ledger.Denied, DeniedMotion)
	wantError(t, do("motion", "unfreeze_contract", ""), ledger.OK, 0)
	if flags() != 0 || stopped("look") {
		t.Fatalf("flags %d after all was lifted", flags())
	}
	_, err := w.as("regulator").call(newAccess(), "freeze_contract", FreezeContractArgs{Contract: AccountsAddress, Reason: "fault"})
	wantError(t, err, ledger.Aborted, AbortMissing)
}

// newSeven returns a world as newGuarded with a group of seven members, which goes on without two; the last is of beta.
func newSeven(t *testing.T) (*world, Record) {
	t.Helper()
	w, _ := newGuarded(t)
	record := Record{Version: ledger.Version, Minimum: 4}
	for i := range byte(7) {
		institution := "alpha"
		if i == 6 {
			institution = "beta"
		}
		key := newKey(t, uint64(300)+uint64(i))
		record.Members = append(record.Members, ledger.Member{Node: [32]byte{i + 1}, Institution: institution, Key: key})
		if err := write(w, nodeKey([32]byte{i + 1}), &Node{Version: ledger.Version, Status: NodeMember, Institution: institution, Key: key}); err != nil {
			t.Fatal(err)
		}
	}
	if err := write(w, epochKey(), &record); err != nil {
		t.Fatal(err)
	}
	if err := write(w, institutionKey("alpha"), &Institution{Version: ledger.Version}); err != nil {
		t.Fatal(err)
	}
	return w, record
}

// TestFreezeNode has authorities cut nodes off from a group of seven members.
func TestFreezeNode(t *testing.T) {
	w, record := newSeven(t)
	freeze := func(caller string, node byte, duration int64, status ledger.Status, code uint32) {
		t.Helper()
		_, err := w.as(caller).call(newAccess(), "freeze_node", FreezeNodeArgs{Node: [32]byte{node}, Duration: duration, Reason: "intrusion"})
		wantError(t, err, status, code)
	}
	lift := func(caller string, node byte, status ledger.Status, code uint32) {
		t.Helper()
		_, err := w.as(caller).call(newAccess(), "unfreeze_node", UnfreezeNodeArgs{Node: [32]byte{node}, Reason: "searched"})
		wantError(t, err, status, code)
	}
	connects := func(node byte, want bool) {
		t.Helper()
		if err := CheckNode(w, [32]byte{node}, w.order.UnixMilli); err == nil != want {
			t.Errorf("CheckNode of node %d = %v", node, err)
		}
	}

	freeze("admin", 1, 0, ledger.Denied, DeniedRole)
	freeze("officer", 7, 0, ledger.Denied, DeniedInstitution)
	freeze("regulator", 9, 0, ledger.Aborted, AbortArguments)
	freeze("regulator", 1, MaxFreeze+1, ledger.Aborted, AbortArguments)
	freeze("regulator", 7, 2*hour, ledger.OK, 0)
	freeze("officer", 1, 4*hour, ledger.OK, 0)
	connects(1, false)
	connects(2, true)
	connects(7, false)

	// The group would not go on without a third, and with six members not without two.
	freeze("regulator", 2, 0, ledger.Aborted, AbortArguments)
	freeze("regulator", 1, 6*hour, ledger.OK, 0) // who joins a freeze freezes no other node
	without := func(node byte) error {
		_, err := after(w, w.Suite(), &record, &Reform{Remove: []identity.NodeID{{node}}}, w.order.UnixMilli)
		return err
	}
	wantError(t, without(2), ledger.Aborted, AbortReform)
	wantError(t, without(1), ledger.OK, 0)

	// Who froze does not lift, and what lapses makes room for another.
	lift("regulator", 7, ledger.Denied, DeniedRole)
	lift("officer 2", 1, ledger.Denied, DeniedRole) // a regulator joined
	lift("regulator 2", 7, ledger.OK, 0)
	connects(7, true)
	lift("regulator 2", 7, ledger.Aborted, AbortUnchanged)
	freeze("regulator", 2, hour, ledger.OK, 0)
	w.order.UnixMilli += 2 * hour
	connects(2, true)
	connects(1, false)
	wantError(t, without(2), ledger.OK, 0)

	// A motion makes it last.
	_, err := w.as("regulator").call(newAccess(), "ratify", RatifyArgs{Address: NodePlace([32]byte{1}).Address, Method: "node"})
	wantError(t, err, ledger.Denied, DeniedMotion)
	w.caller = GovernanceAddress
	_, err = w.call(newAccess(), "ratify", RatifyArgs{Address: NodePlace([32]byte{1}).Address, Method: "node"})
	wantError(t, err, ledger.OK, 0)
	w.order.UnixMilli += 1000 * hour
	connects(1, false)
	lift("regulator 2", 1, ledger.Denied, DeniedMotion)
}

// What is in the way of another freeze the refusal tells, and who lifts it: a regulator what officers froze, so that these do not keep it from freezing.
func TestFreezeNodeInTheWay(t *testing.T) {
	w, record := newSeven(t)
	call := func(caller, method string, args any) error {
		_, err := w.as(caller).call(newAccess(), method, args)
		return err
	}
	freeze := func(node byte) FreezeNodeArgs {
		return FreezeNodeArgs{Node: [32]byte{node}, Duration: hour, Reason: "intrusion"}
	}
	tells := func(err error, words ...string) {
		t.Helper()
		for _, want := range words {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v, want %q", err, want)
			}
		}
	}
	wantError(t, call("officer", "freeze_node", freeze(1)), ledger.OK, 0)
	wantError(t, call("officer 2", "freeze_node", freeze(3)), ledger.OK, 0)
	err := call("regulator", "freeze_node", freeze(7))
	wantError(t, err, ledger.Aborted, AbortArguments)
	officers := fmt.Sprintf("node %s of alpha is frozen until %s (intrusion): another compliance officer of the institution, or a regulator, lifts it; node %s of alpha is frozen until",
		identity.NodeID{1}, timeText(w.order.UnixMilli+hour), identity.NodeID{3})
	tells(err, "2 of the group's 7 members are frozen, and it goes on without 2 at most", officers, "or have a motion remove the node")
	_, err = after(w, w.Suite(), &record, &Reform{Remove: []identity.NodeID{{2}}}, w.order.UnixMilli)
	wantError(t, err, ledger.Aborted, AbortReform)
	tells(err, "2 of the 6 members would be frozen nodes", officers)

	wantError(t, call("officer", "unfreeze_node", UnfreezeNodeArgs{Node: [32]byte{1}, Reason: "searched"}), ledger.Denied, DeniedRole)
	wantError(t, call("regulator", "unfreeze_node", UnfreezeNodeArgs{Node: [32]byte{1}, Reason: "urgent"}), ledger.OK, 0)
	wantError(t, call("regulator", "freeze_node", freeze(7)), ledger.OK, 0)
	out, err := w.call(newAccess(), "freezes", FreezesArgs{})
	wantError(t, err, ledger.OK, 0)
	var listed []ListedFreeze
	if err := ledger.Unmarshal(out, &listed); err != nil || len(listed) != 3 || listed[2].Node == nil || *listed[2].Node != [32]byte{7} {
		t.Errorf("the freezes of nodes are listed as %+v, %v", listed, err)
	}
	tells(call("regulator", "freeze_node", freeze(2)), "node "+identity.NodeID{7}.String()+" of beta is frozen until", "another regulator, or a motion with a regulator's consent, lifts it")
}

// TestMarks marks addresses, many of which begin with the same byte, and takes marks away, in any order and also twice. A row tells
// which first bytes there are among them, and is gone when there are none.
func TestMarks(t *testing.T) {
	w := newWorld(t)
	random := rand.New(rand.NewPCG(1, 1))
	set := map[ledger.Address]bool{}
	for step := range 2_000 {
		a := ledger.Address{byte(random.IntN(6) * 51), byte(random.IntN(4)), 1}
		on := random.IntN(2) == 0
		if step >= 1_900 { // all that is left
			on = false
			for left := range set {
				a = left
				break
			}
		}
		if err := mark(w, a, on); err != nil {
			t.Fatal(err)
		}
		if delete(set, a); on {
			set[a] = true
		}
		checkMarks(t, w, len(set))
	}
	if len(set) != 0 {
		t.Fatalf("%d marks are left", len(set))
	}
	if _, found, err := w.Get(markedKey()); found || err != nil {
		t.Errorf("without marks there is a row, error %v", err)
	}
	w.state[string(markedKey())] = []byte{0x41, 1}
	if _, err := frozenWays(w, ledger.Address{1}); err == nil || !strings.Contains(err.Error(), "byte string of 32") {
		t.Errorf("of a damaged row: %v", err)
	}
}

// checkMarks checks that the row tells of each mark that there is, and of no first byte that none has.
func checkMarks(t *testing.T, w *world, want int) {
	t.Helper()
	m, err := readMarked(w)
	if err != nil {
		t.Fatal(err)
	}
	var of marked
	marks := 0
	prefix := string(key(AccessAddress, []byte("m")))
	for k := range w.state {
		if id, ok := strings.CutPrefix(k, prefix); ok {
			a := ledger.Address([]byte(id))
			at, mask := of.bit(a)
			*at |= mask
			marks++
			if !m.has(a) {
				t.Errorf("the row does not tell of the mark of %s", a)
			}
		}
	}
	if m != of || want >= 0 && marks != want {
		t.Fatalf("%d marks, want %d; the row is %x, want %x", marks, want, m, of)
	}
}
