package wasmvm

import (
	"sync"

	"github.com/tetratelabs/wazero/experimental"
)

// slabs lends the memories of instances, which wazero would make and throw away for each. It implements
// experimental.MemoryAllocator.
type slabs struct {
	mu   sync.Mutex            // guards free and size
	free [slabClasses][][]byte // cleared, by size: class c holds 64 KiB << c
	size int64                 // of what is free
	most int64
}

const (
	slabUnit    = 64 << 10
	slabClasses = 10 // up to 32 MiB, the memory limit by default; larger ones are not kept
	slabKeep    = 16 // of each class
)

// Allocate implements experimental.MemoryAllocator.
func (s *slabs) Allocate(_, _ uint64) experimental.LinearMemory { return &slab{from: s} }

func (s *slabs) take(size uint64) []byte {
	class := slabClass(size)
	if class == slabClasses {
		return make([]byte, size)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.free[class]); n > 0 {
		b := s.free[class][n-1]
		s.free[class] = s.free[class][:n-1]
		s.size -= int64(cap(b))
		return b[:size]
	}
	return make([]byte, size, slabUnit<<class)
}

// give takes back memory of which the first bytes may have been written.
func (s *slabs) give(b []byte) {
	class := slabClass(uint64(cap(b)))
	if class == slabClasses || cap(b) == 0 {
		return
	}
	s.mu.Lock()
	room := len(s.free[class]) < slabKeep && s.size+int64(cap(b)) <= s.most
	s.mu.Unlock()
	if !room {
		return
	}
	clear(b)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.size+int64(cap(b)) <= s.most { // still
		s.free[class] = append(s.free[class], b)
		s.size += int64(cap(b))
	}
}

// kept returns how much memory is free.
func (s *slabs) kept() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.size
}

func slabClass(size uint64) int {
	class := 0
	for class < slabClasses && slabUnit<<class < size {
		class++
	}
	return class
}

// slab is the memory of one instance.
type slab struct {
	from   *slabs
	buf    []byte
	shrunk bool // buf has the size that Reallocate is to answer with
}

func (s *slab) shrink(size uint64) {
	clear(s.buf[size:])
	s.buf, s.shrunk = s.buf[:size], true
}

// Reallocate implements experimental.LinearMemory.
func (s *slab) Reallocate(size uint64) []byte {
	if s.shrunk {
		s.shrunk = false
		return s.buf
	}
	if size <= uint64(cap(s.buf)) {
		s.buf = s.buf[:size] // what is behind len has never been written
		return s.buf
	}
	b := s.from.take(size)
	copy(b, s.buf)
	s.from.give(s.buf)
	s.buf = b
	return b
}

// Free implements experimental.LinearMemory.
func (s *slab) Free() {
	s.from.give(s.buf)
	s.buf = nil
}
