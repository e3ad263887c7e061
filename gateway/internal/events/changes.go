package events

import (
	"context"
	"encoding/json"
	"net/http"

	"google.golang.org/grpc"

	apiv1 "github.com/photinus-project/photinus/gateway/gen/photinus/api/v1"
	"github.com/photinus-project/photinus/gateway/internal/access"
	"github.com/photinus-project/photinus/gateway/internal/coded"
	"github.com/photinus-project/photinus/gateway/internal/fireflyjson"
)

// ChangeSockets is the handler of /spi/ws: one socket is one SpiService.WatchChanges stream. What a client does not read in
// time the core drops and counts; here no more waits than HTTP/2's window holds.
type ChangeSockets struct {
	*door
	spi apiv1.SpiServiceClient
}

// NewChanges makes the handler; its arguments are those of New.
func NewChanges(conn grpc.ClientConnInterface, limits Limits, origins []string) *ChangeSockets {
	return &ChangeSockets{newDoor(limits, origins), apiv1.NewSpiServiceClient(conn)}
}

// Serve handles one socket.
func (s *ChangeSockets) Serve(w http.ResponseWriter, r *http.Request) {
	s.admit(w, r, s.check, func(ctx context.Context, client *socket) {
		stream, err := s.spi.WatchChanges(ctx)
		if err != nil {
			client.end(err)
			return
		}
		take := func(request *apiv1.WatchChangesRequest) { send(stream, request) }
		show := func(response *apiv1.WatchChangesResponse) error { return client.give(ctx, writeChangeFrame(response)) }
		client.join(
			func() { hear(ctx, client, readChangeFrame, take) },
			func() { tell(client, stream.Recv, show) },
		)
	})
}

// check refuses the upgrade to who may not use the SPI, by a call that finds nothing.
func (s *ChangeSockets) check(ctx context.Context) *coded.Error {
	if _, err := s.spi.GetNodeNamespace(ctx, &apiv1.GetNodeNamespaceRequest{}); err != nil {
		if failure := coded.From(err); access.IsRefusal(failure) {
			return failure
		}
	}
	return nil
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
