package contract

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/fondaco/fondaco/state/ledger"
)

func TestInterface(t *testing.T) {
	const text = "\n# every kind of declaration\n\n" + `contract market 1.2.0 "trades \"things\""
tx buy(id: u64, note: opt<str>) -> Order roles user,operator conflicts order/{id},$caller "buys"
tx sell(what: &str, parts: Vec<u8>, who: Address, all: Vec<Option<String>>,) -> ()
view find(by: BTreeMap < Addr , Vec < Order > >) -> Option<Order>
init ( admin : addr )
upgrade() -> void
struct Order(id: u64, state: Status)
enum Status(open, closed(why: Reason, at: u64),)
struct Reason(text: str)
struct Nothing()
event Bought(id: u64, by: addr) indexed id,by "told to all"
error 1002 Second()
error 1001 First(have: U128)
state total->u128
state order(u64, String) -> Order "by id"
state a-b -> Uint8Array
random
`
	order, status := ledger.Field{Name: "id", Type: "u64"}, ledger.Field{Name: "state", Type: "Status"}
	want := &ledger.Schema{
		ABI: 1, Name: "market", Version: "1.2.0", Profile: "strict", Doc: `trades "things"`, Random: true,
		Types: []ledger.TypeDef{
			{Name: "Reason", Fields: []ledger.Field{{Name: "text", Type: "str"}}},
			{Name: "Status", Variants: []ledger.Variant{{Name: "open"}, {Name: "closed", Fields: []ledger.Field{{Name: "why", Type: "Reason"}, {Name: "at", Type: "u64"}}}}},
			{Name: "Order", Fields: []ledger.Field{order, status}},
			{Name: "Nothing"},
		},
		Methods: []ledger.Method{
			{Name: "buy", Kind: "tx", Args: []ledger.Field{order, {Name: "note", Type: "opt<str>"}}, Return: "Order", Roles: []string{"user", "operator"}, Conflicts: []string{"order/{id}", "$caller"}, Doc: "buys"},
			{Name: "sell", Kind: "tx", Args: []ledger.Field{{Name: "what", Type: "str"}, {Name: "parts", Type: "bytes"}, {Name: "who", Type: "addr"}, {Name: "all", Type: "list<opt<str>>"}}},
			{Name: "find", Kind: "view", Args: []ledger.Field{{Name: "by", Type: "map<addr,list<Order>>"}}, Return: "opt<Order>"},
			{Name: "init", Kind: "init", Args: []ledger.Field{{Name: "admin", Type: "addr"}}},
			{Name: "upgrade", Kind: "upgrade"},
		},
		Events: []ledger.EventDef{{Topic: "Bought", Fields: []ledger.Field{order, {Name: "by", Type: "addr"}}, Indexed: []string{"id", "by"}, Doc: "told to all"}},
		Errors: []ledger.ErrorDef{{Code: 1001, Name: "First", Fields: []ledger.Field{{Name: "have", Type: "u128"}}}, {Code: 1002, Name: "Second"}},
		State:  []ledger.StateDef{{Prefix: "a-b", Value: "bytes"}, {Prefix: "order/", Key: []ledger.Type{"u64", "str"}, Value: "Order", Doc: "by id"}, {Prefix: "total", Value: "u128"}},
	}
	for name, text := range map[string]string{"lines": text, "zero bytes": strings.ReplaceAll(text, "\n", "\x00")} {
		t.Run(name, func(t *testing.T) {
			got, err := ParseInterface([]byte(text), "strict")
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("schema:\n%+v\nwant:\n%+v", got, want)
			}
		})
	}
	suite, err := filepath.Glob("../../sdk-contracts/suite/*.interface")
	if err != nil || len(suite) == 0 {
		t.Fatalf("no interfaces of the suite: %v", err)
	}
	for _, file := range suite {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if s, err := ParseInterface(text, "std"); err != nil || s.Name != strings.TrimSuffix(filepath.Base(file), ".interface") || s.Profile != "std" {
				t.Errorf("ParseInterface: %+v, %v", s, err)
			}
		})
	}
}

