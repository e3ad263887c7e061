package observing

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

const traceID, spanID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"

func request(headers map[string]string) *http.Request {
	made := httptest.NewRequest(http.MethodGet, "/", nil)
	for name, value := range headers {
		made.Header.Set(name, value)
	}
	return made
}

// A request keeps its client's id if that can travel, and gets one of its own otherwise; the header stays the client's.
func TestRequestIDs(t *testing.T) {
	for given, kept := range map[string]bool{
		"r 1": true, "": false, "a\tb": false, "é": false, strings.Repeat("x", 128): true, strings.Repeat("x", 129): false,
	} {
		r := request(nil)
		r.Header.Set(RequestIDHeader, given)
		id := RequestID(WithRequestID(r).Context())
		if kept && id != given || !kept && len(id) != 36 {
			t.Errorf("%q became %q", given, id)
		}
	}
	if RequestID(context.Background()) != "" {
		t.Error("an id outside of any request")
	}
}

func decode(t *testing.T, line []byte) map[string]any {
	t.Helper()
	found := map[string]any{}
	if err := json.Unmarshal(line, &found); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return found
}

// Lines are JSON under FireFly's names, or those of its variables, and name the request and the trace of their context.
func TestLines(t *testing.T) {
	options := UsualLogOptions()
	var none *Tracing
	r, _ := none.Begin(WithRequestID(request(map[string]string{
		RequestIDHeader: "r1", "Traceparent": "00-" + traceID + "-" + spanID + "-01",
	})))
	var output bytes.Buffer
	NewLogger(&output, options).WarnContext(r.Context(), "hello", "a", 1)
	found := decode(t, output.Bytes())
	for name, want := range map[string]any{
		"level": "warn", "message": "hello", "a": 1.0, "httpreq": "r1", "trace_id": traceID, "span_id": spanID,
	} {
		if found[name] != want {
			t.Errorf("%s is %v in %v", name, found[name], found)
		}
	}
	if found["@timestamp"] == nil {
		t.Errorf("no time in %v", found)
	}
	names := map[string]string{
		"FIREFLY_LOG_JSON_FIELDS_TIMESTAMP": "t", "FIREFLY_LOG_JSON_FIELDS_LEVEL": "l", "FIREFLY_LOG_JSON_FIELDS_MESSAGE": "m",
		"FIREFLY_LOG_JSON_FIELDS_FUNC": "fn", "FIREFLY_LOG_JSON_FIELDS_FILE": "fl", "FIREFLY_LOG_INCLUDECODEINFO": "true",
	}
	if err := options.FromEnvironment(func(name string) string { return names[name] }); err != nil {
		t.Fatal(err)
	}
	output.Reset()
	NewLogger(&output, options).With("b", 2).Info("again")
	found = decode(t, output.Bytes())
	for _, name := range []string{"t", "l", "m", "fn", "fl", "b"} {
		if found[name] == nil {
			t.Errorf("no %s in %v", name, found)
		}
	}
	options.JSON = false
	output.Reset()
	NewLogger(&output, options).Info("plain")
	if !strings.Contains(output.String(), "m=plain") {
		t.Error(output.String())
	}
	wrong := func(string) string { return "perhaps" }
	if err := options.FromEnvironment(wrong); err == nil || !strings.Contains(err.Error(), "neither true nor false") {
		t.Error(err)
	}
}

func TestLevels(t *testing.T) {
	var output bytes.Buffer
	options := UsualLogOptions()
	options.Level = slog.LevelWarn
	NewLogger(&output, options).Info("too quiet")
	if output.Len() > 0 {
		t.Error(output.String())
	}
}

func TestWhetherSpansAreWanted(t *testing.T) {
	const endpoint = "OTEL_EXPORTER_OTLP_ENDPOINT"
	for _, each := range []struct {
		options     TracingOptions
		environment map[string]string
		want        bool
	}{
		{TracingOptions{}, nil, false},
		{TracingOptions{Endpoint: "http://c:4318"}, nil, true},
		{TracingOptions{}, map[string]string{endpoint: "http://c"}, true},
		{TracingOptions{}, map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c"}, true},
		{TracingOptions{}, map[string]string{"OTEL_TRACES_EXPORTER": "otlp"}, true},
		{TracingOptions{}, map[string]string{endpoint: "http://c", "OTEL_TRACES_EXPORTER": "none"}, false},
		{TracingOptions{Endpoint: "http://c"}, map[string]string{"OTEL_SDK_DISABLED": "true"}, false},
	} {
		if got := each.options.Wanted(func(name string) string { return each.environment[name] }); got != each.want {
			t.Errorf("%+v: %v", each, got)
		}
	}
}

// A request's span is its client's child, and what travels to the core names it; a trace that its client does not record is
// passed on as such.
func TestSpansOfRequests(t *testing.T) {
	for flag, exported := range map[string]bool{"01": true, "00": false} {
		bodies := make(chan int64, 10)
		collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/v1/traces" {
				t.Error(r.URL.Path)
			}
			bodies <- r.ContentLength
		}))
		tracing, err := TracingOptions{Endpoint: collector.URL + "/", SampleRatio: -1}.Open(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		r, end := tracing.Begin(WithRequestID(request(map[string]string{
			"Traceparent": "00-" + traceID + "-" + spanID + "-" + flag, RequestIDHeader: "r1",
		})))
		sent := map[string]string{}
		Metadata(r.Context(), func(name, value string) { sent[name] = value })
		parts := strings.Split(sent["traceparent"], "-")
		if sent["x-firefly-request-id"] != "r1" || parts[1] != traceID || parts[2] == spanID || parts[3] != flag {
			t.Errorf("%v", sent)
		}
		end("/api/v1/status", http.StatusInternalServerError)
		if err := tracing.Close(context.Background()); err != nil {
			t.Error(err)
		}
		collector.Close()
		if got := len(bodies) > 0; got != exported {
			t.Errorf("flag %s: exported %v", flag, got)
		}
	}
}

// A collector that is away costs spans and nothing else.
func TestACollectorThatIsAway(t *testing.T) {
	tracing, err := TracingOptions{Endpoint: "http://127.0.0.1:1", SampleRatio: 1}.Open(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	_, end := tracing.Begin(request(nil))
	end("", http.StatusOK)
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if err := tracing.Close(ended); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
