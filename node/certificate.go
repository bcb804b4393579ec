package node

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fondaco/fondaco/node/monitor"
	"github.com/fondaco/fondaco/node/vouch"
	"github.com/fondaco/fondaco/plugins"
	"github.com/fondaco/fondaco/plugins/ca"
	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/transport"
)

// CA says who vouches for nodes. The zero value: nobody is asked, and the chain's list of nodes is enough.
type CA struct {
	Provider plugins.Spec  // the provider's program; no name: none
	Chain    [][]byte      // this node's certificates, its own first, which it shows to others
	Fresh    time.Duration // as vouch.Config.Fresh, and how often connected nodes are asked about again; 0: vouch.DefaultFresh
	Grace    time.Duration // as vouch.Config.Grace; 0: vouch.DefaultGrace

	// Reread returns the chain as it is now: one that counts is shown from then on, without a restart.
	// nil: Chain stays.
	Reread func() ([][]byte, error)
}

const (
	// verdictsFile is the file in the node's folder with what the provider said of nodes.
	verdictsFile = "verdicts.cbor"
	// settingsFile has the settings that the provider took last.
	settingsFile = "ca-settings.cbor"
	// firstStart is how long a node's start waits for that of its provider.
	firstStart = 5 * time.Second
	// listsEvery is how many times as seldom as connected nodes are asked about, the provider is asked for its revocation lists,
	// which may have megabytes.
	listsEvery = 10
	// listsWithin bounds the wait for them.
	listsWithin = 15 * time.Second
)

// ownChain is the node's own chain as its operator has it.
type ownChain struct {
	shown   [][]byte // to others
	refused string   // the kind of reason why it does not count here that was logged last; empty: it does
	unread  string   // why a new one is not shown, likewise
}

// openCA starts the provider, and looks at the node's own certificate. Without its provider a node starts too.
func (n *Node) openCA(ctx context.Context) error {
	c := &n.config.CA
	if c.Provider.Name == "" {
		return nil
	}
	if c.Fresh == 0 {
		c.Fresh = vouch.DefaultFresh
	}
	spec, verdicts := c.Provider, make(chan struct{}) // closed when there are some
	kept := filepath.Join(n.config.Dir, settingsFile)
	which := keys.Hash(n.suite, "provider program", named(&spec))
	var err error
	if spec.Before, err = vouch.ReadSettings(kept, n.suite, which); err != nil && !errors.Is(err, fs.ErrNotExist) {
		n.log.Warn().Err(err).Str("file", kept).Msg("what is kept of the CA provider's settings does not count: it has only those of now")
	}
	last, wrote := spec.Before, spec.Before != nil
	spec.Took = func(settings []byte) {
		<-verdicts
		n.vouch.Under(origin(n.suite, &spec, settings))
		if wrote && bytes.Equal(last, settings) {
			return
		}
		if err := vouch.WriteSettings(kept, n.suite, which, settings); err != nil {
			n.log.Error().Err(err).Str("file", kept).Msg("the CA provider's settings were not written: after a restart of this node it does not go on with them if it refuses others")
			return
		}
		last, wrote = bytes.Clone(settings), true
	}
	program, err := n.plugins.StartCA(spec)
	if err != nil {
		return err
	}
	n.ca = program
	n.vouch = vouch.New(vouch.Config{
		Provider: program, Suite: n.suite, Fresh: c.Fresh, Grace: c.Grace, Now: n.now, Log: n.log,
		Path: filepath.Join(n.config.Dir, verdictsFile), Origin: origin(n.suite, &spec, spec.Config),
		Changed: func() {
			select {
			case n.revouched <- struct{}{}:
			default: // one is enough: recheck asks about everybody
			}
		},
	})
	close(verdicts)
	started, cancel := context.WithTimeout(ctx, firstStart)
	err = program.Started(started)
	cancel()
	if err != nil {
		n.log.Error().Err(err).Msg("the CA provider does not run: only nodes that it vouched for before are let in until it does; it is started again and again")
	}
	n.own.shown = c.Chain
	n.checkOwn()
	return nil
}

// origin names what the provider's verdicts depend on besides the files that its settings name.
func origin(s keys.Suite, p *plugins.Spec, settings []byte) keys.Digest {
	return keys.Hash(s, "provider", named(p), settings)
}

