package client

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/keys/keyfile"
)

// maxPEM bounds the files of certificates, keys and tokens that a client reads, in bytes.
const maxPEM = 1 << 20

// Access names the files by which a client over HTTPS knows the node and shows who it is. The zero value: the system's authorities vouch
// for the node, and the client shows nothing.
type Access struct {
	// CA has the authorities that vouch for the node, in PEM; empty: those of the system.
	CA string
	// Pin has in PEM, as its first, the only certificate that the node may show, whatever it says of names; with it CA does not count.
	Pin string
	// Cert and Key are the client's certificate, followed by those that lead to the root, and its key, see KeyPair; empty: none.
	Cert, Key string
	// Token is a file with nothing but a token in it, which only its owner can read; empty: none.
	Token string
}

// Open returns a client of the node whose API is at base, such as "https://node.bank.example:9541". The files of a are read now. A token
// or a certificate needs https.
func Open(base string, a Access) (*Client, error) {
	c, err := New(base, nil)
	if err != nil || a == (Access{}) {
		return c, err
	}
	if !strings.HasPrefix(base, "https://") {
		return nil, fmt.Errorf("the API address %s is without TLS: authorities, certificates and tokens are for one that begins with https://", base)
	}
	if a.Token != "" {
		if c.token, err = readToken(a.Token); err != nil {
			return nil, err
		}
	}
	transport := newTransport()
	if transport.TLSClientConfig, err = a.TLS(); err != nil {
		return nil, err
	}
	// A node sends nobody elsewhere, and what shows who the client is goes nowhere else.
	c.http = &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return c, nil
}

func newTransport() *http.Transport {
	return &http.Transport{MaxIdleConns: 256, MaxIdleConnsPerHost: 256, IdleConnTimeout: time.Minute, TLSHandshakeTimeout: 10 * time.Second}
}

// TLS returns what a connection to a node needs: TLS 1.3, and what the files of a hold.
func (a Access) TLS() (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS13}
	switch {
	case a.Pin != "":
		text, err := readSmall(a.Pin)
		if err != nil {
			return nil, err
		}
		pinned, _ := pem.Decode(text)
		if pinned == nil || pinned.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("%s has no certificate in PEM", a.Pin)
		}
		c.InsecureSkipVerify = true // VerifyConnection does it: the node must have the key of this very certificate
		c.VerifyConnection = func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 || !bytes.Equal(s.PeerCertificates[0].Raw, pinned.Bytes) {
				return fmt.Errorf("whoever answers shows another certificate than that of %s: another program has the address, or the node was started with another certificate", a.Pin)
			}
			return nil
		}
	case a.CA != "":
		text, err := readSmall(a.CA)
		if err != nil {
			return nil, err
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("%s has no certificate in PEM", a.CA)
		}
	}
	if (a.Cert == "") != (a.Key == "") {
		return nil, errors.New("a client certificate and its key go together: give both")
	}
	if a.Cert != "" {
		pair, err := KeyPair(a.Cert, a.Key)
		if err != nil {
			return nil, err
		}
		// Whether it counts, the node says in words; the library would rather not show one that the node did not ask for by name.
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	return c, nil
}

// KeyPair reads a certificate in PEM, followed by those that lead to the root, and its private key: a key file as `fondaco keys new` writes it,
// without passphrase, or PEM as other programs write it (PKCS #8, PKCS #1, SEC 1). TLS is international on every chain, so the key is no SM2 key.
func KeyPair(cert, key string) (tls.Certificate, error) {
	chain, err := readSmall(cert)
	if err != nil {
		return tls.Certificate{}, err
	}
	private, err := readPrivate(key)
	if err != nil {
		return tls.Certificate{}, err
	}
	defer clear(private)
	pair, err := tls.X509KeyPair(chain, private)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("%s and %s: %w", cert, key, err)
	}
	return pair, nil
}

// readPrivate reads a private key as PEM that the standard library takes.
func readPrivate(path string) ([]byte, error) {
	text, err := readSecret(path)
	if err != nil {
		return nil, err
	}
	if block, _ := pem.Decode(text); block != nil && strings.HasSuffix(block.Type, "PRIVATE KEY") && !strings.HasPrefix(block.Type, "FONDACO") {
		return text, nil
	}
	defer clear(text)
	signer, err := keyfile.Read(path, keys.Std(), nil)
	if errors.Is(err, keyfile.ErrPassphrase) {
		return nil, fmt.Errorf("%s is locked with a passphrase, and nobody is there to ask for it when it is read again: use a key of its own that is not, made with `fondaco keys new --unlocked`", path)
	}
	if err != nil {
		return nil, fmt.Errorf("%w; TLS takes keys of Ed25519 and P-256, made with `fondaco keys new --unlocked --suite std`, or PEM of another program", err)
	}
	seed, err := signer.Private()
	if err != nil {
		return nil, err
	}
	defer clear(seed)
	var private crypto.PrivateKey
	switch a := signer.Public().Algorithm(); a {
	case keys.Ed25519:
		private = ed25519.NewKeyFromSeed(seed)
	case keys.P256:
		private, err = ecdsa.ParseRawPrivateKey(elliptic.P256(), seed)
	default:
		err = fmt.Errorf("%s: TLS takes no key of %s; make one with `fondaco keys new --unlocked --suite std`", path, a)
	}
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, err
	}
	defer clear(der)
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// readToken reads the file of a token.
func readToken(path string) (string, error) {
	text, err := readSecret(path)
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(text))
	if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) || len(token) > 4096 {
		return "", fmt.Errorf("%s has no token in it: want the one line that `fondaco token new` printed", path)
	}
	return token, nil
}

// readSecret reads a file that only its owner may read.
func readSecret(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s can be read by others (mode %v): run chmod 600 on it, and consider what it holds leaked", path, info.Mode().Perm())
	}
	return readSmall(path)
}

func readSmall(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a file", path)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close() //nolint:errcheck // nothing was written
	text, err := io.ReadAll(io.LimitReader(file, maxPEM+1))
	if err == nil && len(text) > maxPEM {
		err = fmt.Errorf("%s has more than %d bytes", path, maxPEM)
	}
	return text, err
}
