package cli

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"
	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/fondaco/fondaco/node/join"
	"github.com/fondaco/fondaco/plugins/ca/x509ca"
	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// joinInvited completes the folder of a node by an invitation. It may be done again, with a newer one too.
//
// Nothing is written where a node looks before all of it was judged, so an invitation that is refused leaves the folder as it was. Then the
// folder ca is replaced, the configuration, and last, where there is none, the genesis, without which no node starts. Each is whole or as before;
// what an end in between leaves, the next time clears (clearStage).
func joinInvited(c *cli.Context) error {
	if _, err := arguments(c, 0, 0, ""); err != nil {
		return err
	}
	for _, name := range []string{"institution", "listen", "address", "passphrase", "passphrase-fd", "unlocked", "signer", "api-listen", "admin-listen", "genesis", "observer"} {
		if c.IsSet(name) {
			return usage("--%s does not go with --from: the invitation completes the folder that `fondaco join-request` made", name)
		}
	}
	path, dir := c.String("from"), c.String("dir")
	file, err := ReadConfig(dir)
	if err != nil {
		return fmt.Errorf("%w; `fondaco join-request -d %s` makes one, and the request to which the invitation is the answer", err, dir)
	}
	card, own, err := ownCard(dir)
	if err != nil {
		return err
	}
	i, suite, err := readInvitation(path)
	if err != nil {
		return err
	}
	if suite.Name() != own.Name() {
		return withCode(ExitInvalid, fmt.Errorf("%s is to a chain of suite %s, and the node in %s has a key of suite %s: make another one with `fondaco join-request --suite %s`", path, suite.Name(), dir, own.Name(), suite.Name()))
	}
	if err := checkSuite(c, own); err != nil {
		return err
	}
	if i.Node != card.Node {
		return withCode(ExitDenied, fmt.Errorf("%s is for node %s of %s, and the node in %s is %s: name the folder that its join request came from with -d, or ask for another invitation", path, i.Node, i.Institution, dir, card.Node))
	}
	o, err := openInvitation(c, path, i, suite)
	if err != nil {
		return err
	}
	target := filepath.Join(dir, GenesisFile)
	if old, oldSuite, err := trustedGenesis(target); err == nil && old.Hash(oldSuite) != o.Chain {
		return fmt.Errorf("the node in %s is of another chain, %q: use a node of its own for each chain", dir, old.Name)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := o.CheckAge(time.Now().UnixMilli()); err != nil {
		return withCode(ExitDenied, fmt.Errorf("%s: %w: have a member make a new one with `fondaco invitation new`, or compare this machine's clock", path, err))
	}
	settings, err := authoritySettings(path, i)
	if err != nil {
		return err
	}
	if err := rightChain(c, path, i, o); err != nil {
		return err
	}
	if err := notOlder(path, file.Network.Anchor, o, suite); err != nil {
		return err
	}
	file.Network.Sync, file.Network.Peers = i.Sync, nil
	if c.IsSet("sync") {
		file.Network.Sync = c.String("sync")
	}
	if err := file.Network.check(); err != nil {
		return usage("--%v", err)
	}
	for _, p := range i.Peers {
		file.Network.Peers = append(file.Network.Peers, Peer{Node: p.Node, Address: p.Address})
	}
	if o.Head != nil {
		file.Network.Anchor = &Anchor{Height: o.Head.Order.Height, Block: o.Head.Hash(suite), By: o.Signer, Used: time.Now().UTC().Truncate(time.Millisecond)}
	}
	if path := c.String("certificate"); path != "" {
		if i.Chain, err = readChain(path); err != nil {
			return err
		}
	}
	if err := takeAuthority(c, dir, file, i, settings, suite, card); err != nil {
		return err
	}
	if err := WriteConfig(dir, file); err != nil {
		return err
	}
	if _, err := os.Stat(target); errors.Is(err, fs.ErrNotExist) {
		if err := WriteGenesis(target, &i.Genesis); err != nil {
			return err
		}
	}
	if sum := hex.EncodeToString(i.Engine); sum != "" && !strings.EqualFold(sum, file.Consensus.SHA256) {
		note(c, "Members run an engine of their own, %s, whose program has the SHA-256 %s: get it from them, and set consensus.program and consensus.sha256 in %s.", i.Genesis.Engine, sum, ConfigFile)
	}
	note(c, "Start it with `fondaco run -d %s`; it observes. `fondaco doctor -d %s` says whether something is in the way.", dir, dir)
	return showInvitation(c, path, i, o, suite)
}

// notOlder refuses an invitation that was made before the one by which a node has its block of the chain. It could bring back authorities
// and revocation lists that were replaced since.
func notOlder(path string, has *Anchor, o *join.Opened, suite keys.Suite) error {
	if has == nil {
		return nil
	}
	var height ledger.Height
	if o.Head != nil {
		height = o.Head.Order.Height
	}
	switch {
	case height < has.Height:
		return withCode(ExitDenied, fmt.Errorf("%s is older than the invitation by which this node has block %d: it goes up to block %d. Have a member make a new one with `fondaco invitation new`", path, has.Height, height))
	case height == has.Height && height > 0 && o.Head.Hash(suite) != has.Block:
		return withCode(ExitDenied, fmt.Errorf("%s has block %d as %s, and this node has it as %s by an earlier invitation: do not use it before that is explained", path, height, o.Head.Hash(suite), has.Block))
	}
	return nil
}

// rightChain has a person vouch for the one thing that an invitation cannot prove.
func rightChain(c *cli.Context, path string, i *join.Invitation, o *join.Opened) error {
	if text := c.String("chain"); text != "" {
		want, err := parseDigest(text)
		if err != nil {
			return usage("--chain: %w", err)
		}
		if want != o.Chain {
			return withCode(ExitDenied, fmt.Errorf("%s is to chain %s, %q, and not to %s: do not use it before the two ids are explained", path, o.Chain, i.Genesis.Name, want))
		}
		return nil
	}
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return usage("an invitation cannot prove that its chain is the right one: compare its id, %s, with the one that a member told by another way, and give that with --chain ID", o.Chain)
	}
	return confirm(c, "The invitation of %s, node %s, is to the chain %q with the id\n  %s\nIs that the id which a member told you by another way?", o.Member.Institution, o.Signer.Short(), i.Genesis.Name, o.Chain)
}

