package signer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/fondaco/fondaco/node/doublesign"
	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// Config is what a signer is made of.
type Config struct {
	Key    keys.Signer // of this process or of a device; required
	Socket string      // path of the unix socket; required
	// User may connect, and nobody else, root neither. The socket's folder must let it pass.
	User uint32
	// Journal is the folder with what the key signed in consensus. Empty: the key is no node's, and votes are refused.
	Journal string
	// Begin makes the journal if there is none, for a key that never signed a vote.
	Begin bool
	// Anew lets a recovery replace one that was signed before and that nobody ever applies.
	Anew bool
	Log  zerolog.Logger
	// Ready is called when clients can connect; nil.
	Ready func()
}

// Serve signs until ctx ends, which is no error.
func Serve(ctx context.Context, c Config) (err error) {
	s := &server{Config: c, suite: keys.SuiteOf(c.Key.Public().Algorithm())}
	if c.Journal != "" {
		if c.Key.Public().Algorithm() != s.suite.Vote() {
			return fmt.Errorf("nodes of a chain of suite %s vote with %s and nothing else, and this key is %s: leave the journal away if it is an account's, or serve a key of %[2]s, "+
				"in a device that offers it or in a key file", s.suite.Name(), s.suite.Vote(), c.Key.Public().Algorithm())
		}
		if s.journal, err = OpenJournal(state.OS(), c.Journal, c.Key.Public(), c.Begin); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, s.journal.Close()) }()
	}
	listener, err := listen(c.Socket, c.User)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = listener.Close() })
	defer stop()
	if c.Ready != nil {
		c.Ready()
	}
	if err := s.accept(ctx, listener); err != nil {
		return errors.Join(err, listener.Close())
	}
	return nil
}

type server struct {
	Config
	suite   keys.Suite
	journal *Journal // nil: votes are refused

	mu    sync.Mutex // guards conns
	conns map[net.Conn]struct{}
}

// listen binds the socket, in the place of one that nobody serves any more.
func listen(path string, user uint32) (*net.UnixListener, error) {
	if err := checkPath(path); err != nil {
		return nil, err
	}
	folder := filepath.Dir(path)
	switch info, err := os.Stat(folder); {
	case err != nil:
		return nil, fmt.Errorf("the socket's folder: %w; make it with mode 0700", err)
	case info.Mode().Perm()&0o022 != 0 && info.Mode()&os.ModeSticky == 0:
		return nil, fmt.Errorf("others can put a socket of their own into %s (mode %v): run chmod go-w on it", folder, info.Mode().Perm())
	}
	if info, err := os.Lstat(path); err == nil {
		if info.Mode()&os.ModeSocket == 0 {
			return nil, fmt.Errorf("%s is there and is no socket: name another path", path)
		}
		if conn, err := net.Dial("unix", path); err == nil {
			return nil, errors.Join(fmt.Errorf("a signer serves at %s: stop it, or name another path", path), conn.Close())
		} else if !errors.Is(err, syscall.ECONNREFUSED) {
			return nil, fmt.Errorf("%s is there, and whether a signer serves it is unknown: %w", path, err)
		}
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen at %s: %w", path, err)
	}
	err = os.Chmod(path, 0o600)
	if err == nil && int(user) != os.Getuid() { // only root may give it away: otherwise all may connect, and are asked who they are
		if err = os.Chown(path, int(user), -1); errors.Is(err, syscall.EPERM) {
			err = os.Chmod(path, 0o666)
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("protect the socket: %w", err), listener.Close())
	}
	return listener, nil
}

