package server

import (
	"context"
	"net"
	"net/http"
	"strings"

	"google.golang.org/grpc"

	"github.com/photinus-project/photinus/gateway/internal/access"
	"github.com/photinus-project/photinus/gateway/internal/apidocs"
	"github.com/photinus-project/photinus/gateway/internal/coded"
	"github.com/photinus-project/photinus/gateway/internal/events"
	"github.com/photinus-project/photinus/gateway/internal/rest"
)

// SPI is the service provider interface, on a listener of its own.
type SPI struct {
	options Options
	api     *rest.API
	docs    *apidocs.Docs
	sockets *events.ChangeSockets
	asking  *access.Asking
	metrics *metrics
	http    *http.Server
}

// NewSPI makes the service provider interface of a core, beside the gateway of the same core, which counts its requests too.
func NewSPI(conn grpc.ClientConnInterface, options Options, gateway *Server) (*SPI, error) {
	docs, err := apidocs.NewSPI(options.SPIPublicURL, options.PathPrefix)
	if err != nil {
		return nil, err
	}
	api, err := rest.NewSPI(conn, options.Requests, docs.Allowed, options.PassHeaders)
	if err != nil {
		return nil, err
	}
	made := &SPI{
		options: options,
		api:     api,
		docs:    docs,
		sockets: events.NewChanges(conn, options.Sockets, options.CORS.Origins),
		asking:  gateway.asking,
		metrics: gateway.metrics.admin,
	}
	made.http = newHTTP(made.Handler())
	return made, nil
}

// Run serves until the context ends, then lets requests end and closes sockets.
func (s *SPI) Run(ctx context.Context, listener net.Listener) error {
	return run(ctx, s.http, listener, s.options.DrainTimeout, s.sockets.Shutdown)
}

// Handler is everything the SPI serves.
func (s *SPI) Handler() http.Handler {
	return s.options.guarded(s.route, s.metrics)
}

func (s *SPI) route(w http.ResponseWriter, r *http.Request) {
	if s.docs.IsDocument(r.URL.Path) {
		if failure := s.asking.MayUseSPI(r); failure != nil {
			coded.Write(w, failure)
			return
		}
	}
	switch {
	case r.URL.Path == "/spi/ws":
		s.sockets.Serve(w, r)
	case apidocs.ServeFavicon(w, r), s.docs.Serve(w, r):
	case strings.HasPrefix(r.URL.Path, "/spi/v1/"):
		s.api.ServeHTTP(w, r)
	default:
		coded.Write(w, coded.New(coded.NotFound))
	}
}