// named says which program a provider is.
func named(p *plugins.Spec) []byte { return fmt.Appendf(nil, "%q %q %x ", p.Name, p.Args, p.SHA256) }

// now is the node's clock.
func (n *Node) now() time.Time { return time.Now().Add(n.config.ClockOffset) }

// vouched adds to what the chain says of a node what its certificates do. The institution must be the one that the
// chain has the node for; of nodes that the chain does not know yet it is taken from the certificate.
func (n *Node) vouched(hello *transport.Hello, key keys.PublicKey, institution string) (identity.Identity, error) {
	if n.vouch == nil {
		return identity.Identity{Institution: institution, Key: key}, nil
	}
	who, err := n.certified(hello.Certificates, key)
	if err != nil {
		return who, fmt.Errorf("node %s: %w", hello.Node.Short(), err)
	}
	if institution != "" && who.Institution != institution {
		return who, fmt.Errorf("node %s is of %s on the chain, and its certificate %s names %s: use a certificate of that institution", hello.Node.Short(), institution, who.Serial, who.Institution)
	}
	return who, nil
}

// certified returns whom a chain of certificates stands for: as the provider vouches, and if it counts by what the group says of
// certificates and authorities now. The identity is not zero where only the group refuses.
func (n *Node) certified(chain [][]byte, key keys.PublicKey) (identity.Identity, error) {
	who, err := n.vouch.Of(chain, key)
	if err != nil {
		return who, err
	}
	head := n.store.Head()
	credential := &precompiles.Credential{Institution: who.Institution, Role: identity.Node, Paths: who.Paths}
	if err := precompiles.CheckCredential(head, credential, n.judgedAt(head)); err != nil {
		return who, fmt.Errorf("by what group %s says at height %d its certificate %s does not count: %w", n.config.Genesis.Group, head.Height(), who.Serial, err)
	}
	return who, nil
}

// judgedAt returns the time at which the group's authorities vouch for who connects, in Unix ms: block time, which stands still on an idle chain,
// or the node's clock if that is later. What nodes agree on goes by block time alone.
func (n *Node) judgedAt(head *state.Snapshot) int64 {
	return max(head.Header().Order.UnixMilli, n.now().UnixMilli())
}

// certifiedRoles returns which roles of an API client's certificate count by what the group says now, which is asked as about nodes. A
// *ca.Refusal says why others do not.
func (n *Node) certifiedRoles(institution string, roles []identity.Role, paths []identity.Path) (count []identity.Role, err error) {
	head := n.store.Head()
	at := n.judgedAt(head)
	_, named, err := precompiles.ReadTrust(head, institution)
	if err != nil {
		return nil, err
	}
	own, unknown := n.institution(n.self)
	if unknown != nil { // the group does not know this node yet, or no more
		own = ""
	}
	for _, role := range roles {
		// These read what is private to others: the authority of any bank in a file could else make its people auditors here.
		if !named && institution != own && (role == identity.Regulator || role == identity.Auditor) {
			err = cmp.Or(err, error(ca.Refuse(ca.Denied, "group %s names no authority of institution %s, and so no certificate of it makes anybody its %s here: have a motion name one (`fondaco authority propose`), or sign queries (`--as`)", n.config.Genesis.Group, institution, role)))
			continue
		}
		why := precompiles.CheckCredential(head, &precompiles.Credential{Institution: institution, Role: role, Paths: paths}, at)
		denied, refused := errors.AsType[*precompiles.Error](why)
		switch {
		case why == nil:
			count = append(count, role)
		case !refused:
			return nil, why
		case err == nil:
			err = ca.Refuse(ca.Denied, "by what group %s says at height %d: %s", n.config.Genesis.Group, head.Height(), denied.Reason)
		}
	}
	return count, err
}

// unheeded names an institution for whose nodes the group trusts certain roots and no others, while this node lets in nodes without
// certificates, because it asks no CA provider. Empty: there is none, or the node asks one.
func (n *Node) unheeded() string {
	if n.vouch != nil {
		return ""
	}
	prefix := precompiles.TrustStateKey("")
	end := bytes.Clone(prefix)
	end[len(end)-1]++
	// Where authorities are named at all, some may vouch for nodes: the group takes no other motion.
	for entry, err := range n.store.Head().Range(prefix, end, false) {
		if err != nil {
			return "" // the state is damaged, of which others tell
		}
		return string(entry.Key[len(prefix):])
	}
	return ""
}

