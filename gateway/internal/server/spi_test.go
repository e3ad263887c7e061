package server

import (
	"context"
	"errors"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	apiv1 "github.com/photinus-project/photinus/gateway/gen/photinus/api/v1"
)

func TestSPIRoutes(t *testing.T) {
	spi := newSPI(t)
	operation := &apiv1.Operation{Id: "o1", Namespace: "ns", Tx: "t1", Type: "x", Status: "Failed", Plugin: "p", Error: "e"}
	const shown = `{"id":"o1","namespace":"ns","tx":"t1","type":"x","status":"Failed","plugin":"p","error":"e"}`
	for _, each := range []struct {
		method, path, body string
		answer             proto.Message
		code               int
		text               string
		asked              proto.Message
	}{
		{
			"GET", "/spi/v1/namespaces?includeinitializing", "",
			&apiv1.ListNodeNamespacesResponse{Items: []*apiv1.Namespace{{Name: "a", Initializing: true, InitializationError: "e"}}}, 200,
			`[{"name":"a","networkName":"","description":"","created":null,"initializing":true,"initializationError":"e"}]` + "\n",
			&apiv1.ListNodeNamespacesRequest{IncludeInitializing: true},
		},
		{
			"GET", "/spi/v1/namespaces/ns1", "", &apiv1.GetNodeNamespaceResponse{Namespace: &apiv1.Namespace{Name: "ns1"}}, 200,
			`{"name":"ns1","networkName":"","description":"","created":null}` + "\n", &apiv1.GetNodeNamespaceRequest{Name: "ns1"},
		},
		{
			"GET", "/spi/v1/namespaces/ns1/operations?status=Failed&limit=3", "",
			&apiv1.ListNodeOperationsResponse{Items: []*apiv1.Operation{operation}}, 200, "[" + shown + "]\n",
			&apiv1.ListNodeOperationsRequest{Name: "ns1", Query: &apiv1.Query{Raw: "status=Failed&limit=3"}},
		},
		{
			"GET", "/spi/v1/operations/ns:o1", "", &apiv1.GetNodeOperationResponse{Operation: operation}, 200, shown + "\n",
			&apiv1.GetNodeOperationRequest{Id: "ns:o1"},
		},
		{
			"PATCH", "/spi/v1/operations/ns:o1", `{"status":"Failed","output":{"b":1, "a":2.0},"error":"e"}`,
			&apiv1.UpdateNodeOperationResponse{Operation: operation}, 200, "{}\n",
			&apiv1.UpdateNodeOperationRequest{Id: "ns:o1", Update: &apiv1.OperationUpdate{Status: "Failed", Output: `{"b":1,"a":2.0}`, Error: proto.String("e")}},
		},
		{"POST", "/spi/v1/reset", "{}", &apiv1.ResetNodeResponse{}, 204, "", &apiv1.ResetNodeRequest{}},
	} {
		spi.core.reply(each.answer, each.code)
		spi.expect(t, each.method, each.path, each.body, each.code, each.text, jsonType...)
		if asked, _ := spi.core.lastAsked(); !proto.Equal(asked, each.asked) {
			t.Errorf("%s %s asked the core for %v", each.method, each.path, asked)
		}
	}
}

func TestRequestsTheSPIRefuses(t *testing.T) {
	spi := newSPI(t)
	spi.core.answerWith(func(protoreflect.MethodDescriptor) (proto.Message, metadata.MD, error) {
		return nil, nil, coreError(400, "FF10411: no namespace")
	})
	spi.expect(t, "GET", "/spi/v1/operations/o1", "", 400, errorBody("FF10411: no namespace"))
	spi.expect(t, "POST", "/spi/v1/reset", "", 415, errorBody("FF00162: Invalid content type ''"))
	spi.expect(t, "PUT", "/spi/v1/operations/ns:o1", "{}", 405, errorBody("FF19003: Method PUT is not allowed here; allowed: GET, PATCH"), jsonType...)
	for _, body := range []string{`{"status":1}`, `{"status":"Failed","error":{}}`, `[]`, `{"status":`, `null`} {
		if response, text := spi.do(t, "PATCH", "/spi/v1/operations/ns:o1", body, jsonType...); response.StatusCode != 400 || !strings.Contains(text, "FF1900") {
			t.Errorf("%s: %d %s", body, response.StatusCode, text)
		}
	}
	// Each interface is on its own listener only.
	for _, path := range []string{"/api/v1/namespaces", "/api", "/ws", "/ui/", "/metrics", "/spi/v1/absent", "/spi/absent.json"} {
		spi.expect(t, "GET", path, "", 404, errorBody("FF10109: Not found"))
	}
	api := newGateway(t)
	for _, path := range []string{"/spi/v1/namespaces", "/spi", "/spi/ws", "/spi/swagger.json"} {
		api.expect(t, "GET", path, "", 404, errorBody("FF10109: Not found"))
	}
}

