//go:build unix

package state_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// cpu returns a function that reports the processor time per operation since, of all threads, as milliseconds:
// on a busy machine it says more than the time on the clock.
func cpu(b *testing.B) func() {
	used := func() time.Duration {
		var r syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
			b.Fatal(err)
		}
		return time.Duration(r.Utime.Nano() + r.Stime.Nano())
	}
	before := used()
	return func() { b.ReportMetric((used()-before).Seconds()*1000/float64(b.N), "cpu-ms/op") }
}

func benchKey(n int) []byte {
	k := append(make([]byte, 0, 64), bytes.Repeat([]byte{7}, ledger.AddressSize)...)
	k = append(k, "balance/"...)
	d := suite.Sum(binary.BigEndian.AppendUint64(nil, uint64(n)))
	return append(k, d[:ledger.AddressSize]...)
}

var kept = flag.String("kept", "", "folder in which benchmarks keep stores of many keys for the next run; with it, they also measure 5,000,000 keys")

// sizes returns how many keys the stores to measure have. To fill the largest takes minutes.
func sizes() []int {
	if *kept == "" {
		return []int{20_000, 1_000_000}
	}
	return []int{20_000, 1_000_000, 5_000_000}
}

// filled returns a store with n keys, in files, flushed, for benchmarks that commit nothing.
func filled(b *testing.B, n int) (s *state.Store, dir string) {
	b.Helper()
	if *kept == "" {
		return filledIn(b, b.TempDir(), n)
	}
	dir = filepath.Join(*kept, strconv.Itoa(n))
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		making := dir + ".new"
		s, _ = filledIn(b, making, n)
		if err := errors.Join(s.Close(), os.Rename(making, dir)); err != nil {
			b.Fatal(err)
		}
	}
	return open(b, dir, state.Options{}), dir
}

func filledIn(b *testing.B, dir string, n int) (*state.Store, string) {
	b.Helper()
	// Flushed once at the end, in order: random inserts into a large table take many times as long.
	s := open(b, dir, state.Options{FlushBytes: 1 << 40, FlushBlocks: n})
	parent := state.Empty(suite)
	for lo := 0; lo < n; lo += 50_000 {
		changes := make([]ledger.Change, 0, 50_000)
		for i := lo; i < min(n, lo+50_000); i++ {
			changes = append(changes, ledger.Change{Key: benchKey(i), Value: binary.BigEndian.AppendUint64(make([]byte, 8), uint64(i))})
		}
		slices.SortFunc(changes, func(a, b ledger.Change) int { return bytes.Compare(a.Key, b.Key) })
		next := grow(b, parent, changes)
		if err := s.Commit(&ledger.Block{Version: 1, Header: *next.Header()}, next); err != nil {
			b.Fatal(err)
		}
		parent = s.Head()
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	return open(b, dir, state.Options{}), dir
}

func benchChanges(rng *rand.Rand, writes, n int) []ledger.Change {
	seen := map[int]bool{}
	changes := make([]ledger.Change, 0, writes)
	for len(changes) < writes {
		i := rng.IntN(n)
		if seen[i] {
			continue
		}
		seen[i] = true
		changes = append(changes, ledger.Change{Key: benchKey(i), Value: binary.BigEndian.AppendUint64(make([]byte, 8), rng.Uint64())})
	}
	slices.SortFunc(changes, func(a, b ledger.Change) int { return bytes.Compare(a.Key, b.Key) })
	return changes
}

func BenchmarkExtend(b *testing.B) {
	for _, n := range sizes() {
		for _, writes := range []int{1000, 2000} {
			b.Run(fmt.Sprintf("keys=%d/writes=%d", n, writes), func(b *testing.B) {
				s, _ := filled(b, n)
				rng := rand.New(rand.NewPCG(1, 1))
				sets := make([][]ledger.Change, 50)
				for i := range sets {
					sets[i] = benchChanges(rng, writes, n)
				}
				sn := s.Head()
				b.ReportAllocs()
				i := 0
				report := cpu(b)
				for b.Loop() {
					grow(b, sn, sets[i%len(sets)])
					i++
				}
				report()
			})
		}
	}
}

// BenchmarkWrites commits blocks of 2,000 random writes: with Extend the tree and the roots, with Commit the block log, and what
// the flusher does meanwhile and at the end.
func BenchmarkWrites(b *testing.B) {
	const writes = 2000
	for _, n := range sizes() {
		b.Run(fmt.Sprintf("keys=%d", n), func(b *testing.B) {
			s, dir := filled(b, n)
			if *kept != "" { // what is kept stays as it is
				if err := s.Close(); err != nil {
					b.Fatal(err)
				}
				copied := b.TempDir()
				if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
					b.Fatal(err)
				}
				s = open(b, copied, state.Options{})
			}
			rng := rand.New(rand.NewPCG(1, 1))
			sets := make([][]ledger.Change, 100)
			for i := range sets {
				sets[i] = benchChanges(rng, writes, n)
			}
			b.ReportAllocs()
			i := 0
			report := cpu(b)
			for b.Loop() {
				next := grow(b, s.Head(), sets[i%len(sets)])
				if err := s.Commit(&ledger.Block{Version: 1, Header: *next.Header()}, next); err != nil {
					b.Fatal(err)
				}
				i++
			}
			if err := s.Close(); err != nil {
				b.Fatal(err)
			}
			report()
		})
	}
}

