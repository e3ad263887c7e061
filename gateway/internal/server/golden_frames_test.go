package server

import (
	"bufio"
	"encoding/json"
	"os"
	"testing"

	"google.golang.org/protobuf/proto"

	apiv1 "github.com/photinus-project/photinus/gateway/gen/photinus/api/v1"
	"github.com/photinus-project/photinus/gateway/internal/fireflyjson"
)

// TestGoldenFrames has the core send, as typed responses, every frame that a real FireFly was seen to send: a client must
// be given the same bytes. Every frame that a client sent to it, and that is none of the deliberate errors, must reach the
// core.
func TestGoldenFrames(t *testing.T) {
	gateway := newGateway(t)
	streams := gateway.subscribe()
	socket := gateway.open(t, "/ws")
	socket.SetReadLimit(1 << 20)
	core := <-streams
	core.next(t)
	given, taken := 0, 0
	for _, line := range readFrames(t) {
		switch line.Event {
		case "recv":
			core.send <- responseOf(t, line.Frame)
			socket.expect(string(line.Frame))
			given++
		case "send":
			var head struct{ Type, Text string }
			_ = json.Unmarshal(line.Frame, &head)
			if head.Type == "start" || head.Type == "ack" {
				socket.say(string(line.Frame))
				if core.next(t).GetFrame() == nil {
					t.Errorf("%s: nothing reached the core", line.ID)
				}
				taken++
			}
		}
	}
	if given < 25 || taken < 20 {
		t.Errorf("%d frames given, %d taken", given, taken)
	}
}

type frameLine struct {
	ID    string          `json:"id"`
	Event string          `json:"event"`
	Frame json.RawMessage `json:"frame"`
}

func readFrames(t *testing.T) []frameLine {
	t.Helper()
	opened, err := os.Open("../../../tests/data/golden/websocket.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = opened.Close() }()
	var found []frameLine
	lines := bufio.NewScanner(opened)
	lines.Buffer(nil, 8<<20)
	for lines.Scan() {
		var line frameLine
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			t.Fatal(err)
		}
		found = append(found, line)
	}
	return found
}

// responseOf gives what the core would have sent for a frame.
func responseOf(t *testing.T, frame []byte) *apiv1.SubscribeResponse {
	t.Helper()
	var head struct{ Type string }
	if err := json.Unmarshal(frame, &head); err != nil {
		t.Fatal(err)
	}
	decode := func(message proto.Message) {
		if err := fireflyjson.Decode(frame, message); err != nil {
			t.Fatal(err)
		}
	}
	switch head.Type {
	case "event_batch":
		found := &apiv1.EventBatch{}
		decode(found)
		return &apiv1.SubscribeResponse{Frame: &apiv1.SubscribeResponse_EventBatch{EventBatch: found}}
	case "protocol_error":
		found := &apiv1.ProtocolError{}
		decode(found)
		return &apiv1.SubscribeResponse{Frame: &apiv1.SubscribeResponse_ProtocolError{ProtocolError: found}}
	}
	found := &apiv1.EventDelivery{}
	decode(found)
	return &apiv1.SubscribeResponse{Frame: &apiv1.SubscribeResponse_Event{Event: found}}
}
