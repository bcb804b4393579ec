package cli_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pelletier/go-toml/v2"

	"github.com/fondaco/fondaco/node/cli"
	"github.com/fondaco/fondaco/node/cli/clitest"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/keys/keystest"
)

// Rust and AssemblyScript take a minute to build what they need: their projects are made with this flag, or with
// FONDACO_REQUIRE_TOOLS=1, as in CI.
var allLanguages = flag.Bool("all-languages", false, "try sdk-contracts/README.md in Rust and AssemblyScript as well")

// fenced returns the blocks of a document that are marked as a language.
func fenced(t *testing.T, file, mark string) []string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var blocks []string
	for _, found := range regexp.MustCompile("(?ms)^```"+mark+"\n(.*?)^```$").FindAllStringSubmatch(string(text), -1) {
		blocks = append(blocks, found[1])
	}
	return blocks
}

// shell runs a script of a document in a folder, and stops at the first command that fails.
func shell(t *testing.T, c *chain, dir, script string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "bash", "-euxo", "pipefail", "-c", script)
	cmd.Dir = dir
	cmd.Env = append(append(os.Environ(), c.env...), "FONDACO_FROM=admin", "FONDACO_KEY="+filepath.Join(c.dir, "admin.key"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

// TestJoinReadme does what README.md says on joining a network, on one machine: a bank's node joins a chain of two others, whose nodes
// ask for certificates, and becomes a member.
func TestJoinReadme(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: starts three nodes")
	}
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(readme), "\n## Join a network\n")
	_, section, opened := strings.Cut(section, "```sh\n")
	script, _, closed := strings.Cut(section, "```\n")
	if !found || !opened || !closed {
		t.Fatal("README.md has no commands under Join a network")
	}
	suite, provider := keystest.Suite(), "ca-x509"
	if suite.Vote() == keys.SM2 {
		provider = "ca-gm"
	}
	dir := t.TempDir()
	scripts, err := filepath.Abs("testdata/join")
	if err != nil {
		t.Fatal(err)
	}
	ports, err := clitest.FreePorts(6)
	if err != nil {
		t.Fatal(err)
	}
	env := append(os.Environ(), "SUITE="+suite.Name(), "FONDACO_SUITE="+suite.Name(), "CA="+provider, "JOIN="+scripts, "WORK="+dir)
	for i, name := range []string{"A", "B", "E", "APIA", "APIB", "APIE"} {
		env = append(env, fmt.Sprintf("%s=%d", name, ports[i]))
	}
	run := func(script string) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), 4*clitest.Patience)
		defer cancel()
		cmd := exec.CommandContext(ctx, "bash", "-euxo", "pipefail", "-c", script)
		cmd.Dir, cmd.Env, cmd.WaitDelay = dir, env, time.Second
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return string(out)
	}
	defer func() {
		run("for pid in *.pid; do kill $(cat $pid) || true; while kill -0 $(cat $pid); do sleep 0.1; done; done")
	}()
	founded := run(`sh $JOIN/found.sh
fondaco ca new ca-e --institution bank-e --unlocked
sh $JOIN/trust.sh ca-e bank-e
for x in a b; do fondaco run -d $x >$x.log 2>&1 & echo $! >$x.pid; done
until fondaco status -d a | grep -q "peer .*up,"; do sleep 0.1; done`)
	chain := regexp.MustCompile(`(?m)^chain +(0x[0-9a-f]{64})$`).FindStringSubmatch(founded)
	if chain == nil {
		t.Fatalf("found.sh did not print the chain's id:\n%s", founded)
	}
	// What stands for something in the document, and waits that a person needs no command for.
	for old, now := range map[string]string{
		"--listen 10.0.0.5:9540": "--listen 127.0.0.1:$E --api-listen 127.0.0.1:$APIE --admin-listen ''",
		"--chain 0x…":            "--chain " + chain[1],
		"motion execute 1 -d a --from chair-a --key chair-a.key": "motion execute 1 -d a --from chair-a --key chair-a.key | tee activated",
		"fondaco run -d e\n": "fondaco run -d e >e.log 2>&1 & echo $! >e.pid\nuntil fondaco status -d e | grep -q '^role *observer'; do sleep 0.1; done\n",
		"--add NODE ":        "--add $(fondaco status -d e | awk '$1 == \"node\" { print $2 }') ",
		"fondaco motion ready 2 -d e --from ACCOUNT --key voice.key": "until fondaco motion ready 2 -d e --from $(grep -o 'account is 0x[0-9a-f]*' activated | cut -d ' ' -f 3) --key voice.key; do sleep 0.1; done",
	} {
		if strings.Count(script, old) != 1 {
			t.Fatalf("README.md has %d times %q under Join a network, want it once", strings.Count(script, old), old)
		}
		script = strings.Replace(script, old, now, 1)
	}
	out := run(script + "until fondaco status -d e | grep '^role'  | grep 'member 2 of 3'; do sleep 0.1; done\n")
	for _, want := range []string{`(?m)^fingerprint +0x[0-9a-f]{64}$`, `(?m)^ok +certificate `, `member 2 of 3`} {
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("the commands did not print %s:\n%s", want, out)
		}
	}
}

