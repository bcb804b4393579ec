package network

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/fondaco/fondaco/node/cli"
	"github.com/fondaco/fondaco/node/signer"
)

// The folder of a node's signer, in a network with Config.Signers.
const (
	signersDir = "signers"
	socketFile = "socket"
	journalDir = "journal"
)

// signerPatience is how long a signer may take until it serves.
const signerPatience = 30 * time.Second

func (n *Network) signerDir(node *Node) string { return filepath.Join(n.Dir, signersDir, node.Name) }

// nodeKeyPath returns the path of the file with a node's key.
func (n *Network) nodeKeyPath(node *Node) string {
	if n.Signers {
		return filepath.Join(n.signerDir(node), cli.KeyFile)
	}
	return filepath.Join(node.Dir, cli.KeyFile)
}

// SignerLogPath returns where the log of a node's signer is.
func (n *Network) SignerLogPath(node *Node) string { return filepath.Join(n.signerDir(node), logFile) }

// socket returns the path of the socket of a node's signer.
func (n *Network) socket(node *Node) (string, error) {
	path, err := filepath.Abs(filepath.Join(n.signerDir(node), socketFile))
	if err == nil && len(path) > signer.MaxSocket {
		err = fmt.Errorf("the socket of a signer cannot have the path %s of %d bytes, at most %d: make the network in a folder with a shorter path, with -d", path, len(path), signer.MaxSocket)
	}
	return path, err
}

// StartSigner starts the signer of a node as a process of its own and waits until it serves. One that runs is left alone.
func (n *Network) StartSigner(node *Node) error {
	dir := n.signerDir(node)
	if pidIn(dir) != 0 {
		return nil
	}
	socket, err := n.socket(node)
	if err != nil {
		return err
	}
	journal := filepath.Join(dir, journalDir)
	args := []string{"signer", "serve", "--suite", n.Suite, "--key", n.nodeKeyPath(node), "--socket", socket, "--journal", journal}
	if _, err := os.Stat(journal); errors.Is(err, fs.ErrNotExist) {
		args = append(args, "--new-journal")
	}
	name := "the signer of " + node.Name
	if _, err := n.spawn(name, dir, args...); err != nil {
		return err
	}
	for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		conn, err := net.Dial("unix", socket)
		if err == nil {
			return conn.Close()
		}
		if pidIn(dir) == 0 || time.Since(began) > signerPatience {
			return fmt.Errorf("%s does not serve (%w); see its log %s", name, err, n.SignerLogPath(node))
		}
	}
}

// KillSigner ends the signer of a node as a crash would (SIGKILL) and waits until it is gone.
func (n *Network) KillSigner(node *Node) error {
	return end("the signer of "+node.Name, n.signerDir(node), syscall.SIGKILL)
}
