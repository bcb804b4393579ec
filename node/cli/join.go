package cli

import (
	"bytes"
	"cmp"
	"context"
	"encoding/asn1"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pelletier/go-toml/v2"
	"github.com/rs/zerolog"
	"github.com/urfave/cli/v2"

	"github.com/fondaco/fondaco/node"
	"github.com/fondaco/fondaco/node/join"
	"github.com/fondaco/fondaco/node/members"
	"github.com/fondaco/fondaco/plugins"
	"github.com/fondaco/fondaco/plugins/ca"
	"github.com/fondaco/fondaco/plugins/ca/x509ca"
	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// The files by which a node joins, below its folder.
const (
	RequestFile  = "join-request.pem"
	authorityDir = "ca"            // what the CA provider is configured with
	settingsFile = "settings.toml" // below authorityDir
	chainFile    = "node.pem"      // the node's certificates, below authorityDir
	listsDir     = "lists"         // of the revocation lists that the CA provider fetches, below authorityDir
)

func joinRequestCommand() *cli.Command {
	return &cli.Command{
		Name:  "join-request",
		Usage: "make a node, and the request with which it joins a chain that is there",
		Description: "How a node joins, and who does what; no private key ever leaves its machine:\n\n" +
			"  1. Its operator: fondaco join-request -d node --institution bank-e --listen 10.0.0.5:9540\n" +
			"     makes key and folder, and node/" + RequestFile + ", which goes to the institution's CA and to a member of the group. All compare its\n" +
			"     fingerprint by another way, such as the telephone: fondaco join-request show FILE\n" +
			"  2. The CA, if nodes of the chain need certificates: fondaco ca issue FOLDER FILE --out bank-e.pem. Any other CA reads FILE as a PKCS #10 request.\n" +
			"  3. The members' institutions: fondaco member propose --observe FILE, then motion vote and motion execute.\n" +
			"  4. A member: fondaco invitation new FILE --certificate bank-e.pem --out bank-e.invitation, which goes back to the operator.\n" +
			"  5. The operator: fondaco init -d node --from bank-e.invitation --chain ID, then fondaco run -d node. The node observes; `fondaco member --help` says\n" +
			"     how it becomes a member.\n\n" +
			"Of a folder that has a node already, the request is made anew of what is there.",
		Flags: append(
			nodeFlags(),
			&cli.StringFlag{Name: "account", Usage: "`KEY` of the institution's first account, for an institution that is new to the chain: a key file, or what `fondaco keys show` prints"},
			&cli.StringFlag{Name: "csr", Usage: "`FILE` with a request for a certificate for the node's key, where a signer has it: `fondaco ca request`, or `signer-pkcs11 request` for a device, makes one"},
			&cli.StringFlag{Name: "out", Usage: "`FILE` to write; default: " + RequestFile + " in the node's folder"},
		),
		Action: makeRequest,
		Subcommands: []*cli.Command{{
			Name:      "show",
			Usage:     "check a request, and print what people compare",
			ArgsUsage: "FILE",
			Flags:     []cli.Flag{outputFlag()},
			Action: func(c *cli.Context) error {
				file, err := fileArgument(c)
				if err != nil {
					return err
				}
				r, suite, err := readJoinRequest(file)
				if err != nil {
					return err
				}
				return showRequest(c, file, r, suite)
			},
		}},
	}
}

func makeRequest(c *cli.Context) error {
	if _, err := arguments(c, 0, 0, ""); err != nil {
		return err
	}
	if err := checkOutput(c); err != nil {
		return err
	}
	dir := c.String("dir")
	card, key, suite, err := nodeToJoin(c, dir)
	if err != nil {
		return err
	}
	r := &join.Request{Institution: card.Institution, Address: card.Address, UnixMilli: time.Now().UnixMilli()}
	if text := c.String("account"); text != "" {
		account, err := publicKey(c, suite, text)
		if err != nil {
			return fmt.Errorf("--account: %w", err)
		}
		r.Account = &account
	}
	if r.CSR, err = certificateRequest(c, suite, key, card.Node); err != nil {
		return err
	}
	if err := r.Sign(suite, key); err != nil {
		return err
	}
	text, err := r.Encode()
	if err != nil {
		return err
	}
	file := c.String("out")
	if file == "" {
		file = filepath.Join(dir, RequestFile)
	}
	if err := replaceFile(file, text); err != nil {
		return err
	}
	note(c, "Give %s to the CA of %s and to a member of the group, and tell them the fingerprint by another way. It holds nothing secret. "+
		"Complete the folder with what a member sends back: fondaco init -d %s --from INVITATION --chain ID", file, card.Institution, dir)
	return showRequest(c, file, r, suite)
}

// nodeToJoin makes a node's folder as the flags say, or returns what is in one that has a node already.
func nodeToJoin(c *cli.Context, dir string) (MemberCard, keys.Signer, keys.Suite, error) {
	if _, err := os.Stat(filepath.Join(dir, ConfigFile)); errors.Is(err, fs.ErrNotExist) {
		card, key, err := newNode(c)
		if err != nil {
			return card, nil, nil, err
		}
		suite, err := keys.SuiteByName(c.String("suite"))
		return card, key, suite, err
	}
	for _, name := range []string{"institution", "listen", "address", "passphrase", "unlocked", "signer", "api-listen", "admin-listen"} {
		if c.IsSet(name) {
			return MemberCard{}, nil, nil, usage("%s has a node already, and the request is made of what is there: leave --%s out, or name another folder with -d", dir, name)
		}
	}
	file, err := ReadConfig(dir)
	if err != nil {
		return MemberCard{}, nil, nil, err
	}
	card, suite, err := ownCard(dir)
	if err == nil {
		err = checkSuite(c, suite)
	}
	if err != nil {
		return card, nil, nil, err
	}
	key, err := nodeKey(c, dir, file, suite)
	if err == nil && identity.NodeIDOf(suite, key.Public()) != card.Node {
		err = fmt.Errorf("the key of the node in %s makes node %s, and its %s says %s: put back the one that belongs to the other", dir, identity.NodeIDOf(suite, key.Public()), MemberFile, card.Node)
	}
	return card, key, suite, err
}

// ownCard reads the member file of the node in a folder, whose key tells the suite.
func ownCard(dir string) (card MemberCard, suite keys.Suite, err error) {
	for _, suite = range []keys.Suite{keys.Std(), keys.GM()} {
		var cards []MemberCard
		if cards, err = readCards(suite, []string{filepath.Join(dir, MemberFile)}); err == nil {
			return cards[0], suite, nil
		}
		if !errors.Is(err, keys.ErrAlgorithm) {
			break
		}
	}
	return card, nil, err
}

// certificateRequest returns a request for a certificate for the node's key: that of --csr, or one made with the key if it is at hand.
func certificateRequest(c *cli.Context, suite keys.Suite, key keys.Signer, node identity.NodeID) ([]byte, error) {
	if path := c.String("csr"); path != "" {
		return readRequest(path)
	}
	if _, remote := key.(keys.MessageSigner); remote {
		note(c, "The node's key is in a signer, which makes no request for a certificate over its socket. If nodes of the chain need certificates, make one where the key is, "+
			requestWays+", and run this again with --csr FILE.")
		return nil, nil
	}
	return x509ca.Request(suite, key, "node "+node.Short())
}

// readText reads a file that somebody sent, which is small.
func readText(path string, most int64) ([]byte, error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, withCode(ExitNotFound, err)
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, most+1))
	if err == nil && int64(len(text)) > most {
		err = withCode(ExitInvalid, fmt.Errorf("%s has more than %d bytes", path, most))
	}
	return text, err
}

