package server

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	apiv1 "github.com/photinus-project/photinus/gateway/gen/photinus/api/v1"
)

var jsonType = []string{"Content-Type", "application/json"}

func TestRequestsTheCoreNeverSees(t *testing.T) {
	gateway := newGateway(t)
	gateway.core.answerWith(func(protoreflect.MethodDescriptor) (proto.Message, metadata.MD, error) {
		t.Error("the core was asked")
		return nil, nil, status.Error(codes.Internal, "unexpected")
	})
	const broadcast = "/api/v1/messages/broadcast"
	cases := []struct {
		name, method, path, body string
		code                     int
		text                     string
		headers                  []string
	}{
		{"unknown route", "GET", "/api/v1/absent", "", 404, "FF10109: Not found", nil},
		{"other version", "GET", "/api/v2/status", "", 404, "FF10109: Not found", nil},
		{"root", "GET", "/", "", 404, "FF10109: Not found", nil},
		{"wrong method", "PUT", "/api/v1/messages", "{}", 405, "FF19003: Method PUT is not allowed here; allowed: GET", jsonType},
		{"wrong method on blob", "DELETE", "/api/v1/data/x/blob", "", 405, "FF19003: Method DELETE is not allowed here; allowed: GET", nil},
		{"method override", "POST", "/api/v1/status", "{}", 405, "FF19003: Method POST is not allowed here; allowed: GET", append([]string{"X-HTTP-Method-Override", "GET"}, jsonType...)},
		{"no content type", "POST", broadcast, "{}", 415, "FF00162: Invalid content type ''", nil},
		{"other content type", "POST", broadcast, "{}", 415, "FF00162: Invalid content type 'text/xml'", []string{"Content-Type", "text/xml"}},
		{"a message as curl sends it", "POST", broadcast, ` {"data":[{"value":1}]}`, 415, "FF00162: Invalid content type 'application/x-www-form-urlencoded'", []string{"Content-Type", "application/x-www-form-urlencoded"}},
		{"form on another route", "POST", broadcast, "{}", 415, "FF00162: Invalid content type 'multipart/form-data; boundary=x'", []string{"Content-Type", "multipart/form-data; boundary=x"}},
		{"no JSON", "POST", broadcast, "{", 400, "FF19001: The request body is not valid JSON: unexpected EOF", jsonType},
		{"empty", "POST", broadcast, "", 400, "FF19001: The request body is not valid JSON: it is empty", jsonType},
		{"garbage behind", "POST", broadcast, "{} x", 400, "FF19001: The request body is not valid JSON: there is something after its end", jsonType},
		{"null", "POST", broadcast, "null", 400, "FF19002: Field 'body': must be a JSON object", jsonType},
		{"wrong type", "POST", broadcast, `{"header":{"topics":[1]}}`, 400, "FF19002: Field 'header.topics[0]': must be a string", jsonType},
		{"no JSON where nothing is read", "POST", "/api/v1/network/nodes/self", "nonsense", 400, "FF19001: The request body is not valid JSON: invalid character 'o' in literal null (expecting 'u')", jsonType},
		{"too large", "POST", broadcast, `"` + strings.Repeat("x", 1<<20) + `"`, 413, "FF19004: The request body is larger than 1,048,576 bytes", jsonType},
		{"bad number in the path", "GET", "/api/v1/pins/x/explain", "", 400, `FF19002: Field 'path': type mismatch, parameter: sequence, error: strconv.ParseInt: parsing "x": invalid syntax`, nil},
	}
	for _, each := range cases {
		t.Run(each.name, func(t *testing.T) {
			gateway.expect(t, each.method, each.path, each.body, each.code, errorBody(each.text), each.headers...)
		})
	}
}

