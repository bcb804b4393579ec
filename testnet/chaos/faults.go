package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/testnet/network"
	"github.com/fondaco/fondaco/transport/simnet"
)

// Kind is a kind of fault.
type Kind string

// The kinds of faults. Those from Split on are outages.
const (
	Crash    Kind = "kill"    // kill -9, and a start after a while
	Leader   Kind = "leader"  // the same, of the node that leads
	Pause    Kind = "pause"   // SIGSTOP of the node and its plugins, and SIGCONT
	Clock    Kind = "clock"   // a start with a clock that is off by seconds or an hour
	Disk     Kind = "disk"    // the node's data are on a disk that gets full
	Journal  Kind = "journal" // a start without the consensus journal, which comes back later
	Engine   Kind = "engine"  // kill -9 of the consensus engine's process
	Isolated Kind = "isolate" // no packets to and from the node
	OneWay   Kind = "oneway"  // no packets to the node, or none from it
	Flapping Kind = "flap"    // isolated and back, twice a second
	Degraded Kind = "degrade" // all links lose, delay and double packets
	Split    Kind = "split"   // two halves that do not hear one another
	Power    Kind = "power"   // kill -9 of all nodes
)

// Kinds lists all kinds of faults.
func Kinds() []Kind {
	return []Kind{Crash, Leader, Pause, Clock, Disk, Journal, Engine, Isolated, OneWay, Flapping, Degraded, Split, Power}
}

// ParseKinds reads a list of kinds such as "kill,pause".
func ParseKinds(text string) ([]Kind, error) {
	var kinds []Kind
	for name := range strings.SplitSeq(text, ",") {
		if !slices.Contains(Kinds(), Kind(name)) {
			return nil, fmt.Errorf("there is no fault %q: want some of %v", name, Kinds())
		}
		kinds = append(kinds, Kind(name))
	}
	return kinds, nil
}

// safe reports whether commits must go on during the fault.
func (k Kind) safe() bool { return k != Split && k != Power }

// fault is one step of the script.
type fault struct {
	kind  Kind
	nodes []int // that it strikes
	calm  time.Duration
	lasts time.Duration
	draw  uint64 // for details
}

func (f fault) String() string {
	text := string(f.kind)
	if f.kind != Leader && f.kind != Degraded && f.kind != Power {
		text += " " + strings.Trim(fmt.Sprint(f.nodes), "[]")
	}
	if f.kind == Clock {
		text += " by " + f.offset().String()
	}
	return fmt.Sprintf("%s for %v", text, f.lasts.Round(100*time.Millisecond))
}

// offset is how wrong a clock is: beyond what is tolerated, in both directions.
func (f fault) offset() time.Duration {
	return []time.Duration{-time.Hour, -20 * time.Second, 20 * time.Second, time.Hour}[f.draw%4]
}

// script draws faults from a seed. Each kind comes once before any comes again.
type script struct {
	rng     *rand.Rand
	kinds   []Kind
	left    []Kind // of the round
	nodes   int
	longest time.Duration
}

func newScript(seed uint64, kinds []Kind, nodes int, longest time.Duration) *script {
	return &script{rng: rand.New(rand.NewPCG(seed, 0xfa)), kinds: kinds, nodes: nodes, longest: longest}
}

func (s *script) next() fault {
	if len(s.left) == 0 {
		s.left = slices.Clone(s.kinds)
		s.rng.Shuffle(len(s.left), func(i, j int) { s.left[i], s.left[j] = s.left[j], s.left[i] })
	}
	f := fault{kind: s.left[0], draw: s.rng.Uint64()}
	s.left = s.left[1:]
	f.calm = s.longest/8 + time.Duration(s.rng.Float64()*float64(s.longest/2))
	f.lasts = s.longest/4 + time.Duration(s.rng.Float64()*float64(s.longest*3/4))
	strikes := 1 + s.rng.IntN(ledger.Faulty(s.nodes))
	if f.kind == Split {
		strikes = s.nodes / 2
	}
	f.nodes = s.rng.Perm(s.nodes)[:strikes]
	slices.Sort(f.nodes)
	return f
}

