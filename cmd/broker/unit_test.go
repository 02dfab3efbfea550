package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	sequitur "github.com/sequitur-mq/sequitur/clients/go"
)

// inProcess runs a command line that needs no broker.
func inProcess(args ...string) (stdout, stderr string, code int) {
	var out, errs bytes.Buffer
	c := &cli{
		args: append([]string{"broker"}, args...), stdin: strings.NewReader(""),
		stdout: &out, stderr: &errs, getenv: func(string) string { return "" },
	}
	code = c.run()
	return out.String(), errs.String(), code
}

// What is wrong with a command line is said with a way out, without a broker.
func TestUsageErrors(t *testing.T) {
	for line, want := range map[string]string{
		"prodce t":                                            "did you mean produce?",
		"topic lst":                                           "did you mean list?",
		"topic frobnicate":                                    "see: broker topic --help",
		"log dmp x":                                           "did you mean dump?",
		"--data x":                                            "serve --data",
		"produce":                                             "needs the name of a topic",
		"produce t u":                                         `was also given "u"`,
		"produce t --keyregex x":                              "did you mean --key-regex?",
		"produce t --key-regex (":                             "missing closing )",
		"produce t --key-field 0":                             "counted from 1",
		"produce t --key-field x":                             "is not a whole number",
		"produce t --key-field 1 --key-regex x":               "exclude each other",
		"produce t --delimiter ,":                             "without --key-field",
		`produce t --key-field 1 --delimiter \q`:              `no escape \q`,
		"produce t --key-field 1 --delimiter=":                "--delimiter is empty",
		"produce t --acks most":                               "none, leader, quorum or all",
		"produce t --compression gzip":                        "choose none, s2 or zstd",
		"produce t --partition -2":                            "counted from 0",
		"produce t --header x":                                "is not KEY=VALUE",
		"produce t --timeout 0s":                              "not above zero",
		"produce t --timeout soon":                            "is not a duration",
		"produce t/u":                                         "the character '/'",
		"consume":                                             "needs the name of a topic",
		"consume t --from yesterday":                          "use start, end, an offset",
		"consume t --from -1":                                 "use start, end, an offset",
		"consume t --from 2026-01-31T08:00:00":                "with its zone",
		"consume t --format %z":                               "no verb %z",
		"consume t --format %v --json":                        "exclude each other",
		"consume t --count -5":                                "below zero",
		"consume t --partition -1":                            "counted from 0",
		"consume t --timeout -1s":                             "not above zero",
		"consume t --server nowhere":                          "is not HOST:PORT",
		"topic create":                                        "needs the name of a topic",
		"topic create a/b":                                    "the character '/'",
		"topic create t --fsync sometimes":                    "always, interval or never",
		"topic create t u t":                                  "named twice",
		"topic delete t t":                                    "named twice",
		"topic create t --partitions 0":                       "1 to 65536",
		"topic create t --partitions many":                    "must be a number from 1 to 65536",
		"topic create t --partitions -1":                      "must be a number from 1 to 65536",
		"topic create t --partitions 99999999999":             "must be a number from 1 to 65536",
		"topic create t --partitions 65537":                   "1 to 65536",
		"topic create t --partitoins 3":                       "did you mean --partitions",
		"topic create t --retention-time 7":                   "7d or 2w",
		"topic create t --retention-bytes 5GB":                "1GiB",
		"topic create t --partitioner range --partitions 3":   "must be 2 keys",
		"topic create t --ordering total":                     "not supported",
		"topic alter t":                                       "at least one setting",
		"serve --log-level loud":                              "debug, info, warn or error",
		"serve --listen everywhere":                           "HOST:PORT",
		"serve --listen 0.0.0.0:0":                            "insecure-listen",
		"serve --listen :99999":                               "the port must be a number from 0 to 65535",
		"serve --listen 127.0.0.1:99999":                      "the port must be a number from 0 to 65535",
		"serve --http 127.0.0.1:-1":                           "the port must be a number from 0 to 65535",
		"serve --listen 127.0.0.1:":                           "the port must be a number",
		"serve --listen 127.0.0.1:7650 --http 127.0.0.1:7650": "choose two ports",
		"serve --advertise here":                              "advertise \"here\" is not HOST:PORT",
		"serve --memory-bytes 1KB":                            "--memory-bytes",
		"serve x":                                             "takes no arguments",
		"check":                                               "needs",
		"log dump":                                            "needs",
	} {
		out, errs, code := inProcess(strings.Fields(line)...)
		require.Equal(t, exitUsage, code, "%s\n%s", line, errs)
		require.Contains(t, errs, want, line)
		require.True(t, strings.HasPrefix(errs, "broker: "), errs)
		require.Empty(t, out, line)
	}
}

func TestHelpOfEveryCommand(t *testing.T) {
	for _, line := range []string{
		"", "serve", "topic", "topic create", "topic list", "topic describe", "topic alter", "topic delete",
		"produce", "consume", "check", "log", "log dump", "version", "completion bash",
	} {
		out, errs, code := inProcess(append(strings.Fields(line), "--help")...)
		require.Equal(t, exitOK, code, errs)
		require.Contains(t, out, "Usage:", line)
		if leaf := strings.Count(line, " ") == 1 || line == "produce" || line == "consume" || line == "check" || line == "version"; leaf && line != "completion bash" {
			require.Contains(t, out, "Examples:", line)
		}
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		out, _, code := inProcess("completion", shell)
		require.Equal(t, exitOK, code)
		require.Greater(t, len(out), 1000, shell)
	}
}

