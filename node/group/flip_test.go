//go:build linux && (amd64 || arm64)

package group

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fondaco/fondaco/node/audit"
	"github.com/fondaco/fondaco/node/blocksync"
	"github.com/fondaco/fondaco/node/doublesign"
	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/state/memfs"
)

var flipCount = flag.Int("flips", 3, "how many bits TestFlippedByte flips in each file, one at a time")

// TestFlippedByte flips single bits in each file that a stopped member keeps, and starts it. The start must find it, or the scrubber,
// and the member makes the file again, or fetches what is damaged of its blocks from others; or the bit means nothing. Nobody helps, but with a
// journal. Then it gives out nothing but what it
// had, has all blocks, byte for byte, and makes the next with the others. A bit of the journal costs its votes in the epoch;
// one of the last statements that were logged for auditors, these statements.
//
// go test ./node/group -run TestFlippedByte -flips 200 -v flips more.
func TestFlippedByte(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "home"), 0o700); err != nil {
		t.Fatal(err)
	}
	w := diskWorld(t, dir)
	w.start(0, 1, 2, 3)
	n := w.nodes[0]
	for i := range 24 {
		if i == 12 {
			w.nodes[1].mustOffer(w.activation(uint64(i), 0, 1, 2, 3))
			w.inEpoch(1, 0, 1, 2, 3)
		} else {
			w.nodes[1+i%3].mustOffer(w.tx(uint64(i), 60_000))
		}
		w.reach(ledger.Height(i + 1))
		if i%4 == 0 {
			if err := n.group.FlushStatements(); err != nil {
				t.Fatal(err)
			}
		}
	}
	killed, err := memfs.Load(dir) // with blocks that its table lacks
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(n.group.Close(), n.store.Close(), n.open()); err != nil {
		t.Fatal(err)
	}
	blocks, others := storedBy(n)
	f := &flips{blocks: blocks, theirs: others[len(others)-1]}
	for h := range blocks {
		f.payloads = append(f.payloads, must(n.store.Payload(ledger.Height(h), 0)))
	}
	if err := n.store.Close(); err != nil {
		t.Fatal(err)
	}
	for _, b := range blocks[1:] {
		f.told.headers = append(f.told.headers, b.Header)
	}
	f.told.votes = slices.DeleteFunc(n.signed, func(st ledger.Statement) bool { return st.Kind == ledger.Heartbeat })
	kept, err := memfs.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(3, 3))
	found := map[string]int{}
	flip := func(when string, disk *memfs.FS, name string) {
		file := must(disk.Open(name, false))
		data := make([]byte, must(file.Size()))
		if _, err := file.ReadAt(data, 0); err != nil && len(data) > 0 {
			t.Fatal(err)
		}
		used := len(strings.TrimRight(string(data), "\x00")) // bbolt lets files grow ahead of their use
		for range *flipCount {
			if used == 0 {
				break
			}
			at, bit := int64(rng.IntN(used)), byte(1)<<rng.IntN(8)
			image := disk.Clone()
			file := must(image.Open(name, false))
			if _, err := file.WriteAt([]byte{data[at] ^ bit}, at); err != nil {
				t.Fatal(err)
			}
			how, err := f.look(t, image, name)
			if err != nil {
				t.Errorf("%s%s, byte %d of %d, bit %x: %s: %v", when, name, at, used, bit, how, err)
			}
			found[when+name+": "+how]++
		}
	}
	for _, name := range kept.Names() {
		flip("", kept, name)
	}
	for _, name := range killed.Names() {
		if strings.HasPrefix(name, "data/blocks/") {
			flip("killed: ", killed, name)
		}
	}
	for _, how := range slices.Sorted(maps.Keys(found)) {
		t.Logf("%3d of %s", found[how], how)
		if strings.Contains(how, ".blocks: nothing is wrong") {
			t.Error("a bit of a block flipped unnoticed")
		}
	}
}

// flips is what a member had before its bits flip.
type flips struct {
	blocks   []*ledger.Block
	payloads [][]byte  // of their frames
	theirs   *memfs.FS // the disk of another node
	told     acknowledged
}

// nextStart is told of tables that are set aside while they are in use.
const nextStart = "made again from the blocks when the store is opened"

