package contract

import (
	"fmt"
	"go/format"
	"go/token"
	"strings"

	"github.com/fondaco/fondaco/state/ledger"
)

// goClient returns the source of a client in Go.
func goClient(s *ledger.Schema, pkg string) (string, error) {
	if pkg == "" {
		pkg = strings.ToLower(s.Name)
	}
	if !token.IsIdentifier(pkg) {
		return "", fmt.Errorf("%q is no name of a package in Go: give another with --package", pkg)
	}
	g := &goClientWriter{s: s, names: map[string]string{}, taken: map[string]bool{}}
	for _, name := range []string{"Client", "New", "NewNamed", "Failure", "DecodeEvent"} {
		g.taken[name] = true
	}
	for i := range s.Types {
		g.claim("type", s.Types[i].Name, "Value")
		if d := &s.Types[i]; len(d.Variants) > 0 {
			for _, v := range d.Variants {
				g.claim("variant "+d.Name, v.Name, "Variant")
			}
		}
	}
	for _, e := range s.Events {
		g.claim("event", e.Topic, "Event")
	}
	for _, e := range s.Errors {
		g.claim("error", e.Name, "Error")
	}
	g.all()
	head := fmt.Sprintf(goClientHead, s.Name, pkg, strings.TrimSpace(s.Name+" "+s.Version), pkg)
	imports := []string{"context"}
	for _, i := range []string{"encoding/hex", "errors", "fmt", "iter", "math/big"} {
		name := i[strings.LastIndexByte(i, '/')+1:]
		if strings.Contains(g.text.String()+goClientRuntime, name+".") {
			imports = append(imports, i)
		}
	}
	source := head + "import (\n\t\"" + strings.Join(imports, "\"\n\t\"") + "\"\n" + `
	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)
` + goClientRuntime + g.text.String()
	formatted, err := format.Source([]byte(source))
	if err != nil {
		return "", fmt.Errorf("the generated source does not parse: %w", err)
	}
	return string(formatted), nil
}

type goClientWriter struct {
	s     *ledger.Schema
	names map[string]string // kind and name in the schema → name in Go
	taken map[string]bool
	text  strings.Builder
}

// claim gives something of the schema a name in Go of its own.
func (g *goClientWriter) claim(kind, name, suffix string) {
	want := goName(name)
	if of, ok := strings.CutPrefix(kind, "variant "); ok {
		want = g.names["type "+of] + want
	}
	for g.taken[want] {
		want += suffix
	}
	g.taken[want] = true
	g.names[kind+" "+name] = want
}

func (g *goClientWriter) line(f string, args ...any) { fmt.Fprintf(&g.text, f+"\n", args...) }

// goName turns tx_id into TxID.
func goName(name string) string {
	parts := strings.Split(name, "_")
	for i, part := range parts {
		if part == "id" || part == "Id" {
			parts[i] = "ID"
		}
	}
	return camel(strings.Join(parts, "_"), true)
}

// goType returns the Go type for a type of the schema.
func (g *goClientWriter) goType(t ledger.Type) string {
	head, args := splitType(t)
	switch head {
	case "u8", "u16", "u32", "u64":
		return "uint" + head[1:]
	case "i8", "i16", "i32", "i64":
		return "int" + head[1:]
	case "u128":
		return "*big.Int"
	case "bool":
		return "bool"
	case "str":
		return "string"
	case "bytes":
		return "client.Bytes"
	case "addr":
		return "ledger.Address"
	case "list":
		if args[0] == "u8" { // []uint8 would be a byte string
			return "ledger.RawMessage"
		}
		return "[]" + g.goType(args[0])
	case "map":
		switch args[0] {
		case "u128", "bytes": // no keys of a map in Go
			return "ledger.RawMessage"
		}
		return "map[" + g.goType(args[0]) + "]" + g.goType(args[1])
	case "opt":
		if args[0] == "u128" { // a pointer already: nil is null
			return "*big.Int"
		}
		return "*" + g.goType(args[0])
	}
	return g.names["type "+head]
}

