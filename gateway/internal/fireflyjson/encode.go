package fireflyjson

import (
	"encoding/base64"
	"math"
	"strconv"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	optionsv1 "github.com/photinus-project/photinus/gateway/gen/photinus/options/v1"
)

// Encode gives FireFly's JSON of a message: compact, keys in declared order, no newline at the end. A message without
// fields gives nothing.
func Encode(message proto.Message) []byte {
	return Append(nil, message)
}

// Append is Encode into a buffer.
func Append(out []byte, message proto.Message) []byte {
	reflected := message.ProtoReflect()
	if reflected.Descriptor().Fields().Len() == 0 {
		return out
	}
	return appendMessage(out, reflected)
}

func appendMessage(out []byte, message protoreflect.Message) []byte {
	plan := planOf(message.Descriptor())
	switch {
	case plan.rawBody != nil:
		text := message.Get(plan.rawBody).String()
		if text == "" {
			text = "null"
		}
		return appendRaw(out, text)
	case plan.listOf != nil:
		return appendList(out, message, plan)
	}
	out = append(out, '{')
	start := len(out)
	out = appendMembers(out, start, message, plan)
	return append(out, '}')
}

func appendList(out []byte, message protoreflect.Message, plan *plan) []byte {
	items := message.Get(plan.listOf.desc).List()
	counted := message.Has(plan.total)
	if counted {
		out = append(out, `{"count":`...)
		out = strconv.AppendInt(out, int64(items.Len()), 10)
		out = append(out, `,"total":`...)
		out = strconv.AppendInt(out, message.Get(plan.total).Int(), 10)
		out = append(out, `,"items":`...)
	}
	out = appendItems(out, items, plan.listOf)
	if counted {
		out = append(out, '}')
	}
	return out
}

// appendMembers writes the members of an object that begins at start, with commas between them.
func appendMembers(out []byte, start int, message protoreflect.Message, plan *plan) []byte {
	for _, field := range plan.fields {
		switch {
		case field.options.GetHidden():
		case field.options.GetInline() && field.options.GetRaw():
			if text := message.Get(field.desc).String(); len(text) > len("{}") {
				out = appendComma(out, start)
				out = appendRaw(out, text[1:len(text)-1])
			}
		case field.options.GetInline():
			inner := message.Get(field.desc).Message()
			out = appendMembers(out, start, inner, planOf(inner.Descriptor()))
		default:
			out = appendField(out, start, message, field)
		}
	}
	return out
}

func appendComma(out []byte, start int) []byte {
	if len(out) > start {
		out = append(out, ',')
	}
	return out
}

func appendField(out []byte, start int, message protoreflect.Message, field *field) []byte {
	empty := field.options.GetEmpty()
	present := message.Has(field.desc)
	if !present && empty != optionsv1.Empty_EMPTY_KEEP && empty != optionsv1.Empty_EMPTY_NULL {
		return out
	}
	out = append(appendComma(out, start), field.key...)
	if !present && (empty == optionsv1.Empty_EMPTY_NULL || field.time) {
		return append(out, "null"...)
	}
	value := message.Get(field.desc)
	if field.repeated {
		return appendItems(out, value.List(), field)
	}
	return appendValue(out, value, field)
}

func appendItems(out []byte, items protoreflect.List, field *field) []byte {
	out = append(out, '[')
	for i := range items.Len() {
		if i > 0 {
			out = append(out, ',')
		}
		out = appendValue(out, items.Get(i), field)
	}
	return append(out, ']')
}

