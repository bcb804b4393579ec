package state_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/state/memfs"
)

// frameAt returns where the frame of a block is in the bytes of a sound segment, and its length.
func frameAt(data []byte, h ledger.Height) (at, length int) {
	for at = 28; at < len(data); at += length {
		length = 24 + int(binary.BigEndian.Uint32(data[at+4:]))
		if binary.BigEndian.Uint64(data[at+8:]) == uint64(h) {
			return at, length
		}
	}
	return 0, 0
}

// TestHealSeveral damages several frames of one segment, each in its head or behind that, and what the index says of the segment's blocks. A pass
// of Scrub finds the damaged blocks and, while something tells the hashes of the sound ones, no others. They are healed one by one, in any order, as if nobody
// had the others yet: those stay found, the sound blocks stay, and in the end the file is what it was.
func TestHealSeveral(t *testing.T) {
	o := state.Options{Recent: 4, FlushBlocks: 4, Synchronous: true, SegmentBytes: 20_000}
	dir, other, _ := grownTwice(t, 61, 80, o)
	theirs := open(t, other, o)
	names, err := filepath.Glob(filepath.Join(dir, "blocks", "*.blocks"))
	if err != nil || len(names) < 4 {
		t.Fatalf("%d segments, %v; want several", len(names), err)
	}
	var begin, end ledger.Height
	if _, err := fmt.Sscanf(filepath.Base(names[1]), "%d.blocks", &begin); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscanf(filepath.Base(names[2]), "%d.blocks", &end); err != nil {
		t.Fatal(err)
	}
	if end-begin < 8 {
		t.Fatalf("the segment has %d blocks, too few", end-begin)
	}
	original := must(memfs.Load(dir))
	originals := readFiles(t, names)
	// places are bytes of a frame: of its magic, length, height, checksums, kind and content.
	places := []int{1, 6, 13, 17, 22, 24, 60}
	rows := map[string]func(row []byte){
		"right":     nil,
		"elsewhere": func(row []byte) { binary.BigEndian.PutUint64(row[32:], binary.BigEndian.Uint64(row[32:])+37) },
		"far":       func(row []byte) { row[35] ^= 1 },
		"wrong":     func(row []byte) { row[3] ^= 1; row[39] ^= 4 },
		"lost":      func(row []byte) { clear(row) },
	}
	rng := rand.New(rand.NewPCG(61, 1))
	for name, change := range rows {
		for round, place := range places {
			damaged := map[ledger.Height]int{begin + 2: place, begin + 5: places[rng.IntN(len(places))]}
			switch round {
			case 1:
				damaged[begin+6] = 6 // right behind the other
			case 2:
				damaged[begin] = 22
			case 3:
				damaged[end-1] = 6
			}
			dir := t.TempDir()
			if err := original.Save(dir); err != nil {
				t.Fatal(err)
			}
			segment := filepath.Join(dir, "blocks", filepath.Base(names[1]))
			sound := originals[names[1]]
			data := bytes.Clone(sound)
			for h, place := range damaged {
				at, _ := frameAt(sound, h)
				data[at+place] ^= 1 << rng.IntN(8)
			}
			if err := os.WriteFile(segment, data, 0o600); err != nil {
				t.Fatal(err)
			}
			s := open(t, dir, o)
			if change != nil {
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				db, err := bolt.Open(filepath.Join(dir, "index.db"), 0o600, nil)
				if err != nil {
					t.Fatal(err)
				}
				if err := errors.Join(db.Update(func(tx *bolt.Tx) error {
					b := tx.Bucket([]byte("blocks"))
					for h := begin; h < end; h++ {
						key := binary.BigEndian.AppendUint64(nil, uint64(h))
						row := bytes.Clone(b.Get(key))
						if change(row); bytes.Equal(row, make([]byte, len(row))) {
							if err := b.Delete(key); err != nil {
								return err
							}
							continue
						}
						if err := b.Put(key, row); err != nil {
							return err
						}
					}
					return nil
				}), db.Close()); err != nil {
					t.Fatal(err)
				}
				s = open(t, dir, o)
			}
			what := fmt.Sprintf("rows are %s, byte %d of frames %v", name, place, damaged)
			must := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatalf("%s: %v", what, err)
				}
			}
			missing := map[ledger.Height]bool{}
			for h := range damaged {
				missing[h] = true
			}
			for first := true; ; first = false {
				found := scrub(s)
				for _, d := range s.Damaged() {
					if _, is := damaged[d.Height]; !is && name != "wrong" && name != "lost" {
						t.Fatalf("%s: block %d is found damaged: %v", what, d.Height, d)
					}
				}
				for h := range ledger.Height(80) {
					_, err := s.Block(h)
					switch {
					case missing[h] && (err == nil || name != "lost" && !errors.Is(err, state.ErrDamaged)):
						t.Fatalf("%s: block %d is read: %v", what, h, err)
					case !missing[h] && err != nil && name != "wrong" && name != "lost":
						t.Fatalf("%s: block %d is lost: %v", what, h, err)
					}
				}
				if len(s.Damaged()) == 0 {
					if first || len(missing) > 0 {
						t.Fatalf("%s: the pass finds %v, %q, and blocks %v are damaged", what, found.errs, found.mended, missing)
					}
					break
				}
				healed := false
				for _, i := range rng.Perm(len(s.Damaged())) {
					h := s.Damaged()[i].Height
					payload, err := theirs.Payload(h, 0)
					must(err)
					r, err := s.CheckCopy(h, payload)
					if err != nil {
						if errors.Is(err, state.ErrFault) {
							t.Errorf("%s: who sent block %d is blamed: %v", what, h, err)
						}
						continue
					}
					must(s.Heal([]*state.Copy{r}))
					delete(missing, h)
					healed = true
					break
				}
				if !healed {
					t.Fatalf("%s: none of %v can be healed", what, s.Damaged())
				}
			}
			if found := scrub(s); len(found.errs)+len(found.mended) > 0 || len(found.heights) != 80 {
				t.Errorf("%s: once healed, a pass finds %v, %q", what, found.errs, found.mended)
			}
			must(errors.Join(consistent(s), s.Close()))
			if data, err := os.ReadFile(segment); err != nil || !bytes.Equal(data, sound) {
				t.Errorf("%s: the file is not what it was, %v", what, err)
			}
		}
	}
}