func TestContentTypesWithoutABody(t *testing.T) {
	gateway := newGateway(t)
	gateway.core.reply(&apiv1.RegisterSelfNodeResponse{}, 202)
	for _, media := range []string{"text/plain", "application/x-www-form-urlencoded", "APPLICATION/JSON; charset=utf-8"} {
		for _, body := range []string{"{}", " { } "} {
			response, text := gateway.do(t, "POST", "/api/v1/network/nodes/self", body, "Content-Type", media)
			if response.StatusCode != 202 {
				t.Errorf("%s: %d %s", media, response.StatusCode, text)
			}
		}
	}
}

func TestPathsReachTheirCalls(t *testing.T) {
	gateway := newGateway(t)
	cases := []struct {
		path string
		want proto.Message
	}{
		{"/api/v1/messages/m1?fetchdata", &apiv1.GetMessageRequest{Id: "m1", FetchData: true}},
		{"/api/v1/messages/m1?FETCHDATA=True", &apiv1.GetMessageRequest{Id: "m1", FetchData: true}},
		{"/api/v1/messages/m1?fetchdata=false", &apiv1.GetMessageRequest{Id: "m1"}},
		{"/api/v1/messages/m1?id=m2&namespace=other", &apiv1.GetMessageRequest{Id: "m1"}},
		{"/api/v1/namespaces/ns1/messages/m1", &apiv1.GetMessageRequest{Namespace: "ns1", Id: "m1"}},
		{"/api/v1/namespaces/ns1", &apiv1.GetNamespaceRequest{Namespace: "ns1"}},
		{"/api/v1/events/e?fetchreference", &apiv1.GetEventRequest{Id: "e", FetchReferences: true}},
		{"/api/v1/events?tag=!~a%20b&b=2&a=%3E1", &apiv1.ListEventsRequest{Query: &apiv1.Query{Raw: "tag=!~a%20b&b=2&a=%3E1"}}},
		{"/api/v1/events", &apiv1.ListEventsRequest{}},
		{"/api/v1/events?%00raw=x", &apiv1.ListEventsRequest{Query: &apiv1.Query{Raw: "%00raw=x"}}},
		{"/api/v1/identities/did:firefly:org/org_1", &apiv1.GetIdentityRequest{Id: "did:firefly:org/org_1"}},
		{"/api/v1/identities/did%3Afirefly%3Aorg%2Forg_1", &apiv1.GetIdentityRequest{Id: "did:firefly:org/org_1"}},
		{"/api/v1/identities/did:firefly:org/did", &apiv1.GetIdentityRequest{Id: "did:firefly:org/did"}},
		{"/api/v1/identities/i1/did", &apiv1.GetDidDocumentRequest{Id: "i1"}},
		{"/api/v1/namespaces/n/network/identities/did:firefly:a/b?fetchverifiers", &apiv1.GetIdentityRequest{Namespace: "n", Id: "did:firefly:a/b", FetchVerifiers: true}},
		{"/api/v1/network/diddocs/did:firefly:node/n", &apiv1.GetDidDocumentRequest{Id: "did:firefly:node/n"}},
		{"/api/v1/datasubpaths", &apiv1.ListDataSubPathsRequest{}},
		{"/api/v1/datasubpaths/", &apiv1.ListDataSubPathsRequest{}},
		{"/api/v1/namespaces/n/datasubpaths/", &apiv1.ListDataSubPathsRequest{Namespace: "n"}},
		{"/api/v1/datasubpaths/a/b%20c/", &apiv1.ListDataSubPathsRequest{Parent: "a/b c"}},
		{"/api/v1/datasubpaths/%2Fa%2fb", &apiv1.ListDataSubPathsRequest{Parent: "a/b"}},
		{"/api/v1/namespaces/n/datasubpaths/%2F", &apiv1.ListDataSubPathsRequest{Namespace: "n"}},
		{"/api/v1/datasubpaths/a%252Fb", &apiv1.ListDataSubPathsRequest{Parent: "a%2Fb"}},
		{"/api/v1/datasubpaths/a%2F%FF", &apiv1.ListDataSubPathsRequest{Parent: "a/\uFFFD"}},
		{"/api/v1/network/nodes/a%FFb", &apiv1.GetNodeRequest{NameOrId: "a\uFFFDb"}},
		{"/api/v1/charts/histogram/%C3?startTime=%FF%FE", &apiv1.GetChartHistogramRequest{Collection: "\uFFFD", StartTime: "\uFFFD"}},
		{"/api/v1/pins/17/explain", &apiv1.ExplainPinRequest{Sequence: 17}},
		{"/api/v1/data/a%25b/value", &apiv1.GetDataValueRequest{Id: "a%b"}},
		{"/api/v1/namespaces?includeinitializing", &apiv1.ListNamespacesRequest{IncludeInitializing: true}},
	}
	for _, each := range cases {
		gateway.core.answerWith(func(method protoreflect.MethodDescriptor) (proto.Message, metadata.MD, error) {
			return newMessage(method.Output()), nil, nil
		})
		response, text := gateway.do(t, "GET", each.path, "")
		asked, _ := gateway.core.lastAsked()
		if response.StatusCode != 200 || !proto.Equal(asked, each.want) {
			t.Errorf("%s: %d %s, the core was asked %v", each.path, response.StatusCode, text, asked)
		}
	}
}

