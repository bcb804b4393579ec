package cli_test

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fondaco/fondaco/node/cli"
	"github.com/fondaco/fondaco/node/join"
	"github.com/fondaco/fondaco/plugins/ca/x509ca"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/keys/keyfile"
	"github.com/fondaco/fondaco/state/keys/keystest"
)

// folderOf returns what is below a folder: of each file its permissions and content.
func folderOf(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		text := info.Mode().String()
		if !entry.IsDir() {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			text += "\n" + string(data)
		}
		found[strings.TrimPrefix(path, dir)] = text
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// guest is a founder of a chain without blocks, whom another one invites: its folder is as join-request leaves it.
type guest struct {
	t                *testing.T
	suite            keys.Suite
	dir, provider    string
	chain            keys.Digest
	host             keys.Signer
	invitation       join.Invitation // as the host makes it
	another, foreign string          // certificates: for another key, and of another authority
}

func newGuest(t *testing.T) *guest {
	t.Helper()
	t.Chdir(t.TempDir())
	g := &guest{t: t, suite: keystest.Suite(), dir: "e", provider: "ca-x509", another: "a.pem", foreign: "foreign.pem"}
	if g.suite.Vote() == keys.SM2 {
		g.provider = "ca-gm"
	}
	suite := g.suite.Name()
	mustRun(t, "init", "-d", "a", "--suite", suite, "--institution", "bank-e", "--listen", "127.0.0.1:2")
	mustRun(t, "join-request", "-d", "a", "--out", "a.request")
	mustRun(t, "join-request", "-d", g.dir, "--suite", suite, "--institution", "bank-e", "--listen", "127.0.0.1:1")
	for name, ca := range map[string]string{"e.pem": "ca", "foreign.pem": "other"} {
		mustRun(t, "ca", "new", ca, "--institution", "bank-e", "--suite", suite, "--unlocked")
		mustRun(t, "ca", "issue", ca, "e/join-request.pem", "--out", name)
	}
	mustRun(t, "ca", "issue", "ca", "a.request", "--out", g.another)
	mustRun(t, "genesis", "new", "a/member.json", "e/member.json", "--suite", suite, "--name", "two", "--out", "genesis.json")

	genesis, err := cli.ReadGenesis("genesis.json")
	if err != nil {
		t.Fatal(err)
	}
	g.chain = genesis.Hash(g.suite)
	if g.host, err = keyfile.Read("a/node.key", g.suite, nil); err != nil {
		t.Fatal(err)
	}
	file := func(name, path string) join.File {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return join.File{Name: name, Data: data}
	}
	i := join.Invitation{Institution: "bank-e", Genesis: *genesis, Sync: cli.SyncBlocks, UnixMilli: 1, CA: &join.CA{
		Program: g.provider, Settings: settings(""), Files: []join.File{file("1-certificates.pem", "ca/ca.pem"), file("2-list.pem", "ca/ca.crl")},
	}}
	for _, m := range genesis.Members {
		if m.Node == identity.NodeIDOf(g.suite, g.host.Public()) {
			i.Peers = []join.Peer{{Node: m.Node, Institution: m.Institution, Address: "127.0.0.1:2"}}
		} else {
			i.Node = m.Node
		}
	}
	for rest := file("", "e.pem").Data; len(rest) > 0; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type == "CERTIFICATE" {
			i.Chain = append(i.Chain, block.Bytes)
		}
	}
	g.invitation = i
	return g
}

// settings are what an invitation says of the authority of bank-e, with another line.
func settings(more string) []byte {
	return fmt.Appendf(nil, "[[trust]]\nroots = '1-certificates.pem'\ncrl = ['2-list.pem']\ninstitutions = ['bank-e']\nroles = ['node']\n%s\n", more)
}

// invited takes an invitation that was changed before the host signed it.
func (g *guest) invited(change func(*join.Invitation), args ...string) (code int, out string) {
	g.t.Helper()
	i := g.invitation
	authority := *i.CA
	authority.Files = slices.Clone(authority.Files)
	i.CA = &authority
	change(&i)
	if err := i.Sign(g.suite, g.host); err != nil {
		g.t.Fatal(err)
	}
	text, err := i.Encode()
	if err != nil {
		g.t.Fatal(err)
	}
	if err := os.WriteFile("e.invitation", text, 0o600); err != nil {
		g.t.Fatal(err)
	}
	return run(append([]string{"init", "-d", g.dir, "--from", "e.invitation", "--chain", g.chain.String()}, args...)...)
}

func asMade(*join.Invitation) {}

