// Package clitest has what scripts that test commands say besides what package testscript knows.
package clitest

import (
	"errors"
	"maps"
	"net"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// Patience bounds everything that scripts wait for.
const Patience = 30 * time.Second

// Commands returns what scripts can say:
//
//	exits CODE COMMAND...    the command ends with this exit code
//	eventually COMMAND...    the command succeeds, if not at once, then soon
//	capture NAME REGEXP      put what the expression's group matches in the last output into a variable
//	ports NAME...            put the number of a free port into each variable
//	upper NAME TEXT          put a text in capitals into a variable
//
// and the commands that more has.
func Commands(more map[string]func(*testscript.TestScript, bool, []string)) map[string]func(*testscript.TestScript, bool, []string) {
	all := map[string]func(*testscript.TestScript, bool, []string){
		"exits": func(ts *testscript.TestScript, _ bool, args []string) {
			want, err := strconv.Atoi(args[0])
			ts.Check(err)
			got := 0
			if err := ts.Exec(args[1], args[2:]...); err != nil {
				ended, ok := errors.AsType[*exec.ExitError](err)
				if !ok {
					ts.Fatalf("%v", err)
				}
				got = ended.ExitCode()
			}
			if got != want {
				ts.Fatalf("exit code %d, want %d", got, want)
			}
		},
		"eventually": func(ts *testscript.TestScript, _ bool, args []string) {
			began, pause := time.Now(), 50*time.Millisecond
			for ts.Exec(args[0], args[1:]...) != nil {
				if time.Since(began) > Patience {
					ts.Fatalf("no success within %s", Patience)
				}
				time.Sleep(pause)
				pause = min(pause*5/4, 400*time.Millisecond) // each attempt takes time from what is waited for
			}
		},
		"capture": func(ts *testscript.TestScript, _ bool, args []string) {
			found := regexp.MustCompile(args[1]).FindStringSubmatch(ts.ReadFile("stdout"))
			if len(found) != 2 {
				ts.Fatalf("no match of %s in the last output", args[1])
			}
			ts.Setenv(args[0], found[1])
		},
		"upper": func(ts *testscript.TestScript, _ bool, args []string) { ts.Setenv(args[0], strings.ToUpper(args[1])) },
		"ports": func(ts *testscript.TestScript, _ bool, args []string) {
			ports, err := FreePorts(len(args))
			ts.Check(err)
			for i, name := range args {
				ts.Setenv(name, strconv.Itoa(ports[i]))
			}
		},
	}
	maps.Copy(all, more)
	return all
}

// FreePorts returns ports that are free for TCP and UDP.
func FreePorts(n int) ([]int, error) {
	var ports []int
	for len(ports) < n {
		tcp, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer tcp.Close()
		udp, err := net.ListenPacket("udp", tcp.Addr().String())
		if err != nil {
			continue
		}
		defer udp.Close()
		ports = append(ports, tcp.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}
