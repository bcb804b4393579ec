package cli

import (
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/fondaco/fondaco/node"
	"github.com/fondaco/fondaco/node/backup"
	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/node/login"
	"github.com/fondaco/fondaco/node/members"
	"github.com/fondaco/fondaco/node/monitor"
	"github.com/fondaco/fondaco/plugins"
	"github.com/fondaco/fondaco/plugins/ca"
	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/keys/keyfile"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/transport"
)

// What doctor measures by.
const (
	doctorWrites    = 64              // synced writes
	doctorWriteSize = 4 << 10         // bytes of each
	doctorWriting   = 5 * time.Second // for all of them
	doctorAsks      = 3 * time.Second // for the node to answer, and for all names of peers

	slowMedian = 20 * time.Millisecond  // of a synced write
	slowWorst  = 250 * time.Millisecond // and of the slowest

	leastSpace = 512 << 20 // bytes free: healing a file of blocks takes 256 MiB and a block
	lowSpace   = 5 << 30
)

func doctorCommand() *cli.Command {
	return &cli.Command{
		Name:  "doctor",
		Usage: "examine a node's folder, its machine and, if it runs, the node, and say what to do",
		Description: "Each line is ok, warn or FAIL, a check, and what was seen; below it stands what to do. Exit code 1 when a line says FAIL.\n" +
			"Nothing is changed. A few small files are written to the data folder and removed, to see how long that takes.\n" +
			"Of a stopped node the data are locked for a moment: do not start it meanwhile.",
		Flags: []cli.Flag{dirFlag(), outputFlag(), passphraseFlag()},
		Action: func(c *cli.Context) error {
			if _, err := arguments(c, 0, 0, ""); err != nil {
				return err
			}
			if err := checkOutput(c); err != nil {
				return err
			}
			dir, err := filepath.Abs(c.String("dir"))
			if err != nil {
				return err
			}
			if _, err := os.Stat(filepath.Join(dir, ConfigFile)); errors.Is(err, fs.ErrNotExist) {
				_, err := ReadConfig(dir)
				return err
			}
			d := &doctor{c: c, dir: dir}
			d.examine()
			return d.report()
		},
	}
}

// finding is a line of what doctor saw.
type finding struct {
	State string `json:"state"` // ok, warn or FAIL
	Check string `json:"check"`
	Saw   string `json:"saw"`
	Do    string `json:"do,omitempty"` // what to do; empty when ok
}

// doctor examines a node's folder. What could not be read is nil or empty, and what needs it is not examined.
type doctor struct {
	c        *cli.Context
	dir      string
	findings []finding

	file    *File
	genesis *ledger.Genesis
	suite   keys.Suite
	self    identity.NodeID // zero: not known, because the key is locked
	locked  bool            // another process uses the data
	api     *client.Client  // of the node that runs in the folder
	status  *client.Status
	chain   *client.Chain
}

func (d *doctor) ok(check, saw string, args ...any) {
	d.findings = append(d.findings, finding{"ok", check, fmt.Sprintf(saw, args...), ""})
}

func (d *doctor) warn(check, do, saw string, args ...any) {
	d.findings = append(d.findings, finding{"warn", check, fmt.Sprintf(saw, args...), do})
}

func (d *doctor) fail(check, do, saw string, args ...any) {
	d.findings = append(d.findings, finding{"FAIL", check, fmt.Sprintf(saw, args...), do})
}

func (d *doctor) report() error {
	failed := 0
	for _, f := range d.findings {
		if f.State == "FAIL" {
			failed++
		}
	}
	err := show(d.c, d.findings, func(w io.Writer) {
		for _, f := range d.findings {
			row(w, f.State, f.Check, f.Saw)
			if f.Do != "" {
				row(w, "", "", "do: "+f.Do)
			}
		}
	})
	if err == nil && failed > 0 {
		err = fmt.Errorf("%d of %d checks failed: do what stands below their lines, and run `fondaco doctor -d %s` again", failed, len(d.findings), d.dir)
	}
	return err
}

func (d *doctor) examine() {
	d.configuration()
	d.permissions()
	d.genesisFile()
	d.key()
	d.data()
	d.node()
	d.regulators()
	d.features()
	d.ports()
	d.doors()
	d.buffers()
	d.disk()
	d.space()
	d.programs()
	d.certificates()
	d.peers()
	d.clock()
}

// regular reports whether a path may be read: what is there and no file, such as a pipe, could keep a reader waiting for ever.
func (d *doctor) regular(check, path string) bool {
	info, err := os.Stat(path)
	if err != nil || info.Mode().IsRegular() {
		return true
	}
	d.fail(check, "put a file in its place", "%s is not a file (mode %v)", path, info.Mode())
	return false
}

