package secrets

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/skiff-build/skiff/internal/engine"
)

// maxKey bounds a file with a private key, in bytes; BuildKit's is the same (session/sshforward/sshprovider).
const maxKey = 100 * 1024

// SSHAgent is for RUN --mount=type=ssh: the socket of an agent, or files with private keys, which have no passphrase.
type SSHAgent struct {
	ID    string
	Paths []string
}

// Agents are what a build was given for RUN --mount=type=ssh: sockets, and keys, for which it is the agent itself.
type Agents struct {
	sockets map[string]string
	keys    map[string]agent.ExtendedAgent

	mu      sync.Mutex
	serving map[string]*keyServer
}

// NewAgents finds what is missing or unfit before anything runs. The caller closes them.
func NewAgents(given []SSHAgent) (*Agents, error) {
	a := &Agents{sockets: map[string]string{}, keys: map[string]agent.ExtendedAgent{}, serving: map[string]*keyServer{}}
	for _, g := range given {
		if a.sockets[g.ID] != "" || a.keys[g.ID] != nil {
			return nil, fmt.Errorf("ssh %s: given twice", g.ID)
		}
		if err := a.add(g); err != nil {
			return nil, fmt.Errorf("ssh %s: %w", g.ID, err)
		}
	}
	return a, nil
}

func (a *Agents) add(g SSHAgent) error {
	if len(g.Paths) == 1 {
		st, err := os.Stat(g.Paths[0])
		if err != nil {
			return err
		}
		if st.Mode()&os.ModeSocket != 0 {
			a.sockets[g.ID] = g.Paths[0]
			return nil
		}
	}
	keyring := agent.NewKeyring()
	for _, p := range g.Paths {
		key, err := readKey(p)
		if err != nil {
			return err
		}
		if err := keyring.Add(agent.AddedKey{PrivateKey: key}); err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
	}
	a.keys[g.ID] = signer{keyring.(agent.ExtendedAgent)}
	return nil
}

func readKey(path string) (any, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	dt, err := io.ReadAll(io.LimitReader(f, maxKey))
	if err != nil {
		return nil, err
	}
	key, err := ssh.ParseRawPrivateKey(dt)
	if _, locked := errors.AsType[*ssh.PassphraseMissingError](err); locked {
		return nil, fmt.Errorf("%s: the key has a passphrase: give it to an agent with ssh-add, and the build the agent", path)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: neither the socket of an agent nor a private key: %w", path, err)
	}
	return key, nil
}

// Socket is what the engine mounts into a step for an id; "" is default. Keys are served from the first time on.
func (a *Agents) Socket(id string) (string, error) {
	if id == "" {
		id = "default"
	}
	if s := a.sockets[id]; s != "" {
		return s, nil
	}
	keys := a.keys[id]
	if keys == nil {
		return "", engine.ErrNoSecret
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if s := a.serving[id]; s != nil {
		return s.path, nil
	}
	s, err := serveKeys(keys)
	if err != nil {
		return "", fmt.Errorf("ssh %s: %w", id, err)
	}
	a.serving[id] = s
	return s.path, nil
}

// Close ends the agents that the build was itself.
func (a *Agents) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	var errs []error
	for id, s := range a.serving {
		errs = append(errs, s.Close())
		delete(a.serving, id)
	}
	return errors.Join(errs...)
}

// keyServer is an agent on a socket of its own.
type keyServer struct {
	net.Listener
	dir, path string
}

func serveKeys(keys agent.Agent) (*keyServer, error) {
	dir, err := os.MkdirTemp("", "skiff-ssh-")
	if err != nil {
		return nil, err
	}
	s := &keyServer{dir: dir, path: filepath.Join(dir, "agent")}
	if s.Listener, err = net.Listen("unix", s.path); err != nil {
		return nil, errors.Join(err, os.Remove(dir))
	}
	go func() {
		for {
			c, err := s.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_ = agent.ServeAgent(keys, c) // ends when the step hangs up
			}()
		}
	}()
	return s, nil
}

func (s *keyServer) Close() error { return errors.Join(s.Listener.Close(), os.RemoveAll(s.dir)) }

// signer is an agent that lists its keys and signs with them; a step changes nothing in it.
type signer struct{ agent.ExtendedAgent }

var errReadOnly = errors.New("the agent of a build cannot be changed")

func (signer) Add(agent.AddedKey) error                 { return errReadOnly }
func (signer) Remove(ssh.PublicKey) error               { return errReadOnly }
func (signer) RemoveAll() error                         { return errReadOnly }
func (signer) Lock([]byte) error                        { return errReadOnly }
func (signer) Unlock([]byte) error                      { return errReadOnly }
func (signer) Extension(string, []byte) ([]byte, error) { return nil, agent.ErrExtensionUnsupported }