// unableError says that a fault cannot be made on this machine.
type unableError struct{ why string }

func (e *unableError) Error() string { return e.why }

// inject makes a fault, lets it last, and undoes it. An error says that a node did not do what it must have.
func (r *run) inject(ctx context.Context, f fault) error {
	switch f.kind {
	case Leader:
		f.nodes = []int{r.leader(ctx, f.nodes[0])}
		return r.crash(ctx, f)
	case Power:
		f.nodes = f.nodes[:0]
		for i := range r.net.Nodes {
			f.nodes = append(f.nodes, i)
		}
		return r.crash(ctx, f)
	case Crash:
		return r.crash(ctx, f)
	case Pause:
		return r.pauseNodes(ctx, f)
	case Clock:
		return r.wrongClock(ctx, f)
	case Disk:
		return r.fullDisk(ctx, f)
	case Journal:
		return r.loseJournal(ctx, f)
	case Engine:
		return r.killEngine(ctx, f)
	case Degraded:
		r.relay.SetConditions(-1, -1, simnet.Conditions{Latency: 10 * time.Millisecond, Jitter: 20 * time.Millisecond, Loss: 0.05, Duplicate: 0.02, Reorder: 0.02})
		pause(ctx, f.lasts)
		r.relay.SetConditions(-1, -1, r.Conditions)
		return nil
	default:
		return r.cut(ctx, f)
	}
}

// each does something with the nodes that a fault strikes.
func (r *run) each(f fault, do func(*network.Node) error) error {
	var all error
	for _, i := range f.nodes {
		all = errors.Join(all, do(&r.net.Nodes[i]))
	}
	return all
}

func (r *run) launch(node *network.Node) error {
	_, err := r.net.Start(node)
	return err
}

// leader asks a node who leads.
func (r *run) leader(ctx context.Context, node int) int {
	ctx, cancel := context.WithTimeout(ctx, answering)
	defer cancel()
	if status, err := r.apis[node].Status(ctx); err == nil && status.Leader >= 0 {
		return int(status.Leader)
	}
	return node
}

func (r *run) crash(ctx context.Context, f fault) error {
	err := r.each(f, r.net.Kill)
	pause(ctx, f.lasts)
	return errors.Join(err, r.each(f, r.launch))
}

func (r *run) pauseNodes(ctx context.Context, f fault) error {
	err := r.each(f, func(n *network.Node) error { return r.net.Signal(n, syscall.SIGSTOP) })
	pause(ctx, f.lasts)
	return errors.Join(err, r.each(f, func(n *network.Node) error { return r.net.Signal(n, syscall.SIGCONT) }))
}

func (r *run) wrongClock(ctx context.Context, f fault) error {
	err := r.each(f, func(n *network.Node) error {
		if err := r.net.Kill(n); err != nil {
			return err
		}
		_, err := r.net.Start(n, "--clock-offset", f.offset().String())
		return err
	})
	pause(ctx, f.lasts)
	return errors.Join(err, r.each(f, r.net.Kill), r.each(f, r.launch))
}

func (r *run) cut(ctx context.Context, f fault) error {
	switch f.kind {
	case OneWay:
		for _, i := range f.nodes {
			if f.draw%2 == 0 {
				r.relay.Cut(i, -1)
			} else {
				r.relay.Cut(-1, i)
			}
		}
		pause(ctx, f.lasts)
	case Flapping:
		for until := r.now() + f.lasts; r.now() < until && ctx.Err() == nil; {
			r.isolate(f.nodes)
			pause(ctx, 250*time.Millisecond)
			r.relay.Heal()
			pause(ctx, 250*time.Millisecond)
		}
	case Split:
		r.relay.Partition(f.nodes)
		pause(ctx, f.lasts)
	default:
		r.isolate(f.nodes)
		pause(ctx, f.lasts)
	}
	r.relay.Heal()
	return nil
}

