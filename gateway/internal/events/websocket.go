// Package events serves FireFly's event WebSockets over EventService.Subscribe.
//
// One socket is one stream: frames are translated, nothing is kept. What may be under way is the core's decision; a client
// that does not read stops the stream by HTTP/2's flow control.
package events

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	apiv1 "github.com/photinus-project/photinus/gateway/gen/photinus/api/v1"
	"github.com/photinus-project/photinus/gateway/internal/access"
	"github.com/photinus-project/photinus/gateway/internal/coded"
	"github.com/photinus-project/photinus/gateway/internal/fireflyjson"
	"github.com/photinus-project/photinus/gateway/internal/observing"
)

// Close codes, beyond which clients are told nothing.
const (
	closeProtocolError = websocket.StatusPolicyViolation
	closeGoingAway     = websocket.StatusGoingAway
	closeTryAgain      = websocket.StatusTryAgainLater
)

const (
	closeReasonMax = 120 // bytes that fit into a close frame
	refusalTimeout = 5 * time.Second
	requestsMax    = 64 // read from a client and not given to the core yet
)

// Limits of sockets.
type Limits struct {
	FrameBytesMax  int64
	ConnectionsMax int64
	// How long a client may leave a frame untaken.
	FrameTimeout time.Duration
}

// Sockets is the handler of /ws and of its twin below a namespace.
type Sockets struct {
	events  apiv1.EventServiceClient
	asking  *access.Asking
	limits  Limits
	accept  *websocket.AcceptOptions
	open    atomic.Int64
	running sync.WaitGroup
	closing context.Context
	close   context.CancelFunc
}

// New makes the handler. origins are those whose pages may open sockets, beside the gateway's own; `*` is any.
func New(conn grpc.ClientConnInterface, limits Limits, origins []string) *Sockets {
	sockets := &Sockets{
		events: apiv1.NewEventServiceClient(conn),
		asking: access.NewAsking(conn),
		limits: limits,
		accept: &websocket.AcceptOptions{OriginPatterns: origins, Subprotocols: []string{access.Subprotocol}},
	}
	sockets.closing, sockets.close = context.WithCancel(context.Background())
	return sockets
}

// Open is the number of sockets.
func (s *Sockets) Open() int64 { return s.open.Load() }

