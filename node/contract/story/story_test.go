package story_test

import (
	"context"
	"os"
	"testing"

	"github.com/fondaco/fondaco/node/contract"
	"github.com/fondaco/fondaco/node/contract/story"
)

// token builds the example once.
func token(t *testing.T) []byte {
	t.Helper()
	built, err := contract.Build(t.Context(), "../../../examples/token", "")
	if err != nil {
		t.Fatal(err)
	}
	return built.Code
}

func tell(t *testing.T, name string, text []byte, code []byte) *story.Report {
	t.Helper()
	file, err := story.Parse(name, text)
	if err != nil {
		t.Fatal(err)
	}
	report, err := file.Run(t.Context(), story.Config{Module: func(context.Context, string, string) ([]byte, error) { return code, nil }})
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func TestToken(t *testing.T) {
	text, err := os.ReadFile("../../../sdk-contracts/suite/token.story")
	if err != nil {
		t.Fatal(err)
	}
	report := tell(t, "token.story", text, token(t))
	for _, s := range report.Stories {
		if s.Err != nil {
			t.Errorf("%s: %v", s.Title, s.Err)
		}
	}
}
