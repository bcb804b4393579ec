//go:build linux && (amd64 || arm64)

package group

import (
	"bytes"
	"cmp"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/fondaco/fondaco/node/doublesign"
	"github.com/fondaco/fondaco/state/crashimage"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/state/memfs"
)

var (
	powerImages = flag.Int("images", 0, "how many disks TestPowerFailure looks at, some at each moment of the run; 0: a few")
	powerSeed   = flag.Uint64("images-seed", 1, "what decides which of a disk TestPowerFailure loses")
)

// These make this test binary the program whose files the tests below record: it plays an act on a disk, where a file may have
// at most so many bytes.
const (
	powerAct   = "FONDACO_TEST_POWER_ACT"
	powerDisk  = "FONDACO_TEST_POWER_DISK"
	powerLimit = "FONDACO_TEST_POWER_LIMIT"
)

func TestMain(m *testing.M) {
	if act := os.Getenv(powerAct); act != "" {
		limit, err := strconv.ParseUint(os.Getenv(powerLimit), 10, 64)
		if err == nil {
			signal.Ignore(syscall.SIGXFSZ) // the write fails then
			err = syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: limit, Max: limit})
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		acts[act](newActor(os.Getenv(powerDisk)))
		os.Exit(0)
	}
	debug.SetGCPercent(400) // whole groups are made for each test, and left behind
	os.Exit(m.Run())
}

// acts are what can be recorded.
var acts = map[string]func(*actor){"live": (*actor).live, "again": (*actor).again, "full": (*actor).full}