func readJoinRequest(path string) (*join.Request, keys.Suite, error) {
	text, err := readText(path, join.MaxRequest)
	if err != nil {
		return nil, nil, err
	}
	r, suite, err := join.DecodeRequest(text)
	if err != nil {
		return nil, nil, received(path, "a join request of `fondaco join-request`", err)
	}
	return r, suite, nil
}

// received says what to do about a file that somebody sent and that is not what it should be.
func received(path, what string, err error) error {
	do := "do not use it"
	switch {
	case errors.Is(err, join.ErrDamaged):
		do = "want " + what + ": have it sent again, as an attachment"
	case errors.Is(err, join.ErrForged):
		do = "do not use it, and tell who is said to have sent it"
	}
	return withCode(ExitInvalid, fmt.Errorf("%s: %w; %s", path, err, do))
}

// requestDoc is the output of join-request and join-request show.
type requestDoc struct {
	File        string          `json:"file"`
	Institution string          `json:"institution"`
	Node        identity.NodeID `json:"node"`
	Address     string          `json:"address"`
	Fingerprint keys.Digest     `json:"fingerprint"`
	Suite       string          `json:"suite"`
	Key         ledger.Key      `json:"key"`
	Account     *ledger.Key     `json:"account,omitempty"`
	Certificate bool            `json:"certificate_request"`
	Time        int64           `json:"time"`
}

