package main

import (
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/photinus-project/photinus/gateway/internal/certs"
	"github.com/photinus-project/photinus/gateway/internal/cores"
	"github.com/photinus-project/photinus/gateway/internal/observing"
	"github.com/photinus-project/photinus/gateway/internal/server"
)

const (
	// Most bytes of a JSON body: a core takes requests of 4 MiB, what it adds to the body included.
	bodyBytesMax = 4<<20 - 64<<10
)

// settings is what the command line says.
type settings struct {
	listenAddress  string
	spi            string
	debug          string
	core           string
	coreCA         string
	coreCert       string
	coreKey        string
	coreInsecure   bool
	tls            certs.Files
	connectionsMax int
	monitoring     string
	logs           observing.LogOptions
	tracing        observing.TracingOptions
	options        server.Options
}

func parse(arguments []string, output io.Writer) (*settings, error) {
	found := &settings{}
	options := &found.options
	flags := flag.NewFlagSet("photinus-gateway", flag.ContinueOnError)
	flags.SetOutput(output)
	flags.StringVar(&found.listenAddress, "listen", "127.0.0.1:5000", "address to serve on, `host:port`; port 0 takes a free one")
	flags.StringVar(&found.spi, "spi", "", "`address` of a port of its own for the service provider interface, host:port (FireFly's is 127.0.0.1:5001); empty for none")
	flags.StringVar(&options.SPIPublicURL, "spi-public-url", "", "`url` under which clients reach that, path prefix included")
	flags.StringVar(&options.UIFolder, "ui", "", "`folder` of a web application to serve below /ui; empty for none")
	flags.StringVar(&found.debug, "debug", "", "`address` of a port of its own for Go's profiler, host:port; empty for none")
	flags.StringVar(&found.core, "core", "", "`addresses` of the core's replicas, comma separated: unix:path, host:port, or dns:///name:port for all that a name has (required)")
	flags.StringVar(&found.coreCA, "core-ca", "", "`file` with the certificates that the core's must descend from; switches TLS on")
	flags.StringVar(&found.coreCert, "core-cert", "", "`file` with the certificate shown to the core")
	flags.StringVar(&found.coreKey, "core-key", "", "`file` with its key")
	flags.BoolVar(&found.coreInsecure, "core-insecure", false, "speak to a core on another host without TLS")
	flags.StringVar(&found.tls.Certificate, "tls-cert", "", "`file` with the certificate to serve with; switches TLS on")
	flags.StringVar(&found.tls.Key, "tls-key", "", "`file` with its key")
	flags.StringVar(&found.tls.ClientCA, "tls-client-ca", "", "`file` with the certificates that those of clients must descend from")
	flags.BoolVar(&found.tls.RequireClient, "tls-client-auth", false, "refuse clients without such a certificate")
	flags.StringVar(&options.PathPrefix, "path-prefix", "", "`path` in front of all others, like /member0")
	flags.StringVar(&options.PublicURL, "public-url", "", "`url` under which clients reach this, path prefix included")
	flags.DurationVar(&options.Requests.Timeout, "request-timeout", 2*time.Minute, "time a request takes at most, unless it says otherwise")
	flags.DurationVar(&options.Requests.TimeoutMax, "request-timeout-max", 10*time.Minute, "longest time a request may ask for")
	flags.Int64Var(&options.Requests.BodyBytesMax, "body-max", bodyBytesMax, "most `bytes` of a JSON body")
	flags.Int64Var(&options.Requests.UploadBytesMax, "upload-max", 0, "most `bytes` of an upload; 0 leaves it to the core")
	flags.Int64Var(&options.Sockets.FrameBytesMax, "ws-frame-max", 1<<20, "most `bytes` of a client's WebSocket frame")
	flags.DurationVar(&options.Sockets.FrameTimeout, "ws-frame-timeout", 2*time.Minute,
		"how long a WebSocket may leave a frame untaken before it is closed")
	flags.Int64Var(&options.Sockets.ConnectionsMax, "ws-max", 1000, "most WebSockets")
	flags.IntVar(&found.connectionsMax, "connections-max", 10000, "most connections; others wait")
	flags.DurationVar(&options.DrainTimeout, "drain-timeout", 10*time.Second, "longest time requests are given to end on SIGTERM")
	flags.DurationVar(&options.CORS.MaxAge, "cors-max-age", 10*time.Minute, "how long browsers may keep a CORS answer")
	origins := flags.String("cors-origins", "*", "`origins` whose pages may use this, comma separated; empty for none")
	methods := flags.String("cors-methods", "GET,POST,PUT,PATCH,DELETE", "`methods` that pages of other origins may use")
	headers := flags.String("cors-headers", "*", "`headers` that their requests may have")
	flags.BoolVar(&options.CORS.Credentials, "cors-credentials", true, "let browsers send what they know, for pages of origins that are named")
	pass := flags.String("pass-headers", "", "`names` of headers that travel to the core, comma separated")
	level := flags.String("log-level", "info", "`level` of the log: debug, info, warn or error")
	format := flags.String("log-format", "", "`format` of the log: json (the usual one) or text")
	flags.StringVar(&found.monitoring, "monitoring", "", "`address` of a port of its own for /metrics, /livez and /readyz, host:port; empty serves them beside the API")
	flags.StringVar(&found.tracing.Endpoint, "tracing-endpoint", "", "`url` of a collector of spans (OTLP over HTTP); empty for OTEL_EXPORTER_OTLP_ENDPOINT, or none")
	flags.Float64Var(&found.tracing.SampleRatio, "tracing-ratio", -1, "part of the traces begun here that is recorded, 0 to 1; less leaves it to OTEL_TRACES_SAMPLER")
	if err := flags.Parse(arguments); err != nil {
		return nil, err
	}
	options.CORS.Origins = split(*origins)
	options.CORS.Methods = split(strings.ToUpper(*methods))
	options.CORS.Headers = split(*headers)
	options.PassHeaders = split(*pass)
	found.logs = observing.UsualLogOptions()
	err := errors.Join(
		found.logs.FromEnvironment(os.Getenv), found.logs.Level.UnmarshalText([]byte(*level)),
		found.setFormat(*format), found.check(flags.Args()),
	)
	options.MonitoredElsewhere = found.monitoring != ""
	if err != nil {
		fmt.Fprintln(output, "photinus-gateway:", err)
	}
	return found, err
}

