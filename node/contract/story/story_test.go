package story_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/fondaco/fondaco/node/contract"
	"github.com/fondaco/fondaco/node/contract/localchain"
	"github.com/fondaco/fondaco/node/contract/story"
	"github.com/fondaco/fondaco/state/keys/keystest"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/wasmvm"
)

// built builds the contracts that stories here are about, once.
var built = sync.OnceValues(func() (*story.Modules, error) {
	m := &story.Modules{}
	for name, dir := range map[string]string{"token": "../../../examples/token", "shapes": "../testdata/shapes"} {
		b, err := contract.Build(context.Background(), dir, "")
		if err != nil {
			return nil, err
		}
		m.Add(name, b)
	}
	return m, nil
})

// vm is shared by all tests, so that it prepares each module once.
var vm = sync.OnceValues(func() (*wasmvm.VM, error) { return localchain.NewVM(context.Background(), wasmvm.Interpreter) })

// tell tells stories that begin with a token, of which alice has 100.
func tell(t *testing.T, stories string) *story.Report {
	t.Helper()
	const begin = "accounts alice bob\naccounts carol institution=audit roles=deployer,user\naccounts judge institution=court roles=regulator\n" +
		"alice deploys token with Gold XAU alice\nalice calls token.issue alice 100\n"
	file, err := story.Parse("test.story", []byte(begin+stories))
	if err != nil {
		t.Fatal(err)
	}
	modules, err := built()
	if err != nil {
		t.Fatal(err)
	}
	machine, err := vm()
	if err != nil {
		t.Fatal(err)
	}
	report, err := file.Run(t.Context(), story.Config{VM: machine, Suite: keystest.Suite(), Module: modules.For("test.story"), Names: modules.Names})
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func TestRun(t *testing.T) {
	report := tell(t, `
story values can be said in several ways
alice calls token.transfer bob 40
  emits Transferred {"from":"alice","to":"bob","amount":"40"}
alice calls token.transfer amount=0 to=bob
  emits token.Transferred from=alice to=bob amount=0
token.balance_of bob is "40"
token.balance_of "bob" is 4_0
token.about is {"symbol":"XAU","name":"Gold","issuer":"alice"}
token.about is Gold XAU alice
token.about is symbol=XAU ...

story a story begins where the first began
token.balance_of bob is 0

story time and height
at 2026-05-01T12:00:00.001Z
carol deploys shapes
carol views shapes.who
  returns {"caller":"carol","origin":"carol","self":"shapes","height":3,"time":"2026-05-01T12:00:00.001Z","group":"main","method":"who","read_only":true,"deployer":true}
after 1h30m
carol views shapes.who is time=2026-05-01T13:30:00.001Z height=4 ...
after 14d
alice views shapes.who is time=2026-05-15T13:30:00.001Z caller=alice deployer=false ...
at block 100
shapes.who is height=99 caller=nobody ...
alice calls token.transfer bob 1
shapes.who is height=100 ...

story keeping and going back
keep before
alice calls token.transfer bob 1
keep after
back to before
token.balance_of bob is 0
alice calls token.transfer bob {2..4}
  emits Transferred from=alice to=bob amount={2..4}
token.balance_of bob is 9
back to after
token.balance_of bob is 1

story what is deployed later is not there when one goes back
keep before
alice deploys token as other with Silver XAG bob
bob calls other.issue bob 1
back to before
alice deploys token as other with Silver XAG alice
alice calls other.issue bob 1
  emits Issued to=bob amount=1

story roles and institutions
alice deploys shapes
carol calls shapes.restricted
alice calls shapes.restricted
  ends denied Role
alice calls shapes.restricted
  ends denied 105
  traces "needs one of the roles"

story system contracts have names, unless a contract of the story has it
judge calls access.freeze bob in 0 court-order null
  emits frozen account=bob ...
access.frozen bob is in=true out=false
alice calls access.freeze bob in 0 court-order null
  ends denied Role
judge calls access.freeze alice in 0 "" null
  refused BadArguments
alice deploys token as access with Iron FE alice
alice calls access.issue alice 1
  emits access.Issued to=alice amount=1

story endings
alice deploys shapes
view shapes.panic []
  ends aborted panic
view shapes.panic []
  ends aborted 2
view shapes.panic []
  ends aborted
alice calls token.transfer bob 1
  given 1000 gas
  ends out of gas
  uses 1000 gas
  uses at most 1000 gas
alice calls token.transfer bob 101
  refused InsufficientFunds ...
alice calls token.transfer
  given input (token.transfer bob 101)
  refused InsufficientFunds need=101 ...

story values of every shape
alice deploys shapes
shapes.echo {"name":"XS0123","colour":"Blue","legs":[{"pay":true,"rate":-1,"notes":["å"]}],"agent":"alice","digest":"(32 of 0xab)",
  "short":"0x01020304","blob":"text","size":"18446744073709551616","low":-5,"cash":[[1,2],[]]} is name=XS0123 colour=Blue legs=[{"pay":true,"rate":-1,"notes":["å"]}] agent=alice size=18446744073709551616 blob=0x74657874 ...
alice calls shapes.forward token transfer (list 1 2)
  returns 1
shapes.digest abc is 0xba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad
shapes.digest (0 of "x") is 0xe3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855

story an upgrade
alice upgrades token to shapes
  refused Incompatible ...
bob upgrades token to shapes breaking
  ends denied NotOwner
alice upgrades token to token
  refused Unchanged
alice upgrades token to shapes breaking
token.count is 0
`)
	if len(report.Stories) != 10 {
		t.Errorf("%d stories", len(report.Stories))
	}
	for _, s := range report.Stories {
		if s.Err != nil {
			t.Errorf("%s: %v", s.Title, s.Err)
		}
	}
}

// TestDifferences tells stories that are not true.
func TestDifferences(t *testing.T) {
	for name, tc := range map[string]struct{ steps, want string }{
		"a call that fails":         {"alice calls token.transfer bob 101", "got   refused InsufficientFunds have=100 need=101\n    want  ok\n    trace\n"},
		"a call that does not":      {"alice calls token.transfer bob 1\n  refused InsufficientFunds have=1 need=2", "got   ok\n    want  refused InsufficientFunds have=1 need=2"},
		"another error":             {"bob calls token.issue bob 1\n  refused InsufficientFunds ...", "got   refused NotIssuer issuer=alice\n"},
		"other fields":              {"bob calls token.issue bob 1\n  refused NotIssuer issuer=bob", "got   refused NotIssuer issuer=alice\n    want  refused NotIssuer issuer=bob"},
		"another status":            {"alice views token.transfer bob 1\n  ends trapped", "got   ends denied ReadOnly\n    want  ends trapped"},
		"another code":              {"alice views token.transfer bob 1\n  ends denied Role", "got   ends denied ReadOnly\n    want  ends denied Role"},
		"another abort code":        {"alice calls token.issue bob 340282366920938463463374607431768211455\n  ends aborted panic", "got   ends aborted 3 (\"u128 add\")\n    want  ends aborted panic"},
		"a success":                 {"alice calls token.transfer bob 1\n  ends aborted", "got   ok\n    want  ends aborted"},
		"another result":            {"token.balance_of alice is 99", "got   100\n    want  99"},
		"another field of a result": {"token.about is name=Silver ...", "got   name=\"Gold\" symbol=\"XAU\" issuer=alice\n    want  name=Silver ..."},
		"another event":             {"alice calls token.transfer bob 1\n  emits Transferred from=alice to=bob amount=2", "got   emits Transferred from=alice to=bob amount=1\n    want  emits Transferred from=alice to=bob amount=2"},
		"an event too many":         {"alice calls token.transfer bob 1\n  emits nothing", "got   emits Transferred from=alice to=bob amount=1\n    want  emits nothing"},
		"an event too few":          {"alice calls token.transfer bob 1\n  emits Transferred from=alice to=bob amount=1\n  emits Issued to=bob amount=1", "\n    want  emits Transferred from=alice to=bob amount=1\n          emits Issued to=bob amount=1"},
		"an event of another":       {"alice deploys token as other with a b alice\nalice calls token.issue bob 1\n  emits other.Issued to=bob amount=1", "got   emits Issued to=bob amount=1\n    want  emits other.Issued"},
		"no events":                 {"alice calls token.balance_of bob\n  emits Issued to=bob amount=1", "got   emits nothing\n"},
		"more gas":                  {"alice calls token.transfer bob 1\n  uses at most 10 gas", "gas\n    want  at most 10"},
		"other gas":                 {"alice calls token.transfer bob 1\n  uses 10 gas", "gas\n    want  10 gas"},
		"another trace":             {"alice calls token.transfer bob 101\n  refused InsufficientFunds ...\n  traces \"the moon\"", "want  traces \"the moon\""},
		"one of many":               {"alice calls token.transfer bob {49..60}", "calls token.transfer bob 51\n    got   refused InsufficientFunds have=1 need=51"},
	} {
		t.Run(name, func(t *testing.T) {
			report := tell(t, "story one\n"+tc.steps+"\nstory two\ntoken.balance_of alice is 100\n")
			err := report.Stories[0].Err
			differs, ok := errors.AsType[*story.FailureError](err)
			if !ok || !strings.Contains(err.Error(), tc.want) || !strings.HasPrefix(differs.Place, "test.story:") {
				t.Errorf("got %v\nwant %s", err, tc.want)
			}
			if ok && strings.Contains(differs.Trace, "stack trace") && (!strings.Contains(differs.Trace, ".fondaco_") || strings.Contains(differs.Trace, ".$") || strings.Contains(differs.Trace, "wazero")) {
				t.Errorf("the trace does not name the functions:\n%s", differs.Trace)
			}
			if report.Stories[1].Err != nil || !report.Failed() {
				t.Errorf("the next story: %v", report.Stories[1].Err)
			}
		})
	}
}

// TestFaults tells stories that ask for what there is not.
func TestFaults(t *testing.T) {
	for steps, want := range map[string]string{
		"dave calls token.transfer bob 1":                          `no such account as "dave"; there are: alice, bob, carol, judge`,
		"alice calls token.transfer dave 1":                        `argument to: no such account as "dave"`,
		"alice calls gold.transfer bob 1":                          "no contract gold; there are: token. Deploy it first: ACCOUNT deploys gold",
		"alice calls token.burn 1":                                 `no method "burn"; there are: init, issue`,
		"alice calls token.transfer bob":                           "transfer(to addr, amount u128): 1 values, want 2",
		"alice calls token.transfer to=bob amounts=1":              "no amount=; either all values have names or none",
		"alice calls token.transfer bob much":                      "argument amount: ",
		"alice deploys gold":                                       "the project has no module gold: say where it is",
		"alice deploys gold from nowhere":                          "there is no ",
		"alice deploys token":                                      "token is the name of ",
		"alice deploys token as bob":                               "bob is the name of ",
		"alice deploys shapes with 1":                              `no method "init"`,
		"alice upgrades gold to shapes":                            "no contract gold to upgrade",
		"back to then":                                             "no point then was kept",
		"at 2025-01-01":                                            "not a time to come",
		"at block 1":                                               "not a time to come",
		"alice calls token.issue bob 1\n  refused Broke":           "the contract token has no error Broke",
		"bob calls token.issue bob 1\n  refused NotIssuer":         "0 of the fields issuer; say all, or end with ... for some",
		"bob calls token.issue bob 1\n  refused NotIssuer who=bob": "who=bob: the fields are issuer",
		"alice calls token.transfer to=bob to=bob":                 "to is said twice",
		"alice calls token.transfer bob 1\n  emits Transferred from=alice from=alice amount=1": "from is said twice",
		"alice calls token.transfer bob 1\n  emits Transferred amount=1 bob 1":                 "amount is said twice",
		"alice calls token.transfer bob 1\n  emits Transferred to=bob to=bob ...":              "to is said twice",
		`token.about is {"name":"Gold","symbol":"XAU","name":"Gold","issuer":"alice"}`:         "name is said twice",
		"token.about is symbol=XAU symbol=XAU issuer=alice":                                    "symbol is said twice",
		"alice calls token.issue bob 1\n  emits Minted":                                        "the contract token has no event Minted",
		"alice calls token.issue bob 1\n  emits gold.Issued":                                   "no contract gold",
		"alice calls token.issue bob 1\n  returns 1":                                           "issue returns nothing",
		"token.balance_of alice is 1 2":                                                        "2 values, want one of type u128",
		"token.balance_of alice is (list 1)":                                                   "is a list, want a value of type u128",
		"token.balance_of alice is (u128 1)":                                                   "is bytes, want a value of type u128",
		"alice calls token.pay bob 1 (u129 1)":                                                 `type "u129" is not known`,
		"alice calls token.pay bob 1 (token.nothing 1)":                                        "the contract token has no method, event, error or type nothing",
		"alice calls token.pay bob 1 (token.About 1)":                                          "1 values, want 3",
		"alice calls token.pay bob 1 (2000000 of 0x00)":                                        "at most 1048576",
		"alice calls token.pay bob 1 ()":                                                       "() is empty",
		"alice deploys shapes\nshapes.panic (70000 of 1) is 1":                                 "want at most 65536 elements",
	} {
		t.Run(steps, func(t *testing.T) {
			err := tell(t, "story one\n"+steps+"\n").Stories[0].Err
			_, differs := errors.AsType[*story.FailureError](err)
			if err == nil || differs || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "test.story:") {
				t.Errorf("got %v\nwant %s", err, want)
			}
		})
	}
}

