package peer

import (
	"os"
	"reflect"
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/require"
)

// Every message is a heading of the specification, with its fields below in the order
// of their encoding, which is that of the struct.
func TestProtocolDocHasEveryField(t *testing.T) {
	b, err := os.ReadFile("../../docs/protocol.md")
	require.NoError(t, err)
	doc := string(b)
	for _, m := range types() {
		typ := reflect.TypeOf(m).Elem()
		requireFields(t, doc, "\n#### "+typ.Name()+"\n", typ)
	}
	for _, typ := range []reflect.Type{reflect.TypeFor[ProgressEntry](), reflect.TypeFor[PushEntry](), reflect.TypeFor[FenceVote]()} {
		requireFields(t, doc, "\n"+typ.Name()+":\n", typ)
	}
}

func requireFields(t *testing.T, doc, heading string, typ reflect.Type) {
	_, section, ok := strings.Cut(doc, heading)
	require.True(t, ok, "no heading for %s", typ.Name())
	section, _, _ = strings.Cut(section, "\n#### ")
	at := 0
	for i := range typ.NumField() {
		name := typ.Field(i).Name
		if name = string(unicode.ToLower(rune(name[0]))) + name[1:]; name == "iD" {
			name = "id"
		}
		found := strings.Index(section[at:], name)
		require.GreaterOrEqual(t, found, 0, "%s.%s is not described, or not in its place", typ.Name(), name)
		at += found + len(name)
	}
}
