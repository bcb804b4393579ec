package cli_test

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"filippo.io/age"
	"filippo.io/age/armor"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/fondaco/fondaco/node/audit"
	"github.com/fondaco/fondaco/node/cli"
	"github.com/fondaco/fondaco/node/cli/clitest"
	cagm "github.com/fondaco/fondaco/plugins/cmd/ca-gm"
	caquorum "github.com/fondaco/fondaco/plugins/cmd/ca-quorum"
	cax509 "github.com/fondaco/fondaco/plugins/cmd/ca-x509"
	enginepbft "github.com/fondaco/fondaco/plugins/cmd/engine-pbft"
	engineraft "github.com/fondaco/fondaco/plugins/cmd/engine-raft"
	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/keys/keyfile"
	"github.com/fondaco/fondaco/state/keys/keystest"
)

// TestMain makes this test binary also be the program fondaco, under that name for scripts, and under any name
// when it is started again as a plugin program. After the tests it ends the chain that they shared.
func TestMain(m *testing.M) {
	fondaco := func() {
		os.Exit(cli.Main(os.Args, cli.Plugins{"ca-gm": cagm.Main, "ca-quorum": caquorum.Main, "ca-x509": cax509.Main, "engine-pbft": enginepbft.Main, "engine-raft": engineraft.Main}))
	}
	if len(os.Args) > 1 && os.Args[1] == "plugin" {
		fondaco()
	}
	testscript.Main(tests{m}, map[string]func(){"fondaco": fondaco, "scribe": scribeMain})
}

// tests are those of the package, and the end of what they shared.
type tests struct{ *testing.M }

func (t tests) Run() int {
	code := t.M.Run()
	if err := errors.Join(shared.end(code == 0), governed.end(code == 0), proposed.end(code == 0)); err != nil {
		fmt.Println(err)
		code = 1
	}
	return code
}

// TestScripts runs the commands as a person at a terminal would. Besides what testscript and package clitest have, scripts can say:
//
//	chain                    speak to a chain of one node, with a token, that the scripts share
//	chain governed           speak to one whose rules the script changes for everybody
//	chain proposed           speak to one on which the script leaves motions open, as many as an institution may
//	secret KEY... -- FILE... none of the files has a private key of the key files in it
//	relock KEY...            lock the key files again, with the same passphrase in a way that takes no second to open
//
// SUITE, which is FONDACO_SUITE too, is the suite of the tests, ALGORITHM that of its keys, OTHER the other suite, CA the provider for it, and
// JOIN the folder testdata/join.
func TestScripts(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: the scripts start hundreds of processes, some of them nodes")
	}
	suite, other, provider := keystest.Suite().Name(), "gm", "ca-x509"
	if suite == "gm" {
		other, provider = "std", "ca-gm"
	}
	folder, err := filepath.Abs(filepath.Join("testdata", "join"))
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("FONDACO_SUITE", suite)
			env.Setenv("SUITE", suite)
			env.Setenv("ALGORITHM", keystest.Suite().Vote().String())
			env.Setenv("OTHER", other)
			env.Setenv("CA", provider)
			env.Setenv("JOIN", folder)
			// What `fondaco contract build` needs of the Go toolchain.
			for _, name := range []string{"GOCACHE", "GOMODCACHE", "GOPATH"} {
				value, err := exec.Command("go", "env", name).Output()
				if err != nil {
					return fmt.Errorf("go env %s: %w; these tests need the Go toolchain on PATH", name, err)
				}
				env.Setenv(name, strings.TrimSpace(string(value)))
			}
			return nil
		},
		RequireExplicitExec: true,
		// The conditions [std] and [gm] hold under that suite.
		Condition: func(cond string) (bool, error) {
			if _, err := keys.SuiteByName(cond); err != nil {
				return false, err
			}
			return cond == keystest.Suite().Name(), nil
		},
		Cmds: clitest.Commands(map[string]func(*testscript.TestScript, bool, []string){
			"chain": func(ts *testscript.TestScript, _ bool, args []string) {
				c := map[string]*chain{"": &shared, "governed": &governed, "proposed": &proposed}[strings.Join(args, " ")]
				if c == nil {
					ts.Fatalf("there is no chain %s", args)
				}
				ts.Check(c.start())
				for _, pair := range c.env {
					name, value, _ := strings.Cut(pair, "=")
					ts.Setenv(name, value)
				}
			},
			"secret": func(ts *testscript.TestScript, _ bool, args []string) { secret(ts, args) },
			"relock": func(ts *testscript.TestScript, _ bool, args []string) { relock(ts, args) },
			"rotate": func(ts *testscript.TestScript, _ bool, args []string) { rotate(ts, args) },
			"forge":  func(ts *testscript.TestScript, _ bool, args []string) { forge(ts, args) },
		}),
	})
}