func (d *doctor) configuration() {
	if !d.regular("configuration", filepath.Join(d.dir, ConfigFile)) {
		return
	}
	file, err := ReadConfig(d.dir)
	if err != nil {
		d.fail("configuration", "correct the file: what depends on it was not examined", "%v", err)
		return
	}
	d.file = file
	d.ok("configuration", "%s", filepath.Join(d.dir, ConfigFile))
}

// permissions looks for files that others can read or change.
func (d *doctor) permissions() {
	if runtime.GOOS == "windows" {
		return // modes say nothing there
	}
	const check = "permissions"
	found := len(d.findings)
	for _, name := range []string{".", "data", "cache", ConfigFile, GenesisFile} {
		path := filepath.Join(d.dir, name)
		info, err := os.Stat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			d.fail(check, "run doctor as the user that runs the node", "%v", err)
		case info.Mode().Perm()&0o022 != 0:
			d.fail(check, "run: chmod go-w "+path, "others can change %s (mode %v)", path, info.Mode().Perm())
		}
	}
	for _, name := range []string{KeyFile, node.OperatorKey, "reset.key", "shadow.key"} {
		path := filepath.Join(d.dir, name)
		info, err := os.Stat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist): // the key has a check of its own, and the others a node makes
		case err != nil:
			d.fail(check, "run doctor as the user that runs the node", "%v", err)
		case info.Mode().Perm()&0o077 != 0 && name == KeyFile && lockedFile(path):
			d.fail(check, fmt.Sprintf("run: chmod 600 %s; who copied it lacks only the passphrase: use another key if that may be guessed", path), "others can read or change %s, which is locked (mode %v)", path, info.Mode().Perm())
		case info.Mode().Perm()&0o077 != 0:
			d.fail(check, fmt.Sprintf("run: chmod 600 %s; and consider what is in it leaked", path), "others can read or change %s (mode %v)", path, info.Mode().Perm())
		}
	}
	if len(d.findings) == found {
		d.ok(check, "secrets are the owner's alone, and nobody else can change the folder")
	}
}

// lockedFile reports whether a key file is locked by a passphrase.
func lockedFile(path string) bool {
	data, err := readBounded(path, 64<<10)
	defer clear(data)
	return err == nil && keyfile.IsLocked(data)
}

