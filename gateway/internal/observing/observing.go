// Package observing is what the gateway's lines and spans say of the request they are written for.
//
// A request has an id, its client's or one made here, and a trace: its client's, or, where spans are recorded, one begun
// here. Both stand in every line that is logged for it and travel to the core.
package observing

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"strings"

	"go.opentelemetry.io/otel/propagation"
)

// RequestIDHeader carries the id of a request, in HTTP and as metadata.
const RequestIDHeader = "X-FireFly-Request-ID"

const requestIDCharsMax = 128

type requestIDKey struct{}

// WithRequestID gives a request whose context knows its id: the client's, if that can travel in headers and logs.
func WithRequestID(r *http.Request) *http.Request {
	id := r.Header.Get(RequestIDHeader)
	if !isPrintable(id) {
		id = newID()
	}
	return r.WithContext(context.WithValue(r.Context(), requestIDKey{}, id))
}

// RequestID is the id of the request that a context belongs to; empty outside of any.
func RequestID(ctx context.Context) string {
	id, _ := ctx.Value(requestIDKey{}).(string)
	return id
}

// Metadata is what travels to the core beside a call: the id of the request and its trace.
func Metadata(ctx context.Context, set func(name, value string)) {
	if id := RequestID(ctx); id != "" {
		set(strings.ToLower(RequestIDHeader), id)
	}
	carrier := propagation.MapCarrier{}
	propagator.Inject(ctx, carrier)
	for name, value := range carrier {
		set(name, value)
	}
}

func isPrintable(id string) bool {
	return id != "" && len(id) <= requestIDCharsMax &&
		strings.IndexFunc(id, func(char rune) bool { return char < ' ' || char > '~' }) < 0
}

// newID makes a random UUID.
func newID() string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
}