// TestPowerFailure runs a member of a group on a real disk, with bbolt, the background flush, the journal and its mark,
// and records every write and sync that it makes (package crashimage), and between them what it tells: that a block is
// committed, and which votes left it. Leaders fall, itself among them, so views change; the members change; the member is
// stopped and started; its journal is rewritten.
//
// Of that it builds what the disk could hold if the power had failed at some moment, and starts the member on it. It must
// start, with all blocks that were committed and their state, and without making a table again from the blocks; its
// guard must refuse to contradict each vote that left; and with two others that have the same blocks, who can make none
// without it, it must go on: with the block that it had voted to commit, if there is one, and no vote against its word. What it
// does on some of these disks is recorded again, and the power fails again.
//
// Then it plays the same record without one kind of sync and wants something lost: each kind is there for a reason.
//
// As it is, it looks at a few moments of the run. go test ./node/group -run TestPowerFailure -images 3000 -v -timeout 1h
// looks at every one, with nothing that was not synced, and with several random parts of it. It needs Linux and ptrace.
func TestPowerFailure(t *testing.T) {
	r := record(t, "live", t.TempDir(), 0)
	votes, views := 0, map[uint64]bool{}
	for _, st := range r.told.votes {
		votes++
		views[st.Epoch<<32|st.View] = true
	}
	if votes < 2*len(r.blocks) || len(views) < 6 || r.told.votes[votes-1].Epoch != 1 || len(r.told.headers) != len(r.blocks)-1 {
		t.Fatalf("the run told of %d blocks of %d, and %d votes in %d views", len(r.told.headers), len(r.blocks)-1, votes, len(views))
	}
	t.Run("nothing is lost", func(t *testing.T) {
		images, bad := r.look(t, cmp.Or(*powerImages, 30), math.MaxInt, acknowledged{}, nil)
		for _, b := range bad {
			t.Error(b)
		}
		t.Logf("%d events, %d blocks, %d votes in %d views: %d images, %d bad", len(r.record.Events), len(r.blocks), votes, len(views), images, len(bad))
	})
	t.Run("nothing is lost when the power fails again", func(t *testing.T) {
		rng := rand.New(rand.NewPCG(*powerSeed, 2))
		var renamed []int // moments at which a file may have two names
		for i, e := range r.record.Events {
			if e.Op == memfs.OpRename {
				renamed = append(renamed, i)
			}
		}
		events, images := 0, 0
		for i := range 2 + *powerImages/300 {
			at := rng.IntN(len(r.record.Events))
			if i%2 == 0 {
				at = renamed[rng.IntN(len(renamed))]
			}
			disk := r.record.Disk(nil)
			var told acknowledged
			for range at + 1 {
				e, _, err := disk.Next()
				if err = errors.Join(err, told.hear(e)); err != nil {
					t.Fatal(err)
				}
			}
			image, err := disk.Image(rng)
			for range 1000 {
				if i%2 == 1 || err != nil || slices.Contains(image.Names(), "data/journal.new") {
					break
				}
				image, err = disk.Image(rng)
			}
			dir := t.TempDir()
			if err = errors.Join(err, image.Save(dir)); err != nil {
				t.Fatal(err)
			}
			again := record(t, "again", dir, 0)
			number := 20
			if *powerImages > 0 {
				number = 2 * len(again.record.Events)
			}
			n, bad := again.look(t, number, math.MaxInt, told, nil)
			for _, b := range bad {
				t.Errorf("after %d blocks: %v", len(told.headers), b)
			}
			events, images = events+len(again.record.Events), images+n
		}
		t.Logf("%d events, %d images", events, images)
	})
	is := func(op memfs.Op, name string) func(crashimage.Event) bool {
		return func(e crashimage.Event) bool {
			matches, err := filepath.Match(name, e.Name)
			return err == nil && matches && e.Op == op
		}
	}
	replaced := false
	afterReplaced := func(e crashimage.Event) bool {
		first := replaced && e.Op == memfs.OpSyncDir && e.Name == "data"
		replaced = e.Op == memfs.OpRename || replaced && !first
		return first
	}
	for _, c := range []struct {
		without string
		drop    func(crashimage.Event) bool
	}{
		{"the sync of a block", is(memfs.OpSync, "data/blocks/*.blocks")},
		{"the sync of the folder of blocks", is(memfs.OpSyncDir, "data/blocks")},
		{"the sync of votes", is(memfs.OpSync, "data/journal")},
		{"the sync of a journal that replaces another", is(memfs.OpSync, "data/journal.new")},
		{"the sync of the folder when a journal replaced another", afterReplaced},
		{"the sync of the folder of all that", is(memfs.OpSyncDir, "data")},
		{"the sync of bbolt's files", is(memfs.OpSync, "data/*.db")},
	} {
		t.Run("without "+c.without, func(t *testing.T) {
			number, enough := *powerImages/10, math.MaxInt
			if number == 0 {
				number, enough = 200, 1
			}
			images, bad := r.look(t, number, enough, acknowledged{}, c.drop)
			if len(bad) == 0 {
				t.Fatalf("%d images, and nothing is lost: this test does not see what it is for", images)
			}
			t.Logf("%d of %d images are bad, the first: %v", len(bad), images, bad[0])
		})
	}
}

// TestDiskFull runs the member on a disk where files cannot grow beyond a size: it must stop taking part at once, with an alarm, while
// the others go on, and be as good as after a power failure when there is room again.
func TestDiskFull(t *testing.T) {
	for name, limit := range map[string]uint64{"no room for a vote or block": 17_000, "no room for the tables": 500_000} {
		t.Run(name, func(t *testing.T) {
			r := record(t, "full", t.TempDir(), limit)
			images, bad := r.look(t, 8, math.MaxInt, acknowledged{}, nil)
			for _, b := range bad {
				t.Error(b)
			}
			t.Logf("%d events, %d blocks, %d votes: %d images", len(r.record.Events), len(r.blocks), len(r.told.votes), images)
		})
	}
}

