package cores

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	apiv1 "github.com/photinus-project/photinus/gateway/gen/photinus/api/v1"
)

const testTimeout = 10 * time.Second

// replica answers with its name, and counts.
type replica struct {
	apiv1.UnimplementedNodeServiceServer
	apiv1.UnimplementedMessageServiceServer
	apiv1.UnimplementedEventServiceServer
	name    string
	address string
	fails   atomic.Bool
	starts  atomic.Bool
	asked   atomic.Int64
	health  *health.Server
	server  *grpc.Server
}

func (r *replica) GetNodeInfo(context.Context, *apiv1.GetNodeInfoRequest) (*apiv1.GetNodeInfoResponse, error) {
	r.asked.Add(1)
	if r.fails.Load() {
		return nil, status.Error(codes.Unavailable, r.name+" has no database")
	}
	return &apiv1.GetNodeInfoResponse{Replica: r.name}, nil
}

func (r *replica) BroadcastMessage(context.Context, *apiv1.BroadcastMessageRequest) (*apiv1.BroadcastMessageResponse, error) {
	r.asked.Add(1)
	if r.fails.Load() {
		return nil, status.Error(codes.Unavailable, r.name+" may have stored it")
	}
	if r.starts.Load() {
		refused, err := status.New(codes.FailedPrecondition, "FF10441: Namespace 'default' is initializing").
			WithDetails(&errdetails.ErrorInfo{Reason: "FF10441", Domain: "photinus"})
		if err != nil {
			return nil, err
		}
		return nil, refused.Err()
	}
	return &apiv1.BroadcastMessageResponse{}, nil
}

func (r *replica) Subscribe(stream grpc.BidiStreamingServer[apiv1.SubscribeRequest, apiv1.SubscribeResponse]) error {
	return stream.SendHeader(metadata.Pairs("replica", r.name))
}

func startReplica(t *testing.T, name, network, address string) *replica {
	t.Helper()
	listener, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	made := &replica{name: name, address: listener.Addr().String(), health: health.NewServer(), server: grpc.NewServer()}
	if network == "unix" {
		made.address = "unix:" + address
	}
	apiv1.RegisterNodeServiceServer(made.server, made)
	apiv1.RegisterMessageServiceServer(made.server, made)
	apiv1.RegisterEventServiceServer(made.server, made)
	grpc_health_v1.RegisterHealthServer(made.server, made.health)
	go func() { _ = made.server.Serve(listener) }()
	t.Cleanup(made.server.Stop)
	return made
}

func connect(t *testing.T, addresses ...string) *Connections {
	t.Helper()
	conn, err := Dial(strings.Join(addresses, ","), insecure.NewCredentials())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func who(t *testing.T, conn *Connections) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	defer cancel()
	answer, err := apiv1.NewNodeServiceClient(conn).GetNodeInfo(ctx, &apiv1.GetNodeInfoRequest{})
	return answer.GetReplica(), err
}

// until calls until the condition holds: what replicas say of themselves arrives a little later.
func until(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(testTimeout); !condition(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s did not come about", what)
		}
	}
}

// round gives who answered n calls; none may fail.
func round(t *testing.T, conn *Connections, n int) map[string]int {
	t.Helper()
	seen := map[string]int{}
	for range n {
		name, err := who(t, conn)
		if err != nil {
			t.Fatal(err)
		}
		seen[name]++
	}
	return seen
}

func TestCallsGoRound(t *testing.T) {
	first := startReplica(t, "first", "tcp", "127.0.0.1:0")
	second := startReplica(t, "second", "unix", filepath.Join(t.TempDir(), "core.sock"))
	conn := connect(t, "dns:///"+first.address, second.address)
	until(t, "both in use", func() bool { return len(round(t, conn, 2)) == 2 })
	if seen := round(t, conn, 20); seen["first"] != 10 || seen["second"] != 10 {
		t.Errorf("not even: %v", seen)
	}
}

func TestSocketsGoRoundWhateverIsCalledBetween(t *testing.T) {
	first, second := startReplica(t, "first", "tcp", "127.0.0.1:0"), startReplica(t, "second", "tcp", "127.0.0.1:0")
	conn := connect(t, first.address, second.address)
	subscribed := func() map[string]int {
		seen := map[string]int{}
		for range 10 {
			if _, err := who(t, conn); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
			stream, err := apiv1.NewEventServiceClient(conn).Subscribe(ctx)
			if err != nil {
				t.Fatal(err)
			}
			header, err := stream.Header()
			if err != nil || len(header.Get("replica")) != 1 {
				t.Fatal(header, err)
			}
			seen[header.Get("replica")[0]]++
			cancel()
		}
		return seen
	}
	until(t, "both in use", func() bool { return len(subscribed()) == 2 })
	if seen := subscribed(); seen["first"] != 5 || seen["second"] != 5 {
		t.Errorf("not even: %v", seen)
	}
}

