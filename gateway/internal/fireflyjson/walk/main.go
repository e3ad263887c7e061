// Walk runs the walker for the tests that compare it with the core's: one JSON request for each line of standard input,
// one JSON answer for each line of standard output. A request names a message of photinus.api.v1 and holds either its
// JSON (`text`, which is read and written again) or its bytes (`proto`, base64, which are written).
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"log"
	"os"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	_ "github.com/photinus-project/photinus/gateway/gen/photinus/api/v1"
	"github.com/photinus-project/photinus/gateway/internal/fireflyjson"
)

const lineBytesMax = 16 << 20

type request struct {
	Message string  `json:"message"`
	Text    *string `json:"text"`
	Proto   []byte  `json:"proto"`
}

type answer struct {
	Text string `json:"text"`
	// Proto is what was read, in deterministic form.
	Proto []byte `json:"proto"`
	Code  string `json:"code"`
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, lineBytesMax)
	out := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		var asked request
		if err := json.Unmarshal(lines.Bytes(), &asked); err != nil {
			log.Fatal(err)
		}
		found, err := protoregistry.GlobalTypes.FindMessageByName(protoreflect.FullName("photinus.api.v1." + asked.Message))
		if err != nil {
			log.Fatal(err)
		}
		if err := out.Encode(walk(asked, found.New().Interface())); err != nil {
			log.Fatal(err)
		}
	}
	if err := lines.Err(); err != nil {
		log.Fatal(err)
	}
}

func walk(asked request, message proto.Message) answer {
	if asked.Text == nil {
		if err := proto.Unmarshal(asked.Proto, message); err != nil {
			log.Fatal(err)
		}
	} else if err := fireflyjson.Decode([]byte(*asked.Text), message); err != nil {
		var coded *fireflyjson.Error
		if !errors.As(err, &coded) {
			log.Fatal(err)
		}
		return answer{Code: coded.Code}
	}
	encoded, err := proto.MarshalOptions{Deterministic: true}.Marshal(message)
	if err != nil {
		log.Fatal(err)
	}
	return answer{Text: string(fireflyjson.Encode(message)), Proto: encoded}
}
