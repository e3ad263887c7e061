// Package cores connects the gateway to the replicas of a core.
//
// Calls go round over the replicas that say they serve. One that drains, ends, or does not answer is left out until it
// serves again. What a call that failed may have done decides whether another replica is asked: a call that never reached
// a server is sent again by gRPC itself, a read may always be, as may what a replica refused because it is just starting;
// everything else is the client's to repeat, who knows its idempotency key.
package cores

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	_ "google.golang.org/grpc/health" // asks replicas how they are
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	apiv1 "github.com/photinus-project/photinus/gateway/gen/photinus/api/v1"
	"github.com/photinus-project/photinus/gateway/internal/coded"
)

const (
	// Most bytes of one answer of the core: a list of a thousand messages with their data.
	answerBytesMax = 256 << 20
	// How often a read is sent at most, the first time included.
	readAttempts = 4
	// A replica that is frozen or cut off is noticed after both together: no more often does gRPC allow to ask.
	pingEvery   = 10 * time.Second
	pingTimeout = 3 * time.Second
	// Longest pause between attempts to reach a replica that is away.
	redialMax = 2 * time.Second
)

// Connections take calls round the replicas, and by themselves the streams that sockets hold: going round together, the call
// that asks whether a socket may be opened would bring all of them to the same one of two replicas.
type Connections struct {
	calls, sockets *grpc.ClientConn
	// One to each replica of several, for what must be asked of a certain one; built when first needed.
	each []*grpc.ClientConn
}

// Invoke makes a call. What one replica refuses because the namespace is starting there is asked of the others.
func (c *Connections) Invoke(ctx context.Context, method string, args, reply any, options ...grpc.CallOption) error {
	err := c.calls.Invoke(ctx, method, args, reply, options...)
	for _, replica := range c.each {
		if !coded.Is(err, coded.Initializing) {
			break
		}
		if serves(ctx, replica) {
			err = replica.Invoke(ctx, method, args, reply, options...)
		}
	}
	return err
}

// NewStream begins a stream.
func (c *Connections) NewStream(ctx context.Context, stream *grpc.StreamDesc, method string, options ...grpc.CallOption) (grpc.ClientStream, error) {
	if stream.ClientStreams && stream.ServerStreams {
		return c.sockets.NewStream(ctx, stream, method, options...)
	}
	return c.calls.NewStream(ctx, stream, method, options...)
}

// Close ends everything that goes on.
func (c *Connections) Close() error {
	failures := []error{c.calls.Close(), c.sockets.Close()}
	for _, replica := range c.each {
		failures = append(failures, replica.Close())
	}
	return errors.Join(failures...)
}

// serves says whether a replica can be reached and says that it serves, connecting first where that has not been done.
func serves(ctx context.Context, replica *grpc.ClientConn) bool {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	replica.Connect()
	for {
		switch state := replica.GetState(); state {
		case connectivity.Ready:
			return true
		case connectivity.Idle, connectivity.Connecting:
			if !replica.WaitForStateChange(ctx, state) {
				return false
			}
		default:
			return false
		}
	}
}

// Dial makes the connections to the cores of a comma separated list; they are built when the first call needs them, and again
// whenever they break.
func Dial(addresses string, transport credentials.TransportCredentials) (*Connections, error) {
	list := Split(addresses)
	sets := [][]string{list, list}
	if len(list) > 1 {
		for _, address := range list {
			sets = append(sets, []string{address})
		}
	}
	var made []*grpc.ClientConn
	for _, set := range sets {
		conn, err := dial(set, transport)
		if err != nil {
			for _, other := range made {
				err = errors.Join(err, other.Close())
			}
			return nil, err
		}
		made = append(made, conn)
	}
	return &Connections{calls: made[0], sockets: made[1], each: made[2:]}, nil
}

func dial(list []string, transport credentials.TransportCredentials) (*grpc.ClientConn, error) {
	config, err := serviceConfig()
	if err != nil {
		return nil, err
	}
	pauses := grpc.ConnectParams{MinConnectTimeout: pingTimeout}
	pauses.Backoff.BaseDelay = 100 * time.Millisecond
	pauses.Backoff.Multiplier = 1.6
	pauses.Backoff.Jitter = 0.2
	pauses.Backoff.MaxDelay = redialMax
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(transport),
		grpc.WithDefaultServiceConfig(config),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(answerBytesMax)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: pingEvery, Timeout: pingTimeout}),
		grpc.WithConnectParams(pauses),
	}
	if len(list) == 1 {
		return grpc.NewClient(list[0], options...)
	}
	replicas := manual.NewBuilderWithScheme("replicas")
	replicas.InitialState(resolver.State{Addresses: endpoints(list)})
	return grpc.NewClient("replicas:///core", append(options, grpc.WithResolvers(replicas))...)
}

