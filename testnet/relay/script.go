package relay

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/fondaco/fondaco/transport/simnet"
)

// ErrScript says that conditions or a script are not understood.
var ErrScript = errors.New("relay: not understood")

// ParseConditions reads conditions such as "loss=1%,delay=50ms,jitter=20ms". The keys are
//
//	delay      how long packets take, such as 50ms
//	jitter     how much shorter or longer they may take; packets stay in order, so on a busy link most take longer
//	loss       share of packets that is lost, such as 1%
//	duplicate  share that arrives twice
//	reorder    share that others may overtake
//	bandwidth  bytes a second, such as 1000000
//
// An empty text, and "clean", stand for a network that does nothing to packets.
func ParseConditions(text string) (c simnet.Conditions, err error) {
	if text == "" || text == "clean" {
		return c, nil
	}
	var delay, jitter time.Duration
	for field := range strings.SplitSeq(text, ",") {
		key, value, _ := strings.Cut(strings.TrimSpace(field), "=")
		switch key {
		case "delay":
			delay, err = time.ParseDuration(value)
		case "jitter":
			jitter, err = time.ParseDuration(value)
		case "loss":
			c.Loss, err = share(value)
		case "duplicate":
			c.Duplicate, err = share(value)
		case "reorder":
			c.Reorder, err = share(value)
		case "bandwidth":
			c.Bandwidth, err = strconv.Atoi(value)
		default:
			err = errors.New("want delay, jitter, loss, duplicate, reorder or bandwidth")
		}
		if err != nil {
			return c, fmt.Errorf("%w: %q in %q: %w", ErrScript, field, text, err)
		}
	}
	if jitter < 0 || jitter > delay || delay > time.Minute || c.Bandwidth < 0 {
		return c, fmt.Errorf("%w: %q: want a jitter no longer than the delay, a delay of at most a minute, no negative bandwidth", ErrScript, text)
	}
	c.Latency, c.Jitter = delay-jitter, 2*jitter
	return c, nil
}

func share(text string) (float64, error) {
	number, percent := strings.CutSuffix(text, "%")
	v, err := strconv.ParseFloat(number, 64)
	if percent {
		v /= 100
	}
	if err == nil && !(v >= 0 && v <= 1) {
		err = errors.New("want a share from 0% to 100%")
	}
	return v, err
}

// Change is something that happens to the network at a time.
type Change struct {
	At    time.Duration // since the script began
	Text  string        // as it was written
	apply func(*Relay)
}

// ParseScript reads a script for a network of a number of nodes. Each line is a time since the beginning and a
// change; empty lines and what follows a # say nothing:
//
//	5s    all loss=1%                 # conditions of all links
//	10s   0>1 delay=100ms,jitter=50ms # of one direction; * stands for all nodes
//	15s   cut 2>*                     # nothing that node 2 sends arrives
//	20s   split 0,1|2,3               # two sides that do not hear one another
//	30s   heal                        # cuts and splits are over, conditions stay
func ParseScript(in io.Reader, nodes int) ([]Change, error) {
	var script []Change
	lines := bufio.NewScanner(in)
	for row := 1; lines.Scan(); row++ {
		line, _, _ := strings.Cut(lines.Text(), "#")
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		at, err := time.ParseDuration(fields[0])
		c := Change{At: at, Text: strings.Join(fields[1:], " ")}
		if err == nil {
			c.apply, err = parseChange(fields[1:], nodes)
		}
		if err == nil && len(script) > 0 && at < script[len(script)-1].At {
			err = errors.New("the time is before that of the line above")
		}
		if err != nil {
			return nil, fmt.Errorf("%w: line %d: %w", ErrScript, row, err)
		}
		script = append(script, c)
	}
	return script, lines.Err()
}

func parseChange(fields []string, nodes int) (func(*Relay), error) {
	switch {
	case len(fields) == 1 && fields[0] == "heal":
		return (*Relay).Heal, nil
	case len(fields) == 2 && fields[0] == "cut":
		from, to, err := parseDirection(fields[1], nodes)
		return func(r *Relay) { r.Cut(from, to) }, err
	case len(fields) == 2 && fields[0] == "split":
		var sides [][]int
		for text := range strings.SplitSeq(fields[1], "|") {
			var side []int
			for name := range strings.SplitSeq(text, ",") {
				n, err := parseNode(name, nodes)
				if err != nil {
					return nil, err
				}
				side = append(side, n)
			}
			sides = append(sides, side)
		}
		return func(r *Relay) { r.Partition(sides...) }, nil
	case len(fields) == 2:
		from, to, err := parseDirection(fields[0], nodes)
		if err != nil {
			return nil, err
		}
		c, err := ParseConditions(fields[1])
		return func(r *Relay) { r.SetConditions(from, to, c) }, err
	}
	return nil, fmt.Errorf("%q: want all or FROM>TO with conditions, cut FROM>TO, split SIDE|SIDE, or heal", strings.Join(fields, " "))
}

func parseDirection(text string, nodes int) (from, to int, err error) {
	if text == "all" {
		return -1, -1, nil
	}
	a, b, ok := strings.Cut(text, ">")
	if !ok {
		return 0, 0, fmt.Errorf("%q: want all, or a direction such as 0>1 or 2>*", text)
	}
	if from, err = parseNode(a, nodes); err == nil {
		to, err = parseNode(b, nodes)
	}
	return from, to, err
}

func parseNode(text string, nodes int) (int, error) {
	if text == "*" {
		return -1, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n >= nodes {
		return 0, fmt.Errorf("node %q: want a number from 0 to %d", text, nodes-1)
	}
	return n, nil
}

// Play makes the changes of a script at their times, and returns after the last, or when ctx ends. told, unless
// nil, hears of each.
func (r *Relay) Play(ctx context.Context, script []Change, told func(Change)) {
	began := time.Now()
	for _, c := range script {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Until(began.Add(c.At))):
		}
		c.apply(r)
		if told != nil {
			told(c)
		}
	}
}
