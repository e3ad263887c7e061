package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	apiv1 "github.com/photinus-project/photinus/gateway/gen/photinus/api/v1"
)

const socketTimeout = 10 * time.Second

type socket struct {
	*websocket.Conn
	t *testing.T
}

func (g *gateway) open(t *testing.T, path string) socket {
	t.Helper()
	conn, response, err := websocket.Dial(t.Context(), g.url+path, nil)
	if err != nil {
		t.Fatal(response, err)
	}
	t.Cleanup(func() { _ = conn.CloseNow() })
	return socket{conn, t}
}

func (s socket) say(text string) {
	s.t.Helper()
	if err := s.Write(s.t.Context(), websocket.MessageText, []byte(text)); err != nil {
		s.t.Fatal(err)
	}
}

func (s socket) hear() (string, error) {
	ctx, cancel := context.WithTimeout(s.t.Context(), socketTimeout)
	defer cancel()
	_, text, err := s.Read(ctx)
	return string(text), err
}

func (s socket) expect(want string) {
	s.t.Helper()
	if text, err := s.hear(); err != nil || text != want {
		s.t.Errorf("heard %q %v, want %q", text, err, want)
	}
}

func (s socket) expectClose(want websocket.StatusCode) {
	s.t.Helper()
	if text, err := s.hear(); websocket.CloseStatus(err) != want {
		s.t.Errorf("heard %q %v, want close code %d", text, err, want)
	}
}

func TestSocketTranslatesFrames(t *testing.T) {
	gateway := newGateway(t)
	streams := gateway.subscribe()
	socket := gateway.open(t, "/ws")
	core := <-streams
	if connect := core.next(t).GetConnect(); !strings.HasPrefix(connect.GetRemoteAddress(), "127.0.0.1:") || connect.GetUserAgent() == "" || connect.GetNamespace() != "" {
		t.Error(connect)
	}
	reference := &apiv1.SubscriptionRef{Id: "s1", Namespace: "ns", Name: "n1"}
	requests := []struct {
		text string
		want *apiv1.SubscribeRequest
	}{
		{
			`{"type":"start","namespace":"ns","name":"n1","autoack":false,"filter":{"events":"e"},"options":{"readAhead":2,"x":1}}`,
			&apiv1.SubscribeRequest{Frame: &apiv1.SubscribeRequest_Start{Start: &apiv1.Start{
				Namespace: "ns", Name: "n1", Autoack: proto.Bool(false), Filter: &apiv1.SubscriptionFilter{Events: "e"},
				Options: &apiv1.SubscriptionOptions{ReadAhead: proto.Uint32(2), Other: `{"x":1}`},
			}}},
		},
		{
			`{"type":"ack","id":"e1","subscription":{"id":"s1","namespace":"ns","name":"n1"}}`,
			&apiv1.SubscribeRequest{Frame: &apiv1.SubscribeRequest_Ack{Ack: &apiv1.Ack{Id: "e1", Subscription: reference}}},
		},
		{`{"type":"ack"}`, &apiv1.SubscribeRequest{Frame: &apiv1.SubscribeRequest_Ack{Ack: &apiv1.Ack{}}}},
		{`{"type":"nack","id":"e1"}`, &apiv1.SubscribeRequest{Frame: &apiv1.SubscribeRequest_Nack{Nack: &apiv1.Nack{Id: "e1"}}}},
	}
	for _, each := range requests {
		socket.say(each.text)
		if got := core.next(t); !proto.Equal(got, each.want) {
			t.Errorf("%s became %v", each.text, got)
		}
	}
	delivery := &apiv1.EventDelivery{Event: &apiv1.Event{Id: "e1", Sequence: 7, Type: "t"}, Subscription: reference}
	core.send <- &apiv1.SubscribeResponse{Frame: &apiv1.SubscribeResponse_Started{Started: &apiv1.Started{Subscription: reference}}}
	core.send <- &apiv1.SubscribeResponse{Frame: &apiv1.SubscribeResponse_Event{Event: delivery}}
	const event = `{"id":"e1","sequence":7,"type":"t","namespace":"","reference":null,"created":null,"subscription":{"id":"s1","namespace":"ns","name":"n1"}}`
	socket.expect(event)
	batch := &apiv1.EventBatch{Id: "b1", Subscription: reference, Events: []*apiv1.EventDelivery{delivery}}
	core.send <- &apiv1.SubscribeResponse{Frame: &apiv1.SubscribeResponse_EventBatch{EventBatch: batch}}
	socket.expect(`{"type":"event_batch","id":"b1","subscription":{"id":"s1","namespace":"ns","name":"n1"},"events":[` + event + `]}`)
	core.send <- &apiv1.SubscribeResponse{Frame: &apiv1.SubscribeResponse_ProtocolError{ProtocolError: &apiv1.ProtocolError{Error: "FF10178: soft"}}}
	socket.expect(`{"type":"protocol_error","error":"FF10178: soft"}`)
	core.send <- &apiv1.SubscribeResponse{Frame: &apiv1.SubscribeResponse_ProtocolError{ProtocolError: &apiv1.ProtocolError{Error: "FF10176: hard", Closes: true}}}
	core.end <- nil
	socket.expect(`{"type":"protocol_error","error":"FF10176: hard"}`)
	socket.expectClose(websocket.StatusPolicyViolation)
}

