package fireflyjson_test

import (
	"bufio"
	"encoding/json"
	"os"
	"strings"
	"testing"

	apiv1 "github.com/photinus-project/photinus/gateway/gen/photinus/api/v1"
	"github.com/photinus-project/photinus/gateway/internal/fireflyjson"
)

// recordedList is a recorded answer of GET /messages with 25 rows.
func recordedList(b *testing.B) []byte {
	b.Helper()
	file, err := os.Open("../../../tests/data/golden/broadcast.jsonl")
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 8<<20)
	for lines.Scan() {
		var line struct {
			Path         string          `json:"path"`
			ResponseBody json.RawMessage `json:"response_body"`
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			b.Fatal(err)
		}
		if strings.HasPrefix(line.Path, "/api/v1/messages/") && strings.HasPrefix(string(line.ResponseBody), `{"header"`) {
			rows := strings.Repeat(string(line.ResponseBody)+",", 24) + string(line.ResponseBody)
			return []byte("[" + rows + "]")
		}
	}
	b.Fatal("no message was recorded")
	return nil
}

func BenchmarkEncodeListOf25(b *testing.B) {
	text := recordedList(b)
	message := &apiv1.ListMessagesResponse{}
	if err := fireflyjson.Decode(text, message); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		fireflyjson.Encode(message)
	}
}

func BenchmarkDecodeListOf25(b *testing.B) {
	text := recordedList(b)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if err := fireflyjson.Decode(text, &apiv1.ListMessagesResponse{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodeBroadcast(b *testing.B) {
	text := []byte(`{"header":{"tag":"t1","topics":["topic1"]},"idempotencyKey":"key-1","data":[{"value":"` + strings.Repeat("x", 400) + `"}]}`)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if err := fireflyjson.Decode(text, &apiv1.MessageInput{}); err != nil {
			b.Fatal(err)
		}
	}
}
