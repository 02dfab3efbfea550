package wire

import (
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/require"
)

const protocolFile = "../docs/protocol.md"

// tables are the parts of the specification which come from code.
func tables() map[string]string {
	var kinds, errors, topic strings.Builder
	kinds.WriteString("| kind | name | versions | what it does |\n|---|---|---|---|\n")
	does := map[Kind]string{
		KindHello: "opens the connection", KindMetadata: "topics, their configuration and leaders", KindProduce: "appends batches to partitions",
		KindFetch: "reads batches of partitions, waiting for new ones", KindListOffsets: "start, end, and offsets by time",
		KindCreateTopics: "creates topics", KindDescribeTopics: "topics with what is stored of them", KindAlterTopic: "changes the configuration of a topic",
		KindDeleteTopics: "deletes topics", KindInitProducer: "gives out a producer id", KindDescribeBroker: "the broker about itself",
		KindClusterStatus: "how the cluster is", KindClusterChange: "orders a change of who holds and leads what",
	}
	for _, k := range Kinds() {
		fmt.Fprintf(&kinds, "| %d | %s | %d..%d | %s |\n", k.Kind, k.Name, k.Min, k.Max, does[k.Kind])
	}
	errors.WriteString("| code | name | retriable | meaning |\n|---|---|---|---|\n")
	for _, e := range ErrorTable() {
		retriable := ""
		if e.Retriable {
			retriable = "yes"
		}
		fmt.Fprintf(&errors, "| %d | %s | %s | %s |\n", e.Code, e.Name, retriable, e.Message)
	}
	topic.WriteString("| bit | flag | JSON | type | default | alterable | |\n|---|---|---|---|---|---|---|\n")
	defaults := DefaultTopicConfig()
	for i, f := range TopicFields() {
		alterable := ""
		if f.Alterable {
			alterable = "yes"
		}
		fmt.Fprintf(&topic, "| %d | `--%s` | `%s` | %s | %s | %s | %s |\n", i, f.Name, f.JSON, strings.ReplaceAll(f.Type, "|", ", "), f.Get(&defaults), alterable, f.Doc)
	}
	return map[string]string{"kinds": kinds.String(), "errors": errors.String(), "topic": topic.String()}
}

// The tables of the specification are those of the code.
func TestProtocolDocHasTheTables(t *testing.T) {
	b, err := os.ReadFile(protocolFile)
	require.NoError(t, err)
	doc := string(b)
	want := doc
	for name, table := range tables() {
		head, rest, ok := strings.Cut(want, "<!-- "+name+" -->\n")
		require.True(t, ok, name)
		_, tail, ok := strings.Cut(rest, "<!-- end -->")
		require.True(t, ok, name)
		want = head + "<!-- " + name + " -->\n" + table + "<!-- end -->" + tail
	}
	if *update {
		require.NoError(t, os.WriteFile(protocolFile, []byte(want), 0o644))
		return
	}
	require.Equal(t, want, doc, "run go test ./wire -update")
}

// Every message has a heading, and every field of it a mention below, in the
// order of its encoding, which is that of the struct.
func TestProtocolDocHasEveryField(t *testing.T) {
	b, err := os.ReadFile(protocolFile)
	require.NoError(t, err)
	for _, c := range messageCases() {
		_, section, ok := strings.Cut(string(b), "\n#### "+c.name+"\n")
		require.True(t, ok, "no heading for %s", c.name)
		section, _, _ = strings.Cut(section, "\n#### ")
		typ := reflect.TypeOf(c.new()).Elem()
		at := 0
		for i := range typ.NumField() {
			name := docName(typ.Field(i).Name)
			found := strings.Index(section[at:], name)
			require.GreaterOrEqual(t, found, 0, "%s.%s is not described, or not in its place", c.name, name)
			at += found + len(name)
		}
	}
}

// docName is the name of a Go field as docs write it: the leading capitals of a
// word in lower case.
func docName(goName string) string {
	switch goName {
	case "APIs", "PID", "UUID":
		return strings.ToLower(goName)
	case "RSSBytes", "CPUUserUs", "CPUSystemUs":
		return strings.ToLower(goName[:3]) + goName[3:]
	case "PeakRSSBytes":
		return "peakRssBytes"
	}
	return string(unicode.ToLower(rune(goName[0]))) + goName[1:]
}

// The struct inside arrays has its own table.
func TestProtocolDocHasEveryFieldOfItems(t *testing.T) {
	b, err := os.ReadFile(protocolFile)
	require.NoError(t, err)
	doc := string(b)
	for item, typ := range map[string]reflect.Type{
		"TopicConfig, a struct": reflect.TypeFor[TopicConfig](), "\nTopicMetadata": reflect.TypeFor[TopicMetadata](), "\nProducePart": reflect.TypeFor[ProducePart](),
		"\nProduceResult": reflect.TypeFor[ProduceResult](), "\nFetchPart": reflect.TypeFor[FetchPart](), "\nFetchResult": reflect.TypeFor[FetchResult](),
		"\nPartitionStats": reflect.TypeFor[PartitionStats](),
	} {
		_, section, ok := strings.Cut(doc, item)
		require.True(t, ok, item)
		section, _, _ = strings.Cut(section, "\n#")
		at := 0
		for i := range typ.NumField() {
			name := docName(typ.Field(i).Name)
			found := strings.Index(section[at:], name)
			require.GreaterOrEqual(t, found, 0, "%s.%s is not described, or not in its place", item, name)
			at += found + len(name)
		}
	}
}
