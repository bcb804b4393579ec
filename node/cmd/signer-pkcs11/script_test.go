//go:build cgo

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/miekg/pkcs11"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/fondaco/fondaco/node/cli"
	"github.com/fondaco/fondaco/node/cli/clitest"
	cax509 "github.com/fondaco/fondaco/plugins/cmd/ca-x509"
	enginepbft "github.com/fondaco/fondaco/plugins/cmd/engine-pbft"
)

// TestMain makes this test binary also be the programs signer-pkcs11 and fondaco, under those names for scripts, and fondaco when it is started
// again as a plugin program.
func TestMain(m *testing.M) {
	fondaco := func() {
		os.Exit(cli.Main(os.Args, cli.Plugins{"ca-x509": cax509.Main, "engine-pbft": enginepbft.Main}))
	}
	if len(os.Args) > 1 && os.Args[1] == "plugin" {
		fondaco()
	}
	testscript.Main(m, map[string]func(){"fondaco": fondaco, "signer-pkcs11": func() {
		lost := make(chan os.Signal, 1)
		signal.Notify(lost, syscall.SIGUSR1)
		go loseSessions(lost)
		main()
	}})
}

// loseSessions has the device of this process lose its sessions whenever there is a signal.
func loseSessions(signals <-chan os.Signal) {
	for range signals {
		module := pkcs11.New(os.Getenv("MODULE"))
		slots, err := module.GetSlotList(true)
		for _, slot := range slots {
			err = errors.Join(err, module.CloseAllSessions(slot))
		}
		module.Destroy()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

// TestScripts runs the program as operators do, beside fondaco. Each script has a SoftHSM without tokens; MODULE is the path of its module, JOIN the folder
// with what scripts about certificates share. SIGUSR1 makes a signer lose its sessions.
func TestScripts(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: a script has two nodes, and waits for a device")
	}
	module := softHSMModule(t)
	for _, tool := range []string{"softhsm2-util", "openssl"} {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("FONDACO_REQUIRE_TOOLS") == "1" {
				t.Fatalf("%s is missing: apt-get install softhsm2 openssl", tool)
			}
			t.Skipf("%s is missing: apt-get install softhsm2 openssl", tool)
		}
	}
	folder, err := filepath.Abs(filepath.Join("..", "..", "cli", "testdata", "join"))
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			tokens, config := filepath.Join(env.WorkDir, "tokens"), filepath.Join(env.WorkDir, "softhsm2.conf")
			if err := os.Mkdir(tokens, 0o700); err != nil {
				return err
			}
			for name, value := range map[string]string{
				"HOME": env.WorkDir, "SOFTHSM2_CONF": config, "MODULE": module, "JOIN": folder, "SUITE": "std", "CA": "ca-x509",
			} {
				env.Setenv(name, value)
			}
			return os.WriteFile(config, fmt.Appendf(nil, "directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\n", tokens), 0o600)
		},
		RequireExplicitExec: true,
		Cmds:                clitest.Commands(nil),
	})
}