func TestTheBodyOfAQueryReachesTheCoreAsItIs(t *testing.T) {
	gateway := newGateway(t)
	gateway.core.reply(&apiv1.ListMessagesResponse{Total: proto.Int64(0)}, 200)
	gateway.expect(t, "POST", "/api/v1/namespaces/n/messages/query?fetchdata&limit=1",
		`{"gt": [{"field":"sequence", "value":12345678901234567890}]}`, 200, "{\"count\":0,\"total\":0,\"items\":[]}\n", jsonType...)
	want := &apiv1.ListMessagesRequest{
		Namespace: "n", FetchData: true,
		Query: &apiv1.Query{Json: `{"gt":[{"field":"sequence","value":12345678901234567890}]}`},
	}
	if asked, _ := gateway.core.lastAsked(); !proto.Equal(asked, want) {
		t.Errorf("the core was asked %v", asked)
	}
	gateway.core.reply(&apiv1.ListDataMessagesResponse{}, 200)
	gateway.do(t, "POST", "/api/v1/data/d/messages/query", "{}", jsonType...)
	asked, _ := gateway.core.lastAsked()
	if !proto.Equal(asked, &apiv1.ListDataMessagesRequest{Id: "d", Query: &apiv1.Query{Json: "{}"}}) {
		t.Errorf("the core was asked %v", asked)
	}
}

func TestConfirmIsAParameterBesideTheBody(t *testing.T) {
	gateway := newGateway(t)
	gateway.core.reply(&apiv1.BroadcastMessageResponse{}, 200)
	gateway.do(t, "POST", "/api/v1/namespaces/n/messages/broadcast?confirm", `{"data":[{"value":{"a": 1e400}}]}`, jsonType...)
	want := &apiv1.BroadcastMessageRequest{
		Namespace: "n", Confirm: true,
		Message: &apiv1.MessageInput{Data: []*apiv1.DataRefOrValue{{Value: `{"a":1e400}`}}},
	}
	if asked, _ := gateway.core.lastAsked(); !proto.Equal(asked, want) {
		t.Errorf("the core was asked %v", asked)
	}
}

func TestSuccessCodes(t *testing.T) {
	gateway := newGateway(t)
	gateway.core.reply(&apiv1.CreateDataResponse{}, 201)
	gateway.expect(t, "POST", "/api/v1/data", "{}", 201, "{\"validator\":\"\",\"value\":null}\n", jsonType...)
	gateway.core.reply(&apiv1.DeleteDataResponse{}, 0)
	gateway.expect(t, "DELETE", "/api/v1/data/d", "", 204, "")
	gateway.core.reply(&apiv1.ListPinsResponse{Total: proto.Int64(3)}, 200)
	gateway.expect(t, "GET", "/api/v1/pins?count", "", 200, "{\"count\":0,\"total\":3,\"items\":[]}\n")
}

