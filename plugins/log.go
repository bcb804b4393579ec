package plugins

import (
	"bytes"
	"fmt"
	"io"
	"log" //nolint:depguard // hclog.Logger names it in its methods; nothing here logs with it
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/rs/zerolog"
)

// Bounds on what a program may write into the node's log.
const (
	maxLines = 100     // lines a second
	maxLine  = 4 << 10 // bytes of a line
	maxTail  = 8 << 10 // bytes kept of standard error
)

// logger passes what go-plugin logs on to zerolog. Messages of go-plugin itself appear at debug level, since
// the supervisor tells what matters in its own words; those of the program, which go-plugin hands to a logger
// with a name, keep their level.
type logger struct {
	log     zerolog.Logger
	name    string
	implied []any
}

func newLogger(l zerolog.Logger) hclog.Logger { return &logger{log: l} }

func (l *logger) Log(level hclog.Level, text string, args ...any) {
	to := zerolog.DebugLevel
	switch {
	case level == hclog.Trace:
		to = zerolog.TraceLevel
	case l.name == "":
	case level == hclog.Info:
		to = zerolog.InfoLevel
	case level == hclog.Warn:
		to = zerolog.WarnLevel
	case level == hclog.Error:
		to = zerolog.ErrorLevel
	}
	event := l.log.WithLevel(to)
	for _, pairs := range [][]any{l.implied, args} {
		for i := 0; i+1 < len(pairs); i += 2 {
			event = event.Str(fmt.Sprint(pairs[i]), clip(fmt.Sprint(pairs[i+1])))
		}
	}
	event.Msg(clip(text))
}

func clip(s string) string {
	if len(s) > maxLine {
		s = s[:maxLine] + "…"
	}
	return strings.ToValidUTF8(s, "?")
}

func (l *logger) Trace(text string, args ...any) { l.Log(hclog.Trace, text, args...) }
func (l *logger) Debug(text string, args ...any) { l.Log(hclog.Debug, text, args...) }
func (l *logger) Info(text string, args ...any)  { l.Log(hclog.Info, text, args...) }
func (l *logger) Warn(text string, args ...any)  { l.Log(hclog.Warn, text, args...) }
func (l *logger) Error(text string, args ...any) { l.Log(hclog.Error, text, args...) }
func (l *logger) IsTrace() bool                  { return l.log.GetLevel() <= zerolog.TraceLevel }
func (l *logger) IsDebug() bool                  { return l.log.GetLevel() <= zerolog.DebugLevel }
func (l *logger) IsInfo() bool                   { return l.log.GetLevel() <= zerolog.InfoLevel }
func (l *logger) IsWarn() bool                   { return l.log.GetLevel() <= zerolog.WarnLevel }
func (l *logger) IsError() bool                  { return l.log.GetLevel() <= zerolog.ErrorLevel }
func (l *logger) ImpliedArgs() []any             { return l.implied }
func (l *logger) Name() string                   { return l.name }
func (l *logger) SetLevel(hclog.Level)           {} // the node's own setting counts

func (l *logger) GetLevel() hclog.Level {
	switch l.log.GetLevel() {
	case zerolog.TraceLevel:
		return hclog.Trace
	case zerolog.DebugLevel:
		return hclog.Debug
	case zerolog.InfoLevel:
		return hclog.Info
	case zerolog.WarnLevel:
		return hclog.Warn
	case zerolog.Disabled:
		return hclog.Off
	default:
		return hclog.Error
	}
}

func (l *logger) With(args ...any) hclog.Logger {
	return &logger{log: l.log, name: l.name, implied: append(slices.Clip(l.implied), args...)}
}

func (l *logger) Named(name string) hclog.Logger { return l.ResetNamed(name) }

// ResetNamed returns the logger of the program's own lines, of which there may be only so many.
func (l *logger) ResetNamed(name string) hclog.Logger {
	return &logger{log: l.log.Sample(&zerolog.BurstSampler{Burst: maxLines, Period: time.Second}), name: name, implied: l.implied}
}

func (l *logger) StandardLogger(o *hclog.StandardLoggerOptions) *log.Logger {
	return log.New(l.StandardWriter(o), "", 0)
}

func (l *logger) StandardWriter(*hclog.StandardLoggerOptions) io.Writer { return &printer{log: l.log} }

// printer logs what a program prints, line by line.
type printer struct {
	log  zerolog.Logger
	mu   sync.Mutex // guards line
	line []byte
}

func (p *printer) Write(data []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for rest := data; len(rest) > 0; {
		end := bytes.IndexByte(rest, '\n')
		part := rest
		if end >= 0 {
			part = rest[:end]
		}
		p.line = append(p.line, part[:min(len(part), maxLine+1-min(len(p.line), maxLine+1))]...)
		if end < 0 {
			break
		}
		p.log.Info().Str("printed", clip(string(p.line))).Msg("plugin printed a line")
		p.line, rest = p.line[:0], rest[end+1:]
	}
	return len(data), nil
}

// tail keeps the end of a program's standard error, where a Go program leaves its panic: the line of that too if many stacks follow.
type tail struct {
	mu    sync.Mutex // guards what follows
	text  []byte
	panic string
}

func (t *tail) Write(data []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if whole := len(t.text) == 0 || t.text[len(t.text)-1] == '\n'; whole && isPanic(string(data[:min(len(data), maxLine)])) {
		t.panic, _, _ = strings.Cut(string(data[:min(len(data), maxLine)]), "\n")
	}
	if t.text = append(t.text, data...); len(t.text) > maxTail {
		t.text = append(t.text[:0], t.text[len(t.text)-maxTail:]...)
	}
	return len(data), nil
}

// lastWords returns the panic in the text, or else its last line, as the end of a sentence.
func (t *tail) lastWords() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	last := ""
	for line := range strings.Lines(string(t.text)) {
		if line = strings.TrimSpace(line); line != "" {
			last = line
		}
		if isPanic(line) {
			break
		}
	}
	if !isPanic(last) && t.panic != "" {
		last = t.panic
	}
	if last == "" {
		return ""
	}
	return "; its last words: " + clip(last)
}

func isPanic(line string) bool {
	return strings.HasPrefix(line, "panic: ") || strings.HasPrefix(line, "fatal error: ")
}
