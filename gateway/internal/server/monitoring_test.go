package server

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestMonitoringPort has numbers and probes on a port of their own, and the numbers nowhere else.
func TestMonitoringPort(t *testing.T) {
	gateway := newGateway(t, func(options *Options) { options.MonitoredElsewhere = true })
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- gateway.server.RunMonitoring(ctx, listener) }()
	gateway.do(t, "GET", "/api/v1/status", "")
	ask := func(path string) (int, string) {
		answer, err := http.Get("http://" + listener.Addr().String() + path)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = answer.Body.Close() }()
		text, _ := io.ReadAll(answer.Body)
		return answer.StatusCode, string(text)
	}
	for path, want := range map[string]int{"/livez": 200, "/readyz": 200, "/metrics": 200, "/api/v1/status": 404} {
		if code, text := ask(path); code != want {
			t.Errorf("%s: %d %s", path, code, text)
		}
	}
	if _, text := ask("/metrics"); !strings.Contains(text, `ff_apiserver_rest_requests_total{code="200",method="GET",route="/api/v1/status"} 1`) {
		t.Error(text)
	}
	gateway.expect(t, "GET", "/metrics", "", 404, errorBody("FF10109: Not found"))
	gateway.expect(t, "GET", "/livez", "", 200, "")
	gateway.server.draining.Store(true)
	if code, _ := ask("/readyz"); code != 503 {
		t.Errorf("ready while draining: %d", code)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if _, err := http.Get("http://" + listener.Addr().String() + "/livez"); err == nil {
		t.Error("still answering")
	}
}

// TestSeriesOfTheSPI has FireFly's names with `admin` for its requests.
func TestSeriesOfTheSPI(t *testing.T) {
	spi := newSPI(t)
	spi.do(t, "GET", "/spi/v1/namespaces", "")
	recorded := httptest.NewRecorder()
	spi.server.metrics.handler.ServeHTTP(recorded, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	text := recorded.Body.String()
	for _, want := range []string{
		`ff_apiserver_admin_requests_total{code="200",method="GET",route="/spi/v1/namespaces"} 1`,
		`ff_apiserver_admin_request_duration_seconds_count{code="200",method="GET",route="/spi/v1/namespaces"} 1`,
		"promhttp_metric_handler_requests_total",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in %s", want, text)
		}
	}
}
