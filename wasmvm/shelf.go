package wasmvm

import (
	"container/list"
	"runtime"
	"slices"
	"sync"
	"weak"

	"github.com/fondaco/fondaco/state/keys"
)

// shelf is what a VM and the VMs for other rules that belong to it keep together, so that a bound is one for all of them.
type shelf struct {
	slabs    slabs
	queue    chan weak.Pointer[Module] // to the compiler; as many fit as are kept
	most     int                       // modules
	mostSize int64                     // of modules
	mostEach int                       // instances of a program that wait for calls

	mu      sync.Mutex // guards what follows, and fields of VMs
	modules map[place]*list.Element
	recent  *list.List // of *Module, the last used in front
	weight  int64      // of the modules in recent

	waiting  sync.Mutex // guards what follows, and fields of programs; nothing is locked while it is held
	idle     *list.List // of *instance that wait for calls, the last used in front
	idleSize int64      // of the instances in idle
	mostIdle int64
}

// place is where a module is kept.
type place struct {
	vm     *VM
	digest keys.Digest
}

// fewIdle is how many instances of a program may wait for calls at least: views come several at once. One of a Go contract's
// takes some 3 MB. With more processors as many, since the workers of a block may all call it.
const fewIdle = 8

func newShelf(c *Config) *shelf {
	return &shelf{
		slabs: slabs{most: c.MemoryBytes / 8}, queue: make(chan weak.Pointer[Module], c.Modules), most: c.Modules, mostSize: c.MemoryBytes,
		mostEach: max(fewIdle, runtime.GOMAXPROCS(0)),
		modules:  map[place]*list.Element{}, recent: list.New(), idle: list.New(), mostIdle: c.MemoryBytes / 2,
	}
}

// lookup returns a module that is kept, or nil. s.mu is held.
func (s *shelf) lookup(at place) *Module {
	e, ok := s.modules[at]
	if !ok {
		return nil
	}
	s.recent.MoveToFront(e)
	return e.Value.(*Module)
}

// keep puts a module in front of those that are kept. s.mu is held.
func (s *shelf) keep(m *Module) {
	m.weight = m.size()
	s.weight += m.weight
	s.modules[place{m.vm, m.digest}] = s.recent.PushFront(m)
	s.evict()
}

// evict lets go of modules that were not used for long, as far as the bounds want it. s.mu is held.
func (s *shelf) evict() {
	for s.recent.Len() > 1 && (s.recent.Len() > s.most || s.weight > s.mostSize) {
		m := s.recent.Remove(s.recent.Back()).(*Module)
		s.weight -= m.weight
		delete(s.modules, place{m.vm, m.digest})
	}
}

// weigh notes that a module takes another amount of memory than before.
func (s *shelf) weigh(m *Module) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e, ok := s.modules[place{m.vm, m.digest}]; ok && e.Value.(*Module) == m {
		s.weight -= m.weight
		m.weight = m.size()
		s.weight += m.weight
		s.evict()
	}
}

// size returns about how many modules there are and how much memory all takes.
func (s *shelf) size() (modules int, bytes int64) {
	s.mu.Lock()
	modules, bytes = s.recent.Len(), s.weight
	s.mu.Unlock()
	s.waiting.Lock()
	bytes += s.idleSize
	s.waiting.Unlock()
	return modules, bytes + s.slabs.kept()
}

// clear lets go of all modules.
func (s *shelf) clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.modules)
	s.recent.Init()
	s.weight = 0
}

// wait has an instance wait for a program's next call. To make room for it the one goes that waits for longest.
func (s *shelf) wait(p *program, in *instance) {
	s.waiting.Lock()
	if p.closed || len(p.idle) >= s.mostEach {
		s.waiting.Unlock()
		in.close()
		return
	}
	in.program, in.place, in.size = p, s.idle.PushFront(in), int64(in.memory.Size())
	p.idle = append(p.idle, in)
	s.idleSize += in.size
	var gone []*instance
	for s.idleSize > s.mostIdle {
		oldest := s.idle.Back().Value.(*instance)
		s.leave(oldest.program, 0) // a program's own are in the order of their age
		gone = append(gone, oldest)
	}
	s.waiting.Unlock()
	for _, in := range gone {
		in.close()
	}
}

// leave takes one of a program's instances that wait. s.waiting is held.
func (s *shelf) leave(p *program, at int) *instance {
	in := p.idle[at]
	p.idle = slices.Delete(p.idle, at, at+1)
	s.idle.Remove(in.place)
	s.idleSize -= in.size
	in.program, in.place = nil, nil
	return in
}

// lose closes the instances of a program that wait. None will any more.
func (s *shelf) lose(p *program) {
	s.waiting.Lock()
	p.closed = true
	var gone []*instance
	for len(p.idle) > 0 {
		gone = append(gone, s.leave(p, 0))
	}
	s.waiting.Unlock()
	for _, in := range gone {
		in.close()
	}
}
