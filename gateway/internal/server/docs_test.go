package server

import (
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

type apiDocument struct {
	OpenAPI  string
	Servers  []struct{ URL string }
	Security []map[string][]string
	Paths    map[string]map[string]struct {
		OperationID string `json:"operationId" yaml:"operationId"`
	}
}

// TestEveryDocumentedRouteIsServed asks for every path and method of the document: each must reach the core.
func TestEveryDocumentedRouteIsServed(t *testing.T) {
	gateway := newGateway(t)
	document := gateway.document(t, "/api/swagger.json")
	if len(document.Paths) < 100 {
		t.Fatalf("the document has %d paths", len(document.Paths))
	}
	parameter := regexp.MustCompile(`\{[^}]*\}`)
	for path, operations := range document.Paths {
		for method, operation := range operations {
			called := ""
			gateway.core.answerWith(func(method protoreflect.MethodDescriptor) (proto.Message, metadata.MD, error) {
				called = string(method.FullName())
				return newMessage(method.Output()), nil, nil
			})
			target := parameter.ReplaceAllString(path, "1")
			response, text := gateway.do(t, strings.ToUpper(method), "/api/v1"+target, "{}", jsonType...)
			isBlob := strings.HasSuffix(path, "/blob") // ends as a stream that does not begin well
			if called == "" || (response.StatusCode >= 300 && !isBlob) {
				t.Errorf("%s: %s %s: %d %s", operation.OperationID, method, path, response.StatusCode, text)
			}
		}
	}
}

func (g *gateway) document(t *testing.T, path string) apiDocument {
	t.Helper()
	response, text := g.do(t, "GET", path, "")
	var found apiDocument
	var err error
	if strings.HasSuffix(path, ".yaml") {
		err = yaml.Unmarshal([]byte(text), &found)
		if strings.HasPrefix(text, "{") || response.Header.Get("Content-Type") != "application/x-yaml" {
			t.Error(path, "is not YAML")
		}
	} else {
		err = json.Unmarshal([]byte(text), &found)
	}
	if response.StatusCode != http.StatusOK || err != nil || found.OpenAPI != "3.0.2" {
		t.Fatal(path, response.StatusCode, err, found.OpenAPI)
	}
	return found
}

func TestDocuments(t *testing.T) {
	gateway := newGateway(t)
	for _, name := range []string{"swagger.json", "openapi.json", "swagger.yaml", "openapi.yaml"} {
		whole := gateway.document(t, "/api/"+name)
		if url := whole.Servers[0].URL; url != gateway.url+"/api/v1" {
			t.Error(url)
		}
		if operation := whole.Paths["/namespaces/{ns}/messages"]["get"].OperationID; operation != "getMsgsNamespace" {
			t.Error(operation)
		}
		inner := gateway.document(t, "/api/v1/namespaces/ns1/api/"+name)
		if url := inner.Servers[0].URL; url != gateway.url+"/api/v1/namespaces/ns1" {
			t.Error(url)
		}
		if operation := inner.Paths["/messages"]["get"].OperationID; operation != "getMsgs" {
			t.Error(operation)
		}
		if len(whole.Security) != 3 || len(inner.Security) != 3 {
			t.Error("a document does not say how callers prove themselves", whole.Security, inner.Security)
		}
		if _, there := inner.Paths["/namespaces"]; there {
			t.Error("a route of the node is in the document of a namespace")
		}
	}
	public := newGateway(t, func(options *Options) { options.PublicURL = "https://example.com/m0/" })
	if url := public.document(t, "/api/swagger.json").Servers[0].URL; url != "https://example.com/m0/api/v1" {
		t.Error(url)
	}
	gateway.expect(t, "POST", "/api/swagger.json", "{}", 405, errorBody("FF19003: Method POST is not allowed here; allowed: GET, HEAD"))
}

func TestSwaggerUI(t *testing.T) {
	gateway := newGateway(t)
	for path, document := range map[string]string{
		"/api":                       "/api/openapi.yaml",
		"/api/v1/namespaces/ns1/api": "/api/v1/namespaces/ns1/api/openapi.yaml",
	} {
		response, page := gateway.do(t, "GET", path, "")
		if response.StatusCode != 200 || !strings.Contains(page, `url: "`+gateway.url+document+`"`) {
			t.Errorf("%s: %d %s", path, response.StatusCode, page)
		}
		for _, address := range regexp.MustCompile(`(?:src|href)="([^"]*)"`).FindAllStringSubmatch(page, -1) {
			if !strings.HasPrefix(address[1], gateway.url) {
				t.Error("something is fetched from elsewhere:", address[1])
			}
		}
	}
	for name, media := range map[string]string{
		"swagger-ui-bundle.js": "text/javascript; charset=utf-8", "swagger-ui.css": "text/css; charset=utf-8", "favicon-32x32.png": "image/png",
	} {
		response, text := gateway.do(t, "GET", "/api/swagger-ui/"+name, "")
		if response.StatusCode != 200 || len(text) < 100 || response.Header.Get("Content-Type") != media {
			t.Errorf("%s: %d (run `make setup`, which puts Swagger UI's files in place)", name, response.StatusCode)
		}
	}
	for _, name := range []string{"README.md", "absent.js", "..%2fopenapi.json"} {
		gateway.expect(t, "GET", "/api/swagger-ui/"+name, "", 404, errorBody("FF10109: Not found"))
	}
}