// BenchmarkTransfers commits blocks of token transfers: signed transactions of realistic size, two balances
// written by each, and one event.
func BenchmarkTransfers(b *testing.B) {
	const accounts, txs = 10_000, 500
	s, dir := filledIn(b, b.TempDir(), 2*accounts)
	rng := rand.New(rand.NewPCG(1, 1))
	random := func(n int) []byte {
		out := make([]byte, n)
		for i := range out {
			out[i] = byte(rng.Uint32())
		}
		return out
	}
	type account struct {
		signer  keys.Signer
		address ledger.Address
	}
	people := make([]account, 500)
	for i := range people {
		signer, err := suite.Generate(suite.Vote(), bytes.NewReader(random(64)))
		if err != nil {
			b.Fatal(err)
		}
		people[i] = account{signer, ledger.Address(random(20))}
	}
	token := ledger.Address(bytes.Repeat([]byte{7}, 20))
	type prepared struct {
		block  ledger.Block
		order  ledger.Order
		result state.Result
	}
	make1 := func() prepared {
		var p prepared
		p.block.Version = 1
		p.order = ledger.Order{Version: 1, Group: "main", TxCount: txs, UnixMilli: 1_750_000_000_000}
		var leaves []keys.Digest
		touched := map[int]bool{}
		for i := range txs {
			from, to := people[rng.IntN(len(people))], people[rng.IntN(len(people))]
			args, _ := ledger.Marshal([]any{to.address, uint64(rng.IntN(1000))})
			tx, err := ledger.Tx{
				Version: 1, Chain: keys.Digest{1, 2, 3}, Group: "main", Sender: from.address, Nonce: [16]byte(random(16)),
				Expiry: 1_750_000_600_000, GasLimit: 5_000_000, To: ledger.Target{Address: token}, Method: "transfer", Args: args,
			}.Sign(suite, from.signer)
			if err != nil {
				b.Fatal(err)
			}
			p.block.Txs = append(p.block.Txs, tx.Raw)
			p.order.TxBytes += uint64(len(tx.Raw))
			leaves = append(leaves, tx.Leaf)
			event, _ := ledger.Marshal([]any{from.address, to.address, uint64(rng.IntN(1000))})
			p.result.Receipts = append(p.result.Receipts, ledger.Receipt{
				Version: 1, Tx: tx.ID, Index: uint32(i), Gas: 812_345, Served: tx.To, Data: []byte{0xf6},
				Events: []ledger.Event{{Contract: token, Topic: "transfer", Data: event}},
			})
			touched[rng.IntN(2*accounts)], touched[rng.IntN(2*accounts)] = true, true
		}
		p.order.TxRoot = ledger.Root(suite, leaves)
		for n := range touched {
			p.result.Changes = append(p.result.Changes, ledger.Change{Key: benchKey(n), Value: append(make([]byte, 10), random(6)...)})
		}
		slices.SortFunc(p.result.Changes, func(a, b ledger.Change) int { return bytes.Compare(a.Key, b.Key) })
		p.block.Certificate = ledger.Certificate{Statement: ledger.Statement{Kind: ledger.Commit}, Signers: []byte{7}, Signatures: [][]byte{random(64), random(64), random(64)}}
		return p
	}
	ready := make([]prepared, 40)
	for i := range ready {
		ready[i] = make1()
	}
	b.ReportAllocs()
	empty := folderSize(b, dir)
	n := 0
	report := cpu(b)
	for b.Loop() {
		p := ready[n%len(ready)]
		parent := s.Head()
		p.order.Height, p.order.Parent = parent.Height()+1, parent.OrderHash()
		next, err := parent.Extend(&p.order, p.result)
		if err != nil {
			b.Fatal(err)
		}
		p.block.Header = *next.Header()
		if err := s.Commit(&p.block, next); err != nil {
			b.Fatal(err)
		}
		n++
	}
	report()
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(folderSize(b, dir)-empty)/float64(n*txs), "disk-B/tx")
	b.ReportMetric(float64(n*txs)/b.Elapsed().Seconds(), "tx/s")
}

func folderSize(b *testing.B, dir string) (size int64) {
	err := filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err == nil {
			size += info.Size()
		}
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	return size
}