func (s *settings) setFormat(format string) error {
	switch format {
	case "":
	case "json", "text":
		s.logs.JSON = format == "json"
	default:
		return fmt.Errorf("-log-format %q is neither json nor text", format)
	}
	return nil
}

func (s *settings) check(rest []string) error {
	prefix := s.options.PathPrefix
	switch {
	case len(rest) > 0:
		return fmt.Errorf("unexpected argument %q", rest[0])
	case s.core == "":
		return errors.New("-core is required")
	case len(cores.Split(s.core)) == 0:
		return errors.New("-core names no address")
	case cores.Check(s.core) != nil:
		return fmt.Errorf("-core: %w", cores.Check(s.core))
	case prefix != "" && (!strings.HasPrefix(prefix, "/") || strings.HasSuffix(prefix, "/")):
		return errors.New("-path-prefix must begin with a slash and not end with one")
	case (s.tls.Certificate == "") != (s.tls.Key == ""):
		return errors.New("-tls-cert and -tls-key go together")
	case s.tls.ClientCA != "" && s.tls.Certificate == "":
		return errors.New("-tls-client-ca goes with -tls-cert")
	case s.tls.RequireClient && s.tls.ClientCA == "":
		return errors.New("-tls-client-auth needs -tls-client-ca")
	case (s.coreCert == "") != (s.coreKey == ""):
		return errors.New("-core-cert and -core-key go together")
	case s.tracing.SampleRatio > 1:
		return errors.New("-tracing-ratio must not be above 1")
	case s.coreCA == "" && !s.coreInsecure && !cores.AreLocal(s.core):
		return errors.New("a core on another host needs -core-ca, or -core-insecure to do without TLS")
	}
	return nil
}

func split(text string) []string {
	return strings.FieldsFunc(text, func(char rune) bool { return char == ',' || char == ' ' })
}

// dial makes the connection; it is built when the first call needs it, and again whenever it breaks.
func (s *settings) dial() (*cores.Connections, error) {
	transport := insecure.NewCredentials()
	if s.coreCA != "" {
		config, err := s.coreTLS()
		if err != nil {
			return nil, err
		}
		transport = credentials.NewTLS(config)
	}
	return cores.Dial(s.core, transport)
}

func (s *settings) coreTLS() (*tls.Config, error) {
	pool, err := certs.Pool(s.coreCA)
	if err != nil {
		return nil, err
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}
	if s.coreCert != "" {
		if _, err := s.own(nil); err != nil {
			return nil, err
		}
		config.GetClientCertificate = s.own
	}
	return config, nil
}

// own reads the certificate that is shown to the core; at each connection, so that a renewed one needs no restart.
func (s *settings) own(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	found, err := tls.LoadX509KeyPair(s.coreCert, s.coreKey)
	return &found, err
}

func (s *settings) server(conn grpc.ClientConnInterface) (*server.Server, error) {
	return server.New(conn, s.options)
}

// listenOn opens a port, with TLS if asked, for a limited number of connections.
func (s *settings) listenOn(address string) (net.Listener, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	listener = server.LimitConnections(listener, s.connectionsMax)
	if s.tls.Certificate == "" {
		return listener, nil
	}
	config, err := certs.Server(s.tls)
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	return tls.NewListener(listener, config), nil
}