func TestStartInTheURL(t *testing.T) {
	gateway := newGateway(t)
	streams := gateway.subscribe()
	cases := map[string]*apiv1.Start{
		"namespace=ns&name=n1": {Namespace: "ns", Name: "n1"},
		"namespace=ns&ephemeral&autoack&filter.events=a|b&filter.message.tag=t&filter.blockchain.listener=l": {
			Namespace: "ns", Ephemeral: true, Autoack: proto.Bool(true),
			Filter: &apiv1.SubscriptionFilter{
				Events: "a|b", Message: &apiv1.MessageFilter{Tag: "t"}, BlockchainEvent: &apiv1.BlockchainEventFilter{Listener: "l"},
			},
		},
		"ephemeral&batch&batchtimeout=100ms&readahead=3&filter.author=x&filter.transaction.type=y": {
			Ephemeral: true,
			Filter:    &apiv1.SubscriptionFilter{Author: "x", Transaction: &apiv1.TransactionFilter{Type: "y"}},
			Options:   &apiv1.SubscriptionOptions{Batch: proto.Bool(true), BatchTimeout: "100ms", ReadAhead: proto.Uint32(3)},
		},
		"namespace=ns&ephemeral=false&readahead=junk": {Namespace: "ns"},
	}
	for query, want := range cases {
		socket := gateway.open(t, "/ws?"+query)
		core := <-streams
		core.next(t)
		got := core.next(t).GetStart()
		// What is absent and what is empty mean the same here.
		if want.Filter == nil {
			want.Filter = &apiv1.SubscriptionFilter{}
		}
		for _, filter := range []*apiv1.SubscriptionFilter{got.GetFilter(), want.Filter} {
			for _, field := range []string{"message", "blockchain_event", "transaction"} {
				reflected := filter.ProtoReflect()
				reflected.Mutable(reflected.Descriptor().Fields().ByName(protoreflect.Name(field)))
			}
		}
		if want.Options == nil {
			want.Options = &apiv1.SubscriptionOptions{}
		}
		want.FromUrl = true
		if !proto.Equal(got, want) {
			t.Errorf("%s became %v", query, got)
		}
		_ = socket.CloseNow()
	}
}

func TestBadFrames(t *testing.T) {
	gateway := newGateway(t)
	streams := gateway.subscribe()
	for text, want := range map[string]string{
		"not json":                        "FF10176: Invalid data: invalid character 'o' in literal null (expecting 'u')",
		`{"type":"absent"}`:               "FF10176: Invalid data: FF10177: Unknown action 'absent'",
		`{}`:                              "FF10176: Invalid data: FF10177: Unknown action ''",
		`{"type":"start","name":7}`:       "FF10176: Invalid data: FF19002: Field 'name': must be a string",
		`{"type":"ack","subscription":1}`: "FF10176: Invalid data: FF19002: Field 'subscription': must be a JSON object",
	} {
		socket := gateway.open(t, "/ws")
		core := <-streams
		core.next(t)
		socket.say(text)
		socket.expect(fmt.Sprintf(`{"type":"protocol_error","error":%q}`, want))
		socket.expectClose(websocket.StatusPolicyViolation)
		if request := core.next(t); request != nil {
			t.Errorf("%s reached the core: %v", text, request)
		}
	}
}

func TestReasonOfACloseIsWholeCharacters(t *testing.T) {
	gateway := newGateway(t)
	gateway.subscribe()
	for _, padding := range []string{"", "x"} { // one of them puts the cut into a character
		socket := gateway.open(t, "/ws")
		socket.say(`{"type":"` + padding + strings.Repeat("é", 100) + `"}`)
		_, _ = socket.hear() // the protocol error, whole
		_, err := socket.hear()
		var closed websocket.CloseError
		if !errors.As(err, &closed) || len(closed.Reason) < 100 || !utf8.ValidString(closed.Reason) {
			t.Errorf("closed with %q, %v", closed.Reason, err)
		}
	}
}