// Split gives the addresses of a list.
func Split(addresses string) []string {
	return strings.FieldsFunc(addresses, func(char rune) bool { return char == ',' || char == ' ' })
}

// Check says what is wrong with a list of addresses, if anything.
func Check(addresses string) error {
	seen := map[string]bool{}
	list := Split(addresses)
	for _, address := range list {
		if seen[address] {
			return fmt.Errorf("%s stands twice", address)
		}
		seen[address] = true
		if strings.HasPrefix(address, "unix:") || len(list) == 1 {
			continue
		}
		if _, _, err := net.SplitHostPort(hostPort(address)); err != nil {
			return fmt.Errorf("%s: %w", address, err)
		}
	}
	return nil
}

// AreLocal says whether all addresses are socket files or on loopback.
func AreLocal(addresses string) bool {
	for _, address := range Split(addresses) {
		if !isLocal(address) {
			return false
		}
	}
	return true
}

func isLocal(address string) bool {
	if strings.HasPrefix(address, "unix:") {
		return true
	}
	host, _, err := net.SplitHostPort(hostPort(address))
	if err != nil {
		return false
	}
	numeric, err := netip.ParseAddr(host)
	return host == "localhost" || (err == nil && numeric.IsLoopback())
}

// hostPort takes the scheme of gRPC's names away.
func hostPort(address string) string {
	if parsed, err := url.Parse(address); err == nil && parsed.Scheme == "dns" {
		return strings.TrimPrefix(parsed.Path, "/")
	}
	return address
}

// endpoints are the replicas as gRPC's transport dials them; certificates are checked against each one's own name.
func endpoints(list []string) []resolver.Address {
	made := make([]resolver.Address, 0, len(list))
	for _, address := range list {
		endpoint := resolver.Address{Addr: address, ServerName: "localhost"}
		if !strings.HasPrefix(address, "unix:") {
			endpoint.Addr = hostPort(address)
			endpoint.ServerName = endpoint.Addr
		}
		made = append(made, endpoint)
	}
	return made
}

type methodName struct {
	Service string `json:"service"`
	Method  string `json:"method"`
}

// serviceConfig has calls go round over the replicas that serve, and reads asked again elsewhere.
func serviceConfig() (string, error) {
	text, err := json.Marshal(map[string]any{
		"loadBalancingConfig": []any{map[string]any{"round_robin": map[string]any{}}},
		"healthCheckConfig":   map[string]any{"serviceName": ""},
		"methodConfig": []any{map[string]any{
			"name": reads(),
			"retryPolicy": map[string]any{
				"maxAttempts":          readAttempts,
				"initialBackoff":       "0.05s",
				"maxBackoff":           "0.5s",
				"backoffMultiplier":    2,
				"retryableStatusCodes": []string{"UNAVAILABLE"},
			},
		}},
	})
	return string(text), err
}

// reads are the calls that change nothing, known by the verb of their name; a test holds them against the routes.
func reads() []methodName {
	var found []methodName
	protoregistry.GlobalFiles.RangeFilesByPackage(apiv1.File_photinus_api_v1_node_service_proto.Package(), func(file protoreflect.FileDescriptor) bool {
		services := file.Services()
		for s := range services.Len() {
			methods := services.Get(s).Methods()
			for m := range methods.Len() {
				if isRead(methods.Get(m)) {
					found = append(found, methodName{string(services.Get(s).FullName()), string(methods.Get(m).Name())})
				}
			}
		}
		return true
	})
	return found
}

func isRead(method protoreflect.MethodDescriptor) bool {
	if method.IsStreamingClient() || method.IsStreamingServer() {
		return false // what was passed on cannot be taken back
	}
	for _, verb := range []string{"Get", "List", "Explain"} {
		if strings.HasPrefix(string(method.Name()), verb) {
			return true
		}
	}
	return false
}
