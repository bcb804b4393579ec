package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/urfave/cli/v2"
)

func outputFlag() cli.Flag {
	return &cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "`FORM` of the result: table or json", Value: "table", EnvVars: []string{"FONDACO_OUTPUT"}}
}

// checkOutput refuses an unknown form before anything is done.
func checkOutput(c *cli.Context) error {
	switch form := c.String("output"); form {
	case "table", "json":
		return nil
	default:
		return usage("output form %q: want -o table or -o json", form)
	}
}

// fileArgument returns the only argument of a command that shows a file, and speaks to no node.
func fileArgument(c *cli.Context) (string, error) {
	args, err := arguments(c, 1, 1, "FILE")
	if err != nil {
		return "", err
	}
	return args[0], checkOutput(c)
}

// show writes a result to standard output: v as JSON, or what table writes, aligned in columns by tabs.
func show(c *cli.Context, v any, table func(w io.Writer)) error {
	if c.String("output") == "json" {
		encoder := json.NewEncoder(c.App.Writer)
		encoder.SetIndent("", "  ")
		encoder.SetEscapeHTML(false)
		return encoder.Encode(v)
	}
	w := tabwriter.NewWriter(c.App.Writer, 0, 8, 2, ' ', 0)
	table(w)
	return w.Flush()
}

// plain returns text with replacement characters in the place of its control characters, but for those to keep. Text comes from strangers too, and
// these could forge lines and command the terminal.
func plain(text, keep string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && !strings.ContainsRune(keep, r) {
			return unicode.ReplacementChar
		}
		return r
	}, text)
}

// row writes the cells of a line of a table.
func row(w io.Writer, cells ...any) {
	texts := make([]string, len(cells))
	for i, cell := range cells {
		texts[i] = plain(fmt.Sprint(cell), "")
	}
	fmt.Fprintln(w, strings.TrimRight(strings.Join(texts, "\t"), "\t"))
}

// prose is what a sentence for a person has of control characters: it may have several lines.
const prose = "\n\t"

// note tells a person at the terminal something that is no result.
func note(c *cli.Context, format string, args ...any) {
	fmt.Fprintln(c.App.ErrWriter, plain(fmt.Sprintf(format, args...), prose))
}

// timeText shows Unix milliseconds.
func timeText(unixMilli int64) string {
	if unixMilli == 0 {
		return "-"
	}
	return time.UnixMilli(unixMilli).UTC().Format("2006-01-02 15:04:05.000 UTC")
}

// compact shows decoded values on one line.
func compact(raw json.RawMessage) string {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return text
	}
	return string(raw)
}

// jsonText shows a decoded value on one line.
func jsonText(v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return compact(data)
}
