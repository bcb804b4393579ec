package ledger

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// DifferenceKind says what of a schema differs in another one. The numbers are stable.
type DifferenceKind uint8

// The kinds of differences, and of what Difference.Name is then the name.
const (
	ContractRenamed   DifferenceKind = iota // the contract
	MethodGone                              // a method
	MethodNoView                            // a method
	MethodArgCount                          // a method
	MethodArg                               // a method
	MethodReturn                            // a method
	MethodRoles                             // a method
	EventGone                               // an event
	EventFields                             // an event
	ErrorGone                               // an error
	ErrorChanged                            // an error
	StateGone                               // a prefix of keys
	StateKeyChanged                         // a prefix of keys
	StateValueChanged                       // a prefix of keys
)

// DifferenceKinds returns the names of the kinds, in the order of their numbers.
func DifferenceKinds() []string {
	return []string{
		"contract_renamed", "method_gone", "method_no_view", "method_arg_count", "method_arg", "method_return", "method_roles",
		"event_gone", "event_fields", "error_gone", "error_changed", "state_gone", "state_key", "state_value",
	}
}

// Difference is one thing that users of a schema could trip over in another one.
type Difference struct {
	Kind DifferenceKind
	Name string // of the part of the first schema that differs
	Text string // a sentence for people; another release may say it otherwise
}

// Incompatible lists what callers, readers of events and state, or the contract's own data would trip over if code
// with the schema next replaced code with the schema s, in the order of s. None means that
// everything that worked goes on working. Both schemas must be valid.
//
// Arguments may become wider and results narrower: whoever passes a u32 does not mind a u64. In the contract's state the new
// code must be able to read what the old one wrote. Init and upgrade are not compared.
func (s *Schema) Incompatible(next *Schema) []Difference {
	var all []Difference
	say := func(kind DifferenceKind, name, format string, args ...any) {
		all = append(all, Difference{kind, name, fmt.Sprintf(format, args...)})
	}
	takes := newComparison(next, s) // the new code takes what the old one took
	gives := newComparison(s, next) // what the new code gives is what the old one could have given
	if s.Name != next.Name {
		say(ContractRenamed, s.Name, "the contract is called %s, was %s", next.Name, s.Name)
	}
	for i := range s.Methods {
		old := &s.Methods[i]
		if old.Kind == MethodInit || old.Kind == MethodUpgrade {
			continue
		}
		m := next.Method(old.Name)
		if m == nil {
			say(MethodGone, old.Name, "method %s is gone", old.Name)
			continue
		}
		if old.Kind == MethodView && m.Kind != MethodView {
			say(MethodNoView, old.Name, "method %s is a view no longer", old.Name)
		}
		if len(m.Args) != len(old.Args) {
			say(MethodArgCount, old.Name, "method %s takes %d arguments, was %d", old.Name, len(m.Args), len(old.Args))
		} else {
			for j, f := range old.Args {
				if !takes.holds(m.Args[j].Type, f.Type) {
					say(MethodArg, old.Name, "method %s: argument %s is %s", old.Name, f.Name, became(m.Args[j].Type, f.Type))
				}
			}
		}
		if (m.Return == "") != (old.Return == "") || m.Return != "" && !gives.holds(old.Return, m.Return) {
			say(MethodReturn, old.Name, "method %s returns %s", old.Name, became(m.Return, old.Return))
		}
		if !sameSet(m.Roles, old.Roles) {
			say(MethodRoles, old.Name, "method %s is for %s, was for %s", old.Name, orEverybody(m.Roles), orEverybody(old.Roles))
		}
	}
	for _, old := range s.Events {
		i := slices.IndexFunc(next.Events, func(e EventDef) bool { return e.Topic == old.Topic })
		if i < 0 {
			say(EventGone, old.Topic, "event %s is gone", old.Topic)
		} else if !gives.fields(old.Fields, next.Events[i].Fields) {
			say(EventFields, old.Topic, "event %s has other fields", old.Topic)
		}
	}
	for _, old := range s.Errors {
		i := slices.IndexFunc(next.Errors, func(e ErrorDef) bool { return e.Code == old.Code })
		if i < 0 {
			say(ErrorGone, old.Name, "error %d, %s, is gone", old.Code, old.Name)
		} else if e := next.Errors[i]; e.Name != old.Name || !gives.fields(old.Fields, e.Fields) {
			say(ErrorChanged, old.Name, "error %d is %s, was %s, or has other fields", old.Code, e.Name, old.Name)
		}
	}
	for _, old := range s.State {
		i := slices.IndexFunc(next.State, func(d StateDef) bool { return d.Prefix == old.Prefix })
		switch {
		case i < 0:
			say(StateGone, old.Prefix, "state %s is gone", old.Prefix)
		case !slices.Equal(next.State[i].Key, old.Key):
			say(StateKeyChanged, old.Prefix, "state %s has another key", old.Prefix)
		case !takes.holds(next.State[i].Value, old.Value):
			say(StateValueChanged, old.Prefix, "state %s holds %s", old.Prefix, became(next.State[i].Value, old.Value))
		}
	}
	return all
}