// TestInvited refuses an invitation at each thing that is judged, and finds the folder as it was before, whether it was complete or not.
func TestInvited(t *testing.T) {
	g := newGuest(t)
	refusals := map[string]struct {
		change func(*join.Invitation)
		args   []string
		code   int
	}{
		"is to chain":             {asMade, []string{"--chain", keys.Digest{1}.String()}, cli.ExitDenied},
		"want blocks or snapshot": {asMade, []string{"--sync", "luck"}, cli.ExitUsage},
		"only founders begin":     {func(i *join.Invitation) { i.Institution = "bank-f" }, nil, cli.ExitInvalid},
		"authorities for more than": {func(i *join.Invitation) {
			i.CA.Settings = []byte(strings.Replace(string(settings("")), "['node']", "[]", 1))
		}, nil, cli.ExitDenied},
		"grants operator to": {func(i *join.Invitation) {
			i.CA.Settings = settings("[[trust.grant]]\nunit = 'x'\nroles = ['operator']")
		}, nil, cli.ExitDenied},
		"settings for ca-quorum":        {func(i *join.Invitation) { i.CA.Program = "ca-quorum" }, nil, cli.ExitInvalid},
		"the settings of " + g.provider: {func(i *join.Invitation) { i.CA.Settings = settings("luck = 1") }, nil, cli.ExitInvalid},
		"name a file that it does":      {func(i *join.Invitation) { i.CA.Files = i.CA.Files[:1] }, nil, cli.ExitError},
		"max_age is":                    {func(i *join.Invitation) { i.CA.Settings = settings("max_age = 'luck'") }, nil, cli.ExitError},
		"has no certificate":            {func(i *join.Invitation) { i.CA.Files[0].Data = nil }, nil, cli.ExitError},
		"do not hold by what":           {func(i *join.Invitation) { i.CA.Files[1].Data = nil }, nil, cli.ExitError},
		"and the invitation has none":   {func(i *join.Invitation) { i.Chain = nil }, nil, cli.ExitUsage},
		"is for another key":            {asMade, []string{"--certificate", g.another}, cli.ExitError},
		"no root that is trusted":       {asMade, []string{"--certificate", g.foreign}, cli.ExitError},
	}
	refuse := func(t *testing.T) {
		before := folderOf(t, g.dir)
		for says, r := range refusals {
			code, out := g.invited(r.change, r.args...)
			if code != r.code || !strings.Contains(out, says) {
				t.Errorf("exit code %d, %s; want %d and %q", code, out, r.code, says)
			}
			if after := folderOf(t, g.dir); !maps.Equal(before, after) {
				t.Fatalf("after the refusal %q the folder has %q, and had %q", says, slices.Sorted(maps.Keys(after)), slices.Sorted(maps.Keys(before)))
			}
		}
	}
	t.Run("before the node joined", refuse)
	if code, out := g.invited(asMade); code != 0 {
		t.Fatalf("exit code %d, %s", code, out)
	}
	if err := os.WriteFile("e/ca/mine", []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Run("after it joined", refuse)

	// Done again, it replaces what it made, and leaves what it did not.
	before := folderOf(t, g.dir)
	if code, out := g.invited(asMade); code != 0 {
		t.Fatalf("exit code %d, %s", code, out)
	}
	if after := folderOf(t, g.dir); !maps.Equal(before, after) {
		t.Errorf("the same invitation makes of %q %q", before, after)
	}
}

// TestInvitedHalf ends between any two changes of the folder. No node starts then but one that is complete, and the next invitation says what it
// clears and completes the folder.
func TestInvitedHalf(t *testing.T) {
	g := newGuest(t)
	request := folderOf(t, g.dir)
	if code, out := g.invited(asMade); code != 0 {
		t.Fatalf("exit code %d, %s", code, out)
	}
	complete := folderOf(t, g.dir)
	move := func(from, to string) func() error {
		return func() error { return os.Rename(filepath.Join(g.dir, from), filepath.Join(g.dir, to)) }
	}
	remove := func(name string) func() error { return func() error { return os.Remove(filepath.Join(g.dir, name)) } }
	write := func(name, content string) func() error {
		return func() error {
			path := filepath.Join(g.dir, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				return err
			}
			return os.WriteFile(path, []byte(content), 0o600)
		}
	}
	config := strings.SplitN(request["/fondaco.toml"], "\n", 2)[1]
	for _, c := range []struct {
		name  string
		state []func() error // made of the complete folder, one after the other
		start string         // what the node says that is to start; empty: it is as before or complete
		says  string         // when it is completed
	}{
		{"the first time, while ca is made", []func() error{move("ca", "ca.new"), remove("ca.new/settings.toml"), write("fondaco.toml", config), remove("genesis.json")}, "there is no genesis file", "Removed e/ca.new, which an earlier command left"},
		{"before the configuration", []func() error{write("fondaco.toml", config), remove("genesis.json")}, "there is no genesis file", ""},
		{"while the configuration is written", []func() error{write(".new-1", "[net"), write("fondaco.toml", config), remove("genesis.json")}, "there is no genesis file", "Removed e/.new-1"},
		{"before the genesis", []func() error{remove("genesis.json")}, "there is no genesis file", ""},
		{"a later time, while ca is made", []func() error{write("ca.new/node.pem", "")}, "", "Removed e/ca.new, which"},
		{"before the next ca is in its place", []func() error{move("ca", "ca.old"), write("ca.new/node.pem", "")}, "ended while it replaced the folder; run it again", "what was there is back"},
		{"before the former ca is gone", []func() error{write("ca.old/node.pem", "")}, "", "Removed e/ca.old"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, change := range c.state {
				if err := change(); err != nil {
					t.Fatal(err)
				}
			}
			if c.start != "" {
				if code, out := run("run", "-d", g.dir); code == 0 || !strings.Contains(out, c.start) {
					t.Errorf("it starts: exit code %d, %s; want %q", code, out, c.start)
				}
			}
			if code, out := g.invited(asMade); code != 0 || !strings.Contains(out, c.says) {
				t.Errorf("exit code %d, %s; want %q", code, out, c.says)
			}
			if after := folderOf(t, g.dir); !maps.Equal(after, complete) {
				t.Errorf("it has %q, want %q", after, complete)
			}
		})
	}
}

