package cli

import (
	"cmp"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/fondaco/fondaco/node"
	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// defaultAPI is where `fondaco init` lets a node listen.
const defaultAPI = "http://127.0.0.1:9541"

// remoteFlags are those of every command that speaks to a node.
func remoteFlags(more ...cli.Flag) []cli.Flag {
	return append([]cli.Flag{
		&cli.StringFlag{Name: "ca", Usage: "PEM `FILE` of the authorities that vouch for the node's HTTPS certificate; default: those of the system", EnvVars: []string{"FONDACO_CA"}},
		&cli.StringFlag{Name: "client-cert", Usage: "PEM `FILE` of a client certificate to show to the node", EnvVars: []string{"FONDACO_CLIENT_CERT"}},
		&cli.StringFlag{Name: "client-key", Usage: "`FILE` of its key", EnvVars: []string{"FONDACO_CLIENT_KEY"}},
		&cli.StringFlag{Name: "token-file", Usage: "`FILE` with a token to show to the node", EnvVars: []string{"FONDACO_TOKEN_FILE"}},
		&cli.StringFlag{Name: "api", Usage: "`URL` of a node's API (default: that of the node in -d, then FONDACO_API, then " + defaultAPI + ")"},
		dirFlag(), outputFlag(),
		&cli.DurationFlag{Name: "timeout", Usage: "how long to wait for an answer, or for a transaction to be in a block", Value: 30 * time.Second, EnvVars: []string{"FONDACO_TIMEOUT"}},
	}, append(askFlags(), more...)...)
}

// signingFlags are those of every command that sends a transaction.
func signingFlags(more ...cli.Flag) []cli.Flag {
	return append(remoteFlags(
		&cli.StringSliceFlag{Name: "key", Usage: "key `FILE` that signs; may be repeated for accounts that want several", EnvVars: []string{"FONDACO_KEY"}},
		&cli.StringSliceFlag{Name: "signer", Usage: "`SOCKET` of a signer whose key signs, as --key", EnvVars: []string{"FONDACO_SIGNER"}},
		&cli.StringFlag{Name: "from", Usage: "`ACCOUNT` that sends: its address, or its name in the genesis", EnvVars: []string{"FONDACO_FROM"}},
		&cli.Uint64Flag{Name: "gas", Usage: "gas limit; 0: ten million for a contract, the chain's highest for a system contract"},
		&cli.DurationFlag{Name: "expiry", Usage: "how far ahead the transaction expires", Value: client.DefaultLifetime},
		&cli.BoolFlag{Name: "wait", Usage: "wait until the transaction is in a block; with --wait=false, until the node took it", Value: true},
		&cli.StringFlag{Name: "sign-only", Usage: "write the signed transaction to `FILE` and send nothing; `fondaco tx send FILE` does"},
		passphraseFlag(),
	), more...)
}

// remote is a command's conversation with a node.
type remote struct {
	*client.Client
	c      *cli.Context
	ctx    context.Context // ends with the command's timeout
	cancel context.CancelFunc
	url    string
}

// dial prepares to speak to the node that flags, environment or the node's folder name.
func dial(c *cli.Context) (*remote, error) {
	if err := checkOutput(c); err != nil {
		return nil, err
	}
	if c.Duration("timeout") <= 0 {
		return nil, usage("--timeout %s: want a time above zero, such as 30s", c.Duration("timeout"))
	}
	address := c.String("api")
	// A folder that is named on the command line is meant for this command, the environment for all. The library does not tell
	// which of the two a value is from.
	if folder := c.IsSet("dir") && c.String("dir") != os.Getenv(dirVariable); address == "" && !folder {
		address = os.Getenv("FONDACO_API")
	}
	own := address == "" // the node in the folder: another one is none of its operator's business
	access := client.Access{CA: c.String("ca"), Cert: c.String("client-cert"), Key: c.String("client-key"), Token: c.String("token-file")}
	if own {
		var pin string
		var err error
		if address, pin, err = apiOfFolder(c); err != nil {
			return nil, err
		}
		if access.Pin = pin; pin == "" { // what the environment has is for other nodes
			access = client.Access{}
		}
	}
	api, err := client.Open(address, access)
	if err != nil {
		return nil, withCode(ExitUsage, err)
	}
	if own {
		showOperator(api, c.String("dir"))
	}
	ctx, cancel := context.WithTimeout(c.Context, c.Duration("timeout"))
	r := &remote{Client: api, c: c, ctx: ctx, cancel: cancel, url: address}
	if as := c.String("as"); as != "" {
		if err := r.askAs(as); err != nil {
			cancel()
			return nil, r.explain(err)
		}
	}
	return r, nil
}

// showOperator makes api a client of the operator of the node in a folder. Who may not read the secret, or before the node first ran, is a
// client like others.
func showOperator(api *client.Client, dir string) {
	if secret, err := os.ReadFile(filepath.Join(dir, node.OperatorKey)); err == nil {
		api.Operator(secret)
	}
}

// apiOfFolder returns the API's address by the configuration in -d, or the default where there is none, and with TLS the file of the
// certificate that the node shows.
func apiOfFolder(c *cli.Context) (address, pin string, err error) {
	dir := c.String("dir")
	if _, err := os.Stat(filepath.Join(dir, ConfigFile)); err != nil && !c.IsSet("dir") {
		return defaultAPI, "", nil
	}
	file, err := ReadConfig(dir)
	if err != nil {
		return "", "", err
	}
	if file.API.Listen == "" {
		return "", "", usage("the node in %s has no API: set api.listen in its %s, or name another node with --api", dir, ConfigFile)
	}
	host, port, err := net.SplitHostPort(file.API.Listen)
	if err != nil {
		return "", "", fmt.Errorf("%s: api.listen: %w", filepath.Join(dir, ConfigFile), err)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	if file.API.Cert != "" {
		return "https://" + net.JoinHostPort(host, port), within(dir, file.API.Cert), nil
	}
	return "http://" + net.JoinHostPort(host, port), "", nil
}

// talk runs a conversation and gives its error an exit code and a next step.
func talk(c *cli.Context, run func(r *remote) error) error {
	r, err := dial(c)
	if err != nil {
		return err
	}
	defer r.cancel()
	return r.explain(run(r))
}

// explain gives an error of the client an exit code, and where it can a next step.
func (r *remote) explain(err error) error {
	if _, done := errors.AsType[*exitError](err); err == nil || done {
		return err
	}
	problem, refused := errors.AsType[*client.Problem](err)
	network, unreachable := errors.AsType[*url.Error](err)
	switch {
	case r.c.Context.Err() != nil:
		return fmt.Errorf("interrupted: %w", err)
	case errors.Is(err, context.DeadlineExceeded):
		return withCode(ExitTimeout, fmt.Errorf("%s did not answer within %s: try again, give it more with --timeout, or ask another node with --api", r.url, r.c.Duration("timeout")))
	case refused:
		switch problem.Code {
		case client.CodeUnavailable:
			if problem.Status == http.StatusServiceUnavailable { // it has it, and cannot now
				return err
			}
			return withCode(ExitNotFound, err)
		case client.CodeNotFound:
			return withCode(ExitNotFound, err)
		case client.CodeRefused, client.CodeDenied, client.CodeSignature, client.CodeUnauthenticated, client.CodeForbidden, client.CodeMisdirected:
			return withCode(ExitDenied, err)
		case client.CodeExpired:
			return withCode(ExitTimeout, err)
		case client.CodeBadRequest, client.CodeTooLarge:
			return withCode(ExitUsage, err)
		}
		return err
	case unreachable && strings.HasPrefix(r.url, "https://"):
		return secured(r.url, network.Err)
	case unreachable:
		return fmt.Errorf("%s does not answer (%w): is the node running? Start it with `fondaco run -d DIR`, or name another with --api URL", r.url, network.Err)
	}
	return err
}

// secured says why no conversation over HTTPS came about, and what to do.
func secured(url string, err error) error {
	_, unknown := errors.AsType[x509.UnknownAuthorityError](err)
	_, misnamed := errors.AsType[x509.HostnameError](err)
	_, invalid := errors.AsType[x509.CertificateInvalidError](err)
	switch {
	case unknown:
		return withCode(ExitDenied, fmt.Errorf("no authority known here vouches for the certificate of %s: name the file of the one that does with --ca", url))
	case misnamed, invalid:
		return withCode(ExitDenied, fmt.Errorf("the certificate of %s does not hold: %w; its operator issues another one with `fondaco ca issue --host`", url, err))
	case strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return fmt.Errorf("%s has no TLS: write http:// if it is on this machine, or have it set under [api] of its %s", url, ConfigFile)
	}
	return fmt.Errorf("%s does not answer (%w): is the node running? Start it with `fondaco run -d DIR`, or name another with --api URL", url, err)
}

// digits returns the hexadecimal digits of an id as a person may type it: with 0x or without, in either case.
func digits(text string) string {
	text = strings.ToLower(text)
	return strings.TrimPrefix(text, "0x")
}

// parseDigest reads the id of a chain, a transaction, a block, a node or evidence.
func parseDigest(text string) (keys.Digest, error) { return keys.ParseDigest("0x" + digits(text)) }

// parseAddress reads an address; said tells whether the text is meant as one.
func parseAddress(text string) (address ledger.Address, said bool, err error) {
	address, err = ledger.ParseAddress("0x" + digits(text))
	return address, err == nil || strings.HasPrefix(strings.ToLower(text), "0x"), err
}

// account resolves an address, or the name of an account in the genesis, which must exist: a name that is
// misspelled is no account.
func (r *remote) account(text string) (ledger.Address, error) {
	if address, said, err := parseAddress(text); said {
		return address, withCode(ExitUsage, err)
	}
	suite, err := r.Suite(r.ctx)
	if err != nil {
		return ledger.Address{}, err
	}
	address := ledger.NamedAddress(suite, "account", text)
	_, err = r.Account(r.ctx, address)
	if problem, ok := errors.AsType[*client.Problem](err); ok && problem.Code == client.CodeNotFound {
		return address, withCode(ExitNotFound, fmt.Errorf("there is no account named %q in the chain's genesis: give its address, 0x and 40 hexadecimal digits", text))
	}
	return address, err
}

// accountOrContract resolves the name of an account in the genesis or, if there is none, of a contract; with @ in it, that of a contract.
func (r *remote) accountOrContract(text string) (ledger.Address, error) {
	if strings.Contains(text, "@") {
		return r.contract(text)
	}
	address, err := r.account(text)
	if err == nil {
		return address, nil
	}
	if contract, e := r.contract(text); e == nil {
		return contract, nil
	}
	return address, fmt.Errorf("%w, or the name of a contract; `fondaco name list` prints those", err)
}

// contract resolves the address of a contract, the name of a system contract, or a name that the chain knows.
func (r *remote) contract(text string) (ledger.Address, error) {
	address, _, err := r.lookUp(text, "", "")
	return address, err
}

// served resolves what contract does to the contract that serves a method for the account of --from, and to what a transaction names
// as its target. contract is for commands that change or show a contract: a canary is not in their way.
func (r *remote) served(text, method string) (ledger.Address, ledger.Target, error) {
	return r.lookUp(text, method, r.c.String("from"))
}

func (r *remote) lookUp(text, method, from string) (ledger.Address, ledger.Target, error) {
	for _, c := range precompiles.All() {
		if c.Name() == text {
			return c.Address(), ledger.Target{Address: c.Address()}, nil
		}
	}
	if name, _, _ := strings.Cut(text, "@"); precompiles.IsName(name) {
		found, to, err := r.resolve(text, method, from)
		return found.Address, to, err
	}
	address, _, err := parseAddress(text)
	if err != nil {
		return address, ledger.Target{}, usage("contract %q: want its address, 0x and 40 hexadecimal digits, its name, such as token or token@2, or that of a system contract: accounts, contracts, access, members, config, certificates, cns, governance, audit", text)
	}
	return address, ledger.Target{Address: address}, nil
}

// schema returns a contract's schema; nil if it was deployed without one.
func (r *remote) schema(address ledger.Address) (*ledger.Schema, error) {
	found, err := r.Contract(r.ctx, address)
	if err != nil {
		return nil, err
	}
	if len(found.Schema) == 0 || string(found.Schema) == "null" {
		return nil, nil
	}
	schema := new(ledger.Schema)
	if err := json.Unmarshal(found.Schema, schema); err != nil {
		return nil, fmt.Errorf("the schema of contract %s: %w", address, err)
	}
	return schema, nil
}

// encode turns the words of a command line into a method's arguments. The name of an account, or of a contract, stands for its address.
func (r *remote) encode(schema *ledger.Schema, method string, words []string) ([]byte, error) {
	if text := r.c.String("args-cbor"); text != "" {
		var raw client.Bytes
		if len(words) > 0 {
			return nil, usage("give the arguments as words or with --args-cbor, not both")
		}
		if err := raw.UnmarshalText([]byte(text)); err != nil {
			return nil, usage("--args-cbor: %w", err)
		}
		return raw, nil
	}
	if schema == nil {
		return nil, usage("the contract has no schema to read arguments by: give them with --args-cbor 0x…")
	}
	m := schema.Method(method)
	if m == nil {
		return nil, withCode(ExitNotFound, fmt.Errorf("contract %s has no method %q; it has:%s", schema.Name, method, methodList(schema)))
	}
	words = append([]string{}, words...)
	for i, word := range words {
		if i < len(m.Args) && m.Args[i].Type == "addr" && !strings.HasPrefix(word, "0x") {
			resolve := r.accountOrContract
			if m.Args[i].Name == "contract" {
				resolve = r.contract
			}
			address, err := resolve(word)
			if err != nil {
				return nil, fmt.Errorf("argument %s: %w", m.Args[i].Name, err)
			}
			words[i] = address.String()
		}
	}
	args, err := schema.EncodeText(method, words)
	if err != nil {
		return nil, usage("%w; want: %s", err, m.Signature())
	}
	return args, nil
}

func methodList(schema *ledger.Schema) string {
	var text strings.Builder
	for i := range schema.Methods {
		text.WriteString("\n  " + schema.Methods[i].Signature())
	}
	return text.String()
}

// signers opens the key files of --key and takes the keys of the signers of --signer.
func (r *remote) signers(suite keys.Suite) ([]keys.Signer, error) {
	var signers []keys.Signer
	take := func(flag string, open func(path string) (keys.Signer, error)) error {
		for _, path := range r.c.StringSlice(flag) {
			if path == "" {
				continue
			}
			key, err := open(path)
			if err != nil {
				return err
			}
			signers = append(signers, key)
		}
		return nil
	}
	if err := take("key", func(path string) (keys.Signer, error) { return openKey(r.c, path, suite) }); err != nil {
		return nil, err
	}
	if err := take("signer", func(path string) (keys.Signer, error) { return dialSigner(path, suite) }); err != nil {
		return nil, err
	}
	if len(signers) == 0 {
		return nil, usage("no key to sign with: give --key FILE or set FONDACO_KEY, or --signer SOCKET or FONDACO_SIGNER; `fondaco keys new FILE` makes a key")
	}
	return signers, nil
}

// transact is transactTo for a system contract, with its arguments as Go has them. tell may be nil.
func (r *remote) transact(to ledger.Address, method string, args any, tell func(tx *client.Transaction, w io.Writer)) error {
	encoded, err := ledger.Marshal(args)
	if err != nil {
		return err
	}
	return r.transactTo(ledger.Target{Address: to}, method, encoded, tell)
}

// ask calls a view of a system contract. doing says what for, in an error.
func ask[T any](r *remote, to ledger.Address, doing, method string, args any) (value T, err error) {
	encoded, err := ledger.Marshal(args)
	if err != nil {
		return value, err
	}
	result, err := r.Call(r.ctx, to, client.Call{Method: method, Args: encoded})
	if err != nil {
		return value, err
	}
	if err := outcomeError(doing, result.Status, result.Code, result.Error, result.Decoded, ""); err != nil {
		return value, err
	}
	if err := ledger.Unmarshal(result.Data, &value); err != nil {
		return value, fmt.Errorf("the answer of %s to %s: %w", r.url, method, err)
	}
	return value, nil
}

// askAll calls a view that answers in pages, until one is empty. next returns the arguments for what comes after an entry, and order
// is that of the entries: a node that breaks it would be asked for ever. What is listed is named by things, in an error.
func askAll[T any](r *remote, to ledger.Address, things, method string, args any, next func(last T) any, order func(a, b T) int) (all []T, err error) {
	for {
		page, err := ask[[]T](r, to, "reading the "+things, method, args)
		if err != nil || len(page) == 0 {
			return all, err
		}
		for _, entry := range page {
			if len(all) > 0 && order(all[len(all)-1], entry) >= 0 {
				return nil, fmt.Errorf("%s lists %s out of order: ask another node with --api", r.url, things)
			}
			all = append(all, entry)
		}
		args = next(page[len(page)-1])
	}
}

// transactTo signs a call by the account and keys of the flags, sends it, waits for its receipt and shows it with
// what tell adds for people. A receipt that is not ok is an error.
func (r *remote) transactTo(to ledger.Target, method string, args []byte, tell func(tx *client.Transaction, w io.Writer)) error {
	c := r.c
	from := c.String("from")
	if from == "" {
		return usage("no account to send from: give --from ADDRESS or set FONDACO_FROM")
	}
	suite, err := r.Suite(r.ctx)
	if err != nil {
		return err
	}
	signers, err := r.signers(suite)
	if err != nil {
		return err
	}
	sender, err := r.account(from)
	if err != nil {
		return err
	}
	tx, err := r.Transaction(r.ctx, sender, to, method, args)
	if err != nil {
		return err
	}
	if gas := c.Uint64("gas"); gas > 0 {
		tx.GasLimit = ledger.Gas(gas)
	}
	if c.Duration("expiry") <= 0 {
		return usage("--expiry %s: want a time above zero, such as 1m", c.Duration("expiry"))
	}
	tx.Expiry = time.Now().Add(c.Duration("expiry")).UnixMilli()
	signed, err := tx.Sign(suite, signers...)
	if err != nil {
		return err
	}
	if file := c.String("sign-only"); file != "" {
		if err := os.WriteFile(file, signed.Raw, 0o600); err != nil {
			return err
		}
		note(c, "Nothing is sent. Send it with `fondaco tx send %s` before %s.", file, timeText(signed.Expiry))
		return show(c, map[string]any{"id": signed.ID, "file": file, "expiry": signed.Expiry}, func(w io.Writer) {
			row(w, "transaction", signed.ID)
			row(w, "file", file)
			row(w, "expires", timeText(signed.Expiry))
		})
	}
	return r.deliver(signed, tell)
}

// deliver sends a signed transaction and, unless --wait=false, waits until it is in a block.
func (r *remote) deliver(tx *ledger.SignedTx, tell func(tx *client.Transaction, w io.Writer)) error {
	if err := r.Send(r.ctx, tx); err != nil {
		if _, refused := errors.AsType[*client.Problem](err); refused {
			return err
		}
		return r.unknown(tx.ID, err)
	}
	if !r.c.Bool("wait") {
		return show(r.c, &client.Submitted{ID: tx.ID, Progress: client.Pending}, func(w io.Writer) {
			row(w, "transaction", tx.ID)
			row(w, "progress", client.Pending)
			row(w, "next", "fondaco tx wait "+tx.ID.String())
		})
	}
	return r.await(tx.ID, tell)
}

// await waits until a transaction is in a block and shows it. One that had no effect is an error.
func (r *remote) await(id ledger.TxID, tell func(tx *client.Transaction, w io.Writer)) error {
	found, err := r.Wait(r.ctx, id)
	switch {
	case errors.Is(err, client.ErrExpired):
		return withCode(ExitTimeout, fmt.Errorf("transaction %s expired before a block took it: it has no effect, send a new one", id))
	case err != nil:
		return r.unknown(id, err)
	}
	if err := r.showTransaction(found, tell); err != nil {
		return err
	}
	receipt := found.Receipt
	if receipt.Status == ledger.OK.String() {
		return nil
	}
	return outcomeError(fmt.Sprintf("transaction %s", id), receipt.Status, receipt.Code, receipt.Error, receipt.Decoded, r.reason(found))
}

// reason returns in words why a rule of the chain refused a transaction, as the node tells it, which executes the block
// again for that. What a contract refuses has words of its own in the receipt.
func (r *remote) reason(tx *client.Transaction) string {
	if !precompiles.IsSystem(tx.To) && tx.Receipt.Status != ledger.Denied.String() {
		return ""
	}
	if trace, err := r.Trace(r.ctx, tx.ID); err == nil && trace.Reason != "" {
		return trace.Reason
	}
	if schema, err := r.schema(tx.To); err == nil && schema != nil { // the state below the block may be gone
		for _, e := range schema.Errors {
			if e.Code == tx.Receipt.Code {
				return e.Doc
			}
		}
	}
	return ""
}

// unknown says that nothing is known of a transaction that may have reached the node, because the time is over or
// err came between.
func (r *remote) unknown(id ledger.TxID, err error) error {
	what := fmt.Sprintf("nothing is known of transaction %s: it may still be in a block until it expires; ask again with `fondaco tx wait %s`", id, id)
	switch {
	case r.c.Context.Err() != nil:
		return fmt.Errorf("interrupted: %s", what)
	case r.ctx.Err() != nil:
		return withCode(ExitTimeout, fmt.Errorf("after %s %s", r.c.Duration("timeout"), what))
	}
	return fmt.Errorf("%s (%w)", what, r.explain(err))
}

// showTransaction shows a transaction that is in a block.
func (r *remote) showTransaction(tx *client.Transaction, tell func(tx *client.Transaction, w io.Writer)) error {
	return show(r.c, tx, func(w io.Writer) {
		row(w, "transaction", tx.ID)
		row(w, "block", fmt.Sprintf("%d, transaction %d, %s", tx.Height, tx.Index, timeText(tx.Time)))
		row(w, "sender", tx.Sender)
		if tx.Name != "" {
			row(w, "name", fmt.Sprintf("%s, version %s", tx.Name, cmp.Or(tx.Receipt.Version, "unknown")))
			row(w, "contract", tx.Receipt.Served)
		} else {
			row(w, "contract", tx.To)
		}
		row(w, "method", tx.Method+" "+shorten(argsText(tx.Decoded, tx.Args)))
		row(w, "status", outcomeText(tx.Receipt.Status, tx.Receipt.Code, tx.Receipt.Error))
		if data := tx.Receipt.Decoded; data != nil && string(data) != "null" {
			row(w, "result", compact(data))
		} else if len(tx.Receipt.Data) > 0 {
			row(w, "result", hexText(tx.Receipt.Data))
		}
		for _, f := range tx.Receipt.Failures {
			because := fmt.Sprintf("%s.%s: %s", f.Contract, f.Method, outcomeText(f.Status, f.Code, f.Error))
			if len(f.Data) > 0 {
				because += " " + argsText(f.Decoded, f.Data)
			}
			row(w, "because", because)
		}
		row(w, "gas", tx.Receipt.Gas)
		linksTable(w, tx)
		for _, e := range tx.Receipt.Events {
			row(w, "event", e.Topic+" "+shorten(argsText(e.Decoded, e.Data)))
		}
		if tell != nil && tx.Receipt.Status == ledger.OK.String() {
			tell(tx, w)
		}
	})
}

func argsText(decoded json.RawMessage, raw client.Bytes) string {
	if decoded != nil {
		return compact(decoded)
	}
	return hexText(raw)
}

// shorten keeps a line of a table readable: a deployed module has megabytes.
func shorten(text string) string {
	const most = 200
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + fmt.Sprintf("… (%d characters, -o json has all)", len(text))
}

func hexText(raw client.Bytes) string {
	text, err := raw.MarshalText()
	if err != nil {
		return ""
	}
	return string(text)
}

// outcomeText says how a call ended.
func outcomeText(status string, code uint32, name string) string {
	switch {
	case status == ledger.OK.String():
		return status
	case name != "":
		return fmt.Sprintf("%s: %s (code %d)", status, name, code)
	case code != 0:
		return fmt.Sprintf("%s (code %d)", status, code)
	}
	return status
}

// outcomeError returns nil for a call that did what it should, and otherwise why it had no effect: reason, or if there is
// none the fields of the error.
func outcomeError(what, status string, code uint32, name string, fields json.RawMessage, reason string) error {
	if status == ledger.OK.String() {
		return nil
	}
	text := outcomeText(status, code, name)
	if reason != "" {
		text += ": " + reason
	} else if empty := string(fields); empty != "" && empty != "null" && empty != "{}" {
		text += " " + string(fields)
	}
	err := fmt.Errorf("%s had no effect: %s", what, text)
	switch status {
	case ledger.Denied.String():
		return withCode(ExitDenied, fmt.Errorf("%w; `fondaco account show` prints what an account may do", err))
	case ledger.NotFound.String():
		return withCode(ExitNotFound, fmt.Errorf("%w; `fondaco contract inspect` lists a contract's methods", err))
	case ledger.OutOfGas.String():
		return fmt.Errorf("%w; send it again with a higher --gas", err)
	}
	return err
}