func (d *doctor) genesisFile() {
	if !d.regular("genesis", filepath.Join(d.dir, GenesisFile)) {
		return
	}
	genesis, suite, err := trustedGenesis(filepath.Join(d.dir, GenesisFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		d.fail("genesis", "get it from the founders of the chain, and run: fondaco init -d "+d.dir+" --genesis FILE MEMBER.json...; or, if the chain is there already, give "+
			"what `fondaco join-request -d "+d.dir+"` makes to a member, and run: fondaco init -d "+d.dir+" --from INVITATION --chain ID", "this node has joined no chain: there is no %s", GenesisFile)
	case err != nil:
		d.fail("genesis", "compare the file with that of another node, and put that in its place", "%v", err)
	default:
		d.genesis, d.suite = genesis, suite
		d.ok("genesis", "chain %s %s, group %s, suite %s", genesis.Hash(suite), genesis.Name, genesis.Group, genesis.Suite)
		if toy := precompiles.Toy(genesis.Members); toy != "" {
			d.warn("institutions", "make the genesis with members of more institutions, or have them join: `fondaco member --help`", "%s", toy)
		}
	}
}

// signer asks the signer that the configuration names for its key.
func (d *doctor) signer() {
	const check = "key"
	if d.suite == nil {
		return
	}
	key, err := nodeKey(d.c, d.dir, d.file, d.suite)
	switch {
	case errors.Is(err, keys.ErrAway):
		d.fail(check, "start the signer, as the user that signer.socket in "+ConfigFile+" needs", "%v", err)
	case err != nil:
		d.fail(check, "do what it says, or correct signer.socket in "+ConfigFile, "%v", err)
	default:
		d.self = identity.NodeIDOf(d.suite, key.Public())
		d.belongs("the signer at "+d.file.Signer.Socket, fmt.Sprintf("node %s, of the signer at %s", d.self, d.file.Signer.Socket))
	}
}

// belongs compares the node's id with the one that others know.
func (d *doctor) belongs(from, saw string) {
	var card MemberCard
	if data, err := readBounded(filepath.Join(d.dir, MemberFile), 64<<10); err == nil && json.Unmarshal(data, &card) == nil && card.Node != d.self {
		d.fail("key", "put back the key that belongs to this folder: others know the node by it", "%s makes node %s, and %s says %s", from, d.self, MemberFile, card.Node)
		return
	}
	d.ok("key", "%s", saw)
}

// key opens the key file. A locked one is opened only with --passphrase-fd: doctor asks nobody anything.
func (d *doctor) key() {
	const check = "key"
	if d.file != nil && d.file.Signer.Socket != "" {
		d.signer()
		return
	}
	path := filepath.Join(d.dir, KeyFile)
	if !d.regular(check, path) {
		return
	}
	var ask func() (string, error)
	if d.c.IsSet("passphrase-fd") {
		ask = sync.OnceValues(passphrase(d.c))
	}
	suites := []keys.Suite{d.suite}
	if d.suite == nil {
		suites = []keys.Suite{keys.Std(), keys.GM()}
	}
	var signer keys.Signer
	var err error
	for _, s := range suites {
		if signer, err = keyfile.Read(path, s, ask); err == nil {
			d.self = identity.NodeIDOf(s, signer.Public())
		}
		if !errors.Is(err, keys.ErrAlgorithm) {
			break
		}
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		d.fail(check, "put the node's key file back from where it is kept", "there is no %s", path)
		return
	case errors.Is(err, keyfile.ErrPassphrase) && ask == nil:
		d.ok(check, "%s is locked by a passphrase and was not opened; --passphrase-fd lets doctor look", path)
		return
	case err != nil:
		d.fail(check, "make the file readable for the user that runs the node, or put the right one in its place", "%v", err)
		return
	}
	d.belongs(path, fmt.Sprintf("node %s", d.self))
}

// data compares the first block of the data with the genesis, and finds out whether another process has them.
func (d *doctor) data() {
	const check = "data"
	if d.genesis == nil {
		return
	}
	path := filepath.Join(d.dir, "data", string(d.genesis.Group))
	if _, err := os.Stat(filepath.Join(path, "blocks")); errors.Is(err, fs.ErrNotExist) {
		d.ok(check, "there are no blocks yet")
		return
	}
	first, err := genesisBlock(d.suite, d.genesis)
	if err != nil {
		d.fail("genesis", "compare the file with that of another node", "%v", err)
		return
	}
	want := first.Header.Hash(d.suite)
	header, err := state.FirstHeader(path, nil)
	switch {
	case errors.Is(err, state.ErrLocked):
		d.locked = true
	case errors.Is(err, state.ErrNotFound):
		d.ok(check, "there are no blocks yet")
	case errors.Is(err, state.ErrImport), errors.Is(err, state.ErrReplace):
		d.warn(check, "start the node: it goes on with that", "%v", err)
	case err != nil:
		d.fail(check, "run: fondaco verify -d "+d.dir, "the first block of %s cannot be read: %v", path, err)
	case header.Hash(d.suite) != want:
		d.fail(check, "use the genesis file that the data were made with, or an empty folder", "%s belongs to another chain: its genesis block is %s, and %s gives %s",
			path, header.Hash(d.suite), GenesisFile, want)
	default:
		d.ok(check, "%s begins with the block of the genesis", path)
	}
}

// node asks the node that runs in the folder, if one does.
func (d *doctor) node() {
	const check = "node"
	if d.file == nil || d.genesis == nil {
		return
	}
	if d.file.API.Listen == "" {
		if d.locked {
			d.warn(check, "set api.listen, on loopback, to have the node examined too", "it runs, and has no API to ask")
		} else {
			d.ok(check, "it does not run")
		}
		return
	}
	ctx, cancel := context.WithTimeout(d.c.Context, doctorAsks)
	defer cancel()
	status, chain, err := d.ask(ctx)
	ours := err == nil && chain.Chain == d.genesis.Hash(d.suite) && (d.self == (identity.NodeID{}) || status.Node == d.self)
	switch {
	case !d.locked && ours && d.self != (identity.NodeID{}):
		d.fail(check, "end one of the two at once: two nodes with one key vote against each other", "node %s runs on this machine from another folder than %s", status.Node.Short(), d.dir)
	case !d.locked:
		d.ok(check, "it does not run")
	case err != nil:
		d.fail(check, "wait if it has just been started; else read its log, and end it if it hangs", "it runs, or another command uses its data, and the API does not answer: %v", err)
	case !ours:
		d.fail(check, "give each node of this machine an API address of its own", "at %s another node answers: %s of chain %s", d.file.API.Listen, status.Node, chain.Chain)
	default:
		d.status, d.chain = status, chain
		d.ok("data", "in use by the node, which is of the same chain")
		d.condition()
	}
}

func (d *doctor) ask(ctx context.Context) (*client.Status, *client.Chain, error) {
	address, pin, err := apiOfFolder(d.c)
	if err != nil {
		return nil, nil, err
	}
	api, err := client.Open(address, client.Access{Pin: pin})
	if err != nil {
		return nil, nil, err
	}
	showOperator(api, d.dir)
	d.api = api
	chain, err := api.Chain(ctx)
	if err != nil {
		return nil, nil, err
	}
	status, err := api.Status(ctx)
	return status, chain, err
}

// regulators looks for one of which a single key stops the chain: by what the node says, or if none runs, as the chain began.
func (d *doctor) regulators() {
	const check = "regulator"
	if d.genesis == nil {
		return
	}
	if d.status == nil {
		if mercy := precompiles.AtMercy(firstRegulators(d.genesis)); mercy != "" {
			d.warn(check, twoKeys+"; if that was done, doctor sees it while the node runs", "by the genesis: %s", mercy)
		}
		return
	}
	ctx, cancel := context.WithTimeout(d.c.Context, doctorAsks)
	defer cancel()
	regulators, err := members.Regulators(ctx, d.api)
	if err != nil {
		d.warn(check, "run it again when the node answers", "not known: %v", err)
	} else if mercy := precompiles.AtMercy(regulators); mercy != "" {
		d.warn(check, twoKeys, "%s", mercy)
	} else if len(regulators) > 0 {
		d.ok(check, "no single key of one stops all motions")
	}
}

// condition tells what the node says of itself.
func (d *doctor) condition() {
	const check = "node"
	s := d.status
	switch {
	case s.Stopped != "":
		d.fail(check, "the reason says it; the node's log says more", "its group stopped: %s", s.Stopped)
	case s.Muted != "":
		d.warn(check, "the reason says it", "it does not vote: %s", s.Muted)
	case s.Lacking != "":
		d.warn(check, "the reason says it", "it lacks blocks: %s", s.Lacking)
	case s.Joining != nil:
		d.ok(check, "it runs, %s", joiningText(s.Joining))
	case s.Syncing > 0:
		d.ok(check, "it runs, %s", behindText(s))
	default:
		d.ok(check, "it runs at height %d, %s", s.Height, roleText(s))
	}
}

// ports tries to listen where the configuration says.
func (d *doctor) ports() {
	if d.file == nil {
		return
	}
	for _, p := range []struct{ check, network, address, key string }{
		{"port of nodes", "udp", d.file.Network.Listen, "network.listen"},
		{"port of the API", "tcp", d.file.API.Listen, "api.listen"},
		{"admin port", "tcp", d.file.Admin.Listen, "admin.listen"},
	} {
		if p.address == "" {
			if p.network == "udp" {
				d.fail(p.check, "set network.listen in "+ConfigFile, "no address is configured")
			}
			continue
		}
		err := listens(p.network, p.address)
		_, port, splitErr := net.SplitHostPort(p.address)
		switch taken := errors.Is(err, syscall.EADDRINUSE); {
		case splitErr != nil:
			d.fail(p.check, "write it as host:port", "%s %q: %v", p.key, p.address, splitErr)
		case taken && d.locked:
			d.ok(p.check, "%s %s, taken while this node runs", p.network, p.address)
		case taken:
			d.fail(p.check, fmt.Sprintf("find it with `ss -lnp --%s 'sport = :%s'` and end it, or set another %s", p.network, port, p.key), "another program has %s %s", p.network, p.address)
		case err != nil:
			d.fail(p.check, "set "+p.key+" to an address of this machine that its user may listen on", "%v", err)
		case d.locked:
			d.warn(p.check, "restart the node if "+ConfigFile+" was changed since", "%s %s is free although this node runs: it was started with another address", p.network, p.address)
		default:
			d.ok(p.check, "%s %s is free", p.network, p.address)
		}
	}
}

// doors looks at who gets in at the API and the admin interface.
func (d *doctor) doors() {
	if d.file == nil {
		return
	}
	for _, l := range []struct {
		check, name string
		section     *ListenSection
	}{{"API", "api", &d.file.API}, {"admin interface", "admin", &d.file.Admin}} {
		if l.section.Listen == "" {
			continue
		}
		found, err := login.Check(l.name, l.section.Listen, l.section.files(d.dir), d.file.CA.Program != "" && (d.suite == nil || d.suite.Name() == keys.Std().Name()))
		ends, left := found.Ends, time.Until(found.Ends)
		switch {
		case err != nil:
			d.fail(l.check, "correct it; a running node goes by what it read before", "%v", err)
		case ends.IsZero():
			d.ok(l.check, "on this machine only, and whoever is on it may do everything there")
		case left < 0:
			d.fail(l.check, "renew it with `fondaco ca renew`, and replace the file: the node needs no restart", "its certificate ended on %s", timeText(ends.UnixMilli()))
		case left < 30*24*time.Hour:
			d.warn(l.check, "renew it with `fondaco ca renew`, and replace the file: the node needs no restart", "its certificate ends on %s", timeText(ends.UnixMilli()))
		default:
			d.ok(l.check, "TLS with a certificate until %s, and everybody is asked who he is", timeText(ends.UnixMilli()))
		}
		d.clients(l.check, &found.Clients)
		if len(found.Vouch) > 0 {
			d.ok(l.check+" authorities", "bound to institutions: %s", strings.Join(found.Vouch, "; "))
		}
		if len(found.Unbound) > 0 {
			d.warn(l.check+" authorities", "say for which institution each vouches (`fondaco ca clients`); the node needs no restart",
				"these authorities in %s are bound to no institution, and others stand beside them, so their clients read and submit, and are of none: %s", l.section.Clients, strings.Join(found.Unbound, "; "))
		}
		if len(found.Unlisted) > 0 {
			d.warn(l.check+" clients", "have each make a revocation list (`fondaco ca crl`), and put it into the file as PEM; the node needs no restart",
				"what these authorities revoked lets in, for %s has no revocation list of theirs: %s", l.section.Clients, strings.Join(found.Unlisted, "; "))
		}
	}
}

// clients tells of authorities of client certificates that end soon, and of their revocation lists.
func (d *doctor) clients(check string, c *login.Clients) {
	const renew, replace = "put its next certificate into the file too: the node needs no restart", "put a newer one in its place, `fondaco ca crl` makes one: the node needs no restart"
	for _, a := range c.Authorities {
		switch left := time.Until(a.Ends); {
		case left < 0:
			d.fail(check+" authorities", renew, "all clients of %s are refused: its certificate ended on %s", a.Subject, timeText(a.Ends.UnixMilli()))
		case left < 30*24*time.Hour:
			d.warn(check+" authorities", renew, "the certificate of %s ends on %s, and then all its clients are refused", a.Subject, timeText(a.Ends.UnixMilli()))
		}
	}
	for _, l := range c.Lists {
		switch left, list := time.Until(l.Next), (monitor.List{Issued: l.Issued, Next: l.Next}); {
		case left < 0:
			d.fail(check+" clients", replace, "all clients of %s are refused: its next revocation list was due at %s", l.Issuer, timeText(l.Next.UnixMilli()))
		case left < list.Lead():
			d.warn(check+" clients", replace, "the next revocation list of %s is due at %s, and then all its clients are refused", l.Issuer, timeText(l.Next.UnixMilli()))
		}
	}
}

// listens takes an address for a moment.
func listens(network, address string) error {
	var l io.Closer
	var err error
	if network == "udp" {
		l, err = net.ListenPacket(network, address)
	} else {
		l, err = net.Listen(network, address)
	}
	if err != nil {
		return err
	}
	return l.Close()
}

func (d *doctor) buffers() {
	const check = "UDP buffers"
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		d.fail(check, "give the user that runs the node the right to open sockets", "%v", err)
		return
	}
	defer socket.Close()
	if hint := transport.SocketBuffers(socket); hint != "" {
		d.warn(check, "run what stands there, and put it into /etc/sysctl.d so that it stays: bursts of packets are lost", "%s", hint)
		return
	}
	d.ok(check, "as large as QUIC wants them")
}

