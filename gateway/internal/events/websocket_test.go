package events

import (
	"fmt"
	"testing"
	"time"

	apiv1 "github.com/photinus-project/photinus/gateway/gen/photinus/api/v1"
)

func ack(n int) *apiv1.SubscribeRequest {
	return &apiv1.SubscribeRequest{Frame: &apiv1.SubscribeRequest_Ack{Ack: &apiv1.Ack{Id: fmt.Sprint(n)}}}
}

// idsOf gives what a request acks.
func idsOf(request *apiv1.SubscribeRequest) []string {
	if run := request.GetAcks(); run != nil {
		var found []string
		for _, each := range run.GetAcks() {
			found = append(found, each.GetId())
		}
		return found
	}
	return []string{request.GetAck().GetId()}
}

func TestAnAckWaitsForHalfOfWhatIsOut(t *testing.T) {
	bridge := &bridge{requests: make(chan *apiv1.SubscribeRequest), patience: time.Hour}
	bridge.out.Store(6)
	go func() {
		bridge.requests <- ack(1)
		bridge.requests <- ack(2)
	}()
	joined, next := bridge.withMoreAcks(ack(0))
	if got := fmt.Sprint(idsOf(joined)); got != "[0 1 2]" || next != nil || bridge.out.Load() != 3 {
		t.Errorf("%s, then %v; %d are out", got, next, bridge.out.Load())
	}
}

func TestAnAckWaitsForNothingElse(t *testing.T) {
	nack := &apiv1.SubscribeRequest{Frame: &apiv1.SubscribeRequest_Nack{Nack: &apiv1.Nack{Id: "2"}}}
	for what, each := range map[string]struct {
		out      int64
		patience time.Duration
		waiting  []*apiv1.SubscribeRequest
		want     string
		left     int64
	}{
		"the only one out":             {1, time.Hour, nil, "[0]", 0},
		"none known to be out":         {0, time.Hour, nil, "[0]", 0},
		"a client that acks slowly":    {50, time.Nanosecond, nil, "[0]", 0},
		"what is there goes with it":   {1, time.Hour, []*apiv1.SubscribeRequest{ack(1)}, "[0 1]", 0},
		"up to what is not an ack":     {50, time.Hour, []*apiv1.SubscribeRequest{ack(1), nack}, "[0 1]", 48},
		"a nack behind it is not held": {50, time.Hour, []*apiv1.SubscribeRequest{nack}, "[0]", 0},
	} {
		bridge := &bridge{requests: make(chan *apiv1.SubscribeRequest, len(each.waiting)), patience: each.patience}
		bridge.out.Store(each.out)
		for _, request := range each.waiting {
			bridge.requests <- request
		}
		joined, next := bridge.withMoreAcks(ack(0))
		if got := fmt.Sprint(idsOf(joined)); got != each.want || bridge.out.Load() != each.left {
			t.Errorf("%s: %s; %d are out", what, got, bridge.out.Load())
		}
		if hasNack := next.GetNack() != nil; hasNack != (len(each.waiting) > 0 && each.waiting[len(each.waiting)-1] == nack) {
			t.Errorf("%s: then comes %v", what, next)
		}
	}
}