func showRequest(c *cli.Context, path string, r *join.Request, suite keys.Suite) error {
	print, err := r.Fingerprint(suite)
	if err != nil {
		return err
	}
	id, err := r.Node(suite)
	if err != nil {
		return err
	}
	d := requestDoc{path, r.Institution, id, r.Address, print, suite.Name(), r.Key, r.Account, len(r.CSR) > 0, r.UnixMilli}
	return show(c, d, func(w io.Writer) {
		row(w, "file", d.File)
		row(w, "institution", d.Institution)
		row(w, "node", d.Node)
		row(w, "address", d.Address)
		row(w, "fingerprint", d.Fingerprint)
		row(w, "suite", d.Suite)
		row(w, "key", keyText(d.Key))
		if d.Account != nil {
			row(w, "first account", keyText(*d.Account))
		}
		if d.Certificate {
			row(w, "certificate", "is requested for this key")
		} else {
			row(w, "certificate", "none is requested")
		}
		row(w, "made at", timeText(d.Time)+", by its maker's clock")
	})
}

// foundings returns the institutions that requests ask for and that neither the chain has nor the motion founds otherwise.
func (r *remote) foundings(paths []string, found []precompiles.Founding) ([]precompiles.Founding, error) {
	var known []string
	for _, path := range paths {
		text, err := readText(path, join.MaxRequest)
		if err != nil {
			return nil, err
		}
		if !join.IsRequest(text) {
			continue
		}
		request, suite, err := readJoinRequest(path)
		if err != nil {
			return nil, err
		}
		print, err := request.Fingerprint(suite)
		if err != nil {
			return nil, err
		}
		note(r.c, "The fingerprint of %s must be the one that the operator of %s tells by another way: %s", path, request.Institution, print)
		if request.Account == nil || slices.ContainsFunc(found, func(f precompiles.Founding) bool { return f.Name == request.Institution }) {
			continue
		}
		if known == nil {
			if known, err = members.Institutions(r.ctx, r.Client); err != nil {
				return nil, err
			}
		}
		if !slices.Contains(known, request.Institution) {
			found = append(found, precompiles.Founding{Name: request.Institution, Key: *request.Account})
		}
	}
	return found, nil
}

func invitationCommand() *cli.Command {
	return &cli.Command{
		Name:  "invitation",
		Usage: "make and show what the operator of an admitted node needs to begin",
		Subcommands: []*cli.Command{{
			Name:      "new",
			Usage:     "invite the node of a join request, by the word of the member in -d",
			ArgsUsage: "REQUEST",
			Description: "The invitation has the genesis, a certified header of now with what leads there, the proof that the node is admitted, the addresses of the\n" +
				"group's nodes, the certificate of the invited node, what the CA provider of the member in -d is configured with as far as it is about\n" +
				"nodes, and how to begin. The key of the member's node signs it. It holds nothing secret, and counts until 30 days after its header.",
			Flags: remoteFlags(
				passphraseFlag(),
				&cli.StringFlag{Name: "certificate", Usage: "PEM `FILE` of the invited node's certificates, its own first, as its CA issued them"},
				&cli.StringFlag{Name: "sync", Usage: "have it begin by all blocks, or by a recent state: `blocks` or snapshot", Value: SyncBlocks},
				&cli.StringFlag{Name: "out", Usage: "`FILE` to write"},
				recoveryFlag(),
			),
			Action: newInvitation,
		}, {
			Name:      "show",
			Usage:     "check an invitation, and print what it says and who made it",
			ArgsUsage: "FILE",
			Flags:     []cli.Flag{outputFlag(), recoveryFlag()},
			Action: func(c *cli.Context) error {
				file, err := fileArgument(c)
				if err != nil {
					return err
				}
				i, suite, err := readInvitation(file)
				if err != nil {
					return err
				}
				o, err := openInvitation(c, file, i, suite)
				if err != nil {
					return err
				}
				return showInvitation(c, file, i, o, suite)
			},
		}},
	}
}

func readInvitation(path string) (*join.Invitation, keys.Suite, error) {
	text, err := readText(path, join.MaxInvitation)
	if err != nil {
		return nil, nil, err
	}
	i, suite, err := join.DecodeInvitation(text)
	if err != nil {
		return nil, nil, received(path, "an invitation of `fondaco invitation new`", err)
	}
	return i, suite, nil
}

// openInvitation checks what an invitation says, with the recoveries that the user accepts.
func openInvitation(c *cli.Context, path string, i *join.Invitation, suite keys.Suite) (*join.Opened, error) {
	accepted, err := recoveries(c)
	if err != nil {
		return nil, err
	}
	o, err := i.Open(suite, accepted...)
	if errors.Is(err, ledger.ErrRecovery) {
		return nil, withCode(ExitInvalid, fmt.Errorf("%s leads over a recovery: %w", path, withRecovery(err)))
	}
	if err == nil {
		err = checkGenesis(suite, &i.Genesis)
	}
	if err != nil {
		return nil, received(path, "an invitation", err)
	}
	return o, nil
}