// both reads the state table and then the rest again.
func both(s *state.Store) iter.Seq2[state.Scrubbed, error] {
	return func(yield func(state.Scrubbed, error) bool) {
		for _, pass := range []iter.Seq2[state.Scrubbed, error]{s.ScrubState(), s.Scrub()} {
			for at, err := range pass {
				if !yield(at, err) {
					return
				}
			}
		}
	}
}

// look starts the member on a disk where a file is damaged. It tells how the damage shows.
func (f *flips) look(t *testing.T, image *memfs.FS, name string) (how string, err error) {
	dir := t.TempDir()
	if err := image.Save(dir); err != nil {
		return "", err
	}
	n := diskWorld(t, dir).nodes[0]
	defer func() {
		if n.group != nil {
			err = errors.Join(err, n.group.Close())
		}
		if n.store != nil {
			err = errors.Join(err, n.store.Close())
		}
		if err != nil && strings.Contains(err.Error(), nextStart) { // a flush found it, which may be that of Close
			how, err = "found when it is written to, and made again at the next start", errors.Join(n.open(), n.has(f.blocks), n.store.Close())
		}
	}()
	remove := func(names ...string) error {
		for _, name := range names {
			if err := os.RemoveAll(filepath.Join(dir, "data", name)); err != nil {
				return err
			}
		}
		return nil
	}
	how = "nothing is wrong"
	if err = n.open(); err == nil {
		restart := false
		missing := len(f.blocks) - 1 - int(n.store.Head().Height())
		switch {
		case missing > 0:
			how = "set aside at the start with the blocks behind, and fetched"
		case len(n.notices) > 0:
			how = "made again at the start"
		}
		for at, bad := range both(n.store) {
			switch damaged, ok := errors.AsType[*state.SegmentError](bad); {
			case strings.Contains(at.Mended, nextStart):
				restart = true
			case at.Mended != "":
				how = "mended by the scrubber"
			case ok && damaged.File == filepath.Join(dir, name):
				how = "found by the scrubber, and fetched"
			case bad != nil:
				err = errors.Join(err, bad)
			}
		}
		if restart {
			how = "set aside by the scrubber, and made again at the next start"
			err = errors.Join(err, n.store.Close(), n.open())
		}
		if err == nil && missing == 0 && len(n.store.Damaged()) == 0 {
			err = n.has(f.blocks)
		}
	}
	if err != nil {
		return how, err
	}
	if strings.HasPrefix(name, "data/"+StatementsDir) {
		_, damage, err := audit.OpenLog(audit.LogConfig{
			Suite: n.suite, Chain: n.chain, Group: "main", Node: n.id, FS: state.OS(), Dir: filepath.Join(dir, "data", StatementsDir), Size: 1 << 20,
		})
		if err != nil {
			return how, err
		}
		if damage != nil {
			how = "found at the start"
		}
	}
	n.now = f.blocks[len(f.blocks)-1].Header.Order.UnixMilli - begins + 1_000
	if err = n.start(); errors.Is(err, ErrJournal) {
		how = "found at the start"
		err = errors.Join(remove("journal"), n.start())
	}
	if err != nil {
		return how, err
	}
	if errors.Is(n.group.Status().Muted, ErrJournalLost) {
		how += ", it votes no more in the epoch"
		n.nodes[3].fs = f.theirs.Clone()
		if err := n.nodes[3].start(); err != nil {
			return how, err
		}
	}
	forgot := 0
	for _, st := range f.told.votes {
		guarded := n.group.journal.guard
		if _, err := guarded.allow(rival(st)); !errors.Is(err, doublesign.Err) {
			forgot++
		}
	}
	if forgot > 0 {
		return how, fmt.Errorf("%d votes are forgotten", forgot)
	}
	if err := n.goesOn(f.theirs, &f.told); err != nil {
		return how, err
	}
	if !n.run(120_000, func() bool { return len(n.store.Damaged()) == 0 }) {
		return how, fmt.Errorf("still damaged: %w", n.store.Damaged()[0])
	}
	for at, bad := range both(n.store) {
		if bad != nil || at.Mended != "" {
			return how, fmt.Errorf("in the end, %q: %w", at.Mended, bad)
		}
	}
	for h, want := range f.payloads {
		if payload, err := n.store.Payload(ledger.Height(h), 0); err != nil || !bytes.Equal(payload, want) {
			return how, fmt.Errorf("block %d is not stored as it was: %w", h, err)
		}
	}
	return how, n.has(f.blocks)
}