func (s *server) accept(ctx context.Context, listener *net.UnixListener) error {
	var clients errgroup.Group
	clients.SetLimit(maxConnections)
	s.conns = map[net.Conn]struct{}{}
	defer func() {
		s.mu.Lock()
		for conn := range s.conns {
			_ = conn.Close()
		}
		s.mu.Unlock()
		_ = clients.Wait() // none returns an error
	}()
	var strangers, crowd refusals
	for {
		conn, err := listener.AcceptUnix()
		if ctx.Err() != nil {
			if conn != nil {
				_ = conn.Close()
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept a connection: %w", err)
		}
		user, err := peerUser(conn)
		if err != nil || user != s.User {
			if others, ok := strangers.tell(time.Now()); ok {
				s.Log.Warn().Err(err).Uint32("user", user).Uint32("want", s.User).Int("others", others).Msg("a connection of another user was refused")
			}
			_ = conn.Close()
			continue
		}
		s.mu.Lock()
		s.conns[conn] = struct{}{}
		s.mu.Unlock()
		if !clients.TryGo(func() error { s.serve(conn); return nil }) {
			if others, ok := crowd.tell(time.Now()); ok {
				s.Log.Warn().Int("most", maxConnections).Int("others", others).Msg("a connection was refused: there are too many")
			}
			s.close(conn)
		}
	}
}

// refusals keeps connections that are refused from filling the log: one in refusalPause is told, with the number of those that were not.
type refusals struct {
	last   time.Time
	untold int
}

const refusalPause = 10 * time.Second

func (r *refusals) tell(now time.Time) (others int, ok bool) {
	if now.Sub(r.last) < refusalPause {
		r.untold++
		return 0, false
	}
	others, r.untold, r.last = r.untold, 0, now
	return others, true
}

func (s *server) close(conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, conn)
	_ = conn.Close()
}

// serve answers the requests of a connection. One that is none ends it.
func (s *server) serve(conn net.Conn) {
	defer s.close(conn)
	for {
		var r request
		if err := readFrame(conn, idleTime, &r); err != nil {
			if errors.Is(err, errFrame) {
				s.Log.Warn().Err(err).Msg("a connection was closed: it brought no request")
			}
			return
		}
		if writeFrame(conn, s.answer(&r)) != nil {
			return
		}
	}
}

func (s *server) answer(r *request) *reply {
	public := s.Key.Public()
	a := &reply{Version: version, Algorithm: public.Algorithm()}
	if r.Version == version && r.Thing == "" && len(r.Message) == 0 {
		a.Data = public.Bytes()
		return a
	}
	signature, err := s.sign(r)
	switch {
	case err == nil:
		a.Data = signature
		return a
	case errors.Is(err, doublesign.Err):
		a.Status = statusDoubleSign
	case errors.Is(err, errDenied):
		a.Status = statusDenied
	default:
		a.Status = statusFailed
	}
	a.Text = err.Error()
	s.Log.Error().Err(err).Str("thing", r.Thing[:min(len(r.Thing), maxThing)]).Msg("not signed")
	return a
}

var errDenied = errors.New("this signer does not sign that")

func (s *server) sign(r *request) ([]byte, error) {
	switch {
	case r.Version != version:
		return nil, fmt.Errorf("%w: the request is of version %d of the protocol, and the signer of %d: run both from one release", errDenied, r.Version, version)
	case !isThing(r.Thing):
		return nil, fmt.Errorf("%w: %q is no name of a thing, which has 1 to %d of a-z and -", errDenied, r.Thing[:min(len(r.Thing), maxThing)], maxThing)
	case r.Thing == ledger.StatementThing:
		if err := s.allow(r.Message); err != nil {
			return nil, err
		}
	}
	return keys.SignHash(s.suite, s.Key, r.Thing, r.Message)
}

// allow has a vote on disk before it is signed, or refuses it.
func (s *server) allow(message []byte) error {
	chain, group, st, err := ledger.ParseStatement(message)
	if err != nil {
		return fmt.Errorf("%w: %w", errDenied, err)
	}
	if s.journal == nil {
		return fmt.Errorf("%w: it was started without a journal, so for an account, and signs no votes: start it with --journal DIR for a node", errDenied)
	}
	return s.journal.Allow(chain, group, st, s.Anew)
}