// rotate writes reads into the log of a stopped node in a folder until the file that it has is one of those that a node deletes, and deletes it.
func rotate(ts *testscript.TestScript, args []string) {
	if len(args) != 2 {
		ts.Fatalf("want: rotate SUITE FOLDER")
	}
	suite, err := keys.SuiteByName(args[0])
	ts.Check(err)
	dir := ts.MkAbs(args[1])
	report, err := audit.WalkReads(suite, state.OS(), []string{dir}, nil)
	ts.Check(err)
	log, err := audit.OpenReads(audit.ReadsConfig{
		LogConfig: audit.LogConfig{Suite: suite, Chain: report.Chain, Group: "main", Node: report.Node, FS: state.OS(), Dir: dir, Size: 1_000},
		Anchored: func() (count uint64, digest keys.Digest, err error) {
			_, err = audit.WalkReads(suite, state.OS(), []string{dir}, func(r *audit.Read, d keys.Digest) error {
				count, digest = r.Number, d
				return nil
			})
			return count, digest, err
		},
	})
	ts.Check(err)
	for report.Gone == 0 {
		ts.Check(log.Append(&audit.Read{UnixMilli: 1, Name: "inspector", Roles: []string{"regulator"}, Method: "GET", URI: "/v1/chain", Query: []byte{}}))
		report, err = audit.WalkReads(suite, state.OS(), []string{dir}, nil)
		ts.Check(err)
	}
	ts.Check(log.Close())
}

// forge writes the log of reads of a stopped node in a folder anew, without the oldest read that it has and with some more of what was read last, so that it is as
// long as before and longer; with "gone", without all that it has and one read more. LOG, COUNT and DIGEST are then what anchors it.
func forge(ts *testscript.TestScript, args []string) {
	gone := len(args) == 3 && args[2] == "gone"
	if len(args) != 2 && !gone {
		ts.Fatalf("want: forge SUITE FOLDER [gone]")
	}
	suite, err := keys.SuiteByName(args[0])
	ts.Check(err)
	dir := ts.MkAbs(args[1])
	var kept []*audit.Read
	report, err := audit.WalkReads(suite, state.OS(), []string{dir}, func(r *audit.Read, _ keys.Digest) error {
		kept = append(kept, r)
		return nil
	})
	ts.Check(err)
	last := kept[len(kept)-1]
	if gone {
		report.Gone, report.Base, kept = report.Count+1, keys.Digest{1}, kept[:1]
	}
	ts.Check(os.RemoveAll(dir))
	log, err := audit.OpenReads(audit.ReadsConfig{
		LogConfig: audit.LogConfig{Suite: suite, Chain: report.Chain, Group: "main", Node: report.Node, FS: state.OS(), Dir: dir, Size: audit.DefaultReadsSize},
		Anchored:  func() (uint64, keys.Digest, error) { return report.Gone, report.Base, nil },
	})
	ts.Check(err)
	for _, r := range append(kept[1:], last, last, last) {
		ts.Check(log.Append(r))
	}
	ts.Check(log.Close())
	var digest keys.Digest
	forged, err := audit.WalkReads(suite, state.OS(), []string{dir}, func(_ *audit.Read, d keys.Digest) error {
		digest = d
		return nil
	})
	ts.Check(err)
	ts.Setenv("LOG", audit.ReadsName(forged.Node))
	ts.Setenv("COUNT", fmt.Sprint(forged.Count))
	ts.Setenv("DIGEST", digest.String())
}

// relock replaces the key files' work factor, which makes each guess at a passphrase take a second of a core, by one that is for tests only. The
// passphrase is what the script has in the file secret.
func relock(ts *testscript.TestScript, args []string) {
	passphrase := strings.TrimSpace(ts.ReadFile("secret"))
	identity, err := age.NewScryptIdentity(passphrase)
	ts.Check(err)
	recipient, err := age.NewScryptRecipient(passphrase)
	ts.Check(err)
	recipient.SetWorkFactor(1)
	for _, name := range args {
		opened, err := age.Decrypt(armor.NewReader(strings.NewReader(ts.ReadFile(name))), identity)
		ts.Check(err)
		data, err := io.ReadAll(opened)
		ts.Check(err)
		var out bytes.Buffer
		armored := armor.NewWriter(&out)
		sealed, err := age.Encrypt(armored, recipient)
		ts.Check(err)
		_, err = sealed.Write(data)
		ts.Check(errors.Join(err, sealed.Close(), armored.Close()))
		ts.Check(os.WriteFile(ts.MkAbs(name), out.Bytes(), 0o600))
	}
}

