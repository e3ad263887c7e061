// Package access passes on what clients say of themselves. Who they are and what they may do is the core's to decide.
package access

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	apiv1 "github.com/photinus-project/photinus/gateway/gen/photinus/api/v1"
	"github.com/photinus-project/photinus/gateway/internal/coded"
)

const (
	// Subprotocol is what pages offer beside their token, and what is agreed on.
	Subprotocol = "photinus"
	// A page cannot set headers of a WebSocket: `new WebSocket(url, ["photinus", "bearer." + token])`.
	tokenProtocol = "bearer."
	// The core looks at no more.
	authorizationMax = 16 << 10
	askTimeout       = 30 * time.Second
)

// Guard refuses, before anything else is done, what the core would not look at, and what a browser may have added by itself.
//
// A browser that knows a password sends it with requests of any page, those of strangers included. Where pages of all
// origins are let in (`*`), they are let in without.
func Guard(next http.Handler, origins []string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		authorization := r.Header.Get("Authorization")
		switch {
		case len(authorization) > authorizationMax:
			coded.Write(w, coded.Because(coded.Unauthorized, "the credentials are too long"))
		case isBasic(authorization) && isForeign(r) && !isNamed(origins, r.Header.Get("Origin")):
			coded.Write(w, coded.Because(coded.Forbidden, "passwords are taken from pages of named origins only (-cors-origins)"))
		default:
			next.ServeHTTP(w, r)
		}
	})
}

func isBasic(authorization string) bool {
	scheme, _, _ := strings.Cut(authorization, " ")
	return strings.EqualFold(scheme, "Basic")
}

// isForeign says whether a page of another origin asks.
func isForeign(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" {
		// Simple requests to read have none; browsers say where they come from all the same.
		return r.Header.Get("Sec-Fetch-Site") == "cross-site" && r.Header.Get("Sec-Fetch-Mode") != "navigate"
	}
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" {
		return site != "same-origin"
	}
	parsed, err := url.Parse(origin)
	return err != nil || !strings.EqualFold(parsed.Host, r.Host)
}

func isNamed(origins []string, origin string) bool {
	for _, each := range origins {
		if each != "*" && each == origin {
			return true
		}
	}
	return false
}

// Authorization is what a client says of itself: in its header or, from a page that opens a WebSocket, as a subprotocol.
func Authorization(r *http.Request) string {
	if found := r.Header.Get("Authorization"); found != "" {
		return found
	}
	for _, line := range r.Header.Values("Sec-WebSocket-Protocol") {
		for _, offered := range strings.Split(line, ",") {
			if token, ok := strings.CutPrefix(strings.TrimSpace(offered), tokenProtocol); ok && token != "" {
				return "Bearer " + token
			}
		}
	}
	return ""
}

// Asking asks the core about clients.
type Asking struct {
	namespaces apiv1.NamespaceServiceClient
	spi        apiv1.SpiServiceClient
}

// NewAsking makes it.
func NewAsking(conn grpc.ClientConnInterface) *Asking {
	return &Asking{apiv1.NewNamespaceServiceClient(conn), apiv1.NewSpiServiceClient(conn)}
}

// MayRead says why a client may not read a namespace, or with an empty name any of them; nil when it may. A namespace that
// is unknown or not started is an error, too.
func (a *Asking) MayRead(r *http.Request, namespace string) *coded.Error {
	ctx, cancel := asked(r)
	defer cancel()
	var err error
	if namespace == "" {
		_, err = a.namespaces.ListNamespaces(ctx, &apiv1.ListNamespacesRequest{})
	} else {
		_, err = a.namespaces.GetNamespace(ctx, &apiv1.GetNamespaceRequest{Namespace: namespace})
	}
	if err == nil {
		return nil
	}
	return coded.From(err)
}

// MayUseSPI says why a client may not use the service provider interface; nil when it may.
func (a *Asking) MayUseSPI(r *http.Request) *coded.Error {
	ctx, cancel := asked(r)
	defer cancel()
	if _, err := a.spi.ListNodeNamespaces(ctx, &apiv1.ListNodeNamespacesRequest{}); err != nil {
		return coded.From(err)
	}
	return nil
}

// asked is the context of a question about the client of a request.
func asked(r *http.Request) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(r.Context(), askTimeout)
	if authorization := Authorization(r); authorization != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", authorization)
	}
	return ctx, cancel
}

// IsRefusal says whether an error is about the client, and not about what it wants.
func IsRefusal(failure *coded.Error) bool {
	return failure != nil && (failure.Status == http.StatusUnauthorized || failure.Status == http.StatusForbidden)
}
