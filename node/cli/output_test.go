package cli

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

// TestPlain tells what of control characters in strangers' words comes to a terminal: ends of lines where we write several, and nothing else.
func TestPlain(t *testing.T) {
	const forged = "it answered 404 \r\x1b[2Knode: all is well"
	var said bytes.Buffer
	c := cli.NewContext(&cli.App{ErrWriter: &said, Reader: strings.NewReader("yes\n")}, nil, nil)
	says := func(name, want string) {
		t.Helper()
		if got := said.String(); got != want {
			t.Errorf("%s says %q, want %q", name, got, want)
		}
		said.Reset()
	}
	note(c, "First:\n\t%s", forged)
	says("a note", "First:\n\tit answered 404 ��[2Knode: all is well\n")

	line, err := json.Marshal(map[string]string{"plugin": "x509", "printed": forged + "\nx509: so it is"})
	if err != nil {
		t.Fatal(err)
	}
	program := &printed{first: make(chan struct{})}
	if _, err := program.Write(line); err != nil {
		t.Fatal(err)
	}
	program.tell(c)
	says("a line that a program printed", "x509: it answered 404 ��[2Knode: all is well�x509: so it is\n")

	if err := confirm(c, "Go on with %s?", forged); err != nil {
		t.Error(err)
	}
	says("a question", "Go on with it answered 404 ��[2Knode: all is well? Type yes: ")

	row(&said, forged, "cell")
	says("a row", "it answered 404 ��[2Knode: all is well\tcell\n")

	var out bytes.Buffer
	if code := Run(t.Context(), []string{"fondaco", "no\x1b[2K\rcommand"}, Plugins{}, nil, &out, &said); code != ExitUsage {
		t.Errorf("exit code %d", code)
	}
	if got := said.String(); strings.ContainsAny(got, "\r\x1b") || !strings.HasPrefix(got, "fondaco: ") {
		t.Errorf("an error says %q", got)
	}
}