// isolate cuts each of the nodes off, from one another too.
func (r *run) isolate(nodes []int) {
	var sides [][]int
	for _, i := range nodes {
		sides = append(sides, []int{i})
	}
	r.relay.Partition(sides...)
}

// await polls a node's status until it is as wanted.
func (r *run) await(ctx context.Context, node int, done func(*client.Status) bool) bool {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		if status, err := r.apis[node].Status(ctx); err == nil && done(status) {
			return true
		}
		if !pause(ctx, 50*time.Millisecond) {
			return false
		}
	}
}

// killEngine kills the engine's process and waits until it has a successor.
func (r *run) killEngine(ctx context.Context, f fault) error {
	before := map[int]client.Plugin{}
	for _, i := range f.nodes {
		status, err := r.apis[i].Status(ctx)
		if err != nil {
			return err
		}
		for _, p := range status.Plugins {
			if strings.HasPrefix(p.Name, "engine-") && p.PID > 0 {
				before[i] = p
				if err := syscall.Kill(p.PID, syscall.SIGKILL); err != nil {
					return fmt.Errorf("kill the engine of %s: %w", r.net.Nodes[i].Name, err)
				}
			}
		}
	}
	for _, i := range f.nodes {
		if !r.await(ctx, i, func(s *client.Status) bool {
			return slices.ContainsFunc(s.Plugins, func(p client.Plugin) bool {
				return p.Name == before[i].Name && p.Healthy && p.PID != before[i].PID && p.Restarts > before[i].Restarts
			})
		}) && ctx.Err() == nil {
			r.violate(Restarted, "%s has no engine %v after it was killed", r.net.Nodes[i].Name, patience)
		}
	}
	return nil
}

// voteSlack is how many blocks after a member's last vote may still carry it: what was in flight.
const voteSlack = 20

// loseJournal starts nodes without their journals, makes sure that they do not vote, and gives the journals back.
func (r *run) loseJournal(ctx context.Context, f fault) error {
	journal := func(n *network.Node) string { return filepath.Join(n.Dir, "data", string(r.net.Group), "journal") }
	if err := r.each(f, func(n *network.Node) error {
		if err := r.net.Kill(n); err != nil {
			return err
		}
		if err := os.Rename(journal(n), journal(n)+".kept"); err != nil {
			return err
		}
		return r.launch(n)
	}); err != nil {
		return err
	}
	from := map[int]ledger.Height{}
	for _, i := range f.nodes {
		if !r.await(ctx, i, func(s *client.Status) bool {
			from[i] = s.Height + voteSlack
			return s.Muted != ""
		}) && ctx.Err() == nil {
			r.violate(Mute, "%s does not say that it lost its journal", r.net.Nodes[i].Name)
		}
	}
	pause(ctx, f.lasts)
	for _, i := range f.nodes {
		status, err := r.apis[i].Status(ctx)
		if err != nil {
			return err
		}
		for h := from[i]; h <= status.Height; h++ {
			block, err := r.apis[i].Block(ctx, h)
			if err != nil {
				return err
			}
			if slices.Contains(block.Signers, uint32(i)) {
				r.violate(Mute, "%s signed block %d without its journal", r.net.Nodes[i].Name, h)
			}
		}
	}
	return r.each(f, func(n *network.Node) error {
		if err := r.net.Kill(n); err != nil {
			return err
		}
		if err := os.Rename(journal(n)+".kept", journal(n)); err != nil {
			return err
		}
		return r.launch(n)
	})
}

// spare is how much more than its data a node's small disk holds, before it is filled.
const spare = 64 << 20