// TestRoom has a member whose disk gets full: it stops, says that room is all it needs, and when it is opened again with some it takes part in the
// blocks that come. One whose disk fails to sync does not say so, also where that is for want of room.
func TestRoom(t *testing.T) {
	w := newWorld(t, 4)
	w.begin()
	w.start(0, 1, 2, 3)
	number := uint64(0)
	blocks := func(n int) {
		t.Helper()
		for range n {
			number++
			height := w.nodes[0].store.Head().Height() + 1
			w.nodes[0].mustOffer(w.tx(number, 60_000))
			if !w.run(60_000, func() bool { return w.nodes[0].store.Head().Height() >= height }) {
				t.Fatalf("block %d is not made", height)
			}
		}
	}
	blocks(3)
	n := w.nodes[3]
	n.fs.SetLimit(n.fs.Used() + 100)
	blocks(3)
	if n.group.stopped.Load() == nil || n.full != 1 || len(n.alarms) != 1 || !strings.Contains(n.alarms[0], "no space left") {
		t.Fatalf("on a full disk: stopped %t, %d times for want of room, alarms %q", n.group.stopped.Load() != nil, n.full, n.alarms)
	}
	n.fs.SetLimit(0)
	n.alarms = nil
	n.rejoin()
	signed := len(n.signed)
	blocks(3)
	if !w.run(60_000, func() bool { return n.store.Head().Height() == w.nodes[0].store.Head().Height() }) || len(n.signed) == signed {
		t.Errorf("opened again, it is at height %d of %d, and signed %d statements", n.store.Head().Height(), w.nodes[0].store.Head().Height(), len(n.signed)-signed)
	}
	w.noAlarms()
	n.fs.SetHook(func(op memfs.Op, _ string, _ int) error {
		if op == memfs.OpSync {
			return fmt.Errorf("%w: %w", memfs.ErrLost, syscall.ENOSPC)
		}
		return nil
	})
	blocks(2)
	if n.group.stopped.Load() == nil || n.full != 1 {
		t.Errorf("after a sync that failed: stopped %t, %d times for want of room, want once, before", n.group.stopped.Load() != nil, n.full)
	}
}

// What the member tells begins with one of these.
const (
	tellsBlock = 'b' // then a header
	tellsVote  = 'v' // then a statement
)

// actor is a member that tells.
type actor struct {
	*testNode
	offered uint64
}

func newActor(disk string) *actor {
	n := diskWorld(offstage{}, disk).nodes[0]
	tell := func(what byte, v any) {
		if _, err := os.Stdout.Write(append([]byte{what}, mustMarshal(v)...)); err != nil {
			n.t.Fatal(err)
		}
	}
	told := 0
	n.left = func() {
		for _, st := range n.signed[told:] {
			if st.Kind != ledger.Heartbeat {
				tell(tellsVote, &st)
			}
		}
		told = len(n.signed)
	}
	n.finalized = func(b *ledger.Block) { tell(tellsBlock, &b.Header) }
	return &actor{testNode: n}
}

// makeBlocks has others offer transactions one by one, and waits for the block of each on those of some nodes that are up.
func (a *actor) makeBlocks(count int, nodes ...*testNode) {
	for range count {
		a.offered++
		at := a.nodes[1+a.offered%4]
		for !at.up {
			at = a.nodes[1+at.number%4]
		}
		height := at.store.Head().Height() + 1
		at.mustOffer(a.tx(a.offered, 60_000))
		if !a.run(60_000, func() bool {
			return !slices.ContainsFunc(nodes, func(n *testNode) bool { return n.up && n.store.Head().Height() < height })
		}) {
			a.t.Fatalf("block %d is not made", height)
		}
	}
}

func (a *actor) stop() {
	if err := errors.Join(a.group.Close(), a.store.Close()); err != nil {
		a.t.Fatal(err)
	}
	a.up, a.store = false, nil
	a.life++
}

// live is a long life.
func (a *actor) live() {
	a.world.start(0, 1, 2, 3, 4)
	changeView := func() {
		status := a.group.Status().Consensus
		leader := a.members()[status.Leader]
		if leader == 0 {
			a.stop()
		} else {
			a.nodes[leader].crash()
		}
		a.makeBlocks(2, a.nodes...)
		a.world.start(leader)
		if !a.run(60_000, func() bool { return a.group.Status().Consensus.View > status.View }) {
			a.t.Fatal("the view is the same")
		}
		a.makeBlocks(2, a.nodes...)
	}
	for epoch := range 2 {
		a.makeBlocks(3, a.nodes...)
		for range 4 {
			changeView()
		}
		a.makeBlocks(3, a.nodes...)
		a.stop()
		a.world.start(0)
		if epoch == 0 {
			a.offered++
			a.nodes[1].mustOffer(a.activation(a.offered, 0, 1, 2, 4))
			a.inEpoch(1, 0, 1, 2, 3, 4)
		}
	}
	a.makeBlocks(4, a.nodes...)
	a.stop()
}

