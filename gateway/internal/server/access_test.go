package server

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

var parameters = regexp.MustCompile(`\{[^}]*\}`)

const challenge = `Basic realm="photinus", Bearer realm="photinus"`

// unauthorized is the core's refusal of somebody it does not know.
func unauthorized() error {
	made, err := status.New(codes.Unauthenticated, "FF00169: Unauthorized").WithDetails(&errdetails.ErrorInfo{
		Reason: "FF00169", Domain: "photinus", Metadata: map[string]string{"http_status": "401", "www_authenticate": challenge},
	})
	if err != nil {
		panic(err)
	}
	return made.Err()
}

// guarded is a gateway whose core knows one token, with a note of who asked for what.
func guarded(t *testing.T, change ...func(*Options)) *gateway {
	t.Helper()
	gateway := newGateway(t, change...)
	gateway.core.answerWith(func(method protoreflect.MethodDescriptor) (proto.Message, metadata.MD, error) {
		if gateway.core.sent.Get("authorization") == nil {
			return nil, nil, unauthorized()
		}
		return newMessage(method.Output()), nil, nil
	})
	return gateway
}

// TestNothingIsServedToStrangers asks for every route, document and socket without and with a token.
func TestNothingIsServedToStrangers(t *testing.T) {
	gateway := guarded(t)
	gateway.core.streams["/photinus.api.v1.DataService/UploadData"] = func(stream grpc.ServerStream) error {
		if sent, _ := metadata.FromIncomingContext(stream.Context()); sent.Get("authorization") == nil {
			return unauthorized()
		}
		return coreError(400, "FF19007: tried")
	}
	asked := 0
	try := func(method, path, body string, headers ...string) {
		asked++
		response, text := gateway.do(t, method, path, body, headers...)
		if response.StatusCode != 401 || text != errorBody("FF00169: Unauthorized") || response.Header.Get("WWW-Authenticate") != challenge {
			t.Errorf("%s %s to a stranger: %d %s", method, path, response.StatusCode, text)
		}
		response, text = gateway.do(t, method, path, body, append(headers, "Authorization", "Bearer t")...)
		if response.StatusCode == 401 || response.StatusCode == 403 {
			t.Errorf("%s %s: %d %s", method, path, response.StatusCode, text)
		}
		if _, sent := gateway.core.lastAsked(); len(sent.Get("authorization")) != 1 || sent.Get("authorization")[0] != "Bearer t" {
			t.Errorf("%s %s: the core was told %v", method, path, sent)
		}
	}
	document := newGateway(t).document(t, "/api/swagger.json") // from a gateway whose core lets everybody
	for path, operations := range document.Paths {
		for method := range operations {
			try(strings.ToUpper(method), "/api/v1"+parameters.ReplaceAllString(path, "1"), "{}", jsonType...)
		}
	}
	form := "--x\r\nContent-Disposition: form-data; name=\"f\"; filename=\"f\"\r\n\r\ntext\r\n--x--\r\n"
	for _, path := range []string{"/api/v1/data", "/api/v1/namespaces/ns/data"} {
		// The stream notes nothing of the core's: only the answer is looked at.
		response, text := gateway.do(t, "POST", path, form, "Content-Type", "multipart/form-data; boundary=x")
		if response.StatusCode != 401 {
			t.Errorf("upload to %s: %d %s", path, response.StatusCode, text)
		}
		gateway.expect(t, "POST", path, form, 400, errorBody("FF19007: tried"), "Content-Type", "multipart/form-data; boundary=x",
			"Authorization", "Bearer t")
	}
	for _, path := range []string{"/api/swagger.json", "/api/openapi.yaml", "/api/v1/namespaces/ns/api/openapi.json"} {
		try("GET", path, "")
	}
	if asked < 200 {
		t.Errorf("only %d routes were tried", asked)
	}
	for _, open := range []string{"/api", "/api/v1/namespaces/ns/api", "/api/swagger-ui/swagger-ui.css", "/livez", "/readyz"} {
		if response, _ := gateway.do(t, "GET", open, ""); response.StatusCode != 200 {
			t.Errorf("%s: %d", open, response.StatusCode)
		}
	}
}

func TestNothingOfTheSPIIsServedToStrangers(t *testing.T) {
	gateway := guarded(t)
	made, err := NewSPI(gateway.conn, testOptions(), gateway.server)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/spi/swagger.json", "/spi/openapi.yaml", "/spi/v1/namespaces"} {
		for token, want := range map[string]int{"": 401, "Bearer t": 200} {
			request := httptest.NewRequest("GET", path, nil)
			if token != "" {
				request.Header.Set("Authorization", token)
			}
			answer := httptest.NewRecorder()
			made.Handler().ServeHTTP(answer, request)
			if answer.Code != want {
				t.Errorf("%s with %q: %d %s", path, token, answer.Code, answer.Body)
			}
		}
	}
}

func TestSocketsOfStrangersAreRefusedBeforeTheyOpen(t *testing.T) {
	gateway := guarded(t)
	gateway.subscribe()
	for _, path := range []string{"/ws", "/ws?namespace=ns&ephemeral", "/api/v1/namespaces/ns/ws"} {
		_, response, err := websocket.Dial(t.Context(), gateway.url+path, nil)
		if err == nil || response.StatusCode != 401 || response.Header.Get("WWW-Authenticate") != challenge {
			t.Errorf("%s: %v %v", path, response, err)
		}
	}
}

