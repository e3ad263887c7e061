package rest

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"unicode/utf8"
)

var (
	// Routes whose last parameter may be a DID, which holds slashes.
	didPath = regexp.MustCompile(`^(/api/v1(?:/namespaces/[^/]+)?/(?:identities|network/identities|network/diddocs)/)(did:.+)$`)
	// Folders hold slashes, at their beginning too; the root is empty.
	folderPath   = regexp.MustCompile(`^(/api/v1(?:/namespaces/[^/]+)?/datasubpaths)/(.*)$`)
	uploadPath   = regexp.MustCompile(`^/api/v1(?:/namespaces/[^/]+)?/data$`)
	downloadPath = regexp.MustCompile(`^/api/v1(?:/namespaces/[^/]+)?/data/[^/]+/blob$`)
)

func isUploadPath(r *http.Request) bool {
	return r.Method == http.MethodPost && uploadPath.MatchString(r.URL.Path)
}

func isDownloadPath(r *http.Request) bool {
	return r.Method == http.MethodGet && downloadPath.MatchString(r.URL.Path)
}

// withRoutablePath gives the mux a path in which a DID, or a folder, is one segment, whether the client escaped its slashes
// or not.
func withRoutablePath(r *http.Request) *http.Request {
	changed := *r.URL
	if utf8.ValidString(r.URL.Path) {
		changed.RawPath = r.URL.EscapedPath()
	} else {
		changed.Path = readable(r.URL.Path)
		changed.RawPath = (&url.URL{Path: changed.Path}).EscapedPath()
	}
	if found := didPath.FindStringSubmatch(changed.Path); found != nil {
		changed.RawPath = (&url.URL{Path: found[1]}).EscapedPath() + oneSegment(found[2])
	}
	if found := folderPath.FindStringSubmatch(changed.Path); found != nil {
		changed.RawPath = (&url.URL{Path: found[1]}).EscapedPath()
		if folder := strings.Trim(found[2], "/"); folder != "" {
			changed.RawPath += "/" + oneSegment(folder)
		}
	}
	copied := *r
	copied.URL = &changed
	return &copied
}

// readable replaces what is no UTF-8, as in bodies: protobuf refuses it.
func readable(text string) string {
	return strings.ToValidUTF8(text, "\uFFFD")
}

// oneSegment escapes slashes. In lower case: the mux takes %2F, but not %2f, for a slash that separates segments.
func oneSegment(text string) string {
	return strings.ReplaceAll(url.PathEscape(text), "%2F", "%2f")
}
