package server

import (
	"errors"
	"testing"
	"time"

	"google.golang.org/grpc"

	apiv1 "github.com/photinus-project/photinus/gateway/gen/photinus/api/v1"
)

const (
	streamsMax = 8  // that a test has not taken yet
	waitingMax = 64 // requests or responses of one stream
)

// stream is the core's end of a socket's stream.
type stream[Request, Response any] struct {
	requests chan *Request // closed when the client has ended
	send     chan *Response
	end      chan error
}

type (
	subscriber = stream[apiv1.SubscribeRequest, apiv1.SubscribeResponse]
	watcher    = stream[apiv1.WatchChangesRequest, apiv1.WatchChangesResponse]
)

// subscribe has the core hand every stream of events to the test.
func (g *gateway) subscribe() chan *subscriber {
	return handOver[apiv1.SubscribeRequest, apiv1.SubscribeResponse](g.core, apiv1.EventService_Subscribe_FullMethodName)
}

// watch has the core hand every stream of changes to the test.
func (g *gateway) watch() chan *watcher {
	g.core.reply(&apiv1.GetNodeNamespaceResponse{}, 200)
	return handOver[apiv1.WatchChangesRequest, apiv1.WatchChangesResponse](g.core, apiv1.SpiService_WatchChanges_FullMethodName)
}

func handOver[Request, Response any](core *fakeCore, method string) chan *stream[Request, Response] {
	streams := make(chan *stream[Request, Response], streamsMax)
	core.mutex.Lock()
	defer core.mutex.Unlock()
	core.streams[method] = func(served grpc.ServerStream) error {
		made := &stream[Request, Response]{make(chan *Request, waitingMax), make(chan *Response, waitingMax), make(chan error, 1)}
		go func() {
			defer close(made.requests)
			for {
				request := new(Request)
				if served.RecvMsg(request) != nil {
					return
				}
				made.requests <- request
			}
		}()
		streams <- made
		return made.serve(served)
	}
	return streams
}

// serve sends what the test gives until the test, or the client, ends the stream.
func (s *stream[Request, Response]) serve(served grpc.ServerStream) error {
	for {
		select {
		case response := <-s.send:
			if err := served.SendMsg(response); err != nil {
				return err
			}
		case err := <-s.end:
			for len(s.send) > 0 {
				err = errors.Join(err, served.SendMsg(<-s.send))
			}
			return err
		case <-served.Context().Done():
			return served.Context().Err()
		}
	}
}

// next is the client's next request; nil when it has ended.
func (s *stream[Request, Response]) next(t *testing.T) *Request {
	t.Helper()
	select {
	case request := <-s.requests:
		return request
	case <-time.After(socketTimeout):
		t.Fatal("the core was not sent a request")
		return nil
	}
}