// TestFlipsWhileRunning flips bits of the block files of members that run, reads them again and lets the members heal, while
// they make blocks. One of them lies about what it stores, and one was pruned.
func TestFlipsWhileRunning(t *testing.T) {
	w := newWorld(t, 4)
	w.rows = 8
	rng := rand.New(rand.NewPCG(4, 4))
	w.reply = func(from, _ int, p Protocol, reply []byte) []byte {
		if p == Stored && from == 3 {
			reply = bytes.Clone(reply)
			reply[rng.IntN(len(reply))] ^= 1 << rng.IntN(8)
		}
		return reply
	}
	w.start(0, 1, 2, 3)
	height := ledger.Height(0)
	block := func() {
		if height++; height == 6 {
			w.nodes[1].mustOffer(w.activation(uint64(height), 0, 1, 2, 3))
		} else {
			w.nodes[rng.IntN(4)].mustOffer(w.tx(uint64(height), 60_000))
		}
		w.reach(height)
	}
	for range 12 {
		block()
	}
	if err := w.nodes[0].store.Prune(8); err != nil {
		t.Fatal(err)
	}
	flipped := 0
	for range 25 {
		for _, n := range w.nodes[:1+rng.IntN(3)] { // one at least has everything
			names := must(n.fs.ReadDir("data/blocks"))
			name := "data/blocks/" + names[rng.IntN(len(names))]
			f := must(n.fs.Open(name, false))
			at, b := rng.Int64N(must(f.Size())), make([]byte, 1)
			if _, err := f.ReadAt(b, at); err != nil {
				t.Fatal(err)
			}
			b[0] ^= 1 << rng.IntN(8)
			if _, err := f.WriteAt(b, at); err != nil {
				t.Fatal(err)
			}
			flipped++
			for _, err := range n.store.Scrub() {
				if err != nil && !errors.Is(err, state.ErrDamaged) {
					t.Fatal(err)
				}
			}
		}
		block()
		w.run(3_000, func() bool { return false })
	}
	healed := uint64(0)
	var members []keys.PublicKey
	for _, n := range w.nodes {
		members = append(members, n.key.Public())
	}
	for _, n := range w.nodes {
		if !w.run(60_000, func() bool { return len(n.store.Damaged()) == 0 }) {
			t.Errorf("node %d: %v", n.number, n.store.Damaged()[0])
		}
		for _, err := range n.store.Scrub() {
			if err != nil {
				t.Errorf("node %d: %v", n.number, err)
			}
		}
		for h := range height + 1 {
			b := must(n.store.Certified(h))
			chain := blocksync.Chain{Suite: w.suite, ID: w.chain, Group: "main", Epoch: b.Header.Order.Epoch, Members: members}
			if err := chain.CheckCertificate(b); err != nil {
				t.Errorf("node %d has block %d with another certificate: %v", n.number, h, err)
			}
			form := ledger.Height(0)
			if h < n.store.Kept() {
				form = h + 1
			}
			want := must(w.nodes[3].store.Payload(h, form))
			if got, err := n.store.Payload(h, form); err != nil || !bytes.Equal(got, want) { // the certificate may be another
				b, theirs := must(n.store.Certified(h)), must(w.nodes[3].store.Certified(h))
				if b.Header.Hash(w.suite) != theirs.Header.Hash(w.suite) {
					t.Errorf("node %d has another block %d: %v", n.number, h, err)
				}
			}
		}
		if len(n.alarms) > 0 {
			t.Errorf("node %d: %q", n.number, n.alarms)
		}
		healed += n.store.Healed()
	}
	if int(healed) < flipped/2 {
		t.Errorf("of %d bits, %d blocks were healed", flipped, healed)
	}
}