// TestPagesSendTheirTokenAsASubprotocol: they cannot set headers of a WebSocket.
func TestPagesSendTheirTokenAsASubprotocol(t *testing.T) {
	gateway := guarded(t)
	streams := gateway.subscribe()
	options := &websocket.DialOptions{Subprotocols: []string{"photinus", "bearer.a.b-c_d"}}
	conn, response, err := websocket.Dial(t.Context(), gateway.url+"/ws?namespace=ns", options)
	if err != nil {
		t.Fatal(response, err)
	}
	defer func() { _ = conn.CloseNow() }()
	if conn.Subprotocol() != "photinus" {
		t.Errorf("agreed on %q", conn.Subprotocol())
	}
	<-streams
	if _, sent := gateway.core.lastAsked(); sent.Get("authorization")[0] != "Bearer a.b-c_d" {
		t.Error(sent)
	}
}

func TestCredentialsThatAreTooLong(t *testing.T) {
	gateway := guarded(t)
	response, text := gateway.do(t, "GET", "/api/v1/status", "", "Authorization", "Bearer "+strings.Repeat("x", 16<<10))
	if response.StatusCode != 401 || !strings.Contains(text, "FF00169: Unauthorized: the credentials are too long") {
		t.Error(response.StatusCode, text)
	}
}

// TestPasswordsThatABrowserAddedByItself are not taken from pages of strangers, which are let in without.
func TestPasswordsThatABrowserAddedByItself(t *testing.T) {
	for name, each := range map[string]struct {
		origins []string
		headers []string
		want    int
	}{
		"a program":                {[]string{"*"}, nil, 200},
		"a page of a stranger":     {[]string{"*"}, []string{"Origin", "https://evil.example"}, 403},
		"a form of a stranger":     {[]string{"*"}, []string{"Origin", "null"}, 403},
		"an image of a stranger":   {[]string{"*"}, []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "no-cors"}, 403},
		"a link of a stranger":     {[]string{"*"}, []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate"}, 200},
		"a page of a named":        {[]string{"*", "https://app.example"}, []string{"Origin", "https://app.example"}, 200},
		"no pages let in":          {nil, []string{"Origin", "https://evil.example"}, 403},
		"a page of its own":        {[]string{"*"}, []string{"Origin", "https://behind.a.proxy", "Sec-Fetch-Site", "same-origin"}, 200},
		"a page of another port":   {[]string{"*"}, []string{"Origin", "https://127.0.0.1:1", "Sec-Fetch-Site", "same-site"}, 403},
		"an own page, old browser": {[]string{"*"}, []string{"Origin", "own"}, 200},
	} {
		t.Run(name, func(t *testing.T) {
			gateway := guarded(t, func(o *Options) { o.CORS.Origins = each.origins })
			headers := append([]string{"Authorization", "Basic YTpi"}, each.headers...)
			for i, value := range headers {
				if value == "own" {
					headers[i] = gateway.url
				}
			}
			if response, text := gateway.do(t, "GET", "/api/v1/status", "", headers...); response.StatusCode != each.want {
				t.Error(response.StatusCode, text)
			}
			headers[1] = "Bearer t" // no browser adds one by itself
			if response, text := gateway.do(t, "GET", "/api/v1/status", "", headers...); response.StatusCode != 200 {
				t.Error(response.StatusCode, text)
			}
		})
	}
}

func TestCORSOfNamedOrigins(t *testing.T) {
	preflight := func(cors CORS, origin string) http.Header {
		request := httptest.NewRequest("OPTIONS", "/api/v1/status", nil)
		request.Header.Set("Origin", origin)
		request.Header.Set("Access-Control-Request-Method", "GET")
		request.Header.Set("Access-Control-Request-Headers", "authorization, x-mine")
		answer := httptest.NewRecorder()
		cors.wrap(http.NotFoundHandler()).ServeHTTP(answer, request)
		return answer.Result().Header
	}
	const page = "https://app.example"
	for name, each := range map[string]struct {
		cors                         CORS
		origin, credentials, headers string
	}{
		"named":               {CORS{Origins: []string{page}, Headers: []string{"*"}, Credentials: true}, page, "true", "authorization, x-mine"},
		"named beside all":    {CORS{Origins: []string{"*", page}, Headers: []string{"*"}, Credentials: true}, page, "true", "authorization, x-mine"},
		"without credentials": {CORS{Origins: []string{page}, Headers: []string{"*"}}, page, "", "authorization, x-mine"},
		"some headers":        {CORS{Origins: []string{page}, Headers: []string{"Authorization", "X-A"}}, page, "", "Authorization, X-A"},
		"all":                 {CORS{Origins: []string{"*"}, Headers: []string{"*"}, Credentials: true}, "*", "", "authorization, x-mine"},
		"another":             {CORS{Origins: []string{"https://other.example"}, Headers: []string{"*"}, Credentials: true}, "", "", ""},
	} {
		got := preflight(each.cors, page)
		if got.Get("Access-Control-Allow-Origin") != each.origin || got.Get("Access-Control-Allow-Credentials") != each.credentials {
			t.Errorf("%s: %v", name, got)
		}
		if got.Get("Access-Control-Allow-Headers") != each.headers {
			t.Errorf("%s: %v", name, got)
		}
	}
}
