// Package server puts the gateway's handlers behind one listener.
package server

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/photinus-project/photinus/gateway/internal/access"
	"github.com/photinus-project/photinus/gateway/internal/apidocs"
	"github.com/photinus-project/photinus/gateway/internal/coded"
	"github.com/photinus-project/photinus/gateway/internal/events"
	"github.com/photinus-project/photinus/gateway/internal/observing"
	"github.com/photinus-project/photinus/gateway/internal/rest"
)

const readyTimeout = 2 * time.Second

// Options of the gateway.
type Options struct {
	// Where clients reach the gateway, for documents; empty means as they do.
	PublicURL string
	// The same of the service provider interface.
	SPIPublicURL string
	// Folder of a web application that is served below /ui; empty for none.
	UIFolder string
	// Path in front of all others, which a proxy has not removed; empty or `/prefix`.
	PathPrefix string
	// Headers that travel to the core.
	PassHeaders []string
	// Records spans; nil for none.
	Tracing *observing.Tracing
	// Whether the numbers are served on a port of their own, by RunMonitoring, and not beside the API.
	MonitoredElsewhere bool
	// Longest time that requests under way are given when the gateway stops.
	DrainTimeout time.Duration
	CORS         CORS
	Requests     rest.Limits
	Sockets      events.Limits
}

// Server is the gateway.
type Server struct {
	options  Options
	api      *rest.API
	docs     *apidocs.Docs
	ui       *ui
	sockets  *events.Sockets
	asking   *access.Asking
	health   grpc_health_v1.HealthClient
	metrics  *metrics
	draining atomic.Bool
	http     *http.Server
}

// New makes the gateway of a core.
func New(conn grpc.ClientConnInterface, options Options) (*Server, error) {
	docs, err := apidocs.New(options.PublicURL, options.PathPrefix)
	if err != nil {
		return nil, err
	}
	api, err := rest.New(conn, options.Requests, docs.Allowed, options.PassHeaders)
	if err != nil {
		return nil, err
	}
	pages, err := newUI(options.UIFolder)
	if err != nil {
		return nil, err
	}
	made := &Server{
		options: options,
		ui:      pages,
		api:     api,
		docs:    docs,
		sockets: events.New(conn, options.Sockets, options.CORS.Origins),
		asking:  access.NewAsking(conn),
		health:  grpc_health_v1.NewHealthClient(conn),
	}
	made.metrics = newMetrics(made.sockets.Open)
	made.http = newHTTP(made.Handler())
	return made, nil
}

// Run serves until the context ends, then lets requests end and closes sockets.
func (s *Server) Run(ctx context.Context, listener net.Listener) error {
	return run(ctx, s.http, listener, s.options.DrainTimeout, func(limited context.Context) {
		s.draining.Store(true)
		slog.Info("draining", "timeout", s.options.DrainTimeout)
		s.sockets.Shutdown(limited)
	})
}

// Handler is everything the gateway serves.
func (s *Server) Handler() http.Handler {
	return s.options.guarded(s.route, s.metrics)
}

var namespaceSocket = regexp.MustCompile(`^/api/v1/namespaces/([^/]+)/ws$`)

func (s *Server) route(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/livez":
		w.WriteHeader(http.StatusOK)
		return
	case "/readyz":
		s.ready(w, r)
		return
	case "/metrics":
		if !s.options.MonitoredElsewhere {
			s.metrics.handler.ServeHTTP(w, r)
			return
		}
	case "/ws":
		s.sockets.Serve(w, r, "")
		return
	}
	if found := namespaceSocket.FindStringSubmatch(r.URL.Path); found != nil {
		s.sockets.Serve(w, r, found[1])
		return
	}
	if namespace, isDocument := apidocs.DocumentOf(r.URL.Path); isDocument && !s.mayRead(w, r, namespace) {
		return
	}
	if s.docs.Serve(w, r) || s.ui.serve(w, r) || apidocs.ServeFavicon(w, r) {
		return
	}
	if strings.HasPrefix(r.URL.Path, "/api/v1/") {
		s.api.ServeHTTP(w, r)
		return
	}
	coded.Write(w, coded.New(coded.NotFound))
}

// mayRead answers who may not have a document; one about a namespace that is not here is served as it ever was.
func (s *Server) mayRead(w http.ResponseWriter, r *http.Request, namespace string) bool {
	failure := s.asking.MayRead(r, namespace)
	if failure == nil || failure.Status == http.StatusNotFound || failure.Status == http.StatusPreconditionFailed {
		return true
	}
	coded.Write(w, failure)
	return false
}

// ready says whether requests would be served: the core is there and says so of itself.
func (s *Server) ready(w http.ResponseWriter, r *http.Request) {
	if s.draining.Load() {
		coded.Write(w, coded.New(coded.ShuttingDown))
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
	defer cancel()
	answer, err := s.health.Check(ctx, &grpc_health_v1.HealthCheckRequest{})
	switch {
	case err != nil:
		coded.Write(w, coded.New(coded.CoreUnreachable, err.Error()))
	case answer.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING:
		coded.Write(w, coded.New(coded.CoreUnreachable, "it is "+answer.GetStatus().String()))
	default:
		w.WriteHeader(http.StatusOK)
	}
}
