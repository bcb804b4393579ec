package consensus_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// declarations are what the Go files of a folder declare: functions, methods as Type.Method, types, constants, variables,
// and the text of the files, in which subtests are named.
type declarations struct {
	names map[string]bool
	text  string
}

func declared(t *testing.T, dir string) *declarations {
	t.Helper()
	d := &declarations{names: map[string]bool{}}
	paths, err := filepath.Glob(filepath.Join("..", dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		source, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		d.text += string(source)
		file, err := parser.ParseFile(token.NewFileSet(), path, source, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			switch decl := decl.(type) {
			case *ast.FuncDecl:
				name := decl.Name.Name
				if decl.Recv != nil {
					of := decl.Recv.List[0].Type
					if star, ok := of.(*ast.StarExpr); ok {
						of = star.X
					}
					name = fmt.Sprint(of) + "." + name
				}
				d.names[name] = true
			case *ast.GenDecl:
				for _, spec := range decl.Specs {
					switch spec := spec.(type) {
					case *ast.TypeSpec:
						d.names[spec.Name.Name] = true
					case *ast.ValueSpec:
						for _, name := range spec.Names {
							d.names[name.Name] = true
						}
					}
				}
			}
		}
	}
	return d
}

// reference is a code span of the README that names something: a file, a folder, or a declaration of one, such as
// node/group.Group.commit, and after a slash a subtest or case of it.
var reference = regexp.MustCompile("`((?:consensus|node|state|testnet|plugins|precompiles)[a-z/]*)(\\.[A-Za-z.]+)?(/[^`]+)?`")

// TestReadme checks that all that README.md names exists, and that the table of bugs is whole.
func TestReadme(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	folders := map[string]*declarations{}
	exists := func(span string) error {
		if file := strings.Trim(span, "`"); strings.HasSuffix(file, ".txt") || strings.HasSuffix(file, ".go") {
			found, err := filepath.Glob(filepath.Join("..", filepath.FromSlash(file)))
			if err == nil && len(found) == 0 {
				err = os.ErrNotExist
			}
			return err
		}
		parts := reference.FindStringSubmatch(span)
		if parts == nil {
			return nil // other words in code
		}
		if _, err := os.Stat(filepath.Join("..", parts[1])); err != nil || parts[2] == "" {
			return err
		}
		if folders[parts[1]] == nil {
			folders[parts[1]] = declared(t, parts[1])
		}
		d := folders[parts[1]]
		if name := parts[2][1:]; !d.names[name] {
			return fmt.Errorf("%s declares no %s", parts[1], name)
		}
		if sub := strings.TrimPrefix(parts[3], "/"); !strings.Contains(d.text, strconv.Quote(sub)) && sub != "" {
			return fmt.Errorf("%s has no case %q", parts[1], sub)
		}
		return nil
	}
	spans := regexp.MustCompile("`[^`\n]+`")
	for _, span := range spans.FindAllString(string(text), -1) {
		if err := exists(span); err != nil {
			t.Errorf("%s: %v", span, err)
		}
	}
	rows := 0
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) != 6 || !regexp.MustCompile(`^ \d`).MatchString(cells[1]) {
			continue
		}
		rows++
		if number, kinds, _ := strings.Cut(strings.TrimSpace(cells[1]), " "); number != strconv.Itoa(rows) || strings.Trim(kinds, "SLDN ") != "" || kinds == "" {
			t.Errorf("row %d begins with %q", rows, cells[1])
		}
		answers := 0
		for _, span := range spans.FindAllString(cells[4], -1) {
			if reference.MatchString(span) {
				answers++
			}
		}
		if answers == 0 {
			t.Errorf("row %d names no test, scenario or code", rows)
		}
	}
	if rows != 36 {
		t.Errorf("the table has %d rows, want 36", rows)
	}
	t.Run("a name that does not exist is found", func(t *testing.T) {
		for _, span := range []string{
			"`consensus/pbft.TestNothing`", "`consensus/pbft/testdata/nothing.txt`", "`node/group.TestGuard/a case that is none`",
			"`consensus/nothing`", "`node/group.Group.nothing`",
		} {
			if exists(span) == nil {
				t.Errorf("%s is taken for something that exists", span)
			}
		}
	})
}
