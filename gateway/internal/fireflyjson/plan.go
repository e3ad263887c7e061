// Package fireflyjson writes and reads FireFly's JSON for the messages of the typed API, by their options.
//
// It is one of two walkers; the core has the other (Python, photinus_core.rpc.fireflyjson), and both are tested to agree.
// What a field is called, what stands for its zero value and which text is copied as it is stands in the protos
// (photinus.options.v1); nothing here knows a message by name. Maps, groups and 32 bit floats are not used by the API and
// not supported.
package fireflyjson

import (
	"strings"
	"sync"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	optionsv1 "github.com/photinus-project/photinus/gateway/gen/photinus/options/v1"
)

const timestampName protoreflect.FullName = "google.protobuf.Timestamp"

// field is what the walker needs to know of one field.
type field struct {
	desc     protoreflect.FieldDescriptor
	name     string
	key      string // the name as JSON, with its colon
	options  *optionsv1.JsonField
	message  bool // a message other than a time
	time     bool
	repeated bool
	quoted   bool // a 64 bit integer written as a string
}

// plan is what the walker needs to know of one message.
type plan struct {
	fields  []*field
	byName  map[string]*field // exact names, and names in lower case
	listOf  *field
	total   protoreflect.FieldDescriptor
	rawBody protoreflect.FieldDescriptor
}

// Options are read once for each message: reading them for each value costs a quarter of the encoding.
var plans sync.Map // of *plan, by full name

func planOf(desc protoreflect.MessageDescriptor) *plan {
	if found, ok := plans.Load(desc.FullName()); ok {
		return found.(*plan)
	}
	made, _ := plans.LoadOrStore(desc.FullName(), newPlan(desc))
	return made.(*plan)
}

func newPlan(desc protoreflect.MessageDescriptor) *plan {
	made := &plan{byName: map[string]*field{}}
	options := proto.GetExtension(desc.Options(), optionsv1.E_JsonMessage).(*optionsv1.JsonMessage)
	for i := range desc.Fields().Len() {
		each := newField(desc.Fields().Get(i))
		made.fields = append(made.fields, each)
		if string(each.desc.Name()) == options.GetListOf() {
			made.listOf = each
		}
		if each.options.GetHidden() || each.options.GetInline() {
			continue
		}
		made.byName[each.name] = each
		if lower := strings.ToLower(each.name); made.byName[lower] == nil {
			made.byName[lower] = each
		}
	}
	made.total = desc.Fields().ByName("total")
	made.rawBody = desc.Fields().ByName(protoreflect.Name(options.GetRawBody()))
	return made
}

func newField(desc protoreflect.FieldDescriptor) *field {
	options := proto.GetExtension(desc.Options(), optionsv1.E_Json).(*optionsv1.JsonField)
	name := options.GetName()
	if name == "" {
		name = desc.JSONName()
	}
	made := &field{desc: desc, name: name, options: options, repeated: desc.IsList()}
	made.key = string(append(appendString(nil, name), ':'))
	if desc.Message() != nil {
		made.time = desc.Message().FullName() == timestampName
		made.message = !made.time
	}
	switch desc.Kind() {
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind,
		protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		made.quoted = !options.GetNumber64()
	}
	return made
}