// Shutdown closes all sockets with `going away` and waits until they are closed or the context ends.
func (s *Sockets) Shutdown(ctx context.Context) {
	s.close()
	done := make(chan struct{})
	go func() {
		s.running.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// Serve handles one socket; namespace pins it, empty leaves it free.
func (s *Sockets) Serve(w http.ResponseWriter, r *http.Request, namespace string) {
	if s.closing.Err() != nil {
		coded.Write(w, coded.New(coded.ShuttingDown))
		return
	}
	defer s.open.Add(-1)
	if s.open.Add(1) > s.limits.ConnectionsMax {
		coded.Write(w, coded.New(coded.TooManyOpen, s.limits.ConnectionsMax, "WebSockets"))
		return
	}
	s.running.Add(1)
	defer s.running.Done()
	ctx := metadata.NewOutgoingContext(r.Context(), outgoing(r))
	if failure := s.check(r, namespace); failure != nil {
		coded.Write(w, failure)
		return
	}
	conn, err := websocket.Accept(w, r, s.accept)
	if err != nil {
		return // Accept has answered
	}
	conn.SetReadLimit(s.limits.FrameBytesMax)
	bridge := &bridge{
		conn:         conn,
		requests:     make(chan *apiv1.SubscribeRequest, requestsMax),
		frameTimeout: s.limits.FrameTimeout,
	}
	bridge.run(ctx, s, r, namespace)
}

func outgoing(r *http.Request) metadata.MD {
	found := metadata.MD{}
	for _, name := range []string{"traceparent", "tracestate"} {
		if value := r.Header.Get(name); value != "" {
			found.Set(name, value)
		}
	}
	if authorization := access.Authorization(r); authorization != "" {
		found.Set("authorization", authorization)
	}
	observing.Metadata(r.Context(), func(name, value string) { found.Set(name, value) })
	return found
}

// check refuses the upgrade to who may not read what it asks for, as far as the request tells, and for a namespace in the
// path that is unknown or not started, both as not found. All else is told over the socket.
func (s *Sockets) check(r *http.Request, pinned string) *coded.Error {
	namespace := pinned
	if namespace == "" {
		namespace = r.URL.Query().Get("namespace")
	}
	failure := s.asking.MayRead(r, namespace)
	if failure == nil || (pinned == "" && !access.IsRefusal(failure)) {
		return nil
	}
	if failure.Status == http.StatusPreconditionFailed {
		failure.Status = http.StatusNotFound
	}
	return failure
}

type eventStream = grpc.BidiStreamingClient[apiv1.SubscribeRequest, apiv1.SubscribeResponse]

// bridge joins one socket with one stream.
type bridge struct {
	conn         *websocket.Conn
	stream       eventStream
	frameTimeout time.Duration
	// What was read and not sent.
	requests chan *apiv1.SubscribeRequest
	// Whether the core sends runs of events, and so takes runs of acks.
	hasRuns atomic.Bool
}

func (b *bridge) run(ctx context.Context, s *Sockets, r *http.Request, namespace string) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer func() { _ = b.conn.CloseNow() }()
	stream, err := s.events.Subscribe(ctx)
	if err != nil {
		b.end(err)
		return
	}
	b.stream = stream
	connect := &apiv1.Connect{RemoteAddress: r.RemoteAddr, UserAgent: r.UserAgent(), Namespace: namespace, TakesRuns: true}
	b.send(&apiv1.SubscribeRequest{Frame: &apiv1.SubscribeRequest_Connect{Connect: connect}})
	if start := startFromURL(r.URL.Query()); start != nil {
		b.send(&apiv1.SubscribeRequest{Frame: &apiv1.SubscribeRequest_Start{Start: start}})
	}
	stop := context.AfterFunc(s.closing, func() { _ = b.conn.Close(closeGoingAway, "shutting down") })
	defer stop()
	reading := make(chan struct{})
	go func() {
		defer close(reading)
		defer cancel()
		var sending sync.WaitGroup
		sending.Go(b.sendAll)
		b.read(ctx)
		close(b.requests)
		defer time.AfterFunc(refusalTimeout, cancel).Stop() // a core that does not read holds up nobody
		sending.Wait()
	}()
	b.write(ctx)
	_ = b.conn.CloseNow()
	<-reading
}

// read takes frames from the socket to the stream until either ends. Closing the stream is the caller's.
func (b *bridge) read(ctx context.Context) {
	for {
		_, text, err := b.conn.Read(ctx)
		if err != nil {
			return
		}
		request, err := readFrame(text)
		if err != nil {
			b.refuse(ctx, err)
			return
		}
		select {
		case b.requests <- request:
		case <-ctx.Done():
			return
		}
	}
}

// sendAll gives the core what was read, in order; acks that wait together go together.
func (b *bridge) sendAll() {
	for request := range b.requests {
		for request != nil {
			var next *apiv1.SubscribeRequest
			if request.GetAck() != nil && b.hasRuns.Load() {
				request, next = b.withMoreAcks(request)
			}
			b.send(request)
			request = next
		}
	}
}

// withMoreAcks joins an ack with those that wait behind it, and gives what else it came upon.
func (b *bridge) withMoreAcks(request *apiv1.SubscribeRequest) (joined, next *apiv1.SubscribeRequest) {
	acks := []*apiv1.Ack{request.GetAck()}
	for len(acks) < requestsMax && next == nil {
		select {
		case waiting := <-b.requests: // nil once it is closed
			if ack := waiting.GetAck(); ack != nil {
				acks = append(acks, ack)
				continue
			}
			next = waiting
		default:
		}
		break
	}
	if len(acks) == 1 {
		return request, next
	}
	run := &apiv1.AckRun{Acks: acks}
	return &apiv1.SubscribeRequest{Frame: &apiv1.SubscribeRequest_Acks{Acks: run}}, next
}

// send gives a request to the core. A stream that has ended is seen where it is read.
func (b *bridge) send(request *apiv1.SubscribeRequest) {
	if err := b.stream.Send(request); err != nil && !errors.Is(err, io.EOF) {
		slog.Debug("event stream does not take a request", "error", err)
	}
}

// refuse tells a client what is wrong, if it listens, and ends the socket.
func (b *bridge) refuse(ctx context.Context, err error) {
	ctx, cancel := context.WithTimeout(ctx, refusalTimeout)
	defer cancel()
	text := coded.From(err).Text
	_ = b.conn.Write(ctx, websocket.MessageText, protocolError(text))
	b.closeWith(closeProtocolError, text)
}

// write takes responses from the stream to the socket until either ends.
func (b *bridge) write(ctx context.Context) {
	refusal := ""
	for {
		response, err := b.stream.Recv()
		if err != nil {
			if refusal != "" {
				b.closeWith(closeProtocolError, refusal)
			} else {
				b.end(err)
			}
			return
		}
		if failure := response.GetProtocolError(); failure.GetCloses() {
			refusal = failure.GetError()
		}
		if run := response.GetEvents(); run != nil {
			b.hasRuns.Store(true)
			for _, event := range run.GetEvents() {
				if b.give(ctx, fireflyjson.Encode(event)) != nil {
					return
				}
			}
		} else if frame := writeFrame(response); frame != nil {
			if b.give(ctx, frame) != nil {
				return
			}
		}
	}
}

// give writes a frame to the socket. A client that takes nothing for as long as the limit loses the socket: another one may
// be waiting for its subscription.
func (b *bridge) give(ctx context.Context, frame []byte) error {
	ctx, cancel := context.WithTimeout(ctx, b.frameTimeout)
	defer cancel()
	return b.conn.Write(ctx, websocket.MessageText, frame)
}

// end closes the socket of a stream that ended by itself: clients reconnect.
func (b *bridge) end(err error) {
	switch {
	case errors.Is(err, io.EOF), status.Code(err) == codes.Unavailable:
		b.closeWith(closeTryAgain, "try again")
	case status.Code(err) == codes.Canceled:
		_ = b.conn.CloseNow()
	default:
		b.refuse(context.Background(), err)
	}
}

func (b *bridge) closeWith(code websocket.StatusCode, reason string) {
	if len(reason) > closeReasonMax {
		reason = strings.ToValidUTF8(reason[:closeReasonMax], "") // a cut character would break the frame
	}
	_ = b.conn.Close(code, reason)
}
