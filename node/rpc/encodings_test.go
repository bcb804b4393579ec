package rpc_test

import (
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/fondaco/fondaco/state/ledger"
)

// TestEncodingsAreDocumented checks that the arrays which the document describes in words have as many elements as the
// program encodes, inner ones included. Who writes a verifier has nothing else to go by.
func TestEncodingsAreDocumented(t *testing.T) {
	text, _ := readDocument(t).root["info"].(map[string]any)["description"].(string)
	for name, of := range map[string]reflect.Type{
		"claim": reflect.TypeFor[ledger.Claim](), "epoch": reflect.TypeFor[ledger.Epoch](), "header": reflect.TypeFor[ledger.Header](),
		"order": reflect.TypeFor[ledger.Order](), "certificate": reflect.TypeFor[ledger.Certificate](),
		"statement": reflect.TypeFor[ledger.Statement](), "path": reflect.TypeFor[ledger.Proof](), "receipt": reflect.TypeFor[ledger.Receipt](),
		"state_path": reflect.TypeFor[ledger.StateProof](), "genesis": reflect.TypeFor[ledger.Genesis](), "params": reflect.TypeFor[ledger.Params](),
	} {
		// A definition goes on over the lines that are indented deeper.
		found := regexp.MustCompile(`(?m)^    ` + name + ` = (\[.*(?:\n {5,}.*)*)`).FindStringSubmatch(text)
		if found == nil {
			t.Errorf("the document does not say what %s is", name)
			continue
		}
		compareArray(t, name, strings.Split(found[1], ";")[0], of)
	}
}

// compareArray compares a described array, such as "[name text, keys [[algorithm uint, key bytes]]]", with a type.
func compareArray(t *testing.T, name, text string, of reflect.Type) {
	for of.Kind() == reflect.Pointer || of.Kind() == reflect.Slice && strings.HasPrefix(text, "[[") {
		if of.Kind() == reflect.Slice {
			text = text[1 : len(text)-1]
		}
		of = of.Elem()
	}
	if of.Kind() != reflect.Struct {
		return // a list of values, such as [text]
	}
	var fields []reflect.StructField
	for _, f := range reflect.VisibleFields(of) {
		if f.Name != "_" {
			fields = append(fields, f)
		}
	}
	elements := elementsOf(text)
	if len(elements) != len(fields) {
		t.Errorf("%s is described with %d elements, %q, and has %d", name, len(elements), elements, len(fields))
		return
	}
	for i, element := range elements {
		if at := strings.IndexByte(element, '['); at >= 0 {
			inner := element[at : strings.LastIndexByte(element, ']')+1]
			compareArray(t, name+"."+fields[i].Name, inner, fields[i].Type)
		}
	}
}

// elementsOf splits an array's text at the commas of its own level.
func elementsOf(text string) []string {
	text = strings.TrimSpace(text)
	text = strings.TrimSuffix(strings.TrimPrefix(text, "["), "]")
	var elements []string
	depth, from := 0, 0
	for i, c := range text {
		switch c {
		case '[', '(':
			depth++
		case ']', ')':
			depth--
		case ',':
			if depth == 0 {
				elements = append(elements, text[from:i])
				from = i + 1
			}
		}
	}
	elements = append(elements, text[from:])
	return slices.DeleteFunc(elements, func(e string) bool { return strings.TrimSpace(e) == "" })
}