// docs writes a comment.
func (g *goClientWriter) docs(text string) {
	g.line("// %s", text)
}

// fields writes the fields of a struct, an event or an error, which CBOR has as an array.
func (g *goClientWriter) fields(fields []ledger.Field) {
	if len(fields) > 0 {
		g.line("\t_ struct{} `cbor:\",toarray\"`")
	}
	seen := map[string]bool{}
	for _, f := range fields {
		name := goName(f.Name)
		for seen[name] || name == "Error" {
			name += "Field"
		}
		seen[name] = true
		g.line("\t%s %s // %s", name, g.goType(f.Type), f.Type)
	}
}

func (g *goClientWriter) all() {
	for i := range g.s.Methods {
		g.method(&g.s.Methods[i])
	}
	for i := range g.s.Types {
		g.typeDef(&g.s.Types[i])
	}
	for _, e := range g.s.Events {
		name := g.names["event "+e.Topic]
		g.docs(sentence(name, e.Doc, "an event of the contract"))
		g.line("type %s struct {", name)
		g.fields(e.Fields)
		g.line("}\n")
	}
	g.docs("DecodeEvent returns an event of the contract as its own type, such as the pointer to one of those above.")
	g.line("func DecodeEvent(topic string, data []byte) (any, error) {")
	g.line("switch topic {")
	for _, e := range g.s.Events {
		g.line("case %q:", e.Topic)
		g.line("return decodeFields(data, new(%s), %d)", g.names["event "+e.Topic], len(e.Fields))
	}
	g.line("}\nreturn nil, fmt.Errorf(\"the contract has no event %%q: generate the client again\", topic)\n}\n")
	for _, e := range g.s.Errors {
		name := g.names["error "+e.Name]
		g.docs(sentence(name, e.Doc, fmt.Sprintf("the contract's refusal with abort code %d", e.Code)))
		g.line("type %s struct {", name)
		g.fields(e.Fields)
		g.line("}\n")
		g.docs("Error returns the refusal's name and fields.")
		g.line("func (e *%s) Error() string { type plain %s; return fmt.Sprintf(\"%s: %s%%+v\", (*plain)(e)) }\n", name, name, g.s.Name, e.Name)
	}
	g.docs("refusal returns the typed error of an abort code, or nil.")
	g.line("func refusal(code uint32, data []byte) error {")
	if len(g.s.Errors) > 0 {
		g.line("switch code {")
		for _, e := range g.s.Errors {
			g.line("case %d:", e.Code)
			g.line("if e, err := decodeFields(data, new(%s), %d); err == nil {\nreturn e\n}", g.names["error "+e.Name], len(e.Fields))
		}
		g.line("}")
	}
	g.line("return nil\n}")
}

func (g *goClientWriter) method(m *ledger.Method) {
	if m.Kind != ledger.MethodTx && m.Kind != ledger.MethodView {
		return // the chain calls the others
	}
	name := goName(m.Name)
	params, args := "ctx context.Context", "[]any{"
	seen := map[string]bool{"ctx": true, "c": true, "out": true, "tx": true, "err": true}
	for i, a := range m.Args {
		arg := camel(a.Name, false)
		for seen[arg] || !token.IsIdentifier(arg) || g.isPackage(arg) {
			arg += "_"
		}
		seen[arg] = true
		params += ", " + arg + " " + g.goType(a.Type)
		if i > 0 {
			args += ", "
		}
		args += arg
	}
	args += "}"
	for _, taken := range []string{"As", "At", "Events", "Follow"} {
		if name == taken {
			name += "Method"
		}
	}
	if m.Kind == ledger.MethodView {
		g.docs(sentence(name, m.Doc, "the view "+m.Name))
		if m.Return == "" {
			g.line("func (c *Client) %s(%s) error { return c.view(ctx, %q, %s, nil) }\n", name, params, m.Name, args)
			return
		}
		g.line("func (c *Client) %s(%s) (out %s, err error) {\nerr = c.view(ctx, %q, %s, &out)\nreturn out, err\n}\n", name, params, g.goType(m.Return), m.Name, args)
		return
	}
	g.docs(sentence(name, m.Doc, "a transaction that calls "+m.Name) + " It waits until the transaction is in a block.")
	if m.Return == "" {
		g.line("func (c *Client) %s(%s) (*client.Transaction, error) {\nreturn c.send(ctx, %q, %s, nil)\n}\n", name, params, m.Name, args)
		return
	}
	g.line("func (c *Client) %s(%s) (out %s, tx *client.Transaction, err error) {\ntx, err = c.send(ctx, %q, %s, &out)\nreturn out, tx, err\n}\n", name, params, g.goType(m.Return), m.Name, args)
}

