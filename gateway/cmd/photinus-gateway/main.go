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
)

func main() {
	settings, err := parse(os.Args[1:], os.Stderr)
	if err != nil {
		os.Exit(2) // the flag package has said why
	}
	slog.SetDefault(slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: settings.logLevel})))
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
	server, err := settings.server(conn)
	if err != nil {
		return err
	}
	listener, err := settings.listen()
	if err != nil {
		return err
	}
	// The one line on standard output: whoever starts the gateway on port 0 learns the address from it.
	fmt.Println(address(listener, settings))
	slog.Info("serving", "listen", listener.Addr().String(), "core", settings.core)
	return server.Run(ctx, listener)
}

func address(listener net.Listener, settings *settings) string {
	scheme := "http"
	if settings.tlsCertificate != "" {
		scheme = "https"
	}
	return fmt.Sprintf("%s://%s%s", scheme, listener.Addr(), settings.options.PathPrefix)
}
