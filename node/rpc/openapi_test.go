package rpc_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/node/rpc"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// document is openapi.json, with the part of JSON Schema 2020-12 that it uses.
type document struct {
	root map[string]any
	used map[string]bool // schemas and responses that a check came by
}

func readDocument(t testing.TB) *document {
	t.Helper()
	d := &document{used: map[string]bool{}}
	if err := json.Unmarshal(rpc.OpenAPI(), &d.root); err != nil {
		t.Fatalf("openapi.json: %v", err)
	}
	return d
}

// at follows a path of names, and references on the way.
func (d *document) at(from any, names ...string) any {
	from = d.resolve(from)
	for _, name := range names {
		object, ok := from.(map[string]any)
		if !ok {
			return nil
		}
		from = d.resolve(object[name])
	}
	return from
}

func (d *document) resolve(v any) any {
	object, ok := v.(map[string]any)
	if !ok {
		return v
	}
	ref, ok := object["$ref"].(string)
	if !ok {
		return v
	}
	d.used[ref] = true
	found := d.at(d.root, strings.Split(strings.TrimPrefix(ref, "#/"), "/")...)
	if found == nil {
		panic("openapi.json: nothing at " + ref)
	}
	return found
}

// known are the keywords that check understands, or that say nothing about validity.
var known = []string{
	"$ref", "type", "properties", "required", "items", "enum", "const", "oneOf", "pattern", "minimum", "maximum", "minLength",
	"description", "default", "x-event-data",
}

// check returns what is wrong with a value. A property that the schema does not name is wrong too: the document
// is to be complete.
func (d *document) check(where string, schema, value any) []string {
	rules, ok := schema.(map[string]any)
	if !ok {
		return []string{where + ": no schema"}
	}
	var wrong []string
	fault := func(format string, args ...any) { wrong = append(wrong, where+": "+fmt.Sprintf(format, args...)) }
	for keyword := range rules {
		if !slices.Contains(known, keyword) {
			fault("the schema has the keyword %q", keyword)
		}
	}
	if rules["$ref"] != nil {
		return append(wrong, d.check(where, d.resolve(rules), value)...)
	}
	if kind := rules["type"]; kind != nil {
		kinds, several := kind.([]any)
		if !several {
			kinds = []any{kind}
		}
		if !slices.ContainsFunc(kinds, func(k any) bool { return is(k.(string), value) }) {
			fault("%v is not of type %v", value, kinds)
			return wrong
		}
	}
	if one, ok := rules["oneOf"].([]any); ok {
		fits := 0
		var why []string
		for _, option := range one {
			if faults := d.check(where, option, value); len(faults) == 0 {
				fits++
			} else {
				why = append(why, faults...)
			}
		}
		if fits != 1 {
			fault("fits %d of the %d forms: %v", fits, len(one), why)
		}
	}
	if enum, ok := rules["enum"].([]any); ok && !slices.Contains(enum, value) {
		fault("%v is none of %v", value, enum)
	}
	if want, ok := rules["const"]; ok && !reflect.DeepEqual(want, value) {
		fault("%v, want %v", value, want)
	}
	switch v := value.(type) {
	case string:
		if p, ok := rules["pattern"].(string); ok && !regexp.MustCompile(p).MatchString(v) {
			fault("%q does not match %s", v, p)
		}
		if least, ok := rules["minLength"].(float64); ok && len(v) < int(least) {
			fault("%q is too short", v)
		}
	case float64:
		if least, ok := rules["minimum"].(float64); ok && v < least {
			fault("%v is below %v", v, least)
		}
		if most, ok := rules["maximum"].(float64); ok && v > most {
			fault("%v is above %v", v, most)
		}
	case []any:
		if items, ok := rules["items"]; ok {
			for i, element := range v {
				wrong = append(wrong, d.check(fmt.Sprintf("%s[%d]", where, i), items, element)...)
			}
		}
	case map[string]any:
		required, _ := rules["required"].([]any)
		for _, name := range required {
			if _, ok := v[name.(string)]; !ok {
				fault("%s is missing", name)
			}
		}
		properties, ok := rules["properties"].(map[string]any)
		if !ok {
			break
		}
		for name, element := range v {
			if schema, ok := properties[name]; ok {
				wrong = append(wrong, d.check(where+"."+name, schema, element)...)
			} else {
				fault("%s is not in the document", name)
			}
		}
	}
	return wrong
}