func appendValue(out []byte, value protoreflect.Value, field *field) []byte {
	switch field.desc.Kind() {
	case protoreflect.MessageKind:
		if field.time {
			return appendTime(out, value.Message())
		}
		return appendMessage(out, value.Message())
	case protoreflect.StringKind:
		if field.options.GetRaw() && value.String() != "" {
			return appendRaw(out, value.String())
		}
		return appendString(out, value.String())
	case protoreflect.BytesKind:
		out = append(out, '"')
		out = base64.StdEncoding.AppendEncode(out, value.Bytes())
		return append(out, '"')
	case protoreflect.BoolKind:
		return strconv.AppendBool(out, value.Bool())
	case protoreflect.DoubleKind:
		return appendFloat(out, value.Float())
	case protoreflect.EnumKind:
		if found := field.desc.Enum().Values().ByNumber(value.Enum()); found != nil {
			return appendString(out, string(found.Name()))
		}
		return strconv.AppendInt(out, int64(value.Enum()), 10)
	}
	if field.quoted {
		out = append(out, '"')
	}
	if signed, ok := value.Interface().(int64); ok {
		out = strconv.AppendInt(out, signed, 10)
	} else if signed, ok := value.Interface().(int32); ok {
		out = strconv.AppendInt(out, int64(signed), 10)
	} else {
		out = strconv.AppendUint(out, value.Uint(), 10)
	}
	if field.quoted {
		out = append(out, '"')
	}
	return out
}

// appendTime writes RFC 3339 in UTC with the fraction's trailing zeros left out.
func appendTime(out []byte, message protoreflect.Message) []byte {
	fields := message.Descriptor().Fields()
	seconds, nanos := message.Get(fields.ByName("seconds")).Int(), message.Get(fields.ByName("nanos")).Int()
	out = append(out, '"')
	out = time.Unix(seconds, nanos).UTC().AppendFormat(out, time.RFC3339Nano)
	return append(out, '"')
}

// appendFloat follows encoding/json: the shortest digits, an exponent below 1e-6 and from 1e21 on.
func appendFloat(out []byte, value float64) []byte {
	if math.IsInf(value, 0) || math.IsNaN(value) {
		return append(out, "null"...)
	}
	format, size := byte('f'), math.Abs(value)
	if size != 0 && (size < 1e-6 || size >= 1e21) {
		format = 'e'
	}
	out = strconv.AppendFloat(out, value, format, -1, 64)
	if n := len(out); format == 'e' && out[n-4] == 'e' && out[n-3] == '-' && out[n-2] == '0' {
		out[n-2] = out[n-1] // e-09 is written e-9
		out = out[:n-1]
	}
	return out
}

const hexDigits = "0123456789abcdef"

// appendString quotes text as encoding/json does: `<`, `>`, `&`, U+2028 and U+2029 are escaped as well.
func appendString(out []byte, text string) []byte {
	out = append(out, '"')
	start := 0
	for i := 0; i < len(text); {
		char := text[i]
		if char < utf8.RuneSelf && char >= ' ' && char != '"' && char != '\\' && char != '<' && char != '>' && char != '&' {
			i++
			continue
		}
		size, escape := 1, ""
		if char >= utf8.RuneSelf {
			var decoded rune
			decoded, size = utf8.DecodeRuneInString(text[i:])
			if decoded != '\u2028' && decoded != '\u2029' {
				i += size
				continue
			}
			escape = `\u202` + string(hexDigits[decoded&0xf])
		} else {
			escape = escapeASCII(char)
		}
		out = append(append(out, text[start:i]...), escape...)
		i += size
		start = i
	}
	out = append(out, text[start:]...)
	return append(out, '"')
}

func escapeASCII(char byte) string {
	switch char {
	case '"', '\\':
		return `\` + string(char)
	case '\b':
		return `\b`
	case '\f':
		return `\f`
	case '\n':
		return `\n`
	case '\r':
		return `\r`
	case '\t':
		return `\t`
	}
	return `\u00` + string(hexDigits[char>>4]) + string(hexDigits[char&0xf])
}

// appendRaw copies JSON text with the escapes that encoding/json puts into what it copies. In valid JSON these
// characters stand in strings only.
func appendRaw(out []byte, text string) []byte {
	start := 0
	for i := 0; i < len(text); i++ {
		switch char := text[i]; {
		case char == '<' || char == '>' || char == '&':
			out = append(append(out, text[start:i]...), escapeASCII(char)...)
			start = i + 1
		case char == 0xE2 && i+2 < len(text) && text[i+1] == 0x80 && text[i+2]&^1 == 0xA8:
			out = append(append(out, text[start:i]...), `\u202`...)
			out = append(out, hexDigits[text[i+2]&0xf])
			i += 2
			start = i + 1
		}
	}
	return append(out, text[start:]...)
}
