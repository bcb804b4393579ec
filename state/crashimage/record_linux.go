//go:build amd64 || arm64

package crashimage

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/fondaco/fondaco/state/memfs"
)

// Run runs a program to its end and records what it does to the files below dir, an absolute path. Its standard output becomes the events OpTell, one for each write. The error matches errors.ErrUnsupported where
// the system does not let this process trace another.
//
// The program's threads take turns at system calls that are recorded, so the order of the record is that in which they took
// place: a sync covers all writes before it, and what is told stands behind all that it relies on. In the end the
// record is compared with the files that there are.
//
// The names that openat, renameat, unlinkat and mkdirat take and the descriptors that write, pwrite, ftruncate, fsync and
// fdatasync take are followed, which is what Go programs use. Whatever else changed a file makes the comparison fail.
func Run(dir, program string, args, env []string) (*Record, error) {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, err
	}
	before, err := memfs.Load(dir)
	if err != nil {
		return nil, err
	}
	// Linux ties a traced process to the thread that traces it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	t := &tracer{dir: dir, seen: map[int]bool{}, record: &Record{before: before}}
	told, err := t.start(program, args, env)
	if err != nil {
		return nil, err
	}
	status, err := t.follow()
	if err != nil {
		return nil, errors.Join(err, t.end())
	}
	if message := told(); !status.Exited() || status.ExitStatus() != 0 {
		return nil, fmt.Errorf("the program ended with exit status %d, signal %d: %s", status.ExitStatus(), status.Signal(), message)
	}
	if err := t.record.verify(dir); err != nil {
		return nil, fmt.Errorf("what the program did was not recorded whole: %w", err)
	}
	return t.record, nil
}

// tracer follows the threads of one process.
type tracer struct {
	dir    string
	pid    int
	memory *os.File
	seen   map[int]bool // threads

	record *Record
	busy   int           // the thread that is in a system call of which this is the event; 0: none
	event  func(n int64) // records the event, given what the call returned
	queue  []int         // threads that wait to begin one
}

// start starts the program, stopped. told waits for what it writes to its standard error.
func (t *tracer) start(program string, args, env []string) (told func() string, err error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	from, to, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer to.Close()
	process, err := os.StartProcess(program, args, &os.ProcAttr{
		Env: env, Files: []*os.File{null, null, to}, Sys: &syscall.SysProcAttr{Ptrace: true, Setpgid: true},
	})
	if err != nil {
		if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSYS) {
			err = fmt.Errorf("%w: %w", errors.ErrUnsupported, err)
		}
		return nil, errors.Join(fmt.Errorf("trace %s: %w", program, err), from.Close())
	}
	t.pid = process.Pid
	message := make(chan string, 1)
	go func() {
		text, _ := io.ReadAll(from) // what there is of it
		from.Close()
		message <- string(bytes.TrimSpace(text))
	}()
	if _, _, err := wait(t.pid); err != nil { // for its exec
		return nil, errors.Join(err, t.end())
	}
	t.seen[t.pid] = true
	if t.memory, err = os.Open(fmt.Sprintf("/proc/%d/mem", t.pid)); err != nil {
		return nil, errors.Join(err, t.end())
	}
	if err := unix.PtraceSetOptions(t.pid, unix.PTRACE_O_TRACESYSGOOD|unix.PTRACE_O_TRACECLONE|unix.PTRACE_O_EXITKILL); err != nil {
		return nil, errors.Join(fmt.Errorf("trace %s: %w", program, err), t.end())
	}
	return func() string { return <-message }, nil
}

// end kills a program that cannot be followed to its end.
func (t *tracer) end() error {
	err := unix.Kill(t.pid, unix.SIGKILL)
	for {
		tid, status, failed := wait(-t.pid)
		if failed != nil || tid == t.pid && !status.Stopped() {
			return err
		}
	}
}

func wait(pid int) (tid int, status unix.WaitStatus, err error) {
	for {
		tid, err = unix.Wait4(pid, &status, unix.WALL, nil)
		if !errors.Is(err, unix.EINTR) {
			return tid, status, err
		}
	}
}

