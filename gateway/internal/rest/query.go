package rest

import (
	"net/url"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/utilities"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	apiv1 "github.com/photinus-project/photinus/gateway/gen/photinus/api/v1"
)

// rawQueryKey is where the middleware leaves the query string for the parser, which is given parsed values only. No
// client can send it: a key is never decoded to hold a NUL that was not sent as %00, and the middleware replaces all.
const rawQueryKey = "\x00raw"

// Other names under which a parameter is taken.
var parameterAliases = map[string]string{"fetchreference": "fetchreferences"}

// queryParser fills requests from query strings: the Query of a list with the whole string as it was sent, for the core
// to parse; flags and texts by their names, without regard to case. Unknown parameters are ignored.
type queryParser struct{}

func (queryParser) Parse(message proto.Message, values url.Values, bound *utilities.DoubleArray) error {
	raw := values.Get(rawQueryKey)
	if raw == "" {
		return nil
	}
	// Wrong escapes lose their parameter, not the others.
	parsed, _ := url.ParseQuery(raw)
	parameters := map[string]string{}
	for name, all := range parsed {
		name = strings.ToLower(name)
		if alias, ok := parameterAliases[name]; ok {
			name = alias
		}
		parameters[name] = all[0]
	}
	reflected := message.ProtoReflect()
	fields := reflected.Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		if isBound(field, bound) {
			continue
		}
		if isQuery(field) {
			query := &apiv1.Query{Raw: raw}
			reflected.Set(field, protoreflect.ValueOfMessage(query.ProtoReflect()))
			continue
		}
		text, sent := parameters[strings.ReplaceAll(string(field.Name()), "_", "")]
		if !sent || field.IsList() {
			continue
		}
		switch field.Kind() {
		case protoreflect.BoolKind:
			reflected.Set(field, protoreflect.ValueOfBool(isTrue(text)))
		case protoreflect.StringKind:
			reflected.Set(field, protoreflect.ValueOfString(readable(text)))
		}
	}
	return nil
}

// isBound says whether a field comes from elsewhere: the namespace from the path or not at all, others from path or body.
func isBound(field protoreflect.FieldDescriptor, bound *utilities.DoubleArray) bool {
	return field.Name() == "namespace" || bound.HasCommonPrefix([]string{string(field.Name())})
}

func isQuery(field protoreflect.FieldDescriptor) bool {
	return field.Message() != nil && field.Message().FullName() == (&apiv1.Query{}).ProtoReflect().Descriptor().FullName()
}

// isTrue reads a flag as FireFly does: present without a value, or `true`.
func isTrue(text string) bool {
	return text == "" || strings.EqualFold(text, "true")
}