func TestSPIDocuments(t *testing.T) {
	spi := newSPI(t)
	for _, name := range []string{"swagger.json", "openapi.json", "swagger.yaml", "openapi.yaml"} {
		found := spi.document(t, "/spi/"+name)
		if url := found.Servers[0].URL; url != spi.url+"/spi/v1" {
			t.Error(url)
		}
		if id := found.Paths["/operations/{nsopid}"]["patch"].OperationID; id != "spiPatchOpByID" {
			t.Error(id)
		}
	}
	public := newSPI(t, func(options *Options) { options.SPIPublicURL = "https://example.com/m0" })
	if url := public.document(t, "/spi/swagger.json").Servers[0].URL; url != "https://example.com/m0/spi/v1" {
		t.Error(url)
	}
	response, page := spi.do(t, "GET", "/spi", "")
	if response.StatusCode != 200 || !strings.Contains(page, `url: "`+spi.url+`/spi/openapi.yaml"`) || !strings.Contains(page, "<title>Photinus SPI</title>") {
		t.Errorf("%d %s", response.StatusCode, page)
	}
	for _, address := range regexp.MustCompile(`(?:src|href)="([^"]*)"`).FindAllStringSubmatch(page, -1) {
		path, isOurs := strings.CutPrefix(address[1], spi.url)
		if !isOurs {
			t.Error("something is fetched from elsewhere:", address[1])
			continue
		}
		if response, _ := spi.do(t, "GET", path, ""); response.StatusCode != 200 {
			t.Errorf("%s: %d", path, response.StatusCode)
		}
	}
}

func TestFavicons(t *testing.T) {
	for name, server := range map[string]*gateway{"API": newGateway(t), "SPI": newSPI(t)} {
		for path, size := range map[string]byte{"/favicon.png": 32, "/favicon-32x32.png": 32, "/favicon-16x16.png": 16} {
			response, text := server.do(t, "GET", path, "")
			const width = 19 // where a PNG says how wide it is, below 256
			if response.StatusCode != 200 || response.Header.Get("Content-Type") != "image/png" || len(text) < width || text[width] != size {
				t.Errorf("%s %s: %d %q", name, path, response.StatusCode, text)
			}
		}
		server.expect(t, "GET", "/favicon.ico", "", 404, errorBody("FF10109: Not found"))
		server.expect(t, "POST", "/favicon.png", "{}", 405, errorBody("FF19003: Method POST is not allowed here; allowed: GET, HEAD"), jsonType...)
	}
}

func changed(change *apiv1.ChangeEvent) *apiv1.WatchChangesResponse {
	return &apiv1.WatchChangesResponse{Frame: &apiv1.WatchChangesResponse_Change{Change: change}}
}

// TestChangeFrames compares frames with the fields that FireFly's have: which are left out, how numbers and times are written.
func TestChangeFrames(t *testing.T) {
	spi := newSPI(t)
	streams := spi.watch()
	socket := spi.open(t, "/spi/ws")
	core := <-streams
	socket.say(`{"type":"start","collections":["messages","operations"],"filter":{"types":["created"],"namespaces":["default"]}}`)
	want := &apiv1.ChangeStart{
		Collections: []string{"messages", "operations"},
		Filter:      &apiv1.ChangeEventFilter{Types: []string{"created"}, Namespaces: []string{"default"}},
	}
	if got := core.next(t).GetStart(); !proto.Equal(got, want) {
		t.Error(got)
	}
	socket.say(`{"type":"start","collections":[]}`)
	if got := core.next(t).GetStart(); !proto.Equal(got, &apiv1.ChangeStart{}) {
		t.Error(got)
	}
	core.send <- &apiv1.WatchChangesResponse{Frame: &apiv1.WatchChangesResponse_Started{Started: &apiv1.ChangeStarted{}}}
	for _, each := range []struct {
		change *apiv1.ChangeEvent
		text   string
	}{
		{
			&apiv1.ChangeEvent{Collection: "messages", Type: "created", Namespace: "default", Id: "m1", Sequence: proto.Int64(1 << 60)},
			`{"collection":"messages","type":"created","namespace":"default","id":"m1","sequence":1152921504606846976}`,
		},
		{
			&apiv1.ChangeEvent{Collection: "operations", Type: "updated", Namespace: "default", Id: "o1"},
			`{"collection":"operations","type":"updated","namespace":"default","id":"o1"}`,
		},
		{
			&apiv1.ChangeEvent{Collection: "groups", Type: "deleted", Namespace: "default", Hash: "h1"},
			`{"collection":"groups","type":"deleted","namespace":"default","hash":"h1"}`,
		},
		{
			&apiv1.ChangeEvent{Type: "dropped", DroppedSince: timestamppb.New(time.Unix(1, 5000)), DroppedCount: proto.Int64(7)},
			`{"collection":"","type":"dropped","droppedSince":"1970-01-01T00:00:01.000005Z","droppedCount":7}`,
		},
	} {
		core.send <- changed(each.change)
		socket.expect(each.text)
	}
	core.send <- &apiv1.WatchChangesResponse{Frame: &apiv1.WatchChangesResponse_ProtocolError{ProtocolError: &apiv1.ProtocolError{Error: "FF10176: hard", Closes: true}}}
	core.end <- nil
	socket.expect(`{"type":"protocol_error","error":"FF10176: hard"}`)
	socket.expectClose(websocket.StatusPolicyViolation)
}