// follow lets the program run until it ends.
func (t *tracer) follow() (unix.WaitStatus, error) {
	defer t.memory.Close()
	if err := unix.PtraceSyscall(t.pid, 0); err != nil {
		return 0, err
	}
	for {
		tid, status, err := wait(-t.pid) // its process group has no others
		if err != nil {
			return 0, fmt.Errorf("wait for the program: %w", err)
		}
		if !status.Stopped() {
			if tid == t.pid {
				return status, nil
			}
			if tid == t.busy {
				t.busy, t.event = 0, nil
				err = t.begin()
			}
			t.queue = slices.DeleteFunc(t.queue, func(waits int) bool { return waits == tid })
		} else if err = t.stopped(tid, status); errors.Is(err, unix.ESRCH) {
			err = nil // it was killed, and will be reported
		}
		if err != nil {
			return 0, err
		}
	}
}

// stopped handles a stop of a thread.
func (t *tracer) stopped(tid int, status unix.WaitStatus) error {
	signal := status.StopSignal()
	switch {
	case signal == unix.SIGTRAP|0x80:
		return t.call(tid)
	case signal == unix.SIGTRAP && status.TrapCause() > 0: // of a clone
		signal = 0
	case signal == unix.SIGSTOP && !t.seen[tid]: // where a thread begins
		signal = 0
	}
	t.seen[tid] = true
	return unix.PtraceSyscall(tid, int(signal))
}

// syscallInfo is struct ptrace_syscall_info at the entry of a call; at its exit, number is what it returns. See ptrace(2).
type syscallInfo struct {
	op     uint8
	_      [3]uint8
	_      uint32
	_      [2]uint64
	number uint64
	args   [6]uint64
	_      uint64
}

const (
	callEntry = 1
	callExit  = 2
)

func (t *tracer) call(tid int) error {
	info, err := infoOf(tid)
	if err != nil {
		return err
	}
	switch {
	case info.op == callExit && tid == t.busy:
		t.event(int64(info.number))
		t.busy, t.event = 0, nil
		if err := unix.PtraceSyscall(tid, 0); err != nil {
			return err
		}
		return t.begin()
	case info.op == callEntry && t.busy != 0:
		if event, err := t.eventOf(info); err != nil || event == nil {
			return errors.Join(err, unix.PtraceSyscall(tid, 0))
		}
		t.queue = append(t.queue, tid)
		return nil
	case info.op == callEntry:
		if t.event, err = t.eventOf(info); err != nil {
			return err
		}
		if t.event != nil {
			t.busy = tid
		}
	}
	return unix.PtraceSyscall(tid, 0)
}

// begin lets the next thread that waits begin its call. What the call does is looked up again: names may have changed.
func (t *tracer) begin() error {
	for t.busy == 0 && len(t.queue) > 0 {
		tid := t.queue[0]
		t.queue = t.queue[1:]
		if err := t.call(tid); err != nil && !errors.Is(err, unix.ESRCH) {
			return err
		}
	}
	return nil
}

func infoOf(tid int) (info syscallInfo, err error) {
	_, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_GET_SYSCALL_INFO, uintptr(tid), unsafe.Sizeof(info), uintptr(unsafe.Pointer(&info)), 0, 0)
	if errno != 0 {
		return info, fmt.Errorf("look at a system call: %w", errno)
	}
	return info, nil
}

// eventOf returns what records the event of a call that is about to begin, or nil when there is none.
func (t *tracer) eventOf(info syscallInfo) (func(n int64), error) {
	add := func(e Event) func(int64) {
		return func(n int64) {
			if n < 0 {
				return
			}
			if e.Op == memfs.OpWrite || e.Op == OpTell {
				e.Data = e.Data[:n]
			}
			t.record.Events = append(t.record.Events, e)
		}
	}
	at := func(folder, name uint64) (string, error) { return t.path(int32(folder), name) }
	switch a := info.args; info.number {
	case unix.SYS_WRITE, unix.SYS_PWRITE64:
		name, ok := t.file(a[0])
		told := a[0] == 1 && info.number == unix.SYS_WRITE
		if !ok && !told {
			return nil, nil
		}
		data := make([]byte, a[2])
		if _, err := t.memory.ReadAt(data, int64(a[1])); err != nil {
			return nil, fmt.Errorf("read what the program writes to %s: %w", name, err)
		}
		if told {
			return add(Event{Op: OpTell, Data: data}), nil
		}
		e := Event{Op: memfs.OpWrite, Name: name, Offset: int64(a[3]), Data: data}
		var err error
		if info.number == unix.SYS_WRITE {
			e.Offset, err = t.position(a[0], name)
		}
		return add(e), err
	case unix.SYS_FTRUNCATE:
		if name, ok := t.file(a[0]); ok {
			return add(Event{Op: memfs.OpTruncate, Name: name, Offset: int64(a[1])}), nil
		}
	case unix.SYS_FSYNC, unix.SYS_FDATASYNC:
		name, ok := t.file(a[0])
		if !ok {
			return nil, nil
		}
		op := memfs.OpSync
		if info, err := os.Stat(filepath.Join(t.dir, name)); err == nil && info.IsDir() {
			op = memfs.OpSyncDir
		}
		return add(Event{Op: op, Name: name}), nil
	case unix.SYS_OPENAT:
		return t.open(a[0], a[1], a[2])
	case unix.SYS_MKDIRAT:
		path, err := at(a[0], a[1])
		if name, ok := t.below(path); ok || err != nil {
			return add(Event{Op: OpMkdir, Name: name}), err
		}
	case unix.SYS_UNLINKAT:
		path, err := at(a[0], a[1])
		if name, ok := t.below(path); err != nil || ok && a[2]&unix.AT_REMOVEDIR == 0 {
			return add(Event{Op: memfs.OpRemove, Name: name}), err
		}
	case unix.SYS_RENAMEAT, unix.SYS_RENAMEAT2:
		from, err := at(a[0], a[1])
		to, failed := at(a[2], a[3])
		name, one := t.below(from)
		renamed, other := t.below(to)
		if err = errors.Join(err, failed); err != nil {
			return nil, err
		}
		if one && other {
			return add(Event{Op: memfs.OpRename, Name: name, To: renamed}), nil
		}
	}
	return nil, nil
}

