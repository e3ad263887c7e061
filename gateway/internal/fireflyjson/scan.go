package fireflyjson

import (
	"bytes"
	"encoding/json"
)

// The functions of this file take JSON that is valid and compact: they only look for where values end.

// fewMembers is how many members an object may have for a repeated name to be looked for one by one.
const fewMembers = 12

// member is one member of an object, its value as text.
type member struct {
	name string
	text []byte
}

// splitObject gives the members in their order; of a repeated name the last value, at the place of the first.
func splitObject(text []byte) []member {
	var members []member
	var places map[string]int
	for at := 1; text[at] != '}'; {
		end := skipString(text, at)
		name := unquote(text[at:end])
		at = end + 1 // behind the colon
		end = skipValue(text, at)
		each := member{name, text[at:end]}
		if place := findMember(members, places, name); place >= 0 {
			members[place] = each
		} else {
			members = append(members, each)
			places = noteMember(members, places)
		}
		if at = end; text[at] == ',' {
			at++
		}
	}
	return members
}

func findMember(members []member, places map[string]int, name string) int {
	if places != nil {
		if place, found := places[name]; found {
			return place
		}
		return -1
	}
	for place, each := range members {
		if each.name == name {
			return place
		}
	}
	return -1
}

// noteMember begins an index once the members are many, and keeps it.
func noteMember(members []member, places map[string]int) map[string]int {
	if places == nil && len(members) > fewMembers {
		places = make(map[string]int, 2*len(members))
		for place, each := range members {
			places[each.name] = place
		}
	} else if places != nil {
		places[members[len(members)-1].name] = len(members) - 1
	}
	return places
}

func splitArray(text []byte) [][]byte {
	var items [][]byte
	for at := 1; text[at] != ']'; {
		end := skipValue(text, at)
		items = append(items, text[at:end])
		if at = end; text[at] == ',' {
			at++
		}
	}
	return items
}

// skipValue gives the index behind the value that begins at an index.
func skipValue(text []byte, at int) int {
	if text[at] == '"' {
		return skipString(text, at)
	}
	depth := 0
	for ; at < len(text); at++ {
		switch text[at] {
		case '"':
			at = skipString(text, at) - 1
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return at // the end of what encloses a number or a word
			}
			if depth--; depth == 0 {
				return at + 1
			}
		case ',':
			if depth == 0 {
				return at
			}
		}
	}
	return at
}

func skipString(text []byte, at int) int {
	for at++; text[at] != '"'; at++ {
		if text[at] == '\\' {
			at++
		}
	}
	return at + 1
}

// unquote gives what a JSON string says.
func unquote(text []byte) string {
	inner := text[1 : len(text)-1]
	if bytes.IndexByte(inner, '\\') < 0 {
		return string(inner)
	}
	var value string
	_ = json.Unmarshal(text, &value) // it is valid
	return value
}