func newInvitation(c *cli.Context) error {
	args, err := arguments(c, 1, 1, "REQUEST")
	if err != nil {
		return err
	}
	out, err := required(c, "out", "FILE")
	if err != nil {
		return err
	}
	way := NetworkSection{Sync: c.String("sync")}
	if err := way.check(); err != nil {
		return usage("--%v", err)
	}
	request, suite, err := readJoinRequest(args[0])
	if err != nil {
		return err
	}
	return talk(c, func(r *remote) error {
		i, err := r.invite(args[0], request, suite)
		if err != nil {
			return err
		}
		i.Sync = way.Sync
		dir := c.String("dir")
		file, err := ReadConfig(dir)
		if err != nil {
			return err
		}
		if i.Engine, err = hex.DecodeString(file.Consensus.SHA256); err != nil {
			return err
		}
		if path := c.String("certificate"); path != "" {
			if i.Chain, err = readChain(path); err != nil {
				return err
			}
		}
		if err := inviteCertificate(c, dir, file, i, request, suite); err != nil {
			return err
		}
		key, err := nodeKey(c, dir, file, suite)
		if err != nil {
			return err
		}
		if err := i.Sign(suite, key); err != nil {
			return err
		}
		text, err := i.Encode()
		if err != nil {
			return err
		}
		if len(text) > join.MaxInvitation {
			return fmt.Errorf("the invitation would have %d bytes, at most %d: the revocation lists that ca.settings names are too long to go with it; ask a responder (OCSP) instead", len(text), join.MaxInvitation)
		}
		again, _, err := join.DecodeInvitation(text)
		if err != nil {
			return err
		}
		o, err := openInvitation(c, out, again, suite)
		if errors.Is(err, join.ErrForged) {
			return withCode(ExitDenied, fmt.Errorf("the node in %s may not invite: only a member of the epoch does whose blocks are final; name the folder of one with -d (%w)", dir, err))
		}
		if err != nil {
			return err
		}
		if err := o.CheckAge(time.Now().UnixMilli()); err != nil {
			return withCode(ExitDenied, fmt.Errorf("%w: send any transaction, so that there is a newer block, and invite again", err))
		}
		if err := replaceFile(out, text); err != nil {
			return err
		}
		note(c, "Give %s to the operator of node %s, and tell the chain's id by another way: fondaco init -d DIR --from FILE --chain %s", out, i.Node.Short(), o.Chain)
		return showInvitation(c, out, i, o, suite)
	})
}

// invite puts together what the chain and the node say that the command speaks to.
func (r *remote) invite(path string, request *join.Request, suite keys.Suite) (*join.Invitation, error) {
	own, err := r.Suite(r.ctx)
	if err != nil {
		return nil, err
	}
	if own.Name() != suite.Name() {
		return nil, withCode(ExitInvalid, fmt.Errorf("%s is for a chain of suite %s, and this one is of %s: its operator makes another node, with --suite %s", path, suite.Name(), own.Name(), own.Name()))
	}
	id, err := request.Node(suite)
	if err != nil {
		return nil, err
	}
	nodes, err := members.Nodes(r.ctx, r.Client)
	if err != nil {
		return nil, err
	}
	at := slices.IndexFunc(nodes, func(n precompiles.ListedNode) bool { return n.Node == id })
	if at < 0 {
		return nil, withCode(ExitNotFound, fmt.Errorf("the group has not admitted node %s of %s: `fondaco member propose --observe %s`, then have it voted for (`fondaco motion vote`) and executed (`fondaco motion execute`), and invite then", id.Short(), request.Institution, path))
	}
	row := &nodes[at].Row
	switch {
	case row.Status == precompiles.NodeDismissed:
		return nil, withCode(ExitDenied, fmt.Errorf("the group dismissed node %s: it joins again with a new key only", id.Short()))
	case row.Institution != request.Institution:
		return nil, withCode(ExitInvalid, fmt.Errorf("the group has node %s as one of %s, and %s says %s", id.Short(), row.Institution, path, request.Institution))
	}
	genesis, err := r.Genesis(r.ctx)
	if err != nil {
		return nil, err
	}
	i := &join.Invitation{Node: id, Institution: row.Institution, Genesis: *genesis, UnixMilli: time.Now().UnixMilli()}
	status, err := r.Status(r.ctx)
	if err != nil {
		return nil, err
	}
	if status.Height > 0 {
		admitted, err := r.StateProof(r.ctx, precompiles.MembersAddress, append(precompiles.NodeKeys(), id[:]...)[ledger.AddressSize:], strconv.FormatUint(uint64(status.Height), 10), "")
		if err != nil {
			return nil, err
		}
		if admitted.Proof == nil {
			return nil, fmt.Errorf("the node gives no proof of its state at height %d: run it again", status.Height)
		}
		i.Anchor = *admitted.Proof
	}
	i.Peers, err = r.peersFor(id, nodes)
	return i, err
}

