package rest

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
)

var (
	// Routes whose last parameter may be a DID, which holds slashes.
	didPath      = regexp.MustCompile(`^(/api/v1(?:/namespaces/[^/]+)?/(?:identities|network/identities|network/diddocs)/)(did:.+)$`)
	uploadPath   = regexp.MustCompile(`^/api/v1(?:/namespaces/[^/]+)?/data$`)
	downloadPath = regexp.MustCompile(`^/api/v1(?:/namespaces/[^/]+)?/data/[^/]+/blob$`)
)

func isUploadPath(r *http.Request) bool {
	return r.Method == http.MethodPost && uploadPath.MatchString(r.URL.Path)
}

func isDownloadPath(r *http.Request) bool {
	return r.Method == http.MethodGet && downloadPath.MatchString(r.URL.Path)
}

// withRoutablePath gives the mux a path in which a DID is one segment, whether the client escaped its slashes or not.
func withRoutablePath(r *http.Request) *http.Request {
	changed := *r.URL
	changed.RawPath = r.URL.EscapedPath()
	if found := didPath.FindStringSubmatch(r.URL.Path); found != nil {
		// In lower case: the mux takes %2F, but not %2f, for a slash that separates segments.
		did := strings.ReplaceAll(url.PathEscape(found[2]), "%2F", "%2f")
		changed.RawPath = (&url.URL{Path: found[1]}).EscapedPath() + did
	}
	copied := *r
	copied.URL = &changed
	return &copied
}
