package fireflyjson

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Codes of the errors that Decode gives.
const (
	CodeInvalidJSON = "FF19001"
	CodeFieldValue  = "FF19002"
)

// Error is a body that cannot be read, with its code.
type Error struct {
	Code string
	Text string
}

func (e *Error) Error() string { return e.Code + ": " + e.Text }

func mismatch(path, text string) error {
	if path == "" {
		path = "body"
	}
	return &Error{CodeFieldValue, fmt.Sprintf("Field '%s': %s", path, text)}
}

// Validate says whether text is exactly one JSON value.
func Validate(text []byte) error {
	if json.Valid(text) {
		return nil
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	var value json.RawMessage
	err := decoder.Decode(&value)
	if err == nil {
		if _, err = decoder.Token(); errors.Is(err, io.EOF) {
			return nil
		}
		err = errors.New("there is something after its end")
	}
	if errors.Is(err, io.EOF) {
		err = errors.New("it is empty")
	}
	return &Error{CodeInvalidJSON, "The request body is not valid JSON: " + err.Error()}
}

// Decode reads FireFly's JSON into a message that is empty.
//
// Keys are matched as encoding/json does, exactly or else without regard to case; unknown keys are ignored unless a field
// collects them; `null` leaves a field unset, but for raw ones, which hold it. Errors are of type *Error.
func Decode(text []byte, message proto.Message) error {
	var compacted bytes.Buffer
	compacted.Grow(len(text))
	if err := json.Compact(&compacted, validUTF8(text)); err != nil || compacted.Len() == 0 {
		return Validate(text) // which says what is wrong
	}
	return decodeBody(compacted.Bytes(), message.ProtoReflect())
}

func decodeBody(text []byte, message protoreflect.Message) error {
	plan := planOf(message.Descriptor())
	switch {
	case plan.rawBody != nil:
		message.Set(plan.rawBody, protoreflect.ValueOfString(canonical(text)))
		return nil
	case plan.listOf != nil:
		return decodeList(text, message, plan)
	}
	return decodeObject(text, message, "")
}

func decodeList(text []byte, message protoreflect.Message, plan *plan) error {
	if text[0] == '{' {
		var counted struct {
			Total *int64
			Items json.RawMessage
		}
		if err := json.Unmarshal(text, &counted); err != nil || counted.Total == nil {
			return mismatch("", "must be a counted list")
		}
		message.Set(plan.total, protoreflect.ValueOfInt64(*counted.Total))
		text = counted.Items
	}
	return decodeRepeated(text, message, plan.listOf, "")
}

func decodeObject(text []byte, message protoreflect.Message, path string) error {
	if text[0] != '{' {
		return mismatch(path, "must be a JSON object")
	}
	rest, err := decodeMembers(splitObject(text), message, path)
	if err != nil || len(rest) == 0 {
		return err
	}
	for _, field := range planOf(message.Descriptor()).fields {
		if field.options.GetInline() && field.options.GetRaw() {
			message.Set(field.desc, protoreflect.ValueOfString(joinMembers(rest)))
		}
	}
	return nil
}

func joinMembers(members []member) string {
	out := []byte{'{'}
	for i, each := range members {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(appendString(out, each.name), ':')
		out = appendRaw(out, string(each.text))
	}
	return string(append(out, '}'))
}

// decodeMembers reads what fits the message and gives back what does not.
func decodeMembers(members []member, message protoreflect.Message, path string) (rest []member, err error) {
	plan := planOf(message.Descriptor())
	for _, each := range members {
		field := plan.byName[each.name]
		if field == nil {
			field = plan.byName[strings.ToLower(each.name)]
		}
		if field == nil {
			rest = append(rest, each)
			continue
		}
		inner := field.name
		if path != "" {
			inner = path + "." + field.name
		}
		if err := decodeField(each.text, message, field, inner); err != nil {
			return nil, err
		}
	}
	for _, field := range plan.fields {
		if field.options.GetInline() && !field.options.GetRaw() {
			// Mutable, so that the embedded message is there even without one member of its own.
			if rest, err = decodeMembers(rest, message.Mutable(field.desc).Message(), path); err != nil {
				return nil, err
			}
		}
	}
	return rest, nil
}

func decodeField(text []byte, message protoreflect.Message, field *field, path string) error {
	if string(text) == "null" && !field.options.GetRaw() {
		return nil
	}
	switch {
	case field.repeated:
		return decodeRepeated(text, message, field, path)
	case field.time:
		return decodeTime(text, message.Mutable(field.desc).Message(), path)
	case field.message:
		return decodeObject(text, message.Mutable(field.desc).Message(), path)
	}
	value, err := decodeScalar(text, field, path)
	if err == nil {
		message.Set(field.desc, value)
	}
	return err
}

func decodeRepeated(text []byte, message protoreflect.Message, field *field, path string) error {
	if len(text) == 0 || text[0] != '[' {
		return mismatch(path, "must be a JSON array")
	}
	target := message.Mutable(field.desc).List()
	for i, item := range splitArray(text) {
		place := fmt.Sprintf("%s[%d]", path, i)
		if field.message {
			if err := decodeObject(item, target.AppendMutable().Message(), place); err != nil {
				return err
			}
			continue
		}
		value, err := decodeScalar(item, field, place)
		if err != nil {
			return err
		}
		target.Append(value)
	}
	return nil
}

func decodeScalar(text []byte, field *field, path string) (protoreflect.Value, error) {
	if field.options.GetRaw() {
		return protoreflect.ValueOfString(canonical(text)), nil
	}
	switch field.desc.Kind() {
	case protoreflect.StringKind:
		value, err := decodeString(text, path)
		return protoreflect.ValueOfString(value), err
	case protoreflect.BytesKind:
		value, err := decodeString(text, path)
		if err != nil {
			return protoreflect.Value{}, err
		}
		decoded, err := base64.StdEncoding.Strict().DecodeString(value)
		if err != nil {
			return protoreflect.Value{}, mismatch(path, "must be base64")
		}
		return protoreflect.ValueOfBytes(decoded), nil
	case protoreflect.BoolKind:
		if string(text) != "true" && string(text) != "false" {
			return protoreflect.Value{}, mismatch(path, "must be true or false")
		}
		return protoreflect.ValueOfBool(text[0] == 't'), nil
	case protoreflect.DoubleKind:
		value, err := strconv.ParseFloat(string(text), 64)
		if err != nil || math.IsInf(value, 0) {
			return protoreflect.Value{}, mismatch(path, "must be a number")
		}
		return protoreflect.ValueOfFloat64(value), nil
	case protoreflect.EnumKind:
		name, err := decodeString(text, path)
		if err != nil {
			return protoreflect.Value{}, err
		}
		found := field.desc.Enum().Values().ByName(protoreflect.Name(name))
		if found == nil {
			return protoreflect.Value{}, mismatch(path, "is not one of its values")
		}
		return protoreflect.ValueOfEnum(found.Number()), nil
	}
	return decodeInteger(text, field, path)
}

func decodeString(text []byte, path string) (string, error) {
	if text[0] != '"' {
		return "", mismatch(path, "must be a string")
	}
	return unquote(text), nil
}

func decodeInteger(text []byte, field *field, path string) (protoreflect.Value, error) {
	if field.quoted {
		value, err := decodeString(text, path)
		if err != nil {
			return protoreflect.Value{}, err
		}
		text = []byte(value)
	}
	bits := 64
	switch field.desc.Kind() {
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		bits = 32
		value, err := strconv.ParseInt(string(text), 10, bits)
		return protoreflect.ValueOfInt32(int32(value)), integerError(err, text, path)
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		bits = 32
		value, err := strconv.ParseUint(string(text), 10, bits)
		return protoreflect.ValueOfUint32(uint32(value)), integerError(err, text, path)
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		value, err := strconv.ParseUint(string(text), 10, bits)
		return protoreflect.ValueOfUint64(value), integerError(err, text, path)
	}
	value, err := strconv.ParseInt(string(text), 10, bits)
	return protoreflect.ValueOfInt64(value), integerError(err, text, path)
}

func integerError(err error, text []byte, path string) error {
	if err == nil && text[0] != '+' {
		return nil
	}
	if errors.Is(err, strconv.ErrRange) || (len(text) > 1 && text[0] == '-') {
		return mismatch(path, "is out of range")
	}
	return mismatch(path, "must be a whole number")
}

// validUTF8 puts U+FFFD for every byte that does not decode, as encoding/json does in strings.
func validUTF8(text []byte) []byte {
	if utf8.Valid(text) {
		return text
	}
	out := make([]byte, 0, len(text)+utf8.UTFMax)
	for len(text) > 0 {
		char, size := utf8.DecodeRune(text)
		out = utf8.AppendRune(out, char)
		text = text[size:]
	}
	return out
}

// canonical gives JSON text as it is kept: compact already, with encoding/json's escapes.
func canonical(text []byte) string {
	return string(appendRaw(nil, string(text)))
}
