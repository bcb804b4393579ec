package story

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// kind is the form of a word.
type kind uint8

const (
	bare       kind = iota // characters up to the next space
	value                  // a JSON string, list or object
	expression             // words in parentheses
)

// word is one word of a line.
type word struct {
	kind  kind
	field string // what stands before =, if anything
	text  string // of a value: JSON; of an expression: what is between the parentheses
	words []word // of an expression
}

// is reports whether the word is a keyword.
func (w word) is(keyword string) bool { return w.kind == bare && w.field == "" && w.text == keyword }

// isTarget reports whether the word is CONTRACT.METHOD.
func (w word) isTarget() bool {
	contract, _, ok := strings.Cut(w.text, ".")
	return ok && w.kind == bare && w.field == "" && names.MatchString(contract)
}

// plain returns the text of a bare word or a JSON string.
func (w word) plain() string {
	var s string
	if w.kind == value && json.Unmarshal([]byte(w.text), &s) == nil {
		return s
	}
	return w.text
}

// String returns the word as it was written.
func (w word) String() string {
	text := w.text
	if w.kind == expression {
		text = "(" + text + ")"
	}
	if w.field != "" {
		text = w.field + "=" + text
	}
	return text
}

// span is a range such as {1..20} or {001..120}, which counts with as many digits.
type span struct {
	pattern     string
	first, last int
	width       int
}

var spans = regexp.MustCompile(`\{([0-9]{1,9})\.\.([0-9]{1,9})\}`)

// span returns the range within the word.
func (w word) span() (s span, found bool, err error) {
	for _, m := range spans.FindAllStringSubmatch(w.text, -1) {
		if found && m[0] != s.pattern {
			return s, false, fmt.Errorf("%s has two ranges, want one", w)
		}
		first, _ := strconv.Atoi(m[1]) // at most nine digits
		last, _ := strconv.Atoi(m[2])
		if s, found = (span{m[0], first, last, len(m[1])}), true; last < first || last-first >= maxRepeat {
			return s, false, fmt.Errorf("the range %s: want to count upwards, to at most %d", m[0], maxRepeat)
		}
	}
	return s, found, nil
}

// at returns the word with a number in the place of a range.
func (s span) at(w word, n int) word {
	if s.pattern != "" {
		w.text = strings.ReplaceAll(w.text, s.pattern, fmt.Sprintf("%0*d", s.width, n))
	}
	return w
}

// expand returns the words that a word with a range stands for; the word itself if it has none.
func (w word) expand() ([]word, error) {
	s, found, err := w.span()
	if err != nil || !found || w.kind == expression {
		return []word{w}, err
	}
	var all []word
	for n := s.first; n <= s.last; n++ {
		all = append(all, s.at(w, n))
	}
	return all, nil
}

// scanner splits a text into lines of words. A line goes on until its JSON and its parentheses are closed.
type scanner struct {
	text string
	pos  int
	line int // at pos
	err  error

	first    int // line on which words begin
	begin    int // where they do
	indented bool
	words    []word
}

// next reads the next line that has words.
func (s *scanner) next() bool {
	for s.pos < len(s.text) {
		s.first, s.begin, s.words = s.line, s.pos, nil
		s.indented = s.text[s.pos] == ' ' || s.text[s.pos] == '\t'
		for !s.atEnd() {
			w, err := s.word(0)
			if err != nil {
				s.err = err
				return false
			}
			s.words = append(s.words, w)
			if len(s.words) == 1 && w.is("story") && !s.indented { // a title is no words
				if end := strings.IndexByte(s.text[s.pos:], '\n'); end >= 0 {
					s.pos += end
				} else {
					s.pos = len(s.text)
				}
			}
		}
		s.end()
		if len(s.words) > 0 {
			return true
		}
	}
	return false
}

// source returns the line as it was written.
func (s *scanner) source() string { return strings.TrimSpace(s.text[s.begin:s.pos]) }

// atEnd skips spaces and reports whether nothing but a comment is left of the line.
func (s *scanner) atEnd() bool {
	for s.pos < len(s.text) && strings.IndexByte(" \t\r", s.text[s.pos]) >= 0 {
		s.pos++
	}
	return s.pos == len(s.text) || s.text[s.pos] == '\n' || s.text[s.pos] == '#'
}

// end goes to the beginning of the next line.
func (s *scanner) end() {
	for s.pos < len(s.text) {
		s.pos++
		if s.text[s.pos-1] == '\n' {
			s.line++
			return
		}
	}
}

// maxNesting bounds parentheses within parentheses.
const maxNesting = 16

// word reads a word; nesting counts the parentheses around it.
func (s *scanner) word(nesting int) (w word, err error) {
	if m := fieldName.FindString(s.text[s.pos:]); m != "" {
		w.field = m[:len(m)-1]
		s.pos += len(m)
	}
	if s.pos == len(s.text) {
		return w, nil
	}
	start := s.pos
	switch s.text[s.pos] {
	case '"', '[', '{':
		if spans.FindStringIndex(s.text[s.pos:]) != nil && spans.FindStringIndex(s.text[s.pos:])[0] == 0 {
			break
		}
		w.kind = value
		decoder := json.NewDecoder(strings.NewReader(s.text[s.pos:]))
		var raw json.RawMessage
		if err := decoder.Decode(&raw); err != nil {
			return w, fmt.Errorf("JSON that begins with %.20q: %w", s.text[s.pos:], err)
		}
		s.pos += int(decoder.InputOffset())
		s.line += strings.Count(s.text[start:s.pos], "\n")
		var compact bytes.Buffer
		if err := json.Compact(&compact, raw); err != nil {
			return w, err
		}
		w.text = compact.String()
		if s.pos < len(s.text) && strings.IndexByte(" \t\r\n)#", s.text[s.pos]) < 0 {
			return w, fmt.Errorf("%s is followed by %q: want a space", w, s.text[s.pos])
		}
		return w, nil
	case '(':
		return s.expression(w, nesting)
	}
	for s.pos < len(s.text) && strings.IndexByte(" \t\r\n()", s.text[s.pos]) < 0 {
		s.pos++
	}
	w.text = s.text[start:s.pos]
	if s.pos == start && w.field == "" {
		return w, errors.New("a parenthesis that closes nothing")
	}
	return w, nil
}

var fieldName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*=`)

// expression reads words in parentheses.
func (s *scanner) expression(w word, nesting int) (word, error) {
	w.kind = expression
	if nesting >= maxNesting {
		return w, fmt.Errorf("more than %d parentheses within one another", maxNesting)
	}
	s.pos++
	start := s.pos
	for {
		for s.pos < len(s.text) && strings.IndexByte(" \t\r\n", s.text[s.pos]) >= 0 {
			if s.text[s.pos] == '\n' {
				s.line++
			}
			s.pos++
		}
		if s.pos == len(s.text) {
			return w, errors.New("a parenthesis is not closed")
		}
		if s.text[s.pos] == ')' {
			w.text = strings.Join(strings.Fields(s.text[start:s.pos]), " ")
			s.pos++
			return w, nil
		}
		inner, err := s.word(nesting + 1)
		if err != nil {
			return w, err
		}
		w.words = append(w.words, inner)
	}
}
