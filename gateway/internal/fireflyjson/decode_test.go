package fireflyjson_test

import (
	"errors"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	apiv1 "github.com/photinus-project/photinus/gateway/gen/photinus/api/v1"
	"github.com/photinus-project/photinus/gateway/internal/fireflyjson"
)

// FuzzDecode shows that no input breaks the reader, that its errors are coded, and that what it has read it writes so that
// it reads the same again. Without -fuzz the seeds run.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		`{"header":{"tag":"t","topics":["a","b"]},"data":[{"value":{"a":[1,2.50,"\u2028<"]},"id":"x"}],"group":{"members":[]}}`,
		`{"a":1,"a":{"b":"\"}"},"batch":true,"readAhead":7,"other":null}`, `{"\u0062atch":false,"b":"é\ud800"}`,
		`{"created":"2026-11-21T08:33:44.6Z","x":1795246441}`, `[`, `{"`, `"\`, `{"a":"\"`, `nul`, "{}\x00", "\xff", `{"a":[[[[]]]]}`,
		`{` + strings.Repeat(`"k`+`":1,`, 30) + `"k":2}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, message := range []proto.Message{&apiv1.MessageInput{}, &apiv1.SubscriptionOptions{}, &apiv1.Datatype{}, &apiv1.ListPinsResponse{}, &apiv1.GetDataValueResponse{}} {
			err := fireflyjson.Decode(text, message)
			var coded *fireflyjson.Error
			if err != nil {
				if !errors.As(err, &coded) || !strings.HasPrefix(coded.Code, "FF") {
					t.Fatal(err)
				}
				continue
			}
			again := message.ProtoReflect().New().Interface()
			if err := fireflyjson.Decode(fireflyjson.Encode(message), again); err != nil || !proto.Equal(message, again) {
				t.Fatalf("%s became %s (%v)", message, again, err)
			}
		}
	})
}