func is(kind string, value any) bool {
	switch v := value.(type) {
	case nil:
		return kind == "null"
	case bool:
		return kind == "boolean"
	case string:
		return kind == "string"
	case float64:
		return kind == "number" || kind == "integer" && v == float64(int64(v))
	case []any:
		return kind == "array"
	default:
		return kind == "object"
	}
}

// checker is a transport that holds every answer to the document and notes what was asked.
type checker struct {
	t    *testing.T
	doc  *document
	next http.RoundTripper

	mu    sync.Mutex // guards all below, and doc
	asked map[string]bool
}

// operation returns the operation of a request, and its name.
func (c *checker) operation(r *http.Request) (string, any) {
	for template, methods := range c.doc.at(c.doc.root, "paths").(map[string]any) {
		pattern := "^" + regexp.MustCompile(`\\\{[a-z]+\\\}`).ReplaceAllString(regexp.QuoteMeta(template), "[^/]+") + "$"
		op := c.doc.at(methods, strings.ToLower(r.Method))
		if op != nil && regexp.MustCompile(pattern).MatchString(r.URL.Path) {
			return r.Method + " " + template, op
		}
	}
	return "", nil
}

// RoundTrip implements http.RoundTripper.
func (c *checker) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := c.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	kind, _, err := mime.ParseMediaType(response.Header.Get("Content-Type"))
	if err != nil {
		c.t.Errorf("%s %s: content type %q: %v", r.Method, r.URL, response.Header.Get("Content-Type"), err)
	}
	name, op := c.operation(r)
	answer := "200"
	if response.StatusCode != http.StatusOK {
		if answer = strconv.Itoa(response.StatusCode); c.doc.at(op, "responses", answer) == nil {
			answer = "default"
		}
	}
	schema := c.doc.at(op, "responses", answer, "content", kind)
	if op == nil { // what is not there is a problem as well
		schema = c.doc.at(c.doc.root, "components", "responses", "Problem", "content", kind)
	}
	c.asked[name+" "+answer] = true
	if schema == nil {
		c.t.Errorf("%s %s: answer %d of %s is not in the document", r.Method, r.URL, response.StatusCode, kind)
	}
	if !strings.HasSuffix(kind, "json") {
		return response, nil
	}
	data, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	response.Body = io.NopCloser(bytes.NewReader(data))
	var value any
	if err := json.Unmarshal(data, &value); err != nil {
		c.t.Errorf("%s %s: %v", r.Method, r.URL, err)
	}
	for _, fault := range c.doc.check(fmt.Sprintf("%s %s (%d)", r.Method, r.URL.Path, response.StatusCode), schema.(map[string]any)["schema"], value) {
		c.t.Error(fault)
	}
	if status := c.doc.at(value, "status"); answer != "200" && status != float64(response.StatusCode) {
		c.t.Errorf("%s %s: HTTP status %d, and the problem says %v", r.Method, r.URL, response.StatusCode, status)
	}
	return response, nil
}

