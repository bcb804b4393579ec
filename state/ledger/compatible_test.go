package ledger

import (
	"slices"
	"testing"
)

// before is a contract that is to be replaced.
func before() *Schema {
	return &Schema{
		ABI: ContractABI, Name: "token", Version: "1.2.0", Profile: "strict",
		Types: []TypeDef{
			{Name: "Kind", Variants: []Variant{{Name: "cash"}, {Name: "bond", Fields: []Field{{Name: "due", Type: "u32"}}}}},
			{Name: "Account", Fields: []Field{{Name: "kind", Type: "Kind"}, {Name: "amount", Type: "u64"}}},
		},
		Methods: []Method{
			{Name: "init", Kind: MethodInit},
			{Name: "pay", Kind: MethodTx, Args: []Field{{Name: "to", Type: "addr"}, {Name: "amount", Type: "u32"}}},
			{Name: "account", Kind: MethodView, Args: []Field{{Name: "who", Type: "addr"}}, Return: "Account"},
			{Name: "kinds", Kind: MethodView, Return: "list<opt<u32>>"},
			{Name: "set", Kind: MethodTx, Args: []Field{{Name: "kind", Type: "Kind"}}, Roles: []string{"operator", "owner"}},
		},
		Events: []EventDef{{Topic: "Paid", Fields: []Field{{Name: "amount", Type: "u32"}}}},
		Errors: []ErrorDef{{Code: 1001, Name: "TooLittle", Fields: []Field{{Name: "have", Type: "u64"}}}},
		State:  []StateDef{{Prefix: "acc", Key: []Type{"addr"}, Value: "Account"}},
	}
}

func TestIncompatible(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Schema)
		want   []string
	}{
		{"nothing changes", func(*Schema) {}, nil},
		{"more of everything", func(s *Schema) {
			s.Methods = append(s.Methods, Method{Name: "more", Kind: MethodTx})
			s.Events = append(s.Events, EventDef{Topic: "More"})
			s.Errors = append(s.Errors, ErrorDef{Code: 1002, Name: "More"})
			s.State = append(s.State, StateDef{Prefix: "more", Value: "u8"})
		}, nil},
		{"an argument becomes wider", func(s *Schema) { s.Methods[1].Args[1].Type = "u128" }, nil},
		{"an argument becomes optional", func(s *Schema) { s.Methods[1].Args[1].Type = "opt<i64>" }, nil},
		{"an argument gets another name", func(s *Schema) { s.Methods[1].Args[1].Name = "units" }, nil},
		{"a result becomes narrower", func(s *Schema) { s.Methods[3].Return = "list<u16>" }, nil},
		{"roles in another order", func(s *Schema) { s.Methods[4].Roles = []string{"owner", "operator"} }, nil},
		{"init takes something else", func(s *Schema) { s.Methods[0].Args = []Field{{Name: "x", Type: "u8"}} }, nil},

		{"another contract", func(s *Schema) { s.Name = "coin" }, []string{"the contract is called coin, was token"}},
		{"a method goes", func(s *Schema) { s.Methods = slices.Delete(s.Methods, 1, 2) }, []string{"method pay is gone"}},
		{"a view becomes a transaction", func(s *Schema) { s.Methods[3].Kind = MethodTx }, []string{"method kinds is a view no longer"}},
		{"an argument more", func(s *Schema) { s.Methods[3].Args = []Field{{Name: "x", Type: "opt<u8>"}} }, []string{"method kinds takes 1 arguments, was 0"}},
		{"an argument becomes narrower", func(s *Schema) { s.Methods[1].Args[1].Type = "i32" }, []string{"method pay: argument amount is i32, was u32"}},
		{"a result becomes wider", func(s *Schema) { s.Methods[3].Return = "list<opt<u64>>" }, []string{"method kinds returns list<opt<u64>>, was list<opt<u32>>"}},
		{"a result goes", func(s *Schema) { s.Methods[3].Return = "" }, []string{"method kinds returns nothing, was list<opt<u32>>"}},
		{"everybody may", func(s *Schema) { s.Methods[4].Roles = nil }, []string{"method set is for everybody, was for operator or owner"}},
		{"a case more: the old code's readers do not know it", func(s *Schema) {
			s.Types[0].Variants = append(s.Types[0].Variants, Variant{Name: "gold"})
		}, []string{"method account returns another Account"}},
		{
			"a case less: callers and state may have it", func(s *Schema) { s.Types[0].Variants = s.Types[0].Variants[:1] },
			[]string{"method set: argument kind is another Kind", "state acc holds another Account"},
		},
		{
			"a field more", func(s *Schema) { s.Types[1].Fields = append(s.Types[1].Fields, Field{Name: "since", Type: "u64"}) },
			[]string{"method account returns another Account", "state acc holds another Account"},
		},
		{"an event's field changes", func(s *Schema) { s.Events[0].Fields[0].Type = "u64" }, []string{"event Paid has other fields"}},
		{"an event goes", func(s *Schema) { s.Events = nil }, []string{"event Paid is gone"}},
		{"a code gets another meaning", func(s *Schema) { s.Errors[0].Name = "TooMuch" }, []string{"error 1001 is TooMuch, was TooLittle, or has other fields"}},
		{"an error goes", func(s *Schema) { s.Errors = nil }, []string{"error 1001, TooLittle, is gone"}},
		{"a key changes", func(s *Schema) { s.State[0].Key = []Type{"u64"} }, []string{"state acc has another key"}},
		{"state goes", func(s *Schema) { s.State = nil }, []string{"state acc is gone"}},
		{"state becomes narrower", func(s *Schema) { s.Types[1].Fields[1].Type = "u32" }, []string{"state acc holds another Account"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			next := before()
			c.change(next)
			if err := next.Validate(); err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, d := range before().Incompatible(next) {
				if got = append(got, d.Text); int(d.Kind) >= len(DifferenceKinds()) || d.Name == "" {
					t.Errorf("%q is of the kind %d, about %q", d.Text, d.Kind, d.Name)
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestLaterVersion(t *testing.T) {
	for _, test := range [][3]string{ // a, b, the later one
		{"1.0.0", "1.0.1", "1.0.1"},
		{"1.0.1", "1.0.0", "1.0.1"},
		{"1.0.0+a", "1.0.0+b", "1.0.0+a"},
		{"", "1.0.0", "1.0.0"},
		{"1.0.0", "", "1.0.0"},
		{"1.0.0", "the best", "1.0.0"},
		{"the best", "0.1.0", "0.1.0"},
		{"a", "b", "a"},
	} {
		if got := LaterVersion(test[0], test[1]); got != test[2] {
			t.Errorf("LaterVersion(%q, %q) = %q, want %q", test[0], test[1], got, test[2])
		}
	}
}

func TestOlderVersion(t *testing.T) {
	rising := []string{"0.9.9", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta.2", "1.0.0-beta.11", "1.0.0-rc.1", "1.0.0", "1.2.0", "1.10.0", "v2.0.0"}
	for i, a := range rising {
		for j, b := range rising {
			if got := OlderVersion(a, b); got != (i < j) {
				t.Errorf("OlderVersion(%q, %q) = %v", a, b, got)
			}
		}
	}
	for _, odd := range []string{"", "(devel)", "1.0", "1.0.0.0", "01.0.0", "1.0.0-", "1.0.0-a..b"} {
		if OlderVersion(odd, "1.0.0") || OlderVersion("1.0.0", odd) {
			t.Errorf("%q has a place among versions", odd)
		}
	}
	if OlderVersion("1.0.0+a", "1.0.0+b") {
		t.Error("build metadata count")
	}
}