// peersFor returns the nodes of the group whose addresses are known: by the chain, by the configuration of the node in -d, or by
// its member file. The chain has none of founding members.
func (r *remote) peersFor(invited identity.NodeID, nodes []precompiles.ListedNode) ([]join.Peer, error) {
	dir := r.c.String("dir")
	file, err := ReadConfig(dir)
	if err != nil {
		return nil, err
	}
	card, _, err := ownCard(dir)
	if err != nil {
		return nil, err
	}
	known := append([]Peer{{Node: card.Node, Address: card.Address}}, file.Network.Peers...)
	var peers []join.Peer
	for _, n := range nodes {
		if n.Node == invited || n.Row.Status == precompiles.NodeDismissed {
			continue
		}
		address := n.Row.Address
		if at := slices.IndexFunc(known, func(p Peer) bool { return p.Node == n.Node }); address == "" && at >= 0 {
			address = known[at].Address
		}
		if address != "" && len(peers) < join.MaxPeers {
			peers = append(peers, join.Peer{Node: n.Node, Institution: n.Row.Institution, Address: address})
		}
	}
	return peers, nil
}

// inviteCertificate puts the CA provider's configuration into an invitation, and has the provider look at the invited node's certificates.
func inviteCertificate(c *cli.Context, dir string, file *File, i *join.Invitation, request *join.Request, suite keys.Suite) error {
	if file.CA.Program == "" {
		if len(i.Chain) > 0 {
			note(c, "The node in %s asks no CA provider: it has no [ca] in %s. The certificates are passed on unseen.", dir, ConfigFile)
		}
		return nil
	}
	var err error
	if i.CA, err = packAuthority(dir, file.CA); err != nil {
		return err
	}
	if len(i.CA.Settings) == 0 {
		note(c, "The settings of %s are not passed on: tell the operator how to set up [ca].", i.CA.Program)
	}
	if len(i.Chain) == 0 {
		note(c, "WARNING: there is no certificate for node %s in the invitation, and nodes of this group need one: give it with --certificate FILE, or its operator does with `fondaco init --from`.", i.Node.Short())
		return nil
	}
	a, err := authority(dir, file.CA)
	if err != nil {
		return err
	}
	a.Chain = i.Chain
	if _, err = vouched(c, dir, a, suite, request.Key, request.Institution); err == nil {
		return nil
	}
	err = fmt.Errorf("other nodes would refuse node %s: %w", i.Node.Short(), err)
	if refusal, refused := errors.AsType[*ca.Refusal](err); refused && refusal.Code == ca.UnknownRoot {
		err = fmt.Errorf("%w; compare the root of its CA with its owner, and add it to ca.settings of every node", err)
	}
	return err
}

// withProvider runs the program of a CA provider of the node in dir for as long as use asks it. Then it tells what the program printed: why a list
// does not come is in no refusal, since these go to others, too.
func withProvider(c *cli.Context, dir string, a node.CA, use func(context.Context, ca.Provider) error) error {
	said := &printed{first: make(chan struct{})}
	defer said.tell(c)
	host := plugins.New(plugins.Config{Log: zerolog.New(said), Near: copiesIn(dir)})
	defer host.Close() //nolint:errcheck // a folder of sockets may be left
	ctx, cancel := context.WithTimeout(c.Context, 2*doctorAsks)
	defer cancel()
	provider, err := host.CA(ctx, a.Provider)
	if err != nil {
		return err
	}
	err = use(ctx, provider)
	if refusal, refused := errors.AsType[*ca.Refusal](err); err != nil && (!refused || refusal.Code == ca.StaleList) {
		select { // what it prints comes by another way than its answers, and may be behind
		case <-said.first:
		case <-time.After(lastWords):
		}
	}
	return err
}

// printed keeps what programs printed, of all that their host logs: the first maxPrinted lines.
type printed struct {
	first chan struct{} // closed when there is one
	mu    sync.Mutex    // guards lines
	lines []string
}

const (
	maxPrinted = 64
	lastWords  = 2 * time.Second // for which a program that cannot tell, or knows too little, is listened to
)

// Write takes a line of the host's log.
func (p *printed) Write(line []byte) (int, error) {
	var entry struct{ Plugin, Printed string }
	if json.Unmarshal(line, &entry) == nil && entry.Printed != "" {
		p.mu.Lock()
		defer p.mu.Unlock()
		if len(p.lines) == 0 {
			close(p.first)
		}
		if len(p.lines) < maxPrinted {
			p.lines = append(p.lines, entry.Plugin+": "+entry.Printed)
		}
	}
	return len(line), nil
}

func (p *printed) tell(c *cli.Context) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, line := range p.lines {
		note(c, "%s", plain(line, ""))
	}
}