// secret looks at every byte of files for private keys: as they are, in hexadecimal and in base64, and in what PEM blocks hold.
func secret(ts *testscript.TestScript, args []string) {
	dash := slices.Index(args, "--")
	if dash < 1 || dash == len(args)-1 {
		ts.Fatalf("want: secret KEY... -- FILE...")
	}
	forms := map[string][]byte{}
	for _, name := range args[:dash] {
		var private []byte
		for _, suite := range []keys.Suite{keys.Std(), keys.GM()} {
			key, err := keyfile.Read(ts.MkAbs(name), suite, func() (string, error) { return strings.TrimSpace(ts.ReadFile("secret")), nil })
			if errors.Is(err, keys.ErrAlgorithm) {
				continue
			}
			ts.Check(err)
			private, err = key.Private()
			ts.Check(err)
		}
		if len(private) != 32 {
			ts.Fatalf("the private key of %s has %d bytes", name, len(private))
		}
		forms[name] = private
		forms[name+" in hexadecimal"] = []byte(hex.EncodeToString(private))
		for shift := range 3 { // base64 of what it is in the middle of
			text := base64.StdEncoding.EncodeToString(append(make([]byte, shift), private...))
			forms[fmt.Sprintf("%s in base64, at %d", name, shift)] = []byte(text[4 : len(text)-4])
		}
	}
	for _, name := range args[dash+1:] {
		data := []byte(ts.ReadFile(name))
		places := [][]byte{data, bytes.ToLower(data), bytes.Join(bytes.Fields(data), nil)}
		for rest := data; ; {
			var block *pem.Block
			if block, rest = pem.Decode(rest); block == nil {
				break
			}
			places = append(places, block.Bytes, bytes.Join(bytes.Fields(block.Bytes), nil))
		}
		for _, place := range places {
			for what, form := range forms {
				if bytes.Contains(place, form) {
					ts.Fatalf("%s holds the private key of %s", name, what)
				}
			}
			if bytes.Contains(place, []byte("PRIVATE KEY")) {
				ts.Fatalf("%s holds a private key", name)
			}
		}
	}
}

// shared is the chain of this package's tests; the first that needs it starts it.
var shared = chain{suite: keystest.Suite()}

// governed is the same for motions: authorities that they name, for one, are in the way of scripts about certificates.
var governed = chain{suite: keystest.Suite()}

// proposed is the same for a script that leaves no room for the motions of others.
var proposed = chain{suite: keystest.Suite()}

// chain is a chain of one node that tests share. Its accounts are admin, alice, bob, chair, who speaks for the institution
// in motions, bea, the compliance officer of another one, and, for scripts that change keys, carol; the token's issuer is admin, who has given alice 1000 units.
type chain struct {
	suite keys.Suite

	dir  string
	once sync.Once
	err  error
	env  []string
	node *exec.Cmd
	log  *os.File
}

func (c *chain) start() error {
	c.once.Do(func() { c.err = c.make() })
	return c.err
}

func (c *chain) fondaco(args ...string) (string, error) {
	command := exec.Command("fondaco", args...)
	command.Dir, command.Env = c.dir, append(os.Environ(), c.env...)
	out, err := command.Output()
	if err != nil {
		if ended, ok := errors.AsType[*exec.ExitError](err); ok {
			err = fmt.Errorf("%w: %s", err, ended.Stderr)
		}
		return "", fmt.Errorf("fondaco %s: %w", strings.Join(args, " "), err)
	}
	return string(out), nil
}

