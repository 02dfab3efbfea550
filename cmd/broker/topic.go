package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sort"
	"strings"

	"github.com/spf13/cobra"

	sequitur "github.com/sequitur-mq/sequitur/clients/go"
)

func (c *cli) topicCommand() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "topic",
		Short: "Create, list, describe, alter and delete topics",
	}, (*cobra.Command).Help)
	c.serverFlag(cmd)
	cmd.AddCommand(c.topicCreate(), c.topicList(), c.topicDescribe(), c.topicAlter(), c.topicDelete())
	return cmd
}

func (c *cli) topicCreate() *cobra.Command {
	cfg := sequitur.DefaultTopicConfig()
	var ifMissing, check bool
	cmd := &cobra.Command{
		Use:   "create NAME...",
		Short: "Create topics; durable when the command returns",
		Example: `  broker topic create orders --partitions 16
  broker topic create audit --fsync always --retention-time 365d
  broker topic create state --cleanup compact --retention-time 0
  broker topic create users --partitioner range --splits g,n,t`,
		Args: names(1, -1, "the name of a topic"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if cfg.Partitioner.String() == "range" && !cmd.Flags().Changed("partitions") {
				cfg.Partitions = uint32(len(cfg.Splits)) + 1
			}
			if err := validTopics(&cfg, args); err != nil {
				return err
			}
			return c.withClient(func(ctx context.Context, client *sequitur.Client) error {
				return c.createTopics(ctx, client, args, cfg, ifMissing, check)
			})
		},
	}
	topicFlags(cmd, &cfg, false)
	cmd.Flags().BoolVar(&ifMissing, "if-not-exists", false, "leave a topic that exists as it is, without an error")
	cmd.Flags().BoolVar(&check, "dry-run", false, "check only, create nothing")
	return cmd
}

// validTopics finds what is wrong before a broker is asked.
func validTopics(cfg *sequitur.TopicConfig, topics []string) error {
	if err := distinct(topics); err != nil {
		return err
	}
	for _, name := range topics {
		if err := sequitur.ValidateTopicName(name); err != nil {
			return usagef("", "%s", withoutCode(err))
		}
	}
	if err := cfg.Validate(); err != nil {
		return usagef("", "--%s", withoutCode(err))
	}
	return nil
}

func distinct(topics []string) error {
	seen := map[string]bool{}
	for _, name := range topics {
		if seen[name] {
			return usagef("name each topic once", "topic %q is named twice", name)
		}
		seen[name] = true
	}
	return nil
}

func (c *cli) createTopics(ctx context.Context, client *sequitur.Client, args []string, cfg sequitur.TopicConfig, ifMissing, check bool) error {
	topics := make([]sequitur.NewTopic, len(args))
	for i, name := range args {
		topics[i] = sequitur.NewTopic{Name: name, Config: cfg}
	}
	create, done := client.CreateTopics, "created"
	if check {
		create, done = client.ValidateTopics, "would create"
	}
	failed, err := byTopic(create(ctx, topics...))
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range args {
		switch err := failed[name]; {
		case err == nil:
			fmt.Fprintf(c.stdout, "%s topic %s: %s\n", done, name, settingsText(&cfg))
		case ifMissing && errors.Is(err, sequitur.ErrTopicExists):
			fmt.Fprintf(c.stdout, "topic %s exists, left as it is\n", name)
		case errors.Is(err, sequitur.ErrTopicExists):
			errs = append(errs, fail(exitInUse, fmt.Sprintf("look at it with: %s topic describe %s\nchange it with:  %s topic alter %s ...\nor give --if-not-exists", c.invoked(), name, c.invoked(), name),
				"topic %q exists already", name))
		default:
			errs = append(errs, err)
		}
	}
	return c.several(errs)
}

// byTopic takes a joined error of one *sequitur.Error per topic apart. err is
// what concerns no single topic.
func byTopic(joined error) (failed map[string]error, err error) {
	failed = map[string]error{}
	if joined == nil {
		return failed, nil
	}
	parts := []error{joined}
	if j, ok := joined.(interface{ Unwrap() []error }); ok {
		parts = j.Unwrap()
	}
	for _, part := range parts {
		var remote *sequitur.Error
		if !errors.As(part, &remote) || remote.Topic == "" {
			return nil, joined
		}
		failed[remote.Topic] = part
	}
	return failed, nil
}

// several reports all errors but the last one, which it returns.
func (c *cli) several(errs []error) error {
	if len(errs) == 0 {
		return nil
	}
	for _, err := range errs[:len(errs)-1] {
		c.report(err)
	}
	return errs[len(errs)-1]
}

