package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"google.golang.org/grpc"

	"github.com/photinus-project/photinus/gateway/internal/server"
)

const debugHeaderTimeout = 10 * time.Second

// startSPI serves the service provider interface on a port of its own, if that is wanted. It gives its listener, nil for
// none, and a function that ends it and waits.
func (s *settings) startSPI(ctx context.Context, conn grpc.ClientConnInterface, gateway *server.Server) (net.Listener, func(), error) {
	if s.spi == "" {
		return nil, func() {}, nil
	}
	made, err := server.NewSPI(conn, s.options, gateway)
	if err != nil {
		return nil, nil, err
	}
	listener, err := s.listenOn(s.spi)
	if err != nil {
		return nil, nil, err
	}
	return listener, start(ctx, "spi", listener, func(ctx context.Context) error { return made.Run(ctx, listener) }), nil
}

// startDebug serves the profiler of Go, if that is wanted.
func (s *settings) startDebug(ctx context.Context) (func(), error) {
	if s.debug == "" {
		return func() {}, nil
	}
	listener, err := net.Listen("tcp", s.debug)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	profiler := &http.Server{Handler: mux, ReadHeaderTimeout: debugHeaderTimeout}
	return start(ctx, "debug", listener, func(ctx context.Context) error {
		stop := context.AfterFunc(ctx, func() { _ = profiler.Close() })
		defer stop()
		if err := profiler.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	}), nil
}

// start runs a server beside the API. The function it gives ends it and waits until it has ended.
func start(ctx context.Context, name string, listener net.Listener, run func(context.Context) error) func() {
	slog.Info("serving beside the API", "what", name, "listen", listener.Addr().String())
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := run(ctx); err != nil {
			slog.Error("ended", "what", name, "error", err)
		}
	}()
	return func() {
		cancel()
		<-ended
	}
}