func TestErrorsOfTheCore(t *testing.T) {
	gateway := newGateway(t)
	cases := []struct {
		failure error
		code    int
		text    string
	}{
		{coreError(409, "FF10430: Idempotency key 'k' already used"), 409, "FF10430: Idempotency key 'k' already used"},
		{coreError(412, "FF10441: <starting> & so on"), 412, "FF10441: <starting> & so on"},
		{status.Error(codes.Unavailable, "gone"), 503, "FF19014: The core cannot be reached: gone"},
		{status.Error(codes.Internal, "oops"), 500, "FF19000: This should not happen: Internal: oops. Please report it with the log"},
	}
	for _, each := range cases {
		gateway.core.answerWith(func(protoreflect.MethodDescriptor) (proto.Message, metadata.MD, error) {
			return nil, nil, each.failure
		})
		text := strings.NewReplacer("<", `\u003c`, ">", `\u003e`, "&", `\u0026`).Replace(errorBody(each.text))
		gateway.expect(t, "GET", "/api/v1/status", "", each.code, text)
	}
}

func TestTimeouts(t *testing.T) {
	gateway := newGateway(t)
	released := make(chan struct{})
	defer close(released)
	gateway.core.answerWith(func(protoreflect.MethodDescriptor) (proto.Message, metadata.MD, error) {
		<-released
		return nil, nil, nil
	})
	started := time.Now()
	response, text := gateway.do(t, "GET", "/api/v1/status", "", "Request-Timeout", "100ms", "X-FireFly-Request-ID", "r1")
	if response.StatusCode != 408 || !strings.HasPrefix(text, `{"error":"FF00166: The request with id 'r1' timed out after `) {
		t.Errorf("got %d %s", response.StatusCode, text)
	}
	if response.Header.Get("X-FireFly-Request-ID") != "r1" || time.Since(started) > 10*time.Second {
		t.Error(response.Header, time.Since(started))
	}
	if _, sent := gateway.core.lastAsked(); sent.Get("x-firefly-request-id")[0] != "r1" {
		t.Error("the core was sent", sent)
	}
}

func TestTimeoutsAreCappedAndDefaulted(t *testing.T) {
	gateway := newGateway(t)
	gateway.core.reply(&apiv1.GetStatusResponse{}, 200)
	const most = time.Minute
	for asked, want := range map[string]time.Duration{
		"": most, "20": 20 * time.Second, "10.5": 10500 * time.Millisecond, "1h": most, "-1": most, "junk": most, "9s": 9 * time.Second,
	} {
		gateway.do(t, "GET", "/api/v1/status", "", "Request-Timeout", asked, "Authorization", "Bearer x")
		_, sent := gateway.core.lastAsked()
		// A little more than asked for: the core answers before its deadline.
		if left := gateway.core.timeLeft(); left > want+200*time.Millisecond || left < want-5*time.Second {
			t.Errorf("%q: the core was given %s, want %s", asked, left, want)
		}
		if sent.Get("authorization")[0] != "Bearer x" || len(sent.Get("x-firefly-request-id")[0]) != 36 {
			t.Error(sent)
		}
	}
}

func TestUncleanPathsAreRedirected(t *testing.T) {
	gateway := newGateway(t)
	for path, want := range map[string]string{
		"/api/v1//status":                      "/api/v1/status",
		"/api/v1//websockets?a=b%20c":          "/api/v1/websockets?a=b%20c",
		"/api/v1/namespaces/n//network/nodes/": "/api/v1/namespaces/n/network/nodes/",
		"/api/../api/v1/status":                "/api/v1/status",
	} {
		response, _ := gateway.do(t, "GET", path, "")
		if response.StatusCode != 301 || response.Header.Get("Location") != want {
			t.Errorf("%s: %d %s", path, response.StatusCode, response.Header.Get("Location"))
		}
	}
}