func TestInterfaceFaults(t *testing.T) {
	for text, want := range map[string]string{
		"":                                     "no line names the contract",
		"contract":                             "line 1: a name is missing at the end in: contract",
		"contract a 1\ncontract b 1":           `line 2: the contract is named a second time; it is "a" already in: contract b 1`,
		"contract a 1\n\n#\nmethod b()":        `line 4: unknown keyword "method"`,
		"(":                                    "line 1: no keyword",
		"contract a 1 doc":                     `do not understand "doc"`,
		`contract a 1 "doc`:                    "the documentation is no JSON string",
		"tx pay":                               `"(" is missing at the end`,
		"tx pay(to addr)":                      `want ":" before "addr)"`,
		"tx pay(to: addr":                      `"," is missing at the end`,
		"tx pay(to: list<addr)":                `want "," before ")"`,
		"tx pay() -> ":                         "a name is missing at the end",
		"tx pay() roles a,,b":                  "separated by commas, without spaces",
		"tx 1pay()":                            `want a name before "1pay()"`,
		"error 7 Low()":                        `abort code "7": a contract's codes are numbers from 1000`,
		"error x Low()":                        `abort code "x"`,
		"state -> u8":                          "the name of the state is missing",
		"state x() -> u8":                      "a key has at least one part",
		"state x(u8) u8":                       `want "->" before "u8"`,
		"enum E()":                             "at least one variant",
		"profile fast":                         `profile "fast"`,
		"tx f(a: " + strings.Repeat("a<", 40):  "nested over 16 deep",
		"contract a 1\nstruct A()\nstruct A()": `type "A" is declared twice`,
		"contract a 1\nstruct A(b: opt<B>)\nstruct B(a: list<A>)": `type "A" contains itself`,
		"contract a 1\ntx f(a: Missing)":                          `type "Missing" is not known`,
		"contract a 1\nerror 1001 A()\nerror 1001 B()":            "does not rise",
		strings.Repeat("#", maxInterface+1):                       "at most",
	} {
		_, err := ParseInterface([]byte(text), "strict")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseInterface(%.60q) = %v, want %q", text, err, want)
		}
	}
}