func TestADrainingReplicaIsLeftOutAndComesBack(t *testing.T) {
	first, second := startReplica(t, "first", "tcp", "127.0.0.1:0"), startReplica(t, "second", "tcp", "127.0.0.1:0")
	conn := connect(t, first.address, second.address)
	until(t, "both in use", func() bool { return len(round(t, conn, 2)) == 2 })
	first.health.SetServingStatus("", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	until(t, "only the second", func() bool { return round(t, conn, 4)["second"] == 4 })
	if seen := round(t, conn, 20); seen["first"] != 0 {
		t.Errorf("a draining replica was asked: %v", seen)
	}
	first.health.SetServingStatus("", grpc_health_v1.HealthCheckResponse_SERVING)
	until(t, "both in use again", func() bool { return len(round(t, conn, 2)) == 2 })
}

func TestAReplicaThatEndsIsReplacedByTheOther(t *testing.T) {
	first, second := startReplica(t, "first", "tcp", "127.0.0.1:0"), startReplica(t, "second", "tcp", "127.0.0.1:0")
	conn := connect(t, first.address, second.address)
	until(t, "both in use", func() bool { return len(round(t, conn, 2)) == 2 })
	first.server.Stop() // at once, as if killed
	if seen := round(t, conn, 50); seen["second"] != 50 {
		t.Errorf("%v", seen)
	}
	startReplica(t, "reborn", "tcp", first.address)
	until(t, "the new one in use", func() bool { return round(t, conn, 2)["reborn"] > 0 })
}

func TestReadsAreAskedElsewhereAndWritesAreNot(t *testing.T) {
	first, second := startReplica(t, "first", "tcp", "127.0.0.1:0"), startReplica(t, "second", "tcp", "127.0.0.1:0")
	conn := connect(t, first.address, second.address)
	until(t, "both in use", func() bool { return len(round(t, conn, 2)) == 2 })
	first.fails.Store(true)
	if seen := round(t, conn, 10); seen["second"] != 10 {
		t.Errorf("reads: %v", seen)
	}
	first.asked.Store(0)
	second.asked.Store(0)
	failed := 0
	for range 10 {
		ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
		_, err := apiv1.NewMessageServiceClient(conn).BroadcastMessage(ctx, &apiv1.BroadcastMessageRequest{})
		cancel()
		if status.Code(err) == codes.Unavailable {
			failed++
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if total := first.asked.Load() + second.asked.Load(); total != 10 || failed != 5 {
		t.Errorf("10 writes were sent %d times, %d failed", total, failed)
	}
}

func TestWhatAStartingReplicaRefusesIsAskedOfTheOthers(t *testing.T) {
	away := startReplica(t, "away", "tcp", "127.0.0.1:0")
	away.server.Stop()
	starting, second := startReplica(t, "starting", "tcp", "127.0.0.1:0"), startReplica(t, "second", "tcp", "127.0.0.1:0")
	conn := connect(t, away.address, starting.address, second.address)
	send := func() error {
		ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
		defer cancel()
		_, err := apiv1.NewMessageServiceClient(conn).BroadcastMessage(ctx, &apiv1.BroadcastMessageRequest{})
		return err
	}
	until(t, "both in use", func() bool { return len(round(t, conn, 2)) == 2 })
	starting.starts.Store(true)
	starting.asked.Store(0)
	second.asked.Store(0)
	for range 10 {
		if err := send(); err != nil {
			t.Fatal(err)
		}
	}
	if first, other := starting.asked.Load(), second.asked.Load(); first == 0 || other != 10 {
		t.Errorf("10 writes: the starting one was asked %d times, the other %d", first, other)
	}
	second.fails.Store(true)
	for range 2 { // what another replica may have stored is not sent again
		if err := send(); status.Code(err) != codes.Unavailable {
			t.Errorf("got %v", err)
		}
	}
	second.fails.Store(false)
	second.starts.Store(true)
	if err := send(); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("got %v", err)
	}
}

// freezable stands between the gateway and a replica, and passes nothing on once it is frozen.
type freezable struct {
	address string
	frozen  atomic.Bool
}

func freezableLink(t *testing.T, target string) *freezable {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	link := &freezable{address: listener.Addr().String()}
	go func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", target)
			if err != nil {
				_ = near.Close()
				continue
			}
			go link.pass(near, far)
			go link.pass(far, near)
		}
	}()
	return link
}