// isPackage reports whether a name hides a package that the source imports.
func (g *goClientWriter) isPackage(name string) bool {
	switch name {
	case "context", "hex", "errors", "fmt", "iter", "big", "client", "keys", "ledger":
		return true
	}
	return false
}

func (g *goClientWriter) typeDef(d *ledger.TypeDef) {
	name := g.names["type "+d.Name]
	switch {
	case len(d.Variants) == 0:
		g.docs(sentence(name, "", "a struct of the contract"))
		g.line("type %s struct {", name)
		if len(d.Fields) == 0 {
			g.line("\t_ struct{} `cbor:\",toarray\"`")
		}
		g.fields(d.Fields)
		g.line("}\n")
	case plainEnum(d):
		g.docs(sentence(name, "", "one of its constants"))
		g.line("type %s uint64\n", name)
		g.variants(d, name)
		g.docs("String returns the variant's name in the contract.")
		g.line("func (v %s) String() string {\nswitch v {", name)
		for _, v := range d.Variants {
			g.line("case %s:\nreturn %q", g.names["variant "+d.Name+" "+v.Name], v.Name)
		}
		g.line("}\nreturn fmt.Sprintf(\"%s(%%d)\", uint64(v))\n}\n", name)
	default:
		g.enum(d, name)
	}
}

func (g *goClientWriter) variants(d *ledger.TypeDef, typ string) {
	g.line("// The variants of %s.\nconst (", typ)
	for i, v := range d.Variants {
		if plainEnum(d) {
			g.line("%s %s = %d", g.names["variant "+d.Name+" "+v.Name], typ, i)
		} else {
			g.line("%s = %d", g.names["variant "+d.Name+" "+v.Name], i)
		}
	}
	g.line(")\n")
}

