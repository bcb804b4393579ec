// Package ownca_test does what README.md says, on a network of real nodes with an authority made by openssl.
package ownca_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/fondaco/fondaco/testnet/network"
)

var readme = flag.Bool("readme", false, "run TestReadme")

// TestReadme runs every command of README.md in one shell.
func TestReadme(t *testing.T) {
	if !*readme {
		t.Skip("starts a network and waits minutes for a revocation: run with -readme")
	}
	if _, err := exec.LookPath("openssl"); err != nil {
		if os.Getenv("FONDACO_REQUIRE_TOOLS") == "1" {
			t.Fatal(err)
		}
		t.Skipf("%v: apt-get install openssl", err)
	}
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	var script strings.Builder
	for _, block := range regexp.MustCompile("(?ms)^```sh\n(.*?)^```$").FindAllStringSubmatch(string(text), -1) {
		script.WriteString(block[1])
	}
	port := 20_000
	for network.CheckPorts(port, 4) != nil {
		port = 20_000 + rand.IntN(30_000)
	}
	temp := t.TempDir()
	replaced := strings.NewReplacer("/tmp/own-ca/", temp+"/", ":9541", fmt.Sprint(":", port+1), "2560", freePort(t)).Replace(script.String())
	replaced = strings.Replace(replaced, "testnet up", fmt.Sprintf("testnet up --port %d", port), 1)
	replaced = strings.Replace(replaced, "kill %1", "kill $!", 1) // there are no jobs in a shell without a terminal
	shell := exec.CommandContext(t.Context(), "bash", "-euxo", "pipefail", "-c", replaced)
	shell.Dir = "../.."
	shell.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	t.Cleanup(func() {
		if shell.Process != nil {
			_ = syscall.Kill(-shell.Process.Pid, syscall.SIGTERM) // the responder, if the script did not come to its end
		}
		if n, err := network.Open(filepath.Join(temp, "net")); err == nil {
			if err := n.StopAll(); err != nil {
				t.Error(err)
			}
		}
	})
	said, err := os.Create(filepath.Join(temp, "said"))
	if err != nil {
		t.Fatal(err)
	}
	defer said.Close()
	shell.Stdout, shell.Stderr = said, said // a file, which nobody waits for while the responder has it
	failed := shell.Run()
	out, err := os.ReadFile(said.Name())
	if err != nil {
		t.Fatal(err)
	}
	if failed != nil {
		t.Fatalf("%v\n%s", failed, out)
	}
	for _, want := range []string{`ca-x509 +x509 .*healthy`, `serial [0-9a-f]+, was revoked on .* \(key-compromise\)`, `status +ok`} {
		if !regexp.MustCompile(want).Match(out) {
			t.Errorf("the commands did not print %s:\n%s", want, out)
		}
	}
}

// freePort returns a port on loopback that nobody listens on.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}