// again starts on what an earlier act left, and makes a block with two others.
func (a *actor) again() {
	if err := errors.Join(os.MkdirAll(filepath.Join(a.disk, "home"), 0o700), a.open()); err != nil {
		a.t.Fatal(err)
	}
	_, others := storedBy(a.testNode)
	a.now = a.store.Head().Header().Order.UnixMilli - begins + 1_000
	a.world.start(0)
	a.group.journal.most = 1 // it is rewritten at once
	for _, other := range a.nodes[1:3] {
		other.fs = others[len(others)-1].Clone()
		a.world.start(other.number)
	}
	a.offered = 1 << 61
	tx := a.tx(a.offered, 600_000)
	a.nodes[1].mustOffer(tx)
	if !a.run(600_000, func() bool { f, err := a.group.Find(tx.ID); return err == nil && f.Progress == Committed }) {
		a.t.Fatalf("no block is made: %+v", a.group.Status())
	}
	a.stop()
}

// full goes on until there is no room on its disk, and then some. It ends as a killed process does.
func (a *actor) full() {
	a.world.start(0, 1, 2, 3)
	for a.group.Stopped() == nil {
		if a.offered == 100 {
			a.t.Fatal("there is room for 100 blocks")
		}
		a.makeBlocks(1, a.nodes[1:]...)
	}
	sent, signed := a.sent, len(a.signed)
	a.makeBlocks(3, a.nodes[1:]...)
	if a.sent != sent || len(a.signed) != signed || len(a.alarms) != 1 || !strings.Contains(a.alarms[0], syscall.EFBIG.Error()) {
		a.t.Fatalf("it stopped with %v and the alarms %q, and sent %d messages and signed %d statements since", a.group.Stopped(), a.alarms, a.sent-sent, len(a.signed)-signed)
	}
}

// offstage is a testing.TB outside a test.
type offstage struct{ testing.TB }

func (offstage) Helper() {}

func (offstage) Fatal(args ...any) {
	fmt.Fprintln(os.Stderr, args...)
	os.Exit(1)
}

func (o offstage) Fatalf(format string, args ...any) { o.Fatal(fmt.Sprintf(format, args...)) }

func (offstage) Errorf(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

func (o offstage) FailNow() { o.Fatal("failed") }

// recording is an act that was recorded.
type recording struct {
	record *crashimage.Record
	told   acknowledged    // in the end
	blocks []*ledger.Block // in the end, by height
	others []*memfs.FS     // see storedBy
}

// record plays an act on a disk where a file may have so many bytes; 0: as many as it likes.
func record(t *testing.T, act, disk string, limit uint64) *recording {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatalf("no path to this test binary: %v", err)
	}
	if err := os.MkdirAll(filepath.Join(disk, "home"), 0o700); err != nil {
		t.Fatal(err)
	}
	r := &recording{}
	r.record, err = crashimage.Run(disk, program, []string{program}, append(os.Environ(), powerAct+"="+act, powerDisk+"="+disk,
		powerLimit+"="+strconv.FormatUint(cmp.Or(limit, math.MaxInt64), 10)))
	if errors.Is(err, errors.ErrUnsupported) && os.Getenv("FONDACO_REQUIRE_TOOLS") != "1" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range r.record.Events {
		if err := r.told.hear(e); err != nil {
			t.Fatal(err)
		}
	}
	n := diskWorld(t, disk).nodes[0]
	if err := n.open(); err != nil {
		t.Fatal(err)
	}
	r.blocks, r.others = storedBy(n)
	if err := n.store.Close(); err != nil {
		t.Fatal(err)
	}
	return r
}

// acknowledged is what the member told.
type acknowledged struct {
	headers []ledger.Header // from height 1 on
	votes   []ledger.Statement
}

