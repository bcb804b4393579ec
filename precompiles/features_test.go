package precompiles

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/fondaco/fondaco/state/ledger"
)

// TestActivateFeature decides on features, moves them and takes them back.
func TestActivateFeature(t *testing.T) {
	w := newWorld(t)
	w.order.Height = 100
	decided := w.order.UnixMilli
	// at is the order of a block that is late enough for what is decided on first.
	at := func(height ledger.Height) *ledger.Order {
		return &ledger.Order{Height: height, UnixMilli: decided + MinFeatureTime}
	}
	config := newConfig()
	activate := func(feature string, height uint64, release string) error {
		_, err := w.call(config, "activate_feature", ActivateArgs{Feature: feature, Height: height, Release: release})
		return err
	}
	refused := func(what string, err error, status ledger.Status, code uint32, word string) {
		t.Helper()
		e, ok := errors.AsType[*Error](err)
		if !ok || e.Status != status || e.Code != code || !strings.Contains(e.Reason, word) {
			t.Errorf("%s: %v, want %s with code %d and the words %q", what, err, status, code, word)
		}
	}
	w.caller = name("admin")
	refused("without a motion", activate("visibility", 500, "0.2"), ledger.Denied, DeniedMotion, "fondaco motion propose")

	w.caller = GovernanceAddress
	for what, c := range map[string]struct {
		args ActivateArgs
		word string
	}{
		"no name":           {ActivateArgs{Height: 500, Release: "0.2"}, "a feature"},
		"a bad name":        {ActivateArgs{Feature: "Über", Height: 500, Release: "0.2"}, "a feature"},
		"a long name":       {ActivateArgs{Feature: strings.Repeat("a", 33), Height: 500, Release: "0.2"}, "a feature"},
		"no release":        {ActivateArgs{Feature: "visibility", Height: 500}, "a release"},
		"too soon":          {ActivateArgs{Feature: "visibility", Height: 149, Release: "0.2"}, "want one from 150 on"},
		"in the past":       {ActivateArgs{Feature: "visibility", Height: 1, Release: "0.2"}, "want one from 150 on"},
		"after all heights": {ActivateArgs{Feature: "visibility", Height: 1 << 63, Release: "0.2"}, "want one from 150 on"},
	} {
		refused(what, activate(c.args.Feature, c.args.Height, c.args.Release), ledger.Aborted, AbortArguments, c.word)
	}
	refused("taken back before", activate("visibility", 0, ""), ledger.Aborted, AbortUnchanged, "nothing to take back")

	for _, c := range []ActivateArgs{{Feature: "visibility", Height: 150, Release: "0.2"}, {Feature: "later", Height: 400, Release: "0.4"}, {Feature: "zeal", Height: 300, Release: "0.3"}} {
		if err := activate(c.Feature, c.Height, c.Release); err != nil {
			t.Fatal(err)
		}
	}
	f, err := ReadFeatures(w)
	if err != nil || len(f.List) != 3 || f.List[0].Feature != "later" || f.List[2].Feature != "zeal" || f.List[1].Decided != 100 {
		t.Fatalf("ReadFeatures = %+v, %v", f, err)
	}
	if f.Active(Visibility, at(149)) || !f.Active(Visibility, at(150)) || f.Active("later", at(399)) || f.Active("never", at(1_000)) {
		t.Error("Active differs from the heights")
	}
	// Blocks that pass in seconds are no notice.
	early := at(1_000)
	if early.UnixMilli--; f.Active(Visibility, early) || f.Due(early) != nil {
		t.Errorf("a feature holds %d ms after the decision on it", early.UnixMilli-w.order.UnixMilli)
	}
	if u := f.Unknown(); len(u) != 2 || u[0].Feature != "zeal" || u[1].Feature != "later" {
		t.Errorf("Unknown = %+v, want zeal before later", u)
	}
	if err := f.Due(at(299)); err != nil {
		t.Errorf("Due(299) = %v", err)
	}
	if needs, ok := errors.AsType[*ReleaseError](f.Due(at(350))); !ok || needs.Release != "0.3" {
		t.Errorf("Due(350) = %v, want it to name release 0.3", f.Due(at(350)))
	} else if when, what, found := strings.Cut(needs.Error(), ": "); !found || !strings.Contains(when, "at the earliest") || !strings.HasPrefix(what, "install release 0.3 ") || strings.Contains(what, "earliest") {
		t.Errorf("%v, want first what holds from when, and then what to do", needs)
	}

	// A release without a feature takes part in deciding on it.
	without = "visibility"
	defer func() { without = "" }()
	if needs, ok := errors.AsType[*ReleaseError](f.Due(at(150))); !ok || needs.Feature != Visibility {
		t.Errorf("Due(150) of a release without visibility = %v", f.Due(at(150)))
	}
	if err := activate("visibility", 200, "0.2.1"); err != nil {
		t.Errorf("it is moved while it is not due: %v", err)
	}
	if err := activate("zeal", 0, ""); err != nil {
		t.Errorf("it is taken back while it is not due: %v", err)
	}
	notice := at(200).UnixMilli
	w.order.Height, w.order.UnixMilli = 200, notice-1
	before, err := ReadFeatures(w)
	wantError(t, err, ledger.OK, 0)
	if err := activate("visibility", 0, ""); err != nil {
		t.Errorf("it is taken back while its time has not come: %v", err)
	}
	wantError(t, write(w, FeaturesStateKey(), &before), ledger.OK, 0)
	w.order.UnixMilli = notice
	refused("again", activate("visibility", 900, "0.2"), ledger.Aborted, AbortUnchanged, "holds already")
	refused("taken back after", activate("visibility", 0, ""), ledger.Aborted, AbortUnchanged, "nothing ends it")
	for i := len(f.List) - 1; i < MaxFeatures; i++ {
		if err := activate("f"+strings.Repeat("a", i/26)+string(rune('a'+i%26)), 900, "1"); err != nil {
			t.Fatal(err)
		}
	}
	refused("one too many", activate("last", 900, "1"), ledger.Aborted, AbortArguments, "at most 64")
}

