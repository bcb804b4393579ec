//go:build unix

package plugins

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"syscall"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/fondaco/fondaco/consensus"
	"github.com/fondaco/fondaco/consensus/pbft"
	"github.com/fondaco/fondaco/plugins/engine"
)

// moody serves the engine of PBFT as well as the file at path says that it shall.
func moody(path string) {
	switch mood(path) {
	case "panics at its start":
		panic("no configuration found")
	case "says nothing":
		select {}
	case "prints before the handshake":
		fmt.Println("hello")
	case "speaks another version":
		odd([]string{"7"}, nil)
	case "sends garbage":
		odd([]string{"1"}, func(s grpc.ServerStream) error { return answers(s, []byte{0xff, 0, 1, 2}) })
	case "sends a reply of 64 MB":
		odd([]string{"1"}, func(s grpc.ServerStream) error { return answers(s, make([]byte, 64<<20)) })
	case "sends replies without end":
		odd([]string{"1"}, func(s grpc.ServerStream) error {
			reply := wrapperspb.Bytes(make([]byte, 15<<20))
			for {
				if err := s.SendMsg(reply); err != nil {
					return err
				}
			}
		})
	}
	engine.Serve(func() consensus.Engine { return &moodyEngine{Engine: pbft.New(), path: path} },
		engine.Manifest{Name: "pbft", Version: "moody", Fault: engine.BFT, MinMembers: 1})
}

func mood(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		panic(err)
	}
	return strings.TrimSpace(string(text))
}

// moodyEngine looks at its mood before each step.
type moodyEngine struct {
	consensus.Engine
	path string
}

func (m *moodyEngine) Init(c consensus.Config, journal []consensus.Record) ([]consensus.Effect, error) {
	switch mood(m.path) {
	case "forgets its journal":
		journal = nil
	case "prints without end":
		go printAll()
	}
	return m.Engine.Init(c, journal)
}

func (m *moodyEngine) Step(e consensus.Event) ([]consensus.Effect, error) {
	switch mood(m.path) {
	case "panics in a call":
		panic("asked to")
	case "hangs":
		select {}
	case "allocates without end":
		allocateAll()
	}
	return m.Engine.Step(e)
}

// allocateAll takes memory, most of which it does not touch, so that the machine of the test does not run short of it.
func allocateAll() {
	var all [][]byte
	for len(all) < 1<<30 {
		block := make([]byte, 64<<20)
		block[0] = 1
		all = append(all, block)
	}
}

// printAll writes to all that a program can print to.
func printAll() {
	line := append(bytes.Repeat([]byte("\xff\x00 nonsense "), 1000), '\n')
	for {
		syscall.Write(1, line) //nolint:errcheck // the pipe ends with the program
		os.Stdout.Write(line)  //nolint:errcheck // as above
		os.Stderr.Write(line)  //nolint:errcheck // as above
	}
}