func TestOpenAPIRoutes(t *testing.T) {
	doc := readDocument(t)
	if v := doc.at(doc.root, "openapi"); v != "3.1.0" {
		t.Errorf("openapi = %v, want 3.1.0", v)
	}
	var described []string
	ids := map[string]bool{}
	for path, methods := range doc.at(doc.root, "paths").(map[string]any) {
		for method, op := range methods.(map[string]any) {
			described = append(described, strings.ToUpper(method)+" "+path)
			id, ok := doc.at(op, "operationId").(string)
			if !ok || ids[id] {
				t.Errorf("%s %s: operationId %q is missing or taken", method, path, id)
			}
			ids[id] = true
			name := strings.ToUpper(method) + " " + path
			if right, want := doc.at(op, "x-right"), rpc.Needs(name); right != want {
				t.Errorf("%s: x-right is %v, and the route needs the right to %s", name, right, want)
			}
			var named []string
			for _, p := range append([]any{}, asList(doc.at(op, "parameters"))...) {
				if doc.at(p, "in") == "path" {
					named = append(named, doc.at(p, "name").(string))
				}
			}
			var wanted []string
			for _, match := range regexp.MustCompile(`\{([a-z]+)\}`).FindAllStringSubmatch(path, -1) {
				wanted = append(wanted, match[1])
			}
			if !slices.Equal(named, wanted) {
				t.Errorf("%s %s: path parameters %v, want %v", method, path, named, wanted)
			}
		}
	}
	slices.Sort(described)
	routes := rpc.Patterns()
	slices.Sort(routes)
	if !slices.Equal(described, routes) {
		t.Errorf("the document describes\n%v\nand the routes are\n%v", strings.Join(described, "\n"), strings.Join(routes, "\n"))
	}
}

func TestOpenAPIReferences(t *testing.T) {
	doc := readDocument(t)
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if _, ok := v["$ref"]; ok {
				doc.resolve(v) // panics when there is nothing
			}
			for _, element := range v {
				walk(element)
			}
		case []any:
			for _, element := range v {
				walk(element)
			}
		}
	}
	walk(doc.root)
	for _, name := range slices.Sorted(maps.Keys(doc.at(doc.root, "components", "schemas").(map[string]any))) {
		if !doc.used["#/components/schemas/"+name] {
			t.Errorf("nothing refers to the schema %s", name)
		}
	}
}

func TestOpenAPICheck(t *testing.T) {
	doc := readDocument(t)
	for _, c := range []struct {
		what, schema, value string
		faults              int
	}{
		{"a problem", "Problem", `{"type":"about:blank","title":"Not Found","status":404,"code":"not_found","detail":"no"}`, 0},
		{"a code that is not in the document", "Problem", `{"type":"about:blank","title":"","status":404,"code":"gone","detail":"no"}`, 1},
		{"a field that is not in the document", "Key", `{"algorithm":"ed25519","key":"0x00","more":1}`, 1},
		{"a field that is missing", "Key", `{"algorithm":"ed25519"}`, 1},
		{"a number in place of a string", "Key", `{"algorithm":1,"key":"0x00"}`, 1},
		{"upper case in binary data", "Key", `{"algorithm":"p256","key":"0xAB"}`, 1},
		{"a negative height", "HeaderProof", `{"height":-1,"proof":"0x"}`, 1},
		{"a fraction for a whole number", "HeaderProof", `{"height":1.5,"proof":"0x"}`, 1},
	} {
		t.Run(c.what, func(t *testing.T) {
			var value any
			if err := json.Unmarshal([]byte(c.value), &value); err != nil {
				t.Fatal(err)
			}
			if faults := doc.check("it", map[string]any{"$ref": "#/components/schemas/" + c.schema}, value); len(faults) != c.faults {
				t.Errorf("faults %q, want %d", faults, c.faults)
			}
		})
	}
}

// A frozen node is in no test of the API, for which a group of one would have to do without.
func TestOpenAPIFrozen(t *testing.T) {
	data, err := json.Marshal(client.FrozenNode{Institution: "bank", Freeze: client.Freeze{
		Direction: "both", Power: "regulator", By: []ledger.Address{{1}}, Since: 1, Until: 2, Reason: "intrusion", Evidence: &keys.Digest{1},
	}})
	if err != nil {
		t.Fatal(err)
	}
	var value any
	if err := json.Unmarshal(data, &value); err != nil {
		t.Fatal(err)
	}
	if faults := readDocument(t).check("it", map[string]any{"$ref": "#/components/schemas/FrozenNode"}, value); len(faults) > 0 {
		t.Errorf("faults %q", faults)
	}
}

func asList(v any) []any {
	list, ok := v.([]any)
	if !ok {
		return nil
	}
	return list
}