// TestInvitedLists takes an invitation by which lists are fetched: they are there at once, and again when their server is not.
func TestInvitedLists(t *testing.T) {
	g := newGuest(t)
	list, err := os.ReadFile("ca/ca.crl")
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(list) }))
	defer server.Close()
	url := server.URL + "/bank-e.crl"
	name, fetched := x509ca.Kept(url)
	if !fetched {
		t.Fatalf("%s is no URL", url)
	}
	fetches := func(i *join.Invitation) {
		i.CA.Settings = []byte(strings.Replace(string(settings("")), "2-list.pem", url, 1))
		i.CA.Files = i.CA.Files[:1]
	}
	sent := func(i *join.Invitation) {
		fetches(i)
		i.CA.Files = append(i.CA.Files, join.File{Name: name, Data: list})
	}
	fromURL := "Revocation lists are fetched by the URLs in " + filepath.Join("e", "ca", "settings.toml")
	kept := filepath.Join("e", "ca", "lists", name)

	if code, out := g.invited(fetches); code != 0 || !strings.Contains(out, fromURL) || !strings.Contains(out, "fetches "+url) {
		t.Fatalf("exit code %d, %s, want %q in it", code, out, fromURL)
	}
	dir, err := filepath.Abs(filepath.Join("e", "ca"))
	if err != nil {
		t.Fatal(err)
	}
	text := folderOf(t, g.dir)["/ca/settings.toml"]
	if !strings.Contains(text, filepath.Join(dir, "lists")) || !strings.Contains(text, url) || strings.Contains(text, "ca.new") {
		t.Errorf("the settings are %s", text)
	}
	server.Close()
	if code, out := g.invited(fetches); code != 0 { // by what it has fetched before
		t.Fatalf("exit code %d, %s", code, out)
	}
	if err := os.RemoveAll(filepath.Dir(kept)); err != nil {
		t.Fatal(err)
	}
	before := folderOf(t, g.dir)
	code, out := g.invited(fetches)
	for _, want := range []string{"no list has come from " + url + " yet", g.provider + ": no revocation list that counts has come from " + url, "connection refused"} {
		if code == 0 || !strings.Contains(out, want) {
			t.Fatalf("without a server and a list: exit code %d, %s, want %q in it", code, out, want)
		}
	}
	if after := folderOf(t, g.dir); !maps.Equal(before, after) {
		t.Errorf("after the refusal the folder has %q, and had %q", slices.Sorted(maps.Keys(after)), slices.Sorted(maps.Keys(before)))
	}
	if code, out := g.invited(sent); code != 0 {
		t.Fatalf("with a list in the invitation: exit code %d, %s", code, out)
	}
	if got, err := os.ReadFile(kept); err != nil || !bytes.Equal(got, list) {
		t.Errorf("the node keeps %q, %v, want the list of the invitation", got, err)
	}
}

// TestInvitedForger has the server of a list answer with what would clear the line at which a person compares fingerprints, and write another.
func TestInvitedForger(t *testing.T) {
	g := newGuest(t)
	const line = "\r\x1b[2K\x9b2Je: the root is right"
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, out, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_, err = out.WriteString("HTTP/1.1 404 " + line + "\r\nContent-Length: 0\r\n\r\n")
		if err = errors.Join(err, out.Flush(), conn.Close()); err != nil {
			t.Error(err)
		}
	}))
	defer server.Close()
	code, out := g.invited(func(i *join.Invitation) {
		i.CA.Settings = []byte(strings.Replace(string(settings("")), "2-list.pem", server.URL+"/bank-e.crl", 1))
		i.CA.Files = i.CA.Files[:1]
	})
	if want := "it answered 404 ��[2K?2Je: the root is right\n"; code == 0 || !strings.Contains(out, want) || strings.ContainsAny(out, "\r\x1b") {
		t.Errorf("exit code %d, %q, want %q in it and neither CR nor ESC", code, out, want)
	}
}
