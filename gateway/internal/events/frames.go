package events

import (
	"encoding/json"
	"errors"
	"net/url"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"

	apiv1 "github.com/photinus-project/photinus/gateway/gen/photinus/api/v1"
	"github.com/photinus-project/photinus/gateway/internal/coded"
	"github.com/photinus-project/photinus/gateway/internal/fireflyjson"
)

// readFrame makes a request of a client's frame. Its errors are the text of a protocol error.
func readFrame(text []byte) (*apiv1.SubscribeRequest, error) {
	var head struct {
		Type string `json:"type"`
	}
	if err := json.Unmarshal(text, &head); err != nil {
		// The decoder's own words: FireFly's clients have always been given them.
		return nil, coded.New(coded.InvalidData, err.Error())
	}
	switch head.Type {
	case "start":
		frame := &apiv1.Start{}
		return &apiv1.SubscribeRequest{Frame: &apiv1.SubscribeRequest_Start{Start: frame}}, decode(text, frame)
	case "ack":
		frame := &apiv1.Ack{}
		return &apiv1.SubscribeRequest{Frame: &apiv1.SubscribeRequest_Ack{Ack: frame}}, decode(text, frame)
	case "nack":
		frame := &apiv1.Nack{}
		return &apiv1.SubscribeRequest{Frame: &apiv1.SubscribeRequest_Nack{Nack: frame}}, decode(text, frame)
	}
	return nil, coded.New(coded.InvalidData, coded.New(coded.UnknownAction, head.Type).Text)
}

func decode(text []byte, frame proto.Message) error {
	err := fireflyjson.Decode(text, frame)
	var unreadable *fireflyjson.Error
	if errors.As(err, &unreadable) {
		return coded.New(coded.InvalidData, unreadable.Error())
	}
	return err
}

// writeFrame gives the JSON of a response, or nothing for one that WebSockets do not show.
func writeFrame(response *apiv1.SubscribeResponse) []byte {
	switch frame := response.GetFrame().(type) {
	case *apiv1.SubscribeResponse_Event:
		return fireflyjson.Encode(frame.Event)
	case *apiv1.SubscribeResponse_EventBatch:
		return withType("event_batch", frame.EventBatch)
	case *apiv1.SubscribeResponse_ProtocolError:
		return withType("protocol_error", frame.ProtocolError)
	}
	return nil
}

func protocolError(text string) []byte {
	return withType("protocol_error", &apiv1.ProtocolError{Error: text})
}

// withType puts FireFly's type in front of the members of a message, which has at least one.
func withType(name string, message proto.Message) []byte {
	out := append([]byte(`{"type":"`), name...)
	return append(append(out, `",`...), fireflyjson.Encode(message)[1:]...)
}

// startFromURL gives the start that stands in the URL of a WebSocket, if any: FireFly's flags and filters. What it cannot
// read it ignores, as FireFly does.
func startFromURL(query url.Values) *apiv1.Start {
	if !query.Has("ephemeral") && !query.Has("name") {
		return nil
	}
	start := &apiv1.Start{
		Namespace: query.Get("namespace"),
		Name:      query.Get("name"),
		Ephemeral: flag(query, "ephemeral"),
		Filter:    filterFromURL(query),
		Options:   &apiv1.SubscriptionOptions{BatchTimeout: query.Get("batchtimeout")},
		FromUrl:   true,
	}
	if query.Has("autoack") {
		start.Autoack = proto.Bool(flag(query, "autoack"))
	}
	if query.Has("batch") {
		start.Options.Batch = proto.Bool(flag(query, "batch"))
	}
	if ahead, err := strconv.ParseUint(query.Get("readahead"), 10, 16); err == nil {
		start.Options.ReadAhead = proto.Uint32(uint32(ahead))
	}
	return start
}

// flag reads a flag: present, and not `false`.
func flag(query url.Values, name string) bool {
	return query.Has(name) && !strings.EqualFold(query.Get(name), "false")
}

func filterFromURL(query url.Values) *apiv1.SubscriptionFilter {
	return &apiv1.SubscriptionFilter{
		Events: query.Get("filter.events"),
		Topic:  query.Get("filter.topic"),
		Message: &apiv1.MessageFilter{
			Group:  query.Get("filter.message.group"),
			Tag:    query.Get("filter.message.tag"),
			Author: query.Get("filter.message.author"),
		},
		BlockchainEvent: &apiv1.BlockchainEventFilter{
			Name:     query.Get("filter.blockchain.name"),
			Listener: query.Get("filter.blockchain.listener"),
		},
		Transaction: &apiv1.TransactionFilter{Type: query.Get("filter.transaction.type")},
		Topics:      query.Get("filter.topics"),
		Tag:         query.Get("filter.tag"),
		Group:       query.Get("filter.group"),
		Author:      query.Get("filter.author"),
	}
}
