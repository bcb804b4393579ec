package ledger

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math/big"
	"strings"
	"testing"
)

func bondSchema() *Schema {
	return &Schema{
		ABI: ContractABI, Name: "bond", Version: "1.0.0", Profile: "std",
		Types: []TypeDef{
			{Name: "Coupon", Fields: []Field{{Name: "due", Type: "u64"}, {Name: "amount", Type: "u128"}}},
			{Name: "State", Variants: []Variant{
				{Name: "Open"}, {Name: "Paid", Fields: []Field{{Name: "by", Type: "addr"}, {Name: "last", Type: "opt<Coupon>"}}},
			}},
		},
		Methods: []Method{
			{Name: "init", Kind: MethodInit, Args: []Field{{Name: "name", Type: "str"}}},
			{Name: "transfer", Kind: MethodTx, Args: []Field{{Name: "to", Type: "addr"}, {Name: "amount", Type: "u128"}}, Conflicts: []string{"bal/{$caller}", "bal/{to}"}},
			{Name: "plan", Kind: MethodTx, Args: []Field{{Name: "coupons", Type: "list<Coupon>"}, {Name: "memo", Type: "opt<str>"}, {Name: "rates", Type: "map<str,i32>"}}, Return: "State"},
		},
		Events: []EventDef{{Topic: "Transfer", Fields: []Field{{Name: "to", Type: "addr"}, {Name: "amount", Type: "u128"}}, Indexed: []string{"to"}}},
		Errors: []ErrorDef{{Code: 1001, Name: "InsufficientFunds", Fields: []Field{{Name: "have", Type: "u128"}, {Name: "need", Type: "u128"}}}},
		State: []StateDef{
			{Prefix: "bal/", Key: []Type{"addr"}, Value: "u128"},
			{Prefix: "day/", Key: []Type{"i32", "str"}, Value: "State"},
			{Prefix: "supply", Value: "u128"},
		},
	}
}

const holder = "0x00112233445566778899aabbccddeeff00112233"

func raw(texts ...string) []json.RawMessage {
	out := make([]json.RawMessage, len(texts))
	for i, t := range texts {
		out[i] = json.RawMessage(t)
	}
	return out
}

