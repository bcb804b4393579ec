package state_test

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/ledger"
)

// verify runs Fsck and returns how many blocks came and the first error, with the height it came at.
func verify(t *testing.T, dir string) (blocks int, err error) {
	t.Helper()
	var done, total int64
	for a, fault := range state.Fsck(dir, suite, &state.Options{FlushBytes: 10_000}) {
		if fault != nil && err == nil {
			err = fault
		}
		if a.Block == nil {
			continue
		}
		if a.Done <= done || a.Total < a.Done {
			t.Errorf("progress went from %d to %d of %d", done, a.Done, a.Total)
		}
		done, total = a.Done, a.Total
		blocks++
		if a.Parent == nil { // the state is not known that far below
			if a.Base == nil || a.Pruned && len(a.Changes) > 0 {
				t.Fatalf("block %d has no parent, base %v, and %d changes", a.Block.Header.Order.Height, a.Base, len(a.Changes))
			}
			continue
		}
		// Parent can be read and is the state that the block was made on.
		for _, c := range a.Changes {
			if _, _, err := a.Parent.Get(c.Key); err != nil {
				t.Fatalf("Parent.Get at height %d: %v", a.Block.Header.Order.Height, err)
			}
		}
	}
	if err == nil && done != total {
		t.Errorf("read %d of %d bytes", done, total)
	}
	return blocks, err
}

// TestFsck forges a block in the segments, with correct checksums, and expects it to be found.
func TestFsck(t *testing.T) {
	dir, _, _ := grown(t, 31, 25, state.Options{Synchronous: true})
	if n, err := verify(t, dir); n != 25 || err != nil {
		t.Fatalf("Fsck of a good folder: %d blocks, %v", n, err)
	}
	file := filepath.Join(dir, "blocks", "000000000000.blocks")
	original, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	const target = 12
	for _, tt := range []struct {
		name  string
		forge func(plain []byte) []byte
		want  string
	}{
		{"a transaction", func(p []byte) []byte { return replace(t, p, "transaction 1 of block 12", "transaction 9 of block 12") }, "block 12: the transactions are not those"},
		{"a receipt", func(p []byte) []byte {
			// The receipts follow the block; their data is the first five bytes of the transactions.
			at := strings.LastIndex(string(p), "trans")
			p[at] = 'T'
			return p
		}, "block 12: its header gives the root of the receipts"},
		{"a written value", func(p []byte) []byte {
			at := strings.LastIndex(string(p), "value ")
			p[at] = 'V'
			return p
		}, "block 12: its header gives the root of the changes"},
		{"a byte that makes the encoding invalid", func(p []byte) []byte { p[2] ^= 0xff; return p }, "block 12 in"},
		{"the block's time", func(p []byte) []byte {
			// Version, header, order: the time follows group and the parent's digest.
			at := strings.Index(string(p), "test") + 4
			for i := at; i < at+80; i++ {
				if p[i] == 13 && p[i+1] == 1 { // UnixMilli 13, proposer 1
					p[i] = 14
					return p
				}
			}
			t.Fatal("no time found")
			return nil
		}, "block 13: its order's parent"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			data := forge(t, append([]byte(nil), original...), target, tt.forge)
			if err := os.WriteFile(file, data, 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := verify(t, dir)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("Fsck: %v, want %q", err, tt.want)
			}
			if _, ok := errors.AsType[*state.SegmentError](err); !ok && !errors.Is(err, state.ErrFault) {
				t.Errorf("Fsck: %v is neither a SegmentError nor a Fault", err)
			}
		})
	}
	t.Run("a flipped byte", func(t *testing.T) {
		data := append([]byte(nil), original...)
		data[len(data)/2] ^= 4
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := verify(t, dir)
		if _, ok := errors.AsType[*state.SegmentError](err); !ok {
			t.Errorf("Fsck: %v, want a SegmentError", err)
		}
	})
	t.Run("a folder in use", func(t *testing.T) {
		busy := t.TempDir()
		open(t, busy, state.Options{})
		if _, err := verify(t, busy); !errors.Is(err, state.ErrLocked) {
			t.Errorf("Fsck: %v, want ErrLocked", err)
		}
	})
}

func replace(t *testing.T, p []byte, old, with string) []byte {
	t.Helper()
	if !strings.Contains(string(p), old) {
		t.Fatalf("no %q in the record", old)
	}
	return []byte(strings.Replace(string(p), old, with, 1))
}

// forge rewrites the frame of a block with good checksums.
func forge(t *testing.T, data []byte, target ledger.Height, change func(plain []byte) []byte) []byte {
	t.Helper()
	const head, frame = 28, 24
	crc := func(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }
	for at := head; at < len(data); {
		length := int(binary.BigEndian.Uint32(data[at+4:]))
		end := at + frame + length
		if ledger.Height(binary.BigEndian.Uint64(data[at+8:])) != target {
			at = end
			continue
		}
		payload := data[at+frame : end]
		plain := append([]byte(nil), payload[1:]...)
		if payload[0] == 1 {
			z, err := zstd.NewReader(nil)
			if err != nil {
				t.Fatal(err)
			}
			defer z.Close()
			if plain, err = z.DecodeAll(payload[1:], nil); err != nil {
				t.Fatal(err)
			}
		}
		forged := append([]byte{0}, change(plain)...)
		out := append([]byte(nil), data[:at]...)
		out = append(out, "blck"...)
		out = binary.BigEndian.AppendUint32(out, uint32(len(forged)))
		out = binary.BigEndian.AppendUint64(out, uint64(target))
		out = binary.BigEndian.AppendUint32(out, crc(forged))
		out = binary.BigEndian.AppendUint32(out, crc(out[at:]))
		return append(append(out, forged...), data[end:]...)
	}
	t.Fatalf("no frame of block %d", target)
	return nil
}