// became says what a type was before, also when only the definition behind its name changed.
func became(now, was Type) string {
	switch {
	case now == was:
		return "another " + string(now)
	case now == "":
		return "nothing, was " + string(was)
	case was == "":
		return string(now) + ", was nothing"
	}
	return string(now) + ", was " + string(was)
}

func orEverybody(roles []string) string {
	if len(roles) == 0 {
		return "everybody"
	}
	return strings.Join(roles, " or ")
}

func sameSet(a, b []string) bool {
	in := func(set []string) func(string) bool {
		return func(s string) bool { return !slices.Contains(set, s) }
	}
	return !slices.ContainsFunc(a, in(b)) && !slices.ContainsFunc(b, in(a))
}

// comparison says whether each value of a type of one schema is one of a type of another. Types with names are
// compared under the same name only, each once, so that the whole takes no longer than to read both.
type comparison struct {
	wide, narrow map[string]*TypeDef
	known        map[string]bool
}

func newComparison(wide, narrow *Schema) *comparison {
	c := &comparison{wide: map[string]*TypeDef{}, narrow: map[string]*TypeDef{}, known: map[string]bool{}}
	for i := range wide.Types {
		c.wide[wide.Types[i].Name] = &wide.Types[i]
	}
	for i := range narrow.Types {
		c.narrow[narrow.Types[i].Name] = &narrow.Types[i]
	}
	return c
}

// holds reports whether every value of narrow is a value of wide.
func (c *comparison) holds(wide, narrow Type) bool {
	if w, ok := integers[wide]; ok {
		n, ok := integers[narrow]
		return ok && (w.signed == n.signed && w.bits >= n.bits || w.signed && !n.signed && w.bits > n.bits)
	}
	head, args := wide.split()
	other, others := narrow.split()
	if head == "opt" && len(args) == 1 {
		if other == "opt" && len(others) == 1 {
			narrow = others[0]
		}
		return c.holds(args[0], narrow)
	}
	if args != nil {
		return head == other && slices.EqualFunc(args, others, c.holds)
	}
	if c.wide[head] == nil {
		return wide == narrow || wide == "bytes" && narrow == "addr"
	}
	return wide == narrow && c.named(head)
}

func (c *comparison) named(name string) bool {
	if same, ok := c.known[name]; ok {
		return same
	}
	w, n := c.wide[name], c.narrow[name]
	same := n != nil && len(w.Variants) >= len(n.Variants) && (len(w.Variants) == 0) == (len(n.Variants) == 0) && c.fields(w.Fields, n.Fields)
	for i := 0; same && i < len(n.Variants); i++ {
		same = w.Variants[i].Name == n.Variants[i].Name && c.fields(w.Variants[i].Fields, n.Variants[i].Fields)
	}
	c.known[name] = same
	return same
}

func (c *comparison) fields(wide, narrow []Field) bool {
	return slices.EqualFunc(wide, narrow, func(w, n Field) bool { return w.Name == n.Name && c.holds(w.Type, n.Type) })
}

// OlderVersion reports whether the version a comes before b in the order of Semantic Versioning 2.0.0 §11. Text that is
// no such version, the empty text included, has no place in that order and is older than nothing.
func OlderVersion(a, b string) bool {
	x, ok := parseVersion(a)
	y, ok2 := parseVersion(b)
	if !ok || !ok2 {
		return false
	}
	if order := slices.Compare(x.numbers[:], y.numbers[:]); order != 0 {
		return order < 0
	}
	if len(x.before) == 0 || len(y.before) == 0 {
		return len(x.before) > len(y.before) // a pre-release comes before the release
	}
	return slices.CompareFunc(x.before, y.before, comparePart) < 0
}

// LaterVersion returns the later of two versions, a if they are equal. Text that is no version comes before all of them; of two
// such it is a that is returned.
func LaterVersion(a, b string) string {
	if _, ok := parseVersion(a); !ok {
		if _, ok := parseVersion(b); ok {
			return b
		}
		return a
	}
	if OlderVersion(a, b) {
		return b
	}
	return a
}

type version struct {
	numbers [3]uint64
	before  []string // dot-separated parts of the pre-release
}

func parseVersion(s string) (v version, ok bool) {
	s, _, _ = strings.Cut(strings.TrimPrefix(s, "v"), "+")
	s, before, dashed := strings.Cut(s, "-")
	parts := strings.Split(s, ".")
	if len(parts) != len(v.numbers) {
		return v, false
	}
	for i, p := range parts {
		n, err := strconv.ParseUint(p, 10, 64)
		if err != nil || strconv.FormatUint(n, 10) != p {
			return v, false
		}
		v.numbers[i] = n
	}
	if dashed {
		v.before = strings.Split(before, ".")
	}
	return v, !slices.Contains(v.before, "")
}

// comparePart orders identifiers of a pre-release: numbers by value and before text, text by bytes.
func comparePart(a, b string) int {
	x, err := strconv.ParseUint(a, 10, 64)
	y, err2 := strconv.ParseUint(b, 10, 64)
	switch {
	case err == nil && err2 == nil:
		return cmp.Compare(x, y)
	case err == nil:
		return -1
	case err2 == nil:
		return 1
	}
	return strings.Compare(a, b)
}
