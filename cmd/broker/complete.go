package main

import (
	"context"
	"slices"
	"time"

	"github.com/spf13/cobra"
)

// completionTimeout bounds the question for topics while somebody waits at a
// shell's prompt.
const completionTimeout = time.Second

// completeTopic offers the broker's topics as the first argument.
func (c *cli) completeTopic(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return c.completeTopics(cmd, args, typed)
}

// completeTopics offers the topics that are not named yet. A broker that does
// not answer offers nothing: a prompt is no place for errors.
func (c *cli) completeTopics(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(context.Background(), completionTimeout)
	defer cancel()
	client, err := c.connect(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	defer client.Close()
	topics, err := client.ListTopics(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, t := range topics {
		if !t.Internal && !slices.Contains(args, t.Name) {
			names = append(names, t.Name)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeFlag offers the values of a flag that takes few.
func completeFlag(cmd *cobra.Command, flag string, values ...string) {
	// It fails for a flag that is not there or registered twice, which no user
	// could mend and every test of completion shows.
	_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
}
