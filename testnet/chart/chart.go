// Package chart draws line charts as SVG: small panels in rows, for a handful of points each. The drawing stands alone,
// suits light and dark pages, and has no script. Equal charts give equal bytes. The package is public by path but promised
// nothing.
package chart

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Chart is panels in rows.
type Chart struct {
	Title, Note string
	Rows        [][]Panel
}

// Panel is lines over one pair of axes. Its y axis begins at 0. Its x axis is logarithmic when all x are positive and
// the largest is many times the smallest.
type Panel struct {
	X, Y  string // names of the axes, with units
	Lines []Line // at most as many as there are strokes
}

// Line is points in order of X.
type Line struct {
	Name   string // empty: the panel has one line, which its y axis names
	Points []Point
}

// Point is a place in a panel. It must be finite, and Y not negative.
type Point struct{ X, Y float64 }

// Sizes in pixels.
const (
	panelWidth  = 380
	panelHeight = 250
	left        = 62 // of the plot in its panel
	right       = 18
	top         = 34
	bottom      = 50
	header      = 56
	tickGap     = 38 // between the middles of labels below the x axis, at least
)

// logFrom is how many times the smallest x the largest is from which the axis is logarithmic.
const logFrom = 20

// strokes tell lines apart by colour, and by dashes for those who do not see the colours.
var strokes = []string{"", "7 4", "2 3"}

const style = `
svg { font: 12px system-ui, sans-serif; }
text { fill: #1f2933; } .title { font-size: 16px; font-weight: 600; } .mid { text-anchor: middle; } .end { text-anchor: end; }
.paper { fill: #ffffff; } .faint { fill: #616e7c; } .grid { stroke: #d9dfe5; } .axis { stroke: #616e7c; } .line { fill: none; stroke-width: 2; }
.s0 { stroke: #1d5fd1; } .s1 { stroke: #b45309; } .s2 { stroke: #0f766e; } .d0 { fill: #1d5fd1; } .d1 { fill: #b45309; } .d2 { fill: #0f766e; }
@media (prefers-color-scheme: dark) {
text { fill: #e4e7eb; } .paper { fill: #14181d; } .faint { fill: #9aa5b1; } .grid { stroke: #323b45; } .axis { stroke: #9aa5b1; }
.s0 { stroke: #7fb0ff; } .s1 { stroke: #f5b04c; } .s2 { stroke: #4fd1c0; } .d0 { fill: #7fb0ff; } .d1 { fill: #f5b04c; } .d2 { fill: #4fd1c0; }
}
`