func text(t *testing.T, v any) string {
	t.Helper()
	out, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func TestSchemaRoundTrip(t *testing.T) {
	s := bondSchema()
	section, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeSchema(section)
	if err != nil {
		t.Fatal(err)
	}
	if text(t, got) != text(t, s) {
		t.Errorf("DecodeSchema = %s, want %s", text(t, got), text(t, s))
	}
	module := append([]byte("\x00asm\x01\x00\x00\x00"), 0, byte(1+len(SchemaSection)+2), byte(len(SchemaSection)))
	module = append(append(module, SchemaSection...), 0x81, 0x01)
	if body, err := ModuleSection(module, SchemaSection); err != nil || !bytes.Equal(body, []byte{0x81, 0x01}) {
		t.Errorf("ModuleSection = %x, %v", body, err)
	}
	if body, err := ModuleSection(module, BuildSection); err != nil || body != nil {
		t.Errorf("ModuleSection of an absent section = %x, %v", body, err)
	}
	if _, err := ModuleSection(append(module, module[8:]...), SchemaSection); !errors.Is(err, ErrSchema) {
		t.Errorf("a section that occurs twice: %v, want ErrSchema", err)
	}
	for i := range module {
		if i != 8 { // after 8 bytes the module is complete, and empty
			if _, err := ModuleSection(module[:i], SchemaSection); !errors.Is(err, ErrSchema) {
				t.Errorf("module cut at %d: %v, want ErrSchema", i, err)
			}
		}
	}
}

func TestSchemaValidate(t *testing.T) {
	for name, tc := range map[string]struct {
		damage func(*Schema)
		want   string
	}{
		"unknown ABI":             {func(s *Schema) { s.ABI = 2 }, "ABI 2"},
		"bad name":                {func(s *Schema) { s.Name = "9" }, "contract name"},
		"bad profile":             {func(s *Schema) { s.Profile = "lax" }, "profile"},
		"recursive type":          {func(s *Schema) { s.Types[0].Fields[0].Type = "list<Coupon>" }, `type "Coupon"`},
		"later type":              {func(s *Schema) { s.Types[0].Fields[0].Type = "State" }, "not known here"},
		"optional of an optional": {func(s *Schema) { s.Methods[0].Args[0].Type = "opt<opt<u8>>" }, "two nulls"},
		"float":                   {func(s *Schema) { s.Methods[1].Args[1].Type = "f64" }, `method "transfer"`},
		"map keyed by a list":     {func(s *Schema) { s.Methods[1].Args[1].Type = "map<list<u8>,u8>" }, "a map's keys"},
		"space in a type":         {func(s *Schema) { s.Methods[1].Args[1].Type = "map<str, u8>" }, "not known here"},
		"deep type": {func(s *Schema) {
			s.Methods[1].Args[1].Type = Type(strings.Repeat("list<", 17) + "u8" + strings.Repeat(">", 17))
		}, "too deep"},
		"method twice":          {func(s *Schema) { s.Methods = append(s.Methods, s.Methods[1]) }, "defined twice"},
		"init that is no init":  {func(s *Schema) { s.Methods[0].Kind = MethodTx }, "life cycle"},
		"low error code":        {func(s *Schema) { s.Errors[0].Code = 999 }, "code 999"},
		"unknown indexed field": {func(s *Schema) { s.Events[0].Indexed = []string{"from"} }, `indexed "from"`},
		"key that could be two": {func(s *Schema) { s.State[1].Key = []Type{"str", "i32"} }, "part 0 of the key"},
		"prefixes out of order": {func(s *Schema) { s.State[0].Prefix = "zzz" }, "not sorted"},
		"a map within a map":    {func(s *Schema) { s.State[1].Prefix = "bal/frozen/" }, `may be keys of "bal/"`},
		"a value within a map":  {func(s *Schema) { s.State[2].Prefix = "day/first" }, `may be keys of "day/"`},
		"long doc":              {func(s *Schema) { s.Methods[0].Doc = strings.Repeat("x", 5000) }, "doc of 5000"},
	} {
		t.Run(name, func(t *testing.T) {
			s := bondSchema()
			tc.damage(s)
			if _, err := s.Encode(); !errors.Is(err, ErrSchema) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("Encode: %v, want ErrSchema with %q", err, tc.want)
			}
		})
	}
}