// holder has a CA provider say whom certificates stand for.
func holder(c *cli.Context, dir string, a node.CA, suite keys.Suite) (who identity.Identity, err error) {
	err = withProvider(c, dir, a, func(ctx context.Context, p ca.Provider) (err error) {
		who, err = ca.Verifier{Provider: p, Suite: suite, Purpose: ca.Node}.Verify(ctx, a.Chain, time.Now())
		return err
	})
	return who, err
}

// vouched is holder of certificates that must be of an institution, and for a key.
func vouched(c *cli.Context, dir string, a node.CA, suite keys.Suite, key ledger.Key, institution string) (identity.Identity, error) {
	who, err := holder(c, dir, a, suite)
	switch {
	case err != nil:
	case who.Key.Algorithm() != key.Algorithm || !bytes.Equal(who.Key.Bytes(), key.Bytes):
		err = fmt.Errorf("certificate %s of %s is for another key than the node's: have one issued for its join request", who.Serial, who.Institution)
	case who.Institution != institution:
		err = fmt.Errorf("certificate %s names institution %q, and the node is of %q", who.Serial, who.Institution, institution)
	}
	return who, err
}

// readChain reads the certificates of a PEM file.
func readChain(path string) ([][]byte, error) {
	text, err := readText(path, maxCertificateFile)
	if err != nil {
		return nil, err
	}
	chain := pemBlocks(text, "CERTIFICATE")
	if len(chain) == 0 || len(chain) > ca.MaxChain {
		return nil, withCode(ExitInvalid, fmt.Errorf("%s has %d certificates in PEM, want 1 to %d: the node's own first, as `fondaco ca issue` writes them", path, len(chain), ca.MaxChain))
	}
	return chain, nil
}

// pemBlocks returns what the PEM blocks of a label hold.
func pemBlocks(text []byte, label string) (found [][]byte) {
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return found
		}
		if block.Type == label {
			found = append(found, block.Bytes)
		}
	}
}

// encodeBlocks reverses pemBlocks.
func encodeBlocks(label string, blocks [][]byte) []byte {
	var out []byte
	for _, der := range blocks {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: label, Bytes: der})...)
	}
	return out
}

// packAuthority makes what is passed on of a node's CA provider. Of the files that the settings name it takes certificates and
// revocation lists and nothing else; the part by which the provider issues stays here, and so do roles other than node.
func packAuthority(dir string, section CASection) (*join.CA, error) {
	out := &join.CA{Program: filepath.Base(section.Program), Files: []join.File{}}
	if section.Program != out.Program {
		var err error
		out.SHA256, err = hex.DecodeString(section.SHA256)
		return out, err
	}
	if out.Program != "ca-x509" && out.Program != "ca-gm" || section.Settings == "" {
		return out, nil
	}
	text, err := readBounded(within(dir, section.Settings), ca.MaxSettings)
	if err != nil {
		return nil, fmt.Errorf("ca.settings: %w", err)
	}
	settings, err := x509ca.Parse(text)
	if err != nil {
		return nil, err
	}
	settings.Issue = nil
	settings.Trust = forNodes(settings.Trust)
	names := map[string]string{}
	pack := func(label, path, name string) error {
		data, err := readBounded(path, ca.MaxListBytes)
		if err != nil {
			return err
		}
		der := pemBlocks(data, label)
		if block, _ := pem.Decode(data); block == nil {
			der = [][]byte{data} // no PEM at all
		}
		if !isPublic(der) {
			return fmt.Errorf("%s: want what holds %s in PEM or DER", path, strings.ToLower(label))
		}
		names[path] = name
		out.Files = append(out.Files, join.File{Name: name, Data: encodeBlocks(label, der)})
		return nil
	}
	err = settingsFiles(settings, func(label, path string) (string, error) {
		if name, packed := names[path]; packed {
			return name, nil
		}
		name := fmt.Sprintf("%d-%s.pem", len(out.Files)+1, map[string]string{certificateLabel: "certificates", listLabel: "list"}[label])
		return name, pack(label, path, name)
	})
	// What comes from URLs goes along as far as it has come, so that the node need not reach all of them at once.
	for _, name := range fetchedLists(settings) {
		path := filepath.Join(settings.Lists, name)
		if _, packed := names[path]; err != nil || packed {
			continue
		}
		if err = pack(listLabel, path, name); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	}
	if err != nil {
		return nil, fmt.Errorf("ca.settings: %w", err)
	}
	settings.Lists = "" // where they are kept is for each node to say
	if out.Settings, err = toml.Marshal(settings); err != nil {
		return nil, err
	}
	return out, nil
}