// enum writes an enum of which variants have fields.
func (g *goClientWriter) enum(d *ledger.TypeDef, name string) {
	g.docs(sentence(name, "", "a variant's number, one of the constants, and the fields of that variant"))
	g.line("type %s struct {\nVariant uint64", name)
	for _, v := range d.Variants {
		if len(v.Fields) > 0 {
			g.line("%s *%sFields // nil but for this variant", camel(v.Name, true)+"Fields", g.names["variant "+d.Name+" "+v.Name])
		}
	}
	g.line("}\n")
	g.variants(d, name)
	for i, v := range d.Variants {
		if len(v.Fields) == 0 {
			continue
		}
		fields := append([]ledger.Field{}, v.Fields...)
		g.docs(fmt.Sprintf("%sFields: the fields of the variant %s.", g.names["variant "+d.Name+" "+v.Name], v.Name))
		g.line("type %sFields struct {\n_ struct{} `cbor:\",toarray\"`\nNumber uint64 // of the variant: %d; set when it is encoded", g.names["variant "+d.Name+" "+v.Name], i)
		seen := map[string]bool{"Number": true}
		for _, f := range fields {
			field := goName(f.Name)
			for seen[field] {
				field += "Field"
			}
			seen[field] = true
			g.line("\t%s %s // %s", field, g.goType(f.Type), f.Type)
		}
		g.line("}\n")
	}
	g.docs("MarshalCBOR returns the value as the contract reads it.")
	g.line("func (v %s) MarshalCBOR() ([]byte, error) {\nswitch {", name)
	for _, x := range d.Variants {
		if len(x.Fields) > 0 {
			field, number := camel(x.Name, true)+"Fields", g.names["variant "+d.Name+" "+x.Name]
			g.line("case v.Variant == %s && v.%s == nil:\nreturn nil, errors.New(%q)", number, field, name+": the variant "+x.Name+" has no fields set")
			g.line("case v.Variant == %s:\nf := *v.%s\nf.Number = v.Variant\nreturn ledger.Marshal(&f)", number, field)
		}
	}
	g.line("}\nreturn ledger.Marshal(v.Variant)\n}\n")
	g.docs("UnmarshalCBOR reads a value that the contract wrote.")
	g.line("func (v *%s) UnmarshalCBOR(data []byte) error {\n*v = %s{}\nif len(data) == 0 || data[0]>>5 != 4 {\nreturn ledger.Unmarshal(data, &v.Variant)\n}", name, name)
	g.line("var parts []ledger.RawMessage\nif err := ledger.Unmarshal(data, &parts); err != nil {\nreturn err\n}\nif len(parts) == 0 {\nreturn errors.New(%q)\n}", name+": an empty array")
	g.line("if err := ledger.Unmarshal(parts[0], &v.Variant); err != nil {\nreturn err\n}\nswitch v.Variant {")
	for _, x := range d.Variants {
		if len(x.Fields) > 0 {
			field, number := camel(x.Name, true)+"Fields", g.names["variant "+d.Name+" "+x.Name]
			g.line("case %s:\nv.%s = new(%sFields)\nreturn ledger.Unmarshal(data, v.%s)", number, field, number, field)
		}
	}
	g.line("}\nreturn fmt.Errorf(\"%s: no variant %%d with fields: generate the client again\", v.Variant)\n}\n", name)
}

const goClientHead = `// Code generated by "fondaco contract client" from the schema of the contract %s. DO NOT EDIT.

// Package %s is a typed client of the contract %s.
package %s

`

