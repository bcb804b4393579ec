//go:build unix

package cli

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/urfave/cli/v2"

	"github.com/fondaco/fondaco/plugins/ca"
)

// What was issued and cannot be written to the file of --out is printed, since a provider may not tell it again.
func TestIssuedWithoutRoom(t *testing.T) {
	if os.Getenv("ISSUED_WITHOUT_ROOM") == "" {
		process, err := os.StartProcess(os.Args[0], []string{os.Args[0], "-test.run", "^TestIssuedWithoutRoom$"}, &os.ProcAttr{
			Env: append(os.Environ(), "ISSUED_WITHOUT_ROOM="+t.TempDir()), Files: []*os.File{nil, os.Stdout, os.Stderr},
		})
		if err != nil {
			t.Fatal(err)
		}
		if state, err := process.Wait(); err != nil || !state.Success() {
			t.Fatalf("the process without room for a file: %v, %v", state, err)
		}
		return
	}
	path := filepath.Join(os.Getenv("ISSUED_WITHOUT_ROOM"), "node.pem")
	flags := flag.NewFlagSet("issue", flag.ContinueOnError)
	flags.String("out", path, "")
	var out bytes.Buffer
	c := cli.NewContext(&cli.App{Writer: &out}, flags, nil)
	signal.Ignore(syscall.SIGXFSZ) // so that the write fails instead
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 10, Max: 10}); err != nil {
		t.Fatal(err)
	}
	err := writeIssued(c, func() (ca.IssueResponse, error) {
		return ca.IssueResponse{Issued: &ca.Issued{Chain: [][]byte{[]byte("holder"), []byte("issuer")}}}, nil
	})
	if !errors.Is(err, syscall.EFBIG) || !strings.Contains(err.Error(), path+" cannot be written, so what was issued is printed: ") {
		t.Errorf("it ends with %v", err)
	}
	if got := pemBlocks(out.Bytes(), "CERTIFICATE"); len(got) != 2 || string(got[0]) != "holder" || string(got[1]) != "issuer" {
		t.Errorf("it prints %q", out.String())
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("half a file is there: %v", err)
	}
}
