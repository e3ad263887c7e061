package server

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// CORS says which pages of other origins may use the API. No origins switches it off.
type CORS struct {
	Origins     []string // `*` for any
	Methods     []string
	Headers     []string // that requests may have; `*` for any
	Credentials bool     // whether browsers may send what they know; never to pages let in by `*`
	MaxAge      time.Duration
}

const exposedHeaders = "X-FireFly-Request-ID, X-FF-Blob-Hash-SHA256, X-FF-Blob-Size, WWW-Authenticate"

// headersFor names the headers that a request may have. What was asked for is echoed: `*` would leave out Authorization.
func (c CORS) headersFor(r *http.Request) string {
	if slices.Contains(c.Headers, "*") {
		return r.Header.Get("Access-Control-Request-Headers")
	}
	return strings.Join(c.Headers, ", ")
}

// wrap answers preflight requests and marks answers to requests of other origins.
func (c CORS) wrap(next http.Handler) http.Handler {
	if len(c.Origins) == 0 {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		origin := r.Header.Get("Origin")
		if origin == "" {
			next.ServeHTTP(w, r)
			return
		}
		header := w.Header()
		header.Add("Vary", "Origin")
		// A page that is let in by name stays so when `*` stands beside it.
		named := slices.Contains(c.Origins, origin)
		if !named && !slices.Contains(c.Origins, "*") {
			next.ServeHTTP(w, r)
			return
		}
		// With `*` no credentials: a browser refuses both together, and echoing every origin would undo the difference.
		if !named {
			header.Set("Access-Control-Allow-Origin", "*")
		} else {
			header.Set("Access-Control-Allow-Origin", origin)
			if c.Credentials {
				header.Set("Access-Control-Allow-Credentials", "true")
			}
		}
		if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") == "" {
			header.Set("Access-Control-Expose-Headers", exposedHeaders)
			next.ServeHTTP(w, r)
			return
		}
		header.Set("Access-Control-Allow-Methods", strings.Join(c.Methods, ", "))
		if allowed := c.headersFor(r); allowed != "" {
			header.Set("Access-Control-Allow-Headers", allowed)
		}
		header.Set("Access-Control-Max-Age", strconv.Itoa(int(c.MaxAge.Seconds())))
		w.WriteHeader(http.StatusNoContent)
	})
}
