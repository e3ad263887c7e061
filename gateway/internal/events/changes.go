package events

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	apiv1 "github.com/photinus-project/photinus/gateway/gen/photinus/api/v1"
	"github.com/photinus-project/photinus/gateway/internal/access"
	"github.com/photinus-project/photinus/gateway/internal/coded"
	"github.com/photinus-project/photinus/gateway/internal/fireflyjson"
)

// ChangeSockets is the handler of /spi/ws: one socket is one SpiService.WatchChanges stream. What a client does not read in
// time the core drops and counts; here no more waits than HTTP/2's window holds.
type ChangeSockets struct {
	*Sockets
	spi apiv1.SpiServiceClient
}

// NewChanges makes the handler; its arguments are those of New.
func NewChanges(conn grpc.ClientConnInterface, limits Limits, origins []string) *ChangeSockets {
	return &ChangeSockets{New(conn, limits, origins), apiv1.NewSpiServiceClient(conn)}
}

// Serve handles one socket.
func (s *ChangeSockets) Serve(w http.ResponseWriter, r *http.Request) {
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
	ctx, cancel := context.WithCancel(metadata.NewOutgoingContext(r.Context(), outgoing(r)))
	defer cancel()
	// A call that finds nothing: who may not use the SPI is refused before the upgrade.
	if _, err := s.spi.GetNodeNamespace(ctx, &apiv1.GetNodeNamespaceRequest{}); err != nil && access.IsRefusal(coded.From(err)) {
		coded.Write(w, coded.From(err))
		return
	}
	conn, err := websocket.Accept(w, r, s.accept)
	if err != nil {
		return // Accept has answered
	}
	conn.SetReadLimit(s.limits.FrameBytesMax)
	bridge := &changeBridge{bridge: &bridge{conn: conn, frameTimeout: s.limits.FrameTimeout}}
	bridge.run(ctx, cancel, s)
}

// changeBridge joins one socket with one stream of changes.
type changeBridge struct {
	*bridge
	changes grpc.BidiStreamingClient[apiv1.WatchChangesRequest, apiv1.WatchChangesResponse]
}

func (b *changeBridge) run(ctx context.Context, cancel context.CancelFunc, s *ChangeSockets) {
	defer func() { _ = b.conn.CloseNow() }()
	stream, err := s.spi.WatchChanges(ctx)
	if err != nil {
		b.end(err)
		return
	}
	b.changes = stream
	stop := context.AfterFunc(s.closing, func() { _ = b.conn.Close(closeGoingAway, "shutting down") })
	defer stop()
	reading := make(chan struct{})
	go func() {
		defer close(reading)
		defer cancel()
		b.readStarts(ctx)
	}()
	b.writeChanges(ctx)
	_ = b.conn.CloseNow()
	<-reading
}

// readStarts takes frames from the socket to the stream until either ends.
func (b *changeBridge) readStarts(ctx context.Context) {
	for {
		_, text, err := b.conn.Read(ctx)
		if err != nil {
			return
		}
		request, err := readChangeFrame(text)
		if err != nil {
			b.refuse(ctx, err)
			return
		}
		if err := b.changes.Send(request); err != nil && !errors.Is(err, io.EOF) {
			slog.Debug("stream of changes does not take a request", "error", err)
		}
	}
}

// writeChanges takes responses from the stream to the socket until either ends.
func (b *changeBridge) writeChanges(ctx context.Context) {
	refusal := ""
	for {
		response, err := b.changes.Recv()
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
		if frame := writeChangeFrame(response); frame != nil {
			if b.give(ctx, frame) != nil {
				return
			}
		}
	}
}

// readChangeFrame makes a request of a client's frame. Its errors are the text of a protocol error.
func readChangeFrame(text []byte) (*apiv1.WatchChangesRequest, error) {
	var head struct {
		Type string `json:"type"`
	}
	if err := json.Unmarshal(text, &head); err != nil {
		return nil, coded.New(coded.InvalidData, err.Error())
	}
	if head.Type != "start" {
		return nil, coded.New(coded.InvalidData, coded.New(coded.UnknownAction, head.Type).Text)
	}
	start := &apiv1.ChangeStart{}
	return &apiv1.WatchChangesRequest{Frame: &apiv1.WatchChangesRequest_Start{Start: start}}, decode(text, start)
}

// writeChangeFrame gives the JSON of a response, or nothing for one that WebSockets do not show.
func writeChangeFrame(response *apiv1.WatchChangesResponse) []byte {
	switch frame := response.GetFrame().(type) {
	case *apiv1.WatchChangesResponse_Change:
		return fireflyjson.Encode(frame.Change)
	case *apiv1.WatchChangesResponse_ProtocolError:
		return withType("protocol_error", frame.ProtocolError)
	}
	return nil
}