// Every field of a topic's configuration is a flag under the same name, and
// what a flag shows can be typed again.
func TestTopicFlagsAreTheTable(t *testing.T) {
	help, _, _ := inProcess("topic", "create", "--help")
	cfg := sequitur.DefaultTopicConfig()
	for _, f := range sequitur.TopicFields() {
		require.Contains(t, help, "--"+f.Name+" ")
		again := cfg
		require.NoError(t, f.Set(&again, fieldText(f, &cfg)), f.Name)
		require.Equal(t, f.Get(&cfg), f.Get(&again), f.Name)
	}
}

func TestCompletion(t *testing.T) {
	for line, want := range map[string]string{
		"topic create t --fsync ":       "always\ninterval\nnever\n",
		"topic alter t --cleanup ":      "delete\ncompact\n",
		"produce t --acks ":             "quorum\nall\nleader\nnone\n",
		"produce t --compression ":      "none\ns2\nzstd\n",
		"consume t --from ":             "start\nend\n",
		"serve --log-level ":            "debug\ninfo\nwarn\nerror\n",
		"consume --server 127.0.0.1:1 ": ":4", // nobody answers: nothing is offered, no file either
	} {
		out, _, code := inProcess(append([]string{"__complete"}, strings.Split(line, " ")...)...)
		require.Equal(t, exitOK, code)
		require.True(t, strings.HasPrefix(out, want), "%s\n%s", line, out)
	}
}

func TestTexts(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0", 500 * time.Millisecond: "500ms", time.Second: "1s", 90 * time.Second: "1m30s", 10 * time.Minute: "10m",
		36 * time.Hour: "36h", 7 * 24 * time.Hour: "7d", time.Hour + 30*time.Minute: "1h30m", time.Hour + time.Second: "1h0m1s",
	} {
		require.Equal(t, want, durationText(d))
	}
	for n, want := range map[uint64]string{0: "0", 1: "1", 1023: "1023", 1024: "1KiB", 1 << 30: "1GiB", 1<<30 + 1: "1073741825", 3 << 40: "3TiB"} {
		require.Equal(t, want, sizeText(n))
	}
	for n, want := range map[int64]string{0: "0", 7: "7", 999: "999", 1000: "1,000", 31987: "31,987", 1234567: "1,234,567", -1000: "-1,000", -100: "-100"} {
		require.Equal(t, want, thousands(n))
	}
	require.Equal(t, "1 record", count(1, "record"))
	require.Equal(t, "0 records", count(0, "record"))
	require.Equal(t, "1.5 KiB", roundSize(1536))
}

func TestSuggestions(t *testing.T) {
	all := []string{"orders", "orders-eu", "payments", "x"}
	for typed, want := range map[string][]string{
		"ordres": {"orders"}, "odrers-eu": {"orders-eu"}, "ORDERS": {"orders", "orders-eu"}, "order": {"orders", "orders-eu"}, "payment": {"payments"}, "zzz": nil,
	} {
		require.Equal(t, want, suggestions(typed, all), typed)
	}
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"a", "", 1}, {"abc", "abc", 0}, {"abc", "acb", 1}, {"kitten", "sitting", 3}, {"ca", "abc", 3}} {
		require.Equal(t, c.want, editDistance(c.a, c.b), c)
		require.Equal(t, c.want, editDistance(c.b, c.a), c)
	}
}

func TestParseFrom(t *testing.T) {
	for text, want := range map[string]string{
		"start": "start", "END": "end", "0": "0", "1200": "1200",
		"2026-01-31T08:00:00Z": "2026-01-31T08:00:00Z", "2026-01-31T08:00:00.000000007+01:00": "2026-01-31T08:00:00.000000007+01:00",
		"2026-01-31 08:00:00Z": "2026-01-31T08:00:00Z",
	} {
		at, err := parseFrom(text)
		require.NoError(t, err, text)
		require.Equal(t, want, at.String())
		_, byOffset := parseOffset(text)
		require.Equal(t, text == "0" || text == "1200", byOffset)
	}
}

func TestRootCause(t *testing.T) {
	inner := errors.New("connection refused")
	require.Equal(t, "connection refused", rootCause(&sequitur.Error{Code: sequitur.CodeUnreachable, Err: errors.Join(inner)}))
	require.Equal(t, "", rootCause(inner))
}

// A read of a terminal or pipe cannot be interrupted; the reader above it can.
func TestStoppableStops(t *testing.T) {
	never, w := io.Pipe()
	defer w.Close()
	ctx, cancel := context.WithCancelCause(context.Background())
	s := newStoppable(ctx, never)
	defer s.close()
	go func() {
		_, _ = w.Write([]byte("abc"))
		cancel(errInterrupted)
	}()
	got, err := io.ReadAll(s)
	require.ErrorIs(t, err, errInterrupted)
	require.Contains(t, []string{"", "abc"}, string(got))
}

func TestStoppableKeepsEveryByte(t *testing.T) {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	want := bytes.Repeat([]byte("0123456789"), 50_000)
	s := newStoppable(ctx, bytes.NewReader(want))
	defer s.close()
	got, err := io.ReadAll(s)
	require.NoError(t, err)
	require.True(t, bytes.Equal(want, got))
}