// authoritySettings returns what an invitation has for the shipped CA providers; nil: nothing. An invitation makes nodes known to one another
// and no more, so one by whose word certificates would have another role is refused.
func authoritySettings(path string, i *join.Invitation) (*x509ca.Settings, error) {
	if i.CA == nil || len(i.CA.Settings) == 0 {
		return nil, nil
	}
	if i.CA.Program != "ca-x509" && i.CA.Program != "ca-gm" {
		return nil, withCode(ExitInvalid, fmt.Errorf("%s has settings for %s, and only those of ca-x509 and ca-gm go with an invitation: do not use it", path, i.CA.Program))
	}
	settings := new(x509ca.Settings)
	if err := toml.NewDecoder(bytes.NewReader(i.CA.Settings)).DisallowUnknownFields().Decode(settings); err != nil {
		return nil, withCode(ExitInvalid, fmt.Errorf("%s: the settings of %s: %w: do not use it", path, i.CA.Program, err))
	}
	for n := range settings.Trust {
		t := &settings.Trust[n]
		only := func(roles []identity.Role) bool { return len(roles) == 1 && roles[0] == identity.Node }
		if !only(t.Roles) || slices.ContainsFunc(t.Grant, func(g x509ca.Grant) bool { return !only(g.Roles) }) {
			return nil, withCode(ExitDenied, fmt.Errorf("%s would have this node trust authorities for more than the role %s (%s): do not use it, and tell who is said to have sent it", path, identity.Node, trustText(t)))
		}
	}
	settings.Issue, settings.Lists = nil, ""
	return settings, nil
}

