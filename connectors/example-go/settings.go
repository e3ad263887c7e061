package main

import (
	_ "embed"
	"encoding/json"
	"errors"
	"io"
	"strings"

	pb "github.com/photinus-project/photinus/connectors/example-go/gen/photinus/connector/v1"
)

// settingsSchema is what the core types and checks a configuration by. A secret would have `"writeOnly": true`.
//
//go:embed settings.schema.json
var settingsSchema string

// settings are what an operator may set.
type settings struct {
	Directory string `json:"directory"`
}

// parseSettings reads a configuration. A finding names the setting that is wrong, and never quotes its value: it may be
// a secret that was put in the wrong place.
func parseSettings(text string) (found settings, wrong []*pb.Diagnostic) {
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(&found)
	mistyped := new(json.UnmarshalTypeError)
	switch {
	case errors.As(err, &mistyped) && mistyped.Field != "":
		return found, finding("/"+mistyped.Field, mistyped.Field+" must be a "+mistyped.Type.String())
	case err != nil && strings.Contains(err.Error(), "unknown field"):
		return found, finding("", "there is an "+strings.TrimPrefix(err.Error(), "json: "))
	case err != nil || decoder.Decode(new(any)) != io.EOF:
		return found, finding("", "the settings must be one JSON object")
	case found.Directory == "":
		return found, finding("/directory", "directory is missing: the folder that all members share")
	}
	return found, nil
}

func finding(pointer, summary string) []*pb.Diagnostic {
	return []*pb.Diagnostic{{Severity: pb.Severity_SEVERITY_ERROR, Summary: shortened(summary), Pointer: pointer}}
}