func (c *cli) topicAlter() *cobra.Command {
	var cfg sequitur.TopicConfig
	cmd := &cobra.Command{
		Use:     "alter NAME",
		Short:   "Change settings of a topic; what is not named stays",
		Example: "  broker topic alter orders --retention-time 30d --retention-bytes 10GiB",
		Args:    names(1, 1, "the name of a topic"),

		ValidArgsFunction: c.completeTopic,
		RunE: func(cmd *cobra.Command, args []string) error {
			var mask sequitur.TopicMask
			for _, f := range sequitur.TopicFields() {
				if cmd.Flags().Changed(f.Name) {
					mask |= f.Mask
				}
			}
			if mask == 0 {
				return usagef(seeHelp(cmd), "name at least one setting to change")
			}
			return c.withClient(func(ctx context.Context, client *sequitur.Client) error {
				before, err := client.DescribeTopic(ctx, args[0])
				if err != nil {
					return err
				}
				if err := client.AlterTopic(ctx, args[0], cfg, mask); err != nil {
					return err
				}
				after, err := client.DescribeTopic(ctx, args[0])
				if err != nil {
					return err
				}
				c.printChanges(args[0], &before.Config, &after.Config)
				return nil
			})
		},
	}
	topicFlags(cmd, &cfg, true)
	return cmd
}

func (c *cli) printChanges(name string, before, after *sequitur.TopicConfig) {
	changed := 0
	for _, f := range sequitur.TopicFields() {
		if was, is := fieldText(f, before), fieldText(f, after); was != is {
			fmt.Fprintf(c.stdout, "topic %s: %s was %s, is %s\n", name, f.Name, orNone(was), orNone(is))
			changed++
		}
	}
	if changed == 0 {
		fmt.Fprintf(c.stdout, "topic %s: nothing changed, it was set so already\n", name)
	}
}

func (c *cli) topicDelete() *cobra.Command {
	var ifThere bool
	cmd := &cobra.Command{
		Use:     "delete NAME...",
		Aliases: []string{"rm"},
		Short:   "Delete topics with all their records, for good",
		Example: "  broker topic delete orders",
		Args:    names(1, -1, "the name of a topic"),

		ValidArgsFunction: c.completeTopics,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := distinct(args); err != nil {
				return err
			}
			return c.withClient(func(ctx context.Context, client *sequitur.Client) error {
				failed, err := byTopic(client.DeleteTopics(ctx, args...))
				if err != nil {
					return err
				}
				var errs []error
				for _, name := range args {
					switch err := failed[name]; {
					case err == nil:
						fmt.Fprintf(c.stdout, "deleted topic %s\n", name)
					case ifThere && errors.Is(err, sequitur.ErrUnknownTopic):
						fmt.Fprintf(c.stdout, "there is no topic %s\n", name)
					default:
						errs = append(errs, c.hintTopic(ctx, client, err))
					}
				}
				return c.several(errs)
			})
		},
	}
	cmd.Flags().BoolVar(&ifThere, "if-exists", false, "a topic that does not exist is not an error")
	return cmd
}

func (c *cli) topicList() *cobra.Command {
	var internal bool
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List topics",
		Example: "  broker topic list\n  broker topic list --json | jq -r '.[].name'",
		Args:    names(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withClient(func(ctx context.Context, client *sequitur.Client) error {
				topics, err := client.DescribeTopics(ctx)
				if err != nil {
					return err
				}
				sort.Slice(topics, func(i, j int) bool { return topics[i].Name < topics[j].Name })
				shown := topics[:0]
				for _, t := range topics {
					if internal || !t.Internal {
						shown = append(shown, t)
					}
				}
				if _, err := c.askLeaders(ctx, client, shown); err != nil {
					return err
				}
				return c.printTopics(shown)
			})
		},
	}
	c.jsonFlag(cmd, "print a JSON array of topics")
	cmd.Flags().BoolVar(&internal, "internal", false, "list the broker's own topics too")
	return cmd
}

func (c *cli) topicDescribe() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "describe NAME",
		Aliases: []string{"show"},
		Short:   "Show a topic's settings and what its partitions hold",
		Example: "  broker topic describe orders\n  broker topic describe orders --json",
		Args:    names(1, 1, "the name of a topic"),

		ValidArgsFunction: c.completeTopic,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withClient(func(ctx context.Context, client *sequitur.Client) error {
				t, err := client.DescribeTopic(ctx, args[0])
				if err != nil {
					return err
				}
				one := []sequitur.TopicDescription{t}
				lags, err := c.askLeaders(ctx, client, one)
				if err != nil {
					return err
				}
				return c.printTopic(&one[0], lags[0])
			})
		},
	}
	c.jsonFlag(cmd, "print a JSON object")
	return cmd
}

// printJSON prints a value as indented JSON.
func (c *cli) printJSON(v any) error {
	e := json.NewEncoder(c.stdout)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// withoutCode drops the name of the error code from an error of the client's
// own checks: the words say it.
func withoutCode(err error) string {
	text := err.Error()
	if code, rest, ok := strings.Cut(text, ": "); ok && code == strings.ToUpper(code) && !strings.Contains(code, " ") {
		return rest
	}
	return text
}