func (f *freezable) pass(from, to net.Conn) {
	defer func() { _ = from.Close(); _ = to.Close() }()
	buffer := make([]byte, 4096)
	for {
		size, err := from.Read(buffer)
		if err != nil {
			return
		}
		if f.frozen.Load() {
			continue // taken, and never answered
		}
		if _, err := to.Write(buffer[:size]); err != nil {
			return
		}
	}
}

func TestAFrozenReplicaHoldsUpReadsForAWhileOnly(t *testing.T) {
	t.Parallel()
	first, second := startReplica(t, "first", "tcp", "127.0.0.1:0"), startReplica(t, "second", "tcp", "127.0.0.1:0")
	link := freezableLink(t, first.address)
	conn := connect(t, link.address, second.address)
	until(t, "both in use", func() bool { return len(round(t, conn, 2)) == 2 })
	link.frozen.Store(true)
	began := time.Now()
	for longest := pingEvery + pingTimeout + 2*time.Second; ; {
		ctx, cancel := context.WithTimeout(context.Background(), longest)
		answer, err := apiv1.NewNodeServiceClient(conn).GetNodeInfo(ctx, &apiv1.GetNodeInfoRequest{})
		cancel()
		if err != nil || answer.GetReplica() != "second" {
			t.Fatalf("after %v: %v, %v", time.Since(began), answer, err)
		}
		if time.Since(began) > pingTimeout {
			break // this was the call that the frozen one held up
		}
	}
	if seen := round(t, conn, 20); seen["second"] != 20 {
		t.Errorf("a frozen replica was asked: %v", seen)
	}
}

func TestNoReplicaAtAllIsSaidSoon(t *testing.T) {
	gone := startReplica(t, "gone", "tcp", "127.0.0.1:0")
	gone.server.Stop()
	conn := connect(t, gone.address, "unix:"+filepath.Join(t.TempDir(), "absent"))
	if _, err := who(t, conn); status.Code(err) != codes.Unavailable {
		t.Errorf("got %v", err)
	}
	if state := conn.calls.GetState(); state == connectivity.Shutdown {
		t.Errorf("gave up for good: %v", state)
	}
}

func TestReadsAreTheCallsBoundToGet(t *testing.T) {
	text, err := os.ReadFile("../../../proto/rest/firefly_v1.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var bound, others []string
	rules := regexp.MustCompile(`- selector: (\S+)\n\s+(get|post|put|patch|delete):`)
	for _, found := range rules.FindAllStringSubmatch(string(text), -1) {
		if found[2] == "get" {
			bound = append(bound, found[1])
		} else {
			others = append(others, found[1])
		}
	}
	var known []string
	for _, read := range reads() {
		known = append(known, read.Service+"."+read.Method)
	}
	slices.Sort(bound)
	slices.Sort(known)
	if len(bound) < 40 || !slices.Equal(bound, known) {
		t.Errorf("bound to GET: %v\nknown as reads: %v", bound, known)
	}
	for _, other := range others {
		if slices.Contains(known, other) {
			t.Errorf("%s is bound to another method", other)
		}
	}
}

func TestAddresses(t *testing.T) {
	for text, want := range map[string]error{
		"unix:/run/core.sock":                   nil,
		"dns:///core.example:7000":              nil,
		"a.example:1,dns:///b.example:2,unix:c": nil,
		"a.example:1,a.example:1":               errors.New("a.example:1 stands twice"),
		"a.example:1,b.example":                 errors.New("b.example: address b.example: missing port in address"),
	} {
		if got := Check(text); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: %v, want %v", text, got, want)
		}
	}
	for text, want := range map[string]bool{
		"unix:a,127.0.0.1:7000,dns:///[::1]:7000,localhost:1": true,
		"unix:a,core.example:7000":                            false,
		"dns:///10.0.0.1:7000":                                false,
	} {
		if AreLocal(text) != want {
			t.Errorf("%s: local is %v", text, !want)
		}
	}
}