// forNodes returns what is left of trusted PKIs for whoever asks about nodes alone.
func forNodes(trust []x509ca.Trust) (left []x509ca.Trust) {
	onlyNode := []identity.Role{identity.Node}
	for _, t := range trust {
		if len(t.Roles) > 0 && !slices.Contains(t.Roles, identity.Node) {
			continue
		}
		t.Roles = onlyNode
		var grants []x509ca.Grant
		for _, g := range t.Grant {
			if slices.Contains(g.Roles, identity.Node) {
				g.Roles = onlyNode
				grants = append(grants, g)
			}
		}
		t.Grant = grants
		left = append(left, t)
	}
	return left
}

// The PEM labels of what is passed on.
const (
	certificateLabel = "CERTIFICATE"
	listLabel        = "X509 CRL"
)

// isPublic reports whether all have the outside of a certificate or a revocation list (RFC 5280 §4.1, §5.1), which no private key has.
func isPublic(ders [][]byte) bool {
	for _, der := range ders {
		var signed struct {
			Said, Algorithm asn1.RawValue
			Signature       asn1.BitString
		}
		rest, err := asn1.Unmarshal(der, &signed)
		if err != nil || len(rest) > 0 || signed.Said.Tag != asn1.TagSequence || signed.Algorithm.Tag != asn1.TagSequence {
			return false
		}
	}
	return len(ders) > 0
}

// fetchedLists returns the names of the files in which a provider keeps what it fetches.
func fetchedLists(s *x509ca.Settings) (names []string) {
	for _, t := range s.Trust {
		for _, entry := range t.CRL {
			if name, fetched := x509ca.Kept(entry); fetched {
				names = append(names, name)
			}
		}
	}
	return names
}

