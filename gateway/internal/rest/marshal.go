package rest

import (
	"fmt"
	"io"
	"reflect"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/protobuf/proto"

	"github.com/photinus-project/photinus/gateway/internal/fireflyjson"
)

// marshaler gives the generated handlers FireFly's JSON.
type marshaler struct{}

func (marshaler) ContentType(any) string { return "application/json" }

// Marshal writes a message, with the newline that FireFly's encoder ends with. A message without fields has no body.
func (marshaler) Marshal(value any) ([]byte, error) {
	message, ok := value.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("%T is no message", value)
	}
	out := fireflyjson.Encode(message)
	if len(out) == 0 {
		return nil, nil
	}
	return append(out, '\n'), nil
}

// Unmarshal reads a message, or what a generated handler has for a body field: the address of a nil pointer to one.
func (marshaler) Unmarshal(text []byte, value any) error {
	message, ok := value.(proto.Message)
	if !ok {
		pointer := reflect.ValueOf(value)
		if pointer.Kind() != reflect.Pointer || pointer.Elem().Kind() != reflect.Pointer {
			return fmt.Errorf("%T is no message", value)
		}
		made := reflect.New(pointer.Elem().Type().Elem())
		if message, ok = made.Interface().(proto.Message); !ok {
			return fmt.Errorf("%T is no message", value)
		}
		pointer.Elem().Set(made)
	}
	return fireflyjson.Decode(text, message)
}

func (m marshaler) NewDecoder(reader io.Reader) runtime.Decoder {
	return runtime.DecoderFunc(func(value any) error {
		text, err := io.ReadAll(reader)
		if err != nil {
			return err
		}
		return m.Unmarshal(text, value)
	})
}

func (m marshaler) NewEncoder(writer io.Writer) runtime.Encoder {
	return runtime.EncoderFunc(func(value any) error {
		text, err := m.Marshal(value)
		if err == nil {
			_, err = writer.Write(text)
		}
		return err
	})
}