func TestFrameThatIsTooLarge(t *testing.T) {
	gateway := newGateway(t)
	streams := gateway.subscribe()
	socket := gateway.open(t, "/ws")
	core := <-streams
	core.next(t)
	socket.say(`{"type":"ack","id":"` + strings.Repeat("x", 5000) + `"}`)
	socket.expectClose(websocket.StatusMessageTooBig)
	if request := core.next(t); request != nil {
		t.Error("it reached the core")
	}
}

func TestSocketOfANamespace(t *testing.T) {
	gateway := newGateway(t)
	streams := gateway.subscribe()
	gateway.core.reply(&apiv1.GetNamespaceResponse{}, 200)
	gateway.open(t, "/api/v1/namespaces/ns/ws")
	core := <-streams
	if connect := core.next(t).GetConnect(); connect.GetNamespace() != "ns" {
		t.Error(connect)
	}
	for _, failure := range []error{coreError(404, "FF10436: Unknown namespace 'x'"), coreError(412, "FF10441: starting")} {
		gateway.core.answerWith(func(protoreflect.MethodDescriptor) (proto.Message, metadata.MD, error) {
			return nil, nil, failure
		})
		_, response, err := websocket.Dial(t.Context(), gateway.url+"/api/v1/namespaces/x/ws", nil)
		if err == nil || response.StatusCode != http.StatusNotFound {
			t.Error(response, err)
		}
	}
}

func TestTooManySockets(t *testing.T) {
	gateway := newGateway(t)
	gateway.subscribe()
	for range testOptions().Sockets.ConnectionsMax {
		gateway.open(t, "/ws")
	}
	_, response, err := websocket.Dial(t.Context(), gateway.url+"/ws", nil)
	if err == nil || response.StatusCode != http.StatusTooManyRequests {
		t.Error(response, err)
	}
}

func TestStreamsThatEnd(t *testing.T) {
	gateway := newGateway(t)
	streams := gateway.subscribe()
	for _, each := range []struct {
		end   error
		close websocket.StatusCode
		text  string
	}{
		{nil, websocket.StatusTryAgainLater, ""},
		{status.Error(codes.Unavailable, "draining"), websocket.StatusTryAgainLater, ""},
		{coreError(403, "FF00170: Forbidden"), websocket.StatusPolicyViolation, `{"type":"protocol_error","error":"FF00170: Forbidden"}`},
	} {
		socket := gateway.open(t, "/ws")
		(<-streams).end <- each.end
		if each.text != "" {
			socket.expect(each.text)
		}
		socket.expectClose(each.close)
	}
}

func TestClientThatLeavesEndsTheStream(t *testing.T) {
	gateway := newGateway(t)
	streams := gateway.subscribe()
	socket := gateway.open(t, "/ws")
	core := <-streams
	core.next(t)
	_ = socket.CloseNow()
	if request := core.next(t); request != nil {
		t.Error(request)
	}
}

// TestSlowClientStopsTheStream shows the back-pressure: a client that does not read keeps the core from sending without
// end, and loses nothing.
func TestSlowClientStopsTheStream(t *testing.T) {
	gateway := newGateway(t)
	const eventsTotal = 4000
	payload := strings.Repeat("x", 16<<10)
	sent := make(chan int, eventsTotal)
	gateway.core.streams[apiv1.EventService_Subscribe_FullMethodName] = func(stream grpc.ServerStream) error {
		for i := range eventsTotal {
			delivery := &apiv1.EventDelivery{Event: &apiv1.Event{Sequence: int64(i), Topic: payload}}
			if err := stream.SendMsg(&apiv1.SubscribeResponse{Frame: &apiv1.SubscribeResponse_Event{Event: delivery}}); err != nil {
				return err
			}
			sent <- i
		}
		<-stream.Context().Done()
		return io.EOF
	}
	socket := gateway.open(t, "/ws")
	socket.SetReadLimit(64 << 10)
	stalled := false
	for count := -1; !stalled; {
		select {
		case count = <-sent:
		case <-time.After(500 * time.Millisecond):
			stalled = count >= 0
		}
		if count == eventsTotal-1 {
			t.Fatal("the core could send everything to a client that reads nothing")
		}
	}
	for i := range eventsTotal {
		if text, err := socket.hear(); err != nil || !strings.Contains(text, fmt.Sprintf(`"sequence":%d,`, i)) {
			t.Fatal(i, err)
		}
	}
}

