// Package rest serves FireFly's REST routes over the typed API.
//
// The generated handlers know paths and calls; this package gives them FireFly's JSON, status codes, errors, query strings,
// timeouts and limits. Uploads and downloads, which stream, have handlers of their own. No rule of the business is here.
package rest

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	apiv1 "github.com/photinus-project/photinus/gateway/gen/photinus/api/v1"
	"github.com/photinus-project/photinus/gateway/internal/coded"
)

// statusMetadata is where the core says the code of a success.
const statusMetadata = "x-http-code"

// tracedHeaders are passed to the core with every request. So is Authorization, by grpc-gateway itself.
var tracedHeaders = []string{"Traceparent", "Tracestate"}

// API is the handler of everything below /api/v1 that goes to the core.
type API struct {
	mux         *runtime.ServeMux
	data        apiv1.DataServiceClient
	limits      Limits
	passHeaders []string
	allowed     func(path string) []string
	sharing     *sharing
}

// New makes the handler. allowed gives the methods of a path, for clients that use another; passHeaders names headers that
// travel to the core as metadata, beside those of authorization and tracing.
func New(conn grpc.ClientConnInterface, limits Limits, allowed func(string) []string, passHeaders []string) (*API, error) {
	api := newAPI(conn, limits, allowed, passHeaders)
	for _, path := range []string{"/api/v1/data/{id}/blob", "/api/v1/namespaces/{namespace}/data/{id}/blob"} {
		if err := api.mux.HandlePath(http.MethodGet, path, api.download); err != nil {
			return nil, err
		}
	}
	return api, api.register(conn)
}

// NewSPI makes the handler of everything below /spi/v1; its arguments are those of New.
func NewSPI(conn grpc.ClientConnInterface, limits Limits, allowed func(string) []string, passHeaders []string) (*API, error) {
	api := newAPI(conn, limits, allowed, passHeaders)
	return api, apiv1.RegisterSpiServiceHandlerClient(context.Background(), api.mux, apiv1.NewSpiServiceClient(conn))
}

// newAPI makes a handler without routes.
func newAPI(conn grpc.ClientConnInterface, limits Limits, allowed func(string) []string, passHeaders []string) *API {
	api := &API{
		data:        apiv1.NewDataServiceClient(conn),
		limits:      limits,
		passHeaders: append(append([]string{}, tracedHeaders...), passHeaders...),
		allowed:     allowed,
	}
	none := func(string) (string, bool) { return "", false }
	api.mux = runtime.NewServeMux(
		runtime.WithMarshalerOption(runtime.MIMEWildcard, marshaler{}),
		runtime.SetQueryParameterParser(queryParser{}),
		runtime.WithUnescapingMode(runtime.UnescapingModeAllCharacters),
		runtime.WithDisablePathLengthFallback(),
		runtime.WithDisableHTTPMethodOverride(),
		runtime.WithWriteContentLength(),
		runtime.WithIncomingHeaderMatcher(none),
		runtime.WithOutgoingHeaderMatcher(none),
		runtime.WithOutgoingTrailerMatcher(none),
		runtime.WithMetadata(api.annotate),
		runtime.WithMiddlewares(api.prepare),
		runtime.WithForwardResponseOption(writeStatus),
		runtime.WithErrorHandler(api.handleError),
		runtime.WithRoutingErrorHandler(api.handleRoutingError),
	)
	api.sharing = newSharing(api.mux)
	return api
}