func TestFinish(t *testing.T) {
	empty := []byte(wasmHeader)
	text := appendSection(empty, interfaceSection, []byte("contract a 1"))
	schema, err := (&ledger.Schema{ABI: 1, Name: "b", Profile: "strict"}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	wasi := joinModule([]section{{sectionImport, []byte("\x01\x16wasi_snapshot_preview1\x04exit\x00\x00")}})
	for name, tc := range map[string]struct {
		code          []byte
		want, profile string
		fault         string
	}{
		"the text's schema":         {text, "a", "strict", ""},
		"WASI makes it std":         {appendSection(wasi, interfaceSection, []byte("contract a 1")), "a", "std", ""},
		"the builder's schema":      {appendSection(empty, ledger.SchemaSection, schema), "b", "strict", ""},
		"several texts":             {appendSection(text, interfaceSection, []byte("tx f()")), "a", "strict", ""},
		"a text and a schema":       {appendSection(text, ledger.SchemaSection, schema), "", "", "both a section"},
		"neither":                   {empty, "", "", "it declares no contract"},
		"a text with a fault":       {appendSection(empty, interfaceSection, []byte("contract")), "", "", "line 1"},
		"a section without a name":  {append(empty, 0, 1, 9), "", "", "ends within its name"},
		"a section that is cut":     {append(empty, 0, 9, 9), "", "", "ends within a section"},
		"a schema with a fault":     {appendSection(empty, ledger.SchemaSection, []byte{1}), "", "", "schema"},
		"something else altogether": {[]byte("ELF"), "", "", "not a WebAssembly module"},
	} {
		t.Run(name, func(t *testing.T) {
			built, err := finish(tc.code, ledger.Build{Language: "x"})
			if tc.fault != "" {
				if err == nil || !strings.Contains(err.Error(), tc.fault) {
					t.Errorf("finish = %v, want %q", err, tc.fault)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			s, err := ledger.ModuleSchema(built.Code)
			if err != nil || s.Name != tc.want || s.Profile != tc.profile {
				t.Errorf("schema %+v, %v; want %s, %s", s, err, tc.want, tc.profile)
			}
			if left, err := ledger.ModuleSection(built.Code, interfaceSection); left != nil || err != nil {
				t.Errorf("the text is still there: %q, %v", left, err)
			}
		})
	}
}

func TestNames(t *testing.T) {
	code := appendSection(appendSection([]byte(wasmHeader), interfaceSection, []byte("contract a 1")), "name", []byte{1, 2, 3})
	built, err := finish(code, ledger.Build{})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "a.wasm")
	if names, err := ReadNames(file, built.Code); names != nil || err != nil {
		t.Errorf("names without a file: %x, %v", names, err)
	}
	if err := built.Write(file); err != nil {
		t.Fatal(err)
	}
	if section, err := ledger.ModuleSection(built.Code, "name"); section != nil || err != nil {
		t.Errorf("the module for the chain has names: %x, %v", section, err)
	}
	names, err := ReadNames(file, built.Code)
	if err != nil || string(names) != "\x01\x02\x03" {
		t.Errorf("names: %x, %v", names, err)
	}
	if section, err := ledger.ModuleSection(WithNames(built.Code, names), "name"); string(section) != "\x01\x02\x03" || err != nil {
		t.Errorf("WithNames: %x, %v", section, err)
	}
	if _, err := ReadNames(file, []byte("another")); !errors.Is(err, ErrNames) || !strings.Contains(err.Error(), "build it again") {
		t.Errorf("names of another module: %v, want ErrNames", err)
	}
}

func FuzzInterface(f *testing.F) {
	suite, err := filepath.Glob("../../sdk-contracts/suite/*.interface")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range suite {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte("contract a 1 \"x\"\nstate a(u8)->opt<map<str,A>>\nenum A(b(c: B))\nstruct B()"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if s, err := ParseInterface(text, "strict"); err == nil {
			if _, err := s.Encode(); err != nil && !strings.Contains(err.Error(), "bytes") {
				t.Errorf("a schema that is valid and cannot be encoded: %v", err)
			}
		}
	})
}

func TestFinishOther(t *testing.T) {
	const text = "contract flawed 1\nview see()"
	code := assembled("", 1, []function{export("see")}, "")
	plain := code[:bytes.LastIndex(code, []byte(interfaceSection))-3] // without the section of the text
	b, err := Finish(t.Context(), plain, []byte(text))
	if err != nil || b.Schema.Name != "flawed" || b.Build.Language != "wasm" {
		t.Fatalf("with a text apart: %+v, %v", b, err)
	}
	made, err := ledger.Marshal(ledger.Build{Language: "zig", Compiler: "0.16"})
	if err != nil {
		t.Fatal(err)
	}
	withText := appendSection(appendSection(plain, interfaceSection, []byte(text)), ledger.BuildSection, made)
	if b, err = Finish(t.Context(), withText, nil); err != nil || b.Build.Language != "zig" {
		t.Errorf("with a text in the module, which says how it was built: %+v, %v", b, err)
	}
	for name, tc := range map[string]struct {
		code, text []byte
		want       string
	}{
		"no module":                       {[]byte("x"), nil, "not a WebAssembly module"},
		"no text":                         {plain, nil, "declares no contract"},
		"a text with a fault":             {plain, []byte("contract"), "line 1"},
		"a method without a function":     {plain, []byte(text + "\ntx put()"), "put"},
		"a build section that is no such": {appendSection(plain, ledger.BuildSection, []byte{1}), []byte(text), "section fondaco.build"},
	} {
		if _, err := Finish(t.Context(), tc.code, tc.text); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
}