// disk measures synced writes, of which every block takes one on each member before it votes.
func (d *doctor) disk() {
	const check = "disk"
	dir := filepath.Join(d.dir, "data")
	if _, err := os.Stat(dir); err != nil {
		dir = d.dir
	}
	took, err := syncedWrites(d.c.Context, dir)
	if err != nil {
		d.fail(check, "make the folder writable for the user that runs the node, and see that the disk is not full or read-only", "%v", err)
		return
	}
	slices.Sort(took)
	median, worst := took[len(took)/2], took[len(took)-1]
	saw := fmt.Sprintf("%d synced writes of %d KiB: median %.1f ms, worst %.1f ms", len(took), doctorWriteSize>>10, millis(median), millis(worst))
	if median > slowMedian || worst > slowWorst {
		d.warn(check, "use a local SSD or NVMe disk, and let nothing else write much to it: members vote after such a write, so a block takes two of them",
			"%s; slow is a median above %v or a worst above %v", saw, slowMedian, slowWorst)
		return
	}
	d.ok(check, "%s", saw)
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// syncedWrites appends to a file of its own in dir, syncs each time, and returns how long each took: at least one, at most
// doctorWrites, for about doctorWriting.
func syncedWrites(ctx context.Context, dir string) (took []time.Duration, err error) {
	file, err := os.CreateTemp(dir, "doctor-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close(), os.Remove(file.Name())) }()
	data := make([]byte, doctorWriteSize)
	began := time.Now()
	for len(took) == 0 || len(took) < doctorWrites && time.Since(began) < doctorWriting && ctx.Err() == nil {
		at := time.Now()
		if _, err := file.Write(data); err != nil {
			return nil, err
		}
		if err := file.Sync(); err != nil {
			return nil, err
		}
		took = append(took, time.Since(at))
	}
	return took, nil
}

func (d *doctor) space() {
	const check = "free space"
	free, known, err := backup.FreeSpace(d.dir)
	switch {
	case err != nil:
		d.fail(check, "see that the disk is mounted", "%v", err)
	case !known:
		d.ok(check, "not known on this system")
	case free < leastSpace:
		d.fail(check, "make room, or move the folder to a larger disk: a node without space stops", "%d MB, the least is %d MB", free>>20, int64(leastSpace)>>20)
	case free < lowSpace:
		d.warn(check, "make room soon; `fondaco prune` lets a stopped node forget what old blocks held", "%d MB", free>>20)
	default:
		d.ok(check, "%d MB", free>>20)
	}
}

// programs compares plugin programs with their checksums, and tells how those of the running node are.
func (d *doctor) programs() {
	if d.file == nil || d.genesis == nil {
		return
	}
	spec, err := engineSpec(d.genesis.Engine, d.file.Consensus)
	if err != nil {
		d.fail("plugin "+spec.Name, "set both, or none for the shipped program", "%v", err)
	} else {
		d.program(spec)
	}
	if d.status == nil {
		return
	}
	for _, p := range d.status.Plugins {
		if !p.Healthy {
			d.fail("plugin "+p.Name, "plugins/README.md explains the reason; `fondaco plugin restart "+p.Name+"` starts it again at once", "not healthy: %s", p.Reason)
		} else {
			d.ok("plugin "+p.Name, "%s, process %d, %d restarts", p.Version, p.PID, p.Restarts)
		}
	}
}

func (d *doctor) program(s plugins.Spec) {
	check := "program " + s.Name
	if s.Path == "" {
		d.ok(check, "the one in this binary")
		return
	}
	sum, err := plugins.Sum(s.Path)
	switch {
	case err != nil:
		d.fail(check, "correct the path in the configuration, or make the file readable", "%v", err)
	case sum != s.SHA256:
		d.fail(check, "restore the file, or set sha256 if it was replaced on purpose: the node will not start with it", "%s has SHA-256 %x, and the configuration pins %x", s.Path, sum, s.SHA256)
	default:
		d.ok(check, "%s has the SHA-256 that the configuration pins, %s…", s.Path, hex.EncodeToString(sum[:4]))
	}
}

// certificates has the CA provider say whom this node's chain stands for, and until when.
func (d *doctor) certificates() {
	const check = "certificate"
	if d.file == nil || d.genesis == nil {
		return
	}
	if d.file.CA.Program == "" {
		d.unheeded()
		return
	}
	a, err := authority(d.dir, d.file.CA)
	if err != nil {
		d.fail(check, "correct [ca] in "+ConfigFile, "%v", err)
		return
	}
	d.program(a.Provider)
	var who identity.Identity
	err = withProvider(d.c, d.dir, a, func(ctx context.Context, p ca.Provider) (err error) {
		d.lists(ctx, p)
		who, err = ca.Verifier{Provider: p, Suite: d.suite, Purpose: ca.Node}.Verify(ctx, a.Chain, time.Now())
		return err
	})
	refusal, refused := errors.AsType[*ca.Refusal](err)
	left := time.Until(who.NotAfter)
	switch {
	case refused:
		d.fail(check, "have your authority issue one for this node's key, or correct the settings of "+a.Provider.Name, "%v", refusal)
	case err != nil:
		d.fail(check, "plugins/README.md explains what is wrong with a program", "%v", err)
	case d.self != (identity.NodeID{}) && identity.NodeIDOf(d.suite, who.Key) != d.self:
		d.fail(check, "have your authority issue one for this node's key", "certificate %s of %s is for another key than node %s's", who.Serial, who.Institution, d.self.Short())
	case left < 30*24*time.Hour:
		d.warn(check, "renew it", "certificate %s of %s ends at %s", who.Serial, who.Institution, timeText(who.NotAfter.UnixMilli()))
	default:
		d.ok(check, "certificate %s of %s, until %s", who.Serial, who.Institution, timeText(who.NotAfter.UnixMilli()))
	}
	if err == nil {
		d.credential(&who)
	}
}

// unheeded tells of a node without a CA provider that the group says which authorities may vouch for nodes.
func (d *doctor) unheeded() {
	const check = "authorities"
	if d.api == nil || d.status == nil {
		return
	}
	ctx, cancel := context.WithTimeout(d.c.Context, doctorAsks)
	defer cancel()
	trusts, err := members.Trusts(ctx, d.api)
	switch {
	case err != nil:
		d.warn(check, "run it again when the node answers", "not known: %v", err)
	case len(trusts) > 0:
		d.fail(check, "set program, settings and chain of [ca] in "+ConfigFile+", as plugins/README.md tells, and start the node again; until then it trusts the group's list of nodes alone",
			"the group says which may vouch for nodes, of %s for one (`fondaco authority list`), and this node has no CA provider: it lets in nodes whose certificates others refuse, or that have none", trusts[0].Institution)
	default:
		d.ok(check, "the group names none, and this node asks for no certificates")
	}
}

// credential tells what the chain says of the node's certificates and of the roots to which they lead: what other nodes refuse them for.
func (d *doctor) credential(who *identity.Identity) {
	const check = "certificate on chain"
	if d.api == nil || d.status == nil {
		return
	}
	ctx, cancel := context.WithTimeout(d.c.Context, doctorAsks)
	defer cancel()
	// As nodes judge: block time stands still on an idle chain.
	credential := &precompiles.Credential{Institution: who.Institution, Role: identity.Node, Paths: who.Paths}
	err := members.CheckCredential(ctx, d.api, credential, max(d.status.BlockTime, time.Now().UnixMilli()))
	denied, refused := errors.AsType[*precompiles.Error](err)
	switch {
	case refused:
		d.fail(check, "have the institution lift what it said (`fondaco certificate --help`), your authorities issue what is missing, or the group trust their roots (`fondaco authority propose`)", "others refuse it: %s", denied.Reason)
	case err != nil:
		d.warn(check, "run it again when the node answers", "not known: %v", err)
	default:
		d.ok(check, "nothing is said against it")
	}
}

// lists tells until when the provider's revocation lists count.
func (d *doctor) lists(ctx context.Context, provider ca.Provider) {
	const check = "revocation list"
	now := time.Now()
	answer, err := provider.Revoked(ctx, ca.RevokedRequest{At: now.UnixMilli()})
	if err == nil && answer.Refusal != nil {
		err = answer.Refusal
	}
	if err != nil {
		d.warn(check, "look into the settings of the CA provider", "the provider does not show its lists: %v", err)
		return
	}
	for _, l := range answer.Lists {
		list, late := monitor.List{Issued: time.UnixMilli(l.Issued), Next: time.UnixMilli(l.NextUpdate)}, "fetch a newer one, or look why its authority issues none"
		left, fault, holds := list.Next.Sub(now), "", ""
		if len(l.Revoked)+len(l.Signed) > 0 { // it was not left out for its size
			holds = fmt.Sprintf(", with %d certificates", len(l.Revoked))
		}
		if l.Fault != "" {
			late, fault = "mend that, or look why its authority issues none", "; something is wrong: "+strings.ToValidUTF8(l.Fault, "?")
		}
		switch {
		case l.Fault != "" && (l.NextUpdate == 0 || left >= list.Lead()):
			d.warn(check, "mend that before the list ends", "of %s, of %s%s", l.Issuer, timeText(l.Issued), fault)
		case l.NextUpdate == 0:
			d.ok(check, "of %s, of %s%s; it does not say when the next is due", l.Issuer, timeText(l.Issued), holds)
		case left < 0:
			d.fail(check, late+": nodes of this authority count only while ca.grace lasts, and then are cut off", "of %s: the next was due at %s%s", l.Issuer, timeText(l.NextUpdate), fault)
		case left < list.Lead():
			d.warn(check, late, "of %s: the next is due at %s, and this one is of %s%s", l.Issuer, timeText(l.NextUpdate), timeText(l.Issued), fault)
		default:
			d.ok(check, "of %s%s; the next is due at %s", l.Issuer, holds, timeText(l.NextUpdate))
		}
	}
}

// peers tells why nodes are not connected, and whether enough are. Without a running node, it resolves their names.
func (d *doctor) peers() {
	const check = "peers"
	switch {
	case d.file == nil || d.genesis == nil:
		return
	case d.status == nil:
		d.names()
		return
	}
	member := func(id identity.NodeID) bool {
		return slices.ContainsFunc(d.chain.Members, func(m client.Member) bool { return m.Node == id })
	}
	up, connected := 0, 0
	if member(d.status.Node) {
		connected++
	}
	for _, p := range d.status.Peers {
		if !p.Up {
			d.warn("peer "+p.Node.Short(), "transport/PROTOCOL.md explains the reason", "at %s, not connected: %s", p.Address, cmp.Or(p.Problem, "not reached yet"))
			continue
		}
		up++
		if member(p.Node) {
			connected++
		}
	}
	if connected < d.status.Quorum {
		d.fail(check, "have the members above started, or the network between opened: UDP, in both directions", "%d of %d members are connected, this one among them if it is one: %d are needed for a block", connected, d.status.Members, d.status.Quorum)
		return
	}
	d.ok(check, "%d of %d are connected", up, len(d.status.Peers))
}

func (d *doctor) names() {
	const check = "peers"
	if len(d.genesis.Members) > 1 && len(d.file.Network.Peers) == 0 {
		d.fail(check, "name them under network.peers, or join again with `fondaco init --genesis FILE MEMBER.json...`", "the configuration names no other node")
		return
	}
	ctx, cancel := context.WithTimeout(d.c.Context, doctorAsks)
	defer cancel()
	found := len(d.findings)
	for _, p := range d.file.Network.Peers {
		host, _, err := net.SplitHostPort(p.Address)
		if err == nil {
			_, err = net.DefaultResolver.LookupHost(ctx, host)
		}
		if err != nil {
			d.warn("peer "+p.Node.Short(), "correct its address under network.peers, or the name server", "at %s: %v", p.Address, err)
		}
	}
	if len(d.findings) == found {
		d.ok(check, "%d are configured; the node does not run, so none is connected", len(d.file.Network.Peers))
	}
}

// features tells whether the node's release has what the chain is about to follow.
func (d *doctor) features() {
	const check = "release"
	if d.status == nil {
		return
	}
	found := len(d.findings)
	for _, f := range d.status.Features {
		do := fmt.Sprintf("install release %s of fondaco or a later one on this machine, and start the node again; its data stay as they are", f.Release)
		switch left := int64(f.Height) - int64(d.status.Height) - 1; {
		case f.Known:
		case left <= 0:
			d.fail(check, do, "block %d begins with the feature %s, which release %s does not have: the node does not go on", f.Height, f.Name, d.status.Version)
		default:
			d.warn(check, do, "block %d begins with the feature %s, which release %s does not have: the node stops before, %d blocks from now", f.Height, f.Name, d.status.Version, left)
		}
	}
	if len(d.findings) == found {
		d.ok(check, "%s has all features that the chain follows or is about to", d.status.Version)
	}
}

// clock compares this machine's clock with those of the peers, or with the time of blocks where there are none.
func (d *doctor) clock() {
	const (
		check = "clock"
		set   = "set this machine's clock by a time service, such as chrony: members refuse blocks whose time differs too much from theirs"
	)
	known, synchronized, within := disciplined()
	service := "whether a time service keeps it is not known"
	switch {
	case synchronized:
		service = fmt.Sprintf("a time service keeps it, within %v by its own account", within.Round(time.Millisecond))
	case known:
		service = "no time service keeps it"
	}
	skew := 5 * time.Second
	if d.genesis != nil {
		skew = time.Duration(d.genesis.Params.ClockSkew) * time.Millisecond
		if first := time.UnixMilli(d.genesis.UnixMilli); time.Until(first) > skew {
			d.fail(check, set, "it says %s, and the chain began at %s", timeText(time.Now().UnixMilli()), timeText(d.genesis.UnixMilli))
			return
		}
	}
	var ahead []time.Duration // of the peers' clocks
	if d.status != nil {
		skew = time.Duration(d.chain.Params.ClockSkew) * time.Millisecond
		for _, p := range d.status.Peers {
			if p.Up && p.Clock != nil {
				ahead = append(ahead, time.Duration(*p.Clock)*time.Millisecond)
				if d := ahead[len(ahead)-1]; d.Abs() > skew {
					service = fmt.Sprintf("that of node %s differs by %v; %s", p.Node.Short(), d.Abs(), service)
				}
			}
		}
		if early := time.Until(time.UnixMilli(d.status.BlockTime)); len(ahead) == 0 && early > skew {
			d.fail(check, set, "it is %v behind the newest block; %s", early.Round(time.Millisecond), service)
			return
		}
	}
	if len(ahead) == 0 {
		if known && !synchronized {
			d.warn(check, set, "%s, and no peer is connected to compare with", service)
			return
		}
		d.ok(check, "%s; no peer is connected to compare with", service)
		return
	}
	slices.Sort(ahead)
	do, middle := set, ahead[0]
	saw := fmt.Sprintf("%v from that of the one peer when it connected; %s", middle.Abs(), service)
	if len(ahead) == 1 {
		do = "find out which of the two is wrong; " + set
	} else { // the middle one of all clocks is not that of a single wrong node
		clocks := append([]time.Duration{0}, ahead...)
		slices.Sort(clocks)
		if middle = clocks[(len(clocks)-1)/2]; clocks[len(clocks)/2].Abs() < middle.Abs() {
			middle = clocks[len(clocks)/2]
		}
		saw = fmt.Sprintf("%v from the middle one of %d clocks, its own and those of peers when they connected; %s", middle.Abs(), len(clocks), service)
	}
	switch {
	case middle.Abs() > skew:
		d.fail(check, do, "%s; members allow %v", saw, skew)
	case middle.Abs() > skew/4 || ahead[0] < -skew || ahead[len(ahead)-1] > skew || known && !synchronized:
		d.warn(check, do, "%s; members allow %v", saw, skew)
	default:
		d.ok(check, "%s", saw)
	}
}
