package cli

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/fondaco/fondaco/node/join"
	"github.com/fondaco/fondaco/node/login"
	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// MemberFile is the file in a node's folder that its institution gives to the others.
const MemberFile = "member.json"

// MemberCard is what the founders of a chain tell one another of a node. It holds nothing secret.
type MemberCard struct {
	Institution string          `json:"institution"`
	Node        identity.NodeID `json:"node"`
	Key         ledger.Key      `json:"key"`
	Address     string          `json:"address"` // UDP, for the other nodes
}

func initCommand() *cli.Command {
	return &cli.Command{
		Name:      "init",
		Usage:     "make a node's folder, and let it join a chain",
		ArgsUsage: "[MEMBER.json...]",
		Description: "Institutions found a chain in three steps:\n\n" +
			"  1. Each makes its node: fondaco init -d node --institution bank-a --listen 10.0.0.1:9540\n" +
			"     and gives node/member.json to the others.\n" +
			"  2. One makes the genesis: fondaco genesis new --name eurobonds --out genesis.json members/*.json\n" +
			"     Everybody checks it with `fondaco genesis show genesis.json`: all must see the same chain id.\n" +
			"  3. Each joins: fondaco init -d node --genesis genesis.json members/*.json\n" +
			"     and starts: fondaco run -d node\n\n" +
			"A node that joins a chain later is made by `fondaco join-request`, and its folder completed by what a member sends back:\n" +
			"fondaco init -d node --from INVITATION --chain ID",
		Flags: append(
			nodeFlags(),
			&cli.StringFlag{Name: "genesis", Usage: "join the chain of this genesis `FILE`; the arguments are the members' files"},
			&cli.BoolFlag{Name: "observer", Usage: "with --genesis: the node is none of the founding members; the arguments are files of nodes to fetch blocks from"},
			&cli.StringFlag{Name: "sync", Usage: "with --genesis or --from: begin by all blocks, or by a recent state of the others: `blocks` or snapshot", Value: SyncBlocks},
			&cli.StringFlag{Name: "from", Usage: "join a chain that is there by the invitation in this `FILE`, which a member made of the node's join request"},
			&cli.StringFlag{Name: "chain", Usage: "with --from: the chain's `ID`, as people told it by another way than the invitation came"},
			&cli.StringFlag{Name: "certificate", Usage: "with --from: PEM `FILE` of the node's certificates, its own first, where the invitation has none"},
			recoveryFlag(),
		),
		Action: func(c *cli.Context) error {
			if err := checkOutput(c); err != nil {
				return err
			}
			if c.IsSet("from") {
				return joinInvited(c)
			}
			for _, name := range []string{"chain", "certificate", "recovery"} {
				if c.IsSet(name) {
					return usage("--%s goes with --from INVITATION", name)
				}
			}
			if c.IsSet("genesis") {
				return joinChain(c)
			}
			if c.Bool("observer") {
				return usage("--observer goes with --genesis FILE: first make the node with --institution and --listen, and have it admitted with `fondaco member propose --observe %s`", MemberFile)
			}
			return makeNode(c)
		},
	}
}

// nodeFlags are those of commands that make a node's folder.
func nodeFlags() []cli.Flag {
	return append(
		lockFlags(), dirFlag(), suiteFlag(), outputFlag(),
		&cli.StringFlag{Name: "institution", Usage: "`NAME` of the institution that the node belongs to"},
		&cli.StringFlag{Name: "listen", Aliases: []string{"network"}, Usage: "UDP `HOST:PORT` for other nodes"},
		&cli.StringFlag{Name: "address", Usage: "`HOST:PORT` at which others reach the node, if not that of --listen"},
		&cli.StringFlag{Name: "signer", Usage: "the node's key is that of the signer at `SOCKET`, and no key file is made"},
		&cli.StringFlag{Name: "api-listen", Usage: "TCP `HOST:PORT` of the API; empty: none", Value: "127.0.0.1:9541"},
		&cli.StringFlag{Name: "admin-listen", Usage: "TCP `HOST:PORT` of metrics and health; empty: none", Value: "127.0.0.1:9542"},
	)
}