func TestBadChangeFrames(t *testing.T) {
	spi := newSPI(t)
	streams := spi.watch()
	for frame, code := range map[string]string{
		`junk`:                               "FF10176",
		`{}`:                                 "FF10177",
		`{"type":"ack"}`:                     "FF10177",
		`{"type":7}`:                         "FF10176",
		`[]`:                                 "FF10176",
		`{"type":"start","collections":"x"}`: "FF19002",
		`{"type":"start","filter":[]}`:       "FF19002",
		`{"type":"start","filter":{"types":[1]}}`: "FF19002",
	} {
		socket := spi.open(t, "/spi/ws")
		core := <-streams
		socket.say(frame)
		if text, err := socket.hear(); err != nil || !strings.Contains(text, "protocol_error") || !strings.Contains(text, code) {
			t.Errorf("%s: %q %v", frame, text, err)
		}
		socket.expectClose(websocket.StatusPolicyViolation)
		if request, more := <-core.requests; more {
			t.Errorf("%s reached the core: %v", frame, request)
		}
	}
	socket := spi.open(t, "/spi/ws")
	socket.say(strings.Repeat("x", 5000))
	socket.expectClose(websocket.StatusMessageTooBig)
}

func TestWhoMayNotWatchIsNotUpgraded(t *testing.T) {
	spi := newSPI(t)
	spi.core.answerWith(func(protoreflect.MethodDescriptor) (proto.Message, metadata.MD, error) {
		return nil, nil, coreError(401, "FF00169: Unauthorized")
	})
	_, response, err := websocket.Dial(t.Context(), spi.url+"/spi/ws", nil)
	if err == nil || response == nil || response.StatusCode != http.StatusUnauthorized {
		t.Fatal(response, err)
	}
}

func TestSocketsOfChangesAreLimitedAndEnd(t *testing.T) {
	made := newGateway(t)
	server, err := NewSPI(made.conn, made.server.options, made.server)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	listener := localListener(t)
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx, listener) }()
	spi := &gateway{core: made.core, conn: made.conn, server: made.server, url: "http://" + listener.Addr().String()}
	streams := spi.watch()
	var sockets []socket
	for range 3 {
		sockets = append(sockets, spi.open(t, "/spi/ws"))
		<-streams
	}
	_, response, err := websocket.Dial(t.Context(), spi.url+"/spi/ws", nil)
	if err == nil || response.StatusCode != http.StatusTooManyRequests {
		t.Error(response, err)
	}
	stop()
	for _, each := range sockets {
		each.expectClose(websocket.StatusGoingAway)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestTheCoreEndsAStreamOfChanges(t *testing.T) {
	spi := newSPI(t)
	streams := spi.watch()
	for _, each := range []struct {
		end  error
		code websocket.StatusCode
	}{
		{status.Error(codes.Unavailable, "draining"), websocket.StatusTryAgainLater},
		{nil, websocket.StatusTryAgainLater},
	} {
		socket := spi.open(t, "/spi/ws")
		core := <-streams
		core.end <- each.end
		socket.expectClose(each.code)
	}
	refused := spi.open(t, "/spi/ws")
	(<-streams).end <- coreError(403, "FF00170: Forbidden")
	refused.expect(`{"type":"protocol_error","error":"FF00170: Forbidden"}`)
	refused.expectClose(websocket.StatusPolicyViolation)
}

// TestAClientThatDoesNotReadStopsTheStream sends until nothing more is taken: what waits between core and client is bounded.
func TestAClientThatDoesNotReadStopsTheStream(t *testing.T) {
	spi := newSPI(t)
	streams := spi.watch()
	socket := spi.open(t, "/spi/ws")
	core := <-streams
	const most = 20000
	big := changed(&apiv1.ChangeEvent{Collection: "messages", Type: "created", Id: strings.Repeat("x", 4000)})
	taken := 0
	for full := false; !full && taken < most; {
		select {
		case core.send <- big:
			taken++
		case <-time.After(2 * time.Second): // the core could send for so long, and could not
			full = true
		}
	}
	if taken == most {
		t.Fatalf("%d changes were taken for a client that reads none", taken)
	}
	t.Logf("%d changes of 4 kB were under way", taken)
	// It goes on when the client reads.
	for range taken {
		if _, err := socket.hear(); err != nil && !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
}