// recheck asks again about connected nodes and the node's own chain, until ctx ends.
func (n *Node) recheck(ctx context.Context) error {
	tick := time.NewTicker(n.config.CA.Fresh)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-n.revouched:
		case <-tick.C:
			tell(n, &n.own.unread, n.rereadOwn(), "this node's new chain of certificates does not count: it goes on showing the one before")
			n.checkOwn()
		}
		n.endpoint.Recheck()
	}
}

// checkOwn notes when the node's own certificate ends, and logs why it does not count here.
func (n *Node) checkOwn() {
	who, err := n.certified(n.own.shown, n.config.Signer.Public())
	if !who.NotAfter.IsZero() {
		n.ends.Store(who.NotAfter.UnixMilli())
	}
	tell(n, &n.own.refused, err, "this node's certificate does not count here: others may refuse it")
}

// tell logs an error that is of another kind than the one that was logged last. Their words tell the time.
func tell(n *Node, last *string, err error, message string) {
	kind := ""
	refusal, refused := errors.AsType[*ca.Refusal](err)
	switch {
	case refused:
		kind = string(refusal.Code)
	case errors.Is(err, ca.ErrDown):
		kind = "the provider is down"
	case err != nil:
		kind = "another reason"
	}
	if kind != "" && kind != *last {
		n.log.Error().Err(err).Msg(message)
	}
	*last = kind
}

// rereadOwn shows the chain that the operator has put in the place of the one before, if it counts here.
func (n *Node) rereadOwn() error {
	if n.config.CA.Reread == nil {
		return nil
	}
	chain, err := n.config.CA.Reread()
	if err != nil || slices.EqualFunc(chain, n.own.shown, bytes.Equal) {
		return err
	}
	who, err := n.certified(chain, n.config.Signer.Public())
	if err == nil {
		err = n.endpoint.SetCertificates(chain)
	}
	if err != nil {
		return err
	}
	n.own.shown = chain
	n.log.Info().Str("serial", who.Serial).Time("not_after", who.NotAfter).Msg("this node shows its new certificate")
	return nil
}

// certificateEnds returns when the node's own certificate ends; zero: it has none, or the provider has not said yet.
func (n *Node) certificateEnds() time.Time {
	if ends := n.ends.Load(); ends != 0 {
		return time.UnixMilli(ends)
	}
	return time.Time{}
}

// vouchStats counts what the provider said of nodes.
func (n *Node) vouchStats() (confirmed, doubted int) {
	s := n.vouch.Stats()
	return s.Confirmed, s.Doubted
}

// revocationLists returns the provider's lists as it last told of them.
func (n *Node) revocationLists() []monitor.List {
	if lists := n.lists.Load(); lists != nil {
		return *lists
	}
	return nil
}

// watchLists asks the provider for its revocation lists now and then, until ctx ends.
func (n *Node) watchLists(ctx context.Context) error {
	for ctx.Err() == nil {
		limited, cancel := context.WithTimeout(ctx, listsWithin)
		answer, err := n.ca.Revoked(limited, ca.RevokedRequest{At: n.now().UnixMilli()})
		cancel()
		if err == nil && answer.Refusal == nil {
			lists := newestLists(answer.Lists)
			n.lists.Store(&lists)
			rest(ctx, listsEvery*n.config.CA.Fresh)
			continue
		}
		rest(ctx, n.config.CA.Fresh) // of a provider that is down the log tells elsewhere
	}
	return nil
}

// newestLists returns the newest list of each authority that says when its next is due.
func newestLists(lists []ca.List) []monitor.List {
	var newest []monitor.List
	for _, l := range lists {
		if l.NextUpdate == 0 {
			continue
		}
		list := monitor.List{Issuer: strings.ToValidUTF8(l.Issuer, "?"), Issued: time.UnixMilli(l.Issued), Next: time.UnixMilli(l.NextUpdate), Fault: strings.ToValidUTF8(l.Fault, "?")}
		i := slices.IndexFunc(newest, func(other monitor.List) bool { return other.Issuer == list.Issuer })
		switch {
		case i < 0:
			newest = append(newest, list)
		case newest[i].Issued.Before(list.Issued):
			newest[i] = list
		}
	}
	return newest
}
