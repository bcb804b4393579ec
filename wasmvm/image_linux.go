package wasmvm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// imageFile resets large memories at the price of the pages that a call wrote. A Go contract writes some 15 of its 600
// pages, and copying all of them for each call takes most of the machine's memory bandwidth.
//
// The image is a memory file, and each instance maps it privately. A page of the mapping then either belongs to the file,
// and is equal to the image, or was written and is anonymous; /proc/self/pagemap tells which (bit 61, Linux
// Documentation/admin-guide/mm/pagemap.rst). A reset copies the image over the anonymous pages, which
// stay anonymous, so that in the long run a call neither faults nor changes a page table.
type imageFile struct {
	image   []byte // mapped read-only
	file    *os.File
	pagemap *os.File  // that of Prepare
	entries sync.Pool // of *[]byte, for one entry of pagemap for each page
}

// pagemap is this process's, opened once.
var pagemap = sync.OnceValues(func() (*os.File, error) { return os.Open("/proc/self/pagemap") })

// Prepare opens what resetting the memory of contracts takes. A process that is about to keep others from its memory (prctl(2),
// PR_SET_DUMPABLE) calls it before: afterwards it may not open that, unless it is root's, but may read it. Without it calls are slower.
func Prepare() error {
	_, err := pagemap()
	return err
}

// Bits of an entry of pagemap.
const (
	pageInFile  = 1 << 61
	pageSwapped = 1 << 62
	pagePresent = 1 << 63
)

// newImageFile returns a copy of image as a file. It fails where the system does not offer what it takes; then memories are reset
// by copying.
func newImageFile(image []byte) (*imageFile, error) {
	fd, err := unix.MemfdCreate("fondaco-contract", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make a memory file: %w", err)
	}
	f := &imageFile{file: os.NewFile(uintptr(fd), "fondaco-contract")}
	f.entries.New = func() any { return new(make([]byte, 8*len(image)/os.Getpagesize())) }
	if _, err := f.file.Write(image); err != nil {
		return nil, errors.Join(fmt.Errorf("write a memory file: %w", err), f.close())
	}
	if f.image, err = unix.Mmap(fd, 0, len(image), unix.PROT_READ, unix.MAP_SHARED); err != nil {
		return nil, errors.Join(fmt.Errorf("map a memory file: %w", err), f.close())
	}
	if f.pagemap, err = pagemap(); err != nil {
		return nil, errors.Join(err, f.close())
	}
	if err := f.probe(); err != nil {
		return nil, errors.Join(err, f.close())
	}
	return f, nil
}

// probe checks that the kernel tells written pages from others.
func (f *imageFile) probe() error {
	m, err := f.reserve(len(f.image))
	if err != nil {
		return err
	}
	defer m.Free()
	memory := m.Reallocate(uint64(len(f.image)))
	if err := f.attach(memory); err != nil {
		return err
	}
	page := os.Getpagesize()
	read := memory[3*page]
	memory[page]++ // written
	dirty, err := f.dirty(memory)
	if err != nil {
		return err
	}
	if read != f.image[3*page] {
		return fmt.Errorf("a mapped memory file holds %d at %d, want %d", read, 3*page, f.image[3*page])
	}
	if len(dirty) != 1 || dirty[0] != page {
		return fmt.Errorf("/proc/self/pagemap shows the pages %v as written, want the one at %d", dirty, page)
	}
	return nil
}

func (f *imageFile) close() error {
	var err error
	if f.image != nil {
		err = unix.Munmap(f.image)
		f.image = nil
	}
	return errors.Join(err, f.file.Close())
}

// attach maps the image over memory that reserve made.
func (f *imageFile) attach(memory []byte) error {
	_, err := unix.MmapPtr(int(f.file.Fd()), 0, unsafe.Pointer(unsafe.SliceData(memory)), uintptr(len(f.image)),
		unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_FIXED)
	if err != nil {
		return fmt.Errorf("map an instance's memory: %w", err)
	}
	return nil
}

// dirty returns the offsets of the pages that may differ from the image.
func (f *imageFile) dirty(memory []byte) ([]int, error) {
	page := os.Getpagesize()
	entries := f.entries.Get().(*[]byte)
	defer f.entries.Put(entries)
	at := uintptr(unsafe.Pointer(unsafe.SliceData(memory))) / uintptr(page) * 8
	if _, err := f.pagemap.ReadAt(*entries, int64(at)); err != nil {
		return nil, fmt.Errorf("read /proc/self/pagemap: %w", err)
	}
	dirty := make([]int, 0, 64)
	for i := range len(*entries) / 8 {
		e := binary.NativeEndian.Uint64((*entries)[8*i:])
		if e&pageSwapped != 0 || (e&pagePresent != 0 && e&pageInFile == 0) {
			dirty = append(dirty, i*page)
		}
	}
	return dirty, nil
}

// restore makes memory, to which the image is attached, equal to it.
func (f *imageFile) restore(memory []byte) error {
	dirty, err := f.dirty(memory)
	if err != nil {
		return err
	}
	page := os.Getpagesize()
	if len(dirty)*page > len(f.image)/2 { // start again with none
		return f.attach(memory)
	}
	for _, at := range dirty {
		copy(memory[at:at+page], f.image[at:])
	}
	return nil
}

// reserve returns the memory of a new instance, with addresses for all that it may grow to.
func (f *imageFile) reserve(limit int) (linear, error) {
	region, err := unix.Mmap(-1, 0, max(limit, len(f.image)), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err != nil {
		return nil, fmt.Errorf("reserve an instance's memory: %w", err)
	}
	return &mapping{region: region}, nil
}

// mapping is the memory of one instance.
type mapping struct {
	region []byte
	size   uint64 // of the memory
	shrunk bool   // Reallocate is to answer with size
}

func (m *mapping) shrink(size uint64) {
	clear(m.region[size:m.size])
	m.size, m.shrunk = size, true
}

// Reallocate implements experimental.LinearMemory.
func (m *mapping) Reallocate(size uint64) []byte {
	if m.shrunk {
		m.shrunk = false
		size = m.size
	}
	if size > uint64(len(m.region)) {
		return nil
	}
	m.size = size
	return m.region[:size:size]
}

// Free implements experimental.LinearMemory.
func (m *mapping) Free() {
	_ = unix.Munmap(m.region) // fails only for what is not mapped
	m.region = nil
}
