package server

import (
	"context"
	"io"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	apiv1 "github.com/photinus-project/photinus/gateway/gen/photinus/api/v1"
)

// heldCore answers each call with its number, once it is told to.
type heldCore struct {
	calls   chan int      // the number of each call as it arrives
	release chan struct{} // each lets one call be answered
	mutex   sync.Mutex
	count   int
}

func newHeldCore(gateway *gateway) *heldCore {
	held := &heldCore{calls: make(chan int, 100), release: make(chan struct{}, 100)}
	gateway.core.answerWith(func(protoreflect.MethodDescriptor) (proto.Message, metadata.MD, error) {
		held.mutex.Lock()
		held.count++
		number := held.count
		held.mutex.Unlock()
		held.calls <- number
		<-held.release
		return &apiv1.ListMessagesResponse{Total: proto.Int64(int64(number))}, nil, nil
	})
	return held
}

func (g *gateway) fetch(ctx context.Context, path string, headers ...string) (string, *http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, g.url+path, nil)
	if err != nil {
		return "", nil, err
	}
	for i := 0; i+1 < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", nil, err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	return string(body), response, err
}

func counted(number int) string {
	return `{"count":0,"total":` + strconv.Itoa(number) + `,"items":[]}` + "\n"
}

type fetched struct {
	body string
	id   string
	err  error
}

func (g *gateway) begin(ctx context.Context, path string, headers ...string) chan fetched {
	answers := make(chan fetched, 1)
	go func() {
		body, response, err := g.fetch(ctx, path, headers...)
		found := fetched{body: body, err: err}
		if response != nil {
			found.id = response.Header.Get("X-Firefly-Request-Id")
		}
		answers <- found
	}()
	return answers
}

// waitJoined waits until so many requests wait for a call that has not begun.
func (g *gateway) waitJoined(t *testing.T, count int) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for g.server.api.Joined() != count {
		if time.Now().After(deadline) {
			t.Fatalf("%d requests wait, not %d", g.server.api.Joined(), count)
		}
		time.Sleep(time.Millisecond)
	}
}

const sharedPath = "/api/v1/messages?count"

// Whoever comes while a call is under way gets an answer of the next one, which all of them share.
func TestSharedAnswersAreNeverOlderThanTheirRequests(t *testing.T) {
	gateway := newGateway(t)
	held := newHeldCore(gateway)
	first := gateway.begin(t.Context(), sharedPath)
	<-held.calls
	var later []chan fetched
	for range 5 {
		later = append(later, gateway.begin(t.Context(), sharedPath))
	}
	gateway.waitJoined(t, 5)
	held.release <- struct{}{}
	if got := <-first; got.err != nil || got.body != counted(1) {
		t.Fatalf("the first one got %q, %v", got.body, got.err)
	}
	if number := <-held.calls; number != 2 {
		t.Fatalf("call %d", number)
	}
	held.release <- struct{}{}
	ids := map[string]bool{}
	for _, each := range later {
		got := <-each
		if got.err != nil || got.body != counted(2) {
			t.Fatalf("a later one got %q, %v", got.body, got.err)
		}
		ids[got.id] = true
	}
	if len(ids) != len(later) || ids[""] {
		t.Fatalf("ids of %d requests: %v", len(later), ids)
	}
	if len(held.calls) != 0 {
		t.Fatal("the core was asked more often than it had to be")
	}
}

// Nobody gets what another may see, or what another asked for.
func TestWhatIsNotShared(t *testing.T) {
	cases := []struct {
		name, path string
		headers    []string
	}{
		{"another path", "/api/v1/batches?count", nil},
		{"another query", "/api/v1/messages?count&tag=a", nil},
		{"another caller", sharedPath, []string{"Authorization", "Bearer other"}},
		{"a header that is passed on", sharedPath, []string{"X-Tenant", "b"}},
		{"a header that nobody reads", sharedPath, []string{"X-Whatever", "c"}},
		{"another time", sharedPath, []string{"Request-Timeout", "20s"}},
		{"a trace", sharedPath, []string{"Traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}},
		{"an id of its own", sharedPath, []string{"X-FireFly-Request-ID", "mine"}},
	}
	for _, each := range cases {
		t.Run(each.name, func(t *testing.T) {
			gateway := newGateway(t, func(options *Options) { options.PassHeaders = []string{"X-Tenant"} })
			held := newHeldCore(gateway)
			first := gateway.begin(t.Context(), sharedPath)
			<-held.calls
			other := gateway.begin(t.Context(), each.path, each.headers...)
			<-held.calls // while the first is under way
			held.release <- struct{}{}
			held.release <- struct{}{}
			for _, answer := range []chan fetched{first, other} {
				if got := <-answer; got.err != nil {
					t.Fatal(got.err)
				}
			}
		})
	}
}

// One who leaves takes nothing from the others; when all have left the call ends.
func TestWhoLeavesASharedCall(t *testing.T) {
	gateway := newGateway(t)
	held := newHeldCore(gateway)
	first := gateway.begin(t.Context(), sharedPath)
	<-held.calls
	leaving, leave := context.WithCancel(t.Context())
	gone := gateway.begin(leaving, sharedPath)
	gateway.waitJoined(t, 1)
	stays := gateway.begin(t.Context(), sharedPath)
	gateway.waitJoined(t, 2)
	leave()
	if got := <-gone; got.err == nil {
		t.Fatal("it has left")
	}
	gateway.waitJoined(t, 1)
	held.release <- struct{}{}
	if got := <-first; got.body != counted(1) {
		t.Fatal(got)
	}
	<-held.calls
	held.release <- struct{}{}
	if got := <-stays; got.body != counted(2) {
		t.Fatal(got)
	}
	// And nobody at all: what comes next asks anew.
	again := gateway.begin(t.Context(), sharedPath)
	<-held.calls
	leaving, leave = context.WithCancel(t.Context())
	gone = gateway.begin(leaving, sharedPath)
	gateway.waitJoined(t, 1)
	leave()
	<-gone
	gateway.waitJoined(t, 0)
	last := gateway.begin(t.Context(), sharedPath)
	gateway.waitJoined(t, 1)
	held.release <- struct{}{}
	<-again
	if number := <-held.calls; number != 4 {
		t.Fatalf("call %d", number)
	}
	held.release <- struct{}{}
	if got := <-last; got.body != counted(4) {
		t.Fatal(got)
	}
}

// A request that waits for another's call keeps to its own time, and says its own id.
func TestSharedRequestsKeepToTheirTime(t *testing.T) {
	gateway := newGateway(t)
	held := newHeldCore(gateway)
	first := gateway.begin(t.Context(), sharedPath, "Request-Timeout", "0.2s")
	<-held.calls
	body, response, err := gateway.fetch(t.Context(), sharedPath, "Request-Timeout", "0.2s")
	if err != nil {
		t.Fatal(err)
	}
	id := response.Header.Get("X-FireFly-Request-ID")
	want := `{"error":"FF00166: The request with id '` + id + `' timed out after `
	if response.StatusCode != http.StatusRequestTimeout || id == "" || len(body) < len(want) || body[:len(want)] != want {
		t.Fatalf("%d %s", response.StatusCode, body)
	}
	<-first
	for range cap(held.release) {
		held.release <- struct{}{}
	}
}
