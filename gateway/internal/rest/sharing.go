package rest

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/photinus-project/photinus/gateway/internal/coded"
)

// sharing lets requests that ask the same at the same time have one answer. An answer is shared only by requests that were
// here before the core was asked for it, so none is older than the request it goes to: while one call is under way those
// that come collect, and the next call is for all of them. Nothing is kept.
type sharing struct {
	serve   http.Handler
	mutex   sync.Mutex
	flights map[string]*flight // the calls under way, by what is asked
}

// flight is one call and those who wait for it.
type flight struct {
	request *http.Request // of the one who came first, not bound to its connection
	cancel  context.CancelFunc
	done    chan struct{}
	waiting int
	next    *flight // for those who came while this one was under way
	route   string
	answer  answer
}

func newSharing(serve http.Handler) *sharing {
	return &sharing{serve: serve, flights: map[string]*flight{}}
}

// shareKey says what a request asks; requests with the same key get the same answer. All their headers are in it: whatever
// the core is told of a request, now or later, two that differ in it never share. It is empty for those that are not shared:
// what is not a list or an object, what is traced or named by its client, and what comes with a certificate.
func shareKey(r *http.Request) string {
	if r.Method != http.MethodGet || isDownloadPath(r) || r.Header.Get(RequestIDHeader) != "" ||
		r.Header.Get("Traceparent") != "" || (r.TLS != nil && len(r.TLS.PeerCertificates) > 0) {
		return ""
	}
	var key strings.Builder
	for _, part := range []string{r.Host, r.URL.EscapedPath(), r.URL.RawQuery} {
		key.WriteString(part)
		key.WriteByte('\n') // stands in no URL and in no header
	}
	for _, name := range slices.Sorted(maps.Keys(r.Header)) {
		for _, value := range r.Header[name] {
			key.WriteString(name)
			key.WriteByte(':') // stands in no name of a header
			key.WriteString(value)
			key.WriteByte('\n')
		}
	}
	return key.String()
}

// serveShared answers a request with its call's answer, under its own id and within its own time.
func (a *API) serveShared(w http.ResponseWriter, r *http.Request, key string) {
	info := a.limits.newRequestInfo(r, false)
	ctx := r.Context()
	if info.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, info.timeout+deadlineGrace)
		defer cancel()
	}
	joined := a.sharing.join(key, r)
	select {
	case <-joined.done:
	case <-ctx.Done():
		a.sharing.leave(joined)
		writeTimedOut(w, info)
		return
	}
	if name, ok := r.Context().Value(routeNameKey{}).(*string); ok {
		*name = joined.route
	}
	if joined.answer.code == http.StatusRequestTimeout {
		writeTimedOut(w, info) // the text names the request
		return
	}
	header := w.Header()
	for name, values := range joined.answer.header {
		header[name] = values
	}
	header.Set(RequestIDHeader, info.id)
	w.WriteHeader(joined.answer.code)
	_, _ = w.Write(joined.answer.body.Bytes())
}

func writeTimedOut(w http.ResponseWriter, info requestInfo) {
	w.Header().Set(RequestIDHeader, info.id)
	spent := float64(time.Since(info.started).Microseconds()) / float64(time.Millisecond/time.Microsecond)
	coded.Write(w, coded.New(coded.TimedOut, info.id, spent))
}

// join finds or makes the call that a request is to wait for: never one that is under way.
func (s *sharing) join(key string, r *http.Request) *flight {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	current := s.flights[key]
	if current == nil {
		made := newFlight(r)
		s.flights[key] = made
		go s.run(key, made)
		return made
	}
	if current.next == nil || current.next.waiting == 0 {
		current.next = newFlight(r)
	} else {
		current.next.waiting++
	}
	return current.next
}

func newFlight(r *http.Request) *flight {
	made := &flight{done: make(chan struct{}), waiting: 1}
	ctx := context.WithValue(context.WithoutCancel(r.Context()), routeNameKey{}, &made.route)
	ctx, made.cancel = context.WithCancel(ctx)
	made.request = r.WithContext(ctx)
	return made
}

// leave is for one who does not wait any more. A call that nobody waits for ends.
func (s *sharing) leave(left *flight) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	left.waiting--
	if left.waiting == 0 {
		left.cancel()
	}
}

// run makes calls until nobody has come while one was under way.
func (s *sharing) run(key string, current *flight) {
	for current != nil {
		s.call(current)
		s.mutex.Lock()
		current = current.next
		if current == nil || current.waiting == 0 {
			delete(s.flights, key)
			current = nil
		} else {
			s.flights[key] = current
		}
		s.mutex.Unlock()
	}
}

func (s *sharing) call(current *flight) {
	defer close(current.done)
	defer current.cancel()
	defer func() {
		if failure := recover(); failure != nil {
			slog.Error("a request failed", "path", current.request.URL.Path, "failure", failure, "stack", string(debug.Stack()))
			current.answer = answer{}
			coded.Write(&current.answer, coded.From(fmt.Errorf("%v", failure)))
		}
	}()
	s.serve.ServeHTTP(&current.answer, current.request)
	if current.answer.code == 0 {
		current.answer.code = http.StatusOK
	}
}

// answer is a response that is kept until all who wait for it have it.
type answer struct {
	code   int
	header http.Header
	body   bytes.Buffer
}

func (a *answer) Header() http.Header {
	if a.header == nil {
		a.header = http.Header{}
	}
	return a.header
}

func (a *answer) WriteHeader(code int) {
	if a.code == 0 {
		a.code = code
	}
}

func (a *answer) Write(part []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(part)
}

// Joined says how many requests wait for calls that have not begun.
func (a *API) Joined() int {
	a.sharing.mutex.Lock()
	defer a.sharing.mutex.Unlock()
	found := 0
	for _, current := range a.sharing.flights {
		if current.next != nil {
			found += current.next.waiting
		}
	}
	return found
}
