// Package events serves FireFly's event WebSockets over EventService.Subscribe.
//
// One socket is one stream: frames are translated, nothing is kept. What may be under way is the core's decision; a client
// that does not read stops the stream by HTTP/2's flow control.
package events

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	apiv1 "github.com/photinus-project/photinus/gateway/gen/photinus/api/v1"
	"github.com/photinus-project/photinus/gateway/internal/access"
	"github.com/photinus-project/photinus/gateway/internal/coded"
	"github.com/photinus-project/photinus/gateway/internal/fireflyjson"
)

const (
	requestsMax = 64 // read from a client and not given to the core yet
	ackPatience = time.Millisecond
)

// Sockets is the handler of /ws and of its twin below a namespace.
type Sockets struct {
	*door
	events apiv1.EventServiceClient
	asking *access.Asking
}

// New makes the handler. origins are those whose pages may open sockets, beside the gateway's own; `*` is any.
func New(conn grpc.ClientConnInterface, limits Limits, origins []string) *Sockets {
	return &Sockets{newDoor(limits, origins), apiv1.NewEventServiceClient(conn), access.NewAsking(conn)}
}

// Serve handles one socket; namespace pins it, empty leaves it free.
func (s *Sockets) Serve(w http.ResponseWriter, r *http.Request, namespace string) {
	check := func(context.Context) *coded.Error { return s.check(r, namespace) }
	s.admit(w, r, check, func(ctx context.Context, client *socket) {
		stream, err := s.events.Subscribe(ctx)
		if err != nil {
			client.end(err)
			return
		}
		bridge := &bridge{socket: client, stream: stream, requests: make(chan *apiv1.SubscribeRequest, requestsMax), patience: ackPatience}
		bridge.run(ctx, r, namespace)
	})
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

// bridge joins one socket with one stream.
type bridge struct {
	*socket
	stream grpc.BidiStreamingClient[apiv1.SubscribeRequest, apiv1.SubscribeResponse]
	// What was read and not sent.
	requests chan *apiv1.SubscribeRequest
	// Whether the core sends runs of events, and so takes runs of acks.
	hasRuns atomic.Bool
	// About how many events of runs the client has not acked.
	out atomic.Int64
	// What an ack waits for others at most.
	patience time.Duration
}

func (b *bridge) run(ctx context.Context, r *http.Request, namespace string) {
	connect := &apiv1.Connect{RemoteAddress: r.RemoteAddr, UserAgent: r.UserAgent(), Namespace: namespace, TakesRuns: true}
	send(b.stream, &apiv1.SubscribeRequest{Frame: &apiv1.SubscribeRequest_Connect{Connect: connect}})
	if start := startFromURL(r.URL.Query()); start != nil {
		send(b.stream, &apiv1.SubscribeRequest{Frame: &apiv1.SubscribeRequest_Start{Start: start}})
	}
	show := func(response *apiv1.SubscribeResponse) error { return b.show(ctx, response) }
	b.join(
		func() { b.read(ctx) },
		func() { tell(b.socket, b.stream.Recv, show) },
	)
}

// read takes frames from the socket to the stream until either ends.
func (b *bridge) read(ctx context.Context) {
	var sending sync.WaitGroup
	sending.Go(b.sendAll)
	hear(ctx, b.socket, readFrame, func(request *apiv1.SubscribeRequest) {
		select {
		case b.requests <- request:
		case <-ctx.Done():
		}
	})
	close(b.requests)
	defer time.AfterFunc(refusalTimeout, b.endStream).Stop() // a core that does not read holds up nobody
	sending.Wait()
}

// sendAll gives the core what was read, in order; acks that wait together go together.
func (b *bridge) sendAll() {
	for request := range b.requests {
		for request != nil {
			var next *apiv1.SubscribeRequest
			if request.GetAck() != nil && b.hasRuns.Load() {
				request, next = b.withMoreAcks(request)
			}
			send(b.stream, request)
			request = next
		}
	}
}

// withMoreAcks joins an ack with those that wait behind it, and gives what else it came upon. While the client has more to
// ack than has come it waits a moment: as acks travel, so do the events that they make room for, and each run costs the core
// about as much as a single one.
func (b *bridge) withMoreAcks(request *apiv1.SubscribeRequest) (joined, next *apiv1.SubscribeRequest) {
	acks := []*apiv1.Ack{request.GetAck()}
	out := b.out.Load()
	patience := time.After(b.patience)
	for len(acks) < requestsMax {
		waiting := b.nextRequest(patience, int64(2*len(acks)) < out)
		ack := waiting.GetAck()
		if ack == nil {
			next = waiting
			break
		}
		acks = append(acks, ack)
	}
	if len(acks) == 1 {
		b.out.Store(0) // it acks slowly, or what is out was miscounted, as after a nack
		return request, next
	}
	if b.out.Add(-int64(len(acks))) < 0 {
		b.out.Store(0)
	}
	run := &apiv1.AckRun{Acks: acks}
	return &apiv1.SubscribeRequest{Frame: &apiv1.SubscribeRequest_Acks{Acks: run}}, next
}

// nextRequest gives what the client has sent, or sends in time if it is worth waiting for; nil for nothing, and once it left.
func (b *bridge) nextRequest(patience <-chan time.Time, worthwhile bool) *apiv1.SubscribeRequest {
	if !worthwhile {
		select {
		case found := <-b.requests:
			return found
		default:
			return nil
		}
	}
	select {
	case found := <-b.requests:
		return found
	case <-patience:
		return nil
	}
}

// show writes what the core sent to the socket; a run is one frame for each event.
func (b *bridge) show(ctx context.Context, response *apiv1.SubscribeResponse) error {
	run := response.GetEvents()
	if run == nil {
		return b.give(ctx, writeFrame(response))
	}
	b.hasRuns.Store(true)
	b.out.Add(int64(len(run.GetEvents())))
	for _, event := range run.GetEvents() {
		if err := b.give(ctx, fireflyjson.Encode(event)); err != nil {
			return err
		}
	}
	return nil
}
