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
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	apiv1 "github.com/photinus-project/photinus/gateway/gen/photinus/api/v1"
	"github.com/photinus-project/photinus/gateway/internal/access"
	"github.com/photinus-project/photinus/gateway/internal/coded"
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
)

// Limits of sockets.
type Limits struct {
	FrameBytesMax  int64
	ConnectionsMax int64
	// How long a client may leave a frame untaken.
	FrameTimeout time.Duration
}

// door lets sockets in, no more than there may be, and closes them when the gateway stops.
type door struct {
	limits  Limits
	accept  *websocket.AcceptOptions
	open    atomic.Int64
	running sync.WaitGroup
	closing context.Context
	close   context.CancelFunc
}

func newDoor(limits Limits, origins []string) *door {
	accept := &websocket.AcceptOptions{OriginPatterns: origins, Subprotocols: []string{access.Subprotocol}}
	made := &door{limits: limits, accept: accept}
	made.closing, made.close = context.WithCancel(context.Background())
	return made
}

// Open is the number of sockets.
func (d *door) Open() int64 { return d.open.Load() }

// Shutdown closes all sockets with `going away` and waits until they are closed or the context ends.
func (d *door) Shutdown(ctx context.Context) {
	d.close()
	done := make(chan struct{})
	go func() {
		d.running.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// admit makes a socket of a request, unless `check` has something against it, and closes it when `talk` returns. The context
// of both is for calls to the core, in the client's name.
func (d *door) admit(
	w http.ResponseWriter, r *http.Request, check func(context.Context) *coded.Error, talk func(context.Context, *socket),
) {
	if d.closing.Err() != nil {
		coded.Write(w, coded.New(coded.ShuttingDown))
		return
	}
	defer d.open.Add(-1)
	if d.open.Add(1) > d.limits.ConnectionsMax {
		coded.Write(w, coded.New(coded.TooManyOpen, d.limits.ConnectionsMax, "WebSockets"))
		return
	}
	d.running.Add(1)
	defer d.running.Done()
	ctx, cancel := context.WithCancel(metadata.NewOutgoingContext(r.Context(), outgoing(r)))
	defer cancel()
	if failure := check(ctx); failure != nil {
		coded.Write(w, failure)
		return
	}
	conn, err := websocket.Accept(w, r, d.accept)
	if err != nil {
		return // Accept has answered
	}
	defer func() { _ = conn.CloseNow() }()
	conn.SetReadLimit(d.limits.FrameBytesMax)
	stop := context.AfterFunc(d.closing, func() { _ = conn.Close(closeGoingAway, "shutting down") })
	defer stop()
	talk(ctx, &socket{conn, d.limits.FrameTimeout, cancel})
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

// socket is a client's end; the core's is one stream.
type socket struct {
	conn         *websocket.Conn
	frameTimeout time.Duration
	endStream    context.CancelFunc
}

// join has both directions run until both have ended: the end of the client's ends the stream, that of the core's the socket.
func (s *socket) join(fromClient, fromCore func()) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer s.endStream()
		fromClient()
	}()
	fromCore()
	_ = s.conn.CloseNow()
	<-ended
}

// hear takes a client's frames until it leaves, the context ends, or a frame is wrong, which ends the socket.
func hear[T any](ctx context.Context, s *socket, read func(text []byte) (T, error), take func(T)) {
	for {
		_, text, err := s.conn.Read(ctx)
		if err != nil {
			return
		}
		request, err := read(text)
		if err != nil {
			s.refuse(ctx, err)
			return
		}
		take(request)
	}
}

// send gives a request to the core. A stream that has ended is seen where it is read.
func send[T any](stream interface{ Send(*T) error }, request *T) {
	if err := stream.Send(request); err != nil && !errors.Is(err, io.EOF) {
		slog.Debug("a socket's stream does not take a request", "error", err)
	}
}

// tell takes responses from a stream until it ends, which ends the socket, or the client cannot be shown one.
func tell[T interface{ GetProtocolError() *apiv1.ProtocolError }](s *socket, receive func() (T, error), show func(T) error) {
	refusal := ""
	for {
		response, err := receive()
		if err != nil {
			if refusal != "" {
				s.closeWith(closeProtocolError, refusal)
			} else {
				s.end(err)
			}
			return
		}
		if failure := response.GetProtocolError(); failure.GetCloses() {
			refusal = failure.GetError()
		}
		if show(response) != nil {
			return
		}
	}
}

// give writes a frame to the socket, if there is one. A client that takes nothing for as long as the limit loses the socket:
// another one may be waiting for its subscription.
func (s *socket) give(ctx context.Context, frame []byte) error {
	if frame == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.frameTimeout)
	defer cancel()
	return s.conn.Write(ctx, websocket.MessageText, frame)
}

// refuse tells a client what is wrong, if it listens, and ends the socket.
func (s *socket) refuse(ctx context.Context, err error) {
	ctx, cancel := context.WithTimeout(ctx, refusalTimeout)
	defer cancel()
	text := coded.From(err).Text
	_ = s.conn.Write(ctx, websocket.MessageText, protocolError(text))
	s.closeWith(closeProtocolError, text)
}

// end closes the socket of a stream that ended by itself: clients reconnect.
func (s *socket) end(err error) {
	switch {
	case errors.Is(err, io.EOF), status.Code(err) == codes.Unavailable:
		s.closeWith(closeTryAgain, "try again")
	case status.Code(err) == codes.Canceled:
		_ = s.conn.CloseNow()
	default:
		s.refuse(context.Background(), err)
	}
}

func (s *socket) closeWith(code websocket.StatusCode, reason string) {
	if len(reason) > closeReasonMax {
		reason = strings.ToValidUTF8(reason[:closeReasonMax], "") // a cut character would break the frame
	}
	_ = s.conn.Close(code, reason)
}