func (a *API) register(conn grpc.ClientConnInterface) error {
	ctx := context.Background()
	return errors.Join(
		apiv1.RegisterNamespaceServiceHandlerClient(ctx, a.mux, apiv1.NewNamespaceServiceClient(conn)),
		apiv1.RegisterNodeServiceHandlerClient(ctx, a.mux, apiv1.NewNodeServiceClient(conn)),
		apiv1.RegisterChartServiceHandlerClient(ctx, a.mux, apiv1.NewChartServiceClient(conn)),
		apiv1.RegisterExplainServiceHandlerClient(ctx, a.mux, apiv1.NewExplainServiceClient(conn)),
		apiv1.RegisterNetworkServiceHandlerClient(ctx, a.mux, apiv1.NewNetworkServiceClient(conn)),
		apiv1.RegisterIdentityServiceHandlerClient(ctx, a.mux, apiv1.NewIdentityServiceClient(conn)),
		apiv1.RegisterMessageServiceHandlerClient(ctx, a.mux, apiv1.NewMessageServiceClient(conn)),
		apiv1.RegisterDataServiceHandlerClient(ctx, a.mux, a.data),
		apiv1.RegisterDatatypeServiceHandlerClient(ctx, a.mux, apiv1.NewDatatypeServiceClient(conn)),
		apiv1.RegisterGroupServiceHandlerClient(ctx, a.mux, apiv1.NewGroupServiceClient(conn)),
		apiv1.RegisterBatchServiceHandlerClient(ctx, a.mux, apiv1.NewBatchServiceClient(conn)),
		apiv1.RegisterPinServiceHandlerClient(ctx, a.mux, apiv1.NewPinServiceClient(conn)),
		apiv1.RegisterEventServiceHandlerClient(ctx, a.mux, apiv1.NewEventServiceClient(conn)),
		apiv1.RegisterSubscriptionServiceHandlerClient(ctx, a.mux, apiv1.NewSubscriptionServiceClient(conn)),
		apiv1.RegisterTransactionServiceHandlerClient(ctx, a.mux, apiv1.NewTransactionServiceClient(conn)),
		apiv1.RegisterOperationServiceHandlerClient(ctx, a.mux, apiv1.NewOperationServiceClient(conn)),
		apiv1.RegisterBlockchainEventServiceHandlerClient(ctx, a.mux, apiv1.NewBlockchainEventServiceClient(conn)),
	)
}

func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	key := shareKey(r)
	r = withRoutablePath(r)
	if key == "" {
		a.mux.ServeHTTP(w, r)
		return
	}
	a.serveShared(w, r, key)
}

// writeStatus sets the code of a success: what the core says, 204 for a message without fields.
func writeStatus(ctx context.Context, w http.ResponseWriter, message proto.Message) error {
	code := http.StatusOK
	if message.ProtoReflect().Descriptor().Fields().Len() == 0 {
		code = http.StatusNoContent
	}
	if answered, ok := runtime.ServerMetadataFromContext(ctx); ok {
		// Trailing metadata is sent with the answer itself; initial metadata would cost the core a message of its own.
		values := append(answered.TrailerMD.Get(statusMetadata), answered.HeaderMD.Get(statusMetadata)...)
		if len(values) > 0 {
			if said, err := strconv.Atoi(values[0]); err == nil && said >= 200 && said < 300 {
				code = said
			}
		}
	}
	if code == http.StatusNoContent {
		w.Header().Del("Content-Type")
	}
	if code != http.StatusOK {
		w.WriteHeader(code)
	}
	return nil
}

func (a *API) handleError(
	ctx context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, err error,
) {
	var refused *runtime.HTTPStatusError
	if errors.As(err, &refused) {
		err = coded.New(coded.FieldValue, "path", refused.Err.Error())
	}
	a.fail(r.Context(), w, err)
}

// fail answers with an error; when the time of the request is up, with that, whatever the error is.
func (a *API) fail(ctx context.Context, w http.ResponseWriter, err error) {
	failure := coded.From(err)
	info := infoOf(ctx)
	if coded.IsDeadline(ctx, err) && failure.Status != http.StatusRequestTimeout {
		spent := float64(time.Since(info.started).Microseconds()) / float64(time.Millisecond/time.Microsecond)
		failure = coded.New(coded.TimedOut, info.id, spent)
	}
	coded.Write(w, failure)
}

func (a *API) handleRoutingError(
	ctx context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, code int,
) {
	if code != http.StatusMethodNotAllowed {
		coded.Write(w, coded.New(coded.NotFound))
		return
	}
	methods := strings.Join(a.allowed(r.URL.Path), ", ")
	w.Header().Set("Allow", methods)
	coded.Write(w, coded.New(coded.MethodNotAllowed, r.Method, methods))
}