// TestHealSlowly has members that never come to an end with the blocks that they give: one gives a byte at a time, one puts off each
// part, and one names a size that grows. They are asked first, and a damaged member has its blocks all the same.
func TestHealSlowly(t *testing.T) {
	w := newWorld(t, 5)
	asked := [5]int{}
	w.reply = func(from, _ int, p Protocol, raw []byte) []byte {
		if p != Stored {
			return raw
		}
		asked[from]++
		part := blocksync.PartReply{Part: make([]byte, 1), Size: maxStored}
		switch from {
		case 1:
		case 2:
			part = blocksync.PartReply{Part: []byte{}, Wait: maxWait}
		case 3:
			part.Part, part.Size = make([]byte, blocksync.MaxPart), uint64(asked[3]+1)*blocksync.MaxPart
		default:
			return raw
		}
		return mustMarshal(&part)
	}
	w.start(0, 1, 2, 3, 4)
	for h := range ledger.Height(8) {
		w.nodes[1].mustOffer(w.tx(uint64(h), 60_000))
		w.reach(h + 1)
	}
	n := w.nodes[0]
	f := must(n.fs.Open("data/blocks/000000000000.blocks", false))
	data := make([]byte, must(f.Size()))
	if _, err := f.ReadAt(data, 0); err != nil {
		t.Fatal(err)
	}
	for h := range ledger.Height(4) { // the last four are in memory
		payload := must(n.store.Payload(h, 0))
		at := int64(bytes.Index(data, payload) + len(payload)/2)
		if _, err := f.WriteAt([]byte{data[at] ^ 1}, at); err != nil {
			t.Fatal(err)
		}
		if _, err := n.store.Block(h); !errors.Is(err, state.ErrDamaged) {
			t.Fatalf("the member reads block %d: %v", h, err)
		}
	}
	if !w.run(3*giveTime, func() bool { return len(n.store.Damaged()) == 0 }) {
		t.Errorf("%d blocks are damaged still; the others were asked %v times", len(n.store.Damaged()), asked)
	}
	if asked[2] > giveTime/maxWait+2 || asked[3] > 3 {
		t.Errorf("the others were asked %v times for 4 blocks", asked)
	}
}

// TestNobodyHasIt damages a block that nobody gives. The member goes on without it, does not flood the others, and is not doubted for it.
func TestNobodyHasIt(t *testing.T) {
	w := newWorld(t, 4)
	asked := 0
	w.hook = func(_, _ int, p Protocol, m []byte) []byte {
		if p == Stored {
			asked++
		}
		return m
	}
	w.start(0, 1, 2, 3)
	for h := range ledger.Height(8) {
		w.nodes[1].mustOffer(w.tx(uint64(h), 60_000))
		w.reach(h + 1)
	}
	const h = 4
	for _, n := range w.nodes { // in the middle of the block
		f := must(n.fs.Open("data/blocks/000000000000.blocks", false))
		payload := must(n.store.Payload(h, 0))
		data := make([]byte, must(f.Size()))
		if _, err := f.ReadAt(data, 0); err != nil {
			t.Fatal(err)
		}
		at := int64(bytes.Index(data, payload) + len(payload)/2)
		if _, err := f.WriteAt([]byte{data[at] ^ 1}, at); err != nil {
			t.Fatal(err)
		}
		if _, err := n.store.Block(h); !errors.Is(err, state.ErrDamaged) {
			t.Fatalf("node %d reads the block: %v", n.number, err)
		}
	}
	w.run(600_000, func() bool { return false })
	if asked < 4*3*5 || asked > 4*3*11 {
		t.Errorf("it was asked for %d times in ten minutes", asked)
	}
	var reply blocksync.Reply
	w.nodes[2].on(0, func() {
		w.nodes[2].group.Serve(w.nodes[0].id, Blocks, mustMarshal(&blocksync.Request{From: h, To: h + 2, Bytes: 1 << 20}), func(raw []byte, err error) {
			if err = errors.Join(err, ledger.Unmarshal(raw, &reply)); err != nil {
				t.Error(err)
			}
		})
	})
	w.run(100, func() bool { return false })
	if len(reply.Blocks) != 0 || reply.First != h+1 || reply.Head != 8 {
		t.Errorf("asked for the damaged block, a node answers with %d blocks from %d on, and its head at %d", len(reply.Blocks), reply.First, reply.Head)
	}
	w.nodes[1].mustOffer(w.tx(100, 60_000))
	w.reach(9)
}
