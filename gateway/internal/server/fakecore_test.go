package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/photinus-project/photinus/gateway/internal/events"
	"github.com/photinus-project/photinus/gateway/internal/rest"
)

// fakeCore stands in for the core: it answers every call as a test has set it up, and notes what it was asked.
type fakeCore struct {
	mutex   sync.Mutex
	answer  func(method protoreflect.MethodDescriptor) (proto.Message, metadata.MD, error)
	streams map[string]func(grpc.ServerStream) error
	asked   proto.Message
	sent    metadata.MD
	left    time.Duration // until the deadline of the call
	health  *health.Server
}

// gateway is a gateway in front of a fake core.
type gateway struct {
	core   *fakeCore
	conn   *grpc.ClientConn
	server *Server
	url    string
}

func testOptions() Options {
	return Options{
		DrainTimeout: 5 * time.Second,
		CORS:         CORS{Origins: []string{"*"}, Methods: []string{"GET", "POST"}, Headers: []string{"*"}, Credentials: true, MaxAge: time.Minute},
		Requests:     rest.Limits{BodyBytesMax: 1 << 20, Timeout: time.Minute, TimeoutMax: time.Minute},
		Sockets:      events.Limits{FrameBytesMax: 4096, ConnectionsMax: 3, FrameTimeout: time.Minute},
	}
}

func newGateway(t *testing.T, change ...func(*Options)) *gateway {
	t.Helper()
	core := &fakeCore{streams: map[string]func(grpc.ServerStream) error{}, health: health.NewServer()}
	core.answer = func(method protoreflect.MethodDescriptor) (proto.Message, metadata.MD, error) {
		return newMessage(method.Output()), nil, nil
	}
	listener := bufconn.Listen(1 << 20)
	backend := grpc.NewServer(grpc.UnknownServiceHandler(core.handle))
	grpc_health_v1.RegisterHealthServer(backend, core.health)
	go func() { _ = backend.Serve(listener) }()
	t.Cleanup(backend.Stop)
	conn, err := grpc.NewClient("passthrough:core",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return listener.Dial() }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	options := testOptions()
	for _, each := range change {
		each(&options)
	}
	made, err := New(conn, options)
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewServer(made.Handler())
	t.Cleanup(front.Close)
	return &gateway{core: core, conn: conn, server: made, url: front.URL}
}

// newSPI is the service provider interface in front of a fake core, asked like a gateway.
func newSPI(t *testing.T, change ...func(*Options)) *gateway {
	t.Helper()
	made := newGateway(t, change...)
	spi, err := NewSPI(made.conn, made.server.options, made.server)
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewServer(spi.Handler())
	t.Cleanup(front.Close)
	return &gateway{core: made.core, conn: made.conn, server: made.server, url: front.URL}
}

// handle serves any call of the typed API.
func (c *fakeCore) handle(_ any, stream grpc.ServerStream) error {
	name, _ := grpc.MethodFromServerStream(stream)
	if special := c.special(name); special != nil {
		return special(stream)
	}
	service, call, _ := strings.Cut(strings.TrimPrefix(name, "/"), "/")
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service + "." + call))
	if err != nil {
		return status.Error(codes.Unimplemented, err.Error())
	}
	method := found.(protoreflect.MethodDescriptor)
	request := newMessage(method.Input())
	if err := stream.RecvMsg(request); err != nil {
		return err
	}
	sent, _ := metadata.FromIncomingContext(stream.Context())
	c.mutex.Lock()
	c.asked, c.sent = request, sent
	if deadline, limited := stream.Context().Deadline(); limited {
		c.left = time.Until(deadline)
	}
	answer := c.answer
	c.mutex.Unlock()
	response, header, err := answer(method)
	if err != nil {
		return err
	}
	return errors.Join(stream.SetHeader(header), stream.SendMsg(response))
}

func (c *fakeCore) special(name string) func(grpc.ServerStream) error {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return c.streams[name]
}

func newMessage(descriptor protoreflect.MessageDescriptor) proto.Message {
	found, err := protoregistry.GlobalTypes.FindMessageByName(descriptor.FullName())
	if err != nil {
		panic(err)
	}
	return found.New().Interface()
}

// reply sets what all further calls are answered with.
func (c *fakeCore) reply(response proto.Message, code int) {
	c.answerWith(func(protoreflect.MethodDescriptor) (proto.Message, metadata.MD, error) {
		return response, metadata.Pairs("x-http-code", strconv.Itoa(code)), nil
	})
}

func (c *fakeCore) answerWith(answer func(protoreflect.MethodDescriptor) (proto.Message, metadata.MD, error)) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.answer = answer
}

func (c *fakeCore) lastAsked() (proto.Message, metadata.MD) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return c.asked, c.sent
}

func (c *fakeCore) timeLeft() time.Duration {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return c.left
}

// coreError is an error as the core sends it.
func coreError(httpStatus int, text string) error {
	code, _, _ := strings.Cut(text, ":")
	made, err := status.New(codes.Internal, text).WithDetails(&errdetails.ErrorInfo{
		Reason: code, Domain: "photinus", Metadata: map[string]string{"http_status": strconv.Itoa(httpStatus)},
	})
	if err != nil {
		panic(err)
	}
	return made.Err()
}

// do makes a request and reads the answer whole. Redirects are not followed.
func (g *gateway) do(t *testing.T, method, path, body string, headers ...string) (*http.Response, string) {
	t.Helper()
	request, err := http.NewRequest(method, g.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if method == http.MethodGet || method == http.MethodDelete {
		request.Body = http.NoBody
	}
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	client := &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       20 * time.Second,
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, string(text)
}

func (g *gateway) expect(t *testing.T, method, path, body string, code int, answer string, headers ...string) {
	t.Helper()
	response, text := g.do(t, method, path, body, headers...)
	if response.StatusCode != code || text != answer {
		t.Errorf("%s %s: got %d %q, want %d %q", method, path, response.StatusCode, text, code, answer)
	}
}

func errorBody(text string) string { return fmt.Sprintf("{\"error\":%q}\n", text) }

// localListener listens on a free port of this machine, for a limited number of connections.
func localListener(t *testing.T) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return LimitConnections(listener, 8)
}
