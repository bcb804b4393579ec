package cli

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/urfave/cli/v2"
)

// A command says that it waits for a provider that takes a while, and ends with its answer all the same.
func TestPatiently(t *testing.T) {
	for _, c := range []struct {
		story string
		takes time.Duration
		says  string
	}{
		{"at once", issueSilence - 1, ""},
		{"a while", issueTimeout - 1, "The provider has not answered yet: its authority may ask a device, or people. It has 10 minutes in all.\n"},
	} {
		t.Run(c.story, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var said bytes.Buffer
				i := &issuer{c: cli.NewContext(&cli.App{ErrWriter: &said}, nil, &cli.Context{Context: t.Context()})}
				slow := errors.New("slow")
				got, err := patiently(i, func(context.Context) (string, error) {
					time.Sleep(c.takes)
					return "answer", slow
				})
				if got != "answer" || !errors.Is(err, slow) || said.String() != c.says {
					t.Errorf("it ends with %q, %v and says %q, want %q", got, err, said.String(), c.says)
				}
			})
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				var said strings.Builder
				i := &issuer{c: cli.NewContext(&cli.App{ErrWriter: &said}, nil, &cli.Context{Context: ctx})}
				time.AfterFunc(c.takes, cancel)
				_, err := patiently(i, func(ctx context.Context) (int, error) { <-ctx.Done(); return 0, ctx.Err() })
				if !errors.Is(err, context.Canceled) {
					t.Errorf("interrupted, it ends with %v", err)
				}
			})
		})
	}
}