// BenchmarkOpen measures what a start takes: all keys are read and hashed, and the root compared with the header's.
func BenchmarkOpen(b *testing.B) {
	for _, n := range sizes() {
		b.Run(fmt.Sprintf("keys=%d", n), func(b *testing.B) {
			s, dir := filled(b, n)
			if err := s.Close(); err != nil {
				b.Fatal(err)
			}
			report := cpu(b)
			for b.Loop() {
				s, err := state.Open(dir, suite, nil)
				if err != nil {
					b.Fatal(err)
				}
				if err := s.Close(); err != nil {
					b.Fatal(err)
				}
			}
			report()
			b.ReportMetric(b.Elapsed().Seconds()/float64(b.N)/float64(n)*1e6, "s/Mkeys")
		})
	}
}

func BenchmarkGet(b *testing.B) {
	for _, n := range sizes() {
		b.Run(fmt.Sprintf("keys=%d", n), func(b *testing.B) {
			s, _ := filled(b, n)
			sn := s.Head()
			some := someKeys(n)
			i := 0
			b.ReportAllocs()
			for b.Loop() {
				if _, found, err := sn.Get(some[i%len(some)]); err != nil || !found {
					b.Fatal(found, err)
				}
				i++
			}
		})
	}
}

// BenchmarkProve makes proofs of values, and of keys that are not there, and reports their mean size.
func BenchmarkProve(b *testing.B) {
	for _, n := range sizes() {
		for _, kind := range []string{"value", "absence"} {
			b.Run(fmt.Sprintf("keys=%d/%s", n, kind), func(b *testing.B) {
				s, _ := filled(b, n)
				sn := s.Head()
				some := someKeys(n)
				if kind == "absence" {
					for i := range some {
						some[i] = append(some[i], '?')
					}
				}
				i, size := 0, 0
				for b.Loop() {
					proof, err := sn.Prove(some[i%len(some)])
					if err != nil {
						b.Fatal(err)
					}
					raw, err := ledger.Marshal(&proof)
					if err != nil {
						b.Fatal(err)
					}
					size += len(raw)
					i++
				}
				b.ReportMetric(float64(size)/float64(i), "proof-B")
			})
		}
	}
}

// someKeys returns keys of a store that filled made.
func someKeys(n int) [][]byte {
	rng := rand.New(rand.NewPCG(1, 1))
	some := make([][]byte, 10_000)
	for i := range some {
		some[i] = benchKey(rng.IntN(n))
	}
	return some
}

func BenchmarkOverlay(b *testing.B) {
	s, _ := filledIn(b, b.TempDir(), 1000)
	key := benchKey(5)
	value := make([]byte, 16)
	b.Run("put and get", func(b *testing.B) {
		o := state.NewOverlay(s.Head())
		b.ReportAllocs()
		for b.Loop() {
			mark := o.Savepoint()
			o.Put(key, value)
			if _, _, err := o.Get(key); err != nil {
				b.Fatal(err)
			}
			o.Rollback(mark)
		}
	})
}

// BenchmarkArchive writes blocks of 2,000 writes that a store has into its archive, and proves keys at their heights. It is to be
// run with -benchtime 1x: the figures are for a block, and for 1,000 proofs.
func BenchmarkArchive(b *testing.B) {
	for _, n := range sizes()[:2] {
		b.Run(fmt.Sprintf("keys=%d", n), func(b *testing.B) {
			s, dir := filledIn(b, b.TempDir(), n)
			follow := func() state.ArchiveStatus {
				for more := true; more; {
					var err error
					if more, err = s.Archive(b.Context()); err != nil {
						b.Fatal(err)
					}
				}
				return s.ArchiveStatus()
			}
			reopen := func(archive bool) {
				if err := s.Close(); err != nil {
					b.Fatal(err)
				}
				s = open(b, dir, state.Options{Archive: archive})
			}
			reopen(true)
			before := follow()
			reopen(false)
			rng := rand.New(rand.NewPCG(1, 1))
			for range 200 {
				next := grow(b, s.Head(), benchChanges(rng, 2000, n))
				if err := s.Commit(&ledger.Block{Version: 1, Header: *next.Header()}, next); err != nil {
					b.Fatal(err)
				}
			}
			reopen(true)
			after := before
			b.Run("write", func(b *testing.B) {
				used := cpu(b)
				after = follow()
				used()
				blocks := float64(after.To - before.To)
				b.ReportMetric(b.Elapsed().Seconds()*1000/blocks, "ms/block")
				b.ReportMetric(float64(after.Bytes-before.Bytes)/blocks, "B/block")
				b.ReportMetric(float64(before.Bytes)/float64(n), "B/key-at-first")
				b.ReportMetric(blocks, "blocks")
			})
			b.Run("prove", func(b *testing.B) {
				some := someKeys(n)
				used := cpu(b)
				for i := range 1000 * b.N {
					h := before.To + 1 + ledger.Height(rng.IntN(int(after.To-before.To)))
					if _, found, _, err := s.Archived(h, some[i%len(some)]); err != nil || !found {
						b.Fatal(found, err)
					}
				}
				used()
			})
		})
	}
}