// settingsFiles calls change for each file that the settings of a provider name, with the label of what is in it, and puts what
// it returns in its place. URLs stay.
func settingsFiles(s *x509ca.Settings, change func(label, path string) (string, error)) error {
	replace := func(label string, path *string) error {
		if *path == "" {
			return nil
		}
		changed, err := change(label, *path)
		*path = changed
		return err
	}
	for n := range s.Trust {
		t := &s.Trust[n]
		err := errors.Join(replace(certificateLabel, &t.Roots), replace(certificateLabel, &t.Intermediates))
		for at, entry := range t.CRL {
			if _, fetched := x509ca.Kept(entry); !fetched {
				err = errors.Join(err, replace(listLabel, &t.CRL[at]))
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// invitationDoc is the output of the invitation commands.
type invitationDoc struct {
	File        string          `json:"file"`
	Chain       keys.Digest     `json:"chain"`
	Name        string          `json:"name"`
	Suite       string          `json:"suite"`
	Engine      string          `json:"engine"`
	Node        identity.NodeID `json:"node"`
	Institution string          `json:"institution"`
	By          identity.NodeID `json:"by"`
	ByOf        string          `json:"by_institution"`
	Time        int64           `json:"time"`
	Until       int64           `json:"until,omitempty"`
	Epoch       uint64          `json:"epoch"`
	Height      ledger.Height   `json:"height"`
	Block       keys.Digest     `json:"block,omitzero"`
	BlockTime   int64           `json:"block_time"`
	Peers       []peerDoc       `json:"peers"`
	Sync        string          `json:"sync"`
	Program     string          `json:"ca_program,omitempty"`
	Roots       []keys.Digest   `json:"ca_roots"` // fingerprints
	Trusts      []string        `json:"ca_trusts"`
	Leaf        *keys.Digest    `json:"certificate,omitempty"`
	LeafEnds    int64           `json:"certificate_ends,omitempty"`
}

type peerDoc struct {
	Node        identity.NodeID `json:"node"`
	Institution string          `json:"institution"`
	Address     string          `json:"address"`
}

func describeInvitation(path string, i *join.Invitation, o *join.Opened, suite keys.Suite) invitationDoc {
	d := invitationDoc{
		File: path, Chain: o.Chain, Name: i.Genesis.Name, Suite: i.Suite, Engine: i.Genesis.Engine, Node: i.Node, Institution: i.Institution,
		By: o.Signer, ByOf: o.Member.Institution, Time: i.UnixMilli, Epoch: o.Epoch.Number, BlockTime: i.Genesis.UnixMilli, Sync: i.Sync, Peers: []peerDoc{}, Roots: []keys.Digest{}, Trusts: []string{},
	}
	if o.Head != nil {
		d.Height, d.Block, d.BlockTime = o.Head.Order.Height, o.Head.Hash(suite), o.Head.Order.UnixMilli
		d.Until = d.BlockTime + join.MaxAge.Milliseconds()
	}
	for _, p := range i.Peers {
		d.Peers = append(d.Peers, peerDoc{p.Node, p.Institution, p.Address})
	}
	if i.CA != nil {
		d.Program = i.CA.Program
		for _, f := range i.CA.Files {
			for _, der := range pemBlocks(f.Data, certificateLabel) {
				d.Roots = append(d.Roots, identity.Fingerprint(suite, der))
			}
		}
	}
	if i.CA != nil && len(i.CA.Settings) > 0 {
		var settings x509ca.Settings
		if err := toml.Unmarshal(i.CA.Settings, &settings); err != nil {
			d.Trusts = append(d.Trusts, "settings that cannot be read: "+err.Error())
		}
		for _, t := range settings.Trust {
			d.Trusts = append(d.Trusts, trustText(&t))
		}
	}
	if len(i.Chain) > 0 {
		d.Leaf = new(identity.Fingerprint(suite, i.Chain[0]))
		if found, err := parseCertificate(suite, i.Chain[0]); err == nil {
			d.LeafEnds = found.until
		}
	}
	return d
}

// trustText says what the settings of an invitation make of a PKI: whoever takes it over trusts it with just that.
func trustText(t *x509ca.Trust) string {
	anyOf := func(list []string) string {
		if len(list) == 0 {
			return "any"
		}
		return strings.Join(list, ", ")
	}
	roles := func(list []identity.Role) (texts []string) {
		for _, r := range list {
			texts = append(texts, string(r))
		}
		return texts
	}
	text := fmt.Sprintf("%s: institutions %s; roles %s; ", t.Roots, anyOf(t.Institutions), anyOf(roles(t.Roles)))
	if t.Institution != "" {
		text = fmt.Sprintf("%s: all its holders are of %s; roles %s; ", t.Roots, t.Institution, anyOf(roles(t.Roles)))
	}
	switch {
	case t.OCSP != "":
		text += fmt.Sprintf("revocation by %d lists, and by asking %s", len(t.CRL), t.OCSP)
	case len(t.CRL) > 0:
		text += fmt.Sprintf("revocation by %d lists", len(t.CRL))
	default:
		text += "nothing is ever revoked"
	}
	for _, entry := range t.CRL {
		if _, fetched := x509ca.Kept(entry); fetched {
			text += "; fetches " + entry
		}
	}
	for _, g := range t.Grant {
		text += fmt.Sprintf("; grants %s to holders issued by %s with unit %s", strings.Join(roles(g.Roles), ", "), cmp.Or(g.Issuer, "any"), cmp.Or(g.Unit, "any"))
	}
	return text
}

func showInvitation(c *cli.Context, path string, i *join.Invitation, o *join.Opened, suite keys.Suite) error {
	d := describeInvitation(path, i, o, suite)
	return show(c, d, func(w io.Writer) { invitationTable(w, &d) })
}

func invitationTable(w io.Writer, d *invitationDoc) {
	row(w, "file", d.File)
	row(w, "chain", d.Chain)
	row(w, "name", fmt.Sprintf("%s, suite %s, engine %s", d.Name, d.Suite, d.Engine))
	row(w, "for", fmt.Sprintf("node %s of %s", d.Node, d.Institution))
	row(w, "by", fmt.Sprintf("node %s of %s, a member in epoch %d", d.By, d.ByOf, d.Epoch))
	row(w, "made at", timeText(d.Time)+", by its maker's clock")
	if d.Height > 0 {
		row(w, "block", fmt.Sprintf("%d %s of %s", d.Height, d.Block, timeText(d.BlockTime)))
		row(w, "counts until", timeText(d.Until))
	} else {
		row(w, "block", "0: the chain has none but the genesis")
	}
	for _, p := range d.Peers {
		row(w, "node", fmt.Sprintf("%s of %s at %s", p.Node, p.Institution, p.Address))
	}
	row(w, "begins by", d.Sync)
	if d.Program == "" {
		row(w, "certificates", "are not asked for")
	} else {
		row(w, "certificates", "are asked of "+d.Program)
	}
	for _, root := range d.Roots {
		row(w, "trusts", root)
	}
	for _, t := range d.Trusts {
		row(w, "with", t)
	}
	if d.Leaf != nil {
		row(w, "certificate", fmt.Sprintf("%s, until %s", *d.Leaf, timeText(d.LeafEnds)))
	}
}

// replaceFile writes a file that everybody may read, which never is half of it, nor after a power cut.
func replaceFile(path string, data []byte) error { return replaceWith(path, data, 0o644) }

// halfWritten begins the names of files that replaceWith has not finished.
const halfWritten = ".new-"

// replaceWith is replaceFile with permissions.
func replaceWith(path string, data []byte, mode fs.FileMode) error {
	file, err := os.CreateTemp(filepath.Dir(path), halfWritten)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	if err = errors.Join(err, file.Chmod(mode), file.Sync(), file.Close()); err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(file.Name()))
	}
	return state.OS().SyncDir(filepath.Dir(path))
}
