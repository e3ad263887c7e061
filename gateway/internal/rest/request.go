package rest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc/metadata"

	"github.com/photinus-project/photinus/gateway/internal/coded"
	"github.com/photinus-project/photinus/gateway/internal/fireflyjson"
	"github.com/photinus-project/photinus/gateway/internal/observing"
)

// Headers and metadata of requests.
const (
	RequestIDHeader = observing.RequestIDHeader
	timeoutHeader   = "Request-Timeout"
	// How much later than the client's timeout the call to the core ends: the core answers by as much before its deadline,
	// with an error that knows what was waited for.
	deadlineGrace = 100 * time.Millisecond
)

// Limits of what a request may ask.
type Limits struct {
	BodyBytesMax   int64
	Timeout        time.Duration // when the client asks for none
	TimeoutMax     time.Duration
	UploadBytesMax int64 // 0 leaves it to the core
}

// requestInfo is what the gateway notes about a request.
type requestInfo struct {
	id      string
	started time.Time
	timeout time.Duration // 0 for none
}

type requestInfoKey struct{}

type routeNameKey struct{}

// WithRouteName gives a context in which the route of the request is noted once it is found, and where to read it.
func WithRouteName(ctx context.Context) (context.Context, *string) {
	name := new(string)
	return context.WithValue(ctx, routeNameKey{}, name), name
}

func infoOf(ctx context.Context) requestInfo {
	info, _ := ctx.Value(requestInfoKey{}).(requestInfo)
	return info
}

// newRequestInfo notes id and timeout. A stream has a timeout only when the client asks for one.
func (l Limits) newRequestInfo(r *http.Request, stream bool) requestInfo {
	info := requestInfo{id: observing.RequestID(r.Context()), started: time.Now()}
	if asked, ok := parseTimeout(r.Header.Get(timeoutHeader)); ok {
		info.timeout = min(asked, l.TimeoutMax)
	} else if !stream {
		info.timeout = l.Timeout
	}
	return info
}

// parseTimeout reads a Go duration, or a number of seconds.
func parseTimeout(text string) (time.Duration, bool) {
	if text == "" {
		return 0, false
	}
	if seconds, err := strconv.ParseFloat(text, 64); err == nil {
		if seconds > 0 && seconds < float64(time.Duration(1<<62)/time.Second) {
			return time.Duration(seconds * float64(time.Second)), true
		}
		return 0, false
	}
	parsed, err := time.ParseDuration(text)
	return parsed, err == nil && parsed > 0
}

// prepare is the middleware of all routes to the core: it runs once a route is found, checks the body, and sets deadline
// and query.
func (a *API) prepare(next runtime.HandlerFunc) runtime.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request, params map[string]string) {
		if name, ok := r.Context().Value(routeNameKey{}).(*string); ok {
			if pattern, found := runtime.HTTPPattern(r.Context()); found {
				*name = pattern.String()
			}
		}
		media := mediaType(r)
		upload := media == "multipart/form-data" && isUploadPath(r)
		stream := upload || isDownloadPath(r)
		info := a.limits.newRequestInfo(r, stream)
		w.Header().Set(RequestIDHeader, info.id)
		ctx := context.WithValue(r.Context(), requestInfoKey{}, info)
		if info.timeout > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, info.timeout+deadlineGrace)
			defer cancel()
		}
		r = r.WithContext(ctx)
		// Parsed here, so that ParseForm finds its work done and the string is kept as it was sent.
		r.Form, r.PostForm = url.Values{rawQueryKey: {r.URL.RawQuery}}, url.Values{}
		if upload {
			a.upload(w, r, params["namespace"])
			return
		}
		if err := a.checkBody(w, r, media); err != nil {
			a.fail(ctx, w, err)
			return
		}
		next(w, r, params)
	}
}

// isObject tells whether a body begins like a JSON object that is not empty.
func isObject(body io.Reader) bool {
	start, _ := io.ReadAll(io.LimitReader(body, 64))
	inner, found := bytes.CutPrefix(bytes.TrimSpace(start), []byte("{"))
	return found && !bytes.HasPrefix(bytes.TrimSpace(inner), []byte("}"))
}

func mediaType(r *http.Request) string {
	media, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	return strings.ToLower(strings.TrimSpace(media))
}

// checkBody reads the body of a request that has one, so that the generated handler finds valid JSON.
func (a *API) checkBody(w http.ResponseWriter, r *http.Request, media string) error {
	switch r.Method {
	case http.MethodPost, http.MethodPut, http.MethodPatch:
	default:
		r.Body = http.NoBody
		return nil
	}
	if media == "application/x-www-form-urlencoded" || media == "text/plain" {
		// FireFly takes these and does not look at them. The first is what curl says when it is not told what it
		// sends: an object that somebody meant is refused.
		if media != "text/plain" && isObject(r.Body) {
			return coded.New(coded.ContentType, r.Header.Get("Content-Type"))
		}
		r.Body = io.NopCloser(strings.NewReader("{}"))
		return nil
	}
	if !strings.HasPrefix(media, "application/json") {
		return coded.New(coded.ContentType, r.Header.Get("Content-Type"))
	}
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, a.limits.BodyBytesMax))
	if err != nil {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			return coded.New(coded.BodyTooLarge, a.limits.BodyBytesMax)
		}
		return coded.New(coded.InvalidJSON, err.Error())
	}
	if err := fireflyjson.Validate(text); err != nil {
		return err
	}
	r.Body = io.NopCloser(bytes.NewReader(text))
	return nil
}

// annotate gives the core the client's id of the request and its trace.
func (a *API) annotate(ctx context.Context, r *http.Request) metadata.MD {
	found := metadata.MD{}
	for _, name := range a.passHeaders {
		if value := r.Header.Get(name); value != "" {
			found.Set(strings.ToLower(name), value)
		}
	}
	observing.Metadata(ctx, func(name, value string) { found.Set(name, value) })
	return found
}
