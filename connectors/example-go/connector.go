package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/photinus-project/photinus/connectors/example-go/gen/photinus/connector/v1"
)

const (
	domain     = "photinus.connector.v1"
	textMax    = 1024 // bytes; the protocol allows 2 KiB for a message, and 4 KiB with details
	keyMax     = 256  // bytes
	retryAfter = time.Second
	lookEvery  = time.Second / 5
	stopping   = pb.RuntimeState_RUNTIME_STATE_STOPPING
)

var (
	//go:embed describe.json
	describeJSON []byte
	//go:embed settings.schema.json
	settingsSchema string // a secret would have `"writeOnly": true`
	description    = new(pb.DescribeResponse)

	instanceForm    = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	withoutInstance = []string{"Describe", "Validate", "Configure", "NotifyRegistration"}
)

// connector is the process: its services, and the one instance they are for.
type connector struct {
	pb.UnimplementedConnectorServiceServer
	pb.UnimplementedOperationServiceServer
	pb.UnimplementedSharedStorageServiceServer
	server  *grpc.Server
	health  *health.Server
	journal *journal
	config  atomic.Pointer[pb.ConfigureRequest] // in force; nil before the first
	storage storage                             // there once config is

	control  sync.Mutex   // Configure and Drain, one at a time
	gate     sync.RWMutex // each mutating call holds it for reading; from Drain on it is held for writing
	stopping atomic.Bool
	watching sync.Mutex // guards status
	status   *pb.WatchStatusResponse
}

func init() {
	if err := protojson.Unmarshal(describeJSON, description); err != nil {
		panic(err)
	}
	description.ConfigSchemaJson = settingsSchema
}

func newConnector(journal *journal) *connector {
	c := &connector{journal: journal, health: health.NewServer()}
	c.server = grpc.NewServer(grpc.UnaryInterceptor(c.unary), grpc.StreamInterceptor(c.stream))
	pb.RegisterConnectorServiceServer(c.server, c)
	pb.RegisterOperationServiceServer(c.server, c)
	pb.RegisterSharedStorageServiceServer(c.server, c)
	grpc_health_v1.RegisterHealthServer(c.server, c.health)
	reflection.Register(c.server)
	c.health.SetServingStatus(pb.SharedStorageService_ServiceDesc.ServiceName, grpc_health_v1.HealthCheckResponse_SERVING)
	return c
}