// open returns what records that a file is made or made empty.
func (t *tracer) open(folder, name, flags uint64) (func(int64), error) {
	if flags&(unix.O_CREAT|unix.O_TRUNC) == 0 {
		return nil, nil
	}
	path, err := t.path(int32(folder), name)
	if err != nil {
		return nil, err
	}
	file, ok := t.below(path)
	if !ok {
		return nil, nil
	}
	_, err = os.Lstat(path)
	missing := errors.Is(err, os.ErrNotExist)
	return func(n int64) {
		switch {
		case n < 0:
		case missing:
			t.record.Events = append(t.record.Events, Event{Op: memfs.OpCreate, Name: file})
		case flags&unix.O_TRUNC != 0:
			t.record.Events = append(t.record.Events, Event{Op: memfs.OpTruncate, Name: file})
		}
	}, nil
}

// below returns the name below the folder that is recorded; "." is the folder itself.
func (t *tracer) below(path string) (name string, ok bool) {
	if path == t.dir {
		return ".", true
	}
	return strings.CutPrefix(path, t.dir+"/")
}

// file returns the present name of an open file, or reports false when it is not below the folder.
func (t *tracer) file(descriptor uint64) (string, bool) {
	path, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", t.pid, int32(descriptor)))
	if err != nil || strings.HasSuffix(path, " (deleted)") {
		return "", false
	}
	return t.below(path)
}

// position returns where a write without an offset goes.
func (t *tracer) position(descriptor uint64, name string) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%d", t.pid, int32(descriptor)))
	if err != nil {
		return 0, err
	}
	var at, flags int64
	if _, err := fmt.Sscanf(string(text), "pos:\t%d\nflags:\t%o\n", &at, &flags); err != nil {
		return 0, fmt.Errorf("look up the position in %s: %w", name, err)
	}
	if flags&unix.O_APPEND == 0 {
		return at, nil
	}
	info, err := os.Stat(filepath.Join(t.dir, name))
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// path returns the path that a name in the program's memory stands for.
func (t *tracer) path(folder int32, address uint64) (string, error) {
	var name []byte
	for end := -1; end < 0; {
		// Not beyond a page: the next may not be there.
		chunk := make([]byte, 4096-(address+uint64(len(name)))%4096)
		if _, err := t.memory.ReadAt(chunk, int64(address)+int64(len(name))); err != nil {
			return "", fmt.Errorf("read a file's name: %w", err)
		}
		if end = bytes.IndexByte(chunk, 0); end >= 0 {
			chunk = chunk[:end]
		}
		if name = append(name, chunk...); len(name) > unix.PathMax {
			return "", unix.ENAMETOOLONG
		}
	}
	path := string(name)
	if filepath.IsAbs(path) {
		return filepath.Clean(path), nil
	}
	base := fmt.Sprintf("/proc/%d/cwd", t.pid)
	if folder != unix.AT_FDCWD {
		base = fmt.Sprintf("/proc/%d/fd/%d", t.pid, folder)
	}
	base, err := os.Readlink(base)
	return filepath.Join(base, path), err
}