func TestClientThatTakesNothingLosesItsSocket(t *testing.T) {
	gateway := newGateway(t, func(options *Options) { options.Sockets.FrameTimeout = 200 * time.Millisecond })
	ended := make(chan struct{})
	gateway.core.streams[apiv1.EventService_Subscribe_FullMethodName] = func(stream grpc.ServerStream) error {
		defer close(ended)
		delivery := &apiv1.EventDelivery{Event: &apiv1.Event{Topic: strings.Repeat("x", 16<<10)}}
		for {
			if err := stream.SendMsg(&apiv1.SubscribeResponse{Frame: &apiv1.SubscribeResponse_Event{Event: delivery}}); err != nil {
				return err
			}
		}
	}
	gateway.open(t, "/ws")
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Fatal("the stream of a client that reads nothing goes on")
	}
}

func TestShutdownClosesSockets(t *testing.T) {
	gateway := newGateway(t)
	gateway.subscribe()
	socket := gateway.open(t, "/ws")
	ctx, cancel := context.WithTimeout(t.Context(), socketTimeout)
	defer cancel()
	go gateway.server.sockets.Shutdown(ctx)
	socket.expectClose(websocket.StatusGoingAway)
	_, response, err := websocket.Dial(t.Context(), gateway.url+"/ws", nil)
	if err == nil || response.StatusCode != http.StatusServiceUnavailable {
		t.Error(response, err)
	}
}

func TestOriginsOfSockets(t *testing.T) {
	for _, each := range []struct {
		origins []string
		origin  string
		code    int
	}{
		{[]string{"*"}, "http://page.example", 101},
		{[]string{"http://page.example"}, "http://page.example", 101},
		{[]string{"http://page.example"}, "http://other.example", 403},
		{nil, "http://page.example", 403},
	} {
		gateway := newGateway(t, func(options *Options) { options.CORS.Origins = each.origins })
		gateway.subscribe()
		conn, response, err := websocket.Dial(t.Context(), gateway.url+"/ws", &websocket.DialOptions{HTTPHeader: http.Header{"Origin": {each.origin}}})
		if response.StatusCode != each.code {
			t.Errorf("%s of %v: %d %v", each.origin, each.origins, response.StatusCode, err)
		}
		if conn != nil {
			_ = conn.CloseNow()
		}
	}
}

// Events that come in a run are frames of their own; acks that wait together go together once the core has sent a run.
func TestSocketRuns(t *testing.T) {
	gateway := newGateway(t)
	streams := gateway.subscribe()
	conn, _, err := websocket.Dial(t.Context(), "ws"+strings.TrimPrefix(gateway.url, "http")+"/ws", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.CloseNow() }()
	stream := <-streams
	if connect := stream.next(t).GetConnect(); !connect.GetTakesRuns() {
		t.Fatalf("the gateway does not take runs: %v", connect)
	}
	run := &apiv1.EventRun{}
	for n := range 3 {
		run.Events = append(run.Events, &apiv1.EventDelivery{Event: &apiv1.Event{Id: fmt.Sprint(n)}})
	}
	stream.send <- &apiv1.SubscribeResponse{Frame: &apiv1.SubscribeResponse_Events{Events: run}}
	for n := range 3 {
		_, frame, err := conn.Read(t.Context())
		if err != nil || !strings.HasPrefix(string(frame), fmt.Sprintf(`{"id":"%d",`, n)) {
			t.Fatalf("frame %d: %s, %v", n, frame, err)
		}
	}
	const acks = 500
	for n := range acks {
		kind := "ack"
		if n == 250 {
			kind = "nack"
		}
		if err := conn.Write(t.Context(), websocket.MessageText, fmt.Appendf(nil, `{"type":"%s","id":"%d"}`, kind, n)); err != nil {
			t.Fatal(err)
		}
	}
	for n := 0; n < acks; {
		request := stream.next(t)
		if request == nil {
			t.Fatalf("the core got %d acks", n)
		}
		ids := []string{request.GetAck().GetId() + request.GetNack().GetId()}
		if request.GetAcks() != nil {
			ids = nil
			for _, ack := range request.GetAcks().GetAcks() {
				ids = append(ids, ack.GetId())
			}
		}
		if (request.GetNack() != nil) != (n == 250) {
			t.Fatalf("request %d is %v", n, request)
		}
		for _, id := range ids {
			if id != fmt.Sprint(n) {
				t.Fatalf("ack %d is of %s", n, id)
			}
			n++
		}
	}
}
