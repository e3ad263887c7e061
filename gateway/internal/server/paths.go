package server

import (
	"net/http"
	"path"
	"strings"

	"github.com/photinus-project/photinus/gateway/internal/coded"
)

// cleanPath answers a path with `//` or dots with 301 to the clean one: FireFly's UI relies on it.
func cleanPath(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked := r.URL.EscapedPath()
		clean := path.Clean("/" + asked)
		if strings.HasSuffix(asked, "/") && clean != "/" {
			clean += "/"
		}
		if clean == asked || asked == "" {
			next.ServeHTTP(w, r)
			return
		}
		if r.URL.RawQuery != "" {
			clean += "?" + r.URL.RawQuery
		}
		w.Header().Set("Location", clean)
		w.WriteHeader(http.StatusMovedPermanently)
	})
}

// stripPrefix takes a prefix off; what does not begin with it is not found.
func stripPrefix(prefix string, next http.Handler) http.Handler {
	stripped := http.StripPrefix(prefix, next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, prefix+"/") {
			coded.Write(w, coded.New(coded.NotFound))
			return
		}
		stripped.ServeHTTP(w, r)
	})
}