func (a *acknowledged) hear(e crashimage.Event) error {
	if e.Op != crashimage.OpTell {
		return nil
	}
	switch e.Data[0] {
	case tellsBlock:
		var h ledger.Header
		err := ledger.Unmarshal(e.Data[1:], &h)
		a.headers = append(a.headers, h)
		return err
	case tellsVote:
		var st ledger.Statement
		err := ledger.Unmarshal(e.Data[1:], &st)
		a.votes = append(a.votes, st)
		return err
	}
	return fmt.Errorf("the run told %q", e.Data)
}

// look starts the member on a number of images, spread over the run, until enough of them are bad. told is what it had told
// before the run. It returns what is wrong. Without what drop holds for, it looks where that matters, and is content with what the
// member has.
func (r *recording) look(t *testing.T, number, enough int, told acknowledged, drop func(crashimage.Event) bool) (images int, bad []error) {
	t.Helper()
	rng := rand.New(rand.NewPCG(*powerSeed, 1))
	var moments []int
	last := math.MinInt32
	for i, e := range r.record.Events {
		if drop != nil && drop(e) {
			last = i
		}
		if drop == nil || i-last < 12 {
			moments = append(moments, i)
		}
	}
	at := map[int]int{} // how many images after an event
	for i := range number - number%len(moments) {
		at[moments[i%len(moments)]]++
	}
	for range number % len(moments) {
		at[moments[rng.IntN(len(moments))]]++
	}
	disk := r.record.Disk(drop)
	for i := range r.record.Events {
		e, _, err := disk.Next()
		if err = errors.Join(err, told.hear(e)); err != nil {
			t.Fatal(err)
		}
		for k := range at[i] {
			if len(bad) == enough {
				return images, bad
			}
			images++
			lose := rng
			if k == 0 && (at[i] > 1 || rng.IntN(4) == 0) {
				lose = nil
			}
			image, err := disk.Image(lose)
			if err == nil {
				err = r.check(t, image, &told, drop == nil)
			}
			if err != nil {
				bad = append(bad, fmt.Errorf("event %d, %s, image %d: %w", i, e, k, err))
			}
		}
	}
	return images, bad
}

// check starts the member on an image. on is whether it must also go on with others.
func (r *recording) check(t *testing.T, image *memfs.FS, told *acknowledged, on bool) (err error) {
	disk := t.TempDir()
	if err := errors.Join(image.Save(disk), os.MkdirAll(filepath.Join(disk, "home"), 0o700)); err != nil {
		return err
	}
	w := diskWorld(t, disk)
	n := w.nodes[0]
	defer func() {
		if n.group != nil {
			err = errors.Join(err, n.group.Close())
		}
		if n.store != nil {
			err = errors.Join(err, n.store.Close())
		}
		err = errors.Join(err, os.RemoveAll(disk))
	}()
	if err := n.open(); err != nil {
		return err
	}
	head := n.store.Head()
	w.now = max(head.Header().Order.UnixMilli-begins, 0) + 1_000
	if err := r.holds(n, told); err != nil {
		return err
	}
	if err := n.start(); err != nil {
		return err
	}
	if why := n.group.Status().Muted; why != nil {
		return why
	}
	for _, st := range told.votes {
		guarded := n.group.journal.guard
		if _, err := guarded.allow(rival(st)); !errors.Is(err, doublesign.Err) {
			return fmt.Errorf("it would contradict its %s in epoch %d, view %d, at height %d", st.Kind, st.Epoch, st.View, st.Height)
		}
	}
	if !on {
		return nil
	}
	return n.goesOn(r.others[head.Height()], told)
}

// holds checks the store.
func (r *recording) holds(n *testNode, told *acknowledged) error {
	for _, notice := range n.notices {
		if strings.Contains(notice, "made again") {
			return errors.New(notice)
		}
	}
	head := n.store.Head()
	h := int(head.Height())
	switch {
	case h < len(told.headers):
		return fmt.Errorf("%d blocks were committed, and it has %d", len(told.headers), h)
	case h >= len(r.blocks) || head.Hash() != r.blocks[h].Header.Hash(n.suite):
		return fmt.Errorf("its block %d is not the run's", h)
	case head.Root() != r.blocks[h].Header.StateRoot:
		return fmt.Errorf("its state after block %d is not the run's", h)
	}
	for i := range told.headers {
		if told.headers[i].Hash(n.suite) != r.blocks[i+1].Header.Hash(n.suite) {
			return fmt.Errorf("block %d was told to be another", i+1)
		}
	}
	return n.has(r.blocks[:h+1])
}

