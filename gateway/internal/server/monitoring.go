package server

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"
)

const monitoringDrain = time.Second

// RunMonitoring serves the numbers and the probes on a port of their own, without authentication, until the context ends.
func (s *Server) RunMonitoring(ctx context.Context, listener net.Listener) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", s.metrics.handler)
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	mux.HandleFunc("GET /readyz", s.ready)
	served := newHTTP(mux)
	stop := context.AfterFunc(ctx, func() {
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), monitoringDrain)
		defer cancel()
		_ = served.Shutdown(limited)
	})
	defer stop()
	if err := served.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