// TestRestrict has an owner and a motion say who may read a contract.
func TestRestrict(t *testing.T) {
	w := newWorld(t)
	w.caller = name("admin")
	contracts := newContracts()
	out, err := w.call(contracts, "deploy", DeployArgs{Code: []byte("\x00asm\x01\x00\x00\x00")})
	if err != nil {
		t.Fatal(err)
	}
	var self ledger.Address
	if err := ledger.Unmarshal(out, &self); err != nil {
		t.Fatal(err)
	}
	as := func(caller ledger.Address, v Visible) (uint32, error) {
		w.caller = caller
		_, err := w.call(contracts, "restrict", RestrictArgs{Address: self, Visible: v})
		if e, ok := errors.AsType[*Error](err); ok {
			return e.Code, nil
		}
		return 0, err
	}
	for i, c := range []struct {
		by   ledger.Address
		to   Visible
		code uint32
	}{
		{name("admin"), VisibleMembers, AbortUnchanged},
		{name("stranger"), VisibleInstitution, DeniedOwner},
		{name("admin"), 3, AbortArguments},
		{name("admin"), VisibleInstitution, 0},
		{name("admin"), VisibleInstitution, AbortUnchanged},
		{name("admin"), VisibleMembers, DeniedMotion},
		{name("admin"), VisibleParties, DeniedMotion},
		{GovernanceAddress, VisibleParties, 0},
		{GovernanceAddress, VisibleMembers, 0},
		{name("admin"), VisibleParties, 0},
	} {
		if code, err := as(c.by, c.to); code != c.code || err != nil {
			t.Errorf("%d: restrict to %s gives code %d, %v; want %d", i, c.to, code, err, c.code)
		}
	}
	row, err := ReadRestriction(w, self)
	if err != nil || row.Visible != VisibleParties || row.Institution != "alpha" {
		t.Errorf("ReadRestriction = %+v, %v", row, err)
	}
}

// What a contract or a receipt has of a schema is the same in all releases, and is paid for.
func TestSchemasOnChain(t *testing.T) {
	w := newWorld(t)
	for _, c := range All() {
		for range 2 {
			before := w.gas
			out, err := w.call(newContracts(), "schema", AddressArgs{Address: c.Address()})
			wantError(t, err, ledger.OK, 0)
			var section *[]byte
			if err := ledger.Unmarshal(out, &section); err != nil || section == nil {
				t.Fatalf("%s: %v, %v", c.Name(), section, err)
			}
			if took := w.gas - before; took != gasPerSectionByte*ledger.Gas(len(*section)) {
				t.Errorf("%s: %d bytes take %d gas", c.Name(), len(*section), took)
			}
			schema, err := ledger.DecodeSchema(*section)
			if err != nil {
				t.Fatal(err)
			}
			if schema.Name != c.Name() || !slices.EqualFunc(schema.Methods, schemaAt(c, &Features{}, &ledger.Order{}).Methods, func(a, b ledger.Method) bool { return a.Name == b.Name && a.Doc == "" }) {
				t.Errorf("%s: methods %v", c.Name(), schema.Methods)
			}
		}
	}
	own := newContracts().Schema()
	if own.Doc == "" || own.Methods[0].Doc == "" {
		t.Error("nodes have no docs to tell any more")
	}
}

// Before its feature holds, a method has no policy and is in no motion, as in releases that do not have it.
func TestMethodsOfFeaturesAreHidden(t *testing.T) {
	w := newWorld(t)
	policy := func(method string) *Policy {
		t.Helper()
		out, err := w.call(newGovernance(), "policy", MethodArgs{Contract: ContractsAddress, Method: method})
		wantError(t, err, ledger.OK, 0)
		var p *Policy
		if err := ledger.Unmarshal(out, &p); err != nil || p == nil {
			t.Fatalf("the policy of %s: %v, %v", method, p, err)
		}
		return p
	}
	action := Action{To: ContractsAddress, Method: "restrict", Args: mustMarshal(t, RestrictArgs{Visible: VisibleParties})}
	wantError(t, action.check(w), ledger.Aborted, AbortArguments)
	if p := policy("restrict"); !equalPolicy(p, policy("astonish")) {
		t.Errorf("restrict takes %s", p)
	}
	w.order.Height = 5
	wantError(t, write(w, FeaturesStateKey(), &Features{Version: ledger.Version, List: []Activation{{Feature: Visibility, Height: 5}}}), ledger.OK, 0)
	wantError(t, action.check(w), ledger.OK, 0)
	if p := policy("restrict"); p.Rule != RuleSelf {
		t.Errorf("restrict takes %s", p)
	}
}
