package plugins

import (
	"crypto/sha256"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestNoexec runs a foreign program on a machine whose temporary folders are mounted noexec: it is executed where it may be, or the error
// says what to do. The test runs again in a user namespace of its own, where anybody may mount.
func TestNoexec(t *testing.T) {
	const inside = "FONDACO_TEST_NOEXEC"
	if os.Getenv(inside) == "" {
		again := exec.Command("/proc/self/exe", "-test.run=^TestNoexec$", "-test.v")
		again.Env = append(os.Environ(), inside+"=1")
		again.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		}
		out, err := again.CombinedOutput()
		if again.ProcessState == nil {
			t.Skipf("this system lets its users make no namespaces: %v", err)
		}
		if err == nil && strings.Contains(string(out), "--- SKIP: TestNoexec (") {
			t.Skipf("this system lets its users mount nothing in their namespaces: %s", out)
		}
		if err != nil || !strings.Contains(string(out), "--- PASS: TestNoexec") {
			t.Errorf("%v:\n%s", err, out)
		}
		return
	}
	own, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(own)
	if err != nil {
		t.Fatal(err)
	}
	const home, dir = "/tmp/home", "/tmp/node/cache/plugins" // in the /tmp that is mounted below
	near := filepath.Join(home, "near")
	spec := Spec{Name: "echo", Path: filepath.Join(home, "program"), Args: []string{"plugin", "echo"}, SHA256: sha256.Sum256(data)}
	t.Setenv("TMPDIR", "")
	switch err := unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); {
	case errors.Is(err, fs.ErrPermission):
		t.Skip(err)
	case err != nil:
		t.Fatal(err)
	}
	open := func(path string) { // a file system where programs may be executed
		t.Helper()
		if err := os.MkdirAll(path, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount("tmpfs", path, "tmpfs", 0, "mode=0700"); err != nil {
			t.Fatal(err)
		}
	}
	for _, folder := range []string{"/tmp", "/var/tmp", "/dev/shm"} {
		if err := unix.Mount("tmpfs", folder, "tmpfs", unix.MS_NOEXEC, "mode=1777"); err != nil {
			t.Fatal(err)
		}
	}
	open(home)
	if err := os.WriteFile(spec.Path, data, 0o700); err != nil {
		t.Fatal(err)
	}

	t.Run("no folder is left", func(t *testing.T) {
		_, err := newHost(t, Config{}).Engine(t.Context(), spec)
		for _, want := range []string{"/tmp/fondaco-run-", "is mounted noexec", "set TMPDIR to a folder that this user may write, of a file system that is not mounted noexec"} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("Engine: %v, want it to say %q", err, want)
			}
		}
	})
	t.Run("the node's own binary needs none", func(t *testing.T) {
		start(t, newHost(t, Config{}), self("echo"))
	})
	t.Run("a folder of the node's", func(t *testing.T) {
		start(t, newHost(t, Config{Dir: filepath.Join(home, "dir")}), spec)
	})
	t.Run("a folder near the node, which a command leaves as it was", func(t *testing.T) {
		if err := os.Mkdir(near, 0o700); err != nil {
			t.Fatal(err)
		}
		h := New(Config{Near: near})
		start(t, h, spec)
		env, _ := environment(t, h.Status()[0].Pid)
		if want := CopiesVariable + "=" + near + "/" + scratchPrefix; !strings.Contains(strings.Join(env, "\n"), want) {
			t.Errorf("the program's environment is %q, want %s", env, want)
		}
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
		if left, err := os.ReadDir(near); err != nil || len(left) > 0 {
			t.Errorf("left %v, %v", left, err)
		}
	})
	t.Run("the folder of the node is noexec, and another is not", func(t *testing.T) {
		open("/var/tmp")
		start(t, newHost(t, Config{Dir: dir}), spec)
	})
}