// unary and stream stand before every call: they see that it is for the instance, and that its error has details.
func (c *connector) unary(ctx context.Context, request any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (answer any, err error) {
	if err = c.isForUs(ctx, info.FullMethod); err == nil {
		answer, err = next(ctx, request)
	}
	return answer, explained(info.FullMethod, err)
}

func (c *connector) stream(service any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	err := c.isForUs(stream.Context(), info.FullMethod)
	if err == nil {
		err = next(service, stream)
	}
	return explained(info.FullMethod, err)
}

func (c *connector) isForUs(ctx context.Context, method string) error {
	named, config := metadata.ValueFromIncomingContext(ctx, "x-connector-instance"), c.config.Load()
	anyones := !strings.HasPrefix(method, "/"+domain) || slices.Contains(withoutInstance, path.Base(method))
	if !anyones && (config == nil || !slices.Contains(named, config.GetInstance())) {
		return refused(codes.FailedPrecondition, "NOT_CONFIGURED", "x-connector-instance names no instance of this process")
	}
	return nil
}

// Describe says what the connector is: always the same, without any configuration.
func (c *connector) Describe(context.Context, *pb.DescribeRequest) (*pb.DescribeResponse, error) {
	return description, nil
}

// Validate checks a configuration and has no effect.
func (c *connector) Validate(_ context.Context, request *pb.ValidateRequest) (*pb.ValidateResponse, error) {
	_, wrong := parseSettings(request.GetConfigJson())
	return &pb.ValidateResponse{Diagnostics: wrong}, nil
}

// Configure makes the instance ready, also after a Drain. The same settings change nothing.
func (c *connector) Configure(_ context.Context, request *pb.ConfigureRequest) (_ *pb.ConfigureResponse, err error) {
	c.control.Lock()
	defer c.control.Unlock()
	wanted, wrong := parseSettings(request.GetConfigJson())
	switch now := c.config.Load(); {
	case !instanceForm.MatchString(request.GetInstance()):
		return nil, refused(codes.InvalidArgument, "INVALID_INSTANCE", "%q is no name", request.GetInstance())
	case wrong != nil:
		return nil, refused(codes.InvalidArgument, "INVALID_CONFIG", "%s", wrong[0].GetSummary())
	case now == nil:
		if c.storage, err = openStorage(wanted, c.journal.storeID); err != nil {
			return nil, refused(codes.InvalidArgument, "INVALID_CONFIG", "the directory cannot be used: %v", err)
		}
	case request.GetInstance() != now.GetInstance():
		return nil, refused(codes.FailedPrecondition, "SINGLE_INSTANCE", "this process serves %s already", now.GetInstance())
	case request.GetRevision() < now.GetRevision():
		return nil, refused(codes.FailedPrecondition, "STALE_REVISION", "revision %d is in force", now.GetRevision())
	case wanted != c.storage.root:
		return nil, refused(codes.FailedPrecondition, "RESTART_REQUIRED", "another directory needs a restart")
	}
	c.config.Store(request)
	if c.stopping.Swap(false) {
		c.gate.Unlock()
	}
	return &pb.ConfigureResponse{Contracts: description.GetContracts(), StoreId: c.journal.storeID}, nil
}

// NotifyRegistration puts the core's word into our own log.
func (c *connector) NotifyRegistration(_ context.Context, request *pb.NotifyRegistrationRequest) (*pb.NotifyRegistrationResponse, error) {
	slog.Info("registration", "accepted", request.GetAccepted(), "reason", request.GetReason())
	return &pb.NotifyRegistrationResponse{}, nil
}

// WatchStatus sends the state, and again when it has changed, up to the last one.
func (c *connector) WatchStatus(_ *pb.WatchStatusRequest, stream pb.ConnectorService_WatchStatusServer) error {
	for told := (*pb.WatchStatusResponse)(nil); told.GetState() != stopping && stream.Context().Err() == nil; time.Sleep(lookEvery) {
		if now := c.look(); now != told {
			if err := stream.Send(now); err != nil {
				return err
			}
			told = now
		}
	}
	return nil
}

// look gives the state as it is now; the same answer as long as it does not change.
func (c *connector) look() *pb.WatchStatusResponse {
	c.watching.Lock()
	defer c.watching.Unlock()
	state, reason := pb.RuntimeState_RUNTIME_STATE_OK, ""
	if c.stopping.Load() {
		state, reason = stopping, "draining"
	} else if _, err := os.Stat(c.storage.tmp); err != nil {
		state, reason = pb.RuntimeState_RUNTIME_STATE_DEGRADED, err.Error()
	}
	if c.status.GetState() != state || c.status.GetReason() != reason {
		c.status = &pb.WatchStatusResponse{State: state, Reason: reason, Since: timestamppb.Now()}
	}
	return c.status
}

// admit checks what every mutating call must bring; then the call is under way until `done` is called.
func (c *connector) admit(ctx context.Context, by *pb.MutationContext) (done func(), err error) {
	key, stream := by.GetIdempotencyKey(), by.GetStream()
	_, hasDeadline := ctx.Deadline()
	switch {
	case !hasDeadline:
		return nil, refused(codes.InvalidArgument, "DEADLINE_REQUIRED", "a call that changes something needs a deadline")
	case key == "" || len(key) > keyMax:
		return nil, refused(codes.InvalidArgument, "KEY_REQUIRED", "the idempotency key has 1 to %d bytes", keyMax)
	case stream.GetClusterId() == "" || stream.GetConsumer() == "":
		return nil, refused(codes.InvalidArgument, "INVALID_STREAM", "the stream needs a cluster id and a consumer")
	case !c.gate.TryRLock(): // Drain holds it, or waits for it
		return nil, refused(codes.Unavailable, "DRAINING", "the connector is being stopped")
	}
	return c.gate.RUnlock, nil
}

// Drain lets nothing new in, and returns when what is under way has ended: each call has its deadline.
func (c *connector) Drain(context.Context, *pb.DrainRequest) (*pb.DrainResponse, error) {
	c.control.Lock()
	defer c.control.Unlock()
	if !c.stopping.Swap(true) {
		c.gate.Lock()
	}
	return &pb.DrainResponse{}, nil
}

// stop ends the connector; after the grace also what is still under way.
func (c *connector) stop() {
	time.AfterFunc(drainGrace, c.server.Stop)
	c.health.Shutdown()
	_, _ = c.Drain(context.Background(), nil)
	c.server.GracefulStop()
}

// refused is the error of a call that had no effect. Only what is Unavailable may come again, with the same key.
func refused(code codes.Code, reason, format string, arguments ...any) error {
	return failure(code, reason, pb.Disposition_DISPOSITION_NOT_SENT, fmt.Sprintf(format, arguments...))
}

// explained gives details to the errors that have none: those of files, which tell that the storage does not work now;
// those of gRPC itself, of a caller that gave up say; and those that nobody expected. The latter are defects: they are
// logged, and the core will ask GetOperation.
func explained(method string, err error) error {
	found, isStatus := status.FromError(err)
	switch {
	case err == nil || isStatus && len(found.Details()) > 0:
		return err
	case isStatus:
		return failure(found.Code(), "CALL_ENDED", pb.Disposition_DISPOSITION_MAYBE_SENT, found.Message())
	case errors.As(err, new(*fs.PathError)) || errors.As(err, new(*os.LinkError)):
		return refused(codes.Unavailable, "STORAGE_DOWN", "the directory cannot be used: %v", err)
	}
	slog.Error("unexpected error", "method", method, "error", err.Error())
	return failure(codes.Internal, "UNEXPECTED", pb.Disposition_DISPOSITION_MAYBE_SENT, "unexpected error in "+method+"; see the connector's log")
}

// failure makes a status with the details that the core decides by.
func failure(code codes.Code, reason string, sent pb.Disposition, message string) error {
	details := []protoadapt.MessageV1{&errdetails.ErrorInfo{Domain: domain, Reason: reason}, &pb.SubmissionDetail{Disposition: sent}}
	if code == codes.Unavailable {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(retryAfter)})
	}
	message = strings.ToValidUTF8(message[:min(len(message), textMax)], "")
	described, _ := status.New(code, message).WithDetails(details...) // fails for codes.OK only
	return described.Err()
}