func TestSchemaArgs(t *testing.T) {
	s := bondSchema()
	got, err := s.EncodeArgs("transfer", raw(`"`+holder+`"`, `"340282366920938463463374607431768211455"`))
	if err != nil {
		t.Fatal(err)
	}
	address, err := ParseAddress(holder)
	if err != nil {
		t.Fatal(err)
	}
	most := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 128), big.NewInt(1))
	if want := mustMarshal([]any{address, most}); !bytes.Equal(got, want) {
		t.Errorf("EncodeArgs = %x, want %x", got, want)
	}
	if want := "8254" + holder[2:] + "c250" + strings.Repeat("ff", 16); hex.EncodeToString(got) != want {
		t.Errorf("EncodeArgs = %x, want %s", got, want)
	}

	got, err = s.EncodeText("plan", []string{`[{"due":1,"amount":"18446744073709551616"},{"due":"2","amount":24}]`, "first issue", `{"b":-129,"a":7}`})
	if err != nil {
		t.Fatal(err)
	}
	want := mustMarshal([]any{
		[]any{[]any{1, new(big.Int).Lsh(big.NewInt(1), 64)}, []any{2, 24}}, "first issue", map[string]any{"a": 7, "b": -129},
	})
	if !bytes.Equal(got, want) {
		t.Errorf("EncodeText = %x, want %x", got, want)
	}
	record, err := s.DecodeArgs("plan", got)
	if err != nil {
		t.Fatal(err)
	}
	const back = `{"coupons":[{"due":"1","amount":"18446744073709551616"},{"due":"2","amount":"24"}],"memo":"first issue","rates":{"a":7,"b":-129}}`
	if text(t, record) != back {
		t.Errorf("DecodeArgs = %s, want %s", text(t, record), back)
	}

	for name, tc := range map[string]struct {
		method string
		args   []json.RawMessage
		want   string
	}{
		"no such method":     {"burn", nil, "there are: init, transfer, plan"},
		"too few":            {"transfer", raw(`1`), "1 arguments for transfer(to addr, amount u128)"},
		"short address":      {"transfer", raw(`"0x00"`, `1`), "argument to: an address has 0x and 40"},
		"negative amount":    {"transfer", raw(`"`+holder+`"`, `-1`), "argument amount: -1 does not fit u128"},
		"129 bits":           {"transfer", raw(`"`+holder+`"`, `"340282366920938463463374607431768211456"`), "does not fit u128"},
		"a fraction":         {"transfer", raw(`"`+holder+`"`, `1.5`), "no decimal integer"},
		"an exponent":        {"transfer", raw(`"`+holder+`"`, `1e3`), "no decimal integer"},
		"a long number":      {"transfer", raw(`"`+holder+`"`, `"`+strings.Repeat("9", 1000)+`"`), "1000 characters"},
		"a missing field":    {"plan", raw(`[{"due":1}]`, `null`, `{}`), `Coupon needs a field "amount"`},
		"an unknown field":   {"plan", raw(`[{"due":1,"amount":1,"x":1}]`, `null`, `{}`), `Coupon has no field "x"`},
		"text after a value": {"init", raw(`"a" "b"`), "text after"},
		"too wide":           {"plan", raw(`[]`, `null`, `{"a":2147483648}`), "does not fit i32"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := s.EncodeArgs(tc.method, tc.args); !errors.Is(err, ErrSchema) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("EncodeArgs: %v, want ErrSchema with %q", err, tc.want)
			}
		})
	}
}