func TestPathPrefix(t *testing.T) {
	gateway := newGateway(t, func(options *Options) { options.PathPrefix = "/member0" })
	gateway.core.reply(&apiv1.ListPinsResponse{}, 200)
	gateway.expect(t, "GET", "/member0/api/v1/pins", "", 200, "[]\n")
	gateway.expect(t, "GET", "/api/v1/pins", "", 404, errorBody("FF10109: Not found"))
	if url := gateway.document(t, "/member0/api/swagger.json").Servers[0].URL; url != gateway.url+"/member0/api/v1" {
		t.Error(url)
	}
}

func TestCORS(t *testing.T) {
	gateway := newGateway(t)
	gateway.core.reply(&apiv1.ListPinsResponse{}, 200)
	response, _ := gateway.do(t, "OPTIONS", "/api/v1/pins", "", "Origin", "http://page", "Access-Control-Request-Method", "GET", "Access-Control-Request-Headers", "x-a")
	if response.StatusCode != 204 || response.Header.Get("Access-Control-Allow-Headers") != "x-a" {
		t.Error(response.StatusCode, response.Header)
	}
	response, _ = gateway.do(t, "GET", "/api/v1/pins", "", "Origin", "http://page")
	if response.Header.Get("Access-Control-Allow-Origin") != "*" || response.Header.Get("Access-Control-Allow-Credentials") != "" {
		t.Error(response.Header)
	}
	named := newGateway(t, func(options *Options) { options.CORS.Origins = []string{"http://page"} })
	named.core.reply(&apiv1.ListPinsResponse{}, 200)
	response, _ = named.do(t, "GET", "/api/v1/pins", "", "Origin", "http://other")
	if response.Header.Get("Access-Control-Allow-Origin") != "" {
		t.Error(response.Header)
	}
	response, _ = named.do(t, "GET", "/api/v1/pins", "", "Origin", "http://page")
	if response.Header.Get("Access-Control-Allow-Credentials") != "true" {
		t.Error(response.Header)
	}
}

func TestHealthAndMetrics(t *testing.T) {
	gateway := newGateway(t)
	gateway.core.reply(&apiv1.ListPinsResponse{}, 200)
	gateway.expect(t, "GET", "/livez", "", 200, "")
	gateway.expect(t, "GET", "/readyz", "", 200, "")
	gateway.do(t, "GET", "/api/v1/namespaces/n/pins", "")
	gateway.do(t, "GET", "/api/v1/absent", "")
	_, text := gateway.do(t, "GET", "/metrics", "")
	for _, want := range []string{
		`ff_apiserver_rest_requests_total{code="200",method="GET",route="/api/v1/namespaces/{ns}/pins"} 1`,
		`ff_apiserver_rest_requests_total{code="404",method="GET",route=""} 1`,
		"photinus_gateway_websockets 0",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in %s", want, text)
		}
	}
	gateway.core.health.SetServingStatus("", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	gateway.expect(t, "GET", "/readyz", "", 503, errorBody("FF19014: The core cannot be reached: it is NOT_SERVING"))
	gateway.server.draining.Store(true)
	gateway.expect(t, "GET", "/readyz", "", 503, errorBody("FF19011: This replica is shutting down; try another, or try again"))
}

func TestDrain(t *testing.T) {
	gateway := newGateway(t)
	entered, released := make(chan struct{}), make(chan struct{})
	gateway.core.answerWith(func(protoreflect.MethodDescriptor) (proto.Message, metadata.MD, error) {
		close(entered)
		<-released
		return &apiv1.ListPinsResponse{}, nil, nil
	})
	listener := localListener(t)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- gateway.server.Run(ctx, listener) }()
	answered := make(chan int, 1)
	go func() {
		response, err := http.Get("http://" + listener.Addr().String() + "/api/v1/pins")
		if err != nil {
			answered <- 0
			return
		}
		_ = response.Body.Close()
		answered <- response.StatusCode
	}()
	<-entered
	stop()
	close(released)
	if code := <-answered; code != 200 {
		t.Errorf("the request under way got %d", code)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if _, err := http.Get("http://" + listener.Addr().String() + "/livez"); err == nil {
		t.Error("still serving")
	}
}
