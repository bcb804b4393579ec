package contract

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/fondaco/fondaco/state/ledger"
)

// ErrClient says that no client can be generated as asked.
var ErrClient = errors.New("contract client")

// GenerateClient returns the files of a typed client of the contract that a schema describes, by path. out is the file
// to write, whose ending has to fit lang:
//
//   - "go": one file of package pkg (the contract's name if empty), over node/client
//   - "ts": a module of JavaScript, FILE.mjs, and its types for TypeScript, FILE.d.mts; it needs fetch and Web Crypto, which
//     Node.js 20 and browsers have, and no package
//
// The same schema gives the same files.
func GenerateClient(schema *ledger.Schema, lang, pkg, out string) (map[string]string, error) {
	if schema == nil {
		return nil, fmt.Errorf("%w: the contract has no schema, which says what methods take and return", ErrClient)
	}
	if err := schema.Validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrClient, err)
	}
	switch lang {
	case "go":
		if filepath.Ext(out) != ".go" {
			return nil, fmt.Errorf("%w in Go: %s does not end with .go", ErrClient, out)
		}
		source, err := goClient(schema, pkg)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrClient, err)
		}
		return map[string]string{out: source}, nil
	case "ts":
		base, ok := strings.CutSuffix(out, ".mjs")
		if !ok {
			return nil, fmt.Errorf("%w in TypeScript: %s does not end with .mjs: the client is a module of JavaScript, with its types in a file .d.mts next to it", ErrClient, out)
		}
		code, types := jsClient(schema)
		return map[string]string{out: code, base + ".d.mts": types}, nil
	}
	return nil, fmt.Errorf("%w: language %q: want go or ts", ErrClient, lang)
}

// camel turns balance_of into balanceOf, or BalanceOf.
func camel(name string, capital bool) string {
	var b strings.Builder
	for i, part := range strings.Split(name, "_") {
		if part == "" {
			continue
		}
		if i > 0 || capital {
			part = strings.ToUpper(part[:1]) + part[1:]
		} else {
			part = strings.ToLower(part[:1]) + part[1:]
		}
		b.WriteString(part)
	}
	return b.String()
}

// splitType cuts list<T> into list and T, map<K,V> into map, K and V; a plain name has no arguments.
func splitType(t ledger.Type) (head string, args []ledger.Type) {
	head, inner, generic := strings.Cut(string(t), "<")
	if !generic {
		return head, nil
	}
	inner = strings.TrimSuffix(inner, ">")
	depth, start := 0, 0
	for i := range len(inner) {
		switch inner[i] {
		case '<':
			depth++
		case '>':
			depth--
		case ',':
			if depth == 0 {
				args = append(args, ledger.Type(inner[start:i]))
				start = i + 1
			}
		}
	}
	return head, append(args, ledger.Type(inner[start:]))
}

// plainEnum reports whether none of an enum's variants has fields.
func plainEnum(d *ledger.TypeDef) bool {
	for _, v := range d.Variants {
		if len(v.Fields) > 0 {
			return false
		}
	}
	return len(d.Variants) > 0
}

// sentence returns a documentation text that begins with a name and ends with a full stop.
func sentence(name, doc, otherwise string) string {
	doc = strings.Join(strings.Fields(doc), " ")
	if doc == "" {
		doc = otherwise
	}
	if !strings.HasPrefix(doc, name+" ") {
		doc = name + ": " + doc
	}
	return strings.TrimSuffix(doc, ".") + "."
}
