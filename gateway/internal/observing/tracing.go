package observing

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// TracingOptions say where spans go. What is not given is OpenTelemetry's own environment's to say.
type TracingOptions struct {
	// Base URL of the collector (OTLP over HTTP); empty for the environment's.
	Endpoint string
	// Part of the traces that begin here and are recorded; negative for the environment's sampler.
	SampleRatio float64
}

// Wanted says whether spans are to be recorded.
func (o TracingOptions) Wanted(get func(string) string) bool {
	if strings.EqualFold(get("OTEL_SDK_DISABLED"), "true") {
		return false
	}
	if o.Endpoint != "" {
		return true
	}
	if exporter := get("OTEL_TRACES_EXPORTER"); exporter != "" {
		return exporter == "otlp"
	}
	return get("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") != ""
}

// Tracing records a span for each request; nil records none.
type Tracing struct {
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
}

const serviceName = "photinus-gateway"

// Open begins to record. Spans are collected in memory, bounded, and sent beside the requests: a collector that is away costs
// spans, nothing else.
func (o TracingOptions) Open(ctx context.Context) (*Tracing, error) {
	var exporting []otlptracehttp.Option
	if o.Endpoint != "" {
		exporting = append(exporting, otlptracehttp.WithEndpointURL(strings.TrimSuffix(o.Endpoint, "/")+"/v1/traces"))
	}
	exporter, err := otlptracehttp.New(ctx, exporting...)
	if err != nil {
		return nil, fmt.Errorf("tracing: %w", err)
	}
	// Later ones win: the environment may name the service otherwise.
	described, err := resource.New(ctx, resource.WithAttributes(attribute.String("service.name", serviceName)),
		resource.WithTelemetrySDK(), resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("tracing: %w", err)
	}
	options := []sdktrace.TracerProviderOption{sdktrace.WithBatcher(exporter), sdktrace.WithResource(described)}
	if o.SampleRatio >= 0 {
		options = append(options, sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(o.SampleRatio))))
	}
	provider := sdktrace.NewTracerProvider(options...)
	return &Tracing{provider, provider.Tracer("photinus-gateway")}, nil
}

// Close sends what is collected.
func (t *Tracing) Close(ctx context.Context) error {
	if t == nil {
		return nil
	}
	return t.provider.Shutdown(ctx)
}

var propagator = propagation.TraceContext{}

// Begin begins the span of a request, within the client's trace if it has one. The function returned ends it.
func (t *Tracing) Begin(r *http.Request) (*http.Request, func(route string, code int)) {
	ctx := propagator.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
	if t == nil {
		return r.WithContext(ctx), func(string, int) {}
	}
	ctx, span := t.tracer.Start(ctx, r.Method, trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(
		attribute.String("http.request.method", r.Method),
		attribute.String("url.path", r.URL.Path),
		attribute.String("photinus.request", RequestID(ctx)),
	))
	return r.WithContext(ctx), func(route string, code int) {
		if route != "" {
			span.SetName(r.Method + " " + route)
			span.SetAttributes(attribute.String("http.route", route))
		}
		span.SetAttributes(attribute.Int("http.response.status_code", code))
		if code >= http.StatusInternalServerError {
			span.SetStatus(codes.Error, http.StatusText(code))
		}
		span.End()
	}
}

// present is the trace that a context belongs to, in hexadecimal; empty for none.
func present(ctx context.Context) (traceID, spanID string) {
	found := trace.SpanContextFromContext(ctx)
	if !found.IsValid() {
		return "", ""
	}
	return found.TraceID().String(), found.SpanID().String()
}