// takeAuthority puts what the invitation has for the CA provider below the node's folder, after the provider has looked at the node's own
// certificates by it, and names it in the configuration, which the caller writes.
func takeAuthority(c *cli.Context, dir string, file *File, i *join.Invitation, settings *x509ca.Settings, suite keys.Suite, card MemberCard) error {
	chain := filepath.Join(authorityDir, chainFile)
	own := file.CA.Program != "" && file.CA.Settings != filepath.Join(authorityDir, settingsFile)
	switch {
	case i.CA == nil:
		settings = nil
	case settings == nil:
		what := "the provider " + i.CA.Program + " of the binary"
		if len(i.CA.SHA256) > 0 {
			what = fmt.Sprintf("the program %s with the SHA-256 %x", i.CA.Program, i.CA.SHA256)
		}
		note(c, "Members ask %s about nodes, and its settings are not in the invitation: set up [ca] in %s as they tell you, with chain = '%s'.", what, ConfigFile, chain)
	case own:
		note(c, "The [ca] in %s is not from an invitation and stays as it is; members ask %s.", ConfigFile, i.CA.Program)
		settings = nil
	case len(i.Chain) == 0:
		return usage("nodes of this chain need certificates, and the invitation has none for this one: have your CA issue it for %s, and give it with --certificate FILE", filepath.Join(dir, RequestFile))
	}
	if len(i.Chain) == 0 {
		return clearStage(c, dir)
	}
	next, err := stage(c, dir)
	if err != nil {
		return err
	}
	defer os.RemoveAll(next) //nolint:errcheck // the next time removes what is left
	if err := replaceFile(filepath.Join(next, chainFile), encodeBlocks(certificateLabel, i.Chain)); err != nil {
		return err
	}
	if settings != nil {
		who, err := unpackAuthority(c, dir, i, settings, suite, card)
		if err != nil {
			return err
		}
		file.CA = CASection{Program: i.CA.Program, Settings: filepath.Join(authorityDir, settingsFile), Chain: chain, Grace: file.CA.Grace}
		lists := "Revocation lists are fetched by the URLs in %s."
		if slices.ContainsFunc(settings.Trust, func(t x509ca.Trust) bool { return slices.ContainsFunc(t.CRL, isFile) }) {
			lists = "Revocation lists that crl in %s names by files are those of now: have them published, and put the URLs in their place, or bring newer ones there before they end."
		}
		note(c, "Certificate %s of %s is valid until %s. "+lists+" They count for nodes alone: for clients with certificates of yours set api.clients.",
			who.Serial, who.Institution, timeText(who.NotAfter.UnixMilli()), filepath.Join(dir, authorityDir, settingsFile))
	}
	return replaceFolder(dir)
}

// isFile reports whether an entry of crl is no URL.
func isFile(entry string) bool {
	_, fetched := x509ca.Kept(entry)
	return !fetched
}

// unpackAuthority writes into the staged folder what the settings of an invitation name, and has the provider look at the node's
// certificates by it. What it leaves there names the files as they will be called.
func unpackAuthority(c *cli.Context, dir string, i *join.Invitation, settings *x509ca.Settings, suite keys.Suite, card MemberCard) (who identity.Identity, err error) {
	next, now := filepath.Join(dir, stagedDir), filepath.Join(dir, authorityDir)
	if now, err = filepath.Abs(now); err != nil {
		return who, err
	}
	if next, err = filepath.Abs(next); err != nil {
		return who, err
	}
	unpack := func(label, name, path string) error {
		at := slices.IndexFunc(i.CA.Files, func(f join.File) bool { return f.Name == name })
		if at < 0 {
			return fmt.Errorf("the invitation's settings of %s name a file that it does not have: %q", i.CA.Program, name)
		}
		return replaceFile(path, encodeBlocks(label, pemBlocks(i.CA.Files[at].Data, label)))
	}
	err = settingsFiles(settings, func(label, name string) (string, error) {
		path := filepath.Join(next, name)
		return path, unpack(label, name, path)
	})
	if err != nil {
		return who, err
	}
	if names := fetchedLists(settings); len(names) > 0 {
		settings.Lists = filepath.Join(next, listsDir)
		if err := os.MkdirAll(settings.Lists, 0o700); err != nil {
			return who, err
		}
		for _, name := range names {
			path := filepath.Join(settings.Lists, name)
			sent := slices.ContainsFunc(i.CA.Files, func(f join.File) bool { return f.Name == name })
			if _, err := os.Stat(path); err == nil || !sent { // what this node has fetched itself is no older
				continue
			}
			if err := unpack(listLabel, name, path); err != nil {
				return who, err
			}
		}
	}
	write := func() error {
		text, err := toml.Marshal(settings)
		if err == nil {
			_, err = x509ca.Parse(text)
		}
		if err != nil {
			return fmt.Errorf("the invitation's settings of %s: %w", i.CA.Program, err)
		}
		return replaceFile(filepath.Join(next, settingsFile), text)
	}
	if err := write(); err != nil {
		return who, err
	}
	a, err := authority(dir, CASection{Program: i.CA.Program, Settings: filepath.Join(stagedDir, settingsFile), Chain: filepath.Join(stagedDir, chainFile)})
	if err != nil {
		return who, err
	}
	if who, err = vouched(c, dir, a, suite, card.Key, card.Institution); err != nil {
		return who, fmt.Errorf("the certificates for this node do not hold by what the invitation says of authorities: %w", err)
	}
	err = settingsFiles(settings, func(_, path string) (string, error) { return filepath.Join(now, filepath.Base(path)), nil })
	if err != nil {
		return who, err
	}
	if settings.Lists != "" {
		settings.Lists = filepath.Join(now, listsDir)
	}
	return who, write()
}