// Write writes the chart as an SVG document.
func (c *Chart) Write(w io.Writer) error {
	columns := 0
	for _, row := range c.Rows {
		columns = max(columns, len(row))
	}
	width, height := max(columns, 1)*panelWidth, header+len(c.Rows)*panelHeight
	var d drawing
	d.put(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img">`, width, height, width, height)
	d.put("<title>%s</title>", escape(c.Title))
	d.put("<style>%s</style>", style)
	d.put(`<rect class="paper" width="%d" height="%d"/>`, width, height)
	d.put(`<text class="title" x="16" y="26">%s</text>`, escape(c.Title))
	d.put(`<text class="faint" x="16" y="46">%s</text>`, escape(c.Note))
	for r, row := range c.Rows {
		for k, panel := range row {
			d.put(`<g transform="translate(%d %d)">`, k*panelWidth, header+r*panelHeight)
			if err := d.panel(&panel); err != nil {
				return fmt.Errorf("panel %q over %q: %w", panel.Y, panel.X, err)
			}
			d.put("</g>")
		}
	}
	d.put("</svg>")
	_, err := w.Write(d.Bytes())
	return err
}

type drawing struct{ bytes.Buffer }

func (d *drawing) put(format string, args ...any) { fmt.Fprintf(d, format+"\n", args...) }

func (d *drawing) panel(p *Panel) error {
	if len(p.Lines) > len(strokes) {
		return fmt.Errorf("%d lines, at most %d can be told apart", len(p.Lines), len(strokes))
	}
	var xs []float64
	highest := 0.0
	for _, line := range p.Lines {
		for _, at := range line.Points {
			if math.IsNaN(at.X+at.Y) || math.IsInf(at.X+at.Y, 0) || at.Y < 0 {
				return fmt.Errorf("the point (%v, %v) cannot be drawn", at.X, at.Y)
			}
			xs = append(xs, at.X)
			highest = max(highest, at.Y)
		}
	}
	slices.Sort(xs)
	xs = slices.Compact(xs)
	x, y := scale(xs), ticks(highest)
	const plotWidth, plotHeight = panelWidth - left - right, panelHeight - top - bottom
	across := func(v float64) float64 { return left + x(v)*plotWidth }
	up := func(v float64) float64 { return top + plotHeight - v/y[len(y)-1]*plotHeight }

	d.put(`<text x="%d" y="18">%s</text>`, left, escape(p.Y))
	for _, v := range y {
		d.put(`<line class="grid" x1="%d" x2="%d" y1="%s" y2="%s"/>`, left, left+plotWidth, pixels(up(v)), pixels(up(v)))
		d.put(`<text class="faint end" x="%d" y="%s">%s</text>`, left-8, pixels(up(v)+4), number(v))
	}
	d.put(`<line class="axis" x1="%d" x2="%d" y1="%d" y2="%d"/>`, left, left+plotWidth, top+plotHeight, top+plotHeight)
	last := math.Inf(-1)
	for i, v := range xs {
		d.put(`<line class="axis" x1="%s" x2="%s" y1="%d" y2="%d"/>`, pixels(across(v)), pixels(across(v)), top+plotHeight, top+plotHeight+4)
		if at := across(v); at-last >= tickGap && (i == len(xs)-1 || across(xs[len(xs)-1])-at >= tickGap) {
			d.put(`<text class="faint mid" x="%s" y="%d">%s</text>`, pixels(at), top+plotHeight+18, number(v))
			last = at
		}
	}
	d.put(`<text class="mid" x="%d" y="%d">%s</text>`, left+plotWidth/2, panelHeight-12, escape(p.X))
	key := left + plotWidth
	for i, line := range slices.Backward(p.Lines) { // the key, from the right
		if line.Name != "" {
			d.put(`<text class="end d%d" x="%d" y="18">%s</text>`, i, key, escape(line.Name))
			key -= 8*len([]rune(line.Name)) + 2
			d.put(`<line class="line s%d"%s x1="%d" x2="%d" y1="14" y2="14"/>`, i, dashes(i), key-22, key)
			key -= 34
		}
		var points []string
		for _, at := range line.Points {
			points = append(points, pixels(across(at.X))+","+pixels(up(at.Y)))
		}
		d.put(`<polyline class="line s%d"%s points="%s"/>`, i, dashes(i), strings.Join(points, " "))
		for _, at := range line.Points {
			d.put(`<circle class="d%d" cx="%s" cy="%s" r="3"><title>%s: %s</title></circle>`, i, pixels(across(at.X)), pixels(up(at.Y)), number(at.X), number(at.Y))
		}
	}
	return nil
}

// scale returns where on an axis of length 1 a value is.
func scale(sorted []float64) func(float64) float64 {
	if len(sorted) < 2 {
		return func(float64) float64 { return 0.5 }
	}
	low, high := sorted[0], sorted[len(sorted)-1]
	if low > 0 && high/low >= logFrom {
		return func(v float64) float64 { return math.Log(v/low) / math.Log(high/low) }
	}
	return func(v float64) float64 { return (v - low) / (high - low) }
}

// ticks returns round values from 0 to highest or a little more.
func ticks(highest float64) []float64 {
	if highest == 0 {
		return []float64{0, 1}
	}
	power := math.Pow(10, math.Floor(math.Log10(highest/4)))
	step := power
	for _, times := range []float64{1, 2, 2.5, 5, 10} {
		if step = times * power; highest/step <= 5 {
			break
		}
	}
	values := []float64{0}
	for i := 1; values[len(values)-1] < highest*(1-1e-9); i++ {
		values = append(values, float64(i)*step)
	}
	return values
}

func dashes(line int) string {
	if strokes[line] == "" {
		return ""
	}
	return ` stroke-dasharray="` + strokes[line] + `"`
}

// pixels writes a coordinate.
func pixels(v float64) string { return strconv.FormatFloat(v, 'f', 1, 64) }

// number writes a value as people read it: no more than three digits after the point, and thousands apart.
func number(v float64) string {
	text := strconv.FormatFloat(math.Round(v*1000)/1000, 'f', -1, 64)
	if v >= 100 {
		text = strconv.FormatFloat(math.Round(v), 'f', 0, 64)
	}
	whole, part, cut := strings.Cut(text, ".")
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if cut {
		whole += "." + part
	}
	return whole
}

func escape(text string) string {
	var b strings.Builder
	xml.EscapeText(&b, []byte(text)) //nolint:errcheck // a strings.Builder takes all
	return b.String()
}
