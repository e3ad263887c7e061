package fireflyjson

import (
	"strconv"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// Numbers below are seconds, milliseconds and, from there on, nanoseconds.
const (
	secondsBelow      = 10_000_000_000
	millisecondsBelow = 1_000_000_000_000_000
)

func decodeTime(text []byte, target protoreflect.Message, path string) error {
	value := string(text)
	if text[0] == '"' {
		decoded, err := decodeString(text, path)
		if err != nil {
			return err
		}
		value = decoded
	}
	parsed, ok := parseTime(value)
	if !ok {
		return mismatch(path, "must be a time: RFC 3339 or a Unix number")
	}
	fields := target.Descriptor().Fields()
	target.Set(fields.ByName("seconds"), protoreflect.ValueOfInt64(parsed.Unix()))
	target.Set(fields.ByName("nanos"), protoreflect.ValueOfInt32(int32(parsed.Nanosecond())))
	return nil
}

// parseTime reads a time as FireFly does: RFC 3339, or a Unix number whose size says its unit.
func parseTime(text string) (time.Time, bool) {
	if parsed, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return parsed.UTC(), true
	}
	number, err := strconv.ParseInt(text, 10, 64)
	switch {
	case err != nil:
		return time.Time{}, false
	case number < secondsBelow:
		return time.Unix(number, 0), true
	case number < millisecondsBelow:
		return time.UnixMilli(number), true
	}
	return time.Unix(0, number), true
}
