package server

import (
	"bufio"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/photinus-project/photinus/gateway/internal/observing"
	"github.com/photinus-project/photinus/gateway/internal/rest"
)

// metrics are FireFly's of its API server, under its names, beside those of sockets and of the process.
type metrics struct {
	requests  *prometheus.CounterVec
	durations *prometheus.HistogramVec
	handler   http.Handler
	// Those of the SPI, which FireFly calls admin.
	admin *metrics
}

func newMetrics(sockets func() int64) *metrics {
	open := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "photinus_gateway_websockets", Help: "Open event WebSockets.",
	}, func() float64 { return float64(sockets()) })
	registry := prometheus.NewRegistry()
	registry.MustRegister(open, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	made := newServerMetrics("rest", registry)
	made.admin = newServerMetrics("admin", registry)
	made.handler = promhttp.InstrumentMetricHandler(registry, promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	return made
}

// newServerMetrics registers the series of one listener.
func newServerMetrics(name string, registry *prometheus.Registry) *metrics {
	labels := []string{"method", "route", "code"}
	made := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "ff_apiserver", Subsystem: name, Name: "requests_total", Help: "Requests answered.",
		}, labels),
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "ff_apiserver", Subsystem: name, Name: "request_duration_seconds", Help: "Time to answer a request.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 16),
		}, labels),
	}
	registry.MustRegister(made.requests, made.durations)
	return made
}

// observe counts requests, names them, and records their spans.
func (m *metrics) observe(tracing *observing.Tracing, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if isProbe(r.URL.Path) {
			next.ServeHTTP(w, r)
			return
		}
		recorder := &recorder{ResponseWriter: w, code: http.StatusOK}
		r, end := tracing.Begin(observing.WithRequestID(r))
		ctx, route := rest.WithRouteName(r.Context())
		started := time.Now()
		defer func() {
			if recorder.hijacked {
				end(routeLabel(*route), http.StatusSwitchingProtocols)
				return
			}
			end(routeLabel(*route), recorder.code)
			slog.DebugContext(ctx, "request", "method", r.Method, "path", r.URL.Path, "status", recorder.code,
				"seconds", time.Since(started).Seconds())
			labels := prometheus.Labels{"method": methodLabel(r.Method), "route": routeLabel(*route), "code": strconv.Itoa(recorder.code)}
			m.requests.With(labels).Inc()
			m.durations.With(labels).Observe(time.Since(started).Seconds())
		}()
		next.ServeHTTP(recorder, r.WithContext(ctx))
	})
}

// isProbe says whether a request asks for the gateway's own state: as little as possible is done for these.
func isProbe(path string) bool { return path == "/livez" || path == "/readyz" || path == "/metrics" }

var templates = strings.NewReplacer("{namespace=*}", "{ns}", "=**}", "}", "=*}", "}")

// routeLabel is the template of a path as FireFly writes it.
func routeLabel(route string) string { return templates.Replace(route) }

// methodLabel keeps clients from making labels of their own.
func methodLabel(method string) string {
	switch method {
	case http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodHead, http.MethodOptions:
		return method
	}
	return "other"
}

// recorder notes the status of an answer.
type recorder struct {
	http.ResponseWriter
	code     int
	hijacked bool
}

func (r *recorder) WriteHeader(code int) {
	r.code = code
	r.ResponseWriter.WriteHeader(code)
}

// Unwrap lets http.ResponseController reach what lies below.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// Hijack serves WebSockets.
func (r *recorder) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	r.hijacked = true
	return http.NewResponseController(r.ResponseWriter).Hijack()
}