// TestContractsReadme does what sdk-contracts/README.md says, in every language: a new project is tested and built, and the
// result deployed to a running chain, called, verified and upgraded.
func TestContractsReadme(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: builds contracts and starts a node")
	}
	const network = "go run ./testnet up -d /tmp/net --detach\n"
	blocks := fenced(t, "../../sdk-contracts/README.md", "sh")
	// This test has a chain already; that of the document is started by the test of the root's README.md.
	blocks = slices.DeleteFunc(blocks, func(b string) bool { return strings.HasPrefix(b, network) })
	script := strings.Join(blocks, "")
	for _, want := range []string{"contract new --lang go hello", "contract test", "contract deploy", "contract upgrade", " hello.go\n"} {
		if !strings.Contains(script, want) {
			t.Fatalf("sdk-contracts/README.md has no command with %q", want)
		}
	}
	c := &shared
	if err := c.start(); err != nil {
		t.Fatal(err)
	}
	required := os.Getenv("FONDACO_REQUIRE_TOOLS") == "1"
	for _, l := range []struct {
		name, file    string
		tool, install string
		slow          bool
	}{
		{"go", "hello.go", "go", "https://go.dev/dl", false},
		{"c", "hello.c", "clang", "apt-get install clang lld gcc", false},
		{"rust", "src/lib.rs", "cargo", "apt-get install rustc cargo libstd-rust-dev-wasm32", true},
		{"as", "assembly/index.ts", "asc", "npm install --global assemblyscript", true},
	} {
		t.Run(l.name, func(t *testing.T) {
			if _, err := exec.LookPath(l.tool); err != nil && !required {
				t.Skipf("needs the command %s: %s", l.tool, l.install)
			}
			if l.slow && !*allLanguages && !required {
				t.Skip("takes a minute: run with -all-languages, or FONDACO_REQUIRE_TOOLS=1")
			}
			script := strings.NewReplacer("--lang go hello ", "--lang "+l.name+" hello ", " hello.go\n", " "+l.file+"\n").Replace(script)
			out := shell(t, c, t.TempDir(), script)
			for _, want := range []string{`unit tests +passed`, `story +ok`, `nodes would admit it`, `"amount":"5"`, `same +true`} {
				if !regexp.MustCompile(want).MatchString(out) {
					t.Errorf("the commands did not print %s:\n%s", want, out)
				}
			}
		})
	}

	t.Run("the retrieval package of examples/evidence", func(t *testing.T) {
		if _, err := exec.LookPath("cargo"); err != nil && !required {
			t.Skip("needs the command cargo: apt-get install rustc cargo libstd-rust-dev-wasm32")
		}
		if !*allLanguages && !required {
			t.Skip("builds a contract in Rust: run with -all-languages, or FONDACO_REQUIRE_TOOLS=1")
		}
		dir := t.TempDir()
		examples, err := filepath.Abs("../../examples")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(examples, filepath.Join(dir, "examples")); err != nil {
			t.Fatal(err)
		}
		blocks := slices.DeleteFunc(fenced(t, "../../examples/evidence/README.md", "sh"), func(b string) bool { return strings.HasPrefix(b, network) })
		script := strings.NewReplacer("contract build ", "contract build --no-lock ", "/tmp/net/node0/", c.dir+"/node/", "/tmp/net/keys/", c.dir+"/").Replace(strings.Join(blocks, ""))
		out := shell(t, c, dir, script)
		digest := regexp.MustCompile(`(?m)^([0-9a-f]{64})  loan.pdf$`).FindStringSubmatch(out)
		if digest == nil {
			t.Fatalf("the commands did not print the digest of loan.pdf:\n%s", out)
		}
		for _, want := range []string{
			`method +deposit {"digest":"0x` + digest[1] + `","algorithm":"sha256"`, `result +1\n`,
			`that is +{"digest":"0x` + digest[1] + `".*"parties":\[{"who":"0x[0-9a-f]{40}","confirmed":"[0-9]+"}\].*"disavowed":null}`,
		} {
			if !regexp.MustCompile(want).MatchString(out) {
				t.Errorf("the commands did not print %s:\n%s", want, out)
			}
		}
		code := regexp.MustCompile(`that is +.*"code":"(0x[0-9a-f]{64})"[^\n]*\nmodule +(0x[0-9a-f]{64})`).FindStringSubmatch(out)
		if code == nil || code[1] != code[2] {
			t.Errorf("the proof of the contract's code and the module differ: %q\n%s", code, out)
		}
	})

	t.Run("the contract without an SDK of wasmvm/ABI.md", func(t *testing.T) {
		if _, err := exec.LookPath("wat2wasm"); err != nil {
			if required {
				t.Fatal("needs wat2wasm: apt-get install wabt")
			}
			t.Skip("needs wat2wasm: apt-get install wabt")
		}
		dir := t.TempDir()
		for mark, file := range map[string]string{"wat": "counter.wat", "interface": "counter.interface"} {
			found := fenced(t, "../../wasmvm/ABI.md", mark)
			if len(found) != 1 {
				t.Fatalf("wasmvm/ABI.md has %d blocks of %s, want 1", len(found), mark)
			}
			if err := os.WriteFile(filepath.Join(dir, file), []byte(found[0]), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		out := shell(t, c, dir, strings.Join(fenced(t, "../../wasmvm/ABI.md", "sh"), ""))
		if !strings.Contains(out, "Full (code 1001)") && !strings.Contains(out, "aborted: Full") {
			t.Errorf("the third bump was not refused:\n%s", out)
		}
	})
}

// TestHTTPSReadme does what node/login/README.md says, with a node that runs.
func TestHTTPSReadme(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: starts a node")
	}
	ports, err := clitest.FreePorts(2)
	if err != nil {
		t.Fatal(err)
	}
	dir, api := t.TempDir(), fmt.Sprint(ports[1])
	run := func(script string) {
		t.Helper()
		command := exec.CommandContext(t.Context(), "bash", "-euxo", "pipefail", "-c", strings.ReplaceAll(script, ":9541", ":"+api))
		command.Dir = dir
		if out, err := command.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	const page = "../login/README.md"
	blocks := fenced(t, page, "sh")
	if len(blocks) != 5 {
		t.Fatalf("%s has %d blocks of commands, want 5", page, len(blocks))
	}
	run(fmt.Sprintf("fondaco init -d node --institution bank-a --listen 127.0.0.1:%d --admin-listen ''; fondaco keys new clerk.key; fondaco genesis new node/member.json --name one --account clerk:bank-a:registrar:clerk.key; fondaco init -d node --genesis genesis.json", ports[0]))
	run(blocks[0])
	file, err := cli.ReadConfig(filepath.Join(dir, "node"))
	if err != nil {
		t.Fatal(err)
	}
	var wanted cli.File
	if err := toml.Unmarshal([]byte(fenced(t, page, "toml")[0]), &wanted); err != nil {
		t.Fatal(err)
	}
	file.API = wanted.API
	file.API.Listen = strings.ReplaceAll(file.API.Listen, ":9541", ":"+api)
	if err := cli.WriteConfig(filepath.Join(dir, "node"), file); err != nil {
		t.Fatal(err)
	}
	node := exec.CommandContext(t.Context(), "fondaco", "run", "-d", "node")
	node.Dir = dir
	node.Cancel = func() error { return node.Process.Signal(os.Interrupt) }
	if err := node.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := node.Process.Signal(os.Interrupt); err != nil {
			t.Error(err)
		}
		if err := node.Wait(); err != nil {
			t.Errorf("the node ended: %v", err)
		}
	}()
	run("for i in $(seq 300); do fondaco status -d node && exit 0; sleep 0.1; done; exit 1")
	for _, block := range blocks[1:] {
		run(block)
	}
	run("! fondaco status --api https://localhost:9541 --ca ca/ca.pem --token-file reports.token")
	run("fondaco status --api https://localhost:9541 --ca ca/ca.pem --client-cert alice.pem --client-key alice.tls")
}