// fullDisk moves nodes to small disks, fills these while the nodes run, makes room, and moves the nodes back.
func (r *run) fullDisk(ctx context.Context, f fault) error {
	if err := r.each(f, func(n *network.Node) error {
		if err := r.net.Kill(n); err != nil {
			return err
		}
		failed := r.enterSmallDisk(n)
		return errors.Join(failed, r.launch(n))
	}); err != nil {
		return err
	}
	for _, i := range f.nodes {
		n := &r.net.Nodes[i]
		if !r.await(ctx, i, func(*client.Status) bool { return true }) && ctx.Err() == nil {
			return fmt.Errorf("%s did not start on a small disk", n.Name)
		}
		if err := fill(n); err != nil {
			return err
		}
		if !r.await(ctx, i, func(s *client.Status) bool { return s.Stopped != "" }) && r.net.Pid(n) != 0 && ctx.Err() == nil {
			r.violate(FullDisk, "%s goes on %v after its disk was full", n.Name, patience)
		}
	}
	pause(ctx, f.lasts)
	for _, i := range f.nodes { // with room again they go on by themselves
		n := &r.net.Nodes[i]
		if r.net.Pid(n) == 0 {
			continue
		}
		if err := os.Remove(filepath.Join(n.Dir, "data", filler)); err != nil {
			return err
		}
		if !r.await(ctx, i, func(s *client.Status) bool { return s.Stopped == "" }) && ctx.Err() == nil {
			r.violate(Room, "%s is still stopped %v after its disk had room again", n.Name, patience)
		}
	}
	return r.each(f, func(n *network.Node) error {
		if err := r.net.Kill(n); err != nil {
			return err
		}
		number := slices.IndexFunc(r.net.Nodes, func(other network.Node) bool { return other.Name == n.Name })
		return errors.Join(r.leaveSmallDisk(number), r.launch(n))
	})
}

// The folders of a node on a small disk: its data are the disk's mount point, and before is where they were.
func before(n *network.Node) string { return filepath.Join(n.Dir, "data.before") }

const filler = "filler"

// enterSmallDisk puts the data of a node that is down on a disk of their size and some more.
func (r *run) enterSmallDisk(n *network.Node) error {
	data := filepath.Join(n.Dir, "data")
	used, err := network.Occupied(data)
	if err != nil {
		return err
	}
	if err := os.Rename(data, before(n)); err != nil {
		return err
	}
	if err := os.Mkdir(data, 0o700); err != nil {
		return err
	}
	if err := mountSmallDisk(data, 2*used+spare); err != nil {
		undo := errors.Join(os.Remove(data), os.Rename(before(n), data))
		if undo != nil {
			return undo
		}
		return &unableError{fmt.Sprintf("a small disk cannot be mounted (%v): run it as root, or below `unshare -rm`", err)}
	}
	return os.CopyFS(data, os.DirFS(before(n)))
}

// fill takes all that is left of a node's small disk.
func fill(n *network.Node) error {
	file, err := os.Create(filepath.Join(n.Dir, "data", filler))
	if err != nil {
		return err
	}
	for size := 1 << 20; size > 0; {
		if _, err := file.Write(make([]byte, size)); errors.Is(err, syscall.ENOSPC) {
			size /= 2
		} else if err != nil {
			return errors.Join(err, file.Close())
		}
	}
	return file.Close()
}

// leaveSmallDisk puts the data of a node that is down back where they were, as the small disk has them.
func (r *run) leaveSmallDisk(number int) error {
	n := &r.net.Nodes[number]
	if _, err := os.Stat(before(n)); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	data, fresh := filepath.Join(n.Dir, "data"), filepath.Join(n.Dir, "data.fresh")
	if err := errors.Join(os.RemoveAll(filepath.Join(data, filler)), os.CopyFS(fresh, os.DirFS(data))); err != nil {
		return err
	}
	if err := unmountSmallDisk(data); err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(data), os.Rename(fresh, data), os.RemoveAll(before(n)))
}