const goClientRuntime = `
// Client calls one contract at a node, or those that serve a name. It is safe for concurrent use if its signers are.
type Client struct {
	API      *client.Client
	Contract ledger.Target
	Sender   ledger.Address // in whose name methods are called; zero: views in nobody's name, no transactions
	Signers  []keys.Signer  // of the sender
	Gas      ledger.Gas     // limit of each transaction; 0: client.DefaultGas
}

// New returns a client of the contract at an address, which calls views in nobody's name. See As.
func New(api *client.Client, contract ledger.Address) *Client {
	return &Client{API: api, Contract: ledger.Target{Address: contract}}
}

// NewNamed is New for the contract that serves a name, whichever the chain sends a caller to, or for a version of the name.
func NewNamed(api *client.Client, name, version string) *Client {
	return &Client{API: api, Contract: ledger.Target{Name: name, Version: version}}
}

// As returns a client that calls in the name of an account.
func (c *Client) As(sender ledger.Address, signers ...keys.Signer) *Client {
	as := *c
	as.Sender, as.Signers = sender, signers
	return &as
}

// Failure says that a call had no effect, for a reason that is none of the contract's own errors.
type Failure struct {
	Method, Status string
	Code           uint32
	Reason         string // name of the code, if the node knows it
	Data           []byte // that the contract aborted with, canonical CBOR
	Trace          string // the node's own words, if it has any
}

// Error returns the method and how the call ended.
func (f *Failure) Error() string {
	text := fmt.Sprintf("%s: %s, code %d", f.Method, f.Status, f.Code)
	if f.Reason != "" {
		text += " " + f.Reason
	}
	if len(f.Data) > 0 {
		text += " 0x" + hex.EncodeToString(f.Data)
	}
	return text
}

func (c *Client) view(ctx context.Context, method string, args []any, out any) error {
	encoded, err := ledger.Marshal(args)
	if err != nil {
		return fmt.Errorf("%s: encode the arguments: %w", method, err)
	}
	call := client.Call{Method: method, Args: encoded}
	if !c.Sender.IsZero() {
		call.From = &c.Sender
	}
	result, err := c.API.CallTo(ctx, c.Contract, call)
	if err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	return outcome(method, result.Status, result.Code, result.Error, result.Data, result.Trace, out)
}

func (c *Client) send(ctx context.Context, method string, args []any, out any) (*client.Transaction, error) {
	if c.Sender.IsZero() || len(c.Signers) == 0 {
		return nil, errors.New(method + ": a transaction needs a sender and its signers: use Client.As")
	}
	encoded, err := ledger.Marshal(args)
	if err != nil {
		return nil, fmt.Errorf("%s: encode the arguments: %w", method, err)
	}
	tx, err := c.API.Transaction(ctx, c.Sender, c.Contract, method, encoded)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", method, err)
	}
	if c.Gas > 0 {
		tx.GasLimit = c.Gas
	}
	suite, err := c.API.Suite(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", method, err)
	}
	signed, err := tx.Sign(suite, c.Signers...)
	if err != nil {
		return nil, fmt.Errorf("%s: sign: %w", method, err)
	}
	if err := c.API.Send(ctx, signed); err != nil {
		return nil, fmt.Errorf("%s: %w", method, err)
	}
	done, err := c.API.Wait(ctx, signed.ID)
	if err != nil {
		return nil, fmt.Errorf("%s: transaction %s: %w", method, signed.ID, err)
	}
	r := done.Receipt
	if r == nil {
		return done, fmt.Errorf("%s: transaction %s: the node gives no receipt", method, signed.ID)
	}
	return done, outcome(method, r.Status, r.Code, r.Error, r.Data, "", out)
}

// outcome reads a result into out, or returns the error that a call ended with.
func outcome(method, status string, code uint32, reason string, data []byte, trace string, out any) error {
	switch {
	case status != ledger.OK.String():
		if status == ledger.Aborted.String() {
			if err := refusal(code, data); err != nil {
				return err
			}
		}
		return &Failure{method, status, code, reason, data, trace}
	case out == nil:
		return nil
	}
	if err := ledger.Unmarshal(data, out); err != nil {
		return fmt.Errorf("%s: the result is none of this schema: generate the client again: %w", method, err)
	}
	return nil
}

// decodeFields reads the array of an event's or error's fields.
func decodeFields[T any](data []byte, into *T, fields int) (*T, error) {
	if fields == 0 {
		return into, nil
	}
	return into, ledger.Unmarshal(data, into)
}

// Events returns the contract's events of a transaction, each as DecodeEvent does.
func (c *Client) Events(tx *client.Transaction) (events []any, err error) {
	if tx.Receipt == nil {
		return nil, nil
	}
	for _, e := range tx.Receipt.Events {
		if e.Contract != c.Contract.Address && (c.Contract.Name == "" || e.Contract != tx.Receipt.Served) {
			continue
		}
		event, err := DecodeEvent(e.Topic, e.Data)
		if err != nil {
			return nil, err
		}
		events = append(events, event)
	}
	return events, nil
}

// Follow returns the contract's events from a block on as they come, each as DecodeEvent does. It ends with an error,
// at the latest that of ctx.
func (c *Client) Follow(ctx context.Context, from ledger.Height) iter.Seq2[any, error] {
	return func(yield func(any, error) bool) {
		for e, err := range c.API.FollowEventsOf(ctx, from, c.Contract, "") {
			var event any
			if err == nil {
				event, err = DecodeEvent(e.Topic, e.Data)
			}
			if !yield(event, err) {
				return
			}
		}
	}
}

`