func TestSyntax(t *testing.T) {
	for text, want := range map[string]string{
		"alice sells the house":                  `1: not a story: "alice sells the house": want one of`,
		"accounts":                               "0 accounts, want 1 to 1000 in all",
		"accounts a a":                           "there are two accounts a",
		"accounts 7":                             "7 is no name of an account",
		"accounts a institution=b institution=c": "institution is said twice",
		"accounts a age=7":                       "an account has institution= and roles=, no age",
		"story one\naccounts a":                  "2: not a story: accounts come first",
		"accounts a\n\n# a comment\nstory":       "4: not a story: a story needs a title",
		"  emits nothing":                        "an indented line says what the step above it does",
		"keep x\n  emits nothing":                "below a step that calls nothing",
		"at noon":                                "noon is no time",
		"at 2026-01-01T00:00:00.0001Z":           "is no time",
		"at block x":                             "x is no number",
		"after 0s":                               "is no duration",
		"after 1us":                              "is no duration",
		"a calls b":                              "b: want CONTRACT.METHOD",
		"a calls b.c [1,":                        "JSON that begins with",
		"a calls b.c (1":                         "a parenthesis is not closed",
		"a calls b.c )":                          "a parenthesis that closes nothing",
		"a calls b.c {1..2} {1..3}":              "two ranges in one step",
		"a calls b.c {3..1}":                     "want to count upwards",
		"a calls b.c {1..2000}":                  "to at most 1000",
		"a calls b.c \"x\"y":                     `is followed by 'y': want a space`,
		"b.c 1":                                  "say what it returns",
		"b.c 1 is":                               "is: say what",
		"a deploys b of c":                       "of c: want from PATH",
		"a deploys b from":                       "after from: want from PATH",
		"a calls b.c\n  given 0 gas":             "want one number above 0",
		"a calls b.c 1\n  given input 0x":        "takes the place of arguments",
		"a calls b.c\n  ends badly":              `"ends badly": want one of`,
		"a calls b.c\n  ends trapped 7":          `"ends trapped 7": want one of`,
		"a calls b.c " + strings.Repeat("(", 17): "more than 16 parentheses within one another",
		strings.Repeat("# a story of a million bytes", 40e3): "bytes, at most 1048576",
	} {
		_, err := story.Parse("test.story", []byte(text))
		if !errors.Is(err, story.ErrSyntax) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, want %q", text, err, want)
		}
	}
	if f, err := story.Parse("test.story", nil); err != nil || len(f.Stories) != 0 {
		t.Errorf("an empty file: %v, %v", f, err)
	}
}