func TestSchemaDecode(t *testing.T) {
	s := bondSchema()
	for name, tc := range map[string]struct {
		typ  Type
		hex  string
		json string // or, when it begins with !, what the error says
	}{
		"variant without fields":      {"State", "00", `"Open"`},
		"variant with fields":         {"State", "830154" + holder[2:] + "f6", `{"Paid":{"by":"` + holder + `","last":null}}`},
		"bool":                        {"bool", "f5", `true`},
		"smallest i64":                {"i64", "3b7fffffffffffffff", `"-9223372036854775808"`},
		"below i64":                   {"i64", "3b8000000000000000", `!does not fit i64`},
		"u8":                          {"u8", "18ff", `255`},
		"integer not shortest":        {"u8", "1801", `!shortest`},
		"bignum that is an integer":   {"u128", "c24101", `!shortest`},
		"bignum with a zero in front": {"u128", "c24900ffffffffffffffff", `!shortest`},
		"float":                       {"u64", "fb3ff0000000000000", `!begins no value`},
		"indefinite list":             {"list<u8>", "9f01ff", `!begins no value`},
		"list longer than the data":   {"list<u8>", "9affffffff", `!more than the data`},
		"map out of order":            {"map<str,u8>", "a2616201616101", `!not sorted`},
		"map with a key twice":        {"map<u8,u8>", "a201010101", `!occurs twice`},
		"text that is no UTF-8":       {"str", "61ff", `!UTF-8`},
		"bytes after":                 {"u8", "0101", `!1 bytes after`},
		"cut":                         {"bytes", "4401", `!ends within`},
		"nothing":                     {"u8", "", `!ends within`},
		"unknown variant":             {"State", "02", `!no variant 2`},
		"variant lacking fields":      {"State", "01", `!has 2 fields`},
		"struct lacking fields":       {"Coupon", "8101", `!1 values for 2 fields`},
	} {
		t.Run(name, func(t *testing.T) {
			data, err := hex.DecodeString(tc.hex)
			if err != nil {
				t.Fatal(err)
			}
			v, err := s.DecodeValue(tc.typ, data)
			if wrong, ok := strings.CutPrefix(tc.json, "!"); ok {
				if !errors.Is(err, ErrSchema) || !strings.Contains(err.Error(), wrong) {
					t.Errorf("DecodeValue(%s, %s) = %v, %v, want an error with %q", tc.typ, tc.hex, v, err, wrong)
				}
				return
			}
			if err != nil || text(t, v) != tc.json {
				t.Fatalf("DecodeValue(%s, %s) = %s, %v, want %s", tc.typ, tc.hex, text(t, v), err, tc.json)
			}
			if again, err := s.EncodeValue(tc.typ, json.RawMessage(tc.json)); err != nil || !bytes.Equal(again, data) {
				t.Errorf("EncodeValue(%s, %s) = %x, %v, want %s", tc.typ, tc.json, again, err, tc.hex)
			}
		})
	}

	name, fields, err := s.DecodeError(1001, []byte{0x82, 1, 2})
	if err != nil || name != "InsufficientFunds" || text(t, fields) != `{"have":"1","need":"2"}` {
		t.Errorf("DecodeError = %s %v, %v", name, fields, err)
	}
	key, _ := hex.DecodeString(hex.EncodeToString([]byte("day/")) + "7fffffff" + "6d6f6e")
	def, parts, v, err := s.DecodeState(key, []byte{0})
	if err != nil || def == nil || def.Prefix != "day/" || text(t, parts) != `[-1,"mon"]` || v != "Open" {
		t.Errorf("DecodeState = %v %v %v, %v", def, parts, v, err)
	}
	if def, _, _, err := s.DecodeState([]byte("other"), nil); def != nil || err != nil {
		t.Errorf("DecodeState of an undescribed key = %v, %v", def, err)
	}
}

func FuzzDecodeSchema(f *testing.F) {
	section, err := bondSchema().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(section)
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := DecodeSchema(data)
		if err != nil {
			return
		}
		again, err := s.Encode()
		if err != nil || !bytes.Equal(again, data) {
			t.Fatalf("a second encoding of %x: %x, %v", data, again, err)
		}
	})
}

// FuzzDecodeValue checks that what DecodeValue accepts, EncodeValue writes back to the same bytes, and that
// the general decoder of this package accepts it too.
func FuzzDecodeValue(f *testing.F) {
	s := bondSchema()
	types := []Type{"State", "list<Coupon>", "map<i8,opt<str>>", "map<addr,bool>", "map<bytes,i64>", "u128", "list<list<map<u64,bytes>>>"}
	f.Add(uint8(0), []byte{0})
	f.Add(uint8(1), []byte{0x81, 0x82, 0x01, 0x02})
	f.Add(uint8(2), []byte{0xa2, 0x01, 0xf6, 0x20, 0x61, 0x61})
	f.Add(uint8(5), []byte{0xc2, 0x49, 1, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, which uint8, data []byte) {
		typ := types[int(which)%len(types)]
		v, err := s.DecodeValue(typ, data)
		if err != nil {
			return
		}
		again, err := s.EncodeValue(typ, json.RawMessage(text(t, v)))
		if err != nil || !bytes.Equal(again, data) {
			t.Fatalf("%x of type %s is %s, and that is %x, %v", data, typ, text(t, v), again, err)
		}
		var general any
		if err := Unmarshal(data, &general); err != nil && !strings.Contains(err.Error(), "another encoding") && !strings.Contains(err.Error(), "map key") {
			t.Fatalf("%x of type %s: %v", data, typ, err)
		}
	})
}
