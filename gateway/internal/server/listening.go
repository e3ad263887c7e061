package server

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/photinus-project/photinus/gateway/internal/access"
)

const (
	headerBytesMax    = 64 << 10
	readHeaderTimeout = 10 * time.Second
	idleTimeout       = 120 * time.Second
)

// newHTTP makes a server within the limits that all listeners have.
func newHTTP(handler http.Handler) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: readHeaderTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    headerBytesMax,
		ErrorLog:          slog.NewLogLogger(slog.Default().Handler(), slog.LevelDebug),
	}
}

// run serves until the context ends, then lets requests end, for a limited time, after `closeSockets` has had its part of it.
func run(
	ctx context.Context, served *http.Server, listener net.Listener, drainTimeout time.Duration, closeSockets func(context.Context),
) error {
	failed := make(chan error, 1)
	go func() { failed <- served.Serve(listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	closeSockets(limited)
	if err := served.Shutdown(limited); err != nil {
		slog.Warn("requests under way were cut off", "listener", listener.Addr().String(), "error", err)
		return served.Close()
	}
	return nil
}

// guarded is what a listener does with every request before `route` gets it.
func (o *Options) guarded(route http.HandlerFunc, counted *metrics) http.Handler {
	handler := access.Guard(route, o.CORS.Origins)
	if o.PathPrefix != "" {
		handler = stripPrefix(o.PathPrefix, handler)
	}
	return counted.observe(o.Tracing, o.CORS.wrap(cleanPath(handler)))
}
