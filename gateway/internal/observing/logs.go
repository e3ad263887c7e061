package observing

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strconv"
	"strings"
)

// LogOptions say how lines are written.
type LogOptions struct {
	Level slog.Level
	// One JSON object a line, instead of key=value.
	JSON bool
	// What the fields are called.
	Timestamp, LevelName, Message string
	// Whether lines name the function and the place that wrote them, under these names.
	CodeInfo   bool
	Func, File string
}

// UsualLogOptions are JSON under FireFly's names.
func UsualLogOptions() LogOptions {
	return LogOptions{JSON: true, Timestamp: "@timestamp", LevelName: "level", Message: "message", Func: "func", File: "file"}
}

// FromEnvironment overrides options by FireFly's own variables, those of its key `log`.
func (o *LogOptions) FromEnvironment(get func(string) string) error {
	const prefix = "FIREFLY_LOG_"
	for name, target := range map[string]*string{
		"JSON_FIELDS_TIMESTAMP": &o.Timestamp, "JSON_FIELDS_LEVEL": &o.LevelName, "JSON_FIELDS_MESSAGE": &o.Message,
		"JSON_FIELDS_FUNC": &o.Func, "JSON_FIELDS_FILE": &o.File,
	} {
		if value := get(prefix + name); value != "" {
			*target = value
		}
	}
	var failures []error
	for name, target := range map[string]*bool{"JSON_ENABLED": &o.JSON, "INCLUDECODEINFO": &o.CodeInfo} {
		if value := get(prefix + name); value != "" {
			parsed, err := strconv.ParseBool(value)
			if err != nil {
				failures = append(failures, errors.New(prefix+name+" is neither true nor false"))
				continue
			}
			*target = parsed
		}
	}
	return errors.Join(failures...)
}

// NewLogger writes lines that name the request and the trace they are written for.
func NewLogger(output io.Writer, options LogOptions) *slog.Logger {
	slogOptions := &slog.HandlerOptions{Level: options.Level, AddSource: options.CodeInfo, ReplaceAttr: options.rename}
	if options.JSON {
		return slog.New(contextHandler{slog.NewJSONHandler(output, slogOptions)})
	}
	return slog.New(contextHandler{slog.NewTextHandler(output, slogOptions)})
}

func (o *LogOptions) rename(groups []string, attr slog.Attr) slog.Attr {
	if len(groups) > 0 {
		return attr
	}
	switch attr.Key {
	case slog.TimeKey:
		attr.Key = o.Timestamp
	case slog.LevelKey:
		return slog.String(o.LevelName, strings.ToLower(attr.Value.String()))
	case slog.MessageKey:
		attr.Key = o.Message
	case slog.SourceKey:
		if source, ok := attr.Value.Any().(*slog.Source); ok {
			place := source.File[strings.LastIndexByte(source.File, '/')+1:] + ":" + strconv.Itoa(source.Line)
			return slog.Attr{Value: slog.GroupValue(slog.String(o.Func, source.Function), slog.String(o.File, place))}
		}
	}
	return attr
}

// contextHandler adds what the context knows.
type contextHandler struct{ slog.Handler }

func (h contextHandler) Handle(ctx context.Context, record slog.Record) error {
	if id := RequestID(ctx); id != "" {
		record.AddAttrs(slog.String("httpreq", id))
	}
	if traceID, spanID := present(ctx); traceID != "" {
		record.AddAttrs(slog.String("trace_id", traceID), slog.String("span_id", spanID))
	}
	return h.Handler.Handle(ctx, record)
}

func (h contextHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return contextHandler{h.Handler.WithAttrs(attrs)}
}

func (h contextHandler) WithGroup(name string) slog.Handler {
	return contextHandler{h.Handler.WithGroup(name)}
}