func (c *chain) make() error {
	var err error
	if c.dir, err = os.MkdirTemp("", "fondaco-cli-"); err != nil {
		return err
	}
	c.env = []string{"FONDACO_SUITE=" + c.suite.Name()}
	ports, err := clitest.FreePorts(3)
	if err != nil {
		return err
	}
	address := func(i int) string { return fmt.Sprintf("127.0.0.1:%d", ports[i]) }
	module, err := filepath.Abs("../../testnet/sim/testdata/token.wasm") // one in C, as modules in Go take a second each time that they are loaded
	if err != nil {
		return err
	}
	roles := map[string]string{"admin": "deployer,institution-admin,registrar", "alice": "user", "bob": "user", "carol": "user", "chair": "committee,institution-admin", "bea": "compliance"}

	steps := [][]string{{"init", "-d", "node", "--institution", "bank-a", "--listen", address(0), "--api-listen", address(1), "--admin-listen", address(2)}}
	found := []string{"genesis", "new", "node/member.json", "--name", "shared"}
	for _, name := range []string{"admin", "alice", "bob", "carol", "chair", "bea"} {
		steps = append(steps, []string{"keys", "new", name + ".key"})
		found = append(found, "--account", name+":"+cmp.Or(map[string]string{"bea": "bank-b"}[name], "bank-a")+":"+roles[name]+":"+name+".key")
	}
	steps = append(steps, found, []string{"init", "-d", "node", "--genesis", "genesis.json"})
	for _, step := range steps {
		if _, err := c.fondaco(step...); err != nil {
			return err
		}
	}
	config, err := os.ReadFile(filepath.Join(c.dir, "node", cli.ConfigFile))
	if err != nil {
		return err
	}
	// The interpreter starts a contract sooner than the compiler.
	config = []byte(strings.Replace(string(config), "engine = ''", "engine = 'interpreter'", 1))
	if err := os.WriteFile(filepath.Join(c.dir, "node", cli.ConfigFile), config, 0o600); err != nil {
		return err
	}
	if c.log, err = os.Create(filepath.Join(c.dir, "log")); err != nil {
		return err
	}
	c.node = exec.Command("fondaco", "run", "-d", filepath.Join(c.dir, "node"))
	c.node.Stderr = c.log
	if err := c.node.Start(); err != nil {
		return err
	}
	c.env = []string{
		"FONDACO_SUITE=" + c.suite.Name(), "FONDACO_API=http://" + address(1), "FONDACO_GENESIS=" + filepath.Join(c.dir, "genesis.json"), "KEYS=" + c.dir, "MODULE=" + module,
		"FONDACO_FROM=admin", "FONDACO_KEY=" + filepath.Join(c.dir, "admin.key"),
	}
	began := time.Now()
	for {
		if _, err = c.fondaco("status"); err == nil {
			break
		}
		if time.Since(began) > clitest.Patience {
			return fmt.Errorf("%w; the node's log: %s", err, c.tail())
		}
		time.Sleep(20 * time.Millisecond)
	}
	out, err := c.fondaco("contract", "deploy", module, "Fondaco coin", "FDC", "admin")
	if err != nil {
		return fmt.Errorf("%w; the node's log: %s", err, c.tail())
	}
	deployed := regexp.MustCompile(`deployed +(0x[0-9a-f]{40})`).FindStringSubmatch(out)
	if deployed == nil {
		return fmt.Errorf("no address in %s", out)
	}
	if _, err := c.fondaco("contract", "call", deployed[1], "issue", "alice", "1000"); err != nil {
		return err
	}
	c.env = append(c.env, "TOKEN="+deployed[1], "FONDACO_FROM=alice", "FONDACO_KEY="+filepath.Join(c.dir, "alice.key"))
	return nil
}

func (c *chain) tail() string {
	data, err := os.ReadFile(filepath.Join(c.dir, "log"))
	if err != nil {
		return err.Error()
	}
	return string(data[max(0, len(data)-3000):])
}

// end stops the node and, if the tests passed, verifies all that they did.
func (c *chain) end(passed bool) (err error) {
	if c.dir != "" {
		defer func() { err = errors.Join(err, os.RemoveAll(c.dir)) }()
	}
	if c.node == nil || c.node.Process == nil {
		return nil
	}
	defer c.log.Close()
	if err := c.node.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- c.node.Wait() }()
	select {
	case err := <-ended:
		if err != nil {
			return fmt.Errorf("the node ended: %w; its log: %s", err, c.tail())
		}
	case <-time.After(clitest.Patience):
		text := c.tail()
		err := c.node.Process.Kill()
		<-ended
		return errors.Join(fmt.Errorf("the node does not end; its log: %s", text), err)
	}
	if c.err == nil && passed {
		if out, err := c.fondaco("verify", "-d", "node", "--engine", "interpreter"); err != nil || !strings.Contains(out, "the history holds") {
			return fmt.Errorf("verify: %s %w", out, err)
		}
	}
	return nil
}