func makeNode(c *cli.Context) error {
	if _, err := arguments(c, 0, 0, ""); err != nil {
		return err
	}
	card, _, err := newNode(c)
	if err != nil {
		return err
	}
	dir := c.String("dir")
	file := filepath.Join(dir, MemberFile)
	note(c, "Give %s to the founders of the chain, and join with `fondaco init -d %s --genesis FILE MEMBER.json...`. If the chain is there already, "+
		"run `fondaco join-request -d %s`.", file, dir, dir)
	return show(c, card, func(w io.Writer) {
		row(w, "node", card.Node)
		row(w, "institution", card.Institution)
		row(w, "key", keyText(card.Key))
		row(w, "address", card.Address)
		row(w, "member file", file)
	})
}

// newNode makes a node's folder as the flags say, with key, configuration and member file.
func newNode(c *cli.Context) (MemberCard, keys.Signer, error) {
	var card MemberCard
	institution, listen, address := c.String("institution"), c.String("listen"), c.String("address")
	if institution == "" || listen == "" {
		return card, nil, usage("a new node needs --institution NAME and --listen HOST:PORT; to join a chain with an existing one, give --genesis FILE or --from INVITATION")
	}
	if err := checkInstitution(institution); err != nil {
		return card, nil, withCode(ExitUsage, err)
	}
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return card, nil, usage("--listen %q: %w", listen, err)
	}
	if ip := net.ParseIP(host); address == "" && (host == "" || ip != nil && ip.IsUnspecified()) {
		return card, nil, usage("--listen %s is every address of this machine: say with --address HOST:PORT at which one others reach it", listen)
	}
	if address == "" {
		address = listen
	}
	suite, err := keys.SuiteByName(c.String("suite"))
	if err != nil {
		return card, nil, withCode(ExitUsage, err)
	}
	dir := c.String("dir")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return card, nil, fmt.Errorf("make the node's folder: %w; name another with -d", err)
	}
	for _, name := range []string{KeyFile, ConfigFile} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return card, nil, fmt.Errorf("%s exists: this folder has a node already, and its key is never overwritten; name another folder with -d", filepath.Join(dir, name))
		}
	}
	key, socket, err := newNodeKey(c, dir, suite)
	if err != nil {
		return card, nil, err
	}
	err = WriteConfig(dir, &File{
		Network: NetworkSection{Listen: listen, Sync: SyncBlocks}, API: ListenSection{Listen: c.String("api-listen")},
		Admin: ListenSection{Listen: c.String("admin-listen")}, Log: LogSection{Level: "info", Format: "json"}, Signer: SignerSection{Socket: socket},
	})
	if err != nil {
		return card, nil, err
	}
	for _, l := range []struct{ name, listen string }{{"api", c.String("api-listen")}, {"admin", c.String("admin-listen")}} {
		if l.listen == "" {
			continue
		}
		if _, err := login.Check(l.name, l.listen, login.Files{}, false); err != nil {
			note(c, "WARNING: the node will not start before %s is corrected: %v", filepath.Join(dir, ConfigFile), err)
		}
	}
	card = MemberCard{Institution: institution, Node: identity.NodeIDOf(suite, key.Public()), Key: ledger.KeyOf(key.Public()), Address: address}
	return card, key, WriteMember(dir, card)
}

// WriteMember writes the member file of the node in a folder.
func WriteMember(dir string, card MemberCard) error {
	return writeJSON(filepath.Join(dir, MemberFile), card)
}

func checkInstitution(name string) error {
	if name == "" || len(name) > precompiles.MaxInstitutionName || strings.TrimSpace(name) != name {
		return fmt.Errorf("institution %q: want 1 to %d bytes without space around them", name, precompiles.MaxInstitutionName)
	}
	return nil
}

// newNodeKey makes the key of a new node in its folder, or takes that of the signer at --signer and returns its socket.
func newNodeKey(c *cli.Context, dir string, suite keys.Suite) (key keys.Signer, socket string, err error) {
	if socket = c.String("signer"); socket != "" {
		for _, name := range []string{"passphrase", "passphrase-fd", "unlocked"} {
			if c.IsSet(name) {
				return nil, "", usage("--%s is about a key file, and with --signer none is made", name)
			}
		}
		if socket, err = filepath.Abs(socket); err != nil {
			return nil, "", err
		}
		if key, err = dialSigner(socket, suite); err == nil && key.Public().Algorithm() != suite.Vote() {
			err = fmt.Errorf("the signer's key is %s, and nodes of a chain of suite %s vote with %s and nothing else: start a signer with such a key, in a device that offers it or in a key file",
				key.Public().Algorithm(), suite.Name(), suite.Vote())
		}
		return key, socket, err
	}
	if key, err = suite.Generate(suite.Vote(), rand.Reader); err != nil {
		return nil, "", err
	}
	return key, "", writeNewKey(c, filepath.Join(dir, KeyFile), key, passphrase(c))
}