// Beside authorityDir, for the time in which it is replaced.
const (
	stagedDir  = authorityDir + ".new" // what comes into its place
	retiredDir = authorityDir + ".old" // what was there
)

// stage makes the folder that will be in the place of authorityDir, with all that is in this one, and returns its path.
func stage(c *cli.Context, dir string) (string, error) {
	if err := clearStage(c, dir); err != nil {
		return "", err
	}
	next, now := filepath.Join(dir, stagedDir), filepath.Join(dir, authorityDir)
	if err := os.Mkdir(next, 0o700); err != nil {
		return "", err
	}
	err := filepath.WalkDir(now, func(path string, entry fs.DirEntry, err error) error {
		to := filepath.Join(next, strings.TrimPrefix(path, now))
		switch {
		case err != nil:
			return err
		case path == now:
			return nil
		case entry.IsDir():
			info, err := entry.Info()
			if err != nil {
				return err
			}
			return os.Mkdir(to, info.Mode().Perm())
		}
		if err := os.Link(path, to); !errors.Is(err, fs.ErrNotExist) { // a provider that runs has just put another in its place
			return err
		}
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", errors.Join(fmt.Errorf("copy %s: %w", now, err), os.RemoveAll(next))
	}
	return next, nil
}

// replaceFolder puts what was staged in the place of authorityDir.
func replaceFolder(dir string) error {
	next, now, old := filepath.Join(dir, stagedDir), filepath.Join(dir, authorityDir), filepath.Join(dir, retiredDir)
	if err := state.OS().SyncDir(next); err != nil {
		return err
	}
	if err := os.Rename(now, old); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Rename(next, now); err != nil {
		return errors.Join(err, os.Rename(old, now))
	}
	if err := state.OS().SyncDir(dir); err != nil {
		return err
	}
	return os.RemoveAll(old)
}

// clearStage removes what is left of a stage where the program or the machine ended, and puts the folder back that was just being replaced.
func clearStage(c *cli.Context, dir string) error {
	next, now, old := filepath.Join(dir, stagedDir), filepath.Join(dir, authorityDir), filepath.Join(dir, retiredDir)
	if _, err := os.Lstat(now); errors.Is(err, fs.ErrNotExist) {
		if err := os.Rename(old, now); err == nil {
			note(c, "An earlier `fondaco init --from` ended while it replaced %s: what was there is back.", now)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		path := filepath.Join(dir, entry.Name())
		if path != next && path != old && !strings.HasPrefix(entry.Name(), halfWritten) {
			continue
		}
		note(c, "Removed %s, which an earlier command left that did not come to its end.", path)
		if err := os.RemoveAll(path); err != nil {
			return err
		}
	}
	return nil
}