// has checks that the node's store has blocks, from genesis on, and finds them and what is in them.
func (n *testNode) has(blocks []*ledger.Block) error {
	for i, want := range blocks {
		h, hash := ledger.Height(i), want.Header.Hash(n.suite)
		b, err := n.store.Block(h)
		if err != nil {
			return err
		}
		if b.Header.Hash(n.suite) != hash || !slices.EqualFunc(b.Txs, want.Txs, bytes.Equal) {
			return fmt.Errorf("block %d is another", h)
		}
		if got, err := n.store.BlockHash(h); err != nil || got != hash {
			return fmt.Errorf("the hash of block %d is %s: %w", h, got, err)
		}
		for position, tx := range must(b.Decode(n.suite)) {
			if height, index, found, err := n.store.FindTx(tx.ID); err != nil || !found || height != h || int(index) != position {
				return fmt.Errorf("transaction %d of block %d is found: %t, as %d of block %d: %w", position, h, found, index, height, err)
			}
		}
		last := ledger.Height(len(blocks) - 1)
		if h == last {
			break
		}
		proof, err := n.store.ProveHistory(h, last)
		if err == nil {
			err = proof.Verify(n.suite, blocks[last].Header.HistoryRoot, hash[:])
		}
		if err != nil {
			return fmt.Errorf("prove that block %d is in the history: %w", h, err)
		}
	}
	return nil
}

// rival returns a statement that nobody may sign who signed st.
func rival(st ledger.Statement) ledger.Statement {
	if st.Kind == ledger.ViewChange {
		st.High.Height++
		return st
	}
	st.Order[0] ^= 1
	if !st.Block.IsZero() {
		st.Block[0] ^= 1
	}
	return st
}

// goesOn lets the member make blocks with two others whose disks hold what they are given, and who cannot without it.
func (n *testNode) goesOn(theirs *memfs.FS, told *acknowledged) error {
	w := n.world
	h := n.store.Head().Height()
	signed := len(n.signed)
	for _, other := range w.nodes[1:3] {
		other.fs = theirs.Clone()
		if err := other.start(); err != nil {
			return fmt.Errorf("node %d: %w", other.number, err)
		}
	}
	tx := w.tx(1<<60, w.genesis.Params.MaxLifetime)
	w.nodes[1].mustOffer(tx)
	done := w.run(w.genesis.Params.MaxLifetime, func() bool {
		for _, n := range w.nodes[:3] {
			if f, err := n.group.Find(tx.ID); err != nil || f.Progress != Committed {
				return false
			}
		}
		return true
	})
	if err := n.group.Stopped(); err != nil {
		return err
	}
	if !done {
		return fmt.Errorf("from height %d on no block is made: %+v, the others %+v and %+v", h,
			n.group.Status().Consensus, w.nodes[1].group.Status().Consensus, w.nodes[2].group.Status().Consensus)
	}
	if len(n.alarms) > 0 {
		return fmt.Errorf("alarms: %q", n.alarms)
	}
	for _, st := range n.signed[signed:] {
		for _, before := range told.votes {
			if st.Kind == before.Kind && st.Epoch == before.Epoch && st.View == before.View && st.Height == before.Height && st != before {
				return fmt.Errorf("it signed %+v, and before the power failed %+v", st, before)
			}
		}
	}
	promised := map[ledger.Height]ledger.Statement{}
	for _, st := range told.votes {
		if st.Kind == ledger.Commit && st.Height > h {
			promised[st.Height] = st // the newest, which is of the highest view
		}
	}
	for _, height := range slices.Sorted(maps.Keys(promised)) {
		b, err := n.store.Block(height)
		if err != nil {
			return fmt.Errorf("it voted to commit block %d, which was not made: %w", height, err)
		}
		if hash := b.Header.Hash(n.suite); hash != promised[height].Block {
			return fmt.Errorf("it voted to commit block %s at height %d, which is now %s", promised[height].Block.Short(), height, hash.Short())
		}
	}
	return nil
}
