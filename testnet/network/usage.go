package network

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Usage is what a node and its plugins use of the machine.
type Usage struct {
	CPU    time.Duration // since they started
	Memory int64         // bytes of anonymous memory: bbolt's map of its file does not count
	Mapped int64         // bytes of files that are in memory besides: maps of data, and the programs themselves, once for each process
	Disk   int64         // bytes that the node's data occupy
}

// Usage measures a running node with its plugins. It needs Linux's /proc.
func (n *Network) Usage(node *Node) (Usage, error) {
	var u Usage
	pid := n.Pid(node)
	if pid == 0 {
		return u, fmt.Errorf("%s is not running", node.Name)
	}
	all, err := family(pid)
	if err != nil {
		return u, fmt.Errorf("what %s uses cannot be measured here: %w", node.Name, err)
	}
	for _, p := range all {
		cpu, err := cpuTime(p)
		if err != nil {
			continue // a plugin that ended meanwhile
		}
		u.CPU += cpu
		anonymous, mapped, err := memory(p)
		if err != nil {
			continue
		}
		u.Memory += anonymous
		u.Mapped += mapped
	}
	u.Disk, err = Occupied(filepath.Join(node.Dir, "data"))
	return u, err
}

// family returns a process and its descendants.
func family(pid int) ([]int, error) {
	all := []int{pid}
	for i := 0; i < len(all); i++ {
		tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", all[i]))
		if err != nil {
			if i == 0 {
				return nil, err
			}
			continue
		}
		for _, task := range tasks {
			children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", all[i], task.Name()))
			if err != nil {
				continue
			}
			for field := range strings.FieldsSeq(string(children)) {
				if child, err := strconv.Atoi(field); err == nil {
					all = append(all, child)
				}
			}
		}
	}
	return all, nil
}

// clockTick is the unit of times in /proc: USER_HZ, which is 100 on every Linux that Go runs on.
const clockTick = 10 * time.Millisecond

func cpuTime(pid int) (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, after, _ := bytes.Cut(stat, []byte(") "))
	fields := bytes.Fields(after)
	if len(fields) < 13 {
		return 0, fmt.Errorf("process %d: its times are not understood", pid)
	}
	var total time.Duration
	for _, f := range fields[11:13] {
		ticks, err := strconv.ParseInt(string(f), 10, 64)
		if err != nil {
			return 0, err
		}
		total += time.Duration(ticks) * clockTick
	}
	return total, nil
}

// memory returns the anonymous bytes that a process has in memory, and those of files.
func memory(pid int) (anonymous, mapped int64, err error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(data)) {
		name, value, _ := strings.Cut(line, ":")
		var to *int64
		switch name {
		case "RssAnon":
			to = &anonymous
		case "RssFile", "RssShmem":
			to = &mapped
		default:
			continue
		}
		kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		if err != nil {
			return 0, 0, err
		}
		*to += kib << 10
	}
	return anonymous, mapped, nil
}

// Occupied adds up the bytes on disk of the files below a folder.
func Occupied(dir string) (int64, error) {
	var total int64
	err := filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return nil // a file that was removed meanwhile
		}
		if stat, ok := info.Sys().(*syscall.Stat_t); ok {
			total += stat.Blocks * 512
		} else {
			total += info.Size()
		}
		return nil
	})
	return total, err
}
