// Photinus-gateway serves FireFly's REST and WebSocket interfaces over the typed API of a Photinus core.
//
// It keeps nothing: start as many as there are cores, each beside its own, or one in front of several. `-help` lists the
// settings. On SIGTERM or SIGINT it lets requests end, closes sockets and exits with 0.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/photinus-project/photinus/gateway/internal/observing"
	"github.com/photinus-project/photinus/gateway/internal/server"
)

const tracingGrace = 3 * time.Second

func main() {
	settings, err := parse(os.Args[1:], os.Stderr)
	if err != nil {
		os.Exit(2) // the flag package has said why
	}
	slog.SetDefault(observing.NewLogger(os.Stderr, settings.logs))
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, settings); err != nil {
		fmt.Fprintln(os.Stderr, "photinus-gateway:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, settings *settings) error {
	conn, err := settings.dial()
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	tracing, err := settings.trace(ctx)
	if err != nil {
		return err
	}
	defer func() { closeTracing(ctx, tracing) }()
	server, err := settings.server(conn)
	if err != nil {
		return err
	}
	ending, err := settings.monitor(ctx, server)
	if err != nil {
		return err
	}
	defer ending()
	spi, endSPI, err := settings.startSPI(ctx, conn, server)
	if err != nil {
		return err
	}
	defer endSPI()
	endDebug, err := settings.startDebug(ctx)
	if err != nil {
		return err
	}
	defer endDebug()
	listener, err := settings.listenOn(settings.listenAddress)
	if err != nil {
		return err
	}
	// All there is on standard output: whoever starts the gateway on port 0 learns the addresses from it.
	fmt.Println(address(listener, settings))
	if spi != nil {
		fmt.Println(address(spi, settings))
	}
	slog.Info("serving", "listen", listener.Addr().String(), "core", settings.core)
	return server.Run(ctx, listener)
}

// trace begins to record spans, if that is wanted.
func (s *settings) trace(ctx context.Context) (*observing.Tracing, error) {
	if !s.tracing.Wanted(os.Getenv) {
		return nil, nil
	}
	tracing, err := s.tracing.Open(ctx)
	s.options.Tracing = tracing
	return tracing, err
}

// closeTracing sends what is left; a collector that is away does not hold the end up for long.
func closeTracing(ctx context.Context, tracing *observing.Tracing) {
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), tracingGrace)
	defer cancel()
	if err := tracing.Close(limited); err != nil {
		slog.Warn("spans were lost", "error", err)
	}
}

// monitor serves numbers and probes on a port of their own, if that is wanted. The function returned waits for its end.
func (s *settings) monitor(ctx context.Context, server *server.Server) (func(), error) {
	if s.monitoring == "" {
		return func() {}, nil
	}
	listener, err := net.Listen("tcp", s.monitoring)
	if err != nil {
		return nil, err
	}
	slog.Info("monitoring", "listen", listener.Addr().String())
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := server.RunMonitoring(ctx, listener); err != nil {
			slog.Error("monitoring ended", "error", err)
		}
	}()
	return func() {
		cancel()
		<-ended
	}, nil
}

func address(listener net.Listener, settings *settings) string {
	scheme := "http"
	if settings.tls.Certificate != "" {
		scheme = "https"
	}
	return fmt.Sprintf("%s://%s%s", scheme, listener.Addr(), settings.options.PathPrefix)
}