func TestProject(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"b.story", "a/x.story", ".hidden/y.story", "target/z.story", "note.txt"} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755), os.WriteFile(filepath.Join(dir, name), nil, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	found, err := story.Find(dir)
	if want := []string{filepath.Join(dir, "a/x.story"), filepath.Join(dir, "b.story")}; err != nil || fmt.Sprint(found) != fmt.Sprint(want) {
		t.Errorf("Find = %v, %v, want %v", found, err, want)
	}
	modules, err := built()
	if err != nil {
		t.Fatal(err)
	}
	of, err := modules.Get(t.Context(), "token")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "gold.wasm"), of.Code, 0o644); err != nil {
		t.Fatal(err)
	}
	find := modules.For(filepath.Join(dir, "b.story"))
	if code, err := find(t.Context(), "anything", "gold.wasm"); err != nil || len(code) != len(of.Code) {
		t.Errorf("gold.wasm has %d bytes, %v", len(code), err)
	}
	if _, err := find(t.Context(), "anything", "a"); !errors.Is(err, contract.ErrLanguage) {
		t.Errorf("a folder without a contract: %v", err)
	}
}

func TestGasOf(t *testing.T) {
	report := tell(t, "story one\nalice calls token.transfer bob {1..3}\nalice calls token.transfer bob 100\n  refused InsufficientFunds ...\n")
	for _, g := range story.GasOf(report.Calls) {
		if g.Method == "transfer" && (g.Calls != 3 || g.Failed != 1 || g.Min == 0 || g.Min > g.Mean || g.Mean > g.Max || g.Kind != ledger.MethodTx) {
			t.Errorf("gas of transfer: %+v", g)
		}
	}
}

// FuzzParse checks that no text makes the parser fail in another way than by an error.
func FuzzParse(f *testing.F) {
	for _, name := range []string{"token", "escrow", "registry", "multisig", "caller"} {
		text, err := os.ReadFile("../../../sdk-contracts/suite/" + name + story.Extension)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte("a calls b.c {1..3} x=(list {1..2} (3 of \"a\")) [{\"a\":\n1}] # why\n  refused D e={1..3}\n\tuses at most 1_0 gas\nafter 1d\nat block 5"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if _, err := story.Parse("fuzz.story", text); err != nil && !errors.Is(err, story.ErrSyntax) {
			t.Error(err)
		}
	})
}