// TestFramesInBlocks writes into a block bytes that look like the frames of those that follow, as whoever sends a transaction can. When the
// head of the block is lost, none of them is taken for a block.
func TestFramesInBlocks(t *testing.T) {
	o := state.Options{Recent: 4, FlushBlocks: 4, Synchronous: true, SegmentBytes: 1 << 20}
	theirs, strange := open(t, filepath.Join(t.TempDir(), "strange"), o), newChain(63)
	strange.txs = 1
	for range 14 {
		strange.commit(t, theirs)
	}
	table := crc32.MakeTable(crc32.Castagnoli)
	var fake []byte
	for h := ledger.Height(11); h < 13; h++ {
		payload := must(theirs.Payload(h, 0))
		head := binary.BigEndian.AppendUint32([]byte("blck"), uint32(len(payload)))
		head = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(head, uint64(h)), crc32.Checksum(payload, table))
		fake = append(append(fake, binary.BigEndian.AppendUint32(head, crc32.Checksum(head, table))...), payload...)
	}
	dir := filepath.Join(t.TempDir(), "group")
	s := open(t, dir, o)
	c := newChain(62)
	for range 10 {
		c.commit(t, s)
	}
	c.extra = fake
	c.commit(t, s)
	c.extra = nil
	for range 9 {
		c.commit(t, s)
	}
	segment := filepath.Join(dir, "blocks", "000000000000.blocks")
	sound, err := os.ReadFile(segment)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(sound, fake[:200]) {
		t.Fatal("the block does not hold the frames as they are")
	}
	at, _ := frameAt(sound, 10)
	data := bytes.Clone(sound)
	data[at+6] ^= 1
	if err := os.WriteFile(segment, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if found := scrub(s); len(found.errs) != 1 || len(found.mended) > 0 || len(s.Damaged()) != 1 || s.Damaged()[0].Height != 10 {
		t.Fatalf("the pass found %v, %q", found.errs, found.mended)
	}
	if err := os.WriteFile(segment, sound, 0o600); err != nil {
		t.Fatal(err)
	}
	if found := scrub(s); len(found.errs)+len(found.mended) > 0 {
		t.Errorf("with the file restored it found %v, %q", found.errs, found.mended)
	}
	if err := errors.Join(consistent(s), s.Close()); err != nil {
		t.Error(err)
	}
}