func joinChain(c *cli.Context) error {
	for _, name := range []string{"institution", "listen", "address", "passphrase", "unlocked", "signer", "api-listen", "admin-listen"} {
		if c.IsSet(name) {
			return usage("--%s is for making a node; --genesis lets the node in -d join a chain", name)
		}
	}
	genesis, suite, err := trustedGenesis(c.String("genesis"))
	if err != nil {
		return err
	}
	if err := checkSuite(c, suite); err != nil {
		return err
	}
	dir := c.String("dir")
	file, err := ReadConfig(dir)
	if err != nil {
		return err
	}
	self, err := ownNode(c, dir, file, suite)
	if err != nil {
		return err
	}
	cards, err := readCards(suite, c.Args().Slice())
	if err != nil {
		return err
	}
	number := -1
	var missing []string
	file.Network.Peers, file.Network.Sync = nil, c.String("sync")
	if err := file.Network.check(); err != nil {
		return usage("--%v", err)
	}
	for i, m := range genesis.Members {
		if m.Node == self {
			number = i
			continue
		}
		k := slices.IndexFunc(cards, func(card MemberCard) bool { return card.Node == m.Node })
		if k < 0 {
			missing = append(missing, fmt.Sprintf("%s (%s)", m.Institution, m.Node))
			continue
		}
		file.Network.Peers = append(file.Network.Peers, Peer{Node: m.Node, Address: cards[k].Address})
	}
	switch observer := c.Bool("observer"); {
	case number < 0 && !observer:
		return withCode(ExitDenied, fmt.Errorf("the node in %s, %s, is not a member in this genesis: ask for a genesis made with its %s, or join as an observer with --observer", dir, self, MemberFile))
	case number >= 0 && observer:
		return usage("the node in %s is founding member %d: leave --observer out", dir, number)
	case observer && len(cards) == 0:
		return usage("where does the node fetch blocks from? Give the %s of one or more of the group's nodes as arguments", MemberFile)
	}
	if number < 0 {
		missing, file.Network.Peers = nil, nil
		for _, card := range cards {
			if card.Node == self {
				return usage("the %s of this node itself is among the arguments: give those of nodes to fetch blocks from", MemberFile)
			}
			file.Network.Peers = append(file.Network.Peers, Peer{Node: card.Node, Address: card.Address})
		}
	}
	if len(missing) > 0 {
		return usage("where are the nodes of %s? Give the %s of each member as an argument", strings.Join(missing, ", "), MemberFile)
	}
	target := filepath.Join(dir, GenesisFile)
	chain := genesis.Hash(suite)
	if old, oldSuite, err := trustedGenesis(target); err == nil && old.Hash(oldSuite) != chain {
		return fmt.Errorf("the node in %s is of another chain, %q: use a node of its own for each chain", dir, old.Name)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := WriteGenesis(target, genesis); err != nil {
		return err
	}
	if err := WriteConfig(dir, file); err != nil {
		return err
	}
	warnOf(c, genesis)
	note(c, "Start it with `fondaco run -d %s`.", dir)
	joined := struct {
		Chain  keys.Digest     `json:"chain"`
		Name   string          `json:"name"`
		Node   identity.NodeID `json:"node"`
		Number int             `json:"number"`
		Peers  []Peer          `json:"peers"`
	}{chain, genesis.Name, self, number, file.Network.Peers}
	return show(c, joined, func(w io.Writer) {
		row(w, "chain", chain)
		row(w, "name", genesis.Name)
		row(w, "node", self)
		row(w, "member", memberText(int32(number), len(genesis.Members)))
	})
}

// ownNode returns the id of the node in a folder: from its member file, which needs no passphrase, or its key.
func ownNode(c *cli.Context, dir string, file *File, suite keys.Suite) (identity.NodeID, error) {
	if cards, err := readCards(suite, []string{filepath.Join(dir, MemberFile)}); err == nil {
		return cards[0].Node, nil
	}
	key, err := nodeKey(c, dir, file, suite)
	if err != nil {
		return identity.NodeID{}, err
	}
	return identity.NodeIDOf(suite, key.Public()), nil
}

// readCards reads the members' files, or join requests in their place, and checks that each is consistent.
func readCards(suite keys.Suite, paths []string) ([]MemberCard, error) {
	cards := make([]MemberCard, len(paths))
	for i, path := range paths {
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, withCode(ExitNotFound, fmt.Errorf("there is no member file %s: each institution makes its own with `fondaco init`", path))
		}
		if err != nil {
			return nil, err
		}
		card := &cards[i]
		if join.IsRequest(data) {
			r, of, err := readJoinRequest(path)
			if err != nil {
				return nil, err
			}
			if of.Name() != suite.Name() {
				return nil, withCode(ExitInvalid, fmt.Errorf("%s is for a chain of suite %s, and this one is of %s", path, of.Name(), suite.Name()))
			}
			if card.Node, err = r.Node(suite); err != nil {
				return nil, err
			}
			card.Institution, card.Key, card.Address = r.Institution, r.Key, r.Address
			continue
		}
		decoder := json.NewDecoder(bytes.NewReader(data))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(card); err != nil {
			return nil, fmt.Errorf("%s is not a member file as `fondaco init` writes it: %w", path, err)
		}
		key, err := suite.ParsePublic(card.Key.Algorithm, card.Key.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if want := identity.NodeIDOf(suite, key); card.Node != want {
			return nil, fmt.Errorf("%s: its key gives node %s, and the file says %s; ask its institution for it again", path, want, card.Node)
		}
		if _, _, err := net.SplitHostPort(card.Address); err != nil {
			return nil, fmt.Errorf("%s: address %q: %w", path, card.Address, err)
		}
		if err := checkInstitution(card.Institution); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	return cards, nil
}

func genesisCommand() *cli.Command {
	return &cli.Command{
		Name:  "genesis",
		Usage: "make and show the genesis of a chain",
		Subcommands: []*cli.Command{{
			Name:      "new",
			Usage:     "make a genesis of the members' files",
			ArgsUsage: "MEMBER.json...",
			Flags: []cli.Flag{
				suiteFlag(), outputFlag(), passphraseFlag(),
				&cli.StringFlag{Name: "name", Usage: "`NAME` of the chain, for people; required"},
				&cli.StringFlag{Name: "group", Usage: "`ID` of its first group", Value: "main"},
				&cli.StringFlag{Name: "engine", Usage: "consensus `ALGORITHM`: pbft or raft", Value: "pbft"},
				&cli.BoolFlag{Name: "trust-members", Usage: "state that the institutions trust one another's nodes not to lie; raft needs it, for one that lies can fork the chain"},
				&cli.DurationFlag{
					Name: "veto-window", Value: time.Duration(precompiles.DefaultVeto) * time.Millisecond,
					Usage: "how long a regulator may object between the decision on a motion and its execution, until a motion changes that; 0s where a chain is tried out",
				},
				&cli.StringFlag{Name: "out", Usage: "`FILE` to write", Value: GenesisFile},
				&cli.StringSliceFlag{
					Name:  "account",
					Usage: "`NAME:INSTITUTION:ROLE,ROLE:KEY` of an account that exists from the start; KEY is what `fondaco keys show` prints, or a key file. May be repeated",
				},
				&cli.StringSliceFlag{Name: "param", Usage: "`NAME=VALUE` of a parameter that differs from the default, such as tx_gas=1000000. May be repeated"},
			},
			Action: newGenesis,
		}, {
			Name:      "show",
			Usage:     "check and print a genesis",
			ArgsUsage: "FILE",
			Flags:     []cli.Flag{outputFlag()},
			Action: func(c *cli.Context) error {
				file, err := fileArgument(c)
				if err != nil {
					return err
				}
				genesis, suite, err := trustedGenesis(file)
				if err != nil {
					return err
				}
				return showGenesis(c, genesis, suite)
			},
		}},
	}
}

func newGenesis(c *cli.Context) error {
	paths, err := arguments(c, 1, ledger.MaxMembers, "MEMBER.json...")
	if err != nil {
		return err
	}
	if err := checkOutput(c); err != nil {
		return err
	}
	if c.String("name") == "" {
		return usage("a chain needs a name: give --name NAME")
	}
	suite, err := keys.SuiteByName(c.String("suite"))
	if err != nil {
		return withCode(ExitUsage, err)
	}
	cards, err := readCards(suite, paths)
	if err != nil {
		return err
	}
	genesis := &ledger.Genesis{
		Version: ledger.Version, Name: c.String("name"), Suite: suite.Name(), Group: ledger.GroupID(c.String("group")),
		Engine: c.String("engine"), Trust: c.Bool("trust-members"), UnixMilli: time.Now().UnixMilli(), Params: ledger.DefaultParams(), Accounts: []ledger.GenesisAccount{},
	}
	veto := c.Duration("veto-window")
	if veto != veto.Truncate(time.Millisecond) {
		return usage("--veto-window %v: the chain counts in ms, give a whole number of them, or 0s for none", veto)
	}
	if window := veto.Milliseconds(); window != precompiles.DefaultVeto {
		genesis.VetoWindow = &window
	}
	for _, card := range cards {
		genesis.Members = append(genesis.Members, ledger.Member{Node: card.Node, Institution: card.Institution, Key: card.Key})
	}
	for _, text := range c.StringSlice("account") {
		account, err := parseAccount(c, suite, text)
		if err != nil {
			return err
		}
		genesis.Accounts = append(genesis.Accounts, account)
	}
	if err := setParams(&genesis.Params, c.StringSlice("param")); err != nil {
		return err
	}
	if err := checkGenesis(suite, genesis); err != nil {
		return withCode(ExitUsage, err)
	}
	out := c.String("out")
	if _, err := os.Stat(out); err == nil {
		return fmt.Errorf("%s exists, and may be a chain's: name another file with --out, or move that one away", out)
	}
	if err := WriteGenesis(out, genesis); err != nil {
		return err
	}
	warnOf(c, genesis)
	note(c, "Give %s to every member; each checks it with `fondaco genesis show` and joins with `fondaco init -d DIR --genesis %s MEMBER.json...`.", out, out)
	return showGenesis(c, genesis, suite)
}

// parseAccount reads NAME:INSTITUTION:ROLE,ROLE:KEY.
func parseAccount(c *cli.Context, suite keys.Suite, text string) (ledger.GenesisAccount, error) {
	parts := strings.SplitN(text, ":", 4) // a key may hold a colon
	if len(parts) != 4 || parts[0] == "" {
		return ledger.GenesisAccount{}, usage("--account %q: want NAME:INSTITUTION:ROLE,ROLE:KEY, such as alice:bank-a:user:ed25519:0x…", text)
	}
	account := ledger.GenesisAccount{Name: parts[0], Institution: parts[1], Roles: splitList(parts[2])}
	key, err := publicKey(c, suite, parts[3])
	if err != nil {
		return account, fmt.Errorf("--account %s: %w", account.Name, err)
	}
	account.Keys = []ledger.Key{key}
	return account, nil
}

// splitList reads words with commas between them, sorted and once each.
func splitList(text string) []string {
	words := []string{}
	for word := range strings.SplitSeq(text, ",") {
		if word != "" {
			words = append(words, word)
		}
	}
	slices.Sort(words)
	return slices.Compact(words)
}

// setParams changes parameters by their names in the genesis file.
func setParams(params *ledger.Params, settings []string) error {
	for _, text := range settings {
		name, value, ok := strings.Cut(text, "=")
		if !ok {
			return usage("--param %q: want NAME=VALUE", text)
		}
		if name == "deploy_roles" {
			params.DeployRoles = splitList(value)
			continue
		}
		decoder := json.NewDecoder(strings.NewReader(fmt.Sprintf("{%q:%s}", name, value)))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(params); err != nil {
			return usage("--param %s: %w; `fondaco genesis show -o json` lists the parameters", text, err)
		}
	}
	return nil
}

// checkGenesis reports what keeps a genesis from founding a chain.
func checkGenesis(suite keys.Suite, g *ledger.Genesis) error {
	if err := g.Check(suite); err != nil {
		return err
	}
	_, err := precompiles.Genesis(suite, g)
	return err
}

// trustedGenesis reads a genesis file and checks it.
func trustedGenesis(path string) (*ledger.Genesis, keys.Suite, error) {
	genesis, err := ReadGenesis(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, withCode(ExitNotFound, fmt.Errorf("there is no genesis file %s (%w): get it from the founders of the chain and join with `fondaco init -d DIR --genesis FILE MEMBER.json...`, or with --from INVITATION if the chain is there already", path, fs.ErrNotExist))
	}
	if err != nil {
		return nil, nil, err
	}
	suite, err := keys.SuiteByName(genesis.Suite)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	if err := checkGenesis(suite, genesis); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return genesis, suite, nil
}

func showGenesis(c *cli.Context, g *ledger.Genesis, suite keys.Suite) error {
	type account struct {
		ledger.GenesisAccount
		Address ledger.Address `json:"address"`
	}
	doc := struct {
		Chain    keys.Digest     `json:"chain"`
		Name     string          `json:"name"`
		Suite    string          `json:"suite"`
		Group    ledger.GroupID  `json:"group"`
		Engine   string          `json:"engine"`
		Trust    bool            `json:"trust_members"`
		Time     int64           `json:"time_ms"`
		Members  []ledger.Member `json:"members"`
		Params   ledger.Params   `json:"params"`
		Accounts []account       `json:"accounts"`
		Veto     int64           `json:"veto_window"`
	}{g.Hash(suite), g.Name, g.Suite, g.Group, g.Engine, g.Trust, g.UnixMilli, g.Members, g.Params, []account{}, precompiles.DefaultVeto}
	if g.VetoWindow != nil {
		doc.Veto = *g.VetoWindow
	}
	for _, a := range g.Accounts {
		doc.Accounts = append(doc.Accounts, account{a, ledger.NamedAddress(suite, "account", a.Name)})
	}
	return show(c, doc, func(w io.Writer) {
		row(w, "chain", doc.Chain)
		row(w, "name", g.Name)
		row(w, "suite", g.Suite)
		row(w, "group", g.Group)
		row(w, "engine", g.Engine)
		row(w, "time", timeText(g.UnixMilli))
		n := len(g.Members)
		row(w, "quorum", quorumText(g.Finality(), n))
		if g.Trust {
			row(w, "trust", "members are trusted not to lie: one that does can fork the chain")
		}
		if slices.ContainsFunc(g.Accounts, func(a ledger.GenesisAccount) bool { return slices.Contains(a.Roles, string(identity.Regulator)) }) {
			row(w, "veto", fmt.Sprintf("a regulator may object to a motion for %s after the decision", time.Duration(doc.Veto)*time.Millisecond))
		}
		row(w)
		row(w, "MEMBER", "INSTITUTION", "NODE")
		for i, m := range g.Members {
			row(w, i, m.Institution, m.Node)
		}
		row(w)
		row(w, "ACCOUNT", "INSTITUTION", "ROLES", "ADDRESS")
		for _, a := range doc.Accounts {
			row(w, a.Name, a.Institution, strings.Join(a.Roles, ","), a.Address)
		}
	})
}

func writeJSON(path string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(data, '\n'), 0o644)
}

// twoKeys is what to do when one key of a regulator is too powerful.
const twoKeys = "have the regulator bind more keys and want two of them, with `fondaco account bind KEY... --threshold 2`, or have its institution keep a second regulator"

// warnOf warns of a group that is no consortium, or that one key can stop.
func warnOf(c *cli.Context, genesis *ledger.Genesis) {
	if toy := precompiles.Toy(genesis.Members); toy != "" {
		note(c, "WARNING: %s.", toy)
	}
	if mercy := precompiles.AtMercy(firstRegulators(genesis)); mercy != "" {
		note(c, "WARNING: %s. As soon as the chain runs, %s.", mercy, twoKeys)
	}
}

// firstRegulators returns the accounts with the role regulator that a chain begins with, each key of which acts alone.
func firstRegulators(genesis *ledger.Genesis) (all []precompiles.Account) {
	for _, a := range genesis.Accounts {
		if slices.Contains(a.Roles, string(identity.Regulator)) {
			all = append(all, precompiles.Account{Institution: a.Institution, Threshold: 1, Keys: []precompiles.AccountKey{{Weight: 1}}})
		}
	}
	return all
}
