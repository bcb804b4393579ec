package chart

import (
	"bytes"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"math"
	"os"
	"slices"
	"testing"
)

var rewrite = flag.Bool("rewrite", false, "write testdata/chart.svg anew")

func draw(t *testing.T, c *Chart) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := c.Write(&b); err != nil {
		t.Fatal(err)
	}
	for d := xml.NewDecoder(bytes.NewReader(b.Bytes())); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return b.Bytes()
		} else if err != nil {
			t.Fatalf("the drawing is no XML: %v", err)
		}
	}
}

// TestChart compares a chart with testdata/chart.svg. After a change, run it with -rewrite and look at the file.
func TestChart(t *testing.T) {
	got := draw(t, &Chart{
		Title: "Two panels & more", Note: "4 nodes <loopback>",
		Rows: [][]Panel{
			{
				{X: "offered load, transfers/s", Y: "transfers/s", Lines: []Line{{Points: []Point{{50, 50}, {500, 500}, {2_000, 1_990}, {3_000, 2_780}, {9_000, 2_650}}}}},
				{X: "offered load, transfers/s", Y: "latency, ms", Lines: []Line{
					{"p50", []Point{{50, 36}, {500, 38.5}, {2_000, 60}, {3_000, 380}, {9_000, 2_100}}},
					{"p95", []Point{{50, 42}, {500, 45}, {2_000, 95}, {3_000, 860}, {9_000, 2_400}}},
				}},
			},
			{{X: "one account, %", Y: "CPU, s", Lines: []Line{{Points: []Point{{0, 0.7}, {10, 0.72}, {100, 0.9}}}}}},
		},
	})
	const file = "testdata/chart.svg"
	if *rewrite {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want, err := os.ReadFile(file); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the chart differs from %s, or %v; it is\n%s", file, err, got)
	}
}

func TestChartOfLittle(t *testing.T) {
	for _, c := range []*Chart{
		{},
		{Rows: [][]Panel{{{}}}},
		{Rows: [][]Panel{{{Lines: []Line{{Points: []Point{{0, 0}}}}}}}},
	} {
		if got := draw(t, c); bytes.Contains(got, []byte("NaN")) || bytes.Contains(got, []byte("Inf")) {
			t.Errorf("%+v is drawn as %s", c, got)
		}
	}
	for _, bad := range []Panel{
		{Lines: make([]Line, len(strokes)+1)},
		{Lines: []Line{{Points: []Point{{1, math.NaN()}}}}},
		{Lines: []Line{{Points: []Point{{1, -1}}}}},
	} {
		if err := (&Chart{Rows: [][]Panel{{bad}}}).Write(io.Discard); err == nil {
			t.Errorf("%+v was drawn", bad)
		}
	}
}

func TestTicks(t *testing.T) {
	for _, c := range []struct {
		highest float64
		want    []float64
	}{
		{0, []float64{0, 1}},
		{2_780, []float64{0, 1_000, 2_000, 3_000}},
		{0.9, []float64{0, 0.2, 0.4, 0.6000000000000001, 0.8, 1}},
		{1_000, []float64{0, 200, 400, 600, 800, 1_000}},
		{36, []float64{0, 10, 20, 30, 40}},
	} {
		if got := ticks(c.highest); !slices.Equal(got, c.want) {
			t.Errorf("ticks(%v) = %v, want %v", c.highest, got, c.want)
		}
	}
}
