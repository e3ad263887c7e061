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
	Origins []string // `*` for any
	Methods []string
	MaxAge  time.Duration
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
		anyOrigin := slices.Contains(c.Origins, "*")
		if !anyOrigin && !slices.Contains(c.Origins, origin) {
			next.ServeHTTP(w, r)
			return
		}
		// With `*` no credentials: a browser refuses both together, and echoing every origin would undo the difference.
		if anyOrigin {
			header.Set("Access-Control-Allow-Origin", "*")
		} else {
			header.Set("Access-Control-Allow-Origin", origin)
			header.Set("Access-Control-Allow-Credentials", "true")
		}
		if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") == "" {
			header.Set("Access-Control-Expose-Headers", "X-FireFly-Request-ID, X-FF-Blob-Hash-SHA256, X-FF-Blob-Size")
			next.ServeHTTP(w, r)
			return
		}
		header.Set("Access-Control-Allow-Methods", strings.Join(c.Methods, ", "))
		if asked := r.Header.Get("Access-Control-Request-Headers"); asked != "" {
			header.Set("Access-Control-Allow-Headers", asked)
		}
		header.Set("Access-Control-Max-Age", strconv.Itoa(int(c.MaxAge.Seconds())))
		w.WriteHeader(http.StatusNoContent)
	})
}
