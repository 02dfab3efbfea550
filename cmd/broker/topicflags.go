package main

import (
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	sequitur "github.com/sequitur-mq/sequitur/clients/go"
)

// topicFlag is a flag that sets a field of a topic's configuration.
type topicFlag struct {
	field sequitur.TopicField
	cfg   *sequitur.TopicConfig
}

// String is the current value, shown as the default in help.
func (f topicFlag) String() string {
	if f.cfg == nil {
		return ""
	}
	return fieldText(f.field, f.cfg)
}

// Set parses a value.
func (f topicFlag) Set(s string) error { return f.field.Set(f.cfg, strings.TrimSpace(s)) }

// Type is the placeholder in help.
func (f topicFlag) Type() string { return f.field.Type }

// topicFlags gives a command one flag for every field of a topic's
// configuration, from the one table of them, so that names cannot drift.
// When altering, flags have no defaults, and those of fields that are fixed at
// creation are accepted but not shown: the broker says why they are refused.
func topicFlags(cmd *cobra.Command, cfg *sequitur.TopicConfig, altering bool) {
	for _, f := range sequitur.TopicFields() {
		flag := cmd.Flags().VarPF(topicFlag{f, cfg}, f.Name, "", f.Doc)
		if altering {
			flag.DefValue = ""
			flag.Hidden = !f.Alterable
		}
		if strings.Contains(f.Type, "|") {
			completeFlag(cmd, f.Name, strings.Split(f.Type, "|")...)
		}
	}
	cmd.Flags().SortFlags = false
}

// fieldText shows a field's value as it would be typed: 7d, 128MiB.
func fieldText(f sequitur.TopicField, cfg *sequitur.TopicConfig) string {
	text := f.Get(cfg)
	switch f.Type {
	case "bytes":
		if n, err := strconv.ParseUint(text, 10, 64); err == nil {
			return sizeText(n)
		}
	case "duration":
		if d, err := time.ParseDuration(text); err == nil {
			return durationText(d)
		}
	}
	return text
}

// settingsText lists the number of partitions, the fsync mode, and every
// setting that is not the default, as flags take them.
func settingsText(cfg *sequitur.TopicConfig) string {
	defaults := sequitur.DefaultTopicConfig()
	var parts []string
	for _, f := range sequitur.TopicFields() {
		if f.Name == "partitions" || f.Name == "fsync" || f.Get(cfg) != f.Get(&defaults) {
			parts = append(parts, f.Name+" "+orNone(fieldText(f, cfg)))
		}
	}
	return strings.Join(parts, ", ")
}
